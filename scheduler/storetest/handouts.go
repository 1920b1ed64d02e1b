package storetest

import (
	"fmt"
	"time"

	"github.com/snower/forsun/scheduler"
)

// handOutRows are about claims whose firings are handed out in the reply. A store
// that never does that passes them, too.
func handOutRows() []row {
	return []row{
		// What is handed out is what Take would have brought: held by the worker, the
		// plan as it was claimed. What is not handed out is queued; nothing is both.
		{name: "handed out or queued", run: func(r *rig) {
			for _, next := range []int64{0, recurring} {
				plans := r.inOneShard(6, func(i int) *scheduler.Plan {
					return r.overdue(fmt.Sprintf("k%d-%d", next, i), i, Every(recurring, 0))
				})
				shard := r.shard(plans[0])
				r.due(shard, DefaultAction, 0, r.now()) // a store may hand out what it has read only
				byID := map[scheduler.FiringID]*scheduler.Plan{}
				var claims []scheduler.Claim
				for _, p := range plans {
					c := claimOf(p, 0)
					if next != 0 {
						c.Next = p.Due + next
					}
					claims = append(claims, c)
					byID[scheduler.NewFiringID(p.Key, p.Revision, p.Due)] = p
					p.LastDue, p.Due, p.Fired = p.Due, c.Next, 1
				}
				b := r.batch(shard, DefaultAction, claims...)
				b.Worker, b.Slots = "w", 4
				reply, err := r.store.Claim(r.ctx, b)
				if err != nil {
					r.Fatalf("Claim: %v", err)
				}
				for i, a := range reply.Answers {
					r.wantAnswer(fmt.Sprintf("%d, handed out or not", i), a, scheduler.ClaimedOK)
				}
				if len(reply.Firings) > b.Slots {
					r.Errorf("%d firings were handed out to %d slots", len(reply.Firings), b.Slots)
				}
				r.wantHeld(shard, "w", reply.Firings...)
				if _, ok := r.holder(shard, "w"); len(reply.Firings) > 0 && !ok {
					r.Errorf("Holders does not show a worker that was handed %d", len(reply.Firings))
				}
				queued := r.take(shard, "w2", DefaultAction, 10)
				for worker, fs := range map[string][]*scheduler.Firing{"w": reply.Firings, "w2": queued} {
					for _, f := range fs {
						p := byID[f.ID()]
						if p == nil {
							r.Fatalf("%s has a firing of %q at %d, which was not claimed, or twice", worker, f.Plan.Key, f.Due)
						}
						delete(byID, f.ID())
						r.wantCounts("of "+worker, f, 1, 1)
						if f.Shard != shard || f.Due != p.LastDue || f.Missed != 0 {
							r.Errorf("firing of %q: shard %d, due %d, missed %d, want %d, %d, 0", p.Key, f.Shard, f.Due, f.Missed, shard, p.LastDue)
						}
						if d := planDiff(p, f.Plan); d != "" {
							r.Errorf("firing of %q carries another plan (-claimed +got):\n%s", p.Key, d)
						}
						r.finish(f, worker, scheduler.Done, time.Time{})
					}
				}
				if len(byID) != 0 {
					r.Errorf("%d firings are neither handed out nor queued", len(byID))
				}
				for _, p := range plans {
					if next != 0 {
						r.remove(p.Key)
					}
				}
				if s := r.state(); s.Queued[DefaultAction]+s.Running[DefaultAction]+s.Plans != 0 {
					r.Errorf("something is left: %+v", s)
				}
			}
			r.wantWhole()
		}},

		// The plan that is handed out is the one that is claimed, whatever was read
		// before, and what became of it since.
		{name: "of plans that changed since they were read", run: func(r *rig) {
			read := r.overdue("k", 1, Every(recurring, 0), WithParams(map[string]string{"v": "old"}))
			r.put(read)
			shard := r.shard(read)
			r.due(shard, DefaultAction, 0, r.now())
			p := r.overdue("k", 1, Every(recurring, 0), WithParams(map[string]string{"v": "new"}))
			r.put(p)
			claim := func(c scheduler.Claim) scheduler.ClaimReply {
				b := r.batch(shard, DefaultAction, c)
				b.Worker, b.Slots = "w", 1
				reply, err := r.store.Claim(r.ctx, b)
				if err != nil {
					r.Fatalf("Claim: %v", err)
				}
				return reply
			}
			reply := claim(claimOf(read, 0))
			r.wantAnswer("of the plan that was overwritten", reply.Answers[0], scheduler.ClaimChanged)
			if len(reply.Firings) != 0 {
				r.Errorf("a claim that failed handed out %s", describe(reply.Firings))
			}
			reply = claim(claimOf(p, p.Due+recurring))
			r.wantAnswer("of the one that is stored", reply.Answers[0], scheduler.ClaimedOK)
			fs := append(reply.Firings, r.take(shard, "w", DefaultAction, 2)...)
			if len(fs) != 1 || fs[0].Plan.Params["v"] != "new" {
				r.Errorf("claimed were %s, want one of the plan that is stored", describe(fs))
			}
		}},

		// A retry of what was handed out, and its rescue, are those of any firing.
		{name: "retried and rescued", run: func(r *rig) {
			p := r.overdue("k", 1, Every(recurring, 0))
			r.put(p)
			shard := r.shard(p)
			r.due(shard, DefaultAction, 0, r.now())
			b := r.batch(shard, DefaultAction, claimOf(p, p.Due+recurring))
			b.Worker, b.Slots = "w", 1
			reply, err := r.store.Claim(r.ctx, b)
			if err != nil {
				r.Fatalf("Claim: %v", err)
			}
			if len(reply.Firings) == 0 {
				return
			}
			f := reply.Firings[0]
			if n := r.rescue(shard, "w", deliveries, 10); n != 1 {
				r.Errorf("Rescue moved %d, want 1", n)
			}
			r.wantFinished("late", r.send(shard, "w", r.ending(f, scheduler.Done, time.Time{})), scheduler.FinishedNotHeld)
			g := r.takeOne(p, "w2")
			r.wantCounts("after a rescue", g, 2, 2)
			r.finish(g, "w2", scheduler.Retry, r.ago(time.Minute))
			r.promote(shard, 10)
			g = r.takeOne(p, "w2")
			if g.ID() != f.ID() {
				r.Errorf("%s came back as %s", f.ID(), g.ID())
			}
		}},
	}
}
