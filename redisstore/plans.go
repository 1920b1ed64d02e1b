package redisstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"github.com/snower/forsun/scheduler"
)

// Bounds of one run of a script: other clients of the same Redis wait as long as
// it runs, and keep a p99 under 10 ms with these.
const (
	batchPlans = 100
	batchBytes = 512 << 10
)

// changesKept is how many changes of plans a shard remembers, twice, while
// firings are unfinished: whether a running firing may be retried is forgotten
// when so many other plans were changed meanwhile.
const changesKept = 100_000

// Answers of the scripts, by what their headers say.
const (
	statusOK     = 0
	statusFenced = 1 // under a lease
	statusNone   = 1 // remove
	statusAction = 2
	statusLate   = 3
	statusRetry  = 4
	statusBad    = 5
	statusNotAll = 6 // done
	statusNotNew = 8 // new
)

// errLate: a script came too late to take effect.
var errLate = fmt.Errorf("%w: the request reached Redis after its deadline and was not carried out", scheduler.ErrStore)

// Put stores plans: see scheduler.PlanStore.
func (s *Store) Put(ctx context.Context, plans []*scheduler.Plan) []error {
	return s.putAll(ctx, plans, false)
}

// PutNew stores plans whose keys have none: see scheduler.PlanStore.
func (s *Store) PutNew(ctx context.Context, plans []*scheduler.Plan) []error {
	return s.putAll(ctx, plans, true)
}

func (s *Store) putAll(ctx context.Context, plans []*scheduler.Plan, onlyNew bool) []error {
	errs := make([]error, len(plans))
	leave, err := s.enter()
	if err != nil {
		return fill(errs, err)
	}
	defer leave()
	last := make(map[string]int, len(plans)) // of several with one key the last wins
	for i, p := range plans {
		last[p.Key] = i
	}
	twice := len(last) < len(plans) // most callers name no key twice, and need not look again
	type part struct {
		shard  *shardKeys
		action string
	}
	batches := make(map[part]*putBatch)
	var all []*putBatch
	for i, p := range plans {
		if twice && last[p.Key] != i {
			continue
		}
		stored, err := encodePlan(p)
		if err != nil {
			errs[i] = fmt.Errorf("%w: %w", scheduler.ErrStore, err)
			continue
		}
		shard := s.shardOf(p.Key)
		b := batches[part{shard, p.Action}]
		if b == nil || len(b.plans) >= batchPlans || b.bytes+len(stored) > batchBytes {
			b = &putBatch{shard: shard, onlyNew: onlyNew}
			batches[part{shard, p.Action}] = b
			all = append(all, b)
		}
		b.plans, b.stored, b.index = append(b.plans, p), append(b.stored, stored), append(b.index, i)
		b.bytes += len(stored)
	}
	put := s.putBatch
	if len(plans) == 1 {
		put = s.putOne
	}
	each(all, func(b *putBatch) {
		answers, err := put(ctx, b)
		for n, i := range b.index {
			errs[i] = err
			switch {
			case n >= len(answers): // there are none
			case answers[n] == 'E':
				errs[i] = scheduler.ErrExists
			case answers[n] != 'K' && err == nil:
				plans[i].Replaced = answers[n] == 'R'
			}
		}
	})
	if !twice {
		return errs
	}
	for i, p := range plans {
		l := last[p.Key]
		if l == i {
			continue
		}
		if errs[i] = errs[l]; errs[i] == nil {
			p.Replaced, plans[l].Replaced = plans[l].Replaced, true
		}
	}
	return errs
}

func fill(errs []error, err error) []error {
	for i := range errs {
		errs[i] = err
	}
	return errs
}

// parallel bounds how many batches of one call are under way.
const parallel = 4

// each calls fn with every one, some at a time.
func each[T any](all []T, fn func(T)) {
	if len(all) == 1 {
		fn(all[0])
		return
	}
	var wg sync.WaitGroup
	tokens := make(chan struct{}, parallel)
	for _, one := range all {
		tokens <- struct{}{}
		wg.Go(func() {
			defer func() { <-tokens }()
			fn(one)
		})
	}
	wg.Wait()
}

// putBatch is plans of one shard and action that are stored by one run.
type putBatch struct {
	shard   *shardKeys
	plans   []*scheduler.Plan
	stored  []string
	index   []int
	bytes   int
	onlyNew bool
}

// putBatch returns an error for all plans, and the answers of put.lua, a byte a plan; those
// also beside ErrUnsure.
func (s *Store) putBatch(ctx context.Context, b *putBatch) (answers string, err error) {
	s.learn(b.plans[0].Action)
	r, confirmed, err := s.change(ctx, "put plans", b.shard, func(deadline int64, _ []string) invocation {
		return s.newInvocation(b, deadline)
	})
	asked := err == nil && r.status == statusNotNew
	if asked {
		r, confirmed, err = s.change(ctx, "put plans", b.shard, func(deadline int64, names []string) invocation {
			return s.putInvocation(b, deadline, names)
		})
	}
	if err != nil {
		return "", err
	}
	s.collectIf(ctx, b.shard, r)
	answers = strings.Repeat("S", len(b.plans)) // if new.lua has stored them
	if asked {
		if len(r.values) > 0 {
			answers, err = r.values[0].ToString()
		}
		if err != nil || len(answers) != len(b.plans) {
			return "", fmt.Errorf("%w: put plans: %w", scheduler.ErrUnsure, errReply)
		}
	}
	if !confirmed {
		err = scheduler.ErrUnsure
	}
	return answers, err
}

// collectIf collects garbage if put.lua or remove.lua says that there is some.
func (s *Store) collectIf(ctx context.Context, k *shardKeys, r reply) {
	if len(r.values) < 2 {
		return
	}
	if n, err := number(r.values[len(r.values)-1]); err == nil && n == 1 {
		s.collect(ctx, k)
	}
}

// change runs put.lua or remove.lua. It is run again only where it says that it did
// nothing: for want of the schedule of an action that this replica did not know, or,
// once, because Redis' clock was set. build gets the names that schedules were asked
// for by. With an error other than scheduler.ErrUnsure what it was for has not taken
// effect and will not; that one is returned once it can no longer.
func (s *Store) change(ctx context.Context, op string, k *shardKeys, build func(deadline int64, names []string) invocation) (r reply, confirmed bool, err error) {
	var names []string
	for late := false; ; {
		deadline, err := s.redisDeadlineAt(ctx, k.id)
		if err != nil {
			return r, false, storeError(op, err)
		}
		r, confirmed, err = s.runDurable(ctx, build(deadline, names))
		switch {
		case err != nil:
			if !s.surelyNotSent(err) {
				if deadline != 0 {
					<-ctx.Done()
				}
				// It may have taken effect before its answer was lost, and, if the caller went
				// away before the deadline that Redis was told, may still.
				err = fmt.Errorf("%w: %w", scheduler.ErrUnsure, err)
			}
			return r, false, storeError(op, err)
		case r.status == statusLate && (late || ctx.Err() != nil):
			return r, false, storeError(op, errLate)
		case r.status == statusLate:
			late = true
			s.forgetTime(k.id)
		case r.status == statusAction:
			name, err := nameIn(r)
			if err != nil {
				return r, false, storeError(op, err)
			}
			names = append(names, name)
		default:
			return r, confirmed, nil
		}
	}
}

// nameIn reads the name of the schedule that a script asks for: of an action, or
// whatever stands in its place in a plan that was not written by this program.
func nameIn(r reply) (string, error) {
	if len(r.values) != 1 {
		return "", errReply
	}
	return r.values[0].ToString()
}

// soonest is when the first of the plans is due.
func (b *putBatch) soonest() int64 {
	first := b.plans[0].Due
	for _, p := range b.plans[1:] {
		first = min(first, p.Due)
	}
	return first
}

// dueEvent tells the shard's leader that a plan was stored that is due soon.
func (s *shardKeys) dueEvent(second int64) string {
	return "p " + strconv.Itoa(s.id) + " " + strconv.FormatInt(second, 10)
}

func (s *Store) newInvocation(b *putBatch, deadline int64) invocation {
	k, own, soonest := b.shard, b.plans[0].Action, b.soonest()
	keys := make([]string, 0, 6+len(b.plans))
	keys = append(keys, k.index, k.retries, k.quarantine, k.actions, k.edits, k.unpack, k.schedule(own))
	args := make([]string, 0, 6+3*len(b.plans))
	args = append(args, strconv.FormatInt(deadline, 10), s.channel, k.dueEvent(soonest), strconv.FormatInt(soonest, 10), nameOf(own))
	for n, p := range b.plans {
		keys, args = append(keys, k.plan(p.Key)), append(args, p.Key, strconv.FormatInt(p.Due, 10), b.stored[n])
	}
	return invocation{script: s.scripts.new, keys: keys, args: append(args, s.takeID())}
}

func (s *Store) putInvocation(b *putBatch, deadline int64, others []string) invocation {
	k, own, soonest := b.shard, b.plans[0].Action, b.soonest()
	keys := make([]string, 0, 12+len(others)+2*len(b.plans))
	keys = append(keys, k.index, k.retries, k.backlog, k.changes, k.changed, k.changedOld, k.quarantine, k.actions, k.garbage, k.edits, k.unpack, k.schedule(own))
	args := make([]string, 0, 9+len(others)+3*len(b.plans))
	onlyNew := "0"
	if b.onlyNew {
		onlyNew = "1"
	}
	args = append(args, strconv.FormatInt(deadline, 10), strconv.Itoa(changesKept), s.channel,
		k.dueEvent(soonest), strconv.FormatInt(soonest, 10), nameOf(own), onlyNew, strconv.Itoa(len(others)))
	for _, name := range others {
		keys, args = append(keys, k.scheduleNamed(name)), append(args, name)
	}
	for n, p := range b.plans {
		keys = append(keys, k.plan(p.Key), k.retry(p.Key))
		args = append(args, p.Key, strconv.FormatInt(p.Due, 10), b.stored[n])
	}
	return invocation{script: s.scripts.put, keys: keys, args: append(args, s.takeID())}
}

// Get returns a plan: see scheduler.PlanStore.
func (s *Store) Get(ctx context.Context, key string) (*scheduler.Plan, error) {
	leave, err := s.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	stored, err := s.client.Do(ctx, s.client.B().Get().Key(s.shardOf(key).plan(key)).Build()).ToString()
	switch {
	case rueidis.IsRedisNil(err):
		return nil, scheduler.ErrNotFound
	case err != nil:
		return nil, storeError("get plan", err)
	}
	p, err := decodePlan(key, stored)
	if err != nil {
		return nil, fmt.Errorf("%w: get plan %s: %w", scheduler.ErrStore, scheduler.Shorten(key, 64), err)
	}
	return p, nil
}

// Remove deletes a plan: see scheduler.PlanStore.
func (s *Store) Remove(ctx context.Context, key string) (*scheduler.Plan, error) {
	leave, err := s.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	k := s.shardOf(key)
	r, confirmed, err := s.change(ctx, "remove plan", k, func(deadline int64, names []string) invocation {
		return s.removeInvocation(k, key, deadline, names)
	})
	if err != nil {
		return nil, err
	}
	p, err := s.removed(ctx, k, key, r)
	if err == nil {
		s.collectIf(ctx, k, r)
	}
	// Who asks again after ErrUnsure is not told that the plan is gone before it is.
	if (err == nil || errors.Is(err, scheduler.ErrNotFound)) && !confirmed {
		err = scheduler.ErrUnsure
	}
	return p, err
}

func (s *Store) removeInvocation(k *shardKeys, key string, deadline int64, names []string) invocation {
	keys := []string{k.plan(key), k.retry(key), k.index, k.retries, k.backlog, k.changes, k.changed, k.changedOld, k.quarantine, k.garbage, k.edits, k.packed, k.unpack}
	args := []string{strconv.FormatInt(deadline, 10), key, strconv.Itoa(changesKept)}
	for _, action := range s.actions() {
		keys, args = append(keys, k.schedule(action)), append(args, nameOf(action))
	}
	for _, name := range names {
		keys, args = append(keys, k.scheduleNamed(name)), append(args, name)
	}
	return invocation{script: s.scripts.remove, keys: keys, args: append(args, s.takeID())}
}

// removed reads the answer of remove.lua.
func (s *Store) removed(ctx context.Context, k *shardKeys, key string, r reply) (*scheduler.Plan, error) {
	onlyKey := &scheduler.Plan{Key: key}
	switch r.status {
	case statusNone:
		return nil, scheduler.ErrNotFound
	case statusBad:
		return onlyKey, nil
	}
	if len(r.values) != 2 {
		return nil, errReply
	}
	stored, err := r.values[0].ToString()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errReply, err)
	}
	if r.status == statusRetry {
		fs, _, err := s.readFirings(ctx, k, []string{stored})
		if err != nil || fs[0] == nil {
			return onlyKey, nil // it is removed, whatever can be said of it
		}
		return fs[0].Plan, nil
	}
	p, err := decodePlan(key, stored)
	if err != nil {
		return onlyKey, nil
	}
	return p, nil
}

// knownActions are the actions whose schedules this replica knows of: its own, those in
// Redis, and those that turned up. It only grows.
type knownActions struct {
	mu    sync.RWMutex
	names []string // sorted; replaced, never changed
}

func (s *Store) actions() []string {
	s.known.mu.RLock()
	defer s.known.mu.RUnlock()
	return s.known.names
}

// learn adds an action.
func (s *Store) learn(action string) {
	if _, ok := slices.BinarySearch(s.actions(), action); ok {
		return
	}
	s.known.mu.Lock()
	defer s.known.mu.Unlock()
	if i, ok := slices.BinarySearch(s.known.names, action); !ok {
		s.known.names = slices.Insert(slices.Clone(s.known.names), i, action)
	}
}

// learnStored learns the actions that a shard has seen.
func (s *Store) learnStored(ctx context.Context, k *shardKeys) error {
	names, err := s.client.Do(ctx, s.client.B().Smembers().Key(k.actions).Build()).AsStrSlice()
	if err != nil {
		return err
	}
	for _, name := range names {
		s.learn(actionNamed(name))
	}
	return nil
}

// refresh learns the actions of a shard again if that was long ago: others may have
// stored plans of one that this replica has never heard of.
func (s *Store) refresh(ctx context.Context, k *shardKeys) error {
	const every = time.Second
	select {
	case k.refreshing <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-k.refreshing }()
	now := time.Since(s.opened)
	if last := k.refreshed.Load(); last != 0 && now-time.Duration(last) < every {
		return nil
	}
	if err := s.learnStored(ctx, k); err != nil {
		return err
	}
	k.refreshed.Store(int64(now))
	return nil
}

// refreshAll is refresh of every shard.
func (s *Store) refreshAll(ctx context.Context) error {
	for _, id := range s.ids {
		if err := s.refresh(ctx, s.shards[id]); err != nil {
			return err
		}
	}
	return nil
}

var errCursor = errors.New("not a cursor of this store")
