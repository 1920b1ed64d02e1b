package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/snower/forsun/redisstore/redistest"
	"github.com/snower/forsun/scheduler"
	"github.com/snower/forsun/scheduler/storetest"
)

// held is a store whose runs wait at a proxy, one create of which is under way already.
type held struct {
	*testing.T
	s     *Store
	addr  string
	proxy *redistest.Proxy
	ctx   context.Context
	calls sync.WaitGroup
	runs  int64 // of scripts before
}

func newHeld(t *testing.T, patience time.Duration) *held {
	t.Helper()
	server := redistest.Start(t)
	h := &held{T: t, addr: server.Addr, proxy: redistest.NewProxy(t, server.Addr), ctx: testContext(t)}
	h.s = openStore(t, testOptions(h.proxy.Addr))
	h.s.gatherer.patience = patience
	if err := errors.Join(h.s.Put(h.ctx, []*scheduler.Plan{storetest.NewPlan("old"), storetest.NewPlan("older")})...); err != nil {
		t.Fatal(err)
	}
	return h
}

// scripts is how often one ran, as Redis counts.
func (h *held) scripts() (n int64) {
	h.Helper()
	info := redistest.Do(h.T, h.addr, "INFO", "commandstats").(string)
	for line := range strings.Lines(info) {
		if rest, ok := strings.CutPrefix(line, "cmdstat_evalsha:calls="); ok {
			fmt.Sscan(rest, &n)
		}
	}
	return n
}

// hold keeps what is sent from Redis, and has a create under way.
func (h *held) hold() {
	h.Helper()
	h.runs = h.scripts()
	h.proxy.Hold()
	h.put(h.ctx, storetest.NewPlan("first"), nil)
	eventually(h.T, 5*time.Second, "the first create is under way", func() bool { _, begun := h.waiting(); return begun })
}

// put stores a plan beside the test, which has to come to what is wanted.
func (h *held) put(ctx context.Context, p *scheduler.Plan, want error) {
	h.calls.Go(func() {
		if err := h.s.Put(ctx, []*scheduler.Plan{p})[0]; !errors.Is(err, want) {
			h.Errorf("Put %s: %v, want %v", p.Key, err, want)
		}
	})
}

// waiting is how many creates wait for the run that is under way.
func (h *held) waiting() (n int, begun bool) {
	h.s.gatherer.mu.Lock()
	defer h.s.gatherer.mu.Unlock()
	for _, waiting := range h.s.gatherer.by {
		begun = true
		if waiting != nil {
			n += len(waiting.creates)
		}
	}
	return n, begun
}

// goOn lets Redis see everything, and waits for the answers.
func (h *held) goOn() {
	h.proxy.Heal()
	h.calls.Wait()
}

// TestCreatesGather: creates that come while one is under way are stored by one run, and each
// is told what came of it.
func TestCreatesGather(t *testing.T) {
	t.Parallel()
	h := newHeld(t, time.Minute)
	h.hold()
	plans := []*scheduler.Plan{storetest.NewPlan("old"), storetest.NewPlan("older")}
	for i := range 30 {
		plans = append(plans, storetest.NewPlan(fmt.Sprint("new-", i)))
	}
	for _, p := range plans {
		h.put(h.ctx, p, nil)
	}
	eventually(t, 5*time.Second, "all wait", func() bool { n, _ := h.waiting(); return n == len(plans) })
	h.goOn()
	// The first, and the others: by new.lua, which finds two of them there, and put.lua.
	if n := h.scripts() - h.runs; n != 3 {
		t.Errorf("%d runs for %d creates, want 3", n, 1+len(plans))
	}
	for _, p := range plans {
		if got, err := h.s.Get(h.ctx, p.Key); err != nil || got.Revision != p.Revision {
			t.Errorf("Get %s: %v, %v", p.Key, got, err)
		}
		if want := strings.HasPrefix(p.Key, "old"); p.Replaced != want {
			t.Errorf("%s: replaced: %t, want %t", p.Key, p.Replaced, want)
		}
	}
	if n, begun := h.waiting(); begun {
		t.Errorf("a run is under way, and %d wait", n)
	}
}

// TestCreatesGoAlone: one of a key that waits already, one whose patience ends, and one
// whose caller leaves.
func TestCreatesGoAlone(t *testing.T) {
	t.Parallel()
	t.Run("the same key", func(t *testing.T) {
		t.Parallel()
		h := newHeld(t, time.Minute)
		h.hold()
		h.put(h.ctx, storetest.NewPlan("k"), nil)
		eventually(t, 5*time.Second, "it waits", func() bool { n, _ := h.waiting(); return n == 1 })
		for range 5 {
			h.put(h.ctx, storetest.NewPlan("k"), nil)
		}
		h.goOn()
		if _, err := h.s.Get(h.ctx, "k"); err != nil {
			t.Error(err)
		}
	})
	t.Run("no patience", func(t *testing.T) {
		t.Parallel()
		h := newHeld(t, 10*time.Millisecond)
		h.hold()
		const n = 5
		for i := range n {
			h.put(h.ctx, storetest.NewPlan(fmt.Sprint("k", i)), nil)
		}
		time.Sleep(50 * time.Millisecond)
		eventually(t, 5*time.Second, "none waits", func() bool { n, _ := h.waiting(); return n == 0 })
		h.goOn()
		if got := h.scripts() - h.runs; got != 1+n {
			t.Errorf("%d runs for %d creates that do not wait", got, 1+n)
		}
	})
	t.Run("its caller leaves", func(t *testing.T) {
		t.Parallel()
		h := newHeld(t, time.Minute)
		h.hold()
		ctx, leave := context.WithCancel(h.ctx)
		h.put(ctx, storetest.NewPlan("left"), context.Canceled)
		h.put(h.ctx, storetest.NewPlan("stays"), nil)
		eventually(t, 5*time.Second, "both wait", func() bool { n, _ := h.waiting(); return n == 2 })
		leave()
		eventually(t, 5*time.Second, "one waits", func() bool { n, _ := h.waiting(); return n == 1 })
		h.goOn()
		if _, err := h.s.Get(h.ctx, "left"); !errors.Is(err, scheduler.ErrNotFound) {
			t.Errorf("Get left: %v", err)
		}
		if _, err := h.s.Get(h.ctx, "stays"); err != nil {
			t.Errorf("Get stays: %v", err)
		}
	})
	t.Run("no answer", func(t *testing.T) {
		t.Parallel()
		h := newHeld(t, time.Minute)
		h.runs = h.scripts()
		h.proxy.Hold()
		soon, cancel := context.WithTimeout(h.ctx, 500*time.Millisecond)
		defer cancel()
		for i := range 5 {
			h.put(soon, storetest.NewPlan(fmt.Sprint("k", i)), context.DeadlineExceeded)
		}
		h.calls.Wait()
		h.goOn()
		for i := range 5 {
			if _, err := h.s.Get(h.ctx, fmt.Sprint("k", i)); !errors.Is(err, scheduler.ErrNotFound) {
				t.Errorf("Get k%d, whose deadline Redis saw pass: %v", i, err)
			}
		}
	})
}
