package scheduler

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
)

// TestOutageIsSaidOnce: what is tried again all the time is not logged each time.
func TestOutageIsSaidOnce(t *testing.T) {
	t.Parallel()
	rows := []struct {
		why string
		run func(context.Context, *Engine)
	}{
		{"events", func(ctx context.Context, e *Engine) { e.watch(ctx) }},
		{"dead workers", func(ctx context.Context, e *Engine) {
			lease := new(atomic.Pointer[Lease])
			lease.Store(&Lease{})
			(&rescuer{e: e, lease: lease}).run(ctx)
		}},
		{"firings", func(ctx context.Context, e *Engine) {
			p := &pool{action: struct{ Action }{}, slots: 1}
			w := &workers{e: e, ctx: ctx, pools: map[string]*pool{"noop": p}, takes: map[int]*takes{0: {}}}
			w.take(ctx, ctx, 0)
		}},
	}
	for _, row := range rows {
		t.Run(row.why, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				var log bytes.Buffer
				store := &awayStore{}
				row.run(ctx, &Engine{store: store, log: zerolog.New(&log), opts: DefaultEngineOptions(), workers: &workers{}, counters: &Counters{}})
				if got := strings.Count(log.String(), "\n"); got != 2 || store.calls < 60 {
					t.Errorf("%d lines after %d calls, want one for each of the two outages", got, store.calls)
				}
			})
		})
	}
}

// awayStore fails, but for one call in between.
type awayStore struct {
	Store
	calls int
}

func (s *awayStore) fail() error {
	if s.calls++; s.calls == 20 {
		return nil
	}
	return errors.New("connection refused")
}

func (s *awayStore) Watch(_ context.Context, fn func(Event)) error {
	if s.fail() == nil {
		fn(Event{Kind: EventAll})
	}
	return errors.New("EOF")
}

func (s *awayStore) Take(context.Context, TakeRequest) ([]*Firing, bool, error) {
	return nil, false, s.fail()
}

func (s *awayStore) Holders(context.Context, int) ([]Holder, error) { return nil, s.fail() }
