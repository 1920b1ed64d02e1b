package actions

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/snower/forsun/scheduler"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// dialled is a connection of the pool's own tests: the pool is what runs, and it
// knows of connections only that they open and close.
type dialled struct {
	id     int64
	users  atomic.Int32
	dead   atomic.Bool
	closed atomic.Bool
}

func (d *dialled) Close() error {
	if d.closed.Swap(true) {
		return errors.New("closed twice")
	}
	return nil
}

// dialler counts what it opened.
type dialler struct {
	opened atomic.Int64
	fail   atomic.Bool
	mu     sync.Mutex
	all    []*dialled
}

func (d *dialler) open(ctx context.Context, target string) (*dialled, error) {
	if d.fail.Load() {
		return nil, fmt.Errorf("dial %s: refused", target)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c := &dialled{id: d.opened.Add(1)}
	d.mu.Lock()
	d.all = append(d.all, c)
	d.mu.Unlock()
	return c, nil
}

func (d *dialler) openNow() (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.all {
		if !c.closed.Load() {
			n++
		}
	}
	return n
}

func testPool(t *testing.T, d *dialler, change func(*poolOptions[string, *dialled])) *pool[string, *dialled] {
	t.Helper()
	opts := poolOptions[string, *dialled]{
		Open:    d.open,
		Alive:   func(c *dialled) bool { return !c.dead.Load() },
		Idle:    time.Minute,
		MaxIdle: 100,
	}
	if change != nil {
		change(&opts)
	}
	p := newPool(opts)
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if n := d.openNow(); n != 0 {
			t.Errorf("%d connections are open after Close, want 0", n)
		}
	})
	return p
}

func get(t *testing.T, p *pool[string, *dialled], target string, limit int) *lease[string, *dialled] {
	t.Helper()
	l, err := p.Get(t.Context(), target, limit)
	if err != nil {
		t.Fatalf("Get(%s): %v", target, err)
	}
	return l
}

// waitFor polls until ok or fails the test.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited 10 s for: %s", what)
		}
	}
}

func (p *pool[K, C]) waiting(target K) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t := p.targets[target]; t != nil {
		return len(t.waiters)
	}
	return 0
}

func TestPoolReuses(t *testing.T) {
	var d dialler
	p := testPool(t, &d, nil)
	a := get(t, p, "x", 2)
	b := get(t, p, "x", 2)
	other := get(t, p, "y", 2)
	if a.Conn == b.Conn || a.Reused || b.Reused || d.opened.Load() != 3 {
		t.Errorf("three in use at once: opened %d, reused %v %v; want 3, false, false", d.opened.Load(), a.Reused, b.Reused)
	}
	a.Release()
	b.Release()
	other.Release()
	again := get(t, p, "x", 2)
	if again.Conn != b.Conn || !again.Reused {
		t.Errorf("got connection %d, reused %v; want the one used last, %d, reused", again.Conn.id, again.Reused, b.Conn.id)
	}
	again.Discard()
	if !again.Conn.closed.Load() {
		t.Error("a discarded connection was not closed")
	}
	if next := get(t, p, "x", 2); next.Conn != a.Conn {
		t.Errorf("after a discard got %d, want the other one, %d", next.Conn.id, a.Conn.id)
	} else {
		next.Conn.dead.Store(true)
		next.Release()
	}
	fresh := get(t, p, "x", 2)
	if fresh.Reused || !a.Conn.closed.Load() {
		t.Errorf("a connection that died while idle: reused %v, closed %v; want false, true", fresh.Reused, a.Conn.closed.Load())
	}
	fresh.Release()
}

func TestPoolLimitAndLine(t *testing.T) {
	var d dialler
	p := testPool(t, &d, nil)
	first := get(t, p, "x", 1)

	ctx, cancel := context.WithCancel(t.Context())
	gaveUp := make(chan error, 1)
	go func() {
		_, err := p.Get(ctx, "x", 9) // 9 comes too late: the target's limit is 1
		gaveUp <- err
	}()
	waitFor(t, "the first to wait", func() bool { return p.waiting("x") == 1 })
	served := make(chan *dialled, 1)
	go func() {
		l, err := p.Get(context.Background(), "x", 1)
		if err != nil {
			t.Errorf("Get in line: %v", err)
			served <- nil
			return
		}
		l.Release()
		served <- l.Conn
	}()
	waitFor(t, "the second to wait", func() bool { return p.waiting("x") == 2 })

	cancel()
	if err := <-gaveUp; !errors.Is(err, context.Canceled) {
		t.Errorf("Get with a cancelled context: %v, want context.Canceled", err)
	}
	first.Release()
	if c := <-served; c != first.Conn {
		t.Errorf("who waited got %v, want the connection that was released", c)
	}
	if d.opened.Load() != 1 {
		t.Errorf("opened %d connections, want 1", d.opened.Load())
	}
}

func TestPoolWait(t *testing.T) {
	var d dialler
	p := testPool(t, &d, func(o *poolOptions[string, *dialled]) { o.Wait = 20 * time.Millisecond })
	first := get(t, p, "x", 1)
	_, err := p.Get(t.Context(), "x", 1)
	if !errors.Is(err, os.ErrDeadlineExceeded) || !transportError(err) || err.Error() != "all 1 connections are in use: waited 20ms for one: i/o timeout" {
		t.Errorf("Get with nothing free: %v, want a timeout that is worth a retry", err)
	}
	first.Release()
	get(t, p, "x", 1).Release()
}

func TestPoolDiscardLetsWaiterDial(t *testing.T) {
	var d dialler
	p := testPool(t, &d, nil)
	first := get(t, p, "x", 1)
	served := make(chan int64, 1)
	go func() {
		l, err := p.Get(context.Background(), "x", 1)
		if err != nil {
			t.Errorf("Get: %v", err)
			served <- 0
			return
		}
		l.Release()
		served <- l.Conn.id
	}()
	waitFor(t, "one to wait", func() bool { return p.waiting("x") == 1 })
	first.Discard()
	if id := <-served; id != 2 {
		t.Errorf("who waited got connection %d, want a new one, 2", id)
	}
}

func TestPoolFailureToOpen(t *testing.T) {
	var d dialler
	d.fail.Store(true)
	p := testPool(t, &d, nil)
	for range 3 { // a failure must not use up the limit
		if _, err := p.Get(t.Context(), "x", 1); err == nil || err.Error() != "dial x: refused" {
			t.Errorf("Get: %v, want the error of Open", err)
		}
	}
	p.mu.Lock()
	if n := len(p.targets); n != 0 {
		t.Errorf("%d targets are remembered without a connection, want 0", n)
	}
	p.mu.Unlock()
	d.fail.Store(false)
	get(t, p, "x", 1).Release()
}

func TestPoolSharedFailureReachesAllInLine(t *testing.T) {
	const n = 8
	opening := make(chan struct{})
	var opened atomic.Int64
	p := newPool(poolOptions[string, *dialled]{
		Open: func(context.Context, string) (*dialled, error) {
			opened.Add(1)
			<-opening
			return nil, errors.New("down")
		},
		Users: 100, Idle: time.Minute, MaxIdle: 1,
	})
	defer p.Close()
	errs := make(chan error, n)
	for range n {
		go func() {
			_, err := p.Get(context.Background(), "x", 1)
			errs <- err
		}()
	}
	waitFor(t, "all but one to wait", func() bool { return p.waiting("x") == n-1 })
	close(opening)
	for range n {
		if err := <-errs; err == nil || err.Error() != "down" {
			t.Errorf("Get: %v, want down", err)
		}
	}
	if opened.Load() != 1 {
		t.Errorf("opened %d times for %d callers, want 1", opened.Load(), n)
	}
}

func TestPoolShared(t *testing.T) {
	var d dialler
	p := testPool(t, &d, func(o *poolOptions[string, *dialled]) { o.Users = 3 })
	var leases []*lease[string, *dialled]
	for range 6 {
		leases = append(leases, get(t, p, "x", 2))
	}
	if d.opened.Load() != 2 {
		t.Errorf("6 users at 3 each opened %d connections, want 2", d.opened.Load())
	}
	broken := leases[0].Conn
	for _, l := range leases {
		if l.Conn == broken {
			if broken.closed.Load() {
				t.Error("a broken connection was closed before its last user gave it back")
			}
			l.Discard()
		}
	}
	if !broken.closed.Load() {
		t.Error("a broken connection without users was not closed")
	}
	for _, l := range leases {
		if l.Conn != broken {
			l.Release()
		}
	}
}

func TestPoolClosesIdle(t *testing.T) {
	var d dialler
	p := testPool(t, &d, func(o *poolOptions[string, *dialled]) { o.Idle = 20 * time.Millisecond })
	held := get(t, p, "x", 9)
	get(t, p, "x", 9).Release()
	get(t, p, "y", 9).Release()
	waitFor(t, "idle connections to be closed", func() bool { return d.openNow() == 1 })
	if held.Conn.closed.Load() {
		t.Error("a connection in use was closed")
	}
	held.Release()
	waitFor(t, "all targets to be forgotten", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.targets) == 0
	})
}

func TestPoolBoundsIdle(t *testing.T) {
	var d dialler
	p := testPool(t, &d, func(o *poolOptions[string, *dialled]) { o.MaxIdle = 2 })
	var leases []*lease[string, *dialled]
	for i := range 5 {
		leases = append(leases, get(t, p, fmt.Sprint("target", i), 1))
	}
	for _, l := range leases {
		l.Release()
	}
	if n := d.openNow(); n != 2 {
		t.Errorf("%d unused connections are kept, want 2", n)
	}
	if !leases[0].Conn.closed.Load() || leases[4].Conn.closed.Load() {
		t.Error("not the one unused for longest was closed")
	}
}

func TestPoolClose(t *testing.T) {
	var d dialler
	p := testPool(t, &d, nil)
	held := get(t, p, "x", 1)
	waiter := make(chan error, 1)
	go func() {
		_, err := p.Get(context.Background(), "x", 1)
		waiter <- err
	}()
	waitFor(t, "one to wait", func() bool { return p.waiting("x") == 1 })
	if err := p.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if err := <-waiter; !errors.Is(err, scheduler.ErrClosed) {
		t.Errorf("who waited was told %v, want ErrClosed", err)
	}
	if _, err := p.Get(t.Context(), "x", 1); !errors.Is(err, scheduler.ErrClosed) {
		t.Errorf("Get after Close: %v, want ErrClosed", err)
	}
	if held.Conn.closed.Load() {
		t.Error("a connection in use was closed")
	}
	held.Release()
	if !held.Conn.closed.Load() {
		t.Error("a connection given back after Close was not closed")
	}
}

// Many users, few targets, every way to end: never more than the limit open,
// never two users of an exclusive connection, all closed in the end.
func TestPoolUnderStress(t *testing.T) {
	for _, users := range []int{1, 4} {
		t.Run(fmt.Sprint("users=", users), func(t *testing.T) {
			const limit = 3
			var d dialler
			p := testPool(t, &d, func(o *poolOptions[string, *dialled]) {
				o.Users = users
				o.Idle = 2 * time.Millisecond
				o.MaxIdle = 2
			})
			var wg sync.WaitGroup
			for w := range 16 {
				rng := rand.New(rand.NewPCG(1, uint64(w)))
				wg.Go(func() {
					for range 500 {
						ctx, cancel := context.WithTimeout(context.Background(), time.Duration(rng.IntN(2000))*time.Microsecond)
						l, err := p.Get(ctx, fmt.Sprint(rng.IntN(2)), limit)
						cancel()
						if err != nil {
							continue
						}
						if n := l.Conn.users.Add(1); int(n) > users {
							t.Errorf("%d users of one connection, want at most %d", n, users)
						}
						if l.Conn.closed.Load() {
							t.Error("a connection in use is closed")
						}
						if rng.IntN(20) == 0 {
							time.Sleep(50 * time.Microsecond)
						}
						l.Conn.users.Add(-1)
						if rng.IntN(10) == 0 {
							l.Discard()
						} else {
							l.Release()
						}
					}
				})
			}
			done := make(chan struct{})
			go func() { wg.Wait(); close(done) }()
			waitFor(t, "the users to end", func() bool {
				p.mu.Lock()
				for _, target := range p.targets {
					if target.open > limit {
						t.Errorf("%d connections to one target, want at most %d", target.open, limit)
					}
				}
				p.mu.Unlock()
				select {
				case <-done:
					return true
				default:
					return false
				}
			})
			waitFor(t, "all targets to be forgotten", func() bool {
				p.mu.Lock()
				defer p.mu.Unlock()
				return len(p.targets) == 0
			})
		})
	}
}
