package scheduler

import (
	"sync/atomic"
	"time"
)

// histogramBounds are the upper bounds of a Histogram's buckets. What is due at the
// second starts within milliseconds of it; what was down starts minutes late.
var histogramBounds = [...]time.Duration{
	time.Millisecond, 2 * time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond, 20 * time.Millisecond,
	50 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute, 5 * time.Minute,
}

// Histogram counts durations in buckets. It is safe for concurrent use; the zero
// value is ready.
type Histogram struct {
	buckets [len(histogramBounds) + 1]atomic.Uint64 // the last: longer than all bounds
	sum     atomic.Int64                            // nanoseconds
}

// Observe counts d.
func (h *Histogram) Observe(d time.Duration) {
	lo, hi := 0, len(histogramBounds)
	for lo < hi {
		if mid := (lo + hi) / 2; d <= histogramBounds[mid] {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	h.buckets[lo].Add(1)
	h.sum.Add(int64(d))
}

// Snapshot is a Histogram at about one moment.
type Snapshot struct {
	Count   uint64
	Sum     time.Duration
	Buckets map[time.Duration]uint64 // upper bound → how many were at most that long
}

// Snapshot returns what was counted.
func (h *Histogram) Snapshot() Snapshot {
	s := Snapshot{Buckets: make(map[time.Duration]uint64, len(histogramBounds)), Sum: time.Duration(h.sum.Load())}
	for i := range h.buckets {
		s.Count += h.buckets[i].Load()
		if i < len(histogramBounds) {
			s.Buckets[histogramBounds[i]] = s.Count
		}
	}
	return s
}

// meters is what an engine counts by shard and by action. The maps never change.
type meters struct {
	late    map[int]*Histogram
	actions map[string]*actionMeter
}

// otherAction stands for actions that this engine does not run: a store may hold
// names that nobody knows, and meters must not grow with them.
const otherAction = "other"

type actionMeter struct {
	succeeded, failed, dead, cancelled atomic.Int64
	took                               Histogram
}

func newMeters(shards []*shard, actions []string) meters {
	m := meters{late: make(map[int]*Histogram), actions: map[string]*actionMeter{otherAction: {}}}
	for _, s := range shards {
		m.late[s.id] = &Histogram{}
	}
	for _, name := range actions {
		m.actions[name] = &actionMeter{}
	}
	return m
}

func (m *meters) action(name string) *actionMeter {
	if of := m.actions[name]; of != nil {
		return of
	}
	return m.actions[otherAction]
}

// add counts an attempt whose finish was answered with answer.
func (a *actionMeter) add(attempt *Attempt, answer Finished) {
	a.took.Observe(attempt.Took)
	switch {
	case answer == FinishedCancelled:
		a.cancelled.Add(1)
	case answer == FinishedBad, attempt.Outcome == Dead:
		a.dead.Add(1)
	case attempt.Outcome == Failed:
		a.failed.Add(1)
	default:
		a.succeeded.Add(1)
	}
}

// Meters is what an engine has counted since it was made.
type Meters struct {
	Late    map[int]Snapshot        // by shard: how late first attempts began that this replica ran
	Actions map[string]ActionMeters // "other": actions that this replica does not run
}

// ActionMeters is what came of the attempts of one action here.
type ActionMeters struct {
	Outcomes map[Outcome]int64
	Took     Snapshot // how long they ran
}

// Meters returns what this replica has counted.
func (e *Engine) Meters() Meters {
	m := Meters{Late: make(map[int]Snapshot), Actions: make(map[string]ActionMeters)}
	for id, h := range e.meters.late {
		m.Late[id] = h.Snapshot()
	}
	for name, a := range e.meters.actions {
		m.Actions[name] = ActionMeters{
			Outcomes: map[Outcome]int64{
				Succeeded: a.succeeded.Load(), Failed: a.failed.Load(), Dead: a.dead.Load(), Cancelled: a.cancelled.Load(),
			},
			Took: a.took.Snapshot(),
		}
	}
	return m
}
