package memstore

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/rs/zerolog"
)

// nth is a disk whose nth operation fails, and with on all that follow.
type nth struct {
	at    int64 // from 1 on
	on    bool
	read  bool // reads count and fail, not writes
	err   error
	cut   func() // is called instead, before the operation
	count atomic.Int64
	what  atomic.Pointer[string] // failed first
}

func (d *nth) String() string { return "nth" }

func (d *nth) MaybeError(op errorfs.Op) error {
	if (op.Kind.ReadOrWrite() == errorfs.OpIsRead) != d.read || op.Kind == errorfs.OpGetDiskUsage {
		return nil
	}
	return d.fails(fmt.Sprint("operation ", op.Kind), op.Path)
}

func (d *nth) fails(op, name string) error {
	n := d.count.Add(1)
	if n < d.at || n > d.at && !d.on {
		return nil
	}
	what := op + " " + name
	d.what.CompareAndSwap(nil, &what)
	if d.cut != nil {
		d.cut()
		return nil
	}
	return fmt.Errorf("%s: %w", what, d.err)
}

// halfway is a disk that does what it says has failed: all of it, but of a write the half.
type halfway struct {
	vfs.FS
	*nth
}

func (d halfway) file(f vfs.File, err error, name, op string) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	if err := d.fails(op, name); err != nil {
		_ = f.Close()
		return nil, err
	}
	return halfwayFile{f, d, name}, nil
}

func (d halfway) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.Create(name, c)
	return d.file(f, err, name, "create")
}

func (d halfway) ReuseForWrite(from, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.ReuseForWrite(from, name, c)
	return d.file(f, err, name, "reuse")
}

func (d halfway) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := d.FS.OpenReadWrite(name, c, opts...)
	return d.file(f, err, name, "open")
}

func (d halfway) OpenDir(name string) (vfs.File, error) {
	f, err := d.FS.OpenDir(name)
	return d.file(f, err, name, "open")
}

func (d halfway) then(err error, op, name string) error {
	if err != nil {
		return err
	}
	return d.fails(op, name)
}

func (d halfway) Rename(from, to string) error {
	return d.then(d.FS.Rename(from, to), "rename", to)
}
func (d halfway) Link(from, to string) error { return d.then(d.FS.Link(from, to), "link", to) }
func (d halfway) Remove(name string) error   { return d.then(d.FS.Remove(name), "remove", name) }
func (d halfway) RemoveAll(name string) error {
	return d.then(d.FS.RemoveAll(name), "remove", name)
}

func (d halfway) MkdirAll(name string, perm os.FileMode) error {
	return d.then(d.FS.MkdirAll(name, perm), "make", name)
}

type halfwayFile struct {
	vfs.File
	d    halfway
	name string
}

func (f halfwayFile) Write(p []byte) (int, error) {
	if err := f.d.fails("write", f.name); err != nil {
		n, _ := f.File.Write(p[:len(p)/2])
		return n, err
	}
	return f.File.Write(p)
}

func (f halfwayFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.d.fails("write", f.name); err != nil {
		n, _ := f.File.WriteAt(p[:len(p)/2], off)
		return n, err
	}
	return f.File.WriteAt(p, off)
}

func (f halfwayFile) Sync() error     { return f.d.then(f.File.Sync(), "sync", f.name) }
func (f halfwayFile) SyncData() error { return f.d.then(f.File.SyncData(), "sync", f.name) }
func (f halfwayFile) Close() error    { return f.d.then(f.File.Close(), "close", f.name) }

func (f halfwayFile) SyncTo(length int64) (bool, error) {
	full, err := f.File.SyncTo(length)
	return full, f.d.then(err, "sync", f.name)
}

// diskRows are the ways in which an operation fails.
var diskRows = []struct {
	name string
	nth  nth
	half bool
}{
	{name: "an error", nth: nth{err: syscall.EIO}},
	{name: "an error, and from then on", nth: nth{err: syscall.EIO, on: true}},
	{name: "full", nth: nth{err: syscall.ENOSPC}},
	{name: "full from then on", nth: nth{err: syscall.ENOSPC, on: true}},
	{name: "an error after it is done", nth: nth{err: syscall.EIO}, half: true},
	{name: "full after half of it", nth: nth{err: syscall.ENOSPC, on: true}, half: true},
	{name: "a read", nth: nth{err: syscall.EIO, read: true}},
	{name: "all reads from then on", nth: nth{err: syscall.EIO, read: true, on: true}},
}

// faultsInChild is how many stores a process lets fail: each leaves its memory behind.
const faultsInChild = 60

// Whichever operation on the disk fails — to create, write, sync, rename, remove, read,
// from the first Open to the last Close — and however, a store on what is left has
// everything that was answered.
func TestEveryDiskOperationFails(t *testing.T) {
	t.Parallel()
	from, here := inParts(t, faultsInChild)
	if !here {
		return
	}
	for i := range diskRows {
		row := &diskRows[i]
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			try := func(at int) bool {
				d := nth{at: int64(at), on: row.nth.on, read: row.nth.read, err: row.nth.err}
				return oneFault(t, &d, row.half)
			}
			if from >= 0 {
				for at := from + 1; at <= from+faultsInChild; at++ { // the first operation is 1
					if !try(at) {
						return
					}
				}
				t.Log(moreParts)
				return
			}
			all := nth{at: 1 << 62, read: row.nth.read, err: row.nth.err}
			oneFault(t, &all, row.half)
			n := int(all.count.Load())
			for range 6 {
				try(1 + rand.IntN(n))
			}
		})
	}
}

// oneFault lives two lives of a store on a disk that fails, and looks at what is left. It
// reports whether anything failed.
func oneFault(t *testing.T, d *nth, half bool) bool {
	t.Helper()
	mem := vfs.NewCrashableMem()
	o := faultOptions(t, mem, d)
	if half {
		o.FS = halfway{mem, d}
	}
	y := newTale()
	twoLives(t, o, y)
	rng, what := d.chance()
	y.survives(t, o, mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(4) * 33, RNG: rng}), what)
	return d.what.Load() != nil
}

// The power is cut before each operation on the disk that changes something. Of what was not
// synced any part is left: of the data and, each by itself, of the names in directories.
func TestPowerCutAtEveryOperation(t *testing.T) {
	t.Parallel()
	one := func(at int) (n int) {
		mem := vfs.NewCrashableMem()
		d := &nth{at: int64(at)}
		var left []*vfs.MemFS
		var y, then *tale
		rng, _ := d.chance()
		d.cut = func() {
			then = y.copy(func() {
				for _, percent := range []int{0, 20, 50, 80} {
					left = append(left, mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rng}))
				}
			})
		}
		o := faultOptions(t, mem, d)
		y = newTale()
		twoLives(t, o, y)
		_, what := d.chance()
		for i, fs := range left {
			then.survives(t, o, fs, fmt.Sprintf("power cut before %s, %d", what, i))
		}
		return int(d.count.Load())
	}
	n := one(1 << 30)
	if wide {
		for at := 1; at <= n; at++ {
			one(at)
		}
		return
	}
	for range 12 {
		one(1 + rand.IntN(n))
	}
}

// faultOptions are of a store on mem whose operations d sees.
func faultOptions(t *testing.T, mem *vfs.MemFS, d *nth) Options {
	o := testOptions(t)
	o.Dir, o.Log, o.Reserve, o.Ballast, o.CacheBytes = "/store", zerolog.Nop(), 1<<20, 1<<16, 1<<20
	o.FS = errorfs.Wrap(mem, d)
	return o
}

// chance is random, and says what happened to the disk.
func (d *nth) chance() (*rand.Rand, string) {
	seed := rand.Uint64()
	what := "nothing"
	if p := d.what.Load(); p != nil {
		what = fmt.Sprintf("operation %d, %s (%v)", d.at, *p, d.err)
	}
	return rand.New(rand.NewPCG(seed, 0)), what
}

// twoLives opens a store, does everything, closes it, and does a little again; or what of it is
// possible.
func twoLives(t *testing.T, o Options, y *tale) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	s, err := Open(o)
	if err == nil {
		y.tell(ctx, s)
		failed := s.failure() != nil
		if s.Close() != nil || failed {
			return
		}
		s, err = Open(o)
	}
	if err == nil {
		y.put(ctx, s, "second-1", "second-2")
		_ = s.Close()
	}
	if ctx.Err() != nil {
		t.Error("it hangs")
	}
}

// survives opens what is left of a store: all that was answered must be there.
func (y *tale) survives(t *testing.T, o Options, fs vfs.FS, what string) {
	t.Helper()
	o.FS = fs
	s, err := Open(o)
	if err != nil {
		t.Errorf("%s: open: %v", what, err)
		return
	}
	y.holds(t, s, what)
	wantWhole(t, s)
	again := newTale()
	again.put(t.Context(), s, "again")
	again.holds(t, s, what)
	if err := s.Close(); err != nil {
		t.Errorf("%s: close: %v", what, err)
	}
}
