package chaos

import (
	"testing"
	"time"

	"github.com/snower/forsun/redisstore/redistest"
	"github.com/snower/forsun/scripts/chaos/ledger"
)

// clockLate is how late firings may be for a clock of Redis that is set back: until the
// leases that do not run out any more are taken over (three lease times), and the fleet
// has agreed three times, a second apart, that it is Redis that is wrong. Twice, for a
// machine that is busy.
const clockLate = 2 * (3*leaseTime + 4*time.Second)

// TestC10ClockAhead: the clock of Redis is set an hour ahead while plans fire, and later
// right again. Leases vanish, what is waited for seems to be over: nothing is early,
// nothing is lost, nothing runs twice, nobody is taken for dead.
func TestC10ClockAhead(t *testing.T) { redisClock(t, time.Hour) }

// TestC10ClockBehind: the same two hours back. Leases do not run out, no second begins: the
// fleet's clock decides.
func TestC10ClockBehind(t *testing.T) { redisClock(t, -2*time.Hour) }

func redisClock(t *testing.T, step time.Duration) {
	t.Parallel()
	s := scenario(t, "C10")
	clock := redistest.StartWithClock(t, "appendonly yes")
	f := newFleetOn(s, clock.Server)
	f.startAll("a", "b", "c")
	f.spread(1)
	l := newLoad(f, pick3(600, 1_500, 6_000), pick3(22*time.Second, 24*time.Second, 90*time.Second))
	c := newCreates(f, "stream", l.end.Add(-5*time.Second))
	time.Sleep(3*time.Second + time.Duration(f.rand.IntN(1000))*time.Millisecond)

	clock.Step(step)
	f.event("the clock of Redis is set by %s", step)
	eventually(t, "every replica to say that the clock of Redis is wrong", 30*time.Second, func() bool {
		return len(f.entries("the fleet's clock decides")) >= 3
	})
	f.event("every replica says so")
	// A leader that is killed now leaves a lease by a wrong clock.
	victim := f.aLeader(f.rand.IntN(f.shards))
	time.Sleep(time.Duration(f.rand.IntN(1000)) * time.Millisecond)
	f.kill(victim.name, true)
	time.Sleep(time.Second)
	f.start(victim.name)
	time.Sleep(time.Duration(f.rand.IntN(1000)) * time.Millisecond)

	clock.Step(-step)
	f.event("the clock of Redis is right again")
	stored := c.wait()
	v := f.judge(ledger.Rules{Until: l.wait(), MaxLate: clockLate, Rerun: rerunWithin, Finish: finishWithin}, time.Minute)
	f.terms()
	f.doctor()
	t.Logf("%d stored meanwhile: %s", stored, v)
	if n := len(f.entries("the clock of Redis was set")); n == 0 {
		t.Error("nobody says that the clock of Redis was set")
	}
	if n := len(f.entries("Redis lost")); n != 0 {
		t.Error("a clock that was set is taken for a loss")
	}
}
