package scheduler

import "time"

// Any stands for every value in a field of a calendar schedule.
const Any = -1

// Kind tells the two schedules apart.
type Kind uint8

const (
	// Calendar fires at every local time that matches its fields.
	Calendar Kind = iota
	// Timeout fires every Interval seconds, Count times.
	Timeout
)

// Schedule says when a plan is due.
//
// As a Calendar, each field is a value or Any: Second 0–59, Minute 0–59, Hour
// 0–23, Day 1–31, Month 1–12, Week 0–7 (0 and 7 are Sunday). With Day and Week
// both given either matches, as in crontab. With all of Second to Month given
// and Week Any it is a single date without a year: see First and Once.
//
// As a Timeout, the fields are amounts and negative ones count as 0.
//
// # Time zones
//
// A Calendar is matched against the wall clock of a zone, and where that is set
// forward or back the hour decides:
//
//   - With the Hour given, every matching local time is due once: at the first
//     instant the wall clock shows it, or, if the wall clock skips it, at the
//     first instant after the gap. All skipped times of one gap are due at that
//     one second together. A local time that comes a second time is not due
//     again.
//   - With the Hour Any, every instant whose wall clock matches is due. The plan
//     keeps its spacing in real time: an hour that comes twice fires in both
//     passes, a skipped one not at all, and nothing is bunched after a gap.
//
// A nil zone is UTC. The methods are pure, and a schedule that does not pass
// Validate is never due.
type Schedule struct {
	Kind                                   Kind
	Second, Minute, Hour, Day, Month, Week int
	Count                                  int // timeouts: how many firings in all; 0 = no end. Calendars: ignored
}

// Once reports whether s is a single date, due once.
func (s Schedule) Once() bool {
	return s.Kind == Calendar && s.Week == Any &&
		s.Second != Any && s.Minute != Any && s.Hour != Any && s.Day != Any && s.Month != Any
}

// First returns the first due second of a schedule stored in the second now. A
// timeout is due one interval after now. A calendar is due at its first match
// after now; a single date (Once) at the occurrence nearest to now, in whatever
// year that is: in the second now at the earliest, else it has passed and ok is
// false. Of two equally near, the later is meant.
func (s Schedule) First(now int64, zone *time.Location) (due int64, ok bool) {
	switch {
	case s.Kind == Timeout:
		return within(now + s.Interval())
	case s.Once():
		return s.nearest(now, inZone(zone))
	}
	return s.Next(now, zone)
}

// Next returns the first due second after the due second `after`. It grows with
// after. ok is false when there is none: after a single date, for a timeout
// with an interval of 0, and beyond the year 9999. How many firings a timeout
// has left is not its business.
func (s Schedule) Next(after int64, zone *time.Location) (due int64, ok bool) {
	if s.Kind == Timeout {
		interval := s.Interval()
		if interval == 0 {
			return 0, false
		}
		return within(after + interval)
	}
	if s.Once() {
		return 0, false
	}
	return s.nextMatch(after, inZone(zone))
}

// Newest returns the newest due second before `before`, given that from, which
// is before it, is a due second itself.
func (s Schedule) Newest(before, from int64, zone *time.Location) (due int64) {
	if s.Kind == Timeout {
		if interval := s.Interval(); interval > 0 && from < before {
			return from + (before-1-from)/interval*interval
		}
		return from
	}
	// isPast(a) says that a due second lies between a and before; it is true up
	// to some a and false from there on, because Next grows with a.
	isPast := func(a int64) (int64, bool) {
		due, ok := s.Next(a, zone)
		return due, ok && due < before
	}
	// Step back from before in growing steps: plans are mostly frequent.
	low, high := from, before
	for step := int64(60); before-step > from; step *= 4 {
		if _, past := isPast(before - step); past {
			low = before - step
			break
		}
		high = before - step
	}
	newest, past := isPast(low)
	if !past {
		return from
	}
	for low = newest; low < high; {
		middle := low + (high-low)/2
		due, past := isPast(middle)
		if past {
			newest, low = due, due
		} else {
			high = middle
		}
	}
	return newest
}

// CountDue returns how many due seconds d there are with from ≤ d < before,
// counted up to limit, given that from is a due second itself.
func (s Schedule) CountDue(from, before int64, zone *time.Location, limit int) int {
	if from >= before || limit <= 0 {
		return 0
	}
	if s.Kind == Timeout {
		interval := s.Interval()
		if interval == 0 {
			return 1
		}
		return int(min((before-1-from)/interval+1, int64(limit)))
	}
	if s.Once() {
		return 1
	}
	return s.countMatches(from, before, inZone(zone), limit)
}

// within bounds a due second to what a schedule reaches.
func within(due int64) (int64, bool) {
	if due > lastDue {
		return 0, false
	}
	return due, true
}

func inZone(zone *time.Location) *time.Location {
	if zone == nil {
		return time.UTC
	}
	return zone
}
