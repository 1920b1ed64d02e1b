package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/snower/forsun/scheduler"
)

// wantTrust says that a lease is to be trusted for a while, by the monotonic
// clock.
func (r *rig) wantTrust(what string, l scheduler.Lease) {
	r.Helper()
	if d := time.Until(l.Until); d <= 0 || d > time.Hour {
		r.Errorf("%s: trust ends in %v, want a while", what, d)
	}
	if !strings.Contains(l.Until.String(), " m=") {
		r.Errorf("%s: trust ends at %v, which has no monotonic reading", what, l.Until)
	}
}

func leaseRows() []row {
	return []row{
		// A deployment has shards, each with its id, in order, always the same.
		{name: "shard ids", run: func(r *rig) {
			ids := r.store.ShardIDs()
			if len(ids) == 0 || !slices.IsSorted(ids) || len(slices.Compact(slices.Clone(ids))) != len(ids) {
				r.Errorf("ShardIDs = %v, want at least one, in order, each once", ids)
			}
			if again := r.peer().ShardIDs(); !slices.Equal(ids, again) {
				r.Errorf("ShardIDs = %v, then %v", ids, again)
			}
		}},

		// A vacant lease is given, with a value that names its term and holder;
		// a held one is not, not even to its holder.
		{name: "campaign", run: func(r *rig) {
			for _, shard := range r.store.ShardIDs() {
				l, err := r.store.Campaign(r.ctx, shard, "a")
				if err != nil {
					r.Fatalf("Campaign: %v", err)
				}
				if want := fmt.Sprintf("%d:a:", l.Term); l.Shard != shard || l.Term == 0 || !strings.HasPrefix(l.Value, want) || len(l.Value) == len(want) {
					r.Errorf("lease = %+v, want shard %d, a term, and a value %s<random>", l, shard, want)
				}
				r.wantTrust("a new lease", l)
				for _, store := range []scheduler.Store{r.store, r.peer()} {
					for _, replica := range []string{"a", "b"} {
						if _, err := store.Campaign(r.ctx, shard, replica); !errors.Is(err, scheduler.ErrLeaseHeld) {
							r.Errorf("Campaign of %s for a held lease: %v, want ErrLeaseHeld", replica, err)
						}
					}
				}
			}
		}},

		// A renewed lease is the same term, trusted for longer; it stays the
		// current one.
		{name: "renew", run: func(r *rig) {
			shard := r.store.ShardIDs()[0]
			first := r.campaign(shard, "a")
			l := first
			for range 5 {
				next, err := r.store.Renew(r.ctx, l)
				if err != nil {
					r.Fatalf("Renew: %v", err)
				}
				if next.Term != l.Term || next.Shard != shard || next.Until.Before(l.Until) {
					r.Errorf("renewed %+v to %+v", l, next)
				}
				r.wantTrust("a renewed lease", next)
				l = next
			}
			if n, _, err := r.store.Promote(r.ctx, scheduler.PromoteRequest{Lease: l, Now: r.clock(), Limit: 1}); n != 0 || err != nil {
				r.Errorf("a step under a renewed lease: %d, %v", n, err)
			}
		}},

		// Terms only grow, and no two leases are alike.
		{name: "terms grow", run: func(r *rig) {
			shard := r.store.ShardIDs()[0]
			values := map[string]bool{}
			var term uint64
			for i := range 10 {
				store := r.store
				if i%2 == 1 {
					store = r.peer()
				}
				l, err := store.Campaign(r.ctx, shard, "a")
				if err != nil {
					r.Fatalf("Campaign: %v", err)
				}
				if l.Term <= term || values[l.Value] {
					r.Errorf("lease %+v after term %d and values %v", l, term, values)
				}
				term, values[l.Value] = l.Term, true
				if err := store.Resign(r.ctx, l); err != nil {
					r.Fatalf("Resign: %v", err)
				}
			}
		}},

		// A lease that is no longer the current one cannot be prolonged, and
		// giving it up takes nothing from who leads now.
		{name: "old lease", run: func(r *rig) {
			shard := r.store.ShardIDs()[0]
			old := r.campaign(shard, "a")
			if err := r.store.Resign(r.ctx, old); err != nil {
				r.Fatalf("Resign: %v", err)
			}
			if _, err := r.store.Renew(r.ctx, old); !errors.Is(err, scheduler.ErrFenced) {
				r.Errorf("Renew of a lease given up: %v, want ErrFenced", err)
			}
			l := r.campaign(shard, "b")
			if _, err := r.store.Renew(r.ctx, old); !errors.Is(err, scheduler.ErrFenced) {
				r.Errorf("Renew of an old lease: %v, want ErrFenced", err)
			}
			if err := r.store.Resign(r.ctx, old); err != nil && !errors.Is(err, scheduler.ErrFenced) {
				r.Errorf("Resign of an old lease: %v", err)
			}
			if _, err := r.store.Renew(r.ctx, l); err != nil {
				r.Errorf("Renew of the current lease after that: %v", err)
			}
			if _, err := r.store.Campaign(r.ctx, shard, "a"); !errors.Is(err, scheduler.ErrLeaseHeld) {
				r.Errorf("Campaign after that: %v, want ErrLeaseHeld", err)
			}
		}},

		// Of many who bid at once one gets it.
		{name: "concurrent campaigns", run: func(r *rig) {
			shard := r.store.ShardIDs()[0]
			var won [8]scheduler.Lease
			var wg sync.WaitGroup
			for i := range won {
				store := r.store
				if i%2 == 1 {
					store = r.peer()
				}
				wg.Go(func() {
					l, err := store.Campaign(r.ctx, shard, fmt.Sprintf("r%d", i))
					if err == nil {
						won[i] = l
					} else if !errors.Is(err, scheduler.ErrLeaseHeld) {
						r.Errorf("Campaign: %v", err)
					}
				})
			}
			wg.Wait()
			var leaders int
			for _, l := range won {
				if l.Term != 0 {
					leaders++
				}
			}
			if leaders != 1 {
				r.Errorf("%d replicas won the lease, want 1", leaders)
			}
		}},

		// Shards have leases of their own.
		{name: "each shard by itself", run: func(r *rig) {
			ids := r.store.ShardIDs()
			var ls []scheduler.Lease
			for i, shard := range ids {
				ls = append(ls, r.campaign(shard, fmt.Sprintf("r%d", i)))
			}
			if err := r.store.Resign(r.ctx, ls[0]); err != nil {
				r.Fatalf("Resign: %v", err)
			}
			for _, l := range ls[1:] {
				if _, err := r.store.Renew(r.ctx, l); err != nil {
					r.Errorf("Renew of shard %d after shard %d was given up: %v", l.Shard, ls[0].Shard, err)
				}
			}
			states, err := r.store.Shards(r.ctx, r.clock())
			if err != nil || len(states) != len(ids) {
				r.Fatalf("Shards gave %d, %v, want %d", len(states), err, len(ids))
			}
			for i, s := range states {
				want := fmt.Sprintf("r%d", i)
				if i == 0 {
					want = ""
				}
				if s.Shard != ids[i] || s.Leader != want || s.Leader != "" && s.Term != ls[i].Term {
					r.Errorf("shard %d: leader %q, term %d, want shard %d, %q, %d", s.Shard, s.Leader, s.Term, ids[i], want, ls[i].Term)
				}
			}
		}},

		// What a replica says of itself all others see, itself included; saying it
		// again replaces it.
		{name: "announce", run: func(r *rig) {
			started := r.ago(time.Hour)
			a := scheduler.Replica{ID: "a", Address: "10.0.0.1:6458", Version: "1.0", Offset: -3 * time.Millisecond, Leads: []int{0, 2}, Eager: true, Started: started}
			b := scheduler.Replica{ID: "b", Address: "[::1]:6458", Version: "1.1", Started: started}
			seen := func(got []scheduler.Replica, err error, want ...scheduler.Replica) {
				r.Helper()
				if err != nil {
					r.Fatalf("Announce: %v", err)
				}
				slices.SortFunc(got, func(a, b scheduler.Replica) int { return strings.Compare(a.ID, b.ID) })
				if d := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.IgnoreFields(scheduler.Replica{}, "Seen")); d != "" {
					r.Errorf("Announce returned (-want +got):\n%s", d)
				}
				for _, s := range got {
					if d := r.clock().Sub(s.Seen); d < -2*time.Second || d > rowBound {
						r.Errorf("%s was seen %v ago", s.ID, d)
					}
				}
			}
			got, err := r.store.Announce(r.ctx, a)
			seen(got, err, a)
			got, err = r.peer().Announce(r.ctx, b)
			seen(got, err, a, b)
			a.Leads, a.Eager = nil, false
			got, err = r.store.Announce(r.ctx, a)
			seen(got, err, a, b)
		}},

		// The store's clock goes on, and does not go back.
		{name: "now", run: func(r *rig) {
			first, err := r.store.Now(r.ctx)
			if err != nil || first.IsZero() {
				r.Fatalf("Now = %v, %v", first, err)
			}
			if r.h.Advance != nil {
				r.h.Advance(3 * time.Second)
			}
			second, err := r.store.Now(r.ctx)
			if err != nil || second.Before(first) || second.Sub(first) > rowBound {
				r.Errorf("Now = %v, then %v, %v", first, second, err)
			}
			if r.h.Now != nil {
				if d := second.Sub(r.h.Now()); d < -rowBound || d > time.Millisecond {
					r.Errorf("Now = %v, the harness says %v", second, r.h.Now())
				}
			}
		}},
	}
}
