package rpc

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/snower/forsun/rpc/access"
	"github.com/snower/forsun/scheduler"
)

type (
	visitorKey struct{}
	callerKey  struct{}
)

// withVisitor notes the connection that requests come by.
func withVisitor(ctx context.Context, v *visitor) context.Context {
	return context.WithValue(ctx, visitorKey{}, v)
}

// withCaller notes who sent a request, for the endpoint and for the Service.
func withCaller(ctx context.Context, c caller) context.Context {
	return scheduler.WithPeer(context.WithValue(ctx, callerKey{}, c), c.peer)
}

// errForwarded refuses a request of which a proxy says something that makes no
// sense.
var errForwarded = &statusError{http.StatusBadRequest, "X-Forwarded-For does not end with an address"}

// identify says who sent r: the peer of its connection or, if that is a trusted
// proxy, whom it speaks for; and what the token allows that it shows.
func (s *HTTPServer) identify(r *http.Request) (caller, error) {
	v, ok := r.Context().Value(visitorKey{}).(*visitor)
	if !ok {
		return caller{}, errors.New("no connection")
	}
	from := v.from
	if access.Contains(s.opts.TrustedProxies, from.addr) {
		way, err := access.Forwarded(r.Header.Values("X-Forwarded-For"), s.opts.TrustedProxies)
		if err != nil {
			return caller{}, errForwarded
		}
		for _, client := range way {
			from.speaksFor(client)
			from.cert = nil // the proxy's own
		}
	}
	var token *access.Token
	if presented, ok := bearer(r); ok && s.opts.Tokens != nil {
		if token = s.opts.Tokens.Find(presented); token == nil {
			s.quiet.Warn().Str("peer", from.peer.Address).Msg("a token was shown that is not valid")
			s.delay.wait(r.Context())
			return caller{}, errBadToken
		}
	}
	c := s.opts.caller(from, token)
	v.known.Store(c.right > access.None)
	return c, nil
}

// bearer returns the token that r shows.
func bearer(r *http.Request) (string, bool) {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	return strings.TrimSpace(token), ok && strings.EqualFold(scheme, "Bearer")
}

// refuse answers a request of somebody who is not let in, and ends the connection.
func (s *HTTPServer) refuse(w http.ResponseWriter, r *http.Request, err error) {
	s.stats.requested.Add(1)
	w.Header().Set("Connection", "close")
	var status *statusError
	switch {
	case errors.As(err, &status):
		http.Error(w, status.text, status.status)
		return
	case errors.Is(err, errBadToken):
		w.Header().Set("WWW-Authenticate", `Bearer realm="forsun", error="invalid_token"`)
	case s.opts.Tokens != nil:
		w.Header().Set("WWW-Authenticate", `Bearer realm="forsun"`)
	}
	http.Error(w, err.Error(), http.StatusUnauthorized)
}

// permit refuses a request for an endpoint that its caller may not use.
func (s *HTTPServer) permit(r *http.Request) error {
	c, _ := r.Context().Value(callerKey{}).(caller)
	endpoint := r.Method + " " + r.URL.Path
	return s.opts.refusal(c, endpoint, s.need(endpoint))
}
