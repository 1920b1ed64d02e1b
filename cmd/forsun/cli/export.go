package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/snower/forsun/scheduler"
	"github.com/snower/forsun/scheduler/line"
)

func runExport(ctx context.Context, s *session, args []string) error {
	values, words, err := options("export", args, "--ndjson")
	if err != nil {
		return err
	}
	prefix, err := prefixOf("export", append([]string{"--"}, words...))
	if err != nil {
		return err
	}
	server, err := s.client.Time(ctx)
	if err != nil {
		return err
	}
	if values["--ndjson"] != "" {
		return s.exportRecords(ctx, prefix, server)
	}
	began := time.Now()
	var left error // what is left out
	for p, err := range s.client.Plans(ctx, prefix) {
		if err != nil {
			return err
		}
		plan := line.Plan{
			Key: p.Key, Action: p.Action, Params: p.Params,
			Schedule: remaining(p, server.Add(time.Since(began)).Unix()),
		}
		if text := plan.String(); s.opts.Output != outputJSON && readsBack(text, plan) {
			_, err = fmt.Fprintln(s.out, text)
		} else if name, ok := notText(p.Params); ok {
			left = errReported
			s.report(&scheduler.FieldError{
				Kind: scheduler.ErrParams, Field: "params." + name + " of " + scheduler.Shorten(p.Key, 64),
				Value: "a value that is not UTF-8", Allowed: "in JSON, UTF-8 only: this plan is left out",
			})
		} else {
			err = writeJSON(s.out, newJSONRequest(plan))
		}
		if err != nil {
			return err
		}
	}
	return left
}

// exportRecords writes the plans with all that is known of them.
func (s *session) exportRecords(ctx context.Context, prefix string, server time.Time) error {
	bar := progressBar(s.err, -1, "export", false, isTerminal(s.err) && !isTerminal(s.process.Stdout))
	defer bar.Clear()
	err := writeJSON(s.out, headerRecord{recordHeader, recordVersion, server.Location().String(), server.UTC().Truncate(time.Second)})
	n := 0
	for p, perr := range s.client.Plans(ctx, prefix) {
		if err = errors.Join(err, perr); err != nil {
			return err
		}
		err = writeJSON(s.out, newPlanRecord(p))
		n++
		bar.Add(1)
	}
	if err != nil {
		return err
	}
	return writeJSON(s.out, endRecord{recordEnd, n})
}

// notText returns the name of a parameter whose value JSON cannot hold.
func notText(params map[string]string) (name string, ok bool) {
	for name, value := range params {
		if !utf8.ValidString(value) {
			return name, true
		}
	}
	return "", false
}

// remaining is what is left of a plan's schedule in the second now. A calendar,
// or an interval without end, is as it was. Of a counted one the firings still to
// come are left, and of the last of them the time until it is due: an import
// starts intervals anew, so that a one-shot keeps its time, as near as the import
// follows the export, while a repeated one is shifted.
func remaining(p *scheduler.Plan, now int64) scheduler.Schedule {
	left := p.Schedule
	if left.Kind != scheduler.Timeout || left.Count == 0 {
		return left
	}
	if left.Count -= p.Fired; left.Count > 1 {
		return left
	}
	return scheduler.Schedule{
		Kind: scheduler.Timeout, Count: 1, Second: int(max(0, p.Due-now)),
		Minute: scheduler.Any, Hour: scheduler.Any, Day: scheduler.Any, Month: scheduler.Any, Week: scheduler.Any,
	}.Carry(math.MaxInt16)
}

// readsBack says whether import reads a line as the plan p, and whether a
// terminal or a file shows it as one line.
func readsBack(text string, p line.Plan) bool {
	for _, r := range text {
		if unicode.IsControl(r) && r != '\t' {
			return false
		}
	}
	if text[0] == '#' || text[0] == '{' {
		return false
	}
	commands := line.Words(text)
	if len(commands) != 1 {
		return false
	}
	got, err := line.ParsePlan(commands[0])
	return err == nil && got.Key == p.Key && got.Action == p.Action && maps.Equal(got.Params, p.Params) &&
		sameSchedule(got.Schedule, p.Schedule)
}

// sameSchedule says whether two schedules mean the same.
func sameSchedule(a, b scheduler.Schedule) bool {
	if a.Kind == scheduler.Timeout && b.Kind == scheduler.Timeout {
		return a.Interval() == b.Interval() && a.Count == b.Count
	}
	a.Count, b.Count = 0, 0 // calendars have none
	return a == b
}

func newJSONRequest(p line.Plan) jsonRequest {
	s := p.Schedule
	j := jsonRequest{
		Key: p.Key, IsTimeOut: s.Kind == scheduler.Timeout, Second: s.Second, Minute: s.Minute, Hour: s.Hour,
		Day: s.Day, Month: s.Month, Week: s.Week, Action: p.Action, Params: p.Params,
	}
	if j.IsTimeOut {
		j.Count = s.Count
	}
	if j.Params == nil {
		j.Params = map[string]string{}
	}
	return j
}
