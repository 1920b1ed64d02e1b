package storetest

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/snower/forsun/scheduler"
)

// held lists the receipts of what the store believes a worker holds.
func (r *rig) held(shard int, worker string) []string {
	r.Helper()
	receipts, err := r.store.Held(r.ctx, shard, worker, 1000)
	if err != nil {
		r.Fatalf("Held: %v", err)
	}
	return receipts
}

// wantHeld says what a worker holds, oldest first.
func (r *rig) wantHeld(shard int, worker string, want ...*scheduler.Firing) {
	r.Helper()
	if got := r.held(shard, worker); !slices.Equal(got, receipts(want)) {
		r.Errorf("%s holds %q, want %q", worker, got, receipts(want))
	}
}

func receipts(fs []*scheduler.Firing) []string {
	var rs []string
	for _, f := range fs {
		rs = append(rs, f.Receipt)
	}
	return rs
}

// backlog puts a recurring plan and claims n firings of it.
func (r *rig) backlog(p *scheduler.Plan, n int) {
	r.Helper()
	r.put(p)
	r.shard(p)
	for range n {
		r.advance(p, p.Due+1)
	}
}

func takeRows() []row {
	return []row{
		// A worker gets no more than it has slots for, the oldest first.
		{name: "slots and order", run: func(r *rig) {
			p := r.overdue("k", 0, Every(1, 0))
			first := p.Due
			r.backlog(p, 10)
			shard := r.shard(p)
			if fs := r.take(shard, "w", p.Action, 0); len(fs) != 0 {
				r.Errorf("Take without slots gave %s", describe(fs))
			}
			next := first
			for _, slots := range []int{1, 3, 2, 100} {
				want := min(slots, int(first+10-next))
				fs := r.take(shard, "w", p.Action, slots)
				if len(fs) != want {
					r.Fatalf("Take with %d slots gave %s, want %d", slots, describe(fs), want)
				}
				for _, f := range fs {
					if f.Due != next {
						r.Errorf("Take gave the firing of second %d, want %d", f.Due-first, next-first)
					}
					next++
				}
			}
			r.wantNothing(p)
		}},

		// Each action has its own queue: what a replica does not run it does not
		// get, and slots of one action are not used for another.
		{name: "each action by itself", run: func(r *rig) {
			plans := r.inOneShard(3, func(i int) *scheduler.Plan {
				return r.overdue(fmt.Sprintf("k%d", i), i, Every(1, 0), WithAction([]string{"http", "shell", "mysql"}[i%3]))
			})
			for _, p := range plans {
				for range 5 {
					r.advance(p, p.Due+1)
				}
			}
			shard := r.shard(plans[0])
			slots := map[string]int{plans[0].Action: 2, plans[1].Action: 10, "beanstalk": 5}
			want := map[string]int{}
			for _, p := range plans {
				want[p.Action] += min(5, slots[p.Action]) // two plans of one action share its slots
			}
			for a := range want {
				want[a] = min(want[a], slots[a])
			}
			got := map[string]int{}
			for _, f := range r.takeAll(scheduler.TakeRequest{Shard: shard, Worker: "w", Slots: slots}) {
				got[f.Plan.Action]++
			}
			for action, n := range want {
				if got[action] != n {
					r.Errorf("Take gave %d firings of %s, want %d", got[action], action, n)
				}
			}
			if fs, more, err := r.store.Take(r.ctx, scheduler.TakeRequest{Shard: shard, Worker: "w"}); err != nil || more || len(fs) != 0 {
				r.Errorf("Take for no action gave %s, more %v, %v", describe(fs), more, err)
			}
		}},

		// Nothing is handed out twice, however many workers on however many
		// replicas take at the same time.
		{name: "concurrent workers", run: func(r *rig) {
			const n, workers = 200, 8
			p := r.overdue("k", 0, Every(1, 0))
			r.backlog(p, n)
			shard := r.shard(p)
			var mu sync.Mutex
			by := map[scheduler.FiringID]string{}
			var wg sync.WaitGroup
			for i := range workers {
				store := r.store
				if i%2 == 1 {
					store = r.peer()
				}
				wg.Go(func() {
					worker := fmt.Sprintf("w%d", i)
					for {
						fs, more, err := store.Take(r.ctx, scheduler.TakeRequest{Shard: shard, Worker: worker, Slots: map[string]int{p.Action: 3}})
						if err != nil {
							r.Errorf("Take: %v", err)
							return
						}
						if len(fs) == 0 && !more {
							return
						}
						mu.Lock()
						for _, f := range fs {
							if other, taken := by[f.ID()]; taken {
								r.Errorf("the firing of %d went to %s and to %s", f.Due, other, worker)
							}
							by[f.ID()] = worker
						}
						mu.Unlock()
					}
				})
			}
			wg.Wait()
			if len(by) != n {
				r.Errorf("%d firings were handed out, want %d", len(by), n)
			}
			var held int
			for i := range workers {
				held += len(r.held(shard, fmt.Sprintf("w%d", i)))
			}
			if held != n {
				r.Errorf("%d firings are held, want %d", held, n)
			}
		}},

		// What a worker holds can be asked for, oldest first and up to a limit, so
		// that a take whose reply was lost is not lost itself: the receipt is all
		// that is needed to hand a delivery back.
		{name: "held", run: func(r *rig) {
			p := r.overdue("k", 0, Every(1, 0))
			r.backlog(p, 5)
			shard := r.shard(p)
			fs := r.take(shard, "w", p.Action, 2)
			fs = append(fs, r.take(shard, "w", p.Action, 1)...)
			other := r.take(shard, "other", p.Action, 1)
			r.wantHeld(shard, "w", fs...)
			r.wantHeld(shard, "other", other...)
			r.wantHeld(shard, "nobody")
			if got, err := r.store.Held(r.ctx, shard, "w", 2); err != nil || !slices.Equal(got, receipts(fs[:2])) {
				r.Errorf("Held with limit 2 gave %q, %v, want %q", got, err, receipts(fs[:2]))
			}
			r.finish(fs[0], "w", scheduler.Done, time.Time{})
			back := scheduler.Finish{Firing: &scheduler.Firing{Shard: shard, Receipt: fs[1].Receipt}, Verdict: scheduler.Return}
			r.wantFinished("another worker's return", r.send(shard, "other", back), scheduler.FinishedNotHeld)
			r.wantFinished("return by receipt", r.send(shard, "w", back), scheduler.FinishedOK)
			r.wantHeld(shard, "w", fs[2])
			var again []scheduler.FiringID
			for _, f := range r.take(shard, "w", p.Action, 10) {
				again = append(again, f.ID())
				if f.ID() == fs[1].ID() {
					if d := planDiff(fs[1].Plan, f.Plan); d != "" {
						r.Errorf("it came back with another plan (-want +got):\n%s", d)
					}
				}
			}
			if len(again) != 2 || !slices.Contains(again, fs[1].ID()) {
				r.Errorf("then there are queued %v, want the fifth and %s", again, fs[1].ID())
			}
		}},

		// A receipt names one delivery and is never used again, whatever becomes of
		// the firing: by an old one a worker would end what another delivery does.
		{name: "receipts", run: func(r *rig) {
			p := r.overdue("k", 0, Every(1, 0))
			seen := map[string]bool{"": true}
			mine := func(fs ...*scheduler.Firing) {
				r.Helper()
				for _, f := range fs {
					if seen[f.Receipt] {
						r.Errorf("the receipt %q is empty or was used before", f.Receipt)
					}
					seen[f.Receipt] = true
				}
			}
			f := r.running(p, "w", p.Due+1)
			mine(f)
			for _, v := range []scheduler.Verdict{scheduler.Return, scheduler.Return, scheduler.Defer, scheduler.Defer, scheduler.Retry, scheduler.Retry} {
				r.finish(f, "w", v, r.ago(time.Minute))
				r.promote(f.Shard, 10)
				f = r.takeOne(p, "w")
				mine(f)
			}
			r.rescue(f.Shard, "w", deliveries, 10)
			f = r.takeOne(p, "w")
			mine(f)
			r.finish(f, "w", scheduler.Bury, time.Time{})
			r.redriveAll("k")
			f = r.takeOne(p, "w")
			mine(f)
			r.advance(p, p.Due+1)
			mine(r.takeOne(p, "w"))
		}},
	}
}
