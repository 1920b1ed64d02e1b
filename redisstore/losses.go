package redisstore

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

const (
	// beatsKept is how many heartbeats of a shard are remembered: how far back a loss
	// is measured.
	beatsKept = 120
	// forgottenAfter is less than how long a worker is silent before a leader forgets
	// it, with its counter.
	forgottenAfter = 8 * time.Second
)

// beats are the heartbeats that this process counted in a shard. Each was
// acknowledged: a counter that goes back shows that Redis, for that shard, is what it
// was before.
type beats struct {
	mu     sync.Mutex
	worker string
	count  uint64      // after the last beat
	at     []time.Time // when each of the last was acknowledged, oldest first; the last is that of count
	plans  int64       // in the shard then; −1: not known
}

// loss is what a shard of Redis has lost.
type loss struct {
	shard         int
	all           bool      // nothing is left of the counter
	restored      time.Time // at least everything until then is there; zero: not known
	last          time.Time // when Redis still had more
	plans, before int64     // in the shard; −1: not known
}

// add notes a heartbeat and its answer, and returns what Redis has lost since the
// one before, if anything.
func (b *beats) add(worker string, count uint64, plans int64, now time.Time) (l loss, lost bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.worker != worker || len(b.at) == 0 {
		b.worker, b.at = worker, nil
	} else {
		last := b.at[len(b.at)-1]
		if count <= b.count {
			l = loss{all: count == 1, last: last, plans: plans, before: b.plans}
			// What is there holds the beat before this one.
			if b.at = b.at[:max(len(b.at)-int(min(b.count-(count-1), beatsKept)), 0)]; len(b.at) > 0 {
				l.restored = b.at[len(b.at)-1]
			}
			lost = !l.all || now.Sub(last) < forgottenAfter
		}
		for n := b.count + 1; n < count && n <= b.count+beatsKept; n++ {
			b.at = append(b.at, last) // counted, and the answer did not come
		}
	}
	b.count, b.plans = count, plans
	if b.at = append(b.at, now); len(b.at) > beatsKept {
		b.at = slices.Delete(b.at, 0, len(b.at)-beatsKept)
	}
	return l, lost
}

// Beat counts a heartbeat in every shard: see scheduler.WorkStore. On the way it
// notices when Redis has lost some.
func (s *Store) Beat(ctx context.Context, worker string) error {
	leave, err := s.enter()
	if err != nil {
		return err
	}
	defer leave()
	calls := make([]invocation, len(s.ids))
	for i, id := range s.ids {
		k := s.shards[id]
		calls[i] = s.beatInvocation(k, worker)
	}
	replies, errs := s.runMany(ctx, calls)
	now := time.Now()
	plans := s.countPlans(ctx)
	var first error
	var losses []loss
	for i, err := range errs {
		var answer []int64
		if err == nil {
			answer, err = replies[i].numbers(1)
		}
		if err != nil {
			first = cmp.Or(first, storeError("heartbeat of shard "+strconv.Itoa(s.ids[i]), err))
			continue
		}
		if l, lost := s.shards[s.ids[i]].beats.add(worker, uint64(answer[0]), plans[i], now); lost {
			l.shard = s.ids[i]
			losses = append(losses, l)
		}
	}
	s.sayLost(losses)
	return first
}

// beatInvocation counts a heartbeat in a shard.
func (s *Store) beatInvocation(k *shardKeys, worker string) invocation {
	return invocation{script: s.scripts.beat, keys: []string{k.workers}, args: []string{worker}}
}

// countPlans counts the plans in the schedules of every shard; −1: not known.
func (s *Store) countPlans(ctx context.Context) []int64 {
	actions := s.actions()
	commands := make([]rueidis.Completed, 0, len(s.ids)*len(actions))
	for _, id := range s.ids {
		for _, action := range actions {
			commands = append(commands, s.client.B().Zcard().Key(s.shards[id].schedule(action)).Build())
		}
	}
	plans := make([]int64, len(s.ids))
	for i, r := range s.client.DoMulti(ctx, commands...) {
		shard := &plans[i/len(actions)]
		if n, err := r.AsInt64(); err != nil || *shard < 0 {
			*shard = -1
		} else {
			*shard += n
		}
	}
	return plans
}

// sayLost logs losses of shards that showed together.
func (s *Store) sayLost(all []loss) {
	if len(all) == 0 {
		return
	}
	shards := make([]int, len(all))
	sum := loss{all: true, last: all[0].last, restored: all[0].restored}
	known := true // what it is restored to, in all of them
	for i, l := range all {
		shards[i] = l.shard
		sum.all = sum.all && l.all
		sum.plans, sum.before = sum.plans+max(l.plans, 0), sum.before+max(l.before, 0)
		if l.last.After(sum.last) {
			sum.last = l.last
		}
		if known = known && !l.restored.IsZero(); known && l.restored.Before(sum.restored) {
			sum.restored = l.restored
		}
	}
	line := s.log.Error().Ints("shards", shards).Int64("plans_before", sum.before).Int64("plans", sum.plans)
	if sum.all {
		line.Time("last_seen", sum.last).
			Msg("Redis lost what it was told: it is empty, or as it was before this replica came; plans stored since may be gone, and firings may run again")
		return
	}
	if known {
		line = line.Time("restored_to", sum.restored).Dur("lost_ms", sum.last.Sub(sum.restored))
	}
	line.Msg("Redis lost its newest writes (a crash, or a failover to a replica that lagged): plans stored in that time may be gone, and firings of that time may run again")
}
