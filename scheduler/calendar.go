package scheduler

import (
	"math"
	"time"
)

// A calendar is matched in two layers. A wall second is a local time as a
// number: the Unix second it would have in UTC. nextWall finds matching wall
// seconds and knows no zone; nextMatch maps them to instants, period by period,
// a period being a stretch of time in which the zone's offset stays the same.

const daySeconds = 86400

// maxOffset is more than any zone has ever been away from UTC.
const maxOffset = 16 * 3600

// period is a stretch [start, end) of Unix time with one offset from UTC.
type period struct {
	start, end int64
	offset     int64
}

// periodAt returns the zone's period that holds the instant t.
func periodAt(t int64, zone *time.Location) period {
	if zone == time.UTC {
		return period{start: math.MinInt64, end: math.MaxInt64}
	}
	local := time.Unix(t, 0).In(zone)
	_, offset := local.Zone()
	p := period{start: math.MinInt64, end: math.MaxInt64, offset: int64(offset)}
	start, end := local.ZoneBounds()
	if !start.IsZero() {
		p.start = start.Unix()
	}
	if !end.IsZero() {
		p.end = end.Unix()
	}
	return p
}

// shown returns the latest local time, as a wall second, that the wall clock has
// shown up to and including the instant t in the period p. It is the wall
// clock's reading but in an hour that comes a second time.
func (p period) shown(t int64, zone *time.Location) int64 {
	latest := t + p.offset
	// No zone was ever set back by more than a day and an hour.
	for p.start > t-26*3600 {
		start := p.start
		p = periodAt(start-1, zone)
		latest = max(latest, start-1+p.offset)
	}
	return latest
}

// nextMatch returns the calendar's first due second after an instant.
func (s Schedule) nextMatch(after int64, zone *time.Location) (int64, bool) {
	if !s.inRange() || after >= lastDue {
		return 0, false
	}
	if s.Hour == Any {
		return s.nextInstant(after, zone)
	}
	p := periodAt(after, zone)
	wall, ok := s.nextWall(p.shown(after, zone) + 1)
	if !ok {
		return 0, false
	}
	return within(firstShown(wall, after, p, zone))
}

// firstShown returns the first instant after `after`, which is in p, at which
// the wall clock reads wall or later, given that it has not done so yet.
func firstShown(wall, after int64, p period, zone *time.Location) int64 {
	if wall-p.offset < p.end {
		return wall - p.offset
	}
	// Whatever the offsets in between, it is not before wall - maxOffset.
	if far := wall - maxOffset; far > p.end {
		p = periodAt(far, zone)
		p.start = max(p.start, far)
	} else {
		p = periodAt(p.end, zone)
	}
	for wall-p.offset >= p.end {
		p = periodAt(p.end, zone)
	}
	return max(p.start, wall-p.offset) // p.start: the gap skipped wall
}

// nextInstant returns the first instant after `after` whose wall clock matches.
func (s Schedule) nextInstant(after int64, zone *time.Location) (int64, bool) {
	for t := after + 1; t <= lastDue; {
		p := periodAt(t, zone)
		wall, ok := s.nextWall(t + p.offset)
		if !ok {
			return 0, false
		}
		if due := wall - p.offset; due < p.end {
			return within(due)
		}
		// The wall clock was changed before it read wall. It may be set back to
		// what was searched already, but only by what offsets can differ: with two
		// days searched up to the change, nothing matches until close to wall.
		const twoDays = 2 * daySeconds
		if p.end-t > twoDays {
			t = max(p.end, wall-twoDays)
		} else {
			t = p.end
		}
	}
	return 0, false
}

// nearest returns the occurrence of a single date that is nearest to now, if it
// has not passed.
func (s Schedule) nearest(now int64, zone *time.Location) (int64, bool) {
	if !s.inRange() {
		return 0, false
	}
	// 29 February is up to eight years away, on either side.
	const horizon = 9
	year := time.Unix(now, 0).In(zone).Year()
	var last, next int64
	hasLast, hasNext := false, false
	for y := year - horizon; y <= year+horizon && !hasNext; y++ {
		if s.Day > monthDays(y, s.Month) {
			continue
		}
		wall := time.Date(y, time.Month(s.Month), s.Day, s.Hour, s.Minute, s.Second, 0, time.UTC).Unix()
		from := wall - 2*maxOffset // surely not shown yet
		if due := firstShown(wall, from, periodAt(from, zone), zone); due < now {
			last, hasLast = due, true
		} else {
			next, hasNext = due, true
		}
	}
	if !hasNext || (hasLast && now-last < next-now) {
		return 0, false
	}
	return within(next)
}

// countMatches counts the due seconds in [from, before), up to limit, by days
// and not one by one: there can be millions.
func (s Schedule) countMatches(from, before int64, zone *time.Location, limit int) int {
	if !s.inRange() {
		return 0
	}
	n := 0
	for t := from; t < before && n < limit; {
		p := periodAt(t, zone)
		low, high := t+p.offset, min(p.end, before)+p.offset
		if s.Hour != Any {
			unseen := periodAt(t-1, zone).shown(t-1, zone) + 1
			if wall, ok := s.nextWall(unseen); ok && wall < low {
				// Skipped by a gap that ends at t: due there, once with what
				// matches t itself.
				if wall, ok := s.nextWall(low); !ok || wall != low {
					n++
				}
			}
			low = max(low, unseen)
		}
		n += s.countWalls(low, high, limit-n)
		t = p.end
	}
	return min(n, limit)
}

// nextWall returns the first wall second ≥ from that matches. ok is false if
// there is none within nine years, which is to say never: 29 February, the
// rarest of dates, is at most eight years away.
func (s Schedule) nextWall(from int64) (wall int64, ok bool) {
	day := floorDiv(from, daySeconds)
	match, ok := s.nextDate(day)
	if !ok {
		return 0, false
	}
	if match == day {
		if clock, ok := s.nextClock(int(from - day*daySeconds)); ok {
			return day*daySeconds + int64(clock), true
		}
		if match, ok = s.nextDate(day + 1); !ok {
			return 0, false
		}
	}
	clock, ok := s.nextClock(0)
	return match*daySeconds + int64(clock), ok
}

// nextClock returns the first second of a day ≥ from that matches Second, Minute
// and Hour.
func (s Schedule) nextClock(from int) (int, bool) {
	hour, minute, second := from/3600, from/60%60, from%60
	if s.Second != Any {
		if second > s.Second {
			minute++
		}
		second = s.Second
	}
	if minute == 60 {
		hour, minute = hour+1, 0
	}
	if s.Minute != Any && minute != s.Minute {
		if minute > s.Minute {
			hour++
		}
		minute, second = s.Minute, max(s.Second, 0)
	}
	if s.Hour != Any && hour != s.Hour {
		if hour > s.Hour {
			return 0, false
		}
		hour, minute, second = s.Hour, max(s.Minute, 0), max(s.Second, 0)
	}
	return hour*3600 + minute*60 + second, hour < 24
}

// nextDate returns the first day ≥ from, as a number of days since 1970-01-01,
// that matches Day, Month and Week.
func (s Schedule) nextDate(from int64) (int64, bool) {
	if s.Day == Any && s.Month == Any && s.Week == Any {
		return from, true
	}
	date := time.Unix(from*daySeconds, 0).UTC()
	y, mon, day := date.Date()
	year, month, weekday := y, int(mon), int(date.Weekday())
	first := from - int64(day-1) // the first of the month
	for year <= y+9 {
		days := monthDays(year, month)
		if s.Month == Any || month == s.Month {
			if match := s.dayOfMonth(day, days, weekday); match > 0 {
				return first + int64(match-1), true
			}
		}
		weekday = (weekday + days - day + 1) % 7
		first += int64(days)
		day = 1
		if month++; month > 12 {
			year, month = year+1, 1
		}
	}
	return 0, false
}

// dayOfMonth returns the first day ≥ day, which is a weekday, of a month with so
// many days that matches Day and Week; 0 if none does.
func (s Schedule) dayOfMonth(day, days, weekday int) int {
	if s.Day == Any && s.Week == Any {
		return day
	}
	match := days + 1
	if s.Day != Any && s.Day >= day {
		match = s.Day
	}
	if s.Week != Any {
		match = min(match, day+(s.Week-weekday+7)%7)
	}
	if match > days {
		return 0
	}
	return match
}

// countWalls returns how many wall seconds in [low, high) match, or some number
// ≥ limit if there are that many.
func (s Schedule) countWalls(low, high int64, limit int) int {
	n := 0
	for day, ok := s.nextDate(floorDiv(low, daySeconds)); ok && n < limit; day, ok = s.nextDate(day + 1) {
		start := day * daySeconds
		if start >= high {
			break
		}
		n += s.clocksBefore(min(high-start, daySeconds)) - s.clocksBefore(max(low-start, 0))
	}
	return n
}

// clocksBefore returns how many of the seconds [0, end) of a day match Second,
// Minute and Hour.
func (s Schedule) clocksBefore(end int64) int {
	// below: how many values under value match; matches: whether value does.
	below := func(field, value int) int {
		switch {
		case field == Any:
			return value
		case field < value:
			return 1
		}
		return 0
	}
	matches := func(field, value int) bool { return field == Any || field == value }

	hour, minute, second := int(end/3600), int(end/60%60), int(end%60)
	perMinute := below(s.Second, 60)
	perHour := below(s.Minute, 60) * perMinute
	n := below(s.Hour, hour) * perHour
	if matches(s.Hour, hour) {
		n += below(s.Minute, minute) * perMinute
		if matches(s.Minute, minute) {
			n += below(s.Second, second)
		}
	}
	return n
}

// monthDays returns how many days a month has.
func monthDays(year, month int) int {
	switch month {
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	case 4, 6, 9, 11:
		return 30
	}
	return 31
}

// floorDiv divides rounding down, also for times before 1970.
func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}
