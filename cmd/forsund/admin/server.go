package admin

import (
	"context"
	"errors"
	"log"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rs/zerolog"
)

const (
	scrapeTimeout = 5 * time.Second
	scrapesMost   = 4 // at a time
	headerTimeout = 5 * time.Second
	idleTimeout   = 2 * time.Minute
	headerBytes   = 16 << 10
)

// Server serves what operators ask. It answers while the store is away, and until the
// process ends.
type Server struct{ http *http.Server }

// NewServer returns a server of /metrics, /livez, /readyz and /debug/pprof/.
func NewServer(w *Watch, registry *prometheus.Registry, logger zerolog.Logger) *Server {
	quiet := logger.Sample(&zerolog.BurstSampler{Burst: 10, Period: time.Minute})
	mux := http.NewServeMux()
	mux.HandleFunc("/livez", w.Live)
	mux.HandleFunc("/readyz", w.Ready)
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorLog: log.New(quiet, "", 0), ErrorHandling: promhttp.ContinueOnError,
		MaxRequestsInFlight: scrapesMost, Timeout: scrapeTimeout,
	}))
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	// Not pprof.Cmdline: passwords may be on the command line.
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return &Server{&http.Server{
		Handler: sameSite(mux), ReadHeaderTimeout: headerTimeout, ReadTimeout: headerTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: headerBytes, ErrorLog: log.New(quiet, "", 0),
	}}
}

// sameSite refuses what a browser sends for a page of somewhere else: the port is
// there for whoever is on this machine, not for what their browser shows.
func sameSite(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if site := r.Header.Get("Sec-Fetch-Site"); r.Header.Get("Origin") != "" || site != "" && site != "none" && site != "same-origin" {
			http.Error(rw, "a page of another origin may not use this interface", http.StatusForbidden)
			return
		}
		next.ServeHTTP(rw, r)
	})
}

// Serve accepts connections on ln until Shutdown, or until ln fails. It closes ln.
// After Shutdown it returns nil.
func (s *Server) Serve(ln net.Listener) error {
	if err := s.http.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Shutdown ends the server. Nobody is waited for: a profile may take minutes.
func (s *Server) Shutdown(context.Context) error { return s.http.Close() }
