package rpc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/snower/forsun/scheduler"
	"github.com/snower/forsun/scheduler/line"
)

// maxBodyPlans bounds the plans of one body.
const maxBodyPlans = 10_000

// readBody reads a whole body. A large one waits for a slot.
func readBody(ctx context.Context, r *http.Request) ([]byte, error) {
	if r.ContentLength > largeMessage || r.ContentLength < 0 {
		if err := takeLarge(ctx); err != nil {
			return nil, err
		}
	}
	body, err := io.ReadAll(r.Body)
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, &statusError{http.StatusRequestEntityTooLarge, fmt.Sprintf("body too large; allowed: up to %d bytes", tooLarge.Limit)}
	case err != nil:
		return nil, &statusError{http.StatusBadRequest, "the body did not arrive"}
	case !utf8.Valid(body):
		return nil, &statusError{http.StatusBadRequest, "the body is not UTF-8"}
	}
	return body, nil
}

// planRequests reads the plans of a body: JSON if it says so or says nothing,
// or crontab lines.
func planRequests(ctx context.Context, r *http.Request) (requests []scheduler.Request, err error) {
	kind := r.Header.Get("Content-Type")
	switch {
	case kind == "" || strings.HasPrefix(kind, "application/json"):
		body, err := readBody(ctx, r)
		if err != nil {
			return nil, err
		}
		return jsonRequests(body, r.Method == http.MethodPut)
	case strings.HasPrefix(kind, "application/crontab"):
		body, err := readBody(ctx, r)
		if err != nil {
			return nil, err
		}
		return crontabRequests(string(body))
	default:
		return nil, &statusError{http.StatusBadRequest, fmt.Sprintf(
			"content type %q is not allowed; allowed: application/json, application/crontab", scheduler.Shorten(kind, 64))}
	}
}

// jsonRequests reads a JSON object, whose kind the HTTP method decides, or a
// list of objects, each of which says its own.
func jsonRequests(body []byte, put bool) ([]scheduler.Request, error) {
	notJSON := &statusError{http.StatusBadRequest, "the body is not a JSON object or a list of them"}
	if !json.Valid(body) {
		return nil, notJSON
	}
	body = bytes.TrimSpace(body)
	items, n := []json.RawMessage{body}, 1
	list := body[0] == '['
	if list {
		items, n = nil, 0
		for item := range elements(body) {
			if n++; n <= maxBodyPlans {
				items = append(items, item)
			}
		}
	}
	if n > maxBodyPlans {
		return nil, &scheduler.FieldError{
			Kind: scheduler.ErrTooLarge, Field: "body",
			Value: fmt.Sprintf("%d plans", n), Allowed: fmt.Sprintf("up to %d", maxBodyPlans),
		}
	}
	requests := make([]scheduler.Request, len(items))
	var o object
	for i, item := range items {
		if item[0] != '{' {
			return nil, notJSON
		}
		o.read(item)
		timeout := put
		if list {
			method, err := o.text("method", "createTimeout")
			if err == nil && method != "create" && method != "createTimeout" {
				err = badJSONField(scheduler.ErrField, "method", o.field("method"), "create, createTimeout")
			}
			if err != nil {
				key, _ := o.text("key", "")
				return nil, &scheduler.RequestError{Index: i, Key: key, Err: err}
			}
			timeout = method == "createTimeout"
		}
		var err error
		if requests[i], err = o.request(timeout); err != nil {
			if list {
				err = &scheduler.RequestError{Index: i, Key: requests[i].Key, Err: err}
			}
			return nil, err
		}
	}
	return requests, nil
}

// object is a JSON object. Of fields given twice the last counts, fields nobody
// asks for are ignored, and null is as if not given.
type object []member

type member struct{ name, value json.RawMessage }

// read makes o the object of a JSON text.
func (o *object) read(text json.RawMessage) {
	*o = (*o)[:0]
	for name, value := range members(text) {
		if bytes.IndexByte(name, '\\') >= 0 {
			plain, _ := unquote(name)
			name = json.RawMessage(`"` + plain + `"`)
		}
		*o = append(*o, member{name[1 : len(name)-1], value})
	}
}

// field is the JSON of a field, nil if it is not given.
func (o object) field(name string) json.RawMessage {
	for _, m := range slices.Backward(o) {
		if string(m.name) == name {
			if string(m.value) == "null" {
				return nil
			}
			return m.value
		}
	}
	return nil
}

// request reads a plan. Absent fields are what they have always been here: any
// unit, count 0, action shell.
func (o object) request(timeout bool) (r scheduler.Request, err error) {
	var errs []error
	text := func(name, fallback string) string {
		s, err := o.text(name, fallback)
		errs = append(errs, err)
		return s
	}
	number := func(name string, fallback int) int {
		n, err := o.number(name, fallback)
		errs = append(errs, err)
		return n
	}
	seconds := "seconds"
	if o.field(seconds) == nil {
		seconds = "second"
	}
	r = scheduler.Request{Key: text("key", ""), Action: text("action", "shell")}
	r.Schedule = scheduler.Schedule{
		Kind:   scheduler.Calendar,
		Second: number(seconds, -1), Minute: number("minute", -1), Hour: number("hour", -1),
		Day: number("day", -1), Month: number("month", -1), Week: number("week", -1),
	}
	if timeout {
		r.Schedule.Kind, r.Schedule.Count = scheduler.Timeout, number("count", 0)
	}
	r.Params, err = o.params()
	for _, e := range append(errs, err) {
		if e != nil {
			return r, e
		}
	}
	return r, nil
}

// text reads a string.
func (o object) text(name, fallback string) (string, error) {
	raw := o.field(name)
	if raw == nil {
		return fallback, nil
	}
	s, ok := unquote(raw)
	if !ok {
		return "", badJSONField(scheduler.ErrField, name, raw, "a string")
	}
	return s, nil
}

// number reads an integer, also one in a string or with a fraction of 0.
func (o object) number(name string, fallback int) (int, error) {
	raw := o.field(name)
	if raw == nil {
		return fallback, nil
	}
	text, ok := unquote(raw)
	if text = strings.TrimSpace(text); !ok {
		text = string(raw)
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		f, ferr := strconv.ParseFloat(text, 64)
		if n = int(f); ferr != nil || f != float64(n) || n < -1<<31 || n > 1<<40 {
			return 0, badJSONField(scheduler.ErrField, name, raw, "a whole number")
		}
	}
	return n, nil
}

// params reads the parameters: strings, and numbers and booleans as they are
// written.
func (o object) params() (map[string]string, error) {
	params := map[string]string{}
	raw := o.field("params")
	if raw == nil {
		return params, nil
	}
	if raw[0] != '{' {
		return nil, badJSONField(scheduler.ErrParams, "params", raw, "an object of strings")
	}
	for quoted, value := range members(raw) {
		name, _ := unquote(quoted)
		switch value[0] {
		case '"':
			params[name], _ = unquote(value)
		case '{', '[', 'n':
			// The value may be a secret: it is not shown.
			return nil, badJSONField(scheduler.ErrParams, "params."+scheduler.Shorten(name, 64), nil, "a string, a number or a boolean")
		default:
			params[name] = string(value)
		}
	}
	return params, nil
}

// badJSONField refuses a field of an object.
func badJSONField(kind error, name string, raw json.RawMessage, allowed string) error {
	const most = 64
	value := string(raw)
	if len(raw) > most || !utf8.Valid(raw) || !strings.HasPrefix(value, `"`) { // a JSON string has its quotes already
		value = scheduler.Shorten(value, most)
	}
	return &scheduler.FieldError{Kind: kind, Field: name, Value: value, Allowed: allowed}
}

// crontabRequests reads a plan a line: key s m h D M W action params.
func crontabRequests(body string) (requests []scheduler.Request, err error) {
	for text := range strings.Lines(body) {
		for _, words := range line.Words(text) {
			p, err := line.ParsePlan(words)
			if err != nil {
				return nil, &scheduler.RequestError{Index: len(requests), Key: words[0], Err: lineError(err)}
			}
			if len(requests) == maxBodyPlans {
				return nil, &scheduler.FieldError{
					Kind: scheduler.ErrTooLarge, Field: "body",
					Value: "more plans", Allowed: fmt.Sprintf("up to %d", maxBodyPlans),
				}
			}
			requests = append(requests, scheduler.Request{Key: p.Key, Schedule: p.Schedule, Action: p.Action, Params: p.Params})
		}
	}
	return requests, nil
}

// lineError makes a missing word of a line a bad field: the message of the
// missing ones has no room for what is wrong with the line.
func lineError(err error) error {
	var f *scheduler.FieldError
	if errors.As(err, &f) && f.Kind == scheduler.ErrMissing && f.Allowed != "" {
		bad := *f
		bad.Kind = scheduler.ErrField
		return &bad
	}
	return err
}
