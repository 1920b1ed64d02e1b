package memstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"github.com/snower/forsun/scheduler"
)

// stored is what is stored under a plan's key.
type stored struct {
	exists bool
	action string
	due    int64
	body   []byte // nil, with exists: the locator leads nowhere
}

// encoded is a plan on its way in.
type encoded struct {
	key, action string
	due         int64
	revision    scheduler.Revision
	body        []byte

	before stored // what was stored when it came, unless it was changed after since
	since  uint64
	refuse bool // it is not to replace another plan
	did    did  // the writer's, until it has answered
}

// did is what became of a plan on its way in.
type did uint8

const (
	didCreate did = iota
	didReplace
	didKeep   // it was there already
	didRefuse // another was there
)

// Put stores plans.
func (s *Store) Put(ctx context.Context, plans []*scheduler.Plan) []error {
	return s.putAll(ctx, plans, false)
}

// PutNew stores plans whose keys have none.
func (s *Store) PutNew(ctx context.Context, plans []*scheduler.Plan) []error {
	return s.putAll(ctx, plans, true)
}

func (s *Store) putAll(ctx context.Context, plans []*scheduler.Plan, onlyNew bool) []error {
	errs := make([]error, len(plans))
	all := func(err error) []error {
		for i := range errs {
			if errs[i] == nil {
				errs[i] = err
			}
		}
		return errs
	}
	if len(plans) == 0 {
		return errs
	}
	if s.disk.low.Load() {
		return all(fmt.Errorf("%w: less than the reserve of %d bytes is free on the disk of %s", scheduler.ErrFull, s.opts.Reserve, s.opts.Dir))
	}
	leave, err := s.enter(ctx)
	if errors.Is(err, scheduler.ErrClosed) {
		return all(err)
	} else if err != nil {
		return all(fmt.Errorf("%w: %w", scheduler.ErrStore, err))
	}
	for i, p := range plans {
		errs[i] = storable(p)
	}
	since := s.changes.since() // before anything is read: what changes later is read again
	before := s.lookupAll(plans, errs)
	leave()
	in, index := make([]encoded, 0, len(plans)), make([]int, 0, len(plans))
	var last map[string]int // of several with one key the last wins
	if len(plans) > 1 {
		last = make(map[string]int, len(plans))
	}
	for i, p := range plans {
		if errs[i] != nil {
			continue
		}
		e := encoded{
			key: p.Key, action: p.Action, due: p.Due, revision: p.Revision, body: appendBody(nil, p), refuse: onlyNew,
			before: before[i], since: since,
		}
		if at, ok := last[p.Key]; ok {
			in[at], index[at] = e, i
			continue
		}
		if last != nil {
			last[p.Key] = len(in)
		}
		in, index = append(in, e), append(index, i)
	}
	begun, err := s.submit(&request{ctx: ctx, sync: true, shares: true, run: func(t *txn) error {
		for i := range in {
			if err := t.put(&in[i]); err != nil {
				return err
			}
			if err := t.roomy(); err != nil {
				return err
			}
		}
		return nil
	}, after: func() { s.announcePlans(in) }})
	switch {
	case err == nil:
		for n, e := range in {
			switch i := index[n]; e.did {
			case didRefuse:
				errs[i] = scheduler.ErrExists
			case didCreate, didReplace:
				plans[i].Replaced = e.did == didReplace
			}
		}
		for i, p := range plans {
			if n, ok := last[p.Key]; ok && i != index[n] && errs[i] == nil {
				winner := plans[index[n]]
				p.Replaced, winner.Replaced = winner.Replaced, true
			}
		}
		return errs
	case errors.Is(err, scheduler.ErrClosed):
		return all(err)
	case begun:
		// The writer may still be at it: errs is not its any more.
		unsure := make([]error, len(plans))
		for i := range unsure {
			unsure[i] = fmt.Errorf("%w: %w", scheduler.ErrUnsure, err)
		}
		return unsure
	default:
		return all(fmt.Errorf("%w: %w", scheduler.ErrStore, err))
	}
}

// storable refuses what the layout could not hold; the service checks more, and
// earlier.
func storable(p *scheduler.Plan) error {
	switch {
	case p.Key == "" || strings.IndexByte(p.Key, 0) >= 0:
		return fmt.Errorf("%w: a key must have bytes, and none of them zero: %q", scheduler.ErrStore, p.Key)
	case p.Action == "" || strings.IndexByte(p.Action, 0) >= 0:
		return fmt.Errorf("%w: an action must have a name without zero bytes: %q", scheduler.ErrStore, p.Action)
	case p.Revision == 0:
		return fmt.Errorf("%w: plan %q has no revision", scheduler.ErrStore, p.Key)
	case p.Fired < 0:
		return fmt.Errorf("%w: plan %q has fired %d times", scheduler.ErrStore, p.Key, p.Fired)
	}
	return nil
}

// put stores one plan, and cancels what a plan it replaces has left to retry.
func (t *txn) put(p *encoded) error {
	if _, again := t.overlay[p.key]; again {
		// Two puts of one key share a batch: the second is to see the first.
		if err := t.flush(); err != nil {
			return err
		}
	}
	old := p.before
	if t.s.changes.changed(p.key, p.since) {
		var err error
		if old, err = t.s.lookup(p.key); err != nil {
			return err
		}
	}
	if old.exists {
		h, _, err := decodeHead(old.body)
		if err == nil && h.revision == p.revision {
			p.did = didKeep // sent again; it may have been claimed meanwhile
			return nil
		}
		if err == nil && p.refuse {
			p.did = didRefuse
			return nil
		}
		p.did = didReplace
		t.dropSchedule(old.action, old.due, p.key)
	} else {
		t.count(&t.s.counters.plans, 1)
	}
	if _, _, err := t.cancel(p.key, old.exists); err != nil {
		return err
	}
	if err := t.unquarantine(p.key); err != nil {
		return err
	}
	t.write(p.key, stored{true, p.action, p.due, p.body})
	return nil
}

// write stores a plan at its place, where none of its key is now.
func (t *txn) write(key string, p stored) {
	t.buf = appendPlanKey(t.buf[:0], key)
	t.val = appendLocator(t.val[:0], p.action, p.due)
	t.set(t.buf, t.val)
	from := len(t.keys)
	t.keys = appendScheduleKey(t.keys, p.action, p.due, key)
	k := t.keys[from:len(t.keys):len(t.keys)] // stays what it is when keys grows elsewhere
	t.set(k, p.body)
	t.placed = append(t.placed, placed{t.s.work.action(p.action), k})
	t.remember(key, p)
}

// dropSchedule deletes a plan's place in a schedule.
func (t *txn) dropSchedule(action string, due int64, key string) {
	t.buf = appendScheduleKey(t.buf[:0], action, due, key)
	t.delete(t.buf)
}

// drop deletes a plan altogether.
func (t *txn) drop(action string, due int64, key string) {
	t.dropSchedule(action, due, key)
	t.buf = appendPlanKey(t.buf[:0], key)
	t.delete(t.buf)
	t.count(&t.s.counters.plans, -1)
	t.remember(key, stored{})
}

func (t *txn) remember(key string, p stored) {
	t.s.changes.touch(key)
	if t.overlay != nil {
		t.overlay[key] = p
	}
}

// plan reads what is stored under a key. A locator that cannot be decoded is as none.
func (t *txn) plan(key string) (stored, error) {
	if p, ok := t.overlay[key]; ok {
		return p, nil
	}
	return t.s.lookup(key)
}

func (s *Store) lookup(key string) (stored, error) {
	v, found, err := s.get(nil, appendPlanKey(nil, key))
	if err != nil || !found {
		return stored{}, err
	}
	action, due, err := decodeLocator(v)
	if err != nil {
		return stored{exists: true}, nil
	}
	body, found, err := s.get(v[:0], appendScheduleKey(nil, action, due, key))
	if err != nil {
		return stored{}, err
	}
	if !found {
		body = nil
	}
	return stored{true, action, due, body}, nil
}

// lookupWhole is lookup for those who read beside the writer: it reads again what
// a claim moved between its two reads.
func (s *Store) lookupWhole(key string) (stored, error) {
	for range 8 {
		p, err := s.lookup(key)
		if err != nil || !p.exists || p.body != nil {
			return p, err
		}
	}
	return s.lookup(key)
}

// Get returns the plan of key.
func (s *Store) Get(ctx context.Context, key string) (*scheduler.Plan, error) {
	leave, err := s.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	p, err := s.lookupWhole(key)
	if err != nil {
		return nil, err
	}
	if !p.exists {
		return nil, scheduler.ErrNotFound
	}
	plan, err := decodePlan([]byte(key), p.action, p.due, p.body)
	if err != nil {
		return nil, fmt.Errorf("plan %q cannot be decoded and will be put into quarantine: %w", key, scheduler.ErrNotFound)
	}
	return plan, nil
}

// Remove deletes the plan of key.
func (s *Store) Remove(ctx context.Context, key string) (*scheduler.Plan, error) {
	var removed atomic.Pointer[scheduler.Plan]
	begun, err := s.submit(&request{ctx: ctx, sync: true, run: func(t *txn) error {
		p, err := t.plan(key)
		if err != nil {
			return err
		}
		cancelled, plan, err := t.cancel(key, p.exists)
		if err != nil || !cancelled {
			return err
		}
		if p.exists {
			t.drop(p.action, p.due, key)
			if plan, err = decodePlan([]byte(key), p.action, p.due, p.body); err != nil {
				plan = nil
			}
		}
		if plan == nil {
			plan = &scheduler.Plan{Key: key} // it cannot be decoded
		}
		removed.Store(plan)
		return nil
	}})
	plan := removed.Load()
	switch {
	case err != nil && begun && ctx.Err() != nil:
		return plan, fmt.Errorf("%w: %w", scheduler.ErrUnsure, err)
	case err != nil:
		return nil, err
	case plan == nil:
		return nil, scheduler.ErrNotFound
	}
	return plan, nil
}

// List returns a page of plans by key.
func (s *Store) List(ctx context.Context, q scheduler.ListQuery) (plans []*scheduler.Plan, next string, err error) {
	leave, err := s.enter(ctx)
	if err != nil {
		return nil, "", err
	}
	defer leave()
	// One view for locators and plans, which move together.
	view := s.db.NewSnapshot()
	defer func() { _ = view.Close() }()
	lower := appendPlanKey(nil, max(q.Prefix, q.Cursor))
	it, err := view.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: prefixEnd(appendPlanKey(nil, q.Prefix))})
	if err != nil {
		return nil, "", s.readError(err)
	}
	defer func() { _ = it.Close() }()
	var at []byte
	size := 0
	for it.First(); it.Valid(); it.Next() {
		key := it.Key()[1:]
		if len(plans) >= max(q.Limit, 1) || size > pageBytes {
			return plans, string(key), nil
		}
		v, err := it.ValueAndErr()
		if err != nil {
			return nil, "", s.readError(err)
		}
		action, due, err := decodeLocator(v)
		if err != nil {
			continue // Due and Claim put it into quarantine
		}
		at = appendScheduleKey(at[:0], action, due, string(key))
		body, closer, err := view.Get(at)
		if errors.Is(err, pebble.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, "", s.readError(err)
		}
		size += len(body)
		p, err := decodePlan(key, action, due, body)
		_ = closer.Close()
		if err != nil {
			continue
		}
		plans = append(plans, p)
		if len(plans)%256 == 0 && ctx.Err() != nil {
			return nil, "", context.Cause(ctx)
		}
	}
	if err := it.Error(); err != nil {
		return nil, "", s.readError(err)
	}
	return plans, "", nil
}

// DueAt returns a page of the plans due at a second: action by action, by key within.
func (s *Store) DueAt(ctx context.Context, q scheduler.DueAtQuery) (plans []*scheduler.Plan, next string, err error) {
	leave, err := s.enter(ctx)
	if err != nil {
		return nil, "", err
	}
	defer leave()
	cursor, err := decodeCursor(q.Cursor)
	if err != nil {
		return nil, "", err
	}
	size := 0
	for _, a := range s.actionsByName() {
		lo, hi := appendDueBound(nil, a.name, q.Second), appendAfterDue(nil, a.name, q.Second)
		if bytes.Compare(cursor, hi) >= 0 {
			continue
		}
		if bytes.Compare(cursor, lo) > 0 {
			lo = cursor
		}
		err := s.scanDue(a, lo, hi, false, func(k, v []byte) (bool, error) {
			if len(plans) >= max(q.Limit, 1) || size > pageBytes {
				next = encodeCursor(k)
				return false, nil
			}
			due, key, ok := splitScheduleKey(k, a.name)
			if !ok {
				return true, nil
			}
			if p, err := decodePlan(key, a.name, due, v); err == nil {
				plans = append(plans, p)
				size += len(v)
			}
			return true, nil
		})
		if err != nil {
			return nil, "", err
		}
		if next != "" {
			return plans, next, nil
		}
		if ctx.Err() != nil {
			return nil, "", context.Cause(ctx)
		}
	}
	return plans, "", nil
}

// pageBytes bounds what a page of plans takes; it may be over by one plan.
const pageBytes = 16 << 20

// prefixEnd is the first key after all that begin with prefix; nil if there is none.
func prefixEnd(prefix []byte) []byte {
	end := bytes.Clone(prefix)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i] < 0xff {
			end[i]++
			return end[:i+1]
		}
	}
	return nil
}
