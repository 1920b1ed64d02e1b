package actions

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/snower/forsun/scheduler"
)

// poolOptions configure a pool of connections C to targets named K.
type poolOptions[K comparable, C io.Closer] struct {
	// Open connects. It must return soon after ctx is done.
	Open func(ctx context.Context, target K) (C, error)
	// Alive says whether a connection that was idle can still be used; it must not
	// block. nil: always.
	Alive func(C) bool
	// Users is how many may use one connection at once: 1 for a protocol of one
	// request at a time (the default, for 0), more for clients that share.
	Users int
	// Idle is how long a connection may be unused before it is closed; at least
	// 1 ms.
	Idle time.Duration
	// Wait bounds how long Get waits in line; 0: as long as its context allows.
	Wait time.Duration
	// MaxIdle bounds unused connections over all targets, at least 1; beyond it
	// the one unused for longest is closed.
	MaxIdle int
}

// pool keeps connections per target. Who asks when a target's connections are
// all in use waits in line. One goroutine, ended by Close, closes what is idle.
type pool[K comparable, C io.Closer] struct {
	opts poolOptions[K, C]

	mu      sync.Mutex
	targets map[K]*poolTarget[K, C]
	idle    list.List // of *pooled with no user, the longest unused first
	closed  bool

	stop chan struct{}
	done chan struct{}
}

// poolTarget is what a pool has of one target. It exists while it has a
// connection or a waiter.
type poolTarget[K comparable, C io.Closer] struct {
	key     K
	limit   int // of connections; set when the target was first asked for
	open    int // connections that are open, or being opened
	free    []*pooled[K, C]
	waiters []chan granted[K, C] // each of capacity 1
}

// pooled is one connection. Its fields are guarded by the pool's lock, but conn,
// which is its users'.
type pooled[K comparable, C io.Closer] struct {
	conn   C
	target *poolTarget[K, C]
	users  int
	broken bool          // not to be used again; closed with its last user
	since  time.Time     // when it became unused
	unused *list.Element // in pool.idle, or nil
}

// granted is what a waiter is told: use this connection; or, with neither
// connection nor error, open one.
type granted[K comparable, C io.Closer] struct {
	entry *pooled[K, C]
	err   error
}

// newPool returns a pool; Close must be called.
func newPool[K comparable, C io.Closer](opts poolOptions[K, C]) *pool[K, C] {
	opts.Users = max(opts.Users, 1)
	opts.MaxIdle = max(opts.MaxIdle, 1)
	opts.Idle = max(opts.Idle, time.Millisecond)
	p := &pool[K, C]{
		opts:    opts,
		targets: make(map[K]*poolTarget[K, C]),
		stop:    make(chan struct{}),
		done:    make(chan struct{}),
	}
	go p.reap()
	return p
}

// lease is a connection in use. Its holder calls Release or Discard, once.
type lease[K comparable, C io.Closer] struct {
	Conn   C
	Reused bool // it has served before

	pool  *pool[K, C]
	entry *pooled[K, C]
}

// Get returns a connection to target: one that is free, else a new one while
// fewer than limit are open, else the next to become free. limit counts when it
// is the first to be asked for this target. Errors are those of Open, of ctx
// while waiting, os.ErrDeadlineExceeded after poolOptions.Wait, and
// scheduler.ErrClosed.
func (p *pool[K, C]) Get(ctx context.Context, target K, limit int) (*lease[K, C], error) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, scheduler.ErrClosed
	}
	t := p.targets[target]
	if t == nil {
		t = &poolTarget[K, C]{key: target, limit: max(limit, 1)}
		p.targets[target] = t
	}
	entry, dead := p.pick(t)
	switch {
	case entry != nil:
		p.mu.Unlock()
		closeAll(dead)
		return &lease[K, C]{Conn: entry.conn, Reused: true, pool: p, entry: entry}, nil
	case t.open < t.limit:
		t.open++
		p.mu.Unlock()
		closeAll(dead)
		return p.dial(ctx, t)
	}
	turn := make(chan granted[K, C], 1)
	t.waiters = append(t.waiters, turn)
	p.mu.Unlock()
	closeAll(dead)

	var tired <-chan time.Time // never, without a bound
	if p.opts.Wait > 0 {
		timer := time.NewTimer(p.opts.Wait)
		defer timer.Stop()
		tired = timer.C
	}
	var why error
	select {
	case g := <-turn:
		return p.take(ctx, t, g)
	case <-ctx.Done():
		why = context.Cause(ctx)
	case <-tired:
		why = fmt.Errorf("waited %v for one: %w", p.opts.Wait, os.ErrDeadlineExceeded)
	}
	p.mu.Lock()
	if i := slices.Index(t.waiters, turn); i >= 0 {
		t.waiters = slices.Delete(t.waiters, i, i+1)
		p.mu.Unlock()
		return nil, fmt.Errorf("all %d connections are in use: %w", t.limit, why)
	}
	p.mu.Unlock()
	// Its turn came at the same moment; what was granted is passed on.
	if l, err := p.take(ctx, t, <-turn); err == nil {
		l.Release()
	}
	return nil, fmt.Errorf("all %d connections were in use: %w", t.limit, why)
}

// pick returns a free connection of t with one more user, the one used last
// first, so that the others can become idle; and what turned out to be dead, for
// the caller to close without the lock.
func (p *pool[K, C]) pick(t *poolTarget[K, C]) (entry *pooled[K, C], dead []C) {
	for len(t.free) > 0 {
		e := t.free[len(t.free)-1]
		if e.users == 0 && p.opts.Alive != nil && !p.opts.Alive(e.conn) {
			p.drop(e)
			dead = append(dead, e.conn)
			continue
		}
		p.use(e)
		return e, dead
	}
	return nil, dead
}

// use adds a user to e.
func (p *pool[K, C]) use(e *pooled[K, C]) {
	if e.unused != nil {
		p.idle.Remove(e.unused)
		e.unused = nil
	}
	e.users++
	if e.users == p.opts.Users {
		e.target.forget(e)
	}
}

// drop takes e out of the pool; its connection is still to be closed.
func (p *pool[K, C]) drop(e *pooled[K, C]) {
	if e.unused != nil {
		p.idle.Remove(e.unused)
		e.unused = nil
	}
	e.target.forget(e)
	e.target.open--
}

// forget takes e out of the free ones.
func (t *poolTarget[K, C]) forget(e *pooled[K, C]) {
	if i := slices.Index(t.free, e); i >= 0 {
		t.free = slices.Delete(t.free, i, i+1)
	}
}

// take acts on what a waiter was granted.
func (p *pool[K, C]) take(ctx context.Context, t *poolTarget[K, C], g granted[K, C]) (*lease[K, C], error) {
	switch {
	case g.err != nil:
		return nil, g.err
	case g.entry != nil:
		return &lease[K, C]{Conn: g.entry.conn, Reused: true, pool: p, entry: g.entry}, nil
	}
	return p.dial(ctx, t)
}

// dial opens a connection that t.open already counts.
func (p *pool[K, C]) dial(ctx context.Context, t *poolTarget[K, C]) (*lease[K, C], error) {
	conn, err := p.opts.Open(ctx, t.key)
	p.mu.Lock()
	if err == nil && p.closed {
		p.mu.Unlock()
		conn.Close()
		return nil, scheduler.ErrClosed
	}
	if err != nil {
		t.open--
		if p.opts.Users > 1 && ctx.Err() == nil {
			// Those in line were waiting for this very connection.
			for _, w := range t.waiters {
				w <- granted[K, C]{err: err}
			}
			t.waiters = nil
		}
		p.serve(t)
		p.mu.Unlock()
		return nil, err
	}
	e := &pooled[K, C]{conn: conn, target: t}
	t.free = append(t.free, e)
	p.use(e)
	p.serve(t)
	p.mu.Unlock()
	return &lease[K, C]{Conn: conn, pool: p, entry: e}, nil
}

// serve gives those in line what there is, and forgets a target with nothing.
func (p *pool[K, C]) serve(t *poolTarget[K, C]) {
	for len(t.waiters) > 0 {
		var g granted[K, C]
		switch {
		case len(t.free) > 0:
			g.entry = t.free[len(t.free)-1]
			p.use(g.entry)
		case t.open < t.limit:
			t.open++
		default:
			return
		}
		t.waiters[0] <- g
		t.waiters = slices.Delete(t.waiters, 0, 1)
	}
	if t.open == 0 && p.targets[t.key] == t {
		delete(p.targets, t.key)
	}
}

// Release gives the connection back for others to use.
func (l *lease[K, C]) Release() { l.pool.release(l.entry, false) }

// Discard gives the connection back because it is broken: nobody gets it any
// more, and it is closed when its last user has given it back.
func (l *lease[K, C]) Discard() { l.pool.release(l.entry, true) }

func (p *pool[K, C]) release(e *pooled[K, C], broken bool) {
	var closing []C
	p.mu.Lock()
	if e.users == p.opts.Users && !e.broken {
		e.target.free = append(e.target.free, e)
	}
	e.users--
	if (broken || p.closed) && !e.broken {
		e.broken = true
		p.drop(e)
	}
	p.serve(e.target)
	switch {
	case e.users > 0:
	case e.broken:
		closing = append(closing, e.conn)
	default:
		e.since = time.Now()
		e.unused = p.idle.PushBack(e)
		closing = p.expire(e.since)
	}
	p.mu.Unlock()
	closeAll(closing)
}

// expire drops connections that have been unused for too long at now, or are too
// many, and returns them to be closed.
func (p *pool[K, C]) expire(now time.Time) (closing []C) {
	for front := p.idle.Front(); front != nil; front = p.idle.Front() {
		e := front.Value.(*pooled[K, C])
		if p.idle.Len() <= p.opts.MaxIdle && now.Sub(e.since) < p.opts.Idle {
			break
		}
		e.broken = true
		p.drop(e)
		p.serve(e.target)
		closing = append(closing, e.conn)
	}
	return closing
}

// reap closes what is idle until the pool is closed.
func (p *pool[K, C]) reap() {
	defer close(p.done)
	tick := time.NewTicker(max(p.opts.Idle/4, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-p.stop:
			return
		case <-tick.C:
		}
		p.mu.Lock()
		closing := p.expire(time.Now())
		p.mu.Unlock()
		closeAll(closing)
	}
}

// Close closes what is unused and turns away who waits. What is in use is closed
// when it is given back. Later calls of Get fail with scheduler.ErrClosed.
func (p *pool[K, C]) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	var closing []C
	for p.idle.Len() > 0 {
		e := p.idle.Front().Value.(*pooled[K, C])
		e.broken = true
		p.drop(e)
		closing = append(closing, e.conn)
	}
	for _, t := range p.targets {
		for _, w := range t.waiters {
			w <- granted[K, C]{err: scheduler.ErrClosed}
		}
		t.waiters = nil
	}
	clear(p.targets)
	p.mu.Unlock()
	close(p.stop)
	<-p.done
	return closeAll(closing)
}

// closeAll closes connections and joins what they say.
func closeAll[C io.Closer](conns []C) error {
	var errs []error
	for _, c := range conns {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}
