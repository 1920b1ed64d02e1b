package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/snower/forsun/rpc"
	"github.com/snower/forsun/scheduler"
)

// runBurst stores plans that are all due in one second and waits until all have
// run.
func runBurst(ctx context.Context, o *options) (*Result, error) {
	return o.fire(ctx, "burst", o.plans, func(first int64, _ int) int64 { return first })
}

// runSteady stores o.rate plans for each of o.seconds seconds and waits until all
// have run.
func runSteady(ctx context.Context, o *options) (*Result, error) {
	return o.fire(ctx, "steady", o.rate*o.seconds, func(first int64, i int) int64 { return first + int64(i/o.rate) })
}

// fire stores n plans due at due and waits until all have run. The first are due at
// first. What is measured begins shortly before.
func (o *options) fire(ctx context.Context, name string, n int, due func(first int64, i int) int64) (*Result, error) {
	r, err := o.rig(ctx, n)
	if err != nil {
		return nil, err
	}
	defer r.stop()
	eye, err := o.look(ctx, r)
	if err != nil {
		return nil, err
	}
	defer eye.close()
	if err := o.fillBeside(ctx, r.put); err != nil {
		return nil, err
	}
	first, err := o.storedBy(ctx, r, n)
	if err != nil {
		return nil, err
	}
	if err := eye.filling(ctx); err != nil {
		return nil, err
	}
	if err := o.fill(ctx, r.put, n, r.probe.key, func(i int) int64 { return due(first, i) }); err != nil {
		return nil, err
	}
	if err := eye.filled(ctx, n); err != nil {
		return nil, err
	}
	r.last = time.Unix(due(first, n-1), 0)
	if time.Now().Unix() >= first-1 {
		return nil, errors.New("storing the plans took too long: their second has passed")
	}
	time.Sleep(time.Until(time.Unix(first, 0).Add(-beforehand)))
	if err := eye.begin(ctx); err != nil {
		return nil, err
	}
	if err := r.wait(ctx, o); err != nil {
		return nil, err
	}
	res := r.probe.result(name, time.Unix(first, 0))
	return res, eye.end(ctx, res)
}

// beforehand is how long before their second plans are looked at: a scheduler that reads
// some of them ahead is to be seen doing so.
const beforehand = 500 * time.Millisecond

// gauged is how many plans are stored to see how fast that is.
const gauged = 8000

// storedBy is the first second by which n plans are surely stored, as fast as it stores
// some that are due in some years.
func (o *options) storedBy(ctx context.Context, r *rig, n int) (int64, error) {
	begun, some := time.Now(), min(n, gauged)
	far := begun.AddDate(3, 0, 0).Unix()
	err := o.fill(ctx, r.put, some, func(i int) string { return fmt.Sprintf("%sgauge-%d", o.prefix, i) }, func(int) int64 { return far })
	// Twice as long, and three seconds more, since a machine may do other things.
	took := time.Duration(2 * float64(time.Since(begun)) * float64(n) / float64(some))
	return time.Now().Add(3*time.Second + took).Unix(), err
}

// server serves a rig by Thrift or HTTP.
type server interface {
	Serve(net.Listener) error
	Shutdown(context.Context) error
}

// serve has s serve on loopback and returns the address.
func serve(s server) (address string, stop func(), err error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	var serving sync.WaitGroup
	serving.Go(func() { s.Serve(ln) })
	return ln.Addr().String(), func() {
		bounded, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		s.Shutdown(bounded)
		serving.Wait()
	}, nil
}

// runCreate creates plans from o.clients clients, each of which waits for its plans
// to be acknowledged before it asks for the next.
func runCreate(ctx context.Context, o *options) (*Result, error) {
	r, err := o.rig(ctx, 0)
	if err != nil {
		return nil, err
	}
	defer r.stop()
	params := o.parameters()
	asking := func(c creator, err error) (maker, error) {
		return asker{c, func(from, n int) []scheduler.Request { return o.requests(from, n, params) }}, err
	}
	connect := func(context.Context) (maker, error) { return asking(direct{r.service}, nil) }
	switch {
	case o.http:
		address, stop, err := serve(rpc.NewHTTPServer(r.service, rpc.DefaultOptions()))
		if err != nil {
			return nil, err
		}
		defer stop()
		connect = func(context.Context) (maker, error) { return o.dialWeb(address, params) }
	case o.thrift || o.target != "":
		address := o.target
		if address == "" {
			var stop func()
			if address, stop, err = serve(rpc.NewServer(r.service, rpc.DefaultOptions())); err != nil {
				return nil, err
			}
			defer stop()
		}
		connect = func(ctx context.Context) (maker, error) {
			switch {
			case o.bulk > 1:
				return asking(remote{o.client(address)}, nil)
			case o.inFlight > 1:
				return asking(dialPipelined(ctx, address, o.token))
			}
			return asking(dialLegacy(ctx, address, o.token, 4096))
		}
	}
	eye, err := o.look(ctx, r)
	if err != nil {
		return nil, err
	}
	defer eye.close()
	if err := eye.filling(ctx); err != nil {
		return nil, err
	}
	bar := o.bar(o.plans, "creating")
	defer bar.Exit()
	start := time.Now()
	err = each(ctx, o.clients, o.plans, max(o.bulk, o.inFlight), connect, func(ctx context.Context, m maker, from, n int) error {
		defer bar.Add(n)
		return m.make(ctx, from, n)
	})
	res := &Result{Benchmark: "create", Plans: int64(o.plans), Seconds: time.Since(start).Seconds()}
	if err != nil {
		return nil, err
	}
	res.PerSecond = float64(o.plans) / res.Seconds
	if err := eye.filled(ctx, o.plans); err != nil {
		return nil, err
	}
	return res, eye.end(ctx, res)
}

// each has several clients do something for n plans, bulk of them at a time, until one
// fails.
func each[C interface{ close() error }](ctx context.Context, clients, n, bulk int, connect func(context.Context) (C, error), do func(ctx context.Context, c C, from, n int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var all sync.WaitGroup
	var next atomic.Int64
	for range clients {
		all.Go(func() {
			c, err := connect(ctx)
			if err != nil {
				cancel(err)
				return
			}
			defer c.close()
			for ctx.Err() == nil {
				from := int(next.Add(int64(bulk))) - bulk
				if from >= n {
					return
				}
				if err := do(ctx, c, from, min(bulk, n-from)); err != nil {
					cancel(err)
				}
			}
		})
	}
	all.Wait()
	return context.Cause(ctx)
}

// requests asks for n plans that are due in some hours.
func (o *options) requests(from, n int, params map[string]string) []scheduler.Request {
	rs := make([]scheduler.Request, n)
	for i := range rs {
		rs[i] = scheduler.Request{
			Key: fmt.Sprintf("%s%010d", o.prefix, from+i), Action: o.action, Params: params,
			Schedule: scheduler.Schedule{Kind: scheduler.Timeout, Second: 30_000, Week: scheduler.Any, Count: 1},
		}
	}
	return rs
}

// runPending stores far-future plans, and opens the store again with an engine on
// it.
func runPending(ctx context.Context, o *options) (*Result, error) {
	store, err := o.open(ctx)
	if err != nil {
		return nil, err
	}
	before, err := o.memory(ctx, store)
	if err != nil {
		store.Close()
		return nil, err
	}
	start := time.Now()
	if err := o.fillPending(ctx, putInto(store), o.plans); err != nil {
		store.Close()
		return nil, err
	}
	res := &Result{Benchmark: "pending", Plans: int64(o.plans), Seconds: time.Since(start).Seconds()}
	res.PerSecond = float64(o.plans) / res.Seconds
	after, err := o.memory(ctx, store)
	if err := errors.Join(err, store.Close()); err != nil || o.dir == ":memory:" {
		return res, err
	}
	debug.FreeOSMemory() // what filling used is not what a restart uses
	if o.driver == driverRedis {
		res.RedisBytes = after - before
	} else {
		res.DiskBytes = diskUsage(o.dir)
	}
	res.BytesPerPlan = float64(res.DiskBytes+res.RedisBytes) / float64(o.plans)

	// One plan that is due at once shows the first tick.
	begin := time.Now()
	r, err := o.start(ctx, 1)
	if err != nil {
		return nil, err
	}
	defer r.stop()
	now := time.Now().Unix()
	if err := o.fill(ctx, r.put, 1, r.probe.key, func(int) int64 { return now }); err != nil {
		return nil, err
	}
	if err := r.wait(ctx, o); err != nil {
		return nil, err
	}
	restart := time.Unix(0, r.probe.last.Load()).Sub(begin).Seconds()
	res.Restart = &restart
	if o.driver != driverRedis {
		return res, nil
	}
	res.BytesStored = res.BytesPerPlan
	least, err := o.packed(ctx, r.store)
	res.RedisBytes = least - before
	res.BytesPerPlan = float64(res.RedisBytes) / float64(o.plans)
	return res, err
}
