package actions

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/apache/thrift/lib/go/thrift"

	"github.com/snower/forsun/rpc/gen/forsun"
	"github.com/snower/forsun/scheduler"
)

// ThriftOptions configure the thrift action.
type ThriftOptions struct {
	ServerOptions
}

// DefaultThriftOptions returns the options of a deployment that sets none.
func DefaultThriftOptions() ThriftOptions {
	return ThriftOptions{ServerOptions: defaultServerOptions(64)}
}

// Validate says which options are out of range, all of them joined.
func (o ThriftOptions) Validate() error { return o.ServerOptions.validate("thrift") }

// Thrift is the action that calls
//
//	void forsun_call(1:string key, 2:i32 ts, 3:map<string, string> params)
//
// of a Thrift service, unframed and in the strict binary protocol, and waits for
// its reply. ts is the due second, params are the plan's, all of them. A receiver
// tells a repeat of a firing by key and ts.
//
// At least once: when a connection breaks after the call was sent, whether it
// was handled is not known; the attempt fails, and is not repeated within
// itself, so that "forsun.retries=0" holds. Before a call is sent on a
// connection that was idle, the connection is looked at: one that the peer has
// closed meanwhile costs a new one, not the attempt.
type Thrift struct {
	opts ThriftOptions
	pool *pool[string, *thriftConn]
}

var _ scheduler.Action = (*Thrift)(nil)

// NewThrift returns the thrift action. opts must be valid. Close it.
func NewThrift(opts ThriftOptions) *Thrift {
	a := &Thrift{opts: opts}
	a.pool = newPool(poolOptions[string, *thriftConn]{
		Open:    a.dial,
		Alive:   (*thriftConn).alive,
		Idle:    opts.IdleTime,
		MaxIdle: opts.MaxIdle,
	})
	return a
}

// Close closes the connections; those in use, when their firings end.
func (a *Thrift) Close() error { return a.pool.Close() }

// thriftParams are the parameters of a thrift plan.
//
//	host             default 127.0.0.1
//	port             1 to 65535, default 5643
//	max_connections  1 to 1024; the value of the first plan to use a target counts
type thriftParams struct {
	addr           string
	maxConnections int
}

// thriftPort is the default of the parameter port.
const thriftPort = 5643

func (a *Thrift) parse(params map[string]string) (thriftParams, error) {
	r := read(params)
	p := thriftParams{
		addr:           r.address(thriftPort),
		maxConnections: r.maxConnections(a.opts.MaxConnections),
	}
	a.opts.Egress.refuse(r, "host", p.addr)
	return p, r.err()
}

// Check implements scheduler.Action.
func (a *Thrift) Check(params map[string]string) error {
	_, err := a.parse(params)
	return err
}

// Target implements scheduler.Action.
func (a *Thrift) Target(params map[string]string) string { return read(params).address(thriftPort) }

// Timeout implements scheduler.Action.
func (a *Thrift) Timeout(map[string]string) time.Duration { return a.opts.Timeout }

// Execute implements scheduler.Action. There is no output: the call returns
// nothing.
func (a *Thrift) Execute(ctx context.Context, f *scheduler.Firing) (scheduler.Output, error) {
	p, err := a.parse(f.Plan.Params)
	if err != nil {
		return nil, err
	}
	if err := a.call(ctx, p, f); err != nil {
		return nil, attemptError(ctx, "thrift", p.addr, f.Plan.Params, err, thriftRetryable(err))
	}
	return nil, nil
}

// call makes the call on a connection of the pool.
func (a *Thrift) call(ctx context.Context, p thriftParams, f *scheduler.Firing) error {
	l, err := a.pool.Get(ctx, p.addr, p.maxConnections)
	if err != nil {
		return err
	}
	release := l.Conn.conn.bind(ctx)
	err = l.Conn.client.ForsunCall(ctx, f.Plan.Key, int32(f.Due), f.Plan.Params)
	open := release()
	// An exception was read to its end, so the connection is where it should be.
	if open && (err == nil || thriftException(err) != nil) {
		l.Release()
	} else {
		l.Discard()
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return fmt.Errorf("no reply in time: %w", context.Cause(ctx))
	case err != nil && thriftException(err) != nil:
		return fmt.Errorf("exception: %w", err)
	case err != nil:
		return fmt.Errorf("no reply: %w", err)
	}
	return nil
}

// thriftException returns the exception the server replied with, nil if err is
// something else: the client makes exceptions of its own of replies that do not
// fit the call.
func thriftException(err error) thrift.TApplicationException {
	exception, ok := errors.AsType[thrift.TApplicationException](err)
	if !ok {
		return nil
	}
	switch exception.TypeId() {
	case thrift.WRONG_METHOD_NAME, thrift.BAD_SEQUENCE_ID, thrift.INVALID_MESSAGE_TYPE_EXCEPTION:
		return nil
	}
	return exception
}

// thriftRetryable says whether an error is worth another attempt:
//
//	an address that may not be connected to         no
//	no connection, a broken one, no reply in time   yes
//	a reply that is no Thrift, or not to this call  yes
//	an exception of the server                      yes
//	the exception "unknown method"                  no: it is not such a service
func thriftRetryable(err error) bool {
	if isEgressError(err) {
		return false
	}
	exception := thriftException(err)
	return exception == nil || exception.TypeId() != thrift.UNKNOWN_METHOD
}

// thriftConn is a connection to a Thrift service.
type thriftConn struct {
	conn   *firingConn
	client *forsun.ForsunClient
}

func (a *Thrift) dial(ctx context.Context, addr string) (*thriftConn, error) {
	ctx, cancel := context.WithTimeout(ctx, a.opts.ConnectTimeout)
	defer cancel()
	conn, err := dialFiring(ctx, a.opts.Egress, addr)
	if err != nil {
		return nil, err
	}
	// The reply is empty or an exception, so a longer one is no Thrift.
	cfg := &thrift.TConfiguration{MaxMessageSize: 1 << 20, MaxContainerSize: 1 << 10}
	protocol := thrift.NewTBinaryProtocolConf(thrift.NewStreamTransportRW(conn), cfg)
	return &thriftConn{conn: conn, client: forsun.NewForsunClient(thrift.NewTStandardClient(protocol, protocol))}, nil
}

// Close ends the connection without waiting for the peer.
func (c *thriftConn) Close() error {
	c.conn.Close() // it may have been closed by the end of a firing's context
	return nil
}

// alive says whether the peer has not closed the connection, without asking it.
func (c *thriftConn) alive() bool {
	return thrift.NewTSocketFromConnConf(c.conn.Conn, nil).IsOpen()
}
