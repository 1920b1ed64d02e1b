package scheduler_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/snower/forsun/redisstore"
	"github.com/snower/forsun/redisstore/redistest"
	"github.com/snower/forsun/scheduler"
	"github.com/snower/forsun/scheduler/storetest"
)

// replica is a replica of a fleet on a real Redis, with a network of its own.
type replica struct {
	store   scheduler.Store
	service *scheduler.Service
	rec     *storetest.Recorder
	engine  *scheduler.Engine
	proxy   *redistest.Proxy
	log     *logLines
	stop    func() error // as SIGTERM does; what Run returned
}

// onRedis starts a replica on the server at addr.
func onRedis(t *testing.T, addr, name string, shards []int, change ...func(*scheduler.EngineOptions)) *replica {
	t.Helper()
	r := &replica{rec: storetest.NewRecorder(), proxy: redistest.NewProxy(t, addr), log: &logLines{}}
	log := zerolog.New(r.log)
	o := redisstore.DefaultOptions()
	o.Addresses, o.Shards, o.Replica, o.Log = []string{r.proxy.Addr}, shards, name, log
	store, err := redisstore.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	r.store = store
	actions := actionSet{"record": r.rec}
	opts := scheduler.DefaultEngineOptions()
	opts.Replica = name
	opts.StoreTimeout = 2 * time.Second
	for _, f := range change {
		f(&opts)
	}
	counters := new(scheduler.Counters)
	if r.engine, err = scheduler.NewEngine(store, actions, scheduler.SystemClock{}, counters, log, opts); err != nil {
		t.Fatal(err)
	}
	sopts := scheduler.DefaultServiceOptions()
	sopts.Refuse = r.engine.ClockWrong
	sopts.Canary = opts.Canary != 0
	r.service = scheduler.NewService(store, actions, scheduler.SystemClock{}, counters, sopts)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.engine.Run(ctx) }()
	r.stop = sync.OnceValue(func() error {
		cancel()
		defer store.Close()
		return <-ended
	})
	t.Cleanup(func() { r.stop() })
	return r
}

// led waits until replicas lead all shards, evenly, and says how long that took.
func led(t *testing.T, bound time.Duration, shards int, evenly bool, fleet ...*replica) time.Duration {
	t.Helper()
	begin := time.Now()
	within(t, bound, "led by those that are there", func() error {
		least, most, sum := shards, 0, 0
		for _, r := range fleet {
			n := len(r.engine.Leads())
			least, most, sum = min(least, n), max(most, n), sum+n
		}
		if sum != shards || evenly && most-least > 1 {
			return fmt.Errorf("%d of %d shards are led, between %d and %d by each", sum, shards, least, most)
		}
		return nil
	})
	return time.Since(begin)
}

// wantDueOnce checks the runs of all replicas together: each plan once at its
// second, never early.
func wantDueOnce(t *testing.T, want int, late time.Duration, fleet ...*replica) {
	t.Helper()
	runs := func() (all []storetest.Recorded) {
		for _, r := range fleet {
			all = append(all, r.rec.Runs()...)
		}
		return all
	}
	eventually(t, fmt.Sprintf("%d firings", want), func() bool { return len(runs()) >= want })
	time.Sleep(200 * time.Millisecond) // for one too many
	all := runs()
	checkOnceNeverEarly(t, all)
	if len(all) != want {
		t.Errorf("%d firings, want %d", len(all), want)
	}
	for _, run := range all {
		if d := run.Started.Sub(time.Unix(run.Due, 0)); d > late {
			t.Errorf("%s, due %d, ran %v late", run.Key, run.Due, d)
		}
	}
}

// TestFleetOnRedis: replicas come, lose their network, find it again, and stop,
// while plans fire: each once, and none later than it takes to lead again.
func TestFleetOnRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	shards := []int{0, 1, 2, 3}
	a := onRedis(t, server.Addr, "a", shards)
	led(t, 2*time.Second, 4, true, a)

	const seconds, each = 26, 20
	first := time.Now().Unix() + 2
	var plans []*scheduler.Plan
	for i := range seconds * each {
		plans = append(plans, storetest.NewPlan(fmt.Sprintf("k%d", i), func(p *scheduler.Plan) {
			p.Action, p.Due = "record", first+int64(i/each)
			p.Schedule = scheduler.Schedule{Kind: scheduler.Timeout, Second: 1, Week: scheduler.Any, Count: 1}
		}))
	}
	for _, err := range a.store.Put(t.Context(), plans) {
		if err != nil {
			t.Fatal(err)
		}
	}

	b := onRedis(t, server.Addr, "b", shards)
	t.Logf("even with b after %v", led(t, 8*time.Second, 4, true, a, b))
	c := onRedis(t, server.Addr, "c", shards)
	t.Logf("even with c after %v", led(t, 8*time.Second, 4, true, a, b, c))
	b.proxy.Hole() // short of what makes others take it for dead
	t.Logf("led without b after %v", led(t, 4*time.Second, 4, false, a, c))
	time.Sleep(2 * time.Second)
	b.proxy.Heal()
	t.Logf("even with b again after %v", led(t, 8*time.Second, 4, true, a, b, c))
	if err := c.stop(); err != nil {
		t.Error(err)
	}
	t.Logf("led without c after %v", led(t, 300*time.Millisecond, 4, false, a, b))
	wantDueOnce(t, seconds*each, 5*time.Second, a, b, c)

	replicas, err := a.service.Replicas(t.Context())
	if err != nil || len(replicas) != 2 {
		t.Errorf("Replicas: %+v, %v, want a and b", replicas, err)
	}
	findings, err := a.service.Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range findings {
		if f.Severity == scheduler.SeverityError {
			t.Errorf("doctor: %+v", f)
		}
	}
}

// TestFleetOnRedisTaken: of two replicas under one id the later one stops by
// itself, and one that dies under it leaves it to the next at once.
func TestFleetOnRedisTaken(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	first := onRedis(t, server.Addr, "same", []int{0})
	led(t, 2*time.Second, 1, true, first)
	second := onRedis(t, server.Addr, "same", []int{0})
	eventually(t, "the second is told", func() bool { return second.log.count("must not go on") == 1 })
	if err := second.stop(); !errors.Is(err, scheduler.ErrReplicaTaken) {
		t.Errorf("the second ended with %v, want ErrReplicaTaken", err)
	}
	first.proxy.Hole() // as if it died
	third := onRedis(t, server.Addr, "same", []int{0})
	led(t, 4*time.Second, 1, true, third)
	time.Sleep(4 * time.Second)
	if n := third.log.count("must not go on"); n > 0 {
		t.Errorf("the third is told, though nobody else lives: %s", third.log.lines)
	}
	first.proxy.Heal()
}

// TestFleetOverrulesRedis: the clock of Redis is set, ahead and back; the replicas
// agree, so their clock decides.
func TestFleetOverrulesRedis(t *testing.T) {
	t.Parallel()
	server := redistest.StartWithClock(t)
	a, b := onRedis(t, server.Addr, "a", []int{0, 1}), onRedis(t, server.Addr, "b", []int{0, 1})
	led(t, 8*time.Second, 2, true, a, b)
	fired := 0
	for _, row := range []struct {
		step time.Duration
		off  string // what doctor says of the store's clock
	}{
		{time.Hour, "1h0m0s ahead of the replicas'"},
		{-3 * time.Hour, "2h0m0s behind the replicas'"},
		{2 * time.Hour, ""},
	} {
		server.Step(row.step)
		time.Sleep(5 * time.Second)
		led(t, 10*time.Second, 2, false, a, b)
		for i := range 20 {
			key := fmt.Sprintf("k%d", fired)
			fired++
			if _, err := a.service.Create(t.Context(), scheduler.Request{
				Key: key, Action: "record",
				Schedule: scheduler.Schedule{Kind: scheduler.Timeout, Second: 2 + i%2, Week: scheduler.Any, Count: 1},
			}); err != nil {
				t.Fatal(err)
			}
		}
		wantDueOnce(t, fired, 500*time.Millisecond, a, b)
		findings, err := b.service.Check(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		said := ""
		for _, f := range findings {
			if f.Severity == scheduler.SeverityError {
				said += f.Subject + " " + f.Problem + "\n"
			}
		}
		if row.off == "" && said != "" || !strings.Contains(said, row.off) {
			t.Errorf("a step of %v: doctor says %q, want %q", row.step, said, row.off)
		}
	}
	for _, r := range []*replica{a, b} {
		if n := r.log.count(`"level":"error"`, "the fleet's clock decides"); n < 1 || n > 2 {
			t.Errorf("it was said %d times: %s", n, r.log.lines)
		}
	}
}
