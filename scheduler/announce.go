package scheduler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

const (
	announceEvery = time.Second
	// announceSoon is how long news (a shard won or lost) waits for company.
	announceSoon = 100 * time.Millisecond
	// clockSamples is how often the store's clock is read for one reading of the
	// offset: the answer that came soonest is the closest.
	clockSamples = 3
)

// announcer publishes this replica, and draws the conclusions from what the
// others publish: who is there, whose clock is right, who leads too much.
type announcer struct {
	e    *Engine
	news chan struct{} // announce soon

	clockRead time.Time // last reading that counted for the streaks (monotonic)
	off       streak    // this replica's clock is the one that is wrong
	overruled streak    // the store's clock is
	doubted   streak    // something else is odd about clocks
	doubt     string    // what, as it was logged

	mu     sync.Mutex // for spread, which electors tell what they won
	spread spreader
}

func newAnnouncer(e *Engine) *announcer {
	return &announcer{
		e: e, news: make(chan struct{}, 1),
		spread: spreader{me: e.opts.Replica, shards: len(e.shards)},
	}
}

// soon asks for an announcement before the next one is due.
func (a *announcer) soon() { notify(a.news) }

// won notes that this replica leads a shard.
func (a *announcer) won(shard int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.spread.won(time.Now(), shard)
}

// run announces until ctx is done, or this replica must not go on: then it
// returns why.
func (a *announcer) run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	quiet := false
	for {
		err := a.runOnce(ctx)
		switch {
		case err == nil:
			quiet = false
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, ErrReplicaTaken), errors.Is(err, ErrLayout):
			return err
		default:
			a.e.counters.StoreErrors.Add(1)
			if !quiet {
				quiet = true
				a.e.log.Warn().Err(err).Msg("cannot announce this replica; trying on")
			}
		}
		timer.Reset(announceEvery)
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-a.news:
			if sleep(ctx, announceSoon) != nil {
				return nil
			}
		}
	}
}

func (a *announcer) runOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, a.e.opts.StoreTimeout)
	defer cancel()
	offset, err := a.measure(ctx)
	if err != nil {
		return fmt.Errorf("store's clock: %w", err)
	}
	o := a.e.opts
	all, err := a.e.store.Announce(ctx, Replica{
		ID: o.Replica, Address: o.Address, Version: o.Version, Offset: offset,
		Leads: a.e.Leads(), Eager: o.Lead && !a.off.is && !a.e.stopping.Load(), Started: a.e.started,
		Actions: o.Actions,
	})
	if err != nil {
		return fmt.Errorf("announce: %w", err)
	}
	heard := time.Now()
	a.e.heard.Store(&heard)
	now := time.Time{} // by the store's clock: when this replica was seen
	for _, r := range all {
		if r.ID == o.Replica {
			now = r.Seen
		}
	}
	replicas := live(all, now)
	a.e.learnActions(replicas)
	eager := int64(0)
	for _, r := range replicas {
		if r.Eager {
			eager++
		}
	}
	a.e.census.Store(max(eager, 1))
	a.e.veterans.Store(slices.ContainsFunc(replicas, func(r Replica) bool {
		return r.Eager && r.ID != o.Replica && a.e.started.Sub(r.Started) > deadAfter
	}))
	a.e.fleetOf.Store(int64(max(len(replicas), 1)))
	a.judgeClocks(time.Now(), compareClocks(replicas), offset)
	if !silent(all, now) {
		a.balance(replicas)
	}
	return nil
}

// measure reads the offset of this replica's clock to the store's. The store's
// clock was read somewhere between the question and its answer; where that leaves
// more room than clocks may differ by, the last offset stands.
func (a *announcer) measure(ctx context.Context) (offset time.Duration, err error) {
	best := time.Duration(-1)
	for range clockSamples {
		before := a.e.clock.Now()
		theirs, err := a.e.store.Now(ctx)
		if err != nil {
			return 0, err
		}
		trip := max(a.e.clock.Now().Sub(before), 0)
		if best < 0 || trip < best {
			best, offset = trip, before.Add(trip/2).Sub(theirs)
		}
	}
	if best > clockTolerance {
		return a.e.clocks.lastOffset(), nil
	}
	a.e.clocks.measured(offset, best)
	return offset, nil
}

// judgeClocks acts on what the clocks of the fleet say, once they have said it
// several times in a row, and logs it when it changes.
func (a *announcer) judgeClocks(now time.Time, c fleetClock, mine time.Duration) {
	if !a.clockRead.IsZero() && now.Sub(a.clockRead) < clockReadEvery {
		return
	}
	a.clockRead = now
	log := &a.e.log
	seconds := func(d time.Duration) float64 { return d.Round(time.Millisecond).Seconds() }

	if a.off.read(c.wrong(mine)) {
		if a.off.is {
			log.Error().Float64("off_s", seconds(mine-c.offset)).Int("replicas", c.replicas).
				Msg("the clock of this machine is not the fleet's: this replica leads no shard and refuses creates until it is set right")
		} else {
			log.Warn().Float64("off_s", seconds(mine-c.offset)).Msg("the clock of this machine is no longer known to be wrong: this replica leads and accepts creates again")
			a.e.clocks.setOff(0)
		}
	}
	if a.off.is {
		if c.wrong(mine) {
			a.e.clocks.setOff(mine - c.offset)
		}
		for _, s := range a.e.shards {
			s.giveUp(errClockOff)
		}
	}

	overrules := c.overrules() && !c.differs(mine)
	if a.overruled.read(overrules) {
		if a.overruled.is {
			log.Error().Float64("off_s", seconds(-c.offset)).Int("replicas", c.replicas).
				Msg("the store's clock is wrong, the replicas agree: the fleet's clock decides what is due; set the store's clock right")
		} else {
			log.Warn().Float64("off_s", seconds(-c.offset)).Msg("the store's clock decides again, with the replicas' own")
			a.e.clocks.setSkew(0)
		}
	}
	if a.overruled.is && overrules {
		a.e.clocks.setSkew(c.offset)
	}

	doubt := ""
	switch {
	case a.off.is || a.overruled.is || c.wrong(mine) || overrules: // which is said, or soon
	case c.replicas > 1 && !c.agreed:
		doubt = "the clocks of the replicas differ, and nobody can tell whose is wrong"
	case mine.Abs() > clockTolerance:
		doubt = "the clock of this machine and the store's differ: what is due waits for the later of the two"
	}
	if a.doubted.read(doubt != ""); a.doubted.is && doubt != "" && doubt != a.doubt {
		a.doubt = doubt
		log.Warn().Float64("off_s", seconds(mine)).Int("replicas", c.replicas).Msg(doubt)
	} else if !a.doubted.is {
		a.doubt = ""
	}
}

// balance gives up a shard if this replica leads too many.
func (a *announcer) balance(replicas []Replica) {
	mine := a.e.Leads()
	a.mu.Lock()
	shard, give := a.spread.read(time.Now(), replicas, mine)
	a.mu.Unlock()
	if !give {
		return
	}
	for _, s := range a.e.shards {
		if s.id == shard {
			s.giveUp(errSpread)
		}
	}
}
