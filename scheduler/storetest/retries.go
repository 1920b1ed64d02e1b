package storetest

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/snower/forsun/scheduler"
)

// waiting lets one firing of each of n due seconds wait for a retry at the times
// that at gives.
func (r *rig) waiting(p *scheduler.Plan, n int, at func(i int) time.Time) []*scheduler.Firing {
	r.Helper()
	r.backlog(p, n)
	fs := r.take(r.shard(p), "w", p.Action, n)
	if len(fs) != n {
		r.Fatalf("Take gave %s, want %d", describe(fs), n)
	}
	for i, f := range fs {
		r.finish(f, "w", scheduler.Retry, at(i))
	}
	return fs
}

func retryRows() []row {
	return []row{
		// A retry comes when the store's clock and the leader's have both reached
		// its time, and Promote says when to look again.
		{name: "not before its time", run: func(r *rig) {
			p := r.overdue("k", 1)
			at := r.clock().Add(time.Hour).Truncate(time.Millisecond)
			f := r.running(p, "w", 0)
			r.finish(f, "w", scheduler.Retry, at)
			for _, now := range []time.Time{r.clock(), at.Add(-time.Millisecond), at.Add(time.Hour)} { // the last is a leader's fast clock
				n, next, err := r.store.Promote(r.ctx, scheduler.PromoteRequest{Lease: r.lease(f.Shard), Now: now, Limit: 10})
				if n != 0 || err != nil {
					r.Errorf("Promote at %v queued %d, %v; the retry is for %v", now, n, err, at)
				}
				if d := next.Sub(at); d < -time.Millisecond || d > time.Millisecond {
					r.Errorf("Promote says the next is due at %v, want %v", next, at)
				}
			}
			r.wantNothing(p)
		}},

		// The leader's clock counts as well as the store's.
		{name: "not before the leader's time", run: func(r *rig) {
			p := r.overdue("k", 1)
			at := r.ago(time.Minute)
			f := r.running(p, "w", 0)
			r.finish(f, "w", scheduler.Retry, at)
			n, next, err := r.store.Promote(r.ctx, scheduler.PromoteRequest{Lease: r.lease(f.Shard), Now: at.Add(-time.Millisecond), Limit: 10})
			if n != 0 || err != nil {
				r.Errorf("Promote a millisecond early queued %d, %v", n, err)
			}
			if d := next.Sub(at); d < -time.Millisecond || d > time.Millisecond {
				r.Errorf("Promote says the next is due at %v, want %v", next, at)
			}
			n, next, err = r.store.Promote(r.ctx, scheduler.PromoteRequest{Lease: r.lease(f.Shard), Now: at, Limit: 10})
			if n != 1 || err != nil || !next.IsZero() {
				r.Errorf("Promote at its time queued %d, next %v, %v, want 1, none", n, next, err)
			}
			r.wantCounts("the retry", r.takeOne(p, "w"), 2, 1)
		}},

		// Where the fleet agrees that the store's clock is wrong, that counts here as
		// for claims.
		{name: "skew", run: func(r *rig) {
			p := r.overdue("k", 1)
			f := r.running(p, "w", 0)
			at := r.clock().Add(time.Hour)
			r.finish(f, "w", scheduler.Retry, at)
			for _, tt := range []struct {
				skew time.Duration
				want int
			}{{0, 0}, {-2 * time.Hour, 0}, {2 * time.Hour, 1}} {
				n, _, err := r.store.Promote(r.ctx, scheduler.PromoteRequest{Lease: r.lease(f.Shard), Now: at.Add(time.Second), Skew: tt.skew, Limit: 10})
				if n != tt.want || err != nil {
					r.Errorf("Promote of a retry in an hour with a skew of %v queued %d, %v, want %d", tt.skew, n, err, tt.want)
				}
			}
		}},

		// The oldest first, at most limit, and each once.
		{name: "order and limit", run: func(r *rig) {
			p := r.overdue("k", 1, Every(1, 0))
			base := r.ago(time.Hour)
			order := []int{3, 0, 4, 1, 2}
			fs := r.waiting(p, 5, func(i int) time.Time { return base.Add(time.Duration(order[i]) * time.Second) })
			shard := r.shard(p)
			var got []*scheduler.Firing
			for i, want := range []int{2, 2, 1, 0} {
				n, next := r.promote(shard, 2)
				if n != want {
					r.Fatalf("Promote %d queued %d, want %d", i, n, want)
				}
				left := 5 - len(got) - n
				if left == 0 != next.IsZero() {
					r.Errorf("with %d left Promote says the next is due at %v", left, next)
				}
				if at := base.Add(time.Duration(5-left) * time.Second); left > 0 && (next.Before(at.Add(-time.Millisecond)) || next.After(at.Add(time.Millisecond))) {
					r.Errorf("with %d left Promote says the next is due at %v, want %v", left, next, at)
				}
				got = append(got, r.take(shard, "w", p.Action, 10)...)
			}
			for i, f := range got {
				var from int
				for j, o := range order {
					if o == i {
						from = j
					}
				}
				if f.ID() != fs[from].ID() {
					r.Errorf("retry %d is of second %d, want %d", i, f.Due, fs[from].Due)
				}
			}
			if len(got) != 5 {
				r.Errorf("%s were promoted, want 5", describe(got))
			}
		}},

		// Two Promotes at the same time queue every retry once.
		{name: "concurrent", run: func(r *rig) {
			const n = 60
			p := r.overdue("k", 1, Every(1, 0))
			at := r.ago(time.Hour)
			r.waiting(p, n, func(i int) time.Time { return at.Add(time.Duration(i/2) * time.Millisecond) })
			shard := r.shard(p)
			l, now := r.lease(shard), r.clock()
			var counts [3]int
			var wg sync.WaitGroup
			for i := range counts {
				wg.Go(func() {
					for {
						k, _, err := r.store.Promote(r.ctx, scheduler.PromoteRequest{Lease: l, Now: now, Limit: 7})
						if err != nil {
							r.Errorf("Promote: %v", err)
						}
						if counts[i] += k; k == 0 {
							return
						}
					}
				})
			}
			wg.Wait()
			if sum := counts[0] + counts[1] + counts[2]; sum != n {
				r.Errorf("%d retries were promoted, want %d", sum, n)
			}
			if fs := r.take(shard, "w", p.Action, 2*n); len(fs) != n {
				r.Errorf("%s are queued, want %d", describe(fs), n)
			}
		}},

		// Only the leader promotes.
		{name: "fenced", run: func(r *rig) {
			p := r.overdue("k", 1)
			f := r.running(p, "w", 0)
			r.finish(f, "w", scheduler.Retry, r.ago(time.Minute))
			l := r.lease(f.Shard)
			r.depose(l)
			if n, _, err := r.store.Promote(r.ctx, scheduler.PromoteRequest{Lease: l, Now: r.clock(), Limit: 10}); n != 0 || !errors.Is(err, scheduler.ErrFenced) {
				r.Errorf("Promote under an old lease queued %d, %v, want ErrFenced", n, err)
			}
			r.wantNothing(p)
			if n, _ := r.promote(f.Shard, 10); n != 1 {
				r.Errorf("the successor's Promote queued %d, want 1", n)
			}
		}},

		// A retry goes to the queue of its action.
		{name: "each action by itself", run: func(r *rig) {
			plans := r.inOneShard(4, func(i int) *scheduler.Plan {
				return r.overdue(fmt.Sprintf("k%d", i), i, WithAction([]string{"http", "shell"}[i%2]))
			})
			want := map[string]int{}
			for _, p := range plans {
				r.advance(p, 0)
				r.finish(r.takeOne(p, "w"), "w", scheduler.Retry, r.ago(time.Minute))
				want[p.Action]++
			}
			shard := r.shard(plans[0])
			if n, _ := r.promote(shard, 10); n != 4 {
				r.Errorf("Promote queued %d, want 4", n)
			}
			for action, n := range want {
				if fs := r.take(shard, "w", action, 10); len(fs) != n {
					r.Errorf("of %s %s are queued, want %d", action, describe(fs), n)
				}
			}
		}},
	}
}
