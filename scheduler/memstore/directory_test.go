package memstore

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/snower/forsun/scheduler"
)

// wantRefused expects Open to fail with an error that says all of want.
func wantRefused(t *testing.T, o Options, want ...string) {
	t.Helper()
	s, err := Open(o)
	if err == nil {
		_ = s.Close()
		t.Fatalf("opened %s, want a refusal that says %q", o.Dir, want)
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("the refusal does not say %q: %v", w, err)
		}
	}
}

// onDisk are options for a directory, without what takes time to set up.
func onDisk(t *testing.T, dir string) Options {
	o := testOptions(t)
	o.Dir, o.Ballast = dir, 0
	return o
}

// The directory and its parents are made, for nobody else to read: plans hold secrets.
func TestDirectoryIsMade(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "var", "lib", "forsun")
	s := open(t, onDisk(t, dir))
	if err := s.Put(t.Context(), []*scheduler.Plan{plan("k", 2_000_000_000)})[0]; err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{dir, filepath.Dir(dir)} {
		info, err := os.Stat(p)
		if err != nil {
			t.Fatal(err)
		}
		if perm := info.Mode().Perm(); perm != 0o700 {
			t.Errorf("%s has mode %o, want 700", p, perm)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, onDisk(t, dir))
	if _, err := s.Get(t.Context(), "k"); err != nil {
		t.Errorf("after opening again: %v", err)
	}
}

// What is not a store's is refused, and left as it is.
func TestForeignIsRefused(t *testing.T) {
	t.Parallel()
	dump := "\x83\xa5plans\x90\xaatime_plans\x80\xaccurrent_time\xce\x00\x00\x00\x00"
	rows := []struct {
		name    string
		content string
		want    []string
	}{
		{"dump of the Python forsun", dump, []string{"dump file of the Python forsun", "forsun migrate \"", "left as it is"}},
		{"dump that begins with another name", "\x83\xaatime_plans\x80\xa5plans\x90", []string{"dump file of the Python forsun"}},
		{"some file", "hello", []string{"a file (5 bytes)", "not a directory", "name a directory for the store"}},
		{"empty file", "", []string{"a file (0 bytes)"}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			name := filepath.Join(t.TempDir(), "store.session")
			if err := os.WriteFile(name, []byte(row.content), 0o644); err != nil {
				t.Fatal(err)
			}
			wantRefused(t, onDisk(t, name), append(row.want, name)...)
			if got, err := os.ReadFile(name); err != nil || string(got) != row.content {
				t.Errorf("the file is %q now, %v", got, err)
			}
		})
	}
	t.Run("directory of something else", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "thesis.doc"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		wantRefused(t, onDisk(t, dir), "thesis.doc", "no store")
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
			t.Errorf("the directory holds %v now, %v", entries, err)
		}
	})
	t.Run("mount point", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "lost+found"), 0o700); err != nil {
			t.Fatal(err)
		}
		open(t, onDisk(t, dir)) // accepted
	})
}

// A second process is told who has the store.
func TestSecondProcess(t *testing.T) {
	if dir := os.Getenv("FORSUN_MEMSTORE_HELD"); dir != "" {
		_, err := Open(onDisk(t, dir))
		fmt.Printf("second: %v\n", err)
		return
	}
	t.Parallel()
	dir := t.TempDir()
	s := open(t, onDisk(t, dir))
	t.Run("of another process", func(t *testing.T) {
		out := child(t, "^TestSecondProcess$", "FORSUN_MEMSTORE_HELD="+dir)
		if want := fmt.Sprintf("in use by process %d", os.Getpid()); !strings.Contains(out, want) {
			t.Errorf("the second process does not say %q:\n%s", want, out)
		}
	})
	t.Run("of this process", func(t *testing.T) {
		wantRefused(t, onDisk(t, dir), fmt.Sprintf("in use by process %d", os.Getpid()))
	})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, onDisk(t, dir)) // the file of the lock is still there, and means nothing
}

// A store of a newer version is refused, with both versions.
func TestNewerFormatIsRefused(t *testing.T) {
	t.Parallel()
	o := testOptions(t)
	o.Dir, o.FS = "/store", vfs.NewMem()
	s := open(t, o)
	if err := s.db.Set([]byte(metaFormat), binary.AppendUvarint(nil, formatVersion+1), pebble.Sync); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	wantRefused(t, o, fmt.Sprintf("is %d", formatVersion+1), fmt.Sprintf("up to %d", formatVersion))
}

func TestOptions(t *testing.T) {
	t.Parallel()
	rows := []struct {
		name string
		set  func(*Options)
		want []string
	}{
		{"no directory", func(o *Options) { o.Dir = "" }, []string{"Dir"}},
		{"unknown sync", func(o *Options) { o.Sync = "often" }, []string{"Sync", `"often"`, "always, 1s, never"}},
		{"no clock", func(o *Options) { o.Now = nil }, []string{"Now"}},
		{"negative history", func(o *Options) { o.HistoryEntries, o.HistoryAge = -1, -1 }, []string{"HistoryEntries: -1", "HistoryAge: -1ns"}},
		{"no dead letters", func(o *Options) { o.DeadEntries = 0 }, []string{"DeadEntries: 0"}},
		{"ballast over the reserve", func(o *Options) { o.Reserve, o.Ballast = 10, 20 }, []string{"Ballast: 20", "less than Reserve (10)"}},
		{"negative reserve", func(o *Options) { o.Reserve = -1 }, []string{"Reserve: -1"}},
		{"tiny cache", func(o *Options) { o.CacheBytes, o.MemTableBytes = 1, 1 }, []string{"CacheBytes: 1 ", "MemTableBytes: 1 "}},
	}
	for _, row := range rows {
		o := testOptions(t)
		row.set(&o)
		wantRefused(t, o, row.want...)
	}
	if o := DefaultOptions(); o.Validate() == nil {
		t.Error("no directory is no error")
	} else if o.Dir = Memory; o.Validate() != nil {
		t.Errorf("defaults are refused: %v", o.Validate())
	}
}
