package redisstore

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/redis/rueidis"

	"github.com/snower/forsun/scheduler"
)

// readPlans remembers plans between their reading and their claim: how large they
// are, so that Redis need not be asked again, and what they are, so that a claim can
// hand out their firings. What is forgotten is asked for, or queued.
type readPlans struct {
	mu     sync.Mutex
	plans  map[string]readPlan
	holes  int // that were taken out of plans since it was made
	bytes  int
	states []*readState // the newest last
	own    []ownEdit    // the newest last
	moves  uint64       // how many of those there have been
}

type readPlan struct {
	size   int             // as it is stored
	plan   *scheduler.Plan // nil: not remembered
	stored string          // as it was read
	state  *readState
	taken  uint64 // what moves was when a claim took it
}

// readState is what edits has to be now for what was read at one time to be true: what
// it was then, or what claims of this process have made of it since. Those have changed
// nothing but the plans that they claimed, and these are forgotten.
type readState struct{ edits string }

// ownEdit is a claim of this process: what it made of edits, and which plans it claimed.
type ownEdit struct {
	from, to string
	claimed  map[string]struct{}
}

// Bounds of what is remembered of a shard: more than is ever read ahead, and no more
// memory than reading ahead may take.
const (
	maxReadPlans  = 50_000
	maxReadBytes  = 32 << 20
	maxReadStates = 16
	maxHoles      = 1000
)

// mark is now, for add.
func (r *readPlans) mark() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.moves
}

// add remembers a plan that was read when edits was what it says, or later, and not before
// mark said began; it keeps p.
func (r *readPlans) add(p *scheduler.Plan, stored, edits string, began uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.plans == nil || len(r.plans) > maxReadPlans:
		r.plans, r.holes, r.bytes = make(map[string]readPlan), 0, 0
	case r.holes > maxHoles && r.holes > 2*len(r.plans):
		// A map that is emptied as it is filled keeps a mark for each that was in it, and looks
		// past all of them for one that is not: that was a tenth of a burst's processor time.
		was := r.plans
		r.plans, r.holes = make(map[string]readPlan, len(was)), 0
		maps.Copy(r.plans, was)
	}
	r.drop(p.Key)
	size := len(stored)
	if r.bytes+size > maxReadBytes {
		r.plans[p.Key] = readPlan{size: size}
		return
	}
	var state *readState
	if !r.claimedSince(p.Key, began) {
		state = r.stateOf(p.Key, edits)
	}
	r.plans[p.Key] = readPlan{size: size, plan: p, stored: stored, state: state}
	r.bytes += size
}

// stateOf is the state of a plan that was read at some edits. A page is read beside the
// claim of the one before it, so that edits may be of before claims that ended since.
// Call with mu held.
func (r *readPlans) stateOf(key, edits string) *readState {
	for i := range r.own {
		if o := &r.own[i]; o.from == edits {
			if _, ok := o.claimed[key]; ok {
				return nil
			}
			edits = o.to
		}
	}
	for _, s := range r.states {
		if s.edits == edits {
			return s
		}
	}
	s := &readState{edits}
	if r.states = append(r.states, s); len(r.states) > maxReadStates {
		r.states = r.states[1:]
	}
	return s
}

// claimed notes that a claim of this process, and nothing else, made another of edits.
func (r *readPlans) claimed(from, to string, claims []scheduler.Claim) {
	keys := keysOf(claims)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.moved(from, to, keys)
}

// assume notes the same of a claim that is about to be sent, and returns what edits has to
// be for it: the next claim need not wait for the answer. ok is false if nothing is
// noted, since the plans were not read at one time.
func (r *readPlans) assume(to string, claims []scheduler.Claim, plans []readPlan) (from string, ok bool) {
	keys := keysOf(claims)
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range plans {
		s := plans[i].state
		if s == nil || i > 0 && s.edits != from {
			return "", false
		}
		from = s.edits
		if r.claimedSince(claims[i].Key, plans[i].taken) {
			return "", false // another claim of the same plan came first
		}
	}
	r.moved(from, to, keys)
	return from, true
}

// claimedSince says whether a claim of a plan was noted since mark, as far as is known: of
// what was read before such a claim nothing is true, whatever edits is. Call with mu held.
func (r *readPlans) claimedSince(key string, mark uint64) bool {
	since := int(min(r.moves-mark, uint64(len(r.own)+1)))
	if since > len(r.own) {
		return true
	}
	return slices.ContainsFunc(r.own[len(r.own)-since:], func(o ownEdit) bool { _, ok := o.claimed[key]; return ok })
}

// refused takes back what was assumed of a claim. Claims that were sent meanwhile are
// refused, too.
func (r *readPlans) refused(to string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.IndexFunc(r.own, func(o ownEdit) bool { return o.to == to })
	if i < 0 {
		return // long ago
	}
	from := r.own[i].from
	r.own = slices.Delete(r.own, i, i+1)
	for i := range r.own {
		if r.own[i].from == to {
			r.own[i].from = from
		}
	}
	for _, o := range r.own {
		if o.from == from {
			from = o.to
		}
	}
	for _, s := range r.states {
		if s.edits == to {
			s.edits = from
		}
	}
}

func keysOf(claims []scheduler.Claim) map[string]struct{} {
	keys := make(map[string]struct{}, len(claims))
	for i := range claims {
		keys[claims[i].Key] = struct{}{}
	}
	return keys
}

// moved is claimed. Call with mu held.
func (r *readPlans) moved(from, to string, keys map[string]struct{}) {
	for key := range keys {
		r.drop(key) // what was read of it meanwhile may be of before
	}
	for _, s := range r.states {
		if s.edits == from {
			s.edits = to
		}
	}
	r.moves++
	if r.own = append(r.own, ownEdit{from, to, keys}); len(r.own) > maxReadStates {
		r.own = r.own[1:]
	}
}

// drop forgets a plan. Call with mu held.
func (r *readPlans) drop(key string) readPlan {
	p, ok := r.plans[key]
	if !ok {
		return p
	}
	delete(r.plans, key)
	r.holes++
	if p.plan != nil {
		r.bytes -= p.size
	}
	return p
}

// take returns what is remembered of plans, and forgets it.
func (r *readPlans) take(claims []scheduler.Claim) []readPlan {
	plans := make([]readPlan, len(claims))
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range claims {
		plans[i] = r.drop(claims[i].Key)
		plans[i].taken = r.moves
	}
	return plans
}

// sizes asks for the sizes of plans of which nothing is remembered.
func (s *Store) sizes(ctx context.Context, k *shardKeys, claims []scheduler.Claim, plans []readPlan) error {
	var commands []rueidis.Completed
	var where []int
	for i := range claims {
		if plans[i].size == 0 {
			commands, where = append(commands, s.client.B().Strlen().Key(k.plan(claims[i].Key)).Build()), append(where, i)
		}
	}
	for j, r := range s.client.DoMulti(ctx, commands...) {
		n, err := r.AsInt64()
		if _, ok := rueidis.IsRedisErr(err); ok {
			continue // of another type: the claim will find that out
		} else if err != nil {
			return err
		}
		plans[where[j]].size = int(n)
	}
	return nil
}
