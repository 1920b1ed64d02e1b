package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"sync"

	"github.com/snower/forsun/actions"
	"github.com/snower/forsun/actions/extension"
	"github.com/snower/forsun/cmd/forsund/admin"
	"github.com/snower/forsun/rpc"
	"github.com/snower/forsun/scheduler"
	"github.com/snower/forsun/scheduler/memstore"
)

// serve starts what works on the open store: actions, engine, servers.
func (a *app) serve(ctx context.Context, replica string, listener, httpListener net.Listener) error {
	registry, err := a.newRegistry()
	if err != nil {
		return err
	}
	a.steps.push("actions", func(context.Context) error { return registry.Close() })
	if err := a.startExtensions(ctx, registry); err != nil {
		return err
	}

	counters := new(scheduler.Counters)
	engine, err := scheduler.NewEngine(a.store, registry, scheduler.SystemClock{}, counters, a.log, a.engineOptions(replica, listener))
	if err != nil {
		return err
	}
	a.health = engine.Health
	serviceOpts := scheduler.DefaultServiceOptions()
	serviceOpts.Zone = a.o.Zone
	serviceOpts.ShellFrom = a.o.ShellFrom
	serviceOpts.Forbidden = a.o.forbidden()
	serviceOpts.Refuse = engine.ClockWrong
	serviceOpts.Canary = a.o.Canary != 0
	service := scheduler.NewService(a.store, registry, scheduler.SystemClock{}, counters, serviceOpts)

	rpcOpts := rpc.DefaultOptions()
	rpcOpts.Logger = a.log
	rpcOpts.Info = rpc.NewInfo(service, rpc.About{Version: a.p.Version, Store: a.o.Driver, Stores: []string{driverMem, driverRedis}, Extensions: a.o.Extensions})
	if store := a.embedded; store != nil {
		rpcOpts.Backup = func(ctx context.Context, dir string) (rpc.Backup, error) {
			b, err := store.Backup(ctx, dir)
			return rpc.Backup{Directory: b.Dir, Plans: b.Plans, Files: b.Files, Bytes: b.Bytes, Took: b.Took}, err
		}
	}
	if err := a.access(&rpcOpts, registry.Names()); err != nil {
		return err
	}
	plans, err := a.countPlans(service)
	if err != nil {
		return err
	}
	if a.o.Canary == 0 {
		if err := a.removeCanaries(); err != nil {
			return err
		}
	}
	if err := a.writePID(); err != nil {
		return err
	}

	// From here on nothing fails any more, and things begin to happen.
	a.watch.Attach(engine, service, a.promises)
	a.metrics.MustRegister(admin.NewCollector(a.watch, rpcOpts.Info, a.p.Version))
	watching, stopWatching := context.WithCancel(context.Background())
	var watch sync.WaitGroup
	watch.Go(func() { a.watch.Run(watching) })
	a.steps.push("watch", func(context.Context) error {
		stopWatching()
		watch.Wait() // it asks the store, which is bounded
		return nil
	})
	running, stop := context.WithCancel(context.Background())
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		err := engine.Run(running)
		if running.Err() == nil {
			a.ended <- fmt.Errorf("the engine ended: %w", err)
		}
	}()
	a.steps.push("engine", func(ctx context.Context) error {
		stop()
		select {
		case <-stopped:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})

	a.serveOn(listener, "thrift server", rpc.NewServer(service, rpcOpts))
	if httpListener != nil {
		server := rpc.NewHTTPServer(service, rpcOpts)
		server.Handle("/livez", http.HandlerFunc(a.watch.Live))
		server.Handle("/readyz", http.HandlerFunc(a.watch.Ready))
		a.serveOn(httpListener, "http server", server)
	}
	a.announce(replica, plans, &rpcOpts, listener, httpListener)
	return nil
}

// newRegistry returns the actions that plans may use here, without extensions.
func (a *app) newRegistry() (*actions.Registry, error) {
	opts := actions.DefaultOptions(a.p.Version)
	opts.Egress = a.o.Egress
	opts.Secrets = a.secrets.get
	opts.Shell.Allow = a.o.ShellAllow
	for _, name := range a.o.Actions {
		switch {
		case name == noop:
			opts.Noop = true
		case slices.Contains(actions.Names(), name):
			opts.Names = append(opts.Names, name)
		}
	}
	if err := a.o.Action.into(&opts); err != nil {
		return nil, err
	}
	opts.None = a.o.Actions != nil && len(opts.Names) == 0
	registry, err := actions.New(opts)
	if err != nil {
		return nil, err
	}
	for _, name := range a.o.own {
		if a.o.Actions != nil && !slices.Contains(a.o.Actions, name) {
			continue
		}
		if err := registry.Register(name, a.p.Actions[name]); err != nil {
			return nil, errors.Join(err, registry.Close())
		}
	}
	return registry, nil
}

// startExtensions starts the extensions, side by side, and registers them.
func (a *app) startExtensions(ctx context.Context, registry *actions.Registry) error {
	started := make([]*extension.Extension, len(a.o.Extensions))
	errs := make([]error, len(a.o.Extensions))
	var starting sync.WaitGroup
	for i, name := range a.o.Extensions {
		opts := extension.DefaultOptions(a.o.ExtensionPath, name)
		opts.Version, opts.Log = a.p.Version, a.log
		starting.Go(func() { started[i], errs[i] = extension.Start(ctx, opts) })
	}
	starting.Wait()
	for i, name := range a.o.Extensions {
		if errs[i] != nil {
			errs[i] = fmt.Errorf("--extension: %w", errs[i])
		} else if err := registry.Register(name, started[i]); err != nil {
			errs[i] = errors.Join(err, started[i].Close())
		}
	}
	return errors.Join(errs...)
}

// server is what the Thrift and the HTTP server have in common.
type server interface {
	Serve(net.Listener) error
	Shutdown(context.Context) error
}

// serveOn starts a server. Stopping it lets nobody in any more and waits for the
// requests in progress.
func (a *app) serveOn(l net.Listener, name string, s server) {
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := s.Serve(l); err != nil {
			a.ended <- fmt.Errorf("%s: %w", name, err)
		}
	})
	a.steps.push(name, func(ctx context.Context) error {
		err := s.Shutdown(ctx)
		serving.Wait() // soon: its listener is closed
		return err
	})
}

func (a *app) engineOptions(replica string, listener net.Listener) scheduler.EngineOptions {
	opts := scheduler.DefaultEngineOptions()
	opts.Replica = replica
	if a.o.Driver == driverMem {
		opts.ClaimBatch = memstore.ClaimBatch
	}
	opts.Address = listener.Addr().String()
	opts.Version = a.p.Version
	opts.Actions = a.o.Actions
	opts.Work = a.o.Work
	opts.Forbidden = a.o.forbidden()
	opts.Lead = a.o.Lead
	return a.tuned(opts)
}

// tuned sets what the options say of firing.
func (a *app) tuned(opts scheduler.EngineOptions) scheduler.EngineOptions {
	opts.Zone = a.o.Zone
	opts.MisfireGrace = a.o.MisfireGrace
	for name, n := range a.o.Slots {
		opts.Slots[name] = n
	}
	opts.TargetSlots = a.o.TargetSlots
	opts.Retry.Retries = a.o.Retry.Retries
	opts.Retry.Delay = a.o.Retry.Delay
	opts.Retry.Rate = a.o.Retry.Rate
	opts.Retry.Max = max(opts.Retry.Max, a.o.Retry.Delay) // a longer first delay was asked for
	opts.DrainTimeout = a.o.DrainTimeout
	opts.Canary = a.o.Canary
	return opts
}

func (a *app) countPlans(service *scheduler.Service) (plans int64, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	states, err := service.Shards(ctx)
	if err != nil {
		return 0, fmt.Errorf("read the store: %w", err)
	}
	for _, s := range states {
		plans += s.Plans
	}
	return plans, nil
}

// removeCanaries removes what replicas with canaries have left.
func (a *app) removeCanaries() error {
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	return scheduler.RemoveCanaries(ctx, a.store)
}

// writePID writes the pid file, if one is wanted.
func (a *app) writePID() error {
	if a.o.PIDFile == "" {
		return nil
	}
	if err := os.WriteFile(a.o.PIDFile, fmt.Appendln(nil, os.Getpid()), 0o644); err != nil {
		return fmt.Errorf("--pid-file: %w", err)
	}
	a.steps.push("pid file", func(context.Context) error { return os.Remove(a.o.PIDFile) })
	return nil
}

// announce logs what has started, and what whoever started it should know.
func (a *app) announce(replica string, plans int64, opts *rpc.Options, listener, httpListener net.Listener) {
	line := a.log.Info().Str("version", a.p.Version).Str("replica", replica).Str("thrift", listener.Addr().String())
	if httpListener != nil {
		line = line.Str("http", httpListener.Addr().String())
	}
	if a.adminAddr != "" {
		line = line.Str("admin", a.adminAddr)
	}
	if a.o.Driver == driverRedis {
		line = line.Str("store", "redis "+a.o.Redis.String()).Ints("shards", a.store.ShardIDs()).Bool("may_lead", a.o.Lead)
	} else {
		line = line.Str("store", a.o.StoreDir).Str("sync", string(a.o.StoreSync))
	}
	line.Int64("plans", plans).Str("zone", a.o.Zone.String()).Str("go", runtime.Version()).Int("pid", os.Getpid()).Msg("forsund is ready")

	for _, n := range a.o.Notices {
		a.log.Warn().Msg(n)
	}
	if len(a.o.Idle) > 0 {
		a.log.Warn().Strs("options", a.o.Idle).Msg("these options mean nothing without --driver=redis: plans are kept in the embedded store")
	}
	for _, l := range []net.Listener{listener, httpListener} {
		if l != nil && !isLoopback(l) {
			a.warnOpen(l, opts)
		}
	}
	if !a.o.Demon && isTerminal(a.p.Stderr) {
		fmt.Fprint(a.p.Stderr, a.hint(listener))
	}
}

// isLoopback says whether only this machine reaches l.
func isLoopback(l net.Listener) bool {
	tcp, ok := l.Addr().(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}
