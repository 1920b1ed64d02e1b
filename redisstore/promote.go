package redisstore

import (
	"context"
	"math"
	"strconv"
	"time"

	"github.com/snower/forsun/scheduler"
)

// Promote queues retries again: see scheduler.ClaimStore.
func (s *Store) Promote(ctx context.Context, q scheduler.PromoteRequest) (n int, next time.Time, err error) {
	leave, err := s.enter()
	if err != nil {
		return 0, next, err
	}
	defer leave()
	k, err := s.shard(q.Lease.Shard)
	if err != nil {
		return 0, next, err
	}
	for n < q.Limit {
		// One more than is wanted: it tells when the next is due.
		found, err := s.client.Do(ctx, s.client.B().Zrange().Key(k.retries).Min("-inf").Max("+inf").Byscore().
			Limit(0, int64(min(q.Limit-n, batchPlans)+1)).Withscores().Build()).AsZScores()
		if err != nil {
			return n, next, storeError("promote retries", err)
		}
		s.settle(ctx, k)
		s.packSoon(k, q.Lease)
		if len(found) == 0 {
			return n, time.Time{}, nil
		}
		var members []string
		for _, z := range found[:min(len(found), q.Limit-n, batchPlans)] {
			if int64(math.Ceil(z.Score)) <= q.Now.UnixMilli() {
				members = append(members, z.Member)
			}
		}
		if len(members) == 0 {
			return n, time.UnixMilli(int64(found[0].Score)), nil
		}
		got, at, err := s.promoteSome(ctx, k, q, members)
		if n += got; err != nil {
			return n, at, err
		}
		if next = at; got == 0 {
			break // not yet by Redis' clock, or somebody else's
		}
	}
	return n, next, nil
}

// promoteSome runs promote.lua.
func (s *Store) promoteSome(ctx context.Context, k *shardKeys, q scheduler.PromoteRequest, members []string) (n int, next time.Time, err error) {
	keys := []string{k.leader, k.retries, k.deferred}
	args := []string{q.Lease.Value, strconv.FormatInt(q.Now.UnixMilli(), 10), strconv.FormatInt(q.Skew.Milliseconds(), 10), s.channel, k.work("")}
	for _, member := range members {
		w, ok := parseWaiting(member)
		if !ok { // no script of ours made it: it is dropped for want of a firing
			w.deferred = true
		}
		where := k.deferred
		if !w.deferred {
			where = k.retry(w.key)
		}
		keys, args = append(keys, k.firings(w.action), where), append(args, member)
	}
	r, err := s.run(ctx, invocation{script: s.scripts.promote, keys: keys, args: args})
	if err != nil {
		return 0, next, storeError("promote retries", err)
	}
	if r.status == statusFenced {
		return 0, next, scheduler.ErrFenced
	}
	if len(r.values) != 2 {
		return 0, next, errReply
	}
	count, err := number(r.values[0])
	if err != nil {
		return 0, next, err
	}
	if at, err := number(r.values[1]); err == nil {
		next = time.UnixMilli(at)
	}
	return int(count), next, nil
}
