package memstore

import (
	"fmt"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Every beginning of a log is the store as it was after one of the operations that were
// answered, in their order, or is refused: refused if what was synced is known, as after
// a kill.
func TestEveryPrefixOfTheLog(t *testing.T) {
	t.Parallel()
	o, mem := damageOptions(t)
	l := newLife(t, o)
	s := open(t, o)
	name := newestLog(t, mem)
	states, ends := [][]string{look(t, s)}, []int{wholeUntil(t, contents(t, mem, name), name)}
	y := newTale()
	y.flat = true
	y.after = func() {
		settle(t, s)
		states, ends = append(states, look(t, s)), append(ends, wholeUntil(t, contents(t, mem, name), name))
	}
	y.tell(t.Context(), s)
	if newestLog(t, mem) != name || len(y.unsure) > 0 || ends[len(ends)-1] < blockBytes {
		t.Fatalf("the log is %s, was %s, %d bytes; unsure %v", newestLog(t, mem), name, ends[len(ends)-1], y.unsure)
	}
	powerCut := mem.CrashClone(vfs.CrashCloneCfg{})
	l.kill(mem)
	whole := contents(t, l.fs, name)
	whole = whole[:wholeUntil(t, whole, name)]

	var cuts []int
	if wide {
		for at := range whole {
			cuts = append(cuts, at)
		}
	} else {
		for _, end := range ends {
			cuts = append(cuts, end-1, end, end+1)
		}
		for range 20 {
			cuts = append(cuts, l.rng.IntN(len(whole)))
		}
	}
	for at := range whole {
		if (wide || at%every(t) == 0) && !l.refused(t, "", name, whole[:at]) {
			t.Errorf("cut at %d of %d after a kill: not refused", at, len(whole))
		}
	}
	// Without notes nothing tells that there was more.
	opened := func(fs *vfs.MemFS, what string, at int, mayRefuse bool) {
		t.Helper()
		rewrite(t, fs, name, cut(at))
		o := o
		o.FS = fs
		s, err := Open(o)
		if err != nil {
			if !mayRefuse {
				t.Errorf("%s: %v", what, err)
			}
			return
		}
		got := look(t, s)
		// An operation's record may be whole, and what settle writes behind it not.
		n, _ := slices.BinarySearch(ends, at+1)
		if !slices.Equal(got, states[max(n-1, 0)]) && !slices.Equal(got, states[min(n, len(states)-1)]) {
			t.Errorf("%s: the store is not as it was after operation %d, nor after %d:\n%q\n%q\n%q", what, n-1, n, got, states[max(n-1, 0)], states[min(n, len(states)-1)])
		}
		wantWhole(t, s)
		if err := s.Close(); err != nil {
			t.Errorf("%s: close: %v", what, err)
		}
	}
	for _, at := range cuts {
		if at < 0 || at > len(whole) {
			continue
		}
		if !wide || at%37 == 0 {
			clone := powerCut.CrashClone(vfs.CrashCloneCfg{})
			if size := wholeUntil(t, contents(t, clone, name), name); at <= size {
				opened(clone, fmt.Sprintf("cut at %d of %d after a power cut", at, size), at, true)
			}
		}
	}
	l.forget(t)
	for _, at := range cuts {
		if at >= 0 && at <= len(whole) {
			opened(l.clone(), fmt.Sprintf("cut at %d of %d, without notes", at, len(whole)), at, false)
		}
	}
}
