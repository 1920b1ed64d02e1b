package redisstore

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/rueidis"

	"github.com/snower/forsun/scheduler"
)

const (
	// checkPage is how many entries are looked at in one go.
	checkPage = 500
	// maxFindings bounds the findings of one kind in a shard.
	maxFindings = 100
)

// Check looks through the store: see scheduler.Observer. Every shard's index and
// schedules are compared with the plans, what waits for a time with its place by
// key, and the count of unfinished firings with where they are. Plans that stand
// neither in the index nor in a schedule are not looked for: that would take a scan
// of the whole of Redis.
func (s *Store) Check(ctx context.Context, report func(scheduler.Finding)) error {
	leave, err := s.enter()
	if err != nil {
		return err
	}
	defer leave()
	for _, f := range s.report(ctx) {
		report(f)
	}
	if err := s.refreshAll(ctx); err != nil {
		return storeError("check", err)
	}
	for _, id := range s.ids {
		c := &checker{s: s, ctx: ctx, keys: s.shards[id], report: report, found: make(map[string]int)}
		for _, part := range []func() error{c.index, c.packed, c.schedules, c.retries, c.count, c.quarantine} {
			if err := part(); err != nil {
				return storeError("check of shard "+strconv.Itoa(id), err)
			}
		}
	}
	return nil
}

// checker looks through one shard.
type checker struct {
	s      *Store
	ctx    context.Context
	keys   *shardKeys
	report func(scheduler.Finding)
	found  map[string]int // by kind of finding
}

// kind of a finding, with what to do about it.
type kind struct{ name, advice string }

// find reports an error, unless there were enough of its kind.
func (c *checker) find(k kind, subject, problem string) {
	c.found[k.name]++
	switch n := c.found[k.name]; {
	case n <= maxFindings:
		c.report(scheduler.Finding{Shard: c.keys.id, Severity: scheduler.SeverityError, Subject: subject, Problem: problem, Advice: k.advice})
	case n == maxFindings+1:
		c.report(scheduler.Finding{
			Shard: c.keys.id, Severity: scheduler.SeverityError, Subject: k.name,
			Problem: fmt.Sprintf("there are more than %d like the ones above", maxFindings), Advice: "mend those and look again",
		})
	}
}

// scan calls fn with pages of a sorted set.
func (c *checker) scan(key string, fn func([]place) error) error {
	for cursor := uint64(0); ; {
		b := c.s.client.B()
		page, err := c.s.client.Do(c.ctx, b.Zscan().Key(key).Cursor(cursor).Count(checkPage).Build()).AsScanEntry()
		if err != nil {
			return err
		}
		places := make([]place, 0, len(page.Elements)/2)
		for i := 0; i+1 < len(page.Elements); i += 2 {
			score, err := strconv.ParseFloat(page.Elements[i+1], 64)
			if err != nil {
				return fmt.Errorf("%w: score %s", errReply, page.Elements[i+1])
			}
			places = append(places, place{page.Elements[i], int64(score)})
		}
		if err := fn(places); err != nil {
			return err
		}
		if cursor = page.Cursor; cursor == 0 {
			return nil
		}
	}
}

// planState is a plan with all its places, at one moment.
type planState struct {
	stored    string
	plan      *scheduler.Plan
	bad       error // why it cannot be decoded
	place     indexPlace
	schedules map[string]int64 // action → second
}

// indexPlace says where a key stands, as look.lua does.
type indexPlace int64

const (
	inNone  indexPlace = iota
	inIndex            // also, perhaps, in a run
	inRun
	inRunPerhapsNot // of which it is perhaps to be taken out
)

// look reads a plan and its places once more: what is only under way is whole at any
// one moment.
func (c *checker) look(key string) (p planState, err error) {
	actions := c.s.actions()
	keys := []string{c.keys.plan(key), c.keys.index, c.keys.packed, c.keys.unpack}
	for _, action := range actions {
		keys = append(keys, c.keys.schedule(action))
	}
	r, err := c.s.run(c.ctx, invocation{script: c.s.scripts.look, keys: keys, args: []string{key, "(" + key + runEnd}})
	if err != nil {
		return p, err
	}
	if len(r.values) != len(actions)+2 {
		return p, errReply
	}
	if p.stored, err = r.values[0].ToString(); err != nil {
		return p, err
	}
	if p.stored != "" {
		p.plan, p.bad = decodePlan(key, p.stored)
	}
	place, err := number(r.values[1])
	if err != nil {
		return p, err
	}
	p.place = indexPlace(place)
	p.schedules = make(map[string]int64)
	for i, action := range actions {
		text, err := r.values[2+i].ToString()
		if err != nil {
			return p, err
		}
		if second, err := strconv.ParseFloat(text, 64); err == nil {
			p.schedules[action] = int64(second)
		}
	}
	return p, nil
}

// wrong tells what does not fit together, "" if all does.
func (p planState) wrong() (kind, string) {
	atRest := kind{"entries without a plan", "the leader clears it when it comes to it; Remove of the key does, too"}
	if len(p.schedules) == 0 {
		atRest.advice = "remove the key: that clears it, and nothing else does"
	}
	switch {
	case p.stored == "" && p.place == inIndex:
		return atRest, "it stands in the index, and there is no such plan"
	case p.stored == "" && p.place == inRun:
		return atRest, "it stands in a run of the index, and there is no such plan"
	case p.stored == "" && len(p.schedules) > 0:
		return atRest, "it stands in a schedule, and there is no such plan"
	case p.stored == "":
		return kind{}, ""
	case p.bad != nil:
		return kind{"undecodable plans", "it is put into quarantine when it is due; create it anew, or remove it"}, p.bad.Error()
	}
	k := kind{"plans out of place", "create the plan anew: it would not fire when it should"}
	second, scheduled := p.schedules[p.plan.Action]
	switch {
	case p.place == inNone:
		return k, "it does not stand in the index"
	case !scheduled:
		return k, fmt.Sprintf("it does not stand in the schedule of %s", p.plan.Action)
	case second != p.plan.Due:
		return k, fmt.Sprintf("it is due at %d and stands in the schedule at %d", p.plan.Due, second)
	case len(p.schedules) > 1:
		return k, fmt.Sprintf("its action is %s, and it stands in the schedules of others, too", p.plan.Action)
	}
	return k, ""
}

// suspect looks at a plan again and reports what is wrong with it.
func (c *checker) suspect(key string) error {
	p, err := c.look(key)
	if err != nil {
		return err
	}
	if k, problem := p.wrong(); problem != "" {
		c.find(k, "plan "+strconv.Quote(key), problem)
	}
	return nil
}

// index compares the index with the plans and their schedules.
func (c *checker) index() error {
	return c.scan(c.keys.index, func(places []place) error {
		keys := make([]string, len(places))
		for i, p := range places {
			keys[i] = p.key
		}
		return c.plans(keys)
	})
}

// packed compares the runs of the index with them.
func (c *checker) packed() error {
	return c.scan(c.keys.packed, func(runs []place) error {
		// Not by slices.Chunk: go1.26.8 makes c, where it is the receiver of a method value, one of
		// the stack as it was before it grew, inside of such a loop in a func literal.
		for len(runs) > 0 {
			some := runs[:min(len(runs), checkPage/runKeys)]
			runs = runs[len(some):]
			var keys []string
			for _, run := range some {
				keys = append(keys, strings.Split(run.key, "\n")...)
			}
			if err := c.plans(keys); err != nil {
				return err
			}
		}
		return nil
	})
}

// plans reads plans and compares them with their schedules.
func (c *checker) plans(keys []string) error {
	for len(keys) > 0 {
		n := min(len(keys), batchPlans)
		chunk := make([]listed, n)
		for i, key := range keys[:n] {
			chunk[i] = listed{c.keys, key}
		}
		stored, err := c.s.readChunk(c.ctx, chunk)
		if err != nil {
			return err
		}
		if err := c.compare(keys[:len(stored)], stored); err != nil {
			return err
		}
		keys = keys[len(stored):]
	}
	return nil
}

// compare looks whether plans stand in their schedules.
func (c *checker) compare(keys, stored []string) error {
	b := c.s.client.B
	var commands []rueidis.Completed
	var plans []*scheduler.Plan
	for i, key := range keys {
		p, err := decodePlan(key, stored[i])
		if err != nil {
			if err := c.suspect(key); err != nil {
				return err
			}
			continue
		}
		plans = append(plans, p)
		commands = append(commands, b().Zscore().Key(c.keys.schedule(p.Action)).Member(p.Key).Build())
		c.s.learn(p.Action)
	}
	for i, r := range c.s.client.DoMulti(c.ctx, commands...) {
		second, err := r.AsFloat64()
		if err != nil && !rueidis.IsRedisNil(err) {
			return err
		}
		if err != nil || int64(second) != plans[i].Due {
			if err := c.suspect(plans[i].Key); err != nil {
				return err
			}
		}
	}
	return nil
}

// schedules looks for entries of what the index does not know.
func (c *checker) schedules() error {
	for _, action := range c.s.actions() {
		err := c.scan(c.keys.schedule(action), func(places []place) error {
			b := c.s.client.B
			commands := make([]rueidis.Completed, 0, 2*len(places))
			for _, p := range places {
				commands = append(commands, b().Zscore().Key(c.keys.index).Member(p.key).Build(),
					b().Zrange().Key(c.keys.packed).Min("("+p.key+runEnd).Max("-").Bylex().Rev().Limit(0, 1).Build())
			}
			results := c.s.client.DoMulti(c.ctx, commands...)
			for i, p := range places {
				if err := results[2*i].Error(); err == nil {
					continue
				} else if !rueidis.IsRedisNil(err) {
					return err
				}
				run, err := results[2*i+1].AsStrSlice()
				if err != nil {
					return err
				}
				if len(run) == 1 && slices.Contains(strings.Split(run[0], "\n"), p.key) {
					continue
				}
				if err := c.suspect(p.key); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// retries looks for entries of firings that wait, without their firing.
func (c *checker) retries() error {
	return c.scan(c.keys.retries, func(places []place) error {
		for _, p := range places {
			w, ok := parseWaiting(p.key)
			where := c.keys.deferred
			if ok && !w.deferred {
				where = c.keys.retry(w.key)
			}
			// A promotion takes both away, and a finish may bring both back between any two.
			b := c.s.client.B
			rs := c.s.client.DoMulti(c.ctx, b().Hexists().Key(where).Field(p.key).Build(), b().Zscore().Key(c.keys.retries).Member(p.key).Build(),
				b().Hexists().Key(where).Field(p.key).Build())
			there := false
			for _, r := range []rueidis.RedisResult{rs[0], rs[2]} {
				yes, err := r.AsBool()
				if _, ok := rueidis.IsRedisErr(err); err != nil && !ok { // else it is of another type
					return err
				}
				there = there || yes
			}
			if err := rs[1].Error(); !there && err == nil {
				c.find(kind{"retries without a firing", "the leader drops it when its time has come"}, "retry of plan "+strconv.Quote(w.key), "there is no firing for it")
			} else if err != nil && !rueidis.IsRedisNil(err) {
				return err
			}
		}
		return nil
	})
}

// count compares the count of unfinished firings with how many there are.
func (c *checker) count() error {
	workers, err := c.s.client.Do(c.ctx, c.s.client.B().Hkeys().Key(c.keys.workers).Build()).AsStrSlice()
	if err != nil {
		return err
	}
	keys, actions := []string{c.keys.backlog, c.keys.retries}, c.s.actions()
	for _, action := range actions {
		keys = append(keys, c.keys.bundleQueue(action))
	}
	for _, action := range actions {
		keys = append(keys, c.keys.firings(action))
		for _, w := range workers {
			keys = append(keys, c.keys.held(action, w), c.keys.bundles(action, w))
		}
	}
	r, err := c.s.run(c.ctx, invocation{script: c.s.scripts.audit, keys: keys, args: []string{strconv.Itoa(len(actions))}})
	if err != nil {
		return err
	}
	n, err := r.numbers(2)
	if err != nil {
		return err
	}
	if n[0] != n[1] {
		// A worker that came between the two reads holds what was not counted.
		again, err := c.s.client.Do(c.ctx, c.s.client.B().Hlen().Key(c.keys.workers).Build()).AsInt64()
		if err != nil || int(again) != len(workers) {
			return err
		}
		c.find(kind{"counts", "it bounds the backlog: stop claims of that shard and set the field :total of its backlog right"}, "unfinished firings",
			fmt.Sprintf("%d are counted, and there are %d", n[0], n[1]))
	}
	return nil
}

// quarantine warns of what lies there.
func (c *checker) quarantine() error {
	n, err := c.s.client.Do(c.ctx, c.s.client.B().Hlen().Key(c.keys.quarantine).Build()).AsInt64()
	if err != nil || n == 0 {
		return err
	}
	c.report(scheduler.Finding{
		Shard: c.keys.id, Severity: scheduler.SeverityWarning, Subject: "quarantine",
		Problem: fmt.Sprintf("%d plans or firings could not be decoded and lie in %s with the reason", n, c.keys.quarantine),
		Advice:  "create the plans anew: that takes them out; a firing's field can be deleted",
	})
	return nil
}
