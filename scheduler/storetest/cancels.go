package storetest

import (
	"errors"
	"fmt"
	"time"

	"github.com/snower/forsun/scheduler"
)

// remove removes the plan of key, which must be there.
func (r *rig) remove(key string) *scheduler.Plan {
	r.Helper()
	p, err := r.store.Remove(r.ctx, key)
	if err != nil {
		r.Fatalf("Remove(%q): %v", key, err)
	}
	return p
}

// wantRetry ends a delivery with Retry and compares the answer.
func (r *rig) wantRetry(what string, f *scheduler.Firing, want scheduler.Finished) {
	r.Helper()
	r.wantFinished("retry "+what, r.send(f.Shard, "w", r.ending(f, scheduler.Retry, r.ago(time.Minute))), want)
	var n int
	if want == scheduler.FinishedOK {
		n = 1
	}
	if got, _ := r.promote(f.Shard, 10); got != n {
		r.Errorf("retry %s: Promote queued %d, want %d", what, got, n)
	}
}

func cancelRows() []row {
	return []row{
		// Removed means removed: a pending retry is cancelled, and Remove answers
		// with the plan even if only the retry is left of it.
		{name: "remove with only a retry left", run: func(r *rig) {
			p := r.overdue("k", 1)
			f := r.running(p, "w", 0)
			r.finish(f, "w", scheduler.Retry, r.ago(time.Minute))
			r.wantNone("k") // a retry is no plan
			got := r.remove("k")
			got.Status = p.Status
			if d := planDiff(p, got); d != "" {
				r.Errorf("Remove returned another plan (-claimed +got):\n%s", d)
			}
			if n, next := r.promote(f.Shard, 10); n != 0 || !next.IsZero() {
				r.Errorf("Promote queued %d, next %v, want nothing", n, next)
			}
			r.wantNothing(p)
			if _, err := r.store.Remove(r.ctx, "k"); !errors.Is(err, scheduler.ErrNotFound) {
				r.Errorf("second Remove: %v, want ErrNotFound", err)
			}
			if s := r.state(); s.Retries != 0 {
				r.Errorf("%d retries are counted, want 0", s.Retries)
			}
		}},

		// All retries of the key, and no other's.
		{name: "remove cancels all retries of its key", run: func(r *rig) {
			p := r.overdue("k", 1, Every(1, 0))
			r.waiting(p, 5, func(int) time.Time { return r.ago(time.Minute) })
			other := r.overdue("k2", 2)
			g := r.running(other, "w", 0)
			r.finish(g, "w", scheduler.Retry, r.ago(time.Minute))
			r.remove("k")
			for _, shard := range r.store.ShardIDs() {
				r.promote(shard, 10)
			}
			r.wantCounts("the retry of the other plan", r.takeOne(other, "w"), 2, 1)
			if s := r.state(); s.Retries != 0 {
				r.Errorf("%d retries are left, want 0", s.Retries)
			}
		}},

		// An overwrite cancels the retries of what it replaced.
		{name: "overwrite cancels retries", run: func(r *rig) {
			p := r.overdue("k", 1, Every(1, 0))
			fs := r.waiting(p, 3, func(int) time.Time { return r.ago(time.Minute) })
			q := r.overdue("k", 100)
			r.put(q)
			if n, next := r.promote(fs[0].Shard, 10); n != 0 || !next.IsZero() {
				r.Errorf("Promote queued %d, next %v, want nothing", n, next)
			}
			r.wantNothing(p)
			r.wantPlan(q)
			if s := r.state(); s.Retries != 0 {
				r.Errorf("%d retries are counted, want 0", s.Retries)
			}
		}},

		// ... also when only a retry is left of it.
		{name: "put cancels the retry of a plan that has ended", run: func(r *rig) {
			p := r.overdue("k", 1)
			f := r.running(p, "w", 0)
			r.finish(f, "w", scheduler.Retry, r.ago(time.Minute))
			r.put(r.overdue("k", 2))
			if n, _ := r.promote(f.Shard, 10); n != 0 {
				r.Errorf("Promote queued %d, want 0", n)
			}
		}},

		// The same Put again is no overwrite: it cancels nothing.
		{name: "resent put cancels nothing", run: func(r *rig) {
			p := r.overdue("k", 1, Every(1, 0))
			first := p.Clone()
			fs := r.waiting(p, 1, func(int) time.Time { return r.ago(time.Minute) })
			r.advance(p, p.Due+1)
			f := r.takeOne(p, "w")
			r.put(first)
			if n, _ := r.promote(fs[0].Shard, 10); n != 1 {
				r.Errorf("Promote queued %d, want 1", n)
			}
			r.takeOne(p, "w")
			r.wantRetry("after a resent put", f, scheduler.FinishedOK)
		}},

		// A running firing whose plan was removed goes on; failed, it is not
		// tried again, and the history says why.
		{name: "removed while running", run: func(r *rig) {
			p := r.overdue("k", 1, Every(1, 0))
			f := r.running(p, "w", p.Due+1)
			r.remove("k")
			r.wantRetry("after a removal", f, scheduler.FinishedCancelled)
			r.wantNothing(p)
			r.wantFinished("sent again", r.send(f.Shard, "w", r.ending(f, scheduler.Retry, r.ago(time.Minute))), scheduler.FinishedNotHeld)
			got := r.history("k")
			if len(got) != 1 || got[0].Outcome != scheduler.Cancelled || got[0].Error != "refused" || !got[0].RetryAt.IsZero() {
				r.Errorf("history = %+v, want one cancelled attempt with its error and no time of a retry", got)
			}
			if s := r.state(); s.Running[p.Action]+s.Retries+s.Dead != 0 {
				r.Errorf("something is left: %+v", s)
			}
		}},

		// The same for one that was still queued at the removal.
		{name: "removed while queued", run: func(r *rig) {
			p := r.overdue("k", 1, Every(1, 0))
			r.backlog(p, 1)
			r.remove("k")
			r.wantRetry("of a firing that was queued at the removal", r.takeOne(p, "w"), scheduler.FinishedCancelled)
		}},

		// And for one whose plan was replaced.
		{name: "overwritten while running", run: func(r *rig) {
			p := r.overdue("k", 1, Every(1, 0))
			f := r.running(p, "w", p.Due+1)
			q := r.overdue("k", 100, Every(1, 0))
			r.put(q)
			r.wantRetry("after an overwrite", f, scheduler.FinishedCancelled)
			r.wantPlan(q)
			r.advance(q, q.Due+1)
			r.wantRetry("of the new plan's firing", r.takeOne(q, "w"), scheduler.FinishedOK)
		}},

		// What succeeds or fails for good does so whatever became of its plan.
		{name: "other verdicts after a removal", run: func(r *rig) {
			p := r.overdue("k", 1, Every(1, 0))
			r.backlog(p, 3)
			fs := r.take(r.shard(p), "w", p.Action, 3)
			r.remove("k")
			r.finish(fs[0], "w", scheduler.Done, time.Time{})
			r.finish(fs[1], "w", scheduler.Bury, time.Time{})
			r.finish(fs[2], "w", scheduler.Return, time.Time{}) // it goes on
			if g := r.takeOne(p, "w"); g.ID() != fs[2].ID() {
				r.Errorf("returned was %s, taken %s", fs[2].ID(), g.ID())
			}
			r.wantNone("k") // a status is no reason to come back
		}},

		// A plan that had its last firing has not been removed: that firing is
		// tried again like any other.
		{name: "one-shot plan has ended", run: func(r *rig) {
			p := r.overdue("k", 1)
			f := r.running(p, "w", 0)
			r.wantRetry("after the plan's only claim", f, scheduler.FinishedOK)
			r.wantRetry("and again", r.takeOne(p, "w"), scheduler.FinishedOK)
		}},

		// Nor has one whose later firing was its last, while an earlier one ran.
		{name: "counted plan has ended", run: func(r *rig) {
			p := r.overdue("k", 1, Every(1, 2))
			f := r.running(p, "w", p.Due+1)
			r.advance(p, 0)
			r.wantRetry("of the first firing after the claim of the last", f, scheduler.FinishedOK)
			fs := r.take(f.Shard, "w", p.Action, 10)
			if len(fs) != 2 {
				r.Fatalf("Take gave %s, want both", describe(fs))
			}
			for _, f := range fs {
				r.wantFinished("retry", r.send(f.Shard, "w", r.ending(f, scheduler.Retry, r.ago(time.Minute))), scheduler.FinishedOK)
			}
			if n, _ := r.promote(f.Shard, 10); n != 2 {
				r.Errorf("Promote queued %d, want both", n)
			}
		}},

		// But one that was replaced has, even if the plan that replaced it has
		// ended itself, or has been removed.
		{name: "replaced, and its successor is gone", run: func(r *rig) {
			for i, gone := range []func(q *scheduler.Plan){
				func(q *scheduler.Plan) {
					r.advance(q, 0)
					r.finish(r.takeOne(q, "w2"), "w2", scheduler.Done, time.Time{})
				},
				func(q *scheduler.Plan) { r.remove(q.Key) },
			} {
				p := r.overdue("k", 1, Every(1, 0))
				f := r.running(p, "w", p.Due+1)
				q := r.overdue("k", 10+i)
				r.put(q)
				gone(q)
				r.wantNone("k")
				r.wantRetry("of a plan whose successor is gone", f, scheduler.FinishedCancelled)
			}
		}},

		// A new plan of a key of which nothing was left replaces nothing: what
		// still runs of the one that ended is tried again.
		{name: "ended, then put again", run: func(r *rig) {
			p := r.overdue("k", 1)
			f := r.running(p, "w", 0)
			q := r.overdue("k", 2)
			r.put(q)
			r.wantRetry("after a new plan of the key", f, scheduler.FinishedOK)
			r.wantPlan(q)
			f = r.takeOne(p, "w")
			r.remove("k") // but this is the removal of a plan of its key
			r.wantRetry("after that was removed", f, scheduler.FinishedCancelled)
		}},

		// A Remove that answers ErrNotFound changes nothing: the client was told
		// that there is nothing to stop.
		{name: "remove of a plan that has ended", run: func(r *rig) {
			p := r.overdue("k", 1)
			f := r.running(p, "w", 0)
			if got, err := r.store.Remove(r.ctx, "k"); !errors.Is(err, scheduler.ErrNotFound) {
				r.Errorf("Remove with only a running firing left = %v, %v, want ErrNotFound", got, err)
			}
			r.wantRetry("after a Remove that found nothing", f, scheduler.FinishedOK)
		}},

		// A firing that was deferred before it ever ran is claimed and queued as
		// far as a removal goes: it runs, and is not tried again.
		{name: "deferred before its first attempt", run: func(r *rig) {
			for i, drop := range []func(key string){
				func(key string) { r.remove(key) },
				func(key string) { r.put(r.overdue(key, 100)) },
			} {
				p := r.overdue(fmt.Sprintf("k%d", i), 1, Every(1, 0))
				f := r.running(p, "w", p.Due+1)
				r.finish(f, "w", scheduler.Defer, r.ago(time.Minute))
				drop(p.Key)
				if n, _ := r.promote(f.Shard, 10); n != 1 {
					r.Fatalf("Promote queued %d, want the deferred one", n)
				}
				g := r.takeOne(p, "w")
				r.wantCounts("the deferred one", g, 1, 1)
				r.finish(g, "w", scheduler.Defer, r.ago(time.Minute)) // also after that
				r.promote(f.Shard, 10)
				r.wantRetry("of one deferred before its plan was dropped", r.takeOne(p, "w"), scheduler.FinishedCancelled)
			}
		}},

		// With only such a firing left of a plan that has ended there is nothing
		// to remove.
		{name: "remove with only a deferred firing left", run: func(r *rig) {
			p := r.overdue("k", 1)
			f := r.running(p, "w", 0)
			r.finish(f, "w", scheduler.Defer, r.ago(time.Minute))
			if got, err := r.store.Remove(r.ctx, "k"); !errors.Is(err, scheduler.ErrNotFound) {
				r.Errorf("Remove = %v, %v, want ErrNotFound", got, err)
			}
			r.promote(f.Shard, 10)
			r.wantRetry("of the deferred one", r.takeOne(p, "w"), scheduler.FinishedOK)
		}},

		// One that was deferred in a later attempt is a pending retry.
		{name: "deferred before its second attempt", run: func(r *rig) {
			p := r.overdue("k", 1)
			f := r.running(p, "w", 0)
			r.wantRetry("first", f, scheduler.FinishedOK)
			r.finish(r.takeOne(p, "w"), "w", scheduler.Defer, r.ago(time.Minute))
			if got := r.remove("k"); got.Revision != p.Revision {
				r.Errorf("Remove returned revision %v, want %v", got.Revision, p.Revision)
			}
			if n, _ := r.promote(f.Shard, 10); n != 0 {
				r.Errorf("Promote queued %d, want 0", n)
			}
		}},

		// A redriven firing belongs to no plan any more: what happens to the plan
		// does not stop its retries, unless one of them waits just then.
		{name: "redriven", run: func(r *rig) {
			p := r.overdue("k", 1, Every(1, 0))
			r.buried(p, 1)
			r.redriveAll("k")
			f := r.takeOne(p, "w")
			r.remove("k")
			r.wantRetry("of a redriven firing after a removal", f, scheduler.FinishedOK)
			f = r.takeOne(p, "w")
			r.put(r.overdue("k", 2))
			r.put(r.overdue("k", 3))
			r.wantFinished("retry after overwrites", r.send(f.Shard, "w", r.ending(f, scheduler.Retry, r.ago(time.Minute))), scheduler.FinishedOK)
			r.remove("k")
			if n, _ := r.promote(f.Shard, 10); n != 0 {
				r.Errorf("Promote queued %d after a removal, want 0", n)
			}
		}},

		// A rescue is no retry: a firing of a plan that was removed runs on with
		// another worker, and then is not tried again.
		{name: "rescued after a removal", run: func(r *rig) {
			p := r.overdue("k", 1, Every(1, 0))
			f := r.running(p, "lost", p.Due+1)
			r.remove("k")
			if n := r.rescue(f.Shard, "lost", deliveries, 10); n != 1 {
				r.Errorf("Rescue moved %d, want 1", n)
			}
			r.wantRetry("of a rescued firing", r.takeOne(p, "w"), scheduler.FinishedCancelled)
		}},

		// Of a plan that has ended, with one firing waiting to be retried and
		// another running, Remove cancels both.
		{name: "remove cancels what runs beside a retry", run: func(r *rig) {
			p := r.overdue("k", 1, Every(1, 2))
			r.backlog(p, 1)
			r.advance(p, 0)
			fs := r.take(r.shard(p), "w", p.Action, 2)
			r.finish(fs[0], "w", scheduler.Retry, r.ago(time.Minute))
			if got := r.remove("k"); got.Revision != p.Revision {
				r.Errorf("Remove returned revision %v, want %v", got.Revision, p.Revision)
			}
			r.wantRetry("after the removal of what was left", fs[1], scheduler.FinishedCancelled)
			r.wantNothing(p)
		}},
	}
}
