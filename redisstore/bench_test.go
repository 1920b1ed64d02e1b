package redisstore

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/snower/forsun/redisstore/redistest"
	"github.com/snower/forsun/scheduler"
	"github.com/snower/forsun/scheduler/storetest"
)

// redisCPU is the processor time of a server's main thread so far.
func redisCPU(b testing.TB, s *Store) time.Duration {
	b.Helper()
	info, err := s.client.Do(context.Background(), s.client.B().Info().Section("cpu").Build()).ToString()
	if err != nil {
		b.Fatal(err)
	}
	var total float64
	for line := range strings.SplitSeq(info, "\r\n") {
		name, value, _ := strings.Cut(line, ":")
		if name == "used_cpu_sys_main_thread" || name == "used_cpu_user_main_thread" {
			f, err := strconv.ParseFloat(value, 64)
			if err != nil {
				b.Fatal(err)
			}
			total += f
		}
	}
	return time.Duration(total * float64(time.Second))
}

func benchStore(b *testing.B, o Options) *Store {
	b.Helper()
	s, err := Open(context.Background(), o)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	return s
}

// benchRedis is the address of a server: that of BENCH_REDIS, which may run under a
// profiler (valgrind --tool=callgrind --instr-atstart=no), or a fresh one.
func benchRedis(b *testing.B) string {
	if addr := os.Getenv("BENCH_REDIS"); addr != "" {
		return addr
	}
	return redistest.Start(b).Addr
}

// begin runs the command BENCH_BEGIN, where what is measured begins: callgrind_control -i on.
func begin(b *testing.B) {
	command := os.Getenv("BENCH_BEGIN")
	if command == "" || b.N == 1 {
		return
	}
	if out, err := exec.Command("sh", "-c", command).CombinedOutput(); err != nil {
		b.Fatalf("%s: %v: %s", command, err, out)
	}
}

// storeDue stores n plans that are due, of 16-byte keys and 100 bytes of parameters.
func storeDue(b *testing.B, s *Store, n int, due int64, opts ...storetest.PlanOption) {
	b.Helper()
	const batch = 1000
	for from := 0; from < n; from += batch {
		var plans []*scheduler.Plan
		for i := from; i < min(from+batch, n); i++ {
			plans = append(plans, storetest.NewPlan(fmt.Sprintf("plan-%011d", i), append([]storetest.PlanOption{
				storetest.WithDue(due), storetest.WithParams(map[string]string{"url": strings.Repeat("x", 97)}),
			}, opts...)...))
		}
		for _, err := range s.Put(context.Background(), plans) {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
}

// BenchmarkCycle is what a firing costs: read, claimed, taken by a worker or handed to it
// by the claim, finished with its history, in batches, one after the other.
func BenchmarkCycle(b *testing.B) {
	for _, kind := range []struct {
		name  string
		opts  []storetest.PlanOption
		next  int64
		slots int // of the replica that claims
	}{
		{"once", nil, 0, 0},
		{"once, handed out", nil, 0, 100},
		{"every minute", []storetest.PlanOption{storetest.Every(60, 0)}, 3600 + 60, 0},
		{"every minute, handed out", []storetest.PlanOption{storetest.Every(60, 0)}, 3600 + 60, 100},
	} {
		b.Run(kind.name, func(b *testing.B) {
			ctx := context.Background()
			s := benchStore(b, testOptions(benchRedis(b)))
			due := time.Now().Unix() - 3600
			storeDue(b, s, b.N, due, kind.opts...)
			begin(b)
			lease, err := s.Campaign(ctx, 0, "leader")
			if err != nil {
				b.Fatal(err)
			}
			before := redisCPU(b, s)
			b.ReportAllocs()
			b.ResetTimer()
			for done := 0; done < b.N; {
				page, err := s.Due(ctx, scheduler.DueQuery{Action: storetest.DefaultAction, From: due, To: due, Limit: 100})
				if err != nil {
					b.Fatal(err)
				}
				if time.Until(lease.Until) < time.Second {
					if lease, err = s.Renew(ctx, lease); err != nil {
						b.Fatal(err)
					}
				}
				claims := make([]scheduler.Claim, len(page.Plans))
				for i, p := range page.Plans {
					claims[i] = scheduler.Claim{Key: p.Key, Revision: p.Revision, Due: p.Due, FireDue: p.Due}
					if kind.next != 0 {
						claims[i].Next = p.Due + kind.next
					}
				}
				reply, err := s.Claim(ctx, scheduler.ClaimBatch{
					Lease: lease, Action: storetest.DefaultAction, Cutoff: time.Now().Unix(), Claims: claims, Worker: "w", Slots: kind.slots,
				})
				if err != nil {
					b.Fatal(err)
				}
				fs := reply.Firings
				if kind.slots == 0 {
					if fs, _, err = s.Take(ctx, scheduler.TakeRequest{Worker: "w", Slots: map[string]int{storetest.DefaultAction: 100}}); err != nil {
						b.Fatal(err)
					}
				}
				finishes := make([]scheduler.Finish, len(fs))
				now := time.Now()
				for i, f := range fs {
					finishes[i] = scheduler.Finish{Firing: f, Verdict: scheduler.Done, Attempt: &scheduler.Attempt{
						Firing: f.ID(), Key: f.Plan.Key, Action: f.Plan.Action, Due: f.Due, Attempt: 1,
						Started: now, Late: now.Sub(time.Unix(f.Due, 0)), Outcome: scheduler.Succeeded, Replica: "replica-1",
					}}
				}
				if _, err := s.Finish(ctx, 0, "w", finishes); err != nil {
					b.Fatal(err)
				}
				if len(fs) == 0 {
					b.Fatal("nothing came")
				}
				done += len(fs)
			}
			b.StopTimer()
			b.ReportMetric(float64((redisCPU(b, s)-before).Nanoseconds())/float64(b.N)/1000, "redis-µs/op")
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "firings/s")
		})
	}
}

// BenchmarkMemory is what a pending plan takes in Redis, all keys together.
func BenchmarkMemory(b *testing.B) {
	for _, kind := range []struct {
		name string
		opts []storetest.PlanOption
	}{{"once", nil}, {"every minute", []storetest.PlanOption{storetest.Every(60, 0)}}} {
		b.Run(kind.name, func(b *testing.B) {
			s := benchStore(b, testOptions(redistest.Start(b).Addr))
			used := func() int64 {
				info, err := s.client.Do(context.Background(), s.client.B().Info().Section("memory").Build()).ToString()
				if err != nil {
					b.Fatal(err)
				}
				_, rest, _ := strings.Cut(info, "used_memory:")
				n, _, _ := strings.Cut(rest, "\r\n")
				v, err := strconv.ParseInt(n, 10, 64)
				if err != nil {
					b.Fatal(err)
				}
				return v
			}
			before := used()
			cpu := redisCPU(b, s)
			b.ResetTimer()
			storeDue(b, s, b.N, time.Now().Unix()+86400, kind.opts...)
			b.StopTimer()
			b.ReportMetric(float64(used()-before)/float64(b.N), "B/plan")
			b.ReportMetric(float64((redisCPU(b, s)-cpu).Nanoseconds())/float64(b.N)/1000, "redis-µs/op")
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "plans/s")
		})
	}
}

// BenchmarkCreates is what creates of one plan each cost, of 16 callers.
func BenchmarkCreates(b *testing.B) {
	s := benchStore(b, testOptions(redistest.Start(b, "appendonly yes").Addr))
	cpu := redisCPU(b, s)
	var next atomic.Int64
	var callers sync.WaitGroup
	b.ResetTimer()
	for range 16 {
		callers.Go(func() {
			for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
				ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
				p := storetest.NewPlan(fmt.Sprintf("plan-%011d", n), storetest.WithDue(time.Now().Unix()+86400),
					storetest.WithParams(map[string]string{"url": strings.Repeat("x", 97)}))
				if err := s.Put(ctx, []*scheduler.Plan{p})[0]; err != nil {
					b.Error(err)
				}
				cancel()
			}
		})
	}
	callers.Wait()
	b.StopTimer()
	b.ReportMetric(float64((redisCPU(b, s)-cpu).Nanoseconds())/float64(b.N)/1000, "redis-µs/op")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "plans/s")
}
