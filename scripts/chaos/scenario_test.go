package chaos

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/snower/forsun/scripts/chaos/ledger"
	"github.com/snower/forsun/scripts/chaos/report"
)

// Forms of a scenario: short is for "go test", full is what is repeated, long is
// one that takes minutes.
const (
	formShort = "short"
	formFull  = "full"
	formLong  = "long"
)

// form is the one that runs.
var form = cmp.Or(os.Getenv("CHAOS"), formShort)

// pick is the value for the form that runs: long for all but the short one.
func pick[T any](short, long T) T { return pick3(short, long, long) }

// pick3 is pick where the long form differs from the full one.
func pick3[T any](short, full, long T) T {
	switch form {
	case formShort:
		return short
	case formFull:
		return full
	}
	return long
}

// inTest are what "go test" runs, in short forms: scenarios, and single tests of others.
var inTest = []string{
	"C2", "C3", "C4", "C6", "C12", "TestC15Killed",
	"TestC01LoadBalancer", "TestC05RedisPaused", "TestC14Hanging", "TestC17Restarted", "TestC17Upgraded",
}

// trial is one run of a scenario.
type trial struct {
	t     *testing.T
	name  string // C3
	seed  uint64
	rand  *rand.Rand // makes every choice of the scenario; for the test's own goroutine
	dir   string     // of journals, receipts and logs; kept if the scenario fails
	began time.Time

	mu      sync.Mutex
	lines   []string // the time line
	outcome report.Outcome
	tallied []*ledger.Verdict
}

// scenario begins a trial. Its seed is CHAOS_SEED, or any. What comes of it becomes a
// line in the file CHAOS_RESULTS.
func scenario(t *testing.T, name string) *trial {
	t.Helper()
	if form == formShort && !slices.Contains(inTest, name) && !slices.Contains(inTest, t.Name()) {
		t.Skipf("%s has no short form; make chaos SCENARIO=%s", name, name)
	}
	s := &trial{t: t, name: name, seed: rand.Uint64(), began: time.Now()}
	if text := os.Getenv("CHAOS_SEED"); text != "" {
		var err error
		if s.seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("CHAOS_SEED=%s: %v", text, err)
		}
	}
	s.rand = rand.New(rand.NewPCG(s.seed, 0))
	var err error
	if s.dir, err = os.MkdirTemp("", "forsun-"+name+"-"); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s, seed %d", name, s.seed)
	t.Cleanup(s.end)
	return s
}

// event adds a line to the time line.
func (s *trial) event(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, fmt.Sprintf("%7.3f ", time.Since(s.began).Seconds())+fmt.Sprintf(format, args...))
}

// tally adds what the ledger found to the trial's outcome; a verdict counts once.
func (s *trial) tally(v *ledger.Verdict) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.Contains(s.tallied, v) {
		return
	}
	s.tallied = append(s.tallied, v)
	s.outcome.Firings += v.Fired
	s.outcome.Duplicates += len(v.Repeated) + len(v.Foreign)
	s.outcome.Early += len(v.Early)
	s.outcome.Lost += len(v.Lost)
	s.outcome.Rescued += v.Rescued
	s.outcome.LatestMS = max(s.outcome.LatestMS, float64(v.Latest.Microseconds())/1000)
}

// path is a file of the trial's; the second of a name gets another.
func (s *trial) path(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	path := filepath.Join(s.dir, name)
	for i := 2; ; i++ {
		file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err == nil {
			file.Close()
			return path
		}
		if !os.IsExist(err) {
			s.t.Fatal(err)
		}
		path = filepath.Join(s.dir, fmt.Sprint(name, "-", i))
	}
}

// end tells the outcome, and where everything is if the scenario failed. It runs
// after everything that the scenario started has ended.
func (s *trial) end() {
	t := s.t
	s.mu.Lock()
	defer s.mu.Unlock()
	t.Log("\n" + strings.Join(s.lines, "\n"))
	if t.Failed() {
		if err := os.WriteFile(filepath.Join(s.dir, "timeline"), []byte(strings.Join(s.lines, "\n")+"\n"), 0o600); err != nil {
			t.Error(err)
		}
		t.Logf("%s failed; make chaos SCENARIO=%s SEED=%d. Time line, journals, receipts and logs are kept in %s", s.name, s.name, s.seed, s.dir)
	} else if err := os.RemoveAll(s.dir); err != nil {
		t.Error(err)
	}
	o := s.outcome
	o.Scenario, o.Test, o.Form, o.Seed, o.Began = s.name, t.Name(), form, s.seed, s.began.UTC()
	o.Seconds, o.Passed = time.Since(s.began).Round(time.Millisecond).Seconds(), !t.Failed()
	if results := os.Getenv("CHAOS_RESULTS"); results != "" {
		if err := report.Append(results, o); err != nil {
			t.Error(err)
		}
	}
}
