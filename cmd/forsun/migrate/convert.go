package migrate

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/snower/forsun/scheduler"
)

// retrySuffix ends the keys of the plans that the Python forsun made for retries.
const retrySuffix = ":_:_retry"

// standardOffset is by how much a time that the Python forsun stored on a host in zone is
// too small. It read UTC as the host's standard time, in summer, too.
func standardOffset(stored int64, zone *time.Location) int64 {
	t := time.Unix(stored, 0).In(zone)
	if t.IsDST() {
		from, to := t.ZoneBounds()
		if before := from.Add(-time.Second); !from.IsZero() && !before.IsDST() {
			t = before
		} else if !to.IsZero() && !to.IsDST() {
			t = to
		}
	}
	_, offset := t.Zone()
	return int64(offset)
}

// conversion is what is known when plans are converted.
type conversion struct {
	now     int64          // of the target
	host    *time.Location // the zone that the Python forsun's host was in
	handled int64          // the second it handled last, as stored; 0: not known
	utc     bool           // the target reads calendars in UTC
	skip    bool           // missed times are not made up for
}

// leftOut says why a plan is not migrated.
type leftOut struct{ reason, detail string }

func (e *leftOut) Error() string {
	if e.detail == "" {
		return e.reason
	}
	return e.reason + ": " + e.detail
}

// fields are those of a stored plan.
type fields map[string]any

// number reads a whole number, also from text or a fraction of 0.
func (f fields) number(name string, fallback int64) (int64, error) {
	switch v := f[name].(type) {
	case nil:
		return fallback, nil
	case int64:
		return v, nil
	case bool:
		if v {
			return 1, nil
		}
		return 0, nil
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1<<53 {
			return int64(v), nil
		}
	case string:
		if n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64); err == nil {
			return n, nil
		}
	}
	return 0, &leftOut{"a value that cannot be", fmt.Sprintf("%s is %s, no whole number", name, scheduler.Shorten(fmt.Sprint(f[name]), 64))}
}

// plan converts a stored plan. The notes say what is odd about it.
func (c *conversion) plan(f fields) (p *scheduler.Plan, notes []string, err error) {
	var errs []error
	number := func(name string, fallback int64) int64 {
		n, err := f.number(name, fallback)
		errs = append(errs, err)
		return n
	}
	p = new(scheduler.Plan)
	var isKey, isAction bool
	p.Key, isKey = f["key"].(string)
	p.Action, isAction = f["action"].(string)
	timeout, count := number("is_time_out", 0) != 0, number("count", 0)
	p.Schedule = scheduler.Schedule{
		Kind: scheduler.Calendar, Second: int(number("second", 0)), Minute: int(number("minute", -1)), Hour: int(number("hour", -1)),
		Day: int(number("day", -1)), Month: int(number("month", -1)), Week: int(number("week", -1)),
	}
	next, last, fired, status := number("next_time", 0), number("last_timeout", 0), number("current_count", 0), number("status", 0)
	var odd []string
	var perr error
	p.Params, odd, perr = params(f["params"])
	notes = append(notes, odd...)
	switch err := errors.Join(append(errs, perr)...); {
	case !isKey:
		return nil, nil, &leftOut{"a value that cannot be", "it has no key"}
	case !isAction:
		return nil, nil, &leftOut{"a value that cannot be", "it has no action"}
	case err != nil:
		var first *leftOut
		errors.As(err, &first)
		return p, nil, first
	}
	if created, ok := f["created_time"].(float64); ok && created > 0 && created < 1e11 {
		p.Created = time.UnixMilli(int64(created*1000) + 1000*standardOffset(int64(created), c.host))
	} else if created, _ := f.number("created_time", 0); created > 0 && created < 1e11 {
		p.Created = time.Unix(created+standardOffset(created, c.host), 0)
	}
	if p.Fired = int(max(fired, 0)); fired > math.MaxInt32 {
		p.Fired = math.MaxInt32
	}
	if status >= -1 && status <= 1 {
		p.Status = scheduler.Status(status)
	}
	if last > 0 {
		p.LastDue = last + standardOffset(last, c.host)
	}
	zone := time.UTC
	switch {
	case timeout:
		p.Schedule.Kind, p.Schedule.Count = scheduler.Timeout, int(count)
	case count > 0:
		return p, notes, &leftOut{"a calendar with a count", fmt.Sprintf("%d; a calendar of forsun has none", count)}
	default:
		if p.Schedule.Week >= 0 {
			notes = append(notes, "a calendar with a week, which the Python forsun ignored: from its second firing on it is honoured")
		}
		if _, own := p.Params[scheduler.OptionTimezone]; !own && !c.utc {
			p.Params[scheduler.OptionTimezone] = "UTC" // as the Python forsun has it
		}
	}
	if strings.HasSuffix(p.Key, retrySuffix) {
		notes = append(notes, "a retry of the Python forsun: here a plan of its own, for one firing")
	}
	if timeout && count > 0 && int64(p.Fired) >= count {
		if next == 0 {
			return p, notes, &leftOut{"finished", fmt.Sprintf("%d of %d firings, and no next time", p.Fired, count)}
		}
		if !strings.HasSuffix(p.Key, retrySuffix) {
			notes = append(notes, fmt.Sprintf("%d of %d firings, but a next time: it has one firing left", p.Fired, count))
		}
		p.Fired = int(count) - 1
	}
	if next > 0 {
		p.Due = next + standardOffset(next, c.host)
	}
	if p.Schedule.Validate() == nil { // else forsund says what is wrong
		var more []string
		more, err = c.due(p, next, zone)
		notes = append(notes, more...)
	}
	if p.LastDue < 0 || p.Due > 0 && p.LastDue >= p.Due {
		p.LastDue = 0
	}
	return p, notes, err
}

// due decides about a next time that is none, or has passed.
func (c *conversion) due(p *scheduler.Plan, next int64, zone *time.Location) (notes []string, err error) {
	first := func() bool {
		due, ok := p.Schedule.First(c.now, zone)
		p.Due = due
		return ok
	}
	if next <= 0 {
		if p.LastDue = 0; !first() {
			return nil, &leftOut{"finished", "its date has passed, and it has no next time"}
		}
		return []string{"it had no next time: it goes on as a new plan would"}, nil
	}
	if p.Due > c.now {
		return nil, nil
	}
	handled := c.handled > 0 && next < c.handled
	if !handled && !c.skip {
		return []string{fmt.Sprintf("due %s, %s ago: it fires at once", stamp(p.Due), time.Duration(c.now-p.Due)*time.Second)}, nil
	}
	why := "missed"
	if handled {
		why = "handled by the Python forsun"
	}
	was := p.Due
	switch s := p.Schedule; {
	case s.Kind == scheduler.Calendar:
		if s.Once() || !first() {
			return nil, &leftOut{"its last time is over", why + " at " + stamp(was)}
		}
	case handled && s.Count > 0 && p.Fired+1 >= s.Count:
		return nil, &leftOut{"its last time is over", why + " at " + stamp(was)}
	default:
		if handled {
			p.Fired++
		}
		due, ok := s.Next(s.Newest(c.now+1, was, zone), zone)
		if !ok {
			return nil, &leftOut{"its last time is over", why + " at " + stamp(was)}
		}
		p.Due = due
	}
	p.LastDue = was
	return []string{fmt.Sprintf("%s at %s: it goes on with its next time", why, stamp(was))}, nil
}

// stamp shows a Unix second.
func stamp(second int64) string { return time.Unix(second, 0).UTC().Format("2006-01-02 15:04:05Z") }

// params converts the parameters.
func params(v any) (map[string]string, []string, error) {
	bad := func(detail string) error { return &leftOut{"a value that cannot be", detail} }
	var m map[string]any
	switch v := v.(type) {
	case nil:
	case map[string]any:
		m = v
	case string: // older versions had a default of "{}"
		if v != "" && json.Unmarshal([]byte(v), &m) != nil {
			return nil, nil, bad("params is text, no map")
		}
	default:
		return nil, nil, bad("params is no map")
	}
	all := make(map[string]string, len(m))
	var notes []string
	for name, v := range m {
		switch v := v.(type) {
		case string:
			all[name] = v
		case int64, uint64:
			all[name] = fmt.Sprint(v)
		case float64:
			all[name] = strconv.FormatFloat(v, 'f', -1, 64)
		case bool:
			all[name] = strconv.FormatBool(v)
		case nil:
			notes = append(notes, "params."+scheduler.Shorten(name, 64)+" is null: dropped")
		default:
			text, err := json.Marshal(v)
			if err != nil {
				return nil, nil, bad("params." + scheduler.Shorten(name, 64) + ": " + err.Error())
			}
			all[name] = string(text)
			notes = append(notes, "params."+scheduler.Shorten(name, 64)+" is a list or a map: it is JSON now")
		}
	}
	return all, notes, nil
}
