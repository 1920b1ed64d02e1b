package scheduler

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// A canary is a plan of forsun's own, one in each shard, that goes the whole way
// again and again: stored, claimed, taken, run, finished. So a shard that nobody uses
// is known to work, and one that stands still is known before a client notices.
//
// It is an ordinary plan under a reserved key, kept by the shard's leader, and run by
// any replica that runs anything. Its runs leave no history; clients can neither
// create nor read it, and lists, counts and exports are without it (Service).
const (
	// CanaryPrefix begins the keys of canaries. Clients may not use it.
	CanaryPrefix = "forsun.canary."
	// CanaryAction is the action of canaries. No other can have the name: a dot is
	// not allowed in one.
	CanaryAction = "forsun.canary"

	// canarySlots is how many canaries a replica runs at a time.
	canarySlots = 16
	// keepCanaryEvery is how often a leader looks whether its canary is there.
	keepCanaryEvery = 3 * time.Second
)

// canaryBacklog bounds the canaries of a shard that nobody runs.
var canaryBacklog = Backlog{Entries: 3}

// IsCanary says whether key is one of forsun's own plans.
func IsCanary(key string) bool { return strings.HasPrefix(key, CanaryPrefix) }

// CanaryKey returns the key of a shard's canary: the first of the reserved ones that
// belongs there. Every replica finds the same.
func CanaryKey(store PlanStore, shard int) string {
	for n := 0; ; n++ {
		if key := CanaryPrefix + strconv.Itoa(n); store.ShardOf(key) == shard {
			return key
		}
	}
}

// RemoveCanaries removes what canaries there are: for a deployment that is to have
// none any more.
func RemoveCanaries(ctx context.Context, store Store) error {
	for _, shard := range store.ShardIDs() {
		if _, err := store.Remove(ctx, CanaryKey(store, shard)); err != nil && !errors.Is(err, ErrNotFound) {
			return fmt.Errorf("remove the canary of shard %d: %w", shard, err)
		}
	}
	return nil
}

// canaryState is what this replica knows of a shard's canary.
type canaryState struct {
	due      atomic.Int64 // its next due second, as far as the leader knows; 0: not yet
	full     atomic.Bool  // it was not claimed, since earlier ones are not finished
	finishes atomic.Int64 // how often it came all the way here
	finished atomic.Pointer[canaryRun]
}

type canaryRun struct {
	at   time.Time     // when its finish was answered
	took time.Duration // since its due second
}

// reset forgets what was known while another led.
func (c *canaryState) reset() {
	c.due.Store(0)
	c.full.Store(false)
}

// claimed notes what became of claims of the canary.
func (c *canaryState) claimed(batch []Claim, answers []ClaimAnswer) {
	for i, a := range answers {
		switch a.Result {
		case ClaimedOK:
			c.due.Store(batch[i].Next)
			c.full.Store(false)
		case ClaimFull:
			c.full.Store(true)
		}
	}
}

// canaryFinished notes that a canary came all the way.
func (e *Engine) canaryFinished(shard int, f *Firing) {
	now := e.clock.Now()
	for _, s := range e.shards {
		if s.id == shard {
			s.canary.finishes.Add(1)
			s.canary.finished.Store(&canaryRun{at: now, took: now.Sub(time.Unix(f.Due, 0))})
		}
	}
}

// keepCanary has the shard have its canary until ctx is done. That it cannot is no
// fault of the leader's: the store may be full.
func (e *Engine) keepCanary(ctx context.Context, s *shard) {
	key := CanaryKey(e.store, s.id)
	quiet := false // an error was logged and has not gone away
	for {
		bounded, cancel := context.WithTimeout(ctx, e.opts.StoreTimeout)
		due, err := e.keepCanaryOnce(bounded, key)
		cancel()
		switch {
		case err == nil:
			s.canary.due.Store(due)
			quiet = false
		case ctx.Err() == nil && !quiet:
			quiet = true
			e.log.Warn().Err(err).Int("shard", s.id).Str("key", key).Msg("cannot keep the canary; trying on")
		}
		if sleep(ctx, keepCanaryEvery) != nil {
			return
		}
	}
}

// keepCanaryOnce returns when the canary is due, which it stores if it is not there,
// or not as it should be.
func (e *Engine) keepCanaryOnce(ctx context.Context, key string) (due int64, err error) {
	schedule := Schedule{Kind: Timeout, Second: int(e.opts.Canary / time.Second)}
	plan, err := e.store.Get(ctx, key)
	if err == nil && plan.Schedule == schedule && plan.Action == CanaryAction {
		return plan.Due, nil
	}
	if err != nil && !errors.Is(err, ErrNotFound) {
		return 0, err
	}
	now := e.clock.Now()
	due, ok := schedule.First(now.Unix(), time.UTC)
	if !ok {
		return 0, fmt.Errorf("canary: %w", ErrTime)
	}
	plan = &Plan{Key: key, Schedule: schedule, Action: CanaryAction, Created: now, Revision: NewRevision(), Due: due}
	return due, e.store.Put(ctx, []*Plan{plan})[0]
}

// canary is the action of canaries: it does nothing.
type canary struct{}

func (canary) Check(map[string]string) error           { return nil }
func (canary) Target(map[string]string) string         { return "" }
func (canary) Timeout(map[string]string) time.Duration { return time.Minute }
func (canary) Execute(context.Context, *Firing) (Output, error) {
	return nil, nil
}

// withCanary is the actions of an engine with canaries.
type withCanary struct{ Actions }

func (a withCanary) Get(name string) (Action, bool) {
	if name == CanaryAction {
		return canary{}, true
	}
	return a.Actions.Get(name)
}
