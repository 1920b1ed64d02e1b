package storetest

import (
	"fmt"
	"strings"
	"time"

	"github.com/snower/forsun/scheduler"
)

func claimLimitRows() []row {
	return []row{
		// Nothing due after the leader's second is claimed, whatever the store's
		// clock says: the store has nothing to wait for.
		{name: "not yet by the cutoff", run: func(r *rig) {
			p := r.overdue("k", 10)
			r.put(p)
			b := r.batch(r.shard(p), p.Action, claimOf(p, 0))
			b.Cutoff = p.Due - 1
			a := r.claim(b)[0]
			r.wantAnswer("above the cutoff", a, scheduler.ClaimNotYet)
			if a.Wait != 0 {
				r.Errorf("the store's clock would allow it, yet it says to wait %v", a.Wait)
			}
			r.wantPlan(p)
			r.wantNothing(p)
			b.Cutoff = p.Due
			r.wantAnswer("at the cutoff", r.claim(b)[0], scheduler.ClaimedOK)
		}},

		// Nor is anything due after the store's own second, whatever a leader
		// with a fast clock says.
		{name: "not yet by the store's clock", run: func(r *rig) {
			p := NewPlan("k", WithDue(r.now()+3600))
			r.put(p)
			b := r.batch(r.shard(p), p.Action, claimOf(p, 0))
			b.Cutoff = r.now() + 7200
			before := r.clock()
			a := r.claim(b)[0]
			r.wantAnswer("before the store's second", a, scheduler.ClaimNotYet)
			if most := time.Unix(p.Due, 0).Sub(before); a.Wait <= 0 || a.Wait > most+time.Millisecond || a.Wait < most-rowBound {
				r.Errorf("it says to wait %v, want about %v", a.Wait, most)
			}
			r.wantPlan(p)
			r.wantNothing(p)
		}},

		// The firing's own second counts as well: what is missed must have passed.
		{name: "not yet for the missed second", run: func(r *rig) {
			p := r.overdue("k", 10, Every(recurring, 0))
			r.put(p)
			c := claimOf(p, r.now()+7200)
			c.FireDue, c.Missed = r.now()+3600, 3
			b := r.batch(r.shard(p), p.Action, c)
			b.Cutoff = r.now() + 7200
			if a := r.claim(b)[0]; a.Result == scheduler.ClaimedOK {
				r.Errorf("a firing of the future was claimed")
			}
			r.wantPlan(p)
			r.wantNothing(p)
		}},

		// Where the whole fleet agrees that the store's clock is wrong, the leader
		// says by how much, and that counts, in both directions.
		{name: "skew", run: func(r *rig) {
			p := NewPlan("k", Every(recurring, 0), WithDue(r.now()+3600))
			r.put(p)
			b := r.batch(r.shard(p), p.Action, claimOf(p, p.Due+recurring))
			b.Cutoff, b.Skew = p.Due, 2*time.Hour
			r.wantAnswer("with a store that is two hours behind", r.claim(b)[0], scheduler.ClaimedOK)
			q := r.overdue("q", 1) // an hour overdue
			r.put(q)
			b = r.batch(r.shard(q), q.Action, claimOf(q, 0))
			b.Skew = -2 * time.Hour
			a := r.claim(b)[0]
			r.wantAnswer("with a store that is two hours ahead", a, scheduler.ClaimNotYet)
			if a.Wait < 50*time.Minute || a.Wait > time.Hour+time.Minute {
				r.Errorf("it says to wait %v, want about an hour", a.Wait)
			}
			r.wantPlan(q)
		}},

		// A second begins when the store's clock has reached it, not a moment
		// earlier, and until then the store says exactly how long that is.
		{name: "not a moment early", run: func(r *rig) {
			p := NewPlan("k", WithDue(r.now()+2))
			r.put(p)
			due := time.Unix(p.Due, 0)
			shard := r.shard(p)
			for first := true; ; first = false {
				b := r.batch(shard, p.Action, claimOf(p, 0))
				b.Cutoff = p.Due
				before := r.clock()
				a := r.claim(b)[0]
				after := r.clock()
				if a.Result == scheduler.ClaimedOK {
					if first || after.Before(due) {
						r.Errorf("claimed at %v, due at %v", after, due)
					}
					return
				}
				r.wantAnswer("before the store's second", a, scheduler.ClaimNotYet)
				if a.Wait < due.Sub(after) || a.Wait > due.Sub(before)+2*time.Millisecond {
					r.Fatalf("between %v and %v it says to wait %v, due at %v", before, after, a.Wait, due)
				}
				switch {
				case r.h.Advance == nil:
					time.Sleep(min(a.Wait, 10*time.Millisecond))
				case a.Wait > time.Millisecond:
					r.h.Advance(a.Wait - time.Millisecond)
				default:
					r.h.Advance(a.Wait)
				}
			}
		}},

		// Past its backlog limit an action's plans stay in the schedule, where
		// they are seen and can be removed. Running firings count: they are not
		// finished. A finish makes room.
		{name: "full by entries", run: func(r *rig) {
			plans := r.inOneShard(6, func(i int) *scheduler.Plan { return r.overdue(fmt.Sprintf("k%d", i), i) })
			shard := r.shard(plans[0])
			var claims []scheduler.Claim
			for _, p := range plans {
				claims = append(claims, claimOf(p, 0))
			}
			limited := func(claims ...scheduler.Claim) scheduler.ClaimBatch {
				b := r.batch(shard, DefaultAction, claims...)
				b.Backlog.Entries = 3
				return b
			}
			for i, a := range r.claim(limited(claims...)) {
				want := scheduler.ClaimedOK
				if i >= 3 {
					want = scheduler.ClaimFull
				}
				r.wantAnswer(fmt.Sprintf("%d with room for 3", i), a, want)
			}
			for _, p := range plans[3:] {
				r.wantPlan(p)
			}
			if got := r.due(shard, DefaultAction, 0, r.now()); len(got) != 3 {
				r.Errorf("Due shows %d plans, want the 3 that had no room", len(got))
			}
			fs := r.take(shard, "w", DefaultAction, 2)
			r.wantAnswer("while 1 is queued and 2 run", r.claim(limited(claims[3]))[0], scheduler.ClaimFull)
			r.finish(fs[0], "w", scheduler.Done, time.Time{})
			r.wantAnswer("after a finish", r.claim(limited(claims[3]))[0], scheduler.ClaimedOK)
			r.wantAnswer("when full again", r.claim(limited(claims[4]))[0], scheduler.ClaimFull)
			if _, err := r.store.Remove(r.ctx, plans[4].Key); err != nil {
				r.Errorf("Remove of a plan that had no room: %v", err)
			}
			r.wantAnswer("after its removal", r.claim(limited(claims[4]))[0], scheduler.ClaimGone)
			r.wantAnswer("without a bound", r.claim(r.batch(shard, DefaultAction, claims[5]))[0], scheduler.ClaimedOK)
		}},

		// The bound in bytes keeps large parameters from filling the store. It may
		// be passed by the one firing that reaches it.
		{name: "full by bytes", run: func(r *rig) {
			large := WithParams(map[string]string{"body": strings.Repeat("x", 30<<10)})
			plans := r.inOneShard(5, func(i int) *scheduler.Plan { return r.overdue(fmt.Sprintf("k%d", i), i, large) })
			var claims []scheduler.Claim
			for _, p := range plans {
				claims = append(claims, claimOf(p, 0))
			}
			b := r.batch(r.shard(plans[0]), DefaultAction, claims...)
			b.Backlog.Bytes = 40 << 10
			var ok int
			for i, a := range r.claim(b) {
				switch {
				case a.Result == scheduler.ClaimedOK && ok == i:
					ok++
				default:
					r.wantAnswer(fmt.Sprintf("%d, after %d of 30 KiB had room in 40 KiB", i, ok), a, scheduler.ClaimFull)
					r.wantPlan(plans[i])
				}
			}
			if ok < 1 || ok > 2 {
				r.Errorf("%d firings of 30 KiB had room in 40 KiB, want 1 or 2", ok)
			}
			for _, f := range r.take(b.Lease.Shard, "w", DefaultAction, 10) {
				r.finish(f, "w", scheduler.Done, time.Time{})
			}
			b.Lease, b.Claims = r.lease(b.Lease.Shard), claims[4:]
			r.wantAnswer("after all finished", r.claim(b)[0], scheduler.ClaimedOK)
		}},

		// What waits for a retry, or was deferred, is unfinished, too. It is in the
		// backlog already, so that it is never refused on its way back.
		{name: "retries and deferrals count", run: func(r *rig) {
			p := r.overdue("k", 1, Every(1, 0))
			r.backlog(p, 3)
			fs := r.take(r.shard(p), "w", p.Action, 3)
			r.finish(fs[0], "w", scheduler.Retry, r.ago(time.Minute))
			r.finish(fs[1], "w", scheduler.Defer, r.ago(time.Minute))
			r.finish(fs[2], "w", scheduler.Retry, r.clock().Add(time.Hour))
			b := r.batch(fs[0].Shard, p.Action, claimOf(p, p.Due+1))
			b.Backlog.Entries = 3
			r.wantAnswer("while two wait for a retry and one is deferred", r.claim(b)[0], scheduler.ClaimFull)
			if n, _ := r.promote(fs[0].Shard, 10); n != 2 {
				r.Errorf("Promote queued %d, want 2", n)
			}
			r.wantAnswer("after two were promoted", r.claim(b)[0], scheduler.ClaimFull)
			for _, f := range r.take(fs[0].Shard, "w", p.Action, 2) {
				r.finish(f, "w", scheduler.Bury, time.Time{})
			}
			r.wantAnswer("after two have ended", r.claim(b)[0], scheduler.ClaimedOK)
			r.remove("k") // with it goes the retry that waits
			q := r.overdue("k", 100)
			r.put(q)
			b = r.batch(fs[0].Shard, q.Action, claimOf(q, 0))
			b.Backlog.Entries = 2
			r.wantAnswer("after a retry was cancelled", r.claim(b)[0], scheduler.ClaimedOK)
		}},

		// Backlogs are kept apart: MySQL at its limit does not hold up HTTP.
		{name: "full for one action only", run: func(r *rig) {
			plans := r.inOneShard(4, func(i int) *scheduler.Plan {
				return r.overdue(fmt.Sprintf("k%d", i), i, WithAction([]string{"http", "mysql"}[i%2]))
			})
			full := map[string]int{}
			for _, p := range plans {
				b := r.batch(r.shard(p), p.Action, claimOf(p, 0))
				b.Backlog.Entries = 1
				want := scheduler.ClaimedOK
				if full[p.Action]++; full[p.Action] > 1 {
					want = scheduler.ClaimFull
				}
				r.wantAnswer(fmt.Sprintf("%d of %s", full[p.Action], p.Action), r.claim(b)[0], want)
			}
		}},
	}
}
