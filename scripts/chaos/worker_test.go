package chaos

import (
	"fmt"
	"testing"
	"time"

	"github.com/snower/forsun/scripts/chaos/ledger"
)

// TestC04WorkerKilled: a worker is killed while its actions run. They run again within
// 12 s, under their ids, and nothing else does.
func TestC04WorkerKilled(t *testing.T) {
	t.Parallel()
	f := newFleet(scenario(t, "C4"))
	for _, name := range []string{"a", "b", "c"} {
		f.start(name)
	}
	f.spread(3)
	l := newLoad(f, pick3(300, 1_500, 3_000), pick3(10*time.Second, 10*time.Second, 30*time.Second))
	// On a target of their own, and fewer than one replica runs at a time for one.
	const running = 48
	holding := f.newSink()
	plans := make([]ledger.Plan, running)
	for i := range plans {
		plans[i] = ledger.HTTPPlan(fmt.Sprintf("running-%d", i), ledger.Spec{Every: 2, Count: 1}, holding.URL+"/hold")
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
	t.Log(v)
	if v.Rescued < lost {
		t.Errorf("%d ran again, want the %d that were running at least", v.Rescued, lost)
	}
}
