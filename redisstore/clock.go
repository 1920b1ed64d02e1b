package redisstore

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// drift is how much two clocks may diverge, as a part of the time that passes. That
// of a bad oscillator is 100 µs a second; a clock that is being slewed, 500.
const drift = 0.0005

// askAgainAfter is how old what is known of a clock may become.
const askAgainAfter = time.Minute

// nodeClock is what is known of the clock of a node: bounds of it against the
// monotonic clock of this process.
type nodeClock struct {
	mu    sync.Mutex
	known bool
	best  reading
}

// reading is one answer to TIME: it was theirs at some moment from before to after.
type reading struct {
	before, after time.Time // with monotonic reading
	theirs        time.Time
}

// at bounds the node's time at t.
func (r reading) at(t time.Time) (earliest, latest time.Time) {
	since := t.Sub(r.after)
	slack := time.Duration(float64(since.Abs()) * drift)
	return r.theirs.Add(since - slack), r.theirs.Add(t.Sub(r.before) + slack)
}

// add notes a reading. The best is the one that bounds the clock most closely now;
// a reading that contradicts it shows that the clock was set.
func (c *nodeClock) add(r reading) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known {
		earliest, latest := c.best.at(r.after)
		newEarliest, newLatest := r.at(r.after)
		contradicts := newLatest.Before(earliest) || newEarliest.After(latest)
		if !contradicts && latest.Sub(earliest) < newLatest.Sub(newEarliest) && r.after.Sub(c.best.after) < askAgainAfter {
			return
		}
	}
	c.known, c.best = true, r
}

func (c *nodeClock) get() (r reading, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.best, c.known && time.Since(c.best.after) < askAgainAfter
}

func (c *nodeClock) forget() {
	c.mu.Lock()
	c.known = false
	c.mu.Unlock()
}

var scriptTime = loadScript("time")

// Now is the time of the node that has the first shard.
func (s *Store) Now(ctx context.Context) (time.Time, error) {
	leave, err := s.enter()
	if err != nil {
		return time.Time{}, err
	}
	defer leave()
	r, err := s.askTime(ctx, s.ids[0])
	return r.theirs, storeError("time of redis", err)
}

// askTime asks the node that has a shard for its time.
func (s *Store) askTime(ctx context.Context, shard int) (reading, error) {
	n := s.node(shard)
	r := reading{before: time.Now()}
	answer, err := s.run(ctx, invocation{script: scriptTime, keys: []string{s.shards[shard].leader}})
	if err != nil {
		return reading{}, err
	}
	r.after = time.Now()
	numbers, err := answer.numbers(2)
	if err != nil {
		return reading{}, fmt.Errorf("script time: %w", err)
	}
	r.theirs = time.Unix(numbers[0], numbers[1]*1000)
	n.clock.add(r)
	return r, nil
}

// numbers reads the first n values.
func (r reply) numbers(n int) ([]int64, error) {
	if len(r.values) < n {
		return nil, fmt.Errorf("%w: %d values, not %d", errReply, len(r.values), n)
	}
	all := make([]int64, n)
	for i := range all {
		var err error
		if all[i], err = r.values[i].AsInt64(); err != nil {
			return nil, fmt.Errorf("%w: %w", errReply, err)
		}
	}
	return all, nil
}

// redisDeadlineAt is the last millisecond of the node that has a shard which is over, by
// that node's clock, before ctx's deadline is, as nearly as is known: a
// script that does nothing later than that cannot take effect once ctx is over.
// Without a deadline it is 0; an error says that the node cannot be asked. What is known of a
// clock that was set meanwhile is wrong until it is asked again, within a second or
// so; see forgetTime.
func (s *Store) redisDeadlineAt(ctx context.Context, shard int) (ms int64, err error) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return 0, ctx.Err()
	}
	clock := &s.node(shard).clock
	r, ok := clock.get()
	if !ok {
		if r, err = s.askTime(ctx, shard); err != nil {
			return 0, err
		}
	}
	earliest, _ := r.at(deadline)
	return earliest.UnixMilli() - 1, nil // the one that the deadline is in has a part behind it
}

// forgetTime forgets what is known of the clock of a shard's node: for who was told
// that a deadline is over which cannot be.
func (s *Store) forgetTime(shard int) { s.node(shard).clock.forget() }
