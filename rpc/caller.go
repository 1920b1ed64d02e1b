package rpc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/snower/forsun/rpc/access"
	"github.com/snower/forsun/scheduler"
)

// caller is who asks for something, and what it may.
type caller struct {
	peer  scheduler.Peer
	right access.Right
}

// caller judges who is at the other end of a connection and the token that was
// shown, which decides if there is one. A good certificate, or an address that is
// let in, may do everything; see scheduler.ShellFrom for what is left to the
// Service.
func (o *Options) caller(from origin, token *access.Token) caller {
	c := caller{peer: from.peer, right: access.Admin}
	switch {
	case token != nil:
		c.peer.Authenticated, c.peer.Name, c.peer.Scope = true, token.Name, token.Scope
		c.right = token.Right
	case from.cert != nil && o.TLS.Good(from.cert):
		c.peer.Authenticated, c.peer.Name = true, from.cert.Name()
	case from.mute:
		c.right = access.Open
	case !o.accepts(from.peer, from.addr):
		c.right = access.None
	}
	return c
}

// refusal is why a caller may not do what it asked for, or nil.
func (o *Options) refusal(c caller, what string, need access.Right) error {
	switch {
	case c.right >= need:
		return nil
	case c.peer.Name != "":
		return fmt.Errorf("%s: %w: %s has the right %s, this needs %s", what, scheduler.ErrNotAllowed, c.peer.Name, c.right, need)
	case c.right == access.Open:
		return fmt.Errorf("%s: %w: the proxy at %s did not say whom it speaks for, by the PROXY protocol or, over HTTP, X-Forwarded-For; "+
			"let it do so, or take it out of --trusted-proxies", what, scheduler.ErrNotAllowed, c.peer.Address)
	default:
		return fmt.Errorf("%s: %w: %s is on no network that is let in as it is; show a token (forsun --token-file, Thrift auth, HTTP Authorization: Bearer)"+
			" or a client certificate, or let the server open itself to that network with --allow-cidr", what, scheduler.ErrNotAllowed, c.peer.Address)
	}
}

// errBadToken is all that is said of a token that is not valid.
var errBadToken = fmt.Errorf("token: %w: it is none of those in the server's --auth-token-file", scheduler.ErrNotAllowed)

// errNoTokens is the answer where none can be valid.
var errNoTokens = fmt.Errorf("token: %w: the server has none, for want of --auth-token-file", scheduler.ErrNotAllowed)

// Failed attempts to show a token are answered late, up to so many at a time: the
// others at once, since to keep them waiting would cost more than it helps.
const (
	failureDelay = time.Second
	maxDelayed   = 64
)

// delays is what attempts wait in.
type delays chan struct{}

func newDelays() delays { return make(delays, maxDelayed) }

// wait waits after a failed attempt, until ctx is done at most.
func (d delays) wait(ctx context.Context) {
	select {
	case d <- struct{}{}:
	default:
		return
	}
	defer func() { <-d }()
	late := time.NewTimer(failureDelay)
	defer late.Stop()
	select {
	case <-late.C:
	case <-ctx.Done():
	}
}

// session is a Thrift connection's caller over time: tokens and certificates may
// be shown, and become invalid, while it is open. It is used by the connection's
// goroutine.
type session struct {
	opts   *Options
	base   context.Context
	from   origin
	token  *access.Token
	delays delays
	conn   *conn

	last caller
	ctx  context.Context // base with last's peer
	over bool            // the connection ends with the answer under way
}

func newSession(base context.Context, opts *Options, from origin, d delays, c *conn) *session {
	s := &session{opts: opts, base: base, from: from, delays: d, conn: c}
	s.base = context.WithValue(base, sessionKey{}, s)
	s.caller()
	return s
}

type sessionKey struct{}

// caller returns who calls now.
func (s *session) caller() caller {
	if s.token != nil {
		s.token = s.opts.Tokens.Now(s.token)
	}
	if c := s.opts.caller(s.from, s.token); c != s.last || s.ctx == nil {
		s.last, s.ctx = c, scheduler.WithPeer(s.base, c.peer)
	}
	return s.last
}

// enter returns the context for a call, and why it is refused, if it is; final
// says that nothing more is to be had of the caller.
func (s *session) enter(method string, need access.Right) (ctx context.Context, final bool, refused error) {
	c := s.caller()
	refused = s.opts.refusal(c, method, need)
	return s.ctx, refused != nil && c.right == access.None, refused
}

// authenticate takes a token, and answers with its name. After one that is not
// valid the connection ends.
func (s *session) authenticate(ctx context.Context, presented string) (string, error) {
	if s.opts.Tokens == nil {
		return "", errNoTokens
	}
	token := s.opts.Tokens.Find(presented)
	if token == nil {
		s.over = true
		s.delays.wait(ctx)
		return "", errBadToken
	}
	s.token = token
	s.caller()
	s.conn.known()
	return token.Name, nil
}

// sessionFrom returns the session of a Thrift call.
func sessionFrom(ctx context.Context) (*session, error) {
	s, ok := ctx.Value(sessionKey{}).(*session)
	if !ok {
		return nil, errors.New("no session")
	}
	return s, nil
}
