package memstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/snower/forsun/scheduler"
)

// gate is a file system whose fsyncs of the log wait while it is shut.
type gate struct {
	mu   sync.Mutex
	open chan struct{} // closed while it is open
	came chan struct{} // gets a token when an fsync waits

	syncs atomic.Int64
}

func newGate() *gate {
	g := &gate{open: make(chan struct{}), came: make(chan struct{}, 100)}
	close(g.open)
	return g
}

func (g *gate) String() string { return "gate" }

func (g *gate) MaybeError(op errorfs.Op) error {
	if !strings.HasSuffix(op.Path, ".log") || op.Kind != errorfs.OpFileSync && op.Kind != errorfs.OpFileSyncData && op.Kind != errorfs.OpFileSyncTo {
		return nil
	}
	g.syncs.Add(1)
	g.mu.Lock()
	open := g.open
	g.mu.Unlock()
	select {
	case <-open:
	default:
		g.came <- struct{}{}
		<-open
	}
	return nil
}

// shut has fsyncs wait until the returned function is called.
func (g *gate) shut() (lift func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	open := make(chan struct{})
	g.open = open
	return sync.OnceFunc(func() { close(open) })
}

func gated(t *testing.T) (*Store, *gate) {
	g := newGate()
	o := testOptions(t)
	o.Dir, o.FS = "/store", errorfs.Wrap(vfs.NewMem(), g)
	return open(t, o), g
}

// wantWaiting expects that nothing arrives while the gate is shut.
func wantWaiting[T any](t *testing.T, what string, done <-chan T) {
	t.Helper()
	select {
	case <-done:
		t.Fatalf("%s was answered before it was synced", what)
	case <-time.After(30 * time.Millisecond): // to arrive too early; passing it proves nothing, failing does
	}
}

func await[T any](t *testing.T, what string, done <-chan T) T {
	t.Helper()
	select {
	case v := <-done:
		return v
	case <-time.After(20 * time.Second):
		t.Fatalf("%s was not answered", what)
		panic("unreachable")
	}
}

// What comes while an fsync is under way is in groups that wait for the next one: all for
// one, however many there are.
func TestGroupsShareAnFsync(t *testing.T) {
	t.Parallel()
	s, g := gated(t)
	put := func(key string, done chan<- error) {
		done <- s.Put(t.Context(), []*scheduler.Plan{plan(key, 2_000_000_000)})[0]
	}
	done := make(chan error, 1)
	for first := true; first || s.slow(); first = false { // until one was fast: the next ones need not wait for company
		put("first", done)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	lift := g.shut()
	defer lift()
	const n = 3 * maxInFlight / 2
	done = make(chan error, 1+n)
	go put("under way", done)
	await(t, "an fsync", g.came)
	before := g.syncs.Load()
	for i := range n {
		key := fmt.Sprintf("k%d", i)
		go put(key, done)
		eventually(t, key+" to be written", func() bool {
			_, err := s.Get(t.Context(), key)
			return err == nil
		})
	}
	if groups := len(s.groups); groups != maxInFlight-1 { // and one that is waited for
		t.Errorf("%d groups wait for the next fsync, want %d", groups, maxInFlight-1)
	}
	wantWaiting(t, "a plan", done)
	lift()
	for range 1 + n {
		if err := await(t, "a plan", done); err != nil {
			t.Error(err)
		}
	}
	if syncs := g.syncs.Load() - before; syncs > 4 {
		t.Errorf("%d fsyncs for %d plans that waited for one, want a few", syncs, n)
	}
}

// Nothing is acknowledged, and no firing handed out, before it is on disk.
func TestAnswersWaitForDisk(t *testing.T) {
	t.Parallel()
	s, g := gated(t)
	ctx := t.Context()
	sec := time.Now().Unix() - 10
	plans := []*scheduler.Plan{plan("a", sec), plan("b", sec)}
	for _, err := range s.Put(ctx, plans) {
		if err != nil {
			t.Fatal(err)
		}
	}
	lease, err := s.Campaign(ctx, shardID, "r")
	if err != nil {
		t.Fatal(err)
	}
	take := func() []*scheduler.Firing {
		fs, _, err := s.Take(ctx, scheduler.TakeRequest{Worker: "w", Slots: map[string]int{"http": 10}})
		if err != nil {
			t.Fatal(err)
		}
		return fs
	}

	lift := g.shut()
	defer lift()
	claimed := make(chan error, 1)
	go func() {
		_, err := s.Claim(ctx, scheduler.ClaimBatch{Lease: lease, Action: "http", Cutoff: sec, Claims: []scheduler.Claim{
			{Key: "a", Revision: plans[0].Revision, Due: sec, FireDue: sec},
		}})
		claimed <- err
	}()
	await(t, "fsync", g.came)
	wantWaiting(t, "Claim", claimed)
	if fs := take(); len(fs) != 0 {
		t.Errorf("a firing was handed out before its claim was on disk")
	}
	put, removed := make(chan error, 1), make(chan error, 1)
	go func() { put <- s.Put(ctx, []*scheduler.Plan{plan("c", sec)})[0] }()
	go func() {
		_, err := s.Remove(ctx, "b")
		removed <- err
	}()
	wantWaiting(t, "Put", put)
	wantWaiting(t, "Remove", removed)
	lift()
	for _, c := range []<-chan error{claimed, put, removed} {
		if err := await(t, "change", c); err != nil {
			t.Error(err)
		}
	}
	fs := take()
	if len(fs) != 1 || fs[0].Plan.Key != "a" {
		t.Fatalf("took %v, want the firing of a", fs)
	}

	// A finish is answered while the disk is busy.
	lift = g.shut()
	defer lift()
	go func() { put <- s.Put(ctx, []*scheduler.Plan{plan("d", sec)})[0] }()
	await(t, "fsync", g.came)
	done := make(chan error, 1)
	go func() {
		_, err := s.Finish(ctx, shardID, "w", []scheduler.Finish{{Firing: fs[0], Verdict: scheduler.Done}})
		done <- err
	}()
	if err := await(t, "Finish", done); err != nil {
		t.Error(err)
	}
	lift()
	if err := await(t, "Put", put); err != nil {
		t.Error(err)
	}
}

// A disk that hangs holds up nobody past the deadline, and what may still
// happen is said to be unsure.
func TestDeadlineWhileDiskHangs(t *testing.T) {
	t.Parallel()
	s, g := gated(t)
	lift := g.shut()
	defer lift()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	begun := time.Now()
	err := s.Put(ctx, []*scheduler.Plan{plan("a", 2_000_000_000)})[0]
	if !errors.Is(err, scheduler.ErrUnsure) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Put: %v, want ErrUnsure for the deadline", err)
	}
	if _, err := s.Remove(ctx, "a"); err == nil {
		t.Error("Remove with a context that is over succeeded")
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
	lift()
	// What was unsure came true.
	if _, err := s.Get(t.Context(), "a"); err != nil {
		t.Error(err)
	}
}

// What was given up before it began does not happen later.
func TestGivenUpNeverHappens(t *testing.T) {
	t.Parallel()
	s := open(t, testOptions(t))
	// The writer is kept busy by a request that waits.
	hold, busy := make(chan struct{}), make(chan struct{})
	go func() {
		_, _ = s.submit(&request{ctx: context.Background(), run: func(*txn) error {
			close(busy)
			<-hold
			return nil
		}})
	}()
	<-busy
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	err := s.Put(ctx, []*scheduler.Plan{plan("a", 2_000_000_000)})[0]
	close(hold)
	if !errors.Is(err, scheduler.ErrStore) || errors.Is(err, scheduler.ErrUnsure) {
		t.Errorf("Put: %v, want ErrStore and to be sure", err)
	}
	settle(t, s)
	if _, err := s.Get(t.Context(), "a"); !errors.Is(err, scheduler.ErrNotFound) {
		t.Errorf("Get: %v, want ErrNotFound", err)
	}
}

// With Sync 1s and never nothing waits for the disk; with 1s it gets there
// within about a second, and both do at Close.
func TestSyncModes(t *testing.T) {
	t.Parallel()
	for _, mode := range []Sync{SyncSecond, SyncNever} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			fs := vfs.NewCrashableMem()
			o := testOptions(t)
			o.Dir, o.FS, o.Sync = "/store", fs, mode
			s := open(t, o)
			for i := range 10 {
				if err := s.Put(t.Context(), []*scheduler.Plan{plan(fmt.Sprintf("k%d", i), 2_000_000_000)})[0]; err != nil {
					t.Fatal(err)
				}
			}
			there := func(fs vfs.FS) int64 {
				o := o
				o.FS = fs
				s := open(t, o)
				n := s.snapshot().plans
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				return n
			}
			// Requests that go on coming do not put it off.
			more, idle := context.WithCancel(t.Context())
			defer idle()
			var busy sync.WaitGroup
			busy.Go(func() {
				for more.Err() == nil {
					_, _ = s.Finish(more, shardID, "w", nil)
					_, _ = s.Remove(more, "nothing")
				}
			})
			deadline := time.Now().Add(20 * time.Second)
			for mode == SyncSecond && there(fs.CrashClone(vfs.CrashCloneCfg{})) != 10 {
				if time.Now().After(deadline) {
					t.Fatal("not on disk after 20 s")
				}
				time.Sleep(50 * time.Millisecond)
			}
			idle()
			busy.Wait()
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if n := there(fs.CrashClone(vfs.CrashCloneCfg{})); n != 10 {
				t.Errorf("%d plans after a stop, want 10", n)
			}
		})
	}
}
