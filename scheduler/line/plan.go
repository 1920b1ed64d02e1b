package line

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/snower/forsun/scheduler"
)

// unitNames are the time fields of a line, in order.
var unitNames = [6]string{"second", "minute", "hour", "day", "month", "week"}

// unitForms is what a time field can look like.
const unitForms = "*, a number, */n or */n/count"

// ParseUnits reads six time fields: second, minute, hour, day, month, week. Each
// is '*' or a number for a calendar; */n or */n/count in any of them makes a
// timeout of the sum of all n, with '*' in the other fields. The last count
// given holds, 1 if none is. Seconds, minutes and hours beyond what the wire
// can carry (32767) are carried into the larger units. The schedule returned is
// valid; errors are *scheduler.FieldError.
func ParseUnits(six []string) (scheduler.Schedule, error) {
	if len(six) != len(unitNames) {
		return scheduler.Schedule{}, &scheduler.FieldError{
			Kind: scheduler.ErrMissing, Field: "time", Value: fmt.Sprintf("%d fields", len(six)),
			Allowed: "six fields: second minute hour day month week",
		}
	}
	s := scheduler.Schedule{Count: 1}
	var values [6]int
	plain := -1 // a unit given as a number
	for i, word := range six {
		interval, isInterval := strings.CutPrefix(word, "*/")
		switch {
		case word == "*":
			values[i] = scheduler.Any
		case isInterval:
			s.Kind = scheduler.Timeout
			n, count, hasCount := strings.Cut(interval, "/")
			var err error
			if values[i], err = parseNumber(unitNames[i], word, n); err != nil {
				return scheduler.Schedule{}, err
			}
			if hasCount {
				if s.Count, err = parseNumber(unitNames[i], word, count); err != nil {
					return scheduler.Schedule{}, err
				}
			}
		default:
			var err error
			if values[i], err = parseNumber(unitNames[i], word, word); err != nil {
				return scheduler.Schedule{}, err
			}
			plain = i
		}
	}
	if s.Kind == scheduler.Timeout && plain >= 0 {
		return scheduler.Schedule{}, unitError(unitNames[plain], six[plain], "* or */n beside an interval")
	}
	if s.Kind == scheduler.Calendar {
		s.Count = 0
	}
	s.Second, s.Minute, s.Hour, s.Day, s.Month, s.Week = values[0], values[1], values[2], values[3], values[4], values[5]
	s = s.Carry(math.MaxInt16)
	return s, s.Validate()
}

// parseNumber reads the digits of a time field.
func parseNumber(unit, word, digits string) (int, error) {
	n, err := strconv.ParseUint(digits, 10, 31) // 68 years of seconds: beyond what the wire can be due at
	if err != nil {
		return 0, unitError(unit, word, unitForms)
	}
	return int(n), nil
}

func unitError(unit, word, allowed string) error {
	return &scheduler.FieldError{
		Kind: scheduler.ErrField, Field: unit, Value: scheduler.Shorten(word, 64), Allowed: allowed,
	}
}

// FormatUnits writes the six time fields that ParseUnits reads back as a
// schedule of the same meaning: '*' for what is open, every used unit of a
// timeout as */n/count.
func FormatUnits(s scheduler.Schedule) [6]string {
	out := [6]string{"*", "*", "*", "*", "*", "*"}
	for i, n := range [6]int{s.Second, s.Minute, s.Hour, s.Day, s.Month, s.Week} {
		switch {
		case s.Kind == scheduler.Calendar && n != scheduler.Any:
			out[i] = strconv.Itoa(n)
		case s.Kind == scheduler.Timeout && n > 0:
			out[i] = fmt.Sprintf("*/%d/%d", n, s.Count)
		}
	}
	if s.Kind == scheduler.Timeout && s.Interval() == 0 {
		out[0] = fmt.Sprintf("*/0/%d", s.Count)
	}
	return out
}

// Plan is a plan as a line gives it: key s m h D M W action params.
type Plan struct {
	Key      string
	Schedule scheduler.Schedule
	Action   string
	Params   map[string]string
}

// planForm is shown where a line does not have it.
const planForm = "key second minute hour day month week action params"

// ParsePlan reads a plan from the words of a line: its key, six time fields,
// the action, and its parameters in one word, which may be left out if the
// action needs none. sh and bash mean shell. Errors are *scheduler.FieldError.
// Neither the key nor what the action makes of its parameters is checked here.
func ParsePlan(words []string) (Plan, error) {
	names := strings.Fields(planForm)
	if len(words) == 0 {
		return Plan{}, missing("key", "", planForm)
	}
	// A time field that is left out moves the action into its place.
	for i, unit := range unitNames {
		if i+1 >= len(words) {
			return Plan{}, missing(unit, "", planForm)
		}
		if word := words[i+1]; !looksLikeUnit(word) {
			return Plan{}, missing(unit, word, fmt.Sprintf(
				"six time fields before the action (%d are given): %s", i, planForm))
		}
	}
	if len(words) < 8 {
		return Plan{}, missing("action", "", planForm)
	}
	if len(words) > len(names) {
		return Plan{}, paramsError("params", fmt.Sprintf("%d words", len(words)-8),
			"one word: put it in quotes, with each of these quotes inside written as \\' or \\\"")
	}
	p := Plan{Key: words[0], Action: words[7]}
	if p.Action == "sh" || p.Action == "bash" {
		p.Action = "shell"
	}
	var err error
	if p.Schedule, err = ParseUnits(words[1:7]); err != nil {
		return Plan{}, err
	}
	params := ""
	if len(words) == len(names) {
		params = words[8]
	}
	if p.Params, err = ActionParams(p.Action, params); err != nil {
		return Plan{}, err
	}
	return p, nil
}

// looksLikeUnit tells a time field, right or wrong, from another word.
func looksLikeUnit(word string) bool {
	return word != "" && (word[0] == '*' || word[0] == '-' || (word[0] >= '0' && word[0] <= '9'))
}

func missing(field, value, allowed string) error {
	return &scheduler.FieldError{
		Kind: scheduler.ErrMissing, Field: field, Value: scheduler.Shorten(value, 64), Allowed: allowed,
	}
}

// String writes the plan as the line that ParsePlan reads.
func (p Plan) String() string {
	units := FormatUnits(p.Schedule)
	words := append([]string{Quote(p.Key)}, units[:]...)
	words = append(words, Quote(p.Action), Quote(FormatActionParams(p.Action, p.Params)))
	return strings.Join(words, " ")
}
