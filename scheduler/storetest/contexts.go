package storetest

import (
	"context"
	"errors"
	"time"

	"github.com/snower/forsun/scheduler"
)

// prompt is how soon a call comes back once its context is done, on a machine
// that is busy with other things.
const prompt = 5 * time.Second

// calls are all methods of a store that can fail, each on arguments that fit a
// running firing f of a plan in the store.
func (r *rig) calls(l scheduler.Lease, f *scheduler.Firing) map[string]func(context.Context) error {
	r.Helper()
	s, now := r.store, r.clock()
	return map[string]func(context.Context) error{
		"Put":    func(ctx context.Context) error { return s.Put(ctx, []*scheduler.Plan{NewPlan("called")})[0] },
		"Get":    func(ctx context.Context) error { _, err := s.Get(ctx, f.Plan.Key); return err },
		"Remove": func(ctx context.Context) error { _, err := s.Remove(ctx, f.Plan.Key); return err },
		"List":   func(ctx context.Context) error { _, _, err := s.List(ctx, scheduler.ListQuery{Limit: 10}); return err },
		"DueAt": func(ctx context.Context) error {
			_, _, err := s.DueAt(ctx, scheduler.DueAtQuery{Limit: 10})
			return err
		},
		"Campaign": func(ctx context.Context) error { _, err := s.Campaign(ctx, l.Shard, "other"); return err },
		"Renew":    func(ctx context.Context) error { _, err := s.Renew(ctx, l); return err },
		"Resign":   func(ctx context.Context) error { return s.Resign(ctx, l) },
		"Announce": func(ctx context.Context) error { _, err := s.Announce(ctx, scheduler.Replica{ID: "a"}); return err },
		"Now":      func(ctx context.Context) error { _, err := s.Now(ctx); return err },
		"Beat":     func(ctx context.Context) error { return s.Beat(ctx, "w") },
		"Holders":  func(ctx context.Context) error { _, err := s.Holders(ctx, l.Shard); return err },
		"Held":     func(ctx context.Context) error { _, err := s.Held(ctx, l.Shard, "w", 10); return err },
		"History": func(ctx context.Context) error {
			_, _, err := s.History(ctx, scheduler.JournalQuery{Limit: 10})
			return err
		},
		"DeadLetters": func(ctx context.Context) error {
			_, _, err := s.DeadLetters(ctx, scheduler.JournalQuery{Limit: 10})
			return err
		},
		"Redrive": func(ctx context.Context) error {
			_, err := s.Redrive(ctx, []string{"1-1"})
			return err
		},
		"Purge": func(ctx context.Context) error {
			_, err := s.Purge(ctx, []string{"1-1"})
			return err
		},
		"Shards":   func(ctx context.Context) error { _, err := s.Shards(ctx, now); return err },
		"Replicas": func(ctx context.Context) error { _, err := s.Replicas(ctx); return err },
		"Check":    func(ctx context.Context) error { return s.Check(ctx, func(scheduler.Finding) {}) },
		"Watch":    func(ctx context.Context) error { return s.Watch(ctx, func(scheduler.Event) {}) },
		"Due": func(ctx context.Context) error {
			_, err := s.Due(ctx, scheduler.DueQuery{Shard: l.Shard, Action: DefaultAction, To: now.Unix(), Limit: 10})
			return err
		},
		"Claim": func(ctx context.Context) error {
			_, err := s.Claim(ctx, scheduler.ClaimBatch{Lease: l, Action: DefaultAction, Cutoff: now.Unix(), Claims: []scheduler.Claim{claimOf(f.Plan, 0)}})
			return err
		},
		"Promote": func(ctx context.Context) error {
			_, _, err := s.Promote(ctx, scheduler.PromoteRequest{Lease: l, Now: now, Limit: 10})
			return err
		},
		"Rescue": func(ctx context.Context) error {
			_, err := s.Rescue(ctx, l, scheduler.Holder{Worker: "nobody"}, deliveries, 10)
			return err
		},
		"Take": func(ctx context.Context) error {
			_, _, err := s.Take(ctx, scheduler.TakeRequest{Shard: l.Shard, Worker: "w", Slots: map[string]int{DefaultAction: 1}})
			return err
		},
		"Finish": func(ctx context.Context) error {
			_, err := s.Finish(ctx, l.Shard, "w", []scheduler.Finish{{Firing: f, Verdict: scheduler.Return}})
			return err
		},
	}
}

// within fails the row if do takes longer than prompt.
func (r *rig) within(what string, do func() error) error {
	r.Helper()
	ended := make(chan error, 1)
	go func() { ended <- do() }()
	select {
	case err := <-ended:
		return err
	case <-time.After(prompt):
		r.Errorf("%s has not come back after %v", what, prompt)
		return nil
	}
}

func contextRows() []row {
	return []row{
		// With a context that is done every call comes back soon. A store that can
		// answer at once may; one that could not says so.
		{name: "cancelled", run: func(r *rig) {
			p := r.overdue("k", 1, Every(1, 0))
			f := r.running(p, "w", p.Due+1)
			ctx, cancel := context.WithCancel(r.ctx)
			cancel()
			for name, call := range r.calls(r.lease(f.Shard), f) {
				if err := r.within(name+" with a cancelled context", func() error { return call(ctx) }); errors.Is(err, scheduler.ErrClosed) {
					r.Errorf("%s with a cancelled context: %v", name, err)
				}
			}
			r.put(NewPlan("after")) // the store goes on
		}},

		// Watch ends with its context, and says why.
		{name: "watch", run: func(r *rig) {
			ctx, cancel := context.WithCancel(r.ctx)
			time.AfterFunc(20*time.Millisecond, cancel)
			if err := r.within("Watch", func() error { return r.store.Watch(ctx, func(scheduler.Event) {}) }); errors.Is(err, scheduler.ErrClosed) {
				r.Errorf("Watch of an open store: %v", err)
			}
		}},

		// After Close every call fails with ErrClosed, and nothing panics.
		{name: "closed", run: func(r *rig) {
			p := r.overdue("k", 1, Every(1, 0))
			f := r.running(p, "w", p.Due+1)
			calls := r.calls(r.lease(f.Shard), f)
			if err := r.within("Close", r.store.Close); err != nil {
				r.Errorf("Close: %v", err)
			}
			for name, call := range calls {
				if err := r.within(name, func() error { return call(r.ctx) }); !errors.Is(err, scheduler.ErrClosed) {
					r.Errorf("%s after Close: %v, want ErrClosed", name, err)
				}
			}
			if err := r.within("a second Close", r.store.Close); err != nil && !errors.Is(err, scheduler.ErrClosed) {
				r.Errorf("a second Close: %v", err)
			}
		}},

		// Close ends what is under way: who watches is let go, and who writes has
		// an answer, of which each is true.
		{name: "close under load", run: func(r *rig) {
			watch := make(chan error, 1)
			go func() { watch <- r.store.Watch(r.ctx, func(scheduler.Event) {}) }()
			writers := make(chan error, 4)
			for range cap(writers) {
				go func() {
					for {
						errs := r.store.Put(r.ctx, []*scheduler.Plan{NewPlan("k"), NewPlan("k2")})
						if len(errs) != 2 {
							writers <- errors.New("put of two plans did not give two answers")
							return
						}
						if errs[1] != nil {
							writers <- errs[1]
							return
						}
					}
				}()
			}
			time.Sleep(20 * time.Millisecond) // to be in the middle of it
			if err := r.within("Close", r.store.Close); err != nil {
				r.Errorf("Close: %v", err)
			}
			bound := time.After(prompt)
			for range cap(writers) {
				select {
				case err := <-writers:
					if !errors.Is(err, scheduler.ErrClosed) {
						r.Errorf("Put during Close: %v, want ErrClosed", err)
					}
				case <-bound:
					r.Fatalf("a Put has not come back %v after Close", prompt)
				}
			}
			select {
			case <-watch:
			case <-bound:
				r.Errorf("Watch has not come back %v after Close", prompt)
			}
		}},
	}
}
