package admin

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/snower/forsun/actions"
	"github.com/snower/forsun/rpc"
	"github.com/snower/forsun/scheduler"
	"github.com/snower/forsun/scheduler/memstore"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

const (
	patience = 60 * time.Second
	redAfter = 5 * time.Second
)

// rig is a forsund without its process: a store in memory, an engine, and what
// watches them.
type rig struct {
	t        *testing.T
	store    *faulty
	service  *scheduler.Service
	watch    *Watch
	registry *prometheus.Registry
	url      string
	stop     context.CancelFunc // of the engine
}

// faulty is a real store whose calls can be made to fail.
type faulty struct {
	scheduler.Store
	noAnnounce, noTake, noFinish, noClaim, noShards atomic.Bool
}

var errFaulty = errors.New("out of order")

func (s *faulty) Announce(ctx context.Context, r scheduler.Replica) ([]scheduler.Replica, error) {
	if s.noAnnounce.Load() {
		return nil, errFaulty
	}
	return s.Store.Announce(ctx, r)
}

func (s *faulty) Shards(ctx context.Context, now time.Time) ([]scheduler.ShardState, error) {
	if s.noShards.Load() {
		return nil, errFaulty
	}
	return s.Store.Shards(ctx, now)
}

func (s *faulty) Take(ctx context.Context, r scheduler.TakeRequest) ([]*scheduler.Firing, bool, error) {
	if s.noTake.Load() {
		return nil, false, errFaulty
	}
	return s.Store.Take(ctx, r)
}

func (s *faulty) Finish(ctx context.Context, shard int, worker string, fs []scheduler.Finish) ([]scheduler.Finished, error) {
	if s.noFinish.Load() {
		return nil, errFaulty
	}
	return s.Store.Finish(ctx, shard, worker, fs)
}

func (s *faulty) Claim(ctx context.Context, b scheduler.ClaimBatch) (scheduler.ClaimReply, error) {
	if s.noClaim.Load() {
		return scheduler.ClaimReply{}, errFaulty
	}
	return s.Store.Claim(ctx, b)
}

// deaf is an action that heeds no deadline until it is let go.
type deaf struct {
	timeout time.Duration
	letGo   chan struct{}
	began   chan struct{}
}

func (d *deaf) Check(map[string]string) error           { return nil }
func (d *deaf) Target(map[string]string) string         { return "" }
func (d *deaf) Timeout(map[string]string) time.Duration { return d.timeout }
func (d *deaf) Execute(context.Context, *scheduler.Firing) (scheduler.Output, error) {
	d.began <- struct{}{}
	<-d.letGo
	return nil, nil
}

type actionSet map[string]scheduler.Action

func (a actionSet) Get(name string) (scheduler.Action, bool) {
	action, ok := a[name]
	return action, ok
}

func (a actionSet) Names() []string {
	var names []string
	for name := range a {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// newRig starts everything; it is stopped at the end of the test.
func newRig(t *testing.T, set actionSet, change func(*scheduler.EngineOptions)) *rig {
	t.Helper()
	opts := memstore.DefaultOptions()
	opts.Dir = memstore.Memory
	store, err := memstore.Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	if set == nil {
		set = actionSet{"noop": actions.Noop{}}
	}
	r := &rig{t: t, registry: NewRegistry(), watch: NewWatch()}
	r.store = &faulty{Store: store}
	under := TimeStore(r.store, r.registry)
	counters := new(scheduler.Counters)
	o := scheduler.DefaultEngineOptions()
	o.Replica, o.DrainTimeout, o.Canary = "r1", 100*time.Millisecond, time.Second
	if change != nil {
		change(&o)
	}
	clock := scheduler.SystemClock{}
	engine, err := scheduler.NewEngine(under, set, clock, counters, zerolog.New(io.Discard), o)
	if err != nil {
		t.Fatal(err)
	}
	so := scheduler.DefaultServiceOptions()
	so.Canary = o.Canary != 0
	r.service = scheduler.NewService(under, set, clock, counters, so)

	running, stop := context.WithCancel(context.Background())
	r.stop = stop
	ended := make(chan error, 1)
	go func() { ended <- engine.Run(running) }()
	watching, stopWatching := context.WithCancel(context.Background())
	watched := make(chan struct{})
	r.watch.Attach(engine, r.service, nil)
	go func() { defer close(watched); r.watch.Run(watching) }()
	r.registry.MustRegister(NewCollector(r.watch, rpc.NewInfo(r.service, rpc.About{}), "v0"))

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := NewServer(r.watch, r.registry, zerolog.New(io.Discard))
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	r.url = "http://" + listener.Addr().String()

	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the engine ended with %v", err)
		}
		stopWatching()
		<-watched
		if err := server.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Errorf("the admin server ended with %v", err)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	r.waitReady("at the start")
	return r
}

// get asks the admin server.
func (r *rig) get(path string) (status int, body string) {
	r.t.Helper()
	res, err := http.Get(r.url + path)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return res.StatusCode, string(data)
}

// ready asks for /readyz.
func (r *rig) ready() (status int, answer Readiness) {
	r.t.Helper()
	status, body := r.get("/readyz")
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		r.t.Fatalf("/readyz: %v in %s", err, body)
	}
	if answer.Ready != (status == http.StatusOK) || answer.Ready != (len(answer.Problems) == 0) {
		r.t.Fatalf("/readyz: status %d with %+v", status, answer)
	}
	return status, answer
}

func (r *rig) waitReady(when string) {
	r.t.Helper()
	var last Readiness
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		status, answer := r.ready()
		if last = answer; status == http.StatusOK {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("%s: not ready: %q", when, last.Problems)
		}
	}
}

// waitRed waits until /readyz is red for a reason that contains the words.
func (r *rig) waitRed(words string) {
	r.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		status, answer := r.ready()
		if status == http.StatusServiceUnavailable && strings.Contains(strings.Join(answer.Problems, "\n"), words) {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("/readyz answers %d with %q, want %q", status, answer.Problems, words)
		}
	}
}

// create stores a plan that fires once, at the next second.
func (r *rig) create(key, action string, params map[string]string) {
	r.t.Helper()
	_, err := r.service.Create(r.t.Context(), scheduler.Request{
		Key: key, Action: action, Params: params,
		Schedule: scheduler.Schedule{Kind: scheduler.Timeout, Second: 1, Count: 1},
	})
	if err != nil {
		r.t.Fatal(err)
	}
}
