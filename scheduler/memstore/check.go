package memstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/snower/forsun/scheduler"
)

// maxFindings bounds what Check reports.
const maxFindings = 100

// Check reads the whole store, as it is at one moment, and returns what does not
// fit together, at most 100 findings: none in a store that is well. It takes
// time in proportion to what is stored, holds up nobody, and changes nothing.
func (s *Store) Check(ctx context.Context) (findings []string, err error) {
	leave, err := s.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	view := s.db.NewSnapshot()
	defer func() { _ = view.Close() }()
	c := &checker{ctx: ctx, view: view}
	for _, part := range []func() error{c.plans, c.schedule, c.firings, c.retries, c.journal, c.count} {
		if err := part(); err != nil && !errors.Is(err, errEnough) {
			return c.findings, s.readError(err)
		}
	}
	return c.findings, nil
}

var errEnough = errors.New("enough findings")

type checker struct {
	ctx      context.Context
	view     *pebble.Snapshot
	findings []string
	found    counters // what the counters should say
	entries  int64    // in schedules
	byKey    int64    // retries by key
}

// find notes what is wrong.
func (c *checker) find(format string, args ...any) error {
	if len(c.findings) >= maxFindings {
		return errEnough
	}
	c.findings = append(c.findings, fmt.Sprintf(format, args...))
	return nil
}

// each calls fn with every entry of a keyspace.
func (c *checker) each(space byte, fn func(k, v []byte) error) error {
	lower, upper := spaceBounds(space)
	it, err := c.view.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return err
	}
	defer func() { _ = it.Close() }()
	for n, ok := 0, it.First(); ok; n, ok = n+1, it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		if err := fn(it.Key(), v); err != nil {
			return err
		}
		if n%1024 == 0 && c.ctx.Err() != nil {
			return context.Cause(c.ctx)
		}
	}
	return it.Error()
}

func (c *checker) has(key []byte) (bool, error) {
	_, closer, err := c.view.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, closer.Close()
}

// plans: every locator leads to a plan.
func (c *checker) plans() error {
	return c.each(spacePlan, func(k, v []byte) error {
		c.found.plans++
		key := string(k[1:])
		action, due, err := decodeLocator(v)
		if err != nil {
			return c.find("plan %q: its locator cannot be decoded: %v", key, err)
		}
		ok, err := c.has(appendScheduleKey(nil, action, due, key))
		if err == nil && !ok {
			err = c.find("plan %q: not in the schedule of %s at %d, where it should be", key, action, due)
		}
		return err
	})
}

// schedule: every entry holds a plan, and is where its locator says. As many
// entries as locators then means: just one each.
func (c *checker) schedule() error {
	err := c.each(spaceSchedule, func(k, v []byte) error {
		c.entries++
		end := bytes.IndexByte(k, 0)
		if end < 0 {
			return c.find("schedule: key %x is not one", k)
		}
		action := string(k[1:end])
		due, key, ok := splitScheduleKey(k, action)
		if !ok {
			return c.find("schedule: key %x is not one", k)
		}
		if _, err := decodePlan(key, action, due, v); err != nil {
			return c.find("plan %q: cannot be decoded: %v", key, err)
		}
		ok, err := c.has(appendPlanKey(nil, string(key)))
		if err == nil && !ok {
			err = c.find("plan %q: in the schedule of %s at %d, but not among the plans", key, action, due)
		}
		return err
	})
	if err == nil && c.entries != c.found.plans {
		err = c.find("%d plans, but %d entries in schedules", c.found.plans, c.entries)
	}
	return err
}

// firings: every record can be decoded; every mark is of one that is there.
func (c *checker) firings() error {
	err := c.each(spaceFiring, func(k, v []byte) error {
		if f, err := decodeFiring(v); err != nil {
			return c.find("firing %x: cannot be decoded: %v", k[1:], err)
		} else if _, err := f.plan(); err != nil {
			return c.find("firing %x of %q: its plan cannot be decoded: %v", k[1:], f.key, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return c.each(spaceCancelled, func(k, _ []byte) error {
		ok, err := c.has(append([]byte{spaceFiring}, k[1:]...))
		if err == nil && !ok {
			err = c.find("firing %x: marked as cancelled, but not there", k[1:])
		}
		return err
	})
}

// retries: by time and by key are the same.
func (c *checker) retries() error {
	err := c.each(spaceRetry, func(k, v []byte) error {
		c.found.retries++
		_, seq, ok := splitRetryKey(k)
		f, err := decodeFiring(v)
		if !ok || err != nil {
			return c.find("retry %x: cannot be decoded: %v", k[1:], err)
		}
		ok, err = c.has(appendRetryByKey(nil, f.key, seq))
		if err == nil && !ok {
			err = c.find("retry %x of %q: not found by its key", k[1:], f.key)
		}
		return err
	})
	if err != nil {
		return err
	}
	err = c.each(spaceRetryByKey, func(k, v []byte) error {
		c.byKey++
		key, seq, ok := splitRetryByKey(k)
		w, err := decodeWaiting(v)
		if !ok || err != nil {
			return c.find("retry by key %x: cannot be decoded: %v", k[1:], err)
		}
		ok, err = c.has(appendRetryKey(nil, w.ms, seq))
		if err == nil && !ok {
			err = c.find("retry of %q: by its key it is due at ms %d, where it is not", key, w.ms)
		}
		return err
	})
	if err == nil && c.byKey != c.found.retries {
		err = c.find("%d retries by time, but %d by key", c.found.retries, c.byKey)
	}
	return err
}

// journal: dead letters and history can be decoded.
func (c *checker) journal() error {
	err := c.each(spaceDead, func(k, v []byte) error {
		c.found.dead++
		if _, _, _, err := decodeDead(v); err != nil {
			return c.find("dead letter %x: cannot be decoded: %v", k[1:], err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	err = c.each(spaceQuarantine, func(_, _ []byte) error {
		c.found.quarantined++
		return nil
	})
	if err != nil {
		return err
	}
	return c.each(spaceHistory, func(k, v []byte) error {
		_, _, n, ok := splitHistoryKey(k)
		if !ok {
			return c.find("history: key %x is not one", k)
		}
		c.found.attempts += int64(n)
		if err := decodeAttempts(v, n, func(int, *scheduler.Attempt) {}); err != nil {
			return c.find("history %x: cannot be decoded: %v", k[1:], err)
		}
		return nil
	})
}

// count: the counters are right.
func (c *checker) count() error {
	v, closer, err := c.view.Get([]byte(metaCounters))
	if err != nil {
		return fmt.Errorf("counters: %w", err)
	}
	defer func() { _ = closer.Close() }()
	have, err := decodeCounters(v)
	if err != nil {
		return c.find("counters cannot be decoded: %v", err)
	}
	for _, n := range []struct {
		name        string
		have, found int64
	}{
		{"plans", have.plans, c.found.plans},
		{"retries", have.retries, c.found.retries},
		{"dead letters", have.dead, c.found.dead},
		{"quarantined plans", have.quarantined, c.found.quarantined},
		{"attempts in the history", have.attempts, c.found.attempts},
	} {
		if n.have != n.found {
			if err := c.find("%s: counted %d, there are %d", n.name, n.have, n.found); err != nil {
				return err
			}
		}
	}
	return nil
}
