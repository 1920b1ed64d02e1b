package scheduler

import (
	"math"
	"testing"
	"time"
)

// cal is a calendar schedule in the order of the command line.
func cal(second, minute, hour, day, month, week int) Schedule {
	return Schedule{Second: second, Minute: minute, Hour: hour, Day: day, Month: month, Week: week}
}

// at reads a local time, which must exist in the zone only once.
func at(t *testing.T, zone *time.Location, text string) int64 {
	t.Helper()
	tm, err := time.ParseInLocation(time.DateTime, text, zone)
	if err != nil {
		t.Fatal(err)
	}
	return tm.Unix()
}

// atUTC reads a time in UTC.
func atUTC(t *testing.T, text string) int64 {
	t.Helper()
	return at(t, time.UTC, text)
}

func TestFirst(t *testing.T) {
	const any = Any
	rows := []struct {
		why       string
		s         Schedule
		now, want string // UTC; want "" for never
	}{
		// What existing clients rely on.
		{"hourly", cal(0, 0, any, any, any, any), "2026-11-22 12:33:59", "2026-11-22 13:00:00"},
		{"16:30 today", cal(0, 30, 16, any, any, any), "2026-11-22 12:33:59", "2026-11-22 16:30:00"},
		{"16:30 tomorrow", cal(0, 30, 16, any, any, any), "2026-11-22 16:30:00", "2026-11-23 16:30:00"},
		{"the 1st of the month", cal(0, 0, 0, 1, any, any), "2026-11-22 12:33:59", "2026-12-01 00:00:00"},
		{"March, asked in November: partly open dates roll on", cal(0, 0, 0, any, 3, any), "2026-11-22 12:33:59", "2027-03-01 00:00:00"},
		{"the seed's time mode", cal(0, 32, 16, any, any, any), "2026-11-22 12:33:59", "2026-11-22 16:32:00"},
		{"day 31 skips the months without one", cal(0, 0, 12, 31, any, any), "2026-11-22 00:00:00", "2026-12-31 12:00:00"},
		{"day 31 after January", cal(0, 0, 12, 31, any, any), "2026-01-31 12:00:00", "2026-03-31 12:00:00"},
		{"day 30 skips February", cal(0, 0, 0, 30, any, any), "2027-01-30 00:00:00", "2027-03-30 00:00:00"},

		{"every second: the next one", cal(any, any, any, any, any, any), "2026-11-22 12:33:59", "2026-11-22 12:34:00"},
		{"now itself is not after now", cal(0, 0, any, any, any, any), "2026-11-22 12:00:00", "2026-11-22 13:00:00"},
		{"the second carries into the minute", cal(10, any, any, any, any, any), "2026-11-22 12:33:10", "2026-11-22 12:34:10"},
		{"the minute carries into the hour", cal(any, 5, any, any, any, any), "2026-11-22 12:05:59", "2026-11-22 13:05:00"},
		{"the hour carries into the day", cal(any, any, 5, any, any, any), "2026-11-22 05:59:59", "2026-11-23 05:00:00"},
		{"the day carries into the month and year", cal(0, 0, 0, 1, any, any), "2026-12-01 00:00:00", "2027-01-01 00:00:00"},
		{"everything carries at new year", cal(0, any, any, any, any, any), "2026-12-31 23:59:00", "2027-01-01 00:00:00"},

		{"week 0 is Sunday", cal(0, 0, 0, any, any, 0), "2026-11-23 00:00:00", "2026-11-29 00:00:00"},
		{"week 7 is Sunday", cal(0, 0, 0, any, any, 7), "2026-11-23 00:00:00", "2026-11-29 00:00:00"},
		{"week 1 is Monday", cal(0, 0, 0, any, any, 1), "2026-11-23 00:00:00", "2026-11-30 00:00:00"},
		{"the week within a month", cal(0, 0, 0, any, 12, 5), "2026-11-23 00:00:00", "2026-12-04 00:00:00"},
		{"day or week: the week is sooner", cal(0, 0, 0, 13, any, 5), "2026-11-23 00:00:00", "2026-11-27 00:00:00"},
		{"day or week: the day is sooner", cal(0, 0, 0, 24, any, 5), "2026-11-23 00:00:00", "2026-11-24 00:00:00"},
		{"31 February or a Friday in February: the Friday", cal(0, 0, 0, 31, 2, 5), "2026-11-23 00:00:00", "2027-02-05 00:00:00"},

		{"29 February, asked the day after one", cal(any, 0, 0, 29, 2, any), "2024-03-01 00:00:00", "2028-02-29 00:00:00"},
		{"29 February over 2100, which is none", cal(any, 0, 0, 29, 2, any), "2096-02-29 00:00:59", "2104-02-29 00:00:00"},

		// A single date means the occurrence nearest to now.
		{"a date: later this year", cal(0, 0, 12, 25, 12, any), "2026-11-22 00:00:00", "2026-12-25 12:00:00"},
		{"a date: five minutes ago has passed", cal(0, 55, 11, 22, 11, any), "2026-11-22 12:00:00", ""},
		{"a date: the second in progress", cal(0, 0, 12, 22, 11, any), "2026-11-22 12:00:00", "2026-11-22 12:00:00"},
		{"a date: across New Year", cal(0, 5, 0, 1, 1, any), "2026-12-31 23:59:00", "2027-01-01 00:05:00"},
		{"a date: across New Year, passed", cal(0, 55, 23, 31, 12, any), "2027-01-01 00:05:00", ""},
		{"a date: less than half a year ahead", cal(0, 0, 0, 20, 5, any), "2026-11-22 00:00:00", "2027-05-20 00:00:00"},
		{"a date: less than half a year ago", cal(0, 0, 0, 25, 5, any), "2026-11-22 00:00:00", ""},
		{"29 February: the nearest is two years ahead", cal(0, 0, 0, 29, 2, any), "2026-11-22 00:00:00", "2028-02-29 00:00:00"},
		{"29 February: the nearest has passed", cal(0, 0, 0, 29, 2, any), "2025-11-22 00:00:00", ""},
		{"with a week it is no single date", cal(0, 0, 12, 22, 11, 0), "2026-11-22 12:00:00", "2026-11-29 12:00:00"},

		// Not valid: stored by something else, never due.
		{"31 February", cal(0, 0, any, 31, 2, any), "2026-11-22 00:00:00", ""},
		{"hour 99", cal(0, 0, 99, any, any, any), "2026-11-22 00:00:00", ""},
		{"month 13, fully dated", cal(0, 0, 0, 1, 13, any), "2026-11-22 00:00:00", ""},
	}
	for _, r := range rows {
		got, ok := r.s.First(atUTC(t, r.now), time.UTC)
		if !ok {
			if r.want != "" {
				t.Errorf("%s: First of %+v at %s: got never, want %s", r.why, r.s, r.now, r.want)
			}
			continue
		}
		if text := time.Unix(got, 0).UTC().Format(time.DateTime); text != r.want {
			t.Errorf("%s: First of %+v at %s: got %s, want %q", r.why, r.s, r.now, text, r.want)
		}
	}
}

func TestTimeout(t *testing.T) {
	const now = 1_795_478_400
	rows := []struct {
		why      string
		s        Schedule
		interval int64
	}{
		{"seconds", Schedule{Second: 5}, 5},
		{"all units; a month is 30 days", Schedule{Second: 1, Minute: 1, Hour: 1, Day: 1, Month: 1, Week: 1}, 1 + 60 + 3600 + 86400 + 2592000 + 604800},
		{"negative parts count as 0", Schedule{Second: 3600, Minute: -1, Hour: -5, Day: math.MinInt, Month: -1, Week: -1}, 3600},
		{"beyond the calendar's ranges", Schedule{Second: 86400, Minute: 1000}, 146400},
		{"a thousand years", Schedule{Day: 365250}, 365250 * 86400},
	}
	for _, r := range rows {
		r.s.Kind, r.s.Count = Timeout, 1
		if got := r.s.Interval(); got != r.interval {
			t.Errorf("%s: Interval of %+v: got %d, want %d", r.why, r.s, got, r.interval)
		}
		if got, ok := r.s.First(now, nil); !ok || got != now+r.interval {
			t.Errorf("%s: First of %+v: got %d (%v), want %d", r.why, r.s, got, ok, now+r.interval)
		}
		if got, ok := r.s.Next(now+7, nil); !ok || got != now+7+r.interval {
			t.Errorf("%s: Next of %+v: got %d (%v), want %d", r.why, r.s, got, ok, now+7+r.interval)
		}
	}
	atOnce := Schedule{Kind: Timeout, Count: 1}
	if got, ok := atOnce.First(now, nil); !ok || got != now {
		t.Errorf("interval 0: First: got %d (%v), want %d: at once", got, ok, now)
	}
	if got, ok := atOnce.Next(now, nil); ok {
		t.Errorf("interval 0: Next: got %d, want none", got)
	}
}

// TestTimeoutOverflow: no amount of anything wraps around.
func TestTimeoutOverflow(t *testing.T) {
	for _, s := range []Schedule{
		{Second: math.MaxInt},
		{Minute: math.MaxInt},
		{Hour: math.MaxInt},
		{Day: math.MaxInt},
		{Month: math.MaxInt},
		{Week: math.MaxInt},
		{Second: math.MaxInt, Minute: math.MaxInt, Hour: math.MaxInt, Day: math.MaxInt, Month: math.MaxInt, Week: math.MaxInt},
		{Second: lastDue, Minute: 1},
	} {
		s.Kind = Timeout
		if got := s.Interval(); got != lastDue+1 {
			t.Errorf("Interval of %+v: got %d, want %d", s, got, int64(lastDue+1))
		}
		if got, ok := s.First(1_795_478_400, nil); ok {
			t.Errorf("First of %+v: got %d, want never", s, got)
		}
		if got, ok := s.Next(1_795_478_400, nil); ok {
			t.Errorf("Next of %+v: got %d, want never", s, got)
		}
		if c := s.Carry(math.MaxInt16); c.Interval() != lastDue+1 {
			t.Errorf("Carry of %+v changes the interval: %+v", s, c)
		}
	}
}

func TestNextAcrossClockChanges(t *testing.T) {
	const any = Any
	rows := []struct {
		why, zone string
		s         Schedule
		after     string   // UTC
		want      []string // the following due seconds, UTC
	}{
		{
			"2:30 is skipped: at 3:00, then daily as before", "America/New_York", cal(0, 30, 2, any, any, any), "2027-03-13 12:00:00",
			[]string{"2027-03-14 07:00:00", "2027-03-15 06:30:00"},
		},
		{
			"each minute of the skipped hour: once, at 3:00", "America/New_York", cal(0, any, 2, any, any, any), "2027-03-14 06:59:30",
			[]string{"2027-03-14 07:00:00", "2027-03-15 06:00:00", "2027-03-15 06:01:00"},
		},
		{
			"each second of the skipped hour: once", "Europe/Berlin", cal(any, any, 2, any, any, any), "2027-03-28 00:59:59",
			[]string{"2027-03-28 01:00:00", "2027-03-29 00:00:00"},
		},
		{
			"3:00 itself, right after the gap: once", "Europe/Berlin", cal(0, 0, 3, any, any, any), "2027-03-28 00:00:00",
			[]string{"2027-03-28 01:00:00", "2027-03-29 01:00:00"},
		},
		{
			"1:30 comes twice: the first", "America/New_York", cal(0, 30, 1, any, any, any), "2026-10-31 12:00:00",
			[]string{"2026-11-01 05:30:00", "2026-11-02 06:30:00"},
		},
		{
			"asked between the two: not the second", "America/New_York", cal(0, 30, 1, any, any, any), "2026-11-01 05:45:00",
			[]string{"2026-11-02 06:30:00"},
		},
		{
			"each half hour from 1:00, hour given: the first pass", "America/New_York", cal(0, any, 1, any, any, any), "2026-11-01 05:58:30",
			[]string{"2026-11-01 05:59:00", "2026-11-02 06:00:00"},
		},
		{
			"minute 15 of any hour: both passes, an hour apart", "America/New_York", cal(0, 15, any, any, any, any), "2026-11-01 04:30:00",
			[]string{"2026-11-01 05:15:00", "2026-11-01 06:15:00", "2026-11-01 07:15:00"},
		},
		{
			"minute 30 of any hour over a gap: an hour apart, none bunched", "America/New_York", cal(0, 30, any, any, any, any), "2027-03-14 06:00:00",
			[]string{"2027-03-14 06:30:00", "2027-03-14 07:30:00", "2027-03-14 08:30:00"},
		},
		{
			"midnight is skipped: at 1:00", "Asia/Beirut", cal(0, 0, 0, any, any, any), "2024-03-30 00:00:00",
			[]string{"2024-03-30 22:00:00", "2024-03-31 21:00:00"},
		},
		{
			"midnight is skipped: at 1:00", "America/Sao_Paulo", cal(0, 0, 0, any, any, any), "2018-11-03 12:00:00",
			[]string{"2018-11-04 03:00:00", "2018-11-05 02:00:00"},
		},
		{
			"a single date in a gap", "America/Sao_Paulo", cal(0, 30, 0, 4, any, any), "2018-11-01 00:00:00",
			[]string{"2018-11-04 03:00:00"},
		},
		{
			"half an hour skipped", "Australia/Lord_Howe", cal(0, 15, 2, any, any, any), "2026-10-03 00:00:00",
			[]string{"2026-10-03 15:30:00", "2026-10-04 15:15:00"},
		},
		{
			"each minute of an hour half of which is skipped", "Australia/Lord_Howe", cal(0, any, 2, any, any, any), "2026-10-03 15:29:00",
			[]string{"2026-10-03 15:30:00", "2026-10-03 15:31:00"},
		},
		{
			"a whole day skipped: at the next one's start", "Pacific/Apia", cal(0, 0, 12, 30, any, any), "2011-12-01 00:00:00",
			[]string{"2011-12-30 10:00:00", "2012-01-29 22:00:00"},
		},
		{
			"no daylight saving", "Asia/Shanghai", cal(0, 32, 16, any, any, any), "2026-11-22 08:32:00",
			[]string{"2026-11-23 08:32:00"},
		},
	}
	for _, r := range rows {
		zone := mustZone(t, r.zone)
		due := atUTC(t, r.after)
		for _, want := range r.want {
			next, ok := r.s.Next(due, zone)
			if got := time.Unix(next, 0).UTC().Format(time.DateTime); !ok || got != want {
				t.Errorf("%s, %s: Next of %+v: got %s (%v), want %s", r.zone, r.why, r.s, got, ok, want)
				break
			}
			due = next
		}
	}
}

// TestFirstDateInZone: a single date in a zone, in its gap, and in the hour that
// comes twice, where the first is meant.
func TestFirstDateInZone(t *testing.T) {
	rows := []struct {
		why, zone string
		s         Schedule
		now, want string // UTC
	}{
		{"local time", "Asia/Shanghai", cal(0, 0, 8, 23, 11, Any), "2026-11-22 00:00:00", "2026-11-23 00:00:00"},
		{"skipped", "America/New_York", cal(0, 30, 2, 14, 3, Any), "2027-03-01 00:00:00", "2027-03-14 07:00:00"},
		{"twice", "America/New_York", cal(0, 30, 1, 1, 11, Any), "2026-10-01 00:00:00", "2026-11-01 05:30:00"},
		{"twice, asked between: passed", "America/New_York", cal(0, 30, 1, 1, 11, Any), "2026-11-01 05:45:00", ""},
	}
	for _, r := range rows {
		got, ok := r.s.First(atUTC(t, r.now), mustZone(t, r.zone))
		if !ok {
			if r.want != "" {
				t.Errorf("%s: got never, want %s", r.why, r.want)
			}
			continue
		}
		if text := time.Unix(got, 0).UTC().Format(time.DateTime); text != r.want {
			t.Errorf("%s: got %s, want %q", r.why, text, r.want)
		}
	}
}

func TestOnce(t *testing.T) {
	rows := []struct {
		why  string
		s    Schedule
		want bool
	}{
		{"fully dated", cal(0, 0, 0, 1, 1, Any), true},
		{"with a week", cal(0, 0, 0, 1, 1, 1), false},
		{"any second", cal(Any, 0, 0, 1, 1, Any), false},
		{"any month", cal(0, 0, 0, 1, Any, Any), false},
		{"a timeout", Schedule{Kind: Timeout, Day: 1, Month: 1, Week: Any}, false},
	}
	for _, r := range rows {
		if got := r.s.Once(); got != r.want {
			t.Errorf("%s: Once of %+v: got %v, want %v", r.why, r.s, got, r.want)
		}
	}
	date := cal(0, 0, 0, 1, 1, Any)
	if due, ok := date.Next(0, time.UTC); ok {
		t.Errorf("Next of a single date: got %d, want none", due)
	}
}

// TestNextEnds: the last second there is, and no search without end.
func TestNextEnds(t *testing.T) {
	second := cal(Any, Any, Any, Any, Any, Any)
	if due, ok := second.Next(lastDue-1, time.UTC); !ok || due != lastDue {
		t.Errorf("got %d (%v), want %d", due, ok, int64(lastDue))
	}
	for _, after := range []int64{lastDue, math.MaxInt64} {
		if due, ok := second.Next(after, time.UTC); ok {
			t.Errorf("after %d: got %d, want none", after, due)
		}
	}
	if due, ok := cal(0, 0, 0, Any, Any, Any).Next(-daySeconds-1, nil); !ok || due != -daySeconds {
		t.Errorf("before 1970, no zone: got %d (%v), want %d", due, ok, -daySeconds)
	}
}

func TestNewestAndCountDue(t *testing.T) {
	const from = 1_795_478_400 // 2026-11-24 00:00:00 UTC
	rows := []struct {
		why    string
		s      Schedule
		before int64
		newest int64
		count  int
	}{
		{"timeout: only from", Schedule{Kind: Timeout, Second: 10}, from + 10, from, 1},
		{"timeout: before is not included", Schedule{Kind: Timeout, Second: 10}, from + 30, from + 20, 3},
		{"timeout: before in between", Schedule{Kind: Timeout, Second: 10}, from + 31, from + 30, 4},
		{"timeout: capped", Schedule{Kind: Timeout, Second: 1}, from + 1_000_000, from + 999_999, 10_000},
		{"timeout of 0", Schedule{Kind: Timeout}, from + 100, from, 1},
		{"calendar: only from", cal(0, 0, 0, Any, Any, Any), from + daySeconds, from, 1},
		{"calendar: daily for a week", cal(0, 0, 0, Any, Any, Any), from + 7*daySeconds, from + 6*daySeconds, 7},
		{"calendar: each second for a year, capped", cal(Any, Any, Any, Any, Any, Any), from + 365*daySeconds, from + 365*daySeconds - 1, 10_000},
		{"a single date", cal(0, 0, 0, 24, 11, Any), from + 3*365*daySeconds, from, 1},
	}
	for _, r := range rows {
		if got := r.s.Newest(r.before, from, time.UTC); got != r.newest {
			t.Errorf("%s: Newest: got from %+d, want from %+d", r.why, got-from, r.newest-from)
		}
		if got := r.s.CountDue(from, r.before, time.UTC, 10_000); got != r.count {
			t.Errorf("%s: CountDue: got %d, want %d", r.why, got, r.count)
		}
	}
	if got := cal(0, Any, Any, Any, Any, Any).CountDue(from, from, time.UTC, 10); got != 0 {
		t.Errorf("an empty range: got %d, want 0", got)
	}
}

func TestCarry(t *testing.T) {
	rows := []struct {
		why     string
		s, want Schedule
	}{
		{"fits: left as it is", Schedule{Second: 32767, Minute: Any}, Schedule{Second: 32767, Minute: Any}},
		{"seconds into minutes, hours, days", Schedule{Second: 90061, Minute: Any, Hour: Any, Day: Any}, Schedule{Second: 1, Minute: 1, Hour: 1, Day: 1}},
		{"on top of what is there", Schedule{Second: 40000, Minute: 1, Hour: 1, Day: 1}, Schedule{Second: 40, Minute: 7, Hour: 12, Day: 1}},
		{"minutes too", Schedule{Second: 5, Minute: 40000, Hour: Any, Day: Any}, Schedule{Second: 5, Minute: 40, Hour: 18, Day: 27}},
	}
	for _, r := range rows {
		r.s.Kind, r.want.Kind = Timeout, Timeout
		got := r.s.Carry(math.MaxInt16)
		if got != r.want || got.Interval() != r.s.Interval() {
			t.Errorf("%s: got %+v, want %+v", r.why, got, r.want)
		}
	}
	if s := cal(0, 0, 40000, Any, Any, Any); s.Carry(math.MaxInt16) != s {
		t.Error("a calendar is changed")
	}
}

// TestCountDueAcrossClockChanges: what a gap skips counts once, together with
// what is due at its end anyway; an hour that comes twice counts once if the
// hour is given.
func TestCountDueAcrossClockChanges(t *testing.T) {
	rows := []struct {
		why, zone    string
		s            Schedule
		from, before string // UTC; from is due
		want         int
	}{
		{"2:00 to 2:29 skipped, 2:30 matches itself", "Australia/Lord_Howe", cal(0, Any, 2, Any, Any, Any), "2026-10-03 15:30:00", "2026-10-03 15:35:00", 5},
		{"an hour skipped, with the days around it", "America/New_York", cal(0, Any, 2, Any, Any, Any), "2027-03-13 07:00:00", "2027-03-15 12:00:00", 121},
		{"an hour twice, hour given, with the days around it", "America/New_York", cal(0, Any, 1, Any, Any, Any), "2026-10-31 05:00:00", "2026-11-02 12:00:00", 180},
		{"an hour twice, hour any: 25 hours", "America/New_York", cal(0, 0, Any, Any, Any, Any), "2026-11-01 04:00:00", "2026-11-02 05:00:00", 25},
		{"an hour skipped, hour any: 23 hours", "America/New_York", cal(0, 0, Any, Any, Any, Any), "2027-03-14 05:00:00", "2027-03-15 04:00:00", 23},
	}
	for _, r := range rows {
		zone := mustZone(t, r.zone)
		from, before := atUTC(t, r.from), atUTC(t, r.before)
		if due, ok := r.s.Next(from-1, zone); !ok || due != from {
			t.Errorf("%s: from is not due: Next is %d (%v), want %d", r.why, due, ok, from)
		}
		if got := r.s.CountDue(from, before, zone, 10_000); got != r.want {
			t.Errorf("%s: got %d, want %d", r.why, got, r.want)
		}
	}
}
