package rpc

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"github.com/snower/forsun/rpc/access"
	"github.com/snower/forsun/scheduler"
)

// visitor is a connection that was let in.
type visitor struct {
	net.Conn          // what to speak over: TLS, or the socket
	raw      net.Conn // the socket: to close it from outside, since TLS would first write
	from     origin
	known    atomic.Bool // it may do something; over HTTP, its last request might
}

// origin is who is at the other end of a connection, as far as addresses and a
// certificate say.
type origin struct {
	peer scheduler.Peer
	addr netip.Addr
	mute bool          // it is a trusted proxy's, which did not say whom it speaks for
	cert *access.Shown // nil: none
}

// gate stands between a listener and a server, which accepts visitors from it. Of
// each connection it reads what a trusted proxy says of it, refuses peers that
// have no way to be let in, and does the TLS handshake, within
// Options.ArriveTimeout. Of those that have not come that far there is a bound;
// beyond it the one that has been at it longest is closed, one from where peers are
// not let in as they are first.
type gate struct {
	net.Listener
	opts  *Options
	quiet zerolog.Logger
	tls   *tls.Config // nil: none

	through chan passage
	done    chan struct{}
	once    sync.Once
	wg      sync.WaitGroup // the accepting loop, and connections on their way

	mu       sync.Mutex
	arriving map[net.Conn]arrival
}

// arrival is a connection that is not let in yet.
type arrival struct {
	since time.Time
	from  bool // where peers are let in as they are, or a proxy is trusted
}

// before says whether a is to go before b.
func (a arrival) before(b arrival) bool {
	if a.from != b.from {
		return b.from
	}
	return a.since.Before(b.since)
}

// passage is what Accept returns.
type passage struct {
	visitor *visitor
	err     error
}

func newGate(ln net.Listener, opts *Options, quiet zerolog.Logger) *gate {
	g := &gate{
		Listener: ln, opts: opts, quiet: quiet,
		through: make(chan passage), done: make(chan struct{}), arriving: map[net.Conn]arrival{},
	}
	if opts.TLS != nil {
		g.tls = opts.TLS.Config()
	}
	g.wg.Go(g.run)
	return g
}

// Accept returns the next connection that was let in, a *visitor.
func (g *gate) Accept() (net.Conn, error) {
	v, err := g.accept()
	if err != nil {
		return nil, err
	}
	return v, nil
}

func (g *gate) accept() (*visitor, error) {
	select {
	case p := <-g.through:
		return p.visitor, p.err
	case <-g.done:
		return nil, net.ErrClosed
	}
}

// Close closes the listener and every connection that is on its way, and waits
// for their goroutines.
func (g *gate) Close() (err error) {
	g.once.Do(func() {
		close(g.done)
		err = g.Listener.Close()
		g.mu.Lock()
		for c := range g.arriving {
			c.Close()
		}
		g.mu.Unlock()
	})
	g.wg.Wait()
	return err
}

// run accepts until Close, or until the listener is gone. Failures go to who
// accepts, who may wait before the next attempt.
func (g *gate) run() {
	for {
		c, err := g.Listener.Accept()
		if err != nil {
			if !g.pass(passage{err: err}) || errors.Is(err, net.ErrClosed) {
				return
			}
			continue
		}
		keepAlive(c)
		from := originOf(c)
		if from.mute = access.Contains(g.opts.TrustedProxies, from.addr); from.mute || g.tls != nil && g.welcome(from, true) {
			g.enter(c, from)
			continue
		}
		g.let(c, c, from)
	}
}

// pass gives a passage to who accepts, or says that nobody will any more.
func (g *gate) pass(p passage) bool {
	select {
	case g.through <- p:
		return true
	case <-g.done:
		return false
	}
}

// welcome says whether a peer is let in, or may still show that it is to be.
func (g *gate) welcome(from origin, handshake bool) bool {
	return from.mute || g.opts.caller(from, nil).right > access.None || g.opts.Tokens != nil ||
		handshake && g.opts.TLS != nil && g.opts.TLS.AsksClients()
}

// let lets a connection in, or closes it.
func (g *gate) let(raw, conn net.Conn, from origin) {
	if !g.welcome(from, false) {
		g.quiet.Warn().Str("peer", from.peer.Address).Msg("connection refused: peers are accepted from loopback, and from private networks or those of --allow-cidr")
		raw.Close()
		return
	}
	v := &visitor{Conn: conn, raw: raw, from: from}
	v.known.Store(g.opts.caller(from, nil).right > access.None)
	if !g.pass(passage{visitor: v}) {
		raw.Close()
	}
}

// enter begins what a connection that is not let in yet has to do for that.
func (g *gate) enter(c net.Conn, from origin) {
	g.mu.Lock()
	if len(g.arriving) >= g.opts.maxArriving() {
		var first net.Conn
		for other, a := range g.arriving {
			if first == nil || a.before(g.arriving[first]) {
				first = other
			}
		}
		first.Close()
		delete(g.arriving, first)
	}
	g.arriving[c] = arrival{since: time.Now(), from: g.opts.caller(from, nil).right > access.None}
	g.mu.Unlock()
	select {
	case <-g.done: // Close has not seen it
		c.Close()
		return
	default:
	}
	g.wg.Go(func() {
		raw, conn, err := g.arrive(c, &from)
		g.mu.Lock()
		delete(g.arriving, c)
		g.mu.Unlock()
		if err != nil {
			// Load balancers look whether the port is open, and that is all.
			if !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, net.ErrClosed) {
				g.quiet.Warn().Str("peer", from.peer.Address).Err(err).Msg("connection closed before it was let in")
			}
			c.Close()
			return
		}
		g.let(raw, conn, from)
	})
}

// arrive reads what a trusted proxy says, and does the TLS handshake.
func (g *gate) arrive(c net.Conn, from *origin) (raw, conn net.Conn, err error) {
	deadline := time.Now().Add(g.opts.ArriveTimeout)
	c.SetDeadline(deadline)
	conn = c
	if from.mute {
		client, found, other, err := access.ReadProxy(c)
		if err != nil {
			return nil, nil, err
		}
		if found && client.IsValid() {
			from.speaksFor(client)
		}
		if len(other) > 0 {
			conn = &replayed{Conn: c, first: bytes.NewReader(other)}
		}
		if !g.welcome(*from, true) {
			c.SetDeadline(time.Time{})
			return c, conn, nil // to be refused
		}
	}
	if g.tls != nil {
		secure := tls.Server(conn, g.tls)
		ctx, cancel := context.WithDeadline(context.Background(), deadline)
		defer cancel()
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, nil, fmt.Errorf("TLS: %w", err)
		}
		from.cert = g.opts.TLS.Shown(secure.ConnectionState())
		conn = secure
	}
	return c, conn, c.SetDeadline(time.Time{})
}

// replayed is a connection of which something was read already.
type replayed struct {
	net.Conn
	first *bytes.Reader
}

func (r *replayed) Read(p []byte) (int, error) {
	if r.first.Len() > 0 {
		return r.first.Read(p)
	}
	return r.Conn.Read(p)
}

// CloseWrite is that of the connection: see conn.linger.
func (r *replayed) CloseWrite() error {
	if half, ok := r.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// originOf says who is at the other end of a socket. A Unix socket's peer is on
// this machine; one whose address cannot be read is taken for a stranger.
func originOf(conn net.Conn) origin {
	switch a := conn.RemoteAddr().(type) {
	case *net.TCPAddr:
		at := a.AddrPort()
		return origin{peer: scheduler.NewPeer(at), addr: at.Addr().Unmap()}
	case *net.UnixAddr:
		return origin{peer: scheduler.Peer{Address: "unix socket", Loopback: true, Private: true}}
	case nil:
		return origin{peer: scheduler.Peer{Address: "unknown"}}
	default:
		return origin{peer: scheduler.Peer{Address: a.String()}}
	}
}

// speaksFor makes a proxy's origin that of its client. On loopback of this machine
// is who is so by the word of a proxy that is itself.
func (o *origin) speaksFor(client netip.AddrPort) {
	near := o.peer.Loopback
	o.peer, o.addr, o.mute = scheduler.NewPeer(client), client.Addr().Unmap(), false
	o.peer.Loopback = o.peer.Loopback && near
}
