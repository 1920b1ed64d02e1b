package scheduler_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/snower/forsun/scheduler"
	"github.com/snower/forsun/scheduler/storetest"
)

// even says whether the named replicas, and nobody else, lead all shards, none of
// them more than one more than another.
func (s *fleetStore) even(names ...string) error {
	leads, _ := s.leaders()
	least, most, sum := len(s.shards), 0, 0
	for _, name := range names {
		least, most, sum = min(least, leads[name]), max(most, leads[name]), sum+leads[name]
	}
	if sum != len(s.shards) || most-least > 1 {
		return fmt.Errorf("of %d shards %v is led; want all, evenly, by %v", len(s.shards), leads, names)
	}
	return nil
}

// within waits until ok has no error.
func within(t *testing.T, d time.Duration, what string, ok func() error) {
	t.Helper()
	begin := time.Now()
	for err := ok(); err != nil; err = ok() {
		if time.Since(begin) > d {
			t.Fatalf("not %s within %v: %v", what, d, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// TestFleetSpreads: whoever joins gets its share within seconds, nothing moves
// once that is so, and what a replica that leaves led is led on at once.
func TestFleetSpreads(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ shards, replicas int }{{1, 3}, {2, 3}, {3, 2}, {4, 3}, {6, 4}, {16, 2}} {
		t.Run(fmt.Sprintf("%d shards, %d replicas", row.shards, row.replicas), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newFleetStore(row.shards)
				var names []string
				var members []*member
				for i := range row.replicas {
					names = append(names, string(rune('a'+i)))
					members = append(members, s.join(t, names[i]))
					// Seen within one, watched for two, then a shard each second.
					share := (row.shards + i) / (i + 1)
					within(t, time.Duration(4+share)*time.Second, fmt.Sprintf("even with %v", names), func() error { return s.even(names...) })
				}
				settled := func() {
					t.Helper()
					time.Sleep(5 * time.Second)
					_, before := s.leaders()
					time.Sleep(2 * time.Minute)
					if _, after := s.leaders(); after != before {
						t.Errorf("%d shards changed hands in a fleet at rest", after-before)
					}
					if err := s.even(names...); err != nil {
						t.Error(err)
					}
				}
				settled()
				if row.shards == 1 {
					if _, moves := s.leaders(); moves != 1 {
						t.Errorf("the only shard changed hands %d times while replicas joined", moves-1)
					}
				}
				led := func(names ...string) func() error {
					return func() error {
						leads, _ := s.leaders()
						sum := 0
						for _, name := range names {
							sum += leads[name]
						}
						if sum != row.shards {
							return fmt.Errorf("%v of %d is led", leads, row.shards)
						}
						return nil
					}
				}
				// The last one stops in order: its shards change hands at once.
				last := len(names) - 1
				members[last].stop()
				names = names[:last]
				within(t, 300*time.Millisecond, "led again after a stop", led(names...))
				within(t, 15*time.Second, "even after a stop", func() error { return s.even(names...) })
				settled()
				if len(names) > 1 { // the next one dies
					members[last-1].kill()
					names = names[:last-1]
					within(t, 3100*time.Millisecond, "led again after a death", led(names...))
					within(t, 15*time.Second, "even after a death", func() error { return s.even(names...) })
					settled()
					members[last-1].view.set(func(is *faults) { is.cut = nil })
				}
				for _, m := range members {
					m.stop()
				}
			})
		})
	}
}

// TestFleetBidsWhenALeaseRunsOut: the shard of a leader that died is led on as soon as its
// lease has run out, whenever that is.
func TestFleetBidsWhenALeaseRunsOut(t *testing.T) {
	t.Parallel()
	for _, after := range []time.Duration{0, 61, 130, 222, 249, 305, 444} {
		t.Run(fmt.Sprintf("the other looks %d ms later", after), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newFleetStore(1)
				a := s.join(t, "a")
				time.Sleep(after * time.Millisecond)
				b := s.join(t, "b")
				time.Sleep(10 * time.Second)
				dies, other := a, b
				if leads, _ := s.leaders(); leads["b"] > 0 {
					dies, other = b, a
				}
				dies.kill()
				s.mu.Lock()
				until := s.leases[0].Until
				s.mu.Unlock()
				time.Sleep(time.Until(until) - time.Millisecond)
				if _, terms := s.leaders(); terms != 1 {
					t.Errorf("%d terms while the first lease is good", terms)
				}
				for terms := 1; terms == 1 && time.Since(until) < time.Minute; _, terms = s.leaders() {
					time.Sleep(100 * time.Microsecond)
				}
				if late := time.Since(until); late > 5*time.Millisecond {
					t.Errorf("led again %v after the lease ran out", late)
				}
				dies.view.set(func(is *faults) { is.cut = nil })
				dies.stop()
				other.stop()
			})
		})
	}
}

// TestFleetUnableReplica: a replica that cannot lead is left alone after some
// tries, each after a longer time.
func TestFleetUnableReplica(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newFleetStore(4)
		a := s.join(t, "a")
		defer a.stop()
		within(t, time.Second, "led", func() error { return s.even("a") })
		b := s.join(t, "b")
		defer b.stop()
		b.view.set(func(is *faults) { is.noBid = errors.New("no") })
		time.Sleep(15 * time.Minute)
		if _, moves := s.leaders(); moves > 4+10 {
			t.Errorf("%d shards were given up and won back in 15 minutes", moves-4)
		}
		b.view.set(func(is *faults) { is.noBid = nil })
		within(t, 10*time.Minute, "even when it can", func() error { return s.even("a", "b") })
	})
}

// TestFleetReplicaTaken: a replica under whose id another one lives stops.
func TestFleetReplicaTaken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newFleetStore(2)
		a := s.join(t, "a")
		within(t, time.Second, "led", func() error { return s.even("a") })
		a.view.set(func(is *faults) { is.taken = true })
		select {
		case err := <-a.ended:
			if !errors.Is(err, scheduler.ErrReplicaTaken) {
				t.Errorf("Run returned %v, want ErrReplicaTaken", err)
			}
		case <-time.After(5 * time.Second):
			t.Error("it goes on")
		}
		if leads, _ := s.leaders(); leads["a"] != 0 {
			t.Errorf("it keeps %d leases", leads["a"])
		}
	})
}

// clockErr tells which of the replicas are not as they should be: off, or not.
func clockErr(want string, members ...*member) error {
	got := ""
	for _, m := range members {
		if err := m.engine.ClockWrong(); errors.Is(err, scheduler.ErrNotAllowed) {
			got += m.name
		} else if err != nil {
			return err
		}
	}
	if got != want {
		return fmt.Errorf("the clocks of %q are found wrong, want %q", got, want)
	}
	return nil
}

// TestFleetWrongClock: of three or more replicas the one whose clock is another
// leads nothing and refuses creates until it is right again; of two nobody can
// tell which.
func TestFleetWrongClock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newFleetStore(4)
		a, b := s.join(t, "a"), s.join(t, "b")
		within(t, 10*time.Second, "even", func() error { return s.even("a", "b") })
		b.clock.set(1500 * time.Millisecond)
		time.Sleep(time.Minute)
		if err := errors.Join(clockErr("", a, b), s.even("a", "b")); err != nil {
			t.Errorf("with two: %v", err)
		}
		if b.log.count(`"level":"warn"`, "nobody can tell") != 1 {
			t.Errorf("b does not warn once: %s", b.log.lines)
		}
		c := s.join(t, "c")
		within(t, 6*time.Second, "told that b is wrong", func() error { return clockErr("b", a, b, c) })
		within(t, 12*time.Second, "led without b", func() error { return s.even("a", "c") })
		time.Sleep(time.Minute)
		if err := errors.Join(clockErr("b", a, b, c), s.even("a", "c")); err != nil {
			t.Errorf("with three: %v", err)
		}
		if n := b.log.count(`"level":"error"`, "the clock of this machine"); n != 1 {
			t.Errorf("b says %d times that its clock is wrong: %s", n, b.log.lines)
		}
		b.clock.set(300 * time.Millisecond)
		within(t, 6*time.Second, "forgiven", func() error { return clockErr("", a, b, c) })
		within(t, 12*time.Second, "even again", func() error { return s.even("a", "b", "c") })

		// Readings that come back late say little; one that is wrong says nothing.
		for range 20 {
			b.view.set(func(is *faults) { is.slow = 900 * time.Millisecond })
			time.Sleep(1500 * time.Millisecond)
			b.clock.set(time.Minute)
			time.Sleep(1200 * time.Millisecond)
			b.clock.set(0)
			time.Sleep(4 * time.Second)
			if err := clockErr("", a, b, c); err != nil {
				t.Fatal(err)
			}
		}
		b.view.set(func(is *faults) { is.slow, is.lame = 0, 2500*time.Millisecond })
		time.Sleep(2 * time.Minute)
		if err := clockErr("", a, b, c); err != nil {
			t.Errorf("with a clock that nobody can read: %v", err)
		}
		for _, m := range []*member{a, b, c} {
			m.stop()
		}
	})
}

// plan stores a plan that is due at a second.
func (s *fleetStore) plan(due int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.plans["k"] = storetest.NewPlan("k", func(p *scheduler.Plan) {
		p.Action, p.Due, p.Schedule = "record", due, scheduler.Schedule{Kind: scheduler.Timeout, Second: 1, Week: scheduler.Any, Count: 1}
	})
}

// claim waits until a plan that is due some seconds from now is claimed, and says
// how late that was by the true time, and how often the store refused it.
func (s *fleetStore) claim(t *testing.T) (late time.Duration, refused int, skew time.Duration) {
	t.Helper()
	time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(1300 * time.Millisecond)))
	due := time.Now().Unix() + 3
	s.mu.Lock()
	s.notYet, s.claims = 0, nil
	s.mu.Unlock()
	s.plan(due)
	within(t, 20*time.Second, "claimed", func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.claims) == 0 {
			return errors.New("it is not")
		}
		return nil
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.claims[0].at.Sub(time.Unix(due, 0)), s.notYet, s.claims[0].skew
}

// TestFleetStoreClock: a second begins at the later of the leader's clock and the
// store's, without a refusal; where all replicas agree and the store's clock is far
// off, theirs decides.
func TestFleetStoreClock(t *testing.T) {
	t.Parallel()
	rows := []struct {
		why      string
		replicas int
		ahead    time.Duration // the store's clock
		late     time.Duration // claimed so late, to a few milliseconds
		skew     time.Duration
		level    string // of what is logged about it, once
	}{
		{"right", 1, 0, 0, 0, ""},
		{"a little behind", 1, -20 * time.Millisecond, 20 * time.Millisecond, 0, ""},
		{"behind", 3, -900 * time.Millisecond, 900 * time.Millisecond, 0, ""},
		{"more than a second behind", 3, -2500 * time.Millisecond, 2500 * time.Millisecond, 0, "warn"},
		{"ahead", 3, 300 * time.Millisecond, 0, 0, ""},
		{"four seconds ahead", 3, 4 * time.Second, 0, 0, "warn"},
		{"far behind, and one replica says so", 1, -8 * time.Second, 8 * time.Second, 0, "warn"},
		{"far behind, and two agree", 2, -2 * time.Hour, 0, -2 * time.Hour, "error"},
		{"far behind, and three agree", 3, -6 * time.Second, 0, -6 * time.Second, "error"},
		{"far ahead", 3, time.Hour, 0, time.Hour, "error"},
	}
	for _, row := range rows {
		t.Run(row.why, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newFleetStore(1)
				var members []*member
				for i := range row.replicas {
					members = append(members, s.join(t, string(rune('a'+i))))
				}
				time.Sleep(5 * time.Second)
				s.setAhead(row.ahead)
				time.Sleep(7 * time.Second)
				late, refused, skew := s.claim(t)
				if late < row.late || late > row.late+2*time.Millisecond || refused != 0 || (skew+row.skew).Abs() > time.Millisecond {
					t.Errorf("claimed %v late, after %d refusals, with skew %v; want %v, 0, %v", late, refused, skew, row.late, -row.skew)
				}
				for _, m := range members {
					errs, warns := m.log.count(`"level":"error"`, "clock"), m.log.count(`"level":"warn"`, "clock")
					if want := row.level; (errs == 1) != (want == "error") || (warns == 1) != (want == "warn") {
						t.Errorf("replica %s logged %d errors and %d warnings, want one %q: %s", m.name, errs, warns, want, m.log.lines)
					}
				}
				// Set right, it decides again.
				s.setAhead(0)
				time.Sleep(7 * time.Second)
				if late, refused, skew := s.claim(t); late > 2*time.Millisecond || refused != 0 || skew != 0 {
					t.Errorf("set right: claimed %v late, after %d refusals, with skew %v", late, refused, skew)
				}
				for _, m := range members {
					m.stop()
				}
			})
		})
	}
}

// TestFinisherLogsSeldom: a store that answers finishes with errors is asked on,
// and written of now and then only.
func TestFinisherLogsSeldom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newFleetStore(1)
		m := s.join(t, "a")
		m.view.set(func(is *faults) { is.fails = errors.New("no") })
		s.plan(0)
		s.mu.Lock()
		s.firing = &scheduler.Firing{Plan: s.plans["k"], Due: time.Now().Unix(), Attempt: 1, Delivery: 1, Receipt: "1"}
		delete(s.plans, "k")
		s.mu.Unlock()
		time.Sleep(5 * time.Minute)
		s.mu.Lock()
		asked := s.finishes
		s.mu.Unlock()
		if n := m.log.count("cannot finish"); asked < 250 || n < 20 || n > 31 {
			t.Errorf("%d finishes failed in 5 min, and %d lines say so", asked, n)
		}
		m.view.set(func(is *faults) { is.fails = nil })
		m.stop()
	})
}
