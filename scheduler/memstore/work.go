package memstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/snower/forsun/scheduler"
)

// loadFirings queues every firing that was claimed and not finished. Those that a
// worker had when the process crashed count one attempt and one delivery
// more, or are dead letters if this is not the first time.
func (s *Store) loadFirings(clean bool) error {
	if err := s.loadTaken(); err != nil {
		return err
	}
	cancelled := make(map[uint64]bool)
	err := s.each(spaceCancelled, func(k, _ []byte) error {
		if seq, ok := splitSeqKey(k); ok {
			cancelled[seq] = true
		}
		return nil
	})
	if err != nil {
		return err
	}
	var all []*firing
	err = s.each(spaceFiring, func(k, v []byte) error {
		seq, ok := splitSeqKey(k)
		f, err := decodeFiring(append([]byte(nil), v...))
		if !ok || err != nil {
			s.log.Error().Hex("record", k).Err(err).Msg("a claimed firing cannot be decoded; it is left out")
			return nil
		}
		f.seq, f.of, f.cancelled = seq, s.work.action(f.action), f.cancelled || cancelled[seq]
		f.of.admit(len(f.core))
		s.work.open(f)
		all = append(all, f)
		return nil
	})
	if err != nil {
		return err
	}
	if !clean {
		if all, err = s.loseWorkers(all); err != nil {
			return err
		}
	}
	s.work.queue(all)
	if len(all) > 0 {
		s.log.Info().Int("firings", len(all)).Msg("firings that were claimed and not finished are queued again")
	}
	return nil
}

// loseWorkers finds, of firings in the order of their numbers, those that were in
// a worker's hands, and puts them behind the others: one of them may be why the process
// died. What is known of that is the highest number handed out of each action,
// which counts what a worker has handed back unrun, too.
func (s *Store) loseWorkers(all []*firing) (left []*firing, err error) {
	t := &txn{s: s, batch: s.db.NewBatch()}
	defer t.close()
	left = all[:0]
	var lost []*firing
	buried := 0
	for _, f := range all {
		if f.seq > f.of.taken {
			left = append(left, f)
			continue
		}
		s.work.close(f)
		t.closeRecord(f)
		if f.delivery >= s.opts.MaxDeliveries {
			f.of.release(len(f.core))
			buried++
			if err := errors.Join(t.bury(f, lostReason), t.setStatus(f, scheduler.StatusFailed)); err != nil {
				return nil, err
			}
			continue
		}
		f.seq = t.next()
		f.attempt++
		f.delivery++
		t.enqueue(f)
		lost = append(lost, f)
		if err := t.roomy(); err != nil {
			return nil, err
		}
	}
	if buried > 0 {
		s.log.Error().Int("firings", buried).Int("deliveries", s.opts.MaxDeliveries).
			Msg("the process died over these firings too often; they are dead letters")
	}
	return append(left, lost...), t.apply()
}

func (s *Store) loadTaken() error {
	lower := []byte(metaTaken)
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: prefixEnd(lower)})
	if err != nil {
		return s.readError(err)
	}
	defer func() { _ = it.Close() }()
	for it.First(); it.Valid(); it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return s.readError(err)
		}
		r := reader{b: v}
		a := s.work.action(string(it.Key()[len(lower):]))
		if a.taken = r.uvarint(); r.err != nil {
			return fmt.Errorf("what was taken of %s: %w", a.name, r.err)
		}
		a.stored = a.taken
	}
	return s.iterError(it)
}

// writeTaken adds to the batch what has been handed to workers since the last time.
func (t *txn) writeTaken() {
	w := &t.s.work
	if !w.news.Load() {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.news.Store(false)
	for _, a := range w.actions {
		if a.taken > a.stored {
			a.stored = a.taken
			t.buf = append(append(t.buf[:0], metaTaken...), a.name...)
			t.val = binary.AppendUvarint(t.val[:0], a.taken)
			t.set(t.buf, t.val)
		}
	}
}

// each calls fn with every entry of a keyspace; k and v are valid during the call.
func (s *Store) each(space byte, fn func(k, v []byte) error) error {
	lower, upper := spaceBounds(space)
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return s.readError(err)
	}
	defer func() { _ = it.Close() }() // its error is Error's
	for it.First(); it.Valid(); it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return s.readError(err)
		}
		if err := fn(it.Key(), v); err != nil {
			return err
		}
	}
	if err := it.Error(); err != nil {
		return s.readError(err)
	}
	return nil
}

// Take hands queued firings to a worker. It waits for no disk: that they were handed
// out is written within lazySync.
func (s *Store) Take(ctx context.Context, r scheduler.TakeRequest) (fs []*scheduler.Firing, more bool, err error) {
	leave, err := s.enter(ctx)
	if err != nil {
		return nil, false, err
	}
	defer leave()
	if r.Shard != shardID {
		return nil, false, nil
	}
	w := &s.work
	var taken []*firing
	w.mu.Lock()
	k := w.worker(r.Worker)
	for name, slots := range r.Slots {
		a := w.actions[name]
		for a != nil && slots > 0 {
			f := a.queue.pop()
			if f == nil {
				break
			}
			w.hold(f, k)
			taken = append(taken, f)
			slots--
		}
	}
	fs = make([]*scheduler.Firing, len(taken))
	for i, f := range taken {
		fs[i] = &scheduler.Firing{
			Due: f.due, Missed: f.missed, Attempt: f.attempt, Delivery: f.delivery,
			Shard: shardID, Receipt: f.receipt,
		}
	}
	first := len(taken) > 0 && !w.news.Swap(true)
	w.mu.Unlock()
	if first {
		s.writer.nudge()
	}

	good := fs[:0]
	for i, f := range taken {
		p, err := f.plan()
		if err != nil {
			s.quarantineFiring(ctx, f, err)
			continue
		}
		fs[i].Plan = p
		good = append(good, fs[i])
	}
	return good, false, nil
}

// quarantineFiring puts a firing away whose plan cannot be decoded, which Due
// should have seen. If that cannot be done now, its worker holds it, and hands it back.
func (s *Store) quarantineFiring(ctx context.Context, f *firing, why error) {
	_, err := s.submit(&request{ctx: ctx, run: func(t *txn) error {
		s.work.mu.Lock()
		open := s.work.firings[f.seq] == f
		if open {
			s.work.close(f)
		}
		s.work.mu.Unlock()
		if open {
			f.of.release(len(f.core))
			t.closeRecord(f)
			return t.lockAway(f.key, f.action, f.due, f.core, why)
		}
		return nil
	}})
	if err != nil {
		s.log.Error().Str("key", f.key).Err(err).Msg("a firing that cannot be decoded could not be put into quarantine")
	}
}

// Held returns receipts of what the worker holds, oldest first.
func (s *Store) Held(ctx context.Context, shard int, worker string, limit int) ([]string, error) {
	leave, err := s.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	w := &s.work
	w.mu.Lock()
	defer w.mu.Unlock()
	k := w.workers[worker]
	if k == nil || shard != shardID {
		return nil, nil
	}
	fs := k.oldest(limit)
	receipts := make([]string, len(fs))
	for i, f := range fs {
		receipts[i] = f.receipt
	}
	return receipts, nil
}

// Beat increments the worker's heartbeat counter.
func (s *Store) Beat(ctx context.Context, worker string) error {
	leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	s.work.mu.Lock()
	defer s.work.mu.Unlock()
	s.work.worker(worker).beats++
	return nil
}

// Finish ends deliveries. It is answered once it is written, before it is
// synced: see the package comment.
func (s *Store) Finish(ctx context.Context, shard int, worker string, fs []scheduler.Finish) ([]scheduler.Finished, error) {
	answers := make([]scheduler.Finished, len(fs))
	if shard != shardID {
		for i := range answers {
			answers[i] = scheduler.FinishedNotHeld
		}
		return answers, nil
	}
	f := &finisher{worker: worker, fs: fs, answers: answers}
	_, err := s.submit(&request{ctx: ctx, run: f.run, after: func() {
		s.work.queue(f.requeue)
		for _, r := range f.requeue {
			s.watch.work(r.action)
		}
	}})
	if err != nil {
		return nil, fmt.Errorf("finish, shard %d: %w", shardID, err)
	}
	return answers, nil
}

// finisher is a batch of finishes on its way through the writer.
type finisher struct {
	worker  string
	fs      []scheduler.Finish
	answers []scheduler.Finished
	requeue []*firing
	history historyEntry
}

func (n *finisher) run(t *txn) error {
	if len(n.fs) > 1 {
		t.overlay = make(map[string]stored)
	}
	for i := range n.fs {
		answer, err := n.finish(t, &n.fs[i])
		if err != nil {
			return err
		}
		n.answers[i] = answer
	}
	t.record(&n.history)
	return nil
}

func (n *finisher) finish(t *txn, q *scheduler.Finish) (scheduler.Finished, error) {
	w := &t.s.work
	w.mu.Lock()
	f := w.holding(n.worker, q.Firing.Receipt)
	if f == nil {
		w.mu.Unlock()
		return scheduler.FinishedNotHeld, nil
	}
	if q.Verdict == scheduler.Return {
		w.letGo(f)
		w.mu.Unlock()
		n.requeue = append(n.requeue, f)
		return scheduler.FinishedOK, nil
	}
	w.close(f)
	w.mu.Unlock()

	t.closeRecord(f)
	answer, outcome := scheduler.FinishedOK, scheduler.Outcome("")
	ended := true
	var err error
	switch q.Verdict {
	case scheduler.Retry:
		if f.cancelled {
			answer, outcome = scheduler.FinishedCancelled, scheduler.Cancelled
			break
		}
		f.attempt++
		f.delivery = 1
		t.wait(f, ceilMilli(q.At))
		ended = false
	case scheduler.Defer:
		t.wait(f, ceilMilli(q.At))
		ended = false
	case scheduler.Bury:
		why := ""
		if q.Attempt != nil {
			why = q.Attempt.Error
		}
		if err = t.bury(f, why); err == nil {
			err = t.setStatus(f, scheduler.StatusFailed)
		}
	default:
		err = t.setStatus(f, scheduler.StatusSucceeded)
	}
	if ended {
		f.of.release(len(f.core))
	}
	if q.Attempt != nil {
		n.history.add(q.Attempt, outcome)
	}
	return answer, err
}

// closeRecord removes the record of a firing that is not queued or running any more.
func (t *txn) closeRecord(f *firing) {
	t.buf = appendSeqKey(t.buf[:0], spaceFiring, f.seq)
	t.deleteOnce(t.buf)
	if f.cancelled {
		t.buf = appendSeqKey(t.buf[:0], spaceCancelled, f.seq)
		t.delete(t.buf)
	}
}

// setStatus notes in the plan, if it is still the one that was claimed, how its
// firing ended.
func (t *txn) setStatus(f *firing, status scheduler.Status) error {
	if _, _, _, next, err := splitCore(f.core); err != nil || next == 0 {
		return nil // it was the plan's last firing
	}
	p, err := t.plan(f.key)
	if err != nil || !p.exists {
		return err
	}
	h, rest, err := decodeHead(p.body)
	if err != nil || h.revision != f.revision || h.status == status {
		return nil
	}
	h.status = status
	p.body = append(appendHead(make([]byte, 0, len(p.body)+1), h), rest...)
	t.buf = appendScheduleKey(t.buf[:0], p.action, p.due, f.key)
	t.set(t.buf, p.body)
	t.remember(f.key, p)
	return nil
}
