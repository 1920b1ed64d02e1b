package scheduler

import (
	"fmt"
	"math"
	"strconv"
	"unicode"
	"unicode/utf8"
)

// Limits of what a plan may hold.
const (
	MaxKeyBytes       = 512
	MaxParams         = 256
	MaxParamNameBytes = 256
	MaxParamsBytes    = 256 << 10 // names and values together
)

// lastDue is the last second a schedule reaches, 9999-12-31 23:59:59 UTC. It
// keeps every sum of a due second and an interval far from overflow.
const lastDue = 253402300799

// unitSeconds are the lengths of the units of a timeout, in the order of units.
var unitSeconds = [6]int64{1, 60, 3600, 86400, 30 * 86400, 7 * 86400}

// unitRanges are the values a calendar field may have beside Any.
var unitRanges = [6]struct {
	name     string
	min, max int
}{
	{"second", 0, 59},
	{"minute", 0, 59},
	{"hour", 0, 23},
	{"day", 1, 31},
	{"month", 1, 12},
	{"week", 0, 7},
}

// units returns the six fields in the order of the command line.
func (s Schedule) units() [6]int {
	return [6]int{s.Second, s.Minute, s.Hour, s.Day, s.Month, s.Week}
}

// Interval returns the seconds between two firings of a timeout: the sum of its
// units, a month as 30 days, negative amounts as 0. A sum beyond lastDue is
// returned as lastDue + 1, so that it never overflows; Validate refuses it.
func (s Schedule) Interval() int64 {
	var sum int64
	for i, n := range s.units() {
		if n <= 0 {
			continue
		}
		if int64(n) > lastDue/unitSeconds[i] {
			return lastDue + 1
		}
		if sum += int64(n) * unitSeconds[i]; sum > lastDue {
			return lastDue + 1
		}
	}
	return sum
}

// Carry returns a timeout of the same interval with no second, minute or hour
// above limit: if one is, each of them is carried into the next larger unit up
// to the day. It serves wires that are narrower than an int. Calendars, and
// timeouts that fit, are returned as they are.
func (s Schedule) Carry(limit int) Schedule {
	if s.Kind != Timeout || (s.Second <= limit && s.Minute <= limit && s.Hour <= limit) {
		return s
	}
	carry := func(from, to *int, size int) {
		if *from < size {
			return
		}
		*to = max(*to, 0)
		if n := *from / size; *to <= math.MaxInt-n { // else Interval is beyond lastDue anyway
			*to += n
			*from %= size
		}
	}
	carry(&s.Second, &s.Minute, 60)
	carry(&s.Minute, &s.Hour, 60)
	carry(&s.Hour, &s.Day, 24)
	return s
}

// Validate says whether a schedule can be stored, with a *FieldError that names
// the field if not: ErrField for a value out of its range, ErrTime for a
// schedule that can never be due. What depends on the present, a date that has
// passed, is First's to say.
func (s Schedule) Validate() error {
	switch s.Kind {
	case Calendar:
		return s.validateCalendar()
	case Timeout:
		return s.validateTimeout()
	}
	return fieldError(ErrField, "kind", strconv.Itoa(int(s.Kind)), "a calendar or a timeout")
}

func (s Schedule) validateCalendar() error {
	for i, n := range s.units() {
		r := unitRanges[i]
		if n != Any && (n < r.min || n > r.max) {
			return fieldError(ErrField, r.name, strconv.Itoa(n), fmt.Sprintf("%d to %d, or -1 for any", r.min, r.max))
		}
	}
	if s.Month != Any && s.Week == Any && s.Day > longestMonth(s.Month) {
		return fieldError(ErrTime, "day", fmt.Sprintf("%d in month %d", s.Day, s.Month),
			fmt.Sprintf("1 to %d, the days that month has", longestMonth(s.Month)))
	}
	return nil
}

func (s Schedule) validateTimeout() error {
	if s.Count < 0 {
		return fieldError(ErrTime, "count", strconv.Itoa(s.Count), "1 or more firings, or 0 for no end")
	}
	switch interval := s.Interval(); {
	case interval == 0 && s.Count != 1:
		return fieldError(ErrField, "count", strconv.Itoa(s.Count),
			"1 with an interval of 0 seconds (one firing, at once); to repeat, give a second, minute, hour, day, month or week above 0")
	case interval > lastDue:
		return fieldError(ErrTime, "interval", "beyond the year 9999", fmt.Sprintf("0 to %d seconds in all", int64(lastDue)))
	}
	return nil
}

// inRange says cheaply whether a calendar's fields are values Next can work
// with: a plan read from a store may hold anything.
func (s Schedule) inRange() bool {
	in := func(n, low, high int) bool { return n == Any || (n >= low && n <= high) }
	return in(s.Second, 0, 59) && in(s.Minute, 0, 59) && in(s.Hour, 0, 23) &&
		in(s.Day, 1, 31) && in(s.Month, 1, 12) && in(s.Week, 0, 7)
}

// longestMonth returns the days of a month in the year it has the most.
func longestMonth(month int) int {
	if month == 2 {
		return 29
	}
	return monthDays(1, month)
}

// ValidateKey says whether a plan can be stored under key, with a *FieldError if
// not: ErrMissing, ErrTooLarge or ErrField.
func ValidateKey(key string) error {
	const allowed = "1 to 512 bytes of UTF-8 without control characters"
	if key == "" {
		return fieldError(ErrMissing, "key", "", "")
	}
	if len(key) > MaxKeyBytes {
		return fieldError(ErrTooLarge, "key", key, allowed)
	}
	if fault := textFault(key); fault != "" {
		return fieldError(ErrField, "key", fault, allowed)
	}
	return nil
}

// ValidateParams says whether a plan can carry params, with a *FieldError if
// not: ErrTooLarge or ErrField. Values may be any bytes: clients send what their
// receivers understand. What an action makes of them is Action.Check's
// business.
func ValidateParams(params map[string]string) error {
	if len(params) > MaxParams {
		return fieldError(ErrTooLarge, "params", fmt.Sprintf("%d parameters", len(params)), fmt.Sprintf("up to %d", MaxParams))
	}
	size := 0
	var bad error
	for name, value := range params {
		size += len(name) + len(value)
		if bad == nil {
			bad = validateParamName(name)
		}
	}
	if size > MaxParamsBytes {
		return fieldError(ErrTooLarge, "params", fmt.Sprintf("%d bytes", size),
			fmt.Sprintf("up to %d bytes, names and values together", MaxParamsBytes))
	}
	return bad
}

func validateParamName(name string) error {
	const allowed = "names of 1 to 256 bytes of UTF-8 without control characters"
	if len(name) > MaxParamNameBytes {
		return fieldError(ErrTooLarge, "params", name, allowed)
	}
	fault := textFault(name)
	if name == "" {
		fault = "an empty name"
	}
	if fault != "" {
		return fieldError(ErrField, "params", fault, allowed)
	}
	return nil
}

// textFault says what is wrong with a text that should be UTF-8 without control
// characters (C0, DEL, C1), or "". It never repeats the text: a message goes to
// terminals and logs.
func textFault(text string) string {
	for i, r := range text {
		if r == utf8.RuneError {
			if _, size := utf8.DecodeRuneInString(text[i:]); size == 1 {
				return fmt.Sprintf("byte %#02x at offset %d, not UTF-8", text[i], i)
			}
		}
		if unicode.IsControl(r) {
			return fmt.Sprintf("control character %U at offset %d", r, i)
		}
	}
	return ""
}
