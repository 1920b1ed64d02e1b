package memstore

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/snower/forsun/scheduler"
)

// firing is a claimed firing as the store keeps it. What is below the line is
// guarded by work.mu.
type firing struct {
	seq      uint64
	key      string
	action   string
	of       *action
	revision scheduler.Revision
	due      int64
	missed   int
	attempt  int
	delivery int
	redriven bool   // belongs to no plan any more
	core     []byte // see appendCore; never changed

	// ----

	cancelled  bool    // not to be retried: its plan was removed or replaced
	receipt    string  // of its last delivery
	worker     *worker // who holds it; nil while it is queued
	queued     bool
	next, prev *firing // others of the same key
	held       int     // its place in worker.held
}

// action is what is kept of one action.
type action struct {
	name     string
	schedule schedule

	// The backlog: what is claimed and not finished, queued, running or waiting.
	entries atomic.Int64
	bytes   atomic.Int64

	// Guarded by work.mu.
	queue   fifo
	running int
	taken   uint64 // the highest number that was handed to a worker
	stored  uint64 // ... and that has been written
}

// room tells whether another firing of size bytes fits. One always fits where
// there is none.
func (a *action) room(b scheduler.Backlog, size int) bool {
	entries, bytes := a.entries.Load(), a.bytes.Load()
	if entries == 0 {
		return true
	}
	return (b.Entries <= 0 || entries < int64(b.Entries)) && (b.Bytes <= 0 || bytes+int64(size) <= b.Bytes)
}

// admit counts a firing with a core of size bytes into the backlog, release
// out of it.
func (a *action) admit(size int) {
	a.entries.Add(1)
	a.bytes.Add(int64(size))
}

func (a *action) release(size int) {
	a.entries.Add(-1)
	a.bytes.Add(-int64(size))
}

// worker is who takes firings.
type worker struct {
	name  string
	beats uint64
	held  []*firing // in no order
}

// oldest returns up to limit of what the worker holds, in the order of their
// numbers. work.mu is held.
func (k *worker) oldest(limit int) []*firing {
	fs := slices.Clone(k.held)
	slices.SortFunc(fs, func(a, b *firing) int { return cmp.Compare(a.seq, b.seq) })
	return fs[:min(max(limit, 0), len(fs))]
}

// work is what was claimed and not finished: queued, or held by a worker.
type work struct {
	mu      sync.Mutex
	actions map[string]*action
	firings map[uint64]*firing // by sequence number; those whose claim is not synced yet, too
	byKey   map[string]*firing // the last opened of each key; the others hang on it
	workers map[string]*worker
	news    atomic.Bool // some action's taken is to be written
	boot    uint64      // differs from Open to Open, for receipts
	taken   uint64      // deliveries since Open, for receipts
}

func (w *work) init() {
	w.actions = make(map[string]*action)
	w.firings = make(map[uint64]*firing)
	w.byKey = make(map[string]*firing)
	w.workers = make(map[string]*worker)
}

// action returns what is kept of an action, made if need be. Actions are few: the
// names come from plans the service has accepted.
func (w *work) action(name string) *action {
	w.mu.Lock()
	defer w.mu.Unlock()
	a := w.actions[name]
	if a == nil {
		a = &action{name: name}
		w.actions[name] = a
	}
	return a
}

// known returns what is kept of an action, or nil.
func (w *work) known(name string) *action {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.actions[name]
}

// byName returns all actions in the order of their names.
func (w *work) byName() []*action {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := make([]*action, 0, len(w.actions))
	for _, a := range w.actions {
		all = append(all, a)
	}
	slices.SortFunc(all, func(a, b *action) int { return compare(a.name, b.name) })
	return all
}

// open makes a firing known. It cannot be taken before it is queued.
func (w *work) open(f *firing) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.firings[f.seq] = f
	if other := w.byKey[f.key]; other != nil {
		f.next, other.prev = other, f
	}
	w.byKey[f.key] = f
}

// close forgets a firing. w.mu is held.
func (w *work) close(f *firing) {
	delete(w.firings, f.seq)
	w.letGo(f)
	if f.next != nil {
		f.next.prev = f.prev
	}
	switch {
	case f.prev != nil:
		f.prev.next = f.next
	case f.next != nil:
		w.byKey[f.key] = f.next
	default:
		delete(w.byKey, f.key)
	}
	f.next, f.prev = nil, nil
}

// letGo takes a firing out of its worker's hands. w.mu is held.
func (w *work) letGo(f *firing) {
	k := f.worker
	if k == nil {
		return
	}
	last := len(k.held) - 1
	k.held[f.held] = k.held[last]
	k.held[f.held].held = f.held
	k.held[last] = nil
	k.held = k.held[:last]
	f.worker = nil
	f.of.running--
}

// hold puts a firing into a worker's hands. w.mu is held.
func (w *work) hold(f *firing, k *worker) {
	f.worker, f.queued, f.held = k, false, len(k.held)
	k.held = append(k.held, f)
	f.of.running++
	f.of.taken = max(f.of.taken, f.seq)
	w.taken++
	var b [64]byte
	r := strconv.AppendUint(b[:0], f.seq, 10)
	r = strconv.AppendUint(append(r, '.'), w.boot, 36)
	f.receipt = string(strconv.AppendUint(append(r, '.'), w.taken, 36))
}

// queue makes open firings ready to be taken.
func (w *work) queue(fs []*firing) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range fs {
		f.queued = true
		f.of.queue.push(f)
	}
}

// worker returns what is kept of a worker, made if need be. w.mu is held.
func (w *work) worker(name string) *worker {
	k := w.workers[name]
	if k == nil {
		k = &worker{name: name}
		w.workers[name] = k
	}
	return k
}

// holding returns the firing of a delivery if the worker holds just that. w.mu is
// held.
func (w *work) holding(worker, receipt string) *firing {
	number, _, _ := strings.Cut(receipt, ".")
	seq, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return nil
	}
	f := w.firings[seq]
	if f == nil || f.worker == nil || f.worker.name != worker || f.receipt != receipt {
		return nil
	}
	return f
}

// fifo is a queue of firings in a ring.
type fifo struct {
	ring []*firing
	head int
	n    int
}

func (q *fifo) push(f *firing) {
	if q.n == len(q.ring) {
		grown := make([]*firing, max(16, 2*len(q.ring)))
		for i := range q.n {
			grown[i] = q.ring[(q.head+i)%len(q.ring)]
		}
		q.ring, q.head = grown, 0
	}
	q.ring[(q.head+q.n)%len(q.ring)] = f
	q.n++
}

// pop returns the oldest, or nil. A ring that was large gives its memory back
// when it is empty.
func (q *fifo) pop() *firing {
	if q.n == 0 {
		return nil
	}
	f := q.ring[q.head]
	q.ring[q.head] = nil
	q.head = (q.head + 1) % len(q.ring)
	q.n--
	if q.n == 0 && len(q.ring) > 1<<16 {
		*q = fifo{}
	}
	return f
}
