package scheduler

import (
	"context"
	"errors"
	"math"
	"strconv"
	"sync"
	"time"
)

// RestoreOptions say how plans are restored.
type RestoreOptions struct {
	Replace   bool // a plan of the same key, rather than leave it
	CheckOnly bool // store nothing, but say what would become of each
}

// Restore stores plans as another store had them: with their next due second,
// firings so far, last due second, status and time of creation, so that each goes
// on where it was. A plan without a next due second (Due 0) gets the first one of
// its schedule, one without a time of creation the present. A due second may have
// passed: it is then missed, and fires as Plan.NextClaim says. Due, Created (whole
// milliseconds), Revision and Replaced are set in plans.
//
// There is an error for each plan: nil if it is stored (with CheckOnly: would
// be), ErrExists if there is a plan of its key, which was left; else what Create
// returns. One that cannot be stored does not keep the others from it. The other
// error says that nothing was looked at.
func (s *Service) Restore(ctx context.Context, plans []*Plan, o RestoreOptions) ([]error, error) {
	if err := s.refuse(); err != nil {
		return nil, err
	}
	now := s.clock.Now()
	errs := make([]error, len(plans))
	good, index := make([]*Plan, 0, len(plans)), make([]int, 0, len(plans))
	seen := make(map[string]bool, len(plans))
	var drawn draw
	for i, p := range plans {
		p.Revision = drawn.revision(len(plans) - i)
		switch err := s.restorable(ctx, p, now); {
		case err != nil:
			errs[i] = err
		case seen[p.Key]:
			errs[i] = ErrExists
		default:
			seen[p.Key] = true
			good, index = append(good, p), append(index, i)
		}
	}
	if len(good) == 0 {
		return errs, nil
	}
	store := s.store.PutNew
	switch {
	case o.CheckOnly && o.Replace:
		return errs, nil
	case o.CheckOnly:
		store = s.absent
	case o.Replace:
		store = s.store.Put
	}
	bounded, cancel := context.WithTimeout(ctx, s.opts.Timeout)
	defer cancel()
	for n, err := range store(bounded, good) {
		errs[index[n]] = err
		if !o.CheckOnly {
			s.countPut(good[n], err)
		}
	}
	return errs, nil
}

// restorable checks p and completes it.
func (s *Service) restorable(ctx context.Context, p *Plan, now time.Time) error {
	zone, err := s.accept(ctx, Request{Key: p.Key, Schedule: p.Schedule, Action: p.Action, Params: p.Params})
	if err != nil {
		return err
	}
	if p.Due == 0 {
		if p.Due, err = firstDue(p.Schedule, now, zone); err != nil {
			return err
		}
	}
	switch counted := p.Schedule.Kind == Timeout && p.Schedule.Count > 0; {
	case p.Due < 0 || p.Due > maxWireDue:
		return fieldError(ErrTime, "next_time", strconv.FormatInt(p.Due, 10), "0 to 2147483647: up to 2038-01-19 03:14:07 UTC")
	case p.Fired < 0 || p.Fired > math.MaxInt32:
		return fieldError(ErrField, "current_count", strconv.Itoa(p.Fired), "0 to 2147483647")
	case counted && p.Fired >= p.Schedule.Count:
		return fieldError(ErrField, "current_count", strconv.Itoa(p.Fired), "less than the count, "+strconv.Itoa(p.Schedule.Count)+": nothing would be left to fire")
	case p.LastDue < 0 || p.LastDue >= p.Due:
		return fieldError(ErrField, "last_timeout", strconv.FormatInt(p.LastDue, 10), "0, or a second before next_time, "+strconv.FormatInt(p.Due, 10))
	case p.Status < StatusFailed || p.Status > StatusSucceeded:
		return fieldError(ErrField, "status", strconv.Itoa(int(p.Status)), "-1, 0, 1")
	}
	if p.Created.IsZero() {
		p.Created = now
	}
	if at := p.Created.Unix(); at < 0 || at > lastDue {
		return fieldError(ErrField, "created_time", strconv.FormatInt(at, 10), "seconds from 0 up to the year 9999")
	}
	p.Created = p.Created.Truncate(time.Millisecond)
	return nil
}

// absent answers ErrExists for plans whose key has one, nil for the others.
func (s *Service) absent(ctx context.Context, plans []*Plan) []error {
	const parallel = 16
	errs := make([]error, len(plans))
	var wg sync.WaitGroup
	for w := range min(parallel, len(plans)) {
		wg.Go(func() {
			for i := w; i < len(plans); i += parallel {
				_, err := s.store.Get(ctx, plans[i].Key)
				switch {
				case err == nil:
					errs[i] = ErrExists
				case !errors.Is(err, ErrNotFound):
					errs[i] = err
				}
			}
		})
	}
	wg.Wait()
	return errs
}
