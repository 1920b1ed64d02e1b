package storetest

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/snower/forsun/scheduler"
)

// Recorder is a scheduler.Action that writes down what it is asked to run. By
// default every attempt succeeds at once; Fail, Hang and Do change that for the
// plans of one key. It may serve under several action names at once. Its
// methods are safe for concurrent use.
type Recorder struct {
	// Set before the first use, or left nil.
	Now     func() time.Time              // clock of Recorded.Started and Recorded.Ended; nil: time.Now
	CheckFn func(map[string]string) error // what Check answers; nil: nil

	mu      sync.Mutex
	runs    []Recorded
	doing   map[string]func(context.Context, *scheduler.Firing) (scheduler.Output, error)
	changed chan struct{} // closed and replaced when runs changes
}

// Recorded is one attempt that a Recorder was asked to run.
type Recorded struct {
	ID      scheduler.FiringID
	Key     string
	Action  string
	Due     int64 // due second, Unix
	Missed  int
	Attempt int
	Params  map[string]string // as handed over
	Started time.Time
	Ended   time.Time // zero while it runs
	Err     error     // what the attempt returned
}

// NewRecorder returns a Recorder on whose plans every attempt succeeds.
func NewRecorder() *Recorder {
	return &Recorder{
		doing:   make(map[string]func(context.Context, *scheduler.Firing) (scheduler.Output, error)),
		changed: make(chan struct{}),
	}
}

// Check answers with CheckFn.
func (r *Recorder) Check(params map[string]string) error {
	if r.CheckFn == nil {
		return nil
	}
	return r.CheckFn(params)
}

// Target is the parameter "target".
func (r *Recorder) Target(params map[string]string) string { return params["target"] }

// Timeout is the parameter "timeout" as time.ParseDuration reads it, else 30 s.
func (r *Recorder) Timeout(params map[string]string) time.Duration {
	if d, err := time.ParseDuration(params["timeout"]); err == nil {
		return d
	}
	return 30 * time.Second
}

// Execute records the attempt and does what was ordered for its key.
func (r *Recorder) Execute(ctx context.Context, f *scheduler.Firing) (scheduler.Output, error) {
	r.mu.Lock()
	i := len(r.runs)
	r.runs = append(r.runs, Recorded{
		ID: f.ID(), Key: f.Plan.Key, Action: f.Plan.Action, Due: f.Due, Missed: f.Missed,
		Attempt: f.Attempt, Params: f.Plan.Params, Started: r.now(),
	})
	do := r.doing[f.Plan.Key]
	r.signal()
	r.mu.Unlock()

	var out scheduler.Output
	var err error
	if do != nil {
		out, err = do(ctx, f)
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	r.runs[i].Ended, r.runs[i].Err = r.now(), err
	r.signal()
	return out, err
}

// Do orders what attempts of key do from now on; nil: succeed at once.
func (r *Recorder) Do(key string, do func(context.Context, *scheduler.Firing) (scheduler.Output, error)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.doing[key] = do
}

// Fail lets the attempts of key up to and including number through fail with
// err (wrap it with scheduler.Retryable to have it tried again); later ones
// succeed. through < 0: all fail.
func (r *Recorder) Fail(key string, through int, err error) {
	r.Do(key, func(_ context.Context, f *scheduler.Firing) (scheduler.Output, error) {
		if through < 0 || f.Attempt <= through {
			return nil, err
		}
		return nil, nil
	})
}

// Hang lets the attempts of key hang until release is called, and then succeed,
// or until their context ends, and then fail with its error. release may be
// called more than once.
func (r *Recorder) Hang(key string) (release func()) {
	gate := make(chan struct{})
	r.Do(key, func(ctx context.Context, _ *scheduler.Firing) (scheduler.Output, error) {
		select {
		case <-gate:
			return nil, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	})
	return sync.OnceFunc(func() { close(gate) })
}

// Runs returns what was recorded, in the order of starting.
func (r *Recorder) Runs() []Recorded {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.runs)
}

// Wait returns what was recorded once ok says that it is enough, or the cause
// why ctx ended before. ok is called with every change.
func (r *Recorder) Wait(ctx context.Context, ok func([]Recorded) bool) ([]Recorded, error) {
	for {
		r.mu.Lock()
		runs, changed := slices.Clone(r.runs), r.changed
		r.mu.Unlock()
		if ok(runs) {
			return runs, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return runs, context.Cause(ctx)
		}
	}
}

// Ended is for Wait: at least n attempts have ended.
func Ended(n int) func([]Recorded) bool {
	return func(runs []Recorded) bool {
		left := n
		for _, run := range runs {
			if !run.Ended.IsZero() {
				left--
			}
		}
		return left <= 0
	}
}

// signal wakes who waits. r.mu is held.
func (r *Recorder) signal() {
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *Recorder) now() time.Time {
	if r.Now == nil {
		return time.Now()
	}
	return r.Now()
}
