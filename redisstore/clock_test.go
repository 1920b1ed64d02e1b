package redisstore

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/snower/forsun/redisstore/redistest"
	"github.com/snower/forsun/scheduler"
)

func TestRedisClockIsSetAhead(t *testing.T) {
	t.Parallel()
	server := redistest.StartWithClock(t)
	var log logged
	o := optionsFor(t, server.Addr)
	o.Log = zerolog.New(&log)
	s, peer := openStore(t, o), openStore(t, o)
	ctx := testContext(t)
	r := scheduler.Replica{ID: "r", Started: time.Now()}
	for _, store := range []*Store{s, peer} {
		if _, err := store.Announce(ctx, r); err != nil {
			t.Fatal(err)
		}
	}
	l := campaign(t, s, "a", 5*time.Second)
	server.Step(time.Hour)
	// The lease is gone at once: whoever comes next has a newer term.
	next := campaign(t, peer, "b", 5*time.Second)
	if next.Term <= l.Term {
		t.Errorf("term %d after %d", next.Term, l.Term)
	}
	if _, err := s.Renew(ctx, l); !errors.Is(err, scheduler.ErrFenced) {
		t.Errorf("Renew: %v, want ErrFenced", err)
	}
	if now, err := s.Now(ctx); err != nil || time.Until(now) < 59*time.Minute {
		t.Errorf("Now: %v, %v, want an hour ahead", now, err)
	}
	if all, err := s.Announce(ctx, r); err != nil || len(all) != 1 {
		t.Errorf("Announce: %v, %v", all, err)
	}
	if log.count("the clock of Redis was set") != 1 || log.count("Redis lost") != 0 {
		t.Errorf("it was said %d times that the clock was set, want once, and %d that Redis lost something", log.count("the clock of Redis was set"), log.count("Redis lost"))
	}
}

func TestRedisClockIsSetBack(t *testing.T) {
	t.Parallel()
	server := redistest.StartWithClock(t)
	o := optionsFor(t, server.Addr)
	o.LeaseTTL = time.Second
	s, peer := openStore(t, o), openStore(t, o)
	ctx := testContext(t)
	l := campaign(t, s, "a", 5*time.Second)
	server.Step(-2 * time.Hour)

	// Who renews keeps it.
	for end := time.Now().Add(2 * stuckFactor * o.LeaseTTL); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		var err error
		if l, err = s.Renew(ctx, l); err != nil {
			t.Fatalf("Renew: %v", err)
		}
		if _, err := peer.Campaign(ctx, 0, "b"); !errors.Is(err, scheduler.ErrLeaseHeld) {
			t.Fatalf("Campaign: %v, want ErrLeaseHeld", err)
		}
	}
	// Who dies as the clock is set loses it for all that.
	server.Step(-2 * time.Hour)
	start := time.Now()
	next := campaignEvery(t, peer, 200*time.Millisecond, 10*time.Second)
	if took := time.Since(start); took < stuckFactor*o.LeaseTTL-o.LeaseTTL/2 || next.Term <= l.Term {
		t.Errorf("term %d after %v, want one after %d and after %v", next.Term, took, l.Term, stuckFactor*o.LeaseTTL)
	}
}

// campaignEvery bids as a follower does.
func campaignEvery(t *testing.T, s *Store, every, within time.Duration) scheduler.Lease {
	t.Helper()
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(every) {
		l, err := s.Campaign(testContext(t), 0, "b")
		if err == nil {
			return l
		}
		if !errors.Is(err, scheduler.ErrLeaseHeld) {
			t.Fatalf("Campaign: %v", err)
		}
	}
	t.Fatalf("nobody leads after %v", within)
	return scheduler.Lease{}
}

// What is known of the clock follows it within the next reading.
func TestDeadlinesFollowTheClock(t *testing.T) {
	t.Parallel()
	server := redistest.StartWithClock(t)
	s := openStore(t, optionsFor(t, server.Addr))
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	deadline, _ := ctx.Deadline()
	for _, step := range []time.Duration{0, time.Hour, -2 * time.Hour} {
		server.Step(step)
		if _, err := s.Now(ctx); err != nil {
			t.Fatal(err)
		}
		ms, err := s.redisDeadlineAt(ctx, 0)
		if early := deadline.Add(server.Offset()).Sub(time.UnixMilli(ms)); err != nil || early < 0 || early > 200*time.Millisecond {
			t.Errorf("clock set by %v: the deadline is %v early, %v", server.Offset(), early, err)
		}
	}
	server.Step(time.Hour)
	s.forgetTime(0)
	ms, err := s.redisDeadlineAt(ctx, 0)
	if early := deadline.Add(server.Offset()).Sub(time.UnixMilli(ms)); err != nil || early < 0 || early > 200*time.Millisecond {
		t.Errorf("what was known is forgotten: the deadline is %v early, %v", early, err)
	}
}
