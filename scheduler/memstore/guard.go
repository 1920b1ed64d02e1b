package memstore

import (
	"fmt"
	"os"
	"strings"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// guard stands between Pebble and the file system. The first write or fsync that
// fails ends the store, and is not returned: whoever asked for it waits for
// the process to end, and so does whoever asks for another. Told of
// the error, Pebble would try again in a loop, panic with its locks held, which the runtime
// may not survive, or write on behind what is half written.
//
// It begins to do so when the store is open. Before that errors go to Open.
type guard struct {
	vfs.FS
	s       *Store
	armed   atomic.Bool
	lastLog atomic.Pointer[string] // the write-ahead log that was opened last for reading
}

// frozen waits for the end of the process if the store has failed.
func (g *guard) frozen() {
	if g.armed.Load() && g.s.failure() != nil {
		select {}
	}
}

// hold ends the store for an error, and holds its caller. Before the store is open it
// returns the error.
func (g *guard) hold(op, name string, err error) error {
	if err == nil || !g.armed.Load() {
		return err
	}
	if !strings.Contains(err.Error(), name) {
		err = fmt.Errorf("%s %s: %w", op, name, err)
	}
	g.s.fail(err)
	select {}
}

func (g *guard) file(f vfs.File, name string, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &guardedFile{f, g, name}, nil
}

// Unwrap is for Pebble, which looks for the file system below.
func (g *guard) Unwrap() vfs.FS { return g.FS }

func (g *guard) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	g.frozen()
	f, err := g.FS.Create(name, c)
	return g.file(f, name, g.hold("create", name, err))
}

func (g *guard) ReuseForWrite(from, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	g.frozen()
	f, err := g.FS.ReuseForWrite(from, name, c)
	return g.file(f, name, g.hold("create", name, err))
}

func (g *guard) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	g.frozen()
	f, err := g.FS.OpenReadWrite(name, c, opts...)
	return g.file(f, name, g.hold("open", name, err))
}

func (g *guard) OpenDir(name string) (vfs.File, error) {
	f, err := g.FS.OpenDir(name)
	return g.file(f, name, err)
}

func (g *guard) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	if !g.armed.Load() && strings.HasSuffix(name, ".log") {
		g.lastLog.Store(&name)
	}
	return g.FS.Open(name, opts...)
}

func (g *guard) Link(from, to string) error {
	g.frozen()
	return g.hold("link", to, g.FS.Link(from, to))
}

func (g *guard) Rename(from, to string) error {
	g.frozen()
	return g.hold("rename", to, g.FS.Rename(from, to))
}

// Remove and RemoveAll may fail: a file too many does no harm.
func (g *guard) Remove(name string) error {
	g.frozen()
	return g.FS.Remove(name)
}

func (g *guard) RemoveAll(name string) error {
	g.frozen()
	return g.FS.RemoveAll(name)
}

func (g *guard) MkdirAll(dir string, perm os.FileMode) error {
	g.frozen()
	return g.hold("make directory", dir, g.FS.MkdirAll(dir, perm))
}

// guardedFile is a file that is written, or a directory that is synced.
type guardedFile struct {
	vfs.File
	g    *guard
	name string
}

func (f *guardedFile) Write(p []byte) (int, error) {
	f.g.frozen()
	n, err := f.File.Write(p)
	return n, f.g.hold("write", f.name, err)
}

func (f *guardedFile) WriteAt(p []byte, off int64) (int, error) {
	f.g.frozen()
	n, err := f.File.WriteAt(p, off)
	return n, f.g.hold("write", f.name, err)
}

func (f *guardedFile) Sync() error {
	f.g.frozen()
	return f.g.hold("sync", f.name, f.File.Sync())
}

func (f *guardedFile) SyncData() error {
	f.g.frozen()
	return f.g.hold("sync", f.name, f.File.SyncData())
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
