package memstore

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/snower/forsun/scheduler"
)

// retryIndex counts the retries that wait by the hash of their plan's key, so that a
// Put of a key that has none, which is nearly every one, need not look. It is a
// few bytes per retry; the retries are on disk. The writer's.
type retryIndex struct {
	seed  maphash.Seed
	byKey map[uint64]int
}

func (x *retryIndex) hash(key []byte) uint64 { return maphash.Bytes(x.seed, key) }

func (x *retryIndex) add(key []byte, n int) {
	h := x.hash(key)
	if x.byKey[h] += n; x.byKey[h] <= 0 {
		delete(x.byKey, h)
	}
}

func (x *retryIndex) has(key string) bool { return x.byKey[maphash.String(x.seed, key)] > 0 }

// loadRetries rebuilds the index, and the part of the backlog that waits.
func (s *Store) loadRetries() error {
	s.retries = retryIndex{maphash.MakeSeed(), make(map[uint64]int)}
	if s.counters.retries == 0 {
		return nil
	}
	return s.each(spaceRetryByKey, func(k, v []byte) error {
		key, _, ok := splitRetryByKey(k)
		w, err := decodeWaiting(v)
		if !ok || err != nil {
			s.log.Error().Hex("record", k).Err(err).Msg("the entry of a waiting retry cannot be decoded; it is left out")
			return nil
		}
		s.retries.add(key, 1)
		s.work.action(w.action).admit(w.size)
		return nil
	})
}

// waiting is what is kept of a waiting firing by its plan's key.
type waiting struct {
	seq      uint64
	ms       int64
	size     int // of its core
	action   string
	deferred bool // in its first attempt: it is as good as queued, not a retry
	marked   bool // not to be retried any more, or never its plan's: a Put or Remove changes nothing
}

const (
	waitDeferred = 1 << iota
	waitMarked
)

func appendWaiting(b []byte, w waiting) []byte {
	flags := byte(0)
	if w.deferred {
		flags |= waitDeferred
	}
	if w.marked {
		flags |= waitMarked
	}
	b = binary.AppendVarint(append(b, flags), w.ms)
	b = binary.AppendUvarint(b, uint64(w.size))
	return append(b, w.action...)
}

func decodeWaiting(v []byte) (w waiting, err error) {
	r := reader{b: v}
	flags := r.byte()
	w.deferred, w.marked = flags&waitDeferred != 0, flags&waitMarked != 0
	w.ms = r.varint()
	w.size = r.count()
	w.action = string(r.b)
	return w, r.err
}

// wait stores a firing to be queued again at a time. It stays in the backlog.
func (t *txn) wait(f *firing, ms int64) {
	f.seq = t.next()
	t.buf = appendRetryKey(t.buf[:0], ms, f.seq)
	if t.s.retryFrom != nil && bytes.Compare(t.buf, t.s.retryFrom) < 0 {
		t.s.retryFrom = append(t.s.retryFrom[:0], t.buf...)
	}
	t.val = append(appendFiringHead(t.val[:0], f), f.core...)
	t.set(t.buf, t.val)
	t.count(&t.s.counters.retries, 1)
	t.buf = appendRetryByKey(t.buf[:0], f.key, f.seq)
	t.val = appendWaiting(t.val[:0], waiting{
		ms: ms, size: len(f.core), action: f.action,
		deferred: f.attempt == 1, marked: f.attempt == 1 && (f.cancelled || f.redriven),
	})
	t.set(t.buf, t.val)
	t.s.retries.add([]byte(f.key), 1)
}

// ceilMilli is the first millisecond that is not before at.
func ceilMilli(at time.Time) int64 {
	ms := at.UnixMilli()
	if at.After(time.UnixMilli(ms)) {
		ms++
	}
	return ms
}

// unwait deletes a waiting firing. It stays in the backlog until it is released.
func (t *txn) unwait(key string, ms int64, seq uint64) {
	t.buf = appendRetryKey(t.buf[:0], ms, seq)
	t.deleteOnce(t.buf)
	t.buf = appendRetryByKey(t.buf[:0], key, seq)
	t.deleteOnce(t.buf)
	t.count(&t.s.counters.retries, -1)
	t.s.retries.add([]byte(key), -1)
}

// waitingOf returns what waits of a key, oldest first.
func (t *txn) waitingOf(key string) (ws []waiting, err error) {
	if !t.s.retries.has(key) {
		return nil, nil
	}
	lower := appendRetriesOf(nil, key)
	it, err := t.s.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: prefixEnd(lower)})
	if err != nil {
		return nil, t.s.readError(err)
	}
	defer func() { _ = it.Close() }()
	for it.First(); it.Valid(); it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return nil, t.s.readError(err)
		}
		_, seq, ok := splitRetryByKey(it.Key())
		w, err := decodeWaiting(v)
		if !ok || err != nil {
			continue
		}
		w.seq = seq
		ws = append(ws, w)
	}
	return ws, t.s.iterError(it)
}

// cancel ends what a plan that is removed or replaced has left to retry: what waits
// for a retry is deleted, what is queued, running or deferred is marked. If there is no plan
// (had is false), that is so only if a retry waits: without one there was
// nothing to remove or replace, and cancelled is false. of is the
// plan of the newest retry, as it was claimed.
func (t *txn) cancel(key string, had bool) (cancelled bool, of *scheduler.Plan, err error) {
	ws, err := t.waitingOf(key)
	if err != nil {
		return false, nil, err
	}
	if !had && !slices.ContainsFunc(ws, func(w waiting) bool { return !w.deferred }) {
		return false, nil, nil
	}
	w := &t.s.work
	w.mu.Lock()
	for f := w.byKey[key]; f != nil; f = f.next {
		if !f.cancelled && !f.redriven {
			f.cancelled = true
			t.buf = appendSeqKey(t.buf[:0], spaceCancelled, f.seq)
			t.set(t.buf, nil)
		}
	}
	w.mu.Unlock()
	for _, w := range ws {
		if w.deferred && w.marked {
			continue
		}
		v, found, err := t.s.get(nil, appendRetryKey(nil, w.ms, w.seq))
		if err != nil {
			return false, nil, err
		}
		f, bad := decodeFiring(v)
		if !found || bad != nil {
			continue // Promote drops it
		}
		t.unwait(key, w.ms, w.seq)
		if w.deferred {
			f.cancelled = true
			t.wait(f, w.ms)
			continue
		}
		t.s.work.action(w.action).release(w.size)
		if p, err := f.plan(); err == nil {
			of = p
		}
	}
	return true, of, nil
}

// Promote queues again the retries whose time has come.
func (s *Store) Promote(ctx context.Context, r scheduler.PromoteRequest) (n int, next time.Time, err error) {
	var promoted []*firing
	var at time.Time
	_, err = s.submit(&request{ctx: ctx, run: func(t *txn) (err error) {
		if err := s.leases.check(r.Lease); err != nil {
			return err
		}
		if s.counters.retries == 0 {
			return nil
		}
		now := r.Now
		if own := s.opts.Now().Add(r.Skew); own.Before(now) {
			now = own
		}
		promoted, at, err = t.promote(now.UnixMilli(), r.Limit)
		return err
	}, after: func() {
		s.work.queue(promoted)
		for _, f := range promoted {
			s.watch.work(f.action)
		}
	}})
	if err != nil {
		return 0, time.Time{}, fmt.Errorf("promote, shard %d: %w", r.Lease.Shard, err)
	}
	return len(promoted), at, nil
}

func (t *txn) promote(nowMilli int64, limit int) (promoted []*firing, next time.Time, err error) {
	s := t.s
	lower, upper := spaceBounds(spaceRetry)
	if s.retryFrom != nil {
		lower = s.retryFrom
	}
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return nil, next, s.readError(err)
	}
	defer func() { _ = it.Close() }()
	from := upper // where the next look begins: what is before it is tombstones
	defer func() { s.retryFrom = append([]byte(nil), from...) }()
	for it.First(); it.Valid(); it.Next() {
		ms, seq, ok := splitRetryKey(it.Key())
		if !ok {
			continue
		}
		if ms > nowMilli || len(promoted) >= limit {
			next = time.UnixMilli(ms)
			from = append([]byte(nil), it.Key()...)
			break
		}
		v, err := it.ValueAndErr()
		if err != nil {
			from = lower
			return nil, next, s.readError(err)
		}
		f, err := decodeFiring(append([]byte(nil), v...))
		if err != nil {
			s.log.Error().Hex("record", it.Key()).Err(err).Msg("a waiting retry cannot be decoded; it is dropped")
			t.buf = append(t.buf[:0], it.Key()...)
			t.deleteOnce(t.buf)
			t.count(&s.counters.retries, -1)
			continue
		}
		t.unwait(f.key, ms, seq)
		f.seq, f.of = t.next(), s.work.action(f.action)
		t.enqueue(f)
		promoted = append(promoted, f)
	}
	if err := it.Error(); err != nil {
		from = lower
		return nil, next, s.readError(err)
	}
	return promoted, next, nil
}
