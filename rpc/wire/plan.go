// Package wire translates between the scheduler's types and those of the Thrift
// interface, for server and client alike, and holds the table of error codes.
//
// Two forms of a plan exist. The legacy form (ForsunPlan) has 16-bit fields that
// clients have known for years: what does not fit is carried into larger units
// or becomes the nearest that does. The full form (ForsunPlanInfo) loses nothing but the revision,
// which never leaves the scheduler.
package wire

import (
	"math"
	"time"

	"github.com/snower/forsun/rpc/gen/forsun"
	"github.com/snower/forsun/scheduler"
)

// LegacyPlan returns p in the legacy form. Seconds of a timeout plan over 32767
// are carried into minute, hour and day, which leaves the interval as it is;
// any other number that does not fit becomes the nearest that does.
func LegacyPlan(p *scheduler.Plan) *forsun.ForsunPlan {
	s := p.Schedule.Carry(math.MaxInt16)
	legacy := &forsun.ForsunPlan{
		IsTimeOut:    s.Kind == scheduler.Timeout,
		Key:          p.Key,
		Second:       int16Of(s.Second),
		Minute:       int16Of(s.Minute),
		Hour:         int16Of(s.Hour),
		Day:          int16Of(s.Day),
		Month:        int16Of(s.Month),
		Week:         int16Of(s.Week),
		NextTime:     int32Of(p.Due),
		Status:       int16(p.Status),
		CurrentCount: int16Of(p.Fired),
		LastTimeout:  int32Of(p.LastDue),
		Action:       p.Action,
		Params:       paramsOf(p.Params),
	}
	if legacy.IsTimeOut {
		legacy.Count = int16Of(s.Count)
	}
	return legacy
}

// ToLegacyPlan returns the plan l shows. Its revision and creation are unknown.
func ToLegacyPlan(l *forsun.ForsunPlan) *scheduler.Plan {
	return &scheduler.Plan{
		Key: l.Key,
		Schedule: schedule(l.IsTimeOut, int64(l.Second), int64(l.Minute), int64(l.Hour),
			int64(l.Day), int64(l.Month), int64(l.Week), int64(l.Count)),
		Action:  l.Action,
		Params:  l.Params,
		Due:     int64(l.NextTime),
		Fired:   int(l.CurrentCount),
		LastDue: int64(l.LastTimeout),
		Status:  scheduler.Status(l.Status),
	}
}

// Legacy requests -------------------------------------------------------------

// LegacyCreate reads the arguments of create.
func LegacyCreate(a *forsun.ForsunCreateArgs) scheduler.Request {
	return scheduler.Request{
		Key: a.Key,
		Schedule: scheduler.Schedule{
			Kind:   scheduler.Calendar,
			Second: int(a.Second), Minute: int(a.Minute), Hour: int(a.Hour),
			Day: int(a.Day), Month: int(a.Month), Week: int(a.Week),
		},
		Action: a.Action,
		Params: a.Params,
	}
}

// LegacyCreateTimeout reads the arguments of createTimeout.
func LegacyCreateTimeout(a *forsun.ForsunCreateTimeoutArgs) scheduler.Request {
	return scheduler.Request{
		Key: a.Key,
		Schedule: scheduler.Schedule{
			Kind:   scheduler.Timeout,
			Second: int(a.Second), Minute: int(a.Minute), Hour: int(a.Hour),
			Day: int(a.Day), Month: int(a.Month), Week: int(a.Week),
			Count: int(a.Count),
		},
		Action: a.Action,
		Params: a.Params,
	}
}

// Plans in full ---------------------------------------------------------------

// FromPlan returns p in the full form.
func FromPlan(p *scheduler.Plan) *forsun.ForsunPlanInfo {
	s := p.Schedule
	return &forsun.ForsunPlanInfo{
		Key:          p.Key,
		IsTimeOut:    s.Kind == scheduler.Timeout,
		Second:       int64(s.Second),
		Minute:       int64(s.Minute),
		Hour:         int64(s.Hour),
		Day:          int64(s.Day),
		Month:        int64(s.Month),
		Week:         int64(s.Week),
		Count:        int64(s.Count),
		NextTime:     p.Due,
		Status:       int32(p.Status),
		CurrentCount: int64(p.Fired),
		LastTimeout:  p.LastDue,
		CreatedTime:  Seconds(p.Created),
		Action:       p.Action,
		Params:       paramsOf(p.Params),
	}
}

// ToPlan returns the plan i shows. Its revision is unknown (0).
func ToPlan(i *forsun.ForsunPlanInfo) *scheduler.Plan {
	return &scheduler.Plan{
		Key:      i.Key,
		Schedule: schedule(i.IsTimeOut, i.Second, i.Minute, i.Hour, i.Day, i.Month, i.Week, i.Count),
		Action:   i.Action,
		Params:   i.Params,
		Created:  fromSeconds(i.CreatedTime),
		Due:      i.NextTime,
		Fired:    int(i.CurrentCount),
		LastDue:  i.LastTimeout,
		Status:   scheduler.Status(min(max(i.Status, -2), 2)), // beyond 1 and -1 there is nothing
	}
}

// FromRequest returns r as createMany takes it.
func FromRequest(r scheduler.Request) *forsun.ForsunPlanRequest {
	s := r.Schedule
	return &forsun.ForsunPlanRequest{
		Key:       r.Key,
		IsTimeOut: s.Kind == scheduler.Timeout,
		Second:    int64(s.Second),
		Minute:    int64(s.Minute),
		Hour:      int64(s.Hour),
		Day:       int64(s.Day),
		Month:     int64(s.Month),
		Week:      int64(s.Week),
		Count:     int64(s.Count),
		Action:    r.Action,
		Params:    paramsOf(r.Params),
	}
}

// ToRequest reads a request of createMany.
func ToRequest(r *forsun.ForsunPlanRequest) scheduler.Request {
	return scheduler.Request{
		Key:      r.Key,
		Schedule: schedule(r.IsTimeOut, r.Second, r.Minute, r.Hour, r.Day, r.Month, r.Week, r.Count),
		Action:   r.Action,
		Params:   r.Params,
	}
}

// Outcomes of restorePlans.
const (
	RestoredOK     = 0
	RestoredExists = 1
	RestoredNot    = 2
)

// schedule puts a schedule together. A calendar has no count.
func schedule(timeout bool, second, minute, hour, day, month, week, count int64) scheduler.Schedule {
	s := scheduler.Schedule{
		Kind:   scheduler.Calendar,
		Second: int(second), Minute: int(minute), Hour: int(hour),
		Day: int(day), Month: int(month), Week: int(week),
	}
	if timeout {
		s.Kind, s.Count = scheduler.Timeout, int(count)
	}
	return s
}

// Numbers and times -----------------------------------------------------------

// Seconds returns t as Unix seconds with a fraction, 0 for the zero time.
func Seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMicro()) / 1e6
}

// fromSeconds is the reverse of Seconds, to the microsecond.
func fromSeconds(s float64) time.Time {
	if s == 0 {
		return time.Time{}
	}
	return time.UnixMicro(int64(math.Round(s * 1e6)))
}

// millis returns t as Unix milliseconds, 0 for the zero time.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// fromMillis is the reverse of millis.
func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

// int16Of returns n, or the nearest number that fits.
func int16Of(n int) int16 { return int16(min(max(n, math.MinInt16), math.MaxInt16)) }

// int32Of returns n, or the nearest number that fits.
func int32Of(n int64) int32 { return int32(min(max(n, math.MinInt32), math.MaxInt32)) }

// paramsOf returns params, never nil: a nil map would be left out on the wire.
func paramsOf(params map[string]string) map[string]string {
	if params == nil {
		return map[string]string{}
	}
	return params
}
