package ledger

import (
	"testing"
	"time"
)

// TestJudgeKnowsRollbacks: what a store that lost its newest writes may do, and no more.
func TestJudgeKnowsRollbacks(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	after := func(s int) time.Time { return t0.Add(time.Duration(s) * time.Second) }
	lagged, emptied := Rollback{To: after(6), At: after(10)}, Rollback{At: after(10)}
	durable := lagged
	durable.Acknowledged = true
	once := Spec{Every: 15, Count: 1}
	each := Spec{Every: 1, Count: 0}
	early := func(a asked) { a.create("k", once, 0) }
	for _, row := range []struct {
		why      string
		rollback Rollback
		ask      func(asked)
		receipts []Receipt
		want     string // of Problems(0)
		undone   int
		again    int
	}{
		{"a plan of before it", lagged, early, []Receipt{call("k", 15, 1, ms, "a")}, "", 0, 0},
		{"a plan of before it, lost", lagged, early, nil, "lost: 1\n", 0, 0},
		{"a plan in it", lagged, func(a asked) { a.create("k", Spec{Every: 9, Count: 1}, 8*time.Second) }, []Receipt{call("k", 17, 1, ms, "a")}, "", 0, 0},
		{"a plan in it, lost", lagged, func(a asked) { a.create("k", Spec{Every: 9, Count: 1}, 8*time.Second) }, nil, "", 1, 0},
		{"the same, though acknowledged", durable, func(a asked) { a.create("k", Spec{Every: 9, Count: 1}, 8*time.Second) }, nil, "lost: 1\n", 0, 0},
		{"a plan in it that is due long before its end", lagged, func(a asked) { a.create("k", Spec{Every: 1, Count: 1}, 6*time.Second) }, nil, "lost: 1\n", 0, 0},
		{"a plan in it that is due just before its end", lagged, func(a asked) { a.create("k", Spec{Every: 3, Count: 1}, 6*time.Second) }, nil, "", 0, 0},
		{"a plan of after it, lost", lagged, func(a asked) { a.create("k", Spec{Every: 4, Count: 1}, 12*time.Second) }, nil, "lost: 1\n", 0, 0},
		{"everything, lost", emptied, early, nil, "", 1, 0},
		{"everything, due long before it", emptied, func(a asked) { a.create("k", Spec{Every: 2, Count: 1}, 0) }, nil, "lost: 1\n", 0, 0},
		{"everything, asked for again", emptied, func(a asked) { early(a); a.create("k", Spec{Every: 4, Count: 1}, 12*time.Second) }, nil, "lost: 1\n", 0, 0},
		{
			"and what was before comes, too", emptied, func(a asked) { early(a); a.create("k", Spec{Every: 4, Count: 1}, 12*time.Second) },
			[]Receipt{call("k", 15, 1, ms, "a"), call("k", 16, 1, ms, "a")},
			"foreign: 1\n", 0, 0,
		},
		{"a remove, undone", lagged, func(a asked) { early(a); a.remove("k", 8*time.Second) }, []Receipt{call("k", 15, 1, ms, "a")}, "", 0, 0},
		{"a remove, undone though acknowledged", durable, func(a asked) { early(a); a.remove("k", 8*time.Second) }, []Receipt{call("k", 15, 1, ms, "a")}, "foreign: 1\n", 0, 0},
		{
			"a remove, undone, and again", lagged, func(a asked) { early(a); a.remove("k", 8*time.Second); a.remove("k", 12*time.Second) },
			[]Receipt{call("k", 15, 1, ms, "a")},
			"foreign: 1\n", 0, 0,
		},
		{"a remove of before it, undone", lagged, func(a asked) { early(a); a.remove("k", 2*time.Second) }, []Receipt{call("k", 15, 1, ms, "a")}, "foreign: 1\n", 0, 0},
		{"a change, undone", lagged, func(a asked) { early(a); a.create("k", Spec{Every: 9, Count: 1}, 8*time.Second) }, []Receipt{call("k", 15, 1, ms, "a")}, "", 1, 0},
		{
			"again, claimed in it", lagged, func(a asked) { a.create("k", Spec{Every: 8, Count: 1}, 0) },
			[]Receipt{call("k", 8, 1, ms, "a"), call("k", 8, 1, 4*time.Second, "b")},
			"", 0, 1,
		},
		{
			"again, claimed in it, twice", lagged, func(a asked) { a.create("k", Spec{Every: 8, Count: 1}, 0) },
			[]Receipt{call("k", 8, 1, ms, "a"), call("k", 8, 1, 4*time.Second, "b"), call("k", 8, 1, 5*time.Second, "b")},
			"repeated: 1\nwrong: 1\n", 0, 1,
		},
		{
			"again, before it", lagged, func(a asked) { a.create("k", Spec{Every: 8, Count: 1}, 0) },
			[]Receipt{call("k", 8, 1, ms, "a"), call("k", 8, 2, time.Second, "b")},
			"repeated: 1\n", 0, 0,
		},
		{
			"again, done long before it", lagged, func(a asked) { a.create("k", Spec{Every: 3, Count: 1}, 0) },
			[]Receipt{call("k", 3, 1, ms, "a"), call("k", 3, 2, 9*time.Second, "b")},
			"repeated: 1\n", 0, 0,
		},
		{
			"again, due after it", lagged, func(a asked) { a.create("k", each, 10*time.Second); a.remove("k", 11*time.Second) },
			[]Receipt{call("k", 11, 1, ms, "a"), call("k", 11, 2, time.Second, "b")},
			"repeated: 1\n", 0, 0,
		},
	} {
		a := newAsked(t)
		row.ask(a)
		v := Judge(a.Journal, row.receipts, Rules{Until: t0.Unix() + 20, MaxLate: 5 * time.Second, Unclaimed: 2 * time.Second, Rollbacks: []Rollback{row.rollback}})
		if v.Problems(0) != row.want || v.Undone != row.undone || v.RolledBack != row.again {
			t.Errorf("%s: got %q, %d undone, %d called again; want %q, %d, %d", row.why, v.Problems(3), v.Undone, v.RolledBack, row.want, row.undone, row.again)
		}
	}
}
