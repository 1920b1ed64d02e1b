package storetest

import (
	"fmt"
	"sync"
	"time"

	"github.com/snower/forsun/scheduler"
)

// wantFinished compares the answer to a finish.
func (r *rig) wantFinished(what string, got, want scheduler.Finished) {
	r.Helper()
	if got != want {
		r.Errorf("%s: answer %d, want %d", what, got, want)
	}
}

// wantCounts compares the numbers of a firing.
func (r *rig) wantCounts(what string, f *scheduler.Firing, attempt, delivery int) {
	r.Helper()
	if f.Attempt != attempt || f.Delivery != delivery {
		r.Errorf("%s: attempt %d, delivery %d, want %d, %d", what, f.Attempt, f.Delivery, attempt, delivery)
	}
}

func finishRows() []row {
	return []row{
		// Done ends a firing: it is held by nobody and queued nowhere.
		{name: "done", run: func(r *rig) {
			p := r.overdue("k", 1)
			f := r.running(p, "w", 0)
			r.finish(f, "w", scheduler.Done, time.Time{})
			r.wantHeld(f.Shard, "w")
			r.wantNothing(p)
			if got := r.history("k"); len(got) != 1 || got[0].Outcome != scheduler.Succeeded {
				r.Errorf("history = %+v, want one success", got)
			}
			if s := r.state(); s.Plans+s.Queued[p.Action]+s.Running[p.Action]+s.Retries+s.Dead != 0 {
				r.Errorf("something is left: %+v", s)
			}
		}},

		// Done without an attempt ends a firing all the same, and leaves no history.
		{name: "done, unrecorded", run: func(r *rig) {
			p := r.overdue("k", 3)
			f := r.running(p, "w", r.now()+3600)
			end := r.ending(f, scheduler.Done, time.Time{})
			end.Attempt = nil
			r.wantFinished("without an attempt", r.send(f.Shard, "w", end), scheduler.FinishedOK)
			r.wantFinished("the same again", r.send(f.Shard, "w", end), scheduler.FinishedNotHeld)
			r.wantHeld(f.Shard, "w")
			if got := r.history(""); len(got) != 0 {
				r.Errorf("history = %+v, want none", got)
			}
			if s := r.state(); s.Queued[p.Action]+s.Running[p.Action]+s.Retries+s.Dead != 0 {
				r.Errorf("something is left: %+v", s)
			}
			got, err := r.store.Get(r.ctx, "k")
			if err != nil {
				r.Fatalf("Get: %v", err)
			}
			if got.Status != scheduler.StatusSucceeded {
				r.Errorf("status %d, want %d", got.Status, scheduler.StatusSucceeded)
			}
		}},

		// Retry queues the firing again at its time, with the next attempt, the
		// same id and the same due second.
		{name: "retry", run: func(r *rig) {
			p := r.overdue("k", 1)
			f := r.running(p, "w", 0)
			for attempt := 1; attempt <= 3; attempt++ {
				r.wantCounts("before its retry", f, attempt, 1)
				r.finish(f, "w", scheduler.Retry, r.ago(time.Minute))
				r.wantNothing(p) // not before it is promoted
				if n, _ := r.promote(f.Shard, 10); n != 1 {
					r.Fatalf("Promote queued %d, want 1", n)
				}
				g := r.takeOne(p, "w")
				if g.ID() != f.ID() || g.Due != f.Due {
					r.Errorf("the retry has id %s and due %d, want %s and %d", g.ID(), g.Due, f.ID(), f.Due)
				}
				if d := planDiff(f.Plan, g.Plan); d != "" {
					r.Errorf("the retry carries another plan (-want +got):\n%s", d)
				}
				f = g
			}
		}},

		// Bury ends a firing as a dead letter with its last error.
		{name: "bury", run: func(r *rig) {
			p := r.overdue("k", 1)
			f := r.running(p, "w", 0)
			before := r.clock()
			r.finish(f, "w", scheduler.Bury, time.Time{})
			r.wantNothing(p)
			if n, next := r.promote(f.Shard, 10); n != 0 || !next.IsZero() {
				r.Errorf("Promote queued %d, next %v, want nothing", n, next)
			}
			got := r.dead("")
			if len(got) != 1 {
				r.Fatalf("%d dead letters, want 1", len(got))
			}
			d := got[0]
			if d.ID == "" || d.Firing.ID() != f.ID() || d.Firing.Attempt != 1 || d.Error != "refused for good" {
				r.Errorf("the dead letter is %+v of %+v", d, d.Firing)
			}
			if late := d.Died.Sub(before); late < -time.Second || late > rowBound {
				r.Errorf("it died at %v, buried at %v", d.Died, before)
			}
			if diff := planDiff(p, d.Firing.Plan); diff != "" {
				r.Errorf("the dead letter carries another plan (-want +got):\n%s", diff)
			}
		}},

		// Defer: the target had no free slot. The firing waits as for a retry, but
		// nothing is counted: deferred often, it must not end as a dead letter.
		{name: "defer", run: func(r *rig) {
			p := r.overdue("k", 1)
			f := r.running(p, "w", 0)
			for range 3 {
				r.wantCounts("deferred in its first attempt", f, 1, 1)
				r.finish(f, "w", scheduler.Defer, r.ago(time.Minute))
				r.wantNothing(p)
				r.promote(f.Shard, 10)
				f = r.takeOne(p, "w")
			}
			r.finish(f, "w", scheduler.Retry, r.ago(time.Minute))
			for range 3 {
				r.promote(f.Shard, 10)
				f = r.takeOne(p, "w")
				r.wantCounts("deferred in its second attempt", f, 2, 1)
				r.finish(f, "w", scheduler.Defer, r.ago(time.Minute))
			}
			if got := r.history("k"); len(got) != 1 {
				r.Errorf("history has %d entries, want the failed attempt only", len(got))
			}
		}},

		// Return: the worker is not going to run it. It is queued at once, as it
		// was: a worker that hands back what it holds was not lost.
		{name: "return", run: func(r *rig) {
			p := r.overdue("k", 1)
			f := r.running(p, "w", 0)
			r.finish(f, "w", scheduler.Return, time.Time{})
			g := r.takeOne(p, "w2")
			r.wantCounts("after a return", g, 1, 1)
			if g.ID() != f.ID() {
				r.Errorf("it returned as %s, was %s", g.ID(), f.ID())
			}
			if got := r.history("k"); len(got) != 0 {
				r.Errorf("history has %d entries, want 0", len(got))
			}
		}},

		// Deliveries are counted since the firing was last finished: a retry is a
		// finish, a deferral and a return are not.
		{name: "delivery numbers", run: func(r *rig) {
			p := r.overdue("k", 1)
			f := r.running(p, "w", 0)
			r.rescue(f.Shard, "w", deliveries, 10)
			f = r.takeOne(p, "w")
			r.finish(f, "w", scheduler.Return, time.Time{})
			f = r.takeOne(p, "w")
			r.wantCounts("returned after a rescue", f, 2, 2)
			r.finish(f, "w", scheduler.Defer, r.ago(time.Minute))
			r.promote(f.Shard, 10)
			f = r.takeOne(p, "w")
			r.wantCounts("deferred after a rescue", f, 2, 2)
			r.finish(f, "w", scheduler.Retry, r.ago(time.Minute))
			r.promote(f.Shard, 10)
			f = r.takeOne(p, "w")
			r.wantCounts("retried after a rescue", f, 3, 1)
		}},

		// A finish whose reply was lost is sent again, unchanged, whatever
		// happened meanwhile. What was done is not done again: in particular the
		// next delivery of the same firing to the same worker is left alone.
		{name: "resent", run: func(r *rig) {
			for i, v := range []scheduler.Verdict{scheduler.Done, scheduler.Retry, scheduler.Bury, scheduler.Defer, scheduler.Return} {
				p := r.overdue(fmt.Sprintf("k%d", i), i)
				f := r.running(p, "w", 0)
				e := r.ending(f, v, r.ago(time.Minute))
				r.wantFinished("first", r.send(f.Shard, "w", e), scheduler.FinishedOK)
				r.wantFinished("again", r.send(f.Shard, "w", e), scheduler.FinishedNotHeld)
				r.promote(f.Shard, 10)
				r.wantFinished("after a promotion", r.send(f.Shard, "w", e), scheduler.FinishedNotHeld)
				if v == scheduler.Done || v == scheduler.Bury {
					r.wantNothing(p)
					continue
				}
				g := r.takeOne(p, "w")
				r.wantFinished(fmt.Sprintf("verdict %d, while the same worker holds the next delivery", v), r.send(f.Shard, "w", e), scheduler.FinishedNotHeld)
				r.wantHeld(f.Shard, "w", g)
				r.finish(g, "w", scheduler.Done, time.Time{})
			}
			if s := r.state(); s.Dead != 1 || s.Retries != 0 || s.Queued[DefaultAction]+s.Running[DefaultAction] != 0 {
				r.Errorf("after all: %+v, want one dead letter only", s)
			}
		}},

		// Only who holds a firing can end it.
		{name: "wrong worker", run: func(r *rig) {
			p := r.overdue("k", 1)
			f := r.running(p, "w", 0)
			for _, v := range []scheduler.Verdict{scheduler.Done, scheduler.Retry, scheduler.Bury, scheduler.Defer, scheduler.Return} {
				r.wantFinished(fmt.Sprintf("verdict %d of another worker", v), r.send(f.Shard, "thief", r.ending(f, v, r.ago(time.Minute))), scheduler.FinishedNotHeld)
			}
			if got := r.history(""); len(got) != 0 {
				r.Errorf("history has %d entries, want 0", len(got))
			}
			r.wantHeld(f.Shard, "w", f)
			r.finish(f, "w", scheduler.Done, time.Time{})
		}},

		// The answers stand in the order of what was sent, each for itself.
		{name: "batch in order", run: func(r *rig) {
			p := r.overdue("k", 0, Every(1, 0))
			r.backlog(p, 6)
			fs := r.take(r.shard(p), "w", p.Action, 6)
			if len(fs) != 6 {
				r.Fatalf("Take gave %s, want 6", describe(fs))
			}
			r.finish(fs[1], "w", scheduler.Done, time.Time{})
			at := r.ago(time.Minute)
			batch := []scheduler.Finish{
				r.ending(fs[0], scheduler.Done, at), r.ending(fs[1], scheduler.Done, at), r.ending(fs[2], scheduler.Retry, at),
				r.ending(fs[3], scheduler.Bury, at), r.ending(fs[4], scheduler.Return, at), r.ending(fs[5], scheduler.Defer, at),
				r.ending(fs[0], scheduler.Done, at), // twice in one batch
			}
			want := []scheduler.Finished{
				scheduler.FinishedOK, scheduler.FinishedNotHeld, scheduler.FinishedOK, scheduler.FinishedOK,
				scheduler.FinishedOK, scheduler.FinishedOK, scheduler.FinishedNotHeld,
			}
			got, err := r.store.Finish(r.ctx, fs[0].Shard, "w", batch)
			if err != nil || len(got) != len(want) {
				r.Fatalf("Finish of %d gave %d answers, %v", len(batch), len(got), err)
			}
			for i := range want {
				r.wantFinished(fmt.Sprintf("%d of the batch", i), got[i], want[i])
			}
			if s := r.state(); s.Queued[p.Action] != 1 || s.Running[p.Action] != 0 || s.Retries != 2 || s.Dead != 1 {
				r.Errorf("after the batch: %+v, want 1 queued, 2 retries, 1 dead", s)
			}
			if got, err := r.store.Finish(r.ctx, fs[0].Shard, "w", nil); err != nil || len(got) != 0 {
				r.Errorf("Finish of nothing answered %v, %v", got, err)
			}
		}},

		// The same finish sent twice at the same time is done once.
		{name: "concurrent finishes", run: func(r *rig) {
			const n = 40
			p := r.overdue("k", 0, Every(1, 0))
			r.backlog(p, n)
			fs := r.take(r.shard(p), "w", p.Action, n)
			var batch []scheduler.Finish
			for i, f := range fs {
				batch = append(batch, r.ending(f, []scheduler.Verdict{scheduler.Done, scheduler.Retry, scheduler.Return}[i%3], r.ago(time.Minute)))
			}
			var answers [3][]scheduler.Finished
			var wg sync.WaitGroup
			for i := range answers {
				wg.Go(func() {
					var err error
					if answers[i], err = r.store.Finish(r.ctx, fs[0].Shard, "w", batch); err != nil {
						r.Errorf("Finish: %v", err)
					}
				})
			}
			wg.Wait()
			for i := range batch {
				var ok int
				for _, as := range answers {
					if len(as) == n && as[i] == scheduler.FinishedOK {
						ok++
					}
				}
				if ok != 1 {
					r.Errorf("delivery %d was finished %d times, want 1", i, ok)
				}
			}
			if s := r.state(); s.Retries != 13 || s.Queued[p.Action] != 13 || s.Running[p.Action] != 0 {
				r.Errorf("after all: %+v, want 13 retries, 13 queued", s)
			}
			if got := r.history("k"); len(got) != 27 {
				r.Errorf("history has %d entries, want 27", len(got))
			}
		}},

		// A plan that goes on shows how its last finished firing ended; a plan
		// that replaced it shows nothing of that.
		{name: "status", run: func(r *rig) {
			p := r.overdue("k", 0, Every(1, 0))
			r.backlog(p, 4)
			fs := r.take(r.shard(p), "w", p.Action, 4)
			r.wantPlan(p)
			for i, v := range []scheduler.Verdict{scheduler.Done, scheduler.Bury, scheduler.Done} {
				r.finish(fs[i], "w", v, time.Time{})
				p.Status = []scheduler.Status{scheduler.StatusSucceeded, scheduler.StatusFailed, scheduler.StatusSucceeded}[i]
				r.wantPlan(p)
			}
			if got := r.list("k", 1)[0]; got.Status != p.Status {
				r.Errorf("List shows status %d, want %d", got.Status, p.Status)
			}
			r.advance(p, p.Due+1) // a claim keeps it
			r.wantPlan(p)
			q := r.overdue("k", 100, Every(1, 0))
			r.put(q)
			r.finish(fs[3], "w", scheduler.Bury, time.Time{})
			r.wantPlan(q)
		}},

		// A finish in the middle of claims neither undoes an advance nor is
		// undone by one.
		{name: "finishes race with claims", run: func(r *rig) {
			const n = 50
			p := r.overdue("k", 0, Every(1, 0))
			r.backlog(p, n)
			shard := r.shard(p)
			lease, cutoff := r.lease(shard), r.now()
			fs := r.take(shard, "w", p.Action, n)
			var wg sync.WaitGroup
			wg.Go(func() {
				for _, f := range fs {
					e := scheduler.Finish{Firing: f, Verdict: scheduler.Done, Attempt: &scheduler.Attempt{
						Firing: f.ID(), Key: "k", Action: p.Action, Due: f.Due, Attempt: 1, Outcome: scheduler.Succeeded,
					}}
					if as, err := r.store.Finish(r.ctx, shard, "w", []scheduler.Finish{e}); err != nil || as[0] != scheduler.FinishedOK {
						r.Errorf("Finish: %v, %v", as, err)
					}
				}
			})
			for range n {
				b := scheduler.ClaimBatch{Lease: lease, Action: p.Action, Cutoff: cutoff, Claims: []scheduler.Claim{claimOf(p, p.Due+1)}}
				r.wantAnswer("during finishes", r.claim(b)[0], scheduler.ClaimedOK)
				p.LastDue, p.Due, p.Fired = p.Due, p.Due+1, p.Fired+1
			}
			wg.Wait()
			p.Status = scheduler.StatusSucceeded
			r.wantPlan(p)
			if s := r.state(); s.Queued[p.Action] != n || s.Running[p.Action] != 0 {
				r.Errorf("after all: %+v, want %d queued", s, n)
			}
		}},
	}
}
