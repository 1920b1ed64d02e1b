package chaos

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/snower/forsun/redisstore/redistest"
	"github.com/snower/forsun/scripts/chaos/ledger"
)

// TestC13Million: 1,000,000 plans are due in one second. Each fires once, those of every
// second go on meanwhile, and other clients of that Redis hardly notice: their p99 is told.
func TestC13Million(t *testing.T) {
	n := pick(50_000, 1_000_000)
	defer debug.SetGCPercent(debug.SetGCPercent(800)) // the ledger is as busy as the fleet, and remembers everything
	f := newFleet(scenario(t, "C13"), "--slots=redis=2048", "--target-slots=2048", "--misfire-grace=5m")
	f.mix()
	names := []string{"a", "b", "c"}
	for _, name := range names {
		f.start(name)
	}
	f.spread(len(names))
	// The load generator is several clients: each waits for its answer.
	due := time.Now().Truncate(time.Second).Add(pick(15*time.Second, 100*time.Second))
	const clients = 4
	var creating sync.WaitGroup
	for c := range clients {
		creating.Go(func() {
			for from := c * ledger.BulkSize; from < n; from += clients * ledger.BulkSize {
				plans := make([]ledger.Plan, min(ledger.BulkSize, n-from))
				for i := range plans {
					plans[i] = ledger.RedisPlan(fmt.Sprintf("of-a-million-%07d", from+i), ledger.Spec{Calendar: ledger.OnDate(due)}, f.list.Addr)
				}
				if err := f.client.Create(t.Context(), plans...); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	creating.Wait()
	if late := time.Since(due); late > 0 {
		t.Fatalf("storing %d took %s longer than it may", n, late)
	}
	f.event("%d plans are stored, %s before they are due", n, time.Until(due).Round(time.Millisecond))
	steady := make([]ledger.Plan, 20)
	for i := range steady {
		steady[i] = ledger.HTTPPlan(fmt.Sprintf("steady-%d", i), ledger.Spec{Calendar: ledger.EachSecond()}, f.sink.URL)
	}
	if err := f.client.Create(t.Context(), steady...); err != nil {
		t.Fatal(err)
	}

	ctx, stop := context.WithCancel(t.Context())
	var asking sync.WaitGroup
	before, during := []time.Duration{}, []time.Duration{}
	asking.Go(func() { // another client of that Redis
		c, err := redistest.Dial(f.redis.Addr)
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		for ctx.Err() == nil {
			at := time.Now()
			if _, err := c.Do("GET", "another client's"); err != nil {
				t.Error(err)
				return
			}
			if took := time.Since(at); at.Before(due) {
				before = append(before, took)
			} else {
				during = append(during, took)
			}
			time.Sleep(2 * time.Millisecond)
		}
	})
	left := func() (left int64) {
		for shard := range shards {
			left += redistest.Do(t, f.redis.Addr, "ZCARD", fmt.Sprintf("forsun:{%d}:schedule:redis", shard)).(int64)
		}
		return left
	}
	time.Sleep(time.Until(due))
	eventually(t, "all to be claimed", 4*time.Minute, func() bool { time.Sleep(100 * time.Millisecond); return left() == 0 })
	f.event("all are claimed %s after their second", time.Since(due).Round(time.Millisecond))
	eventually(t, "all to have run", 4*time.Minute, func() bool {
		time.Sleep(100 * time.Millisecond)
		return redistest.Do(t, f.list.Addr, "LLEN", "receipts").(int64) >= int64(n)
	})
	took := time.Since(due)
	stop()
	asking.Wait()
	for _, p := range steady {
		if err := f.client.Remove(t.Context(), p.Key); err != nil {
			t.Fatal(err)
		}
	}
	v := f.judge(ledger.Rules{Until: time.Now().Unix() - 1, MaxLate: 4 * time.Minute}, time.Minute)
	t.Logf("%d in %s, %d a second; another client's GET p99 %s, %s before: %s",
		n, took.Round(time.Millisecond), int(float64(n)/took.Seconds()), p99(during), p99(before), v)
	f.event("another client's GET: p99 %s, was %s", p99(during), p99(before))
	f.notLogged(rescued)
	f.doctor()
}

func p99(all []time.Duration) time.Duration {
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[len(all)*99/100].Round(10 * time.Microsecond)
}
