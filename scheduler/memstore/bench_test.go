package memstore

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/snower/forsun/scheduler"
)

// benchOptions are the defaults, on disk.
func benchOptions(b *testing.B) Options {
	o := DefaultOptions()
	o.Dir = b.TempDir()
	o.Log = zerolog.Nop()
	return o
}

// cpu is the processor time this process has used. On a machine with other work it
// says more than the time on the wall.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkPutSynced64 stores new plans from 64 clients at once, each waiting for
// its own to be on disk; BenchmarkPutSynced16 and 1 from fewer.
func BenchmarkPutSynced64(b *testing.B) { benchPutSynced(b, 64) }
func BenchmarkPutSynced16(b *testing.B) { benchPutSynced(b, 16) }
func BenchmarkPutSynced1(b *testing.B)  { benchPutSynced(b, 1) }

func benchPutSynced(b *testing.B, many int) {
	s := open(b, benchOptions(b))
	var n atomic.Int64
	var clients sync.WaitGroup
	b.ReportAllocs()
	start := cpu()
	for b.Loop() {
		// One operation is 100 plans of each.
		for range many {
			clients.Go(func() {
				for range 100 {
					i := n.Add(1)
					p := plan(fmt.Sprintf("order-%010d", i*7919%1e9), 2_000_000_000+i%3600)
					if err := s.Put(b.Context(), []*scheduler.Plan{p})[0]; err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		clients.Wait()
	}
	b.ReportMetric(float64(n.Load())/b.Elapsed().Seconds(), "plans/s")
	b.ReportMetric(float64((cpu()-start).Microseconds())/float64(n.Load()), "cpu-µs/plan")
}

// BenchmarkPutBulk stores new plans 1,000 a call from 4 clients.
func BenchmarkPutBulk(b *testing.B) {
	s := open(b, benchOptions(b))
	var n atomic.Int64
	var clients sync.WaitGroup
	start := cpu()
	for b.Loop() {
		for range 4 {
			clients.Go(func() {
				plans := make([]*scheduler.Plan, 1000)
				for k := range plans {
					i := n.Add(1)
					plans[k] = plan(fmt.Sprintf("order-%010d", i*7919%1e9), 2_000_000_000+i%3600)
				}
				for _, err := range s.Put(b.Context(), plans) {
					if err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		clients.Wait()
	}
	b.ReportMetric(float64(n.Load())/b.Elapsed().Seconds(), "plans/s")
	b.ReportMetric(float64((cpu()-start).Microseconds())/float64(n.Load()), "cpu-µs/plan")
}

// fill stores n plans due at the second due.
func fill(b *testing.B, s *Store, from, n int, due int64) {
	for n > 0 {
		plans := make([]*scheduler.Plan, min(n, 5000))
		for k := range plans {
			plans[k] = plan(fmt.Sprintf("order-%010d", (from+k)*7919%1e9), due)
		}
		for _, err := range s.Put(b.Context(), plans) {
			if err != nil {
				b.Fatal(err)
			}
		}
		from, n = from+len(plans), n-len(plans)
	}
}

// burst claims, takes and finishes the n plans due at sec: one leader, two workers,
// as the engine does it with actions that do nothing.
func burst(b *testing.B, s *Store, l scheduler.Lease, sec int64, n, batch int) {
	ctx, cancel := context.WithTimeout(b.Context(), 5*time.Minute)
	defer cancel()
	var left atomic.Int64
	left.Store(int64(n))
	done := make(chan struct{})
	wake := make(chan struct{}, 2)
	var tasks sync.WaitGroup
	tasks.Go(func() {
		after := ""
		for {
			page, err := s.Due(ctx, scheduler.DueQuery{Action: "http", From: sec - 60, To: sec, After: after, Limit: batch})
			if err != nil {
				b.Error(err)
				return
			}
			c := scheduler.ClaimBatch{Lease: l, Action: "http", Cutoff: sec, Backlog: scheduler.Backlog{Entries: 200_000}}
			for _, p := range page.Plans {
				c.Claims = append(c.Claims, scheduler.Claim{Key: p.Key, Revision: p.Revision, Due: p.Due, FireDue: p.Due})
			}
			if _, err := s.Claim(ctx, c); err != nil {
				b.Error(err)
				return
			}
			select {
			case wake <- struct{}{}:
			default:
			}
			if after = page.Next; after == "" {
				return
			}
		}
	})
	for range 2 {
		tasks.Go(func() {
			for {
				fs, _, err := s.Take(ctx, scheduler.TakeRequest{Worker: "w", Slots: map[string]int{"http": 256}})
				if err != nil {
					b.Error(err)
					return
				}
				if len(fs) == 0 {
					select {
					case <-wake:
						continue
					case <-done:
						return
					case <-time.After(10 * time.Millisecond):
						continue
					}
				}
				ends := make([]scheduler.Finish, len(fs))
				now := time.Now()
				for i, f := range fs {
					ends[i] = scheduler.Finish{Firing: f, Verdict: scheduler.Done, Attempt: &scheduler.Attempt{
						Firing: f.ID(), Key: f.Plan.Key, Action: "http", Due: f.Due, Attempt: 1, Started: now,
						Outcome: scheduler.Succeeded, Replica: "host-1",
					}}
				}
				if _, err := s.Finish(ctx, 0, "w", ends); err != nil {
					b.Error(err)
					return
				}
				if left.Add(-int64(len(fs))) == 0 {
					close(done)
				}
			}
		})
	}
	tasks.Wait()
}

// rest waits until Pebble has nothing to compact.
func rest(b *testing.B, s *Store) {
	for quiet := 0; quiet < 5; time.Sleep(20 * time.Millisecond) {
		if m := s.db.Metrics(); m.Compact.NumInProgress == 0 && m.Flush.NumInProgress == 0 {
			quiet++
		} else {
			quiet = 0
		}
		if b.Context().Err() != nil {
			return
		}
	}
}

func benchCycle(b *testing.B, beside, n, batch int) {
	s := open(b, benchOptions(b))
	fill(b, s, 1<<28, beside, 3_000_000_000)
	l, err := s.Campaign(b.Context(), 0, "r")
	if err != nil {
		b.Fatal(err)
	}
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(200 * time.Millisecond):
				_, _ = s.Renew(context.Background(), l)
			}
		}
	}()
	total, from := 0, 0
	used := time.Duration(0)
	b.ResetTimer()
	for b.Loop() {
		b.StopTimer()
		sec := time.Now().Unix() - 5
		fill(b, s, from, n, sec)
		from += n
		rest(b, s)
		b.StartTimer()
		start := cpu()
		burst(b, s, l, sec, n, batch)
		used += cpu() - start
		total += n
	}
	b.ReportMetric(float64(total)/b.Elapsed().Seconds(), "firings/s")
	b.ReportMetric(float64(used.Microseconds())/float64(total), "cpu-µs/firing")
}

// BenchmarkCycle claims, takes and finishes 100,000 plans due in one second.
func BenchmarkCycle(b *testing.B)              { benchCycle(b, 0, 100_000, 1000) }
func BenchmarkCycleBesideMillion(b *testing.B) { benchCycle(b, 1_000_000, 100_000, 1000) }
