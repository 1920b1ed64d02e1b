package scheduler

import (
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Jobs that wait for one another all run: none stands behind one that does not end.
func TestRunnersRunAllAtOnce(t *testing.T) {
	const jobs = 2 * maxIdle
	var barrier, done *sync.WaitGroup
	r := newRunners(func(job) {
		defer done.Done()
		barrier.Done()
		barrier.Wait()
	})
	for range 3 { // with none that is idle, with some, and after those that were too many ended
		barrier, done = new(sync.WaitGroup), new(sync.WaitGroup)
		barrier.Add(jobs)
		done.Add(jobs)
		for range jobs {
			r.add(job{})
		}
		done.Wait()
	}
	r.end()
	r.all.Wait()
	if r.idle != 0 || r.first != len(r.jobs) {
		t.Errorf("%d idle, %d jobs left; want none of either", r.idle, len(r.jobs)-r.first)
	}
}

// Each job runs once, whether jobs come slowly or all at once, and from many sides.
func TestRunnersRunEachOnce(t *testing.T) {
	const sides, jobs = 8, 2000
	var ran [sides * jobs]atomic.Int32
	r := newRunners(func(j job) {
		ran[j.firing.Due].Add(1)
		if j.firing.Due%97 == 0 {
			time.Sleep(time.Microsecond)
		}
	})
	var adding sync.WaitGroup
	for side := range sides {
		adding.Go(func() {
			for i := range jobs {
				r.add(job{firing: &Firing{Due: int64(side*jobs + i)}})
				if i%(10+100*side) == 0 {
					time.Sleep(time.Microsecond)
				}
			}
		})
	}
	adding.Wait()
	r.end()
	r.all.Wait()
	for i := range ran {
		if n := ran[i].Load(); n != 1 {
			t.Fatalf("job %d ran %d times, want once", i, n)
		}
	}
}

// TestRunnersMemory: a queue that is never empty, though never long, is to stay small.
func TestRunnersMemory(t *testing.T) {
	const inFlight, total = 100, 300_000
	var ran atomic.Int64
	var r *runners
	r = newRunners(func(job) {
		if ran.Add(1) <= total-inFlight {
			r.add(job{}) // another firing takes the slot that is free
		}
	})
	for range inFlight {
		r.add(job{})
	}
	for ran.Load() < total {
		runtime.Gosched()
	}
	r.mu.Lock()
	room := cap(r.jobs)
	r.mu.Unlock()
	r.end()
	r.all.Wait()
	if room > 20*inFlight {
		t.Errorf("room for %d jobs, of which never more than %d waited", room, inFlight)
	}
}

// TestRunnersGoexit: a job that ends its goroutine takes no other with it.
func TestRunnersGoexit(t *testing.T) {
	done := make(chan struct{}, 2)
	n := 0
	r := newRunners(func(job) {
		defer func() { done <- struct{}{} }()
		if n++; n == 1 {
			runtime.Goexit()
		}
	})
	r.add(job{})
	<-done
	r.add(job{})
	<-done
	r.end()
	r.all.Wait()
}

// What it costs to have short jobs run that come by the hundred.
func BenchmarkRunners(b *testing.B) {
	for _, together := range []int{1, 100} {
		b.Run(strconv.Itoa(together), func(b *testing.B) {
			var done sync.WaitGroup
			r := newRunners(func(job) { done.Done() })
			f := &Firing{}
			b.ReportAllocs()
			for n := 0; n < b.N; n += together {
				done.Add(together)
				for range together {
					r.add(job{firing: f})
				}
				done.Wait()
			}
			r.end()
			r.all.Wait()
		})
	}
}
