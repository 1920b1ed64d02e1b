package storetest

import (
	"fmt"
	"slices"

	"github.com/snower/forsun/scheduler"
)

func dueRows() []row {
	return []row{
		// A leader reads what is due in a range, both ends included, the oldest
		// first.
		{name: "range and order", run: func(r *rig) {
			base := r.now() - 1000
			for _, i := range []int{3, 0, 5, 1, 4, 2} {
				r.put(NewPlan(fmt.Sprintf("k%d", i), WithDue(base+int64(i))))
			}
			tests := []struct {
				from, to int64
				want     []string
			}{
				{0, base + 100, []string{"k0", "k1", "k2", "k3", "k4", "k5"}},
				{base + 1, base + 3, []string{"k1", "k2", "k3"}},
				{base + 2, base + 2, []string{"k2"}},
				{base + 6, base + 100, nil},
				{0, base - 1, nil},
				{base + 3, base + 1, nil},
			}
			for _, tt := range tests {
				var got []string
				for _, shard := range r.store.ShardIDs() {
					plans := r.due(shard, DefaultAction, tt.from, tt.to)
					if !slices.IsSortedFunc(plans, func(a, b *scheduler.Plan) int { return int(a.Due - b.Due) }) {
						r.Errorf("Due(%d to %d) is not oldest first: %q", tt.from-base, tt.to-base, planKeys(plans))
					}
					got = append(got, planKeys(plans)...)
				}
				slices.Sort(got)
				if !slices.Equal(got, tt.want) {
					r.Errorf("Due(%d to %d) = %q, want %q", tt.from-base, tt.to-base, got, tt.want)
				}
			}
		}},

		// Pages of any size give the same plans in the same order, each once.
		{name: "pages", run: func(r *rig) {
			var plans []*scheduler.Plan
			for i := range 20 * len(r.store.ShardIDs()) {
				plans = append(plans, r.overdue(fmt.Sprintf("k%d", i), i))
			}
			r.put(plans...)
			var sum int
			for _, shard := range r.store.ShardIDs() {
				all := r.due(shard, DefaultAction, 0, r.now())
				sum += len(all)
				for _, limit := range []int{1, 2, 5, len(all) + 1} {
					got := r.dueBy(scheduler.DueQuery{Shard: shard, Action: DefaultAction, To: r.now(), Limit: limit})
					if !slices.Equal(planKeys(got), planKeys(all)) {
						r.Errorf("Due by %d = %q, want %q", limit, planKeys(got), planKeys(all))
					}
				}
			}
			if sum != len(plans) {
				r.Errorf("Due shows %d plans, want %d", sum, len(plans))
			}
		}},

		// Plans of one due second are paged, too, and have no order.
		{name: "pages within a second", run: func(r *rig) {
			const n = 23
			due := r.now() - 100
			for i := range n {
				r.put(NewPlan(fmt.Sprintf("k%d", i), WithDue(due)))
			}
			for _, limit := range []int{1, 4, n, 100} {
				seen := map[string]int{}
				for _, shard := range r.store.ShardIDs() {
					for _, p := range r.dueBy(scheduler.DueQuery{Shard: shard, Action: DefaultAction, From: due, To: due, Limit: limit}) {
						seen[p.Key]++
					}
				}
				for key, times := range seen {
					if times != 1 {
						r.Errorf("Due by %d shows %q %d times", limit, key, times)
					}
				}
				if len(seen) != n {
					r.Errorf("Due by %d shows %d plans, want %d", limit, len(seen), n)
				}
			}
		}},

		// A leader claims page by page, and what it claims moves on, maybe to a
		// second that is due, too. What a page began after is not looked at again;
		// what was not claimed stays behind, and nothing is missed.
		{name: "pages while claims go on", run: func(r *rig) {
			plans := r.inOneShard(12, func(i int) *scheduler.Plan { return r.overdue(fmt.Sprintf("k%02d", i), i, Every(recurring, 0)) })
			shard := r.shard(plans[0])
			q := scheduler.DueQuery{Shard: shard, Action: DefaultAction, To: plans[11].Due, Limit: 3}
			var got []string
			for i := 0; i == 0 || q.After != ""; i++ {
				page, err := r.store.Due(r.ctx, q)
				if err != nil || i > 12 {
					r.Fatalf("page %d of Due: %v", i, err)
				}
				for j, p := range page.Plans {
					got = append(got, p.Key)
					switch {
					case j%3 == 0:
						r.advance(p, 0)
					case j%3 == 1:
						r.advance(p, p.Due+recurring)
					}
				}
				q.After = page.Next
			}
			if !slices.Equal(got, planKeys(plans)) {
				r.Errorf("the pages show %q, want each plan once", got)
			}
		}},

		// One action's debts do not stand in the way of another's.
		{name: "each action by itself", run: func(r *rig) {
			want := map[string]int{"http": 10, "shell": 3, "htt": 2, "http:": 1}
			for action, n := range want {
				for i := range n {
					r.put(r.overdue(fmt.Sprintf("%s %d", action, i), i, WithAction(action)))
				}
			}
			for action, n := range want {
				var got []*scheduler.Plan
				for _, shard := range r.store.ShardIDs() {
					got = append(got, r.due(shard, action, 0, r.now())...)
				}
				for _, p := range got {
					if p.Action != action {
						r.Errorf("Due of %s shows a plan of %s", action, p.Action)
					}
				}
				if len(got) != n {
					r.Errorf("Due of %s shows %d plans, want %d", action, len(got), n)
				}
			}
		}},

		// What Due shows is all that a leader knows of a plan.
		{name: "plans are whole", run: func(r *rig) {
			p := r.overdue("k", 1, Daily(1, 2, 3), WithParams(map[string]string{"b": "\xff\x00", "forsun.timezone": "Asia/Shanghai"}))
			r.put(p)
			shard := r.shard(p)
			r.advance(p, p.Due+1)
			got := r.due(shard, p.Action, 0, r.now())
			if len(got) != 1 {
				r.Fatalf("Due shows %d plans, want 1", len(got))
			}
			if d := planDiff(p, got[0]); d != "" {
				r.Errorf("Due shows another plan (-want +got):\n%s", d)
			}
		}},

		// An overwrite moves the plan in the schedule, in both directions.
		{name: "overwrite moves", run: func(r *rig) {
			p := r.overdue("k", 100)
			r.put(p)
			shard := r.shard(p)
			for _, number := range []int{200, 50} {
				q := r.overdue("k", number)
				r.put(q)
				got := r.due(shard, q.Action, 0, r.now())
				if len(got) != 1 || got[0].Due != q.Due || got[0].Revision != q.Revision {
					r.Errorf("after an overwrite Due shows %d plans, want the new one", len(got))
				}
			}
			later := NewPlan("k", WithDue(r.now()+3600))
			r.put(later)
			if got := r.due(shard, later.Action, 0, r.now()); len(got) != 0 {
				r.Errorf("Due shows %d plans that are due in an hour", len(got))
			}
		}},

		// A plan that cannot be read must not stand in the way of those that can,
		// and must not be read again for ever: it is set aside, and counted.
		{name: "undecodable plan", needs: needsCorrupt, run: func(r *rig) {
			bad := r.overdue("bad", 0, WithAction("a"))
			r.put(bad)
			shard := r.shard(bad)
			var good []*scheduler.Plan
			for i := 1; len(good) < 3; i++ {
				p := r.overdue(fmt.Sprintf("good%d", i), i, WithAction("a"))
				r.put(p)
				if r.shard(p) == shard {
					good = append(good, p)
				}
			}
			r.h.Corrupt(bad)
			page, err := r.store.Due(r.ctx, scheduler.DueQuery{Shard: shard, Action: "a", To: r.now(), Limit: 10})
			if err != nil {
				r.Fatalf("Due: %v", err)
			}
			if got, want := planKeys(page.Plans), planKeys(good); !slices.Equal(got, want) || page.Cleared != 1 {
				r.Errorf("Due shows %q and cleared %d, want %q and 1", got, page.Cleared, want)
			}
			page, err = r.store.Due(r.ctx, scheduler.DueQuery{Shard: shard, Action: "a", To: r.now(), Limit: 10})
			if err != nil || page.Cleared != 0 || len(page.Plans) != 3 {
				r.Errorf("the next Due shows %d plans and cleared %d, %v, want 3 and 0", len(page.Plans), page.Cleared, err)
			}
			if got := r.state(); got.Quarantined != 1 {
				r.Errorf("%d plans are quarantined, want 1", got.Quarantined)
			}
			fresh := r.overdue("bad", 9, WithAction("a")) // the key can be used again
			r.put(fresh)
			r.wantPlan(fresh)
			if got := r.state(); got.Quarantined != 0 {
				r.Errorf("%d plans are quarantined after the key was put again, want 0", got.Quarantined)
			}
		}},

		// The same between a leader's read and its claim.
		{name: "plan undecodable at its claim", needs: needsCorrupt, run: func(r *rig) {
			p := r.overdue("k", 1)
			r.put(p)
			shard := r.shard(p)
			r.h.Corrupt(p)
			if a := r.claimOne(p, 0); a.Result != scheduler.ClaimBad {
				r.Errorf("claim of an undecodable plan: answer %d, want %d", a.Result, scheduler.ClaimBad)
			}
			if got := r.due(shard, p.Action, 0, r.now()); len(got) != 0 {
				r.Errorf("Due still shows it")
			}
			if got := r.state(); got.Quarantined != 1 {
				r.Errorf("%d plans are quarantined, want 1", got.Quarantined)
			}
			r.wantNothing(p)
		}},

		// What cannot be read can still be removed, and is passed over in a list.
		{name: "remove an undecodable plan", needs: needsCorrupt, run: func(r *rig) {
			p, other := r.overdue("k", 1, Every(1, 0)), r.overdue("other", 2)
			r.put(p, other)
			shard := r.shard(p)
			r.h.Corrupt(p)
			if got := r.listKeys("", 10); !slices.Equal(got, []string{"other"}) {
				r.Errorf("List shows %q, want the other plan", got)
			}
			got := r.remove("k")
			if d := planDiff(&scheduler.Plan{Key: "k"}, got); d != "" {
				r.Errorf("Remove returned (-want +got):\n%s", d)
			}
			r.wantNone("k")
			if got := r.due(shard, p.Action, 0, r.now()); slices.Contains(planKeys(got), "k") {
				r.Errorf("Due still shows it")
			}
		}},

		// A plan that somebody deleted by hand is dropped from the schedule.
		{name: "entry without a plan", needs: needsOrphan, run: func(r *rig) {
			p, q := r.overdue("k", 1), r.overdue("other", 2)
			r.put(p, q)
			shard := r.shard(p)
			r.shard(q)
			r.h.Orphan(p)
			page, err := r.store.Due(r.ctx, scheduler.DueQuery{Shard: shard, Action: p.Action, To: r.now(), Limit: 10})
			if err != nil {
				r.Fatalf("Due: %v", err)
			}
			if page.Cleared != 1 || slices.Contains(planKeys(page.Plans), "k") {
				r.Errorf("Due shows %q and cleared %d, want k cleared", planKeys(page.Plans), page.Cleared)
			}
			r.h.Orphan(q)
			if a := r.claimOne(q, 0); a.Result != scheduler.ClaimGone {
				r.Errorf("claim of an entry without a plan: answer %d, want %d", a.Result, scheduler.ClaimGone)
			}
			for _, shard := range r.store.ShardIDs() {
				if got := r.due(shard, p.Action, 0, r.now()); len(got) != 0 {
					r.Errorf("Due still shows %q", planKeys(got))
				}
			}
		}},
	}
}
