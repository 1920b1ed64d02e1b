package memstore

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// guard stands between Pebble and the file system. The first write or fsync that
// fails ends the store, and is not returned: whoever asked for it waits for
// the process to end, and so does whoever asks for another. Told of
// the error, Pebble would try again in a loop, panic with its locks held, which the runtime
// may not survive, or write on behind what is half written. That holds while it
// opens, too: Open does not wait for it (see held).
type guard struct {
	vfs.FS
	s       *Store
	armed   atomic.Bool            // the store is open
	held    chan struct{}          // closed when an operation has failed and does not return
	once    sync.Once              // closes it
	lastLog atomic.Pointer[string] // the write-ahead log that was opened last for reading
	notes   *syncNotes             // nil in memory
	took    atomic.Int64           // nanoseconds, the last fsync of a log

	dir string // the database's, which it stands before; "": all
	raw vfs.FS // for what is elsewhere: a backup
}

// elsewhere says whether a file is not of the database: then its errors are those of
// whoever asked for it, and it has no notes, whatever its name.
func (g *guard) elsewhere(name string) bool {
	return g.dir != "" && name != g.dir && !strings.HasPrefix(name, g.dir+"/")
}

// frozen waits for the end of the process if the store has failed.
func (g *guard) frozen() {
	select {
	case <-g.held:
		select {}
	default:
	}
	// Before it is open, other failures go to Open by the way of Pebble.
	if g.armed.Load() && g.s.failure() != nil {
		select {}
	}
}

// hold ends the store for an error, and holds its caller.
func (g *guard) hold(op, name string, err error) error {
	if err == nil {
		return nil
	}
	if !strings.Contains(err.Error(), name) {
		err = fmt.Errorf("%s %s: %w", op, name, err)
	}
	g.s.fail(err)
	g.once.Do(func() { close(g.held) })
	select {}
}

func (g *guard) file(f vfs.File, name string, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	w := &guardedFile{File: f, g: g, name: name, slot: -1}
	if id, ok := parseFileID(name); ok && g.notes != nil {
		w.id, w.slot = id, g.notes.begun(id)
		if info, err := f.Stat(); err == nil {
			w.length = info.Size() // it may be one that is used again
		}
	}
	return w, nil
}

// Unwrap is for Pebble, which looks for the file system below.
func (g *guard) Unwrap() vfs.FS { return g.FS }

func (g *guard) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if g.elsewhere(name) {
		return g.raw.Create(name, c)
	}
	g.frozen()
	g.settleNames(name)
	f, err := g.FS.Create(name, c)
	return g.file(f, name, g.hold("create", name, err))
}

// settleNames has on disk what files there are in a directory, before anything is done to a
// marker in it. Pebble makes a manifest, then the marker that names it, and removes the one
// before, and only then syncs the directory: in a power cut meanwhile the marker could be
// there and the manifest not, or neither marker, which looks like no database at all.
func (g *guard) settleNames(name string) {
	if base := g.FS.PathBase(name); !strings.HasPrefix(base, markerOfManifest) && !strings.HasPrefix(base, markerOfFormat) {
		return
	}
	dir := g.FS.PathDir(name)
	f, err := g.FS.OpenDir(dir)
	if err == nil {
		err = errors.Join(f.Sync(), f.Close())
	}
	_ = g.hold("sync", dir, err)
}

func (g *guard) ReuseForWrite(from, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if g.elsewhere(name) {
		return g.raw.ReuseForWrite(from, name, c)
	}
	g.frozen()
	f, err := g.FS.ReuseForWrite(from, name, c)
	return g.file(f, name, g.hold("create", name, err))
}

func (g *guard) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	if g.elsewhere(name) {
		return g.raw.OpenReadWrite(name, c, opts...)
	}
	g.frozen()
	f, err := g.FS.OpenReadWrite(name, c, opts...)
	return g.file(f, name, g.hold("open", name, err))
}

func (g *guard) OpenDir(name string) (vfs.File, error) {
	if g.elsewhere(name) {
		return g.raw.OpenDir(name)
	}
	f, err := g.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return &guardedFile{File: f, g: g, name: name, slot: -1}, nil
}

func (g *guard) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	if id, ok := parseFileID(name); ok && !g.armed.Load() {
		if !id.manifest {
			g.lastLog.Store(&name)
		}
		if g.notes != nil {
			if err := g.notes.verify(g.FS, name, id); err != nil {
				return nil, err
			}
		}
	}
	if !g.armed.Load() || g.notes == nil || g.elsewhere(name) {
		return g.FS.Open(name, opts...)
	}
	synced, known := g.notes.of(name)
	f, err := g.FS.Open(name, opts...)
	if err != nil || !known {
		return f, err
	}
	return &beginning{f, synced}, nil
}

// beginning is a log that is being written, as far as it was synced when it was opened: for
// a backup. Read on, it would be zeros, or something older, where records came after that was read, and
// behind them later records: damage, by all that Pebble and wal.go can tell.
type beginning struct {
	vfs.File
	left int64
}

func (f *beginning) Read(p []byte) (int, error) {
	if f.left == 0 {
		return 0, io.EOF
	}
	n, err := f.File.Read(p[:min(int64(len(p)), f.left)])
	f.left -= int64(n)
	return n, err
}

// List is held, too, while Pebble opens: returning from there for an error it frees what
// its goroutines still use.
func (g *guard) List(dir string) ([]string, error) {
	names, err := g.FS.List(dir)
	if err != nil && !g.armed.Load() {
		return nil, g.hold("list", dir, err)
	}
	return names, err
}

func (g *guard) Link(from, to string) error {
	if g.elsewhere(to) {
		return g.raw.Link(from, to)
	}
	g.frozen()
	return g.hold("link", to, g.FS.Link(from, to))
}

func (g *guard) Rename(from, to string) error {
	if g.elsewhere(to) {
		return g.raw.Rename(from, to)
	}
	g.frozen()
	return g.hold("rename", to, g.FS.Rename(from, to))
}

// Remove and RemoveAll may fail: a file too many does no harm.
func (g *guard) Remove(name string) error {
	if g.elsewhere(name) {
		return g.raw.Remove(name)
	}
	g.frozen()
	g.settleNames(name)
	return g.FS.Remove(name)
}

func (g *guard) RemoveAll(name string) error {
	if g.elsewhere(name) {
		return g.raw.RemoveAll(name)
	}
	g.frozen()
	return g.FS.RemoveAll(name)
}

func (g *guard) MkdirAll(dir string, perm os.FileMode) error {
	if g.elsewhere(dir) {
		return g.raw.MkdirAll(dir, perm)
	}
	g.frozen()
	return g.hold("make directory", dir, g.FS.MkdirAll(dir, perm))
}

// guardedFile is a file that is written, or a directory that is synced.
type guardedFile struct {
	vfs.File
	g    *guard
	name string

	// Of a log or a manifest, which are written from one goroutine, from their beginning to their end:
	id      fileID
	slot    int   // in the notes; -1: another file
	written int64 // bytes
	length  int64 // of the file, if it is longer than that
	begun   bool  // something in it is on disk
	stays   bool  // it could not be lengthened
}

// zeros is what a log is lengthened by.
var zeros [64 << 10]byte

// lengthen has a log be longer than what is about to be written, so that an fsync need not write
// the file's new length, too: it takes a third to a half less then. A log that Pebble uses again is
// long already, and what is behind the end of either is no record. As long as nothing in it
// is on disk a log is left as it is: one that held nothing but zeros would be damaged for Pebble
// if another followed it.
func (f *guardedFile) lengthen(n int) {
	ahead := f.g.s.opts.logAhead
	if f.slot < 0 || f.id.manifest || !f.begun || f.stays || ahead == 0 || f.g.s.disk.low.Load() {
		return
	}
	end := f.written + int64(n)
	if end <= f.length {
		return
	}
	f.length = max(f.length, f.written)
	for more := end + ahead - f.length; more > 0; {
		n, err := f.File.WriteAt(zeros[:min(more, int64(len(zeros)))], f.length)
		if f.length, more = f.length+int64(n), more-int64(n); err != nil {
			f.stays = true
			return
		}
	}
}

// synced notes that all that was written is on disk.
func (f *guardedFile) synced() {
	if f.slot >= 0 {
		f.g.notes.synced(f.slot, f.id, f.written)
	}
}

func (f *guardedFile) Write(p []byte) (int, error) {
	f.g.frozen()
	f.lengthen(len(p))
	n, err := f.File.Write(p)
	f.written += int64(n)
	return n, f.g.hold("write", f.name, err)
}

func (f *guardedFile) WriteAt(p []byte, off int64) (int, error) {
	f.g.frozen()
	n, err := f.File.WriteAt(p, off)
	return n, f.g.hold("write", f.name, err)
}

func (f *guardedFile) Sync() error {
	f.g.frozen()
	err := f.g.hold("sync", f.name, f.File.Sync())
	if err == nil {
		f.synced()
	}
	return err
}

func (f *guardedFile) SyncData() error {
	f.g.frozen()
	began := time.Now()
	err := f.g.hold("sync", f.name, f.File.SyncData())
	if f.slot >= 0 && !f.id.manifest {
		f.g.took.Store(int64(time.Since(began)))
	}
	if err == nil {
		f.begun = true
		f.synced()
	}
	return err
}

func (f *guardedFile) SyncTo(length int64) (bool, error) {
	f.g.frozen()
	full, err := f.File.SyncTo(length)
	return full, f.g.hold("sync", f.name, err)
}

func (f *guardedFile) Close() error {
	f.g.frozen()
	return f.g.hold("close", f.name, f.File.Close())
}
