package memstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/rs/zerolog"
)

const (
	// syncedName is where it is noted how far logs and manifest are synced. It is beside
	// them, so that it is restored, or set aside, together with them.
	syncedName = "synced"
	// syncedSlots are as many logs as it has room for; far fewer are in use at a time. One
	// more slot, the first, is the manifest's.
	syncedSlots = 16
	slotBytes   = 64
	slotVersion = 1

	// Empty files, whose names say which manifest holds, and what format the database has. The
	// second comes when the first is there; without the first Pebble begins a new database in
	// the midst of the old one.
	markerOfManifest = "marker.manifest."
	markerOfFormat   = "marker.format-version."

	// The notes are fsynced when nothing was written for settleEvery, and in a busy
	// store every settleBusy.
	settleEvery = 500 * time.Millisecond
	settleBusy  = 5 * time.Second
)

// fileID is a write-ahead log or a manifest.
type fileID struct {
	manifest bool
	number   uint64
}

// parseFileID reads it from the file's name.
func parseFileID(name string) (id fileID, ok bool) {
	name = path.Base(name)
	number, isLog := strings.CutSuffix(name, ".log")
	if !isLog {
		if number, id.manifest = strings.CutPrefix(name, "MANIFEST-"); !id.manifest {
			return id, false
		}
	}
	var err error
	id.number, err = strconv.ParseUint(number, 10, 64)
	return id, err == nil
}

// syncNotes knows how far each log, and the manifest, is synced, and keeps that in a
// file, so that what was synced and is not there any more is missed at the next Open. The file is
// written after each fsync and not fsynced with it: a process that is killed leaves it
// exact; after a power cut it may be some seconds old, and what it says still holds.
type syncNotes struct {
	fs  vfs.FS
	dir string
	log zerolog.Logger

	known    map[fileID]int64 // what the file said was synced, when it was read
	sessions []uint64         // of those who wrote that
	newest   uint64           // log when the directory was read
	order    uint64           // of the newest slot

	mu      sync.Mutex
	file    vfs.File // nil until it is open, and after an error
	session uint64
	slots   [1 + syncedSlots]slot
	last    int  // the slot of the newest log
	changed bool // since the file was fsynced
	busy    bool // since settle looked
	settled time.Time
}

// slot is what is noted of one file.
type slot struct {
	fileID
	synced  int64
	session uint64 // of the process that wrote the file
	order   uint64 // in which logs were begun
}

func (s slot) encode() []byte {
	b := make([]byte, 4, slotBytes)
	b = binary.LittleEndian.AppendUint32(b, slotVersion)
	b = binary.LittleEndian.AppendUint64(b, s.number)
	b = binary.LittleEndian.AppendUint64(b, uint64(s.synced))
	b = binary.LittleEndian.AppendUint64(b, s.session)
	b = binary.LittleEndian.AppendUint64(b, s.order)
	b = b[:slotBytes]
	binary.LittleEndian.PutUint32(b, checksum(b[4:]))
	return b
}

func decodeSlot(b []byte) (s slot, ok bool) {
	if binary.LittleEndian.Uint32(b) != checksum(b[4:]) || binary.LittleEndian.Uint32(b[4:]) != slotVersion {
		return s, false
	}
	s.number = binary.LittleEndian.Uint64(b[8:])
	s.synced = int64(binary.LittleEndian.Uint64(b[16:]))
	s.session = binary.LittleEndian.Uint64(b[24:])
	s.order = binary.LittleEndian.Uint64(b[32:])
	return s, true
}

// readNotes reads what is noted in the database's directory, and looks which logs there
// are. A newest log that is not there any more is an error. Notes that cannot be read
// are as good as none: the logs may be well.
func readNotes(fs vfs.FS, dir string, log zerolog.Logger) (*syncNotes, error) {
	n := &syncNotes{fs: fs, dir: dir, log: log, known: make(map[fileID]int64), session: 1 + rand.Uint64N(1<<63)}
	names, err := fs.List(dir)
	if errors.Is(err, os.ErrNotExist) {
		return n, nil
	}
	if err != nil {
		return nil, err
	}
	begun, marked := false, false
	for _, name := range names {
		if id, ok := parseFileID(name); ok && !id.manifest {
			n.newest = max(n.newest, id.number)
		}
		begun = begun || strings.HasPrefix(name, markerOfFormat)
		marked = marked || strings.HasPrefix(name, markerOfManifest)
	}
	if begun && !marked {
		return nil, lostFile(fs.PathJoin(dir, markerOfManifest+"*"))
	}
	if !slices.Contains(names, syncedName) {
		return n, nil
	}
	f, err := fs.Open(fs.PathJoin(dir, syncedName))
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, int64(len(n.slots)*slotBytes)))
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("read %s: %w", syncedName, err)
	}
	bad := len(b) != len(n.slots)*slotBytes
	var last slot
	for i := 0; (i+1)*slotBytes <= len(b); i++ {
		s, ok := decodeSlot(b[i*slotBytes : (i+1)*slotBytes])
		if !ok {
			bad = true
			continue
		}
		s.manifest = i == 0
		n.slots[i] = s
		n.known[s.fileID] = s.synced
		if !slices.Contains(n.sessions, s.session) && s.session != 0 {
			n.sessions = append(n.sessions, s.session)
		}
		n.order = max(n.order, s.order)
		if !s.manifest && s.synced > 0 && s.number > last.number {
			last = s
		}
	}
	if bad {
		log.Warn().Str("file", fs.PathJoin(dir, syncedName)).
			Msg("part of the notes of how far the embedded store's logs are synced is damaged; a log that is damaged, too, may not be noticed")
	}
	if last.number > n.newest {
		return nil, &damagedFile{name: fs.PathJoin(dir, fmt.Sprintf("%06d.log", last.number)), synced: last.synced}
	}
	return n, nil
}

// start begins to write the notes down. It is called when the directory is there, and
// returns when the file is on disk.
func (n *syncNotes) start() error {
	if n == nil {
		return nil
	}
	f, err := n.fs.OpenReadWrite(n.fs.PathJoin(n.dir, syncedName), vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	n.mu.Lock()
	n.file = f
	var b []byte
	for i := range n.slots {
		b = append(b, n.slots[i].encode()...)
	}
	_, err = f.WriteAt(b, 0)
	n.mu.Unlock()
	if err == nil {
		err = f.Sync()
	}
	var dir vfs.File
	if err == nil {
		dir, err = n.fs.OpenDir(n.dir)
	}
	if err == nil {
		err = errors.Join(dir.Sync(), dir.Close())
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", syncedName, err), n.close())
	}
	return nil
}

// begun gives a file that is about to be written its slot.
func (n *syncNotes) begun(id fileID) (at int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := slot{fileID: id, session: n.session}
	if !id.manifest {
		n.order++
		s.order = n.order
		at = 1 + int(n.order%syncedSlots)
		n.last = at
	}
	n.slots[at] = s
	return at
}

// synced notes that a file is on disk up to an offset.
func (n *syncNotes) synced(at int, id fileID, offset int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := &n.slots[at]
	if s.fileID != id || s.synced >= offset {
		return
	}
	s.synced = offset
	if n.file == nil {
		return
	}
	if _, err := n.file.WriteAt(s.encode(), int64(at*slotBytes)); err != nil {
		n.failed(err)
		return
	}
	n.changed = true
	if id.manifest {
		// Logs are removed once a manifest says that they are flushed: damage to it would
		// lose what no log has any more. It is written once a memtable.
		n.flush()
		return
	}
	n.busy = true
}

// failed gives the notes up. What they say holds, but there is nothing new in them:
// no reason to end a store whose logs are well.
func (n *syncNotes) failed(err error) {
	n.log.Error().Err(err).Str("file", n.fs.PathJoin(n.dir, syncedName)).
		Msg("it cannot be noted any more how far the embedded store's logs are synced; damage to them may not be noticed at the next start")
	_ = n.file.Close()
	n.file = nil
}

// of is how far a log is synced; known is false for a file that is none, or one of another process.
func (n *syncNotes) of(name string) (synced int64, known bool) {
	id, ok := parseFileID(name)
	if !ok || id.manifest {
		return 0, false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range n.slots {
		if s.fileID == id && s.session == n.session {
			return s.synced, true
		}
	}
	return 0, false
}

// note is what is known to be synced of the newest log, to be written into the log; nil: nothing.
func (n *syncNotes) note() []byte {
	if n == nil {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.slots[n.last]
	return syncNote{n.session, s.number, s.synced}.encode()
}

// loop has the notes on disk soon.
func (n *syncNotes) loop(ctx context.Context) {
	tick := time.NewTicker(settleEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			n.settle(time.Now())
		}
	}
}

// settle fsyncs the notes if nothing new came since the last look, or if that was long ago.
func (n *syncNotes) settle(now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	wait := n.busy && now.Sub(n.settled) < settleBusy
	n.busy = false
	if n.file == nil || !n.changed || wait {
		return
	}
	n.settled = now
	n.flush()
}

// flush fsyncs the notes. mu is held, but not meanwhile: the next group does not wait for it.
func (n *syncNotes) flush() {
	n.changed = false
	f := n.file
	n.mu.Unlock()
	err := f.SyncData()
	n.mu.Lock()
	if err != nil && n.file != nil {
		n.failed(err)
	}
}

// close fsyncs the notes and closes their file.
func (n *syncNotes) close() error {
	if n == nil {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.file == nil {
		return nil
	}
	f := n.file
	n.file = nil
	var err error
	if n.changed {
		err = f.SyncData()
	}
	return errors.Join(err, f.Close())
}
