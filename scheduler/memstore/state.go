package memstore

import (
	"context"
	"math"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/snower/forsun/scheduler"
)

// overdueBound is how many overdue plans of an action Shards counts: more are
// reported as this many.
const overdueBound = 10_000

// snapshot returns the counters.
func (s *Store) snapshot() counters {
	s.seen.mu.Lock()
	defer s.seen.mu.Unlock()
	return s.seen.counters
}

// Shards returns the state of the shard. Overdue stops counting at 10,000 per
// action; the rest costs nothing.
func (s *Store) Shards(ctx context.Context, now time.Time) ([]scheduler.ShardState, error) {
	leave, err := s.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	c := s.snapshot()
	st := scheduler.ShardState{
		Shard: shardID, Plans: c.plans, Retries: c.retries, Dead: c.dead, Quarantined: c.quarantined,
		Queued: make(map[string]int64), Running: make(map[string]int64),
	}
	l := &s.leases
	l.mu.Lock()
	st.Term = l.term
	if l.current() {
		st.Leader = l.replica
	}
	l.mu.Unlock()
	actions := s.work.byName()
	s.work.mu.Lock()
	for _, a := range actions {
		if a.queue.n > 0 {
			st.Queued[a.name] = int64(a.queue.n)
		}
		if a.running > 0 {
			st.Running[a.name] = int64(a.running)
		}
	}
	s.work.mu.Unlock()
	for _, a := range actions {
		lo, hi := appendDueBound(nil, a.name, math.MinInt64), appendDueBound(nil, a.name, now.Unix())
		n := int64(0)
		err := s.scanDue(a, lo, hi, true, func(k, _ []byte) (bool, error) {
			due, _, ok := splitScheduleKey(k, a.name)
			if ok && (st.OldestDue == 0 || due < st.OldestDue) {
				st.OldestDue = due
			}
			n++
			return n < overdueBound, nil
		})
		if err != nil {
			return nil, err
		}
		st.Overdue += n
	}
	return []scheduler.ShardState{st}, nil
}

// ShardOf returns the one shard there is: see scheduler.PlanStore.
func (s *Store) ShardOf(string) int { return shardID }

// actionsByName returns all actions there are plans or firings of.
func (s *Store) actionsByName() []*action { return s.work.byName() }

// loadActions finds the actions that have a schedule, by one seek each.
func (s *Store) loadActions() error {
	lower, upper := spaceBounds(spaceSchedule)
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return s.readError(err)
	}
	defer func() { _ = it.Close() }()
	for ok := it.First(); ok; {
		name := it.Key()[1:]
		for i, c := range name {
			if c == 0 {
				name = name[:i]
				break
			}
		}
		a := s.work.action(string(name))
		ok = it.SeekGE(actionEnd(nil, a.name))
	}
	return s.iterError(it)
}
