package scheduler

import (
	"testing"
	"time"
)

// TestCompareClocks: who is wrong is known only where more than half agree.
func TestCompareClocks(t *testing.T) {
	const s = time.Second
	rows := []struct {
		why       string
		offsets   []time.Duration
		agreed    bool
		wrong     int // how many are known to be wrong
		overrules bool
	}{
		{"nobody", nil, false, 0, false},
		{"one", []time.Duration{0}, false, 0, false},
		{"one, far from the store", []time.Duration{9 * s}, false, 0, false},
		{"two alike", []time.Duration{0, s}, true, 0, false},
		{"two alike, far from the store", []time.Duration{-9 * s, -9 * s}, true, 0, true},
		{"two that differ", []time.Duration{0, 2 * s}, false, 0, false},
		{"two that differ, far from the store", []time.Duration{7 * s, 9 * s}, false, 0, false},
		{"one of three", []time.Duration{0, s / 2, 3 * s}, true, 1, false},
		{"one of three, as far as is allowed", []time.Duration{0, 0, s}, true, 0, false},
		{"one of three right with a wrong store", []time.Duration{0, 9 * s, 9 * s}, true, 1, true},
		{"three that all differ", []time.Duration{0, 3 * s, 6 * s}, false, 0, false},
		{"two of four", []time.Duration{0, 0, 5 * s, 5 * s}, false, 0, false},
		{"one of four", []time.Duration{0, 0, 0, 5 * s}, true, 1, false},
		{"two of five", []time.Duration{-5 * s, 0, 0, 0, 5 * s}, true, 2, false},
		{"three of five, each by itself", []time.Duration{-9 * s, -5 * s, 0, 0, 5 * s}, false, 0, false},
		{"five seconds from the store", []time.Duration{5 * s, 5 * s, 5 * s}, true, 0, false},
	}
	for _, row := range rows {
		var replicas []Replica
		for _, o := range row.offsets {
			replicas = append(replicas, Replica{Offset: o})
		}
		c := compareClocks(replicas)
		wrong := 0
		for _, o := range row.offsets {
			if c.wrong(o) {
				wrong++
			}
		}
		if c.agreed != row.agreed || wrong != row.wrong || c.overrules() != row.overrules {
			t.Errorf("%s: got %+v, %d wrong, overrules %v, want agreed %v, %d, %v", row.why, c, wrong, c.overrules(), row.agreed, row.wrong, row.overrules)
		}
	}
}

// TestLive: who announced itself just now, also where the clock was set meanwhile.
func TestLive(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	var replicas []Replica
	for _, ago := range []time.Duration{0, -time.Second, 2 * time.Second, 4 * time.Second, time.Hour, -time.Hour} {
		replicas = append(replicas, Replica{Seen: now.Add(-ago)})
	}
	if got := len(live(replicas, now)); got != 3 || len(replicas) != 6 {
		t.Errorf("%d of %d are live, want 3 of 6", got, len(replicas))
	}
}

func TestSilentIsWhoLeftWithoutAWord(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	for _, row := range []struct {
		why  string
		ago  time.Duration
		want bool
	}{
		{"it lives", time.Second, false},
		{"it has missed announcements", 4 * time.Second, true},
		{"its firings have run again", 16 * time.Second, false},
		{"the clock was set back", -time.Minute, false},
	} {
		replicas := []Replica{{ID: "a", Seen: now}, {ID: "b", Seen: now.Add(-row.ago)}}
		if got := silent(replicas, now); got != row.want {
			t.Errorf("%s: got %t, want %t", row.why, got, row.want)
		}
	}
}
