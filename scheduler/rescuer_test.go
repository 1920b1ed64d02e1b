package scheduler

import (
	"context"
	"sync/atomic"
	"testing"
	"time"
)

func TestRescuerJudgesByManyReadsOverTime(t *testing.T) {
	type read struct {
		at    time.Duration
		beats uint64
		fails bool
	}
	for _, row := range []struct {
		why   string
		reads []read
		want  bool // dead after the last read
	}{
		{"still over 8 s and many reads", []read{{0, 7, false}, {3 * time.Second, 7, false}, {6 * time.Second, 7, false}, {8 * time.Second, 7, false}}, true},
		{"not long enough", []read{{0, 7, false}, {1 * time.Second, 7, false}, {2 * time.Second, 7, false}, {4 * time.Second, 7, false}, {7900 * time.Millisecond, 7, false}}, false},
		{"too few reads", []read{{0, 7, false}, {4 * time.Second, 7, false}, {8 * time.Second, 7, false}}, false},
		{"it moved: the evidence starts over", []read{{0, 7, false}, {3 * time.Second, 7, false}, {6 * time.Second, 8, false}, {9 * time.Second, 8, false}, {12 * time.Second, 8, false}}, false},
		{"the observer was paused: it may have missed beats", []read{{0, 7, false}, {3 * time.Second, 7, false}, {9 * time.Second, 7, false}, {10 * time.Second, 7, false}, {11 * time.Second, 7, false}}, false},
		{"a failed read: the store was away, for the worker too", []read{{0, 7, false}, {3 * time.Second, 7, false}, {6 * time.Second, 7, true}, {9 * time.Second, 7, false}, {10 * time.Second, 7, false}}, false},
		{"it never beat at all, and stays silent", []read{{0, 0, false}, {3 * time.Second, 0, false}, {6 * time.Second, 0, false}, {10 * time.Second, 0, false}}, true},
	} {
		r := &rescuer{}
		start := time.Now()
		var dead []Holder
		for _, rd := range row.reads {
			at := start.Add(rd.at)
			r.begin(at)
			if rd.fails {
				r.failed()
				continue
			}
			dead = r.judge([]Holder{{Worker: "w", Beats: rd.beats}}, at)
		}
		if got := len(dead) == 1; got != row.want {
			t.Errorf("%s: dead = %v, want %v", row.why, got, row.want)
		}
	}
}

// stillStore shows a worker that does not beat, and counts who rescues it.
type stillStore struct {
	Store
	rescues int
}

func (s *stillStore) Holders(context.Context, int) ([]Holder, error) {
	return []Holder{{Worker: "w", Beats: 7}}, nil
}

func (s *stillStore) Rescue(context.Context, Lease, Holder, int, int) (int, error) {
	s.rescues++
	return 0, nil
}

func TestRescuerKnowsTheDeadBeforeItLeads(t *testing.T) {
	store := &stillStore{}
	var lease atomic.Pointer[Lease]
	r := &rescuer{e: &Engine{store: store, opts: DefaultEngineOptions()}, lease: &lease}
	start := time.Now()
	read := func(at time.Duration) {
		t.Helper()
		if err := r.runOnce(t.Context(), start.Add(at)); err != nil {
			t.Fatal(err)
		}
	}
	for at := time.Duration(0); at <= 10*time.Second; at += time.Second {
		read(at)
	}
	if store.rescues != 0 {
		t.Errorf("rescued %d times without a lease", store.rescues)
	}
	lease.Store(&Lease{Value: "1:me:x"})
	read(11 * time.Second)
	if store.rescues != 1 {
		t.Errorf("rescued %d times by its first read as the leader, want once", store.rescues)
	}
}
