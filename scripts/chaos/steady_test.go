package chaos

import (
	"fmt"
	"testing"
	"time"

	"github.com/snower/forsun/scripts/chaos/ledger"
)

// TestC01Steady: nothing happens. Three replicas fire 2,000 a second over HTTP, Thrift and
// into a list, for a minute and, long, for ten. Everything fires once, and what it took of
// the machine is given back.
func TestC01Steady(t *testing.T) {
	const (
		perSecond = 2_000
		recurring = 1_500 // of these are due in each second
		perPlan   = 1.24  // firings, of the others
	)
	span := pick3(10*time.Second, time.Minute, 10*time.Minute)
	f := newFleet(scenario(t, "C1"), "--action-idle=1s")
	f.mix()
	var before []usage
	names := []string{"a", "b", "c"}
	for _, name := range names {
		f.start(name)
	}
	f.spread(len(names))
	for _, name := range names {
		before = append(before, f.usage(f.replicas[name]))
	}
	plans := make([]ledger.Plan, recurring)
	for i := range plans {
		plans[i] = f.plan(i, fmt.Sprintf("steady-%04d", i), ledger.Spec{Calendar: ledger.EachSecond()}, "/")
	}
	if err := f.client.Create(t.Context(), plans...); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	others := float64(perSecond-recurring) / perPlan * span.Seconds()
	l := newLoad(f, int(others), span)
	until := l.wait()
	f.rate(began.Add(2*time.Second), time.Now(), perSecond*9/10)
	for _, p := range plans {
		if err := f.client.Remove(t.Context(), p.Key); err != nil {
			t.Fatal(err)
		}
	}
	v := f.judge(ledger.Rules{Until: until, MaxLate: anyLate}, time.Minute)
	t.Log(v)
	if v.P99 > time.Second {
		t.Errorf("late p99 %s: one second's firings are there when the next begins", v.P99)
	}
	f.notLogged(rescued)
	f.doctor()
	for i, name := range names {
		f.returned(f.replicas[name], before[i])
	}
}
