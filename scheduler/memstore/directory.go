package memstore

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/gofrs/flock"
)

const (
	databaseDir = "db"           // Pebble's own
	lockName    = "forsund.lock" // locked, and holds the pid of who locks it
	ballastName = "ballast"
)

// directory is the locked directory of a store.
type directory struct {
	path string
	lock *flock.Flock
}

// lockDirectory makes the directory if need be, checks that it can be a store's,
// and locks it.
func lockDirectory(path string) (*directory, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		if err := os.MkdirAll(path, 0o700); err != nil {
			return nil, fmt.Errorf("make directory: %w", err)
		}
	case err != nil:
		return nil, err
	case !info.IsDir():
		return nil, fmt.Errorf("this is %s, not a directory; it is left as it is; name a directory for the store%s", describe(path, info), dumpHint(path, info))
	default:
		if err := ours(path); err != nil {
			return nil, err
		}
	}
	name := filepath.Join(path, lockName)
	lock := flock.New(name, flock.SetPermissions(0o600))
	locked, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	if !locked {
		return nil, fmt.Errorf("in use by %s: one directory serves one forsund", holder(name))
	}
	if err := os.WriteFile(name, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("write lock: %w", err), lock.Unlock())
	}
	return &directory{path, lock}, nil
}

// release unlocks the directory. The file stays: removing it could unlock
// somebody else's.
func (d *directory) release() error {
	if d == nil {
		return nil
	}
	return d.lock.Close()
}

// holder names who has the lock.
func holder(name string) string {
	b, err := os.ReadFile(name)
	pid := strings.TrimSpace(string(b))
	if _, bad := strconv.Atoi(pid); err != nil || bad != nil {
		return "another process"
	}
	return "process " + pid
}

// ours refuses a directory that holds something and no store.
func ours(path string) error {
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	other := ""
	for _, e := range entries {
		if e.Name() == backupName {
			return fmt.Errorf("this is a backup; it is left as it is; forsund restore %q makes a store of it", path)
		}
	}
	for _, e := range entries {
		switch name := e.Name(); {
		case name == databaseDir || name == lockName:
			return nil
		case name == "lost+found" || strings.HasPrefix(name, "."):
		default:
			other = name
		}
	}
	if other != "" {
		return fmt.Errorf("the directory holds %q and no store; it is left as it is; name an empty directory, or one that is not there yet", other)
	}
	return nil
}

// describe says what kind of file stands where the directory should.
func describe(path string, info os.FileInfo) string {
	if !info.Mode().IsRegular() {
		return "a " + info.Mode().Type().String() + " file"
	}
	if isDump(path) {
		return fmt.Sprintf("a dump file of the Python forsun (%d bytes)", info.Size())
	}
	return fmt.Sprintf("a file (%d bytes)", info.Size())
}

func dumpHint(path string, info os.FileInfo) string {
	if !info.Mode().IsRegular() || !isDump(path) {
		return ""
	}
	return fmt.Sprintf("; once forsund runs, this takes its plans over: forsun migrate %q", path)
}

// isDump recognizes a dump file: a msgpack map that begins with one of its three names.
func isDump(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	b := make([]byte, 32)
	n, _ := io.ReadFull(f, b)
	head := string(b[:n])
	if n == 0 || head[0] < 0x81 || head[0] > 0x8f {
		return false
	}
	for _, name := range []string{"plans", "time_plans", "current_time"} {
		if i := strings.Index(head, name); i > 0 && i <= 4 {
			return true
		}
	}
	return false
}
