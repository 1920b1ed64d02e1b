package storetest

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/snower/forsun/scheduler"
)

// wantAnswer compares the result of a claim.
func (r *rig) wantAnswer(what string, got scheduler.ClaimAnswer, want scheduler.Claimed) {
	r.Helper()
	if got.Result != want {
		r.Errorf("claim %s: answer %d, want %d", what, got.Result, want)
	}
}

func claimRows() []row {
	return []row{
		// A claim advances the plan and enqueues the firing: both, and nothing
		// else of the plan changes.
		{name: "advances and enqueues", run: func(r *rig) {
			p := r.overdue("k", 1, Every(recurring, 0))
			r.put(p)
			shard := r.shard(p)
			for i := 1; i <= 3; i++ {
				due := p.Due
				r.advance(p, due+recurring)
				if p.Fired != i || p.LastDue != due {
					r.Fatalf("the row itself is wrong: %+v", p)
				}
				r.wantPlan(p)
				f := r.takeOne(p, "w")
				if d := planDiff(p, f.Plan); d != "" {
					r.Errorf("firing %d carries another plan (-want +got):\n%s", i, d)
				}
				if f.Due != due || f.Missed != 0 || f.Attempt != 1 || f.Delivery != 1 || f.Shard != shard {
					r.Errorf("firing %d = %+v, want due %d, missed 0, attempt 1, delivery 1, shard %d", i, f, due, shard)
				}
				if want := scheduler.NewFiringID("k", p.Revision, due); f.ID() != want {
					r.Errorf("firing %d has id %s, want %s", i, f.ID(), want)
				}
			}
		}},

		// After its last claim a plan is gone from every view; its firing is not.
		{name: "last claim deletes", run: func(r *rig) {
			p := r.overdue("k", 1)
			r.put(p)
			shard := r.shard(p)
			due := p.Due
			r.advance(p, 0)
			r.wantNone("k")
			if got := r.listKeys("", 10); len(got) != 0 {
				r.Errorf("List still shows %q", got)
			}
			if got := r.due(shard, p.Action, 0, r.now()); len(got) != 0 {
				r.Errorf("Due still shows %q", planKeys(got))
			}
			if got := r.dueAt(due, 10); len(got) != 0 {
				r.Errorf("DueAt still shows %q", planKeys(got))
			}
			f := r.takeOne(p, "w")
			if f.Plan.Due != 0 || f.Plan.Fired != 1 || f.Plan.LastDue != due {
				r.Errorf("the firing carries due %d, fired %d, last due %d, want 0, 1, %d", f.Plan.Due, f.Plan.Fired, f.Plan.LastDue, due)
			}
		}},

		// The same claim again finds the plan moved on, or gone: a leader whose
		// claim's reply was lost may send it again, and a (revision, due second)
		// pair is claimed at most once.
		{name: "repeated claim", run: func(r *rig) {
			p, last := r.overdue("k", 1, Every(recurring, 0)), r.overdue("last", 2)
			r.put(p, last)
			for _, tt := range []struct {
				p    *scheduler.Plan
				next int64
				want scheduler.Claimed
			}{{p, p.Due + recurring, scheduler.ClaimChanged}, {last, 0, scheduler.ClaimGone}} {
				b := r.batch(r.shard(tt.p), tt.p.Action, claimOf(tt.p, tt.next))
				r.wantAnswer("for the first time", r.claim(b)[0], scheduler.ClaimedOK)
				for range 3 {
					r.wantAnswer("repeated", r.claim(b)[0], tt.want)
				}
				r.takeOne(tt.p, "w") // exactly one
				r.wantNothing(tt.p)
			}
		}},

		// What the leader read is compared: another revision or another due
		// second is another plan, even if it is due, too.
		{name: "changed since it was read", run: func(r *rig) {
			old := r.overdue("k", 1, Every(recurring, 0))
			r.put(old)
			r.shard(old)
			p := r.overdue("k", 1, Every(recurring, 0), WithDue(old.Due))
			r.put(p)
			r.wantAnswer("of the overwritten revision", r.claimOne(old, old.Due+recurring), scheduler.ClaimChanged)
			for _, due := range []int64{p.Due - 1, p.Due + 1, p.Due - recurring} {
				other := p.Clone()
				other.Due = due
				r.wantAnswer("of another due second", r.claimOne(other, p.Due+recurring), scheduler.ClaimChanged)
			}
			moved := r.overdue("k", 2, WithAction("elsewhere"))
			r.put(moved)
			r.wantAnswer("under the action it had", r.claimOne(p, p.Due+recurring), scheduler.ClaimGone)
			b := r.batch(r.shard(moved), p.Action, claimOf(moved, 0))
			r.wantAnswer("under another action", r.claim(b)[0], scheduler.ClaimGone)
			r.wantPlan(moved)
			r.wantNothing(p)
			r.wantNothing(moved)
		}},

		// No plan, no firing.
		{name: "gone", run: func(r *rig) {
			p := r.overdue("k", 1)
			r.put(p)
			r.shard(p)
			if _, err := r.store.Remove(r.ctx, "k"); err != nil {
				r.Fatalf("Remove: %v", err)
			}
			r.wantAnswer("of a removed plan", r.claimOne(p, 0), scheduler.ClaimGone)
			r.wantNothing(p)
			r.wantNone("k")
		}},

		// Due seconds strictly grow within a revision. A leader that computes
		// otherwise would fire for ever: the store refuses, and keeps the plan.
		{name: "next that does not grow", run: func(r *rig) {
			p := r.overdue("k", 1, Every(recurring, 0))
			r.put(p)
			shard := r.shard(p)
			for _, tt := range []struct {
				what          string
				fireDue, next int64
			}{
				{"with next = due", p.Due, p.Due},
				{"with next < due", p.Due, p.Due - 1},
				{"with a negative next", p.Due, -1},
				{"with next = fire due", p.Due + 120, p.Due + 120},
				{"with due < next < fire due", p.Due + 120, p.Due + 60},
			} {
				c := claimOf(p, tt.next)
				c.FireDue = tt.fireDue
				r.wantAnswer(tt.what, r.claim(r.batch(shard, p.Action, c))[0], scheduler.ClaimBad)
				r.wantPlan(p)
			}
			r.wantNothing(p)
			if got := r.state(); got.Quarantined != 0 || got.Plans != 1 {
				r.Errorf("%d plans, %d quarantined, want 1, 0", got.Plans, got.Quarantined)
			}
			r.advance(p, p.Due+1) // the smallest step there is
		}},

		// A firing for a second before the plan's due second never existed.
		{name: "fire due before due", run: func(r *rig) {
			p := r.overdue("k", 1, Every(recurring, 0))
			r.put(p)
			c := claimOf(p, p.Due+recurring)
			c.FireDue = p.Due - 1
			if a := r.claim(r.batch(r.shard(p), p.Action, c))[0]; a.Result == scheduler.ClaimedOK {
				r.Errorf("claim with fire due < due was accepted")
			}
			r.wantPlan(p)
			r.wantNothing(p)
		}},

		// Missed due seconds collapse into the newest: the firing carries it and
		// how many it stands for, and counts as one.
		{name: "misfire", run: func(r *rig) {
			p := r.overdue("k", 1, Every(recurring, 0))
			r.put(p)
			c := claimOf(p, p.Due+41*recurring)
			c.FireDue, c.Missed = p.Due+40*recurring, 41
			r.wantAnswer("for missed seconds", r.claim(r.batch(r.shard(p), p.Action, c))[0], scheduler.ClaimedOK)
			p.LastDue, p.Due, p.Fired = c.FireDue, c.Next, 1
			r.wantPlan(p)
			f := r.takeOne(p, "w")
			if f.Due != c.FireDue || f.Missed != 41 || f.ID() != scheduler.NewFiringID("k", p.Revision, c.FireDue) {
				r.Errorf("firing due %d, missed %d, id %s, want %d, 41 and the id of that due second", f.Due, f.Missed, f.ID(), c.FireDue)
			}
			r.finish(f, "w", scheduler.Retry, r.ago(time.Minute))
			r.promote(f.Shard, 10)
			if g := r.takeOne(p, "w"); g.Due != f.Due || g.Missed != 41 || g.ID() != f.ID() {
				r.Errorf("the retry is due %d, missed %d, id %s, want as before", g.Due, g.Missed, g.ID())
			}
		}},

		// One claim's answer says nothing about its neighbours', and the answers
		// stand in the order of the batch.
		{name: "mixed batch in order", run: func(r *rig) {
			plans := r.inOneShard(7, func(i int) *scheduler.Plan { return r.overdue(fmt.Sprintf("k%d", i), i, Every(recurring, 0)) })
			shard := r.shard(plans[0])
			if _, err := r.store.Remove(r.ctx, plans[1].Key); err != nil {
				r.Fatalf("Remove: %v", err)
			}
			stale := plans[2].Clone()
			stale.Revision++
			future := NewPlan(plans[3].Key, WithDue(r.now()+3600))
			r.put(future)
			want := []scheduler.Claimed{
				scheduler.ClaimedOK, scheduler.ClaimGone, scheduler.ClaimChanged, scheduler.ClaimNotYet,
				scheduler.ClaimBad, scheduler.ClaimedOK, scheduler.ClaimedOK,
			}
			b := r.batch(shard, DefaultAction,
				claimOf(plans[0], plans[0].Due+recurring), claimOf(plans[1], 0), claimOf(stale, 0), claimOf(future, 0),
				claimOf(plans[4], plans[4].Due), claimOf(plans[5], 0), claimOf(plans[6], plans[6].Due+recurring))
			b.Cutoff = r.now() + 7200
			for i, a := range r.claim(b) {
				r.wantAnswer(fmt.Sprintf("%d of the batch", i), a, want[i])
			}
			got := r.take(shard, "w", DefaultAction, 10)
			if len(got) != 3 || got[0].Plan.Key != plans[0].Key || got[1].Plan.Key != plans[5].Key || got[2].Plan.Key != plans[6].Key {
				r.Errorf("queued are %s, want plans 0, 5 and 6", describe(got))
			}
			if answers := r.claim(r.batch(shard, DefaultAction)); len(answers) != 0 {
				r.Errorf("an empty batch has %d answers", len(answers))
			}
		}},

		// A step under a lease that is not the current one changes nothing, and
		// has no answers, whatever its sender believes.
		{name: "fenced", run: func(r *rig) {
			p := r.overdue("k", 1, Every(recurring, 0))
			r.put(p)
			b := r.batch(r.shard(p), p.Action, claimOf(p, p.Due+recurring))
			r.depose(b.Lease)
			if reply, err := r.store.Claim(r.ctx, b); !errors.Is(err, scheduler.ErrFenced) || len(reply.Answers) != 0 {
				r.Errorf("Claim under an old lease = %+v, %v, want ErrFenced", reply, err)
			}
			r.wantPlan(p)
			r.wantNothing(p)
			r.advance(p, p.Due+recurring) // the successor can
		}},

		// A lease that was given up is not the current one either, and one that
		// was made up never was.
		{name: "fenced while vacant", run: func(r *rig) {
			p := r.overdue("k", 1)
			r.put(p)
			b := r.batch(r.shard(p), p.Action, claimOf(p, 0))
			if err := r.store.Resign(r.ctx, b.Lease); err != nil {
				r.Fatalf("Resign: %v", err)
			}
			forged := b
			forged.Lease.Value = ""
			for _, b := range []scheduler.ClaimBatch{b, forged} {
				if _, err := r.store.Claim(r.ctx, b); !errors.Is(err, scheduler.ErrFenced) {
					r.Errorf("Claim of a vacant shard: %v, want ErrFenced", err)
				}
			}
			r.wantPlan(p)
			r.wantNothing(p)
		}},

		// Two claims of the same due seconds at the same time, as from a leader
		// that sends again what is still under way: each is claimed once.
		{name: "concurrent claims", run: func(r *rig) {
			const n, rounds = 50, 4
			plans := r.inOneShard(n, func(i int) *scheduler.Plan { return r.overdue(fmt.Sprintf("k%d", i), i, Every(recurring, 0)) })
			shard := r.shard(plans[0])
			for range rounds {
				var claims []scheduler.Claim
				for _, p := range plans {
					claims = append(claims, claimOf(p, p.Due+recurring))
				}
				b := r.batch(shard, DefaultAction, claims...)
				var replies [3]scheduler.ClaimReply
				var wg sync.WaitGroup
				for i := range replies {
					wg.Go(func() {
						var err error
						if replies[i], err = r.store.Claim(r.ctx, b); err != nil {
							r.Errorf("Claim: %v", err)
						}
					})
				}
				wg.Wait()
				for i, p := range plans {
					var ok int
					for _, reply := range replies {
						if len(reply.Answers) == n && reply.Answers[i].Result == scheduler.ClaimedOK {
							ok++
						}
					}
					if ok != 1 {
						r.Errorf("%q at %d was claimed %d times, want 1", p.Key, p.Due, ok)
					}
					p.LastDue, p.Due, p.Fired = p.Due, p.Due+recurring, p.Fired+1
				}
			}
			seen := map[scheduler.FiringID]bool{}
			for _, f := range r.take(shard, "w", DefaultAction, 2*n*rounds) {
				if seen[f.ID()] {
					r.Errorf("the firing of %q at %d is queued twice", f.Plan.Key, f.Due)
				}
				seen[f.ID()] = true
			}
			if len(seen) != n*rounds {
				r.Errorf("%d firings are queued, want %d", len(seen), n*rounds)
			}
			for _, p := range plans {
				r.wantPlan(p)
			}
		}},

		// A claim races with overwrites and removals: each plan that was claimed
		// has its firing, and no other has.
		{name: "claims race with changes", run: func(r *rig) {
			const n = 60
			plans := r.inOneShard(n, func(i int) *scheduler.Plan { return r.overdue(fmt.Sprintf("k%d", i), i) })
			shard := r.shard(plans[0])
			lease, cutoff := r.lease(shard), r.now()
			var claimed []*scheduler.Plan
			var wg sync.WaitGroup
			wg.Go(func() {
				for _, p := range plans {
					b := scheduler.ClaimBatch{Lease: lease, Action: p.Action, Cutoff: cutoff, Claims: []scheduler.Claim{claimOf(p, 0)}}
					reply, err := r.store.Claim(r.ctx, b)
					if err != nil {
						r.Errorf("Claim: %v", err)
					} else if reply.Answers[0].Result == scheduler.ClaimedOK {
						claimed = append(claimed, p)
					}
				}
			})
			removed := map[string]bool{}
			wg.Go(func() {
				for i := len(plans) - 1; i >= 0; i-- {
					if _, err := r.store.Remove(r.ctx, plans[i].Key); err == nil {
						removed[plans[i].Key] = true
					} else if !errors.Is(err, scheduler.ErrNotFound) {
						r.Errorf("Remove: %v", err)
					}
				}
			})
			wg.Wait()
			queued := map[string]bool{}
			for _, f := range r.take(shard, "w", DefaultAction, 2*n) {
				queued[f.Plan.Key] = true
			}
			for _, p := range claimed {
				if removed[p.Key] || !queued[p.Key] {
					r.Errorf("%q was claimed; removed %v, queued %v", p.Key, removed[p.Key], queued[p.Key])
				}
			}
			if len(queued) != len(claimed) || len(claimed)+len(removed) != n {
				r.Errorf("of %d plans %d were claimed, %d removed, %d queued", n, len(claimed), len(removed), len(queued))
			}
		}},
	}
}

// inOneShard puts plans until n of them share a shard, and returns those. The
// others are removed.
func (r *rig) inOneShard(n int, plan func(i int) *scheduler.Plan) []*scheduler.Plan {
	r.Helper()
	by := map[int][]*scheduler.Plan{}
	for i := 0; ; i++ {
		p := plan(i)
		r.put(p)
		shard := r.shard(p)
		by[shard] = append(by[shard], p)
		if len(by[shard]) < n {
			continue
		}
		for other, plans := range by {
			for _, q := range plans {
				if other == shard {
					continue
				}
				if _, err := r.store.Remove(r.ctx, q.Key); err != nil {
					r.Fatalf("Remove(%q): %v", q.Key, err)
				}
			}
		}
		return by[shard]
	}
}
