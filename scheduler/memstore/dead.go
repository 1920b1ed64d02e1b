package memstore

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"github.com/snower/forsun/scheduler"
)

// bury stores a dead letter, and drops the oldest if there are too many.
func (t *txn) bury(f *firing, why string) error {
	t.buf = appendSeqKey(t.buf[:0], spaceDead, t.next())
	t.val = appendDead(t.val[:0], t.s.opts.Now(), why, f)
	t.set(t.buf, t.val)
	t.count(&t.s.counters.dead, 1)
	over := t.s.counters.dead - int64(t.s.opts.DeadEntries)
	if over <= 0 {
		return nil
	}
	dropped, err := t.dropDead(over)
	if err == nil && dropped < over { // the rest is in this batch
		if err = t.flush(); err == nil {
			var more int64
			more, err = t.dropDead(over - dropped)
			dropped += more
		}
	}
	if t.s.droppedDead.Add(dropped) == dropped {
		t.s.log.Warn().Int("limit", t.s.opts.DeadEntries).Msg("there are more dead letters than are kept; the oldest are dropped")
	}
	return err
}

// dropDead deletes up to n of the oldest dead letters that are not of this batch.
func (t *txn) dropDead(n int64) (dropped int64, err error) {
	lower, upper := spaceBounds(spaceDead)
	if t.s.deadFrom != nil {
		lower = slices.Clone(t.s.deadFrom)
	}
	it, err := t.s.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return 0, t.s.readError(err)
	}
	defer func() { _ = it.Close() }()
	for it.First(); it.Valid() && dropped < n; it.Next() {
		t.delete(it.Key())
		t.s.deadFrom = append(append(t.s.deadFrom[:0], it.Key()...), 0) // just behind it
		dropped++
	}
	t.count(&t.s.counters.dead, -dropped)
	return dropped, t.s.iterError(it)
}

func (s *Store) iterError(it *pebble.Iterator) error {
	if err := it.Error(); err != nil {
		return s.readError(err)
	}
	return nil
}

// DeadLetters returns a page of dead letters, newest first.
func (s *Store) DeadLetters(ctx context.Context, q scheduler.JournalQuery) (dead []scheduler.DeadLetter, next string, err error) {
	leave, err := s.enter(ctx)
	if err != nil {
		return nil, "", err
	}
	defer leave()
	lower, upper := spaceBounds(spaceDead)
	if q.Cursor != "" {
		seq, err := strconv.ParseUint(q.Cursor, 10, 64)
		if err != nil {
			return nil, "", fmt.Errorf("cursor %s is none of DeadLetters'", scheduler.Shorten(q.Cursor, 64))
		}
		upper = appendSeqKey(nil, spaceDead, seq+1)
	}
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return nil, "", s.readError(err)
	}
	defer func() { _ = it.Close() }()
	looked, size := 0, 0
	for it.Last(); it.Valid(); it.Prev() {
		seq, ok := splitSeqKey(it.Key())
		if !ok {
			continue
		}
		if len(dead) >= max(q.Limit, 1) || looked >= lookThrough || size >= lookBytes {
			return dead, strconv.FormatUint(seq, 10), nil
		}
		v, err := it.ValueAndErr()
		if err != nil {
			return nil, "", s.readError(err)
		}
		looked, size = looked+1, size+len(v)
		died, why, f, err := decodeDead(v)
		if err != nil || q.Key != "" && f.key != q.Key {
			continue
		}
		p, err := f.plan()
		if err != nil {
			continue // listed nowhere, purged with all
		}
		dead = append(dead, scheduler.DeadLetter{
			ID: strconv.FormatUint(seq, 10), Error: why, Died: died,
			Firing: &scheduler.Firing{
				Plan: p, Due: f.due, Missed: f.missed, Attempt: f.attempt, Delivery: f.delivery, Shard: shardID,
			},
		})
		if looked%256 == 0 && ctx.Err() != nil {
			return nil, "", context.Cause(ctx)
		}
	}
	return dead, "", s.iterError(it)
}

// Redrive queues dead letters again from attempt 1. One whose plan cannot be
// decoded stays.
func (s *Store) Redrive(ctx context.Context, ids []string) (n int, err error) {
	var queued []*firing
	n, err = s.sweep(ctx, ids, func(t *txn, f *firing) {
		f.seq, f.of = t.next(), s.work.action(f.action)
		f.attempt, f.delivery, f.cancelled, f.redriven = 1, 1, false, true
		f.of.admit(len(f.core))
		t.enqueue(f)
		queued = append(queued, f)
	}, func() {
		s.work.queue(queued)
		for _, f := range queued {
			s.watch.work(f.action)
		}
	})
	if err != nil {
		return n, fmt.Errorf("redrive: %w", err)
	}
	return n, nil
}

// Purge forgets dead letters.
func (s *Store) Purge(ctx context.Context, ids []string) (n int, err error) {
	if n, err = s.sweep(ctx, ids, nil, nil); err != nil {
		return n, fmt.Errorf("purge: %w", err)
	}
	return n, nil
}

// sweep takes dead letters away. With fn, each is handed to it, and what cannot be
// decoded stays; after is called when all is on disk.
func (s *Store) sweep(ctx context.Context, ids []string, fn func(t *txn, f *firing), after func()) (int, error) {
	var n atomic.Int64
	_, err := s.submit(&request{ctx: ctx, sync: true, after: after, run: func(t *txn) error {
		seen := make(map[uint64]bool, len(ids))
		for _, id := range ids {
			seq, err := strconv.ParseUint(id, 10, 64)
			if err != nil || seen[seq] {
				continue // not one of ours: it is not there
			}
			seen[seq] = true
			k := appendSeqKey(nil, spaceDead, seq)
			v, found, err := s.get(nil, k)
			if err != nil {
				return err
			}
			if !found {
				continue
			}
			if fn != nil {
				_, _, f, err := decodeDead(v)
				if err != nil {
					continue
				}
				fn(t, f)
			}
			t.delete(k)
			t.count(&s.counters.dead, -1)
			n.Add(1)
			if err := t.roomy(); err != nil {
				return err
			}
		}
		return nil
	}})
	return int(n.Load()), err
}
