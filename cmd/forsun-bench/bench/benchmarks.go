package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apache/thrift/lib/go/thrift"

	"github.com/snower/forsun/rpc"
	"github.com/snower/forsun/rpc/client"
	"github.com/snower/forsun/rpc/gen/forsun"
	"github.com/snower/forsun/scheduler"
)

// runBurst stores plans that are all due in one second and waits until all have
// run.
func runBurst(ctx context.Context, o *options) (*Result, error) {
	r, err := o.start(ctx, o.plans)
	if err != nil {
		return nil, err
	}
	defer r.stop()
	if err := o.fillBeside(ctx, r.store); err != nil {
		return nil, err
	}
	due := storedBy(o.plans)
	if err := o.fill(ctx, r.store, o.plans, r.probe.key, func(int) int64 { return due }); err != nil {
		return nil, err
	}
	if time.Now().Unix() >= due-1 {
		return nil, errors.New("storing the plans took too long: their second has passed")
	}
	time.Sleep(time.Until(time.Unix(due, 0).Add(-100 * time.Millisecond)))
	cpu := cpuTime()
	if err := r.wait(ctx, o); err != nil {
		return nil, err
	}
	res := r.probe.result("burst", time.Unix(due, 0))
	res.CPU = float64((cpuTime() - cpu).Microseconds()) / float64(res.Fired)
	return res, nil
}

// storedBy is the first second by which n plans are surely stored: 10,000 a second
// is slow, even on a machine that does other things.
func storedBy(n int) int64 { return time.Now().Unix() + 3 + int64(n/10_000) }

// runSteady stores o.rate plans for each of o.seconds seconds and waits until all
// have run.
func runSteady(ctx context.Context, o *options) (*Result, error) {
	n := o.rate * o.seconds
	r, err := o.start(ctx, n)
	if err != nil {
		return nil, err
	}
	defer r.stop()
	if err := o.fillBeside(ctx, r.store); err != nil {
		return nil, err
	}
	first := storedBy(n)
	if err := o.fill(ctx, r.store, n, r.probe.key, func(i int) int64 { return first + int64(i/o.rate) }); err != nil {
		return nil, err
	}
	if time.Now().Unix() >= first-1 {
		return nil, errors.New("storing the plans took too long: their second has passed")
	}
	cpu := cpuTime()
	if err := r.wait(ctx, o); err != nil {
		return nil, err
	}
	res := r.probe.result("steady", time.Unix(first, 0))
	res.CPU = float64((cpuTime() - cpu).Microseconds()) / float64(res.Fired)
	return res, nil
}

// creator makes plans; one is used by one goroutine.
type creator interface {
	create(ctx context.Context, requests []scheduler.Request) error
	close() error
}

// direct calls the service in this process.
type direct struct{ service *scheduler.Service }

func (d direct) create(ctx context.Context, requests []scheduler.Request) error {
	_, errs, err := d.service.CreateMany(ctx, requests)
	return errors.Join(append(errs, err)...)
}
func (d direct) close() error { return nil }

// remote is a connection to a Thrift server.
type remote struct{ c *client.Client }

func (r remote) create(ctx context.Context, requests []scheduler.Request) error {
	results, err := r.c.CreateMany(ctx, requests)
	for _, res := range results {
		err = errors.Join(err, res.Err)
	}
	return err
}
func (r remote) close() error { return r.c.Close() }

// legacy is a connection as the clients that exist make it: unframed, strict binary,
// one createTimeout a plan.
type legacy struct {
	transport thrift.TTransport
	client    *forsun.ForsunClient
}

func dialLegacy(address string) (*legacy, error) {
	conf := &thrift.TConfiguration{ConnectTimeout: 5 * time.Second, SocketTimeout: 30 * time.Second}
	transport := thrift.NewTBufferedTransport(thrift.NewTSocketConf(address, conf), 4096)
	if err := transport.Open(); err != nil {
		return nil, err
	}
	return &legacy{transport, forsun.NewForsunClientFactory(transport, thrift.NewTBinaryProtocolFactoryConf(conf))}, nil
}

func (l *legacy) create(ctx context.Context, requests []scheduler.Request) error {
	for _, r := range requests {
		const open = scheduler.Any
		if _, err := l.client.CreateTimeout(ctx, r.Key, int16(r.Schedule.Second), open, open, open, open, open, 1, r.Action, r.Params); err != nil {
			return err
		}
	}
	return nil
}
func (l *legacy) close() error { return l.transport.Close() }

// serveThrift serves r on loopback and returns the address.
func serveThrift(r *rig) (address string, stop func(), err error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	server := rpc.NewServer(r.service, rpc.DefaultOptions())
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(ln) })
	return ln.Addr().String(), func() {
		bounded, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		server.Shutdown(bounded)
		serving.Wait()
	}, nil
}

// runCreate creates plans from o.clients clients, each of which waits for its plans
// to be acknowledged before it asks for the next.
func runCreate(ctx context.Context, o *options) (*Result, error) {
	r, err := o.start(ctx, 0)
	if err != nil {
		return nil, err
	}
	defer r.stop()
	connect := func() (creator, error) { return direct{r.service}, nil }
	if o.thrift {
		address, stop, err := serveThrift(r)
		if err != nil {
			return nil, err
		}
		defer stop()
		connect = func() (creator, error) {
			if o.bulk == 1 {
				return dialLegacy(address)
			}
			return remote{client.New(client.DefaultOptions(address))}, nil
		}
	}

	bar := o.bar(o.plans, "creating")
	defer bar.Exit()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	params := map[string]string{"payload": strings.Repeat("x", max(0, o.params-len("payload")))}
	var clients sync.WaitGroup
	var next atomic.Int64
	start := time.Now()
	for range o.clients {
		clients.Go(func() {
			c, err := connect()
			if err != nil {
				cancel(err)
				return
			}
			defer c.close()
			for ctx.Err() == nil {
				from := int(next.Add(int64(o.bulk))) - o.bulk
				if from >= o.plans {
					return
				}
				n := min(o.bulk, o.plans-from)
				if err := c.create(ctx, requests(from, n, params)); err != nil {
					cancel(err)
					return
				}
				bar.Add(n)
			}
		})
	}
	clients.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	res := &Result{Benchmark: "create", Plans: int64(o.plans), Seconds: time.Since(start).Seconds()}
	res.PerSecond = float64(o.plans) / res.Seconds
	return res, nil
}

// requests asks for n plans that are due in some hours.
func requests(from, n int, params map[string]string) []scheduler.Request {
	rs := make([]scheduler.Request, n)
	for i := range rs {
		rs[i] = scheduler.Request{
			Key: fmt.Sprintf("bench-%010d", from+i), Action: "noop", Params: params,
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
	if err := o.fillPending(ctx, store, o.plans); err != nil {
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
	if err := o.fill(ctx, r.store, 1, r.probe.key, func(int) int64 { return now }); err != nil {
		return nil, err
	}
	if err := r.wait(ctx, o); err != nil {
		return nil, err
	}
	restart := time.Unix(0, r.probe.last.Load()).Sub(begin).Seconds()
	res.Restart = &restart
	return res, nil
}
