package scheduler

import (
	"slices"
	"strings"
	"time"
)

// replicaLive is how long ago, by the store's clock, a live replica announced
// itself at most: it does so once a second, and sooner when it has news. A dead
// one counts for the spread no longer than about its leases last.
const replicaLive = 3 * time.Second

// live returns the replicas that announced themselves just now. now is the
// store's clock; a time after it is as long ago as one before: the clock was set.
func live(replicas []Replica, now time.Time) []Replica {
	return slices.DeleteFunc(slices.Clone(replicas), func(r Replica) bool { return now.Sub(r.Seen).Abs() > replicaLive })
}

// settleAfter is for how long after a replica fell silent without taking its leave no
// shard is moved: its firings are rescued by who has watched it all along, and a
// replica that came since has not.
const settleAfter = 15 * time.Second

// silent says whether one of the replicas fell silent within settleAfter. now is as
// for live.
func silent(replicas []Replica, now time.Time) bool {
	return slices.ContainsFunc(replicas, func(r Replica) bool {
		ago := now.Sub(r.Seen)
		return replicaLive < ago && ago <= settleAfter
	})
}

const (
	// clockTolerance is by how much clocks that agree may differ.
	clockTolerance = time.Second
	// storeTolerance is how far the store's clock may be from the fleet's before
	// the fleet's decides.
	storeTolerance = 5 * time.Second
	// clockReads is how many announcements in a row must say the same before
	// anything is done about a clock; clockReadEvery is how far apart they must be.
	clockReads     = 3
	clockReadEvery = 900 * time.Millisecond
)

// fleetClock is what the offsets of live replicas say about their clocks.
type fleetClock struct {
	replicas int
	offset   time.Duration // the median of their clocks minus the store's
	agreed   bool          // at least two of them, and more than half, have this clock
}

// compareClocks compares the clocks of live replicas. Where they fall apart in
// halves, or every one is by itself, nobody can tell who is right.
func compareClocks(replicas []Replica) fleetClock {
	n := len(replicas)
	if n == 0 {
		return fleetClock{}
	}
	offsets := make([]time.Duration, n)
	for i, r := range replicas {
		offsets[i] = r.Offset
	}
	slices.Sort(offsets)
	lo, hi := offsets[(n-1)/2], offsets[n/2]
	c := fleetClock{replicas: n, offset: lo + (hi-lo)/2}
	if hi-lo > clockTolerance {
		return c
	}
	near := 0
	for _, o := range offsets {
		if !c.differs(o) {
			near++
		}
	}
	c.agreed = n > 1 && 2*near > n
	return c
}

// differs says whether a replica with this offset has another clock.
func (c fleetClock) differs(offset time.Duration) bool {
	return (offset - c.offset).Abs() > clockTolerance
}

// wrong says whether a replica with this offset is known to be the one that is
// wrong: of two that differ nobody can tell.
func (c fleetClock) wrong(offset time.Duration) bool {
	return c.agreed && c.replicas >= 3 && c.differs(offset)
}

// overrules says whether the store's clock is the one that is wrong, so far that
// the fleet's decides.
func (c fleetClock) overrules() bool { return c.agreed && c.offset.Abs() > storeTolerance }

// streak is a judgement that turns only after clockReads readings in a row.
type streak struct {
	is      bool
	against int
}

// read takes a reading and says whether the judgement has turned.
func (s *streak) read(now bool) (turned bool) {
	if now == s.is {
		s.against = 0
		return false
	}
	if s.against++; s.against < clockReads {
		return false
	}
	s.is, s.against = now, 0
	return true
}

const (
	// spreadAfter is how long an uneven spread must last before a shard is given
	// up: replicas that start or stop together settle by themselves.
	spreadAfter = 2 * time.Second
	// spreadEvery is how soon after one shard the next is given up.
	spreadEvery = time.Second
	// spreadReturn is within what time a shard that was given up and came back says
	// that nobody else can lead it; then spreadAfter is doubled, up to spreadMost.
	spreadReturn = 10 * time.Second
	spreadMost   = 5 * time.Minute
)

// spreader decides when this replica gives up a shard so that all lead about as
// many. It moves a shard only to who leads at least two fewer: what it evens
// out it never has to move back.
type spreader struct {
	me       string
	shards   int
	patience time.Duration
	uneven   time.Time // since when; zero: it is even
	gave     time.Time // when a shard was given up last
	gaveWhat int
	fleet    string // who may lead; news of it ends the doubling
}

// read takes what live replicas announced (this one is among them, but leads
// what mine says) and returns the shard to give up now, if any.
func (s *spreader) read(now time.Time, replicas []Replica, mine []int) (shard int, give bool) {
	fewest, known := len(mine), len(mine)
	first := true // in the order in which those that lead the most give up
	var eager []string
	for _, r := range replicas {
		if r.ID == s.me {
			continue
		}
		known += len(r.Leads)
		if !r.Eager {
			continue
		}
		eager = append(eager, r.ID)
		fewest = min(fewest, len(r.Leads))
		if len(r.Leads) > len(mine) || len(r.Leads) == len(mine) && r.ID < s.me {
			first = false
		}
	}
	slices.Sort(eager)
	if fleet := strings.Join(eager, "\n"); s.patience == 0 || fleet != s.fleet {
		s.fleet, s.patience = fleet, spreadAfter
	}
	switch {
	case fewest+2 > len(mine) || !first:
		s.uneven = time.Time{}
		return 0, false
	case s.uneven.IsZero():
		s.uneven = now
		return 0, false
	case known < s.shards: // one is on its way, to whom is not known yet
		return 0, false
	case now.Sub(s.uneven) < s.patience || now.Sub(s.gave) < spreadEvery:
		return 0, false
	}
	s.gave, s.gaveWhat = now, mine[len(mine)-1]
	return s.gaveWhat, true
}

// won notes that this replica leads a shard (again).
func (s *spreader) won(now time.Time, shard int) {
	if !s.gave.IsZero() && shard == s.gaveWhat && now.Sub(s.gave) < spreadReturn {
		s.patience = min(2*s.patience, spreadMost)
		s.uneven = time.Time{}
	}
}
