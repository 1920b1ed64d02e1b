package scheduler

import (
	"testing"
	"time"
)

// TestHistogram: each duration is in the first bucket that is not shorter, and the
// buckets of a snapshot add up.
func TestHistogram(t *testing.T) {
	var h Histogram
	for _, d := range []time.Duration{-time.Second, 0, time.Millisecond, time.Millisecond + 1, 5 * time.Minute, 5*time.Minute + 1, time.Hour} {
		h.Observe(d)
	}
	s := h.Snapshot()
	for bound, want := range map[time.Duration]uint64{time.Millisecond: 3, 2 * time.Millisecond: 4, time.Minute: 4, 5 * time.Minute: 5} {
		if s.Buckets[bound] != want {
			t.Errorf("up to %v: %d, want %d", bound, s.Buckets[bound], want)
		}
	}
	if want := 70*time.Minute - time.Second + 2*time.Millisecond + 2; s.Count != 7 || s.Sum != want {
		t.Errorf("%d, %v, want 7, %v", s.Count, s.Sum, want)
	}
}

// TestMeters: outcomes are counted by what the store made of them, and names that are
// not known as one.
func TestMeters(t *testing.T) {
	m := newMeters([]*shard{{id: 3}}, []string{"http"})
	m.action("http").add(&Attempt{Outcome: Succeeded}, FinishedOK)
	m.action("http").add(&Attempt{Outcome: Failed}, FinishedOK)
	m.action("http").add(&Attempt{Outcome: Failed}, FinishedCancelled)
	m.action("http").add(&Attempt{Outcome: Failed}, FinishedBad)
	m.action("http").add(&Attempt{Outcome: Dead}, FinishedOK)
	for i := range 100 {
		m.action(string(rune('a'+i))).add(&Attempt{Outcome: Succeeded}, FinishedOK)
	}
	e := &Engine{meters: m}
	got := e.Meters()
	if o := got.Actions["http"].Outcomes; o[Succeeded] != 1 || o[Failed] != 1 || o[Cancelled] != 1 || o[Dead] != 2 || got.Actions["http"].Took.Count != 5 {
		t.Errorf("http: %+v", got.Actions["http"])
	}
	if got.Actions["other"].Outcomes[Succeeded] != 100 || len(got.Actions) != 2 || len(got.Late) != 1 {
		t.Errorf("got %+v", got)
	}
}

// BenchmarkMeters is what a firing costs for being counted. It must stay below 300 ns,
// a hundredth of what it costs to be claimed, taken and finished.
func BenchmarkMeters(b *testing.B) {
	m := newMeters([]*shard{{id: 0}}, []string{"http"})
	a := &Attempt{Action: "http", Outcome: Succeeded, Late: 3 * time.Millisecond, Took: 40 * time.Millisecond}
	for b.Loop() {
		m.action(a.Action).add(a, FinishedOK)
		m.late[0].Observe(a.Late)
	}
}
