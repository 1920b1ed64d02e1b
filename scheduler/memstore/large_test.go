package memstore

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/snower/forsun/scheduler"
)

// BenchmarkTenMillion holds 10,000,000 pending plans, with 16-byte keys and
// 100 bytes of parameters, spread over a day in no order, and reports what that
// takes. It runs for minutes and needs 3 GB of disk: only with
// FORSUN_BENCH_LARGE=1.
func BenchmarkTenMillion(b *testing.B) {
	if os.Getenv("FORSUN_BENCH_LARGE") == "" {
		b.Skip("set FORSUN_BENCH_LARGE=1")
	}
	const n = 10_000_000
	o := benchOptions(b)
	s := open(b, o)
	start := time.Now()
	for from := 0; from < n; from += 1000 {
		plans := make([]*scheduler.Plan, 1000)
		for k := range plans {
			i := int64(from + k)
			p := plan(fmt.Sprintf("order:%010d", i*7919%1e9), 3_000_000_000+i*104729%86400)
			p.Params = map[string]string{"url": fmt.Sprintf("http://10.0.%d.%d:8080/callback/orders/expire?order=%010d&token=%08x%s",
				i%3, i%250, i, uint32(i*2654435761), strings.Repeat("x", 20))}
			plans[k] = p
		}
		for _, err := range s.Put(b.Context(), plans) {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(n/time.Since(start).Seconds(), "puts/s")
	b.ReportMetric(float64(resident(b))/1e6, "MB-resident-after-puts")
	rest(b, s)
	b.ReportMetric(float64(diskUse(b, o.Dir))/1e6, "MB-disk")
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	start = time.Now()
	s = open(b, o)
	b.ReportMetric(time.Since(start).Seconds(), "s-open")
	if got := s.snapshot().plans; got != n {
		b.Errorf("%d plans, want %d", got, n)
	}
	const due = 100_000
	for i := range 5 {
		sec := time.Now().Unix() - 5
		fill(b, s, (i+1)*due, due, sec)
		rest(b, s)
		l, err := s.Campaign(b.Context(), shardID, fmt.Sprint(i))
		if err != nil {
			b.Fatal(err)
		}
		start, used := time.Now(), cpu()
		burst(b, s, l, sec, due, 1000)
		b.ReportMetric(due/time.Since(start).Seconds(), "firings/s")
		b.ReportMetric(float64((cpu()-used).Microseconds())/due, "cpu-µs/firing")
		b.Logf("burst %d: %.0f firings/s, resident %d MB", i, due/time.Since(start).Seconds(), resident(b)/1e6)
	}
	b.Logf("resident %d MB, disk %d MB", resident(b)/1e6, diskUse(b, o.Dir)/1e6)
}

// resident is the resident size of this process, in bytes.
func resident(b *testing.B) int64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		var kb int64
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &kb); err == nil {
			return kb << 10
		}
	}
	b.Fatal("no VmRSS")
	return 0
}

// diskUse is the size of all files under dir.
func diskUse(b *testing.B, dir string) (size int64) {
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || e.Name() == ballastName {
			return err
		}
		info, err := e.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return size
}
