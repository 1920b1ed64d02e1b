package scheduler

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// A worker is dead when its heartbeat counter stood still over at least
// deadReads good reads that span deadAfter of this process's monotonic clock: so
// long that a worker which loses its store for a moment lives, and so short that
// firings run again 12 s after their worker was killed even if the shard's new
// leader began to watch only when the dead one's lease had run out, 3 s later. A
// read that fails, or a pause between reads longer than readGap (this process
// was stopped, or the store was away), starts the evidence over: an outage is
// not everyone's death.
const (
	beatEvery   = time.Second
	beatTimeout = 2 * time.Second // a shard that hangs must not make the others' beats rare
	rescueEvery = 500 * time.Millisecond
	deadReads   = 4
	deadAfter   = 8 * time.Second
	readGap     = 4 * time.Second
	rescueBatch = 500
)

// rescuer queues again the firings of dead workers of one shard, while this
// replica leads it. It watches the workers at all times: the one that died may
// have been the leader, and whoever is next knows already how long it has been
// still.
type rescuer struct {
	e     *Engine
	shard int
	lease *atomic.Pointer[Lease] // nil while this replica does not lead

	lastRead time.Time
	seen     map[string]*stillness
}

// stillness is the evidence against one worker.
type stillness struct {
	beats uint64
	since time.Time // first read of this count
	reads int
}

func (r *rescuer) run(ctx context.Context) {
	quiet := false // an error was logged and has not gone away
	for ctx.Err() == nil {
		err := r.runOnce(ctx, time.Now())
		// Who leads no more need not say so: the elector does.
		switch {
		case err == nil:
			quiet = false
		case ctx.Err() == nil && r.lease.Load() != nil && !errors.Is(err, ErrFenced):
			r.e.counters.StoreErrors.Add(1)
			if !quiet {
				quiet = true
				r.e.log.Warn().Err(err).Int("shard", r.shard).Msg("cannot look for dead workers; trying on")
			}
		}
		sleep(ctx, rescueEvery)
	}
}

// runOnce takes one reading at now (monotonic) and, as the leader, rescues what it
// proves lost.
func (r *rescuer) runOnce(ctx context.Context, now time.Time) error {
	bounded, cancel := context.WithTimeout(ctx, r.e.opts.StoreTimeout)
	defer cancel()
	r.begin(now)
	holders, err := r.e.store.Holders(bounded, r.shard)
	if err != nil {
		r.failed()
		return err
	}
	for _, h := range r.judge(holders, now) {
		lease := r.lease.Load()
		if lease == nil {
			return nil
		}
		if err := r.rescue(ctx, *lease, h); err != nil {
			return err
		}
	}
	return nil
}

// rescue queues again everything that h holds.
func (r *rescuer) rescue(ctx context.Context, lease Lease, h Holder) error {
	total := 0
	for {
		bounded, cancel := context.WithTimeout(ctx, r.e.opts.StoreTimeout)
		n, err := r.e.store.Rescue(bounded, lease, h, r.e.opts.MaxDeliveries, rescueBatch)
		cancel()
		if total += n; n > 0 {
			r.e.counters.Rescued.Add(int64(n))
			r.e.workers.wake(r.shard)
		}
		if err != nil || n == 0 {
			if total > 0 {
				r.e.log.Warn().Int("shard", r.shard).Str("worker", h.Worker).Int("firings", total).Msg("rescued firings of a dead worker")
			}
			return err
		}
	}
}

// begin notes that a read begins; after a pause the evidence starts over.
func (r *rescuer) begin(now time.Time) {
	if now.Sub(r.lastRead) > readGap {
		r.seen = nil
	}
	r.lastRead = now
}

// failed notes that a read failed: the evidence starts over.
func (r *rescuer) failed() { r.seen = nil }

// judge updates the evidence and returns the workers it proves dead.
func (r *rescuer) judge(holders []Holder, now time.Time) []Holder {
	seen := make(map[string]*stillness, len(holders))
	var dead []Holder
	for _, h := range holders {
		s := r.seen[h.Worker]
		if s == nil || s.beats != h.Beats {
			s = &stillness{beats: h.Beats, since: now}
		}
		s.reads++
		seen[h.Worker] = s
		if s.reads >= deadReads && now.Sub(s.since) >= deadAfter {
			dead = append(dead, h)
		}
	}
	r.seen = seen
	return dead
}
