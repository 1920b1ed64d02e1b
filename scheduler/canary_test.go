package scheduler_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/snower/forsun/redisstore/redistest"
	"github.com/snower/forsun/scheduler"
)

// canaries returns the canaries of a store, by key.
func canaries(t *testing.T, store scheduler.Store) map[string]*scheduler.Plan {
	t.Helper()
	plans, next, err := store.List(t.Context(), scheduler.ListQuery{Prefix: scheduler.CanaryPrefix, Limit: 100})
	if err != nil || next != "" {
		t.Fatalf("list: %v, next %q", err, next)
	}
	all := make(map[string]*scheduler.Plan)
	for _, p := range plans {
		all[p.Key] = p
	}
	return all
}

// came says how often the canary of each shard came all the way on these engines.
func came(engines ...*scheduler.Engine) map[int]int64 {
	sum := make(map[int]int64)
	for _, e := range engines {
		for _, s := range e.Health().Shards {
			sum[s.Shard] += s.Canaries
		}
	}
	return sum
}

// waitCame waits until each shard's canary came n times more than before.
func waitCame(t *testing.T, before map[int]int64, n int64, engines ...*scheduler.Engine) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d canaries of each shard", n), func() bool {
		for shard, now := range came(engines...) {
			if now < before[shard]+n {
				return false
			}
		}
		return true
	})
}

// wantHidden checks that clients see nothing of canaries.
func wantHidden(t *testing.T, service *scheduler.Service, key string) {
	t.Helper()
	ctx := t.Context()
	if plans, next, err := service.List(ctx, scheduler.ListQuery{Limit: 100}); err != nil || len(plans) != 0 || next != "" {
		t.Errorf("list: %v, %v", plans, err)
	}
	for second := time.Now().Unix() - 1; second < time.Now().Unix()+3; second++ {
		if plans, _, err := service.DueAt(ctx, scheduler.DueAtQuery{Second: second, Limit: 100}); err != nil || len(plans) != 0 {
			t.Errorf("due at %d: %v, %v", second, plans, err)
		}
	}
	if _, err := service.Get(ctx, key); !errors.Is(err, scheduler.ErrNotFound) {
		t.Errorf("get: %v", err)
	}
	if _, err := service.Preview(ctx, key, 3); !errors.Is(err, scheduler.ErrNotFound) {
		t.Errorf("preview: %v", err)
	}
	if _, err := service.Remove(ctx, key); !errors.Is(err, scheduler.ErrNotFound) {
		t.Errorf("remove: %v", err)
	}
	_, err := service.Create(ctx, scheduler.Request{
		Key: scheduler.CanaryPrefix + "mine", Action: "record", Schedule: scheduler.Schedule{Kind: scheduler.Timeout, Second: 60, Count: 1},
	})
	if !errors.Is(err, scheduler.ErrNotAllowed) || !strings.Contains(err.Error(), scheduler.CanaryPrefix) {
		t.Errorf("create under a reserved key: %v", err)
	}
	_, err = service.Create(ctx, scheduler.Request{
		Key: "mine", Action: scheduler.CanaryAction, Schedule: scheduler.Schedule{Kind: scheduler.Timeout, Second: 60, Count: 1},
	})
	if !errors.Is(err, scheduler.ErrAction) {
		t.Errorf("create with the reserved action: %v", err)
	}
	states, err := service.Shards(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range states {
		if s.Plans != 0 || s.Queued[scheduler.CanaryAction]+s.Running[scheduler.CanaryAction] != 0 {
			t.Errorf("shard %d shows plans: %+v", s.Shard, s)
		}
	}
	if got, _, err := service.History(ctx, scheduler.JournalQuery{Limit: 100}); err != nil || len(got) != 0 {
		t.Errorf("history: %v, %v", got, err)
	}
	if got, _, err := service.DeadLetters(ctx, scheduler.JournalQuery{Limit: 100}); err != nil || len(got) != 0 {
		t.Errorf("dead letters: %v, %v", got, err)
	}
	if n := service.Counters().Claimed.Load() + service.Counters().Executed.Load(); n != 0 {
		t.Errorf("%d claims and attempts are counted, want 0", n)
	}
}

// TestCanaries: each shard of a fleet on Redis has one canary that goes all the way
// again and again; who leads does not matter, and clients see nothing of it.
func TestCanaries(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	shards := []int{0, 1, 2, 3}
	every := func(o *scheduler.EngineOptions) { o.Canary = time.Second }
	a, b := onRedis(t, server.Addr, "a", shards, every), onRedis(t, server.Addr, "b", shards, every)
	led(t, 10*time.Second, 4, false, a, b)
	waitCame(t, nil, 2, a.engine, b.engine)

	first := canaries(t, a.store)
	in := make(map[int]string)
	for key := range first {
		in[a.store.ShardOf(key)] = key
	}
	if len(first) != 4 || len(in) != 4 {
		t.Fatalf("canaries %v, want one in each of 4 shards", in)
	}
	wantHidden(t, a.service, in[0])

	// The other leads on with the same canaries. One that was lost is stored anew.
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.store.Remove(t.Context(), in[2]); err != nil {
		t.Fatal(err)
	}
	waitCame(t, came(b.engine), 2, b.engine)
	for key, p := range canaries(t, b.store) {
		if was := first[key]; was == nil || (p.Revision == was.Revision) == (key == in[2]) {
			t.Errorf("canary %s: %+v, was %+v", key, p, was)
		}
	}
	if found, err := b.service.Check(t.Context()); err != nil || worst(found) == scheduler.SeverityError {
		t.Errorf("check: %+v, %v", found, err)
	}

	if err := scheduler.RemoveCanaries(t.Context(), b.store); err != nil {
		t.Error(err)
	}
}

func worst(found []scheduler.Finding) (s scheduler.Severity) {
	for _, f := range found {
		s = max(s, f.Severity)
	}
	return s
}

// TestCanaryRestart: on the embedded store a canary outlives the engine, and a change
// of its interval replaces it.
func TestCanaryRestart(t *testing.T) {
	t.Parallel()
	r := newRig(t, scheduler.SystemClock{}, func(o *scheduler.EngineOptions) { o.Canary = time.Second })
	key := scheduler.CanaryKey(r.store, 0)
	fired := func(n int) *scheduler.Plan {
		t.Helper()
		var p *scheduler.Plan
		eventually(t, "the canary to fire", func() bool { p = canaries(t, r.store)[key]; return p != nil && p.Fired >= n })
		return p
	}
	first := fired(1)
	r.stop()
	r.start(t)
	if again := fired(first.Fired + 1); again.Revision != first.Revision {
		t.Errorf("it was stored anew: %+v, was %+v", again, first)
	}
	r.stop()
	r.options.Canary = 2 * time.Second
	r.start(t)
	eventually(t, "a canary every 2 s", func() bool { return canaries(t, r.store)[key].Schedule.Second == 2 })
	r.stop()
	if err := scheduler.RemoveCanaries(t.Context(), r.store); err != nil || len(canaries(t, r.store)) != 0 {
		t.Errorf("remove: %v, left %v", err, canaries(t, r.store))
	}
	if err := scheduler.RemoveCanaries(t.Context(), r.store); err != nil {
		t.Errorf("once more: %v", err)
	}
}
