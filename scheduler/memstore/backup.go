package memstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/snower/forsun/scheduler"
)

const (
	// backupName is the list of what a backup holds. It is written last: a directory without it
	// is no backup, or not all of one.
	backupName    = "backup.json"
	backupVersion = 1
	// blockOf is how much of a file one checksum is for: so damage has a place.
	blockOf = 1 << 20
)

// BackupInfo is what was backed up.
type BackupInfo struct {
	Dir   string
	Plans int64
	Files int
	Bytes int64
	Took  time.Duration
}

// backupList is the content of backupName: Body, and its checksum.
type backupList struct {
	Checksum uint32          `json:"crc32c"`
	Body     json.RawMessage `json:"body"`
}

type backupBody struct {
	Version int          `json:"version"`
	Time    time.Time    `json:"time"`
	Plans   int64        `json:"plans"` // about: as many as when it began
	Files   []backupFile `json:"files"`
}

type backupFile struct {
	Name   string   `json:"name"`
	Size   int64    `json:"size"`
	Blocks []uint32 `json:"crc32c"` // of each MiB
}

// Backup writes all that was answered before it began, and perhaps some of what came
// after, into dir, and returns once it is on disk, with a list of what it holds and
// checksums. dir is an absolute path outside of the store's own directory that is
// not there yet, in a directory that is, or is empty. Tables are linked where it is on the same
// file system, and then take no space until they would have been removed; what must be
// copied is refused with ErrFull if it would bring the disk below the reserve. Other
// calls go on meanwhile. After an error nothing is left in dir. One backup is made at a time.
func (s *Store) Backup(ctx context.Context, dir string) (info BackupInfo, err error) {
	if s.opts.Dir == Memory || s.opts.FS != nil {
		return info, notAllowed("backup", s.opts.Dir, "a store in a directory: this one is in memory")
	}
	leave, err := s.enter(ctx)
	if err != nil {
		return info, err
	}
	defer leave()
	if !s.backing.TryLock() {
		return info, notAllowed("backup", "a second one", "one at a time: another is under way")
	}
	defer s.backing.Unlock()
	began := time.Now()
	dir = filepath.Clean(dir)
	if err := s.backupPlace(dir); err != nil {
		return info, err
	}
	s.seen.mu.Lock()
	plans := s.seen.plans
	s.seen.mu.Unlock()
	made := false
	defer func() {
		if err != nil && made {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	if err := os.Mkdir(dir, 0o700); err == nil {
		made = true
	} else if !errors.Is(err, os.ErrExist) {
		return info, notAllowed("directory", dir, "one that can be made: "+err.Error())
	} else if empty, err := isEmpty(dir); err != nil || !empty {
		return info, notAllowed("directory", dir, "one that is not there yet, or is empty")
	} else {
		made = true
	}
	db := filepath.Join(dir, databaseDir)
	if err := s.db.Checkpoint(db, pebble.WithFlushedWAL()); err != nil {
		return info, fmt.Errorf("%w: backup: %w", scheduler.ErrStore, err)
	}
	body := backupBody{Version: backupVersion, Time: began.UTC(), Plans: plans}
	entries, err := os.ReadDir(db)
	if err != nil {
		return info, fmt.Errorf("%w: backup: %w", scheduler.ErrStore, err)
	}
	for _, e := range entries {
		f, err := sumFile(ctx, db, e.Name(), true)
		if err != nil {
			return info, fmt.Errorf("%w: backup: %w", scheduler.ErrStore, err)
		}
		body.Files = append(body.Files, f)
		info.Bytes += f.Size
	}
	if err := writeList(dir, body); err != nil {
		return info, fmt.Errorf("%w: backup: %w", scheduler.ErrStore, err)
	}
	if f := s.failure(); f != nil {
		return info, f
	}
	info.Dir, info.Plans, info.Files, info.Took = dir, plans, len(body.Files), time.Since(began)
	return info, nil
}

func notAllowed(field, value, allowed string) error {
	return &scheduler.FieldError{Kind: scheduler.ErrNotAllowed, Field: field, Value: scheduler.Shorten(value, 200), Allowed: allowed}
}

// backupPlace says whether a backup may be written to dir.
func (s *Store) backupPlace(dir string) error {
	if !filepath.IsAbs(dir) {
		return notAllowed("directory", dir, "an absolute path: it is on forsund's machine")
	}
	parent, err := filepath.EvalSymlinks(filepath.Dir(dir))
	if err != nil {
		return notAllowed("directory", dir, "one in a directory that is there: "+err.Error())
	}
	if info, err := os.Lstat(dir); err == nil && !info.IsDir() {
		return notAllowed("directory", dir, "a directory, and no link")
	}
	own, err := filepath.Abs(s.opts.Dir)
	if err == nil {
		own, err = filepath.EvalSymlinks(own)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", scheduler.ErrStore, err)
	}
	if at := filepath.Join(parent, filepath.Base(dir)); at == own || strings.HasPrefix(at+"/", own+"/") {
		return notAllowed("directory", dir, "one outside of the store's own, "+own)
	}
	// What is linked takes nothing; at the worst all is copied.
	need := s.opts.Reserve + int64(s.db.Metrics().DiskSpaceUsage())
	if same, err := sameDisk(parent, own); err == nil && same {
		need = s.opts.Reserve + 4*s.opts.MemTableBytes
	}
	if u, err := s.disk.fs.GetDiskUsage(parent); err == nil && int64(u.AvailBytes) < need {
		return fmt.Errorf("%w: %d bytes are free on the disk of %s, and a backup wants %d", scheduler.ErrFull, u.AvailBytes, dir, need)
	}
	return nil
}

func isEmpty(dir string) (bool, error) {
	entries, err := os.ReadDir(dir)
	return len(entries) == 0, err
}

// sumFile reads a file, and has it on disk first if wished.
func sumFile(ctx context.Context, dir, name string, sync bool) (b backupFile, err error) {
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return b, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if sync {
		if err := f.Sync(); err != nil {
			return b, err
		}
	}
	b.Name = name
	return b, b.sum(ctx, f, io.Discard)
}

// sum reads f to its end and notes its size and checksums, and copies it.
func (b *backupFile) sum(ctx context.Context, f io.Reader, to io.Writer) error {
	block := make([]byte, blockOf)
	for {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		n, err := io.ReadFull(f, block)
		if n > 0 {
			b.Size += int64(n)
			b.Blocks = append(b.Blocks, crc32.Checksum(block[:n], castagnoli))
			if _, werr := to.Write(block[:n]); werr != nil {
				return werr
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// differs says where a file is not what was backed up; "" if it is.
func (b *backupFile) differs(from backupFile) string {
	for i := range min(len(b.Blocks), len(from.Blocks)) {
		if b.Blocks[i] != from.Blocks[i] {
			return fmt.Sprintf("it is damaged between byte %d and byte %d", int64(i)*blockOf, min(int64(i+1)*blockOf, b.Size))
		}
	}
	if b.Size != from.Size {
		return fmt.Sprintf("it has %d bytes, and had %d", b.Size, from.Size)
	}
	return ""
}

// writeList writes the list and has all of the directory on disk.
func writeList(dir string, body backupBody) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	text, err = json.Marshal(backupList{crc32.Checksum(text, castagnoli), text})
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(dir, backupName), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(text, '\n'))
	if err == nil {
		err = errors.Join(syncDirs(filepath.Join(dir, databaseDir)), f.Sync())
	}
	return errors.Join(err, f.Close(), syncDirs(dir, filepath.Dir(dir)))
}

func syncDirs(dirs ...string) error {
	var errs []error
	for _, dir := range dirs {
		d, err := os.Open(dir)
		if err == nil {
			err = errors.Join(d.Sync(), d.Close())
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// RestoreBackup makes a store in dir, which is not there yet or is empty, of the backup in
// from, which is not changed. Every file is compared with its checksums; if one is
// damaged, missing, or too many, the error names it and the place, and nothing is left in dir.
func RestoreBackup(ctx context.Context, from, dir string) (info BackupInfo, err error) {
	began := time.Now()
	body, err := readList(from)
	if err != nil {
		return info, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return info, err
	}
	if empty, err := isEmpty(dir); err != nil || !empty {
		return info, errors.Join(err, fmt.Errorf("%s is not empty; name a directory that is, or is not there yet: nothing was changed", dir))
	}
	// It becomes the store's by a rename, when all of it is there and right.
	half := filepath.Join(dir, ".restoring")
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(half))
		}
	}()
	if err := os.Mkdir(half, 0o700); err != nil {
		return info, err
	}
	for _, want := range body.Files {
		if err := restoreFile(ctx, filepath.Join(from, databaseDir), half, want); err != nil {
			return info, err
		}
		info.Bytes += want.Size
	}
	if err := syncDirs(half); err != nil {
		return info, err
	}
	if err := os.Rename(half, filepath.Join(dir, databaseDir)); err != nil {
		return info, err
	}
	info.Dir, info.Plans, info.Files = dir, body.Plans, len(body.Files)
	err = syncDirs(dir, filepath.Dir(filepath.Clean(dir)))
	info.Took = time.Since(began)
	return info, err
}

func readList(from string) (body backupBody, err error) {
	name := filepath.Join(from, backupName)
	text, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		return body, fmt.Errorf("%s is no backup, or one that was not finished: it has no %s", from, backupName)
	}
	if err != nil {
		return body, err
	}
	var list backupList
	if err := json.Unmarshal(text, &list); err != nil {
		return body, fmt.Errorf("the backup is damaged: file %s: %w", name, err)
	}
	if sum := crc32.Checksum(list.Body, castagnoli); sum != list.Checksum {
		return body, fmt.Errorf("the backup is damaged: file %s: its checksum is %d, and was %d", name, sum, list.Checksum)
	}
	if err := json.Unmarshal(list.Body, &body); err != nil {
		return body, fmt.Errorf("the backup is damaged: file %s: %w", name, err)
	}
	if body.Version != backupVersion {
		return body, fmt.Errorf("%s: version %d of a backup; this program knows %d", name, body.Version, backupVersion)
	}
	entries, err := os.ReadDir(filepath.Join(from, databaseDir))
	if err != nil {
		return body, fmt.Errorf("the backup is damaged: %w", err)
	}
	for _, e := range entries {
		if !slices.ContainsFunc(body.Files, func(f backupFile) bool { return f.Name == e.Name() }) {
			return body, fmt.Errorf("the backup is damaged: file %s is none of it", filepath.Join(from, databaseDir, e.Name()))
		}
	}
	for _, f := range body.Files {
		if f.Name != filepath.Base(f.Name) || f.Name == "." || f.Name == ".." {
			return body, fmt.Errorf("the backup is damaged: file %s names %q", name, f.Name)
		}
	}
	return body, nil
}

// restoreFile copies a file and compares what it copied.
func restoreFile(ctx context.Context, from, to string, want backupFile) (err error) {
	name := filepath.Join(from, want.Name)
	in, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("the backup is damaged: %w", err)
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	out, err := os.OpenFile(filepath.Join(to, want.Name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	got := backupFile{Name: want.Name}
	err = got.sum(ctx, in, out)
	if err == nil {
		err = out.Sync()
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return err
	}
	if where := got.differs(want); where != "" {
		return fmt.Errorf("the backup is damaged: file %s: %s", name, where)
	}
	return nil
}
