package rpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apache/thrift/lib/go/thrift"
)

// What a connection is doing. A connection is only closed from outside while it
// is idle or reading, by a compare-and-swap to stateClosed.
const (
	stateIdle    int32 = iota // waiting for a message
	stateReading              // a message has begun to arrive
	stateBusy                 // it is complete and being answered
	stateClosed
)

// errMessageTooLarge is the failure to read a message beyond the bound.
var errMessageTooLarge = errors.New("message too large")

// conn is one client's connection, as the Thrift transport below the framing.
// It counts and bounds what a message costs. Its Read and Write are called by
// one goroutine; state and since are looked at by others.
type conn struct {
	net.Conn
	raw   net.Conn        // below TLS: see visitor
	ctx   context.Context // done when the server gives up waiting
	opts  *Options
	large holder

	state atomic.Int32
	since atomic.Int64 // when it entered the state, monotonic nanoseconds of the server

	stranger atomic.Bool // it has yet to show a token
	until    time.Time   // by when; zero for who is no stranger

	size       int // bytes read of the message
	deadline   time.Time
	writeUntil time.Time // the write deadline as it is set

	buf    []byte
	unread []byte // of buf: what was read and not yet delivered
	filled bool   // the last read filled buf: there may be more
	left   int    // bytes of the message not yet delivered
	form   form   // of the message
	plain  bool   // where messages end is not known: they are delivered as they come

	held *[]byte // answers that wait for release; nil: they do not wait

	clock func() int64 // the server's monotonic nanoseconds
}

var _ thrift.TTransport = (*conn)(nil)

// enter moves to another state unless the connection was closed from outside.
func (c *conn) enter(state int32) error {
	for {
		old := c.state.Load()
		if old == stateClosed {
			return net.ErrClosed
		}
		if c.state.CompareAndSwap(old, state) {
			c.since.Store(c.clock())
			return nil
		}
	}
}

// closeIf closes the connection if it is in the given state.
func (c *conn) closeIf(state int32) bool {
	if !c.state.CompareAndSwap(state, stateClosed) {
		return false
	}
	c.raw.Close()
	return true
}

// unknown makes the connection a stranger's, which has until the deadline.
func (c *conn) unknown(until time.Time) {
	c.stranger.Store(true)
	c.until = until
	c.Conn.SetReadDeadline(until)
}

// known makes it no stranger's any more.
func (c *conn) known() {
	if c.stranger.CompareAndSwap(true, false) {
		c.until = time.Time{}
		c.Conn.SetReadDeadline(c.deadline)
	}
}

// maxMessage is how many bytes a message may have.
func (c *conn) maxMessage() int {
	if c.stranger.Load() {
		return min(c.opts.MaxMessage, strangerMessage)
	}
	return c.opts.MaxMessage
}

// strangerMessage is how many bytes the message may have that shows a token.
const strangerMessage = 4 << 10

// messageDone ends a message and what it held.
func (c *conn) messageDone() error {
	c.size = 0
	c.large.release()
	if !c.deadline.IsZero() {
		c.deadline = time.Time{}
		c.Conn.SetReadDeadline(c.until)
	}
	if len(c.unread) > 0 {
		return c.enter(stateReading)
	}
	return c.enter(stateIdle)
}

// Read delivers a message, as far as it is known where that ends: not a byte of the next.
func (c *conn) Read(p []byte) (int, error) {
	if c.left == 0 && !c.plain {
		if err := c.await(); err != nil {
			return 0, err
		}
	}
	if !c.plain {
		p = p[:min(len(p), c.left)]
	}
	var n int
	var err error
	if len(c.unread) > 0 {
		n = copy(p, c.unread)
		c.unread = c.unread[n:]
	} else {
		n, err = c.receive(p)
	}
	if !c.plain {
		c.left -= n
	}
	return n, err
}

// await reads until it is known where the next message ends, or that it is not to be
// known.
func (c *conn) await() error {
	for reads := 0; ; reads++ {
		end, f := messageEnd(c.unread)
		c.size = len(c.unread)
		switch {
		case f == formUnknown || reads > maxReads || end == 0 && c.size >= maxAhead || min(end, c.size) > c.maxMessage():
			c.plain = true
			return nil
		case end > 0:
			c.left, c.form = end, f
			c.size = min(end, c.size)
			return nil
		}
		if err := c.readAhead(); err != nil && c.size > 0 {
			c.plain = true // what has come is for the library to judge; what failed fails again
			return nil
		} else if err != nil {
			return err
		}
	}
}

// firstAhead is how large buf is at first: most messages are smaller.
const firstAhead = 512

// readAhead reads once more into buf.
func (c *conn) readAhead() error {
	if used := len(c.unread); used == len(c.buf) || c.filled && len(c.buf) < maxAhead {
		larger := make([]byte, min(max(firstAhead, 4*len(c.buf)), maxAhead))
		copy(larger, c.unread)
		c.buf = larger
	} else {
		copy(c.buf, c.unread)
	}
	c.unread = c.buf[:len(c.unread)]
	n, err := c.receive(c.buf[len(c.unread):])
	c.unread = c.buf[:len(c.unread)+n]
	if c.filled = len(c.unread) == len(c.buf); n > 0 {
		return nil // what failed fails again
	}
	return err
}

// follows says whether the next message has come whole, in the same form; if so, it
// is read next.
func (c *conn) follows() bool {
	if c.plain || c.left > 0 || c.form != formUnframed && c.form != formFramed {
		return false
	}
	end, f := messageEnd(c.unread)
	if f != c.form || end == 0 || end > len(c.unread) {
		return false
	}
	c.size = 0
	return true
}

// receive reads from the socket under the bounds of a message. The first read of
// one waits for as long as the client likes.
func (c *conn) receive(p []byte) (int, error) {
	if c.state.Load() == stateIdle {
		n, err := c.Conn.Read(p)
		if n > 0 {
			c.size += n
			if err := c.enter(stateReading); err != nil {
				return 0, err
			}
		}
		return n, err
	}
	if c.deadline.IsZero() {
		c.deadline = time.Now().Add(c.opts.MessageTimeout)
		if !c.until.IsZero() && c.until.Before(c.deadline) {
			c.deadline = c.until
		}
		c.Conn.SetReadDeadline(c.deadline)
	}
	if c.size >= largeMessage && !c.large.held {
		ctx, cancel := context.WithDeadline(c.ctx, c.deadline)
		err := c.large.take(ctx)
		cancel()
		if err != nil {
			return 0, fmt.Errorf("waiting for other large messages: %w", err)
		}
	}
	most := c.maxMessage()
	if c.size >= most {
		return 0, errMessageTooLarge
	}
	if room := most - c.size; len(p) > room {
		p = p[:room]
	}
	n, err := c.Conn.Read(p)
	c.size += n
	return n, err
}

// writeChunk is what a client must take within the write timeout.
const writeChunk = 64 << 10

// heldPool has buffers for answers that are written together.
var heldPool = sync.Pool{New: func() any { return new([]byte) }}

// hold keeps answers together until release.
func (c *conn) hold() { c.held = heldPool.Get().(*[]byte) }

// release writes what was held.
func (c *conn) release() error {
	held := c.held
	c.held = nil
	_, err := c.Write(*held)
	if *held = (*held)[:0]; cap(*held) <= 2*writeChunk {
		heldPool.Put(held)
	}
	return err
}

// Write writes to the socket, a chunk at a time under a deadline of its own, so
// that a large answer may take long but a client that takes nothing may not.
func (c *conn) Write(p []byte) (written int, err error) {
	if held := c.held; held != nil {
		if *held = append(*held, p...); len(*held) < writeChunk {
			return len(p), nil
		}
		c.held = nil
		_, err := c.Write(*held)
		c.held, *held = held, (*held)[:0]
		return len(p), err
	}
	for len(p) > 0 {
		if now := time.Now(); c.writeUntil.Sub(now) < c.opts.WriteTimeout {
			// Twice the bound, so that most answers find one that is still good.
			c.writeUntil = now.Add(2 * c.opts.WriteTimeout)
			c.Conn.SetWriteDeadline(c.writeUntil)
		}
		n, err := c.Conn.Write(p[:min(len(p), writeChunk)])
		written += n
		if err != nil {
			return written, err
		}
		p = p[n:]
	}
	return written, nil
}

// linger lets a client that is still sending see the answer that was written
// before the connection is closed: closing with data unread would reset it.
func (c *conn) linger() {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	c.Conn.SetReadDeadline(time.Now().Add(time.Second))
	buf := make([]byte, 4<<10)
	for left := 1 << 20; left > 0; {
		n, err := c.Conn.Read(buf)
		if err != nil {
			return
		}
		left -= n
	}
}

// Open, IsOpen, Flush and RemainingBytes make a conn a Thrift transport.
func (c *conn) Open() error                 { return nil }
func (c *conn) IsOpen() bool                { return c.state.Load() != stateClosed }
func (c *conn) Flush(context.Context) error { return nil }
func (c *conn) RemainingBytes() uint64      { return thrift.UnknownRemainingBytes }
