package redisstore

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/snower/forsun/redisstore/redistest"
	"github.com/snower/forsun/scheduler"
	"github.com/snower/forsun/scheduler/storetest"
)

// leads campaigns for every shard, renews, and gives up.
func leads(t *testing.T, s *Store) {
	t.Helper()
	ctx := testContext(t)
	for _, shard := range s.ShardIDs() {
		l, err := s.Campaign(ctx, shard, "a")
		if err != nil {
			t.Fatalf("Campaign: %v", err)
		}
		if l, err = s.Renew(ctx, l); err != nil {
			t.Fatalf("Renew: %v", err)
		}
		if err := s.Resign(ctx, l); err != nil {
			t.Fatalf("Resign: %v", err)
		}
	}
}

func beatOf(s *Store, shard int) invocation {
	return invocation{script: loadScript("beat"), keys: []string{s.shards[shard].workers}, args: []string{"w"}}
}

func TestCluster(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3, 1)
	o := optionsFor(t, "")
	o.Addresses, o.Cluster = cluster.Addrs()[:2], true
	o.Shards = []int{0, 1, 2, 3, 4, 5, 6, 7}
	o.ReplicaDurability = true
	ctx := testContext(t)
	s, peer := openStore(t, o), openStore(t, o)
	leads(t, s)

	t.Run("nodes", func(t *testing.T) {
		nodes := map[*node]int{}
		for _, id := range o.Shards {
			nodes[s.node(id)] = cluster.ShardOf(redistest.Slot(s.shards[id].leader))
		}
		for _, id := range o.Shards {
			if got, want := nodes[s.node(id)], cluster.ShardOf(redistest.Slot(s.shards[id].leader)); got != want {
				t.Errorf("shard %d is thought to be with those of node %d, and is on %d", id, got, want)
			}
			if ms, err := s.redisDeadlineAt(ctx, id); err != nil || ms == 0 {
				t.Errorf("deadline of shard %d: %d, %v", id, ms, err)
			}
		}
		if len(nodes) < 2 || len(nodes) > 3 {
			t.Errorf("8 shards are thought to be on %d nodes", len(nodes))
		}
		if got := len(s.masters()); got != 3 {
			t.Errorf("%d masters, want 3", got)
		}
	})

	// A message said to one node is heard on every other.
	t.Run("events", func(t *testing.T) {
		watch, cancel := context.WithCancel(ctx)
		defer cancel()
		for range 4 { // the node that is subscribed to is chosen at random
			events, ended := watching(t, watch, s)
			l := campaign(t, peer, "b", 5*time.Second)
			if err := peer.Resign(ctx, l); err != nil {
				t.Fatal(err)
			}
			for e := range events { // there may still be some of before
				if e == (scheduler.Event{Kind: scheduler.EventVacant}) {
					break
				}
			}
			s.events.Close() // another connection
			wantEnd(t, ended, 5*time.Second, scheduler.ErrStore)
			c, err := connect(s.opts.eventsOption())
			if err != nil {
				t.Fatal(err)
			}
			s.events = c
		}
	})

	t.Run("replicas", func(t *testing.T) {
		started := time.Now()
		for _, store := range []*Store{s, peer} {
			if _, err := store.Announce(ctx, scheduler.Replica{ID: fmt.Sprintf("%p", store), Started: started}); err != nil {
				t.Errorf("Announce: %v", err)
			}
		}
		if all, err := s.Replicas(ctx); err != nil || len(all) != 2 {
			t.Errorf("Replicas: %v, %v, want 2", all, err)
		}
		other := o
		other.Shards = []int{0}
		if _, err := Open(ctx, other); !errors.Is(err, scheduler.ErrLayout) {
			t.Errorf("another layout: %v, want ErrLayout", err)
		}
	})

	t.Run("durable", func(t *testing.T) {
		for _, id := range o.Shards {
			if _, confirmed, err := s.runDurable(ctx, beatOf(s, id)); err != nil || !confirmed {
				t.Errorf("shard %d: %v, %v, want confirmed", id, confirmed, err)
			}
		}
	})

	t.Run("a slot moves", func(t *testing.T) {
		slot := redistest.Slot(s.shards[0].leader)
		l := campaign(t, s, "a", 5*time.Second)
		to := (cluster.ShardOf(slot) + 1) % 3
		move := cluster.StartMove(slot, to)
		s.learn("of no plan")
		beats := func() { // else who works is taken for dead
			bounded, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			if err := s.Beat(bounded, "w"); err != nil {
				t.Errorf("Beat while a slot moves: %v", err)
			}
		}
		beats()
		// The lease is there and what else it needs is not, or the other way round.
		done := make(chan error, 1)
		go func() {
			l, err := s.Renew(ctx, l)
			if err == nil {
				err = s.Resign(ctx, l)
			}
			if err == nil {
				_, err = s.Campaign(ctx, 0, "a")
			}
			if err == nil {
				_, _, err = s.runDurable(ctx, beatOf(s, 0))
			}
			done <- err
		}()
		time.Sleep(100 * time.Millisecond)
		for move.Keys(1) > 0 {
			beats()
			time.Sleep(20 * time.Millisecond)
		}
		move.Finish()
		if err := <-done; err != nil {
			t.Errorf("while a slot moved: %v", err)
		}
		if _, confirmed, err := peer.runDurable(ctx, beatOf(peer, 0)); err != nil || !confirmed {
			t.Errorf("after it has moved: %v, %v, want confirmed", confirmed, err)
		}
		if err := s.learnTopology(ctx); err != nil {
			t.Error(err)
		}
		if got, want := s.topology.Load().address(int64(slot)), cluster.Nodes[to].Addr; got != want {
			t.Errorf("the slot is thought to be on %s, and is on %s", got, want)
		}
	})

	t.Run("a master dies", func(t *testing.T) {
		before := redistest.Slot(s.shards[1].leader)
		master, _ := cluster.Shard(cluster.ShardOf(before))
		l, err := s.Campaign(ctx, 1, "a")
		if err != nil {
			t.Fatal(err)
		}
		master.Kill()
		eventually(t, 20*time.Second, "another leads", func() bool {
			next, err := peer.Campaign(ctx, 1, "b")
			return err == nil && next.Term > l.Term
		})
		// The replica was promoted: it has none of its own to wait for.
		eventually(t, 3*time.Second, "writes are done, and not confirmed", func() bool {
			_, confirmed, err := s.runDurable(ctx, beatOf(s, 1))
			return err == nil && !confirmed
		})
	})
}

func TestSentinel(t *testing.T) {
	t.Parallel()
	sentinel := redistest.StartSentinel(t, 1)
	o := optionsFor(t, "")
	o.Addresses, o.Sentinel.Master, o.DB = sentinel.SentinelAddrs(), sentinel.MasterName, 1
	o.ReplicaDurability = true
	ctx := testContext(t)
	s := openStore(t, o)
	leads(t, s)
	if _, confirmed, err := s.runDurable(ctx, beatOf(s, 0)); err != nil || !confirmed {
		t.Errorf("%v, %v, want confirmed", confirmed, err)
	}
	l := campaign(t, s, "a", 5*time.Second)
	_, ended := watching(t, ctx, s)
	sentinel.Failover()
	select {
	case err := <-ended:
		if !errors.Is(err, scheduler.ErrStore) {
			t.Errorf("Watch: %v, want ErrStore", err)
		}
	case <-time.After(15 * time.Second):
		t.Fatal("Watch goes on with a master that is none any more")
	}
	eventually(t, 15*time.Second, "there is a leader on the new master", func() bool {
		next, err := s.Campaign(ctx, 0, "b")
		return err == nil && next.Term > l.Term
	})
	_, _ = watching(t, ctx, s)

	wrong := o
	wrong.Sentinel.Master = "nobody"
	short, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if _, err := Open(short, wrong); err == nil {
		t.Error("a master that the sentinels do not know was found")
	}
	direct := optionsFor(t, sentinel.SentinelAddrs()[0])
	if _, err := Open(ctx, direct); err == nil {
		t.Error("a sentinel was taken for a server")
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	server := redistest.StartTLS(t, "tls-auth-clients yes")
	o := optionsFor(t, server.TLSAddr)
	o.TLS = server.ClientTLS(t)
	s := openStore(t, o)
	leads(t, s)
	watching(t, testContext(t), s)
	stranger := o
	stranger.TLS = redistest.NewCertificates(t).ClientTLS(t)
	start := time.Now()
	if _, err := Open(testContext(t), stranger); err == nil || time.Since(start) > 5*time.Second {
		t.Errorf("an authority that is not trusted: %v after %v, want an error at once", err, time.Since(start))
	}
	plain := o
	plain.TLS = nil
	short, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if _, err := Open(short, plain); err == nil {
		t.Error("a server with TLS was spoken to without")
	}
}

// What the README says a user of Redis needs is enough.
func TestARestrictedUser(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "user default off", "user forsun on >secret ~forsun:* &forsun:* +@all -@dangerous +info +config|get +role", "appendonly yes", "appendfsync always")
	o := optionsFor(t, server.Addr)
	o.Prefix, o.Username, o.Password, o.DB = "forsun", "forsun", "secret", 2
	s := openStore(t, o)
	ctx := testContext(t)
	leads(t, s)
	watching(t, ctx, s)
	if got := found(s.Report(ctx)); got != "" {
		t.Errorf("found %q, want nothing", got)
	}
	if _, err := s.Announce(ctx, scheduler.Replica{ID: "r", Started: time.Now()}); err != nil {
		t.Errorf("Announce: %v", err)
	}
	p := storetest.NewPlan("k", storetest.WithDue(time.Now().Unix()+1000))
	for _, err := range s.Put(ctx, []*scheduler.Plan{p}) {
		if err != nil {
			t.Errorf("Put: %v", err)
		}
	}
	if all, _, err := s.List(ctx, scheduler.ListQuery{Limit: 10}); err != nil || len(all) != 1 {
		t.Errorf("List: %v, %v", all, err)
	}
	if err := s.Check(ctx, func(f scheduler.Finding) { t.Errorf("found %+v", f) }); err != nil {
		t.Errorf("Check: %v", err)
	}
	if _, err := s.Remove(ctx, "k"); err != nil {
		t.Errorf("Remove: %v", err)
	}
}
