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

// rig is a scheduler in this process, or several that share a store.
type rig struct {
	store   scheduler.Store // of the first
	service *scheduler.Service
	probe   *probe
	stop    func()
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
	r := &rig{probe: newProbe(n)}
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
		eo.Replica = fmt.Sprintf("bench-%d", i)
		if o.driver == driverMem {
			eo.ClaimBatch = memstore.ClaimBatch
		}
		engine, err := scheduler.NewEngine(store, r.probe, scheduler.SystemClock{}, counters, o.log(), eo)
		if err != nil {
			r.stop()
			return nil, err
		}
		if i == 0 {
			r.store = store
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

// probe is the action of a benchmark, and the only one there is.
type probe struct {
	seen       []atomic.Uint32 // per plan: how often it ran
	late       []int64         // per plan: nanoseconds after its due second
	fired      atomic.Int64
	early      atomic.Int64
	duplicates atomic.Int64
	last       atomic.Int64 // Unix nanoseconds of the last run
	all        chan struct{}
}

func newProbe(n int) *probe {
	return &probe{seen: make([]atomic.Uint32, n), late: make([]int64, n), all: make(chan struct{})}
}

func (p *probe) Get(name string) (scheduler.Action, bool) { return p, name == "noop" }
func (p *probe) Names() []string                          { return []string{"noop"} }
func (p *probe) Check(map[string]string) error            { return nil }
func (p *probe) Target(map[string]string) string          { return "" }
func (p *probe) Timeout(map[string]string) time.Duration  { return time.Minute }
func (p *probe) key(i int) string                         { return "bench-" + fmt.Sprintf("%010d", i) }
func (p *probe) index(key string) (int, error) {
	return strconv.Atoi(strings.TrimPrefix(key, "bench-"))
}
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
func (p *probe) Execute(_ context.Context, f *scheduler.Firing) (scheduler.Output, error) {
	now := time.Now().UnixNano()
	i, err := p.index(f.Plan.Key)
	if err != nil || i >= len(p.seen) {
		return nil, fmt.Errorf("no plan of this benchmark: %s", f.Plan.Key)
	}
	if p.seen[i].Add(1) > 1 {
		p.duplicates.Add(1)
		return nil, nil
	}
	p.late[i] = now - f.Due*int64(time.Second)
	if p.late[i] < 0 {
		p.early.Add(1)
	}
	for last := p.last.Load(); last < now && !p.last.CompareAndSwap(last, now); last = p.last.Load() {
	}
	if p.fired.Add(1) == int64(len(p.seen)) {
		close(p.all)
	}
	return nil, nil
}

// wait waits until every plan ran, showing progress.
func (r *rig) wait(ctx context.Context, o *options) error {
	bar := o.bar(len(r.probe.seen), "firing")
	defer bar.Exit()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for idle, before := time.Now(), int64(0); ; {
		select {
		case <-r.probe.all:
			bar.Finish()
			// Whatever runs twice does so soon after: let it show itself.
			time.Sleep(300 * time.Millisecond)
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		n := r.probe.fired.Load()
		bar.Set64(n)
		if n > before {
			idle, before = time.Now(), n
		}
		if time.Since(idle) > 2*time.Minute {
			return fmt.Errorf("%d of %d fired, and none for two minutes", n, len(r.probe.seen))
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

// fillBatch is how many plans are stored in one call when filling.
const fillBatch = 1000

// fill stores n plans with the keys of key, due at due(i), with o.params bytes of
// parameters, from several goroutines.
func (o *options) fill(ctx context.Context, store scheduler.PlanStore, n int, key func(int) string, due func(int) int64) error {
	bar := o.bar(n, "storing")
	defer bar.Exit()
	params := map[string]string{"payload": strings.Repeat("x", max(0, o.params-len("payload")))}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	var next atomic.Int64
	for range 4 {
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
						Key: key(i), Action: "noop", Params: params, Created: now, Revision: scheduler.NewRevision(), Due: due(i),
						Schedule: scheduler.Schedule{Kind: scheduler.Timeout, Second: int(max(1, due(i)-now.Unix())), Week: scheduler.Any, Count: 1},
					})
				}
				for _, err := range store.Put(ctx, plans) {
					if err != nil {
						cancel(err)
						return
					}
				}
				bar.Add(len(plans))
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// fillPending stores o.pending plans that are due in some years.
func (o *options) fillPending(ctx context.Context, store scheduler.PlanStore, n int) error {
	if n == 0 {
		return nil
	}
	far := time.Now().AddDate(3, 0, 0).Unix()
	return o.fill(ctx, store, n, func(i int) string { return fmt.Sprintf("far-%012d", i) }, func(i int) int64 { return far + int64(i%10_000_000) })
}

// fillBeside stores o.pending plans and lets the store come to rest: compactions, or
// the rewriting of Redis' log, go on when the last plan is stored, and it is a store
// with many plans that is to be measured, not one that is being filled.
func (o *options) fillBeside(ctx context.Context, store scheduler.PlanStore) error {
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
