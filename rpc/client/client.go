// Package client speaks to a forsun server over Thrift, with the scheduler's own
// types.
//
// A Client is one connection, dialed when first needed and again when it broke.
// Every call ends with its context, or after Options.Timeout. A call that only
// reads is sent once more on a fresh connection when the old one turns out
// broken; one that changes something is not, for it may have taken effect: see
// ConnError.Unsure.
package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/apache/thrift/lib/go/thrift"

	"github.com/snower/forsun/rpc/gen/forsun"
	"github.com/snower/forsun/rpc/wire"
)

// Error is a server's refusal.
type Error struct {
	Code    wire.Code // 0: the server does not know the method, or could not read the request
	Message string    // as the server sent it
}

// Error returns the code, what it stands for, and the server's message.
func (e *Error) Error() string {
	switch {
	case e.Code == 0:
		return e.Message
	case e.Code <= wire.UnknownAction:
		return fmt.Sprintf("%d: %s (%s)", e.Code, e.Message, e.Code.Meaning())
	default:
		return fmt.Sprintf("%d: %s", e.Code, e.Message)
	}
}

// IsNotFound says whether err is the server's answer for a plan it does not have.
func IsNotFound(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Code == wire.NotFound
}

// ConnError is a failure to reach the server or to get its answer.
type ConnError struct {
	Address string
	Sent    bool // the request was sent, or some of it
	Unsure  bool // and may have taken effect
	Err     error
}

func (e *ConnError) Error() string {
	switch {
	case e.Unsure:
		return fmt.Sprintf("no answer from the server at %s, so it is unknown whether the request took effect: %v", e.Address, e.Err)
	case e.Sent:
		return fmt.Sprintf("no answer from the server at %s: %v", e.Address, e.Err)
	default:
		return fmt.Sprintf("cannot reach a server at %s: %v", e.Address, e.Err)
	}
}
func (e *ConnError) Unwrap() error { return e.Err }

// Options configure a Client.
type Options struct {
	Address     string        // host:port
	DialTimeout time.Duration // bound on connecting
	Timeout     time.Duration // bound on one call whose context has no deadline
	Token       string        // to show on every connection; "": none
	TLS         *tls.Config   // to speak TLS with; nil: no TLS. Its ServerName, if empty, is the host of Address
	// Dial connects to address; nil: TCP.
	Dial func(ctx context.Context, address string) (net.Conn, error)
}

// DefaultOptions returns 5 s to connect, 30 s a call.
func DefaultOptions(address string) Options {
	return Options{Address: address, DialTimeout: 5 * time.Second, Timeout: 30 * time.Second}
}

// Client is a connection to a server. It is safe for concurrent use; calls wait
// for each other.
type Client struct {
	opts Options

	lock chan struct{} // holds one token; taken by the call in progress, so that a waiter can give up
	once sync.Once
	done chan struct{}

	conn net.Conn // nil when not connected; this and the next are guarded by lock
	rpc  *forsun.ForsunClient
	used time.Time // when it was last used
}

// New returns a Client. It connects with the first call.
func New(opts Options) *Client {
	if opts.Dial == nil {
		opts.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", address)
		}
	}
	return &Client{opts: opts, lock: make(chan struct{}, 1), done: make(chan struct{})}
}

// Address returns the address the client was made for.
func (c *Client) Address() string { return c.opts.Address }

// errClosed is the failure of calls after Close.
var errClosed = errors.New("the client is closed")

// Close waits for the call in progress and closes the connection.
func (c *Client) Close() error {
	c.once.Do(func() {
		close(c.done)
		c.lock <- struct{}{}
		c.hangUp()
		<-c.lock
	})
	return nil
}

// kind says whether a call may be sent a second time.
type kind uint8

const (
	reads   kind = iota // changes nothing: sent again if the connection broke
	changes             // sent once
)

// do runs one call with the lock held, under ctx or the default timeout.
func (c *Client) do(ctx context.Context, k kind, call func(context.Context, *forsun.ForsunClient) error) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.opts.Timeout)
		defer cancel()
	}
	select {
	case <-c.done:
		return &ConnError{Address: c.opts.Address, Err: errClosed}
	default:
	}
	select {
	case c.lock <- struct{}{}:
	case <-ctx.Done():
		return &ConnError{Address: c.opts.Address, Err: ctx.Err()}
	case <-c.done:
		return &ConnError{Address: c.opts.Address, Err: errClosed}
	}
	defer func() { <-c.lock }()

	fresh, err := c.connect(ctx)
	if err != nil {
		return err
	}
	err = c.attempt(ctx, call)
	var broken *ConnError
	if errors.As(err, &broken) && k == reads && !fresh && ctx.Err() == nil {
		if _, err := c.connect(ctx); err != nil {
			return err
		}
		err = c.attempt(ctx, call)
	}
	if errors.As(err, &broken) {
		broken.Unsure = broken.Sent && k == changes
	}
	return err
}

// attempt runs call on the open connection and hangs up if it broke.
func (c *Client) attempt(ctx context.Context, call func(context.Context, *forsun.ForsunClient) error) error {
	conn := c.conn
	if deadline, ok := ctx.Deadline(); ok {
		conn.SetDeadline(deadline)
	}
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	err := call(context.WithoutCancel(ctx), c.rpc)
	stop()
	c.used = time.Now()
	if err == nil {
		return nil
	}
	var plan *forsun.ForsunPlanError
	if errors.As(err, &plan) {
		return &Error{Code: wire.Code(plan.Code), Message: plan.Message}
	}
	var app thrift.TApplicationException
	if errors.As(err, &app) {
		switch app.TypeId() {
		case thrift.UNKNOWN_METHOD:
			return &Error{Message: app.Error() + ": the server is older than this program"}
		case thrift.INTERNAL_ERROR:
			return &Error{Code: wire.Unknown, Message: app.Error()}
		}
		c.hangUp()
		return &Error{Message: app.Error()}
	}
	c.hangUp()
	if ctx.Err() != nil {
		err = ctx.Err()
	} else if errors.Is(err, os.ErrDeadlineExceeded) { // the connection's deadline, which is the context's, came first
		err = context.DeadlineExceeded
	}
	return &ConnError{Address: c.opts.Address, Sent: true, Err: err}
}

// connect makes sure there is a connection whose other end has not closed it, and
// on which the token was shown.
func (c *Client) connect(ctx context.Context) (fresh bool, err error) {
	if c.conn != nil && c.open() {
		return false, nil
	}
	c.hangUp()
	dialing, cancel := context.WithTimeout(ctx, c.opts.DialTimeout)
	defer cancel()
	conn, err := c.opts.Dial(dialing, c.opts.Address)
	if err == nil && c.opts.TLS != nil {
		conn, err = c.secure(dialing, conn)
	}
	if err != nil {
		return false, &ConnError{Address: c.opts.Address, Err: err}
	}
	c.conn = conn
	proto := thrift.NewTBinaryProtocolConf(thrift.NewTBufferedTransport(link{conn}, 16<<10), &thrift.TConfiguration{})
	c.rpc = forsun.NewForsunClient(thrift.NewTStandardClient(proto, proto))
	if c.opts.Token == "" {
		return true, nil
	}
	err = c.attempt(ctx, func(ctx context.Context, rpc *forsun.ForsunClient) error {
		_, err := rpc.Auth(ctx, c.opts.Token)
		return err
	})
	if err != nil {
		c.hangUp() // it would be used without
		return false, err
	}
	return true, nil
}

// secure does the TLS handshake on a connection, or closes it.
func (c *Client) secure(ctx context.Context, conn net.Conn) (net.Conn, error) {
	config := c.opts.TLS
	if config.ServerName == "" {
		host, _, err := net.SplitHostPort(c.opts.Address)
		if err != nil {
			host = c.opts.Address
		}
		config = config.Clone()
		config.ServerName = host
	}
	secure := tls.Client(conn, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return secure, nil
}

// open says whether the other end has not closed the connection. Of TLS the
// socket alone does not say: what waits there may be the message that it ends.
func (c *Client) open() bool {
	if !thrift.NewTSocketFromConnConf(c.conn, nil).IsOpen() {
		return false
	}
	secure, ok := c.conn.(*tls.Conn)
	if !ok || time.Since(c.used) < time.Second { // it would cost a millisecond each time
		return true
	}
	secure.SetReadDeadline(time.Now().Add(time.Millisecond))
	_, err := secure.Read(make([]byte, 1)) // nothing was asked: any byte is one too many
	return errors.Is(err, os.ErrDeadlineExceeded)
}

// hangUp closes the connection, if there is one.
func (c *Client) hangUp() {
	if c.conn != nil {
		c.conn.Close()
	}
	c.conn, c.rpc = nil, nil
}

// link is an open connection as a Thrift transport. Unlike the library's socket
// it leaves the connection's deadlines alone.
type link struct{ net.Conn }

func (link) Open() error                   { return nil }
func (link) IsOpen() bool                  { return true }
func (link) Flush(context.Context) error   { return nil }
func (link) RemainingBytes() (size uint64) { return thrift.UnknownRemainingBytes }
