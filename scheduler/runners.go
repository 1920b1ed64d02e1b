package scheduler

import (
	"context"
	"sync"
)

// job is a firing in its slots, about to be run.
type job struct {
	ctx    context.Context
	pool   *pool
	target *target // nil: it has none
	name   string  // of the target
	firing *Firing
}

// maxIdle bounds the goroutines that wait for the next firing to run. A new one costs more
// than many a firing, since its stack has to grow first; but short firings need few at a
// time, and for others it does not matter.
const maxIdle = 16

// runners are the goroutines that run jobs, all of them at once. Most attempts are short
// and come by the hundred, and to wake a goroutine for each costs more than many a firing.
// So a runner goes from job to job, and before it runs one it has the next runner woken, if
// there is something left and none is under way: if the job waits, for an answer or for
// whatever, the next one goes on with the rest, and so on; and if it does not, the
// first may have done them all by then.
type runners struct {
	run func(job)
	all sync.WaitGroup

	mu     sync.Mutex
	jobs   []job // from first on
	first  int
	coming bool // a runner was woken, or begun, and has not come round: it is if there are jobs
	idle   int  // how many wait to be woken
	ended  bool
	woken  chan struct{} // to those
}

func newRunners(run func(job)) *runners {
	return &runners{run: run, woken: make(chan struct{}, maxIdle)}
}

// add has a job run.
func (r *runners) add(j job) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.jobs) == cap(r.jobs) && r.first > len(r.jobs)/2 { // what was taken makes room
		n := copy(r.jobs, r.jobs[r.first:])
		clear(r.jobs[n:])
		r.jobs, r.first = r.jobs[:n], 0
	}
	r.jobs = append(r.jobs, j)
	r.wake()
}

// end lets the runners end once they have nothing to do.
func (r *runners) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
	for ; r.idle > 0; r.idle-- {
		r.woken <- struct{}{}
	}
}

// wake has another runner come if one is wanted. Call with mu held.
func (r *runners) wake() {
	switch {
	case r.coming || r.first == len(r.jobs):
		return
	case r.idle > 0:
		r.idle--
		r.woken <- struct{}{} // there is room for all that wait
	default:
		r.all.Go(r.loop)
	}
	r.coming = true
}

// next takes a job. Call with mu held.
func (r *runners) next() (j job, ok bool) {
	if r.first == len(r.jobs) {
		return j, false
	}
	j, r.jobs[r.first] = r.jobs[r.first], j
	if r.first++; r.first == len(r.jobs) {
		r.jobs, r.first = r.jobs[:0], 0
	}
	return j, true
}

// loop runs jobs, and waits for more while few enough wait.
func (r *runners) loop() {
	r.mu.Lock() // and no deferred Unlock: a job that panics is to be seen, not that
	for r.coming = false; ; {
		if j, ok := r.next(); ok {
			r.wake()
			r.mu.Unlock()
			r.run(j)
			r.mu.Lock()
			continue
		}
		if r.ended || r.idle == maxIdle {
			r.mu.Unlock()
			return
		}
		r.idle++
		r.mu.Unlock()
		<-r.woken
		r.mu.Lock()
		r.coming = false
	}
}
