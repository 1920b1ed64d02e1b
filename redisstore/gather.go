package redisstore

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/snower/forsun/scheduler"
)

// gatherer lets creates of one plan each that come while another of their shard and action
// is under way go together, by one run of a script: of 64 callers each costs Redis less
// than half of a run of its own, and nobody waits for company.
type gatherer struct {
	patience time.Duration // gatherMost

	mu sync.Mutex
	by map[gathered]*gathering // of which a run is under way: what waits for it, nil: nothing
}

// gathered is what plans of one run have in common.
type gathered struct {
	shard   int
	action  string
	onlyNew bool
}

// gathering is the creates of the next run.
type gathering struct {
	putBatch
	creates []*create
}

// gatherMost is how long a create waits for a run to end, which may have lost its reply and
// go on for as long as its deadline. Then it goes alone.
const gatherMost = 50 * time.Millisecond

// create is one of them.
type create struct {
	ctx    context.Context
	plan   *scheduler.Plan
	stored string
	begun  bool          // it goes with a run; under gatherer.mu
	done   chan struct{} // closed once answer and err are what came of it
	answer string
	err    error
}

// putOne is putBatch for one plan, with others' that wait.
func (s *Store) putOne(ctx context.Context, b *putBatch) (answer string, err error) {
	g := &s.gatherer
	of := gathered{b.shard.id, b.plans[0].Action, b.onlyNew}
	g.mu.Lock()
	waiting, underWay := g.by[of]
	switch {
	case !underWay:
		g.by[of] = nil
		g.mu.Unlock()
		defer s.putWaiting(of)
		return s.putBatch(ctx, b)
	case waiting == nil:
		waiting = &gathering{putBatch: putBatch{shard: b.shard, onlyNew: b.onlyNew}}
		g.by[of] = waiting
	case !waiting.takes(b):
		g.mu.Unlock()
		return s.putBatch(ctx, b)
	}
	w := &create{ctx: ctx, plan: b.plans[0], stored: b.stored[0], done: make(chan struct{})}
	waiting.creates = append(waiting.creates, w)
	waiting.bytes += b.bytes
	g.mu.Unlock()
	patience := time.NewTimer(g.patience)
	defer patience.Stop()
	select {
	case <-w.done:
		return w.answer, w.err
	case <-patience.C:
	case <-ctx.Done():
	}
	g.mu.Lock()
	begun := w.begun
	if !begun {
		waiting.leave(w)
	}
	g.mu.Unlock()
	if begun {
		<-w.done // its run ends with the soonest of its deadlines
		return w.answer, w.err
	}
	if ctx.Err() != nil { // nothing was sent
		return "", storeError("put plans", context.Cause(ctx))
	}
	return s.putBatch(ctx, b)
}

// takes says whether there is room for the plan of b, and no other of its key.
func (w *gathering) takes(b *putBatch) bool {
	return len(w.creates) < batchPlans && w.bytes+b.bytes <= batchBytes &&
		!slices.ContainsFunc(w.creates, func(c *create) bool { return c.plan.Key == b.plans[0].Key })
}

// leave takes a create out that has not begun.
func (w *gathering) leave(c *create) {
	w.creates = slices.DeleteFunc(w.creates, func(o *create) bool { return o == c })
	w.bytes -= len(c.stored)
}

// putWaiting runs what has gathered, beside its caller; what gathers meanwhile, after it.
func (s *Store) putWaiting(of gathered) {
	w := s.nextWaiting(of)
	if w == nil {
		return
	}
	leave, err := s.enter()
	if err != nil {
		for ; w != nil; w = s.nextWaiting(of) {
			w.end("", err)
		}
		return
	}
	go func() {
		defer leave()
		for ; w != nil; w = s.nextWaiting(of) {
			answers, err := s.putGathered(w)
			w.end(answers, err)
		}
	}()
}

// nextWaiting begins with what waits; nil: nothing does, and the next to come begins at
// once.
func (s *Store) nextWaiting(of gathered) *gathering {
	g := &s.gatherer
	g.mu.Lock()
	defer g.mu.Unlock()
	w := g.by[of]
	if w == nil || len(w.creates) == 0 {
		delete(g.by, of)
		return nil
	}
	g.by[of] = nil
	for _, one := range w.creates {
		one.begun = true
	}
	return w
}

// putGathered stores what has gathered, by the soonest of its deadlines: an error stands
// for all, and is told once none can take effect any more.
func (s *Store) putGathered(w *gathering) (answers string, err error) {
	soonest := time.Time{}
	for _, c := range w.creates {
		if d, ok := c.ctx.Deadline(); ok && (soonest.IsZero() || d.Before(soonest)) {
			soonest = d
		}
		w.plans, w.stored = append(w.plans, c.plan), append(w.stored, c.stored)
	}
	ctx := context.WithoutCancel(w.creates[0].ctx) // that one's caller leaves is nothing to the others
	if !soonest.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, soonest)
		defer cancel()
	}
	return s.putBatch(ctx, &w.putBatch)
}

// end tells each what came of it.
func (w *gathering) end(answers string, err error) {
	for i, c := range w.creates {
		c.err = err
		if i < len(answers) {
			c.answer = answers[i : i+1]
		} else if err == nil {
			c.err = fmt.Errorf("%w: put plans: %w", scheduler.ErrUnsure, errReply)
		}
		close(c.done)
	}
}
