package redisstore

import (
	"context"
	"sync"

	"github.com/redis/rueidis"

	"github.com/snower/forsun/scheduler"
)

// readPlans remembers plans between their reading and their claim: how large they
// are, so that Redis need not be asked again, and what they are, so that a claim can
// hand out their firings. What is forgotten is asked for, or queued.
type readPlans struct {
	mu    sync.Mutex
	plans map[string]readPlan
	bytes int
}

type readPlan struct {
	size int             // as it is stored
	plan *scheduler.Plan // nil: not remembered
}

// Bounds of what is remembered of a shard: more than is ever read ahead, and no more
// memory than reading ahead may take.
const (
	maxReadPlans = 50_000
	maxReadBytes = 32 << 20
)

// add remembers a plan; it keeps p.
func (r *readPlans) add(p *scheduler.Plan, size int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.plans == nil || len(r.plans) > maxReadPlans {
		r.plans, r.bytes = make(map[string]readPlan), 0
	}
	r.drop(p.Key)
	if r.bytes+size > maxReadBytes {
		r.plans[p.Key] = readPlan{size: size}
		return
	}
	r.plans[p.Key] = readPlan{size, p}
	r.bytes += size
}

// drop forgets a plan. Call with mu held.
func (r *readPlans) drop(key string) readPlan {
	p := r.plans[key]
	delete(r.plans, key)
	if p.plan != nil {
		r.bytes -= p.size
	}
	return p
}

// take returns what is remembered of a plan, and forgets it.
func (r *readPlans) take(key string) readPlan {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.drop(key)
}

// claimedPlans returns what is known of plans that are to be claimed, their sizes at
// least.
func (s *Store) claimedPlans(ctx context.Context, k *shardKeys, claims []scheduler.Claim) ([]readPlan, error) {
	plans := make([]readPlan, len(claims))
	var commands []rueidis.Completed
	var where []int
	for i := range claims {
		if plans[i] = k.read.take(claims[i].Key); plans[i].size == 0 {
			commands, where = append(commands, s.client.B().Strlen().Key(k.plan(claims[i].Key)).Build()), append(where, i)
		}
	}
	for j, r := range s.client.DoMulti(ctx, commands...) {
		n, err := r.AsInt64()
		if _, ok := rueidis.IsRedisErr(err); ok {
			continue // of another type: the claim will find that out
		} else if err != nil {
			return nil, err
		}
		plans[where[j]].size = int(n)
	}
	return plans, nil
}
