package redisstore

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/snower/forsun/redisstore/redistest"
	"github.com/snower/forsun/scheduler"
)

func replicaIDs(all []scheduler.Replica) string {
	var ids []string
	for _, r := range all {
		ids = append(ids, r.ID)
	}
	return strings.Join(ids, " ")
}

// Of two processes under one id the one that started later is told, and the other is not.
func TestAReplicaIDThatIsTaken(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	o := optionsFor(t, server.Addr)
	ctx := testContext(t)
	early, late := openStore(t, o), openStore(t, o)
	now := time.Now()
	a := scheduler.Replica{ID: "r", Address: "early", Started: now.Add(-time.Hour)}
	b := scheduler.Replica{ID: "r", Address: "late", Started: now}
	announce := func(s *Store, r scheduler.Replica, want error) {
		t.Helper()
		if _, err := s.Announce(ctx, r); !errors.Is(err, want) {
			t.Errorf("Announce of %s: %v, want %v", r.Address, err, want)
		}
	}
	announce(early, a, nil)
	announce(late, b, nil) // what is there may be of a dead one
	announce(early, a, nil)
	announce(late, b, scheduler.ErrReplicaTaken)
	announce(early, a, nil)
	announce(late, b, scheduler.ErrReplicaTaken)
	all, err := early.Replicas(ctx)
	if err != nil || len(all) != 1 || all[0].Address != "early" {
		t.Errorf("Replicas: %v, %v, want early", all, err)
	}
	late.Close()
	if all, err := early.Replicas(ctx); err != nil || len(all) != 1 {
		t.Errorf("after late has stopped: %v, %v, want early", all, err)
	}
	early.Close()
	if n := redistest.Do(t, server.Addr, "EXISTS", early.keys.replicas()); n != int64(0) {
		t.Errorf("after all have stopped the list is still there: %v", n)
	}
}

func TestWhoIsNotSeenIsTakenOffTheList(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := openStore(t, optionsFor(t, server.Addr))
	ctx := testContext(t)
	key := s.keys.replicas()
	now := time.Now().UnixMilli()
	entry := func(seen int64) string {
		return `{"seen_ms":` + strconv.FormatInt(seen, 10) + `,"started":"2026-01-02T03:04:05.000000000Z","address":"x","version":"","offset_ns":0,"leads":null,"eager":true}`
	}
	redistest.Do(t, server.Addr, "HSET", key, "live", entry(now-5_000), "dead", entry(now-16_000), "future", entry(now+60_000), "garbage", "x")
	all, err := s.Replicas(ctx)
	if err != nil || replicaIDs(all) != "live" {
		t.Errorf("Replicas: %v, %v, want live", all, err)
	}
	if n := redistest.Do(t, server.Addr, "HLEN", key); n != int64(4) {
		t.Errorf("looking has changed the list: %v", n)
	}
	all, err = s.Announce(ctx, scheduler.Replica{ID: "own", Started: time.Now()})
	if err != nil || replicaIDs(all) != "live own" {
		t.Errorf("Announce: %v, %v, want live and own", all, err)
	}
	if n := redistest.Do(t, server.Addr, "HLEN", key); n != int64(2) {
		t.Errorf("the list has %v entries, want 2", n)
	}
}

func TestLayoutMismatch(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	o := optionsFor(t, server.Addr)
	o.Shards, o.Actions = []int{0, 1, 2}, []string{"shell", "http"}
	s := openStore(t, o)
	openStore(t, o) // the same is welcome
	for _, row := range []struct {
		name   string
		change func(*Options)
		says   []string
	}{
		{"shards", func(o *Options) { o.Shards = []int{0, 1} }, []string{"0,1,2", "0,1", "--driver-redis-prefix", "--driver-redis-server-id=0,1,2"}},
		{"timezone", func(o *Options) { o.Timezone = "Asia/Shanghai" }, []string{"UTC", "Asia/Shanghai", "--timezone=UTC"}},
		{"actions", func(o *Options) { o.Actions = nil }, []string{"http,shell", "all"}},
	} {
		other := o
		row.change(&other)
		_, err := Open(testContext(t), other)
		if !errors.Is(err, scheduler.ErrLayout) {
			t.Errorf("%s: %v, want ErrLayout", row.name, err)
			continue
		}
		for _, says := range row.says {
			if !strings.Contains(err.Error(), says) {
				t.Errorf("%s: %v does not say %s", row.name, err, says)
			}
		}
	}
	redistest.Do(t, server.Addr, "HSET", s.keys.layout(), layoutSchema, "3", layoutReader, "1")
	openStore(t, o) // a newer one that this version can read
	redistest.Do(t, server.Addr, "HSET", s.keys.layout(), layoutReader, "3")
	if _, err := Open(testContext(t), o); !errors.Is(err, scheduler.ErrLayout) || !strings.Contains(err.Error(), "newer") {
		t.Errorf("a layout of a newer schema: %v, want ErrLayout", err)
	}
	redistest.Do(t, server.Addr, "DEL", s.keys.layout())
	redistest.Do(t, server.Addr, "SET", s.keys.layout(), "x")
	if _, err := Open(testContext(t), o); !errors.Is(err, scheduler.ErrLayout) {
		t.Errorf("a layout of another type: %v, want ErrLayout", err)
	}
}

// A layout that changes under a running replica stops it, until it is its own again.
func TestTheLayoutChangesWhileRunning(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := openStore(t, optionsFor(t, server.Addr))
	ctx := testContext(t)
	r := scheduler.Replica{ID: "r", Started: time.Now()}
	redistest.Do(t, server.Addr, "HSET", s.keys.layout(), layoutTimezone, "Asia/Shanghai")
	if _, err := s.Announce(ctx, r); !errors.Is(err, scheduler.ErrLayout) {
		t.Errorf("Announce: %v, want ErrLayout", err)
	}
	if _, err := s.Campaign(ctx, 0, "r"); !errors.Is(err, scheduler.ErrLayout) {
		t.Errorf("Campaign: %v, want ErrLayout", err)
	}
	redistest.Do(t, server.Addr, "HSET", s.keys.layout(), layoutTimezone, "UTC")
	if _, err := s.Announce(ctx, r); err != nil {
		t.Errorf("Announce: %v", err)
	}
	if _, err := s.Campaign(ctx, 0, "r"); err != nil {
		t.Errorf("Campaign: %v", err)
	}
}

// A fleet is upgraded replica by replica: a newer program works with the schema in effect,
// and raises it once all can work with it. Older ones cannot join from the first step on.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	base := optionsFor(t, server.Addr)
	with := func(r schemaRange) Options {
		o := base
		o.schemas = &r
		return o
	}
	old := with(schemaRange{1, 1, 1, time.Hour})
	next := with(schemaRange{1, 2, 2, 100 * time.Millisecond})
	ctx := testContext(t)
	layout := func() string {
		return fmt.Sprint(redistest.Do(t, server.Addr, "HMGET", keyspace{base.Prefix}.layout(), layoutSchema, layoutReader))
	}
	refused := func(o Options, says ...string) {
		t.Helper()
		_, err := Open(ctx, o)
		for _, s := range says {
			if !errors.Is(err, scheduler.ErrLayout) || !strings.Contains(fmt.Sprint(err), s) {
				t.Errorf("got %v, want ErrLayout that says %s", err, s)
			}
		}
	}
	began := time.Now()
	announce := func(s *Store, id string) error {
		_, err := s.Announce(ctx, scheduler.Replica{ID: id, Started: began})
		return err
	}
	a, b := openStore(t, old), openStore(t, next)
	refused(with(schemaRange{2, 2, 2, time.Hour}), "what is stored is of schema 1", "works with schemas 2 to 2", "in between")
	for range 15 {
		if err := errors.Join(announce(a, "a"), announce(b, "b")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	if got := layout(); got != "[1 1]" {
		t.Errorf("with an older replica there: %s, want [1 1]", got)
	}
	a.Close()

	eventually := func(want string) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); layout() != want; time.Sleep(5 * time.Millisecond) {
			if err := announce(b, "b"); err != nil || time.Now().After(deadline) {
				t.Fatalf("%v; the layout is %s, want %s", err, layout(), want)
			}
		}
	}
	eventually("[1 2]")
	refused(old, "from schema 2 on can use", "works with schemas 1 to 1", "use a newer forsun")
	if s := b.effect(); s.schema != 1 {
		t.Errorf("schema %d is in effect before it is raised", s.schema)
	}
	eventually("[2 2]")
	openStore(t, next)
	openStore(t, with(schemaRange{2, 3, 3, time.Hour}))
	refused(with(schemaRange{3, 3, 3, time.Hour}), "what is stored is of schema 2")

	// What is lost is set again as it was, not as the newest would have it.
	c := openStore(t, with(schemaRange{1, 3, 3, time.Hour}))
	if err := announce(c, "c"); err != nil {
		t.Fatal(err)
	}
	redistest.Do(t, server.Addr, "FLUSHALL")
	if err := announce(c, "c"); err != nil || layout() != "[2 2]" {
		t.Errorf("%v; after everything was lost: %s, want [2 2]", err, layout())
	}
}

// An older replica that runs when the door is closed stops at its next announcement.
func TestOlderReplicaStops(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	o := optionsFor(t, server.Addr)
	o.schemas = &schemaRange{1, 1, 1, time.Hour}
	s := openStore(t, o)
	redistest.Do(t, server.Addr, "HSET", s.keys.layout(), layoutReader, "3")
	if _, err := s.Announce(testContext(t), scheduler.Replica{ID: "r", Started: time.Now()}); !errors.Is(err, scheduler.ErrLayout) || !strings.Contains(err.Error(), "newer") {
		t.Errorf("got %v, want ErrLayout", err)
	}
}
