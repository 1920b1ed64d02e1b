package chaos

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/snower/forsun/redisstore/redistest"
	"github.com/snower/forsun/scripts/chaos/ledger"
)

// TestC14Hanging: 500 firings whose target hangs, and a mass of overdue plans
// of another action, on a fleet that begins to lead. Firings to other targets are
// as late as they are when all of that is over.
func TestC14Hanging(t *testing.T) {
	t.Parallel()
	const (
		hanging = 500
		probes  = 20 // in each second
		targets = 3 * 64
		quiet   = 4 // seconds
	)
	overdue := pick(10_000, 100_000)
	// What a small machine adds while the mass takes all of its processors, in the
	// median and at most.
	medianTolerance, tolerance := pick(time.Second, 150*time.Millisecond), pick(2*time.Second, 500*time.Millisecond)
	f := newFleet(scenario(t, "C14"), "--actions=http,redis")
	other := redistest.Start(t)
	hang := f.newSink()
	f.start("x", "--lead=false", "--work=none")

	var plans []ledger.Plan
	for i := range hanging {
		plans = append(plans, ledger.HTTPPlan(fmt.Sprintf("hanging-%d", i), ledger.Spec{Every: 1, Count: 1}, hang.URL+"/hold"))
	}
	for i := range probes {
		plans = append(plans, ledger.HTTPPlan(fmt.Sprintf("probe-%d", i), ledger.Spec{Calendar: ledger.EachSecond()}, f.sink.URL))
	}
	mass := make([]ledger.Plan, overdue)
	for i := range mass {
		mass[i] = ledger.Plan{
			Key: fmt.Sprintf("overdue-%d", i), Spec: ledger.Spec{Every: 1, Count: 1}, Action: "redis",
			Params: map[string]string{"host": "127.0.0.1", "port": fmt.Sprint(other.Port), "command": "HINCRBY fired ${firing.id} 1"},
		}
	}
	// The other Redis counts them.
	f.aside(mass...)
	if err := f.client.Create(t.Context(), plans...); err != nil {
		t.Fatal(err)
	}
	last := time.Now().Add(time.Second)
	eventually(t, "all to be overdue", 5*time.Second, func() bool { return time.Now().After(last) })

	for _, name := range []string{"a", "b", "c"} {
		f.start(name)
	}
	began := time.Now()
	fired := func() int64 {
		n, err := redistest.Try(other.Addr, "HLEN", "fired")
		if err != nil {
			t.Fatal(err)
		}
		return n.(int64)
	}
	eventually(t, "the overdue to fire", 2*time.Minute, func() bool { return fired() == int64(overdue) })
	drained := time.Now()
	f.event("%d overdue have fired in %s", overdue, drained.Sub(began).Round(time.Millisecond))
	eventually(t, "actions that hang in all slots for their target", 30*time.Second, func() bool { return hang.Count() >= targets })
	time.Sleep(time.Until(drained.Add(quiet * time.Second)))
	hang.Release()
	released := time.Now()
	f.event("the target that hung answers")
	eventually(t, "what hung to end", time.Minute, func() bool { return hang.Count() >= hanging })
	ended := time.Now()
	time.Sleep(time.Until(ended.Add((quiet + 1) * time.Second)))

	v := f.judge(ledger.Rules{Until: time.Now().Unix() - 1, MaxLate: 5 * time.Minute}, 30*time.Second)
	for _, count := range redistest.Do(t, other.Addr, "HVALS", "fired").([]any) {
		if count != "1" {
			t.Fatalf("a redis action ran %v times", count)
		}
	}
	// latest is how late the probes of the seconds that lie between two times were:
	// the median, and the latest.
	latest := func(from, to time.Time) (median, most time.Duration) {
		var lates []time.Duration
		for _, r := range f.sink.Receipts() {
			if due := time.Unix(r.Due, 0); strings.HasPrefix(r.Key, "probe-") && due.After(from) && due.Before(to) {
				lates = append(lates, r.At.Sub(due))
			}
		}
		if len(lates) == 0 {
			return 0, 0
		}
		slices.Sort(lates)
		return lates[len(lates)/2], lates[len(lates)-1]
	}
	massMedian, massMost := latest(began, drained)
	hangMedian, hangMost := latest(drained, released)
	median, most := latest(ended, time.Now())
	t.Logf("late, median and most: %s %s while %d overdue fired in %s; %s %s while %d hung; %s %s in the control",
		massMedian, massMost, overdue, drained.Sub(began).Round(time.Millisecond), hangMedian, hangMost, targets, median, most)
	t.Log(v)
	if massMost > most+tolerance || hangMost > most+tolerance {
		t.Errorf("the latest of other targets: %s and %s, want at most %s beyond the %s of the control", massMost, hangMost, tolerance, most)
	}
	if massMedian > median+medianTolerance || hangMedian > median+medianTolerance {
		t.Errorf("the median of other targets: %s and %s, want at most %s beyond the %s of the control", massMedian, hangMedian, medianTolerance, median)
	}
}
