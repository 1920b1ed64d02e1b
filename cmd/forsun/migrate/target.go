package migrate

import (
	"context"
	"hash/fnv"
	"sync"
	"time"

	"github.com/snower/forsun/rpc/client"
	"github.com/snower/forsun/rpc/wire"
	"github.com/snower/forsun/scheduler"
)

// Target stores plans in a running forsund as they were elsewhere.
type Target struct {
	client *client.Client
	opts   scheduler.RestoreOptions
	past   *past
}

// past is what a target has fired.
type past struct {
	mu    sync.Mutex
	fired map[uint64]int64 // newest due second, by a hash of the key; nil: not read yet
}

// NewTarget returns a Target.
func NewTarget(c *client.Client, o scheduler.RestoreOptions) *Target {
	return &Target{client: c, opts: o, past: new(past)}
}

// Over returns a Target that is t over another connection: both may be used at a time.
func (t *Target) Over(c *client.Client) *Target {
	return &Target{client: c, opts: t.opts, past: t.past}
}

// State is what became of a plan.
type State string

const (
	Stored  State = "stored"  // or would be, when only checked
	Exists  State = "exists"  // there is a plan of its key, which was left
	Fired   State = "fired"   // its next time has passed, and was fired there already: left out
	Refused State = "refused" // see Answer.Err
)

// Answer is what became of a plan, in the order they were given.
type Answer struct {
	State State
	Due   int64 // of what is stored
	Err   error // why it is refused, or beside Stored: why it may be lost
}

// Store stores plans, with as many requests as that takes. An error is about all of
// those that have no answer.
//
// It may be called again with the same plans: those that are there stay. A plan that has had its
// last firing since is not there, and must not come back to have it again: if the
// time it is due at has passed, the target's history is asked. That is as long as the
// history is, and has nothing of a firing that is just running.
func (t *Target) Store(ctx context.Context, plans []*scheduler.Plan) ([]Answer, error) {
	if len(plans) == 0 {
		return nil, nil
	}
	answers := make([]Answer, len(plans))
	send := make([]*scheduler.Plan, 0, len(plans))
	index := make([]int, 0, len(plans))
	now := time.Now().Unix() // nearly: who is wrong about a second reads the history in vain
	for i, p := range plans {
		fired := false
		if p.Due > 0 && p.Due <= now {
			var err error
			if fired, err = t.hasFired(ctx, p); err != nil {
				return nil, err
			}
		}
		if fired {
			answers[i].State = Fired
			continue
		}
		send, index = append(send, p), append(index, i)
	}
	results, err := t.client.Restore(ctx, send, t.opts)
	for n, r := range results {
		a := &answers[index[n]]
		a.State, a.Due, a.Err = Stored, r.Due, r.Err
		switch refused, _ := r.Err.(*client.Error); {
		case r.Exists:
			a.State = Exists
		case refused != nil && refused.Code != wire.DurabilityUnknown:
			a.State = Refused
		}
	}
	return answers, err
}

// hasFired says whether the target has fired p at its next time, or after it.
func (t *Target) hasFired(ctx context.Context, p *scheduler.Plan) (bool, error) {
	t.past.mu.Lock()
	defer t.past.mu.Unlock()
	if t.past.fired == nil {
		fired := make(map[uint64]int64)
		note := func(key string, due int64) {
			if h := hash(key); fired[h] < due {
				fired[h] = due
			}
		}
		for a, err := range t.client.Attempts(ctx, "") {
			if err != nil {
				return false, err
			}
			note(a.Key, a.Due)
		}
		for d, err := range t.client.Dead(ctx, "") {
			if err != nil {
				return false, err
			}
			note(d.Plan.Key, d.Due)
		}
		t.past.fired = fired
	}
	return t.past.fired[hash(p.Key)] >= p.Due, nil
}

func hash(key string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(key))
	return h.Sum64()
}
