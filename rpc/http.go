package rpc

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/snower/forsun/rpc/access"
	"github.com/snower/forsun/scheduler"
)

// HTTPServer serves the HTTP interface of a Service. Make one with
// NewHTTPServer, give it a listener with Serve, end it with Shutdown.
type HTTPServer struct {
	opts  Options
	log   zerolog.Logger
	quiet zerolog.Logger
	info  *Info
	stats *stats
	large slots
	delay delays
	need  func(endpoint string) access.Right
	mux   *http.ServeMux
	http  *http.Server
	api   *api

	mu   sync.Mutex
	idle map[net.Conn]time.Time // connections between requests, since when
	open map[net.Conn]struct{}
}

// Bounds of the HTTP interface that need no option.
const (
	headerBytes   = 64 << 10
	headerTimeout = 10 * time.Second
	idleTimeout   = 5 * time.Minute // between two requests of a connection
)

// NewHTTPServer returns an HTTP server of svc. It panics if opts.Validate fails.
//
//	GET    /v1/ping
//	POST   /v1/plan        create calendar plans   (JSON object or list, or crontab lines)
//	PUT    /v1/plan        create timeout plans    (the same)
//	GET    /v1/plan        ?key=                   one plan
//	DELETE /v1/plan        ?key=                   remove it
//	GET    /v1/plan/next   ?key=&n=                its next n due seconds
//	GET    /v1/plans       ?prefix=&cursor=&limit= plans by key, in pages
//	GET    /v1/keys        ?prefix=                all keys; with cursor or limit in pages
//	GET    /v1/time        ?timestamp=             plans due at a second; with cursor or limit in pages
//	GET    /v1/info
//	GET    /v1/history     ?key=&cursor=&limit=    finished attempts, newest first
//	GET    /v1/dead        ?key=&cursor=&limit=    dead letters, newest first
//	POST   /v1/dead/redrive                        {"ids": […]}, {"key": "…"} or {"all": true}
//	POST   /v1/dead/purge                          the same; also DELETE
//	GET    /v1/shards
//	GET    /v1/replicas
//	GET    /v1/doctor                              what is wrong, the worst first; it may take a minute
//
// Answers have status 200 and {"errcode": 0, "errmsg": "", "data": …}. Other
// statuses: 400 for a body that cannot be read or is of another type than JSON
// or crontab, 401 for a peer that has to show a token, or showed one that is not
// valid, 403 for a foreign Origin, 404, 405, 413.
func NewHTTPServer(svc *scheduler.Service, opts Options) *HTTPServer {
	if err := opts.Validate(); err != nil {
		panic("rpc: " + err.Error())
	}
	if opts.Info == nil {
		opts.Info = NewInfo(svc, About{})
	}
	s := &HTTPServer{
		opts:  opts,
		log:   opts.Logger,
		quiet: quiet(opts.Logger),
		info:  opts.Info,
		stats: &opts.Info.http,
		large: make(slots, opts.MaxLarge),
		delay: newDelays(),
		need:  httpNeeds(),
		mux:   http.NewServeMux(),
		idle:  map[net.Conn]time.Time{},
		open:  map[net.Conn]struct{}{},
	}
	s.api = &api{svc: svc, info: opts.Info, opts: opts, log: opts.Logger, audit: newAudit(opts)}
	for path, methods := range s.api.paths() {
		s.mux.Handle(path, s.envelope(methods))
	}
	s.http = &http.Server{
		Handler:           s.guard(s.mux),
		MaxHeaderBytes:    headerBytes,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       opts.MessageTimeout,
		IdleTimeout:       idleTimeout,
		ConnState:         s.connState,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return withVisitor(ctx, c.(*visitor))
		},
		ErrorLog: log.New(s.quiet, "", 0),
	}
	return s
}

// Handle serves another path beside the API's, under the same bounds on peers,
// origins, sizes and times, to every peer that is let in, whatever its token may
// do. Call it before Serve.
func (s *HTTPServer) Handle(pattern string, h http.Handler) { s.mux.Handle(pattern, h) }

// Serve accepts connections on ln until Shutdown, or until ln fails. It closes
// ln. After Shutdown it returns nil.
func (s *HTTPServer) Serve(ln net.Listener) error {
	s.info.httpAddr(ln.Addr())
	s.log.Info().Stringer("address", ln.Addr()).Msg("http server listens")
	err := s.http.Serve(newGate(ln, &s.opts, s.quiet))
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Shutdown stops accepting, closes idle connections, and waits for the requests
// in progress. When ctx is done before they are, their connections are closed
// and its error is returned.
func (s *HTTPServer) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	for c := range s.idle { // net/http would wait 5 s for those that never asked anything
		c.(*visitor).raw.Close()
	}
	s.mu.Unlock()
	err := s.http.Shutdown(ctx)
	if err != nil {
		s.http.Close()
	}
	return err
}

// connState counts connections, and at the limit closes the one that has been
// idle longest, or the new one if none is.
func (s *HTTPServer) connState(c net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch state {
	case http.StateNew:
		s.stats.connected.Add(1)
		s.stats.connecting.Add(1)
		s.open[c] = struct{}{}
		s.idle[c] = time.Now()
		if len(s.open) > s.opts.MaxConns {
			s.closeOldest()
		}
	case http.StateActive:
		delete(s.idle, c)
	case http.StateIdle:
		s.idle[c] = time.Now()
	case http.StateClosed, http.StateHijacked:
		delete(s.idle, c)
		if _, ok := s.open[c]; ok {
			delete(s.open, c)
			s.stats.connecting.Add(-1)
		}
	}
}

// closeOldest closes the connection that has been idle longest, a stranger's
// first: at worst the new one, which has not asked anything yet.
func (s *HTTPServer) closeOldest() {
	var oldest *visitor
	for c, since := range s.idle {
		v := c.(*visitor)
		if oldest == nil || !v.known.Load() && oldest.known.Load() ||
			v.known.Load() == oldest.known.Load() && since.Before(s.idle[oldest]) {
			oldest = v
		}
	}
	if oldest != nil {
		delete(s.idle, oldest)
		oldest.raw.Close()
	}
}

// guard refuses foreign origins and strangers, and bounds what a request can cost.
func (s *HTTPServer) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).SetWriteDeadline(time.Now().Add(s.opts.MessageTimeout + s.opts.WriteTimeout))
		// identify below sees to it that a token is valid where there are any.
		_, token := bearer(r)
		if foreign(r, token && s.opts.Tokens != nil) {
			http.Error(w, "a page of another origin may not use this interface", http.StatusForbidden)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, int64(s.opts.MaxMessage))
		c, err := s.identify(r)
		if err == nil {
			err = s.opts.refusal(c, r.Method+" "+r.URL.Path, access.Open)
		}
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		next.ServeHTTP(w, r.WithContext(withCaller(r.Context(), c)))
	})
}

// foreign says whether a browser sent r for a page of another origin. Programs
// send no Origin. Nor is a name its own proof: whoever owns one can have it point to
// this machine (DNS rebinding), and then the page's origin is the host it asks. So a
// page by a name needs a token, too: any other Authorization it can make up.
func foreign(r *http.Request, token bool) bool {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return false
	}
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" || !strings.EqualFold(u.Host, r.Host) {
		return true
	}
	_, err = netip.ParseAddr(u.Hostname())
	return err != nil && u.Hostname() != "localhost" && !token
}

// statusError is an answer outside of the envelope.
type statusError struct {
	status int
	text   string
}

func (e *statusError) Error() string { return e.text }

// endpoint answers one method of a path with what goes into data.
type endpoint func(ctx context.Context, r *http.Request) (data any, err error)

// envelope serves a path: it picks the method's endpoint, counts, and writes the
// envelope.
func (s *HTTPServer) envelope(methods map[string]endpoint) http.Handler {
	allowed := make([]string, 0, len(methods))
	for _, m := range []string{"GET", "POST", "PUT", "DELETE"} {
		if methods[m] != nil {
			allowed = append(allowed, m)
		}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		do, ok := methods[r.Method]
		if !ok {
			w.Header().Set("Allow", strings.Join(allowed, ", "))
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
			return
		}
		h := &holder{slots: s.large}
		defer h.release()
		s.stats.requesting.Add(1)
		defer func() {
			s.stats.requesting.Add(-1)
			s.stats.requested.Add(1)
		}()
		data, err := any(nil), s.permit(r)
		if err == nil {
			data, err = s.safely(withHolder(r.Context(), h), r, do)
		}
		var status *statusError
		if errors.As(err, &status) {
			http.Error(w, status.text, status.status)
			return
		}
		e := s.api.envelope(r, data, err)
		if e.unexpected {
			s.stats.failed.Add(1)
		}
		s.write(w, e)
	})
}

// safely runs an endpoint and turns a panic into an error.
func (s *HTTPServer) safely(ctx context.Context, r *http.Request, do endpoint) (data any, err error) {
	defer func() {
		if v := recover(); v != nil {
			s.log.Error().Str("method", r.Method).Str("path", r.URL.Path).Interface("panic", v).Bytes("stack", debug.Stack()).Msg("a request panicked")
			data, err = nil, fmt.Errorf("panic: %v", v)
		}
	}()
	return do(ctx, r)
}

// write sends an envelope, a chunk at a time under a deadline of its own: see
// conn.Write.
func (s *HTTPServer) write(w http.ResponseWriter, e *envelope) {
	body, err := e.encode()
	if err != nil {
		s.log.Error().Err(err).Msg("encoding an answer failed")
		http.Error(w, "encoding the answer failed", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	w.Header().Set("Content-Length", fmt.Sprint(len(body)))
	deadline := http.NewResponseController(w)
	for len(body) > 0 {
		deadline.SetWriteDeadline(time.Now().Add(s.opts.WriteTimeout))
		n, err := w.Write(body[:min(len(body), writeChunk)])
		if err != nil {
			return // the client is gone
		}
		body = body[n:]
	}
}
