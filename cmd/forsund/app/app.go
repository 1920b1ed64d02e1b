// Package app is forsund without its process: it reads the command line,
// wires store, actions, engine and servers together, runs them, and takes them
// down again. Signals and the exit status are its caller's.
package app

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/snower/forsun/cmd/forsund/admin"
	"github.com/snower/forsun/redisstore"
	"github.com/snower/forsun/scheduler"
	"github.com/snower/forsun/scheduler/memstore"
)

const (
	// stopMargin is what stopping may take beyond the drain: cutting off what
	// still runs, handing it back, closing the store.
	stopMargin = 15 * time.Second
	// stopFailed bounds stopping when there is no store left to finish into.
	stopFailed = 10 * time.Second
	// askTimeout bounds the one question that the start asks the store.
	askTimeout = 10 * time.Second
)

// Process is what the app needs of the process it is in.
type Process struct {
	Version string
	Name    string   // as it was called, for the hint
	Stderr  *os.File // for logs without a file, and the hint
	Env     func(string) (string, bool)
	Reload  <-chan os.Signal // files are to be read again: see reloads
	Report  *Report          // to make once everything serves, or cannot; nil: none

	// Actions are those of a main of its own, by the names that Parse was given.
	Actions map[string]scheduler.Action
}

// Run starts forsund and runs it until ctx is done or its store fails. It
// returns nil after an orderly stop. If it cannot start it leaves nothing behind:
// ports, log and store are tried before anything is served or fired.
func Run(ctx context.Context, o *Options, p Process) error {
	a := &app{o: o, p: p, log: zerolog.Nop(), ended: make(chan error, 4), watch: admin.NewWatch(), metrics: admin.NewRegistry()}
	a.secrets.path, a.secrets.env = o.SecretsFile, p.Env
	if err := a.start(ctx); err != nil {
		a.watch.Drain()
		unwound := a.steps.unwind(stopFailed)
		if ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) && unwound == nil {
			// While it waited for Redis.
			a.log.Info().Str("why", context.Cause(ctx).Error()).Msg("stopped before it was ready")
			p.Report.Failed(context.Cause(ctx))
			return nil
		}
		err = errors.Join(err, unwound)
		p.Report.Failed(err)
		if a.logFile != nil { // without one, the caller's line is enough
			a.log.Error().Err(err).Msg("cannot start")
		}
		return err
	}
	p.Report.Ready()
	a.super.ready()
	gone := a.watchProgress()
	defer gone()
	bound := o.DrainTimeout + stopMargin
	var failure error
	for failure == nil && ctx.Err() == nil {
		select {
		case <-ctx.Done():
			a.log.Info().Str("why", context.Cause(ctx).Error()).Dur("drain_ms", o.DrainTimeout).Msg("stopping")
		case err := <-a.storeFailed:
			bound, failure = stopFailed, err
		case err := <-a.ended:
			failure = err
		case <-p.Reload:
			a.super.reloading()
			a.reloads.run()
			a.super.ready()
		}
	}
	a.watch.Drain()
	if failure != nil {
		a.log.Error().Err(failure).Msg("stopping, since forsund cannot go on")
	}
	a.stopping.Store(true)
	a.super.stopping(bound)
	err := errors.Join(failure, a.steps.unwind(bound))
	if err == nil {
		a.log.Info().Msg("stopped")
	}
	return err
}

// app is a forsund in the making, or running.
type app struct {
	o *Options
	p Process

	log      zerolog.Logger
	logFile  *logFile  // nil without one
	logLines io.Writer // see openLog
	steps    steps     // to take down what stands
	reloads  reloads   // to read again what may have changed
	secrets  secrets   // what plans may name
	super    *supervisor

	stopping atomic.Bool             // steps are being taken down
	health   func() scheduler.Health // of the engine

	watch   *admin.Watch
	metrics *prometheus.Registry

	adminAddr string // where it is served; "": nowhere

	store       scheduler.Store
	embedded    *memstore.Store                           // what store times, if it is the embedded one; else nil
	storeFailed <-chan error                              // why the store cannot go on; nil if it always can
	promises    func(context.Context) []scheduler.Finding // what its configuration cannot promise; nil: it has none
	ended       chan error                                // what was to run for ever and did not
}

// start brings everything up, each part noting how it is taken down. What can
// be in somebody else's hands comes first: ports, log file, store.
func (a *app) start(ctx context.Context) error {
	listener, err := listen("--port", a.o.Bind, strconv.Itoa(a.o.Port))
	if err != nil {
		return err
	}
	a.steps.push("port", closing(listener))
	var httpListener net.Listener
	if a.o.HTTP != "" {
		host, port, _ := net.SplitHostPort(a.o.HTTP) // checked by Parse
		if httpListener, err = listen("--http", host, port); err != nil {
			return err
		}
		a.steps.push("http port", closing(httpListener))
	}
	var adminListener net.Listener
	if a.o.Admin != "" {
		host, port, _ := net.SplitHostPort(a.o.Admin) // checked by Parse
		if adminListener, err = listen("--admin", host, port); err != nil {
			return err
		}
		a.steps.push("admin port", closing(adminListener))
	}
	if a.log, a.logLines, a.logFile, err = openLog(a.o, a.p.Stderr, a.p.Env); err != nil {
		return err
	}
	a.steps.log, a.reloads.log = a.log, a.log
	if a.logFile != nil {
		a.reloads.add("log file", a.logFile.Reopen)
	}
	routeSlog(a.log)
	if err := a.secrets.load(); err != nil {
		return err
	}
	if a.o.SecretsFile != "" {
		a.reloads.add("secrets file", a.secrets.load)
	}
	if err := armFailpoint(a.log, a.p.Env); err != nil {
		return err
	}
	a.super = newSupervisor(a.p.Env, os.Getpid(), a.log)
	forgetSupervisor()
	if a.o.Driver == driverRedis {
		a.super.starting("waiting for Redis")
	}
	if adminListener != nil {
		// It is the first to answer and the last to stop: whoever asks is told that
		// forsund waits for its store, or drains.
		a.serveOn(adminListener, "admin server", admin.NewServer(a.watch, a.metrics, a.log))
		a.adminAddr = adminListener.Addr().String()
		if !isLoopback(adminListener) {
			a.log.Warn().Str("address", a.adminAddr).
				Msg("--admin listens beyond this machine: whoever can connect reads metrics and profiles, which show memory")
		}
	}
	replica := replicaID()
	if err := a.openStore(ctx, replica); err != nil {
		return err
	}
	a.steps.push("store", func(context.Context) error { return a.store.Close() })
	if s, ok := a.store.(interface {
		Report(context.Context) []scheduler.Finding
	}); ok {
		a.promises = s.Report
	}
	a.store = admin.TimeStore(a.store, a.metrics)
	return a.serve(ctx, replica, listener, httpListener)
}

// watchProgress has the supervisor told how this process is, until gone is called.
func (a *app) watchProgress() (gone func()) {
	stop := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		a.super.run(stop, func() (stuck, status string) {
			if a.stopping.Load() {
				return "", "draining" // that has a bound of its own
			}
			h := a.health()
			return stuckLoop(h), doing(h)
		})
	})
	return func() { close(stop); watching.Wait() }
}

// openStore opens the store. Redis may be down: it is waited for until ctx is done.
func (a *app) openStore(ctx context.Context, replica string) error {
	if a.o.Driver == driverRedis {
		opts, err := a.o.Redis.Options()
		if err != nil {
			return err
		}
		opts.Timezone = a.o.Zone.String()
		opts.Actions = a.o.Actions
		opts.Replica = replica
		opts.Version = a.p.Version
		opts.Log = a.log
		a.store, err = redisstore.Open(ctx, opts)
		return err
	}
	opts := memstore.DefaultOptions()
	opts.Dir = a.o.StoreDir
	opts.Sync = a.o.StoreSync
	opts.MaxDeliveries = scheduler.DefaultEngineOptions().MaxDeliveries // one bound, whoever counts
	opts.Log = a.log
	store, err := memstore.Open(opts)
	if err != nil {
		return err
	}
	a.store, a.embedded, a.storeFailed = store, store, store.Failed()
	return nil
}

// listen binds an address and nothing wider. "tcp" with 0.0.0.0 would take every
// IPv6 address, too.
func listen(option, host, port string) (net.Listener, error) {
	network := "tcp"
	if addr, err := netip.ParseAddr(host); err == nil {
		network = "tcp6"
		if addr.Is4() {
			network = "tcp4"
		}
	}
	address := net.JoinHostPort(host, port)
	listener, err := net.Listen(network, address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%s: %s is in use by another program, perhaps another forsund", option, address)
	}
	if err != nil {
		if option == "--port" && !errors.Is(err, syscall.EACCES) {
			option = "--bind" // the port can only be taken or forbidden
		}
		return nil, fmt.Errorf("%s: %w", option, err)
	}
	return listener, nil
}

// closing is a step that closes a listener, which its server may have done.
func closing(l net.Listener) func(context.Context) error {
	return func(context.Context) error {
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	}
}

// replicaID is unique to this process and shows where it runs.
func replicaID() string {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "forsund"
	}
	// It stands in a lease's value, where a colon would end it, and in Redis' list of
	// clients.
	host = strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' || r == ':' {
			return '-'
		}
		return r
	}, host)
	var random [4]byte
	rand.Read(random[:]) // never fails: see crypto/rand
	return host + "-" + hex.EncodeToString(random[:])
}

// hint says how to set a first plan, to someone who looks at a terminal.
func (a *app) hint(listener net.Listener) string {
	program := "forsun"
	if dir, _ := filepath.Split(a.p.Name); dir != "" {
		program = dir + "forsun"
	}
	if _, port, _ := net.SplitHostPort(listener.Addr().String()); port != "6458" {
		program += " --port " + port
	}
	return fmt.Sprintf("a first plan, from another terminal:  %s \"set hello */2/5 * * * * * shell 'date >> /tmp/hello.txt'\"\n", program)
}
