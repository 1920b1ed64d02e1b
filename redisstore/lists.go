package redisstore

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/redis/rueidis"

	"github.com/snower/forsun/scheduler"
)

// listed is a plan's place in a listing over several shards.
type listed struct {
	shard *shardKeys
	key   string
}

// List returns plans by key: see scheduler.PlanStore. The cursor is the last key
// of the page.
func (s *Store) List(ctx context.Context, q scheduler.ListQuery) ([]*scheduler.Plan, string, error) {
	leave, err := s.enter()
	if err != nil {
		return nil, "", err
	}
	defer leave()
	limit := min(q.Limit, batchPlans*10)
	entries, full, err := s.listKeys(ctx, q.Prefix, q.Cursor, limit)
	if err != nil {
		return nil, "", storeError("list plans", err)
	}
	plans, n, err := s.readPlans(ctx, entries, func(e listed, p *scheduler.Plan) bool { return true })
	if err != nil {
		return nil, "", storeError("list plans", err)
	}
	if n > 0 && (n < len(entries) || full) {
		return plans, entries[n-1].key, nil
	}
	return plans, "", nil
}

// listKeys reads a page of the keys that begin with prefix, behind the cursor, over all
// shards. more says that there may be others.
func (s *Store) listKeys(ctx context.Context, prefix, cursor string, limit int) (entries []listed, more bool, err error) {
	if cursor < prefix {
		cursor = ""
	}
	var commands []rueidis.Completed
	for _, id := range s.ids {
		commands = append(commands, s.listCommands(s.shards[id], prefix, cursor, limit)...)
	}
	answers := s.client.DoMulti(ctx, commands...)
	each := len(commands) / len(s.ids)
	end := "" // before which all are here
	for i, id := range s.ids {
		keys, last, err := parseListed(answers[each*i:each*(i+1)], prefix, cursor, limit)
		if err != nil {
			return nil, false, err
		}
		for _, key := range keys {
			entries = append(entries, listed{s.shards[id], key})
		}
		if last != "" && (end == "" || last < end) {
			end = last
		}
	}
	slices.SortFunc(entries, func(a, b listed) int { return strings.Compare(a.key, b.key) })
	n := len(entries)
	if end != "" {
		n = sort.Search(n, func(i int) bool { return entries[i].key > end })
	}
	return entries[:min(n, limit)], end != "" || n > limit, nil
}

// readPlans reads the plans of the first n entries, as many as a page may hold;
// what is gone or cannot be decoded, or what keep refuses, is passed over.
func (s *Store) readPlans(ctx context.Context, entries []listed, keep func(listed, *scheduler.Plan) bool) (plans []*scheduler.Plan, n int, err error) {
	size := 0
	for n < len(entries) && size < batchBytes*8 {
		chunk := entries[n:min(n+batchPlans, len(entries))]
		stored, err := s.readChunk(ctx, chunk)
		if err != nil {
			return nil, 0, err
		}
		for i, v := range stored {
			size += len(v)
			if v == "" {
				continue
			}
			if p, err := decodePlan(chunk[i].key, v); err == nil && keep(chunk[i], p) {
				plans = append(plans, p)
			}
		}
		n += len(stored)
	}
	return plans, n, nil
}

// readChunk reads stored plans: of the first entries of the chunk, at least one, ""
// where there is none (or something else than a plan). How many it reads depends on
// how large the plans were that it read last.
func (s *Store) readChunk(ctx context.Context, chunk []listed) ([]string, error) {
	if largest := s.largest.Load(); largest > 0 {
		chunk = chunk[:min(int64(len(chunk)), max(batchBytes/largest, 1))]
	}
	byShard := make(map[*shardKeys][]int, 1)
	for i, e := range chunk {
		byShard[e.shard] = append(byShard[e.shard], i)
	}
	stored := make([]string, len(chunk))
	var commands []rueidis.Completed
	var places [][]int
	for shard, all := range byShard {
		for len(all) > 0 {
			where := all[:min(len(all), batchPlans)]
			keys := make([]string, len(where))
			for j, i := range where {
				keys[j] = shard.plan(chunk[i].key)
			}
			commands, places, all = append(commands, s.client.B().Mget().Key(keys...).Build()), append(places, where), all[len(where):]
		}
	}
	largest := s.largest.Load() * 7 / 8
	for c, r := range s.client.DoMulti(ctx, commands...) {
		values, err := r.ToArray()
		if err != nil {
			if isContext(err) { // they may have been too much for the time there was
				s.largest.Store(batchBytes)
			}
			return nil, err
		}
		if len(values) != len(places[c]) {
			return nil, errReply
		}
		for j := range values {
			if values[j].IsNil() {
				continue
			}
			v, err := values[j].ToString()
			if err != nil {
				return nil, fmt.Errorf("read plans: %w: %w", errReply, err)
			}
			stored[places[c][j]] = v
			largest = max(largest, int64(len(v)))
		}
	}
	s.largest.Store(largest)
	return stored, nil
}

// DueAt returns plans due at a second: see scheduler.PlanStore. The cursor is
// <action>:<key> of the page's last entry, the action by its name in Redis.
func (s *Store) DueAt(ctx context.Context, q scheduler.DueAtQuery) (plans []*scheduler.Plan, next string, err error) {
	leave, err := s.enter()
	if err != nil {
		return nil, "", err
	}
	defer leave()
	if err := s.refreshAll(ctx); err != nil {
		return nil, "", storeError("plans due at a second", err)
	}
	from, after, _ := strings.Cut(q.Cursor, ":")
	from = actionNamed(from)
	limit := min(q.Limit, batchPlans)
	for _, action := range s.actions() {
		if action < from {
			continue
		}
		if action != from {
			after = ""
		}
		got, last, more, err := s.dueAt(ctx, action, q.Second, after, limit)
		if err != nil {
			return nil, "", storeError("plans due at a second", err)
		}
		if more {
			return got, nameOf(action) + ":" + last, nil
		}
		if len(got) > 0 { // the next action begins a page of its own
			return got, nameOf(action) + ":\xff", nil
		}
	}
	return nil, "", nil
}

// dueAt returns a page of one action's plans due at a second, over all shards.
func (s *Store) dueAt(ctx context.Context, action string, second int64, after string, limit int) (plans []*scheduler.Plan, last string, more bool, err error) {
	var entries []listed
	for _, id := range s.ids {
		k := s.shards[id]
		var page duePage
		if after == "" {
			page, err = s.dueKeys(ctx, k, action, second, second, "", limit)
		} else {
			page, err = s.dueKeysBehind(ctx, k, action, second, place{after, second}, limit)
		}
		if err != nil {
			return nil, "", false, err
		}
		more = more || len(page.keys) == limit
		for _, key := range page.keys {
			entries = append(entries, listed{k, key})
		}
	}
	slices.SortFunc(entries, func(a, b listed) int { return cmp.Compare(a.key, b.key) })
	more = more || len(entries) > limit
	entries = entries[:min(limit, len(entries))]
	if len(entries) == 0 {
		return nil, "", false, nil
	}
	plans, n, err := s.readPlans(ctx, entries, func(_ listed, p *scheduler.Plan) bool { return p.Due == second && p.Action == action })
	if err != nil {
		return nil, "", false, err
	}
	return plans, entries[n-1].key, more || n < len(entries), nil
}
