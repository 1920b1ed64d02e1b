package admin

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/snower/forsun/scheduler"
)

// TestStarting: before there is an engine, the process lives and is not ready.
func TestStarting(t *testing.T) {
	t.Parallel()
	w := NewWatch()
	if got := w.Readiness(t.Context()); got.Ready || !strings.Contains(got.Problems[0], "starting") {
		t.Errorf("got %+v", got)
	}
	w.Drain()
	if got := w.Readiness(t.Context()); got.Ready || !strings.Contains(got.Problems[0], "draining") {
		t.Errorf("told to stop: got %+v", got)
	}
}

// fault is something that is wrong with a replica, and how it is mended.
type fault struct {
	name  string
	words string        // of the problem that /readyz shows
	shows time.Duration // how long after it begins it has a consequence: a canary is due each second
	rig   *rig
	begin func()
	end   func()
}

// flag is a fault of the store.
func flag(of func(*faulty) *atomic.Bool) func(*rig, *fault) {
	return func(r *rig, f *fault) {
		f.begin = func() { of(r.store).Store(true) }
		f.end = func() { of(r.store).Store(false) }
	}
}

// TestReadyz: each thing that can be wrong with a replica turns it red within 5 s, and
// it is green again when that is over. All have their fault at the same time, since
// that takes 5 s.
func TestReadyz(t *testing.T) {
	t.Parallel()
	var ticksNot atomic.Bool
	long := &deaf{time.Hour, make(chan struct{}), make(chan struct{}, 1)}
	hung := &deaf{100 * time.Millisecond, make(chan struct{}), make(chan struct{}, 1)}
	stuckTicks := func(o *scheduler.EngineOptions) {
		o.NewTicker = func() (scheduler.Ticker, error) {
			ticker, err := scheduler.NewTicker()
			return stuckTicker{ticker, &ticksNot}, err
		}
	}
	oneSlot := func(o *scheduler.EngineOptions) { o.Slots = map[string]int{"long": 1, "hung": 1} }
	faults := []*fault{
		add(t, "store silent", "the store has not answered", 0, nil, nil, flag(func(s *faulty) *atomic.Bool { return &s.noAnnounce })),
		add(t, "nothing taken", "its workers are stuck: none of their takes has been answered", time.Second, nil, nil, flag(func(s *faulty) *atomic.Bool { return &s.noTake })),
		add(t, "nothing finished", "its workers are stuck: finishes have not been answered", 2*time.Second, nil, nil, flag(func(s *faulty) *atomic.Bool { return &s.noFinish })),
		add(t, "shard overdue", "shard 0, which it leads, is overdue: its passes have failed", 2*time.Second, nil, nil, flag(func(s *faulty) *atomic.Bool { return &s.noClaim })),
		// The tick that is under way still comes.
		add(t, "tick stuck", "the ticker has not ticked", time.Second, nil, stuckTicks, func(_ *rig, f *fault) {
			f.begin = func() { ticksNot.Store(true) }
			f.end = func() { ticksNot.Store(false) }
		}),
		// An action that runs long within its deadline is no fault, with all slots full of
		// it. Past its deadline, it is.
		add(t, "slots stuck", "all 1 slots of the action hung hold attempts that do not end", 0, actionSet{"long": long, "hung": hung}, oneSlot, func(r *rig, f *fault) {
			f.begin = func() {
				r.create("a", "long", nil)
				<-long.began
				r.create("b", "hung", nil)
				<-hung.began
			}
			f.end = func() { close(hung.letGo) }
		}),
	}
	t.Cleanup(func() { close(long.letGo) })
	for _, f := range faults {
		waitCanary(f.rig)
	}
	began := make(map[*fault]time.Time)
	for _, f := range faults {
		f.begin()
		began[f] = time.Now()
	}
	for red := 0; red < len(faults); time.Sleep(20 * time.Millisecond) {
		for _, f := range faults {
			if began[f].IsZero() {
				continue
			}
			after := time.Since(began[f])
			status, answer := f.rig.ready()
			switch {
			case status == http.StatusServiceUnavailable && strings.Contains(strings.Join(answer.Problems, "\n"), f.words):
				t.Logf("%s: red after %v: %q", f.name, after, answer.Problems)
				if after > redAfter+f.shows {
					t.Errorf("%s: red after %v, want %v", f.name, after, redAfter+f.shows)
				}
				if len(answer.Problems) != 1 {
					t.Errorf("%s: problems %q, want one", f.name, answer.Problems)
				}
				began[f] = time.Time{}
				red++
			case after > patience:
				t.Fatalf("%s: %v later /readyz answers %d with %q, want %q", f.name, after, status, answer.Problems, f.words)
			}
		}
	}
	for _, f := range faults {
		if status, body := f.rig.get("/livez"); status != http.StatusOK || body != "ok\n" {
			t.Errorf("%s: /livez: %d, %q", f.name, status, body)
		}
		f.end()
		f.rig.waitReady(f.name + " is over")
	}
	if n := faults[4].rig.service.Counters().MissedTicks.Load(); n < 2 {
		t.Errorf("%d missed ticks were counted, want some", n)
	}
	for _, s := range faults[5].rig.watch.engine.Health().Slots {
		if s.Action == "long" && (s.Used != 1 || s.Overrun != 0) {
			t.Errorf("slots of the long action: %+v", s)
		}
	}
}

// add starts a rig that is to have a fault.
func add(t *testing.T, name, words string, shows time.Duration, set actionSet, change func(*scheduler.EngineOptions), how func(*rig, *fault)) *fault {
	f := &fault{name: name, words: words, shows: shows, rig: newRig(t, set, change)}
	how(f.rig, f)
	return f
}

// waitCanary waits until a canary came all the way.
func waitCanary(r *rig) {
	r.t.Helper()
	for deadline := time.Now().Add(patience); r.watch.engine.Health().Shards[0].Canaries == 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatal("no canary came all the way")
		}
	}
}

// stuckTicker ticks until it is stuck.
type stuckTicker struct {
	scheduler.Ticker
	stuck *atomic.Bool
}

func (s stuckTicker) Next(ctx context.Context) (scheduler.Tick, error) {
	for s.stuck.Load() {
		select {
		case <-ctx.Done():
			return scheduler.Tick{}, ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
	return s.Ticker.Next(ctx)
}

// TestReadyzDrain: red at once when the process is told to stop, and red when its
// engine stops by itself.
func TestReadyzDrain(t *testing.T) {
	t.Parallel()
	t.Run("told", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, nil, nil)
		r.watch.Drain()
		if status, answer := r.ready(); status != http.StatusServiceUnavailable || !strings.Contains(answer.Problems[0], "draining") {
			t.Errorf("got %d, %q", status, answer.Problems)
		}
	})
	t.Run("stopped", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, nil, nil)
		r.stop()
		r.waitRed("draining")
	})
}

// TestReadyzNotes: what is wrong with the deployment stands in the body, and turns
// nothing red.
func TestReadyzNotes(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, func(o *scheduler.EngineOptions) { o.Work = []string{} }) // nobody runs anything
	var last Readiness
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		status, answer := r.ready()
		if status != http.StatusOK {
			t.Fatalf("red: %q", answer.Problems)
		}
		if last = answer; strings.Contains(strings.Join(answer.Notes, "\n"), "its canaries are claimed and not run") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("notes: %q", last.Notes)
		}
	}
}

// TestRefuses: methods that change something, and pages of other origins.
func TestRefuses(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, nil)
	for _, tc := range []struct {
		method, path, origin string
		want                 int
	}{
		{"POST", "/readyz", "", http.StatusMethodNotAllowed},
		{"POST", "/metrics", "", http.StatusMethodNotAllowed},
		{"GET", "/metrics", "http://evil.example", http.StatusForbidden},
		{"GET", "/", "", http.StatusNotFound},
		{"GET", "/debug/pprof/", "", http.StatusOK},
		{"GET", "/debug/pprof/goroutine?debug=1", "", http.StatusOK},
		{"GET", "/debug/pprof/cmdline", "", http.StatusNotFound}, // passwords may be there
	} {
		req, err := http.NewRequestWithContext(t.Context(), tc.method, r.url+tc.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if tc.origin != "" {
			req.Header.Set("Origin", tc.origin)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != tc.want {
			t.Errorf("%s %s from %q: %d, want %d", tc.method, tc.path, tc.origin, res.StatusCode, tc.want)
		}
	}
}
