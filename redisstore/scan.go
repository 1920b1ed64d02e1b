package redisstore

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/snower/forsun/scheduler"
)

// scanPlan is decodePlan for plans in the form that encodePlan and claim.lua give
// them, which nearly all have: encoding/json took a third of the leader's and of
// the workers' time. ok is false for anything else, which decodePlan then looks at
// with care.
func scanPlan(key, stored string) (p *scheduler.Plan, ok bool) {
	s := scanner{rest: stored}
	s.literal(`{"revision":"`)
	if len(s.rest) < 16 {
		return nil, false
	}
	rev, err := strconv.ParseUint(s.rest[:16], 16, 64)
	if err != nil {
		return nil, false
	}
	s.rest = s.rest[16:]
	s.literal(`","next_time":`)
	p = &scheduler.Plan{Key: key, Revision: scheduler.Revision(rev), Created: time.UnixMilli(0)}
	p.Due = s.number()
	if s.has(`,"current_count":`) {
		p.Fired = int(s.number())
		s.literal(`,"last_timeout":`)
		p.LastDue = s.number()
		s.literal(`,"status":`)
		p.Status = scheduler.Status(s.number())
	}
	s.literal(`,"action":`)
	name := s.text()
	p.Action = actionNamed(name)
	s.bad = s.bad || nameOf(p.Action) != name
	fields := defaults(scheduler.Calendar, 0)
	given, count := uint(0), false
	for !s.bad && !s.has("}") {
		switch {
		case s.has(`,"second":`):
			fields.Second, given = int(s.number()), given|1
		case s.has(`,"minute":`):
			fields.Minute, given = int(s.number()), given|2
		case s.has(`,"hour":`):
			fields.Hour, given = int(s.number()), given|4
		case s.has(`,"day":`):
			fields.Day, given = int(s.number()), given|8
		case s.has(`,"month":`):
			fields.Month, given = int(s.number()), given|16
		case s.has(`,"week":`):
			fields.Week = int(s.number())
		case s.has(`,"count":`):
			fields.Count, count = int(s.number()), true
		case s.has(`,"created_time":`):
			p.Created = s.created()
		case s.has(`,"params":`):
			p.Params = s.params()
		default:
			return nil, false
		}
	}
	if s.bad || s.rest != "" || p.Action == "" || p.Status < -1 || p.Status > 1 {
		return nil, false
	}
	if count {
		fields.Kind = scheduler.Timeout
		minute := 0
		if given&2 != 0 {
			minute = fields.Minute
		}
		d := defaults(scheduler.Timeout, minute)
		for i, f := range [...]struct{ to, from *int }{
			{&fields.Second, &d.Second}, {&fields.Minute, &d.Minute}, {&fields.Hour, &d.Hour}, {&fields.Day, &d.Day}, {&fields.Month, &d.Month},
		} {
			if given&(1<<i) == 0 {
				*f.to = *f.from
			}
		}
	}
	p.Schedule = fields
	return p, true
}

// scanner reads a text piece by piece. Once something is not as expected it is bad,
// and what it returns means nothing.
type scanner struct {
	rest string
	bad  bool
}

// has skips prefix if it comes next.
func (s *scanner) has(prefix string) bool {
	if strings.HasPrefix(s.rest, prefix) {
		s.rest = s.rest[len(prefix):]
		return true
	}
	return false
}

func (s *scanner) literal(prefix string) {
	if !s.has(prefix) {
		s.bad = true
	}
}

// number reads a whole number and the blanks behind it.
func (s *scanner) number() int64 {
	i, negative := 0, false
	if i < len(s.rest) && s.rest[i] == '-' {
		i, negative = 1, true
	}
	n, from := int64(0), i
	for ; i < len(s.rest) && s.rest[i] >= '0' && s.rest[i] <= '9' && i-from < 18; i++ {
		n = 10*n + int64(s.rest[i]-'0')
	}
	if i == from || i < len(s.rest) && (s.rest[i] == '.' || s.rest[i] == 'e' || s.rest[i] == 'E' || s.rest[i] >= '0' && s.rest[i] <= '9') {
		s.bad = true
	}
	if i > from+1 && s.rest[from] == '0' { // no number of JSON's
		s.bad = true
	}
	for i < len(s.rest) && s.rest[i] == ' ' {
		i++
	}
	s.rest = s.rest[i:]
	if negative {
		n = -n
	}
	return n
}

// created reads Unix seconds of up to twelve digits, with up to three decimals.
func (s *scanner) created() time.Time {
	end := strings.IndexAny(s.rest, ",}")
	if end < 0 {
		s.bad = true
		return time.Time{}
	}
	text := s.rest[:end]
	s.rest = s.rest[end:]
	whole, fraction, point := strings.Cut(text, ".")
	seconds, err := strconv.ParseUint(whole, 10, 63)
	s.bad = s.bad || len(whole) > 12
	ms := 0
	for i := range 3 {
		ms *= 10
		if i < len(fraction) {
			if c := fraction[i]; c < '0' || c > '9' {
				s.bad = true
			} else {
				ms += int(c - '0')
			}
		}
	}
	if err != nil || len(whole) > 1 && whole[0] == '0' || len(fraction) > 3 || point && fraction == "" {
		s.bad = true
	}
	return time.UnixMilli(int64(seconds)*1000 + int64(ms))
}

// text reads a JSON string.
func (s *scanner) text() string {
	value, rest, ok := cutString(s.rest)
	s.rest = rest
	s.bad = s.bad || !ok
	return value
}

// params reads an object of strings.
func (s *scanner) params() map[string]string {
	s.literal("{")
	params := make(map[string]string)
	for !s.bad && !s.has("}") {
		if len(params) > 0 {
			s.literal(",")
		}
		name := s.text()
		s.literal(":")
		params[name] = s.text()
	}
	return params
}

// cutString reads the JSON string that s begins with.
func cutString(s string) (value, rest string, ok bool) {
	if len(s) < 2 || s[0] != '"' {
		return "", s, false
	}
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return s[1:i], s[i+1:], true // nothing in it is escaped
		case '\\':
			for ; i < len(s) && s[i] != '"'; i++ {
				if s[i] == '\\' {
					i++
				}
			}
			var plain string // of its own, or value would be on the heap for every string
			if i >= len(s) || json.Unmarshal([]byte(s[:i+1]), &plain) != nil {
				return "", s, false
			}
			return plain, s[i+1:], true
		}
	}
	return "", s, false
}
