package memstore

import (
	"context"
	"fmt"
	"slices"

	"github.com/snower/forsun/scheduler"
)

// lostReason is the error of a dead letter whose workers all died.
const lostReason = "worker lost"

// Holders returns every worker the store knows, by name.
func (s *Store) Holders(ctx context.Context, shard int) ([]scheduler.Holder, error) {
	leave, err := s.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	if shard != shardID {
		return nil, nil
	}
	s.work.mu.Lock()
	defer s.work.mu.Unlock()
	var hs []scheduler.Holder
	for _, k := range s.work.workers {
		hs = append(hs, scheduler.Holder{Worker: k.name, Beats: k.beats})
	}
	slices.SortFunc(hs, func(a, b scheduler.Holder) int { return compare(a.Worker, b.Worker) })
	return hs, nil
}

// Rescue takes firings from a worker that has not beaten since.
func (s *Store) Rescue(ctx context.Context, l scheduler.Lease, h scheduler.Holder, maxDeliveries, limit int) (n int, err error) {
	var requeue []*firing
	moved := 0
	_, err = s.submit(&request{ctx: ctx, run: func(t *txn) error {
		if err := s.leases.check(l); err != nil {
			return err
		}
		w := &s.work
		w.mu.Lock()
		k := w.workers[h.Worker]
		if k == nil || k.beats != h.Beats {
			w.mu.Unlock()
			return nil
		}
		lost := k.oldest(limit)
		for _, f := range lost {
			w.close(f)
		}
		if len(k.held) == 0 {
			delete(w.workers, k.name)
		}
		w.mu.Unlock()
		for _, f := range lost {
			t.closeRecord(f)
			moved++
			if f.delivery >= maxDeliveries {
				if err := t.bury(f, lostReason); err != nil {
					return err
				}
				if err := t.setStatus(f, scheduler.StatusFailed); err != nil {
					return err
				}
				f.of.release(len(f.core))
				continue
			}
			// A new number, a new record: what is stored under a number is
			// written once.
			f.seq = t.next()
			f.attempt++
			f.delivery++
			t.enqueue(f)
			requeue = append(requeue, f)
		}
		return nil
	}, after: func() {
		s.work.queue(requeue)
		for _, f := range requeue {
			s.watch.work(f.action)
		}
	}})
	if err != nil {
		return 0, fmt.Errorf("rescue, shard %d: %w", l.Shard, err)
	}
	return moved, nil
}
