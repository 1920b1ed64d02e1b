package cli

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/snower/forsun/rpc/wire"
	"github.com/snower/forsun/scheduler"
	"github.com/snower/forsun/scheduler/line"
)

// timeLayout is how times are shown: local, with the offset.
const timeLayout = "2006-01-02 15:04:05-07:00"

// clock shows a Unix second.
func (s *session) clock(second int64) string {
	return time.Unix(second, 0).In(s.process.Zone).Format(timeLayout)
}

// printPlan prints a plan.
func (s *session) printPlan(p *scheduler.Plan) error {
	if s.opts.Output == outputJSON {
		return writeJSON(s.out, newJSONPlan(p))
	}
	_, err := fmt.Fprintln(s.out, s.planLine(p))
	return err
}

// planLine shows a plan: its next due time, then what set would take, with
// secrets masked.
func (s *session) planLine(p *scheduler.Plan) string {
	units := line.FormatUnits(p.Schedule)
	return printable(strings.Join([]string{
		s.clock(p.Due), line.Quote(p.Key), strings.Join(units[:], " "),
		line.Quote(p.Action), line.Quote(paramsText(p.Action, scheduler.MaskParams(p.Params))),
	}, " "))
}

// paramsText writes an action's parameters in the order people write them: where
// to, then what.
func paramsText(action string, params map[string]string) string {
	order := paramOrder(action)
	rank := func(name string) int {
		if i := slices.Index(order, name); i >= 0 {
			return i
		}
		return len(order)
	}
	names := slices.Sorted(maps.Keys(params))
	slices.SortStableFunc(names, func(a, b string) int { return rank(a) - rank(b) })
	pairs := make([]string, len(names))
	for i, name := range names {
		pairs[i] = line.FormatParams(map[string]string{name: params[name]})
	}
	return strings.Join(pairs, ";")
}

// paramOrder is the order in which an action's parameters are documented.
func paramOrder(action string) []string {
	switch action {
	case "shell":
		return []string{"cmd", "cwd", "env"}
	case "http":
		return []string{"url", "method", "body", "auth_username", "auth_password", "auth_mode", "user_agent", "connect_timeout", "request_timeout"}
	case "redis":
		return []string{"host", "port", "selected_db", "max_connections", "command"}
	case "mysql":
		return []string{"host", "port", "db", "user", "passwd", "max_connections", "sql"}
	case "beanstalk":
		return []string{"host", "port", "name", "body"}
	case "thrift":
		return []string{"host", "port", "max_connections"}
	}
	return nil
}

// printable returns s with control characters, and bytes that are no UTF-8,
// written out: what plans hold and actions answered must not command a terminal
// or break a line.
func printable(s string) string {
	clean := true
	for _, r := range s {
		if r == utf8.RuneError || unicode.IsControl(r) {
			clean = false
			break
		}
	}
	if clean {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case unicode.IsControl(r):
			quoted := strconv.QuoteRune(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		default:
			b.WriteRune(r)
		}
		i += n
	}
	return b.String()
}

// float is a number that is written with a fraction, as the HTTP interface does.
type float float64

func (f float) MarshalJSON() ([]byte, error) {
	if float64(f) == math.Trunc(float64(f)) {
		return strconv.AppendFloat(nil, float64(f), 'f', 1, 64), nil
	}
	return strconv.AppendFloat(nil, float64(f), 'f', -1, 64), nil
}

// jsonPlan is a plan with -o json: as the HTTP interface shows it.
type jsonPlan struct {
	Key          string            `json:"key"`
	Second       int               `json:"second"`
	Minute       int               `json:"minute"`
	Hour         int               `json:"hour"`
	Day          int               `json:"day"`
	Month        int               `json:"month"`
	Week         int               `json:"week"`
	Status       int               `json:"status"`
	Count        int               `json:"count"`
	IsTimeOut    bool              `json:"is_time_out"`
	NextTime     int64             `json:"next_time"`
	CurrentCount int               `json:"current_count"`
	LastTimeout  int64             `json:"last_timeout"`
	CreatedTime  float             `json:"created_time"`
	Action       string            `json:"action"`
	Params       map[string]string `json:"params"`
}

func newJSONPlan(p *scheduler.Plan) jsonPlan {
	s := p.Schedule
	j := jsonPlan{
		Key: p.Key, Second: s.Second, Minute: s.Minute, Hour: s.Hour, Day: s.Day, Month: s.Month, Week: s.Week,
		Status: int(p.Status), IsTimeOut: s.Kind == scheduler.Timeout, NextTime: p.Due,
		CurrentCount: p.Fired, LastTimeout: p.LastDue, CreatedTime: float(wire.Seconds(p.Created)),
		Action: p.Action, Params: p.Params,
	}
	if j.IsTimeOut {
		j.Count = s.Count
	}
	if j.Params == nil {
		j.Params = map[string]string{}
	}
	return j
}
