package memstore

import (
	"context"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/snower/forsun/scheduler"
)

// childEnv marks the process that runs a test of its own: see inChild.
const childEnv = "FORSUN_MEMSTORE_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		os.Exit(m.Run())
	}
	goleak.VerifyTestMain(m)
}

// inChild runs the test in a process of its own and reports false to the one that
// does so: a store that fails leaves goroutines behind that wait for their process to end.
func inChild(t *testing.T) bool {
	t.Helper()
	if os.Getenv(childEnv) != "" {
		return true
	}
	if out := child(t, "^"+t.Name()+"$"); !strings.Contains(out, "--- PASS: "+t.Name()) {
		t.Errorf("the test did not run:\n%s", out)
	}
	return false
}

// fromEnv says where a part of the wide form begins.
const fromEnv = "FORSUN_MEMSTORE_FROM"

// moreParts is logged by a part that is not the last.
const moreParts = "another part follows"

// inParts runs the test in a process of its own as inChild does, the sample; wide, in
// one after the other, each for a part of step places: every store that fails leaves its
// memory behind. It says where the part begins, -1 for the sample.
func inParts(t *testing.T, step int) (from int, here bool) {
	t.Helper()
	if os.Getenv(childEnv) != "" {
		if from, err := strconv.Atoi(os.Getenv(fromEnv)); err == nil {
			return from, true
		}
		return -1, true
	}
	if !wide {
		return -1, inChild(t)
	}
	for from = 0; !t.Failed(); from += step {
		out := child(t, "^"+t.Name()+"$", fromEnv+"="+strconv.Itoa(from))
		t.Logf("from %d:\n%s", from, out)
		if !strings.Contains(out, ": "+moreParts+"\n") {
			break
		}
	}
	return from, false
}

// child runs tests in a process of their own and returns what it prints.
func child(t *testing.T, tests string, env ...string) string {
	t.Helper()
	c := exec.CommandContext(t.Context(), os.Args[0], "-test.run="+tests, "-test.timeout=60s", "-test.v")
	c.Env = append(append(os.Environ(), childEnv+"=1"), env...)
	out, err := c.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	return string(out)
}

// now is the time tests begin at, in whole milliseconds.
func now() time.Time { return time.Now().Truncate(time.Millisecond) }

func testOptions(t testing.TB) Options {
	o := DefaultOptions()
	o.Dir = Memory
	o.MemTableBytes = 1 << 20
	o.Log = zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.WarnLevel)
	return o
}

// settle returns when all that was answered before is on disk: finishes are
// answered before they are.
func settle(t testing.TB, s *Store) {
	t.Helper()
	if _, err := s.submit(&request{ctx: t.Context(), sync: true, run: func(x *txn) error {
		x.changed = true // writes the counters, as they are
		return nil
	}}); err != nil {
		t.Fatalf("sync: %v", err)
	}
}

// wantWhole fails the test if the store does not fit together.
func wantWhole(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Check(context.Background(), func(f scheduler.Finding) {
		if f.Severity == scheduler.SeverityError {
			t.Errorf("Check: %+v", f)
		}
	}); err != nil {
		t.Errorf("Check: %v", err)
	}
}

// open opens a store that is closed when the test ends, if it is not by then.
func open(t testing.TB, o Options) *Store {
	t.Helper()
	s, err := Open(o)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}
