package actions

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/beanstalkd/go-beanstalk"

	"github.com/snower/forsun/scheduler"
)

// beanstalkParams are the parameters of a beanstalk plan.
//
//	host  default 127.0.0.1
//	port  1 to 65535, default 11300
//	name  of the tube, default "default": up to 199 letters, digits and +/;.$_()-
//	body  of the job; default empty
type beanstalkParams struct {
	addr string
	tube string
	body string
}

// Every job is put as the Python forsun put it.
const (
	jobPriority = 1 << 31 // the middle: 0 is the most urgent
	jobDelay    = 0
	jobTTR      = 7200 * time.Second // how long a consumer may work on it
)

// BeanstalkOptions configure the beanstalk action.
type BeanstalkOptions struct {
	ServerOptions
}

// DefaultBeanstalkOptions returns the options of a deployment that sets none.
func DefaultBeanstalkOptions() BeanstalkOptions {
	return BeanstalkOptions{ServerOptions: defaultServerOptions(16)}
}

// Validate says which options are out of range, all of them joined.
func (o BeanstalkOptions) Validate() error { return o.ServerOptions.validate("beanstalk") }

// Beanstalk is the action that puts a job into a tube of a beanstalkd server.
//
// At least once: if the connection breaks before the server has answered it is
// not known whether the job was put, and it is put again. A body that holds
// ${firing.id} lets the consumer see that.
type Beanstalk struct {
	opts BeanstalkOptions
	pool *pool[string, *beanstalkConn]
}

var _ scheduler.Action = (*Beanstalk)(nil)

// NewBeanstalk returns the beanstalk action. opts must be valid. Close it.
func NewBeanstalk(opts BeanstalkOptions) *Beanstalk {
	a := &Beanstalk{opts: opts}
	a.pool = newPool(poolOptions[string, *beanstalkConn]{Open: a.dial, Idle: opts.IdleTime, MaxIdle: opts.MaxIdle})
	return a
}

func (a *Beanstalk) parse(params map[string]string) (beanstalkParams, error) {
	r := read(params)
	p := beanstalkParams{
		addr: r.address(11300),
		tube: r.text("name", "default"),
		body: r.text("body", ""),
	}
	a.opts.Egress.refuse(r, "host", p.addr)
	if !tubeName(p.tube) {
		r.refuse("name", "1 to 199 letters, digits and +/;.$_()-, not beginning with -")
	}
	return p, r.err()
}

// Check implements scheduler.Action.
func (a *Beanstalk) Check(params map[string]string) error {
	_, err := a.parse(params)
	return err
}

// Target implements scheduler.Action.
func (a *Beanstalk) Target(params map[string]string) string { return read(params).address(11300) }

// Timeout implements scheduler.Action.
func (a *Beanstalk) Timeout(map[string]string) time.Duration { return a.opts.Timeout }

// Close closes the connections; those in use, when their firings end.
func (a *Beanstalk) Close() error { return a.pool.Close() }

// Execute implements scheduler.Action. The output names the job.
func (a *Beanstalk) Execute(ctx context.Context, f *scheduler.Firing) (scheduler.Output, error) {
	p, err := a.parse(f.Plan.Params)
	if err != nil {
		return nil, err
	}
	fail := func(err error) error {
		return attemptError(ctx, "beanstalk", p.addr, f.Plan.Params, err, beanstalkRetryable(err))
	}
	l, err := lend(ctx, a.pool, p.addr, a.opts.MaxConnections)
	if err != nil {
		return nil, fail(err)
	}
	body := tokens(f)(p.body)
	release := l.Conn.conn.bind(ctx)
	id, err := beanstalk.NewTube(l.Conn.client, p.tube).Put([]byte(body), jobPriority, jobDelay, jobTTR)
	open := release()
	if err == nil {
		if open {
			l.Release()
		} else {
			l.Discard()
		}
		return fmt.Appendf(nil, "INSERTED %d", id), nil
	}
	// Whatever the error: it may have been the answer to "use", with the one to
	// "put" still to come.
	l.Discard()
	if ended, ok := l.Conn.conn.ended.Load().(error); ok {
		err = fmt.Errorf("%w; %w", err, ended) // the library takes half a line for an answer
	}
	err = cause(ctx, err)
	if errors.Is(err, beanstalk.ErrJobTooBig) {
		err = fmt.Errorf("put: %w: the body has %d bytes; beanstalkd takes 65535 unless its option -z says otherwise", beanstalk.ErrJobTooBig, len(body))
	}
	return nil, fail(err)
}

// beanstalkConn is a go-beanstalk connection over one that is bound to a firing:
// the library itself has no deadline.
type beanstalkConn struct {
	client *beanstalk.Conn
	conn   *firingConn
}

func (a *Beanstalk) dial(ctx context.Context, addr string) (*beanstalkConn, error) {
	ctx, cancel := context.WithTimeout(ctx, a.opts.ConnectTimeout)
	defer cancel()
	conn, err := dialFiring(ctx, a.opts.Egress, addr)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", cause(ctx, err))
	}
	return &beanstalkConn{client: beanstalk.NewConn(conn), conn: conn}, nil
}

// usable implements serverConn. No job has the number 0: to ask for it is the
// smallest question there is.
func (c *beanstalkConn) usable(ctx context.Context) bool {
	if c.conn.fresh() {
		return true
	}
	release := c.conn.bind(ctx)
	_, err := c.client.Peek(0)
	return release() && errors.Is(err, beanstalk.ErrNotFound)
}

// Close ends the connection; the protocol knows no farewell that is answered.
func (c *beanstalkConn) Close() error { return c.conn.Close() }

// tubeName says whether beanstalkd takes name; the library's own table also has
// the backslash, which beanstalkd refuses.
func tubeName(name string) bool {
	return len(name) <= 199 && !strings.HasPrefix(name, "-") && !strings.ContainsFunc(name, func(c rune) bool {
		letter := (c|' ') >= 'a' && (c|' ') <= 'z'
		digit := c >= '0' && c <= '9'
		return !letter && !digit && !strings.ContainsRune("-+/;.$_()", c)
	})
}

// beanstalkRetryable is the table of what is worth another attempt: the way to
// the server, and a server that is short of memory or about to stop. JOB_TOO_BIG,
// BAD_FORMAT and what no beanstalkd would say come again.
func beanstalkRetryable(err error) bool {
	return transportError(err) ||
		errors.Is(err, beanstalk.ErrDraining) || // about to stop
		errors.Is(err, beanstalk.ErrOOM) ||
		errors.Is(err, beanstalk.ErrInternal) ||
		strings.Contains(err.Error(), "unknown response: BURIED") // put, but no memory to queue it: nobody gets it unless it is kicked
}
