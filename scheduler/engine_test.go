package scheduler_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/snower/forsun/scheduler"
	"github.com/snower/forsun/scheduler/memstore"
	"github.com/snower/forsun/scheduler/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// actionSet serves recorders under names.
type actionSet map[string]scheduler.Action

func (a actionSet) Get(name string) (scheduler.Action, bool) { act, ok := a[name]; return act, ok }
func (a actionSet) Names() []string {
	var names []string
	for _, n := range []string{"record", "other"} {
		if _, ok := a[n]; ok {
			names = append(names, n)
		}
	}
	return names
}

// rig is an engine with a service on an in-memory store.
type rig struct {
	store    *memstore.Store
	service  *scheduler.Service
	counters *scheduler.Counters
	actions  actionSet
	rec      *storetest.Recorder
	clock    scheduler.Clock
	options  scheduler.EngineOptions
	stop     func() // stops the engine and waits for it
}

func newRig(t *testing.T, clock scheduler.Clock, change func(*scheduler.EngineOptions)) *rig {
	t.Helper()
	rec := storetest.NewRecorder()
	rec.Now = clock.Now
	r := newRigOf(t, clock, actionSet{"record": rec, "other": rec}, change)
	r.rec = rec
	return r
}

// newRigOf is newRig with other actions than its recorder.
func newRigOf(t *testing.T, clock scheduler.Clock, actions actionSet, change func(*scheduler.EngineOptions)) *rig {
	t.Helper()
	mo := memstore.DefaultOptions()
	mo.Dir = ":memory:"
	mo.Now = clock.Now
	store, err := memstore.Open(mo)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	r := &rig{store: store, counters: new(scheduler.Counters), actions: actions, clock: clock}
	r.options = scheduler.DefaultEngineOptions()
	r.options.Replica = "r1"
	r.options.DrainTimeout = 5 * time.Second
	if change != nil {
		change(&r.options)
	}
	r.service = scheduler.NewService(store, actions, clock, r.counters, scheduler.DefaultServiceOptions())
	r.start(t)
	return r
}

// start starts an engine; the test ends it if nothing else does.
func (r *rig) start(t *testing.T) {
	t.Helper()
	engine, err := scheduler.NewEngine(r.store, r.actions, r.clock, r.counters, zerolog.New(io.Discard), r.options)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := engine.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	r.stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(r.stop)
}

// create stores a one-shot plan due in n seconds.
func (r *rig) create(t *testing.T, key string, n int, params map[string]string) *scheduler.Plan {
	t.Helper()
	p, err := r.service.Create(t.Context(), scheduler.Request{
		Key: key, Action: "record", Params: params,
		Schedule: scheduler.Schedule{Kind: scheduler.Timeout, Second: n, Week: scheduler.Any, Count: 1},
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// put stores a plan as it is, due whenever it says.
func (r *rig) put(t *testing.T, p *scheduler.Plan) {
	t.Helper()
	if err := r.store.Put(t.Context(), []*scheduler.Plan{p})[0]; err != nil {
		t.Fatal(err)
	}
}

// wait waits until ok, or fails the test.
func (r *rig) wait(t *testing.T, what string, ok func([]storetest.Recorded) bool) []storetest.Recorded {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	runs, err := r.rec.Wait(ctx, ok)
	if err != nil {
		t.Fatalf("%s: %v; ran %d", what, err, len(runs))
	}
	return runs
}

// eventually polls ok, for what leaves no mark on the recorder.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

func checkOnceNeverEarly(t *testing.T, runs []storetest.Recorded) {
	t.Helper()
	seen := make(map[scheduler.FiringID]bool)
	for _, run := range runs {
		if seen[run.ID] {
			t.Errorf("%s ran twice for %d", run.Key, run.Due)
		}
		seen[run.ID] = true
		if run.Started.Before(time.Unix(run.Due, 0)) {
			t.Errorf("%s, due %d, ran early: %v", run.Key, run.Due, run.Started)
		}
	}
}

func TestEngineFiresEachOnceAndNeverEarly(t *testing.T) {
	t.Parallel()
	r := newRig(t, scheduler.SystemClock{}, nil)
	const n = 300
	for i := range n {
		r.create(t, fmt.Sprintf("once%d", i), i%3, nil) // 0: at once
	}
	if _, err := r.service.Create(t.Context(), scheduler.Request{
		Key: "thrice", Action: "record",
		Schedule: scheduler.Schedule{Kind: scheduler.Timeout, Second: 1, Week: -1, Count: 3},
	}); err != nil {
		t.Fatal(err)
	}
	runs := r.wait(t, "all ran", storetest.Ended(n+3))
	checkOnceNeverEarly(t, runs)
	if len(runs) != n+3 {
		t.Errorf("%d ran, want %d", len(runs), n+3)
	}
	var dues []int64
	for _, run := range runs {
		if late := run.Started.Sub(time.Unix(run.Due, 0)); run.Due > runs[0].Due && late > 900*time.Millisecond {
			t.Errorf("%s ran %v late", run.Key, late)
		}
		if run.Key == "thrice" {
			dues = append(dues, run.Due)
		}
	}
	if len(dues) != 3 || dues[1] != dues[0]+1 || dues[2] != dues[1]+1 {
		t.Errorf("the interval's due seconds are %v, want three in a row", dues)
	}
	// What ended leaves nothing behind (invariant I9).
	eventually(t, "the store is empty again", func() bool {
		shards, err := r.service.Shards(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		s := shards[0]
		return s.Plans == 0 && s.Queued["record"] == 0 && s.Running["record"] == 0 && s.Retries == 0
	})
	eventually(t, "the history has the three", func() bool {
		history, _, err := r.service.History(t.Context(), scheduler.JournalQuery{Key: "thrice", Limit: 10})
		return err == nil && len(history) == 3 && history[0].Outcome == scheduler.Succeeded
	})
}

// TestEngineClaimsAnyNumberOfBatchesReadAhead: the batches of a second grow, and must not
// outgrow what a number holds. (They did: forsund died of 5,800 plans in one second.)
func TestEngineClaimsAnyNumberOfBatchesReadAhead(t *testing.T) {
	t.Parallel()
	r := newRig(t, scheduler.SystemClock{}, func(o *scheduler.EngineOptions) { o.ClaimBatch = 1 })
	const n = 200
	due := time.Now().Unix() + 3
	for i := range n {
		r.put(t, storetest.NewPlan(fmt.Sprintf("p%d", i), storetest.WithDue(due)))
	}
	checkOnceNeverEarly(t, r.wait(t, "all ran", storetest.Ended(n)))
}

func TestEngineRetriesThenBuriesThenRedrives(t *testing.T) {
	t.Parallel()
	r := newRig(t, scheduler.SystemClock{}, nil)
	r.rec.Fail("bad", 3, scheduler.Retryable(errors.New("no luck")))
	r.create(t, "bad", 0, map[string]string{"forsun.retries": "2", "forsun.retry_delay": "0.05"})
	runs := r.wait(t, "three attempts", storetest.Ended(3))
	for i, run := range runs {
		if run.Attempt != i+1 || run.ID != runs[0].ID || run.Due != runs[0].Due {
			t.Errorf("attempt %d is %+v; want the same firing, counted", i+1, run)
		}
	}
	var dead []scheduler.DeadLetter
	eventually(t, "a dead letter", func() bool {
		var err error
		dead, _, err = r.service.DeadLetters(t.Context(), scheduler.JournalQuery{Limit: 10})
		if err != nil {
			t.Fatal(err)
		}
		return len(dead) == 1
	})
	if dead[0].Error != "no luck" || dead[0].Firing.ID() != runs[0].ID {
		t.Errorf("dead letter %+v; want the firing with its last error", dead[0])
	}
	r.rec.Do("bad", nil)
	if n, err := r.service.Redrive(t.Context(), scheduler.DeadSelection{All: true}); n != 1 || err != nil {
		t.Fatalf("redrove %d, %v; want 1", n, err)
	}
	runs = r.wait(t, "the redriven attempt", storetest.Ended(4))
	if runs[3].Attempt != 1 || runs[3].ID != runs[0].ID {
		t.Errorf("redriven: %+v; want attempt 1 of the same firing", runs[3])
	}
}

func TestEngineDoesNotRetryWhatIsFinal(t *testing.T) {
	t.Parallel()
	r := newRig(t, scheduler.SystemClock{}, nil)
	r.rec.Fail("final", -1, errors.New("404"))
	r.create(t, "final", 0, nil)
	eventually(t, "a dead letter", func() bool { return r.counters.Buried.Load() == 1 })
	if n := len(r.rec.Runs()); n != 1 {
		t.Errorf("ran %d times, want once", n)
	}
}

func TestEngineCancelsTheRetryOfARemovedPlan(t *testing.T) {
	t.Parallel()
	r := newRig(t, scheduler.SystemClock{}, nil)
	r.rec.Fail("gone", -1, scheduler.Retryable(errors.New("no luck")))
	r.create(t, "gone", 0, map[string]string{"forsun.retry_delay": "1"})
	eventually(t, "a retry waits", func() bool { return r.counters.Retried.Load() == 1 })
	if p, err := r.service.Remove(t.Context(), "gone"); err != nil || p.Key != "gone" {
		t.Fatalf("remove with only a retry left: %v, %v; want the plan", p, err)
	}
	r.create(t, "later", 3, nil)
	r.wait(t, "the later plan", func(runs []storetest.Recorded) bool { return len(runs) > 0 && runs[len(runs)-1].Key == "later" })
	if runs := r.rec.Runs(); len(runs) != 2 {
		t.Errorf("%d runs, want 2: the retry was cancelled", len(runs))
	}
}

func TestEngineDeadlineIsPerAttempt(t *testing.T) {
	t.Parallel()
	r := newRig(t, scheduler.SystemClock{}, nil)
	defer r.rec.Hang("slow")()
	r.create(t, "slow", 0, map[string]string{"forsun.timeout": "0.05", "forsun.retries": "1", "forsun.retry_delay": "0"})
	eventually(t, "both attempts cut off and buried", func() bool { return r.counters.Buried.Load() == 1 })
	history, _, err := r.service.History(t.Context(), scheduler.JournalQuery{Key: "slow", Limit: 10})
	if err != nil || len(history) != 2 {
		t.Fatalf("history: %v, %v; want two attempts", history, err)
	}
	if history[0].Outcome != scheduler.Dead || history[1].Outcome != scheduler.Failed || history[0].Took < 50*time.Millisecond {
		t.Errorf("history: %+v", history)
	}
}

func TestEnginePanicIsTheFiringsFailure(t *testing.T) {
	t.Parallel()
	r := newRig(t, scheduler.SystemClock{}, nil)
	r.rec.Do("boom", func(context.Context, *scheduler.Firing) (scheduler.Output, error) { panic("boom") })
	r.create(t, "boom", 0, nil)
	r.create(t, "fine", 1, nil)
	eventually(t, "the panicking one is buried", func() bool { return r.counters.Buried.Load() == 1 })
	r.wait(t, "the other", func(runs []storetest.Recorded) bool { return len(runs) == 2 })
}

func TestEngineHangingTargetCostsItsOwnSlotsOnly(t *testing.T) {
	t.Parallel()
	r := newRig(t, scheduler.SystemClock{}, func(o *scheduler.EngineOptions) {
		o.Slots = map[string]int{"record": 20, "other": 20}
		o.TargetSlots = 4
	})
	gate := make(chan struct{})
	hang := func(ctx context.Context, f *scheduler.Firing) (scheduler.Output, error) {
		select {
		case <-gate:
		case <-ctx.Done():
		}
		return nil, nil
	}
	for i := range 100 {
		key := fmt.Sprintf("hang%d", i)
		r.rec.Do(key, hang)
		r.create(t, key, 1, map[string]string{"target": "black hole"})
	}
	eventually(t, "four run and the others are put off", func() bool { return r.counters.Deferred.Load() > 80 })
	for i := range 50 {
		r.create(t, fmt.Sprintf("fine%d", i), 1, map[string]string{"target": fmt.Sprintf("host%d", i%5)})
	}
	runs := r.wait(t, "the others' plans", func(runs []storetest.Recorded) bool {
		fine := 0
		for _, run := range runs {
			if run.Params["target"] != "black hole" && !run.Ended.IsZero() {
				fine++
			}
		}
		return fine == 50
	})
	for _, run := range runs {
		if run.Params["target"] != "black hole" && run.Started.Sub(time.Unix(run.Due, 0)) > time.Second {
			t.Errorf("%s ran %v late behind a hanging target", run.Key, run.Started.Sub(time.Unix(run.Due, 0)))
		}
	}
	close(gate)
	checkOnceNeverEarly(t, r.wait(t, "everything", storetest.Ended(150)))
}

// TestEngineLateFiringsToABusyTarget: firings that are late since nothing led, and more
// than their target takes at once, are run as fast as it takes them, not put off for
// the longer the later they are.
func TestEngineLateFiringsToABusyTarget(t *testing.T) {
	t.Parallel()
	r := newRig(t, scheduler.SystemClock{}, func(o *scheduler.EngineOptions) {
		o.Slots = map[string]int{"record": 20, "other": 20}
		o.TargetSlots = 4
	})
	began := time.Now()
	const n = 200
	for i := range n {
		key := fmt.Sprintf("late%d", i)
		r.rec.Do(key, func(context.Context, *scheduler.Firing) (scheduler.Output, error) {
			time.Sleep(10 * time.Millisecond)
			return nil, nil
		})
		r.put(t, &scheduler.Plan{
			Key: key, Action: "record", Params: map[string]string{"target": "busy"}, Revision: scheduler.Revision(i + 1), Due: began.Unix() - 50,
			Schedule: scheduler.Schedule{Kind: scheduler.Timeout, Second: 1, Week: scheduler.Any, Count: 1},
		})
	}
	checkOnceNeverEarly(t, r.wait(t, "everything", storetest.Ended(n)))
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("it took %s", took)
	}
	if r.counters.Deferred.Load() == 0 {
		t.Error("nothing was deferred: this has shown nothing")
	}
}

func TestEngineDrainHandsBackWhatDoesNotEnd(t *testing.T) {
	t.Parallel()
	r := newRig(t, scheduler.SystemClock{}, func(o *scheduler.EngineOptions) { o.DrainTimeout = 50 * time.Millisecond })
	release := r.rec.Hang("long")
	r.create(t, "long", 0, nil)
	r.wait(t, "it runs", func(runs []storetest.Recorded) bool { return len(runs) == 1 })
	r.stop()
	release()
	r.start(t)
	runs := r.wait(t, "it runs again", func(runs []storetest.Recorded) bool { return len(runs) == 2 && !runs[1].Ended.IsZero() })
	if runs[0].ID != runs[1].ID || runs[1].Err != nil {
		t.Errorf("runs %+v: want the same firing again, to its end", runs)
	}
}

func TestEngineDrainLetsRunningAttemptsEnd(t *testing.T) {
	t.Parallel()
	r := newRig(t, scheduler.SystemClock{}, nil)
	release := r.rec.Hang("short")
	r.create(t, "short", 0, nil)
	r.wait(t, "it runs", func(runs []storetest.Recorded) bool { return len(runs) == 1 })
	time.AfterFunc(50*time.Millisecond, release)
	r.stop()
	history, _, err := r.store.History(t.Context(), scheduler.JournalQuery{Limit: 10})
	if err != nil || len(history) != 1 || history[0].Outcome != scheduler.Succeeded {
		t.Errorf("history: %v, %v; want one success", history, err)
	}
}

func TestEngineMisfiresCollapseBeyondTheGrace(t *testing.T) {
	t.Parallel()
	now := time.Now().Unix()
	r := newRig(t, scheduler.SystemClock{}, func(o *scheduler.EngineOptions) { o.MisfireGrace = 10 * time.Second })
	every := scheduler.Schedule{Kind: scheduler.Timeout, Second: 4, Week: -1, Count: 6}
	r.put(t, storetest.NewPlan("old", func(p *scheduler.Plan) {
		p.Schedule, p.Due = every, now-100
	}))
	r.wait(t, "one collapsed, then those within the grace, then on time", storetest.Ended(6))
	runs := r.rec.Runs()
	checkOnceNeverEarly(t, runs)
	if len(runs) != 6 {
		t.Fatalf("ran %d times, want 6: a collapsed firing counts as one", len(runs))
	}
	// Firings are in no order: put them in theirs.
	slices.SortFunc(runs, func(a, b storetest.Recorded) int { return int(a.Due - b.Due) })
	if first := runs[0]; first.Missed != 6 || first.Due != now-80 {
		t.Errorf("first run %+v: want the last of the six missed seconds, standing for all", first)
	}
	for i, run := range runs[1:] {
		if run.Missed != 0 || (run.Due-now)%4 != 0 || i > 0 && run.Due != runs[i].Due+4 {
			t.Errorf("run %d is %+v: want the next due second, on the grid", i+1, run)
		}
	}
	if runs[1].Due < now-10 || runs[1].Due > now-2 {
		t.Errorf("it goes on with due second %d, want the first within the grace", runs[1].Due-now)
	}
}

// A clock that is set, in both directions: nothing early by the clock as it
// stands, nothing twice, nothing lost. Only the engine's, the store's and the
// ticker's reading is changed, never the machine's clock.
func TestEngineSurvivesClockSteps(t *testing.T) {
	t.Parallel()
	clock := storetest.NewClock(time.Unix(1_800_000_000, 500_000_000))
	ticker := newHandTicker()
	r := newRig(t, clock, func(o *scheduler.EngineOptions) {
		o.NewTicker = func() (scheduler.Ticker, error) { return ticker, nil }
	})
	for i := range 50 {
		r.create(t, fmt.Sprintf("p%d", i), i+1, nil) // due in seconds 1 to 50
	}
	step := func(to int64) {
		clock.Set(time.Unix(1_800_000_000+to, 0))
		ticker.step(clock.Now())
	}
	step(10) // on by 10 s
	r.wait(t, "what became due", storetest.Ended(10))
	step(-3600) // back by an hour: nothing may run
	ticker.tick(clock.Now())
	step(-3599)
	r.create(t, "behind", 5, nil) // due by the clock as it stands
	step(-3590)
	r.wait(t, "only what is due by the new time", storetest.Ended(11))
	step(30)
	r.wait(t, "up to 30", storetest.Ended(31))
	step(50)
	runs := r.wait(t, "all", storetest.Ended(51))
	checkOnceNeverEarly(t, runs)
	if len(runs) != 51 {
		t.Errorf("%d ran, want 51", len(runs))
	}
	if r.counters.ClockSteps.Load() != 6 {
		t.Errorf("%d steps counted, want 6", r.counters.ClockSteps.Load())
	}
}

// handTicker ticks when a test says so.
type handTicker struct{ c chan scheduler.Tick }

func newHandTicker() *handTicker { return &handTicker{make(chan scheduler.Tick)} }

func (h *handTicker) Next(ctx context.Context) (scheduler.Tick, error) {
	select {
	case t := <-h.c:
		return t, nil
	case <-ctx.Done():
		return scheduler.Tick{}, ctx.Err()
	}
}
func (h *handTicker) Close() error       { return nil }
func (h *handTicker) tick(now time.Time) { h.c <- scheduler.Tick{Now: now} }
func (h *handTicker) step(now time.Time) { h.c <- scheduler.Tick{Now: now, Stepped: true} }

// limited is an action that can run as many attempts at a time as it says.
type limited struct {
	*storetest.Recorder
	slots atomic.Int64
}

func (l *limited) Slots() int { return int(l.slots.Load()) }

// TestLimitedAction: firings of an action that can run none wait in the queue, untried,
// and no more run than it says, whether they were taken or handed out.
func TestLimitedAction(t *testing.T) {
	t.Parallel()
	l := &limited{Recorder: storetest.NewRecorder()}
	r := newRigOf(t, scheduler.SystemClock{}, actionSet{"record": l, "other": storetest.NewRecorder()}, nil)
	r.rec = l.Recorder
	release := make(chan struct{})
	for i := range 10 {
		key := fmt.Sprintf("k%d", i)
		r.rec.Do(key, func(ctx context.Context, _ *scheduler.Firing) (scheduler.Output, error) { <-release; return nil, nil })
		r.create(t, key, 0, nil)
	}
	state := func() scheduler.ShardState {
		states, err := r.store.Shards(t.Context(), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return states[0]
	}
	until := func(what string, ok func() bool) {
		t.Helper()
		within(t, 20*time.Second, what, func() error {
			if !ok() {
				return fmt.Errorf("%+v", state())
			}
			return nil
		})
	}
	until("queued", func() bool { return state().Queued["record"] == 10 })
	time.Sleep(50 * time.Millisecond) // for one that should not
	if s := state(); s.Running["record"] != 0 {
		t.Errorf("%d run, want none", s.Running["record"])
	}
	l.slots.Store(3)
	until("taken", func() bool { return state().Running["record"] == 3 })
	for i := range 10 {
		key := fmt.Sprintf("more%d", i)
		r.rec.Do(key, func(ctx context.Context, _ *scheduler.Firing) (scheduler.Output, error) { <-release; return nil, nil })
		r.create(t, key, 0, nil)
	}
	until("queued", func() bool { return state().Queued["record"] == 17 })
	if s := state(); s.Running["record"] != 3 {
		t.Errorf("%d run, want 3", s.Running["record"])
	}
	l.slots.Store(100)
	close(release)
	runs := r.wait(t, "all", func(runs []storetest.Recorded) bool { return len(runs) == 20 })
	for _, run := range runs {
		if run.Attempt != 1 {
			t.Errorf("%s: attempt %d", run.Key, run.Attempt)
		}
	}
}

// TestSlowChecks: what actions take to check a request is bounded as a whole.
func TestSlowChecks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		slow := storetest.NewRecorder()
		slow.CheckFn = func(map[string]string) error { time.Sleep(time.Second); return nil }
		service := scheduler.NewService(nil, actionSet{"record": slow}, scheduler.SystemClock{}, new(scheduler.Counters), scheduler.DefaultServiceOptions())
		requests := make([]scheduler.Request, 1000)
		for i := range requests {
			requests[i] = scheduler.Request{Key: fmt.Sprint(i), Action: "record", Schedule: scheduler.Schedule{Kind: scheduler.Timeout, Second: 9, Count: 1}}
		}
		began := time.Now()
		_, _, err := service.CreateMany(t.Context(), requests)
		if took := time.Since(began); !errors.Is(err, scheduler.ErrTooLarge) || took > 15*time.Second {
			t.Errorf("after %s: %v", took, err)
		}
	})
}
