package scheduler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

// EngineOptions configure an Engine.
type EngineOptions struct {
	Replica string // unique id of this process among the replicas
	Address string // where its Thrift server listens, for others to see
	Version string // of the program, for others to see

	Lead bool // it may lead shards
	// Actions are those whose plans a leader claims, the same on all replicas. nil: those
	// this replica has and those that others announce, which may have more.
	Actions []string
	Work    []string // actions this replica's workers run; nil: all it has

	// Forbidden are actions that are known and not allowed in this deployment: the same
	// on all replicas. Plans of them that are stored are claimed as others are, and
	// whichever replica works takes their firings and makes dead letters of them.
	Forbidden []string

	Zone         *time.Location // zone of calendar plans without their own: the same on all replicas
	MisfireGrace time.Duration  // due seconds up to this late fire each; older ones collapse
	CatchUpRate  int            // claims per second and shard of plans older than the grace
	ClaimBatch   int            // plans in one claim
	ReadAhead    int            // plans read before their second, per shard
	Backlog      Backlog        // per shard and action

	Slots         map[string]int // attempts at a time by action
	DefaultSlots  int            // for actions that Slots does not name
	TargetSlots   int            // attempts at a time by target
	Retry         RetryPolicy    // for plans that set none
	MaxDeliveries int            // a firing whose worker was lost this often is a dead letter

	DrainTimeout time.Duration // how long running attempts may go on when the engine stops
	StoreTimeout time.Duration // bound on one call to the store
	NewTicker    func() (Ticker, error)

	// Canary is how often the canary of each shard fires, from 1 s to an hour, the same
	// on all replicas; 0: there are none. See canary.go.
	Canary time.Duration
}

// DefaultEngineOptions returns the options of a replica that leads and works.
func DefaultEngineOptions() EngineOptions {
	return EngineOptions{
		Lead:         true,
		Zone:         time.UTC,
		MisfireGrace: time.Minute,
		CatchUpRate:  10_000,
		ClaimBatch:   100,
		ReadAhead:    20_000,
		Backlog:      Backlog{Entries: 200_000, Bytes: 256 << 20},
		// An attempt in a slot is a goroutine and a connection at most: slots
		// are plenty, so that many hanging targets do not add up to a stop.
		Slots:         map[string]int{"shell": 64, "http": 1024, "mysql": 256, "noop": 2048},
		DefaultSlots:  512,
		TargetSlots:   64,
		Retry:         DefaultRetryPolicy(),
		MaxDeliveries: 5,
		DrainTimeout:  30 * time.Second,
		StoreTimeout:  5 * time.Second,
		NewTicker:     NewTicker,
	}
}

// Validate names every option that cannot work.
func (o *EngineOptions) Validate() error {
	var errs []error
	bad := func(cond bool, field string, value any, allowed string) {
		if cond {
			errs = append(errs, fieldError(ErrField, field, fmt.Sprint(value), allowed))
		}
	}
	bad(o.Replica == "", "Replica", o.Replica, "a name, not empty")
	bad(o.Zone == nil, "Zone", o.Zone, "a time zone")
	bad(o.MisfireGrace < time.Second, "MisfireGrace", o.MisfireGrace, "at least 1s")
	bad(o.CatchUpRate < 1, "CatchUpRate", o.CatchUpRate, "at least 1")
	bad(o.ClaimBatch < 1, "ClaimBatch", o.ClaimBatch, "at least 1")
	bad(o.ReadAhead < 0, "ReadAhead", o.ReadAhead, "0 or more")
	bad(o.DefaultSlots < 1, "DefaultSlots", o.DefaultSlots, "at least 1")
	for name, n := range o.Slots {
		bad(n < 1, "Slots["+name+"]", n, "at least 1")
	}
	for _, name := range o.Forbidden {
		bad(slices.Contains(o.Actions, name) || slices.Contains(o.Work, name), "Forbidden", name, "actions that are neither in Actions nor in Work")
	}
	bad(o.TargetSlots < 1, "TargetSlots", o.TargetSlots, "at least 1")
	bad(o.Retry.Retries < 0, "Retry.Retries", o.Retry.Retries, "0 or more")
	bad(o.Retry.Delay < 0, "Retry.Delay", o.Retry.Delay, "0 or more")
	bad(!(o.Retry.Rate >= 0 && o.Retry.Rate <= 100), "Retry.Rate", o.Retry.Rate, "0 to 100") // so that NaN is not
	bad(o.Retry.Max < o.Retry.Delay, "Retry.Max", o.Retry.Max, fmt.Sprintf("at least Retry.Delay (%v)", o.Retry.Delay))
	bad(o.Backlog.Entries < 0, "Backlog.Entries", o.Backlog.Entries, "0 (no bound) or more")
	bad(o.Backlog.Bytes < 0, "Backlog.Bytes", o.Backlog.Bytes, "0 (no bound) or more")
	bad(o.MaxDeliveries < 1, "MaxDeliveries", o.MaxDeliveries, "at least 1")
	bad(o.DrainTimeout < 0, "DrainTimeout", o.DrainTimeout, "0 or more")
	bad(o.StoreTimeout <= 0, "StoreTimeout", o.StoreTimeout, "more than 0")
	bad(o.NewTicker == nil, "NewTicker", nil, "a constructor")
	bad(o.Canary != 0 && (o.Canary < time.Second || o.Canary > time.Hour || o.Canary%time.Second != 0),
		"Canary", o.Canary, "whole seconds from 1s to 1h, or 0 for none")
	return errors.Join(errs...)
}

// Engine makes plans fire: it campaigns for shards, leads those it wins, and
// runs firings of all shards on its workers.
type Engine struct {
	store    Store
	actions  Actions
	clock    Clock
	counters *Counters
	log      zerolog.Logger
	opts     EngineOptions

	ticks    tickHub
	workers  *workers
	shards   []*shard
	fleet    *announcer
	clocks   clocks
	census   atomic.Int64 // live replicas that may lead, at least 1
	veterans atomic.Bool  // some of them have run since long before this one started
	fleetOf  atomic.Int64 // live replicas, at least 1
	started  time.Time
	meters   meters

	open    bool                     // others may add to
	claimed atomic.Pointer[[]string] // the actions whose plans are claimed

	stopping atomic.Bool               // it leads nothing any more
	heard    atomic.Pointer[time.Time] // when the store last took an announcement (monotonic)
	ticked   atomic.Pointer[time.Time] // when the ticker last woke (monotonic)
}

// shard is this replica's part in one shard.
type shard struct {
	id      int
	hint    chan struct{}           // look now
	vacant  chan struct{}           // its lease was given up: bid now
	give    chan error              // this replica is to give its lease up, for this reason
	leads   atomic.Bool             //
	lastRun atomic.Pointer[lastRun] // when the shard loop last came round
	term    atomic.Uint64           // of the last lease this replica had
	failing atomic.Pointer[failing] // since when all passes have failed; nil: the last one did not
	canary  canaryState
}

type lastRun struct{ at time.Time }

type failing struct {
	since time.Time
	err   error
}

// NewEngine returns an engine that is not running yet.
func NewEngine(store Store, actions Actions, clock Clock, counters *Counters, log zerolog.Logger, opts EngineOptions) (*Engine, error) {
	if err := opts.Validate(); err != nil {
		return nil, fmt.Errorf("engine options: %w", err)
	}
	permitted := func() []string {
		return slices.DeleteFunc(slices.Clone(actions.Names()), func(name string) bool { return slices.Contains(opts.Forbidden, name) })
	}
	open := opts.Actions == nil
	if open {
		opts.Actions = permitted()
	}
	if opts.Work == nil {
		opts.Work = permitted()
	}
	for _, name := range opts.Work {
		if _, ok := actions.Get(name); !ok {
			return nil, fmt.Errorf("engine options: %w", fieldError(ErrAction, "Work", name, fmt.Sprint(actions.Names())))
		}
	}
	// Last, so that they delay none that runs.
	opts.Actions = slices.Concat(opts.Actions, opts.Forbidden)
	metered := opts.Work
	if opts.Canary != 0 {
		opts.Actions = append(opts.Actions, CanaryAction)
		if len(opts.Work) > 0 {
			opts.Work = append(slices.Clone(opts.Work), CanaryAction)
		}
		actions = withCanary{actions}
	}
	e := &Engine{store: store, actions: actions, clock: clock, counters: counters, log: log, opts: opts, started: clock.Now()}
	e.open = open
	e.claimed.Store(&e.opts.Actions)
	e.census.Store(1)
	e.fleetOf.Store(1)
	now := time.Now()
	e.heard.Store(&now)
	e.ticked.Store(&now)
	for _, id := range store.ShardIDs() {
		e.shards = append(e.shards, &shard{
			id: id, hint: make(chan struct{}, 1), vacant: make(chan struct{}, 1), give: make(chan error, 1),
		})
	}
	e.meters = newMeters(e.shards, metered)
	e.workers = newWorkers(e)
	e.fleet = newAnnouncer(e)
	return e, nil
}

// claims returns the actions whose plans this replica claims where it leads.
func (e *Engine) claims() []string { return *e.claimed.Load() }

// maxClaimed bounds the actions that are claimed, and maxActionName the length of the name
// of one that another replica has: what is announced is read from the store.
const (
	maxClaimed    = 1024
	maxActionName = 64
)

// learnActions has plans claimed of actions that other replicas have: who leads need
// not be who runs them. What was learned is not forgotten when they go.
func (e *Engine) learnActions(replicas []Replica) {
	if !e.open {
		return
	}
	all := e.claims()
	for _, r := range replicas {
		for _, name := range r.Actions {
			if len(name) == 0 || len(name) > maxActionName || len(all) >= maxClaimed || slices.Contains(all, name) {
				continue
			}
			all = append(slices.Clip(all), name)
			e.log.Info().Str("action", name).Str("of", r.ID).Msg("another replica has an action that this one has not: its plans are claimed here, and run there")
		}
	}
	e.claimed.Store(&all)
}

// Leads returns the shards this replica leads now, in order.
func (e *Engine) Leads() []int {
	var ids []int
	for _, s := range e.shards {
		if s.leads.Load() {
			ids = append(ids, s.id)
		}
	}
	return ids
}

// Run runs the engine until ctx is done and then stops it: no further claims
// once the one in progress has ended, leases given up, running attempts waited
// for up to DrainTimeout, then cut off and handed back. It stops by itself if
// this replica must not go on. It returns when everything it started has ended:
// nil, or why it could not start, or ErrReplicaTaken or ErrLayout.
func (e *Engine) Run(ctx context.Context) error {
	ticker, err := e.opts.NewTicker()
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var failure error
	// Leading ends before working does: what was claimed last can still be run
	// here, and what is not run can still be handed back.
	working, stopWorking := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWorking()

	var leading, serving sync.WaitGroup
	serving.Go(func() { e.watch(working) })
	serving.Go(func() {
		if failure = e.fleet.run(working); failure != nil {
			e.log.Error().Err(failure).Str("replica", e.opts.Replica).Msg("this replica must not go on")
			stop()
		}
	})
	if e.opts.Lead {
		leading.Go(func() { e.tick(ctx, ticker) })
		for _, s := range e.shards {
			leading.Go(func() { (&elector{e: e, s: s}).run(ctx) })
		}
	}
	var pool sync.WaitGroup
	led := make(chan struct{})
	pool.Go(func() { e.workers.run(ctx, led) }) // drains when ctx is done

	<-ctx.Done()
	e.stopping.Store(true)
	e.fleet.soon() // nobody leaves a shard to this one any more
	leading.Wait()
	close(led)
	pool.Wait()
	stopWorking()
	serving.Wait()
	return errors.Join(failure, ticker.Close())
}

// now is the time up to which plans are due: this machine's clock, held back to
// where the store, too, lets a second begin, so that a claim need not be
// refused to find out.
func (e *Engine) now() time.Time {
	_, lag := e.clocks.correction()
	now := e.clock.Now().Add(-lag)
	if Bug("early") {
		return now.Round(time.Second)
	}
	return now
}

// ClockWrong returns nil, or why this machine's clock is not to be relied on: the
// other replicas agree on another time. Then nothing should be created here,
// since first due seconds are counted from this clock. It is ErrNotAllowed.
func (e *Engine) ClockWrong() error { return e.clocks.wrong() }

// tick hands seconds to the shard loops until ctx is done.
func (e *Engine) tick(ctx context.Context, ticker Ticker) {
	started := time.Now()
	e.ticked.Store(&started)
	last := int64(0) // the second it woke at; 0 if no other is expected to follow
	for {
		t, err := ticker.Next(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			// The loops also look by themselves, once a second at least: a broken timer
			// costs precision, not firings.
			e.log.Error().Err(err).Msg("ticker failed")
			sleep(ctx, time.Second)
			continue
		}
		e.counters.Ticks.Add(1)
		woke := time.Now()
		e.ticked.Store(&woke)
		if second := t.Now.Unix(); t.Stepped {
			last = 0
		} else {
			if last != 0 && second > last+1 {
				e.counters.MissedTicks.Add(second - last - 1)
			}
			last = second
		}
		if t.Stepped {
			e.counters.ClockSteps.Add(1)
			e.log.Warn().Time("now", t.Now).Msg("wall clock was set")
			e.fleet.soon()
		} else if _, lag := e.clocks.correction(); lag > 0 && sleep(ctx, lag%time.Second) != nil {
			return // while it waited for the store's second to begin
		}
		e.ticks.publish(t)
	}
}

// watch turns the store's events into hints.
func (e *Engine) watch(ctx context.Context) {
	quiet := false // it was said that they are lost, and none has come since
	for ctx.Err() == nil {
		err := e.store.Watch(ctx, func(ev Event) {
			quiet = false
			e.event(ev)
		})
		if ctx.Err() != nil {
			return
		}
		if !quiet {
			quiet = true
			e.log.Warn().Err(err).Msg("lost the store's events; watching again")
		}
		sleep(ctx, 250*time.Millisecond)
	}
}

// event must be quick: it is called on the store's goroutine.
func (e *Engine) event(ev Event) {
	if ev.Kind == EventAll {
		e.workers.wakeAll()
		for _, s := range e.shards {
			s.look()
		}
		return
	}
	i := slices.IndexFunc(e.shards, func(s *shard) bool { return s.id == ev.Shard })
	if i < 0 {
		return
	}
	switch s := e.shards[i]; ev.Kind {
	case EventWork:
		e.workers.wake(s.id)
	case EventPlan:
		if ev.Due <= e.now().Unix() {
			s.look()
		}
	case EventVacant:
		notify(s.vacant)
	}
}

// giveUp asks the elector to give the shard up if this replica leads it.
func (s *shard) giveUp(why error) {
	if !s.leads.Load() {
		return
	}
	select {
	case s.give <- why:
	default:
	}
}

// look asks the shard's loop to look for due plans now.
func (s *shard) look() { notify(s.hint) }

// notify sends without waiting; one notice waiting is as good as many.
func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// sleep waits for d or ctx, whose error it returns.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// expectRetries tells the shard's loop that retries were stored, so that it
// asks the store when the first of them is due.
func (e *Engine) expectRetries(shard int) {
	for _, s := range e.shards {
		if s.id == shard && s.leads.Load() {
			s.look()
		}
	}
}
