package scheduler

import (
	"context"
	"slices"
	"sync"
	"time"
)

const (
	// takeEvery is how often workers look for firings without having been told.
	takeEvery = time.Second
	// sweepEvery is how often a replica compares what it holds with what it runs.
	sweepEvery = 2 * time.Second
	// waitMoving is how long a firing may wait here for a slot of a target that
	// finishes nothing; then it is deferred.
	waitMoving = time.Second
	// deferMin and deferMax bound how long a deferred firing stays away. It grows with
	// how long the firing has waited for its target, so that a long queue before a
	// hanging target is not taken and put back over and over. That it is late for
	// another reason, such as a store that was away, makes it wait no longer.
	deferMin = 500 * time.Millisecond
	deferMax = 30 * time.Second
	// cutGrace is how long attempts may take to end after they were cut off.
	cutGrace = 5 * time.Second
)

// workers take firings of all shards and run them, each in a slot of its action
// and a slot of its target. A slot is free again when the store has answered
// the finish. Each shard has a dispatcher, a sweeper and a finisher of its own, so
// that a shard whose part of the store hangs holds up no other.
type workers struct {
	e       *Engine
	wakeups map[int]chan struct{} // by shard: there may be firings, or slots, again

	mu       sync.Mutex
	pools    map[string]*pool // by action
	running  map[receipt]run  // what is in a slot
	takes    map[int]*takes   // by shard: of its dispatcher
	handed   map[int]*takes   // by shard: of its leader, whose claims hand out firings
	ctx      context.Context  // of the attempts; nil until they may begin
	draining bool

	finishers map[int]*finisher
	attempts  sync.WaitGroup

	runners *runners // of the attempts
}

// receipt names a delivery.
type receipt struct {
	shard int
	id    string
}

// takes is what one shard's dispatcher is doing, one thing at a time, or its leader, who
// ends things in the order in which they began.
type takes struct {
	begun, ended uint64          // its asking the store
	lacking      map[string]bool // actions it had no slot to ask for
	came         time.Time       // when it last came round (monotonic)
	answered     time.Time       // when the store last answered it, or there was nothing to ask for (monotonic)
}

// run is a firing in a slot.
type run struct {
	firing   *Firing
	began    time.Time     // when its attempt did (monotonic); zero: it has not
	deadline time.Duration // of the attempt, once health has asked for it
}

func newWorkers(e *Engine) *workers {
	w := &workers{
		e: e, wakeups: make(map[int]chan struct{}),
		pools: make(map[string]*pool), running: make(map[receipt]run),
		takes:     make(map[int]*takes),
		handed:    make(map[int]*takes),
		finishers: make(map[int]*finisher),
	}
	w.runners = newRunners(w.runJob)
	for _, name := range e.opts.Work {
		action, _ := e.actions.Get(name)
		slots := e.opts.Slots[name]
		if slots == 0 {
			slots = e.opts.DefaultSlots
		}
		if name == CanaryAction {
			slots = canarySlots
		}
		w.pools[name] = &pool{action: action, slots: slots, targets: make(map[string]*target)}
	}
	for _, name := range e.opts.Forbidden {
		if len(e.opts.Work) > 0 { // else it takes nothing at all
			w.pools[name] = &pool{slots: e.opts.DefaultSlots} // without an action: start makes dead letters
		}
	}
	for _, s := range e.shards {
		w.wakeups[s.id] = make(chan struct{}, 1)
		w.takes[s.id], w.handed[s.id] = &takes{}, &takes{}
		w.finishers[s.id] = newFinisher(w, s.id)
	}
	return w
}

// wake says that a shard may have firings to take.
func (w *workers) wake(shard int) { notify(w.wakeups[shard]) }

func (w *workers) wakeAll() {
	for _, c := range w.wakeups {
		notify(c)
	}
}

// run takes and runs firings until ctx is done, then drains: nothing more is
// taken, what waits is handed back, what runs may go on for DrainTimeout and is
// then cut off and handed back. led is closed once no leader of this replica hands
// out firings any more.
func (w *workers) run(ctx context.Context, led <-chan struct{}) {
	// Attempts, finishes and heartbeats outlive ctx by the drain.
	attempting, cut := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cut(nil)
	w.mu.Lock()
	w.ctx = attempting
	for _, t := range w.takes {
		t.came = time.Now()
		t.answered = t.came
	}
	w.mu.Unlock()
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServing()
	var loops, finishing sync.WaitGroup
	for _, f := range w.finishers {
		finishing.Go(func() { f.run(serving) })
	}
	loops.Go(func() { w.beat(serving) })
	var taking sync.WaitGroup
	for _, s := range w.e.shards {
		loops.Go(func() { w.sweep(serving, s.id) })
		taking.Go(func() { w.take(ctx, attempting, s.id) })
	}
	taking.Wait()
	w.stopHandingOut()
	<-led

	w.handBackWaiting()
	ended := waitFor(&w.attempts, w.e.opts.DrainTimeout)
	if !ended {
		w.e.log.Warn().Dur("after", w.e.opts.DrainTimeout).Msg("drain time is over: cutting off running attempts")
		cut(ErrShuttingDown)
		if ended = waitFor(&w.attempts, cutGrace); !ended {
			w.e.log.Error().Msg("attempts do not end; their firings will be rescued")
		}
	}
	// The finishers end once their queues are empty, or the store has not
	// answered for a while; only then do the heartbeats stop.
	for _, f := range w.finishers {
		f.close()
	}
	w.runners.end()
	if !waitFor(&finishing, w.e.opts.StoreTimeout) {
		w.e.log.Error().Msg("the store does not accept the last finishes; their firings will run again")
	}
	stopServing()
	finishing.Wait()
	loops.Wait()
	if ended { // else they are let go with the process
		w.runners.all.Wait()
	}
}

// waitFor waits for wg, at most d, and says whether it ended.
func waitFor(wg *sync.WaitGroup, d time.Duration) bool {
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	select {
	case <-done:
		return true
	case <-time.After(d):
		return false
	}
}

// take is the dispatcher of one shard: it takes firings for free slots whenever
// there may be some of either.
func (w *workers) take(ctx, attempting context.Context, shard int) {
	timer := time.NewTicker(takeEvery)
	defer timer.Stop()
	quiet := false // an error was logged and has not gone away
	for ctx.Err() == nil {
		more, err := w.takeOnce(ctx, attempting, shard)
		switch {
		case err == nil:
			quiet = false
		case ctx.Err() == nil:
			// The timer looks again; the sweeper finds what was handed out to nobody.
			w.e.counters.StoreErrors.Add(1)
			if !quiet {
				quiet = true
				w.e.log.Warn().Err(err).Int("shard", shard).Msg("cannot take firings; trying on")
			}
		}
		if more {
			continue
		}
		select {
		case <-ctx.Done():
		case <-timer.C:
			w.deferStuck(time.Now())
		case <-w.wakeups[shard]:
		}
	}
}

// takeOnce takes from one shard into the slots that are free, and says whether to
// go on at once. The slots are reserved while the store is asked, so that two
// dispatchers never fill the same one.
func (w *workers) takeOnce(ctx, attempting context.Context, shard int) (more bool, err error) {
	slots := w.reserve(shard)
	if len(slots) == 0 {
		return false, nil // finished wakes us
	}
	// A take that was sent is waited for even when ctx ends: what it brings would
	// else be in this replica's name and nowhere.
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.e.opts.StoreTimeout)
	firings, more, err := w.e.store.Take(bounded, TakeRequest{Shard: shard, Worker: w.e.opts.Replica, Slots: slots})
	cancel()
	w.mu.Lock()
	t := w.takes[shard]
	t.ended++
	t.came = time.Now()
	if err == nil {
		t.answered = t.came
	}
	filled := w.start(attempting, ctx.Err() != nil, firings, slots)
	w.mu.Unlock()
	return (more || filled) && err == nil, err
}

// stopHandingOut lets no claim hand out firings any more; those of the last one go
// back.
func (w *workers) stopHandingOut() {
	w.mu.Lock()
	w.draining = true
	w.mu.Unlock()
}

// launch runs f, beside everything else. Call with mu held.
func (w *workers) launch(ctx context.Context, p *pool, t *target, name string, f *Firing, now time.Time) {
	w.running[receipt{f.Shard, f.Receipt}] = run{firing: f, began: now}
	if t != nil {
		t.running++
		t.moved = now
		if t.running >= w.e.opts.TargetSlots && t.full.IsZero() {
			t.full = t.moved
		}
	}
	w.attempts.Add(1)
	w.e.counters.Executing.Add(1)
	w.runners.add(job{ctx, p, t, name, f})
}

func (w *workers) runJob(j job) {
	defer w.attempts.Done()
	if Bug("acknowledge-first") {
		w.finishers[j.firing.Shard].add(Finish{Firing: j.firing, Verdict: Done})
	}
	Failpoint("before-action")
	finish := w.e.attempt(j.ctx, j.pool.action, j.firing)
	Failpoint("after-action")
	w.e.counters.Executing.Add(-1)
	if j.target != nil {
		w.targetDone(j.ctx, j.pool, j.target, j.name)
	}
	if !Bug("acknowledge-first") {
		w.finishers[j.firing.Shard].add(finish)
	}
}

// handBackWaiting returns every firing that has not begun.
func (w *workers) handBackWaiting() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.draining = true
	for _, p := range w.pools {
		for _, t := range p.targets {
			for _, f := range t.waiting {
				w.e.counters.Returned.Add(1)
				w.finishers[f.Shard].add(Finish{Firing: f, Verdict: Return})
			}
			t.waiting = nil
		}
	}
}

// beat keeps this replica alive in the eyes of the shards' leaders.
func (w *workers) beat(ctx context.Context) {
	for {
		bounded, cancel := context.WithTimeout(ctx, min(beatTimeout, w.e.opts.StoreTimeout))
		err := w.e.store.Beat(bounded, w.e.opts.Replica)
		cancel()
		if err != nil && ctx.Err() == nil {
			w.e.counters.StoreErrors.Add(1)
		}
		if sleep(ctx, beatEvery) != nil {
			return
		}
	}
}

// sweep hands back deliveries of a shard that the store believes to be here and
// that are not: the reply that brought them was lost. A delivery must be missing
// in two sweeps, since between take and start it is nowhere.
func (w *workers) sweep(ctx context.Context, shard int) {
	var missing map[string]arrivals
	for sleep(ctx, sweepEvery) == nil {
		next, err := w.sweepOnce(ctx, shard, missing)
		if err != nil && ctx.Err() == nil {
			w.e.counters.StoreErrors.Add(1)
		}
		missing = next
	}
}

// arrivals counts the ways on which firings come to a shard's workers: takes and claims
// that hand out.
type arrivals struct{ taken, handed uint64 }

// sweepOnce hands back what is missing still, and returns what is missing now.
func (w *workers) sweepOnce(ctx context.Context, shard int, missing map[string]arrivals) (next map[string]arrivals, err error) {
	ctx, cancel := context.WithTimeout(ctx, w.e.opts.StoreTimeout)
	defer cancel()
	w.mu.Lock()
	limit := len(w.running) + finishBatch
	w.mu.Unlock()
	held, err := w.e.store.Held(ctx, shard, w.e.opts.Replica, limit)
	if err != nil {
		return nil, err
	}
	next = make(map[string]arrivals) // receipt → what had begun when it was first missed
	var back []Finish
	w.mu.Lock()
	taken, handed := w.takes[shard], w.handed[shard]
	for _, id := range held {
		begun, missed := missing[id]
		switch {
		case w.running[receipt{shard, id}].firing != nil:
		case !missed:
			next[id] = arrivals{taken.begun, handed.begun}
		case taken.ended < begun.taken || handed.ended < begun.handed: // what brings it may be under way still
			next[id] = begun
		default:
			back = append(back, Finish{Firing: &Firing{Shard: shard, Receipt: id}, Verdict: Return})
		}
	}
	w.mu.Unlock()
	if len(back) == 0 {
		return next, nil
	}
	w.e.counters.Returned.Add(int64(len(back)))
	w.e.log.Warn().Int("shard", shard).Int("firings", len(back)).Msg("handing back firings that never arrived here")
	for batch := range slices.Chunk(back, finishBatch) {
		if _, err := w.e.store.Finish(ctx, shard, w.e.opts.Replica, batch); err != nil {
			return next, err
		}
	}
	w.wake(shard)
	return next, nil
}
