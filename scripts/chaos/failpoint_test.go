//go:build failpoints

package chaos

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/snower/forsun/scripts/chaos/ledger"
)

// failpoints are the places in forsund where order is correctness, and how many come by
// before one acts there: so many that it does so under load, which begins first.
var failpoints = []struct {
	name     string
	n        int
	embedded bool
}{
	{name: "after-lock", n: 1},
	{name: "before-extend", n: 4},
	{name: "after-read", n: 50},
	{name: "after-trust-check", n: 5},
	{name: "before-claim-reply", n: 4},
	{name: "after-claim-reply", n: 5},
	{name: "before-action", n: 60},
	{name: "after-action", n: 60},
	{name: "after-finish", n: 15},
	{name: "before-sync", n: 40, embedded: true},
	{name: "after-sync", n: 40, embedded: true},
}

// What a process does at a failpoint.
var failures = []string{
	"exit",  // as by kill -9
	"stop",  // all of it stands still, for two lease times
	"stall", // so does the goroutine that is there, and only that
}

// TestFailpoints: whoever dies or stands still wherever order is correctness, nothing is
// lost, early, or run again but what the dead held.
func TestFailpoints(t *testing.T) {
	for _, point := range failpoints {
		for _, what := range failures {
			t.Run(point.name+"="+what, func(t *testing.T) {
				t.Parallel()
				s := scenario(t, "failpoint")
				armed := fmt.Sprintf("CHAOS_FAILPOINT=%s=%s:%d", point.name, what, point.n+s.rand.IntN(point.n))
				s.event("%s", armed)
				if point.embedded {
					failEmbedded(s, armed, what)
				} else {
					failReplica(s, armed, what)
				}
			})
		}
	}
}

// failReplica has one of three replicas fail, which comes last: the two others have
// begun with the load, and give it a shard to lead.
func failReplica(s *trial, armed, what string) {
	f := newFleet(s)
	f.start("b")
	f.start("c")
	f.spread(2)
	l := newLoad(f, 1_500, 18*time.Second)
	f.env = []string{armed}
	a := f.start("a")
	f.env = nil
	f.fail(a, what)
	f.judgeFailed(l, what)
}

// failEmbedded has the only process fail.
func failEmbedded(s *trial, armed, what string) {
	f := newFleetOn(s, nil, "--driver-mem-store-file="+filepath.Join(s.dir, "store"))
	f.env = []string{armed}
	a := f.start("a")
	f.env = nil
	l := newLoad(f, 1_000, 16*time.Second)
	f.fail(a, what)
	f.judgeFailed(l, what)
}

// fail waits until a replica fails at its failpoint, and sees to it that all goes on.
func (f *fleet) fail(r *replica, what string) {
	f.t.Helper()
	logged := func(message string) func() bool {
		return func() bool {
			line, err := r.logged(message)
			if err != nil {
				f.t.Fatal(err)
			}
			return line != nil
		}
	}
	eventually(f.t, "the failpoint to be reached", 20*time.Second, logged("failpoint"))
	f.event("%s has reached its failpoint", r.name)
	switch what {
	case "exit":
		f.kill(r.name, true) // it has ended by itself: this notes its death
		if f.redis != nil {
			time.Sleep(downFor)
		}
		f.start(r.name)
		return
	case "stop":
		f.pause(r) // it is paused: this waits until it stands
		time.Sleep(2 * leaseTime)
		f.resume(r)
	}
	eventually(f.t, "the failpoint to be passed", 20*time.Second, logged("past the failpoint"))
}

func (f *fleet) judgeFailed(l *load, what string) {
	f.t.Helper()
	until := l.wait()
	if len(f.deaths) > 0 && f.deaths[0].At.After(l.end) || what != "exit" && time.Since(l.end) > time.Second {
		f.t.Error("the failpoint was reached after the load: this has shown nothing")
	}
	v := f.judge(ledger.Rules{Until: until, MaxLate: 2*leaseTime + 2*claimWithin, Rerun: rerunWithin, Finish: finishWithin}, 30*time.Second)
	if what != "exit" {
		f.notLogged(rescued)
	}
	f.t.Log(v)
}

// TestFailpointsAreAll: the table has every failpoint of the product, and no others.
func TestFailpointsAreAll(t *testing.T) {
	call := regexp.MustCompile(`\bFailpoint\("([^"]+)"\)`)
	found := make(map[string]bool)
	for _, dir := range []string{"scheduler", "scheduler/memstore", "redisstore", "actions", "rpc"} {
		files, err := filepath.Glob(filepath.Join("../..", dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range call.FindAllStringSubmatch(string(text), -1) {
				found[m[1]] = true
			}
		}
	}
	var names []string
	for _, point := range failpoints {
		names = append(names, point.name)
	}
	slices.Sort(names)
	if got := slices.Sorted(maps.Keys(found)); !slices.Equal(got, names) {
		t.Errorf("failpoints in the product: %s; in the table: %s", strings.Join(got, ", "), strings.Join(names, ", "))
	}
}
