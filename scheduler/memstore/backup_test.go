package memstore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/snower/forsun/scheduler"
	"github.com/snower/forsun/scheduler/storetest"
)

func openAt(t *testing.T, dir string) *Store {
	t.Helper()
	o := DefaultOptions()
	o.Dir, o.Reserve, o.Ballast = dir, 0, 0
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// TestBackupUnderLoad: all that was answered before a backup began is in it, and can be
// claimed; the store goes on.
func TestBackupUnderLoad(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	s := openAt(t, filepath.Join(root, "store"))
	ctx, stop := context.WithCancel(t.Context())
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		acked []string
	)
	put := func(key string) error { return s.Put(t.Context(), []*scheduler.Plan{storetest.NewPlan(key)})[0] }
	for w := range 4 {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				key := fmt.Sprintf("w%d/%d", w, i)
				if err := put(key); err != nil {
					t.Errorf("Put: %v", err)
					return
				}
				mu.Lock()
				acked = append(acked, key)
				mu.Unlock()
			}
		})
	}
	enough := func(n int) []string {
		for {
			mu.Lock()
			some := acked[:len(acked):len(acked)]
			mu.Unlock()
			if len(some) >= n || t.Failed() {
				return some
			}
			if err := put("between"); err != nil {
				t.Fatal(err)
			}
		}
	}
	var dirs []string
	var before [][]string
	for i := range 3 {
		before = append(before, enough(200*(i+1)))
		dir := filepath.Join(root, fmt.Sprint("backup", i))
		info, err := s.Backup(t.Context(), dir)
		if err != nil || info.Files == 0 || info.Bytes == 0 {
			t.Fatalf("%+v, %v", info, err)
		}
		dirs = append(dirs, dir)
		if i == 1 { // tables, too
			if err := s.db.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	stop()
	wg.Wait()
	for i, dir := range dirs {
		to := filepath.Join(root, fmt.Sprint("restored", i))
		if _, err := RestoreBackup(t.Context(), dir, to); err != nil {
			t.Fatal(err)
		}
		r := openAt(t, to)
		for _, key := range before[i] {
			if _, err := r.Get(t.Context(), key); err != nil {
				t.Fatalf("backup %d: %s: %v", i, key, err)
			}
		}
		if err := r.Check(t.Context(), func(f scheduler.Finding) {
			if f.Severity == scheduler.SeverityError {
				t.Errorf("backup %d: %+v", i, f)
			}
		}); err != nil {
			t.Error(err)
		}
		if _, err := RestoreBackup(t.Context(), dir, to); err == nil || !strings.Contains(err.Error(), "is not empty") {
			t.Errorf("over a store: %v", err)
		}
	}
	// A backup is no store.
	o := DefaultOptions()
	o.Dir = dirs[0]
	if _, err := Open(o); err == nil || !strings.Contains(err.Error(), "this is a backup") {
		t.Errorf("open of a backup: %v", err)
	}
	if err := put("after"); err != nil {
		t.Error(err)
	}
}

// TestDamagedBackup is refused, with the file and the place, and leaves nothing.
func TestDamagedBackup(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	s := openAt(t, filepath.Join(root, "store"))
	for i := range 50 {
		if err := s.Put(t.Context(), []*scheduler.Plan{storetest.NewPlan(fmt.Sprint("k", i))})[0]; err != nil {
			t.Fatal(err)
		}
	}
	files := 0
	rows := map[string]struct {
		harm func(name string) error
		part string
	}{
		"a bit": {func(name string) error {
			b, err := os.ReadFile(name)
			if err == nil {
				b[len(b)/2] ^= 1
				err = errors.Join(os.Remove(name), os.WriteFile(name, b, 0o600)) // it may be a link to the store's
			}
			return err
		}, "it is damaged between byte 0 and byte "},
		"cut": {func(name string) error {
			b, err := os.ReadFile(name)
			if err == nil {
				err = errors.Join(os.Remove(name), os.WriteFile(name, b[:len(b)-1], 0o600))
			}
			return err
		}, "between byte 0"},
		"gone": {os.Remove, "no such file"},
		"more": {func(name string) error { return os.WriteFile(name+".x", nil, 0o600) }, "is none of it"},
	}
	for why, row := range rows {
		dir := filepath.Join(root, why)
		if _, err := s.Backup(t.Context(), dir); err != nil {
			t.Fatal(err)
		}
		entries, err := os.ReadDir(filepath.Join(dir, databaseDir))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if info, err := e.Info(); err != nil || info.Size() < 8 || !strings.HasSuffix(e.Name(), ".log") && !strings.HasPrefix(e.Name(), "MANIFEST") {
				continue
			}
			files++
			name := filepath.Join(dir, databaseDir, e.Name())
			if err := row.harm(name); err != nil {
				t.Fatal(err)
			}
			to := filepath.Join(root, "to")
			_, err := RestoreBackup(t.Context(), dir, to)
			if err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), row.part) {
				t.Errorf("%s of %s: %v", why, e.Name(), err)
			}
			if empty, err := isEmpty(to); err == nil && !empty {
				t.Errorf("%s: something is left in %s", why, to)
			}
			break
		}
	}
	if files != len(rows) {
		t.Errorf("%d of %d backups had a file to damage", files, len(rows))
	}
	// One whose list is damaged, or not there.
	dir := filepath.Join(root, "list")
	if _, err := s.Backup(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(dir, backupName)
	b, _ := os.ReadFile(list)
	for part, content := range map[string]string{"its checksum is": strings.Replace(string(b), `"plans":50`, `"plans":51`, 1), "damaged: file": "{"} {
		os.WriteFile(list, []byte(content), 0o600)
		if _, err := RestoreBackup(t.Context(), dir, filepath.Join(root, "to")); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%s: %v", part, err)
		}
	}
	os.Remove(list)
	if _, err := RestoreBackup(t.Context(), dir, filepath.Join(root, "to")); err == nil || !strings.Contains(err.Error(), "was not finished") {
		t.Errorf("no list: %v", err)
	}
}

// TestBackupPlaces: where a backup may not go, and that the store goes on after.
func TestBackupPlaces(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	store := filepath.Join(root, "store")
	s := openAt(t, store)
	full := filepath.Join(root, "full")
	os.MkdirAll(filepath.Join(full, "x"), 0o700)
	link := filepath.Join(root, "link")
	os.Symlink(store, link)
	file := filepath.Join(root, "file")
	os.WriteFile(file, nil, 0o600)
	for dir, part := range map[string]string{
		"relative": "an absolute path", full: "or is empty", store: "outside of the store's own", filepath.Join(store, "db", "x"): "outside of the store's own",
		link: "no link", filepath.Join(link, "x"): "outside of the store's own", file: "a directory, and no link", filepath.Join(root, "no", "such"): "in a directory that is there",
	} {
		_, err := s.Backup(t.Context(), dir)
		if !errors.Is(err, scheduler.ErrNotAllowed) || !strings.Contains(err.Error(), part) {
			t.Errorf("%s: %v, want %s", dir, err, part)
		}
	}
	if empty, err := isEmpty(filepath.Join(full, "x")); err != nil || !empty {
		t.Error(err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Backup(cancelled, filepath.Join(root, "b")); err == nil {
		t.Error("a backup with a context that is done")
	}
	if err := s.Put(t.Context(), []*scheduler.Plan{storetest.NewPlan("k")})[0]; err != nil {
		t.Error(err)
	}
	if _, err := s.Backup(t.Context(), filepath.Join(root, "b")); err != nil {
		t.Error(err)
	}
}
