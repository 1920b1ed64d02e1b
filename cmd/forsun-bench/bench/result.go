package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Result is what a benchmark measured; what it does not measure is 0, lateness null.
// The names of its JSON form do not change.
type Result struct {
	Benchmark    string   `json:"benchmark"`
	Plans        int64    `json:"plans"`
	Fired        int64    `json:"fired"`
	Seconds      float64  `json:"seconds"`    // that the measured part took
	PerSecond    float64  `json:"per_second"` // plans created or fired in it
	Late         *Late    `json:"late_ms"`
	Early        int64    `json:"early"`
	Duplicates   int64    `json:"duplicates"`
	BytesPerPlan float64  `json:"bytes_per_plan"`                  // in Redis' memory, or on disk
	BytesStored  float64  `json:"bytes_per_plan_stored,omitempty"` // in Redis' memory, just stored: before the index was packed
	DiskBytes    int64    `json:"disk_bytes,omitempty"`
	RedisBytes   int64    `json:"redis_bytes,omitempty"`
	RSS          int64    `json:"rss_bytes"`
	Restart      *float64 `json:"restart_seconds,omitempty"`           // from opening the store to the first firing
	RedisCPU     float64  `json:"redis_cpu_us_per_firing"`             // of all threads of all masters
	CPU          float64  `json:"forsund_cpu_us_per_firing"`           // of the process that is measured
	Allocs       float64  `json:"allocs_per_firing"`                   // in this process
	Others       *Late    `json:"other_clients_ms,omitempty"`          // how long other clients of Redis waited meanwhile
	RedisCreate  float64  `json:"redis_cpu_us_per_create,omitempty"`   // of the plans that were created
	CPUCreate    float64  `json:"forsund_cpu_us_per_create,omitempty"` // in this process clients included
	Stolen       float64  `json:"stolen_percent"`                      // of the time that processors were wanted meanwhile: other guests of this machine's host had them
	Total        float64  `json:"total_seconds"`
}

// Late is how late firings began, in milliseconds after their due second.
type Late struct {
	P50  float64 `json:"p50"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p999"`
	Max  float64 `json:"max"`
}

func lateness(ds []time.Duration) *Late {
	if len(ds) == 0 {
		return nil
	}
	slices.Sort(ds)
	at := func(q float64) float64 {
		return float64(ds[min(int(q*float64(len(ds))), len(ds)-1)].Microseconds()) / 1000
	}
	return &Late{P50: at(0.50), P99: at(0.99), P999: at(0.999), Max: at(1)}
}

func (r *Result) print(w io.Writer, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(r)
	}
	fmt.Fprintf(w, "%-9s %d plans in %.2f s: %.0f/s\n", r.Benchmark, max(r.Plans, r.Fired), r.Seconds, r.PerSecond)
	if r.Late != nil {
		fmt.Fprintf(w, "late      p50 %.1f ms, p99 %.1f ms, p99.9 %.1f ms, max %.1f ms\n", r.Late.P50, r.Late.P99, r.Late.P999, r.Late.Max)
		fmt.Fprintf(w, "wrong     %d early, %d twice\n", r.Early, r.Duplicates)
	}
	if r.DiskBytes > 0 {
		fmt.Fprintf(w, "disk      %d MB, %.0f bytes a plan\n", r.DiskBytes>>20, r.BytesPerPlan)
	}
	if r.DiskBytes == 0 && r.BytesPerPlan > 0 {
		fmt.Fprintf(w, "redis     %.0f bytes a plan", r.BytesPerPlan)
		if r.BytesStored > 0 {
			fmt.Fprintf(w, ", %.0f just stored, before the index was packed", r.BytesStored)
		}
		fmt.Fprintln(w)
	}
	if r.Restart != nil {
		fmt.Fprintf(w, "restart   %.2f s to the first firing\n", *r.Restart)
	}
	if r.CPU > 0 {
		fmt.Fprintf(w, "cpu       %.1f µs a firing", r.CPU)
		if r.RedisCPU > 0 {
			fmt.Fprintf(w, ", and %.1f µs of Redis", r.RedisCPU)
		}
		fmt.Fprintln(w)
	}
	if r.CPUCreate > 0 {
		fmt.Fprintf(w, "cpu       %.1f µs a plan", r.CPUCreate)
		if r.RedisCreate > 0 {
			fmt.Fprintf(w, ", and %.1f µs of Redis", r.RedisCreate)
		}
		fmt.Fprintln(w)
	}
	if r.Allocs > 0 {
		fmt.Fprintf(w, "memory    %.1f allocations a firing\n", r.Allocs)
	}
	if r.Others != nil {
		fmt.Fprintf(w, "others    clients of that Redis waited p50 %.1f ms, p99 %.1f ms, max %.1f ms\n", r.Others.P50, r.Others.P99, r.Others.Max)
	}
	if r.Stolen >= 1 {
		fmt.Fprintf(w, "stolen    %.0f %% of the processors' time, by other guests of this machine's host: it can do better\n", r.Stolen)
	}
	_, err := fmt.Fprintf(w, "memory    %d MB resident\n", r.RSS>>20)
	return err
}

// rss returns this process's resident memory in bytes, 0 where it cannot be read.
func rss() int64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(b))
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize())
}

// ticks are processor time of the whole machine.
type ticks struct{ busy, steal float64 }

// machine returns what /proc/stat says since the start; nothing where there is none.
func machine() (t ticks) {
	stat, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(stat), "\n")
	return readTicks(line)
}

// readTicks reads "cpu", user, nice, system, idle, iowait, irq, softirq, steal: proc(5).
func readTicks(line string) (t ticks) {
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return ticks{}
	}
	for i, field := range fields[1:9] {
		n, err := strconv.ParseFloat(field, 64)
		switch {
		case err != nil:
			return ticks{}
		case i == 7:
			t.steal = n
		case i != 3 && i != 4:
			t.busy += n
		}
	}
	return t
}

// stolen is which part of what was wanted since was not had, in percent.
func (t ticks) stolen(since ticks) float64 {
	stolen, busy := t.steal-since.steal, t.busy-since.busy
	if stolen <= 0 {
		return 0
	}
	return 100 * stolen / (stolen + busy)
}

// cpuTime returns what this process has used of all processors.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
