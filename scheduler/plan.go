package scheduler

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"maps"
	"time"
)

// Status of a plan: how its last finished firing ended.
type Status int8

const (
	StatusNone      Status = 0  // no firing has finished yet
	StatusSucceeded Status = 1  // the last finished firing succeeded
	StatusFailed    Status = -1 // it failed
)

// Plan is a stored instruction: at the due seconds of Schedule, run Action with
// Params. A Plan handed to or got from a store is the receiver's own, but for the Params
// of those that Due returns.
type Plan struct {
	Key      string            // 1 to 512 bytes of UTF-8 without control characters
	Schedule Schedule          //
	Action   string            // name of a registered action
	Params   map[string]string // the action's parameters, and options under "forsun."; at most 256 entries, 256 KiB
	Created  time.Time         // when it was created or last overwritten
	Revision Revision          // drawn at each create or overwrite, unchanged by claims

	// What claims and finishes change.
	Due     int64  // next due second, Unix
	Fired   int    // firings claimed so far
	LastDue int64  // due second of the last claimed firing, 0 before the first
	Status  Status // of the last finished firing

	// Set by Put and PutNew in a plan that they stored: it replaced one of its key.
	// Not stored, and false in plans that are got.
	Replaced bool
}

// Clone returns a deep copy of p.
func (p *Plan) Clone() *Plan {
	c := *p
	c.Params = maps.Clone(p.Params)
	return &c
}

// Revision identifies one create or overwrite of a plan: 64 random bits, never 0.
type Revision uint64

// NewRevision draws a revision from the system's random source.
func NewRevision() Revision {
	var d draw
	return d.revision(1)
}

// draw draws revisions, many with one call to the system.
type draw struct {
	random [512]byte
	left   int // bytes at the end of random that are not used yet
}

// revision returns one of n that are still wanted.
func (d *draw) revision(n int) Revision {
	for {
		if d.left == 0 {
			d.left = 8 * min(n, len(d.random)/8)
			rand.Read(d.random[len(d.random)-d.left:]) // never fails: see crypto/rand
		}
		r := Revision(binary.BigEndian.Uint64(d.random[len(d.random)-d.left:]))
		if d.left -= 8; r != 0 {
			return r
		}
	}
}

// Firing is one due occurrence of a plan, as a worker holds it.
type Firing struct {
	Plan     *Plan // as it was claimed: Plan.Due is already the next one (0 if this was the last)
	Due      int64 // the due second of this firing, Unix; original through every retry
	Missed   int   // 0, or how many missed due seconds (this one included) it stands for: see Plan.NextClaim
	Attempt  int   // 1 for the first run; grows with retries and rescues, not with deferrals
	Delivery int   // 1 + how often its worker was lost since it was last finished: only Rescue adds to it

	Shard   int    // where it is queued
	Receipt string // the store's handle of this delivery, never used again; Finish names it
}

// FiringID is the stable name of a firing, 32 hexadecimal digits: the first 128
// bits of SHA-256 over key, revision and due second.
type FiringID string

// ID returns the firing's stable id.
func (f *Firing) ID() FiringID { return NewFiringID(f.Plan.Key, f.Plan.Revision, f.Due) }

// NewFiringID hashes (key, revision, due) into a firing's id.
func NewFiringID(key string, rev Revision, due int64) FiringID {
	b := make([]byte, 0, 16+MaxKeyBytes) // on the stack
	b = binary.BigEndian.AppendUint64(b, uint64(rev))
	b = binary.BigEndian.AppendUint64(b, uint64(due))
	b = append(b, key...)
	sum := sha256.Sum256(b)
	return FiringID(hex.AppendEncode(b[:0], sum[:16]))
}

// String returns the revision as 16 hexadecimal digits.
func (r Revision) String() string {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 24), uint64(r))
	return string(hex.AppendEncode(b, b)[8:])
}

// Outcome is how an attempt ended.
type Outcome string

const (
	Succeeded Outcome = "succeeded"
	Failed    Outcome = "failed"    // and will be retried
	Dead      Outcome = "dead"      // failed for the last time: now a dead letter
	Cancelled Outcome = "cancelled" // failed, and not retried because its plan was removed or replaced
)

// Attempt is one finished run of a firing: a line of the history.
type Attempt struct {
	Firing   FiringID
	Key      string
	Action   string
	Due      int64 // due second, Unix
	Missed   int
	Attempt  int           // 1, 2, …
	Started  time.Time     // when the action began
	Late     time.Duration // Started − Due
	Took     time.Duration // how long the action ran
	Outcome  Outcome
	Error    string    // why it failed, secrets masked; "" if it succeeded
	Output   string    // the action's output or response, capped, secrets masked
	Replica  string    // who ran it
	RetryAt  time.Time // when it will be tried again; zero unless Outcome is Failed
	Sequence string    // the store's cursor of this entry
}

// DeadLetter is a firing that failed for the last time. It can be redriven
// (queued again from attempt 1 under the same id) or purged.
type DeadLetter struct {
	ID     string // the store's name of this entry, for redrive and purge
	Firing *Firing
	Error  string // the last error, secrets masked
	Died   time.Time
}
