package memstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/snower/forsun/scheduler"
)

// maxFindings bounds what Check reports of what does not fit together.
const maxFindings = 100

// Check reads the whole store, as it is at one moment, and reports what does not
// fit together, at most 100 findings of it; and what its options, and the disk as
// it is, do not promise. It takes time in proportion to what is stored, holds up
// nobody, and changes nothing.
func (s *Store) Check(ctx context.Context, report func(scheduler.Finding)) error {
	leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	s.checkPromises(report)
	view := s.db.NewSnapshot()
	defer func() { _ = view.Close() }()
	c := &checker{ctx: ctx, view: view, report: report}
	for _, part := range []func() error{c.plans, c.schedule, c.firings, c.retries, c.journal, c.count} {
		switch err := part(); {
		case errors.Is(err, errEnough):
			report(scheduler.Finding{
				Shard: shardID, Severity: scheduler.SeverityInfo, Subject: "check",
				Problem: fmt.Sprintf("stopped after %d findings; there are more", maxFindings),
			})
			return nil
		case err != nil:
			return fmt.Errorf("check: %w", s.readError(err))
		}
	}
	if n := c.found.quarantined; n > 0 {
		report(scheduler.Finding{
			Shard: shardID, Severity: scheduler.SeverityWarning, Subject: "quarantine",
			Problem: fmt.Sprintf("%d plans or firings that could not be decoded are set aside and do not fire", n),
			Advice:  "the log says why, with each key; create these plans again, which also forgets what was set aside",
		})
	}
	return nil
}

// checkPromises reports what the way the store is run does not promise.
func (s *Store) checkPromises(report func(scheduler.Finding)) {
	warn := func(subject, problem, advice string) {
		report(scheduler.Finding{
			Shard: scheduler.WholeDeployment, Severity: scheduler.SeverityWarning,
			Subject: subject, Problem: problem, Advice: advice,
		})
	}
	switch {
	case s.opts.Dir == Memory:
		warn("embedded store", "keeps everything in memory: all plans are gone when forsund ends",
			"give --driver-mem-store-file a directory")
	case s.opts.Sync == SyncSecond:
		warn("embedded store", "syncs once a second: when the machine loses power, so do plans acknowledged in its last second",
			"start forsund with --driver-mem-sync=always")
	case s.opts.Sync == SyncNever:
		warn("embedded store", "never syncs: when the machine loses power, so do plans acknowledged before",
			"start forsund with --driver-mem-sync=always")
	}
	if s.disk.low.Load() {
		report(scheduler.Finding{
			Shard: scheduler.WholeDeployment, Severity: scheduler.SeverityError, Subject: "embedded store",
			Problem: fmt.Sprintf("less than %d MiB are free on the disk of %s: no plan is accepted", s.opts.Reserve>>20, s.opts.Dir),
			Advice:  "make room; plans are accepted again as soon as there is some",
		})
	}
	if n := s.droppedDead.Load(); n > 0 {
		warn("dead letters", fmt.Sprintf("%d were dropped since forsund started, because there were more than %d", n, s.opts.DeadEntries),
			"forsun dead shows what is left; redrive or purge it")
	}
}

var errEnough = errors.New("enough findings")

type checker struct {
	ctx      context.Context
	view     *pebble.Snapshot
	report   func(scheduler.Finding)
	findings int
	found    counters // what the counters should say
	entries  int64    // in schedules
	byKey    int64    // retries by key
}

// find reports what is wrong with a subject. Nothing that forsund does makes
// such a thing: all of it has the same advice.
func (c *checker) find(subject, format string, args ...any) error {
	if c.findings >= maxFindings {
		return errEnough
	}
	c.findings++
	c.report(scheduler.Finding{
		Shard: shardID, Severity: scheduler.SeverityError, Subject: subject, Problem: fmt.Sprintf(format, args...),
		Advice: "a defect of forsund or of the disk: keep a copy of the store's directory and report it",
	})
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
			return c.find(fmt.Sprintf("plan %q", key), "its locator cannot be decoded: %v", err)
		}
		ok, err := c.has(appendScheduleKey(nil, action, due, key))
		if err == nil && !ok {
			err = c.find(fmt.Sprintf("plan %q", key), "not in the schedule of %s at %d, where it should be", action, due)
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
			return c.find("schedule", "key %x is not one", k)
		}
		action := string(k[1:end])
		due, key, ok := splitScheduleKey(k, action)
		if !ok {
			return c.find("schedule", "key %x is not one", k)
		}
		if _, err := decodePlan(key, action, due, v); err != nil {
			return c.find(fmt.Sprintf("plan %q", key), "cannot be decoded: %v", err)
		}
		ok, err := c.has(appendPlanKey(nil, string(key)))
		if err == nil && !ok {
			err = c.find(fmt.Sprintf("plan %q", key), "in the schedule of %s at %d, but not among the plans", action, due)
		}
		return err
	})
	if err == nil && c.entries != c.found.plans {
		err = c.find("schedule", "%d plans, but %d entries in schedules", c.found.plans, c.entries)
	}
	return err
}

// firings: every record can be decoded; every mark is of one that is there.
func (c *checker) firings() error {
	err := c.each(spaceFiring, func(k, v []byte) error {
		if f, err := decodeFiring(v); err != nil {
			return c.find(fmt.Sprintf("firing %x", k[1:]), "cannot be decoded: %v", err)
		} else if _, err := f.plan(); err != nil {
			return c.find(fmt.Sprintf("firing %x of plan %q", k[1:], f.key), "its plan cannot be decoded: %v", err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return c.each(spaceCancelled, func(k, _ []byte) error {
		ok, err := c.has(append([]byte{spaceFiring}, k[1:]...))
		if err == nil && !ok {
			err = c.find(fmt.Sprintf("firing %x", k[1:]), "marked as cancelled, but not there")
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
			return c.find(fmt.Sprintf("retry %x", k[1:]), "cannot be decoded: %v", err)
		}
		ok, err = c.has(appendRetryByKey(nil, f.key, seq))
		if err == nil && !ok {
			err = c.find(fmt.Sprintf("retry %x of plan %q", k[1:], f.key), "not found by its key")
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
			return c.find(fmt.Sprintf("retry by key %x", k[1:]), "cannot be decoded: %v", err)
		}
		ok, err = c.has(appendRetryKey(nil, w.ms, seq))
		if err == nil && !ok {
			err = c.find(fmt.Sprintf("retry of plan %q", key), "by its key it is due at ms %d, where it is not", w.ms)
		}
		return err
	})
	if err == nil && c.byKey != c.found.retries {
		err = c.find("retries", "%d by time, but %d by key", c.found.retries, c.byKey)
	}
	return err
}

// journal: dead letters and history can be decoded.
func (c *checker) journal() error {
	err := c.each(spaceDead, func(k, v []byte) error {
		c.found.dead++
		if _, _, _, err := decodeDead(v); err != nil {
			return c.find(fmt.Sprintf("dead letter %x", k[1:]), "cannot be decoded: %v", err)
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
			return c.find("history", "key %x is not one", k)
		}
		c.found.attempts += int64(n)
		if err := decodeAttempts(v, n, func(int, *scheduler.Attempt) {}); err != nil {
			return c.find(fmt.Sprintf("history %x", k[1:]), "cannot be decoded: %v", err)
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
		return c.find("counters", "cannot be decoded: %v", err)
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
			if err := c.find(n.name, "counted %d, there are %d", n.have, n.found); err != nil {
				return err
			}
		}
	}
	return nil
}
