package memstore

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// logSpy is a file system that watches how logs are lengthened.
type logSpy struct {
	*vfs.MemFS
	t     *testing.T
	fails bool
	mu    sync.Mutex
	logs  map[string]*spiedLog
}

// spiedLog is a log, or a manifest, that is watched; also one that is used again.
type spiedLog struct {
	vfs.File
	d       *logSpy
	name    string
	written int64
	length  int64
	synced  bool
	zeroed  int // times
	reused  bool
}

func (d *logSpy) file(f vfs.File, err error, name string) (vfs.File, error) {
	if _, ok := parseFileID(name); err != nil || !ok {
		return f, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	w := &spiedLog{File: f, d: d, name: name, length: info.Size(), reused: info.Size() > 0}
	d.logs[name] = w
	return w, nil
}

// zeroed is how often a log was lengthened, and whether it is one that is used again.
func (d *logSpy) zeroed(name string) (times int, reused bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.logs[name]
	return f.zeroed, f.reused
}

func (d *logSpy) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.MemFS.Create(name, c)
	return d.file(f, err, name)
}

func (d *logSpy) ReuseForWrite(from, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.MemFS.ReuseForWrite(from, name, c)
	return d.file(f, err, name)
}

func (f *spiedLog) Write(p []byte) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	end := f.written + int64(len(p))
	if !f.d.fails && f.zeroed > 0 && end > f.length {
		f.d.t.Errorf("%s is written to %d, and was lengthened to %d", f.name, end, f.length)
	}
	f.written, f.length = end, max(f.length, end)
	return f.File.Write(p)
}

func (f *spiedLog) WriteAt(p []byte, at int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	f.zeroed++
	switch {
	case strings.Contains(f.name, "MANIFEST"):
		f.d.t.Errorf("%s is lengthened", f.name)
	case !f.synced:
		f.d.t.Errorf("%s is lengthened before anything in it was synced", f.name)
	case at < f.length:
		f.d.t.Errorf("%s is lengthened at %d, and has %d bytes, %d of them written", f.name, at, f.length, f.written)
	case f.d.fails:
		return 0, errors.New("no")
	}
	f.length = at + int64(len(p))
	return f.File.WriteAt(p, at)
}

func (f *spiedLog) SyncData() error {
	f.d.mu.Lock()
	f.synced = true
	f.d.mu.Unlock()
	return f.File.SyncData()
}

// A log is longer than what is written of it, once some of that is on disk; not where there is no
// room, nor beneath what it was in another life.
func TestLogIsLengthened(t *testing.T) {
	t.Parallel()
	for _, row := range []string{"room", "little room", "it fails"} {
		t.Run(row, func(t *testing.T) {
			t.Parallel()
			o, mem := damageOptions(t)
			o.logAhead = 5 << 10
			d := &logSpy{MemFS: mem, t: t, fails: row == "it fails", logs: make(map[string]*spiedLog)}
			o.FS = d
			l := newLife(t, o)
			s := open(t, o)
			if row == "little room" {
				s.disk.low.Store(true)
				defer s.disk.low.Store(false)
			}
			name := newestLog(t, mem)
			for range 200 {
				settle(t, s)
			}
			b := contents(t, mem, name)
			longer := len(b) - wholeUntil(t, b, name)
			times, _ := d.zeroed(name)
			switch {
			case row == "room" && (longer <= 0 || longer > 5<<10 || times < 3):
				t.Errorf("%d bytes longer, %d times", longer, times)
			case row == "it fails" && (longer != 0 || times != 1), row == "little room" && (longer != 0 || times != 0):
				t.Errorf("%d bytes longer, tried %d times", longer, times)
			}
			if row != "room" {
				return
			}
			for range 6 {
				l.put(t, s, 20)
				if err := s.db.Flush(); err != nil {
					t.Fatal(err)
				}
			}
			l.put(t, s, 20)
			last := newestLog(t, mem)
			if times, reused := d.zeroed(last); !reused || times > 0 {
				t.Errorf("%s: used again %t, lengthened %d times beneath its end", last, reused, times)
			}
			l.kill(mem)
			for _, fs := range []*vfs.MemFS{l.clone(), mem.CrashClone(vfs.CrashCloneCfg{})} {
				if lost, refused := l.open(t, fs, "as it was", name); refused || len(lost) > 0 {
					t.Errorf("refused %t, lost %q", refused, lost)
				}
			}
		})
	}
}
