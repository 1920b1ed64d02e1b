package scheduler

import (
	"math/rand/v2"
	"testing"
	"time"
	_ "time/tzdata"
)

// wallClock is what a clock on the wall shows, taken from the time package, as
// the brute-force matcher wants it. It shares no code with Next.
type wallClock struct {
	month, day, hour, minute, second, weekday int
}

func readWall(t time.Time) wallClock {
	hour, minute, second := t.Clock()
	_, month, day := t.Date()
	return wallClock{int(month), day, hour, minute, second, int(t.Weekday())}
}

// matchesButSecond is the crontab rule, written out.
func (w wallClock) matchesButSecond(s Schedule) bool {
	if s.Minute != Any && s.Minute != w.minute {
		return false
	}
	if s.Hour != Any && s.Hour != w.hour {
		return false
	}
	return w.matchesDate(s)
}

func (w wallClock) matchesDate(s Schedule) bool {
	if s.Month != Any && s.Month != w.month {
		return false
	}
	dayFits, weekFits := s.Day == w.day, s.Week%7 == w.weekday
	switch {
	case s.Day == Any && s.Week == Any:
		return true
	case s.Day == Any:
		return weekFits
	case s.Week == Any:
		return dayFits
	}
	return dayFits || weekFits
}

// minuteRow is one real minute of a zone: what the wall clock shows in it, and
// what a gap right before it skipped.
type minuteRow struct {
	unix    int64
	wall    wallClock
	repeats bool        // the wall clock has shown this minute before
	skipped []wallClock // minutes it never showed, just before this one
}

// window is every real minute of a few days in a zone. Zones change at whole
// minutes here, so the seconds of a minute share all but the second.
type window struct {
	zone *time.Location
	rows []minuteRow
}

func newWindow(zone *time.Location, from time.Time, days int) window {
	w := window{zone: zone}
	naive := func(t time.Time) time.Time { // the wall clock's reading, as if it were UTC
		l := t.In(zone)
		return time.Date(l.Year(), l.Month(), l.Day(), l.Hour(), l.Minute(), l.Second(), 0, time.UTC)
	}
	var latest time.Time
	for t := from.Add(-26 * time.Hour); t.Before(from); t = t.Add(time.Minute) {
		if n := naive(t); n.After(latest) {
			latest = n
		}
	}
	for t := from; t.Before(from.Add(time.Duration(days) * 24 * time.Hour)); t = t.Add(time.Minute) {
		row := minuteRow{unix: t.Unix(), wall: readWall(t.In(zone))}
		n := naive(t)
		row.repeats = !n.After(latest)
		for missing := latest.Add(time.Minute); missing.Before(n); missing = missing.Add(time.Minute) {
			row.skipped = append(row.skipped, readWall(missing))
		}
		if n.After(latest) {
			latest = n
		}
		w.rows = append(w.rows, row)
	}
	return w
}

// next is the brute force: every minute after `after`, and every second of the
// ones that match, to the end of the window.
func (w window) next(s Schedule, after int64) (int64, bool) {
	first := max(int((after-w.rows[0].unix)/60), 0)
	for _, row := range w.rows[first:] {
		if s.Hour != Any && row.unix > after {
			for _, gone := range row.skipped {
				if gone.matchesButSecond(s) {
					return row.unix, true
				}
			}
		}
		if !row.wall.matchesButSecond(s) || (s.Hour != Any && row.repeats) {
			continue
		}
		for second := range 60 {
			if t := row.unix + int64(second); t > after && (s.Second == Any || s.Second == second) {
				return t, true
			}
		}
	}
	return 0, false
}

// beyond goes on where the window ends: day by day until a day matches, then
// through every minute around it.
func (w window) beyond(s Schedule, after int64) (int64, bool) {
	end := time.Unix(w.rows[len(w.rows)-1].unix+60, 0).In(w.zone)
	for day := range 9 * 366 {
		noon := time.Date(end.Year(), end.Month(), end.Day()+day, 12, 0, 0, 0, w.zone)
		if !readWall(noon).matchesDate(s) {
			continue
		}
		from := time.Date(noon.Year(), noon.Month(), noon.Day()-2, 12, 0, 0, 0, time.UTC)
		if due, ok := newWindow(w.zone, from, 4).next(s, max(after, end.Unix()-1)); ok {
			return due, true
		}
	}
	return 0, false
}

// edges are days at which something is odd in a zone: the window is laid around
// them.
var edges = []struct{ zone, day, why string }{
	{"UTC", "2026-12-31", "new year"},
	{"UTC", "2028-02-28", "leap day"},
	{"Asia/Shanghai", "2026-11-23", "no daylight saving"},
	{"Asia/Beirut", "2024-03-31", "gap at midnight"},
	{"Asia/Beirut", "2024-10-26", "the hour before midnight twice"},
	{"Australia/Lord_Howe", "2026-10-04", "gap of half an hour"},
	{"Australia/Lord_Howe", "2026-04-05", "half an hour twice"},
	{"America/Sao_Paulo", "2018-11-04", "gap at midnight"},
	{"America/Sao_Paulo", "2018-02-17", "the hour before midnight twice"},
	{"America/New_York", "2027-03-14", "gap at 2:00"},
	{"America/New_York", "2026-11-01", "1:00 to 2:00 twice"},
	{"Europe/Berlin", "2027-03-28", "gap at 2:00"},
	{"Europe/Berlin", "2027-10-31", "2:00 to 3:00 twice"},
	{"America/St_Johns", "2010-11-07", "change at 0:01"},
	{"Pacific/Apia", "2011-12-30", "a whole day skipped"},
	{"Pacific/Kwajalein", "1993-08-21", "a whole day skipped"},
	{"America/Caracas", "2016-05-01", "half an hour skipped for good"},
	{"Asia/Kathmandu", "2026-05-05", "offset of 5:45"},
	{"Africa/Casablanca", "2026-02-15", "daylight saving off for a month"},
}

func mustZone(t testing.TB, name string) *time.Location {
	t.Helper()
	zone, err := LoadZone("zone", name)
	if err != nil {
		t.Fatal(err)
	}
	return zone
}

// edgeWindows returns for each edge a window from two days before it to two
// days after.
func edgeWindows(t testing.TB) []window {
	t.Helper()
	windows := make([]window, len(edges))
	for i, e := range edges {
		day, err := time.Parse(time.DateOnly, e.day)
		if err != nil {
			t.Fatal(err)
		}
		windows[i] = newWindow(mustZone(t, e.zone), day.AddDate(0, 0, -2), 5)
	}
	return windows
}

// randomCalendar draws a plan that is likely to be due near the wall time `near`.
func randomCalendar(r *rand.Rand, near wallClock) Schedule {
	pick := func(anyOdds float64, at, spread, low, high int) int {
		if r.Float64() < anyOdds {
			return Any
		}
		if r.Float64() < 0.8 {
			at += r.IntN(2*spread+1) - spread
		} else {
			at = low + r.IntN(high-low+1)
		}
		return min(max(at, low), high)
	}
	for {
		s := Schedule{
			Second: pick(0.2, []int{0, near.second}[r.IntN(2)], 2, 0, 59),
			Minute: pick(0.3, []int{0, 30, near.minute}[r.IntN(3)], 2, 0, 59),
			Hour:   pick(0.4, near.hour, 2, 0, 23),
			Day:    pick(0.6, near.day, 1, 1, 31),
			Month:  pick(0.8, near.month, 1, 1, 12),
			Week:   pick(0.7, near.weekday, 1, 0, 7),
		}
		if s.Validate() == nil && !s.Once() {
			return s
		}
	}
}

// TestNextAgainstBruteForce holds Next to a matcher that tries every second.
func TestNextAgainstBruteForce(t *testing.T) {
	windows := edgeWindows(t)
	r := rand.New(rand.NewPCG(2026, 11))
	for i := 0; i < randomPlans; {
		w := windows[i%len(windows)]
		after := w.rows[1440+r.IntN(3*1440)].unix + int64(r.IntN(60))
		s := randomCalendar(r, readWall(time.Unix(after+int64(r.IntN(7200)), 0).In(w.zone)))
		want, wantOK := w.next(s, after)
		if !wantOK {
			// Most plans should meet the zone's edge, which is in the window; looking
			// beyond it is slow.
			if r.IntN(50) > 0 {
				continue
			}
			want, wantOK = w.beyond(s, after)
		}
		i++
		got, gotOK := s.Next(after, w.zone)
		if got != want || gotOK != wantOK {
			t.Fatalf("plan %d: Next of %+v\nafter %s\ngot   %s (%v)\nwant  %s (%v)", i, s,
				time.Unix(after, 0).In(w.zone), time.Unix(got, 0).In(w.zone), gotOK, time.Unix(want, 0).In(w.zone), wantOK)
		}
	}
}

// TestBruteForceMinutes holds the brute force's minute rows to a matcher that
// asks the time package about every single second.
func TestBruteForceMinutes(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for i, w := range edgeWindows(t) {
		after := w.rows[1440+r.IntN(3*1440)].unix + int64(r.IntN(60))
		s := randomCalendar(r, readWall(time.Unix(after, 0).In(w.zone)))
		s.Hour, s.Week, s.Month, s.Day = Any, Any, Any, Any // due within a day, by instants
		want := after + 1
		for ; ; want++ {
			wall := readWall(time.Unix(want, 0).In(w.zone))
			if wall.matchesButSecond(s) && (s.Second == Any || s.Second == wall.second) {
				break
			}
		}
		if got, ok := w.next(s, after); !ok || got != want {
			t.Errorf("%s, %+v after %d: got %d (%v), want %d", edges[i].zone, s, after, got, ok, want)
		}
	}
}

// TestNewestAndCountAgainstNext holds the two shortcuts to walking with Next.
func TestNewestAndCountAgainstNext(t *testing.T) {
	windows := edgeWindows(t)
	r := rand.New(rand.NewPCG(7, 7))
	for i := range randomPlans / 50 {
		w := windows[i%len(windows)]
		start := w.rows[0].unix
		s := randomCalendar(r, readWall(time.Unix(start+2*daySeconds, 0).In(w.zone)))
		from, ok := s.Next(start, w.zone)
		if !ok {
			t.Fatalf("%+v is never due", s)
		}
		before := from + 1 + r.Int64N(5*daySeconds)
		limit := 1 + r.IntN(2000)
		newest, count := from, 1
		for d := from; ; {
			if d, ok = s.Next(d, w.zone); !ok || d >= before {
				break
			}
			newest = d
			count++
		}
		if got := s.Newest(before, from, w.zone); got != newest {
			t.Fatalf("%s: Newest of %+v before %d from %d: got %d, want %d", w.zone, s, before, from, got, newest)
		}
		if got, want := s.CountDue(from, before, w.zone, limit), min(count, limit); got != want {
			t.Fatalf("%s: CountDue of %+v from %d before %d up to %d: got %d, want %d", w.zone, s, from, before, limit, got, want)
		}
	}
}

// TestNextGrows checks that Next is strictly after its argument and grows with
// it, across every edge, second by second where the clocks change.
func TestNextGrows(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	for i, w := range edgeWindows(t) {
		for range 20 {
			at := w.rows[1440+r.IntN(3*1440)].unix
			s := randomCalendar(r, readWall(time.Unix(at, 0).In(w.zone)))
			last := int64(0)
			for after := at; after < at+3*3600; after += 1 + r.Int64N(120) {
				due, ok := s.Next(after, w.zone)
				if !ok || due <= after || due < last {
					t.Fatalf("%s: Next of %+v after %d: got %d (%v) after %d", edges[i].zone, s, after, due, ok, last)
				}
				last = due
			}
		}
	}
}

func BenchmarkNext(b *testing.B) {
	rows := []struct {
		name, zone string
		s          Schedule
	}{
		{"daily UTC", "UTC", Schedule{Hour: 16, Minute: 32, Day: Any, Month: Any, Week: Any}},
		{"daily Shanghai", "Asia/Shanghai", Schedule{Hour: 16, Minute: 32, Day: Any, Month: Any, Week: Any}},
		{"daily New York", "America/New_York", Schedule{Hour: 16, Minute: 32, Day: Any, Month: Any, Week: Any}},
		{"each minute Berlin", "Europe/Berlin", Schedule{Minute: Any, Hour: Any, Day: Any, Month: Any, Week: Any}},
		{"29 February Berlin", "Europe/Berlin", Schedule{Minute: Any, Hour: 3, Day: 29, Month: 2, Week: Any}},
		{"29 February, any hour, Berlin", "Europe/Berlin", Schedule{Minute: 0, Hour: Any, Day: 29, Month: 2, Week: Any}},
	}
	for _, row := range rows {
		b.Run(row.name, func(b *testing.B) {
			zone := mustZone(b, row.zone)
			for b.Loop() {
				if _, ok := row.s.Next(1795478400, zone); !ok {
					b.Fatal("never due")
				}
			}
		})
	}
}
