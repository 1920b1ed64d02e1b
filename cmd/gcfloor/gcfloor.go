// Package gcfloor lets a small heap grow to a certain size before it is collected.
//
// Go collects when the heap has doubled. What a forsund holds is small, some 10 MB, and
// what a burst of firings makes is garbage at once, so that it would be collected at
// every 20 MB of it: a sixth of the processor time of a firing.
package gcfloor

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// Bytes is the floor for forsund: the size a heap may reach before it is collected, unless
// that is more than five times what is in use; twice that it may reach in any case. A
// firing costs 15 % less of Go's processor time than without it; more gains nothing.
const Bytes = 128 << 20

// standard is Go's own percentage: by how much the heap may grow beyond what is in use.
const standard = 100

// most bounds the percentage: it holds on until some time after the next collection, by
// when much more may be in use.
const most = 400

// Keep keeps the floor from now on. It does nothing if the environment has GOGC, which
// says what is wished; a limit by GOMEMLIMIT goes before it in any case.
func Keep(floor uint64) {
	if _, set := os.LookupEnv("GOGC"); set {
		return
	}
	k := &keeper{floor: floor, percent: standard}
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
	if p := percent(k.floor, live[0].Value.Uint64()); differs(p, k.percent) {
		k.percent = p
		debug.SetGCPercent(p) // stops the world for some microseconds
	}
	runtime.AddCleanup(new(mark), func(k *keeper) { k.collected() }, k)
}

// percent returns by how much a heap may grow beyond live to reach the floor.
func percent(floor, live uint64) int {
	if live == 0 {
		return most // no collection yet
	}
	if live >= floor {
		return standard
	}
	return int(min(max((floor-live)*100/live, standard), most))
}

// differs says whether b is too far from a to be left as it is.
func differs(a, b int) bool { return a*10 < b*9 || a*9 > b*10 }
