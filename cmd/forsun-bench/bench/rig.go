package bench

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/snower/forsun/scheduler"
	"github.com/snower/forsun/scheduler/memstore"
)

// rig is what is measured: a scheduler in this process, or several that share a store,
// or a running forsund.
type rig struct {
	probe *probe
	put   put
	use   func(context.Context) (use, error)
	await func(context.Context) error // what there is to do until all plans have run; nil: to wait
	last  time.Time                   // when the last plan is due
	stop  func()

	store   scheduler.Store // of the first scheduler in this process, and its service
	service *scheduler.Service
}

// put stores plans, all of them or none that counts.
type put func(ctx context.Context, plans []*scheduler.Plan) error

// use is what the process that is measured has used of its machine.
type use struct {
	cpu time.Duration
	rss int64
}

// putInto stores plans in a store of this process.
func putInto(store scheduler.PlanStore) put {
	return func(ctx context.Context, plans []*scheduler.Plan) error {
		for _, err := range store.Put(ctx, plans) {
			if err != nil {
				return err
			}
		}
		return nil
	}
}

func (o *options) log() zerolog.Logger { return zerolog.New(o.stderr).Level(zerolog.WarnLevel) }

func (o *options) open(ctx context.Context) (scheduler.Store, error) {
	if o.driver == driverRedis {
		return o.openRedis(ctx)
	}
	so := memstore.DefaultOptions()
	so.Dir = o.dir
	so.Sync = memstore.Sync(o.sync)
	so.Log = o.log()
	return memstore.Open(so)
}

// start opens the store and runs an engine whose workers look at the clock for
// each of n firings.
func (o *options) start(ctx context.Context, n int) (*rig, error) {
	r := &rig{probe: newProbe(o.prefix, n), use: func(context.Context) (use, error) { return use{cpuTime(), rss()}, nil }}
	if o.role == victim {
		r.probe.hang = make(chan struct{})
	}
	running, cancel := context.WithCancel(context.Background())
	var engines sync.WaitGroup
	var stores []scheduler.Store
	r.stop = sync.OnceFunc(func() {
		cancel()
		engines.Wait()
		for _, s := range stores {
			s.Close()
		}
	})
	for i := range o.replicas {
		store, err := o.open(ctx)
		if err != nil {
			r.stop()
			return nil, err
		}
		stores = append(stores, store)
		counters := new(scheduler.Counters)
		eo := scheduler.DefaultEngineOptions()
		eo.Replica = fmt.Sprintf("bench-%s%d", o.role, i)
		if o.driver == driverMem {
			eo.ClaimBatch = memstore.ClaimBatch
		}
		engine, err := scheduler.NewEngine(store, r.probe, scheduler.SystemClock{}, counters, o.log(), eo)
		if err != nil {
			r.stop()
			return nil, err
		}
		if i == 0 {
			r.store, r.put = store, putInto(store)
			r.service = scheduler.NewService(store, r.probe, scheduler.SystemClock{}, counters, scheduler.DefaultServiceOptions())
		}
		engines.Go(func() {
			if err := engine.Run(running); err != nil {
				fmt.Fprintln(o.stderr, "engine:", err)
			}
		})
	}
	return r, nil
}

// probe is the action of a benchmark, and the only one there is, or stands for it where
// firings run elsewhere.
type probe struct {
	prefix     string          // of the plans' keys; what follows is a number
	hang       chan struct{}   // firings wait for it; nil: they do not
	seen       []atomic.Uint32 // per plan: how often it ran
	late       []int64         // per plan: nanoseconds after its due second
	fired      atomic.Int64
	early      atomic.Int64
	duplicates atomic.Int64
	first      atomic.Int64 // Unix nanoseconds of the first run
	last       atomic.Int64 // and of the last
	all        chan struct{}
}

func newProbe(prefix string, n int) *probe {
	return &probe{prefix: prefix, seen: make([]atomic.Uint32, n), late: make([]int64, n), all: make(chan struct{})}
}

func (p *probe) Get(name string) (scheduler.Action, bool) { return p, name == "noop" }
func (p *probe) Names() []string                          { return []string{"noop"} }
func (p *probe) Check(map[string]string) error            { return nil }
func (p *probe) Target(map[string]string) string          { return "" }
func (p *probe) Timeout(map[string]string) time.Duration  { return time.Minute }
func (p *probe) key(i int) string                         { return fmt.Sprintf("%s%010d", p.prefix, i) }

func (p *probe) result(name string, from time.Time) *Result {
	r := &Result{Benchmark: name, Fired: p.fired.Load(), Early: p.early.Load(), Duplicates: p.duplicates.Load()}
	r.Seconds = time.Unix(0, p.last.Load()).Sub(from).Seconds()
	r.PerSecond = float64(r.Fired) / r.Seconds
	late := make([]time.Duration, 0, len(p.late))
	for i, d := range p.late {
		if p.seen[i].Load() > 0 {
			late = append(late, time.Duration(d))
		}
	}
	r.Late = lateness(late)
	return r
}

// Execute notes when a firing began.
func (p *probe) Execute(ctx context.Context, f *scheduler.Firing) (scheduler.Output, error) {
	if err := p.note(f.Plan.Key, f.Due, time.Now()); err != nil {
		return nil, err
	}
	if p.hang != nil {
		select {
		case <-p.hang:
		case <-ctx.Done():
		}
	}
	return nil, ctx.Err()
}

// note notes that the firing of key that was due at due began.
func (p *probe) note(key string, due int64, began time.Time) error {
	now := began.UnixNano()
	number, ours := strings.CutPrefix(key, p.prefix)
	i, err := strconv.Atoi(number)
	if !ours || err != nil || i < 0 || i >= len(p.seen) {
		return fmt.Errorf("no plan of this benchmark: %s", key)
	}
	if p.seen[i].Add(1) > 1 {
		p.duplicates.Add(1)
		return nil
	}
	p.late[i] = now - due*int64(time.Second)
	if p.late[i] < 0 {
		p.early.Add(1)
	}
	for last := p.last.Load(); last < now && !p.last.CompareAndSwap(last, now); last = p.last.Load() {
	}
	for first := p.first.Load(); (first == 0 || now < first) && !p.first.CompareAndSwap(first, now); first = p.first.Load() {
	}
	if p.fired.Add(1) == int64(len(p.seen)) {
		close(p.all)
	}
	return nil
}

// patience is how long it may be that nothing fires.
const patience = 2 * time.Minute

// wait waits until every plan ran, showing progress.
func (r *rig) wait(ctx context.Context, o *options) error {
	bar := o.bar(len(r.probe.seen), "firing")
	defer bar.Exit()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	ctx, cancel := context.WithCancelCause(ctx)
	var awaiting sync.WaitGroup
	defer awaiting.Wait()
	defer cancel(nil)
	if r.await != nil {
		awaiting.Go(func() {
			if err := r.await(ctx); err != nil {
				cancel(err)
			}
		})
	}
	for idle, before := time.Now(), int64(0); ; {
		select {
		case <-r.probe.all:
			bar.Finish()
			// Whatever runs twice does so soon after: let it show itself.
			time.Sleep(300 * time.Millisecond)
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		n := r.probe.fired.Load()
		bar.Set64(n)
		if n > before {
			idle, before = time.Now(), n
		}
		if min(time.Since(idle), time.Since(r.last)) > patience {
			return fmt.Errorf("%d of %d fired, and none for %s", n, len(r.probe.seen), patience)
		}
	}
}

// bar is a progress bar on a terminal, and nothing elsewhere.
func (o *options) bar(n int, what string) *progressbar.ProgressBar {
	if f, ok := o.stderr.(*os.File); !ok || !term.IsTerminal(int(f.Fd())) {
		return progressbar.DefaultSilent(int64(n))
	}
	return progressbar.NewOptions(n, progressbar.OptionSetDescription(what), progressbar.OptionSetWriter(o.stderr),
		progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish())
}

const (
	fillBatch = 1000 // plans that are stored in one call when filling
	fillers   = 4    // calls at a time
)

// fill stores n plans with the keys of key, due at due(i), with o.params bytes of
// parameters, from several goroutines.
func (o *options) fill(ctx context.Context, store put, n int, key func(int) string, due func(int) int64) error {
	bar := o.bar(n, "storing")
	defer bar.Exit()
	params := o.parameters()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	var next atomic.Int64
	for range fillers {
		wg.Go(func() {
			for ctx.Err() == nil {
				from := int(next.Add(fillBatch)) - fillBatch
				if from >= n {
					return
				}
				plans := make([]*scheduler.Plan, 0, fillBatch)
				now := time.Now()
				for i := from; i < min(n, from+fillBatch); i++ {
					plans = append(plans, &scheduler.Plan{
						Key: key(i), Action: o.action, Params: params, Created: now, Revision: scheduler.NewRevision(), Due: due(i),
						Schedule: scheduler.Schedule{Kind: scheduler.Timeout, Second: int(max(1, due(i)-now.Unix())), Week: scheduler.Any, Count: 1},
					})
				}
				if err := store(ctx, plans); err != nil {
					cancel(err)
					return
				}
				bar.Add(len(plans))
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// parameters are those of every plan.
func (o *options) parameters() map[string]string {
	if o.url != "" {
		return map[string]string{"url": o.url}
	}
	return map[string]string{"payload": strings.Repeat("x", max(0, o.params-len("payload")))}
}

// fillPending stores o.pending plans that are due in some years.
func (o *options) fillPending(ctx context.Context, store put, n int) error {
	if n == 0 {
		return nil
	}
	far := time.Now().AddDate(3, 0, 0).Unix()
	return o.fill(ctx, store, n, func(i int) string { return fmt.Sprintf("%sfar-%012d", o.prefix, i) }, func(i int) int64 { return far + int64(i%10_000_000) })
}

// fillBeside stores o.pending plans and lets the store come to rest: compactions, or
// the rewriting of Redis' log, go on when the last plan is stored, and it is a store
// with many plans that is to be measured, not one that is being filled.
func (o *options) fillBeside(ctx context.Context, store put) error {
	if err := o.fillPending(ctx, store, o.pending); err != nil || o.pending == 0 {
		return err
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(o.settle):
		return nil
	}
}

// diskUsage is the size of the files below dir.
func diskUsage(dir string) (n int64) {
	filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			if info, err := d.Info(); err == nil && !strings.Contains(d.Name(), "ballast") {
				n += info.Size()
			}
		}
		return nil
	})
	return n
}
