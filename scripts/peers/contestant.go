package main

import (
	"context"
	"errors"
	"slices"
	"time"
)

// task is one measurement of one contestant.
type task struct {
	work    string // of works
	jobs    int    // in all
	rate    int    // steady: jobs due in each second
	seconds int    // steady

	slowness int // by how much storing may be slower than usual
}

// run runs a task, again with more time for storing if there was too little.
func (c *contestant) run(ctx context.Context, t task) (f figures, err error) {
	for t.slowness = 1; t.slowness <= 8; t.slowness *= 2 {
		if f, err = c.once(ctx, t); !errors.Is(err, errLate) {
			break
		}
	}
	return f, err
}

// due is the second that job i is due in, if the first are in the second first.
func (t task) due(first int64, i int) int64 {
	if t.rate == 0 {
		return first
	}
	return first + int64(i/t.rate)
}

// figures are what one run showed. Those that a run does not have are 0.
type figures struct {
	Fired     int     `json:"fired"`
	Seconds   float64 `json:"seconds"`
	PerSecond float64 `json:"per_second"`
	Late      late    `json:"late_ms"`
	Early     int     `json:"early"`
	Twice     int     `json:"duplicates"`
	Bytes     float64 `json:"bytes_per_plan"`
	RedisCPU  float64 `json:"redis_cpu_us_per_firing"`
	OtherP99  float64 `json:"other_clients_p99_ms,omitempty"`
}

type late struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// contestant is one of those that are compared.
type contestant struct {
	name  string
	note  string       // how it was run
	works []string     // what it can do
	ready func() error // why it cannot run here; nil: it can
	once  func(ctx context.Context, t task) (figures, error)
}

func (c *contestant) can(work string) bool { return slices.Contains(c.works, work) }

// payload is what every job carries.
const payloadBytes = 100

// runs notes when jobs began. It is for jobs numbered from 0, and safe for
// concurrent use of different jobs.
type runs struct {
	t       task
	first   int64 // the second that the first are due in
	began   []time.Time
	arrived chan int
}

func newRuns(t task, first int64) *runs {
	return &runs{t: t, first: first, began: make([]time.Time, t.jobs), arrived: make(chan int, t.jobs)}
}

// note notes that job i begins now.
func (r *runs) note(i int) {
	now := time.Now()
	if i >= 0 && i < len(r.began) && len(r.arrived) < cap(r.arrived) {
		r.began[i] = now
		r.arrived <- i
	}
}

// wait waits for all jobs.
func (r *runs) wait(ctx context.Context) error {
	for range r.t.jobs {
		select {
		case <-r.arrived:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// figures sums up. due says when a job was to begin.
func (r *runs) figures(due func(i int) time.Time) figures {
	lates := make([]time.Duration, 0, len(r.began))
	first, last := r.began[0], r.began[0]
	f := figures{Fired: len(r.began)}
	for i, at := range r.began {
		if at.Before(first) {
			first = at
		}
		if at.After(last) {
			last = at
		}
		d := at.Sub(due(i))
		if d < 0 {
			f.Early++
		}
		lates = append(lates, d)
	}
	f.Late = lateness(lates)
	f.Seconds = last.Sub(first).Seconds()
	f.PerSecond = float64(f.Fired) / f.Seconds
	return f
}

// onTheSecond is the due of jobs that are due in whole seconds.
func (r *runs) onTheSecond(i int) time.Time { return time.Unix(r.t.due(r.first, i), 0) }

func lateness(ds []time.Duration) late {
	slices.Sort(ds)
	at := func(q float64) float64 {
		return float64(ds[min(int(q*float64(len(ds))), len(ds)-1)].Microseconds()) / 1000
	}
	return late{at(0.50), at(0.99), at(1)}
}
