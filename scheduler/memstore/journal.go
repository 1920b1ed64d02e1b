package memstore

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/snower/forsun/scheduler"
)

const (
	// lookThrough and lookBytes bound what one page of the history or of the dead
	// letters looks through when it is filtered.
	lookThrough = 10_000
	lookBytes   = 16 << 20
	// trimEvery is how often the history is cut to its bounds.
	trimEvery = 2 * time.Second
)

// historyEntry gathers the attempts of one batch of finishes.
type historyEntry struct {
	value []byte
	n     int
}

// add appends an attempt; an outcome that is not "" replaces the attempt's.
func (h *historyEntry) add(a *scheduler.Attempt, outcome scheduler.Outcome) {
	if h.n == 0 {
		h.value = append(h.value[:0], attemptVersion)
	}
	if outcome != "" && outcome != a.Outcome {
		c := *a
		c.Outcome, c.RetryAt = outcome, time.Time{}
		a = &c
	}
	h.value = appendAttempt(h.value, a)
	h.n++
}

// record writes a batch of attempts.
func (t *txn) record(h *historyEntry) {
	if h.n == 0 || t.s.opts.HistoryEntries == 0 {
		return
	}
	t.buf = appendHistoryKey(t.buf[:0], t.next(), t.s.opts.Now().UnixMilli(), h.n)
	t.set(t.buf, h.value)
	t.count(&t.s.counters.attempts, int64(h.n))
}

// place is where a page of the history goes on: before attempt i of the batch seq.
func parsePlace(cursor string) (seq uint64, i int, err error) {
	number, index, ok := strings.Cut(cursor, ".")
	seq, err = strconv.ParseUint(number, 10, 64)
	i, err2 := strconv.Atoi(index)
	if !ok || err != nil || err2 != nil || i < 0 {
		return 0, 0, fmt.Errorf("cursor %s is none of History's", scheduler.Shorten(cursor, 64))
	}
	return seq, i, nil
}

func formatPlace(seq uint64, i int) string {
	return strconv.FormatUint(seq, 10) + "." + strconv.Itoa(i)
}

// History returns a page of attempts, newest first.
func (s *Store) History(ctx context.Context, q scheduler.JournalQuery) (attempts []scheduler.Attempt, next string, err error) {
	leave, err := s.enter(ctx)
	if err != nil {
		return nil, "", err
	}
	defer leave()
	lower, upper := spaceBounds(spaceHistory)
	before := -1 // in the batch it begins with: attempts at or after this were on an earlier page
	var from uint64
	if q.Cursor != "" {
		if from, before, err = parsePlace(q.Cursor); err != nil {
			return nil, "", err
		}
		upper = appendSeqKey(nil, spaceHistory, from+1)
	}
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return nil, "", s.readError(err)
	}
	defer func() { _ = it.Close() }()
	looked, size := 0, 0
	for it.Last(); it.Valid(); it.Prev() {
		seq, _, n, ok := splitHistoryKey(it.Key())
		if !ok {
			continue
		}
		if looked >= lookThrough || size >= lookBytes {
			return attempts, formatPlace(seq, n), nil
		}
		v, err := it.ValueAndErr()
		if err != nil {
			return nil, "", s.readError(err)
		}
		looked, size = looked+n, size+len(v)
		end := n
		if seq == from && before >= 0 {
			end = min(before, n)
		}
		batch := make([]scheduler.Attempt, 0, min(n, 1024))
		err = decodeAttempts(v, n, func(i int, a *scheduler.Attempt) {
			if i < end && (q.Key == "" || a.Key == q.Key) {
				a.Sequence = formatPlace(seq, i)
				batch = append(batch, *a)
			}
		})
		if err != nil {
			s.log.Warn().Uint64("batch", seq).Err(err).Msg("a batch of the history cannot be decoded; it is left out")
			continue
		}
		for i := len(batch) - 1; i >= 0; i-- {
			if len(attempts) >= max(q.Limit, 1) {
				_, at, _ := parsePlace(batch[i].Sequence)
				return attempts, formatPlace(seq, at+1), nil
			}
			attempts = append(attempts, batch[i])
		}
		if ctx.Err() != nil {
			return nil, "", context.Cause(ctx)
		}
	}
	if err := it.Error(); err != nil {
		return nil, "", s.readError(err)
	}
	return attempts, "", nil
}

// trimLoop keeps the history within its bounds.
func (s *Store) trimLoop(ctx context.Context) {
	tick := time.NewTicker(trimEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.failed:
			return
		case <-tick.C:
		}
		if err := s.trim(ctx); err != nil && ctx.Err() == nil && s.failure() == nil {
			s.log.Error().Err(err).Msg("the history could not be trimmed")
		}
	}
}

// trim deletes the oldest batches of attempts that are over a bound: a range
// deletion, which leaves one tombstone.
func (s *Store) trim(ctx context.Context) error {
	cut, err := s.overHistory()
	if err != nil || cut == nil {
		return err
	}
	_, err = s.submit(&request{ctx: ctx, run: func(t *txn) error {
		lower, _ := spaceBounds(spaceHistory)
		gone := int64(0)
		it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: cut})
		if err != nil {
			return s.readError(err)
		}
		defer func() { _ = it.Close() }()
		for it.First(); it.Valid(); it.Next() {
			if _, _, n, ok := splitHistoryKey(it.Key()); ok {
				gone += int64(n)
			}
		}
		if err := it.Error(); err != nil {
			return s.readError(err)
		}
		t.deleteRange(lower, cut)
		t.count(&s.counters.attempts, -gone)
		return nil
	}})
	return err
}

// overHistory finds the first batch that stays; nil if nothing is over a bound.
func (s *Store) overHistory() (cut []byte, err error) {
	leave, err := s.enter(context.Background())
	if err != nil {
		return nil, err
	}
	defer leave()
	over := s.snapshot().attempts - int64(s.opts.HistoryEntries)
	oldest := int64(-1 << 62)
	if s.opts.HistoryAge > 0 {
		oldest = s.opts.Now().Add(-s.opts.HistoryAge).UnixMilli()
	}
	lower, upper := spaceBounds(spaceHistory)
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return nil, s.readError(err)
	}
	defer func() { _ = it.Close() }()
	for it.First(); it.Valid(); it.Next() {
		_, ms, n, ok := splitHistoryKey(it.Key())
		if ok && over <= 0 && ms >= oldest {
			if cut != nil {
				cut = append(cut[:0], it.Key()...)
			}
			break
		}
		over -= int64(n)
		cut = upper
	}
	if err := it.Error(); err != nil {
		return nil, s.readError(err)
	}
	return cut, nil
}
