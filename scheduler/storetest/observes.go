package storetest

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/snower/forsun/scheduler"
)

func observeRows() []row {
	return []row{
		// Nothing is what an empty store shows, for each of its shards.
		{name: "empty", run: func(r *rig) {
			got, err := r.store.Shards(r.ctx, r.clock())
			if err != nil {
				r.Fatalf("Shards: %v", err)
			}
			var want []scheduler.ShardState
			for _, shard := range r.store.ShardIDs() {
				want = append(want, scheduler.ShardState{Shard: shard})
			}
			if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" {
				r.Errorf("Shards of an empty store (-want +got):\n%s", d)
			}
		}},

		// Every state of a firing is counted in its place.
		{name: "numbers", run: func(r *rig) {
			r.put(NewPlan("later", WithDue(r.now()+3600)))
			r.put(r.overdue("unclaimed", 7), r.overdue("oldest", 3))
			r.backlog(r.overdue("queued", 100, Every(1, 0), WithAction("a")), 5)
			p := r.overdue("k", 100, Every(1, 0), WithAction("b"))
			r.backlog(p, 10)
			fs := r.take(r.shard(p), "w", "b", 7)
			r.finish(fs[0], "w", scheduler.Retry, r.clock().Add(time.Hour))
			r.finish(fs[1], "w", scheduler.Retry, r.clock().Add(2*time.Hour))
			r.finish(fs[2], "w", scheduler.Bury, time.Time{})
			r.finish(fs[3], "w", scheduler.Done, time.Time{})
			want := scheduler.ShardState{
				Plans: 5, Overdue: 4, OldestDue: r.overdue("", 3).Due,
				Queued: map[string]int64{"a": 5, "b": 3}, Running: map[string]int64{"b": 3}, Retries: 2, Dead: 1,
			}
			got := r.state()
			if d := got.OldestDue - want.OldestDue; d < -60 || d > 60 { // the second may have changed
				r.Errorf("the oldest is due at %d, want %d", got.OldestDue, want.OldestDue)
			}
			want.OldestDue = got.OldestDue
			nonzero := cmpopts.IgnoreMapEntries(func(_ string, n int64) bool { return n == 0 })
			if d := cmp.Diff(want, got, cmpopts.EquateEmpty(), nonzero); d != "" {
				r.Errorf("Shards (-want +got):\n%s", d)
			}
		}},

		// Overdue is what was due before the given time.
		{name: "overdue", run: func(r *rig) {
			base := r.now() - 1000
			for i := range 5 {
				r.put(NewPlan(fmt.Sprintf("k%d", i), WithDue(base+int64(i)), WithAction(fmt.Sprintf("a%d", i%2))))
			}
			for before := range int64(7) {
				all, err := r.store.Shards(r.ctx, time.Unix(base+before, 0))
				if err != nil {
					r.Fatalf("Shards: %v", err)
				}
				var n, oldest int64
				for _, s := range all {
					if n += s.Overdue; s.OldestDue != 0 && (oldest == 0 || s.OldestDue < oldest) {
						oldest = s.OldestDue
					}
				}
				want := int64(0)
				if before > 0 {
					want = base
				}
				if n != min(before, 5) || oldest != want {
					r.Errorf("%d s after the first due second: %d overdue, oldest %d, want %d, %d", before, n, oldest, min(before, 5), want)
				}
			}
		}},

		// Every plan created, and every firing claimed, is somewhere: at rest the
		// books balance, whatever happened in between and however concurrently.
		{name: "books balance", run: func(r *rig) {
			const plans, workers = 40, 4
			var want struct{ claimed, done, buried, cancelled int64 }
			var all []*scheduler.Plan
			for i := range plans {
				all = append(all, r.overdue(fmt.Sprintf("k%02d", i), i, Every(1, 3)))
			}
			r.put(all...)
			for _, p := range all {
				r.shard(p)
			}
			for i, p := range all {
				for claim := range min(i%5, 3) { // some have had their last firing
					next := p.Due + 1
					if claim == 2 {
						next = 0
					}
					r.advance(p, next)
					want.claimed++
				}
			}
			var removed int64
			for i := 1; i < plans; i += 5 { // claimed once and not ended
				r.remove(all[i].Key)
				removed++
			}
			var mu sync.Mutex
			var wg sync.WaitGroup
			for w := range workers {
				wg.Go(func() {
					worker := fmt.Sprintf("w%d", w)
					for _, shard := range r.store.ShardIDs() {
						r.workOff(shard, worker, func(v scheduler.Verdict, a scheduler.Finished) {
							mu.Lock()
							defer mu.Unlock()
							switch {
							case a == scheduler.FinishedCancelled:
								want.cancelled++
							case v == scheduler.Done:
								want.done++
							case v == scheduler.Bury:
								want.buried++
							}
						})
					}
				})
			}
			wg.Wait()
			var live, ended int64
			for i := range all {
				switch i % 5 {
				case 0, 2:
					live++
				case 3, 4:
					ended++
				}
			}
			s := r.state()
			if s.Plans != live || s.Plans+ended+removed != plans {
				r.Errorf("of %d plans %d are live, %d ended, %d removed, want %d live", plans, s.Plans, ended, removed, live)
			}
			left := s.Queued[DefaultAction] + s.Running[DefaultAction] + s.Retries
			if s.Dead != want.buried || want.claimed != want.done+want.buried+want.cancelled+left {
				r.Errorf("of %+v firings %d are dead and %d left", want, s.Dead, left)
			}
			if s.Queued[DefaultAction] != 0 || s.Running[DefaultAction] != 0 {
				r.Errorf("at rest %d are queued and %d running", s.Queued[DefaultAction], s.Running[DefaultAction])
			}
			if n := len(r.list("", 100)); int64(n) != live {
				r.Errorf("List shows %d plans, want %d", n, live)
			}
			var scheduled int
			for _, shard := range r.store.ShardIDs() {
				scheduled += len(r.due(shard, DefaultAction, 0, r.now()))
			}
			if int64(scheduled) != live {
				r.Errorf("the schedules hold %d plans, want %d", scheduled, live)
			}
			r.wantWhole()
		}},

		// Other replicas hear of plans that are due soon, of work, and of vacant
		// leases, after they were told that the watch stands. Events are hints that
		// may be lost: what makes one is done again until one comes.
		{name: "watch", run: func(r *rig) {
			events := make(chan scheduler.Event, 4096)
			ctx, cancel := context.WithCancel(r.ctx)
			defer cancel()
			ended := make(chan error, 1)
			go func() {
				ended <- r.peer().Watch(ctx, func(e scheduler.Event) {
					select {
					case events <- e:
					default: // a hint too many
					}
				})
			}()
			hear := func(what string, do func(i int), is func(scheduler.Event) bool) {
				r.Helper()
				var i int
				r.poll(what, func() bool {
					do(i)
					i++
					for wait := time.After(100 * time.Millisecond); ; {
						select {
						case e := <-events:
							if is(e) {
								return true
							}
						case <-wait:
							return false
						}
					}
				})
			}
			select {
			case e := <-events:
				if e.Kind != scheduler.EventAll {
					r.Errorf("the first event is %+v, want EventAll", e)
				}
			case <-time.After(prompt):
				r.Fatalf("the watch has not begun after %v", prompt)
			}
			r.hearAll(hear, func() {
				for {
					select {
					case <-events:
					case <-time.After(50 * time.Millisecond):
						return
					}
				}
			})
			cancel()
			select {
			case <-ended:
			case <-time.After(5 * time.Second):
				r.Errorf("Watch goes on after its context has ended")
			}
		}},
	}
}

// hearAll does everything that others are to hear of. hear does something until
// there is an event of it, quiet waits until there are none.
func (r *rig) hearAll(hear func(what string, do func(i int), is func(scheduler.Event) bool), quiet func()) {
	r.Helper()
	shards := map[int]bool{}
	for _, shard := range r.store.ShardIDs() {
		shards[shard] = true
	}
	overdue := r.now() - 7200
	hear("an event of an overdue plan",
		func(i int) { r.put(NewPlan(fmt.Sprintf("o%d", i), WithDue(overdue))) },
		func(e scheduler.Event) bool {
			return e.Kind == scheduler.EventPlan && e.Due == overdue && shards[e.Shard]
		})
	var soon int64
	hear("an event of a plan for the next second",
		func(i int) {
			soon = r.now() + 1
			r.put(NewPlan(fmt.Sprintf("s%d", i), WithDue(soon)))
		},
		func(e scheduler.Event) bool { return e.Kind == scheduler.EventPlan && e.Due == soon })

	p := r.overdue("work", 1, Every(1, 0))
	r.put(p)
	shard := r.shard(p)
	cause := func() *scheduler.Firing { // of each event another action, by which it is known
		p = r.overdue("work", 1, Every(1, 0), WithAction(p.Action+"'"))
		f := r.running(p, "w", p.Due+1)
		quiet() // what comes now is not of the claim
		return f
	}
	work := func(e scheduler.Event) bool {
		return e.Kind == scheduler.EventWork && e.Shard == shard && (e.Action == "" || e.Action == p.Action)
	}
	hear("an event of claimed work", func(int) { r.advance(p, p.Due+1) }, work)
	hear("an event of returned work", func(int) { r.finish(cause(), "w", scheduler.Return, time.Time{}) }, work)
	hear("an event of promoted work", func(int) {
		r.finish(cause(), "w", scheduler.Retry, r.ago(time.Minute))
		r.promote(shard, 10)
	}, work)
	hear("an event of rescued work", func(int) {
		cause()
		r.rescue(shard, "w", deliveries, 10)
	}, work)
	hear("an event of redriven work", func(int) {
		r.finish(cause(), "w", scheduler.Bury, time.Time{})
		r.redriveAll("work")
	}, work)
	hear("an event of a vacant lease",
		func(int) {
			if err := r.store.Resign(r.ctx, r.lease(shard)); err != nil {
				r.Fatalf("Resign: %v", err)
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			delete(r.leases, shard)
		},
		func(e scheduler.Event) bool { return e.Kind == scheduler.EventVacant && e.Shard == shard })
}

// workOff takes what is queued in a shard, ends it with one verdict after the
// other, and tells what became of each.
func (r *rig) workOff(shard int, worker string, told func(scheduler.Verdict, scheduler.Finished)) {
	for i := 0; ; {
		fs, more, err := r.store.Take(r.ctx, scheduler.TakeRequest{Shard: shard, Worker: worker, Slots: map[string]int{DefaultAction: 2}})
		if err != nil {
			r.Errorf("Take: %v", err)
			return
		}
		if len(fs) == 0 && !more {
			return
		}
		for _, f := range fs {
			v := []scheduler.Verdict{scheduler.Done, scheduler.Retry, scheduler.Bury, scheduler.Done}[i%4]
			i++
			as, err := r.store.Finish(r.ctx, shard, worker, []scheduler.Finish{r.ending(f, v, r.ago(time.Minute))})
			if err != nil || as[0] == scheduler.FinishedNotHeld {
				r.Errorf("Finish: %v, %v", as, err)
				return
			}
			told(v, as[0])
		}
	}
}
