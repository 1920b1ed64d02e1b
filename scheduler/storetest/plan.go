package storetest

import (
	"maps"
	"time"

	"github.com/snower/forsun/scheduler"
)

// DefaultAction is the action of a plan of NewPlan.
const DefaultAction = "record"

// PlanOption changes a plan of NewPlan.
type PlanOption func(*scheduler.Plan)

// NewPlan returns a plan of key as a service would store it: created now (in
// whole milliseconds), under a fresh revision, one firing of DefaultAction due
// a minute from now. Options change that, in their order.
func NewPlan(key string, opts ...PlanOption) *scheduler.Plan {
	now := time.Now().Truncate(time.Millisecond)
	p := &scheduler.Plan{
		Key:      key,
		Schedule: scheduler.Schedule{Kind: scheduler.Timeout, Second: 60, Week: scheduler.Any, Count: 1},
		Action:   DefaultAction,
		Params:   map[string]string{"note": "of " + key},
		Created:  now,
		Revision: scheduler.NewRevision(),
		Due:      now.Unix() + 60,
	}
	for _, o := range opts {
		o(p)
	}
	return p
}

// WithDue sets the next due second.
func WithDue(second int64) PlanOption {
	return func(p *scheduler.Plan) { p.Due = second }
}

// WithAction sets the action.
func WithAction(name string) PlanOption {
	return func(p *scheduler.Plan) { p.Action = name }
}

// WithParams sets the parameters; the map is copied.
func WithParams(params map[string]string) PlanOption {
	return func(p *scheduler.Plan) { p.Params = maps.Clone(params) }
}

// WithSchedule sets the schedule.
func WithSchedule(s scheduler.Schedule) PlanOption {
	return func(p *scheduler.Plan) { p.Schedule = s }
}

// WithRevision sets the revision.
func WithRevision(rev scheduler.Revision) PlanOption {
	return func(p *scheduler.Plan) { p.Revision = rev }
}

// Every makes a timeout plan of count firings (0: no end), seconds apart.
func Every(seconds, count int) PlanOption {
	return WithSchedule(scheduler.Schedule{Kind: scheduler.Timeout, Second: seconds, Week: scheduler.Any, Count: count})
}

// Daily makes a calendar plan for a time of every day.
func Daily(hour, minute, second int) PlanOption {
	return WithSchedule(scheduler.Schedule{
		Kind: scheduler.Calendar, Second: second, Minute: minute, Hour: hour,
		Day: scheduler.Any, Month: scheduler.Any, Week: scheduler.Any,
	})
}
