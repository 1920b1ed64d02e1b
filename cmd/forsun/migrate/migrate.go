package migrate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/snower/forsun/rpc/client"
	"github.com/snower/forsun/rpc/wire"
	"github.com/snower/forsun/scheduler"
)

// Options say how plans are migrated.
type Options struct {
	Host    *time.Location // the zone that the Python forsun's host was in
	Samples int            // how many plans are shown
	SkipDue bool           // times that were missed are not made up for
	Now     time.Time      // the target's, in the zone it reads calendars in
}

// Item is a plan that is not simply migrated, or a sample of those that are.
type Item struct {
	Name   string          `json:"name"` // where it was
	Key    string          `json:"key,omitempty"`
	State  State           `json:"result"` // stored, exists, fired, refused (left out)
	Reason string          `json:"reason,omitempty"`
	Notes  []string        `json:"notes,omitempty"`
	Before map[string]any  `json:"-"` // as it was stored
	After  *scheduler.Plan `json:"-"`
	Sample bool            `json:"-"`
}

// Report is what has become of all plans.
type Report struct {
	Read     int            `json:"read"`
	Migrated int            `json:"migrated"` // or would be
	There    int            `json:"already_there"`
	Fired    int            `json:"already_fired"`
	Left     int            `json:"left_out"`
	Odd      int            `json:"odd"`       // of those that are migrated: with something to know of
	Actions  map[string]int `json:"actions"`   // of those that are migrated
	Reasons  map[string]int `json:"reasons"`   // why the others are not
	Earliest int64          `json:"first_due"` // the soonest next time of those migrated; 0: none
}

// maxNames bounds the names in a report: a hostile file may have an action a plan.
const maxNames = 200

func count(m map[string]int, name string) {
	if _, ok := m[name]; !ok && len(m) >= maxNames {
		name = "(others)"
	}
	m[name]++
}

// batch is how many plans go into one request at most.
const batch = 1000

// run is a migration under way.
type run struct {
	target  *Target
	c       conversion
	o       Options
	report  Report
	show    func(Item)
	kinds   map[string]bool // that have a sample
	waiting []Item
}

// Run reads all plans of src and stores them in target, or only checks them, as that
// was made. show is called with each plan that there is something to say about, and with
// samples of the others, a kind each; progress with how far it has come. The report holds
// also beside an error.
func Run(ctx context.Context, src Source, target *Target, o Options, show func(Item), progress func(at int64)) (*Report, error) {
	handled, _ := src.Handled()
	r := &run{target: target, o: o, show: show, kinds: make(map[string]bool), c: conversion{
		now: o.Now.Unix(), host: o.Host, handled: handled, utc: o.Now.Location().String() == "UTC", skip: o.SkipDue,
	}}
	r.report.Actions, r.report.Reasons = make(map[string]int), make(map[string]int)
	size := 0
	err := src.Plans(ctx, func(raw Raw, at int64) error {
		r.report.Read++
		r.take(raw)
		size += len(raw.Data)
		progress(at)
		if len(r.waiting) >= batch || size > 4<<20 {
			size = 0
			return r.flush(ctx)
		}
		return nil
	})
	if err == nil {
		err = r.flush(ctx)
	}
	return &r.report, err
}

// take converts a plan.
func (r *run) take(raw Raw) {
	item := Item{Name: raw.Name, Key: raw.Key}
	err := raw.Err
	var f map[string]any
	if err == nil {
		f, err = decodeMap(raw.Data)
	}
	if err != nil {
		r.leave(item, "cannot be read", "cannot be read: "+err.Error())
		return
	}
	plan, notes, err := r.c.plan(f)
	if plan != nil {
		item.Key = plan.Key
		if raw.Key != "" && raw.Key != plan.Key {
			notes = append(notes, "its own key is another than that in Redis")
		}
	}
	item.Before, item.After, item.Notes = f, plan, notes
	if err != nil {
		reason := "a value that cannot be"
		if left := (*leftOut)(nil); errors.As(err, &left) {
			reason = left.reason
		}
		r.leave(item, reason, err.Error())
		return
	}
	r.waiting = append(r.waiting, item)
}

func (r *run) leave(item Item, reason, text string) {
	r.report.Left++
	count(r.report.Reasons, reason)
	item.State, item.Reason = Refused, text
	r.show(item)
}

// flush stores what is waiting.
func (r *run) flush(ctx context.Context) error {
	plans := make([]*scheduler.Plan, len(r.waiting))
	for i, item := range r.waiting {
		plans[i] = item.After
	}
	answers, err := r.target.Store(ctx, plans)
	var stop error
	for i, a := range answers {
		item := r.waiting[i]
		if item.State = a.State; a.Due != 0 {
			item.After.Due = a.Due
		}
		switch a.State {
		case Stored:
			r.stored(item, a.Err)
		case Exists:
			r.report.There++
			if item.Notes = nil; r.report.There <= r.o.Samples {
				r.show(item)
			}
		case Fired:
			r.report.Fired++
			item.Notes, item.Reason = nil, "its time has passed, and was fired there already"
			r.show(item)
		case Refused:
			reason, fatal := refusal(a.Err)
			if fatal {
				stop = a.Err
			}
			r.leave(item, reason, a.Err.Error())
		}
	}
	r.waiting = r.waiting[:0]
	if err == nil && stop != nil {
		err = fmt.Errorf("the store: %w; it may be run again", stop)
	}
	return err
}

func (r *run) stored(item Item, err error) {
	r.report.Migrated++
	count(r.report.Actions, item.After.Action)
	if due := item.After.Due; r.report.Earliest == 0 || due < r.report.Earliest {
		r.report.Earliest = due
	}
	if err != nil {
		item.Notes = append(item.Notes, err.Error())
	}
	if len(item.Notes) > 0 {
		r.report.Odd++
	}
	kind := fmt.Sprint(item.After.Action, item.After.Schedule.Kind)
	if item.Sample = len(r.kinds) < r.o.Samples && !r.kinds[kind]; item.Sample {
		r.kinds[kind] = true
	}
	if item.Sample || len(item.Notes) > 0 {
		r.show(item)
	}
}

// refusal sorts what a server refuses; fatal is what it would refuse any plan for.
func refusal(err error) (reason string, fatal bool) {
	var refused *client.Error
	if !errors.As(err, &refused) {
		return "refused", true
	}
	switch refused.Code {
	case wire.UnknownAction:
		return "no such action there", false
	case wire.BadParams, wire.Missing:
		return "parameters that its action cannot work with", false
	case wire.BadTime:
		return "its time never comes", false
	case wire.NotAllowed:
		return "not allowed", false
	case wire.BadField, wire.TooLarge:
		return "a value that forsun does not allow", false
	}
	return "the store failed", true
}

// HostHint returns the offset from UTC, in seconds, that the host seems to have been at, judging
// by when the last second was handled, if that is not what host says.
func HostHint(src Source, host *time.Location) (offset int64, differs bool) {
	stored, clock := src.Handled()
	if stored == 0 || clock == 0 {
		return 0, false
	}
	const quarter = 900
	off := clock - stored
	rounded := (off + quarter/2) / quarter * quarter
	if off < 0 {
		rounded = -((-off + quarter/2) / quarter * quarter)
	}
	if d := off - rounded; d < -120 || d > 120 || rounded < -14*3600 || rounded > 14*3600 {
		return 0, false // it was stopped, or the file copied, at another time
	}
	return rounded, rounded != standardOffset(stored, host)
}

// Running says whether the Python forsun handled a second within the last ten.
func Running(src Source, host *time.Location, now int64) bool {
	if _, isFile := src.(*Dump); isFile {
		return false
	}
	stored, clock := src.Handled()
	near := func(t int64) bool { return t > now-10 && t < now+10 }
	return stored > 0 && (near(stored+standardOffset(stored, host)) || near(clock))
}
