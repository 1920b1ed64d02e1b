package memstore

import (
	"context"
	"math"
	"sync"

	"github.com/snower/forsun/scheduler"
)

// watchers are those who called Watch. Telling them never blocks: what one has not
// looked at yet is merged.
type watchers struct {
	mu     sync.Mutex
	closed bool
	all    map[*watcher]struct{}
}

// watcher is one call of Watch.
type watcher struct {
	ready   chan struct{} // holds one token when something is pending
	pending pending       // guarded by watchers.mu
}

// pending is what a watcher has not been told yet. Of the plans stored, the
// earliest due second stands for all.
type pending struct {
	work   map[string]struct{}
	plan   bool
	due    int64
	vacant bool
}

// planSoon is how far ahead a plan's due second may be for EventPlan to tell of it.
const planSoon = 2

// Watch calls fn with events until ctx is done or the store is closed.
func (s *Store) Watch(ctx context.Context, fn func(scheduler.Event)) error {
	if err := s.failure(); err != nil {
		return err
	}
	w := &watcher{ready: make(chan struct{}, 1)}
	ws := &s.watch
	ws.mu.Lock()
	if ws.closed {
		ws.mu.Unlock()
		return scheduler.ErrClosed
	}
	if ws.all == nil {
		ws.all = make(map[*watcher]struct{})
	}
	ws.all[w] = struct{}{}
	ws.mu.Unlock()
	defer func() {
		ws.mu.Lock()
		delete(ws.all, w)
		ws.mu.Unlock()
	}()
	fn(scheduler.Event{Kind: scheduler.EventAll, Shard: shardID})
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.failed:
			return s.failErr
		case <-w.ready:
		}
		ws.mu.Lock()
		p, closed := w.pending, ws.closed
		w.pending = pending{}
		ws.mu.Unlock()
		if closed {
			return scheduler.ErrClosed
		}
		if p.vacant {
			fn(scheduler.Event{Kind: scheduler.EventVacant, Shard: shardID})
		}
		if p.plan {
			fn(scheduler.Event{Kind: scheduler.EventPlan, Shard: shardID, Due: p.due})
		}
		for action := range p.work {
			fn(scheduler.Event{Kind: scheduler.EventWork, Shard: shardID, Action: action})
		}
	}
}

// tell merges something into what every watcher is to be told.
func (ws *watchers) tell(merge func(p *pending)) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for w := range ws.all {
		merge(&w.pending)
		select {
		case w.ready <- struct{}{}:
		default:
		}
	}
}

func (ws *watchers) work(action string) {
	ws.tell(func(p *pending) {
		if p.work == nil {
			p.work = make(map[string]struct{})
		}
		p.work[action] = struct{}{}
	})
}

func (ws *watchers) plan(due int64) {
	ws.tell(func(p *pending) {
		if !p.plan || due < p.due {
			p.plan, p.due = true, due
		}
	})
}

func (ws *watchers) vacant() { ws.tell(func(p *pending) { p.vacant = true }) }

// close ends all watching.
func (ws *watchers) close() {
	ws.mu.Lock()
	ws.closed = true
	ws.mu.Unlock()
	ws.tell(func(*pending) {})
}

// announcePlans tells of plans just stored that are due soon.
func (s *Store) announcePlans(in []encoded) {
	first := int64(math.MaxInt64)
	for i := range in {
		first = min(first, in[i].due)
	}
	if first <= s.opts.Now().Unix()+planSoon {
		s.watch.plan(first)
	}
}
