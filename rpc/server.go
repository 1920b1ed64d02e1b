package rpc

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apache/thrift/lib/go/thrift"
	"github.com/rs/zerolog"

	"github.com/snower/forsun/scheduler"
)

// Server serves the Thrift interface of a Service. Make one with NewServer,
// give it listeners with Serve, end it with Shutdown.
type Server struct {
	opts    Options
	log     zerolog.Logger
	quiet   zerolog.Logger // for what clients can cause at will: a few lines a minute
	info    *Info
	stats   *stats
	handler *handler
	methods map[string]method
	large   slots
	delays  delays
	started time.Time // of the monotonic clock connections are compared by

	ctx    context.Context // of every request
	cancel context.CancelFunc

	closing atomic.Bool // set under mu
	mu      sync.Mutex
	gates   map[*gate]struct{}
	conns   map[*conn]struct{}
	wg      sync.WaitGroup // connections
}

// NewServer returns a Server of svc. It panics if opts.Validate fails.
func NewServer(svc *scheduler.Service, opts Options) *Server {
	if err := opts.Validate(); err != nil {
		panic("rpc: " + err.Error())
	}
	if opts.Info == nil {
		opts.Info = NewInfo(svc, About{})
	}
	s := &Server{
		opts:    opts,
		log:     opts.Logger,
		quiet:   quiet(opts.Logger),
		info:    opts.Info,
		stats:   &opts.Info.thrift,
		large:   make(slots, opts.MaxLarge),
		delays:  newDelays(),
		started: time.Now(),
		gates:   map[*gate]struct{}{},
		conns:   map[*conn]struct{}{},
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.handler = newHandler(svc, opts)
	s.methods = s.handler.methods()
	need := thriftNeeds()
	for name, m := range s.methods {
		m.need = need(name)
		s.methods[name] = m
	}
	return s
}

// quiet is for what clients can cause at will.
func quiet(log zerolog.Logger) zerolog.Logger {
	return log.Sample(&zerolog.BurstSampler{Burst: 10, Period: time.Minute})
}

// Serve accepts connections on ln until Shutdown, or until ln fails. It closes
// ln. After Shutdown it returns nil.
func (s *Server) Serve(ln net.Listener) error {
	s.mu.Lock()
	if s.closing.Load() {
		s.mu.Unlock()
		ln.Close()
		return nil
	}
	g := newGate(ln, &s.opts, s.quiet)
	s.gates[g] = struct{}{}
	s.mu.Unlock()
	defer func() {
		g.Close()
		s.mu.Lock()
		delete(s.gates, g)
		s.mu.Unlock()
	}()
	s.info.thriftAddr(ln.Addr())
	s.log.Info().Stringer("address", ln.Addr()).Msg("thrift server listens")

	backoff := backoff{}
	for {
		v, err := g.accept()
		if err == nil {
			backoff.reset()
			s.admit(v)
			continue
		}
		if s.closing.Load() {
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		// Out of descriptors or memory: what is open goes on, and may end.
		s.quiet.Error().Err(err).Msg("accepting a connection failed")
		s.evict()
		if !backoff.wait(s.ctx) {
			return nil
		}
	}
}

// backoff spaces out attempts after failures: 5 ms, doubling up to 1 s.
type backoff struct{ delay time.Duration }

func (b *backoff) reset() { b.delay = 0 }

// wait waits for the next delay, or returns false when ctx is done.
func (b *backoff) wait(ctx context.Context) bool {
	b.delay = min(max(2*b.delay, 5*time.Millisecond), time.Second)
	select {
	case <-time.After(b.delay):
		return true
	case <-ctx.Done():
		return false
	}
}

// admit starts serving a new connection, or closes it.
func (s *Server) admit(v *visitor) {
	peer := v.from.peer
	c := &conn{
		Conn:  v.Conn,
		raw:   v.raw,
		opts:  &s.opts,
		large: holder{slots: s.large},
		clock: func() int64 { return int64(time.Since(s.started)) },
	}
	c.since.Store(c.clock())
	c.ctx = withHolder(s.ctx, &c.large)
	session := newSession(c.ctx, &s.opts, v.from, s.delays, c)
	if !v.known.Load() {
		c.unknown(time.Now().Add(s.opts.ArriveTimeout))
	}

	if !s.register(c) {
		s.quiet.Warn().Str("peer", peer.Address).Int("limit", s.opts.MaxConns).Msg("connection refused: too many, and none of them idle")
		c.raw.Close()
		return
	}
	go s.serve(c, session)
}

// register adds c to the connections, after making room if there is none.
func (s *Server) register(c *conn) bool {
	s.mu.Lock()
	full := len(s.conns) >= s.opts.MaxConns
	s.mu.Unlock()
	if c.stranger.Load() {
		s.evictStranger(s.opts.maxArriving())
	}
	if full && !s.evict() {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing.Load() {
		return false
	}
	s.conns[c] = struct{}{}
	s.wg.Add(1)
	s.stats.connecting.Add(1)
	s.stats.connected.Add(1)
	return true
}

// evict closes the connection that has been idle longest, a stranger's first; if
// none is idle, the one whose message has been arriving longest. It says whether
// it closed one.
func (s *Server) evict() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.evictFrom(func(c *conn) bool { return c.stranger.Load() }) || s.evictFrom(func(*conn) bool { return true })
}

// evictStranger closes a stranger's connection if there are as many as may be.
func (s *Server) evictStranger(most int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for c := range s.conns {
		if c.stranger.Load() {
			n++
		}
	}
	if n >= most {
		s.evictFrom(func(c *conn) bool { return c.stranger.Load() })
	}
}

// evictFrom closes one of the connections that are eligible; s.mu is held.
func (s *Server) evictFrom(eligible func(*conn) bool) bool {
	for _, state := range []int32{stateIdle, stateReading} {
		for {
			oldest := s.oldest(state, eligible)
			if oldest == nil {
				break
			}
			if oldest.closeIf(state) {
				delete(s.conns, oldest)
				return true
			}
		}
	}
	return false
}

// oldest returns the connection that has been in state longest, or nil.
func (s *Server) oldest(state int32, eligible func(*conn) bool) (oldest *conn) {
	for c := range s.conns {
		if c.state.Load() == state && eligible(c) && (oldest == nil || c.since.Load() < oldest.since.Load()) {
			oldest = c
		}
	}
	return oldest
}

// serve answers the messages of a connection until it ends.
func (s *Server) serve(c *conn, session *session) {
	peer := session.from.peer
	defer s.wg.Done()
	defer func() {
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
		c.Close()
		c.large.release()
		s.stats.connecting.Add(-1)
		if v := recover(); v != nil { // in reading: a defect of the library
			s.log.Error().Str("peer", peer.Address).Interface("panic", v).Msg("reading a message failed")
		}
	}()

	d := newDispatcher(c.ctx, c, s.opts.MaxMessage, s.handler, s.methods, s.stats)
	d.enter = session.enter
	d.begun = func() error { return c.enter(stateBusy) }
	d.panicked = func(method string, v any, stack []byte) {
		s.log.Error().Str("peer", peer.Address).Str("method", method).Interface("panic", v).Bytes("stack", stack).Msg("a method panicked")
	}
	for {
		err := d.next(c.ctx)
		if err == nil {
			err = c.messageDone()
		}
		if err == nil && session.over {
			c.linger()
			return
		}
		if err == nil && s.closing.Load() {
			return
		}
		if err != nil {
			if !gone(err) {
				s.quiet.Warn().Str("peer", peer.Address).Err(err).Msg("connection closed")
			}
			if errors.Is(err, errBadMessage) || errors.Is(err, errRefused) {
				c.linger()
			}
			return
		}
	}
}

// gone says whether err is the client's leaving, or our closing.
func gone(err error) bool {
	var te thrift.TTransportException
	return errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) ||
		errors.As(err, &te) && te.TypeId() == thrift.END_OF_FILE
}

// keepAlive lets the system find out about peers that vanished.
func keepAlive(nc net.Conn) {
	if tcp, ok := nc.(*net.TCPConn); ok {
		tcp.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: time.Minute, Interval: 15 * time.Second, Count: 4})
	}
}

// Shutdown stops accepting, closes idle connections, and waits for the calls in
// progress. When ctx is done before they are, they are cancelled and their
// connections closed, and its error is returned.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.closing.Store(true)
	for g := range s.gates {
		g.Close()
	}
	for c := range s.conns {
		c.closeIf(stateIdle)
	}
	s.mu.Unlock()
	defer s.cancel()

	done := make(chan struct{})
	go func() {
		s.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	s.cancel()
	s.mu.Lock()
	for c := range s.conns {
		c.state.Store(stateClosed)
		c.raw.Close()
	}
	s.mu.Unlock()
	<-done // a method ends soon after its context
	return ctx.Err()
}

// stats counts the connections and requests of one interface.
type stats struct {
	connecting atomic.Int64 // open now
	connected  atomic.Int64 // accepted so far
	requesting atomic.Int64 // being answered now
	requested  atomic.Int64 // answered so far
	failed     atomic.Int64 // of these, with an error
}
