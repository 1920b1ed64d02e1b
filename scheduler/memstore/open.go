package memstore

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/rs/zerolog"
)

// memTables is how many memtables there may be before writes wait for a flush.
const memTables = 4

// openDB locks the directory and opens Pebble in it.
func (s *Store) openDB() error {
	o := &pebble.Options{
		// Fixed, so that a newer Pebble writes what an older forsun reads until we say
		// otherwise.
		FormatMajorVersion: pebble.FormatWALSyncChunks,
		// Memtables are taken out of the cache's size: without room for them there
		// would be no cache left in a burst.
		CacheSize:    s.opts.CacheBytes + memTables*s.opts.MemTableBytes,
		MemTableSize: uint64(s.opts.MemTableBytes),
		// Bursts write faster than one flush: more memtables take them up.
		MemTableStopWritesThreshold: memTables,
		// L0 is allowed to grow in a burst; reads go to the schedule's front, which is
		// mostly in memtables.
		L0CompactionThreshold:      4,
		L0StopWritesThreshold:      64,
		CompactionConcurrencyRange: func() (int, int) { return 1, 2 },
		LBaseMaxBytes:              64 << 20,
		MaxOpenFiles:               512,
		// Smooths the fsync of what nobody waited for.
		WALBytesPerSync: 1 << 20,
		BytesPerSync:    1 << 20,
		Logger:          pebbleLogger{s},
		EventListener:   s.listener(),
	}
	s.compactions = newCompactions()
	o.Experimental.CompactionScheduler = s.compactions
	for i := range o.Levels {
		o.Levels[i].BlockSize = 8 << 10
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
		o.Levels[i].FilterType = pebble.TableFilter
	}
	o.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionBalanced })

	dir := s.opts.Dir
	switch {
	case s.opts.FS != nil:
		o.FS = s.opts.FS
	case dir == Memory:
		o.FS, dir = vfs.NewMem(), "/"
	default:
		o.FS = vfs.Default
		d, err := lockDirectory(dir)
		if err != nil {
			return err
		}
		s.dir = d
	}
	raw, dir := o.FS, o.FS.PathJoin(dir, databaseDir)
	s.openDisk(o)
	if s.opts.FS == nil && s.opts.Dir != Memory {
		s.guard.dir, s.guard.raw = dir, raw
	}
	var db *pebble.DB
	var err error
	if s.opts.Dir != Memory || s.opts.FS != nil {
		s.guard.notes, err = readNotes(raw, dir, s.log)
	}
	if err == nil {
		db, err = pebble.Open(dir, o)
	}
	if err == nil {
		if err = s.guard.notes.start(); err != nil {
			err = errors.Join(err, db.Close())
		}
	}
	if err != nil {
		s.compactions.Unregister()
		if f := s.failure(); f != nil {
			err = f
		}
		return errors.Join(s.openError(err), s.disk.close(), s.dir.release())
	}
	s.db = db
	return nil
}

func (s *Store) closeDB() error {
	sync := pebble.Sync
	if s.opts.Sync == SyncNever {
		sync = pebble.NoSync
	}
	return errors.Join(s.db.Set([]byte(metaClean), nil, sync), s.db.Close(), s.guard.notes.close())
}

// openError says what an error at opening means for whoever runs forsun.
func (s *Store) openError(err error) error {
	const restore = "nothing was changed: restore the directory from a backup, or set it aside and begin an empty one"
	if d := (*damagedFile)(nil); errors.As(err, &d) {
		if d.newest {
			return fmt.Errorf("the store is damaged: %w; %s; or keep what was stored before the damage, and lose what was stored after it, with: truncate -s %d %q && rm %q",
				d, restore, d.whole, d.name, s.guard.FS.PathJoin(s.guard.FS.PathDir(d.name), syncedName))
		}
		return fmt.Errorf("the store is damaged: %w; %s", d, restore)
	}
	if lost := lostFile(""); errors.As(err, &lost) {
		return fmt.Errorf("the store is damaged: %w; %s", lost, restore)
	}
	if pebble.IsCorruptionError(err) {
		if name := s.guard.lastLog.Load(); name != nil && strings.Contains(err.Error(), "WAL") {
			err = fmt.Errorf("file %s: %w", *name, err)
		}
		return fmt.Errorf("the store is damaged: %w; %s", err, restore)
	}
	return err
}

// errUnreadable is an error of the disk, not of what is asked of the store.
var errUnreadable = errors.New("read store")

// readError notes an error of reading: damage that was read ends the store. So does what
// a change could not read: see execute.
func (s *Store) readError(err error) error {
	if pebble.IsCorruptionError(err) {
		s.fail(fmt.Errorf("the store is damaged: %w", err))
		return s.failure()
	}
	return fmt.Errorf("%w: %w", errUnreadable, err)
}

// listener hears what Pebble does on its own.
func (s *Store) listener() *pebble.EventListener {
	var failing atomic.Int64 // background errors since the last flush that went well
	return &pebble.EventListener{
		// Errors of writing do not come here: see guard.
		BackgroundError: func(err error) {
			if n := failing.Add(1); pebble.IsCorruptionError(err) || n >= 3 {
				s.fail(fmt.Errorf("write tables: %w", err))
			} else {
				s.log.Warn().Err(err).Msg("the embedded store could not write a table; it tries again")
			}
			s.guard.frozen()
		},
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			s.fail(fmt.Errorf("the store is damaged, file %s: %w", info.Path, info.Details))
		},
		DiskSlow: func(info vfs.DiskSlowInfo) {
			s.log.Warn().Str("file", info.Path).Dur("for", info.Duration).Msg("the disk of the embedded store is slow")
		},
		WriteStallBegin: func(info pebble.WriteStallBeginInfo) {
			s.stalled.Store(time.Now().UnixNano())
			s.log.Warn().Str("reason", info.Reason).Msg("the embedded store waits for its disk")
		},
		WriteStallEnd: func() {
			d := time.Duration(time.Now().UnixNano() - s.stalled.Swap(0))
			s.log.Info().Dur("after", d).Msg("the embedded store goes on")
		},
		FlushEnd: func(info pebble.FlushInfo) {
			if info.Err == nil {
				failing.Store(0)
			}
		},
	}
}

// pebbleLogger passes on what Pebble logs, and turns what it thinks fatal into a failure
// of the store.
type pebbleLogger struct{ s *Store }

func (l pebbleLogger) Infof(format string, args ...any) {
	if e := l.s.log.Trace(); e.Enabled() {
		e.Str("from", "pebble").Msgf(format, args...)
	}
}

func (l pebbleLogger) Errorf(format string, args ...any) {
	l.s.log.WithLevel(zerolog.ErrorLevel).Str("from", "pebble").Msgf(format, args...)
}

// Fatalf does not exit, and, once the store is open, does not return either: Pebble must not go
// on (it could write on behind a record it is not sure of), and that the process
// ends is for its main to see to, which hears of it by Failed. While it opens,
// Pebble returns an error after this.
func (l pebbleLogger) Fatalf(format string, args ...any) {
	if !l.s.guard.armed.Load() {
		l.Errorf(format, args...)
		return
	}
	l.s.fail(fmt.Errorf(format, args...))
	l.s.guard.frozen()
}
