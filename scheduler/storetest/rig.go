package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/snower/forsun/scheduler"
)

// failer is what a rig needs of a *testing.T or a *rapid.T.
type failer interface {
	Helper()
	Name() string
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// rig is an open store with the steps that rows are made of. A step fails the
// row when the store answers an error, so that rows show only what they are
// about.
type rig struct {
	failer
	ctx   context.Context
	h     Harness
	store scheduler.Store

	mu     sync.Mutex
	leases map[int]scheduler.Lease
	shards map[string]int
}

// recurring is the interval of plans that fire more than once in these tests.
const recurring = 60

func newRig(ctx context.Context, t failer, h Harness) *rig {
	return &rig{
		failer: t, ctx: ctx, h: h, store: h.Store,
		leases: make(map[int]scheduler.Lease), shards: make(map[string]int),
	}
}

// peer is the store as another replica sees it.
func (r *rig) peer() scheduler.Store {
	if r.h.Peer == nil {
		return r.store
	}
	return r.h.Peer
}

// clock is the store's time.
func (r *rig) clock() time.Time {
	r.Helper()
	if r.h.Now != nil {
		return r.h.Now()
	}
	now, err := r.store.Now(r.ctx)
	if err != nil {
		r.Fatalf("Now: %v", err)
	}
	return now
}

// now is the store's second.
func (r *rig) now() int64 {
	r.Helper()
	return r.clock().Unix()
}

// poll waits until ok, or fails the row.
func (r *rig) poll(what string, ok func() bool) {
	r.Helper()
	const bound = 20 * time.Second
	for end := time.Now().Add(bound); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			r.Fatalf("waited %v in vain: %s", bound, what)
		}
	}
}

// overdue makes a plan that has been due for a while: an hour less one second
// for every plan that number counts.
func (r *rig) overdue(key string, number int, opts ...PlanOption) *scheduler.Plan {
	r.Helper()
	return NewPlan(key, append([]PlanOption{WithDue(r.now() - 3600 + int64(number))}, opts...)...)
}

// put stores plans.
func (r *rig) put(plans ...*scheduler.Plan) {
	r.Helper()
	sent := make([]*scheduler.Plan, len(plans))
	for i, p := range plans {
		sent[i] = p.Clone() // what is handed over is the store's own
	}
	errs := r.store.Put(r.ctx, sent)
	if len(errs) != len(plans) {
		r.Fatalf("Put of %d plans gave %d answers", len(plans), len(errs))
	}
	for i, err := range errs {
		if err != nil {
			r.Fatalf("Put(%q): %v", plans[i].Key, err)
		}
	}
}

// wantPlan compares the stored plan with p.
func (r *rig) wantPlan(p *scheduler.Plan) {
	r.Helper()
	got, err := r.store.Get(r.ctx, p.Key)
	if err != nil {
		r.Fatalf("Get(%q): %v", p.Key, err)
	}
	if d := planDiff(p, got); d != "" {
		r.Errorf("plan %q is not as stored (-want +got):\n%s", p.Key, d)
	}
}

// wantNone says that no plan of key is stored.
func (r *rig) wantNone(key string) {
	r.Helper()
	if p, err := r.store.Get(r.ctx, key); !errors.Is(err, scheduler.ErrNotFound) {
		r.Errorf("Get(%q) = %v, %v, want ErrNotFound", key, p, err)
	}
}

func planDiff(want, got *scheduler.Plan) string {
	return cmp.Diff(want, got, cmpopts.EquateEmpty())
}

// due returns the plans of an action that a shard's Due shows, over all its
// pages, which is how a leader reads them.
func (r *rig) due(shard int, action string, from, to int64) []*scheduler.Plan {
	r.Helper()
	return r.dueBy(scheduler.DueQuery{Shard: shard, Action: action, From: from, To: to, Limit: 100})
}

// dueBy reads all pages of a query.
func (r *rig) dueBy(q scheduler.DueQuery) (all []*scheduler.Plan) {
	r.Helper()
	for range pages {
		page, err := r.store.Due(r.ctx, q)
		if err != nil {
			r.Fatalf("Due(shard %d, %s, after %q): %v", q.Shard, q.Action, q.After, err)
		}
		if len(page.Plans) > q.Limit {
			r.Fatalf("Due with limit %d gave %d plans", q.Limit, len(page.Plans))
		}
		for _, p := range page.Plans {
			if p.Action != q.Action || p.Due < q.From || p.Due > q.To {
				r.Errorf("Due(%s, %d to %d) gave %q of %s, due at %d", q.Action, q.From, q.To, p.Key, p.Action, p.Due)
			}
		}
		all = append(all, page.Plans...)
		if page.Next == "" {
			return all
		}
		q.After = page.Next
	}
	r.Fatalf("Due(shard %d, %s) has no end", q.Shard, q.Action)
	return nil
}

// shard finds where the stored plan p lives.
func (r *rig) shard(p *scheduler.Plan) int {
	r.Helper()
	ids := r.store.ShardIDs()
	if len(ids) == 1 {
		return ids[0]
	}
	r.mu.Lock()
	id, known := r.shards[p.Key]
	r.mu.Unlock()
	if known {
		return id
	}
	for _, id := range ids {
		for _, q := range r.due(id, p.Action, p.Due, p.Due) {
			if q.Key == p.Key {
				r.mu.Lock()
				defer r.mu.Unlock()
				r.shards[p.Key] = id
				return id
			}
		}
	}
	r.Fatalf("no shard of %v shows %q as due at %d", ids, p.Key, p.Due)
	return 0
}

// lease leads a shard for the row and returns the lease that holds now. A row
// that is held up longer than a lease lives campaigns again.
func (r *rig) lease(shard int) scheduler.Lease {
	r.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	l, led := r.leases[shard]
	if led && time.Until(l.Until) > time.Second {
		return l
	}
	if led {
		renewed, err := r.store.Renew(r.ctx, l)
		if err == nil {
			r.leases[shard] = renewed
			return renewed
		}
		if !errors.Is(err, scheduler.ErrFenced) {
			r.Fatalf("Renew of shard %d: %v", shard, err)
		}
	}
	r.leases[shard] = r.campaign(shard, "leader")
	return r.leases[shard]
}

// campaign bids until the lease is given.
func (r *rig) campaign(shard int, replica string) (l scheduler.Lease) {
	r.Helper()
	r.poll(fmt.Sprintf("the lease of shard %d is vacant", shard), func() bool {
		var err error
		l, err = r.store.Campaign(r.ctx, shard, replica)
		if err != nil && !errors.Is(err, scheduler.ErrLeaseHeld) {
			r.Fatalf("Campaign for shard %d: %v", shard, err)
		}
		return err == nil
	})
	return l
}

// depose lets another replica lead the shard of the lease: l is not the current
// one any more.
func (r *rig) depose(l scheduler.Lease) {
	r.Helper()
	if err := r.store.Resign(r.ctx, l); err != nil {
		r.Fatalf("Resign: %v", err)
	}
	next := r.campaign(l.Shard, "successor")
	r.mu.Lock()
	defer r.mu.Unlock()
	r.leases[l.Shard] = next
}

// claimOf is the claim of what p is due for, with what it is due for next (0:
// nothing).
func claimOf(p *scheduler.Plan, next int64) scheduler.Claim {
	return scheduler.Claim{Key: p.Key, Revision: p.Revision, Due: p.Due, FireDue: p.Due, Next: next}
}

// batch makes a batch up to the store's second, without a backlog bound.
func (r *rig) batch(shard int, action string, claims ...scheduler.Claim) scheduler.ClaimBatch {
	r.Helper()
	return scheduler.ClaimBatch{Lease: r.lease(shard), Action: action, Cutoff: r.now(), Claims: claims}
}

// claim sends a batch.
func (r *rig) claim(b scheduler.ClaimBatch) []scheduler.ClaimAnswer {
	r.Helper()
	reply, err := r.store.Claim(r.ctx, b)
	if err != nil {
		r.Fatalf("Claim: %v", err)
	}
	if len(reply.Answers) != len(b.Claims) {
		r.Fatalf("Claim of %d gave %d answers", len(b.Claims), len(reply.Answers))
	}
	return reply.Answers
}

// claimOne claims what the stored plan p is due for.
func (r *rig) claimOne(p *scheduler.Plan, next int64) scheduler.ClaimAnswer {
	r.Helper()
	return r.claim(r.batch(r.shard(p), p.Action, claimOf(p, next)))[0]
}

// advance claims like claimOne, which must work, and changes p to what is then
// stored, or to what was claimed last.
func (r *rig) advance(p *scheduler.Plan, next int64) {
	r.Helper()
	if a := r.claimOne(p, next); a.Result != scheduler.ClaimedOK {
		r.Fatalf("claim of %q at %d: answer %d, want %d", p.Key, p.Due, a.Result, scheduler.ClaimedOK)
	}
	p.LastDue, p.Due, p.Fired = p.Due, next, p.Fired+1
}

// take takes what is queued of one action of a shard, as far as there are slots.
func (r *rig) take(shard int, worker, action string, slots int) []*scheduler.Firing {
	r.Helper()
	return r.takeAll(scheduler.TakeRequest{Shard: shard, Worker: worker, Slots: map[string]int{action: slots}})
}

// takeAll takes again while the store says that there is more.
func (r *rig) takeAll(q scheduler.TakeRequest) (all []*scheduler.Firing) {
	r.Helper()
	q.Slots = maps.Clone(q.Slots)
	for range pages {
		fs, more, err := r.store.Take(r.ctx, q)
		if err != nil {
			r.Fatalf("Take: %v", err)
		}
		for _, f := range fs {
			q.Slots[f.Plan.Action]--
			if q.Slots[f.Plan.Action] < 0 {
				r.Fatalf("Take gave more of %s than there were slots", f.Plan.Action)
			}
		}
		all = append(all, fs...)
		if !more {
			return all
		}
	}
	r.Fatalf("Take always says that there is more")
	return nil
}

// takeOne takes the one firing that is queued of p's action in p's shard.
func (r *rig) takeOne(p *scheduler.Plan, worker string) *scheduler.Firing {
	r.Helper()
	fs := r.take(r.shard(p), worker, p.Action, 2)
	if len(fs) != 1 || fs[0].Plan.Key != p.Key {
		r.Fatalf("Take gave %s, want one firing of %q", describe(fs), p.Key)
	}
	return fs[0]
}

// wantNothing says that nothing is queued of p's action in p's shard.
func (r *rig) wantNothing(p *scheduler.Plan) {
	r.Helper()
	if fs := r.take(r.shard(p), "nobody", p.Action, 10); len(fs) != 0 {
		r.Errorf("Take gave %s, want nothing", describe(fs))
	}
}

// running puts a plan, claims it and takes the firing. p becomes what it was
// claimed as.
func (r *rig) running(p *scheduler.Plan, worker string, next int64) *scheduler.Firing {
	r.Helper()
	r.put(p)
	r.shard(p)
	r.advance(p, next)
	return r.takeOne(p, worker)
}

// ending is the Finish of f with a verdict, as an engine would send it.
func (r *rig) ending(f *scheduler.Firing, v scheduler.Verdict, at time.Time) scheduler.Finish {
	r.Helper()
	e := scheduler.Finish{Firing: f, Verdict: v, At: at}
	if v == scheduler.Defer || v == scheduler.Return {
		return e // nothing ran: nothing to record
	}
	started := r.clock().Truncate(time.Millisecond)
	a := &scheduler.Attempt{
		Firing: f.ID(), Key: f.Plan.Key, Action: f.Plan.Action, Due: f.Due, Missed: f.Missed, Attempt: f.Attempt,
		Started: started, Late: started.Sub(time.Unix(f.Due, 0)), Took: 7 * time.Millisecond, Replica: "replica-1",
	}
	switch v {
	case scheduler.Done:
		a.Outcome, a.Output = scheduler.Succeeded, "done"
	case scheduler.Retry:
		a.Outcome, a.Error, a.RetryAt = scheduler.Failed, "refused", at.Truncate(time.Millisecond)
	case scheduler.Bury:
		a.Outcome, a.Error = scheduler.Dead, "refused for good"
	}
	e.Attempt = a
	return e
}

// send finishes one delivery.
func (r *rig) send(shard int, worker string, e scheduler.Finish) scheduler.Finished {
	r.Helper()
	answers, err := r.store.Finish(r.ctx, shard, worker, []scheduler.Finish{e})
	if err != nil {
		r.Fatalf("Finish: %v", err)
	}
	if len(answers) != 1 {
		r.Fatalf("Finish of one delivery gave %d answers", len(answers))
	}
	return answers[0]
}

// finish ends a delivery, which must work.
func (r *rig) finish(f *scheduler.Firing, worker string, v scheduler.Verdict, at time.Time) {
	r.Helper()
	if got := r.send(f.Shard, worker, r.ending(f, v, at)); got != scheduler.FinishedOK {
		r.Fatalf("Finish of delivery %q with verdict %d: answer %d, want %d", f.Receipt, v, got, scheduler.FinishedOK)
	}
}

// promote queues the retries of a shard that are due by the store's clock.
func (r *rig) promote(shard, limit int) (int, time.Time) {
	r.Helper()
	n, next, err := r.store.Promote(r.ctx, scheduler.PromoteRequest{Lease: r.lease(shard), Now: r.clock(), Limit: limit})
	if err != nil {
		r.Fatalf("Promote: %v", err)
	}
	return n, next
}

// ago is a time in the store's past.
func (r *rig) ago(d time.Duration) time.Time {
	r.Helper()
	return r.clock().Add(-d).Truncate(time.Millisecond)
}

// state sums the state of all shards.
func (r *rig) state() scheduler.ShardState {
	r.Helper()
	all, err := r.store.Shards(r.ctx, r.clock())
	if err != nil {
		r.Fatalf("Shards: %v", err)
	}
	sum := scheduler.ShardState{Queued: map[string]int64{}, Running: map[string]int64{}}
	for _, s := range all {
		sum.Plans += s.Plans
		sum.Overdue += s.Overdue
		sum.Retries += s.Retries
		sum.Dead += s.Dead
		sum.Quarantined += s.Quarantined
		if s.OldestDue != 0 && (sum.OldestDue == 0 || s.OldestDue < sum.OldestDue) {
			sum.OldestDue = s.OldestDue
		}
		for a, n := range s.Queued {
			sum.Queued[a] += n
		}
		for a, n := range s.Running {
			sum.Running[a] += n
		}
	}
	return sum
}

// describe lists firings for a message.
func describe(fs []*scheduler.Firing) string {
	s := fmt.Sprintf("%d firings", len(fs))
	for i, f := range fs {
		if i == 10 {
			return s + " …"
		}
		s += fmt.Sprintf(" [%q due %d attempt %d delivery %d]", f.Plan.Key, f.Due, f.Attempt, f.Delivery)
	}
	return s
}
