package memstore

import (
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/rs/zerolog"
)

// Memory is the Dir of a store that keeps everything in memory.
const Memory = ":memory:"

// ClaimBatch is a good size of a claim here: so many share one sync of the log,
// and the first of them need not wait long for the last.
const ClaimBatch = 1000

// Sync says when what was answered is on disk.
type Sync string

const (
	SyncAlways Sync = "always" // before it is answered
	SyncSecond Sync = "1s"     // at most about a second later
	SyncNever  Sync = "never"  // when the system or a memtable that is full gets to it
)

// Options of a store. Start from DefaultOptions.
type Options struct {
	// Dir holds the database. It is made, with its parents, if it is not there;
	// ":memory:" keeps everything in memory. Nothing else should be in it.
	Dir string

	// Sync says when Put, Remove and Claim are on disk.
	Sync Sync

	// Now is the store's clock. Leases run on the monotonic clock instead.
	Now func() time.Time

	// HistoryEntries and HistoryAge bound the history: the oldest attempts over
	// either go, within seconds. HistoryEntries 0 keeps none; age 0 means no
	// bound by age.
	HistoryEntries int
	HistoryAge     time.Duration

	// DeadEntries bounds the dead letters: the oldest over it are dropped,
	// counted and logged. At least 1.
	DeadEntries int

	// MaxDeliveries is how often the process may die over a firing before it is a
	// dead letter ("worker lost"). At least 1. See scheduler.RescueStore, which
	// is about workers that die and leave the store alive.
	MaxDeliveries int

	// Reserve is how many bytes must be free on the disk for a Put to be
	// accepted. Ballast is the size of a file that is given up for claims and
	// finishes when there is nothing else left. 0 turns either off. Neither applies
	// in memory.
	Reserve int64
	Ballast int64

	// CacheBytes is the size of the block cache, MemTableBytes that of a memtable, of
	// which there are up to four in a burst. Pebble takes CacheBytes + 4 ×
	// MemTableBytes in all; what memtables leave of it is cache, too.
	CacheBytes    int64
	MemTableBytes int64

	// Log gets what an operator should know.
	Log zerolog.Logger

	// logAhead is how much a log is lengthened by at a time: see guardedFile.lengthen.
	logAhead int64

	// FS replaces the file system, for tests: the directory lock, the check of
	// what Dir holds and the measuring of free space then go through it, too.
	FS vfs.FS
}

// DefaultOptions returns options that are right for most, but for Dir.
func DefaultOptions() Options {
	return Options{
		Sync:           SyncAlways,
		Now:            time.Now,
		HistoryEntries: 100_000,
		HistoryAge:     7 * 24 * time.Hour,
		DeadEntries:    10_000,
		MaxDeliveries:  5,
		Reserve:        256 << 20,
		Ballast:        64 << 20,
		CacheBytes:     48 << 20,
		MemTableBytes:  16 << 20,
		logAhead:       256 << 10,
		Log:            zerolog.Nop(),
	}
}

// Validate checks every field and what they mean together; the error names
// field, value and what is allowed, for all that is wrong.
func (o Options) Validate() error {
	var errs []error
	bad := func(field string, value any, allowed string) {
		errs = append(errs, fmt.Errorf("%s: %v is not allowed; allowed: %s", field, value, allowed))
	}
	if o.Dir == "" {
		bad("Dir", `""`, `a directory, or ":memory:"`)
	}
	switch o.Sync {
	case SyncAlways, SyncSecond, SyncNever:
	default:
		bad("Sync", fmt.Sprintf("%q", o.Sync), "always, 1s, never")
	}
	if o.Now == nil {
		bad("Now", "nil", "a clock")
	}
	if o.HistoryEntries < 0 {
		bad("HistoryEntries", o.HistoryEntries, "0 or more")
	}
	if o.HistoryAge < 0 {
		bad("HistoryAge", o.HistoryAge, "0 (no bound) or more")
	}
	if o.DeadEntries < 1 {
		bad("DeadEntries", o.DeadEntries, "1 or more")
	}
	if o.MaxDeliveries < 1 {
		bad("MaxDeliveries", o.MaxDeliveries, "1 or more")
	}
	if o.Reserve < 0 {
		bad("Reserve", o.Reserve, "0 (off) or more bytes")
	}
	if o.Ballast < 0 {
		bad("Ballast", o.Ballast, "0 (off) or more bytes")
	}
	if o.Reserve > 0 && o.Ballast >= o.Reserve {
		bad("Ballast", o.Ballast, fmt.Sprintf("less than Reserve (%d)", o.Reserve))
	}
	if o.CacheBytes < 1<<20 {
		bad("CacheBytes", o.CacheBytes, "1 MiB or more")
	}
	if o.MemTableBytes < 1<<20 || o.MemTableBytes > 1<<30 {
		bad("MemTableBytes", o.MemTableBytes, "1 MiB to 1 GiB")
	}
	return errors.Join(errs...)
}
