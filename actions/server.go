package actions

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/snower/forsun/scheduler"
)

// ServerOptions are what the redis, mysql and beanstalk actions have in common.
type ServerOptions struct {
	Timeout        time.Duration // deadline of an attempt where the plan sets none; above 0
	ConnectTimeout time.Duration // for connecting, TLS and login together; above 0
	IdleTime       time.Duration // an unused connection is closed after this; at least 1 ms
	MaxConnections int           // in use at once to a target, where the first plan to use it sets no max_connections; 1 to 1024
	MaxIdle        int           // connections kept unused over all targets; at least 1
	Egress         Egress        // what may be connected to
}

// defaultServerOptions: 30 s is the deadline of every action that talks to a
// server; 120 s idle and 5 s to connect are what the Python forsun used.
func defaultServerOptions(maxConnections int) ServerOptions {
	return ServerOptions{
		Timeout:        30 * time.Second,
		ConnectTimeout: 5 * time.Second,
		IdleTime:       120 * time.Second,
		MaxConnections: maxConnections,
		MaxIdle:        256,
	}
}

// validate returns an error for every field out of its range, joined; action
// names whose options they are.
func (o ServerOptions) validate(action string) error {
	var errs []error
	bad := func(wrong bool, field string, value any, allowed string) {
		if wrong {
			errs = append(errs, fmt.Errorf("%s action: %s: %v is not allowed; allowed: %s", action, field, value, allowed))
		}
	}
	bad(o.Timeout <= 0, "Timeout", o.Timeout, "above 0")
	bad(o.ConnectTimeout <= 0, "ConnectTimeout", o.ConnectTimeout, "above 0")
	bad(o.IdleTime < time.Millisecond, "IdleTime", o.IdleTime, "at least 1ms")
	bad(o.MaxConnections < 1 || o.MaxConnections > 1024, "MaxConnections", o.MaxConnections, "1 to 1024")
	bad(o.MaxIdle < 1, "MaxIdle", o.MaxIdle, "at least 1")
	return errors.Join(errs...)
}

// serverConn is a connection that one firing at a time uses.
type serverConn interface {
	io.Closer

	// usable says whether the connection can serve another firing after it was
	// idle. It may ask the peer, for as long as ctx lets it.
	usable(ctx context.Context) bool
}

// usableTimeout bounds the question whether an idle connection still works, so
// that one that a firewall forgot does not use up the attempt's deadline.
const usableTimeout = 2 * time.Second

// freshFor is how long after its last use a connection is taken to work without
// asking the peer: a burst of firings pays for no extra round trips.
const freshFor = time.Second

// lend returns a connection of pool that works: a restart of the server costs
// the connections to it, not the attempts.
func lend[K comparable, C serverConn](ctx context.Context, p *pool[K, C], target K, limit int) (*lease[K, C], error) {
	for {
		l, err := p.Get(ctx, target, limit)
		if err != nil || !l.Reused {
			return l, err
		}
		asking, cancel := context.WithTimeout(ctx, usableTimeout)
		usable := l.Conn.usable(asking)
		cancel()
		if usable {
			return l, nil
		}
		l.Discard()
	}
}

// maxAnswer bounds what a server may send in answer to one firing, in bytes, so
// that a wrong key or a hostile server cannot fill the memory.
const maxAnswer = 16 << 20

// errTooLong: a server sent more in answer to one firing than anything that may
// be asked of it can be good for.
var errTooLong = fmt.Errorf("answer longer than %d MiB", maxAnswer>>20)

// firingConn is a connection that serves one firing at a time and is bound to
// that firing's context: it gives up when the context is done, whatever the
// library on top of it waits for.
type firingConn struct {
	net.Conn
	left  atomic.Int64 // bytes that may still be read for this firing
	ended atomic.Value // error of the first read that failed: what was read before may be half an answer
	used  time.Time    // when the last firing was done with it; only for its one user
}

// dialFiring connects to addr, if egress lets it.
func dialFiring(ctx context.Context, egress Egress, addr string) (*firingConn, error) {
	c, err := egress.dial(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &firingConn{Conn: c}, nil
}

// bind ties the connection to ctx until release is called: reads and writes have
// ctx's deadline, and the connection is closed when ctx is done. release says
// whether it is still open.
func (c *firingConn) bind(ctx context.Context) (release func() bool) {
	c.left.Store(maxAnswer)
	deadline, _ := ctx.Deadline() // zero: none
	c.SetDeadline(deadline)
	stop := context.AfterFunc(ctx, func() { c.Close() })
	return func() bool {
		c.used = time.Now()
		return stop()
	}
}

// fresh says whether the connection was used a moment ago.
func (c *firingConn) fresh() bool { return time.Since(c.used) < freshFor }

func (c *firingConn) Read(p []byte) (int, error) {
	left := c.left.Load()
	if left <= 0 {
		return 0, errTooLong
	}
	n, err := c.Conn.Read(p[:min(int64(len(p)), left)])
	c.left.Add(-int64(n))
	if err != nil {
		c.ended.CompareAndSwap(nil, fmt.Errorf("read: %w", err)) // always of one type, as atomic.Value wants
	}
	return n, err
}

// cause returns why a firingConn bound to ctx failed with err: if ctx was done,
// that. The connection's own deadline is ctx's, and may be noticed first.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return context.DeadlineExceeded
	}
	return err
}

// maxErrorText bounds the text of an attempt's error, in bytes: servers quote
// statements at length.
const maxErrorText = 1 << 10

// attemptError is err as Execute returns it: it names action and peer, holds no
// secret of params or ctx, is of bounded length, and is marked if worth a retry.
// errors.Is finds what is inside err.
func attemptError(ctx context.Context, action, addr string, params map[string]string, err error, retryable bool) error {
	secrets := scheduler.SecretsOf(ctx, params)
	text := maskCut(scheduler.MaskText(action+" "+addr+": "+err.Error(), secrets...), secrets)
	if len(text) > maxErrorText {
		text = strings.ToValidUTF8(text[:maxErrorText], "") + "…"
	}
	err = &hiddenError{text: text, inner: err}
	if retryable {
		return scheduler.Retryable(err)
	}
	return err
}

// transportError says whether err comes from the way to a server or from the
// time it took, not from what the server thought of the request. A host name
// that does not exist counts: it may exist later.
func transportError(err error) bool {
	if isEgressError(err) {
		return false // on the way, but it would come again
	}
	var n net.Error
	return errors.As(err, &n) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, driver.ErrBadConn) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}
