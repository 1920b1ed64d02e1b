package chaos

import (
	"sync"
	"testing"
	"time"

	"github.com/snower/forsun/scripts/chaos/ledger"
)

// Bounds of the promises.
const (
	claimWithin = 3 * time.Second        // a leader was killed: its shards fire again
	rerunWithin = 12 * time.Second       // a worker was killed: its firings run again
	handOver    = 300 * time.Millisecond // a replica was stopped
	// anyLate is what no firing is late that was not rescued, however busy the machine.
	anyLate = 15 * time.Second
	// finishWithin is how long an answered firing may wait for its finish to be
	// written, on a machine that is busy with other tests.
	finishWithin = time.Second
)

// downFor is how long a replica is down.
const downFor = 2 * time.Second

// inTurn is each of the names, over and over.
func inTurn(names ...string) func() string {
	i := -1
	return func() string {
		i++
		return names[i%len(names)]
	}
}

// busy is the replica that runs the most firings, once one runs any; in a second in
// which none does, any.
func (f *fleet) busy() string {
	for second := time.Now().Truncate(time.Second); ; time.Sleep(time.Millisecond) {
		running := f.sink.Running()
		victim := ""
		f.mu.Lock()
		for name, r := range f.replicas {
			if n := running[agent(name)]; r.proc != nil && (victim == "" || n > running[agent(victim)]) {
				victim = name
			}
		}
		f.mu.Unlock()
		if running[agent(victim)] > 0 || time.Since(second) > 900*time.Millisecond {
			return victim
		}
	}
}

// outages takes replicas down one after the other, from first on and every period
// until the load ends, each just after a second began, when there is most to do, and
// starts each again. It returns when they went down.
func (f *fleet) outages(next func() string, first, period time.Duration, end time.Time, down func(name string) error) (times []time.Time) {
	f.t.Helper()
	var outages sync.WaitGroup
	defer outages.Wait()
	for i := 0; ; i++ {
		at := time.Now().Add(first)
		if i > 0 {
			at = time.Now().Add(period)
		}
		at = at.Truncate(time.Second).Add(time.Duration(f.rand.IntN(50)) * time.Millisecond)
		if at.Add(downFor).After(end) {
			return times
		}
		time.Sleep(time.Until(at))
		name := next()
		f.mu.Lock()
		r := f.replicas[name]
		f.mu.Unlock()
		if err := down(name); err != nil {
			f.t.Error(err)
			return times
		}
		times = append(times, at)
		outages.Go(func() {
			time.Sleep(time.Until(at.Add(downFor)))
			if _, err := f.launch(name, built.of(f.t, name), r.args...); err != nil {
				f.t.Error(err)
			}
		})
	}
}

// busyMachine is what a machine that is busy with other runs may add to a takeover.
const busyMachine = time.Second

// claimed judges how soon after leaders were killed every shard claims again.
func (f *fleet) claimed(claims *ledger.Claims, kills []time.Time) {
	f.t.Helper()
	for _, at := range kills {
		took, of := claims.Next(at)
		f.event("after the kill at %s %d shards claim within %s", at.Format("05.000"), of, took.Round(time.Millisecond))
		if took > claimWithin+busyMachine || of == 0 {
			f.t.Errorf("after the kill at %s %d shards claimed again, the last %s later, want %s, and %s on a busy machine", at.Format("05.000"), of, took, claimWithin, claimWithin+busyMachine)
		}
	}
}

// late judges the firings of the seconds that outages touch: they may be as late as
// promised, beyond what this machine adds. The control is the latest firing of the
// other seconds, which shows how long a second's firings take to run: those of the
// seconds that nobody led come all at once.
func (f *fleet) late(v *ledger.Verdict, outages []time.Time, promised time.Duration) {
	f.t.Helper()
	touched := make(map[int64]bool)
	for _, at := range outages {
		for s := int64(-1); s <= 3; s++ { // the next start falls into the last two
			touched[at.Unix()+s] = true
		}
	}
	var during, control time.Duration
	for second, late := range v.BySecond {
		if touched[second] {
			during = max(during, late)
		} else {
			control = max(control, late)
		}
	}
	f.t.Logf("latest %s; in the seconds without outages %s", during, control)
	// The short form runs beside other tests, and has too few quiet seconds to know
	// what they add.
	promised += pick(500*time.Millisecond, 0)
	if seconds := 1 + (promised+time.Second-1)/time.Second; during > promised+seconds*control {
		f.t.Errorf("latest %s, want at most %s beyond %d times the %s of the seconds without outages", during, promised, seconds, control)
	}
}

// TestC04ReplicasKilled: replicas that lead and work are killed and come back. Nothing is
// lost or early; what the dead held runs again, within 12 s and under its id;
// everything else is claimed within 3 s and runs once.
func TestC04ReplicasKilled(t *testing.T) {
	t.Parallel()
	f := newFleet(scenario(t, "C4"))
	claims := f.watchClaims()
	names := []string{"a", "b", "c"}
	for _, name := range names {
		f.start(name)
	}
	f.spread(len(names))
	l := newLoad(f, pick3(2_000, 5_000, 20_000), pick3(12*time.Second, 12*time.Second, time.Minute))
	kills := f.outages(f.busy, pick3(4*time.Second, 4*time.Second, 5*time.Second), pick3(time.Minute, time.Minute, 10*time.Second), l.end, func(name string) error {
		f.kill(name, true)
		return nil
	})
	v := f.judge(ledger.Rules{Until: l.wait(), MaxLate: anyLate, Rerun: rerunWithin, Finish: finishWithin}, time.Minute)
	f.account(l.end.Unix())
	t.Logf("%d killed: %s", len(kills), v)
	f.claimed(claims, kills)
	f.late(v, kills, claimWithin)
	if v.Rescued == 0 {
		t.Error("nobody ran anything when killed: this has shown nothing")
	}
}

// TestC02LeadersKilled: those that are killed lead and run nothing, others run and
// lead nothing. Everything runs once, within 3 s.
func TestC02LeadersKilled(t *testing.T) {
	t.Parallel()
	f := newFleet(scenario(t, "C2"))
	f.mix()
	claims := f.watchClaims()
	leaders := []string{"a", "b", "c"}
	for _, name := range leaders {
		f.start(name, "--work=none")
	}
	for _, name := range []string{"d", "e"} {
		f.start(name, "--lead=false")
	}
	f.spread(len(leaders))
	l := newLoad(f, pick3(2_000, 5_000, 20_000), pick3(12*time.Second, 12*time.Second, time.Minute))
	kills := f.outages(inTurn(leaders...), pick3(3*time.Second, 3*time.Second, 5*time.Second), pick3(5*time.Second, 4*time.Second, 10*time.Second), l.end, func(name string) error {
		f.kill(name, false)
		return nil
	})
	v := f.judge(ledger.Rules{Until: l.wait(), MaxLate: anyLate}, time.Minute)
	f.account(l.end.Unix())
	t.Logf("%d killed: %s", len(kills), v)
	f.claimed(claims, kills)
	f.late(v, kills, claimWithin)
}

// TestC17Restarted: replicas are stopped and come back. Everything runs once, at most
// 300 ms late.
func TestC17Restarted(t *testing.T) {
	t.Parallel()
	f := newFleet(scenario(t, "C17"))
	f.watchClaims()
	names := []string{"a", "b", "c"}
	for _, name := range names {
		f.start(name)
	}
	f.spread(len(names))
	l := newLoad(f, pick3(2_000, 5_000, 20_000), pick3(12*time.Second, 12*time.Second, time.Minute))
	stops := f.outages(inTurn(names...), pick3(3*time.Second, 3*time.Second, 5*time.Second), pick3(5*time.Second, 4*time.Second, 10*time.Second), l.end, f.stop)
	v := f.judge(ledger.Rules{Until: l.wait(), MaxLate: anyLate}, time.Minute)
	t.Logf("%d stopped: %s", len(stops), v)
	f.late(v, stops, handOver)
}
