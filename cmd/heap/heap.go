// Package heap says how much memory a process of forsun takes for itself.
package heap

import (
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// Floor is the size a heap may reach before it is collected, unless that is more than five
// times what is in use, or a quarter of the limit; twice what is in use it may reach in any
// case, as ever in Go.
//
// What a forsund holds is small, some 10 MB, and what a burst of firings makes is garbage at
// once, so that it would be collected at every 20 MB of it: that was a sixth of the processor
// time of a firing. More than this gains nothing.
const Floor = 128 << 20

// LimitRatio is the part of the memory there is (for the process' cgroup, such as a
// container's, or in the machine) that the heap keeps to if it can: near it, garbage is
// collected all the time. The rest is for what is not on Go's heap, such as commands that
// run, and the embedded store's cache in a program that was built with cgo.
const LimitRatio = 0.8

// standard is Go's own percentage: by how much the heap may grow beyond what is in use.
const standard = 100

// most bounds the percentage: it holds on until some time after the next collection, by
// when much more may be in use.
const most = 400

// Tune sets both from now on. If the environment has GOGC, there is no floor; if it has
// GOMEMLIMIT, that is the limit.
func Tune() {
	limit, err := memlimit.Set(memlimit.WithRatio(LimitRatio), memlimit.WithProvider(memlimit.ApplyFallback(memlimit.FromCgroup, memlimit.FromSystem)))
	if err != nil || limit <= 0 {
		limit = math.MaxInt64 // it is not known: no limit was set
	}
	if _, set := os.LookupEnv("GOGC"); set {
		return
	}
	k := &keeper{floor: min(Floor, uint64(limit)/4), percent: standard}
	k.collected()
}

// keeper sets the percentage anew after each collection.
type keeper struct {
	floor   uint64
	percent int
}

// mark is an object that nothing refers to, so that the next collection finds it.
type mark struct{ _ [16]byte }

// collected adjusts the percentage to what the last collection left, and waits for the
// next. It runs in the runtime's own goroutine.
func (k *keeper) collected() {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	if p := k.wish(live[0].Value.Uint64()); differs(p, k.percent) {
		k.percent = p
		debug.SetGCPercent(p)
	}
	runtime.AddCleanup(new(mark), func(k *keeper) { k.collected() }, k)
}

// wish returns by how much a heap may grow beyond live.
func (k *keeper) wish(live uint64) int {
	if live == 0 {
		return most // no collection yet
	}
	if live >= k.floor {
		return standard
	}
	return int(min(max((k.floor-live)*100/live, standard), most))
}

// differs says whether b is too far from a to be left as it is.
func differs(a, b int) bool { return a*10 < b*9 || a*9 > b*10 }
