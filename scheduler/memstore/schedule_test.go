package memstore

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestScheduleHint compares what is remembered of empty stretches with the truth,
// over random reads, writes and deletions, with reads that overlap writes: a
// key that is there is never in a stretch that reads skip.
func TestScheduleHint(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var s schedule
		there := map[string]bool{}
		name := rapid.Custom(func(t *rapid.T) string {
			return fmt.Sprintf("%03d", rapid.IntRange(0, 60).Draw(t, "key"))
		})
		// A read in progress sees the keys there were when it began.
		type read struct {
			lo, hi string
			seen   []string
			sc     *scan
		}
		var reads []read
		visible := func(look []span) (seen []string) {
			for k := range there {
				for _, p := range look {
					if p.lo <= k && k < p.hi {
						seen = append(seen, k)
					}
				}
			}
			slices.Sort(seen)
			return seen
		}
		t.Repeat(map[string]func(*rapid.T){
			"write": func(t *rapid.T) {
				k := name.Draw(t, "k")
				there[k] = true
				s.written([]byte(k)) // after it was written
			},
			"delete": func(t *rapid.T) { delete(there, name.Draw(t, "k")) },
			"begin": func(t *rapid.T) {
				lo, hi := name.Draw(t, "lo"), name.Draw(t, "hi")
				if lo >= hi {
					return
				}
				look, sc := s.begin(lo, hi)
				reads = append(reads, read{lo, hi, visible(look), sc})
			},
			"end": func(t *rapid.T) {
				if len(reads) == 0 {
					return
				}
				i := rapid.IntRange(0, len(reads)-1).Draw(t, "which")
				r := reads[i]
				reads = slices.Delete(reads, i, i+1)
				first := r.hi
				if len(r.seen) > 0 {
					first = r.seen[0]
				}
				s.end(r.sc, first)
			},
			"": func(t *rapid.T) {
				for i, e := range s.empty {
					if e.lo >= e.hi || i > 0 && s.empty[i-1].hi > e.lo {
						t.Fatalf("stretches out of order: %v", s.empty)
					}
					for k := range there {
						if e.lo <= k && k < e.hi {
							t.Fatalf("%s is there, but in the empty stretch %v", k, e)
						}
					}
				}
				if len(s.empty) > maxSpans {
					t.Fatalf("%d stretches are remembered", len(s.empty))
				}
			},
		})
	})
}

// A schedule that is consumed from its front is one empty stretch and the rest.
func TestScheduleFront(t *testing.T) {
	t.Parallel()
	var s schedule
	for i := range 100 {
		_, sc := s.begin("a", "z")
		s.end(sc, fmt.Sprintf("k%03d", i))
	}
	s.written([]byte("k050"))
	look, sc := s.begin("a", "z")
	if want := []span{{"k050", "k050\x00"}, {"k099", "z"}}; !slices.Equal(look, want) {
		t.Errorf("looks at %q, want %q", look, want)
	}
	s.end(sc, "k050")
}
