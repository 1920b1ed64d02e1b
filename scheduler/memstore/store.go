package memstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/rs/zerolog"

	"github.com/snower/forsun/scheduler"
)

// formatVersion is the version of the layout as a whole.
const formatVersion = 1

// shardID is the one shard of this store.
const shardID = 0

// Store is the embedded scheduler.Store. Get one with Open.
type Store struct {
	opts     Options
	log      zerolog.Logger
	db       *pebble.DB
	dir      *directory // nil in memory
	lazySync time.Duration

	writer   writer
	groups   chan group
	synced   chan group // what has been answered
	counters counters   // the writer's
	seen     struct {   // what others see of them
		mu sync.Mutex
		counters
	}

	work      work
	changes   *changes
	retries   retryIndex // the writer's
	retryFrom []byte     // the writer's: no retry waits before this key; nil: not known
	deadFrom  []byte     // the writer's: every dead letter before this key is gone; nil: not known
	leases    leases
	watch     watchers
	disk      diskState
	guard     *guard
	backing   sync.Mutex // held by a backup that is under way

	compactions *compactions

	droppedDead atomic.Int64 // dead letters dropped because there were too many
	stalled     atomic.Int64 // since when Pebble lets writes wait, in Unix nanoseconds; 0: it does not

	// life is held for reading by whoever may call Pebble, for writing by Close.
	life   sync.RWMutex
	closed bool

	failOnce sync.Once
	failed   chan struct{}
	failErr  error         // valid once failed is closed
	failures chan error    // what Failed returns
	held     chan struct{} // closed when Pebble waits for ever: see guard

	stop  context.CancelFunc // of the background goroutines
	tasks sync.WaitGroup     // writer, syncer and the background goroutines
}

var _ scheduler.Store = (*Store)(nil)

// Open opens the store in o.Dir, or makes it. It fails, and changes nothing, if o is not
// valid, if another process has the directory open (it is named), if the
// directory holds something else, if the store was written by a newer version, or if it is
// damaged (what and where is named). A write-ahead log that ends within a
// record that was never synced is not damage.
func Open(o Options) (*Store, error) {
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("options of the embedded store: %w", err)
	}
	s := &Store{
		opts:     o,
		log:      o.Log,
		groups:   make(chan group, maxInFlight),
		synced:   make(chan group, maxInFlight),
		changes:  &changes{seed: maphash.MakeSeed()},
		failed:   make(chan struct{}),
		failures: make(chan error, 1),
		held:     make(chan struct{}),
	}
	switch o.Sync {
	case SyncAlways:
		s.lazySync = lazySync
	case SyncSecond:
		s.lazySync = time.Second
	}
	s.writer.wake = make(chan struct{}, 1)
	s.work.init()
	s.leases.init()
	opened := make(chan error, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				// Of what has no checksum, such as the end of a table, Pebble believes what it
				// reads. Its locks may be held: it stays behind, as when the disk fails.
				opened <- s.openError(fmt.Errorf("%w: reading it panics: %v", pebble.ErrCorruption, p))
			}
		}()
		opened <- s.open()
	}()
	select {
	case err := <-opened:
		if err != nil {
			return nil, fmt.Errorf("open embedded store %s: %w", o.Dir, err)
		}
	case <-s.held:
		// Pebble stays behind, frozen, and the directory locked: see Failed.
		return nil, fmt.Errorf("open embedded store %s: %w", o.Dir, s.failure())
	}
	s.lookAtDisk() // before the first Put
	s.guard.armed.Store(true)
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	s.tasks.Go(s.writeLoop)
	s.tasks.Go(s.syncLoop)
	s.tasks.Go(func() { s.trimLoop(ctx) })
	s.tasks.Go(func() { s.diskLoop(ctx) })
	if s.guard.notes != nil {
		s.tasks.Go(func() { s.guard.notes.loop(ctx) })
	}
	return s, nil
}

// open opens Pebble and reads what it holds. If the disk fails it may never return.
func (s *Store) open() error {
	if err := s.openDB(); err != nil {
		return err
	}
	err := s.load()
	if err == nil {
		err = s.failure() // Pebble reads on its own, too
	}
	if err != nil {
		return errors.Join(err, s.db.Close(), s.guard.notes.close(), s.disk.close(), s.dir.release())
	}
	return nil
}

// load checks the format and reads what is kept in memory: counters, term, and
// the firings that were claimed and not finished, which are queued.
func (s *Store) load() error {
	v, found, err := s.get(nil, []byte(metaFormat))
	if err != nil {
		return err
	}
	if found {
		version, size := binary.Uvarint(v)
		if size <= 0 {
			return fmt.Errorf("format version: %w", errTruncated)
		}
		if version > formatVersion {
			return fmt.Errorf("format version is %d, this program knows up to %d: use the version of forsun that wrote it, or a newer one", version, formatVersion)
		}
	} else {
		if err := s.db.Set([]byte(metaFormat), binary.AppendUvarint(nil, formatVersion), pebble.Sync); err != nil {
			return fmt.Errorf("write format version: %w", err)
		}
		// Pebble begins the first log of a new database in its oldest format, in
		// which damage cannot be told from a torn tail. A flush begins another.
		if err := s.db.Flush(); err != nil {
			return fmt.Errorf("begin log: %w", err)
		}
	}
	if v, found, err = s.get(v, []byte(metaCounters)); err != nil {
		return err
	} else if found {
		if s.counters, err = decodeCounters(v); err != nil {
			return fmt.Errorf("counters: %w", err)
		}
	}
	// A number of this Open, on disk before it is used: receipts are never given twice.
	s.counters.sequence++
	s.work.boot = s.counters.sequence
	_, clean, err := s.get(nil, []byte(metaClean))
	if err != nil {
		return err
	}
	if err := errors.Join(
		s.db.Delete([]byte(metaClean), pebble.NoSync),
		s.db.Set([]byte(metaCounters), s.counters.encode(nil), pebble.Sync),
	); err != nil {
		return fmt.Errorf("write counters: %w", err)
	}
	s.publish()
	if v, found, err = s.get(v, []byte(metaTerm)); err != nil {
		return err
	} else if found {
		term, size := binary.Uvarint(v)
		if size <= 0 {
			return fmt.Errorf("term: %w", errTruncated)
		}
		s.leases.term = term
	}
	if err := s.loadActions(); err != nil {
		return err
	}
	if err := s.loadRetries(); err != nil {
		return err
	}
	return s.loadFirings(clean)
}

// Failed returns a channel that gets the reason when the store can no longer
// work: a write or an fsync failed, the disk is full to the last byte, or damage was
// read. It gets it once. From then on every call fails with scheduler.ErrStore; nothing that was answered
// is lost, and whoever runs the store should say why and exit. After a
// failure the database is left as it is, not closed, and some goroutines with it.
func (s *Store) Failed() <-chan error { return s.failures }

// fail ends the store: the first reason counts.
func (s *Store) fail(err error) {
	s.failOnce.Do(func() {
		s.failErr = fmt.Errorf("%w: %w", scheduler.ErrStore, err)
		if s.guard.armed.Load() { // else Open returns it
			s.log.Error().Err(err).Str("dir", s.opts.Dir).Msg("the embedded store failed; it does not go on")
		}
		close(s.failed)
		s.failures <- s.failErr
	})
}

// failure is why the store failed, or nil.
func (s *Store) failure() error {
	select {
	case <-s.failed:
		return s.failErr
	default:
		return nil
	}
}

// enter lets a reader in, who calls the returned function when it is done with Pebble.
func (s *Store) enter(ctx context.Context) (leave func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("embedded store: %w", context.Cause(ctx))
	}
	if err := s.failure(); err != nil {
		return nil, err
	}
	s.life.RLock()
	if s.closed {
		s.life.RUnlock()
		return nil, scheduler.ErrClosed
	}
	return s.life.RUnlock, nil
}

// Close answers what is under way, syncs, and releases the directory. A second
// call does nothing.
func (s *Store) Close() error {
	s.writer.mu.Lock()
	again := s.writer.closed
	s.writer.closed = true
	s.writer.mu.Unlock()
	if again {
		return nil
	}
	s.stop()
	s.writer.nudge()
	ended := make(chan error, 1)
	go func() { ended <- s.end() }()
	select {
	case err := <-ended:
		return err
	case <-s.failed:
		// Pebble is not closed: it could hang, or write what must not be
		// written any more. It stays behind, frozen, and the directory locked.
		s.watch.close()
		return nil
	}
}

// end waits for what is under way and closes everything, unless the store fails meanwhile.
func (s *Store) end() error {
	s.tasks.Wait()
	s.watch.close()
	s.life.Lock()
	defer s.life.Unlock()
	s.closed = true
	if s.failure() != nil {
		return nil
	}
	if err := s.closeDB(); err != nil {
		err = fmt.Errorf("close embedded store %s: %w", s.opts.Dir, err)
		return errors.Join(err, s.disk.close(), s.dir.release())
	}
	return errors.Join(s.disk.close(), s.dir.release())
}
