package redisstore

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/snower/forsun/scheduler"
)

// workerLost is the error of a firing whose workers died too often.
const workerLost = "worker lost"

// Holders returns the workers a shard knows: see scheduler.RescueStore.
func (s *Store) Holders(ctx context.Context, shard int) ([]scheduler.Holder, error) {
	leave, err := s.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	k, err := s.shard(shard)
	if err != nil {
		return nil, err
	}
	if err := s.refresh(ctx, k); err != nil {
		return nil, storeError("workers of the shard", err)
	}
	beats, err := s.client.Do(ctx, s.client.B().Hgetall().Key(k.workers).Build()).AsStrMap()
	if err != nil {
		return nil, storeError("workers of the shard", err)
	}
	holders := make([]scheduler.Holder, 0, len(beats))
	for worker, beat := range beats {
		n, _ := strconv.ParseUint(beat, 10, 64) // a counter that is none never moves
		holders = append(holders, scheduler.Holder{Worker: worker, Beats: n})
	}
	slices.SortFunc(holders, func(a, b scheduler.Holder) int { return strings.Compare(a.Worker, b.Worker) })
	return holders, nil
}

// Rescue queues again what a dead worker holds: see scheduler.RescueStore.
func (s *Store) Rescue(ctx context.Context, l scheduler.Lease, h scheduler.Holder, maxDeliveries, limit int) (moved int, err error) {
	leave, err := s.enter()
	if err != nil {
		return 0, err
	}
	defer leave()
	k, err := s.shard(l.Shard)
	if err != nil {
		return 0, err
	}
	for _, action := range s.actions() {
		if err := s.unbundleAll(ctx, k, action, h.Worker); err != nil {
			return moved, storeError("what a dead worker holds", err)
		}
		for moved < limit {
			n, err := s.rescueSome(ctx, k, l, h, action, maxDeliveries, min(limit-moved, batchPlans))
			if moved += n; err != nil {
				return moved, err
			}
			if n == 0 {
				break
			}
		}
	}
	if moved > 0 {
		return moved, nil
	}
	// It is forgotten only if it holds nothing of any action there is.
	if err := s.learnStored(ctx, k); err != nil {
		return 0, storeError("forget worker", err)
	}
	keys := []string{k.leader, k.workers}
	for _, action := range s.actions() {
		keys = append(keys, k.held(action, h.Worker), k.bundles(action, h.Worker))
	}
	r, err := s.run(ctx, invocation{script: s.scripts.forget, keys: keys, args: []string{l.Value, h.Worker, strconv.FormatUint(h.Beats, 10)}})
	if err != nil {
		return 0, storeError("forget worker", err)
	}
	if r.status == statusFenced {
		return 0, scheduler.ErrFenced
	}
	return 0, nil
}

// rescueSome takes some firings of one action from a worker.
func (s *Store) rescueSome(ctx context.Context, k *shardKeys, l scheduler.Lease, h scheduler.Holder, action string, maxDeliveries, limit int) (int, error) {
	var found rueidis.ScanEntry
	for more := true; more && len(found.Elements) == 0; more = found.Cursor != 0 { // a page may be empty that is not the last
		var err error
		found, err = s.client.Do(ctx, s.client.B().Hscan().Key(k.held(action, h.Worker)).Cursor(found.Cursor).Count(int64(limit)).Build()).AsScanEntry()
		if err != nil {
			return 0, storeError("what a dead worker holds", err)
		}
	}
	if len(found.Elements) == 0 {
		return 0, nil
	}
	keys := []string{k.leader, k.workers, k.held(action, h.Worker), k.firings(action), k.backlog, k.dead, k.history, k.historySizes}
	args := []string{l.Value, h.Worker, strconv.FormatUint(h.Beats, 10), nameOf(action), s.channel, k.work(action), strconv.Itoa(s.opts.DeadCount), workerLost}
	var dying, fields []string // entries of dead letters to be, and their receipts
	n, size := 0, 0
	for i := 0; i+1 < len(found.Elements) && n < limit && size < batchBytes; i += 2 {
		field, stored := found.Elements[i], found.Elements[i+1]
		n++
		switch e, err := parseEntry(stored); {
		case err != nil:
			if err := s.quarantineFiring(ctx, k, h.Worker, nameOf(action)+"/"+field, stored, err); err != nil {
				return 0, storeError("quarantine", err)
			}
		case e.firing.Delivery < maxDeliveries:
			args = append(args, field, "", "")
		default:
			dying, fields = append(dying, stored), append(fields, field)
			size += e.size // the script reads it
		}
	}
	fs, bad, err := s.readFirings(ctx, k, dying)
	if err != nil {
		return 0, storeError("what a dead worker holds", err)
	}
	now := time.Now()
	for i, f := range fs {
		if f == nil {
			if err := s.quarantineFiring(ctx, k, h.Worker, nameOf(action)+"/"+fields[i], dying[i], bad[i]); err != nil {
				return 0, storeError("quarantine", err)
			}
			continue
		}
		keys = append(keys, k.plan(f.Plan.Key), k.firing(string(f.ID())))
		args = append(args, fields[i], f.Plan.Key, encodeAttempt(&scheduler.Attempt{
			Firing: f.ID(), Key: f.Plan.Key, Action: action, Due: f.Due, Missed: f.Missed, Attempt: f.Attempt,
			Started: now, Late: now.Sub(time.Unix(f.Due, 0)), Outcome: scheduler.Dead, Error: workerLost, Replica: h.Worker,
		}, false))
	}
	r, err := s.run(ctx, invocation{script: s.scripts.rescue, keys: keys, args: args})
	if err != nil {
		return 0, storeError("rescue", err)
	}
	if r.status == statusFenced {
		return 0, scheduler.ErrFenced
	}
	moved, err := firstNumber(r)
	return int(moved), err
}
