package memstore

import (
	"fmt"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// maxSpans bounds how many empty stretches an action's schedule remembers. One is
// what a schedule consumed from its front needs; more come of plans stored
// into stretches already consumed.
const maxSpans = 32

// schedule remembers which stretches of one action's schedule hold no plan: they
// may hold any number of tombstones, which reads would otherwise walk over again and
// again. It is a hint that is never wrong: whatever is written into a
// stretch is taken out of it after it was written and before it is answered.
type schedule struct {
	mu    sync.Mutex
	empty []span // ascending, not touching
	scans []*scan
}

// span is a stretch of schedule keys: lo ≤ key < hi.
type span struct{ lo, hi string }

// scan is a read in progress, which finds out that a stretch is empty while
// others write.
type scan struct {
	from string
	cut  string // the lowest key written since it began, at or after from; "" for none
}

// begin starts a read of the keys lo ≤ key < hi. It returns the stretches to look
// at, which are the rest of what is known to be empty.
func (s *schedule) begin(lo, hi string) (look []span, sc *scan) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sc = &scan{from: lo}
	at := lo
	for _, e := range s.empty {
		if e.hi <= at {
			continue
		}
		if e.lo >= hi {
			break
		}
		if at < e.lo {
			look = append(look, span{at, e.lo})
		}
		at = e.hi
	}
	if at < hi {
		look = append(look, span{at, hi})
	}
	s.scans = append(s.scans, sc)
	return look, sc
}

// end tells that a read found nothing from its lower end up to key.
func (s *schedule) end(sc *scan, key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.scans = slices.DeleteFunc(s.scans, func(o *scan) bool { return o == sc })
	if sc.cut != "" && sc.cut < key {
		key = sc.cut
	}
	if key <= sc.from {
		return
	}
	n := span{sc.from, key}
	var kept []span
	for _, e := range s.empty {
		if e.hi < n.lo || n.hi < e.lo {
			kept = append(kept, e)
			continue
		}
		n = span{min(e.lo, n.lo), max(e.hi, n.hi)}
	}
	if len(kept) >= maxSpans {
		kept = kept[:maxSpans-1] // the front of the schedule is what is read most
	}
	at, _ := slices.BinarySearchFunc(kept, n, func(a, b span) int { return compare(a.lo, b.lo) })
	s.empty = slices.Insert(kept, at, n)
}

// written tells that a plan was written at key.
func (s *schedule) written(key []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, e := range s.empty {
		if string(key) < e.lo {
			break
		}
		if string(key) >= e.hi {
			continue
		}
		k := string(key)
		head, tail := span{e.lo, k}, span{k + "\x00", e.hi}
		switch {
		case head.lo < head.hi && tail.lo < tail.hi && len(s.empty) < maxSpans:
			s.empty[i] = head
			s.empty = slices.Insert(s.empty, i+1, tail)
		case head.lo < head.hi:
			s.empty[i] = head
		case tail.lo < tail.hi:
			s.empty[i] = tail
		default:
			s.empty = slices.Delete(s.empty, i, i+1)
		}
		break
	}
	for _, sc := range s.scans {
		if string(key) >= sc.from && (sc.cut == "" || string(key) < sc.cut) {
			sc.cut = string(key)
		}
	}
}

func compare(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// scanDue calls fn with each entry of an action's schedule from lo to hi (schedule
// keys, hi excluded), in order, until it returns false. k and v are valid during the call. With learn,
// what is found to be empty at the beginning is remembered.
func (s *Store) scanDue(a *action, lo, hi []byte, learn bool, fn func(k, v []byte) (more bool, err error)) error {
	if string(lo) >= string(hi) {
		return nil
	}
	look, sc := a.schedule.begin(string(lo), string(hi))
	first := string(lo) // nothing is known to be missing up to here
	defer func() {
		if !learn {
			first = string(lo)
		}
		a.schedule.end(sc, first)
	}()
	if len(look) == 0 {
		first = string(hi)
		return nil
	}
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte(look[0].lo), UpperBound: []byte(look[0].hi)})
	if err != nil {
		return s.readError(err)
	}
	defer func() { _ = it.Close() }() // its error is Error's
	seen := false
	for i, part := range look {
		if i > 0 {
			it.SetBounds([]byte(part.lo), []byte(part.hi))
		}
		for it.First(); it.Valid(); it.Next() {
			if !seen {
				seen = true
				first = string(it.Key())
			}
			v, err := it.ValueAndErr()
			if err != nil {
				return s.readError(err)
			}
			more, err := fn(it.Key(), v)
			if err != nil || !more {
				return err
			}
		}
		if err := it.Error(); err != nil {
			return s.readError(fmt.Errorf("read schedule of %s: %w", a.name, err))
		}
	}
	if !seen {
		first = string(hi)
	}
	return nil
}
