package scheduler

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// lookAgain is when the loop looks once more after a tick: a plan stored just
	// after its second's tick fires within 100 ms.
	lookAgain = 80 * time.Millisecond
	// claimFirst is how many plans of an action the first claim of a second takes; the
	// next take twice as many each, up to EngineOptions.ClaimBatch. The first firings
	// need not wait for what a large claim costs, and run beside the next one.
	claimFirst = 100
	// pagePlans is how many plans are read at once if one claim takes fewer: to wait for a
	// page takes longer than to claim a hundred plans, and not much longer if it has more.
	pagePlans = 400
	// fullPause is how soon the loop comes back to an action whose backlog was full.
	fullPause = 25 * time.Millisecond
	// debtPause is how long before a tick no debt is begun, which could delay it.
	debtPause = 20 * time.Millisecond
	// readAheadAt is when in a second the next one is read: late enough that most of its
	// plans are known, early enough to be done at the tick.
	readAheadAt = 600 * time.Millisecond
	// readAheadBytes bounds what is held of the next second, per shard.
	readAheadBytes = 32 << 20
	promoteBatch   = 1000
	// promoteEvery is how often it is looked for retries that others have stored while
	// a mass of plans is claimed: to ask between any two pages costs a burst a tenth.
	promoteEvery = 50 * time.Millisecond
	// trustMargin is kept free of the end of trust: a claim begun must be answered by then.
	trustMargin = 50 * time.Millisecond
)

// shardLoop claims the due plans of one shard under one lease: see doc.go. It is
// woken by ticks, by hints, and by what it knows to be coming.
type shardLoop struct {
	e     *Engine
	s     *shard
	lease *atomic.Pointer[Lease]

	ahead     map[string][]Claim // by action: claims computed before their second, oldest first
	aheadFor  int64              // the second they were read for
	nextRetry time.Time          // when Promote has something to do
	debtPaid  time.Time          // until when the catch-up rate has been spent
	debtTurn  int                // which action's debts come first next time
	sent      []*sentClaim       // not settled, the oldest first
	beside    sync.WaitGroup     // pages being read, and claims
}

func newShardLoop(e *Engine, s *shard, lease *atomic.Pointer[Lease]) *shardLoop {
	return &shardLoop{e: e, s: s, lease: lease}
}

// run loops until ctx is done or the lease is lost, and returns why. A claim in
// progress is let end.
func (l *shardLoop) run(ctx context.Context) error {
	ticks, unsubscribe := l.e.ticks.subscribe()
	defer unsubscribe()
	defer l.beside.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	quiet := false
	for {
		again, err := l.runOnce(ctx)
		switch {
		case err == nil:
			quiet = false
			if l.s.failing.Load() != nil {
				l.s.failing.Store(nil)
			}
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, ErrFenced):
			l.e.counters.Fenced.Add(1)
			return err
		case errors.Is(err, errTrustEnded), errors.Is(err, ErrClosed):
			return err
		default:
			l.e.counters.TickErrors.Add(1)
			l.e.counters.StoreErrors.Add(1)
			if l.s.failing.Load() == nil {
				l.s.failing.Store(&failing{time.Now(), err})
			}
			if !quiet {
				quiet = true
				l.e.log.Error().Err(err).Int("shard", l.s.id).Msg("pass failed; trying on")
			}
			again = 100 * time.Millisecond
		}
		timer.Reset(again)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case t := <-ticks:
			if t.Stepped {
				l.ahead = nil // read for a time that is not the next one any more
			}
		case <-l.s.hint:
		case <-timer.C:
		}
	}
}

// pass is what one coming-round of the loop found out.
type pass struct {
	again  time.Duration // look again after this long
	failed error         // the worst of its claims
}

func (p *pass) sooner(d time.Duration) { p.again = min(p.again, max(d, time.Millisecond)) }

// runOnce does everything that is to be done now and returns how long to wait
// for the next time, if nothing happens before.
func (l *shardLoop) runOnce(ctx context.Context) (again time.Duration, err error) {
	p := &pass{again: time.Second}
	if err := l.settleAll(p, l.present(ctx, p)); err != nil {
		return 0, err
	}
	if err := l.settleAll(p, l.debts(ctx, p)); err != nil {
		return 0, err
	}
	now := l.e.now()
	sub := now.Sub(now.Truncate(time.Second))
	switch {
	case sub < lookAgain:
		p.sooner(lookAgain - sub)
	case sub < readAheadAt:
		p.sooner(readAheadAt - sub)
	case l.aheadFor != now.Unix()+1:
		if err := l.readAhead(ctx, now.Unix()+1); err != nil {
			return 0, err
		}
	}
	if !l.nextRetry.IsZero() {
		// What is due already waits for the store's clock.
		p.sooner(max(l.nextRetry.Sub(now), fullPause))
	}
	l.came()
	return p.again, nil
}

// came notes that the loop comes round; its lease is renewed only while it does.
func (l *shardLoop) came() { l.s.lastRun.Store(&lastRun{time.Now()}) }

// present claims everything due within the misfire grace, page by page and
// action by action in turn, so that no action's mass holds up another, until
// nothing is left.
func (l *shardLoop) present(ctx context.Context, p *pass) error {
	if err := l.settleAll(p, l.claimAhead(ctx, p)); err != nil {
		return err
	}
	open := make(map[string]*sweep)
	var failed error
	for looked, promoted := (time.Time{}), (time.Time{}); ; {
		if now := time.Now(); now.Sub(promoted) >= promoteEvery || !l.nextRetry.IsZero() && !l.nextRetry.After(l.e.now()) {
			promoted = now
			if err := l.promote(ctx, p); final(ctx, err) {
				return err
			} else if err != nil {
				failed = err
			}
		}
		// However long the mass of one action takes, what becomes due of the others
		// meanwhile is found by the next look.
		if now := l.e.now(); looked.IsZero() || len(open) > 0 && now.Truncate(lookAgain) != looked && failed == nil {
			looked = now.Truncate(lookAgain)
			for _, action := range l.e.claims() {
				if open[action] == nil {
					open[action] = &sweep{action: action, from: now.Unix() - l.grace(), to: now.Unix(), limit: l.pagePlans()}
				}
			}
		}
		if len(open) == 0 {
			return failed
		}
		for _, action := range l.e.claims() {
			sw := open[action]
			if sw == nil {
				continue
			}
			more, err := l.page(ctx, p, sw)
			if final(ctx, err) {
				return err
			} else if err != nil {
				failed = err // the other actions go on
			}
			if !more {
				delete(open, action)
			}
		}
	}
}

// final says whether err ends a pass at once: not one that another action, or
// what is not a retry, may be spared.
func final(ctx context.Context, err error) bool {
	return err != nil && (ctx.Err() != nil || ends(err))
}

// ends says whether err ends the leading, or the store.
func ends(err error) bool {
	return errors.Is(err, ErrFenced) || errors.Is(err, ErrClosed) || errors.Is(err, errTrustEnded)
}

// debts claims what is older than the grace, with the rate that is left, and
// yields to the tick that is near.
func (l *shardLoop) debts(ctx context.Context, p *pass) error {
	actions := l.e.claims()
	for range actions {
		now := l.e.now()
		if now.Before(l.debtPaid) {
			p.sooner(l.debtPaid.Sub(now))
			return nil
		}
		if now.Add(debtPause).Truncate(time.Second).After(now) {
			p.sooner(debtPause)
			return nil
		}
		action := actions[l.debtTurn%len(actions)]
		l.debtTurn++
		sw := &sweep{action: action, from: math.MinInt64, to: now.Unix() - l.grace() - 1, limit: l.e.opts.ClaimBatch}
		more, err := l.page(ctx, p, sw)
		l.settleSweep(p, sw)
		if err = worse(err, sw.err); err != nil {
			return err
		}
		if more && !sw.stop {
			// One page at a time: what is due now, or was promised to be, is looked at
			// between any two.
			l.debtPaid = now.Add(time.Duration(l.e.opts.ClaimBatch) * time.Second / time.Duration(l.e.opts.CatchUpRate))
			p.sooner(l.debtPaid.Sub(now))
			return nil
		}
	}
	return nil
}

func (l *shardLoop) pagePlans() int { return max(l.e.opts.ClaimBatch, pagePlans) }

func (l *shardLoop) grace() int64 { return int64(l.e.opts.MisfireGrace / time.Second) }

// sweep is one going-through of an action's due plans, page by page. While a page
// is claimed (mostly waiting for the store to have it on disk, or for the
// network) the next one is read.
type sweep struct {
	action   string
	from, to int64
	limit    int          // plans a page
	after    string       // where the next page begins
	ahead    chan dueRead // the next page, being read; nil: not yet
	again    bool         // something may be due again in the range, or was changed

	// What came of its claims so far.
	progress bool  // something was claimed or cleared
	stop     bool  // the backlog is full, or the store's clock is behind
	err      error // the worst
}

type dueRead struct {
	page DuePage
	err  error
}

// read returns the next page of sw and begins to read the one after it.
func (l *shardLoop) read(ctx context.Context, sw *sweep) (DuePage, error) {
	got := dueRead{}
	if sw.ahead != nil {
		got = <-sw.ahead
		sw.ahead = nil
	} else {
		got.page, got.err = l.due(ctx, sw, sw.after)
	}
	if sw.after = got.page.Next; sw.after != "" && got.err == nil {
		sw.ahead = make(chan dueRead, 1)
		ahead, after := sw.ahead, sw.after
		l.beside.Go(func() {
			page, err := l.due(ctx, sw, after)
			ahead <- dueRead{page, err}
		})
	}
	return got.page, got.err
}

func (l *shardLoop) due(ctx context.Context, sw *sweep, after string) (DuePage, error) {
	ctx, cancel := context.WithTimeout(ctx, l.e.opts.StoreTimeout)
	defer cancel()
	page, err := l.e.store.Due(ctx, DueQuery{
		Shard: l.s.id, Action: sw.action, From: sw.from, To: sw.to, After: after, Limit: sw.limit,
	})
	if err != nil {
		return page, fmt.Errorf("read due, shard %d, action %s: %w", l.s.id, sw.action, err)
	}
	return page, nil
}

// page claims the next page of a sweep. It answers whether there may be more to
// claim now: not after the last page if nothing is due again, nor if there was no
// room, or the store's clock is not there yet. If not, none of its claims is under way.
func (l *shardLoop) page(ctx context.Context, p *pass, sw *sweep) (more bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	page, err := l.read(ctx, sw)
	if err == nil {
		l.came()
		l.e.counters.Cleared.Add(int64(page.Cleared))
		sw.progress = sw.progress || page.Cleared > 0
		now := l.e.now().Unix()
		claims := make([]Claim, len(page.Plans))
		for i, plan := range page.Plans {
			Failpoint("after-read")
			claims[i] = plan.NextClaim(now, l.grace(), l.e.opts.Zone)
			sw.again = sw.again || claims[i].Next != 0 && claims[i].Next <= sw.to
		}
		if err = l.claim(ctx, p, sw, claims); err == nil && !sw.stop && sw.after != "" {
			return true, nil
		}
	}
	l.settleSweep(p, sw)
	if err = worse(err, sw.err); err != nil || sw.stop {
		return false, err
	}
	// Another sweep, if it can find something that this one did not.
	more = sw.again && sw.progress
	sw.again, sw.progress = false, false
	return more, nil
}

// readAhead reads the plans due in a second that has not begun and computes
// their claims. It is a cache only: the claims compare as always.
func (l *shardLoop) readAhead(ctx context.Context, second int64) error {
	l.ahead, l.aheadFor = make(map[string][]Claim), second
	plans, bytes := 0, 0
	for _, action := range l.e.claims() {
		for after := ""; plans < l.e.opts.ReadAhead && bytes < readAheadBytes; {
			if l.e.now().Unix() >= second {
				return nil // its time has come: claims go first
			}
			bounded, cancel := context.WithTimeout(ctx, l.e.opts.StoreTimeout)
			page, err := l.e.store.Due(bounded, DueQuery{
				Shard: l.s.id, Action: action, From: second, To: second, After: after,
				Limit: min(l.pagePlans(), l.e.opts.ReadAhead-plans),
			})
			cancel()
			if err != nil {
				return fmt.Errorf("read ahead, shard %d, action %s: %w", l.s.id, action, err)
			}
			l.came()
			for _, plan := range page.Plans {
				Failpoint("after-read")
				l.ahead[action] = append(l.ahead[action], plan.NextClaim(second, l.grace(), l.e.opts.Zone))
				plans++
				bytes += claimBytes + len(plan.Key)
			}
			if after = page.Next; after == "" {
				break
			}
		}
	}
	return nil
}

// claimBytes is about what a Claim takes in memory, beside its key.
const claimBytes = 80

// claimAhead claims what was read ahead, if its second has begun, taking batches
// of the actions in turn.
func (l *shardLoop) claimAhead(ctx context.Context, p *pass) error {
	if len(l.ahead) == 0 || l.e.now().Unix() < l.aheadFor {
		return nil
	}
	ahead := l.ahead
	l.ahead = nil
	sweeps := make(map[string]*sweep, len(ahead))
	for size := claimFirst; len(ahead) > 0; size = min(2*size, l.e.opts.ClaimBatch) {
		for _, action := range l.e.claims() {
			claims, ok := ahead[action]
			if !ok {
				continue
			}
			sw := sweeps[action]
			if sw == nil {
				sw = &sweep{action: action}
				sweeps[action] = sw
			}
			n := min(len(claims), size, l.e.opts.ClaimBatch)
			if err := l.claim(ctx, p, sw, claims[:n]); err != nil {
				return err
			}
			if claims = claims[n:]; len(claims) == 0 || sw.stop {
				delete(ahead, action) // what is left is read again with the rest
				continue
			}
			ahead[action] = claims
		}
	}
	return nil
}

// promote queues retries again whose time has come, one batch at a time: claims
// go on between.
func (l *shardLoop) promote(ctx context.Context, p *pass) error {
	bounded, cancel := context.WithTimeout(ctx, l.e.opts.StoreTimeout)
	defer cancel()
	skew, _ := l.e.clocks.correction()
	n, next, err := l.e.store.Promote(bounded, PromoteRequest{
		Lease: *l.lease.Load(), Now: l.e.now(), Skew: skew, Limit: promoteBatch,
	})
	if err != nil {
		return fmt.Errorf("promote retries, shard %d: %w", l.s.id, err)
	}
	l.nextRetry = next
	if n > 0 {
		l.e.counters.Promoted.Add(int64(n))
		l.e.workers.wake(l.s.id)
		l.came()
	}
	if n >= promoteBatch {
		p.sooner(0)
	}
	return nil
}
