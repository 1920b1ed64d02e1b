package memstore

import (
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
