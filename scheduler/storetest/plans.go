package storetest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/snower/forsun/scheduler"
)

func planRows() []row {
	return []row{
		// A plan comes back as it went in, calendars with open fields and far
		// dates too.
		{name: "every field comes back", run: func(r *rig) {
			plans := []*scheduler.Plan{
				NewPlan("timeout", Every(5, 10)),
				NewPlan("endless", Every(86400*366, 0), WithDue(1<<33)),
				NewPlan("daily", Daily(16, 32, 0), WithAction("http")),
				NewPlan("weekly", WithSchedule(scheduler.Schedule{Kind: scheduler.Calendar, Minute: 30, Hour: scheduler.Any, Day: scheduler.Any, Month: 12, Week: 7})),
				NewPlan("amounts", WithSchedule(scheduler.Schedule{Kind: scheduler.Timeout, Second: 1, Minute: 2, Hour: 3, Day: 4, Month: 5, Week: 6, Count: math.MaxInt32})),
				NewPlan("imported", func(p *scheduler.Plan) {
					p.Fired, p.LastDue, p.Status = 41, p.Due-60, scheduler.StatusFailed
				}),
				NewPlan("bare", WithParams(nil)),
			}
			r.put(plans...)
			for _, p := range plans {
				r.wantPlan(p)
			}
		}},

		// ErrNotFound is the answer for an absent key, not a nil plan.
		{name: "get of nothing", run: func(r *rig) {
			r.put(NewPlan("there"))
			r.wantNone("nowhere")
			r.wantNone("ther")
			r.wantNone("there ")
		}},

		// PutNew stores what is not there, and leaves what is, whatever else is in
		// the call: among the others, of another action, and one that was sent again.
		{name: "putnew replaces nothing", run: func(r *rig) {
			there := r.overdue("k2", 2, WithAction("shell"), Every(recurring, 0))
			r.put(there)
			var plans []*scheduler.Plan
			want := make(map[int]error)
			for i := range 250 {
				plans = append(plans, NewPlan(fmt.Sprintf("k%d", i), WithAction([]string{"shell", "http"}[i%2])))
			}
			plans[2] = NewPlan("k2", WithAction("http"))
			want[2] = scheduler.ErrExists
			putNew := func() {
				r.Helper()
				sent := make([]*scheduler.Plan, len(plans))
				for i, p := range plans {
					sent[i] = p.Clone()
				}
				for i, err := range r.store.PutNew(r.ctx, sent) {
					if !errors.Is(err, want[i]) || sent[i].Replaced {
						r.Errorf("PutNew(%q): %v, replaced another: %t; want %v", plans[i].Key, err, sent[i].Replaced, want[i])
					}
				}
			}
			putNew()
			r.wantPlan(there)
			for _, i := range []int{0, 1, 3, 249} {
				r.wantPlan(plans[i])
			}
			r.advance(there, there.Due+recurring)
			putNew() // again: the same revisions
			r.wantPlan(there)
			if n := r.state().Plans; n != 250 {
				r.Errorf("%d plans are stored, want 250", n)
			}
			for i := range plans {
				plans[i], want[i] = NewPlan(plans[i].Key, WithAction("other")), scheduler.ErrExists
			}
			putNew()
			r.wantPlan(there)
			if got := r.due(r.shard(there), "other", 0, 1<<33); len(got) != 0 {
				r.Errorf("Due shows %d plans that were not to be stored", len(got))
			}
		}},

		// Of many who want a key at once, one gets it.
		{name: "putnew at once", run: func(r *rig) {
			var wg sync.WaitGroup
			var mu sync.Mutex
			stored := 0
			for range 20 {
				wg.Go(func() {
					err := r.store.PutNew(r.ctx, []*scheduler.Plan{NewPlan("k")})[0]
					mu.Lock()
					defer mu.Unlock()
					if err == nil {
						stored++
					} else if !errors.Is(err, scheduler.ErrExists) {
						r.Errorf("PutNew: %v", err)
					}
				})
			}
			wg.Wait()
			if stored != 1 {
				r.Errorf("%d of 20 were stored, want 1", stored)
			}
		}},

		// What was stored anew and what replaced a plan is told apart, plan by plan,
		// whatever else is in the call.
		{name: "replaced or not", run: func(r *rig) {
			const n = 250
			var plans []*scheduler.Plan
			next := func(actions ...string) {
				plans = plans[:0]
				for i := range n {
					p := NewPlan(fmt.Sprintf("k%d", i), WithAction(actions[i%len(actions)]))
					p.Replaced = i%5 == 0 // as after an earlier Put
					plans = append(plans, p)
				}
			}
			next("shell")
			r.wantReplaced("new", r.store.PutNew, plans[:50], func(int) bool { return false })
			r.wantReplaced("new, by Put", r.store.Put, plans[200:], func(int) bool { return false })
			next("shell", "http")
			r.wantReplaced("some are there", r.store.Put, plans, func(i int) bool { return i < 50 || i >= 200 })
			was := plans[0].Clone()
			was.Replaced = false
			r.wantPlan(was)
			for i, p := range plans {
				p.Replaced = i%2 == 0
			}
			r.wantReplaced("the same again", r.store.Put, plans, func(i int) bool { return i%2 == 0 })
			r.remove("k7")
			next("http")
			r.wantReplaced("one was removed", r.store.Put, plans, func(i int) bool { return i != 7 })

			p := r.overdue("ended", 1)
			r.finish(r.running(p, "w", 0), "w", scheduler.Retry, r.ago(time.Minute))
			r.wantReplaced("only a retry is left", r.store.Put, []*scheduler.Plan{NewPlan("ended")}, func(int) bool { return false })

			// Each replaced the one before, and the last is there.
			twice := []*scheduler.Plan{NewPlan("k0"), NewPlan("x"), NewPlan("y"), NewPlan("x"), NewPlan("k0"), NewPlan("x", WithAction("http"))}
			last := twice[5].Clone()
			r.wantReplaced("several of one key", r.store.Put, twice, func(i int) bool { return i != 1 && i != 2 })
			r.wantPlan(last)
		}},

		// Of many who put the same keys at once, one created each.
		{name: "replaced at once", run: func(r *rig) {
			const keys = 50
			var wg sync.WaitGroup
			var work [8][]*scheduler.Plan
			start := make(chan struct{})
			for w := range work {
				for i := range keys {
					work[w] = append(work[w], NewPlan(fmt.Sprintf("k%d", i)))
				}
				wg.Go(func() {
					<-start
					for i := range keys {
						if err := r.store.Put(r.ctx, work[w][i:i+1])[0]; err != nil {
							r.Errorf("Put: %v", err)
						}
					}
				})
			}
			close(start)
			wg.Wait()
			for i := range keys {
				created := 0
				for _, plans := range work {
					if !plans[i].Replaced {
						created++
					}
				}
				if created != 1 {
					r.Errorf("k%d was created %d times, want 1", i, created)
				}
			}
		}},

		// A plan that nobody can read is replaced; one that lies in quarantine is no
		// plan any more.
		{name: "replaced while undecodable", needs: needsCorrupt, run: func(r *rig) {
			for _, put := range []func(context.Context, []*scheduler.Plan) []error{r.store.Put, r.store.PutNew} {
				p := r.overdue("k", 1)
				r.put(p)
				r.h.Corrupt(p)
				r.wantReplaced("undecodable", r.store.Put, []*scheduler.Plan{NewPlan("k")}, func(int) bool { return true })
				r.remove("k")
				r.put(p)
				shard := r.shard(p)
				r.h.Corrupt(p)
				r.due(shard, p.Action, 0, r.now())
				if got := r.state(); got.Quarantined != 1 {
					r.Errorf("%d plans are quarantined, want 1", got.Quarantined)
				}
				r.wantReplaced("quarantined", put, []*scheduler.Plan{NewPlan("k")}, func(int) bool { return false })
				r.remove("k")
			}
		}},

		// Every bit of a revision counts: it passes through scripts whose numbers
		// are doubles.
		{name: "revisions of 64 bits", run: func(r *rig) {
			for i, rev := range []scheduler.Revision{1, math.MaxUint64, 1<<63 + 1, 1<<53 + 1, 0x0123456789abcdef} {
				p := r.overdue(fmt.Sprintf("rev%d", i), i, WithRevision(rev))
				r.put(p)
				r.wantPlan(p)
				other := p.Clone()
				other.Revision ^= 1
				if a := r.claimOne(other, 0); other.Revision != 0 && a.Result != scheduler.ClaimChanged {
					r.Errorf("claim with revision %v of a plan of %v: answer %d, want %d", other.Revision, rev, a.Result, scheduler.ClaimChanged)
				}
				r.advance(p, 0)
				if f := r.takeOne(p, "w"); f.ID() != scheduler.NewFiringID(p.Key, rev, f.Due) {
					r.Errorf("firing of revision %v has id %s", rev, f.ID())
				}
			}
		}},

		// An overwrite replaces the whole plan, and its place in the schedule of
		// the other action is gone.
		{name: "overwrite replaces everything", run: func(r *rig) {
			old := r.overdue("k", 1, WithAction("shell"), WithParams(map[string]string{"cmd": "ls", "cwd": "/"}))
			r.put(old)
			shard := r.shard(old)
			r.advance(old, old.Due+recurring)
			p := r.overdue("k", 2, WithAction("http"), WithParams(map[string]string{"url": "http://h/"}), Daily(1, 2, 3))
			r.put(p)
			r.wantPlan(p)
			if got := r.due(shard, "shell", 0, r.now()); len(got) != 0 {
				r.Errorf("Due of the old action shows %d plans, want 0", len(got))
			}
			if got := r.due(shard, "http", 0, r.now()); len(got) != 1 || got[0].Revision != p.Revision {
				r.Errorf("Due of the new action shows %d plans, want the new one", len(got))
			}
			if n := r.state().Plans; n != 1 {
				r.Errorf("%d plans are stored, want 1", n)
			}
		}},

		// A Put may reach the store twice, by way of a proxy or a client's retry,
		// and in between the plan may have been claimed: the second must not undo
		// that, or the due second would be claimed twice.
		{name: "resent put leaves claims alone", run: func(r *rig) {
			p := r.overdue("k", 1, Every(recurring, 0))
			first := p.Clone()
			r.put(p)
			r.advance(p, p.Due+recurring)
			r.put(first)
			r.wantPlan(p)
			if a := r.claimOne(first, first.Due+recurring); a.Result != scheduler.ClaimChanged {
				r.Errorf("claim of the due second already claimed: answer %d, want %d", a.Result, scheduler.ClaimChanged)
			}
		}},

		// A batch may hold more plans than a store writes at once, and one key
		// twice: then the last wins.
		{name: "many at once", run: func(r *rig) {
			var plans []*scheduler.Plan
			for i := range 1500 {
				plans = append(plans, NewPlan(fmt.Sprintf("many/%04d", i)))
			}
			r.put(plans...)
			if n := r.state().Plans; n != 1500 {
				r.Errorf("%d plans are stored, want 1500", n)
			}
			for i := 0; i < 1500; i += 99 {
				r.wantPlan(plans[i])
			}
			if errs := r.store.Put(r.ctx, nil); len(errs) != 0 {
				r.Errorf("Put of nothing answered %v", errs)
			}
			first, last := r.overdue("many/0000", 1), r.overdue("many/0000", 2, WithAction("other"))
			r.put(first, NewPlan("between"), last)
			r.wantPlan(last)
			if n := r.state().Plans; n != 1501 {
				r.Errorf("%d plans are stored, want 1501", n)
			}
			if got := r.due(r.shard(last), first.Action, 0, r.now()); len(got) != 0 {
				r.Errorf("Due still shows %q, which came first", planKeys(got))
			}
		}},

		// "A Plan handed to or got from a store is the receiver's own": two
		// callers of Get must not meet in one map.
		{name: "plans are the receiver's own", run: func(r *rig) {
			p := NewPlan("k")
			r.put(p)
			got, err := r.store.Get(r.ctx, "k")
			if err != nil {
				r.Fatalf("Get: %v", err)
			}
			got.Params["note"], got.Due = "scribbled", 1
			r.wantPlan(p)
		}},

		// Removed means removed: from every view, and only once.
		{name: "remove", run: func(r *rig) {
			p := r.overdue("k", 1, Every(recurring, 0))
			other := NewPlan("k2", WithDue(p.Due)) // the same second, whatever the clock does
			r.put(p, other)
			shard := r.shard(p)
			got, err := r.store.Remove(r.ctx, "k")
			if err != nil {
				r.Fatalf("Remove: %v", err)
			}
			if d := planDiff(p, got); d != "" {
				r.Errorf("Remove returned another plan (-want +got):\n%s", d)
			}
			r.wantNone("k")
			if again, err := r.store.Remove(r.ctx, "k"); !errors.Is(err, scheduler.ErrNotFound) {
				r.Errorf("second Remove = %v, %v, want ErrNotFound", again, err)
			}
			if keys := r.listKeys("", 10); len(keys) != 1 || keys[0] != "k2" {
				r.Errorf("List shows %q, want k2 alone", keys)
			}
			if keys := planKeys(r.dueAt(p.Due, 10)); len(keys) != 1 || keys[0] != "k2" {
				r.Errorf("DueAt shows %q, want k2 alone", keys)
			}
			for _, q := range r.due(shard, p.Action, 0, r.now()) {
				if q.Key == "k" {
					r.Errorf("Due still shows the plan")
				}
			}
			if a := r.claim(r.batch(shard, p.Action, claimOf(p, 0)))[0]; a.Result != scheduler.ClaimGone {
				r.Errorf("claim of a removed plan: answer %d, want %d", a.Result, scheduler.ClaimGone)
			}
		}},

		// The same key may live again, and what was known of its first life does
		// not count.
		{name: "put after remove", run: func(r *rig) {
			old := r.overdue("k", 1, Every(recurring, 0))
			r.put(old)
			r.advance(old, old.Due+recurring)
			if _, err := r.store.Remove(r.ctx, "k"); err != nil {
				r.Fatalf("Remove: %v", err)
			}
			p := r.overdue("k", 2)
			r.put(p)
			r.wantPlan(p)
			if a := r.claimOne(old, 0); a.Result != scheduler.ClaimChanged {
				r.Errorf("claim of the removed plan: answer %d, want %d", a.Result, scheduler.ClaimChanged)
			}
		}},

		// Keys are the users' own. They meet separators, patterns, hash tags and
		// text formats of a store, and none of them may mean anything.
		{name: "odd keys", run: func(r *rig) {
			var plans []*scheduler.Plan
			for i, key := range oddKeys() {
				plans = append(plans, r.overdue(key, i, Every(recurring, 0)))
			}
			r.put(plans...)
			for _, p := range plans {
				r.wantPlan(p)
				if keys := r.listKeys(p.Key, 100); len(keys) == 0 || keys[0] != p.Key {
					r.Errorf("List with prefix %q shows %q, want that key first", p.Key, keys)
				}
				r.advance(p, p.Due+recurring)
				f := r.takeOne(p, "w")
				r.finish(f, "w", scheduler.Retry, r.ago(time.Minute))
				if n, _ := r.promote(f.Shard, 10); n != 1 {
					r.Fatalf("Promote queued %d retries of %q, want 1", n, p.Key)
				}
				r.finish(r.takeOne(p, "w"), "w", scheduler.Bury, time.Time{})
				if got := r.history(p.Key); len(got) != 2 {
					r.Errorf("history of %q has %d entries, want 2", p.Key, len(got))
				}
				if got := r.dead(p.Key); len(got) != 1 || got[0].Firing.ID() != f.ID() {
					r.Errorf("%q has %d dead letters, want its one", p.Key, len(got))
				}
				p.Status = scheduler.StatusFailed
				got, err := r.store.Remove(r.ctx, p.Key)
				if err != nil {
					r.Fatalf("Remove(%q): %v", p.Key, err)
				}
				if d := planDiff(p, got); d != "" {
					r.Errorf("Remove(%q) returned another plan (-want +got):\n%s", p.Key, d)
				}
			}
			if n := r.state().Plans; n != 0 {
				r.Errorf("%d plans are left, want 0", n)
			}
		}},

		// Parameters are bytes: a body or a statement arrives at its target as it
		// was given.
		{name: "parameters are exact bytes", run: func(r *rig) {
			all := make([]byte, 256)
			for i := range all {
				all[i] = byte(i)
			}
			p := r.overdue("k", 1, WithParams(map[string]string{
				"all":       string(all),
				"invalid":   "\xff\xfe\xc3\x28 \xed\xa0\x80",
				"empty":     "",
				"json":      `{"a":"\"\\\u0000","b":[1,2]}`,
				"sql":       `insert into t values('it\'s','<&>')`,
				"lines":     "a\r\nb\n\tc",
				"separator": "\u2028\u2029",
				"han":       "计划未找到",
				"":          "no name",
				"\xff":      "a name that is no text",
				"large":     strings.Repeat("0123456789abcdef", 8<<10),
			}))
			r.put(p)
			r.wantPlan(p)
			r.shard(p)
			r.advance(p, 0)
			f := r.takeOne(p, "w")
			if d := planDiff(p, f.Plan); d != "" {
				r.Errorf("the firing carries another plan (-want +got):\n%s", d)
			}
		}},

		// The answer to a client whose deadline has passed is final: a create that
		// was reported as failed must not appear later.
		{name: "put after its deadline", run: func(r *rig) {
			ctx, cancel := context.WithDeadline(r.ctx, time.Now().Add(-time.Millisecond))
			defer cancel()
			errs := r.store.Put(ctx, []*scheduler.Plan{NewPlan("late")})
			if len(errs) != 1 {
				r.Fatalf("Put of one plan gave %d answers", len(errs))
			}
			time.Sleep(50 * time.Millisecond) // time to appear
			_, err := r.store.Get(r.ctx, "late")
			if stored := err == nil; stored != (errs[0] == nil) && !errors.Is(errs[0], scheduler.ErrUnsure) {
				r.Errorf("Put answered %v, and then Get %v", errs[0], err)
			}
		}},

		// Writers of one key leave one plan, whole, in one place of the schedule.
		{name: "concurrent overwrites", run: func(r *rig) {
			const writers, each = 8, 10
			plans := make(map[scheduler.Revision]*scheduler.Plan)
			var work [writers][]*scheduler.Plan
			for w := range work {
				for i := range each {
					p := r.overdue("k", w*each+i, WithAction(fmt.Sprintf("action%d", w%3)),
						WithParams(map[string]string{"w": fmt.Sprint(w), "i": fmt.Sprint(i)}))
					plans[p.Revision] = p
					work[w] = append(work[w], p.Clone())
				}
			}
			var wg sync.WaitGroup
			for _, mine := range work {
				wg.Go(func() {
					for _, p := range mine {
						if err := r.store.Put(r.ctx, []*scheduler.Plan{p})[0]; err != nil {
							r.Errorf("Put: %v", err)
						}
					}
				})
			}
			wg.Wait()
			got, err := r.store.Get(r.ctx, "k")
			if err != nil {
				r.Fatalf("Get: %v", err)
			}
			want, ok := plans[got.Revision]
			if !ok {
				r.Fatalf("a plan of revision %v is stored, which nobody wrote", got.Revision)
			}
			r.wantPlan(want)
			var entries int
			for _, shard := range r.store.ShardIDs() {
				for a := range 3 {
					entries += len(r.due(shard, fmt.Sprintf("action%d", a), 0, r.now()))
				}
			}
			if entries != 1 {
				r.Errorf("the schedules hold %d entries, want 1", entries)
			}
			if n := r.state().Plans; n != 1 {
				r.Errorf("%d plans are stored, want 1", n)
			}
		}},
	}
}

// wantReplaced stores plans and compares what is said of their having replaced others.
func (r *rig) wantReplaced(what string, put func(context.Context, []*scheduler.Plan) []error, plans []*scheduler.Plan, want func(i int) bool) {
	r.Helper()
	for i, err := range put(r.ctx, plans) {
		if err != nil {
			r.Fatalf("%s: plan %d, %q: %v", what, i, plans[i].Key, err)
		}
		if got := plans[i].Replaced; got != want(i) {
			r.Errorf("%s: plan %d, %q, replaced another: %t, want %t", what, i, plans[i].Key, got, want(i))
		}
	}
}

// oddKeys are 1 to 512 bytes of UTF-8 without control characters, and a burden.
func oddKeys() []string {
	return []string{
		"{", "}", "{0}", "{a}{b}", "x{", "a}b{c", // hash tags of a cluster
		"*", "?", "[a-z]", `\`, `\*`, "a*b", // patterns
		" ", " leading", "trailing ", "a b", "a  b",
		`"`, `'`, `a"b`, "`", `\"`, "a;b", "a=b", "a,b", "a\u00a0b", // text formats
		":", "a:b:c", "plan:x", "schedule:record", "/", "a/b", ".", "..", "-", "+", "(a", "[a", // separators, range marks
		"0", "1e3", "-1", "nil", "null", "true", "%s", "%00", "$1", "<a&b>",
		"任务", "计划/每日/备份", "ключ", "κλειδί", "🕓", "👩‍👩‍👧‍👦", "e\u0301", "é", "ﷺ",
		"\ufeff", "\ufffd", "\uffff", "\U0010ffff", "a\U0010ffff", "\u2028", "\u202e",
		strings.Repeat("k", 512), strings.Repeat("🕓", 128),
	}
}
