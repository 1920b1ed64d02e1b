package scheduler

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// finishBatch bounds one finish: larger batches cost less per firing and hold
// slots longer.
const finishBatch = 512

// finisher sends the finishes of one shard to the store, in batches, each sent
// again unchanged until it is answered.
type finisher struct {
	w     *workers
	shard int

	mu      sync.Mutex
	queue   []Finish
	closed  bool
	arrived chan struct{}
	logged  time.Time                 // when a failure was logged last; of run only
	waiting atomic.Pointer[time.Time] // since when it has sent what is not answered (monotonic); nil: it has not
}

// finishLogEvery bounds how often failing finishes are logged.
const finishLogEvery = 10 * time.Second

func newFinisher(w *workers, shard int) *finisher {
	return &finisher{w: w, shard: shard, arrived: make(chan struct{}, 1)}
}

// add queues a finish. It does not wait: the queue is bounded by the slots.
func (f *finisher) add(fin Finish) {
	f.mu.Lock()
	f.queue = append(f.queue, fin)
	f.mu.Unlock()
	notify(f.arrived)
}

// close lets run end once the queue is empty.
func (f *finisher) close() {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	notify(f.arrived)
}

// run sends until it is closed and empty, or ctx is done.
func (f *finisher) run(ctx context.Context) {
	for {
		f.gather()
		batch, closed := f.next()
		if len(batch) == 0 {
			if closed {
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-f.arrived:
			}
			continue
		}
		if !f.send(ctx, batch) {
			return
		}
	}
}

// gather lets those who are ready to run go first while more finishes come of it: a batch
// of one costs the store five times as much per firing as one of hundreds, and is
// what the first of a thousand quick attempts would make. It waits for nothing.
func (f *finisher) gather() {
	for had := -1; ; runtime.Gosched() {
		f.mu.Lock()
		n := len(f.queue)
		f.mu.Unlock()
		if n == had || n == 0 || n >= finishBatch {
			return
		}
		had = n
	}
}

func (f *finisher) next() (batch []Finish, closed bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := min(len(f.queue), finishBatch)
	batch = f.queue[:n:n]
	f.queue = f.queue[n:]
	return batch, f.closed
}

// send delivers one batch; false if ctx ended before the store answered.
func (f *finisher) send(ctx context.Context, batch []Finish) bool {
	e := f.w.e
	begun := time.Now()
	f.waiting.Store(&begun)
	defer f.waiting.Store(nil)
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		bounded, cancel := context.WithTimeout(ctx, e.opts.StoreTimeout)
		answers, err := e.store.Finish(bounded, f.shard, e.opts.Replica, batch)
		cancel()
		if err == nil {
			Failpoint("after-finish")
			f.account(batch, answers)
			f.w.finished(f.shard, batch)
			return true
		}
		e.counters.StoreErrors.Add(1)
		if now := time.Now(); f.logged.IsZero() || now.Sub(f.logged) >= finishLogEvery {
			f.logged = now
			e.log.Warn().Err(err).Int("shard", f.shard).Int("firings", len(batch)).Msg("cannot finish; sending again")
		}
		if sleep(ctx, wait) != nil || errors.Is(err, ErrClosed) {
			return false
		}
	}
}

// account counts what became of a batch and has retries looked for in time.
func (f *finisher) account(batch []Finish, answers []Finished) {
	c := f.w.e.counters
	var executed, failed int64
	requeued := false
	late := f.w.e.meters.late[f.shard]
	var of *actionMeter
	name := ""
	for i, fin := range batch {
		if line := f.w.e.log.Debug(); line.Enabled() {
			fin.log(line, answers[i])
		}
		if fin.Attempt != nil {
			executed++
			if fin.Verdict != Done {
				failed++
			}
		}
		if answers[i] == FinishedNotHeld {
			c.FinishLost.Add(1)
			continue
		}
		if a := fin.Attempt; a != nil {
			if of == nil || a.Action != name { // mostly they are all of one
				name, of = a.Action, f.w.e.meters.action(a.Action)
			}
			of.add(a, answers[i])
			if a.Attempt == 1 {
				late.Observe(a.Late)
			}
		} else if fin.Verdict == Done && fin.Firing.Plan.Action == CanaryAction {
			f.w.e.canaryFinished(f.shard, fin.Firing)
		}
		switch {
		case fin.Verdict == Retry && answers[i] == FinishedOK:
			c.Retried.Add(1)
			requeued = true
		case fin.Verdict == Bury || answers[i] == FinishedBad:
			if fin.Attempt == nil {
				break
			}
			c.Buried.Add(1)
			fin.Firing.log(f.w.e.log.Warn()).Str("error", fin.Attempt.Error).Msg("dead letter")
		case fin.Verdict == Defer:
			requeued = true
		}
	}
	c.Executed.Add(executed)
	c.Failed.Add(failed)
	if requeued {
		f.w.e.expectRetries(f.shard)
	}
}
