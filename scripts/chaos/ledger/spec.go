package ledger

import (
	"maps"
	"strings"
	"time"
)

// Spec is when a plan fires, as its client asked for it.
type Spec struct {
	Every    int64     // seconds from one firing to the next; 0: it is a calendar
	Count    int64     // firings of an interval; 0: no end
	Calendar *Calendar // nil: an interval
}

// Any leaves a field of a Calendar open.
const Any = -1

// Calendar is six fields of a time in UTC, each a value or Any. Day and Week both
// given: one of them is enough. All up to Month given and Week not: a single date,
// once.
type Calendar struct{ Second, Minute, Hour, Day, Month, Week int }

// EachMinute is a Calendar that is due once a minute.
func EachMinute(second int) *Calendar { return &Calendar{second, Any, Any, Any, Any, Any} }

// EachSecond is a Calendar that is always due.
func EachSecond() *Calendar { return EachMinute(Any) }

// OnDate is the Calendar of one second of this year.
func OnDate(t time.Time) *Calendar {
	t = t.UTC()
	return &Calendar{t.Second(), t.Minute(), t.Hour(), t.Day(), int(t.Month()), Any}
}

// matches says whether the calendar is due in a second.
func (c *Calendar) matches(second int64) bool {
	t := time.Unix(second, 0).UTC()
	fits := func(field, value int) bool { return field == Any || field == value }
	day := fits(c.Day, t.Day())
	week := c.Week == Any || c.Week%7 == int(t.Weekday())
	if c.Day != Any && c.Week != Any {
		day = day || week
		week = day
	}
	return fits(c.Second, t.Second()) && fits(c.Minute, t.Minute()) && fits(c.Hour, t.Hour()) &&
		day && week && fits(c.Month, int(t.Month()))
}

// once says whether the calendar is a single date.
func (c *Calendar) once() bool {
	return c.Second != Any && c.Minute != Any && c.Hour != Any && c.Day != Any && c.Month != Any && c.Week == Any
}

// farAhead is how many seconds the matcher steps at most to find a first one.
const farAhead = 370 * 86400

// first is the first due second of a plan that is created at a second.
func (s *Spec) first(created int64) int64 {
	if s.Calendar == nil {
		return created + s.Every
	}
	for second := created + 1; second < created+farAhead; second++ {
		if s.Calendar.matches(second) {
			return second
		}
	}
	return 0
}

// last is the last due second of a plan whose first one is known, if it ends.
func (s *Spec) last(first int64) (due int64, ends bool) {
	if s.Calendar != nil {
		return first, s.Calendar.once()
	}
	return first + s.Every*(s.Count-1), s.Count > 0
}

// dues are the due seconds from a first one to a last one, found by looking at
// each second there is.
func (s *Spec) dues(first, last int64) (dues []int64) {
	wait := int64(0)
	for second := first; second <= last; second++ {
		due := false
		if s.Calendar != nil {
			due = s.Calendar.matches(second) && !(s.Calendar.once() && len(dues) > 0)
		} else {
			due = wait == 0 && (s.Count == 0 || int64(len(dues)) < s.Count)
			if wait == 0 {
				wait = s.Every
			}
			wait--
		}
		if due {
			dues = append(dues, second)
		}
	}
	return dues
}

// Plan is what a client asks for.
type Plan struct {
	Key    string
	Spec   Spec
	Action string            // "": http
	Params map[string]string // of the action
}

// body is the plan as the HTTP interface takes it.
func (p *Plan) body() map[string]any {
	action := p.Action
	if action == "" {
		action = "http"
	}
	b := map[string]any{"key": p.Key, "action": action, "params": maps.Clone(p.Params)}
	if c := p.Spec.Calendar; c != nil {
		b["method"] = "create"
		for name, value := range map[string]int{
			"seconds": c.Second, "minute": c.Minute, "hour": c.Hour, "day": c.Day, "month": c.Month, "week": c.Week,
		} {
			b[name] = value
		}
		return b
	}
	b["method"], b["count"] = "createTimeout", p.Spec.Count
	for _, name := range []string{"minute", "hour", "day", "month"} {
		b[name] = 0
	}
	b["seconds"], b["week"] = p.Spec.Every, Any
	return b
}

// HTTPPlan is a plan that calls a URL.
func HTTPPlan(key string, spec Spec, url string) Plan {
	return Plan{Key: key, Spec: spec, Params: map[string]string{"url": url}}
}

// ThriftPlan is a plan that calls forsun_call of a Thrift server.
func ThriftPlan(key string, spec Spec, addr string) Plan {
	return Plan{Key: key, Spec: spec, Action: "thrift", Params: hostPort(addr)}
}

// RedisPlan is a plan that adds a receipt to a List. The key is without blanks, quotes
// and semicolons.
func RedisPlan(key string, spec Spec, addr string) Plan {
	params := hostPort(addr)
	params["command"] = listCommand + key
	return Plan{Key: key, Spec: spec, Action: "redis", Params: params}
}

func hostPort(addr string) map[string]string {
	host, port, _ := strings.Cut(addr, ":")
	return map[string]string{"host": host, "port": port}
}
