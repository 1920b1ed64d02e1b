package memstore

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/snower/forsun/scheduler"
)

// flipsInChild is how many stores with damage a process opens.
const flipsInChild = 5_000

// A bit that has changed, in any file of a store — logs, tables, manifest, options, notes —
// is refused, at Open or when it is read, or does nothing: what is read is what was
// stored.
func TestEveryBitFlipped(t *testing.T) {
	t.Parallel()
	from, here := inParts(t, flipsInChild)
	if !here {
		return
	}
	o, mem := damageOptions(t)
	o.CacheBytes = 1 << 20
	l := newLife(t, o)
	s := open(t, o)
	y := newTale()
	y.tell(t.Context(), s)
	settle(t, s)
	if len(y.unsure) > 0 {
		t.Fatalf("unsure: %v", y.unsure)
	}
	l.kill(mem)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// A store that nobody has damaged, after Open: who ran what died.
	o.FS = l.clone()
	s = open(t, o)
	want := look(t, s)

	names, err := l.fs.List("/store/db")
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	type place struct {
		name    string
		at, bit int
	}
	var all []place
	kinds := make(map[string][]place)
	for _, name := range names {
		name = "/store/db/" + name
		b := contents(t, l.fs, name)
		if strings.HasSuffix(name, ".log") {
			if name != newestLog(t, l.fs) {
				continue // flushed
			}
			b = b[:wholeUntil(t, b, name)] // behind it is what was another log before
		}
		kind := strings.Trim(path.Base(name), "0123456789")
		for at := range b {
			for bit := range 8 {
				kinds[kind] = append(kinds[kind], place{name, at, bit})
			}
		}
	}
	for _, kind := range []string{".log", ".sst", "MANIFEST-", "OPTIONS-", syncedName} {
		if len(kinds[kind]) == 0 {
			t.Errorf("no file is %s", kind)
		}
		all = append(all, kinds[kind]...)
	}
	if from >= 0 {
		all = all[min(from, len(all)):]
		if len(all) > flipsInChild {
			all = all[:flipsInChild]
			t.Log(moreParts)
		}
	} else {
		all = all[:0]
		for _, kind := range slices.Sorted(maps.Keys(kinds)) {
			for range 30 {
				all = append(all, kinds[kind][l.rng.IntN(len(kinds[kind]))])
			}
		}
	}
	refused, found := 0, 0
	for _, p := range all {
		what := fmt.Sprintf("bit %d of byte %d of %s flipped", p.bit, p.at, p.name)
		fs := l.clone()
		rewrite(t, fs, p.name, flip(p.at, p.bit))
		switch opened, err := readBack(t, fs, o, want, what); {
		case !opened:
			refused++
		case err != nil:
			found++
		}
	}
	t.Logf("%d flips: %d refused, %d found when they were read, %d did nothing", len(all), refused, found, len(all)-refused-found)
}

// readBack opens a store with damage and reads everything: all of it must be as it was, or
// an error.
func readBack(t *testing.T, fs vfs.FS, o Options, want []string, what string) (opened bool, err error) {
	t.Helper()
	o.FS = fs
	s, err := Open(o)
	if err != nil {
		return false, err
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Errorf("%s: close: %v", what, err)
		}
	}()
	got, err := lookAt(s)
	if err == nil && !slices.Equal(got, want) {
		t.Errorf("%s: read\n%q, want\n%q", what, got, want)
	}
	for _, ask := range []func() error{
		func() error { _, _, err := s.List(t.Context(), scheduler.ListQuery{Limit: 100}); return err },
		func() error {
			_, err := s.Due(t.Context(), scheduler.DueQuery{Action: "http", To: 1 << 40, Limit: 100})
			return err
		},
		func() error {
			return s.Check(t.Context(), func(f scheduler.Finding) {
				if f.Severity == scheduler.SeverityError {
					t.Errorf("%s: %+v", what, f)
				}
			})
		},
	} {
		if e := ask(); err == nil {
			err = e
		}
	}
	return true, err
}

// A file that is gone is missed, or nothing depended on it.
func TestEveryFileLost(t *testing.T) {
	t.Parallel()
	if !inChild(t) {
		return
	}
	o, mem := damageOptions(t)
	l := newLife(t, o)
	s := open(t, o)
	y := newTale()
	y.tell(t.Context(), s)
	settle(t, s)
	l.kill(mem)
	o.FS = l.clone()
	want := look(t, open(t, o))
	names, err := l.fs.List("/store/db")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		fs := l.clone()
		if err := fs.Remove("/store/db/" + name); err != nil {
			t.Fatal(err)
		}
		opened, err := readBack(t, fs, o, want, name+" removed")
		if strings.HasPrefix(name, markerOfManifest) && (opened || !strings.Contains(err.Error(), "damaged") || !strings.Contains(err.Error(), markerOfManifest)) {
			t.Errorf("%s removed: opened %t, %v; want an error that says what is missing", name, opened, err)
		}
		t.Logf("%s removed: opened %t, %v", name, opened, err)
	}
}

// readsBadly is a file system on which looking into the store's directory panics, as
// Pebble does over some damage.
type readsBadly struct{ vfs.FS }

func (f readsBadly) List(dir string) ([]string, error) {
	if strings.HasSuffix(dir, "/db") {
		panic("slice bounds out of range")
	}
	return f.FS.List(dir)
}

// What Pebble panics over while it opens is damage, and an error.
func TestOpenPanics(t *testing.T) {
	t.Parallel()
	if !inChild(t) {
		return
	}
	o, mem := damageOptions(t)
	if err := open(t, o).Close(); err != nil {
		t.Fatal(err)
	}
	o.FS = readsBadly{mem}
	if s, err := Open(o); err == nil {
		_ = s.Close()
		t.Error("it opens")
	} else if text := err.Error(); !strings.Contains(text, "the store is damaged") || !strings.Contains(text, "slice bounds") || !strings.Contains(text, "restore the directory") {
		t.Errorf("got %v, want an error that says what is wrong and what to do", err)
	}
}
