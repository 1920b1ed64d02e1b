package scheduler_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/snower/forsun/scheduler"
	"github.com/snower/forsun/scheduler/storetest"
)

// fleetStore is what the embedded store cannot be: several shards, seen by several
// replicas over a network that takes its time and can be cut, with a clock that is
// not the replicas'. It holds leases, replicas and plans to be claimed, on the
// test's clock; what it claims nobody runs.
type fleetStore struct {
	scheduler.Store // not used: calling anything else is a fault of the test

	mu       sync.Mutex
	shards   []int
	terms    map[int]uint64
	leases   map[int]scheduler.Lease
	replicas map[string]scheduler.Replica
	events   map[chan scheduler.Event]bool
	plans    map[string]*scheduler.Plan // all in shard 0
	ahead    time.Duration              // its clock minus the true one
	claims   []claimSeen
	notYet   int
	firing   *scheduler.Firing // to be taken, once
	finishes int               // that failed
}

// claimSeen is a claim that was made.
type claimSeen struct {
	at   time.Time // true time
	due  int64
	skew time.Duration
}

func newFleetStore(shards int) *fleetStore {
	s := &fleetStore{
		terms: map[int]uint64{}, leases: map[int]scheduler.Lease{}, replicas: map[string]scheduler.Replica{},
		events: map[chan scheduler.Event]bool{}, plans: map[string]*scheduler.Plan{},
	}
	for i := range shards {
		s.shards = append(s.shards, i)
	}
	return s
}

func (s *fleetStore) now() time.Time { return time.Now().Add(s.ahead) }

// leaders counts the shards that each replica leads, and moves counts the terms.
func (s *fleetStore) leaders() (leads map[string]int, moves int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	leads = map[string]int{}
	for shard, l := range s.leases {
		if time.Now().Before(l.Until) {
			leads[l.Value[:1]]++
		}
		moves += int(s.terms[shard])
	}
	return leads, moves
}

func (s *fleetStore) setAhead(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ahead = d
}

// fleetView is the store as one replica sees it.
type fleetView struct {
	*fleetStore
	mu sync.Mutex
	is faults
}

// faults are what is wrong with a view.
type faults struct {
	cut   error         // of every call
	noBid error         // of Campaign
	fails error         // of Finish
	taken bool          // Announce says so
	slow  time.Duration // what the answer to Now takes, but for every third
	lame  time.Duration // what every answer to Now takes
	asked int
}

func (v *fleetView) set(f func(is *faults)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	f(&v.is)
}

func (v *fleetView) get() faults {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.is.asked++
	return v.is
}

// trip is how long a question, or an answer, is under way.
const trip = 200 * time.Microsecond

func (v *fleetView) call() (is faults, done func(), err error) {
	is = v.get()
	time.Sleep(trip)
	if is.cut != nil {
		return is, nil, is.cut
	}
	v.fleetStore.mu.Lock()
	return is, func() { v.fleetStore.mu.Unlock(); time.Sleep(trip) }, nil
}

func (v *fleetView) ShardIDs() []int { return v.shards }

const fleetTTL = 2500 * time.Millisecond

func (v *fleetView) Campaign(_ context.Context, shard int, replica string) (scheduler.Lease, error) {
	start := time.Now()
	is, done, err := v.call()
	if err != nil {
		return scheduler.Lease{}, err
	}
	defer done()
	if is.noBid != nil {
		return scheduler.Lease{}, is.noBid
	}
	if left := time.Until(v.leases[shard].Until); left > 0 {
		return scheduler.Lease{}, &scheduler.LeaseHeldError{Left: left.Truncate(time.Millisecond)}
	}
	v.terms[shard]++
	l := scheduler.Lease{Shard: shard, Term: v.terms[shard], Value: fmt.Sprintf("%s:%d", replica, v.terms[shard])}
	l.Until = time.Now().Add(fleetTTL)
	v.leases[shard] = l
	l.Until = start.Add(fleetTTL - 250*time.Millisecond)
	return l, nil
}

func (v *fleetView) Renew(_ context.Context, l scheduler.Lease) (scheduler.Lease, error) {
	start := time.Now()
	_, done, err := v.call()
	if err != nil {
		return l, err
	}
	defer done()
	held := v.leases[l.Shard]
	if held.Value != l.Value || time.Now().After(held.Until) {
		return l, scheduler.ErrFenced
	}
	held.Until = time.Now().Add(fleetTTL)
	v.leases[l.Shard] = held
	l.Until = start.Add(fleetTTL - 250*time.Millisecond)
	return l, nil
}

func (v *fleetView) Resign(_ context.Context, l scheduler.Lease) error {
	_, done, err := v.call()
	if err != nil {
		return err
	}
	defer done()
	if held := v.leases[l.Shard]; held.Value == l.Value {
		held.Until = time.Time{}
		v.leases[l.Shard] = held
		for c := range v.events {
			c <- scheduler.Event{Kind: scheduler.EventVacant, Shard: l.Shard}
		}
	}
	return nil
}

func (v *fleetView) Now(context.Context) (time.Time, error) {
	is, done, err := v.call()
	if err != nil {
		return time.Time{}, err
	}
	now := v.now()
	done()
	if time.Sleep(is.lame); is.asked%3 != 0 {
		time.Sleep(is.slow)
	}
	return now, nil
}

func (v *fleetView) Announce(_ context.Context, r scheduler.Replica) (all []scheduler.Replica, err error) {
	is, done, err := v.call()
	if err != nil {
		return nil, err
	}
	defer done()
	if is.taken {
		return nil, scheduler.ErrReplicaTaken
	}
	r.Seen = v.now()
	v.replicas[r.ID] = r
	for _, r := range v.replicas {
		all = append(all, r)
	}
	return all, nil
}

func (v *fleetView) Watch(ctx context.Context, fn func(scheduler.Event)) error {
	events := make(chan scheduler.Event, 1024)
	_, done, err := v.call()
	if err != nil {
		return err
	}
	v.events[events] = true
	done()
	defer func() {
		v.fleetStore.mu.Lock()
		defer v.fleetStore.mu.Unlock()
		delete(v.events, events)
	}()
	fn(scheduler.Event{Kind: scheduler.EventAll})
	for {
		select {
		case e := <-events:
			fn(e)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (v *fleetView) Due(_ context.Context, q scheduler.DueQuery) (page scheduler.DuePage, err error) {
	_, done, err := v.call()
	if err != nil {
		return page, err
	}
	defer done()
	for _, p := range v.plans {
		if q.Shard == 0 && p.Action == q.Action && q.From <= p.Due && p.Due <= q.To {
			page.Plans = append(page.Plans, p)
		}
	}
	return page, nil
}

func (v *fleetView) Claim(_ context.Context, b scheduler.ClaimBatch) (reply scheduler.ClaimReply, err error) {
	_, done, err := v.call()
	if err != nil {
		return reply, err
	}
	defer done()
	if v.leases[b.Lease.Shard].Value != b.Lease.Value {
		return reply, scheduler.ErrFenced
	}
	now := v.now().Add(b.Skew)
	for _, c := range b.Claims {
		a := scheduler.ClaimAnswer{Result: scheduler.ClaimedOK}
		if wait := time.Unix(c.Due, 0).Sub(now); wait > 0 || c.Due > b.Cutoff {
			a = scheduler.ClaimAnswer{Result: scheduler.ClaimNotYet, Wait: wait}
			v.notYet++
		} else {
			delete(v.plans, c.Key)
			v.claims = append(v.claims, claimSeen{at: time.Now(), due: c.Due, skew: b.Skew})
		}
		reply.Answers = append(reply.Answers, a)
	}
	return reply, nil
}

func (v *fleetView) Promote(context.Context, scheduler.PromoteRequest) (int, time.Time, error) {
	_, done, err := v.call()
	if err != nil {
		return 0, time.Time{}, err
	}
	done()
	return 0, time.Time{}, nil
}

func (v *fleetView) Take(context.Context, scheduler.TakeRequest) (fs []*scheduler.Firing, more bool, err error) {
	_, done, err := v.call()
	if err != nil {
		return nil, false, err
	}
	defer done()
	if v.firing != nil {
		fs, v.firing = []*scheduler.Firing{v.firing}, nil
	}
	return fs, false, nil
}

func (v *fleetView) Finish(_ context.Context, _ int, _ string, fs []scheduler.Finish) ([]scheduler.Finished, error) {
	is, done, err := v.call()
	if err != nil {
		return nil, err
	}
	defer done()
	if is.fails != nil {
		v.finishes++
		return nil, is.fails
	}
	return make([]scheduler.Finished, len(fs)), nil
}

func (v *fleetView) Holders(context.Context, int) ([]scheduler.Holder, error) {
	return nil, v.get().cut
}

func (v *fleetView) Held(context.Context, int, string, int) (held []string, err error) {
	return nil, v.get().cut
}
func (v *fleetView) Beat(context.Context, string) error { return v.get().cut }

// skewedClock is a replica's clock: the true one and an error that a test sets.
type skewedClock struct {
	mu    sync.Mutex
	ahead time.Duration
}

func (c *skewedClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.ahead)
}

func (c *skewedClock) set(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead = d
}

// bubbleTicker ticks at the seconds of a clock, within a synctest bubble.
type bubbleTicker struct{ clock scheduler.Clock }

func (b bubbleTicker) Next(ctx context.Context) (scheduler.Tick, error) {
	now := b.clock.Now()
	select {
	case <-time.After(now.Truncate(time.Second).Add(time.Second).Sub(now)):
		return scheduler.Tick{Now: b.clock.Now()}, nil
	case <-ctx.Done():
		return scheduler.Tick{}, ctx.Err()
	}
}
func (bubbleTicker) Close() error { return nil }

// member is a replica of a test's fleet. Its name is one letter.
type member struct {
	name   string
	view   *fleetView
	clock  *skewedClock
	engine *scheduler.Engine
	log    *logLines
	stop   func()     // as SIGTERM does
	ended  chan error // what Run returned
}

// kill cuts the replica off from the store, as a crash does.
func (m *member) kill() { m.view.set(func(is *faults) { is.cut = errors.New("dead") }) }

// join starts a replica.
func (s *fleetStore) join(t *testing.T, name string) *member {
	t.Helper()
	m := &member{name: name, view: &fleetView{fleetStore: s}, clock: &skewedClock{}, log: &logLines{}, ended: make(chan error, 1)}
	opts := scheduler.DefaultEngineOptions()
	opts.Replica = name
	opts.StoreTimeout = time.Second
	opts.NewTicker = func() (scheduler.Ticker, error) { return bubbleTicker{m.clock}, nil }
	var err error
	m.engine, err = scheduler.NewEngine(m.view, actionSet{"record": storetest.NewRecorder()}, m.clock,
		new(scheduler.Counters), zerolog.New(m.log), opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { m.ended <- m.engine.Run(ctx) }()
	m.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-m.ended; err != nil {
			t.Errorf("replica %s ended: %v", name, err)
		}
	})
	return m
}

// logLines keeps a log.
type logLines struct {
	mu    sync.Mutex
	lines [][]byte
}

func (l *logLines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, slices.Clone(b))
	return len(b), nil
}

// count counts the lines that say all of what.
func (l *logLines) count(what ...string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.lines {
		all := true
		for _, w := range what {
			all = all && bytes.Contains(line, []byte(w))
		}
		if all {
			n++
		}
	}
	return n
}
