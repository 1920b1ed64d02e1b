package bench

import (
	"context"
	"runtime"
	"time"

	"github.com/snower/forsun/redisstore"
)

// eye watches what a benchmark uses, of this machine and of Redis.
type eye struct {
	r      *rig
	redis  *redisstore.Store // nil without one
	others *others           // nil where nobody looks
	own    bool              // redis is the eye's own
	n      int

	memory int64 // of Redis
	bytes  float64

	use      use
	machine  ticks
	redisCPU time.Duration
	mallocs  uint64
}

// look makes an eye for r. For a running forsund it looks at the Redis that the flags
// name, if they do.
func (o *options) look(ctx context.Context, r *rig) (e *eye, err error) {
	e = &eye{r: r}
	if e.redis, _ = r.store.(*redisstore.Store); e.redis == nil && o.driver == driverRedis {
		if e.redis, err = o.openRedis(ctx); err != nil {
			return nil, err
		}
		e.own = true
	}
	if e.redis != nil {
		e.others, err = o.startOthers(ctx)
	}
	if err != nil {
		e.close()
	}
	return e, err
}

func (e *eye) close() {
	if e.others != nil {
		e.others.stop()
	}
	if e.own {
		e.redis.Close()
	}
}

// filling is told before plans are stored, or created.
func (e *eye) filling(ctx context.Context) (err error) {
	if e.redis != nil {
		if e.memory, err = e.redis.Memory(ctx); err != nil {
			return err
		}
	}
	return e.count(ctx)
}

// filled is told that n plans are stored.
func (e *eye) filled(ctx context.Context, n int) error {
	e.n = n
	if e.redis == nil {
		return nil
	}
	now, err := e.redis.Memory(ctx)
	e.bytes = float64(now-e.memory) / float64(n)
	return err
}

// begin is told when firings are about to begin.
func (e *eye) begin(ctx context.Context) error {
	if e.others != nil {
		if err := e.others.begin(); err != nil {
			return err
		}
	}
	return e.count(ctx)
}

// count notes what has been used so far.
func (e *eye) count(ctx context.Context) (err error) {
	if e.redis != nil {
		if e.redisCPU, err = e.redis.CPU(ctx); err != nil {
			return err
		}
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	e.mallocs, e.machine = m.Mallocs, machine()
	e.use, err = e.r.use(ctx)
	return err
}

// end is told when all is over. Where nothing fired it was a create that was measured.
func (e *eye) end(ctx context.Context, res *Result) (err error) {
	before := *e
	if err := e.count(ctx); err != nil {
		return err
	}
	each := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 / float64(e.n) }
	cpu, redis := each(e.use.cpu-before.use.cpu), each(e.redisCPU-before.redisCPU)
	res.RSS, res.BytesPerPlan, res.Stolen = e.use.rss, e.bytes, e.machine.stolen(before.machine)
	if res.Fired == 0 {
		res.CPUCreate, res.RedisCreate = cpu, redis
		return nil
	}
	res.CPU, res.RedisCPU = cpu, redis
	if e.r.store != nil {
		res.Allocs = float64(e.mallocs-before.mallocs) / float64(e.n)
	}
	if e.others != nil {
		res.Others, err = e.others.end()
	}
	return err
}
