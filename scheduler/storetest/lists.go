package storetest

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/snower/forsun/scheduler"
)

// pages is how many pages a listing may take before it counts as endless.
const pages = 10000

// list reads all pages of a prefix.
func (r *rig) list(prefix string, limit int) (all []*scheduler.Plan) {
	r.Helper()
	q := scheduler.ListQuery{Prefix: prefix, Limit: limit}
	for range pages {
		plans, next, err := r.store.List(r.ctx, q)
		if err != nil {
			r.Fatalf("List(%q, cursor %q): %v", prefix, q.Cursor, err)
		}
		if len(plans) > limit {
			r.Fatalf("List with limit %d gave %d plans", limit, len(plans))
		}
		all = append(all, plans...)
		if next == "" {
			return all
		}
		q.Cursor = next
	}
	r.Fatalf("List(%q) has no end", prefix)
	return nil
}

func (r *rig) listKeys(prefix string, limit int) []string {
	r.Helper()
	return planKeys(r.list(prefix, limit))
}

// dueAt reads all pages of a due second.
func (r *rig) dueAt(second int64, limit int) (all []*scheduler.Plan) {
	r.Helper()
	q := scheduler.DueAtQuery{Second: second, Limit: limit}
	for range pages {
		plans, next, err := r.store.DueAt(r.ctx, q)
		if err != nil {
			r.Fatalf("DueAt(%d, cursor %q): %v", second, q.Cursor, err)
		}
		if len(plans) > limit {
			r.Fatalf("DueAt with limit %d gave %d plans", limit, len(plans))
		}
		all = append(all, plans...)
		if next == "" {
			return all
		}
		q.Cursor = next
	}
	r.Fatalf("DueAt(%d) has no end", second)
	return nil
}

func planKeys(plans []*scheduler.Plan) []string {
	keys := make([]string, 0, len(plans))
	for _, p := range plans {
		keys = append(keys, p.Key)
	}
	return keys
}

func listRows() []row {
	return []row{
		// Whole pages, short pages, one plan a page: the same list, in the byte
		// order of the keys whatever shard they are in.
		{name: "byte order over all pages", run: func(r *rig) {
			keys := []string{"a", "a!", "a/1", "a/10", "a/2", "a/B", "a/b", "aa", "ab", "b", "Z", "é", "z", "任务", "🕓", "~"}
			for i := range 40 {
				keys = append(keys, fmt.Sprintf("job/%d", i))
			}
			var plans []*scheduler.Plan
			for _, k := range keys {
				plans = append(plans, NewPlan(k))
			}
			r.put(plans...)
			slices.Sort(keys)
			for _, limit := range []int{1, 2, 3, 7, 55, 56, 57, 1000} {
				if got := r.listKeys("", limit); !slices.Equal(got, keys) {
					r.Errorf("List by %d = %q, want %q", limit, got, keys)
				}
			}
			for _, prefix := range []string{"a", "a/", "a/1", "job/3", "任", "z", "x", "job/40"} {
				var want []string
				for _, k := range keys {
					if strings.HasPrefix(k, prefix) {
						want = append(want, k)
					}
				}
				for _, limit := range []int{1, 4, 100} {
					if got := r.listKeys(prefix, limit); !slices.Equal(got, want) {
						r.Errorf("List(%q) by %d = %q, want %q", prefix, limit, got, want)
					}
				}
			}
		}},

		// The plans of a list are whole plans.
		{name: "plans are whole", run: func(r *rig) {
			p := r.overdue("k", 1, Daily(1, 2, 3), WithParams(map[string]string{"b": "\xff\x00"}))
			r.put(p)
			r.advance(p, p.Due+86400)
			got := r.list("", 10)
			if len(got) != 1 {
				r.Fatalf("List gave %d plans, want 1", len(got))
			}
			if d := planDiff(p, got[0]); d != "" {
				r.Errorf("List gave another plan (-want +got):\n%s", d)
			}
		}},

		// An empty store has an empty list, and no next page.
		{name: "empty", run: func(r *rig) {
			if got := r.list("", 10); len(got) != 0 {
				r.Errorf("List of an empty store gave %d plans", len(got))
			}
			if got := r.dueAt(r.now(), 10); len(got) != 0 {
				r.Errorf("DueAt of an empty store gave %d plans", len(got))
			}
		}},

		// A prefix is bytes: the range that a store makes of it must not end
		// before the highest key with it, nor reach the next prefix, nor be read
		// as a pattern.
		{name: "prefix edges", run: func(r *rig) {
			keys := []string{"a", "a\U0010ffff", "a\U0010ffffz", "a\uffff", "b", "a*", "a?b", "[a]", "ab", "\U0010ffff", "\U0010ffff\U0010ffff"}
			for _, k := range keys {
				r.put(NewPlan(k))
			}
			slices.Sort(keys)
			for _, prefix := range []string{"a", "a\U0010ffff", "a\xf4", "a\xff", "\xff", "\xf4\x8f\xbf\xbf", "\xf4", "a*", "a?", "*", "[a", "[", "a\x00", "\x00"} {
				want := []string{}
				for _, k := range keys {
					if strings.HasPrefix(k, prefix) {
						want = append(want, k)
					}
				}
				if got := r.listKeys(prefix, 2); !slices.Equal(got, want) {
					r.Errorf("List(%q) = %q, want %q", prefix, got, want)
				}
			}
		}},

		// A listing goes on from its cursor when the plan it stopped at is gone.
		{name: "cursor outlives its plan", run: func(r *rig) {
			for i := range 6 {
				r.put(NewPlan(fmt.Sprintf("k%d", i)))
			}
			first, next, err := r.store.List(r.ctx, scheduler.ListQuery{Limit: 3})
			if err != nil || len(first) == 0 || next == "" {
				r.Fatalf("first page: %d plans, next %q, %v", len(first), next, err)
			}
			last := first[len(first)-1].Key
			for _, k := range []string{last, fmt.Sprintf("k%d", len(first))} {
				if _, err := r.store.Remove(r.ctx, k); err != nil {
					r.Fatalf("Remove(%q): %v", k, err)
				}
			}
			var got []string
			for next != "" {
				var plans []*scheduler.Plan
				plans, next, err = r.store.List(r.ctx, scheduler.ListQuery{Limit: 3, Cursor: next})
				if err != nil {
					r.Fatalf("List: %v", err)
				}
				got = append(got, planKeys(plans)...)
			}
			var want []string
			for i := len(first) + 1; i < 6; i++ {
				want = append(want, fmt.Sprintf("k%d", i))
			}
			if !slices.Equal(got, want) {
				r.Errorf("after its cursor's plan was removed the list went on with %q, want %q", got, want)
			}
		}},

		// While others create and remove, what is there all the time is listed
		// exactly once, in order.
		{name: "concurrent change", run: func(r *rig) {
			var want []string
			var plans []*scheduler.Plan
			for i := range 200 {
				k := fmt.Sprintf("k%03d", i)
				want = append(want, k)
				plans = append(plans, NewPlan(k))
			}
			r.put(plans...)
			stop := make(chan struct{})
			var wg sync.WaitGroup
			wg.Go(func() {
				for i := 0; ; i = (i + 37) % 200 {
					select {
					case <-stop:
						return
					default:
					}
					k := fmt.Sprintf("k%03d+", i)
					if err := r.store.Put(r.ctx, []*scheduler.Plan{NewPlan(k)})[0]; err != nil {
						r.Errorf("Put: %v", err)
						return
					}
					if _, err := r.store.Remove(r.ctx, k); err != nil {
						r.Errorf("Remove: %v", err)
						return
					}
				}
			})
			defer wg.Wait()
			defer close(stop)
			for range 5 {
				all := r.listKeys("k", 7)
				if !slices.IsSorted(all) {
					r.Errorf("the list is out of order: %q", all)
				}
				got := slices.DeleteFunc(all, func(k string) bool { return strings.HasSuffix(k, "+") })
				if !slices.Equal(got, want) {
					r.Errorf("the list misses or repeats plans: %d of %d", len(got), len(want))
				}
			}
		}},

		// DueAt shows the plans whose next due second this is, by key within an
		// action, whatever page size.
		{name: "due at a second", run: func(r *rig) {
			second := r.now() + 7200
			want := map[string][]string{}
			var plans []*scheduler.Plan
			for i := range 30 {
				action := fmt.Sprintf("action%d", i%3)
				p := NewPlan(fmt.Sprintf("k%02d", 29-i), WithAction(action), WithDue(second))
				want[action] = append(want[action], p.Key)
				plans = append(plans, p,
					NewPlan(fmt.Sprintf("before%d", i), WithAction(action), WithDue(second-1)),
					NewPlan(fmt.Sprintf("after%d", i), WithAction(action), WithDue(second+1)))
			}
			r.put(plans...)
			for _, limit := range []int{1, 4, 10, 30, 31, 100} {
				got := map[string][]string{}
				for _, p := range r.dueAt(second, limit) {
					got[p.Action] = append(got[p.Action], p.Key)
				}
				for action, keys := range want {
					slices.Sort(keys)
					if !slices.Equal(got[action], keys) {
						r.Errorf("DueAt by %d shows of %s %q, want %q", limit, action, got[action], keys)
					}
				}
				if len(got) != len(want) {
					r.Errorf("DueAt by %d shows %d actions, want %d", limit, len(got), len(want))
				}
			}
		}},

		// A claim moves a plan from one second's list to another's.
		{name: "due at follows claims", run: func(r *rig) {
			p := r.overdue("k", 1, Every(recurring, 0))
			r.put(p)
			before := p.Due
			r.advance(p, p.Due+recurring)
			if got := r.dueAt(before, 10); len(got) != 0 {
				r.Errorf("DueAt of the claimed second shows %q", planKeys(got))
			}
			got := r.dueAt(p.Due, 10)
			if len(got) != 1 {
				r.Fatalf("DueAt of the next second shows %q, want k", planKeys(got))
			}
			if d := planDiff(p, got[0]); d != "" {
				r.Errorf("DueAt gave another plan (-want +got):\n%s", d)
			}
		}},
	}
}
