package redisstore

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/snower/forsun/redisstore/redistest"
	"github.com/snower/forsun/scheduler"
	"github.com/snower/forsun/scheduler/storetest"
)

// handed has a claim hand plans that are due to a worker, all in one bundle.
func (b *bench) handed(worker string, plans ...*scheduler.Plan) []*scheduler.Firing {
	b.Helper()
	fs := b.handOut(worker, b.read(plans...)...)
	if len(fs) != len(plans) || !strings.Contains(fs[0].Receipt, "+") {
		b.Fatalf("a claim of %d handed out %d, no bundle", len(plans), len(fs))
	}
	return fs
}

// read stores plans that are due and reads them, as who is to claim them does.
func (b *bench) read(plans ...*scheduler.Plan) []*scheduler.Plan {
	b.Helper()
	b.put(plans...)
	b.due(action)
	return plans
}

// handOut claims plans as they are given, for a worker with enough slots.
func (b *bench) handOut(worker string, plans ...*scheduler.Plan) []*scheduler.Firing {
	b.Helper()
	batch := scheduler.ClaimBatch{Lease: b.lease, Action: action, Cutoff: time.Now().Unix(), Worker: worker, Slots: len(plans)}
	for _, p := range plans {
		batch.Claims = append(batch.Claims, p.NextClaim(p.Due, 60, time.UTC))
	}
	reply, err := b.s.Claim(b.ctx, batch)
	if err != nil {
		b.Fatalf("Claim: %v", err)
	}
	return reply.Firings
}

func overdue(n int, opts ...storetest.PlanOption) (plans []*scheduler.Plan) {
	due := time.Now().Unix() - 5
	for i := range n {
		plans = append(plans, storetest.NewPlan(fmt.Sprintf("p%02d", i), append([]storetest.PlanOption{storetest.WithDue(due)}, opts...)...))
	}
	return plans
}

func done(fs []*scheduler.Firing) (all []scheduler.Finish) {
	for _, f := range fs {
		e := ends(f, scheduler.Done, time.Time{})
		e.Attempt.Outcome, e.Attempt.Error = scheduler.Succeeded, ""
		all = append(all, e)
	}
	return all
}

// left checks that n of the firings are unfinished wherever that is counted.
func (b *bench) left(n int, worker string) {
	b.Helper()
	held, err := b.s.Held(b.ctx, 0, worker, 1000)
	if err != nil || len(held) != n {
		b.Errorf("%s holds %d, %v, want %d", worker, len(held), err, n)
	}
	states, err := b.s.Shards(b.ctx, time.Now())
	if err != nil || states[0].Running[action] != int64(n) {
		b.Errorf("running: %v, %v, want %d", states[0].Running, err, n)
	}
	b.checked()
}

// over checks that nothing is left of firings, wherever that is counted.
func (b *bench) over(worker string) {
	b.Helper()
	b.settle()
	b.left(0, worker)
	if left := append(b.keys("bundle*"), append(b.keys("firing*"), b.keys("held*")...)...); len(left) > 0 {
		b.Errorf("still there: %q", left)
	}
}

// TestBundles: firings that were handed out together end one by one, in any order, each
// once, and nothing of them stays.
func TestBundles(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	finish := func(b *bench, want scheduler.Finished, fs ...scheduler.Finish) {
		b.Helper()
		answers, err := b.finish("w", fs...)
		if err != nil || len(answers) != len(fs) || slices.ContainsFunc(answers, func(a scheduler.Finished) bool { return a != want }) {
			b.Errorf("Finish: %v, %v, want %v", answers, err, want)
		}
	}
	for name, fn := range map[string]func(*bench){
		"in parts": func(b *bench) {
			fs := done(b.handed("w", overdue(100)...))
			slices.Reverse(fs[30:])
			b.left(100, "w")
			finish(b, scheduler.FinishedOK, fs[:1]...)
			finish(b, scheduler.FinishedOK, fs[1:50]...)
			b.left(50, "w")
			finish(b, scheduler.FinishedNotHeld, fs[20:30]...) // and what was a bundle is none any more
			b.left(50, "w")
			finish(b, scheduler.FinishedOK, fs[50:]...)
			finish(b, scheduler.FinishedNotHeld, fs...)
			b.left(0, "w")
		},
		"those of two bundles together": func(b *bench) {
			plans := overdue(60)
			fs := append(b.handed("w", plans[:30]...), b.handed("w", plans[30:]...)...)
			all := done(fs)
			finish(b, scheduler.FinishedOK, append(slices.Clone(all[:20]), all[40:]...)...)
			b.left(20, "w")
			finish(b, scheduler.FinishedOK, all[20:40]...)
			b.left(0, "w")
			if h, _, err := b.s.History(b.ctx, scheduler.JournalQuery{Limit: 1000}); err != nil || len(h) != 60 {
				b.Errorf("history: %d attempts, %v, want 60", len(h), err)
			}
		},
		"some not well": func(b *bench) {
			fs := b.handed("w", overdue(20)...)
			finish(b, scheduler.FinishedOK, done(fs[:5])...)
			at := time.Now().Add(-time.Second)
			finish(b, scheduler.FinishedOK, ends(fs[5], scheduler.Retry, at), ends(fs[6], scheduler.Bury, at), scheduler.Finish{Firing: fs[7], Verdict: scheduler.Return})
			if held, err := b.s.Held(b.ctx, 0, "w", 100); err != nil || len(held) != 12 {
				b.Errorf("held: %d, %v", len(held), err)
			}
			b.settle()
			again, err := b.take("w2", 20)
			if err != nil || len(again) != 2 {
				b.Fatalf("taken again: %d, %v", len(again), err)
			}
			for _, f := range again {
				if i := slices.IndexFunc(fs, func(g *scheduler.Firing) bool { return g.ID() == f.ID() }); i != 5 && i != 7 {
					b.Errorf("%q came back", f.Plan.Key)
				} else if d := cmp.Diff(fs[i].Plan, f.Plan); d != "" {
					b.Errorf("it came back with another plan (-handed out +came back):\n%s", d)
				}
			}
			if _, err := b.finish("w2", done(again)...); err != nil {
				b.Error(err)
			}
			finish(b, scheduler.FinishedOK, done(fs[8:])...)
		},
		"rescued": func(b *bench) {
			fs := b.handed("w", overdue(10)...)
			finish(b, scheduler.FinishedOK, done(fs[:3])...)
			holders, err := b.s.Holders(b.ctx, 0)
			if err != nil || len(holders) != 1 {
				b.Fatalf("holders: %v, %v", holders, err)
			}
			if n, err := b.s.Rescue(b.ctx, b.lease, holders[0], 5, 100); err != nil || n != 7 {
				b.Errorf("rescued %d, %v", n, err)
			}
			finish(b, scheduler.FinishedNotHeld, done(fs)...)
			if n, err := b.s.Rescue(b.ctx, b.lease, holders[0], 5, 100); err != nil || n != 0 {
				b.Errorf("rescued %d more, %v", n, err)
			}
			if again, err := b.take("w2", 20); err != nil || len(again) != 7 {
				b.Errorf("taken again: %d, %v", len(again), err)
			} else if _, err := b.finish("w2", done(again)...); err != nil {
				b.Error(err)
			}
			if n := b.redis("HEXISTS", b.k.workers, "w"); n != int64(0) {
				b.Error("a worker that holds nothing is still known")
			}
		},
		"plans that go on": func(b *bench) {
			plans := overdue(10, storetest.Every(1, 5))
			b.put(plans...)
			for round := range 5 {
				page := b.due(action)
				if len(page.Plans) != 10 {
					b.Fatalf("round %d: %d plans are due", round, len(page.Plans))
				}
				fs := b.handOut("w", page.Plans...)
				if len(fs) != 10 || !strings.Contains(fs[0].Receipt, "+") {
					b.Fatalf("round %d: %d firings, no bundle", round, len(fs))
				}
				for _, p := range page.Plans {
					stored, err := b.s.Get(b.ctx, p.Key)
					want := p.Clone()
					want.LastDue, want.Due, want.Fired = p.Due, p.Due+1, round+1
					if round == 4 {
						if err == nil {
							b.Errorf("%q is there after its last firing", p.Key)
						}
					} else if d := cmp.Diff(want, stored); d != "" {
						b.Errorf("round %d: stored is another plan (-want +got):\n%s", round, d)
					}
				}
				finish(b, scheduler.FinishedOK, done(fs)...)
			}
		},
		"someone deletes it": func(b *bench) {
			fs := b.handed("w", overdue(10)...)
			finish(b, scheduler.FinishedOK, done(fs[:3])...)
			for _, key := range b.keys("bundle:*") {
				b.redis("DEL", key)
			}
			finish(b, scheduler.FinishedOK, done(fs[3:6])...) // it runs, after all
			finish(b, scheduler.FinishedNotHeld, ends(fs[6], scheduler.Retry, time.Now()))
			b.settle() // counts anew
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, server.Addr)
			fn(b)
			b.over("w")
		})
	}
}

// TestBundlesThatWait: firings that nobody was handed wait together, and go to whoever
// takes them, together or alone; nothing of them stays or is counted wrongly.
func TestBundlesThatWait(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	queued := func(b *bench, want int) {
		b.Helper()
		states, err := b.s.Shards(b.ctx, time.Now())
		if err != nil || states[0].Queued[action] != int64(want) {
			b.Errorf("queued: %v, %v, want %d", states[0].Queued, err, want)
		}
		b.checked()
	}
	// wait claims plans for nobody.
	wait := func(b *bench, bundles int, plans ...*scheduler.Plan) {
		b.Helper()
		b.put(plans...)
		b.due(action)
		batch := scheduler.ClaimBatch{Lease: b.lease, Action: action, Cutoff: time.Now().Unix(), Claims: claimsOf(plans), Worker: "leader"}
		reply, err := b.s.Claim(b.ctx, batch)
		if err != nil || len(reply.Answers) != len(plans) || len(reply.Firings) > 0 {
			b.Fatalf("Claim: %v, %v", reply, err)
		}
		if n := b.redis("LLEN", b.k.bundleQueue(action)); n != int64(bundles) {
			b.Fatalf("%v bundles wait, want %d", n, bundles)
		}
	}
	take := func(b *bench, worker string, slots, want int) []*scheduler.Firing {
		b.Helper()
		fs, err := b.take(worker, slots)
		if err != nil || len(fs) != want {
			b.Fatalf("%s took %d, %v, want %d", worker, len(fs), err, want)
		}
		return fs
	}
	finish := func(b *bench, worker string, fs []*scheduler.Firing) {
		b.Helper()
		got, err := b.finish(worker, done(fs)...)
		if err != nil || len(got) != len(fs) || slices.ContainsFunc(got, func(a scheduler.Finished) bool { return a != scheduler.FinishedOK }) {
			b.Errorf("Finish: %v, %v", got, err)
		}
	}
	for name, fn := range map[string]func(*bench){
		"taken whole": func(b *bench) {
			plans := overdue(90, storetest.Every(3600, 0))
			wait(b, 2, plans...)
			queued(b, 90)
			fs := take(b, "w", 1000, 90)
			b.left(90, "w")
			for i, f := range fs {
				want := plans[i].Clone()
				want.LastDue, want.Due, want.Fired = plans[i].Due, plans[i].Due+3600, 1
				if d := cmp.Diff(want, f.Plan); d != "" {
					b.Errorf("a firing of another plan (-stored +taken):\n%s", d)
				}
				if f.Due != plans[i].Due || f.Attempt != 1 || f.Delivery != 1 || f.ID() != scheduler.NewFiringID(plans[i].Key, plans[i].Revision, plans[i].Due) {
					b.Errorf("taken is %+v", f)
				}
			}
			finish(b, "w", fs)
		},
		"as many as there are slots": func(b *bench) {
			wait(b, 2, overdue(90)...)
			first := take(b, "w1", 60, 50) // and there is none of 10
			queued(b, 40)
			finish(b, "w2", take(b, "w2", 40, 40))
			finish(b, "w1", first)
		},
		"larger than what is wanted": func(b *bench) {
			wait(b, 1, overdue(50)...)
			for n := range 5 {
				fs := take(b, "w", 10, 10)
				queued(b, 40-10*n)
				finish(b, "w", fs)
			}
		},
		"the older first": func(b *bench) {
			alone := overdue(6)
			wait(b, 0, alone...)
			var old, young []*scheduler.Plan
			for i := range 20 {
				old = append(old, storetest.NewPlan(fmt.Sprintf("old%d", i), storetest.WithDue(alone[0].Due-10)))
				young = append(young, storetest.NewPlan(fmt.Sprintf("young%d", i), storetest.WithDue(alone[0].Due+1)))
			}
			slices.SortFunc(old, func(a, b *scheduler.Plan) int { return strings.Compare(a.Key, b.Key) })
			wait(b, 1, old...)
			wait(b, 2, young...)
			for _, want := range []struct {
				slots int
				key   string
				taken int
			}{{25, "old", 25}, {1, "p", 1}, {3, "young", 3}, {30, "young", 17}} {
				fs := take(b, "w", want.slots, want.taken)
				if !slices.ContainsFunc(fs, func(f *scheduler.Firing) bool { return strings.HasPrefix(f.Plan.Key, want.key) }) {
					b.Errorf("%d slots: %q came, want %s…", want.slots, fs[0].Plan.Key, want.key)
				}
				finish(b, "w", fs)
			}
		},
		"none is left behind": func(b *bench) {
			for _, slots := range []int{64, 100, 256, 1000} {
				plans, bundles := overdue(500), 0
				for some := range slices.Chunk(plans, 100) {
					bundles += 2
					wait(b, bundles, some...)
				}
				for more, n := true, 0; n < 500; {
					if !more {
						b.Fatalf("%d slots: after %d it says that there are no more", slots, n)
					}
					var fs []*scheduler.Firing
					var err error
					if fs, more, err = b.s.Take(b.ctx, scheduler.TakeRequest{Worker: "w", Slots: map[string]int{action: slots}}); err != nil {
						b.Fatal(err)
					}
					more = more || len(fs) == slots
					n += len(fs)
					finish(b, "w", fs)
				}
			}
		},
		"what is too large for one action waits for no other": func(b *bench) {
			wait(b, 1, overdue(50)...)
			const other = "mysql"
			var plans []*scheduler.Plan
			for i := range 5 {
				plans = append(plans, storetest.NewPlan(fmt.Sprintf("other%d", i), storetest.WithDue(time.Now().Unix()-5), storetest.WithAction(other)))
			}
			b.put(plans...)
			b.due(other)
			if _, err := b.s.Claim(b.ctx, scheduler.ClaimBatch{Lease: b.lease, Action: other, Cutoff: time.Now().Unix(), Claims: claimsOf(plans)}); err != nil {
				b.Fatal(err)
			}
			for range 5 {
				fs, _, err := b.s.Take(b.ctx, scheduler.TakeRequest{Worker: "w", Slots: map[string]int{action: 10, other: 1}})
				if err != nil {
					b.Fatal(err)
				}
				finishAll := func(of string) {
					var some []*scheduler.Firing
					for _, f := range fs {
						if f.Plan.Action == of {
							some = append(some, f)
						}
					}
					finish(b, "w", some)
				}
				finishAll(action)
				finishAll(other)
			}
			finish(b, "w", take(b, "w", 100, 10)) // 4 times 10 came beside the others
		},
		"a full backlog stores no bundles": func(b *bench) {
			plans := overdue(40)
			b.put(plans...)
			for range 10 {
				b.due(action)
				reply, err := b.s.Claim(b.ctx, scheduler.ClaimBatch{Lease: b.lease, Action: action, Cutoff: time.Now().Unix(), Claims: claimsOf(plans), Backlog: scheduler.Backlog{Entries: 20}})
				if err != nil || reply.Answers[len(reply.Answers)-1].Result != scheduler.ClaimFull {
					b.Fatalf("Claim: %v, %v", reply, err)
				}
			}
			if n := len(b.keys("bundle:*")); n > 1 {
				b.Errorf("%d bundles", n)
			}
			finish(b, "w", take(b, "w", 40, 20))
			for _, key := range b.keys("bundle:*") {
				b.redis("DEL", key) // it would go within a minute
			}
		},
		"its worker dies": func(b *bench) {
			wait(b, 1, overdue(20)...)
			fs := take(b, "w", 20, 20)
			finish(b, "w", fs[:3])
			holders, err := b.s.Holders(b.ctx, 0)
			if err != nil || len(holders) != 1 {
				b.Fatalf("holders: %v, %v", holders, err)
			}
			if n, err := b.s.Rescue(b.ctx, b.lease, holders[0], 5, 100); err != nil || n != 17 {
				b.Errorf("rescued %d, %v", n, err)
			}
			finish(b, "w2", take(b, "w2", 20, 17))
			if _, err := b.s.Rescue(b.ctx, b.lease, holders[0], 5, 100); err != nil {
				b.Error(err)
			}
		},
		"few wait alone": func(b *bench) {
			wait(b, 0, overdue(7)...)
			finish(b, "w", take(b, "w", 20, 7))
		},
		"a plan in it cannot be decoded": func(b *bench) {
			wait(b, 1, overdue(10)...)
			key := b.keys("bundle:*")[0]
			stored := fmt.Sprint(b.redis("GET", key))
			b.redis("SET", key, strings.Replace(stored, `"action":"`+action+`"`, `"action":"`+strings.Repeat("\"", len(action))+`"`, 1))
			fs := take(b, "w", 10, 9)
			b.left(9, "w")
			if n := b.redis("HLEN", b.k.quarantine); n != int64(1) {
				b.Errorf("%v in quarantine", n)
			}
			finish(b, "w", fs)
		},
		"someone deletes it": func(b *bench) {
			wait(b, 1, overdue(10)...)
			b.redis("DEL", b.keys("bundle:*")[0])
			take(b, "w", 10, 0)
			wait(b, 1, overdue(10)...)
			b.redis("DEL", b.keys("bundle:*")[0])
			take(b, "w", 1, 0) // alone
			b.settle()         // counts anew
		},
		"someone makes another of it": func(b *bench) {
			for _, slots := range []int{10, 1} {
				one := string(appendBundled(nil, []byte(strings.Repeat("0af3", 8)+" 3 5 0 1 1 "), []byte(" 0 1 0 k"), "abc"))
				for _, other := range []string{"", "10 20", "1 2 3\nabc", one} {
					wait(b, 1, overdue(10)...)
					b.redis("SET", b.keys("bundle:*")[0], other)
					take(b, "w", slots, 0)
					b.settle() // counts anew
					queued(b, 0)
				}
				wait(b, 1, overdue(10)...)
				key := b.keys("bundle:*")[0]
				b.redis("DEL", key)
				b.redis("RPUSH", key, "a list")
				take(b, "w", slots, 0)
				b.settle()
				queued(b, 0)
			}
			if n := b.redis("HLEN", b.k.quarantine); n != int64(10) {
				b.Errorf("%v in quarantine, want 10", n)
			}
		},
		"someone writes beside it": func(b *bench) {
			wait(b, 1, overdue(10)...)
			for _, what := range []string{"what?", "a+5", "b+x 7 1", "+  ", "", "c+500 3 4", "d+5 3", "e+5 3 x"} {
				b.redis("LPUSH", b.k.bundleQueue(action), what)
			}
			var fs []*scheduler.Firing
			for range 20 {
				got, err := b.take("w", 10)
				if err != nil {
					b.Fatal(err)
				}
				fs = append(fs, got...)
			}
			if len(fs) != 10 {
				b.Errorf("taken: %d", len(fs))
			}
			finish(b, "w", fs)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, server.Addr)
			fn(b)
			b.over("w")
			queued(b, 0)
		})
	}
}

// TestHandOutTakesItsPlansOutOfTheSchedule, and no others, whatever stands between them.
func TestHandOutTakesItsPlansOutOfTheSchedule(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	for name, c := range map[string]struct {
		between func(b *bench, due int64) // after the plans were read
		order   func([]*scheduler.Plan)
		left    []string
	}{
		"in a row":     {left: nil},
		"out of order": {order: func(ps []*scheduler.Plan) { slices.Reverse(ps) }},
		"one comes between": {left: []string{"p05a"}, between: func(b *bench, due int64) {
			b.put(storetest.NewPlan("p05a", storetest.WithDue(due)))
		}},
		"one comes before and one after": {left: []string{"p", "q"}, between: func(b *bench, due int64) {
			b.put(storetest.NewPlan("p", storetest.WithDue(due)), storetest.NewPlan("q", storetest.WithDue(due)))
		}},
		"the first was taken out by hand": {between: func(b *bench, due int64) { b.redis("ZREM", b.k.schedule(action), "p00") }},
		"one was taken out by hand":       {between: func(b *bench, due int64) { b.redis("ZREM", b.k.schedule(action), "p04") }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, server.Addr)
			plans := b.read(overdue(10)...)
			if c.between != nil {
				c.between(b, plans[0].Due)
			}
			if c.order != nil {
				c.order(plans)
			}
			fs := b.handOut("w", plans...)
			if len(fs) != 10 || !strings.Contains(fs[0].Receipt, "+10") {
				t.Fatalf("%d firings were handed out", len(fs))
			}
			var left []string
			for _, k := range b.redis("ZRANGE", b.k.schedule(action), "0", "-1").([]any) {
				left = append(left, fmt.Sprint(k))
			}
			if !slices.Equal(left, c.left) {
				t.Errorf("in the schedule are %q, want %q", left, c.left)
			}
			b.checked()
		})
	}
}

// TestHandOutComparesWithWhatWasRead: a plan that became another after it was read is not
// claimed as it was, whoever did that, and however the claim goes.
func TestHandOutComparesWithWhatWasRead(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	for name, change := range map[string]func(b *bench, p *scheduler.Plan) (claims int){
		"overwritten": func(b *bench, p *scheduler.Plan) int {
			other := p.Clone()
			other.Revision, other.Params = scheduler.NewRevision(), map[string]string{"url": "http://127.0.0.1/other"}
			b.put(other)
			return 9
		},
		"removed": func(b *bench, p *scheduler.Plan) int {
			if _, err := b.s.Remove(b.ctx, p.Key); err != nil {
				b.Fatal(err)
			}
			return 9
		},
		"deleted by hand": func(b *bench, p *scheduler.Plan) int { b.redis("DEL", b.k.plan(p.Key)); return 9 },
		"claimed by another leader": func(b *bench, p *scheduler.Plan) int {
			other := openStore(b.T, b.s.opts)
			reply, err := other.Claim(b.ctx, scheduler.ClaimBatch{Lease: b.lease, Action: action, Cutoff: time.Now().Unix(), Claims: []scheduler.Claim{p.NextClaim(p.Due, 60, time.UTC)}})
			if err != nil || reply.Answers[0].Result != scheduler.ClaimedOK {
				b.Fatalf("%v, %v", reply, err)
			}
			return 9
		},
		"claimed by another leader, and created anew": func(b *bench, p *scheduler.Plan) int {
			other := openStore(b.T, b.s.opts)
			if _, err := other.Claim(b.ctx, scheduler.ClaimBatch{Lease: b.lease, Action: action, Cutoff: time.Now().Unix(), Claims: []scheduler.Claim{p.NextClaim(p.Due, 60, time.UTC)}}); err != nil {
				b.Fatal(err)
			}
			anew := p.Clone()
			anew.Revision = scheduler.NewRevision()
			b.put(anew)
			return 9
		},
		"a new one is stored beside": func(b *bench, p *scheduler.Plan) int {
			b.put(storetest.NewPlan("beside", storetest.WithDue(math.MaxInt32)))
			return 10
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, server.Addr)
			plans := b.read(overdue(10)...)
			want := change(b, plans[3])
			fs := b.handOut("w", plans...)
			if len(fs) != want {
				t.Errorf("%d firings were handed out, want %d", len(fs), want)
			}
			if bundled := strings.Contains(fs[0].Receipt, "+"); bundled != (want == 10) {
				t.Errorf("in a bundle: %v", bundled)
			}
			for _, f := range fs {
				if want < 10 && f.Plan.Key == plans[3].Key {
					t.Errorf("%q was claimed as it was read", f.Plan.Key)
				}
			}
			// Pages that are read while claims of this process go on stay true.
			b.put(overdue(3)...)
			page := b.due(action)
			for _, p := range page.Plans {
				if fs := b.handOut("w", p); len(fs) != 1 || !strings.Contains(fs[0].Receipt, "+1") {
					t.Errorf("one after the other: %q was not handed out in a bundle", p.Key)
				}
			}
		})
	}
}

// FuzzBundle: whatever stands in a bundle, reading it ends, and what was written is read.
func FuzzBundle(f *testing.F) {
	id := strings.Repeat("0af3", 8)
	f.Add(string(appendBundled(nil, []byte(id+" 3 5 0 1 1 "), []byte(" 0 1 0 k"), "abc")))
	f.Add("1 2 3\n")
	f.Add("-1 99999999999999999999 3\nabc")
	f.Fuzz(func(t *testing.T, stored string) {
		all, err := parseBundle(stored)
		if err == nil && len(all)*38 > len(stored) {
			t.Errorf("%d firings of %d bytes", len(all), len(stored))
		}
		again, err := parseBundle(string(appendBundled(nil, []byte(id), nil, stored)))
		if err != nil || len(again) != 1 || again[0].size != len(stored) || again[0].id != id {
			t.Errorf("read back: %v, %v", again, err)
		}
	})
}
