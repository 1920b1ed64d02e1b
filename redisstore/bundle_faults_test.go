package redisstore

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/snower/forsun/redisstore/redistest"
	"github.com/snower/forsun/scheduler"
	"github.com/snower/forsun/scheduler/storetest"
)

// keys are the keys of the shard that match.
func (b *bench) keys(pattern string) (all []string) {
	b.Helper()
	found, _ := b.redis("KEYS", b.k.tag+pattern).([]any)
	for _, k := range found {
		all = append(all, fmt.Sprint(k))
	}
	return all
}

// transient checks that what is stored before a script is gone some day, if the script
// did not take it over.
func (b *bench) transient(patterns ...string) {
	b.Helper()
	for _, pattern := range patterns {
		for _, key := range b.keys(pattern) {
			if ttl := b.redis("PTTL", key); ttl == int64(-1) {
				b.Errorf("%s stays for ever", key)
			}
		}
	}
}

// TestBundlesOutOfMemory: a string that is stored before a script is refused by a Redis
// that is out of memory. Firing goes on all the same: see claim.lua and finish.lua.
func TestBundlesOutOfMemory(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	b := newBench(t, server.Addr)
	early, late := overdue(40, storetest.Every(3600, 2)), overdue(40)
	for _, p := range late {
		p.Key = "late-" + p.Key
	}
	fs := b.handed("w", early...)
	b.put(late...)
	b.due(action)
	b.redis("CONFIG", "SET", "maxmemory", "1")
	more := b.handOut("w", late...)
	if len(more) != 40 || strings.Contains(more[0].Receipt, "+") {
		t.Fatalf("%d were handed out, want 40 without a bundle", len(more))
	}
	at := time.Now().Add(-time.Second)
	all := append(done(fs[:20]), done(more[:20])...)
	all = append(all, ends(fs[20], scheduler.Retry, at), ends(more[20], scheduler.Bury, at), scheduler.Finish{Firing: fs[21], Verdict: scheduler.Return})
	if got, err := b.finish("w", all...); err != nil || slices.ContainsFunc(got, func(f scheduler.Finished) bool { return f != scheduler.FinishedOK }) {
		t.Fatalf("Finish: %v, %v", got, err)
	}
	if held, err := b.s.Held(b.ctx, 0, "w", 100); err != nil || len(held) != 37 {
		t.Errorf("held: %d, %v, want 37", len(held), err)
	}
	if n, err := b.s.Rescue(b.ctx, b.lease, scheduler.Holder{Worker: "w"}, 5, 100); err != nil || n != 37 {
		t.Errorf("rescued: %d, %v, want 37", n, err)
	}
	b.redis("CONFIG", "SET", "maxmemory", "0")
	if h, _, err := b.s.History(b.ctx, scheduler.JournalQuery{Limit: 100}); err != nil || len(h) != 42 {
		t.Errorf("history: %d attempts, %v, want 42", len(h), err)
	}
	b.checked()
}

// TestHandOutAfterAPlanVanished: a plan that vanished, and was created anew, without
// forsun's knowing (a hand, a failover to a replica that lagged, eviction) is not taken
// for the one that was read.
func TestHandOutAfterAPlanVanished(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	for name, opts := range map[string][]storetest.PlanOption{"for one": nil, "that goes on": {storetest.Every(60, 0)}} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, server.Addr)
			plans := overdue(10, opts...)
			b.put(plans...)
			b.due(action)
			b.redis("DEL", b.k.plan(plans[3].Key))
			anew := storetest.NewPlan(plans[3].Key, append([]storetest.PlanOption{storetest.WithDue(math.MaxInt32)}, opts...)...)
			b.put(anew)
			fs := b.handOut("w", plans...)
			if got, err := b.s.Get(b.ctx, anew.Key); err != nil {
				t.Errorf("the plan that was created anew: %v", err)
			} else if d := cmp.Diff(anew, got); d != "" {
				t.Errorf("the plan that was created anew is another (-want +got):\n%s", d)
			}
			if len(fs) != 9 {
				t.Errorf("%d firings were handed out, want 9", len(fs))
			}
		})
	}
}

// TestBundlesOfAnotherType: what somebody made of the keys of bundles costs at most what
// stood there, and leaves nothing for ever.
func TestBundlesOfAnotherType(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	for name, spoil := range map[string]func(b *bench, key string){
		"of another type": func(b *bench, key string) { b.redis("DEL", key); b.redis("LPUSH", key, "x") },
		"garbage":         func(b *bench, key string) { b.redis("SET", key, "x") },
		"cut off":         func(b *bench, key string) { b.redis("SETRANGE", key, "0", "9999") },
		"too few":         func(b *bench, key string) { b.redis("SET", key, "") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, server.Addr)
			plans := overdue(20)
			fs := append(b.handed("w", plans[:10]...), b.handed("w", plans[10:]...)...)
			take, _, _ := bundleOf(strings.Split(fs[0].Receipt, "/")[1])
			spoil(b, b.k.bundle(take))
			if held, err := b.s.Held(b.ctx, 0, "w", 100); err != nil || len(held) < 10 {
				t.Errorf("held: %d, %v; want those of the other bundle", len(held), err)
			}
			if got, err := b.finish("w", append(done(fs[:2]), ends(fs[12], scheduler.Retry, time.Now().Add(time.Hour)))...); err != nil || got[2] != scheduler.FinishedOK {
				t.Errorf("Finish: %v, %v", got, err)
			}
			if n, err := b.s.Rescue(b.ctx, b.lease, scheduler.Holder{Worker: "w"}, 5, 100); err != nil || n != 9 {
				t.Errorf("rescued: %d, %v, want 9", n, err)
			}
			b.settle()
			b.checked()
			if left := b.keys("bundle*"); len(left) > 0 {
				t.Errorf("still there: %q", left)
			}
		})
	}
	for _, key := range []string{"bundles", "workers"} {
		t.Run("claimed while there is another type at "+key, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, server.Addr)
			plans := overdue(10)
			b.put(plans...)
			b.due(action)
			where := map[string]string{"bundles": b.k.bundles(action, "w"), "workers": b.k.workers}[key]
			b.redis("SET", where, "x")
			batch := scheduler.ClaimBatch{Lease: b.lease, Action: action, Cutoff: time.Now().Unix(), Worker: "w", Slots: 10}
			for _, p := range plans {
				batch.Claims = append(batch.Claims, p.NextClaim(p.Due, 60, time.UTC))
			}
			for range 2 { // the second time by claim.lua
				b.s.Claim(b.ctx, batch)
			}
			b.transient("bundle:*")
			b.redis("DEL", where)
			b.due(action)
			b.handOut("w", plans...)
			held, err := b.s.Held(b.ctx, 0, "w", 100)
			queued, err2 := b.take("w2", 100)
			if err := errors.Join(err, err2); err != nil || len(held)+len(queued) != 10 {
				t.Errorf("held: %d, queued: %d, %v, want each of 10 once", len(held), len(queued), err)
			}
		})
	}
}

// TestUnbundleThatReadSomethingElse: a script that was given the firings of something
// else than stands there (it was read from a node that has it no longer) does nothing.
func TestUnbundleThatReadSomethingElse(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	b := newBench(t, server.Addr)
	fs := b.handed("w", overdue(10)...)
	take, _, _ := bundleOf(strings.Split(fs[0].Receipt, "/")[1])
	keys := []string{b.k.bundles(action, "w"), b.k.held(action, "w"), b.k.bundle(take)}
	if _, err := b.s.run(b.ctx, invocation{script: b.s.scripts.unbundle, keys: keys, args: []string{take}}); err != nil {
		t.Fatal(err)
	}
	b.left(10, "w")
}

// TestLateScripts: a script that lands after its caller gave up and read again does
// nothing a second time.
func TestLateScripts(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	b := newBench(t, server.Addr)
	plans := overdue(10, storetest.Every(3600, 2))
	b.put(plans...)
	b.due(action)
	read := b.k.read.take(claimsOf(plans))
	if read[0].state == nil {
		t.Fatal("what was read is not remembered")
	}
	edits := read[0].state.edits
	late := func() (bool, error) {
		some := &claiming{
			k: b.k, batch: &scheduler.ClaimBatch{Lease: b.lease, Action: action, Cutoff: time.Now().Unix(), Worker: "w", Slots: 10},
			claims: claimsOf(plans), plans: slices.Clone(read), answers: make([]scheduler.ClaimAnswer, 10), handOut: 10,
		}
		for i := range some.plans {
			some.plans[i].plan = some.plans[i].plan.Clone()
		}
		call, ok := b.s.handout(some, b.s.takeID()+"+10")
		if !ok {
			t.Fatal("they cannot be claimed as a bundle")
		}
		call.args[handoutEdits] = edits
		r, err := b.s.run(b.ctx, call)
		return r.status == 0, err
	}
	b.due(action)
	fs := b.handOut("w", plans[0])
	if done, err := late(); done || err != nil {
		t.Errorf("late by one claim: %v, %v", done, err)
	}
	b.due(action)
	fs = append(fs, b.handOut("w", plans[1:]...)...)
	if done, err := late(); done || err != nil {
		t.Errorf("late by all: %v, %v", done, err)
	}
	if len(fs) != 10 {
		t.Errorf("%d were claimed", len(fs))
	}
	b.transient("bundle:*+10")
	b.left(10, "w")

	// The same of done.lua, whose attempts are then not kept twice.
	all := done(fs)
	call := b.s.doneInvocation(b.k, "w", action, all, []int{0, 1, 2})
	if got, err := b.finish("w", all[:5]...); err != nil || got[0] != scheduler.FinishedOK {
		t.Fatal(got, err)
	}
	if r, err := b.s.run(b.ctx, call); err != nil || r.status != statusNotAll {
		t.Errorf("late: %v, %v", r, err)
	}
	b.left(5, "w")
	if h, _, err := b.s.History(b.ctx, scheduler.JournalQuery{Limit: 100}); err != nil || len(h) != 5 {
		t.Errorf("history: %d attempts, %v, want 5", len(h), err)
	}
	b.transient("attempts:*")
}

func claimsOf(plans []*scheduler.Plan) (claims []scheduler.Claim) {
	for _, p := range plans {
		claims = append(claims, p.NextClaim(p.Due, 60, time.UTC))
	}
	return claims
}

// TestBundledFiringsOfChangedPlans: a firing that was handed out in a bundle is retried
// only if its plan was neither removed nor replaced since.
func TestBundledFiringsOfChangedPlans(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	b := newBench(t, server.Addr)
	plans := overdue(4, storetest.Every(3600, 0))
	fs := b.handed("w", plans...)
	if _, err := b.s.Remove(b.ctx, plans[0].Key); err != nil {
		t.Fatal(err)
	}
	b.put(storetest.NewPlan(plans[1].Key))
	at := time.Now().Add(time.Hour)
	got, err := b.finish("w", ends(fs[0], scheduler.Retry, at), ends(fs[1], scheduler.Retry, at), ends(fs[2], scheduler.Retry, at))
	if want := []scheduler.Finished{scheduler.FinishedCancelled, scheduler.FinishedCancelled, scheduler.FinishedOK}; err != nil || !slices.Equal(got, want) {
		t.Errorf("Finish: %v, %v, want %v", got, err, want)
	}
	if got, err := b.finish("w", done(fs[3:])...); err != nil || got[0] != scheduler.FinishedOK {
		t.Errorf("Finish: %v, %v", got, err)
	}
	if p, err := b.s.Get(b.ctx, plans[3].Key); err != nil || p.Status != scheduler.StatusSucceeded {
		t.Errorf("%v, %v; its status is to be succeeded", p, err)
	}
	b.checked()
}

// TestRacesOfBundles has leaders claim for workers, which end firings in every way, some
// only after they were rescued, while clients put and remove: every due second of a plan
// is claimed once, and in the end nothing is left or counted that should not be.
func TestRacesOfBundles(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	b := newBench(t, server.Addr, func(o *Options) { o.HistoryCount = 500 })
	b.k.settled.Store(int64(time.Hour)) // nobody counts anew
	end := time.Now().Add(3 * time.Second)
	var wg sync.WaitGroup
	var mu sync.Mutex
	seen, bundled := make(map[scheduler.FiringID]int), 0
	ran := func(s *Store, worker string, fs []*scheduler.Firing, claimed bool) {
		if claimed {
			mu.Lock()
			for _, f := range fs {
				if seen[f.ID()]++; seen[f.ID()] > 1 {
					t.Errorf("%s of %d was claimed %d times", f.Plan.Key, f.Due, seen[f.ID()])
				}
				if strings.Contains(f.Receipt, "+") {
					bundled++
				}
			}
			mu.Unlock()
		}
		for len(fs) > 0 {
			n := 1 + rand.IntN(len(fs))
			var fin []scheduler.Finish
			for _, f := range fs[:n] {
				v := scheduler.Done
				if rand.IntN(20) == 0 {
					v = []scheduler.Verdict{scheduler.Retry, scheduler.Bury, scheduler.Defer, scheduler.Return}[rand.IntN(4)]
				}
				x := ends(f, v, time.Now().Add(5*time.Millisecond))
				if v == scheduler.Defer || v == scheduler.Return {
					x.Attempt = nil
				}
				fin = append(fin, x)
			}
			fs = fs[n:]
			if rand.IntN(10) == 0 {
				continue // left to be rescued
			}
			if _, err := s.Finish(b.ctx, 0, worker, fin); err != nil {
				t.Error(err)
			}
			if _, err := s.Held(b.ctx, 0, worker, 100); err != nil {
				t.Error(err)
			}
		}
	}
	for w := range 3 {
		peer := openStore(t, b.s.opts)
		worker := fmt.Sprintf("w%d", w)
		k := peer.shards[0]
		k.settled.Store(int64(time.Hour))
		wg.Go(func() {
			for time.Now().Before(end) {
				fs, _, err := peer.Take(b.ctx, scheduler.TakeRequest{Worker: worker, Slots: map[string]int{action: []int{7, 100}[rand.IntN(2)]}})
				if err != nil {
					t.Error(err)
				}
				ran(peer, worker, fs, false)
				page, err := peer.Due(b.ctx, scheduler.DueQuery{Action: action, From: math.MinInt64, To: time.Now().Unix(), Limit: 10 + rand.IntN(90)})
				if err != nil {
					t.Error(err)
					continue
				}
				if len(page.Plans) == 0 {
					continue
				}
				r, err := peer.Claim(b.ctx, scheduler.ClaimBatch{Lease: b.lease, Action: action, Cutoff: time.Now().Unix(), Claims: claimsOf(page.Plans), Worker: worker, Slots: rand.IntN(2 * len(page.Plans))})
				if err != nil {
					t.Error(err)
				}
				ran(peer, worker, r.Firings, true)
			}
		})
	}
	for p := range 2 {
		wg.Go(func() {
			for i := 0; time.Now().Before(end); i++ {
				key := fmt.Sprintf("k%d", rand.IntN(50))
				if i%7 == 0 {
					b.s.Remove(b.ctx, key)
					continue
				}
				var plans []*scheduler.Plan
				for j := range 20 {
					plans = append(plans, storetest.NewPlan(fmt.Sprintf("n%d.%d.%d", p, i, j), storetest.WithDue(time.Now().Unix()-int64(i%20)), storetest.Every(1, 1+j%3)))
				}
				if i%3 == 0 {
					plans = append(plans, storetest.NewPlan(key, storetest.WithDue(time.Now().Unix()-int64(i%20)), storetest.Every(1, 3+p)))
				}
				b.s.Put(b.ctx, plans)
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
	wg.Go(func() {
		for time.Now().Before(end) {
			if _, _, err := b.s.Promote(b.ctx, scheduler.PromoteRequest{Lease: b.lease, Now: time.Now(), Limit: 100}); err != nil {
				t.Error(err)
			}
			for w := range 3 {
				if _, err := b.s.Rescue(b.ctx, b.lease, scheduler.Holder{Worker: fmt.Sprintf("w%d", w)}, 5, 30); err != nil {
					t.Error(err)
				}
			}
			time.Sleep(20 * time.Millisecond)
		}
	})
	wg.Wait()
	b.checked()
	waited := 0
	for w := range 3 { // what is left comes out of bundles
		for {
			if n, err := b.s.Rescue(b.ctx, b.lease, scheduler.Holder{Worker: fmt.Sprintf("w%d", w)}, 500, 1000); err != nil {
				t.Fatal(err)
			} else if n == 0 {
				break
			}
		}
	}
	for {
		first, ok := b.redis("LINDEX", b.k.bundleQueue(action), "0").(string)
		if !ok {
			break
		}
		waited++
		if err := b.s.spread(b.ctx, b.k, map[string]string{action: first}); err != nil {
			t.Fatal(err)
		}
	}
	b.checked()
	b.s.collect(b.ctx, b.k)
	b.transient("bundle:*", "attempts:*")
	firings := len(b.keys("firing:*"))
	if total := b.redis("HGET", b.k.backlog, ":total"); fmt.Sprint(firings) != fmt.Sprint(total) {
		t.Errorf("%v firings are unfinished, and there are plans of %d", total, firings)
	}
	if left := append(b.keys("bundles:*"), b.keys("held:*")...); len(left) > 0 {
		t.Errorf("still there: %q", left)
	}
	if bundled == 0 || bundled == len(seen) {
		t.Errorf("%d of %d were handed out in bundles", bundled, len(seen))
	}
	t.Logf("%d claimed and handed out, %d in bundles; %d bundles waited to the end", len(seen), bundled, waited)
}
