package client_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"github.com/snower/forsun/actions"
	"github.com/snower/forsun/rpc"
	"github.com/snower/forsun/rpc/client"
	"github.com/snower/forsun/rpc/wire"
	"github.com/snower/forsun/scheduler"
	"github.com/snower/forsun/scheduler/memstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type actionSet map[string]scheduler.Action

func (s actionSet) Get(name string) (scheduler.Action, bool) { a, ok := s[name]; return a, ok }
func (s actionSet) Names() []string                          { return []string{"noop"} }

// server is a Thrift server that can be stopped and started again on its port.
type server struct {
	t     *testing.T
	store scheduler.Store
	svc   *scheduler.Service
	addr  string
	opts  rpc.Options
	stop  func()
}

func startServer(t *testing.T) *server {
	t.Helper()
	opts := memstore.DefaultOptions()
	opts.Dir = ":memory:"
	store, err := memstore.Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	zoned := scheduler.DefaultServiceOptions()
	if zoned.Zone, err = time.LoadLocation("Asia/Shanghai"); err != nil {
		t.Fatal(err)
	}
	s := &server{
		t: t, addr: "127.0.0.1:0", store: store, opts: rpc.DefaultOptions(),
		svc: scheduler.NewService(store, actionSet{"noop": actions.Noop{}}, scheduler.SystemClock{}, new(scheduler.Counters), zoned),
	}
	s.start()
	t.Cleanup(func() {
		s.stop()
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *server) start() {
	s.t.Helper()
	ln, err := net.Listen("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.addr = ln.Addr().String()
	srv := rpc.NewServer(s.svc, s.opts)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := srv.Serve(ln); err != nil {
			s.t.Error(err)
		}
	})
	s.stop = sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := srv.Shutdown(ctx); err != nil {
			s.t.Error(err)
		}
		wg.Wait()
	})
}

func newClient(t *testing.T, addr string) *client.Client {
	c := client.New(client.DefaultOptions(addr))
	t.Cleanup(func() { c.Close() })
	return c
}

func timeout(key string, second, count int) scheduler.Request {
	return scheduler.Request{
		Key: key, Action: "noop", Params: map[string]string{"k": "v"},
		Schedule: scheduler.Schedule{Kind: scheduler.Timeout, Second: second, Minute: -1, Hour: -1, Day: -1, Month: -1, Week: -1, Count: count},
	}
}

func TestCalls(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := newClient(t, s.addr)
	ctx := t.Context()
	if err := c.Ping(ctx); err != nil {
		t.Fatal(err)
	}

	created, err := c.Create(ctx, timeout("wide", 100_000, 70_000))
	if err != nil {
		t.Fatal(err)
	}
	want := &scheduler.Plan{
		Key: "wide", Action: "noop", Params: map[string]string{"k": "v"},
		Schedule: timeout("wide", 100_000, 70_000).Schedule, Created: created.Created, Due: created.Due,
	}
	if diff := cmp.Diff(want, created); diff != "" {
		t.Errorf("Create (-want +got):\n%s", diff)
	}
	if late := time.Until(time.Unix(created.Due, 0)) - 100_000*time.Second; late > 0 || late < -5*time.Second {
		t.Errorf("due %s off", late)
	}
	got, err := c.Get(ctx, "wide")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateApproxTime(time.Microsecond)); diff != "" {
		t.Errorf("Get (-want +got):\n%s", diff)
	}
	if dues, err := c.Preview(ctx, "wide", 3); err != nil || len(dues) != 3 || dues[1] != created.Due+100_000 {
		t.Errorf("Preview: got %v, %v", dues, err)
	}
	if page, err := c.DueAt(ctx, created.Due, "", 10); err != nil || len(page.Items) != 1 {
		t.Errorf("DueAt: got %v, %v", page, err)
	}
	if removed, err := c.Remove(ctx, "wide"); err != nil || removed.Schedule.Interval() != 100_000 {
		t.Errorf("Remove: got %v, %v", removed, err)
	}
	if _, err := c.Remove(ctx, "wide"); !client.IsNotFound(err) || !strings.Contains(err.Error(), "no such plan") {
		t.Errorf("second Remove: got %v, want 1003 in words", err)
	}
	_, err = c.Create(ctx, scheduler.Request{Key: "x", Action: "noop", Schedule: scheduler.Schedule{Second: 99}})
	var refused *client.Error
	if !errors.As(err, &refused) || refused.Code != wire.BadField || !strings.HasPrefix(refused.Message, "second: 99") {
		t.Errorf("Create with second 99: got %v, want 1008 about it", err)
	}
	for range c.Attempts(ctx, "") {
		t.Error("there is history")
	}
	for range c.Dead(ctx, "") {
		t.Error("there are dead letters")
	}
	if n, err := c.Redrive(ctx, scheduler.DeadSelection{All: true}); n != 0 || err != nil {
		t.Errorf("Redrive: got %d, %v", n, err)
	}
	if n, err := c.Purge(ctx, scheduler.DeadSelection{IDs: []string{"a"}, Key: "b"}); err == nil {
		t.Errorf("Purge of two selections: got %d, want 1008", n)
	}
	if states, err := c.Shards(ctx); err != nil || len(states) != 1 {
		t.Errorf("Shards: got %v, %v", states, err)
	}
	if replicas, err := c.Replicas(ctx); err != nil || len(replicas) != 0 {
		t.Errorf("Replicas: got %v, %v", replicas, err)
	}
	if findings, err := c.Check(ctx); err != nil || len(findings) < 1 || findings[0].Severity != scheduler.SeverityError || findings[0].Subject != "shard 0" {
		t.Errorf("Check: got %v, %v, want that nobody leads", findings, err)
	}
	if info, err := c.Info(ctx); err != nil || len(info) != 36 {
		t.Errorf("Info: got %d names, %v", len(info), err)
	}
	now, err := c.Time(ctx)
	if err != nil || now.Location().String() != "Asia/Shanghai" || time.Since(now).Abs() > 5*time.Second {
		t.Errorf("Time: got %v, %v", now, err)
	}
}

func TestCreateMany(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := newClient(t, s.addr)
	var requests []scheduler.Request
	for i := range 2500 {
		requests = append(requests, timeout(fmt.Sprintf("k%04d", i), 60, 1))
	}
	big := timeout("large", 60, 1)
	big.Params = map[string]string{"body": strings.Repeat("x", 200_000)}
	for i := range 20 { // 4 MB: more than one message may have
		big.Key = fmt.Sprintf("large%d", i)
		requests = append(requests, big)
	}
	results, err := c.CreateMany(t.Context(), requests)
	if err != nil || len(results) != len(requests) {
		t.Fatalf("got %d results, %v; want %d", len(results), err, len(requests))
	}
	for i, r := range results {
		if r.Err != nil || r.Plan.Key != requests[i].Key {
			t.Fatalf("result %d: got %+v", i, r)
		}
	}
	count := 0
	for p, err := range c.Plans(t.Context(), "k") {
		if err != nil {
			t.Fatal(err)
		}
		if want := requests[count].Key; p.Key != want {
			t.Fatalf("plan %d: got %s, want %s", count, p.Key, want)
		}
		count++
	}
	if count != 2500 {
		t.Errorf("Plans: got %d, want 2500", count)
	}
	count = 0
	for range c.Plans(t.Context(), "large") {
		count++
	}
	if count != 20 {
		t.Errorf("Plans of large: got %d, want 20", count)
	}

	requests = append(requests[:1500:1500], scheduler.Request{Key: "bad", Action: "nope"})
	results, err = c.CreateMany(t.Context(), requests)
	if len(results) != 1000 || err == nil || !strings.Contains(err.Error(), "plan 501 (key bad)") {
		t.Errorf("with a bad plan in the second call: got %d results, %v", len(results), err)
	}
}

// TestReconnects checks that a server that went and came back is found again.
func TestReconnects(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := newClient(t, s.addr)
	if _, err := c.Create(t.Context(), timeout("k", 60, 1)); err != nil {
		t.Fatal(err)
	}
	s.stop()
	_, err := c.Get(t.Context(), "k")
	var down *client.ConnError
	if !errors.As(err, &down) || down.Unsure || !strings.Contains(err.Error(), s.addr) {
		t.Errorf("with the server gone: got %v, want a ConnError with its address", err)
	}
	s.start()
	if _, err := c.Create(t.Context(), timeout("k", 60, 1)); err != nil {
		t.Errorf("with the server back: %v", err)
	}
	s.stop()
	s.start()
	if _, err := c.Create(t.Context(), timeout("k", 60, 1)); err != nil {
		t.Errorf("after a restart between two calls: %v", err)
	}
}

// TestSilentServer checks that a call ends with its context, and what is then
// said of a change.
func TestSilentServer(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close() // it accepts by its backlog and never answers
	c := newClient(t, ln.Addr().String())

	for _, row := range []struct {
		name   string
		call   func(context.Context) error
		unsure bool
	}{
		{"read", func(ctx context.Context) error { _, err := c.Get(ctx, "k"); return err }, false},
		{"change", func(ctx context.Context) error { _, err := c.Remove(ctx, "k"); return err }, true},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		start := time.Now()
		err := row.call(ctx)
		cancel()
		var conn *client.ConnError
		if !errors.As(err, &conn) || conn.Unsure != row.unsure || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: got %v, want a ConnError of the deadline, unsure %t", row.name, err, row.unsure)
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("%s: took %s", row.name, took)
		}
	}

	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if err := c.Ping(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
	c.Close()
	if err := c.Ping(t.Context()); err == nil {
		t.Error("Ping after Close succeeded")
	}
}

func TestConcurrentCalls(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := newClient(t, s.addr)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 50 {
				key := fmt.Sprintf("k%d/%d", i, j)
				if p, err := c.Create(t.Context(), timeout(key, 60, 1)); err != nil || p.Key != key {
					t.Errorf("Create %s: got %v, %v", key, p, err)
				}
			}
		})
	}
	wg.Wait()
}

// TestJournal lets a firing fail for good and finds it in the history and among
// the dead letters, its secrets masked; then redrives and purges it.
func TestJournal(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := newClient(t, s.addr)
	ctx := t.Context()
	r := timeout("k", 0, 1)
	r.Params["passwd"] = "hush"
	plan, err := s.svc.Create(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	lease, err := s.store.Campaign(ctx, 0, "r1")
	if err != nil {
		t.Fatal(err)
	}
	reply, err := s.store.Claim(ctx, scheduler.ClaimBatch{
		Lease: lease, Action: "noop", Cutoff: plan.Due,
		Claims: []scheduler.Claim{{Key: plan.Key, Revision: plan.Revision, Due: plan.Due, FireDue: plan.Due}},
	})
	if err != nil || reply.Answers[0].Result != scheduler.ClaimedOK {
		t.Fatalf("Claim: got %+v, %v", reply, err)
	}
	taken, _, err := s.store.Take(ctx, scheduler.TakeRequest{Worker: "r1", Slots: map[string]int{"noop": 1}})
	if err != nil || len(taken) != 1 {
		t.Fatalf("Take: got %v, %v", taken, err)
	}
	f := taken[0]
	if _, err := s.store.Finish(ctx, 0, "r1", []scheduler.Finish{{Firing: f, Verdict: scheduler.Bury, Attempt: &scheduler.Attempt{
		Firing: f.ID(), Key: "k", Action: "noop", Due: f.Due, Attempt: 1, Started: time.Now(), Outcome: scheduler.Dead, Error: "refused", Output: "a\xff", Replica: "r1",
	}}}); err != nil {
		t.Fatal(err)
	}

	attempts := 0
	for a, err := range c.Attempts(ctx, "k") {
		if err != nil || a.Firing != f.ID() || a.Outcome != scheduler.Dead || a.Error != "refused" || a.Output != "a\ufffd" {
			t.Errorf("history: got %+v, %v", a, err)
		}
		attempts++
	}
	var dead []wire.Dead
	for d, err := range c.Dead(ctx, "") {
		if err != nil {
			t.Fatal(err)
		}
		dead = append(dead, d)
	}
	if attempts != 1 || len(dead) != 1 {
		t.Fatalf("got %d attempts and %d dead letters, want 1 of each", attempts, len(dead))
	}
	if d := dead[0]; d.Firing != f.ID() || d.Due != plan.Due || d.Plan.Params["passwd"] == "hush" || d.Plan.Params["k"] != "v" {
		t.Errorf("dead letter: got %+v of plan %+v", d, d.Plan)
	}
	if n, err := c.Redrive(ctx, scheduler.DeadSelection{IDs: []string{dead[0].ID}}); n != 1 || err != nil {
		t.Errorf("Redrive: got %d, %v; want 1", n, err)
	}
	if n, err := c.Purge(ctx, scheduler.DeadSelection{Key: "k"}); n != 0 || err != nil {
		t.Errorf("Purge of what was redriven: got %d, %v; want 0", n, err)
	}
}
