package memstore

import (
	"context"
	"errors"
	"fmt"
	"runtime"
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
	// gatherFor is how long an fsync waits, at most, for those who were answered by the
	// last one, if that took as long as slowSync: a round trip of a client on the same
	// machine. On a disk that is fast to wait for them all costs more than it saves.
	gatherFor = 200 * time.Microsecond
	slowSync  = 5 * gatherFor
	// maxInFlight bounds the groups that wait for an fsync that is fast. Those that came while
	// one was under way share the next, which begins when that one ends: it needs nobody to be
	// woken for it. To ask for the next only then cost a quarter of the time of a small group.
	maxInFlight = 64
	// batchBytes is how large a Pebble batch grows before it is applied: well
	// under half a memtable, over which Pebble takes a slower way.
	batchBytes = 1 << 20
	// overtime is how long past its context a caller waits for a change that has
	// begun: mostly it is a matter of one fsync, and a sure answer is worth that.
	overtime = 100 * time.Millisecond
)

// request is a change on its way through the writer.
type request struct {
	ctx    context.Context
	run    func(t *txn) error // reads, compares, appends to the batch; on the writer
	after  func()             // once it is applied, and synced if sync; may be nil
	sync   bool               // answer it only once it is on disk
	urgent bool               // ... and do not wait for others to share the fsync with
	shares bool               // run may share a batch with others that do

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

// nudge has the writer look again.
func (w *writer) nudge() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
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
		w.nudge()
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

// writing is the state of writeLoop.
type writing struct {
	s        *Store
	pending  []*request // applied, to be answered by the next fsync
	urgent   bool       // one of them must not wait for company
	unsynced bool       // something is applied that no fsync has been asked for
	lazyAt   time.Time  // when one is to be asked for even if nobody waits; zero: not yet known
	inFlight int        // groups that wait for their fsync

	// Whoever was just answered is likely to be back at once with the next request. Waiting
	// for them lets one fsync serve all clients; without, they fall into two halves that
	// take turns.
	company int       // how many requests are worth waiting for
	until   time.Time // ... and until when
}

// writeLoop runs requests until the queue is closed and empty, or the store has
// failed.
func (s *Store) writeLoop() {
	defer close(s.groups)
	defer func() {
		if p := recover(); p != nil {
			// Pebble panics where it does not know how to go on. Its locks may be
			// held: it is not called again.
			s.fail(fmt.Errorf("write: %v", p))
		}
	}()
	l := &writing{s: s}
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var spare []*request
	for {
		w := &s.writer
		w.mu.Lock()
		requests, closed := w.waiting, w.closed
		w.waiting = spare[:0]
		w.mu.Unlock()
		if s.failure() != nil {
			return
		}
		l.run(requests)
		clear(requests)
		spare = requests

		gathering := false
		var lazy time.Duration // until lazyAt; 0: nothing waits for it
		switch {
		case l.inFlight > 0 && (s.slow() || l.inFlight == maxInFlight):
		case len(l.pending) > 0:
			gathering = !closed && !l.urgent && len(l.pending) < l.company && time.Now().Before(l.until)
			if !gathering {
				l.sync()
			}
		case s.lazySync > 0 && (l.unsynced || s.work.news.Load()):
			if l.lazyAt.IsZero() {
				l.lazyAt = time.Now().Add(s.lazySync)
			}
			if lazy = time.Until(l.lazyAt); lazy <= 0 {
				s.execute(nil) // what was handed to workers
				l.sync()
			}
		}
		switch {
		case len(requests) > 0:
		case gathering:
			runtime.Gosched()
		case closed && l.inFlight == 0:
			return
		default:
			var due <-chan time.Time
			if lazy > 0 {
				timer.Reset(lazy)
				due = timer.C
			}
			select {
			case <-w.wake:
			case g := <-s.synced:
				l.inFlight--
				if l.company = 0; s.slow() {
					l.company, l.until = len(g.answers)+len(l.pending), time.Now().Add(gatherFor)
				}
			case <-due:
			case <-s.failed:
				return
			}
		}
	}
}

// run executes requests, and answers those that need not wait for an fsync.
func (l *writing) run(requests []*request) {
	for len(requests) > 0 {
		// Requests that can share a batch, or one.
		n := 1
		for requests[0].shares && n < len(requests) && requests[n].shares {
			n++
		}
		some := requests[:n]
		requests = requests[n:]
		l.unsynced = l.s.execute(some) || l.unsynced
		if l.s.failure() != nil {
			return
		}
		for _, r := range some {
			if r.state.Load() == stateGivenUp {
				continue
			}
			// One that wrote nothing may have found what is not on disk yet.
			if r.sync && l.s.opts.Sync == SyncAlways && !scheduler.Bug("no-sync") && (l.unsynced || l.inFlight > 0 || len(l.pending) > 0) {
				l.pending = append(l.pending, r)
				l.urgent = l.urgent || r.urgent
				continue
			}
			r.answer()
		}
	}
}

// sync asks for an fsync of everything applied so far, and leaves it to
// syncLoop to wait for it and to answer what is pending.
func (l *writing) sync() {
	scheduler.Failpoint("before-sync")
	b := l.s.db.NewBatch()
	err := b.LogData(l.s.guard.notes.note(), nil)
	if err == nil {
		err = l.s.db.ApplyNoSyncWait(b, pebble.Sync)
	}
	if err != nil {
		l.s.fail(fmt.Errorf("sync: %w", err))
		return
	}
	l.s.groups <- group{b, l.pending}
	l.pending, l.urgent, l.unsynced, l.lazyAt = nil, false, false, time.Time{}
	l.inFlight++
}

// slow says whether the last fsync took as long as slowSync.
func (s *Store) slow() bool { return time.Duration(s.guard.took.Load()) >= slowSync }

// execute runs requests in one batch and applies what they wrote, not synced.
func (s *Store) execute(requests []*request) (wrote bool) {
	t := &txn{s: s, batch: s.db.NewBatch()}
	defer t.close()
	if len(requests) > 1 {
		t.overlay = make(map[string]stored, len(requests))
	}
	for _, r := range requests {
		if !r.state.CompareAndSwap(stateWaiting, stateBegun) {
			continue
		}
		r.err = r.ctx.Err()
		if r.err != nil {
			r.err = fmt.Errorf("gave up waiting for the store: %w", context.Cause(r.ctx))
		} else {
			r.err = r.run(t)
		}
		if errors.Is(r.err, errUnreadable) {
			// It may have been in the midst of a change, here and in the batch.
			s.fail(r.err)
			return t.wrote
		}
		// What run has appended before it found another error is whole, and stays.
		if r.err != nil {
			r.after = nil
		}
	}
	if err := t.apply(); err != nil {
		for _, r := range requests {
			r.err, r.after = err, nil
		}
	}
	return t.wrote
}

func (r *request) answer() {
	if r.after != nil {
		r.after()
	}
	close(r.done)
}

// syncLoop answers groups, each once its fsync is done.
func (s *Store) syncLoop() {
	for g := range s.groups {
		if err := g.barrier.SyncWait(); err != nil {
			// The data may be in the page cache, marked clean, and not on disk: an fsync
			// that is tried again can succeed without writing it.
			s.fail(fmt.Errorf("sync: %w", err))
		}
		if s.failure() != nil {
			continue
		}
		scheduler.Failpoint("after-sync")
		for _, r := range g.answers {
			r.answer()
		}
		_ = g.barrier.Close() // only returns it to its pool
		s.synced <- g
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
	return t.flush()
}

// flush applies the batch and begins another. What it changes is stored then, and
// no longer in the overlay.
func (t *txn) flush() error {
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
	t.writeTaken()
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
	t.s.changes.done()
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
