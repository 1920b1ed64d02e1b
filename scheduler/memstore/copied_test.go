package memstore

import (
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/snower/forsun/scheduler"
)

// slowReads is a disk on which something is done between the first and the second read of a log.
type slowReads struct {
	vfs.FS
	between func()
	once    *atomic.Bool
}

type slowRead struct {
	vfs.File
	d     slowReads
	reads int
}

func (d slowReads) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := d.FS.Open(name, opts...)
	if err != nil || !strings.HasSuffix(name, ".log") {
		return f, err
	}
	return &slowRead{File: f, d: d}, nil
}

func (f *slowRead) Read(p []byte) (int, error) {
	if f.reads++; f.reads == 2 && f.d.once.CompareAndSwap(true, false) {
		f.d.between()
	}
	return f.File.Read(p)
}

var _ io.Reader = (*slowRead)(nil)

// A log is written on while a backup copies it: the copy is a store with all that was answered
// before. It is refused: the copy has zeros where the log was written after they were read, and
// behind them what says that the place was synced.
func TestLogIsWrittenWhileItIsCopied(t *testing.T) {
	t.Skip("fails: a log that is lengthened, or used again, is no beginning of itself while it is copied")
	t.Parallel()
	o, mem := damageOptions(t)
	o.logAhead = DefaultOptions().logAhead
	d := slowReads{FS: mem, once: new(atomic.Bool)}
	l := newLife(t, o)
	var s *Store
	d.between = func() {
		for i := range 80 {
			p := plan(fmt.Sprintf("after-%d", i), 2_000_000_000)
			p.Params["body"] = strings.Repeat("0123456789abcde\n", 70)
			if err := s.Put(t.Context(), []*scheduler.Plan{p})[0]; err != nil {
				t.Error(err)
			}
		}
	}
	o.FS = d
	s = open(t, o)
	s.guard.dir, s.guard.raw = "/store/db", mem
	l.put(t, s, 5)
	d.once.Store(true)
	if err := mem.MkdirAll("/copy", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.db.Checkpoint("/copy/db", pebble.WithFlushedWAL()); err != nil {
		t.Fatal(err)
	}
	if d.once.Load() {
		t.Fatal("nothing was written meanwhile")
	}
	l.o.Dir = "/copy"
	if err := l.openErr(t, mem); err != nil {
		t.Errorf("copy: %v", err)
	}
}

func (l *life) openErr(t *testing.T, fs vfs.FS) error {
	o := l.o
	o.FS = fs
	s, err := Open(o)
	if err != nil {
		return err
	}
	for _, key := range l.keys {
		if _, err := s.Get(t.Context(), key); err != nil {
			t.Errorf("%s: %v", key, err)
		}
	}
	return s.Close()
}
