package storetest

import (
	"context"
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

// findings is what Check reports.
func (r *rig) findings() (all []scheduler.Finding) {
	r.Helper()
	if err := r.store.Check(r.ctx, func(f scheduler.Finding) { all = append(all, f) }); err != nil {
		r.Fatalf("Check: %v", err)
	}
	shards := append(r.store.ShardIDs(), scheduler.WholeDeployment)
	for _, f := range all {
		if !slices.Contains(shards, f.Shard) || f.Severity > scheduler.SeverityError || f.Subject == "" || f.Problem == "" {
			r.Errorf("finding %+v, want one of shards %v, a known severity, a subject and a problem", f, shards)
		}
	}
	return all
}

// wantWhole says that everything in the store fits together.
func (r *rig) wantWhole() {
	r.Helper()
	for _, f := range r.findings() {
		if f.Severity == scheduler.SeverityError {
			r.Errorf("Check found %+v, want no error", f)
		}
	}
}

// wantFound says that Check has something to say about key.
func (r *rig) wantFound(what, key string) {
	r.Helper()
	all := r.findings()
	for _, f := range all {
		if f.Severity >= scheduler.SeverityWarning && strings.Contains(f.Subject+" "+f.Problem, key) {
			return
		}
	}
	r.Errorf("Check says nothing of %s of %q; it found %+v", what, key, all)
}

func checkRows() []row {
	return []row{
		// A store that holds something in every state is well.
		{name: "every state", run: func(r *rig) {
			r.wantWhole()
			r.put(NewPlan("later", WithDue(r.now()+3600)), r.overdue("calendar {a} \"'* 任务", 3))
			p := r.overdue("k", 100, Every(1, 0))
			r.backlog(p, 10)
			fs := r.take(r.shard(p), "w", p.Action, 6)
			r.finish(fs[0], "w", scheduler.Retry, r.clock().Add(time.Hour))
			r.finish(fs[1], "w", scheduler.Retry, r.ago(time.Minute))
			r.finish(fs[2], "w", scheduler.Defer, r.clock().Add(time.Hour))
			r.finish(fs[3], "w", scheduler.Bury, time.Time{})
			r.finish(fs[4], "w", scheduler.Done, time.Time{})
			gone := r.overdue("gone", 200, Every(1, 0), WithAction("a"))
			r.finish(r.running(gone, "w", gone.Due+1), "w", scheduler.Retry, r.clock().Add(time.Hour))
			r.wantWhole()
			r.remove("gone")
			r.put(r.overdue("k", 300, WithAction("other")))
			r.wantWhole()
		}},

		// What is only under way is not taken for broken.
		{name: "while it works", run: func(r *rig) {
			ctx, cancel := context.WithCancel(r.ctx)
			defer cancel()
			var wg sync.WaitGroup
			for w := range 3 {
				wg.Go(func() {
					worker := fmt.Sprintf("w%d", w)
					for i := 0; ctx.Err() == nil; i++ {
						p := r.overdue(fmt.Sprintf("%s-%d", worker, i%7), i, WithAction(worker))
						r.put(p)
						f := r.running(r.overdue(p.Key, i, WithAction(worker)), worker, p.Due+recurring)
						if i%3 == 0 {
							r.finish(f, worker, scheduler.Retry, r.ago(time.Minute))
							r.promote(f.Shard, 10)
							r.take(f.Shard, worker, worker, 10) // stays in hands
						} else {
							r.finish(f, worker, scheduler.Done, time.Time{})
						}
						r.remove(p.Key)
					}
				})
			}
			for range 10 {
				r.wantWhole()
			}
			cancel()
			wg.Wait()
			r.wantWhole()
		}},

		// A plan that cannot be read is found, also once it is in quarantine.
		{name: "undecodable plan", needs: needsCorrupt, run: func(r *rig) {
			p := r.overdue("broken", 1)
			r.put(p, r.overdue("sound", 2))
			shard := r.shard(p)
			r.h.Corrupt(p)
			r.wantFound("the undecodable plan", "broken")
			r.due(shard, p.Action, 0, r.now())
			if all := r.findings(); !slices.ContainsFunc(all, func(f scheduler.Finding) bool {
				return f.Severity == scheduler.SeverityWarning && f.Shard == shard
			}) {
				r.Errorf("Check found %+v, want a warning of the plan in quarantine", all)
			}
		}},

		// A schedule entry that leads nowhere is found.
		{name: "entry without a plan", needs: needsOrphan, run: func(r *rig) {
			p := r.overdue("orphan", 1)
			r.put(p, r.overdue("sound", 2))
			r.shard(p)
			r.h.Orphan(p)
			r.wantFound("the entry without a plan", "orphan")
		}},
	}
}

func replicaRows() []row {
	return []row{
		// Replicas are known to all, and asking makes none known.
		{name: "replicas", run: func(r *rig) {
			want := func(want ...scheduler.Replica) {
				r.Helper()
				for _, store := range []scheduler.Store{r.store, r.peer()} {
					got, err := store.Replicas(r.ctx)
					if err != nil {
						r.Fatalf("Replicas: %v", err)
					}
					if d := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.IgnoreFields(scheduler.Replica{}, "Seen")); d != "" {
						r.Errorf("Replicas (-want +got):\n%s", d)
					}
					for _, s := range got {
						if d := r.clock().Sub(s.Seen); d < -2*time.Second || d > rowBound {
							r.Errorf("%s was seen %v ago", s.ID, d)
						}
					}
				}
			}
			want()
			a := scheduler.Replica{ID: "a", Address: "10.0.0.1:6458", Version: "1.0", Offset: 3 * time.Millisecond, Leads: []int{0}, Eager: true, Started: r.ago(time.Hour)}
			b := scheduler.Replica{ID: "b", Address: "[::1]:6458", Version: "1.1", Started: r.ago(time.Minute)}
			r.announce(r.peer(), b)
			r.announce(r.store, a)
			want(a, b)
			a.Leads = nil
			r.announce(r.store, a)
			want(a, b)
		}},

		// What a dead process left behind under an id holds up nobody.
		{name: "replica id of the dead", run: func(r *rig) {
			r.announce(r.store, scheduler.Replica{ID: "a", Started: r.ago(time.Hour)})
			for range 3 {
				r.announce(r.peer(), scheduler.Replica{ID: "a", Started: r.ago(time.Minute)})
			}
		}},

		// Of two that live under one id the one that started later is told.
		{name: "replica id taken", needs: needsPeer, run: func(r *rig) {
			first := scheduler.Replica{ID: "a", Address: "first", Started: r.ago(time.Hour)}
			second := scheduler.Replica{ID: "a", Address: "second", Started: r.ago(time.Minute)}
			r.announce(r.store, first)
			taken := false
			for range 3 {
				_, err := r.peer().Announce(r.ctx, second)
				if taken = errors.Is(err, scheduler.ErrReplicaTaken); taken {
					break
				}
				if err != nil {
					r.Fatalf("Announce: %v", err)
				}
				time.Sleep(10 * time.Millisecond) // a store's clock may count milliseconds
				r.announce(r.store, first)        // which is never told
				time.Sleep(10 * time.Millisecond)
			}
			got, err := r.store.Replicas(r.ctx)
			if !taken || err != nil || len(got) != 1 || got[0].Address != "first" {
				r.Errorf("told: %v; Replicas = %+v, %v, want the first", taken, got, err)
			}
		}},
	}
}

func (r *rig) announce(s scheduler.Store, a scheduler.Replica) {
	r.Helper()
	if _, err := s.Announce(r.ctx, a); err != nil {
		r.Fatalf("Announce of %s, started %v: %v", a.ID, a.Started, err)
	}
}

func needsPeer(h Harness) string {
	if h.Peer == nil {
		return "Peer"
	}
	return ""
}
