package storetest

import (
	"slices"
	"time"

	"github.com/snower/forsun/scheduler"
)

// reopen ends the store and goes on with what is left of it.
func (r *rig) reopen() {
	r.Helper()
	r.store = r.h.Reopen()
	r.h.Store, r.h.Peer = r.store, nil
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.leases)
}

// recover takes everything that is queued of an action, after everything that
// workers still hold was handed back in their names: which of the two a firing
// is after a restart is the store's choice.
func (r *rig) recover(worker, action string, lost ...string) map[scheduler.FiringID]*scheduler.Firing {
	r.Helper()
	got := map[scheduler.FiringID]*scheduler.Firing{}
	for _, shard := range r.store.ShardIDs() {
		for _, w := range lost {
			for _, receipt := range r.held(shard, w) {
				r.finish(&scheduler.Firing{Shard: shard, Receipt: receipt}, w, scheduler.Return, time.Time{})
			}
		}
		for _, f := range r.take(shard, worker, action, 1000) {
			if got[f.ID()] != nil {
				r.Errorf("the firing of %q at %d is queued twice", f.Plan.Key, f.Due)
			}
			got[f.ID()] = f
		}
	}
	return got
}

func reopenRows() []row {
	return []row{
		// What was acknowledged is there: plans, as they were put and as they were
		// claimed, and removals.
		{name: "plans", needs: needsReopen, run: func(r *rig) {
			var plans []*scheduler.Plan
			for i, key := range oddKeys() {
				plans = append(plans, r.overdue(key, i, Every(recurring, 0), WithParams(map[string]string{"b": "\xff\x00" + key})))
			}
			gone := r.overdue("gone", 1)
			r.put(append([]*scheduler.Plan{gone}, plans...)...)
			r.remove("gone")
			for i, p := range plans {
				if i%2 == 0 {
					r.advance(p, p.Due+recurring)
				}
			}
			changed := r.overdue(plans[0].Key, 500)
			r.put(changed)
			plans[0] = changed
			for range 2 {
				r.reopen()
				for _, p := range plans {
					r.wantPlan(p)
				}
				r.wantNone("gone")
				if n := len(r.list("", 50)); n != len(plans) {
					r.Errorf("List shows %d plans, want %d", n, len(plans))
				}
				var scheduled int
				for _, shard := range r.store.ShardIDs() {
					scheduled += len(r.due(shard, DefaultAction, 0, r.now()))
				}
				if scheduled != len(plans) {
					r.Errorf("Due shows %d plans, want %d", scheduled, len(plans))
				}
				if s := r.state(); s.Plans != int64(len(plans)) {
					r.Errorf("%d plans are counted, want %d", s.Plans, len(plans))
				}
			}
		}},

		// A due second that was claimed is not claimed again; one that was not is.
		{name: "claims", needs: needsReopen, run: func(r *rig) {
			p, last := r.overdue("k", 1, Every(recurring, 0)), r.overdue("last", 2)
			r.put(p, last)
			r.shard(p)
			r.shard(last)
			before, beforeLast := p.Clone(), last.Clone()
			r.advance(p, p.Due+recurring)
			r.advance(last, 0)
			r.reopen()
			r.wantAnswer("of what was claimed", r.claimOne(before, before.Due+recurring), scheduler.ClaimChanged)
			r.wantAnswer("of what was claimed last", r.claimOne(beforeLast, 0), scheduler.ClaimGone)
			r.advance(p, p.Due+recurring)
			if got := r.recover("w", p.Action); len(got) != 3 {
				r.Errorf("%d firings are queued, want 3", len(got))
			}
		}},

		// Firings queued, running and waiting run (again) under the same id, and
		// what has ended stays ended.
		{name: "firings", needs: needsReopen, run: func(r *rig) {
			p := r.overdue("k", 0, Every(1, 0))
			r.backlog(p, 8)
			shard := r.shard(p)
			fs := r.take(shard, "lost", p.Action, 6)
			retryAt := r.ago(time.Minute)
			r.finish(fs[0], "lost", scheduler.Done, time.Time{})
			r.finish(fs[1], "lost", scheduler.Bury, time.Time{})
			r.finish(fs[2], "lost", scheduler.Retry, retryAt)
			r.finish(fs[3], "lost", scheduler.Retry, r.clock().Add(time.Hour))
			dead, history := r.dead(""), r.history("")

			r.reopen()
			got := r.recover("w", p.Action, "lost")
			for _, f := range fs[4:] {
				g := got[f.ID()]
				if g == nil {
					r.Errorf("the running firing of %d is lost", f.Due)
					continue
				}
				if d := planDiff(f.Plan, g.Plan); d != "" {
					r.Errorf("it carries another plan (-want +got):\n%s", d)
				}
				if g.Due != f.Due || g.Attempt < f.Attempt || g.Delivery < f.Delivery {
					r.Errorf("it was %+v and is %+v", f, g)
				}
			}
			if len(got) != 4 {
				r.Errorf("%d firings run, want the 2 queued and the 2 running", len(got))
			}
			if n, next := r.promote(shard, 10); n != 1 || next.IsZero() {
				r.Errorf("Promote queued %d, next %v, want 1 and the other", n, next)
			}
			g := r.takeOne(p, "w2")
			if g.ID() != fs[2].ID() || g.Attempt != 2 {
				r.Errorf("the retry is %s of attempt %d, want %s, 2", g.ID(), g.Attempt, fs[2].ID())
			}
			if after := r.dead(""); !slices.Equal(letters(after), letters(dead)) || len(after) != 1 {
				r.Errorf("dead letters were %v and are %v", letters(dead), letters(after))
			}
			if after := r.history(""); len(after) != len(history) || len(after) != 4 {
				r.Errorf("the history had %d entries and has %d, want 4", len(history), len(after))
			}
			for id, f := range got {
				if a := r.send(f.Shard, "w", r.ending(f, scheduler.Done, time.Time{})); a != scheduler.FinishedOK {
					r.Errorf("Finish of %s after all: answer %d", id, a)
				}
			}
			r.redriveAll("")
		}},

		// What a worker sends about a delivery of before changes nothing that has
		// been handed to another since.
		{name: "late finish", needs: needsReopen, run: func(r *rig) {
			p := r.overdue("k", 1)
			f := r.running(p, "lost", 0)
			r.reopen()
			got := r.recover("w", p.Action, "lost")
			if len(got) != 1 {
				r.Fatalf("%d firings run again, want 1", len(got))
			}
			r.wantFinished("late finish", r.send(f.Shard, "lost", r.ending(f, scheduler.Done, time.Time{})), scheduler.FinishedNotHeld)
			r.finish(got[f.ID()], "w", scheduler.Done, time.Time{})
		}},

		// Terms grow across restarts: a leader of before is fenced.
		{name: "terms", needs: needsReopen, run: func(r *rig) {
			p := r.overdue("k", 1)
			r.put(p)
			old := r.lease(r.shard(p))
			b := r.batch(old.Shard, p.Action, claimOf(p, 0))
			for range 2 {
				r.reopen()
				l := r.lease(old.Shard)
				if l.Term <= old.Term || l.Value == old.Value {
					r.Errorf("lease %+v after %+v", l, old)
				}
				if _, err := r.store.Claim(r.ctx, b); err == nil {
					r.Errorf("a claim under a lease of before was accepted")
				}
				old = l
			}
			r.wantPlan(p)
			r.advance(p, 0)
		}},

		// A removal cancels retries, and what was running, across a restart as
		// well; a plan's natural end does not.
		{name: "cancellations", needs: needsReopen, run: func(r *rig) {
			removed, replaced := r.overdue("removed", 1, Every(1, 0)), r.overdue("replaced", 2, Every(1, 0))
			ended := r.overdue("ended", 3)
			want := map[scheduler.FiringID]scheduler.Finished{
				r.running(removed, "w", removed.Due+1).ID():   scheduler.FinishedCancelled,
				r.running(replaced, "w", replaced.Due+1).ID(): scheduler.FinishedCancelled,
				r.running(ended, "w", 0).ID():                 scheduler.FinishedOK,
			}
			r.remove("removed")
			r.put(r.overdue("replaced", 4))
			r.reopen()
			got := r.recover("w2", DefaultAction, "w")
			if len(got) != len(want) {
				r.Errorf("%d firings run again, want %d", len(got), len(want))
			}
			for id, f := range got {
				r.wantFinished("retry of "+f.Plan.Key, r.send(f.Shard, "w2", r.ending(f, scheduler.Retry, r.ago(time.Minute))), want[id])
			}
			r.reopen()
			r.remove("ended") // its retry was left
			for _, shard := range r.store.ShardIDs() {
				if n, _ := r.promote(shard, 10); n != 0 {
					r.Errorf("Promote queued %d, want 0", n)
				}
			}
		}},
	}
}
