package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/snower/forsun/scheduler"
)

const (
	// healthEvery is how often the engine is asked how it is.
	healthEvery = 250 * time.Millisecond
	// healthOld is how long an answer holds. An engine that does not answer is stuck.
	healthOld = 3 * time.Second
	// glanceOld is how old what is known of the whole deployment may be in a body of
	// /readyz; it is looked at only while somebody asks.
	glanceOld = 10 * time.Second
	// glanceFresh is the same for /metrics, which waits for it.
	glanceFresh = 3 * time.Second
	// glanceTimeout bounds one look at the deployment.
	glanceTimeout = 2 * time.Second
	// promisesEvery is how often the store is asked what its configuration cannot promise.
	promisesEvery = time.Minute
	// maxNotes bounds the notes of an answer.
	maxNotes = 50
)

// Watch knows how this replica is, and what it saw of the deployment. Make one with
// NewWatch and run it with Run.
type Watch struct {
	engine   *scheduler.Engine
	service  *scheduler.Service
	promises func(context.Context) []scheduler.Finding // of the store; nil: it has none

	attached atomic.Bool // what is above stands
	draining atomic.Bool
	now      atomic.Pointer[health]
	ask      chan chan struct{} // who wants a look, and is told when it is there

	mu     sync.Mutex
	seen   seen
	broken []scheduler.Finding // by promises
}

// health is an answer of the engine's.
type health struct {
	at time.Time
	scheduler.Health
}

// seen is what was seen of the deployment last.
type seen struct {
	at time.Time // zero: nothing yet
	scheduler.Glance
	err error
}

// NewWatch returns a Watch of a process that is starting: it is not ready.
func NewWatch() *Watch { return &Watch{ask: make(chan chan struct{})} }

// Attach gives it the engine to watch, and the deployment that is part of. promises
// returns what the store's configuration cannot promise; nil: there is nothing to ask.
// Call it once, before Run.
func (w *Watch) Attach(engine *scheduler.Engine, service *scheduler.Service, promises func(context.Context) []scheduler.Finding) {
	w.engine, w.service, w.promises = engine, service, promises
	w.attached.Store(true)
}

// Drain notes that this process was told to stop.
func (w *Watch) Drain() { w.draining.Store(true) }

// Run watches until ctx is done.
func (w *Watch) Run(ctx context.Context) {
	var looking sync.WaitGroup
	defer looking.Wait()
	looking.Go(func() { w.look(ctx) })
	timer := time.NewTicker(healthEvery)
	defer timer.Stop()
	for {
		h := w.engine.Health()
		w.now.Store(&health{time.Now(), h})
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
	}
}

// look looks at the deployment whenever somebody asks.
func (w *Watch) look(ctx context.Context) {
	glances := w.service.Glances()
	promised := time.Time{} // when the store was asked for its promises last
	for {
		var done chan struct{}
		select {
		case <-ctx.Done():
			return
		case done = <-w.ask:
		}
		bounded, cancel := context.WithTimeout(ctx, glanceTimeout)
		glance, err := glances.Next(bounded)
		cancel()
		w.mu.Lock()
		if err != nil {
			w.seen = seen{at: time.Now(), err: err}
		} else {
			w.seen = seen{at: time.Now(), Glance: glance}
		}
		w.mu.Unlock()
		close(done)
		if err == nil && w.promises != nil && (promised.IsZero() || time.Since(promised) > promisesEvery) {
			promised = time.Now()
			bounded, cancel := context.WithTimeout(ctx, glanceTimeout)
			broken := w.promises(bounded)
			cancel()
			w.mu.Lock()
			w.broken = broken
			w.mu.Unlock()
		}
	}
}

// glance returns what was seen of the deployment. If that is older than old, a look
// is asked for and waited for until ctx is done.
func (w *Watch) glance(ctx context.Context, old time.Duration) (seen, []scheduler.Finding) {
	w.mu.Lock()
	last := w.seen.at
	w.mu.Unlock()
	if w.attached.Load() && time.Since(last) > old {
		done := make(chan struct{})
		select {
		case w.ask <- done:
			select {
			case <-done:
			case <-ctx.Done():
			}
		case <-ctx.Done():
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen, slices.Clone(w.broken)
}

// Problems says what is wrong with this replica; nil: it is ready.
func (w *Watch) Problems() []string {
	h := w.now.Load()
	const draining = "it is draining: it has been told to stop"
	switch {
	case h == nil && w.draining.Load():
		return []string{draining}
	case h == nil:
		return []string{"it is starting, or waits for its store"}
	case w.draining.Load() && time.Since(h.at) > healthOld: // it is looked at no more
		return []string{draining}
	case time.Since(h.at) > healthOld:
		return []string{fmt.Sprintf("its workers are stuck: the engine has not said how it is for %v", time.Since(h.at).Round(100*time.Millisecond))}
	}
	problems := h.Problems()
	if w.draining.Load() && !h.Stopping {
		problems = append([]string{draining}, problems...)
	}
	return problems
}

// Readiness is the body of /readyz.
type Readiness struct {
	Ready    bool     `json:"ready"`
	Problems []string `json:"problems"` // of this replica: what makes it not ready
	Notes    []string `json:"notes"`    // of the whole deployment: for operators, not for load balancers
	SeenAgo  float64  `json:"notes_age_seconds"`
}

// Readiness returns how this replica is. Of the deployment it tells what was seen
// within the last 10 s, or what can be seen within half a second.
func (w *Watch) Readiness(ctx context.Context) Readiness {
	problems := w.Problems()
	r := Readiness{Ready: len(problems) == 0, Problems: append([]string{}, problems...), Notes: []string{}}
	ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	s, broken := w.glance(ctx, glanceOld)
	if s.at.IsZero() {
		r.Notes = append(r.Notes, "the deployment has not been looked at yet")
		return r
	}
	r.SeenAgo = time.Since(s.at).Round(time.Millisecond).Seconds()
	if s.err != nil {
		r.Notes = append(r.Notes, "the deployment cannot be looked at: "+scheduler.MaskText(s.err.Error()))
	}
	for _, f := range append(s.Findings, broken...) {
		if f.Severity == scheduler.SeverityInfo {
			continue
		}
		if len(r.Notes) == maxNotes {
			r.Notes = append(r.Notes, "there are more: see forsun doctor")
			break
		}
		r.Notes = append(r.Notes, fmt.Sprintf("%s: %s: %s", f.Severity, f.Subject, f.Problem))
	}
	if h := w.now.Load(); h != nil {
		for _, sh := range h.Shards {
			if sh.CanaryFull {
				r.Notes = append(r.Notes, fmt.Sprintf("error: shard %d: its canaries are claimed and not run: no replica takes them", sh.Shard))
			}
		}
	}
	return r
}

// Live answers /livez: that the process answers at all.
func (w *Watch) Live(rw http.ResponseWriter, r *http.Request) {
	if !reads(rw, r) {
		return
	}
	rw.Header().Set("Content-Type", "text/plain; charset=UTF-8")
	fmt.Fprintln(rw, "ok")
}

// Ready answers /readyz: 200 or 503, and a body that says why, in JSON.
func (w *Watch) Ready(rw http.ResponseWriter, r *http.Request) {
	if !reads(rw, r) {
		return
	}
	ready := w.Readiness(r.Context())
	body, err := json.MarshalIndent(ready, "", "  ")
	if err != nil {
		http.Error(rw, err.Error(), http.StatusInternalServerError)
		return
	}
	rw.Header().Set("Content-Type", "application/json; charset=UTF-8")
	rw.Header().Set("Cache-Control", "no-store")
	if !ready.Ready {
		rw.WriteHeader(http.StatusServiceUnavailable)
	}
	rw.Write(append(body, '\n'))
}

// reads refuses methods that are not for reading.
func reads(rw http.ResponseWriter, r *http.Request) bool {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return true
	}
	rw.Header().Set("Allow", strings.Join([]string{http.MethodGet, http.MethodHead}, ", "))
	http.Error(rw, "method not allowed", http.StatusMethodNotAllowed)
	return false
}
