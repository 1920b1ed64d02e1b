package memstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/rs/zerolog"

	"github.com/snower/forsun/scheduler"
)

// files lists the database's files with an ending.
func files(t *testing.T, fs vfs.FS, ending string) (names []string) {
	t.Helper()
	all, err := fs.List("/store/db")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range all {
		if strings.HasSuffix(name, ending) {
			names = append(names, "/store/db/"+name)
		}
	}
	slices.Sort(names)
	return names
}

// rewrite changes the bytes of a file.
func rewrite(t *testing.T, fs vfs.FS, name string, change func(b []byte) []byte) {
	t.Helper()
	f, err := fs.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(f)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	f, err = fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Write(change(b))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

// crashed returns the file system of a store that held n plans k0, k1 … when the
// power was cut.
func crashed(t *testing.T, n int, flush bool) (Options, *vfs.MemFS) {
	t.Helper()
	fs := vfs.NewCrashableMem()
	o := testOptions(t)
	o.Dir, o.FS = "/store", fs
	s := open(t, o)
	for i := range n {
		if err := s.Put(t.Context(), []*scheduler.Plan{plan(fmt.Sprintf("k%d", i), 2_000_000_000)})[0]; err != nil {
			t.Fatal(err)
		}
	}
	if flush {
		if err := s.db.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	fs = fs.CrashClone(vfs.CrashCloneCfg{})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	o.FS = fs
	return o, fs
}

// A flipped bit in a table is found when it is read, and ends the store, with the
// name of the file.
func TestDamagedTable(t *testing.T) {
	t.Parallel()
	if !inChild(t) {
		return
	}
	o, fs := crashed(t, 500, true)
	tables := files(t, fs, ".sst")
	if len(tables) == 0 {
		t.Fatal("no tables were written")
	}
	for _, name := range tables {
		rewrite(t, fs, name, func(b []byte) []byte {
			b[len(b)/3] ^= 0x40
			return b
		})
	}
	s, err := Open(o)
	for i := 0; i < 500 && err == nil; i++ {
		if _, err = s.Get(t.Context(), fmt.Sprintf("k%d", i)); errors.Is(err, scheduler.ErrNotFound) {
			t.Fatalf("k%d is not found: damage was taken for absence", i)
		}
	}
	if err == nil {
		t.Fatal("500 plans read from damaged tables")
	}
	if !strings.Contains(err.Error(), "damaged") || !strings.Contains(err.Error(), ".sst") {
		t.Errorf("error does not say what is damaged: %v", err)
	}
	if s != nil {
		wantFailed(t, s)
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
}

// wantFailed waits for the store to say that it has failed, and expects every
// call to be refused.
func wantFailed(t *testing.T, s *Store) error {
	t.Helper()
	var why error
	select {
	case why = <-s.Failed():
	case <-time.After(10 * time.Second):
		t.Fatal("the store does not say that it has failed")
	}
	if !errors.Is(why, scheduler.ErrStore) {
		t.Errorf("Failed() = %v, want an ErrStore", why)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := s.Put(ctx, []*scheduler.Plan{plan("late", 2_000_000_000)})[0]; !errors.Is(err, scheduler.ErrStore) && !errors.Is(err, scheduler.ErrFull) {
		t.Errorf("Put after the failure: %v", err)
	}
	if _, err := s.Get(ctx, "k0"); !errors.Is(err, scheduler.ErrStore) {
		t.Errorf("Get after the failure: %v", err)
	}
	if _, err := s.Finish(ctx, shardID, "w", nil); !errors.Is(err, scheduler.ErrStore) {
		t.Errorf("Finish after the failure: %v", err)
	}
	return why
}

// faulty is a file system whose writes to files with an ending fail with an error
// once it is switched on.
type faulty struct {
	on     atomic.Bool
	ending string
	in     string
	kinds  []errorfs.OpKind
	err    error
}

func (f *faulty) String() string { return "faulty" }

func (f *faulty) MaybeError(op errorfs.Op) error {
	if !f.on.Load() || !strings.HasSuffix(op.Path, f.ending) || !strings.Contains(op.Path, f.in) {
		return nil
	}
	for _, k := range f.kinds {
		if op.Kind == k {
			return f.err
		}
	}
	return nil
}

// An fsync that fails ends the store: nothing that was not synced is ever
// acknowledged, and it is not tried again.
func TestFailures(t *testing.T) {
	t.Parallel()
	if !inChild(t) {
		return
	}
	writes := []errorfs.OpKind{errorfs.OpFileWrite, errorfs.OpFileWriteAt, errorfs.OpCreate, errorfs.OpReuseForWrite, errorfs.OpFilePreallocate}
	syncs := []errorfs.OpKind{errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo}
	full := fmt.Errorf("write: %w", syscall.ENOSPC)
	broken := fmt.Errorf("sync: %w", syscall.EIO)
	rows := []struct {
		name string
		faulty
		want string
	}{
		{"fsync of the log", faulty{ending: ".log", kinds: syncs, err: broken}, "input/output error"},
		{"write of the log", faulty{ending: ".log", kinds: writes, err: broken}, "input/output error"},
		{"full disk, log", faulty{ending: ".log", kinds: writes, err: full}, "no space left"},
		{"full disk, tables", faulty{ending: ".sst", kinds: writes, err: full}, "no space left"},
		{"fsync of tables", faulty{ending: ".sst", kinds: syncs, err: broken}, "input/output error"},
		{"next log cannot be made", faulty{ending: ".log", kinds: []errorfs.OpKind{errorfs.OpCreate, errorfs.OpReuseForWrite}, err: full}, "no space left"},
		{"write of the manifest", faulty{in: "MANIFEST", kinds: writes, err: full}, "no space left"},
	}
	for i := range rows {
		row := &rows[i]
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			fs := vfs.NewCrashableMem()
			o := testOptions(t)
			o.Dir, o.FS, o.Log = "/store", errorfs.Wrap(fs, &row.faulty), zerolog.Nop()
			s := open(t, o)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			if err := s.Put(ctx, []*scheduler.Plan{plan("k0", 2_000_000_000)})[0]; err != nil {
				t.Fatal(err)
			}
			row.on.Store(true)
			stored := []string{"k0"}
			for i := 1; s.failure() == nil && ctx.Err() == nil; i++ {
				plans := make([]*scheduler.Plan, 100)
				for k := range plans {
					plans[k] = plan(fmt.Sprintf("k%d-%d", i, k), 2_000_000_000)
				}
				for k, err := range s.Put(ctx, plans) {
					if err == nil {
						stored = append(stored, plans[k].Key)
					}
				}
			}
			why := wantFailed(t, s)
			if why == nil || !strings.Contains(why.Error(), row.want) {
				t.Errorf("failed with %v, want %q", why, row.want)
			}
			if err := s.Close(); err != nil {
				t.Errorf("close: %v", err)
			}

			o.FS = fs.CrashClone(vfs.CrashCloneCfg{})
			again := open(t, o)
			for _, k := range stored {
				if _, err := again.Get(t.Context(), k); err != nil {
					t.Fatalf("%q was acknowledged: %v", k, err)
				}
			}
			wantWhole(t, again)
		})
	}
}

// What a change needs and cannot read ends the store before any of the change is written: half a
// finish would be a firing that is gone.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	if !inChild(t) {
		return
	}
	mem := vfs.NewCrashableMem()
	o := testOptions(t)
	broken := &faulty{ending: ".sst", kinds: []errorfs.OpKind{errorfs.OpOpen, errorfs.OpFileReadAt}, err: fmt.Errorf("read: %w", syscall.EIO)}
	o.Dir, o.FS, o.Log = "/store", errorfs.Wrap(mem, broken), zerolog.Nop()
	s := open(t, o)
	y := newTale()
	y.put(t.Context(), s, "recurs-1", "recurs-2")
	var err error
	if y.lease, err = s.Campaign(t.Context(), shardID, "r"); err != nil {
		t.Fatal(err)
	}
	y.claim(t.Context(), s)
	fs, _, err := s.Take(t.Context(), scheduler.TakeRequest{Worker: "w", Slots: map[string]int{"http": 2}})
	if err != nil || len(fs) != 2 {
		t.Fatalf("took %d, %v", len(fs), err)
	}
	if err := s.db.Flush(); err != nil {
		t.Fatal(err)
	}
	broken.on.Store(true)
	ends := []scheduler.Finish{{Firing: fs[0], Verdict: scheduler.Return}, {Firing: fs[1], Verdict: scheduler.Done}}
	if _, err := s.Finish(t.Context(), shardID, "w", ends); !errors.Is(err, scheduler.ErrStore) {
		t.Errorf("finish: %v, want an ErrStore", err)
	}
	if why := wantFailed(t, s); why == nil || !strings.Contains(why.Error(), "input/output error") {
		t.Errorf("failed with %v", why)
	}
	if err := s.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	o.FS = mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 2))})
	again := open(t, o)
	y.holds(t, again, "a finish that could not read")
	wantWhole(t, again)
}
