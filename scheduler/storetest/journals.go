package storetest

import (
	"slices"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/snower/forsun/scheduler"
)

// history reads all pages of the history of a key ("": of all), newest first.
func (r *rig) history(key string) []scheduler.Attempt {
	r.Helper()
	return r.historyBy(key, 50)
}

func (r *rig) historyBy(key string, limit int) (all []scheduler.Attempt) {
	r.Helper()
	q := scheduler.JournalQuery{Key: key, Limit: limit}
	for range pages {
		got, next, err := r.store.History(r.ctx, q)
		if err != nil {
			r.Fatalf("History(%q, cursor %q): %v", key, q.Cursor, err)
		}
		if len(got) > limit {
			r.Fatalf("History with limit %d gave %d attempts", limit, len(got))
		}
		all = append(all, got...)
		if next == "" {
			return all
		}
		q.Cursor = next
	}
	r.Fatalf("History(%q) has no end", key)
	return nil
}

// dead reads all pages of the dead letters of a key ("": of all), newest first.
func (r *rig) dead(key string) []scheduler.DeadLetter {
	r.Helper()
	return r.deadBy(key, 50)
}

func (r *rig) deadBy(key string, limit int) (all []scheduler.DeadLetter) {
	r.Helper()
	q := scheduler.JournalQuery{Key: key, Limit: limit}
	for range pages {
		got, next, err := r.store.DeadLetters(r.ctx, q)
		if err != nil {
			r.Fatalf("DeadLetters(%q, cursor %q): %v", key, q.Cursor, err)
		}
		if len(got) > limit {
			r.Fatalf("DeadLetters with limit %d gave %d", limit, len(got))
		}
		all = append(all, got...)
		if next == "" {
			return all
		}
		q.Cursor = next
	}
	r.Fatalf("DeadLetters(%q) has no end", key)
	return nil
}

// buried lets n firings of a recurring plan end as dead letters, one after the
// other, and returns them.
func (r *rig) buried(p *scheduler.Plan, n int) []*scheduler.Firing {
	r.Helper()
	r.backlog(p, n)
	fs := r.take(r.shard(p), "w", p.Action, n)
	if len(fs) != n {
		r.Fatalf("Take gave %s, want %d", describe(fs), n)
	}
	for _, f := range fs {
		r.finish(f, "w", scheduler.Bury, time.Time{})
	}
	return fs
}

// redrive queues dead letters again, purge forgets them; both return how many.
func (r *rig) redrive(ids ...string) int {
	r.Helper()
	n, err := r.store.Redrive(r.ctx, ids)
	if err != nil {
		r.Fatalf("Redrive(%q): %v", ids, err)
	}
	return n
}

func (r *rig) purge(ids ...string) int {
	r.Helper()
	n, err := r.store.Purge(r.ctx, ids)
	if err != nil {
		r.Fatalf("Purge(%q): %v", ids, err)
	}
	return n
}

// redriveAll queues all dead letters of a key again ("": of all), of which there
// must be some.
func (r *rig) redriveAll(key string) {
	r.Helper()
	ids := letters(r.dead(key))
	if n := r.redrive(ids...); n != len(ids) || n == 0 {
		r.Fatalf("Redrive of %q queued %d", ids, n)
	}
}

func letters(dead []scheduler.DeadLetter) []string {
	var ids []string
	for _, d := range dead {
		ids = append(ids, d.ID)
	}
	return ids
}

func historyRows() []row {
	return []row{
		// An attempt comes back as it was recorded; the store adds a cursor of its
		// own.
		{name: "every field comes back", run: func(r *rig) {
			p := r.overdue("k", 1, Every(1, 0))
			r.backlog(p, 3)
			fs := r.take(r.shard(p), "w", p.Action, 3)
			var want []scheduler.Attempt
			for i, v := range []scheduler.Verdict{scheduler.Done, scheduler.Retry, scheduler.Bury} {
				e := r.ending(fs[i], v, r.ago(time.Minute))
				e.Attempt.Missed, e.Attempt.Took = 3, 1234*time.Millisecond
				e.Attempt.Output = "HTTP 200\n\t{\"ok\": true} 任务 \"'\\"
				want = append([]scheduler.Attempt{*e.Attempt}, want...)
				r.wantFinished("finish", r.send(fs[i].Shard, "w", e), scheduler.FinishedOK)
			}
			got := r.history("k")
			if d := cmp.Diff(want, got, cmpopts.IgnoreFields(scheduler.Attempt{}, "Sequence")); d != "" {
				r.Errorf("history is not as recorded (-want +got):\n%s", d)
			}
			seen := map[string]bool{"": true}
			for _, a := range got {
				if seen[a.Sequence] {
					r.Errorf("the sequence %q is empty or repeated", a.Sequence)
				}
				seen[a.Sequence] = true
			}
		}},

		// Newest first, whatever page size.
		{name: "order and pages", run: func(r *rig) {
			p := r.overdue("k", 1, Every(1, 0))
			const n = 25
			r.backlog(p, n)
			var want []int64
			for _, f := range r.take(r.shard(p), "w", p.Action, n) {
				r.finish(f, "w", scheduler.Done, time.Time{})
				want = append(want, f.Due)
			}
			slices.Reverse(want)
			for _, limit := range []int{1, 2, 7, 24, 25, 26, 1000} {
				for _, key := range []string{"", "k"} {
					var got []int64
					for _, a := range r.historyBy(key, limit) {
						got = append(got, a.Due)
					}
					if !slices.Equal(got, want) {
						r.Errorf("History(%q) by %d = due %v, want %v", key, limit, got, want)
					}
				}
			}
		}},

		// What is recorded while somebody pages is newer than the page: it neither
		// shifts nor repeats what follows.
		{name: "pages while it grows", run: func(r *rig) {
			p := r.overdue("k", 1, Every(1, 0))
			const n = 12
			r.backlog(p, 2*n)
			fs := r.take(r.shard(p), "w", p.Action, 2*n)
			for _, f := range fs[:n] {
				r.finish(f, "w", scheduler.Done, time.Time{})
			}
			var got []int64
			q := scheduler.JournalQuery{Limit: 3}
			for i := 0; ; i++ {
				as, next, err := r.store.History(r.ctx, q)
				if err != nil {
					r.Fatalf("History: %v", err)
				}
				for _, a := range as {
					got = append(got, a.Due)
				}
				if q.Cursor = next; next == "" {
					break
				}
				if i < n {
					r.finish(fs[n+i], "w", scheduler.Done, time.Time{})
				}
			}
			var want []int64
			for i := n - 1; i >= 0; i-- {
				want = append(want, fs[i].Due)
			}
			if !slices.Equal(got, want) {
				r.Errorf("the pages hold due %v, want %v", got, want)
			}
		}},

		// The history of a key is that of no other, and is kept when its plan is
		// gone.
		{name: "by key", run: func(r *rig) {
			count := map[string]int{"k": 3, "k2": 2, "K": 1, "k*": 1}
			var sum int
			for key, n := range count {
				for i := range n {
					f := r.running(r.overdue(key, i), "w", 0)
					r.finish(f, "w", scheduler.Done, time.Time{})
				}
				sum += n
			}
			for key, n := range count {
				for _, limit := range []int{1, 100} {
					got := r.historyBy(key, limit)
					for _, a := range got {
						if a.Key != key {
							r.Errorf("the history of %q holds an attempt of %q", key, a.Key)
						}
					}
					if len(got) != n {
						r.Errorf("the history of %q by %d has %d entries, want %d", key, limit, len(got), n)
					}
				}
			}
			if got := r.history("absent"); len(got) != 0 {
				r.Errorf("the history of an absent key has %d entries", len(got))
			}
			if got := r.history(""); len(got) != sum {
				r.Errorf("the history has %d entries, want %d", len(got), sum)
			}
		}},
	}
}

func deadRows() []row {
	return []row{
		// Newest first, by key or all, whatever page size.
		{name: "order, pages and keys", run: func(r *rig) {
			a, b := r.overdue("a", 1, Every(1, 0)), r.overdue("a2", 1, Every(1, 0))
			want := map[string][]scheduler.FiringID{}
			for _, p := range []*scheduler.Plan{a, b} {
				for _, f := range r.buried(p, 9) {
					want[p.Key] = append([]scheduler.FiringID{f.ID()}, want[p.Key]...)
				}
				time.Sleep(2 * time.Millisecond) // shards are told apart in time by milliseconds
			}
			want[""] = append(slices.Clone(want["a2"]), want["a"]...)
			want["absent"] = nil
			for key, ids := range want {
				for _, limit := range []int{1, 4, 9, 100} {
					var got []scheduler.FiringID
					names := map[string]bool{}
					for _, d := range r.deadBy(key, limit) {
						got = append(got, d.Firing.ID())
						names[d.ID] = true
					}
					if !slices.Equal(got, ids) || len(names) != len(ids) {
						r.Errorf("DeadLetters(%q) by %d = %v (%d names), want %v", key, limit, got, len(names), ids)
					}
				}
			}
		}},

		// A redriven firing starts over, under its old id and due second.
		{name: "redrive", run: func(r *rig) {
			p := r.overdue("k", 1)
			f := r.running(p, "w", 0)
			for range 2 {
				r.finish(f, "w", scheduler.Retry, r.ago(time.Minute))
				r.promote(f.Shard, 10)
				f = r.takeOne(p, "w")
			}
			r.finish(f, "w", scheduler.Bury, time.Time{})
			d := r.dead("k")
			if len(d) != 1 || d[0].Firing.Attempt != 3 {
				r.Fatalf("dead letters = %+v, want one after attempt 3", d)
			}
			if n := r.redrive(d[0].ID); n != 1 {
				r.Errorf("Redrive queued %d, want 1", n)
			}
			if n := r.redrive(d[0].ID); n != 0 {
				r.Errorf("a second Redrive queued %d, want 0", n)
			}
			if got := r.dead(""); len(got) != 0 {
				r.Errorf("%d dead letters are left, want 0", len(got))
			}
			g := r.takeOne(p, "w")
			r.wantCounts("redriven", g, 1, 1)
			if g.ID() != f.ID() || g.Due != f.Due {
				r.Errorf("redriven as %s due %d, want %s, %d", g.ID(), g.Due, f.ID(), f.Due)
			}
			if diff := planDiff(f.Plan, g.Plan); diff != "" {
				r.Errorf("the redriven firing carries another plan (-want +got):\n%s", diff)
			}
			r.wantRetry("of a redriven firing", g, scheduler.FinishedOK)
			r.finish(r.takeOne(p, "w"), "w", scheduler.Bury, time.Time{})
			if got := r.dead("k"); len(got) != 1 || got[0].Firing.Attempt != 2 {
				r.Errorf("dead letters = %+v, want one after attempt 2", got)
			}
		}},

		// What is named, once, and nothing else; what is not there is skipped.
		{name: "named ones only", run: func(r *rig) {
			for name, do := range map[string]func(...string) int{"Redrive": r.redrive, "Purge": r.purge} {
				a, b := r.overdue("a", 0, Every(1, 0), WithAction(name)), r.overdue("b", 0, Every(1, 0), WithAction(name))
				r.buried(a, 4)
				r.buried(b, 4)
				ids := append(letters(r.dead("a")), letters(r.dead("b"))...)
				left := map[string]bool{}
				for _, id := range ids {
					left[id] = true
				}
				var done int
				for _, tt := range []struct {
					what string
					ids  []string
					want int
				}{
					{"nothing", nil, 0},
					{"what is not there", []string{"no such", "", "1-1", "0"}, 0},
					{"an id twice, and one that is not there", []string{ids[0], ids[2], "no such", ids[0]}, 2},
					{"the same again", []string{ids[0], ids[2]}, 0},
					{"ids of two keys", []string{ids[1], ids[4], ids[7]}, 3},
					{"all", ids, 3},
				} {
					n := do(tt.ids...)
					if n != tt.want {
						r.Errorf("%s of %s = %d, want %d", name, tt.what, n, tt.want)
					}
					done += n
					for _, id := range tt.ids {
						delete(left, id)
					}
					got := map[string]bool{}
					for _, id := range letters(r.dead("")) {
						got[id] = true
					}
					if d := cmp.Diff(left, got); d != "" {
						r.Errorf("after %s of %s there are left (-want +got):\n%s", name, tt.what, d)
					}
				}
				var queued int
				for _, shard := range r.store.ShardIDs() {
					queued += len(r.take(shard, "w", name, 100))
				}
				if want := map[string]int{"Redrive": 8, "Purge": 0}[name]; queued != want || done != 8 {
					r.Errorf("%s of %d: %d firings are queued, want %d", name, done, queued, want)
				}
				r.remove("a")
				r.remove("b")
			}
		}},

		// As many at once as a call may name.
		{name: "redrive many", run: func(r *rig) {
			const n = 1000
			p := r.overdue("k", 0, Every(1, 0))
			r.backlog(p, n)
			shard := r.shard(p)
			var batch []scheduler.Finish
			for _, f := range r.take(shard, "w", p.Action, n) {
				batch = append(batch, r.ending(f, scheduler.Bury, time.Time{}))
			}
			for part := range slices.Chunk(batch, 100) {
				if _, err := r.store.Finish(r.ctx, shard, "w", part); err != nil {
					r.Fatalf("Finish: %v", err)
				}
			}
			if k := r.redrive(letters(r.dead("k"))...); k != n {
				r.Errorf("Redrive queued %d, want %d", k, n)
			}
			fs := r.take(shard, "w", p.Action, 2*n)
			seen := map[scheduler.FiringID]bool{}
			for _, f := range fs {
				seen[f.ID()] = true
			}
			if len(fs) != n || len(seen) != n {
				r.Errorf("%d firings are queued, %d of them different, want %d", len(fs), len(seen), n)
			}
		}},

		// A dead letter belongs to a firing, not to a plan: neither a removal nor
		// an overwrite touches it.
		{name: "outlives its plan", run: func(r *rig) {
			p := r.overdue("k", 1, Every(1, 0))
			r.buried(p, 1)
			r.put(r.overdue("k", 100))
			r.remove("k")
			if got := r.dead("k"); len(got) != 1 {
				r.Errorf("%d dead letters are left, want 1", len(got))
			}
			if r.state().Dead != 1 {
				r.Errorf("%d dead letters are counted, want 1", r.state().Dead)
			}
		}},
	}
}
