package migrate

import (
	"testing"
	"time"
	_ "time/tzdata"

	"github.com/snower/forsun/scheduler"
)

// TestStandardOffset: what Python 3 answers for time.mktime(time.gmtime(t)) - t with glibc,
// in summer and winter, negated.
func TestStandardOffset(t *testing.T) {
	t.Parallel()
	const summer, winter = 1782900000, 1800000000 // of the north
	for name, want := range map[string]int64{"UTC": 0, "Asia/Shanghai": 28800, "Europe/Berlin": 3600, "America/New_York": -18000, "Australia/Sydney": 36000, "Asia/Kolkata": 19800} {
		zone, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, real := range []int64{summer, winter} {
			if got := standardOffset(real-want, zone); got != want {
				t.Errorf("%s at %d: %d, want %d", name, real, got, want)
			}
		}
	}
}

// TestPastDue: what becomes of next times that have passed.
func TestPastDue(t *testing.T) {
	t.Parallel()
	const now = 1_800_000_000
	rows := []struct {
		why           string
		next, handled int64
		count, fired  int64
		skip          bool
		due           int64
		left          int // firings
		out           bool
	}{
		{"missed", now - 100, now - 200, 3, 0, false, now - 100, 3, false},
		{"missed, and not known what was handled", now - 100, 0, 3, 0, false, now - 100, 3, false},
		{"in the second that was handled last", now - 100, now - 100, 3, 0, false, now - 100, 3, false},
		{"skipped", now - 100, now - 200, 3, 0, true, now + 20, 3, false},
		{"handled", now - 100, now - 50, 3, 0, false, now + 20, 2, false},
		{"handled for the last time", now - 100, now - 50, 3, 2, false, 0, 0, true},
		{"to come", now + 1, now - 50, 3, 2, true, now + 1, 1, false},
		{"now", now, now - 50, 3, 2, false, now, 1, false},
		{"without end", now - 100, now - 50, 0, 70, false, now + 20, -71, false},
	}
	for _, row := range rows {
		c := conversion{now: now, host: time.UTC, handled: row.handled, utc: true, skip: row.skip}
		p, _, err := c.plan(fields{"key": "k", "action": "shell", "is_time_out": true, "second": int64(60), "count": row.count, "current_count": row.fired, "next_time": row.next})
		if (err != nil) != row.out {
			t.Errorf("%s: %v", row.why, err)
		} else if err == nil && (p.Due != row.due || p.Schedule.Count-p.Fired != row.left) {
			t.Errorf("%s: due %+d, %d left, want %+d, %d", row.why, p.Due-now, p.Schedule.Count-p.Fired, row.due-now, row.left)
		}
	}
	// A calendar is in UTC, wherever it comes to.
	c := conversion{now: now, host: time.UTC}
	p, _, err := c.plan(fields{"key": "k", "action": "shell", "second": int64(0), "hour": int64(3), "next_time": int64(now + 50)})
	if err != nil || p.Params[scheduler.OptionTimezone] != "UTC" {
		t.Errorf("calendar: %+v, %v", p, err)
	}
}
