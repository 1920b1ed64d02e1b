package scheduler

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"
)

const (
	// silentAfter is how long something that comes round once a second at least may
	// be silent before this replica is called unwell: three rounds missed, and known
	// within 5 s.
	silentAfter = 4 * time.Second
	// overrunAfter is how long after its deadline an attempt may take to end. Actions
	// end within a second or two of it.
	overrunAfter = 3 * time.Second
	// dispatchAfter is how much longer than one call to the store a dispatcher may
	// take to come round.
	dispatchAfter = 3 * time.Second
	// canaryLateAfter is how late a claim of a canary may be.
	canaryLateAfter = 5 * time.Second
)

// Health is what an engine shows of itself at one moment. A duration that counts
// "since" something is 0 where that is of no account.
type Health struct {
	Stopping     bool          // it is being stopped, or has ended
	StoreSilent  time.Duration // since the store last answered this replica's announcement
	TickSilent   time.Duration // since the last tick; 0 if it may not lead
	TakesSilent  time.Duration // since firings were last asked for with an answer (or there was no slot to ask for), in any shard
	FinishSilent time.Duration // for how long a finish has been sent without an answer, in a shard that answers takes
	TakeStuck    []int         // shards whose dispatcher does not come round, whatever the store answers
	ClockOffset  time.Duration // this machine's clock minus the store's, as last measured
	ClockWrong   bool          // it is known to be this machine's that is wrong

	Shards []ShardHealth // all of the deployment, by id
	Slots  []SlotHealth  // of the actions run here, by name
}

// ShardHealth is this replica's part in a shard.
type ShardHealth struct {
	Shard   int
	Leads   bool
	Term    uint64        // of this replica's leading, 0 without
	Silent  time.Duration // since its loop last came round; 0 unless it leads
	Failing time.Duration // for how long its passes have failed, all of them; 0 unless it leads
	Err     error         // of the last pass that failed, with Failing

	CanaryLate     time.Duration // how long ago its canary was due that is not claimed; 0 unless it leads
	CanaryFull     bool          // it is not claimed because earlier ones were not run, by nobody
	CanaryFinished time.Time     // when its canary last came all the way, on this replica
	CanaryTook     time.Duration // from its due second to the answer of its finish, then
	Canaries       int64         // how often it did
}

// SlotHealth is the slots of one action on this replica.
type SlotHealth struct {
	Action  string
	Slots   int
	Used    int // attempts that run, wait for their target, or whose finish is not answered
	Overrun int // of these, attempts that are long past their deadline
}

// Health returns how this replica is. It waits for the workers' lock for as long as
// that is held.
func (e *Engine) Health() Health {
	now := time.Now()
	h := Health{
		Stopping:    e.stopping.Load(),
		StoreSilent: now.Sub(*e.heard.Load()),
		ClockOffset: e.clocks.lastOffset(),
		ClockWrong:  e.clocks.wrong() != nil,
	}
	if e.opts.Lead {
		h.TickSilent = now.Sub(*e.ticked.Load())
	}
	for _, s := range e.shards {
		h.Shards = append(h.Shards, s.health(now, e.clock.Now()))
	}
	slices.SortFunc(h.Shards, func(a, b ShardHealth) int { return cmp.Compare(a.Shard, b.Shard) })
	e.workers.health(now, &h)
	return h
}

func (s *shard) health(now, wall time.Time) ShardHealth {
	h := ShardHealth{Shard: s.id, Leads: s.leads.Load(), Canaries: s.canary.finishes.Load()}
	if last := s.canary.finished.Load(); last != nil {
		h.CanaryFinished, h.CanaryTook = last.at, last.took
	}
	if !h.Leads {
		return h
	}
	h.Term = s.term.Load()
	if last := s.lastRun.Load(); last != nil {
		h.Silent = now.Sub(last.at)
	}
	if f := s.failing.Load(); f != nil {
		h.Failing, h.Err = now.Sub(f.since), f.err
	}
	h.CanaryFull = s.canary.full.Load()
	if due := s.canary.due.Load(); due != 0 {
		h.CanaryLate = max(wall.Sub(time.Unix(due, 0)), 0)
	}
	return h
}

// health fills in the workers' part.
func (w *workers) health(now time.Time, h *Health) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ctx != nil && !w.draining {
		newest := time.Time{}
		for id, t := range w.takes {
			if newest.Before(t.answered) {
				newest = t.answered
			}
			if now.Sub(t.came) > w.e.opts.StoreTimeout+dispatchAfter {
				h.TakeStuck = append(h.TakeStuck, id)
			}
		}
		slices.Sort(h.TakeStuck)
		h.TakesSilent = now.Sub(newest)
	}
	for id, f := range w.finishers {
		// Where nothing of a shard is answered, and of others it is, the fault is the
		// store's: part of it is away, for every replica.
		away := h.TakesSilent <= silentAfter && now.Sub(w.takes[id].answered) > silentAfter
		if since := f.waiting.Load(); since != nil && !away {
			h.FinishSilent = max(h.FinishSilent, now.Sub(*since))
		}
	}
	overrun := make(map[string]int)
	for at, r := range w.running {
		if r.began.IsZero() || now.Sub(r.began) < overrunAfter {
			continue
		}
		p := r.firing.Plan
		if r.deadline == 0 {
			r.deadline = p.options().TimeoutOr(w.e.timeout(w.pools[p.Action].action, r.firing))
			w.running[at] = r
		}
		if now.Sub(r.began) > r.deadline+overrunAfter {
			overrun[p.Action]++
		}
	}
	for _, name := range slices.Sorted(maps.Keys(w.pools)) {
		p := w.pools[name]
		if p.action == nil {
			continue
		}
		h.Slots = append(h.Slots, SlotHealth{Action: name, Slots: p.slots, Used: p.used, Overrun: overrun[name]})
	}
}

// Problems says what is wrong with this replica itself: what another replica would
// do better. A store that is slow, a backlog, a target that hangs, an action that
// runs long within its deadline are none. Each is a sentence; nil: it is well.
func (h Health) Problems() (all []string) {
	find := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	since := func(d time.Duration) time.Duration { return d.Round(100 * time.Millisecond) }
	if h.Stopping {
		find("it is draining: it has been told to stop")
	}
	if h.StoreSilent > silentAfter {
		find("the store has not answered for %v", since(h.StoreSilent))
	}
	if h.TickSilent > silentAfter && !h.Stopping {
		find("the ticker has not ticked for %v", since(h.TickSilent))
	}
	if h.ClockWrong {
		find("its clock is not the fleet's (%v from the store's): it leads nothing and refuses creates", since(h.ClockOffset))
	}
	for _, s := range h.Shards {
		switch {
		case !s.Leads || h.Stopping:
		case s.Silent > silentAfter:
			find("shard %d, which it leads, is overdue: its loop has not come round for %v", s.Shard, since(s.Silent))
		case s.Failing > silentAfter:
			find("shard %d, which it leads, is overdue: its passes have failed for %v: %s", s.Shard, since(s.Failing), MaskText(s.Err.Error()))
		case s.CanaryLate > canaryLateAfter && !s.CanaryFull:
			find("shard %d, which it leads, is overdue: its canary was due %v ago and is not claimed", s.Shard, since(s.CanaryLate))
		}
	}
	if h.TakesSilent > silentAfter {
		find("its workers are stuck: none of their takes has been answered for %v", since(h.TakesSilent))
	} else {
		for _, id := range h.TakeStuck {
			find("its workers are stuck: those of shard %d do not ask for firings any more", id)
		}
	}
	if h.FinishSilent > silentAfter {
		find("its workers are stuck: finishes have not been answered for %v", since(h.FinishSilent))
	}
	for _, s := range h.Slots {
		if s.Overrun > 0 && s.Overrun >= s.Slots {
			find("its workers are stuck: all %d slots of the action %s hold attempts that do not end, long past their deadline", s.Slots, s.Action)
		}
	}
	return all
}
