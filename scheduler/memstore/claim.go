package memstore

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/snower/forsun/scheduler"
)

// Due reads a page of due plans.
func (s *Store) Due(ctx context.Context, q scheduler.DueQuery) (scheduler.DuePage, error) {
	leave, err := s.enter(ctx)
	if err != nil {
		return scheduler.DuePage{}, err
	}
	page, bad, err := s.readDue(ctx, q)
	leave()
	if err != nil || len(bad) == 0 {
		return page, err
	}
	// Cleared only if it is still what was read.
	cleared := 0
	_, err = s.submit(&request{ctx: ctx, run: func(t *txn) error {
		for _, b := range bad {
			ok, err := t.clear(q.Action, b)
			if err != nil {
				return err
			}
			if ok {
				cleared++
			}
		}
		return nil
	}})
	if err != nil {
		return scheduler.DuePage{}, err
	}
	page.Cleared = cleared
	return page, nil
}

// undecodable is a schedule entry that can never fire.
type undecodable struct {
	due int64
	key []byte
	raw []byte
	why error
}

func (s *Store) readDue(ctx context.Context, q scheduler.DueQuery) (page scheduler.DuePage, bad []undecodable, err error) {
	if q.Shard != shardID || q.To < q.From {
		return page, nil, nil
	}
	after, err := decodeCursor(q.After)
	if err != nil {
		return page, nil, err
	}
	a := s.work.known(q.Action)
	if a == nil {
		return page, nil, nil
	}
	lo, hi := appendDueBound(nil, q.Action, q.From), appendAfterDue(nil, q.Action, q.To)
	if bytes.Compare(after, lo) > 0 {
		lo = after
	}
	page.Plans = make([]*scheduler.Plan, 0, min(max(q.Limit, 1), 1024))
	size, seen := 0, 0
	err = s.scanDue(a, lo, hi, true, func(k, v []byte) (bool, error) {
		if seen >= max(q.Limit, 1) || size > pageBytes {
			page.Next = encodeCursor(k)
			return false, nil
		}
		seen++
		size += len(v)
		due, key, ok := splitScheduleKey(k, q.Action)
		if !ok {
			due, key = 0, nil
		}
		p, err := decodePlan(key, q.Action, due, v)
		if err != nil {
			bad = append(bad, undecodable{due, bytes.Clone(key), bytes.Clone(v), err})
			return true, nil
		}
		page.Plans = append(page.Plans, p)
		if seen%256 == 0 && ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		return true, nil
	})
	return page, bad, err
}

// clear takes an entry out of the schedule if it is still as it was read: to
// quarantine, or, if there is no plan in it, away.
func (t *txn) clear(action string, b undecodable) (bool, error) {
	v, found, err := t.s.get(nil, appendScheduleKey(nil, action, b.due, string(b.key)))
	if err != nil || !found || !bytes.Equal(v, b.raw) {
		return false, err
	}
	if len(b.raw) > 0 {
		return true, t.quarantine(action, b.due, string(b.key), b.raw, b.why)
	}
	return true, t.forget(action, b.due, string(b.key))
}

// forget drops a schedule entry that holds no plan, and the locator that points
// at it, if one does.
func (t *txn) forget(action string, due int64, key string) error {
	p, err := t.s.lookup(key)
	if err != nil {
		return err
	}
	if p.exists && p.action == action && p.due == due {
		t.drop(action, due, key)
	} else {
		t.dropSchedule(action, due, key)
		if !p.exists {
			t.count(&t.s.counters.plans, -1)
		}
	}
	return nil
}

// quarantine moves a plan out of the way, raw and with the reason.
func (t *txn) quarantine(action string, due int64, key string, raw []byte, why error) error {
	t.drop(action, due, key)
	return t.lockAway(key, action, due, raw, why)
}

// lockAway puts what cannot be decoded into quarantine, under its plan's key.
func (t *txn) lockAway(key, action string, due int64, raw []byte, why error) error {
	k := appendQuarantineKey(nil, key)
	_, found, err := t.s.get(nil, k)
	if err != nil {
		return err
	}
	if !found {
		t.count(&t.s.counters.quarantined, 1)
	}
	v := binary.AppendVarint([]byte{quarantineVersion}, due)
	v = appendTime(v, t.s.opts.Now())
	v = appendString(v, action)
	v = appendString(v, why.Error())
	t.set(k, append(v, raw...))
	t.s.log.Error().Str("key", key).Str("action", action).Int64("due", due).Err(why).
		Msg("what is stored of a plan cannot be decoded; it is in quarantine")
	return nil
}

// unquarantine forgets what is in quarantine under a key.
func (t *txn) unquarantine(key string) error {
	if t.s.counters.quarantined == 0 {
		return nil
	}
	k := appendQuarantineKey(nil, key)
	_, found, err := t.s.get(nil, k)
	if found {
		t.delete(k)
		t.count(&t.s.counters.quarantined, -1)
	}
	return err
}

// claimer is a batch of claims on its way through the writer.
type claimer struct {
	t       *txn
	b       *scheduler.ClaimBatch
	a       *action
	now     time.Time
	cutoff  int64
	it      *pebble.Iterator // over the action's schedule as it was when the batch began
	claimed []*firing        // to be queued once they are on disk
}

// Claim takes the claims of a batch.
func (s *Store) Claim(ctx context.Context, b scheduler.ClaimBatch) (scheduler.ClaimReply, error) {
	if b.Lease.Shard != shardID {
		return scheduler.ClaimReply{}, fmt.Errorf("claim, shard %d: %w", b.Lease.Shard, scheduler.ErrFenced)
	}
	s.compactions.note(len(b.Claims))
	answers := make([]scheduler.ClaimAnswer, len(b.Claims))
	c := &claimer{b: &b}
	_, err := s.submit(&request{ctx: ctx, sync: true, urgent: true, run: func(t *txn) error {
		if err := s.leases.check(b.Lease); err != nil {
			return err
		}
		return c.run(t, answers)
	}, after: func() { s.queueClaimed(c) }})
	if err != nil {
		return scheduler.ClaimReply{}, fmt.Errorf("claim, shard %d, action %s: %w", shardID, b.Action, err)
	}
	return scheduler.ClaimReply{Answers: answers}, nil
}

func (c *claimer) run(t *txn, answers []scheduler.ClaimAnswer) error {
	s := t.s
	c.t, c.a, c.now = t, s.work.action(c.b.Action), s.opts.Now().Add(c.b.Skew)
	c.cutoff = min(c.b.Cutoff, c.now.Unix())
	c.claimed = make([]*firing, 0, len(c.b.Claims))
	t.overlay = make(map[string]stored, len(c.b.Claims))
	it, err := s.db.NewIter(&pebble.IterOptions{
		LowerBound: appendAction(nil, c.b.Action), UpperBound: actionEnd(nil, c.b.Action),
	})
	if err != nil {
		return s.readError(err)
	}
	c.it = it
	defer func() { _ = it.Close() }()
	for i := range c.b.Claims {
		if answers[i], err = c.claim(&c.b.Claims[i]); err != nil {
			return err
		}
		if t.batch.Len() >= batchBytes {
			if err := t.apply(); err != nil {
				return err
			}
			_ = t.batch.Close()
			t.batch = s.db.NewBatch() // the overlay stays: the iterator does not see this
		}
	}
	return nil
}

// at reads what the schedule holds at the place a claim names. body is valid
// until the next read.
func (c *claimer) at(q *scheduler.Claim) (p stored, err error) {
	if p, ok := c.t.overlay[q.Key]; ok {
		return p, nil
	}
	k := appendScheduleKey(c.t.buf[:0], c.b.Action, q.Due, q.Key)
	c.t.buf = k
	if c.it.SeekGE(k) && bytes.Equal(c.it.Key(), k) {
		v, err := c.it.ValueAndErr()
		if err != nil {
			return stored{}, c.t.s.readError(err)
		}
		return stored{true, c.b.Action, q.Due, v}, nil
	}
	if err := c.it.Error(); err != nil {
		return stored{}, c.t.s.readError(err)
	}
	return c.t.plan(q.Key) // not there: is it elsewhere?
}

func (c *claimer) claim(q *scheduler.Claim) (scheduler.ClaimAnswer, error) {
	answer := func(r scheduler.Claimed) (scheduler.ClaimAnswer, error) {
		return scheduler.ClaimAnswer{Result: r}, nil
	}
	t := c.t
	p, err := c.at(q)
	if err != nil {
		return scheduler.ClaimAnswer{}, err
	}
	if !p.exists || p.action != c.b.Action {
		return answer(scheduler.ClaimGone) // and no entry is left here
	}
	h, rest, err := decodeHead(p.body)
	if err != nil {
		if len(p.body) == 0 {
			return scheduler.ClaimAnswer{Result: scheduler.ClaimGone}, t.forget(p.action, p.due, q.Key)
		}
		return scheduler.ClaimAnswer{Result: scheduler.ClaimBad}, t.quarantine(p.action, p.due, q.Key, p.body, err)
	}
	if h.revision != q.Revision || p.due != q.Due {
		return answer(scheduler.ClaimChanged)
	}
	if q.FireDue < q.Due || q.Missed < 0 || q.Next != 0 && (q.Next <= q.Due || q.Next <= q.FireDue) {
		return answer(scheduler.ClaimBad)
	}
	if q.FireDue > c.cutoff {
		wait := time.Unix(q.FireDue, 0).Sub(c.now)
		return scheduler.ClaimAnswer{Result: scheduler.ClaimNotYet, Wait: max(wait, 0)}, nil
	}
	if !c.a.room(c.b.Backlog, len(p.body)) {
		return answer(scheduler.ClaimFull)
	}

	h.fired++
	h.lastDue = q.FireDue
	f := &firing{
		seq: t.next(), key: q.Key, action: c.b.Action, due: q.FireDue, missed: q.Missed,
		attempt: 1, delivery: 1, revision: h.revision, of: c.a,
	}
	core := make([]byte, 0, 16+len(c.b.Action)+len(q.Key)+8+len(p.body)+16)
	core = appendCore(core, q.Next, c.b.Action, q.Key)
	from := len(core)
	core = append(appendHead(core, h), rest...)
	f.core = core

	if q.Next == 0 {
		t.drop(p.action, p.due, q.Key)
	} else {
		t.dropSchedule(p.action, p.due, q.Key)
		t.write(q.Key, stored{true, c.b.Action, q.Next, core[from:]})
	}
	c.a.admit(len(core))
	t.enqueue(f)
	c.claimed = append(c.claimed, f)
	return answer(scheduler.ClaimedOK)
}

// enqueue writes a firing's record and makes it known; it is queued when that is
// on disk, or at once, as the caller sees fit.
func (t *txn) enqueue(f *firing) {
	t.buf = appendSeqKey(t.buf[:0], spaceFiring, f.seq)
	t.val = append(appendFiringHead(t.val[:0], f), f.core...)
	t.set(t.buf, t.val)
	t.s.work.open(f)
}

// queueClaimed hands firings whose claim is on disk to the workers.
func (s *Store) queueClaimed(c *claimer) {
	if len(c.claimed) == 0 {
		return
	}
	s.work.queue(c.claimed)
	s.watch.work(c.b.Action)
}
