package storetest

import (
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/snower/forsun/scheduler"
)

// deliveries is a bound on deliveries that no firing of a row reaches by itself.
const deliveries = 1000

// holder returns what the leader sees of a worker; ok is false if it sees
// nothing.
func (r *rig) holder(shard int, worker string) (h scheduler.Holder, ok bool) {
	r.Helper()
	hs, err := r.store.Holders(r.ctx, shard)
	if err != nil {
		r.Fatalf("Holders: %v", err)
	}
	for _, h := range hs {
		if h.Worker == worker {
			return h, true
		}
	}
	return scheduler.Holder{}, false
}

func (r *rig) beat(worker string) {
	r.Helper()
	if err := r.store.Beat(r.ctx, worker); err != nil {
		r.Fatalf("Beat: %v", err)
	}
}

// rescue takes over what a worker holds, as it is seen now.
func (r *rig) rescue(shard int, worker string, maxDeliveries, limit int) int {
	r.Helper()
	h, ok := r.holder(shard, worker)
	if !ok {
		r.Fatalf("Holders does not show %s", worker)
	}
	n, err := r.store.Rescue(r.ctx, r.lease(shard), h, maxDeliveries, limit)
	if err != nil {
		r.Fatalf("Rescue: %v", err)
	}
	return n
}

func rescueRows() []row {
	return []row{
		// Holders are all who hold something or beat, with their counters: a beat
		// counts in every shard.
		{name: "holders", run: func(r *rig) {
			p := r.overdue("k", 1, Every(1, 0))
			r.backlog(p, 4)
			shard := r.shard(p)
			r.beat("idle")
			r.take(shard, "a", p.Action, 3)
			r.take(shard, "b", p.Action, 1)
			if h, ok := r.holder(shard, "a"); !ok || h.Beats != 0 {
				r.Errorf("holder a = %+v, %v, want no beat", h, ok)
			}
			r.beat("b")
			before, _ := r.holder(shard, "b")
			r.beat("b")
			after, ok := r.holder(shard, "b")
			if !ok || before.Beats == 0 || after.Beats != before.Beats+1 {
				r.Errorf("holder b = %+v, then %+v, want one beat more", before, after)
			}
			for _, shard := range r.store.ShardIDs() {
				if h, ok := r.holder(shard, "idle"); !ok || h.Beats != 1 {
					r.Errorf("holder idle of shard %d = %+v, %v, want 1 beat", shard, h, ok)
				}
			}
		}},

		// What a dead worker held runs again under the same id, as the next
		// attempt; what it sends when it wakes changes nothing.
		{name: "rescue", run: func(r *rig) {
			p := r.overdue("k", 1)
			f := r.running(p, "dead", 0)
			r.beat("dead")
			if n := r.rescue(f.Shard, "dead", deliveries, 10); n != 1 {
				r.Errorf("Rescue moved %d, want 1", n)
			}
			r.wantHeld(f.Shard, "dead")
			g := r.takeOne(p, "alive")
			r.wantCounts("after a rescue", g, 2, 2)
			if g.ID() != f.ID() || g.Due != f.Due {
				r.Errorf("rescued as %s due %d, was %s due %d", g.ID(), g.Due, f.ID(), f.Due)
			}
			if d := planDiff(f.Plan, g.Plan); d != "" {
				r.Errorf("the rescued firing carries another plan (-want +got):\n%s", d)
			}
			for _, v := range []scheduler.Verdict{scheduler.Done, scheduler.Retry, scheduler.Bury, scheduler.Defer, scheduler.Return} {
				r.wantFinished("late finish", r.send(f.Shard, "dead", r.ending(f, v, r.ago(time.Minute))), scheduler.FinishedNotHeld)
			}
			r.finish(g, "alive", scheduler.Done, time.Time{})
			r.wantNothing(p)
		}},

		// A worker that beats is alive, however long its firings take.
		{name: "counter has moved", run: func(r *rig) {
			p := r.overdue("k", 1)
			f := r.running(p, "w", 0)
			for range 2 { // from no beat to the first, and from one to the next
				seen, _ := r.holder(f.Shard, "w")
				r.beat("w")
				if n, err := r.store.Rescue(r.ctx, r.lease(f.Shard), seen, deliveries, 10); n != 0 || err != nil {
					r.Errorf("Rescue of a worker that beats moved %d, %v", n, err)
				}
			}
			r.wantHeld(f.Shard, "w", f)
			r.finish(f, "w", scheduler.Done, time.Time{})
		}},

		// One that never beat can be dead, too.
		{name: "never beat", run: func(r *rig) {
			p := r.overdue("k", 1)
			f := r.running(p, "w", 0)
			if n := r.rescue(f.Shard, "w", deliveries, 10); n != 1 {
				r.Errorf("Rescue moved %d, want 1", n)
			}
			r.takeOne(p, "w2")
		}},

		// Nobody else's firings are touched, and no more than limit.
		{name: "limit and others", run: func(r *rig) {
			p := r.overdue("k", 1, Every(1, 0))
			r.backlog(p, 7)
			shard := r.shard(p)
			r.take(shard, "dead", p.Action, 5)
			alive := r.take(shard, "alive", p.Action, 2)
			seen, _ := r.holder(shard, "dead")
			for _, want := range []int{2, 2, 1, 0} {
				if n, err := r.store.Rescue(r.ctx, r.lease(shard), seen, deliveries, 2); n != want || err != nil {
					r.Errorf("Rescue with limit 2 moved %d, %v, want %d", n, err, want)
				}
			}
			r.wantHeld(shard, "alive", alive...)
			if fs := r.take(shard, "w", p.Action, 10); len(fs) != 5 {
				r.Errorf("%s were queued again, want 5", describe(fs))
			}
		}},

		// A dead worker with nothing left is forgotten, or every worker there ever
		// was would be looked at for ever; one that is alive after all is known again
		// with its next beat.
		{name: "forgotten", run: func(r *rig) {
			p := r.overdue("k", 1)
			f := r.running(p, "w", 0)
			for _, worker := range []string{"w", "idle"} {
				r.beat(worker)
				r.beat(worker)
				seen, _ := r.holder(f.Shard, worker)
				for n := 1; n > 0; {
					var err error
					if n, err = r.store.Rescue(r.ctx, r.lease(f.Shard), seen, deliveries, 10); err != nil {
						r.Fatalf("Rescue: %v", err)
					}
				}
				if h, ok := r.holder(f.Shard, worker); ok {
					r.Errorf("holder %s = %+v after its rescue, want it forgotten", worker, h)
				}
				r.beat(worker)
				if h, ok := r.holder(f.Shard, worker); !ok || h.Beats == 0 || len(r.held(f.Shard, worker)) > 0 {
					r.Errorf("holder %s = %+v, %v after its next beat", worker, h, ok)
				}
			}
			r.finish(r.takeOne(p, "w"), "w", scheduler.Done, time.Time{})
		}},

		// Only the leader rescues.
		{name: "fenced", run: func(r *rig) {
			p := r.overdue("k", 1)
			f := r.running(p, "w", 0)
			seen, _ := r.holder(f.Shard, "w")
			l := r.lease(f.Shard)
			r.depose(l)
			if n, err := r.store.Rescue(r.ctx, l, seen, deliveries, 10); n != 0 || !errors.Is(err, scheduler.ErrFenced) {
				r.Errorf("Rescue under an old lease moved %d, %v, want ErrFenced", n, err)
			}
			r.finish(f, "w", scheduler.Done, time.Time{})
		}},

		// A firing that kills its worker each time must not kill them all.
		{name: "too many deliveries", run: func(r *rig) {
			p := r.overdue("k", 1)
			f := r.running(p, "w", 0)
			for d := 1; d < 5; d++ {
				r.wantCounts("before its rescue", f, d, d)
				if n := r.rescue(f.Shard, "w", 5, 10); n != 1 {
					r.Errorf("Rescue %d moved %d, want 1", d, n)
				}
				f = r.takeOne(p, "w")
			}
			if n := r.rescue(f.Shard, "w", 5, 10); n != 1 {
				r.Errorf("the last Rescue moved %d, want 1", n)
			}
			r.wantNothing(p)
			got := r.dead("k")
			if len(got) != 1 || got[0].Firing.ID() != f.ID() || !strings.Contains(got[0].Error, "worker lost") {
				r.Errorf("dead letters = %+v, want one, \"worker lost\"", got)
			}
			if s := r.state(); s.Queued[p.Action]+s.Running[p.Action]+s.Retries != 0 || s.Dead != 1 {
				r.Errorf("after all: %+v, want one dead letter", s)
			}
		}},

		// A worker that finishes while it is rescued: one of the two wins, and the
		// firing neither vanishes nor runs on twice.
		{name: "rescue races with finishes", run: func(r *rig) {
			const n = 60
			p := r.overdue("k", 1, Every(1, 0))
			r.backlog(p, n)
			shard := r.shard(p)
			fs := r.take(shard, "slow", p.Action, n)
			l := r.lease(shard)
			seen, _ := r.holder(shard, "slow")
			var finished, rescued int
			var wg sync.WaitGroup
			wg.Go(func() {
				for _, f := range fs {
					e := scheduler.Finish{Firing: f, Verdict: scheduler.Done, Attempt: &scheduler.Attempt{
						Firing: f.ID(), Key: "k", Action: p.Action, Due: f.Due, Attempt: 1, Outcome: scheduler.Succeeded,
					}}
					as, err := r.store.Finish(r.ctx, shard, "slow", []scheduler.Finish{e})
					if err != nil {
						r.Errorf("Finish: %v", err)
					} else if as[0] == scheduler.FinishedOK {
						finished++
					}
				}
			})
			wg.Go(func() {
				for range n {
					k, err := r.store.Rescue(r.ctx, l, seen, deliveries, 1)
					if err != nil {
						r.Errorf("Rescue: %v", err)
					}
					rescued += k
				}
			})
			wg.Wait()
			again := r.take(shard, "w", p.Action, 2*n)
			if finished+rescued != n || len(again) != rescued {
				r.Errorf("of %d firings %d were finished, %d rescued, %d queued again", n, finished, rescued, len(again))
			}
			if got := r.history("k"); len(got) != finished {
				r.Errorf("history has %d entries, want %d", len(got), finished)
			}
		}},
	}
}
