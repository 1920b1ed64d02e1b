package heap_test

import (
	"os"
	"os/exec"
	"runtime"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/snower/forsun/cmd/heap"
)

var kept, thrownAway []byte

// TestTune makes garbage in a process of its own, whose heap is small, large, or small
// with another wish in its environment, and counts the collections.
func TestTune(t *testing.T) {
	if asked := os.Getenv("HEAP_LIVE"); asked != "" {
		live, err := strconv.Atoi(asked)
		if err != nil {
			t.Fatal(err)
		}
		os.Stdout.WriteString("collections: " + strconv.FormatUint(collections(live<<20, 1<<30), 10) + "\n")
		return
	}
	for _, row := range []struct {
		name, live string
		env        []string
		from, to   int // collections while a gigabyte of garbage is made
	}{
		{"small", "30", nil, 7, 16},                                       // every 98 MB
		{"large", "200", nil, 2, 8},                                       // every 200 MB, as without
		{"tiny", "4", nil, 15, 80},                                        // every 16 MB
		{"as the environment wishes", "30", []string{"GOGC=100"}, 20, 60}, // every 30 MB
		{"in little memory", "30", []string{"GOMEMLIMIT=64MiB"}, 20, 120}, // every 30 MB, or less
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(os.Args[0], "-test.run=^TestTune$")
			others := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "GO") || strings.HasPrefix(v, "AUTOMEMLIMIT") })
			cmd.Env = slices.Concat(others, []string{"GOMEMLIMIT=off"}, row.env, []string{"HEAP_LIVE=" + row.live})
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			_, after, _ := strings.Cut(string(out), "collections: ")
			said, _, _ := strings.Cut(after, "\n")
			n, err := strconv.Atoi(said)
			if err != nil || n < row.from || n > row.to {
				t.Errorf("%s collections, allowed: %d to %d", out, row.from, row.to)
			}
		})
	}
}

// collections returns how many there are while so much garbage is made beside a heap of
// which live bytes are in use.
func collections(live, garbage int) uint64 {
	kept = make([]byte, live)
	heap.Tune()
	runtime.GC()
	runtime.GC() // by when the cleanup of the one before has run, or soon will have
	before := cycles()
	for range garbage / 1024 {
		thrownAway = make([]byte, 1024)
	}
	return cycles() - before
}

func cycles() uint64 {
	n := []metrics.Sample{{Name: "/gc/cycles/total:gc-cycles"}}
	metrics.Read(n)
	return n[0].Value.Uint64()
}
