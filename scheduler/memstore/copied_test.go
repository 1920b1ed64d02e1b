package memstore

import (
	"fmt"
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
	n, err := f.File.Read(p)
	if f.reads++; f.reads == 1 && f.d.once.CompareAndSwap(true, false) {
		f.d.between()
	}
	return n, err
}

// A log is written on while a backup copies it: the copy is a store with all that was answered
// before, and no zeros where the log was written after they were read.
func TestLogIsWrittenWhileItIsCopied(t *testing.T) {
	t.Parallel()
	for _, row := range []string{"a new log", "a log that is used again"} {
		t.Run(row, func(t *testing.T) {
			t.Parallel()
			logIsWrittenWhileItIsCopied(t, row != "a new log")
		})
	}
}

func logIsWrittenWhileItIsCopied(t *testing.T, usedAgain bool) {
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
	if usedAgain {
		for range 6 {
			l.putGroups(t, s, 2)
			if err := s.db.Flush(); err != nil {
				t.Fatal(err)
			}
		}
		l.put(t, s, 5)
		if size := len(contents(t, mem, newestLog(t, mem))); size < 100<<10 {
			t.Fatalf("the newest log has %d bytes: it is not used again", size)
		}
	}
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
	if lost, refused := l.open(t, mem, "copy", ""); refused || len(lost) > 0 {
		t.Errorf("the copy: refused %t, lost %q", refused, lost)
	}
}
