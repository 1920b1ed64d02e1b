package admin

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/snower/forsun/scheduler"
)

// storeBuckets are for what a disk or a network takes: 50 µs to 5 s.
var storeBuckets = []float64{50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, .1, .25, .5, 1, 2.5, 5}

// timed is a store whose calls are timed. A call is of many firings or plans, mostly.
type timed struct {
	scheduler.Store
	put, get, remove, list, due, claim, promote, take, finish, held, beat op
	campaign, renew, resign, announce, now, holders, rescue, journal      op
	redrive, shards, replicas                                             op
}

// op is one kind of call.
type op struct {
	took   prometheus.Observer
	failed prometheus.Counter
}

// done notes the end of a call. What a store answers in the course of things is no
// failure, nor is that its caller gave up.
func (o op) done(begun time.Time, err error) {
	o.took.Observe(time.Since(begun).Seconds())
	if err == nil {
		return
	}
	for _, answer := range []error{
		scheduler.ErrNotFound, scheduler.ErrLeaseHeld, scheduler.ErrFenced, scheduler.ErrFull, scheduler.ErrClosed, context.Canceled,
	} {
		if errors.Is(err, answer) {
			return
		}
	}
	o.failed.Inc()
}

// TimeStore returns a store that is the given one, with its calls timed into
// registry.
func TimeStore(store scheduler.Store, registry *prometheus.Registry) scheduler.Store {
	took := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "forsun_store_operation_duration_seconds", Help: "How long calls to the store took, by operation.", Buckets: storeBuckets,
	}, []string{"operation"})
	failed := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "forsun_store_operation_errors_total", Help: "Calls to the store that failed, by operation.",
	}, []string{"operation"})
	registry.MustRegister(took, failed)
	of := func(name string) op { return op{took.WithLabelValues(name), failed.WithLabelValues(name)} }
	return &timed{
		Store: store,
		put:   of("put"), get: of("get"), remove: of("remove"), list: of("list"), due: of("due"), claim: of("claim"),
		promote: of("promote"), take: of("take"), finish: of("finish"), held: of("held"), beat: of("beat"),
		campaign: of("campaign"), renew: of("renew"), resign: of("resign"), announce: of("announce"), now: of("now"),
		holders: of("holders"), rescue: of("rescue"), journal: of("journal"), redrive: of("redrive"),
		shards: of("shards"), replicas: of("replicas"),
	}
}

// The calls. ShardIDs, ShardOf, Check, Watch and Close are the store's own: the first
// two ask nobody, the others last.

func (t *timed) Put(ctx context.Context, plans []*scheduler.Plan) []error {
	begun := time.Now()
	errs := t.Store.Put(ctx, plans)
	var first error
	for _, err := range errs {
		if err != nil {
			first = err
			break
		}
	}
	t.put.done(begun, first)
	return errs
}

func (t *timed) Get(ctx context.Context, key string) (_ *scheduler.Plan, err error) {
	defer func(begun time.Time) { t.get.done(begun, err) }(time.Now())
	return t.Store.Get(ctx, key)
}

func (t *timed) Remove(ctx context.Context, key string) (_ *scheduler.Plan, err error) {
	defer func(begun time.Time) { t.remove.done(begun, err) }(time.Now())
	return t.Store.Remove(ctx, key)
}

func (t *timed) List(ctx context.Context, q scheduler.ListQuery) (_ []*scheduler.Plan, _ string, err error) {
	defer func(begun time.Time) { t.list.done(begun, err) }(time.Now())
	return t.Store.List(ctx, q)
}

func (t *timed) DueAt(ctx context.Context, q scheduler.DueAtQuery) (_ []*scheduler.Plan, _ string, err error) {
	defer func(begun time.Time) { t.list.done(begun, err) }(time.Now())
	return t.Store.DueAt(ctx, q)
}

func (t *timed) Campaign(ctx context.Context, shard int, replica string) (_ scheduler.Lease, err error) {
	defer func(begun time.Time) { t.campaign.done(begun, err) }(time.Now())
	return t.Store.Campaign(ctx, shard, replica)
}

func (t *timed) Renew(ctx context.Context, l scheduler.Lease) (_ scheduler.Lease, err error) {
	defer func(begun time.Time) { t.renew.done(begun, err) }(time.Now())
	return t.Store.Renew(ctx, l)
}

func (t *timed) Resign(ctx context.Context, l scheduler.Lease) (err error) {
	defer func(begun time.Time) { t.resign.done(begun, err) }(time.Now())
	return t.Store.Resign(ctx, l)
}

func (t *timed) Announce(ctx context.Context, r scheduler.Replica) (_ []scheduler.Replica, err error) {
	defer func(begun time.Time) { t.announce.done(begun, err) }(time.Now())
	return t.Store.Announce(ctx, r)
}

func (t *timed) Now(ctx context.Context) (_ time.Time, err error) {
	defer func(begun time.Time) { t.now.done(begun, err) }(time.Now())
	return t.Store.Now(ctx)
}

func (t *timed) Due(ctx context.Context, q scheduler.DueQuery) (_ scheduler.DuePage, err error) {
	defer func(begun time.Time) { t.due.done(begun, err) }(time.Now())
	return t.Store.Due(ctx, q)
}

func (t *timed) Claim(ctx context.Context, b scheduler.ClaimBatch) (_ scheduler.ClaimReply, err error) {
	defer func(begun time.Time) { t.claim.done(begun, err) }(time.Now())
	return t.Store.Claim(ctx, b)
}

func (t *timed) Promote(ctx context.Context, r scheduler.PromoteRequest) (_ int, _ time.Time, err error) {
	defer func(begun time.Time) { t.promote.done(begun, err) }(time.Now())
	return t.Store.Promote(ctx, r)
}

func (t *timed) Holders(ctx context.Context, shard int) (_ []scheduler.Holder, err error) {
	defer func(begun time.Time) { t.holders.done(begun, err) }(time.Now())
	return t.Store.Holders(ctx, shard)
}

func (t *timed) Rescue(ctx context.Context, l scheduler.Lease, h scheduler.Holder, maxDeliveries, limit int) (_ int, err error) {
	defer func(begun time.Time) { t.rescue.done(begun, err) }(time.Now())
	return t.Store.Rescue(ctx, l, h, maxDeliveries, limit)
}

func (t *timed) Take(ctx context.Context, r scheduler.TakeRequest) (_ []*scheduler.Firing, _ bool, err error) {
	defer func(begun time.Time) { t.take.done(begun, err) }(time.Now())
	return t.Store.Take(ctx, r)
}

func (t *timed) Finish(ctx context.Context, shard int, worker string, fs []scheduler.Finish) (_ []scheduler.Finished, err error) {
	defer func(begun time.Time) { t.finish.done(begun, err) }(time.Now())
	return t.Store.Finish(ctx, shard, worker, fs)
}

func (t *timed) Held(ctx context.Context, shard int, worker string, limit int) (_ []string, err error) {
	defer func(begun time.Time) { t.held.done(begun, err) }(time.Now())
	return t.Store.Held(ctx, shard, worker, limit)
}

func (t *timed) Beat(ctx context.Context, worker string) (err error) {
	defer func(begun time.Time) { t.beat.done(begun, err) }(time.Now())
	return t.Store.Beat(ctx, worker)
}

func (t *timed) History(ctx context.Context, q scheduler.JournalQuery) (_ []scheduler.Attempt, _ string, err error) {
	defer func(begun time.Time) { t.journal.done(begun, err) }(time.Now())
	return t.Store.History(ctx, q)
}

func (t *timed) DeadLetters(ctx context.Context, q scheduler.JournalQuery) (_ []scheduler.DeadLetter, _ string, err error) {
	defer func(begun time.Time) { t.journal.done(begun, err) }(time.Now())
	return t.Store.DeadLetters(ctx, q)
}

func (t *timed) Redrive(ctx context.Context, ids []string) (_ int, err error) {
	defer func(begun time.Time) { t.redrive.done(begun, err) }(time.Now())
	return t.Store.Redrive(ctx, ids)
}

func (t *timed) Purge(ctx context.Context, ids []string) (_ int, err error) {
	defer func(begun time.Time) { t.redrive.done(begun, err) }(time.Now())
	return t.Store.Purge(ctx, ids)
}

func (t *timed) Shards(ctx context.Context, now time.Time) (_ []scheduler.ShardState, err error) {
	defer func(begun time.Time) { t.shards.done(begun, err) }(time.Now())
	return t.Store.Shards(ctx, now)
}

func (t *timed) Replicas(ctx context.Context) (_ []scheduler.Replica, err error) {
	defer func(begun time.Time) { t.replicas.done(begun, err) }(time.Now())
	return t.Store.Replicas(ctx)
}
