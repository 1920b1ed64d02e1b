package memstore

import (
	"context"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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
	findings, err := s.Check(context.Background())
	if err != nil {
		t.Errorf("Check: %v", err)
	}
	for _, f := range findings {
		t.Errorf("Check: %s", f)
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
