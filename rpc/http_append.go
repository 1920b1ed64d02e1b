package rpc

import (
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/snower/forsun/rpc/wire"
	"github.com/snower/forsun/scheduler"
)

// The answer of a bulk create is written by hand, to the byte as encoding/json writes a
// jsonPlan: by reflection it was a fifth of what such a create cost forsund.

// jsonAppender is what can be appended to JSON.
type jsonAppender interface{ appendJSON(b []byte) []byte }

// createdPlan is the answer for a plan that was to be stored: the plan; with a code why it
// was not, and its key only, or, if it may be stored, the whole plan.
type createdPlan struct {
	plan    *scheduler.Plan
	unsure  bool
	code    wire.Code
	message string
}

func (c *createdPlan) appendJSON(b []byte) []byte {
	if c.code != 0 && !c.unsure {
		b = appendJSONString(append(b, `{"key":`...), c.plan.Key)
	} else {
		b = appendJSONPlan(b, c.plan)
		b = b[:len(b)-1]
	}
	if c.code != 0 {
		b = strconv.AppendInt(append(b, `,"errcode":`...), int64(c.code), 10)
		b = appendJSONString(append(b, `,"errmsg":`...), c.message)
	}
	return append(b, '}')
}

// createdPlans is a list of them.
type createdPlans []createdPlan

func (cs createdPlans) appendJSON(b []byte) []byte {
	b = append(b, '[')
	for i := range cs {
		if i > 0 {
			b = append(b, ',')
		}
		if i == 1 { // the others are about as long as the first
			b = slices.Grow(b, min(len(b), 1<<20/len(cs))*len(cs))
		}
		b = cs[i].appendJSON(b)
	}
	return append(b, ']')
}

// appendJSONPlan appends what a jsonPlan of p is.
func appendJSONPlan(b []byte, p *scheduler.Plan) []byte {
	number := func(name string, n int64) { b = strconv.AppendInt(append(b, name...), n, 10) }
	s, count := &p.Schedule, 0
	if s.Kind == scheduler.Timeout {
		count = s.Count
	}
	b = appendJSONString(append(b, `{"key":`...), p.Key)
	number(`,"second":`, int64(s.Second))
	number(`,"minute":`, int64(s.Minute))
	number(`,"hour":`, int64(s.Hour))
	number(`,"day":`, int64(s.Day))
	number(`,"month":`, int64(s.Month))
	number(`,"week":`, int64(s.Week))
	number(`,"status":`, int64(p.Status))
	number(`,"count":`, int64(count))
	b = strconv.AppendBool(append(b, `,"is_time_out":`...), s.Kind == scheduler.Timeout)
	number(`,"next_time":`, p.Due)
	number(`,"current_count":`, int64(p.Fired))
	number(`,"last_timeout":`, p.LastDue)
	b = float(wire.Seconds(p.Created)).append(append(b, `,"created_time":`...))
	b = appendJSONString(append(b, `,"action":`...), p.Action)
	b = append(b, `,"params":{`...)
	var few [8]string // on the stack
	names := few[:0]
	for name := range p.Params {
		names = append(names, name)
	}
	slices.Sort(names)
	for i, name := range names {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendJSONString(b, name), ':')
		b = appendJSONString(b, p.Params[name])
	}
	return append(b, '}', '}')
}

// appendJSONString appends a JSON string as encoding/json does that does not escape HTML:
// what is not UTF-8 is U+FFFD, and U+2028 and U+2029 are escaped, which are line ends in
// JavaScript.
func appendJSONString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		size, escaped := 1, ""
		switch c {
		case '"':
			escaped = `\"`
		case '\\':
			escaped = `\\`
		case '\b':
			escaped = `\b`
		case '\f':
			escaped = `\f`
		case '\n':
			escaped = `\n`
		case '\r':
			escaped = `\r`
		case '\t':
			escaped = `\t`
		}
		if c >= utf8.RuneSelf {
			var r rune
			switch r, size = utf8.DecodeRuneInString(s[i:]); {
			case r == utf8.RuneError && size == 1:
				escaped = `\ufffd`
			case r == '\u2028':
				escaped = `\u2028`
			case r == '\u2029':
				escaped = `\u2029`
			default:
				i += size
				continue
			}
		}
		b = append(append(b, s[from:i]...), escaped...)
		if escaped == "" {
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
		i += size
		from = i
	}
	return append(append(b, s[from:]...), '"')
}
