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
// and Week Any it is a single date without a year: see First.
//
// As a Timeout, the fields are amounts and negative ones count as 0.
type Schedule struct {
	Kind                                   Kind
	Second, Minute, Hour, Day, Month, Week int
	Count                                  int // timeouts: how many firings in all; 0 = no end. Calendars: ignored
}

// First returns the first due second of a schedule stored in the second now.
func (s Schedule) First(now int64, zone *time.Location) (due int64, ok bool) { return 0, false }

// Next returns the first due second after the due second `after`.
func (s Schedule) Next(after int64, zone *time.Location) (due int64, ok bool) { return 0, false }
