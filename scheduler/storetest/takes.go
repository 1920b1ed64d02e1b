package storetest

import (
	"fmt"
	"sync"
	"time"

	"github.com/snower/forsun/scheduler"
)

// held lists what the store believes a worker holds.
func (r *rig) held(shard int, worker string) []*scheduler.Firing {
	r.Helper()
	fs, err := r.store.Held(r.ctx, shard, worker, 1000)
	if err != nil {
		r.Fatalf("Held: %v", err)
	}
	return fs
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
			fs, err := r.store.Take(r.ctx, scheduler.TakeRequest{Shard: shard, Worker: "w", Slots: slots})
			if err != nil {
				r.Fatalf("Take: %v", err)
			}
			got := map[string]int{}
			for _, f := range fs {
				got[f.Plan.Action]++
			}
			for action, n := range want {
				if got[action] != n {
					r.Errorf("Take gave %d firings of %s, want %d", got[action], action, n)
				}
			}
			if fs, err := r.store.Take(r.ctx, scheduler.TakeRequest{Shard: shard, Worker: "w"}); err != nil || len(fs) != 0 {
				r.Errorf("Take for no action gave %s, %v", describe(fs), err)
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
						fs, err := store.Take(r.ctx, scheduler.TakeRequest{Shard: shard, Worker: worker, Slots: map[string]int{p.Action: 3}})
						if err != nil {
							r.Errorf("Take: %v", err)
							return
						}
						if len(fs) == 0 {
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

		// What a worker holds can be asked for, so that a take whose reply was
		// lost is not lost itself: as it was handed over, up to a limit.
		{name: "held", run: func(r *rig) {
			p := r.overdue("k", 0, Every(1, 0))
			r.backlog(p, 5)
			shard := r.shard(p)
			taken := map[scheduler.FiringID]*scheduler.Firing{}
			for _, f := range r.take(shard, "w", p.Action, 3) {
				taken[f.ID()] = f
			}
			other := r.take(shard, "other", p.Action, 1)
			held := r.held(shard, "w")
			if len(held) != 3 {
				r.Errorf("the worker holds %s, want 3", describe(held))
			}
			for _, f := range held {
				want := taken[f.ID()]
				if want == nil {
					r.Errorf("the worker holds %s, which it did not take", describe([]*scheduler.Firing{f}))
					continue
				}
				if d := planDiff(want.Plan, f.Plan); d != "" {
					r.Errorf("Held gave another plan (-taken +held):\n%s", d)
				}
				if f.Attempt != 1 || f.Delivery != 1 || f.Due != want.Due || f.Shard != shard || f.Receipt != want.Receipt {
					r.Errorf("Held gave %+v, taken was %+v", f, want)
				}
			}
			if fs, err := r.store.Held(r.ctx, shard, "w", 2); err != nil || len(fs) != 2 {
				r.Errorf("Held with limit 2 gave %s, %v", describe(fs), err)
			}
			if fs := r.held(shard, "nobody"); len(fs) != 0 {
				r.Errorf("a worker that took nothing holds %s", describe(fs))
			}
			// What Held gave is as good as what Take gave.
			r.finish(held[0], "w", scheduler.Done, time.Time{})
			r.finish(held[1], "w", scheduler.Return, time.Time{})
			if fs := r.held(shard, "w"); len(fs) != 1 || fs[0].ID() != held[2].ID() {
				r.Errorf("after two finishes the worker holds %s, want the third", describe(fs))
			}
			if fs := r.held(shard, "other"); len(fs) != 1 || fs[0].ID() != other[0].ID() {
				r.Errorf("the other worker holds %s, want what it took", describe(fs))
			}
			var back bool
			for _, f := range r.take(shard, "w", p.Action, 10) {
				back = back || f.ID() == held[1].ID()
			}
			if !back {
				r.Errorf("what was returned is not queued")
			}
		}},
	}
}
