package scheduler

import (
	"testing"
	"time"
)

func TestNextClaim(t *testing.T) {
	const (
		now   = 1_795_478_400 // 2026-11-24 00:00:00 UTC
		grace = 60
		cut   = now - grace
	)
	each := func(seconds, count int) Schedule {
		return Schedule{Kind: Timeout, Second: seconds, Minute: Any, Hour: Any, Day: Any, Month: Any, Week: Any, Count: count}
	}
	shanghai := map[string]string{OptionTimezone: "Asia/Shanghai"}
	rows := []struct {
		why    string
		s      Schedule
		params map[string]string
		due    int64
		fired  int

		fireDue int64
		missed  int
		next    int64
	}{
		{why: "on time", s: each(10, 0), due: now, fireDue: now, next: now + 10},
		{why: "late within the grace: itself, next from its due second", s: each(10, 0), due: now - 30, fireDue: now - 30, next: now - 20},
		{why: "the grace's last second", s: each(10, 0), due: cut, fireDue: cut, next: cut + 10},
		{why: "one older, alone", s: each(3600, 0), due: cut - 1, fireDue: cut - 1, missed: 1, next: cut - 1 + 3600},
		{why: "older ones collapse into the newest", s: each(10, 0), due: cut - 25, fireDue: cut - 5, missed: 3, next: cut + 5},
		{why: "one at the cut is not part of it", s: each(10, 0), due: cut - 30, fireDue: cut - 10, missed: 3, next: cut},
		{why: "missed is capped", s: each(1, 0), due: cut - 50_000, fireDue: cut - 1, missed: 10_000, next: cut},

		{why: "the last of a count", s: each(10, 3), due: now, fired: 2, fireDue: now},
		{why: "the one before", s: each(10, 3), due: now, fired: 1, fireDue: now, next: now + 10},
		{why: "a late single one keeps its due second", s: each(10, 1), due: now - 86400, fireDue: now - 86400, missed: 1},
		{why: "a collapsed firing is one of the count", s: each(10, 10), due: cut - 25, fired: 8, fireDue: cut - 15, missed: 2, next: cut + 5},
		{why: "it stands for no more than were left, the rest go on from now", s: each(10, 3), due: cut - 1005, fireDue: cut - 985, missed: 3, next: cut + 5},
		{why: "a huge count does not overflow", s: each(10, 1<<62), due: cut - 25, fireDue: cut - 5, missed: 3, next: cut + 5},
		{why: "at once", s: each(0, 1), due: now, fireDue: now},
		{why: "at once, long ago", s: each(0, 1), due: now - 86400, fireDue: now - 86400, missed: 1},

		{why: "daily", s: cal(0, 0, 0, Any, Any, Any), due: now, fireDue: now, next: now + 86400},
		{why: "daily, three days missed", s: cal(0, 0, 0, Any, Any, Any), due: now - 3*86400, fireDue: now - 86400, missed: 3, next: now},
		{why: "a calendar's count is ignored", s: Schedule{Second: 0, Minute: Any, Hour: Any, Day: Any, Month: Any, Week: Any, Count: 1}, due: now, fireDue: now, next: now + 60},
		{why: "a single date", s: cal(0, 0, 0, 24, 11, Any), due: now, fireDue: now},
		{why: "a single date, missed", s: cal(0, 0, 0, 20, 11, Any), due: now - 4*86400, fireDue: now - 4*86400, missed: 1},
		{why: "the plan's own zone", s: cal(0, 0, 8, Any, Any, Any), params: shanghai, due: now, fireDue: now, next: now + 86400},
		{why: "the plan's own zone, missed", s: cal(0, 0, 8, Any, Any, Any), params: shanghai, due: now - 2*86400, fireDue: now - 86400, missed: 2, next: now},
		{
			why: "a zone that cannot be loaded counts as none", s: cal(0, 0, 8, Any, Any, Any), params: map[string]string{OptionTimezone: "Mars/Olympus"},
			due: now, fireDue: now, next: now + 8*3600,
		},
		{why: "timeouts have no zone", s: each(10, 0), params: shanghai, due: now, fireDue: now, next: now + 10},
	}
	for _, r := range rows {
		p := &Plan{Key: "k", Revision: 7, Schedule: r.s, Params: r.params, Due: r.due, Fired: r.fired}
		got := p.NextClaim(now, grace, time.UTC)
		want := Claim{Key: "k", Revision: 7, Due: r.due, FireDue: r.fireDue, Missed: r.missed, Next: r.next}
		if got != want {
			t.Errorf("%s:\ngot  %+v\nwant %+v", r.why, got, want)
		}
		if got.Next != 0 && got.Next <= got.FireDue {
			t.Errorf("%s: next %d does not grow from %d", r.why, got.Next, got.FireDue)
		}
	}
}

// TestNextClaimCount fires a counted plan through an outage: Count firings in
// all, whatever was missed.
func TestNextClaimCount(t *testing.T) {
	const start, grace = 1_795_478_400, 60
	p := &Plan{
		Key: "k", Due: start + 10,
		Schedule: Schedule{Kind: Timeout, Second: 10, Minute: Any, Hour: Any, Day: Any, Month: Any, Week: Any, Count: 20},
	}
	now := int64(start + 10)
	for p.Due != 0 {
		if p.Fired == 5 {
			now += 3600 // down
		}
		now = max(now, p.Due)
		c := p.NextClaim(now, grace, time.UTC)
		if c.FireDue < p.Due || c.FireDue > now {
			t.Fatalf("firing %d: due %d at %d, plan due %d", p.Fired+1, c.FireDue, now, p.Due)
		}
		p.Fired, p.LastDue, p.Due = p.Fired+1, c.FireDue, c.Next
		if p.Fired > 20 {
			break
		}
	}
	if p.Fired != 20 {
		t.Errorf("got %d firings, want 20", p.Fired)
	}
}

func BenchmarkNextClaim(b *testing.B) {
	const now = 1_795_478_400
	zone := mustZone(b, "Europe/Berlin")
	rows := []struct {
		name string
		p    Plan
	}{
		{"on time", Plan{Schedule: cal(0, Any, Any, Any, Any, Any), Due: now}},
		{"a day of minutes missed", Plan{Schedule: cal(0, Any, Any, Any, Any, Any), Due: now - 86400}},
		{"own zone", Plan{Schedule: cal(0, Any, Any, Any, Any, Any), Due: now, Params: map[string]string{OptionTimezone: "Asia/Shanghai"}}},
	}
	for _, row := range rows {
		b.Run(row.name, func(b *testing.B) {
			for b.Loop() {
				if c := row.p.NextClaim(now, 60, zone); c.Next == 0 {
					b.Fatal("no next")
				}
			}
		})
	}
}
