package memstore

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/snower/forsun/scheduler"
	"github.com/snower/forsun/scheduler/storetest"
)

// TestCompactionsWaitForABurst: none begins while much is claimed, and all that was put
// off comes after it.
func TestCompactionsWaitForABurst(t *testing.T) {
	t.Parallel()
	o := DefaultOptions()
	o.Dir = Memory
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	stop := make(chan struct{})
	var claiming sync.WaitGroup
	claiming.Go(func() {
		for {
			s.compactions.note(manyClaims)
			s.compactions.note(1) // a few claims are no burst, and end none
			select {
			case <-stop:
				return
			case <-time.After(burstLasts / 20):
			}
		}
	})
	time.Sleep(burstLasts) // whatever opening began has ended
	before := s.db.Metrics().Compact.Count
	for round := range 8 { // tables that overlap
		var plans []*scheduler.Plan
		for i := range 500 {
			plans = append(plans, storetest.NewPlan(fmt.Sprintf("p%03d-%d", i, round)))
		}
		for _, err := range s.Put(t.Context(), plans) {
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := s.db.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(3 * burstLasts)
	if n := s.db.Metrics().Compact.Count - before; n != 0 {
		t.Errorf("%d compactions in the midst of a burst", n)
	}
	close(stop)
	claiming.Wait()
	for deadline := time.Now().Add(10 * time.Second); s.db.Metrics().Compact.Count == before; time.Sleep(grantEvery) {
		if time.Now().After(deadline) {
			t.Fatal("no compaction after the burst")
		}
	}
}
