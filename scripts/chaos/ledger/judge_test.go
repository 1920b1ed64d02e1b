package ledger

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// t0 is the second at which everything of these tests is created.
var t0 = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

// asked is a journal in which what create and remove say was done at once.
type asked struct{ *Journal }

func newAsked(t *testing.T) asked {
	j, err := NewJournal(filepath.Join(t.TempDir(), "journal"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	return asked{j}
}

func (a asked) event(key string, spec *Spec, at time.Duration, result Result, due int64) {
	e := &Event{Key: key, Spec: spec}
	a.Sending(e)
	e.Sent = t0.Add(at)
	if result != Unknown {
		a.Answered(Answer{Event: e, Result: result, Due: due})
		e.Answered = e.Sent
	}
}

func (a asked) create(key string, spec Spec, at time.Duration) {
	a.event(key, &spec, at, Done, spec.first(t0.Add(at).Unix()))
}

// late is a create that is answered later.
func (a asked) late(key string, spec Spec, sent, answered time.Duration) {
	a.create(key, spec, sent)
	a.byKey[key][len(a.byKey[key])-1].Answered = t0.Add(answered)
}

func (a asked) remove(key string, at time.Duration) { a.event(key, nil, at, Done, 0) }

// call is a receipt: of the second due after t0, received late after that.
func call(key string, due, attempt int, late time.Duration, agent string) Receipt {
	second := t0.Unix() + int64(due)
	at := time.Unix(second, 0).Add(late)
	return Receipt{Firing: fmt.Sprint(key, second), Key: key, Due: second, Attempt: attempt, Agent: agent, At: at, Done: at}
}

// underID is a call with another id.
func underID(r Receipt, id string) Receipt {
	r.Firing = id
	return r
}

// rules of these tests: a worker named a died 10 s after t0.
var rules = Rules{
	Until: t0.Unix() + 20, MaxLate: 3 * time.Second, Rerun: 12 * time.Second, Finish: time.Second,
	Deaths: []Death{{"a", t0.Add(10 * time.Second)}},
}

// TestJudgeFinds: each way to break a promise is found, as what it is, and nothing
// else is.
func TestJudgeFinds(t *testing.T) {
	t.Parallel()
	ms := time.Millisecond
	good := []Receipt{call("one", 5, 1, ms, "b"), call("each", 4, 1, ms, "a"), call("each", 8, 1, ms, "b")}
	change := func(i int, f func(*Receipt)) []Receipt {
		all := slices.Clone(good)
		f(&all[i])
		return all
	}
	unanswered := call("one", 5, 1, 4990*ms, "a") // held when a died
	unanswered.Done = time.Time{}
	for _, row := range []struct {
		why      string
		receipts []Receipt
		want     [6]int // lost, early, repeated, foreign, too late, wrong
		rescued  int
	}{
		{why: "all is well", receipts: good},
		{"one is missing", good[1:], [6]int{1}, 0},
		{"a millisecond early", change(0, func(r *Receipt) { r.At = r.At.Add(-2 * ms) }), [6]int{0, 1}, 0},
		{"too late", change(0, func(r *Receipt) { r.At = r.At.Add(3 * time.Second) }), [6]int{0, 0, 0, 0, 1}, 0},
		{"again, its worker lives", append(good[:3:3], call("one", 5, 2, 9*time.Second, "c")), [6]int{0, 0, 1}, 0},
		{"again, its worker died long after", append(good[:3:3], call("each", 4, 2, 9*time.Second, "c")), [6]int{0, 0, 1}, 0},
		{"again, its worker died holding it", []Receipt{good[1], good[2], unanswered, call("one", 5, 2, 10*time.Second, "c")}, [6]int{0, 0, 0, 0, 1}, 1},               // received 4.99 s late
		{"again, its worker died having called", append(good[:3:3], call("each", 10, 1, 100*ms, "a"), call("each", 10, 2, 8*time.Second, "c")), [6]int{0, 0, 0, 1}, 1}, // and once too often
		{"under another id", append(good[:3:3], func() Receipt {
			r := call("one", 5, 1, time.Second, "c")
			r.Firing = "another"
			return r
		}()), [6]int{0, 0, 1, 0, 0, 2}, 0},
		{"no id", change(0, func(r *Receipt) { r.Firing = "" }), [6]int{0, 0, 0, 0, 0, 1}, 0},
		{"its worker died over it, nobody ran it again", change(1, func(r *Receipt) { r.Done, r.Gone = time.Time{}, true }), [6]int{1}, 0},
		{"only by its second worker", change(2, func(r *Receipt) { *r = call("each", 8, 2, 9*time.Second, "b") }), [6]int{}, 1},
		{"only by its second worker, too late", change(2, func(r *Receipt) { *r = call("each", 8, 2, 15*time.Second, "b") }), [6]int{0, 0, 0, 0, 1}, 1},
		{"a second attempt from the start", change(0, func(r *Receipt) { r.Attempt = 2 }), [6]int{0, 0, 1}, 0},
		{"once too often", append(good[:3:3], call("each", 12, 1, ms, "b")), [6]int{0, 0, 0, 1}, 0},
		{"never asked for", append(good[:3:3], call("other", 5, 1, ms, "b")), [6]int{0, 0, 0, 1}, 0},
		{"in another second", append(good[1:3:3], call("one", 6, 1, ms, "b")), [6]int{1, 0, 0, 1}, 0},
	} {
		a := newAsked(t)
		a.create("one", Spec{Every: 5, Count: 1}, 0)
		a.create("each", Spec{Every: 4, Count: 2}, 0)
		v := Judge(a.Journal, row.receipts, rules)
		got := [6]int{len(v.Lost), len(v.Early), len(v.Repeated), len(v.Foreign), len(v.TooLate), len(v.Wrong)}
		if got != row.want || v.Rescued != row.rescued {
			t.Errorf("%s: got %v and %d rescued, want %v and %d\n%s", row.why, got, v.Rescued, row.want, row.rescued, v.Problems(5))
		}
	}
}

// TestJudgeKnowsChanges: what removes, replacements and lost answers allow.
func TestJudgeKnowsChanges(t *testing.T) {
	t.Parallel()
	ms := time.Millisecond
	quick := rules
	quick.Deaths = nil
	for _, row := range []struct {
		why      string
		ask      func(asked)
		receipts []Receipt
		want     string // of Problems(0)
	}{
		{"removed long after", func(a asked) { a.create("k", Spec{Every: 2, Count: 1}, 0); a.remove("k", 9*time.Second) }, nil, "lost: 1\n"},
		{"removed just after", func(a asked) { a.create("k", Spec{Every: 2, Count: 1}, 0); a.remove("k", 3*time.Second) }, nil, ""},
		{"removed just after, fired", func(a asked) { a.create("k", Spec{Every: 2, Count: 1}, 0); a.remove("k", 3*time.Second) }, []Receipt{call("k", 2, 1, ms, "a")}, ""},
		{"fired though removed", func(a asked) { a.create("k", Spec{Every: 2, Count: 1}, 0); a.remove("k", time.Second) }, []Receipt{call("k", 2, 1, ms, "a")}, "foreign: 1\n"},
		{"a remove that was refused", func(a asked) { a.create("k", Spec{Every: 9, Count: 1}, 0); a.event("k", nil, time.Second, Refused, 0) }, nil, "lost: 1\n"},
		{"a remove without answer", func(a asked) { a.create("k", Spec{Every: 9, Count: 1}, 0); a.event("k", nil, time.Second, Unknown, 0) }, nil, ""},
		{"the same, and it fired", func(a asked) { a.create("k", Spec{Every: 9, Count: 1}, 0); a.event("k", nil, time.Second, Unknown, 0) }, []Receipt{call("k", 9, 1, ms, "a")}, ""},
		{"the same, in another second", func(a asked) {
			a.create("k", Spec{Every: 9, Count: 1}, 0)
			a.event("k", nil, time.Second, Unknown, 0)
			a.remove("k", 2*time.Second)
		}, []Receipt{call("k", 9, 1, ms, "a")}, "foreign: 1\n"},
		{"replaced", func(a asked) {
			a.create("k", Spec{Every: 9, Count: 1}, 0)
			a.create("k", Spec{Every: 4, Count: 1}, time.Second)
		}, []Receipt{call("k", 5, 1, ms, "a")}, ""},
		{"replaced, and fired all the same", func(a asked) {
			a.create("k", Spec{Every: 9, Count: 1}, 0)
			a.create("k", Spec{Every: 4, Count: 1}, time.Second)
		}, []Receipt{call("k", 5, 1, ms, "a"), call("k", 9, 1, ms, "a")}, "foreign: 1\n"},
		{"replaced by one that is due in a second that has fired", func(a asked) {
			a.create("k", Spec{Every: 9, Count: 1}, 0)
			a.late("k", Spec{Every: 9, Count: 1}, 500*ms, 11*time.Second)
		}, []Receipt{call("k", 9, 1, ms, "a"), underID(call("k", 9, 1, 2*time.Second, "b"), "other")}, ""},
		{"the same, three times", func(a asked) {
			a.create("k", Spec{Every: 9, Count: 1}, 0)
			a.late("k", Spec{Every: 9, Count: 1}, 500*ms, 11*time.Second)
		}, []Receipt{call("k", 9, 1, ms, "a"), underID(call("k", 9, 1, 2*time.Second, "b"), "other"), underID(call("k", 9, 1, 2500*ms, "b"), "third")}, "repeated: 1\nwrong: 1\n"},
		{"the same, under one id", func(a asked) {
			a.create("k", Spec{Every: 9, Count: 1}, 0)
			a.late("k", Spec{Every: 9, Count: 1}, 500*ms, 11*time.Second)
		}, []Receipt{call("k", 9, 1, ms, "a"), call("k", 9, 1, 2*time.Second, "b")}, "repeated: 1\nwrong: 1\n"},
		{"replaced by one without an answer, which fired too", func(a asked) {
			a.create("k", Spec{Every: 9, Count: 1}, 0)
			a.event("k", &Spec{Every: 8, Count: 1}, time.Second, Unknown, 0)
			a.create("k", Spec{Every: 5, Count: 1}, 11*time.Second)
		}, []Receipt{call("k", 9, 1, ms, "a"), underID(call("k", 9, 1, 2*time.Second, "b"), "other"), call("k", 16, 1, ms, "a")}, ""},
		{"no end", func(a asked) { a.create("k", Spec{Every: 9}, 0) }, []Receipt{call("k", 9, 1, ms, "a"), call("k", 18, 1, ms, "a"), call("k", 27, 1, ms, "a")}, ""},
		{"calendar", func(a asked) { a.create("k", Spec{Calendar: EachMinute(7)}, 0) }, []Receipt{call("k", 7, 1, ms, "a")}, ""},
		{"date", func(a asked) { a.create("k", Spec{Calendar: OnDate(t0.Add(9 * time.Second))}, 0) }, nil, "lost: 1\n"},
		{"first due second", func(a asked) { a.event("k", &Spec{Every: 30, Count: 1}, 0, Done, t0.Unix()+31) }, nil, "wrong: 1\n"},
	} {
		a := newAsked(t)
		row.ask(a)
		if v := Judge(a.Journal, row.receipts, quick); v.Problems(0) != row.want {
			t.Errorf("%s: got %q, want %q", row.why, v.Problems(3), row.want)
		}
	}
}

// anonymous makes calls that cannot tell who makes them, as those to a List are; over
// Thrift they have no id and no attempt either.
func anonymous(overThrift bool, calls ...Receipt) []Receipt {
	for i := range calls {
		calls[i].Agent = ""
		if overThrift {
			calls[i].Firing, calls[i].Attempt = "", 0
		}
	}
	return calls
}

// TestJudgeAnonymous: a call that cannot tell who makes it may be repeated when any
// worker died that can have held it, and not otherwise.
func TestJudgeAnonymous(t *testing.T) {
	t.Parallel()
	ms := time.Millisecond
	for _, row := range []struct {
		why     string
		calls   []Receipt
		want    string // of Problems(0), over Thrift and not
		rescued int
	}{
		{"once", []Receipt{call("k", 9, 1, ms, "")}, "", 0},
		{"again, none died by then", []Receipt{call("k", 9, 1, ms, ""), call("k", 9, 2, 500*ms, "")}, "repeated: 1\n", 0},
		{"again, one died soon after", []Receipt{call("k", 9, 1, 400*ms, ""), call("k", 9, 2, 8*time.Second, "")}, "", 1},
		{"again, one died long after", []Receipt{call("k", 8, 1, ms, ""), call("k", 8, 2, 9*time.Second, "")}, "repeated: 1\n", 0},
		{"again, and again", []Receipt{call("k", 9, 1, 400*ms, ""), call("k", 9, 2, 8*time.Second, ""), call("k", 9, 3, 9*time.Second, "")}, "repeated: 1\n", 1},
		{"late, by its second worker", []Receipt{call("k", 9, 2, 8*time.Second, "")}, "", 1},
		{"later than that", []Receipt{call("k", 9, 2, 14*time.Second, "")}, "too late: 1\n", 1},
		{"late, none died", []Receipt{call("k", 12, 1, 6*time.Second, "")}, "too late: 1\n", 0},
	} {
		for _, overThrift := range []bool{false, true} {
			a := newAsked(t)
			a.create("k", Spec{Every: row.calls[0].Due - t0.Unix(), Count: 1}, 0)
			v := Judge(a.Journal, anonymous(overThrift, slices.Clone(row.calls)...), rules)
			if v.Problems(0) != row.want || v.Rescued != row.rescued {
				t.Errorf("%s, over Thrift %t: got %q and %d rescued, want %q and %d", row.why, overThrift, v.Problems(3), v.Rescued, row.want, row.rescued)
			}
		}
	}
}

// TestJournalIsReadBack: what a journal wrote is judged as the journal is.
func TestJournalIsReadBack(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "journal")
	j, err := NewJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	interval, calendar, gone := &Event{Key: "i", Spec: &Spec{Every: 2, Count: 3}}, &Event{Key: "c", Spec: &Spec{Calendar: EachMinute(7)}}, &Event{Key: "i"}
	j.Sending(interval, calendar)
	j.Sending(gone)
	j.Answered(Answer{Event: interval, Result: Done, Due: interval.Sent.Unix() + 2})
	j.Answered(Answer{Event: calendar, Result: Refused})
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	read, err := ReadJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	times := cmp.Comparer(func(a, b time.Time) bool { return a.Equal(b) })
	if diff := cmp.Diff(j.byKey, read.byKey, times, cmp.AllowUnexported(Event{})); diff != "" || !slices.Equal(j.order, read.order) {
		t.Errorf("read %v: %s", read.order, diff)
	}
	if err := os.WriteFile(path, []byte(`{"number":1,"time":5,"key":"k"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadJournal(path); err == nil {
		t.Error("a journal whose beginning is missing is read")
	}
}

func TestDues(t *testing.T) {
	t.Parallel()
	from := t0.Unix()
	for _, row := range []struct {
		why  string
		spec Spec
		want []int64 // after t0, up to 130 s
	}{
		{"interval", Spec{Every: 50}, []int64{50, 100}},
		{"interval, counted", Spec{Every: 30, Count: 3}, []int64{30, 60, 90}},
		{"each minute", Spec{Calendar: EachMinute(9)}, []int64{9, 69, 129}},
		{"date", Spec{Calendar: OnDate(t0.Add(61 * time.Second))}, []int64{61}},
		{"Thursday at 12:01:05", Spec{Calendar: &Calendar{5, 1, 12, Any, Any, 4}}, []int64{65}},
		{"the 1st or a Thursday", Spec{Calendar: &Calendar{5, 1, 12, 1, Any, 4}}, []int64{65}},
		{"the 1st", Spec{Calendar: &Calendar{5, 1, 12, 1, Any, Any}}, nil},
	} {
		var got []int64
		for _, due := range row.spec.dues(row.spec.first(from), from+130) {
			got = append(got, due-from)
		}
		if !slices.Equal(got, row.want) {
			t.Errorf("%s: got %v, want %v", row.why, got, row.want)
		}
	}
}

// TestJudgeKnowsUnnoted: an attempt may have the number of one that had only just begun
// when its worker died, and of no other.
func TestJudgeKnowsUnnoted(t *testing.T) {
	t.Parallel()
	lenient := rules
	lenient.Unnoted = 500 * time.Millisecond
	for _, row := range []struct {
		why   string
		rules Rules
		due   int // 10 s after t0 its worker died
		again int // the attempt after
		wrong int
	}{
		{"just begun", lenient, 10, 1, 0},
		{"just begun, where that is always noted", rules, 10, 1, 1},
		{"begun long before", lenient, 9, 1, 1},
		{"the next number", lenient, 9, 2, 0},
	} {
		first := call("k", row.due, 1, 0, "a")
		first.Done = time.Time{}
		a := newAsked(t)
		a.create("k", Spec{Every: int64(row.due), Count: 1}, 0)
		v := Judge(a.Journal, []Receipt{first, call("k", row.due, row.again, 3*time.Second, "b")}, row.rules)
		if len(v.Wrong) != row.wrong || v.Rescued != 1 {
			t.Errorf("%s: %s\n%s", row.why, v, v.Problems(5))
		}
	}
}
