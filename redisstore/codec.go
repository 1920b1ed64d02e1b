package redisstore

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/snower/forsun/scheduler"
)

// A plan is stored as JSON that a person can read with redis-cli get, in the
// field names of the wire; what the Redis key says (key) and what has its default
// is left out. It begins with what claims change, at fixed places, so that the
// scripts read and rewrite just that and keep whatever a newer version put behind:
//
//	{"revision":"0123456789abcdef","next_time":1764192000 ,
//	1            14                30          44         55
//	"current_count":3         ,"last_timeout":1764191940 ,"status":1 ,
//	56              72         83             98          110      119
//	"action":"http","second":60,"count":10,"created_time":1764190000.123,"params":{…}}
//	122 (or 56)
//
// (Positions count from 1, as Lua does.) A plan with a count is a timeout, unless it
// says "is_time_out":0; what is open, or 0 in a timeout, is left out (see defaults). The second line is left out until the
// first claim of a plan that can have one more: a plan for one firing, which most
// are, is deleted by its claim and never needs it.
const (
	headLong = `%s"current_count":%-10d,"last_timeout":%-11d,"status":%-2d,`

	headShortLen = 55
	headLongLen  = 121
	headStatusAt = 109 // where what claims do not change begins
)

// Bounds of the numbers that stand at fixed places.
const (
	maxDue   = 99_999_999_999 // the year 5138
	minDue   = -9_999_999_999
	maxFired = 9_999_999_999
)

var errPlan = errors.New("not a plan")

// planHead is what every plan of a revision that is due then begins with.
func planHead(rev scheduler.Revision, due int64) string {
	return string(appendPlanHead(make([]byte, 0, headShortLen), rev, due))
}

func appendPlanHead(b []byte, rev scheduler.Revision, due int64) []byte {
	end := len(b) + headShortLen - 1
	b = append(b, `{"revision":"`...)
	b = hex.AppendEncode(b, binary.BigEndian.AppendUint64(make([]byte, 0, 8), uint64(rev)))
	b = append(b, `","next_time":`...)
	b = strconv.AppendInt(b, due, 10)
	for len(b) < end {
		b = append(b, ' ')
	}
	return append(b, ',')
}

// hasPlanHead says whether a plan as it is stored begins with the head of a revision that
// is due then.
func hasPlanHead(stored string, rev scheduler.Revision, due int64) bool {
	head := appendPlanHead(make([]byte, 0, headShortLen), rev, due)
	return len(stored) >= len(head) && stored[:len(head)] == string(head)
}

// encodePlan returns the stored form of p.
func encodePlan(p *scheduler.Plan) (string, error) {
	switch {
	case p.Due < minDue || p.Due > maxDue || p.LastDue < minDue || p.LastDue > maxDue:
		return "", fmt.Errorf("plan %s: due second %d, last %d: this store holds seconds from %d to %d", scheduler.Shorten(p.Key, 64), p.Due, p.LastDue, minDue, maxDue)
	case p.Fired < 0 || p.Fired > maxFired:
		return "", fmt.Errorf("plan %s: %d firings: this store counts from 0 to %d", scheduler.Shorten(p.Key, 64), p.Fired, maxFired)
	case p.Action == "":
		return "", fmt.Errorf("plan %s: it has no action", scheduler.Shorten(p.Key, 64))
	}
	b := make([]byte, 0, 512) // on the stack, until the plan is longer
	if once := p.Schedule.Once() || p.Schedule.Kind == scheduler.Timeout && p.Schedule.Count == 1; once && p.Fired == 0 && p.LastDue == 0 && p.Status == scheduler.StatusNone {
		b = appendPlanHead(b, p.Revision, p.Due)
	} else {
		b = append(b, fmt.Sprintf(headLong, planHead(p.Revision, p.Due), p.Fired, p.LastDue, p.Status)...)
	}
	b = append(b, `"action":`...)
	b = appendString(b, nameOf(p.Action))
	s, d := p.Schedule, defaults(p.Schedule.Kind, p.Schedule.Minute)
	if s.Kind == scheduler.Calendar && s.Count != 0 { // else count tells a timeout
		b = append(b, `,"is_time_out":0`...)
	}
	b = appendField(b, "second", s.Second, d.Second)
	b = appendField(b, "minute", s.Minute, d.Minute)
	b = appendField(b, "hour", s.Hour, d.Hour)
	b = appendField(b, "day", s.Day, d.Day)
	b = appendField(b, "month", s.Month, d.Month)
	b = appendField(b, "week", s.Week, d.Week)
	if s.Kind == scheduler.Timeout {
		d.Count = s.Count - 1 // never left out: it tells a timeout
	}
	b = appendField(b, "count", s.Count, d.Count)
	b = append(b, `,"created_time":`...)
	b = appendSeconds(b, p.Created)
	if len(p.Params) > 0 {
		b = appendParams(b, p.Params)
	}
	return string(append(b, '}')), nil
}

// defaults are what is left out of a schedule. Of a timeout it is 0, or -1 where a
// client leaves all that follow the minute open, too, as most do.
func defaults(k scheduler.Kind, minute int) scheduler.Schedule {
	const open = scheduler.Any
	if k == scheduler.Timeout {
		rest := 0
		if minute == open {
			rest = open
		}
		return scheduler.Schedule{Kind: k, Hour: rest, Day: rest, Month: rest, Week: open}
	}
	return scheduler.Schedule{Second: open, Minute: open, Hour: open, Day: open, Month: open, Week: open}
}

func appendField(b []byte, name string, value, standard int) []byte {
	if value == standard {
		return b
	}
	b = append(b, ',', '"')
	b = append(b, name...)
	b = append(b, '"', ':')
	return strconv.AppendInt(b, int64(value), 10)
}

// appendSeconds writes a time as Unix seconds with milliseconds.
func appendSeconds(b []byte, t time.Time) []byte {
	ms := t.UnixMilli()
	if ms < 0 {
		return strconv.AppendFloat(b, float64(ms)/1000, 'f', 3, 64)
	}
	b = strconv.AppendInt(b, ms/1000, 10)
	if ms %= 1000; ms != 0 {
		b = append(b, '.', byte('0'+ms/100), byte('0'+ms/10%10), byte('0'+ms%10))
	}
	return b
}

// appendParams writes parameters. JSON is text: bytes that are not UTF-8 would be
// lost in it, and are written in base64, all of a plan's parameters or none.
func appendParams(b []byte, params map[string]string) []byte {
	before := len(b)
	b = append(b, `,"params":{`...)
	for name, value := range params {
		if !utf8.ValidString(name) || !utf8.ValidString(value) {
			return appendParamsBase64(b[:before], params)
		}
		b = append(appendString(b, name), ':')
		b = append(appendString(b, value), ',')
	}
	return closed(b)
}

func appendParamsBase64(b []byte, params map[string]string) []byte {
	b = append(b, `,"params_base64":{`...)
	for name, value := range params {
		b = base64.StdEncoding.AppendEncode(append(b, '"'), []byte(name))
		b = base64.StdEncoding.AppendEncode(append(b, `":"`...), []byte(value))
		b = append(b, '"', ',')
	}
	return closed(b)
}

// closed ends an object that has a comma after its last member.
func closed(b []byte) []byte {
	b[len(b)-1] = '}'
	return b
}

// appendString writes a JSON string (RFC 8259, section 7), escaping only what must
// be. s is valid UTF-8.
func appendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	from := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		b = append(b, s[from:i]...)
		from = i + 1
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	return append(append(b, s[from:]...), '"')
}

// storedPlan is a plan as encoding/json reads it.
type storedPlan struct {
	Revision     string            `json:"revision"`
	NextTime     *int64            `json:"next_time"`
	CurrentCount int               `json:"current_count"`
	LastTimeout  int64             `json:"last_timeout"`
	Status       scheduler.Status  `json:"status"`
	Action       string            `json:"action"`
	IsTimeOut    *int              `json:"is_time_out"`
	Second       *int              `json:"second"`
	Minute       *int              `json:"minute"`
	Hour         *int              `json:"hour"`
	Day          *int              `json:"day"`
	Month        *int              `json:"month"`
	Week         *int              `json:"week"`
	Count        *int              `json:"count"`
	CreatedTime  float64           `json:"created_time"`
	Params       map[string]string `json:"params"`
	ParamsBase64 map[string]string `json:"params_base64"`
}

// decodePlan reads the stored form of the plan of key.
func decodePlan(key, stored string) (*scheduler.Plan, error) {
	if p, ok := scanPlan(key, stored); ok {
		return p, nil
	}
	var s storedPlan
	if err := json.Unmarshal([]byte(stored), &s); err != nil {
		return nil, fmt.Errorf("%w: %w", errPlan, err)
	}
	rev, err := strconv.ParseUint(s.Revision, 16, 64)
	if err != nil || len(s.Revision) != 16 {
		return nil, fmt.Errorf("%w: revision %q is not 16 hexadecimal digits", errPlan, s.Revision)
	}
	if s.NextTime == nil || s.Action == "" || nameOf(actionNamed(s.Action)) != s.Action || s.Status < -1 || s.Status > 1 {
		return nil, fmt.Errorf("%w: next_time, action or status is missing or out of range, or the action's name is written otherwise than here", errPlan)
	}
	kind := scheduler.Calendar
	if s.Count != nil && (s.IsTimeOut == nil || *s.IsTimeOut != 0) {
		kind = scheduler.Timeout
	}
	minute := 0
	if s.Minute != nil {
		minute = *s.Minute
	}
	p := &scheduler.Plan{
		Key: key, Schedule: defaults(kind, minute), Action: actionNamed(s.Action), Params: s.Params, Revision: scheduler.Revision(rev),
		Created: time.UnixMilli(int64(math.Round(s.CreatedTime * 1000))),
		Due:     *s.NextTime, Fired: s.CurrentCount, LastDue: s.LastTimeout, Status: s.Status,
	}
	for _, f := range []struct{ to, from *int }{
		{&p.Schedule.Second, s.Second},
		{&p.Schedule.Minute, s.Minute},
		{&p.Schedule.Hour, s.Hour},
		{&p.Schedule.Day, s.Day},
		{&p.Schedule.Month, s.Month},
		{&p.Schedule.Week, s.Week},
		{&p.Schedule.Count, s.Count},
	} {
		if f.from != nil {
			*f.to = *f.from
		}
	}
	for name, value := range s.ParamsBase64 {
		n, err1 := base64.StdEncoding.DecodeString(name)
		v, err2 := base64.StdEncoding.DecodeString(value)
		if err := errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("%w: params_base64: %w", errPlan, err)
		}
		if p.Params == nil {
			p.Params = make(map[string]string, len(s.ParamsBase64))
		}
		p.Params[string(n)] = string(v)
	}
	return p, nil
}
