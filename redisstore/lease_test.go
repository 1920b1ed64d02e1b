package redisstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/snower/forsun/redisstore/redistest"
	"github.com/snower/forsun/scheduler"
)

// Of many who bid again and again there is one leader at a time, and terms only grow.
func TestElectionRaces(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	o := optionsFor(t, server.Addr)
	ctx := testContext(t)
	const stores, rounds = 8, 60
	var mu sync.Mutex
	var terms []uint64 // in the order they were won
	leaders, won := 0, 0
	var wg sync.WaitGroup
	for i := range stores {
		s := openStore(t, o)
		wg.Go(func() {
			for {
				mu.Lock()
				over := won >= rounds
				mu.Unlock()
				if over {
					return
				}
				l, err := s.Campaign(ctx, 0, fmt.Sprintf("r%d", i))
				if errors.Is(err, scheduler.ErrLeaseHeld) {
					continue
				}
				if err != nil {
					t.Errorf("Campaign: %v", err)
					return
				}
				mu.Lock()
				if leaders++; leaders != 1 {
					t.Errorf("%d leaders at a time", leaders)
				}
				terms = append(terms, l.Term)
				won++
				mu.Unlock()
				if l, err = s.Renew(ctx, l); err != nil {
					t.Errorf("Renew: %v", err)
				}
				mu.Lock()
				leaders--
				mu.Unlock()
				if err := s.Resign(ctx, l); err != nil {
					t.Errorf("Resign: %v", err)
				}
			}
		})
	}
	wg.Wait()
	if !slices.IsSorted(terms) || len(slices.Compact(slices.Clone(terms))) != len(terms) {
		t.Errorf("terms in the order they were won: %v", terms)
	}
	if len(terms) < rounds {
		t.Errorf("%d elections, want %d", len(terms), rounds)
	}
}

// campaign bids until it wins.
func campaign(t *testing.T, s *Store, replica string, within time.Duration) scheduler.Lease {
	t.Helper()
	var l scheduler.Lease
	eventually(t, within, replica+" leads", func() (won bool) {
		var err error
		l, err = s.Campaign(testContext(t), 0, replica)
		return err == nil
	})
	return l
}

func TestALeaseRunsOutByItself(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	o := optionsFor(t, server.Addr)
	a, b := openStore(t, o), openStore(t, o)
	start := time.Now()
	first := campaign(t, a, "a", 5*time.Second)
	if trust := first.Until.Sub(start); trust < 2*time.Second || trust > o.LeaseTTL-o.LeaseTTL/20 {
		t.Errorf("it is trusted for %v, want a little less than %v", trust, o.LeaseTTL)
	}
	second := campaign(t, b, "b", 5*time.Second)
	if took := time.Since(start); took < o.LeaseTTL-50*time.Millisecond || time.Now().Before(first.Until) {
		t.Errorf("another leads after %v, want after %v", took, o.LeaseTTL)
	}
	if second.Term <= first.Term {
		t.Errorf("term %d after %d", second.Term, first.Term)
	}
	if _, err := a.Renew(testContext(t), first); !errors.Is(err, scheduler.ErrFenced) {
		t.Errorf("Renew of what ran out: %v, want ErrFenced", err)
	}
	if err := a.Resign(testContext(t), first); !errors.Is(err, scheduler.ErrFenced) {
		t.Errorf("Resign of what ran out: %v, want ErrFenced", err)
	}
	if second, err := b.Renew(testContext(t), second); err != nil || second.Value == "" {
		t.Errorf("Renew of the current lease: %+v, %v", second, err)
	}
	if got := redistest.CLI(t, server.Addr, "get", b.shards[0].leader); strings.TrimSpace(got) != second.Value {
		t.Errorf("redis-cli shows %q, want %q", got, second.Value)
	}
}

// A lease that cannot be renewed is not said to be lost.
func TestRenewWithoutRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := openStore(t, optionsFor(t, server.Addr))
	l := campaign(t, s, "a", 5*time.Second)
	server.Pause()
	start := time.Now()
	_, err := s.Renew(testContext(t), l)
	if took := time.Since(start); !errors.Is(err, scheduler.ErrStore) || errors.Is(err, context.DeadlineExceeded) || took > 2*time.Second {
		t.Errorf("Renew with a Redis that hangs: %v after %v, want ErrStore within a second", err, took)
	}
	server.Resume()
	eventually(t, 2*time.Second, "it is renewed again", func() bool { _, err := s.Renew(testContext(t), l); return err == nil })
}

// A lease is a value in Redis: a new connection does not matter to it.
func TestALeaseSurvivesReconnecting(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	proxy := redistest.NewProxy(t, server.Addr)
	s := openStore(t, optionsFor(t, proxy.Addr))
	l := campaign(t, s, "a", 5*time.Second)
	proxy.Cut()
	if _, err := s.Renew(testContext(t), l); err == nil || errors.Is(err, scheduler.ErrFenced) {
		t.Errorf("Renew while the network is cut: %v, want another error than ErrFenced", err)
	}
	proxy.Heal()
	eventually(t, 2*time.Second, "it is renewed over a new connection", func() bool { _, err := s.Renew(testContext(t), l); return err == nil })
}

// The reply of a bid is lost: the lease that nobody knows to have is given back or
// runs out, and the term is not used again.
func TestALostReplyOfABid(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	proxy := redistest.NewProxy(t, server.Addr)
	o := optionsFor(t, proxy.Addr)
	s := openStore(t, o)
	first := campaign(t, s, "a", 5*time.Second) // all scripts are known to Redis now
	if err := s.Resign(testContext(t), first); err != nil {
		t.Fatal(err)
	}
	lost := proxy.DropNextReplyMatching(func(request []byte) bool { return strings.Contains(string(request), scriptElect.sha) })
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if _, err := s.Campaign(ctx, 0, "a"); err == nil || errors.Is(err, scheduler.ErrLeaseHeld) {
		t.Errorf("Campaign whose reply is lost: %v, want an error", err)
	}
	<-lost
	l := campaign(t, s, "a", 2*o.LeaseTTL)
	if l.Term <= first.Term+1 {
		t.Errorf("term %d after %d and a lost one", l.Term, first.Term)
	}
}

func TestElectionWithoutMemory(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := openStore(t, optionsFor(t, server.Addr))
	redistest.Do(t, server.Addr, "CONFIG", "SET", "maxmemory", "1")
	ctx := testContext(t)
	if _, err := redistest.Try(server.Addr, "SET", "k", "v"); err == nil {
		t.Fatal("Redis is not out of memory")
	}
	l := campaign(t, s, "a", time.Second)
	l, err := s.Renew(ctx, l)
	if err != nil {
		t.Errorf("Renew: %v", err)
	}
	if _, err := s.Announce(ctx, scheduler.Replica{ID: "a", Started: time.Now()}); err != nil {
		t.Errorf("Announce: %v", err)
	}
	if err := s.Resign(ctx, l); err != nil {
		t.Errorf("Resign: %v", err)
	}
}

func TestElectionWithoutKnownScripts(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := openStore(t, optionsFor(t, server.Addr))
	flush := func() { redistest.Do(t, server.Addr, "SCRIPT", "FLUSH") }
	for range 3 {
		flush()
		l, err := s.Campaign(testContext(t), 0, "a")
		if err != nil {
			t.Fatalf("Campaign: %v", err)
		}
		flush()
		if l, err = s.Renew(testContext(t), l); err != nil {
			t.Fatalf("Renew: %v", err)
		}
		flush()
		if err := s.Resign(testContext(t), l); err != nil {
			t.Fatalf("Resign: %v", err)
		}
	}
}

func TestAStuckLease(t *testing.T) {
	t.Parallel()
	const ttl = 2500 * time.Millisecond
	base := time.Now()
	at := func(ms int) time.Time { return base.Add(time.Duration(ms) * time.Millisecond) }
	for _, row := range []struct {
		name  string
		left  func(ms int) int64 // of the lease, at a time
		every int                // looks, ms
		want  int                // when it is stuck, ms; 0: never within a minute
	}{
		{"Redis' clock was set back by 2 h", func(ms int) int64 { return 7_202_500 - int64(ms) }, 250, 7500},
		{"it has no end", func(int) int64 { return -1 }, 250, 7500},
		{"renewed every 500 ms", func(ms int) int64 { return 2500 - int64(ms%500) }, 250, 0},
		{"renewed every 500 ms, looked at as often", func(ms int) int64 { return 2500 - int64(ms%500) }, 500, 0},
		{"renewed every 500 ms, looked at every 9 s", func(ms int) int64 { return 2500 - int64(ms%500) }, 9000, 0},
		{"renewed all the time", func(int) int64 { return 2500 }, 50, 0},
		{"renewed every 2 s", func(ms int) int64 { return 2500 - int64(ms%2000) }, 250, 0},
		{"renewed once more after 5 s", func(ms int) int64 {
			if ms > 5000 {
				return 7_205_000 - int64(ms)
			}
			return 7_202_500 - int64(ms)
		}, 250, 12_750},
	} {
		var w stuckWatch
		got := 0
		for ms := 0; ms <= 60_000 && got == 0; ms += row.every {
			if w.look(0, "1:a:x", row.left(ms), ttl, at(ms)) {
				got = ms
			}
		}
		if got != row.want {
			t.Errorf("%s: stuck after %d ms, want %d", row.name, got, row.want)
		}
	}
	var w stuckWatch
	for ms := 0; ms < 60_000; ms += 250 {
		if w.look(0, fmt.Sprintf("%d:a:x", ms/5000), 7_200_000-int64(ms%5000), ttl, at(ms)) {
			t.Fatalf("stuck after %d ms, though others lead", ms)
		}
	}
}

// A lease that stands still is taken away; one that is renewed is not.
func TestAStuckLeaseIsTakenAway(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	o := optionsFor(t, server.Addr)
	o.LeaseTTL = time.Second
	a, b := openStore(t, o), openStore(t, o)
	// As it looks after the clock of Redis was set back.
	redistest.Do(t, server.Addr, "SET", a.shards[0].leader, "7:x:y", "PX", "7200000")
	redistest.Do(t, server.Addr, "SET", a.shards[0].term, "7")
	var l scheduler.Lease
	start := time.Now()
	for l.Term == 0 {
		var err error
		if l, err = a.Campaign(testContext(t), 0, "a"); err != nil && !errors.Is(err, scheduler.ErrLeaseHeld) {
			t.Fatal(err)
		}
		if time.Since(start) > 10*time.Second {
			t.Fatal("nobody leads")
		}
		time.Sleep(100 * time.Millisecond)
	}
	if took := time.Since(start); took < stuckFactor*o.LeaseTTL || l.Term != 8 {
		t.Errorf("term %d after %v, want 8 after %v", l.Term, took, stuckFactor*o.LeaseTTL)
	}
	for end := time.Now().Add(2 * stuckFactor * o.LeaseTTL); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		var err error
		if l, err = a.Renew(testContext(t), l); err != nil {
			t.Fatalf("Renew: %v", err)
		}
		held := (*scheduler.LeaseHeldError)(nil)
		if _, err := b.Campaign(testContext(t), 0, "b"); !errors.As(err, &held) || held.Left <= 0 || held.Left > o.LeaseTTL {
			t.Fatalf("Campaign for a lease that was renewed just now: %v, %+v, want that up to %v of it are left", err, held, o.LeaseTTL)
		}
	}
}

func TestLeaseValues(t *testing.T) {
	t.Parallel()
	for _, replica := range []string{"a", "host-1:2", ""} {
		v := leaseValue(12, replica)
		if term, r := parseLease(v); term != 12 || r != replica {
			t.Errorf("%q: term %d of %q, want 12 of %q", v, term, r, replica)
		}
	}
	for _, v := range []string{"", "x", "1:", "a:b:c", "1"} {
		if term, r := parseLease(v); term != 0 || r != "" {
			t.Errorf("%q: term %d of %q, want none", v, term, r)
		}
	}
}
