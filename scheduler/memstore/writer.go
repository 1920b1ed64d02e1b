package memstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/snower/forsun/scheduler"
)

const (
	// lazySync is how long after it was written a change may wait for its fsync that is
	// not waited for: short, because what finished within it runs again after a crash.
	lazySync = 5 * time.Millisecond
	// batchBytes is how large a Pebble batch grows before it is applied: well
	// under half a memtable, over which Pebble takes a slower way.
	batchBytes = 1 << 20
	// overtime is how long past its context a caller waits for a change that has
	// begun: mostly it is a matter of one fsync, and a sure answer is worth that.
	overtime = 100 * time.Millisecond
)

// request is a change on its way through the writer.
type request struct {
	ctx   context.Context
	run   func(t *txn) error // reads, compares, appends to the batch; on the writer
	after func()             // once it is applied, and synced if sync; may be nil
	sync  bool               // answer it only once it is on disk

	state atomic.Uint32 // stateWaiting, stateBegun, stateGivenUp
	done  chan struct{}
	err   error // of run; valid once done is closed
}

const (
	stateWaiting = iota
	stateBegun
	stateGivenUp
)

// writer is the queue in front of the one goroutine that changes anything.
type writer struct {
	mu      sync.Mutex
	waiting []*request
	closed  bool
	wake    chan struct{} // holds one token when there is something new
}

// submit has the writer run r and waits for the answer, at most overtime longer than
// its context. begun tells, with an error, whether r may have taken effect, or
// may still.
func (s *Store) submit(r *request) (begun bool, err error) {
	if err := s.failure(); err != nil {
		return false, err
	}
	r.done = make(chan struct{})
	w := &s.writer
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return false, scheduler.ErrClosed
	}
	w.waiting = append(w.waiting, r)
	first := len(w.waiting) == 1
	w.mu.Unlock()
	if first {
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
	select {
	case <-r.done:
		return true, r.err
	case <-s.failed:
	case <-r.ctx.Done():
		if r.state.CompareAndSwap(stateWaiting, stateGivenUp) {
			return false, fmt.Errorf("gave up waiting for the store: %w", context.Cause(r.ctx))
		}
		late := time.NewTimer(overtime)
		defer late.Stop()
		select {
		case <-r.done:
			return true, r.err
		case <-s.failed:
		case <-late.C:
			return true, fmt.Errorf("gave up waiting for the disk: %w", context.Cause(r.ctx))
		}
	}
	return !r.state.CompareAndSwap(stateWaiting, stateGivenUp), s.failure()
}

// group is what one fsync answers.
type group struct {
	barrier *pebble.Batch
	answers []*request
}

// writeLoop runs requests until the queue is closed and empty, or the store has
// failed.
func (s *Store) writeLoop() {
	defer close(s.groups)
	defer func() {
		if p := recover(); p != nil {
			// Pebble panics when it cannot write or rotate its log. Its locks may be
			// held: it is not called again.
			s.fail(fmt.Errorf("write: %v", p))
		}
	}()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	unsynced := false
	var spare []*request
	for {
		w := &s.writer
		w.mu.Lock()
		requests, closed := w.waiting, w.closed
		w.waiting = spare[:0]
		w.mu.Unlock()

		if len(requests) == 0 {
			if closed {
				return
			}
			spare = requests
			var due <-chan time.Time
			if unsynced && s.lazySync > 0 {
				timer.Reset(s.lazySync)
				due = timer.C
			}
			select {
			case <-w.wake:
			case <-due:
				s.barrier(nil)
				unsynced = false
			case <-s.failed:
				return
			}
			continue
		}

		var answers []*request
		for _, r := range requests {
			if !r.state.CompareAndSwap(stateWaiting, stateBegun) {
				continue
			}
			if s.failure() != nil {
				return
			}
			wrote := s.execute(r)
			if wrote && r.sync && s.opts.Sync == SyncAlways {
				answers = append(answers, r)
				continue
			}
			unsynced = unsynced || wrote
			r.answer()
		}
		if len(answers) > 0 {
			s.barrier(answers)
			unsynced = false
		}
		clear(requests)
		spare = requests
	}
}

// execute runs one request and applies what it wrote, not synced.
func (s *Store) execute(r *request) (wrote bool) {
	if err := r.ctx.Err(); err != nil {
		r.err = fmt.Errorf("gave up waiting for the store: %w", context.Cause(r.ctx))
		r.after = nil
		return false
	}
	t := &txn{s: s, batch: s.db.NewBatch()}
	defer t.close()
	if r.err = r.run(t); r.err != nil {
		r.after = nil
	}
	// What run has appended before it found an error is whole, and stays.
	if err := t.apply(); err != nil {
		r.err, r.after = err, nil
	}
	return t.wrote
}

func (r *request) answer() {
	if r.after != nil {
		r.after()
	}
	close(r.done)
}

// barrier asks for an fsync of everything applied so far, and leaves it to
// syncLoop to wait for it and answer.
func (s *Store) barrier(answers []*request) {
	b := s.db.NewBatch()
	if err := b.LogData(nil, nil); err != nil {
		s.fail(fmt.Errorf("sync: %w", err))
		return
	}
	if err := s.db.ApplyNoSyncWait(b, pebble.Sync); err != nil {
		s.fail(fmt.Errorf("sync: %w", err))
		return
	}
	s.groups <- group{b, answers}
}

// syncLoop answers groups in their order, each once its fsync is done.
func (s *Store) syncLoop() {
	for g := range s.groups {
		if err := g.barrier.SyncWait(); err != nil {
			// The data may be in the page cache, marked clean, and not on disk: an fsync
			// that is tried again can succeed without writing it.
			s.fail(fmt.Errorf("sync: %w", err))
			continue
		}
		if s.failure() != nil {
			continue
		}
		for _, r := range g.answers {
			r.answer()
		}
		_ = g.barrier.Close() // only returns it to its pool
	}
}

// txn is what a request sees and writes. Its batches are applied one after the other; each
// leaves the store whole.
type txn struct {
	s       *Store
	batch   *pebble.Batch
	overlay map[string]stored // what the batch changes, by plan key; nil: nothing is looked up twice
	placed  []placed          // what the batch puts into schedules
	changed bool              // counters did
	wrote   bool
	keys    []byte // what placed's keys are parts of
	buf     []byte // for keys
	val     []byte // for values
}

// placed is a plan's new place in a schedule.
type placed struct {
	action *action
	key    []byte
}

func (t *txn) close() { _ = t.batch.Close() } // only returns it to its pool

// roomy applies the batch if it has grown large.
func (t *txn) roomy() error {
	if t.batch.Len() < batchBytes {
		return nil
	}
	if err := t.apply(); err != nil {
		return err
	}
	_ = t.batch.Close()
	t.batch = t.s.db.NewBatch()
	clear(t.overlay)
	return nil
}

// apply writes the batch with the counters as they are now.
func (t *txn) apply() error {
	if t.batch.Empty() && !t.changed {
		return nil
	}
	if t.changed {
		t.val = t.s.counters.encode(t.val[:0])
		t.set([]byte(metaCounters), t.val)
		t.changed = false
	}
	if err := t.s.db.Apply(t.batch, pebble.NoSync); err != nil {
		err = fmt.Errorf("%w: write: %w", scheduler.ErrStore, err)
		t.s.fail(err)
		return err
	}
	t.wrote = true
	for _, p := range t.placed {
		p.action.schedule.written(p.key)
	}
	t.placed, t.keys = t.placed[:0], t.keys[:0]
	t.s.publish()
	return nil
}

// The batch's methods fail only for what cannot happen here (a batch that is
// too large for its 32-bit length: see roomy).

func (t *txn) set(k, v []byte)         { _ = t.batch.Set(k, v, nil) }
func (t *txn) delete(k []byte)         { _ = t.batch.Delete(k, nil) }
func (t *txn) deleteOnce(k []byte)     { _ = t.batch.SingleDelete(k, nil) }
func (t *txn) deleteRange(a, b []byte) { _ = t.batch.DeleteRange(a, b, nil) }

// next gives a sequence number.
func (t *txn) next() uint64 {
	t.changed = true
	t.s.counters.sequence++
	return t.s.counters.sequence
}

// count changes a counter.
func (t *txn) count(n *int64, by int64) {
	if by != 0 {
		*n += by
		t.changed = true
	}
}

// publish lets others see the counters.
func (s *Store) publish() {
	s.seen.mu.Lock()
	s.seen.counters = s.counters
	s.seen.mu.Unlock()
}

// get reads one value into buf; found is false if there is none.
func (s *Store) get(buf, key []byte) (v []byte, found bool, err error) {
	v, closer, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return buf[:0], false, nil
	}
	if err != nil {
		return buf[:0], false, s.readError(err)
	}
	buf = append(buf[:0], v...)
	_ = closer.Close() // releases the block; cannot fail
	return buf, true, nil
}
