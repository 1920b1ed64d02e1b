package scheduler

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// How leadership is paced. A lease lives for the store's TTL (2.5 s); five
// renewals fit into it, so that one or two may fail.
const (
	renewEvery    = 500 * time.Millisecond
	campaignEvery = 250 * time.Millisecond
	// bidAfter is how long after a lease is to have run out the next bid comes: Redis
	// tells what is left in milliseconds, cut off.
	bidAfter = 2 * time.Millisecond
	// stallAfter is how long the shard loop may take to come round before its
	// lease is left to run out: a loop that hangs while its lease lives would be a
	// silent stall.
	stallAfter = 5 * time.Second
	// bidDelay is how much later a replica bids for each shard it leads beyond its
	// fair share, so that the others win.
	bidDelay = 100 * time.Millisecond
	// bidDelayMost bounds that: the others may be dead, and not known to be.
	bidDelayMost = 300 * time.Millisecond
	// joinPause is how long a replica that has just started leaves leases that ran out
	// to others that have run for long: they have watched the workers of who died just
	// before, and rescue their firings sooner. By then they have had every such lease.
	joinPause = 3500 * time.Millisecond
	// stepDownPause is how long a replica that gave a shard up leaves it to others.
	stepDownPause = time.Second
	// renewAgain is how soon a renewal that failed is tried again.
	renewAgain = 100 * time.Millisecond
)

// elector campaigns for one shard and leads it while it holds the lease.
type elector struct {
	e     *Engine
	s     *shard
	lease atomic.Pointer[Lease] // nil while it follows
}

// run alternates between following and leading until ctx is done.
func (el *elector) run(ctx context.Context) {
	log := el.e.log.With().Int("shard", el.s.id).Logger()
	var watching sync.WaitGroup
	defer watching.Wait()
	watching.Go(func() { (&rescuer{e: el.e, shard: el.s.id, lease: &el.lease}).run(ctx) })
	quiet := false // an error was logged and has not gone away
	for began := time.Now(); ctx.Err() == nil; {
		if el.e.clocks.wrong() != nil {
			sleep(ctx, campaignEvery)
			continue
		}
		if el.e.veterans.Load() && time.Since(began) < joinPause {
			select {
			case <-ctx.Done():
				continue
			case <-time.After(campaignEvery):
				continue
			case <-el.s.vacant: // given up, for this replica perhaps: nobody died
			}
		}
		lease, err := el.campaign(ctx)
		pause := campaignEvery
		switch {
		case err == nil:
			Failpoint("after-lock")
			quiet = false
			el.e.fleet.won(el.s.id)
			log.Info().Uint64("term", lease.Term).Msg("leading")
			if cause := el.lead(ctx, lease); errors.Is(cause, ErrFenced) || ctx.Err() != nil {
				continue
			}
			// What went wrong here may not go wrong elsewhere, and what was given up is
			// for the others: they bid first.
			sleep(ctx, stepDownPause)
			continue
		case errors.Is(err, ErrLeaseHeld):
			quiet = false
			if held := (*LeaseHeldError)(nil); errors.As(err, &held) {
				pause = min(pause, max(held.Left, 0)+bidAfter)
			}
		case ctx.Err() == nil && !quiet:
			quiet = true
			el.e.counters.StoreErrors.Add(1)
			log.Error().Err(err).Msg("cannot campaign; trying on")
		}
		select {
		case <-ctx.Done():
		case <-el.s.vacant:
		case <-time.After(pause):
		}
		if over := el.overShare(); over > 0 {
			sleep(ctx, min(time.Duration(over)*bidDelay, bidDelayMost))
		}
	}
}

// overShare is how many shards this replica leads beyond its fair share.
func (el *elector) overShare() int {
	live := int(el.e.census.Load())
	fair := (len(el.e.shards) + live - 1) / live
	return max(0, len(el.e.Leads())+1-fair)
}

func (el *elector) campaign(ctx context.Context) (Lease, error) {
	ctx, cancel := context.WithTimeout(ctx, el.e.opts.StoreTimeout)
	defer cancel()
	return el.e.store.Campaign(ctx, el.s.id, el.e.opts.Replica)
}

// lead runs the shard loop under lease, renewing it, and lets the rescuer act, until
// the lease is lost or ctx is done. The lease is then given up, so that another can bid at
// once. It returns why leading ended.
func (el *elector) lead(ctx context.Context, lease Lease) error {
	log := el.e.log.With().Int("shard", el.s.id).Uint64("term", lease.Term).Logger()
	el.lease.Store(&lease)
	el.s.lastRun.Store(&lastRun{time.Now()})
	el.s.failing.Store(nil)
	el.s.term.Store(lease.Term)
	el.s.canary.reset()
	select {
	case <-el.s.give: // it was about an earlier term
	default:
	}
	el.s.leads.Store(true)
	el.e.fleet.soon()
	defer el.e.fleet.soon()
	defer el.s.leads.Store(false)

	leading, stop := context.WithCancelCause(ctx)
	var loops sync.WaitGroup
	loops.Go(func() { stop(newShardLoop(el.e, el.s, &el.lease).run(leading)) })
	loops.Go(func() { stop(el.renew(leading)) })
	if el.e.opts.Canary != 0 {
		loops.Go(func() { el.e.keepCanary(leading, el.s) })
	}
	loops.Go(func() {
		select {
		case why := <-el.s.give:
			stop(why)
		case <-leading.Done():
		}
	})
	loops.Wait()
	lease = *el.lease.Swap(nil)

	switch cause := context.Cause(leading); {
	case ctx.Err() != nil:
		log.Info().Msg("resigned")
	case errors.Is(cause, errSpread):
		log.Info().Err(cause).Msg("gave the shard up")
	default:
		log.Warn().Err(cause).Msg("stepped down")
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), el.e.opts.StoreTimeout)
	defer cancel()
	if err := el.e.store.Resign(bounded, lease); err != nil && !errors.Is(err, ErrFenced) {
		log.Warn().Err(err).Msg("cannot give up the lease; it will run out")
	}
	return context.Cause(leading)
}

var (
	errTrustEnded = errors.New("the lease could not be renewed in time")
	errStalled    = errors.New("the shard loop does not come round")
	errSpread     = errors.New("others lead fewer shards")
	errClockOff   = errors.New("the clock of this machine is not the fleet's")
)

// renew prolongs the lease until ctx is done; it returns why it ended else.
func (el *elector) renew(ctx context.Context) error {
	for pause := renewEvery; ; {
		if err := sleep(ctx, pause); err != nil {
			return err
		}
		pause = renewEvery
		if time.Since(el.s.lastRun.Load().at) > stallAfter {
			return errStalled
		}
		Failpoint("before-extend")
		lease := *el.lease.Load()
		// Half of the trust that is left: an answer that does not come must leave
		// time to ask again.
		bounded, cancel := context.WithTimeout(ctx, time.Until(lease.Until)/2)
		next, err := el.e.store.Renew(bounded, lease)
		cancel()
		switch {
		case err == nil:
			el.lease.Store(&next)
		case errors.Is(err, ErrFenced), errors.Is(err, ErrClosed):
			return err
		case !time.Now().Before(lease.Until):
			return errTrustEnded
		case ctx.Err() == nil:
			el.e.counters.StoreErrors.Add(1)
			pause = renewAgain
		}
	}
}
