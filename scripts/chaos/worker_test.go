package chaos

import (
	"fmt"
	"testing"
	"time"

	"github.com/snower/forsun/redisstore/redistest"
	"github.com/snower/forsun/scripts/chaos/ledger"
)

// TestC04WorkerKilled: a worker is killed while its actions run. They run again within
// 12 s, under their ids, and nothing else does.
func TestC04WorkerKilled(t *testing.T) {
	t.Parallel()
	f := newFleet(scenario(t, "C4"), idle)
	f.watchClaims()
	for _, name := range []string{"a", "b", "c"} {
		f.start(name)
	}
	f.spread(3)
	footprints := f.footprints()
	l := newLoad(f, pick3(300, 1_500, 3_000), pick3(10*time.Second, 10*time.Second, 30*time.Second))
	// On a target of their own, and fewer than one replica runs at a time for one.
	const running = 48
	holding := f.newSink()
	plans := make([]ledger.Plan, running)
	for i := range plans {
		plans[i] = ledger.HTTPPlan(fmt.Sprintf("running-%d", i), ledger.Spec{Every: 1, Count: 1}, holding.URL+"/hold")
	}
	if err := f.client.Create(t.Context(), plans...); err != nil {
		t.Fatal(err)
	}
	// held counts the calls that are not answered, by who made them, and those that
	// are second ones.
	held := func() (by map[string]int, again int) {
		by = make(map[string]int)
		for _, r := range holding.Receipts() {
			if r.Done.IsZero() {
				by[r.Agent]++
				if r.Attempt > 1 {
					again++
				}
			}
		}
		return by, again
	}
	eventually(t, "actions that run", 20*time.Second, func() bool {
		by, _ := held()
		return by[agent("a")]+by[agent("b")]+by[agent("c")] >= running
	})
	by, _ := held()
	victim := "a"
	for _, name := range []string{"b", "c"} {
		if by[agent(name)] > by[agent(victim)] {
			victim = name
		}
	}
	f.kill(victim, true)
	lost := by[agent(victim)]
	t.Logf("killed %s while it ran %d of %d", victim, lost, running)
	eventually(t, "them to run again", rerunWithin+10*time.Second, func() bool {
		_, again := held()
		return again >= lost
	})
	holding.Release()
	v := f.judge(ledger.Rules{Until: l.wait(), MaxLate: claimWithin, Rerun: rerunWithin, Finish: finishWithin}, 30*time.Second)
	f.account(l.end.Unix())
	footprints()
	t.Log(v)
	if v.Rescued < lost {
		t.Errorf("%d ran again, want the %d that were running at least", v.Rescued, lost)
	}
}

// TestC04AllWorkersKilled: those that run firings are all killed, while others go on to
// claim. Who comes instead runs what waits in the queues, and what the dead held.
func TestC04AllWorkersKilled(t *testing.T) {
	t.Parallel()
	f := newFleet(scenario(t, "C4"))
	leaders, workers := []string{"a", "b"}, []string{"d", "e"}
	for _, name := range leaders {
		f.start(name, "--work=none")
	}
	for _, name := range workers {
		f.start(name, "--lead=false")
	}
	f.spread(len(leaders))
	l := newLoad(f, pick3(2_000, 5_000, 20_000), pick3(12*time.Second, 14*time.Second, time.Minute))
	time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(2*time.Second + time.Duration(f.rand.IntN(50))*time.Millisecond)))
	for _, name := range workers {
		f.kill(name, true)
	}
	const outage = 3 * time.Second
	time.Sleep(outage)
	// Not in one second's rush: what waits is what waited.
	time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second + 300*time.Millisecond)))
	waiting := 0
	for shard := range f.shards {
		n, err := redistest.Try(f.redis.Addr, "LLEN", fmt.Sprintf("forsun:{%d}:firings:http", shard))
		if err != nil {
			t.Fatal(err)
		}
		count, _ := n.(int64)
		waiting += int(count)
	}
	f.event("%d firings wait", waiting)
	if waiting == 0 {
		t.Error("no firing waited: this has shown nothing")
	}
	for _, name := range workers {
		f.start(name, "--lead=false")
	}
	v := f.judge(ledger.Rules{Until: l.wait(), MaxLate: outage + 2*claimWithin, Rerun: rerunWithin, Finish: finishWithin}, 30*time.Second)
	t.Logf("%d waited: %s", waiting, v)
}
