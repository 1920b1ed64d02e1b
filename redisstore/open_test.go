package redisstore

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/redis/rueidis"

	"github.com/snower/forsun/redisstore/redistest"
	"github.com/snower/forsun/scheduler"
	"github.com/snower/forsun/scheduler/storetest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// The library's goroutines that sleep for some seconds before they look at, or
		// close, nodes of a Cluster, also after Close.
		goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*call).DelayDo.func1"),
		goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*clusterClient)._refresh.func2"),
		goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*clusterClient).redirectOrNew.func1"),
	)
}

// logged collects what a store logs.
type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logged) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.buf.String(), text)
}

// optionsFor are options for a server, with a prefix of the test's own.
func optionsFor(t *testing.T, addr string) Options {
	o := DefaultOptions()
	o.Addresses = []string{addr}
	o.Prefix = "t:" + strings.ReplaceAll(strings.ToLower(t.Name()), "/", ":")
	if len(o.Prefix) > maxPrefix {
		o.Prefix = o.Prefix[:maxPrefix]
	}
	o.Log = zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.InfoLevel)
	return o
}

func openStore(t *testing.T, o Options) *Store {
	t.Helper()
	s, err := Open(testContext(t), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// eventually waits until a condition holds.
func eventually(t *testing.T, within time.Duration, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(within); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", within, what)
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	if err := DefaultOptions().Validate(); err != nil {
		t.Errorf("default options: %v", err)
	}
	for _, row := range []struct {
		field  string
		change func(*Options)
	}{
		{"Addresses", func(o *Options) { o.Addresses = nil }},
		{"Addresses", func(o *Options) { o.Addresses = []string{"127.0.0.1"} }},
		{"Addresses", func(o *Options) { o.Addresses = []string{"a:1", "b:1"} }}, // of one server
		{"DB", func(o *Options) { o.DB = -1 }},
		{"DB", func(o *Options) { o.Cluster, o.DB = true, 1 }},
		{"Sentinel.Master", func(o *Options) { o.Cluster, o.Sentinel.Master = true, "m" }},
		{"Sentinel.Master", func(o *Options) { o.Sentinel.Password = "x" }},
		{"Prefix", func(o *Options) { o.Prefix = "" }},
		{"Prefix", func(o *Options) { o.Prefix = "a{b}" }},
		{"Prefix", func(o *Options) { o.Prefix = "a b" }},
		{"Prefix", func(o *Options) { o.Prefix = "a\x00" }},
		{"Shards", func(o *Options) { o.Shards = nil }},
		{"Shards", func(o *Options) { o.Shards = []int{1, 0} }},
		{"Shards", func(o *Options) { o.Shards = []int{1, 1} }},
		{"Shards", func(o *Options) { o.Shards = []int{-1} }},
		{"Timezone", func(o *Options) { o.Timezone = "" }},
		{"Actions", func(o *Options) { o.Actions = []string{"a,b"} }},
		{"DialTimeout", func(o *Options) { o.DialTimeout = 0 }},
		{"DurabilityTimeout", func(o *Options) { o.DurabilityTimeout = 0 }},
		{"LeaseTTL", func(o *Options) { o.LeaseTTL = 10 * time.Millisecond }},
		{"HistoryCount", func(o *Options) { o.HistoryCount = -1 }},
		{"HistoryBytes", func(o *Options) { o.HistoryBytes = 0 }},
		{"HistoryAge", func(o *Options) { o.HistoryAge = -1 }},
		{"DeadCount", func(o *Options) { o.DeadCount = 0 }},
		{"Replica", func(o *Options) { o.Replica = "a:b" }},
		{"Replica", func(o *Options) { o.Replica = "ä" }},
	} {
		o := DefaultOptions()
		row.change(&o)
		err := o.Validate()
		var field *scheduler.FieldError
		if !errors.As(err, &field) || field.Field != row.field || !errors.Is(err, scheduler.ErrField) {
			t.Errorf("%s: got %v, want a FieldError of it", row.field, err)
		}
	}
	o := DefaultOptions()
	o.DB, o.Prefix, o.DeadCount = -1, "", 0
	if err := o.Validate(); strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("three bad fields: got %v", err)
	}
}

func TestOpenWaitsForRedisAndSaysSoOnce(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	server.Stop()
	var log logged
	o := optionsFor(t, server.Addr)
	o.Log = zerolog.New(&log)
	opened := make(chan *Store)
	go func() {
		s, err := Open(testContext(t), o)
		if err != nil {
			t.Errorf("Open: %v", err)
		}
		opened <- s
	}()
	eventually(t, 5*time.Second, "it is said that Redis does not answer", func() bool { return log.count("waiting for it") > 0 })
	time.Sleep(3 * connectEvery)
	if n := log.count("waiting for it"); n != 1 {
		t.Errorf("it was said %d times in 2 s, want once", n)
	}
	server.Restart()
	select {
	case s := <-opened:
		if _, err := s.Now(testContext(t)); err != nil {
			t.Errorf("Now: %v", err)
		}
		s.Close()
	case <-time.After(10 * time.Second):
		t.Fatal("it was not opened after Redis had come up")
	}
}

func TestOpenEndsWithItsContext(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	server.Stop()
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	if _, err := Open(ctx, optionsFor(t, server.Addr)); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("Open: %v, want the deadline and why Redis was not reached", err)
	}
}

func TestOpenFailsAtOnceWhenWaitingIsNoUse(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "requirepass secret")
	for _, row := range []struct {
		name   string
		change func(*Options)
	}{
		{"no password", func(o *Options) { o.Password = "" }},
		{"wrong password", func(o *Options) { o.Password = "wrong" }},
		{"no such database", func(o *Options) { o.DB = 1000 }},
		{"not a cluster", func(o *Options) { o.Cluster = true }},
	} {
		o := optionsFor(t, server.Addr)
		o.Password = "secret"
		row.change(&o)
		start := time.Now()
		_, err := Open(testContext(t), o)
		if err == nil || time.Since(start) > 5*time.Second || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v after %v, want an error at once", row.name, err, time.Since(start))
		}
	}
	o := optionsFor(t, server.Addr)
	o.Password, o.DB = "secret", 3
	s := openStore(t, o)
	if _, err := s.Now(testContext(t)); err != nil {
		t.Errorf("Now: %v", err)
	}
}

func TestCallsAfterClose(t *testing.T) {
	t.Parallel()
	s := openStore(t, optionsFor(t, redistest.Start(t).Addr))
	leave, err := s.enter()
	if err != nil {
		t.Fatal(err)
	}
	closed := make(chan struct{})
	go func() { s.Close(); close(closed) }()
	eventually(t, 5*time.Second, "new calls are refused", func() bool {
		leave, err := s.enter()
		if err == nil {
			leave()
		}
		return errors.Is(err, scheduler.ErrClosed)
	})
	select {
	case <-closed:
		t.Error("Close did not wait for the call under way")
	case <-time.After(50 * time.Millisecond):
	}
	leave()
	<-closed
	if _, err := s.Now(testContext(t)); !errors.Is(err, scheduler.ErrClosed) {
		t.Errorf("Now after Close: %v, want ErrClosed", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("a second Close: %v", err)
	}
}

func TestReconnects(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := openStore(t, optionsFor(t, server.Addr))
	server.Kill()
	var err error
	eventually(t, 5*time.Second, "the connections are gone", func() bool {
		_, err = s.Now(testContext(t))
		return s.surelyNotSent(err)
	})
	if !errors.Is(err, scheduler.ErrStore) {
		t.Errorf("Now without Redis: %v, want ErrStore", err)
	}
	server.Restart()
	eventually(t, 5*time.Second, "it answers again", func() bool { _, err := s.Now(testContext(t)); return err == nil })
}

// A connection that is silently dead is noticed, and calls end with their context
// meanwhile.
func TestAServerThatHangsIsNoticed(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := openStore(t, optionsFor(t, server.Addr))
	if err := syscall.Kill(server.PID(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer syscall.Kill(server.PID(), syscall.SIGCONT)
	short, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, err := s.Now(short); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > time.Second {
		t.Errorf("Now: %v after %v, want the context's error after 100ms", err, time.Since(start))
	}
	start = time.Now()
	if _, err := s.Now(testContext(t)); !errors.Is(err, scheduler.ErrStore) || time.Since(start) > 8*time.Second {
		t.Errorf("Now: %v after %v, want ErrStore within 8s", err, time.Since(start))
	}
}

// lateTimer is a context whose deadline has come, and that does not know yet.
type lateTimer struct{ context.Context }

func (lateTimer) Deadline() (time.Time, bool) { return time.Now(), true }

func TestADeadlineIsTheCallsOwn(t *testing.T) {
	t.Parallel()
	timedOut := rueidis.NewErrorResult(context.DeadlineExceeded)
	if err := ownContext(lateTimer{context.Background()}, timedOut).Error(); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("at its deadline: %v, want that it is over", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	if err := ownContext(ctx, timedOut).Error(); !errors.Is(err, errDial) {
		t.Errorf("an hour before its deadline: %v, want %v", err, errDial)
	}
}

func TestErrorsOfRedisAreTheContracts(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "maxmemory 1")
	s := openStore(t, optionsFor(t, server.Addr))
	ctx := testContext(t)
	err := s.client.Do(ctx, s.client.B().Set().Key("k").Value("v").Build()).Error()
	if got := storeError("put", err); !errors.Is(got, scheduler.ErrFull) || !strings.HasPrefix(got.Error(), "put: ") {
		t.Errorf("out of memory: %v, want ErrFull", got)
	}
	err = s.client.Do(ctx, s.client.B().Arbitrary("NOSUCH").Build()).Error()
	if got := storeError("put", err); !errors.Is(got, scheduler.ErrStore) || errors.Is(got, scheduler.ErrFull) {
		t.Errorf("another error: %v, want ErrStore", got)
	}
	for _, err := range []error{scheduler.ErrFenced, scheduler.ErrClosed, context.Canceled, context.DeadlineExceeded} {
		if got := storeError("put", err); !errors.Is(got, err) || errors.Is(got, scheduler.ErrStore) {
			t.Errorf("%v became %v", err, got)
		}
	}
	if storeError("put", nil) != nil {
		t.Error("nil became an error")
	}
}

func TestSlotRanges(t *testing.T) {
	t.Parallel()
	var unknown *topology
	topo := &topology{ranges: []slotRange{{0, 99, "a"}, {100, 100, "b"}, {200, 16383, "a"}}}
	for slot, want := range map[int64]string{0: "a", 99: "a", 100: "b", 101: "", 199: "", 200: "a", 16383: "a"} {
		if got := topo.address(slot); got != want {
			t.Errorf("slot %d: %q, want %q", slot, got, want)
		}
		if got := unknown.address(slot); got != "" {
			t.Errorf("slot %d of an unknown topology: %q", slot, got)
		}
	}
	if got := topo.masters(); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("masters: %v", got)
	}
}

func TestWaitForAReplica(t *testing.T) {
	t.Parallel()
	master := redistest.Start(t)
	o := optionsFor(t, master.Addr)
	o.ReplicaDurability, o.DurabilityTimeout = true, 200*time.Millisecond
	s := openStore(t, o)
	ctx := testContext(t)
	beat := invocation{script: loadScript("beat"), keys: []string{s.shards[0].workers, s.shards[0].index}, args: []string{"w"}}
	if r, confirmed, err := s.runDurable(ctx, beat); err != nil || r.status != 0 || confirmed {
		t.Errorf("without a replica: %v, %v, %v, want done and not confirmed", r, confirmed, err)
	}
	replica := redistest.Start(t, "replicaof 127.0.0.1 "+strings.TrimPrefix(master.Addr, "127.0.0.1:"))
	eventually(t, 10*time.Second, "a replica confirms", func() bool {
		_, confirmed, err := s.runDurable(ctx, beat)
		return err == nil && confirmed
	})
	if err := s.client.Do(ctx, s.client.B().ScriptFlush().Build()).Error(); err != nil {
		t.Fatal(err)
	}
	if _, confirmed, err := s.runDurable(ctx, beat); err != nil || !confirmed {
		t.Errorf("after SCRIPT FLUSH: %v, %v, want confirmed", confirmed, err)
	}
	if err := syscall.Kill(replica.PID(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer syscall.Kill(replica.PID(), syscall.SIGCONT)
	start := time.Now()
	if _, confirmed, err := s.runDurable(ctx, beat); err != nil || confirmed || time.Since(start) > 2*time.Second {
		t.Errorf("with a replica that hangs: %v, %v after %v, want done and not confirmed", confirmed, err, time.Since(start))
	}
	if err := s.Put(ctx, []*scheduler.Plan{storetest.NewPlan("k")})[0]; !errors.Is(err, scheduler.ErrUnsure) {
		t.Errorf("Put: %v, want ErrUnsure", err)
	}
	for _, why := range []string{"done and not confirmed", "gone, and that is not confirmed either"} {
		if _, err := s.Remove(ctx, "k"); !errors.Is(err, scheduler.ErrUnsure) {
			t.Errorf("Remove: %v; want ErrUnsure: %s", err, why)
		}
	}
}

func TestTheClockOfRedis(t *testing.T) {
	t.Parallel()
	s := openStore(t, optionsFor(t, redistest.Start(t).Addr))
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	ms, err := s.redisDeadlineAt(ctx, 0)
	deadline, _ := ctx.Deadline()
	if early := deadline.Sub(time.UnixMilli(ms)); err != nil || early < 0 || early > 200*time.Millisecond {
		t.Errorf("deadline in Redis' time is %v before the context's, %v, want a little", early, err)
	}
	if ms, err := s.redisDeadlineAt(context.Background(), 0); ms != 0 || err != nil {
		t.Errorf("a context without deadline has one in Redis' time: %d, %v", ms, err)
	}
}

func TestAClockThatWasSet(t *testing.T) {
	t.Parallel()
	base := time.Now()
	at := func(ms int) time.Time { return base.Add(time.Duration(ms) * time.Millisecond) }
	read := func(before, after, theirs int) reading { return reading{at(before), at(after), at(theirs)} }
	var c nodeClock
	c.add(read(0, 10, 1005))
	c.add(read(20, 22, 1021))     // bounds it more closely
	c.add(read(1000, 1030, 2010)) // less closely
	if c.best.after != at(22) {
		t.Errorf("the best reading is the one of %v", c.best.after.Sub(base))
	}
	if earliest, latest := c.best.at(at(1022)); earliest.Before(at(2020)) || earliest.After(at(2021)) || latest.Before(at(2023)) || latest.After(at(2024)) {
		t.Errorf("bounds after 1 s: %v to %v", earliest.Sub(base), latest.Sub(base))
	}
	c.add(read(2000, 2030, 500)) // set back
	if c.best.after != at(2030) {
		t.Error("what is known did not follow a clock that was set back")
	}
	c.add(read(70000, 70040, 68540)) // worse, but the other is old
	if c.best.after != at(70040) {
		t.Error("an old reading was kept")
	}
}

func TestClaimsAtOnce(t *testing.T) {
	t.Parallel()
	o := optionsFor(t, redistest.Start(t).Addr)
	o.Shards = []int{0, 1}
	s := openStore(t, o)
	var leave func()
	for shard := range claimsAtOnce {
		var err error
		if leave, err = s.claimGate(testContext(t), shard); err != nil {
			t.Fatal(err)
		}
	}
	short, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := s.claimGate(short, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a claim more of one server: %v, want it to wait", err)
	}
	leave()
	if _, err := s.claimGate(testContext(t), 1); err != nil {
		t.Fatal(err)
	}
}
