package memstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/rs/zerolog"

	"github.com/snower/forsun/scheduler"
)

// life is a store's files at the end of a process, and what it had acknowledged, in order.
type life struct {
	fs   *vfs.MemFS
	keys []string
	o    Options
	rng  *rand.Rand
}

// damageOptions are options of stores that are opened very often.
func damageOptions(t *testing.T) (Options, *vfs.MemFS) {
	o, fs := testOptions(t), vfs.NewCrashableMem()
	o.Dir, o.FS, o.Log, o.Reserve, o.Ballast = "/store", fs, zerolog.Nop(), 0, 0
	o.logAhead = 3000 // a log ends anywhere, in the midst of what a process was about to write, too
	return o, fs
}

func newLife(t *testing.T, o Options) *life {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return &life{o: o, rng: rand.New(rand.NewPCG(seed, 0))}
}

// put stores n plans, one after the other: each is a group of its own.
func (l *life) put(t *testing.T, s *Store, n int) {
	t.Helper()
	for range n {
		key := fmt.Sprintf("k%d", len(l.keys))
		if err := s.Put(t.Context(), []*scheduler.Plan{plan(key, 2_000_000_000)})[0]; err != nil {
			t.Fatal(err)
		}
		l.keys = append(l.keys, key)
	}
}

// kill leaves what a killed process leaves: all that was written.
func (l *life) kill(fs *vfs.MemFS) {
	l.fs = fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: l.rng})
}

// clone copies the files, so that they can be changed.
func (l *life) clone() *vfs.MemFS {
	return l.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: l.rng})
}

// forget removes the notes, as an older forsun leaves none.
func (l *life) forget(t *testing.T) {
	t.Helper()
	err := l.fs.Remove("/store/db/" + syncedName)
	var dir vfs.File
	if err == nil {
		dir, err = l.fs.OpenDir("/store/db")
	}
	if err == nil {
		err = errors.Join(dir.Sync(), dir.Close()) // or it is in the clones again
	}
	if err != nil {
		t.Fatal(err)
	}
}

func contents(t *testing.T, fs vfs.FS, name string) []byte {
	t.Helper()
	f, err := fs.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(f)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return b
}

// wholeUntil is up to where a log or a manifest can be read.
func wholeUntil(t *testing.T, b []byte, name string) int {
	t.Helper()
	id, _ := parseFileID(name)
	c := chunked{manifest: id.manifest, number: id.number}
	if err := c.read(strings.NewReader(string(b))); err != nil {
		t.Fatal(err)
	}
	return int(c.whole)
}

// newestLog is the name of the newest log.
func newestLog(t *testing.T, fs vfs.FS) string {
	t.Helper()
	logs := files(t, fs, ".log")
	return logs[len(logs)-1]
}

func manifest(t *testing.T, fs vfs.FS) string {
	t.Helper()
	all, err := fs.List("/store/db")
	if err != nil {
		t.Fatal(err)
	}
	newest := ""
	for _, name := range all {
		if id, ok := parseFileID(name); ok && id.manifest {
			newest = max(newest, "/store/db/"+name)
		}
	}
	return newest
}

// open opens fs; the error is nil, or a refusal as it should be.
func (l *life) open(t *testing.T, fs vfs.FS, what, name string) (lost []string, refused bool) {
	t.Helper()
	o := l.o
	o.FS = fs
	s, err := Open(o)
	if err != nil {
		for _, want := range []string{"damaged", "restore", path.Base(name)} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: the error does not say %q: %v", what, want, err)
			}
		}
		return nil, true
	}
	for _, key := range l.keys {
		_, err := s.Get(t.Context(), key)
		if err != nil {
			lost = append(lost, key)
		}
		if err != nil && !errors.Is(err, scheduler.ErrNotFound) {
			t.Errorf("%s: get: %v", what, err)
		}
	}
	wantWhole(t, s)
	if err := s.Close(); err != nil {
		t.Errorf("%s: close: %v", what, err)
	}
	return lost, false
}

// changed opens the store with one file changed, and fails the test if it opens and has
// lost more than the last few plans, or if it opens or refuses and should not.
func (l *life) changed(t *testing.T, what, name string, change func([]byte) []byte, atRisk int, mustRefuse bool) {
	t.Helper()
	fs := l.clone()
	rewrite(t, fs, name, change)
	lost, refused := l.open(t, fs, what, name)
	if len(lost) > atRisk || len(lost) > 0 && lost[0] != l.keys[len(l.keys)-len(lost)] {
		t.Errorf("%s: opened without %d of %d acknowledged plans, from %s on", what, len(lost), len(l.keys), lost[0])
	}
	if mustRefuse && !refused {
		t.Errorf("%s: opened", what)
	}
}

// refused looks only whether the check refuses the store with one file changed: a thousand times faster.
func (l *life) refused(t *testing.T, what, name string, b []byte) bool {
	t.Helper()
	n, err := readNotes(l.fs, "/store/db", zerolog.Nop())
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	one := vfs.NewMem()
	f, err := one.Create(path.Base(name), vfs.WriteCategoryUnspecified)
	if err == nil {
		_, err = f.Write(b)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	id, _ := parseFileID(name)
	err = n.verify(one, path.Base(name), id)
	if d := (*damagedFile)(nil); err != nil && !errors.As(err, &d) {
		t.Errorf("%s: %v", what, err)
	}
	return err != nil
}

func flip(at, bit int) func([]byte) []byte {
	return func(b []byte) []byte {
		b[at] ^= 1 << bit
		return b
	}
}

func cut(at int) func([]byte) []byte {
	return func(b []byte) []byte { return b[:at] }
}

// every is the step in which all positions of a file are tried.
func every(t *testing.T) int {
	if testing.Short() || raceEnabled {
		return 17
	}
	return 1
}

// A log that ends within a record is what a crash leaves: accepted, with all that
// was acknowledged, wherever it ends and whatever stands there.
func TestTornTail(t *testing.T) {
	t.Parallel()
	o, mem := damageOptions(t)
	l := newLife(t, o)
	s := open(t, o)
	l.put(t, s, 20)
	l.kill(mem)
	name := newestLog(t, l.fs)
	synced := wholeUntil(t, contents(t, l.fs, name), name)
	// What nobody waited for, and was not synced when the process was killed.
	var unsynced []byte
	for i := range 20 {
		k := []byte(fmt.Sprintf("unsynced %d", i))
		c := make([]byte, syncHeader, 100)
		c = append(c, k...)
		binary.LittleEndian.PutUint16(c[4:], uint16(len(k)))
		c[6] = kindSyncFull
		id, _ := parseFileID(name)
		binary.LittleEndian.PutUint32(c[7:], uint32(id.number))
		binary.LittleEndian.PutUint32(c, checksum(c[6:]))
		unsynced = append(unsynced, c...)
	}
	tail := func(what string, b []byte) {
		t.Helper()
		lost, refused := func() ([]string, bool) {
			fs := l.clone()
			rewrite(t, fs, name, func(log []byte) []byte { return append(log[:synced:synced], b...) })
			return l.open(t, fs, what, name)
		}()
		if refused || len(lost) > 0 {
			t.Errorf("%s: refused %t, lost %q", what, refused, lost)
		}
	}
	for n := 0; n < syncHeader+3; n++ {
		tail(fmt.Sprintf("cut after %d bytes of the tail", n), unsynced[:n])
	}
	for i := range len(unsynced) {
		if i%7 == 0 {
			// Pages reach the disk in any order: whole chunks may follow a hole.
			b := append([]byte(nil), unsynced...)
			clear(b[:i+1])
			tail(fmt.Sprintf("%d bytes of the tail are zero", i), b)
		}
	}
	tail("zeros", make([]byte, 3*blockBytes))
	junk := make([]byte, 2*blockBytes)
	for i := range junk {
		junk[i] = byte(l.rng.Uint32())
	}
	tail("junk", junk)
}

// Damage to what was synced is no torn tail, wherever it is: each byte of a small log, and
// of the manifest, after the ends that a process can come to.
func TestDamagedLogIsRefused(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name   string
		end    func(t *testing.T, l *life, s *Store, mem *vfs.MemFS)
		atRisk int // plans of the last group
	}{
		{"killed", func(_ *testing.T, l *life, _ *Store, mem *vfs.MemFS) { l.kill(mem) }, 0},
		{"closed", func(t *testing.T, l *life, s *Store, mem *vfs.MemFS) {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			l.kill(mem)
		}, 0},
		{"power cut", func(_ *testing.T, l *life, _ *Store, mem *vfs.MemFS) { l.fs = mem.CrashClone(vfs.CrashCloneCfg{}) }, 1},
		{"power cut in a quiet moment", func(t *testing.T, l *life, _ *Store, mem *vfs.MemFS) {
			name := newestLog(t, mem)
			eventually(t, "notes on disk", func() bool {
				l.fs = mem.CrashClone(vfs.CrashCloneCfg{})
				n, err := readNotes(l.fs, "/store/db", zerolog.Nop())
				if err != nil {
					t.Fatal(err)
				}
				id, _ := parseFileID(name)
				return int(n.known[id]) == wholeUntil(t, contents(t, l.fs, name), name)
			})
		}, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			o, mem := damageOptions(t)
			l := newLife(t, o)
			s := open(t, o)
			l.put(t, s, 5)
			row.end(t, l, s, mem)
			for _, name := range []string{newestLog(t, l.fs), manifest(t, l.fs)} {
				b := contents(t, l.fs, name)
				end, atRisk := wholeUntil(t, b, name), row.atRisk
				if id, _ := parseFileID(name); id.manifest {
					atRisk = 0
				}
				open := l.rng.IntN(every(t)) // the store is opened, too
				for at := range end {
					really := at%every(t) == open
					for bit := range 8 {
						if bit != at%8 && raceEnabled {
							continue
						}
						what := fmt.Sprintf("bit %d at %d of %d of %s flipped", bit, at, end, name)
						refused := l.refused(t, what, name, flip(at, bit)(slices.Clone(b)))
						if bit == at%8 && (really || !refused) || atRisk == 0 && !refused {
							l.changed(t, what, name, flip(at, bit), atRisk, atRisk == 0)
						}
					}
					if atRisk > 0 {
						continue // a cut is not noticed: see TestCutLog
					}
					what := fmt.Sprintf("cut at %d of %d of %s", at, end, name)
					if !l.refused(t, what, name, b[:at]) || really {
						l.changed(t, what, name, cut(at), 0, true)
					}
				}
			}
		})
	}
}

// putGroups stores groups of 200 plans.
func (l *life) putGroups(t *testing.T, s *Store, groups int) {
	t.Helper()
	for range groups {
		plans := make([]*scheduler.Plan, 200)
		for k := range plans {
			plans[k] = plan(fmt.Sprintf("k%d", len(l.keys)), 2_000_000_000)
			l.keys = append(l.keys, plans[k].Key)
		}
		for _, err := range s.Put(t.Context(), plans) {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

// Damage anywhere in larger logs: several that are not flushed yet, or ones that were
// something else before.
func TestDamagedLargeLogs(t *testing.T) {
	t.Parallel()
	tries := 60
	if testing.Short() || raceEnabled {
		tries = 12
	}
	try := func(t *testing.T, l *life, newest, atRisk int) {
		t.Helper()
		notes, err := readNotes(l.fs, "/store/db", zerolog.Nop())
		if err != nil {
			t.Fatal(err)
		}
		logs := files(t, l.fs, ".log")
		for i := range tries {
			name := logs[len(logs)-1-i%newest]
			id, _ := parseFileID(name)
			end := wholeUntil(t, contents(t, l.fs, name), name)
			at := l.rng.IntN(end)
			what := fmt.Sprintf("%d of %d of %s, newest %d", at, end, name, notes.newest)
			l.changed(t, "flip at "+what, name, flip(at, l.rng.IntN(8)), atRisk, false)
			if atRisk == 0 || id.number != notes.newest {
				l.changed(t, "cut at "+what, name, cut(at), 0, false)
			}
		}
	}
	t.Run("one log, large groups", func(t *testing.T) {
		t.Parallel()
		o, mem := damageOptions(t)
		o.MemTableBytes = 16 << 20
		l := newLife(t, o)
		s := open(t, o)
		l.putGroups(t, s, 12)
		l.kill(mem)
		try(t, l, 1, 0)
		l.fs = mem.CrashClone(vfs.CrashCloneCfg{})
		try(t, l, 1, 200)
	})
	t.Run("several logs", func(t *testing.T) {
		t.Parallel()
		o, mem := damageOptions(t)
		var shut atomic.Bool // nothing is flushed
		lift := make(chan struct{})
		o.FS = errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if shut.Load() && strings.HasSuffix(op.Path, ".sst") {
				<-lift
			}
			return nil
		}))
		l := newLife(t, o)
		s := open(t, o)
		shut.Store(true)
		defer close(lift)
		l.putGroups(t, s, 8)
		if logs := files(t, mem, ".log"); len(logs) < 2 {
			t.Fatalf("logs %q, want more", logs)
		}
		l.kill(mem)
		try(t, l, 2, 0)
		// A log that another follows has an end of its own, whatever is noted.
		logs := files(t, l.fs, ".log")
		name := logs[len(logs)-2]
		l.forget(t)
		b := contents(t, l.fs, name)
		id, _ := parseFileID(name)
		c := chunked{number: id.number}
		for at := 0; at < len(b); {
			_, kind, size := c.chunkAt(b[at:min(len(b), at-at%blockBytes+blockBytes)])
			if size == 0 {
				at += blockBytes - at%blockBytes
				continue
			}
			at += size
			if kind == kindSyncFull || kind == kindSyncLast {
				l.changed(t, fmt.Sprintf("cut after a record, at %d of %d of %s", at, len(b), name), name, cut(at), 0, true)
			}
		}
		l.fs = mem.CrashClone(vfs.CrashCloneCfg{})
		try(t, l, 2, 200)
	})
	t.Run("recycled logs", func(t *testing.T) {
		t.Parallel()
		o, mem := damageOptions(t)
		l := newLife(t, o)
		s := open(t, o)
		for range 3 {
			l.putGroups(t, s, 2)
			if err := s.db.Flush(); err != nil {
				t.Fatal(err)
			}
		}
		l.putGroups(t, s, 1)
		l.put(t, s, 20)
		l.kill(mem)
		name := newestLog(t, l.fs)
		if b := contents(t, l.fs, name); wholeUntil(t, b, name) == len(b) {
			t.Fatal("the newest log was not recycled")
		}
		try(t, l, 1, 0)
		l.fs = mem.CrashClone(vfs.CrashCloneCfg{})
		try(t, l, 1, 1)
	})
}

// Without notes, as an older forsun left it, every beginning of a log opens with a beginning of
// what was acknowledged.
func TestCutLog(t *testing.T) {
	t.Parallel()
	o, mem := damageOptions(t)
	l := newLife(t, o)
	l.put(t, open(t, o), 5)
	l.kill(mem)
	l.forget(t)
	name := newestLog(t, l.fs)
	for at, end := l.rng.IntN(every(t)), len(contents(t, l.fs, name)); at <= end; at += every(t) {
		what := fmt.Sprintf("cut at %d of %d", at, end)
		l.changed(t, what, name, cut(at), len(l.keys), false)
		if l.refused(t, what, name, contents(t, l.fs, name)[:at]) {
			t.Errorf("%s: refused without any sign of what followed", what)
		}
	}
}

// A chunk whose log number is one higher ends a log for Pebble, whatever else it holds.
func TestForgedEndOfLog(t *testing.T) {
	t.Parallel()
	o, mem := damageOptions(t)
	l := newLife(t, o)
	s := open(t, o)
	l.put(t, s, 20)
	l.kill(mem)
	name := newestLog(t, l.fs)
	id, _ := parseFileID(name)
	c := chunked{number: id.number}
	b := contents(t, l.fs, name)
	b = b[:wholeUntil(t, b, name)]
	for at := 0; at < len(b); {
		_, _, size := c.chunkAt(b[at:])
		if size == 0 {
			t.Fatalf("no chunk at %d", at)
		}
		l.changed(t, fmt.Sprintf("end at %d", at), name, func(b []byte) []byte {
			binary.LittleEndian.PutUint32(b[at+7:], uint32(id.number+1))
			return b
		}, 0, true)
		at += size
	}
}

// A newest log that is gone is missed, and so is one that was made empty.
func TestLostLog(t *testing.T) {
	t.Parallel()
	o, mem := damageOptions(t)
	l := newLife(t, o)
	l.put(t, open(t, o), 3)
	l.kill(mem)
	name := newestLog(t, l.fs)
	fs := l.clone()
	if err := fs.Remove(name); err != nil {
		t.Fatal(err)
	}
	if _, refused := l.open(t, fs, "log removed", name); !refused {
		t.Error("opened without its newest log")
	}
	l.changed(t, "log emptied", name, cut(0), 0, true)
}

// Notes that are damaged themselves, or gone, keep no store from opening.
func TestDamagedNotes(t *testing.T) {
	t.Parallel()
	o, mem := damageOptions(t)
	l := newLife(t, o)
	l.put(t, open(t, o), 3)
	l.kill(mem)
	name := "/store/db/" + syncedName
	size := len(contents(t, l.fs, name))
	wantAll := func(what string, change func([]byte) []byte) {
		t.Helper()
		fs := l.clone()
		rewrite(t, fs, name, change)
		if lost, refused := l.open(t, fs, what, name); refused || len(lost) > 0 {
			t.Errorf("%s: refused %t, lost %q", what, refused, lost)
		}
	}
	for at := 0; at < size; at += 13 {
		wantAll(fmt.Sprintf("flip at %d", at), flip(at, l.rng.IntN(8)))
	}
	for at := 0; at < size; at += 101 {
		wantAll(fmt.Sprintf("cut at %d", at), cut(at))
	}
	b := slot{fileID: fileID{number: 7}, synced: 100, session: 3, order: 2}.encode()
	for at := range b {
		for bit := range 8 {
			if s, ok := decodeSlot(flip(at, bit)(slices.Clone(b))); ok {
				t.Errorf("bit %d of byte %d flipped: read %+v", bit, at, s)
			}
		}
	}
}

// What the refusal proposes works: what was stored before the damage is kept.
func TestCutDamagedLog(t *testing.T) {
	t.Parallel()
	o, mem := damageOptions(t)
	l := newLife(t, o)
	l.put(t, open(t, o), 40)
	l.kill(mem)
	name := newestLog(t, l.fs)
	at := wholeUntil(t, contents(t, l.fs, name), name) / 2
	fs := l.clone()
	rewrite(t, fs, name, flip(at, 3))
	o.FS = fs
	_, err := Open(o)
	var d *damagedFile
	if !errors.As(err, &d) || int(d.whole) > at || at-int(d.whole) > 1000 {
		t.Fatalf("open: %v, want a refusal that names a place just before %d", err, at)
	}
	for _, want := range []string{fmt.Sprintf("truncate -s %d %q", d.whole, name), fmt.Sprintf("rm %q", "/store/db/"+syncedName)} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %s: %v", want, err)
		}
	}
	rewrite(t, fs, name, cut(int(d.whole)))
	if err := fs.Remove("/store/db/" + syncedName); err != nil {
		t.Fatal(err)
	}
	lost, refused := l.open(t, fs, "cut as proposed", name)
	if refused || len(lost) > len(l.keys)/2+2 || lost[0] != l.keys[len(l.keys)-len(lost)] {
		t.Errorf("refused %t, lost %q", refused, lost)
	}
}

// A note that a client has stored proves nothing.
func TestNotesOfClients(t *testing.T) {
	t.Parallel()
	note := syncNote{session: 1, number: 7, synced: 100}
	record := append(make([]byte, 12, 64), 3, byte(noteBytes)) // sequence number, count 0, LogData
	record = append(record, note.encode()...)
	if got := decodeNote(record); got == nil || *got != note {
		t.Fatalf("note %+v, want %+v", got, note)
	}
	b := make([]byte, syncHeader, 200)
	b = append(b, record...)
	binary.LittleEndian.PutUint16(b[4:], uint16(len(record)))
	b[6] = kindSyncFull
	binary.LittleEndian.PutUint32(b[7:], 7)
	binary.LittleEndian.PutUint32(b, checksum(b[6:]))
	for _, row := range []struct {
		session uint64
		at      int // bytes before the chunk
		want    int64
	}{
		{2, 90, 0}, // of another session
		{1, 90, 0}, // says what is behind itself was synced
		{1, 120, 100},
	} {
		c := chunked{number: 7}
		if err := c.read(strings.NewReader(string(append(make([]byte, row.at), b...))), row.session); err != nil || c.proven != row.want {
			t.Errorf("session %d, note at %d: proven %d, %v, want %d", row.session, row.at, c.proven, err, row.want)
		}
	}
}
