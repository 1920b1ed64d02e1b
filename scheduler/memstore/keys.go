package memstore

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/snower/forsun/scheduler"
)

// The first byte of a key names its keyspace: see the package comment.
const (
	spaceMeta       = 'm'
	spacePlan       = 'p'
	spaceSchedule   = 's'
	spaceFiring     = 'f'
	spaceCancelled  = 'x'
	spaceRetry      = 'r'
	spaceRetryByKey = 'k'
	spaceDead       = 'd'
	spaceHistory    = 'h'
	spaceQuarantine = 'q'
)

// Keys in the meta space.
const (
	metaFormat   = "mformat"
	metaCounters = "mcounters"
	metaTerm     = "mterm"
	metaClean    = "mclean"  // there after a stop, not after a crash
	metaTaken    = "mtaken:" // and an action: the highest number that was handed to a worker
)

// ordered maps signed numbers to unsigned ones of the same order.
func ordered(n int64) uint64   { return uint64(n) ^ 1<<63 }
func unordered(n uint64) int64 { return int64(n ^ 1<<63) }

func appendPlanKey(b []byte, key string) []byte {
	return append(append(b, spacePlan), key...)
}

// appendAction begins a key in the schedule of an action.
func appendAction(b []byte, action string) []byte {
	b = append(b, spaceSchedule)
	b = append(b, action...)
	return append(b, 0)
}

func appendScheduleKey(b []byte, action string, due int64, key string) []byte {
	b = appendAction(b, action)
	b = binary.BigEndian.AppendUint64(b, ordered(due))
	return append(b, key...)
}

// appendDueBound is the place before all plans of an action due at or after due.
func appendDueBound(b []byte, action string, due int64) []byte {
	return binary.BigEndian.AppendUint64(appendAction(b, action), ordered(due))
}

// appendAfterDue is the place after all plans of an action due at or before due.
func appendAfterDue(b []byte, action string, due int64) []byte {
	if due == math.MaxInt64 {
		return actionEnd(b, action)
	}
	return appendDueBound(b, action, due+1)
}

// actionEnd is the place after the whole schedule of an action.
func actionEnd(b []byte, action string) []byte {
	b = appendAction(b, action)
	b[len(b)-1] = 1
	return b
}

// splitScheduleKey takes the due second and the plan's key from a schedule key of
// action. ok is false if it is too short.
func splitScheduleKey(k []byte, action string) (due int64, key []byte, ok bool) {
	at := 1 + len(action) + 1
	if len(k) < at+8 {
		return 0, nil, false
	}
	return unordered(binary.BigEndian.Uint64(k[at:])), k[at+8:], true
}

// appendSeqKey makes the keys that consist of a sequence number.
func appendSeqKey(b []byte, space byte, seq uint64) []byte {
	return binary.BigEndian.AppendUint64(append(b, space), seq)
}

func splitSeqKey(k []byte) (seq uint64, ok bool) {
	if len(k) != 9 {
		return 0, false
	}
	return binary.BigEndian.Uint64(k[1:]), true
}

func appendRetryKey(b []byte, ms int64, seq uint64) []byte {
	b = binary.BigEndian.AppendUint64(append(b, spaceRetry), ordered(ms))
	return binary.BigEndian.AppendUint64(b, seq)
}

func splitRetryKey(k []byte) (ms int64, seq uint64, ok bool) {
	if len(k) != 17 {
		return 0, 0, false
	}
	return unordered(binary.BigEndian.Uint64(k[1:])), binary.BigEndian.Uint64(k[9:]), true
}

// appendRetriesOf begins the keys of the retries of a plan's key.
func appendRetriesOf(b []byte, key string) []byte {
	b = append(append(b, spaceRetryByKey), key...)
	return append(b, 0)
}

func appendRetryByKey(b []byte, key string, seq uint64) []byte {
	return binary.BigEndian.AppendUint64(appendRetriesOf(b, key), seq)
}

// splitRetryByKey takes plan key and sequence number apart.
func splitRetryByKey(k []byte) (key []byte, seq uint64, ok bool) {
	if len(k) < 1+1+8 {
		return nil, 0, false
	}
	return k[1 : len(k)-9], binary.BigEndian.Uint64(k[len(k)-8:]), true
}

func appendHistoryKey(b []byte, seq uint64, ms int64, n int) []byte {
	b = appendSeqKey(b, spaceHistory, seq)
	b = binary.BigEndian.AppendUint64(b, ordered(ms))
	return binary.BigEndian.AppendUint32(b, uint32(n))
}

func splitHistoryKey(k []byte) (seq uint64, ms int64, n int, ok bool) {
	if len(k) != 1+8+8+4 {
		return 0, 0, 0, false
	}
	return binary.BigEndian.Uint64(k[1:]), unordered(binary.BigEndian.Uint64(k[9:])), int(binary.BigEndian.Uint32(k[17:])), true
}

func appendQuarantineKey(b []byte, key string) []byte {
	return append(append(b, spaceQuarantine), key...)
}

// encodeCursor makes a page's cursor of the key the next page begins at.
func encodeCursor(k []byte) string { return base64.RawURLEncoding.EncodeToString(k) }

func decodeCursor(c string) ([]byte, error) {
	k, err := base64.RawURLEncoding.DecodeString(c)
	if err != nil {
		return nil, fmt.Errorf("cursor %s is not one of this store: %w", scheduler.Shorten(c, 64), err)
	}
	return k, nil
}

// spaceBounds are the first key of a keyspace and the first after it.
func spaceBounds(space byte) (lower, upper []byte) { return []byte{space}, []byte{space + 1} }
