package memstore

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/snower/forsun/scheduler"
	"github.com/snower/forsun/scheduler/storetest"
)

// TestConformanceInMemory ends stores with a power cut where the suite opens
// them again: nothing is left but what was synced, a few milliseconds after the
// last finish.
func TestConformanceInMemory(t *testing.T) {
	t.Parallel()
	storetest.Run(t, storetest.Factory{Open: func(t *testing.T) storetest.Harness {
		return harness(t, func(o *Options) { o.Dir, o.FS = "/store", vfs.NewCrashableMem() })
	}})
}

// TestConformanceOnDisk ends them with a stop, for which no fsync must be waited.
func TestConformanceOnDisk(t *testing.T) {
	t.Parallel()
	storetest.Run(t, storetest.Factory{Open: func(t *testing.T) storetest.Harness {
		return harness(t, func(o *Options) { o.Dir, o.Ballast, o.Sync = t.TempDir(), 0, SyncSecond })
	}})
}

// harness opens a store whose clock is the test's.
func harness(t *testing.T, set func(*Options)) storetest.Harness {
	t.Helper()
	clock := storetest.NewClock(now())
	o := testOptions(t)
	o.Now = clock.Now
	set(&o)
	s := open(t, o)
	h := storetest.Harness{Store: s, Now: clock.Now, Advance: func(d time.Duration) { clock.Advance(d) }}
	broken := false // by Corrupt or Orphan
	t.Cleanup(func() {
		if broken || t.Failed() {
			return
		}
		if _, err := s.Now(context.Background()); errors.Is(err, scheduler.ErrClosed) {
			s = open(t, o)
		}
		wantWhole(t, s)
	})
	h.Reopen = func() scheduler.Store {
		if fs, ok := o.FS.(*vfs.MemFS); ok {
			settle(t, s)
			o.FS = fs.CrashClone(vfs.CrashCloneCfg{})
		}
		if err := s.Close(); err != nil {
			t.Fatalf("close: %v", err)
		}
		s = open(t, o)
		return s
	}
	h.Corrupt = func(p *scheduler.Plan) {
		broken = true
		k := scheduleKeyOf(t, s, p)
		if err := s.db.Set(k, []byte("garbage"), pebble.Sync); err != nil {
			t.Fatal(err)
		}
	}
	h.Orphan = func(p *scheduler.Plan) {
		broken = true
		// The plan is in its schedule entry: what is left is an empty one.
		k := scheduleKeyOf(t, s, p)
		if err := errors.Join(s.db.Set(k, nil, pebble.Sync), s.db.Delete(appendPlanKey(nil, p.Key), pebble.Sync)); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

func scheduleKeyOf(t *testing.T, s *Store, p *scheduler.Plan) []byte {
	t.Helper()
	at, err := s.lookup(p.Key)
	if err != nil || !at.exists {
		t.Fatalf("plan %q is not stored: %v", p.Key, err)
	}
	return appendScheduleKey(nil, at.action, at.due, p.Key)
}
