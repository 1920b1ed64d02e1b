package scheduler

import (
	"context"
	"sync"
	"time"
)

// bounded is what context.WithTimeoutCause makes, but that it has a timer, and a place among
// its parent's children, only once somebody waits for its end or asks after it. Most attempts
// are over before: some set the deadline of a connection and no more, and those that do
// nothing spent more on the timer than on anything else. Of a deadline that passes and a
// parent that ends, which nobody watched, it does not know the order.
type bounded struct {
	context.Context // its parent, whose values it has
	deadline        time.Time
	cause           error // after the deadline

	mu   sync.Mutex
	full context.Context // nil: nobody waits
	stop context.CancelFunc
	over bool // it ended before anybody waited
}

// newBounded returns a context that ends with ctx, and d after now with cause; end is to be
// called. What time it is its caller knows: to ask costs as much as all else here.
func newBounded(ctx context.Context, now time.Time, d time.Duration, cause error) *bounded {
	deadline := now.Add(d)
	if sooner, ok := ctx.Deadline(); ok && sooner.Before(deadline) {
		deadline = sooner
	}
	return &bounded{Context: ctx, deadline: deadline, cause: cause}
}

// end ends it: what an attempt left behind is to stop.
func (b *bounded) end(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.full != nil:
		b.stop()
	case b.ended(now): // of something else
		b.whole()
		b.stop()
	default:
		b.over = true
	}
}

// ended says whether its parent or its time has ended. Call with mu held.
func (b *bounded) ended(now time.Time) bool {
	return b.Context.Err() != nil || !now.Before(b.deadline)
}

// whole is the context as somebody may wait for it. Call with mu held.
func (b *bounded) whole() context.Context {
	switch {
	case b.full != nil:
	case b.over:
		b.full, b.stop = context.WithCancel(context.WithoutCancel(b.Context))
		b.stop()
	default:
		b.full, b.stop = context.WithDeadlineCause(b.Context, b.deadline, b.cause)
	}
	return b.full
}

func (b *bounded) Deadline() (time.Time, bool) { return b.deadline, true }

func (b *bounded) Done() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.whole().Done()
}

func (b *bounded) Err() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.full == nil && !b.over && !b.ended(time.Now()) {
		return nil
	}
	return b.whole().Err()
}

// Value has contexts that are made of it, and context.Cause, find the one that ends.
func (b *bounded) Value(key any) any {
	b.mu.Lock()
	full := b.full
	b.mu.Unlock()
	if full != nil {
		return full.Value(key)
	}
	return b.Context.Value(key)
}
