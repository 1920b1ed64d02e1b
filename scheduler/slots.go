package scheduler

import (
	"context"
	"math/rand/v2"
	"time"
)

// The slots of the workers: of each action, shared by the shards' dispatchers, and of
// each target within one. Who takes, runs and hands back firings is in workers.go.

// pool is the slots of one action.
type pool struct {
	action  Action
	slots   int
	used    int
	targets map[string]*target
}

// free is how many slots may be filled; less than 0 where more are in use than the
// action can run now. Call with mu held.
func (p *pool) free() int {
	slots := p.slots
	if limited, ok := p.action.(Limited); ok {
		slots = min(slots, limited.Slots())
	}
	return slots - p.used
}

// target is the slots of one target of an action.
type target struct {
	running int
	waiting []*Firing // each in a slot of the action already
	moved   time.Time // when an attempt last began or ended (monotonic)
	full    time.Time // since when all its slots are taken (monotonic); zero: they are not
}

// reserveFor takes up to n free slots of an action for firings that a claim of a
// shard hands out, and returns how many; started gives them back. 0 if this replica
// does not run that action.
func (w *workers) reserveFor(shard int, action string, n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.pools[action]
	if p == nil || p.action == nil || w.ctx == nil || w.draining {
		return 0
	}
	if n = min(n, p.free()); n <= 0 {
		return 0
	}
	p.used += n
	w.handed[shard].begun++
	return n
}

// started puts firings that a claim handed out into the slots that were reserved for
// them, and frees the others.
func (w *workers) started(action string, firings []*Firing, reserved int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.start(w.ctx, w.draining, firings, map[string]int{action: reserved})
}

// handedOut notes that the oldest of a shard's claims that hand out firings has ended.
func (w *workers) handedOut(shard int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.handed[shard].ended++
}

// reserve takes this shard's share of the free slots and returns how many by
// action. The share is such that each dispatcher that is not asking now can have
// as much: one whose store hangs keeps its share only.
func (w *workers) reserve(shard int) map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	sharing := 1
	for id, t := range w.takes {
		if id != shard && t.begun == t.ended {
			sharing++
		}
	}
	t := w.takes[shard]
	t.lacking = make(map[string]bool)
	slots := make(map[string]int, len(w.pools))
	for name, p := range w.pools {
		n := (p.free() + sharing - 1) / sharing
		if n <= 0 {
			t.lacking[name] = true
			continue
		}
		slots[name] = n
		p.used += n
	}
	if len(slots) > 0 {
		t.begun++
	} else {
		t.came = time.Now()
		t.answered = t.came
	}
	return slots
}

// wakeLacking wakes the dispatchers that had no slot of action. Call with mu held.
func (w *workers) wakeLacking(action string) {
	for id, t := range w.takes {
		if t.lacking[action] {
			w.wake(id)
		}
	}
}

// start puts taken firings into reserved slots, to run, to wait for their
// target, or, if that is full, to go back into the queue for later; and frees the
// other slots. Call with mu held.
func (w *workers) start(ctx context.Context, stopping bool, firings []*Firing, reserved map[string]int) (filled bool) {
	now := time.Now()
	taken := make(map[string]int, len(reserved))
	for _, f := range firings {
		taken[f.Plan.Action]++
	}
	for name, n := range reserved {
		w.pools[name].used -= n
		if taken[name] >= n {
			filled = true
		} else {
			w.wakeLacking(name)
		}
	}
	for _, f := range firings {
		p := w.pools[f.Plan.Action]
		if p == nil { // it stands in the queue of another action: what to do with it nobody knows
			p = &pool{}
			w.pools[f.Plan.Action] = p
		}
		p.used++
		if p.action == nil {
			w.running[receipt{f.Shard, f.Receipt}] = run{firing: f}
			w.finishers[f.Shard].add(w.e.bury(f, w.e.unrunnable(f.Plan.Action)))
			continue
		}
		waits := func() { w.running[receipt{f.Shard, f.Receipt}] = run{firing: f} } // launch notes that it runs
		if stopping {
			waits()
			w.e.counters.Returned.Add(1)
			w.finishers[f.Shard].add(Finish{Firing: f, Verdict: Return})
			continue
		}
		name := w.e.target(p.action, f)
		if name == "" {
			w.launch(ctx, p, nil, name, f, now)
			continue
		}
		t := p.targets[name]
		if t == nil {
			t = &target{moved: now}
			p.targets[name] = t
		}
		switch {
		case t.running < w.e.opts.TargetSlots:
			w.launch(ctx, p, t, name, f, now)
		case t.running+len(t.waiting) < p.slots/2 && now.Sub(t.moved) < waitMoving:
			waits()
			t.waiting = append(t.waiting, f)
		default:
			waits()
			w.deferFiring(f, t)
		}
	}
	return filled
}

// targetDone frees a slot of a target and gives it to the next who waits for it.
func (w *workers) targetDone(ctx context.Context, p *pool, t *target, name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t.running--
	t.moved = time.Now()
	if len(t.waiting) > 0 && !w.draining {
		next := t.waiting[0]
		t.waiting = t.waiting[1:]
		w.launch(ctx, p, t, name, next, t.moved)
		return
	}
	t.full = time.Time{}
	if t.running == 0 && len(t.waiting) == 0 {
		delete(p.targets, name)
	}
}

// finished frees the slots of deliveries whose finish was answered.
func (w *workers) finished(shard int, fs []Finish) {
	w.mu.Lock()
	for _, f := range fs {
		delete(w.running, receipt{shard, f.Firing.Receipt})
		w.pools[f.Firing.Plan.Action].used--
		w.wakeLacking(f.Firing.Plan.Action)
	}
	w.mu.Unlock()
}

// deferFiring puts a firing back whose target has no room. Call with mu held.
func (w *workers) deferFiring(f *Firing, t *target) {
	now := w.e.clock.Now()
	waited := now.Sub(time.Unix(f.Due, 0))
	if !t.full.IsZero() {
		waited = min(waited, time.Since(t.full))
	}
	wait := min(max(waited/2, deferMin), deferMax)
	wait += time.Duration(rand.Int64N(int64(wait)/2 + 1))
	w.e.counters.Deferred.Add(1)
	w.finishers[f.Shard].add(Finish{Firing: f, Verdict: Defer, At: now.Add(wait)})
}

// deferStuck defers what waits for targets that have stopped moving.
func (w *workers) deferStuck(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.pools {
		for _, t := range p.targets {
			if now.Sub(t.moved) < waitMoving {
				continue
			}
			for _, f := range t.waiting {
				w.deferFiring(f, t)
			}
			t.waiting = nil
		}
	}
}
