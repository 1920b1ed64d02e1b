package scheduler

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Tick is one waking of the ticker.
type Tick struct {
	Now     time.Time // wall clock when it woke
	Stepped bool      // it woke because the wall clock was set, not because a second began
}

// Ticker wakes at the beginning of each wall-clock second.
type Ticker interface {
	// Next waits for the beginning of the next second, or for a step of the wall
	// clock, or for ctx.
	Next(ctx context.Context) (Tick, error)
	// Close frees the timer. No Next may be under way.
	Close() error
}

// alarm sleeps until an absolute wall-clock time. The system's is a timerfd
// where there is one (ticker_linux.go), else a timer (ticker_other.go); tests
// bring their own.
type alarm interface {
	// sleep returns once the wall clock has reached t, early with stepped = true
	// if the clock was set meanwhile, early with ctx's error when ctx is done.
	sleep(ctx context.Context, t time.Time) (stepped bool, err error)
	close() error
}

// NewTicker returns a ticker on the system's most precise timer.
func NewTicker() (Ticker, error) {
	a, err := newAlarm()
	if err != nil {
		return nil, fmt.Errorf("ticker: %w", err)
	}
	return &secondTicker{alarm: a, clock: SystemClock{}}, nil
}

// secondTicker puts an alarm on the one-second grid.
type secondTicker struct {
	alarm alarm
	clock Clock
}

// Next is absolute: a late wake-up does not move the ones after it, and a
// second that was slept through is not made up for, since a claim takes
// everything that is due anyway.
func (t *secondTicker) Next(ctx context.Context) (Tick, error) {
	next := t.clock.Now().Truncate(time.Second).Add(time.Second)
	stepped, err := t.alarm.sleep(ctx, next)
	if err != nil {
		return Tick{}, err
	}
	return Tick{Now: t.clock.Now(), Stepped: stepped}, nil
}

func (t *secondTicker) Close() error { return t.alarm.close() }

// tickHub hands the ticks of one ticker to every shard loop of the process.
type tickHub struct {
	mu   sync.Mutex
	subs map[chan Tick]struct{}
}

// subscribe returns a channel that holds the latest tick not yet received, and a
// function that ends the subscription.
func (h *tickHub) subscribe() (ticks <-chan Tick, cancel func()) {
	c := make(chan Tick, 1)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.subs == nil {
		h.subs = make(map[chan Tick]struct{})
	}
	h.subs[c] = struct{}{}
	return c, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.subs, c)
	}
}

// publish never waits: a loop that has not taken the last tick yet will find
// everything due when it does, whatever the tick said. A step is not lost: it
// replaces the tick that waits.
func (h *tickHub) publish(t Tick) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.subs {
		select {
		case c <- t:
			continue
		default:
		}
		if !t.Stepped {
			continue
		}
		select {
		case <-c:
		default:
		}
		select {
		case c <- t:
		default:
		}
	}
}
