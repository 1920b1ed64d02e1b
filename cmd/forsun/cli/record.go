package cli

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"
	"unicode/utf8"

	"github.com/snower/forsun/scheduler"
)

// export --ndjson writes a header, a record a plan, and an end, each one line of JSON
// that says by its member "forsun" what it is: so lines can be picked out and
// put together, and a file that was cut off is known as one.
const (
	recordHeader = "export"
	recordPlan   = "plan"
	recordEnd    = "end"

	recordVersion = 1
)

type headerRecord struct {
	Forsun  string    `json:"forsun"`
	Version int       `json:"version"`
	Zone    string    `json:"zone"` // of calendars without their own
	Time    time.Time `json:"time"`
}

type endRecord struct {
	Forsun string `json:"forsun"`
	Plans  int    `json:"plans"`
}

// planRecord is a plan with all that its store knows of it but its revision.
type planRecord struct {
	Forsun string `json:"forsun"`
	jsonPlan
	ParamsBase64 map[string]string `json:"params_base64,omitempty"` // the values that are no UTF-8
}

func newPlanRecord(p *scheduler.Plan) planRecord {
	r := planRecord{Forsun: recordPlan, jsonPlan: newJSONPlan(p)}
	r.CreatedTime = float(float64(p.Created.UnixMilli()) / 1000) // as exact as every store has it
	if _, ok := notText(r.Params); ok {
		r.ParamsBase64 = make(map[string]string)
		text := make(map[string]string)
		for name, value := range r.Params {
			if utf8.ValidString(value) {
				text[name] = value
			} else {
				r.ParamsBase64[name] = base64.StdEncoding.EncodeToString([]byte(value))
			}
		}
		r.Params = text
	}
	return r
}

// recordKind returns the member "forsun" of a line; "" if it is not of such a file.
func recordKind(text []byte) string {
	if !bytes.Contains(text, []byte(`"forsun"`)) {
		return ""
	}
	var head struct {
		Forsun string `json:"forsun"`
	}
	if json.Unmarshal(text, &head) != nil && head.Forsun == "" && !bytes.HasPrefix(text, []byte(`{"forsun":`)) {
		return ""
	}
	return head.Forsun
}

// parseRecord reads a line of a kind into v.
func parseRecord(text []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	err := dec.Decode(v)
	if err == nil && dec.More() {
		err = errors.New("text after the object")
	}
	if err != nil {
		return badRecord("line", err.Error(), "a line as export --ndjson writes it")
	}
	return nil
}

func badRecord(field, value, allowed string) error {
	return &scheduler.FieldError{Kind: scheduler.ErrField, Field: field, Value: value, Allowed: allowed}
}

// openPlan returns a plan of which nothing is given.
func openPlan() jsonPlan {
	const open = scheduler.Any
	return jsonPlan{Second: open, Minute: open, Hour: open, Day: open, Month: open, Week: open}
}

// parsePlanRecord reads a plan.
func parsePlanRecord(text []byte) (*scheduler.Plan, error) {
	r := planRecord{jsonPlan: openPlan()}
	if err := parseRecord(text, &r); err != nil {
		return nil, err
	}
	return r.plan()
}

// plan returns the plan that r is of.
func (r *planRecord) plan() (*scheduler.Plan, error) {
	if r.Status < -1 || r.Status > 1 {
		return nil, badRecord("status", fmt.Sprint(r.Status), "-1, 0, 1")
	}
	created := float64(r.CreatedTime)
	if !(created >= 0 && created < 1e12) { // NaN, too
		return nil, badRecord("created_time", fmt.Sprint(created), "seconds from 0 up to the year 9999")
	}
	p := &scheduler.Plan{
		Key: r.Key, Action: r.Action, Params: r.Params, Due: r.NextTime, Fired: r.CurrentCount, LastDue: r.LastTimeout,
		Status:   scheduler.Status(r.Status),
		Schedule: scheduler.Schedule{Kind: scheduler.Calendar, Second: r.Second, Minute: r.Minute, Hour: r.Hour, Day: r.Day, Month: r.Month, Week: r.Week},
	}
	if created != 0 {
		p.Created = time.UnixMilli(int64(math.Round(created * 1000)))
	}
	if r.IsTimeOut {
		p.Schedule.Kind, p.Schedule.Count = scheduler.Timeout, r.Count
	}
	for name, value := range r.ParamsBase64 {
		b, err := base64.StdEncoding.DecodeString(value)
		if err != nil {
			return nil, badRecord("params_base64."+scheduler.Shorten(name, 64), err.Error(), "base64")
		}
		if _, twice := p.Params[name]; twice {
			return nil, badRecord("params_base64."+scheduler.Shorten(name, 64), "a name that params has, too", "each name once")
		}
		if p.Params == nil {
			p.Params = make(map[string]string)
		}
		p.Params[name] = string(b)
	}
	return p, nil
}
