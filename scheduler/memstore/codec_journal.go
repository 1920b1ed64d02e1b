package memstore

import (
	"encoding/binary"
	"encoding/hex"
	"time"

	"github.com/snower/forsun/scheduler"
)

// outcomes maps outcomes to the bytes that stand for them: their position, from 1. Their
// order is part of the format.
func outcomes() [4]scheduler.Outcome {
	return [4]scheduler.Outcome{scheduler.Succeeded, scheduler.Failed, scheduler.Dead, scheduler.Cancelled}
}

// appendAttempt writes an attempt; Sequence is not stored, it is the place.
func appendAttempt(b []byte, a *scheduler.Attempt) []byte {
	b = appendFiringID(b, a.Firing)
	b = appendString(b, a.Key)
	b = appendString(b, a.Action)
	b = binary.AppendVarint(b, a.Due)
	b = binary.AppendUvarint(b, uint64(a.Missed))
	b = binary.AppendUvarint(b, uint64(a.Attempt))
	b = appendTime(b, a.Started)
	b = binary.AppendVarint(b, int64(a.Late))
	b = binary.AppendVarint(b, int64(a.Took))
	b = appendOutcome(b, a.Outcome)
	b = appendString(b, a.Error)
	b = appendString(b, a.Output)
	b = appendString(b, a.Replica)
	return appendTime(b, a.RetryAt)
}

func (r *reader) attempt(a *scheduler.Attempt) {
	a.Firing = r.firingID()
	a.Key = r.string()
	a.Action = r.string()
	a.Due = r.varint()
	a.Missed = r.count()
	a.Attempt = r.count()
	a.Started = r.time()
	a.Late = time.Duration(r.varint())
	a.Took = time.Duration(r.varint())
	a.Outcome = r.outcome()
	a.Error = r.string()
	a.Output = r.string()
	a.Replica = r.string()
	a.RetryAt = r.time()
}

// appendFiringID writes an id in half its length, if it is one of NewFiringID's.
func appendFiringID(b []byte, id scheduler.FiringID) []byte {
	var raw [16]byte
	if len(id) == 32 {
		if _, err := hex.Decode(raw[:], []byte(id)); err == nil && hex.EncodeToString(raw[:]) == string(id) {
			return append(append(b, 1), raw[:]...)
		}
	}
	return appendString(append(b, 0), string(id))
}

func (r *reader) firingID() scheduler.FiringID {
	if r.byte() == 0 {
		return scheduler.FiringID(r.string())
	}
	if len(r.b) < 16 {
		r.fail(errTruncated)
		return ""
	}
	id := hex.EncodeToString(r.b[:16])
	r.b = r.b[16:]
	return scheduler.FiringID(id)
}

// appendOutcome writes a known outcome as one byte, another as 0 and its text.
func appendOutcome(b []byte, o scheduler.Outcome) []byte {
	for i, known := range outcomes() {
		if o == known {
			return append(b, byte(i+1))
		}
	}
	return appendString(append(b, 0), string(o))
}

func (r *reader) outcome() scheduler.Outcome {
	c := r.byte()
	known := outcomes()
	if c == 0 {
		return scheduler.Outcome(r.string())
	}
	if int(c) > len(known) {
		r.fail(errRange)
		return ""
	}
	return known[c-1]
}

// decodeAttempts calls fn with each attempt of a history value, in the order they were recorded in.
func decodeAttempts(v []byte, n int, fn func(i int, a *scheduler.Attempt)) error {
	r := reader{b: v}
	r.version(attemptVersion)
	for i := range n {
		var a scheduler.Attempt
		r.attempt(&a)
		if r.err != nil {
			return r.err
		}
		fn(i, &a)
	}
	return r.end()
}

// A dead letter: version, died, error, the firing's record.
func appendDead(b []byte, died time.Time, why string, f *firing) []byte {
	b = append(b, deadVersion)
	b = appendTime(b, died)
	b = appendString(b, why)
	return append(appendFiringHead(b, f), f.core...)
}

func decodeDead(v []byte) (died time.Time, why string, f *firing, err error) {
	r := reader{b: v}
	r.version(deadVersion)
	died = r.time()
	why = r.string()
	if r.err != nil {
		return died, why, nil, r.err
	}
	f, err = decodeFiring(r.b)
	return died, why, f, err
}

// counters is what Shards tells without looking, and the last sequence number given.
// It is written with every batch that changes it.
type counters struct {
	sequence    uint64
	plans       int64
	retries     int64
	dead        int64
	quarantined int64
	attempts    int64 // in the history
}

func (c counters) encode(b []byte) []byte {
	b = binary.AppendUvarint(b, c.sequence)
	for _, n := range [...]int64{c.plans, c.retries, c.dead, c.quarantined, c.attempts} {
		b = binary.AppendVarint(b, n)
	}
	return b
}

func decodeCounters(v []byte) (c counters, err error) {
	r := reader{b: v}
	c.sequence = r.uvarint()
	for _, n := range [...]*int64{&c.plans, &c.retries, &c.dead, &c.quarantined, &c.attempts} {
		*n = r.varint()
	}
	return c, r.err // fields added later are skipped
}
