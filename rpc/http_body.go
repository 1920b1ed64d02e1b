package rpc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/snower/forsun/rpc/jsonwalk"
	"github.com/snower/forsun/scheduler"
	"github.com/snower/forsun/scheduler/line"
)

// maxBodyPlans bounds the plans of one body.
const maxBodyPlans = 10_000

// maxBuffered bounds the room that is made for a body before it arrives.
const maxBuffered = 1 << 20

// readBody reads a whole body. A large one waits for a slot.
func readBody(ctx context.Context, r *http.Request) ([]byte, error) {
	if r.ContentLength > largeMessage || r.ContentLength < 0 {
		if err := takeLarge(ctx); err != nil {
			return nil, err
		}
	}
	var buf bytes.Buffer
	if n := r.ContentLength; n > 0 { // a length that is not allowed is not made room for
		buf.Grow(int(min(n, maxBuffered)) + bytes.MinRead)
	}
	_, err := buf.ReadFrom(r.Body)
	body := buf.Bytes()
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
	var o object
	switch body[0] {
	case '{':
		o.read(body, 0)
		r, err := o.request(put)
		if err != nil {
			return nil, err
		}
		return []scheduler.Request{r}, nil
	case '[':
	default:
		return nil, notJSON
	}
	var requests []scheduler.Request
	var err error // of the first that is wrong, unless there are too many
	n := 0
	for at := jsonwalk.Next(body, 1); body[at] != ']'; n++ {
		end := 0
		switch {
		case err != nil || n >= maxBodyPlans:
			end = jsonwalk.ValueEnd(body, at)
		case body[at] != '{':
			err, end = notJSON, jsonwalk.ValueEnd(body, at)
		default:
			end = o.read(body, at)
			var r scheduler.Request
			if r, err = o.listed(); err != nil {
				err = &scheduler.RequestError{Index: n, Key: r.Key, Err: err}
			}
			if n == 1 { // the others are about as long as the first
				requests = slices.Grow(requests, min(len(body)/at, maxBodyPlans))
			}
			requests = append(requests, r)
		}
		at = jsonwalk.Next(body, end)
	}
	if n > maxBodyPlans {
		return nil, &scheduler.FieldError{
			Kind: scheduler.ErrTooLarge, Field: "body",
			Value: fmt.Sprintf("%d plans", n), Allowed: fmt.Sprintf("up to %d", maxBodyPlans),
		}
	}
	if err != nil {
		return nil, err
	}
	return requests, nil
}

// listed reads a plan of a list, which says itself what kind it is.
func (o *object) listed() (r scheduler.Request, err error) {
	method := "createTimeout"
	if raw := o[fieldMethod]; raw != nil && string(raw) != `"createTimeout"` {
		method, err = o.text(fieldMethod, "")
		if err == nil && method != "create" && method != "createTimeout" {
			err = badJSONField(scheduler.ErrField, "method", raw, "create, createTimeout")
		}
		if err != nil {
			r.Key, _ = o.text(fieldKey, "")
			return r, err
		}
	}
	return o.request(method == "createTimeout")
}

// request reads a plan. Absent fields are what they have always been here: any
// unit, count 0, action shell.
func (o *object) request(timeout bool) (r scheduler.Request, err error) {
	text := func(f field, fallback string) string {
		s, bad := o.text(f, fallback)
		if err == nil {
			err = bad
		}
		return s
	}
	number := func(f field, fallback int) int {
		n, bad := o.number(f, fallback)
		if err == nil {
			err = bad
		}
		return n
	}
	second := fieldSeconds
	if o[second] == nil {
		second = fieldSecond
	}
	r = scheduler.Request{Key: text(fieldKey, ""), Action: text(fieldAction, "shell")}
	r.Schedule = scheduler.Schedule{
		Kind:   scheduler.Calendar,
		Second: number(second, -1), Minute: number(fieldMinute, -1), Hour: number(fieldHour, -1),
		Day: number(fieldDay, -1), Month: number(fieldMonth, -1), Week: number(fieldWeek, -1),
	}
	if timeout {
		r.Schedule.Kind, r.Schedule.Count = scheduler.Timeout, number(fieldCount, 0)
	}
	params, bad := o.params()
	if err == nil {
		err = bad
	}
	r.Params = params
	return r, err
}

// text reads a string.
func (o *object) text(f field, fallback string) (string, error) {
	raw := o[f]
	if raw == nil {
		return fallback, nil
	}
	s, ok := jsonwalk.Unquote(raw)
	if !ok {
		return "", badJSONField(scheduler.ErrField, fieldNames[f], raw, "a string")
	}
	return s, nil
}

// number reads an integer, also one in a string or with a fraction of 0.
func (o *object) number(f field, fallback int) (int, error) {
	raw := o[f]
	if raw == nil {
		return fallback, nil
	}
	text, ok := jsonwalk.Unquote(raw)
	if text = strings.TrimSpace(text); !ok {
		text = string(raw)
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		f64, ferr := strconv.ParseFloat(text, 64)
		if n = int(f64); ferr != nil || f64 != float64(n) || n < -1<<31 || n > 1<<40 {
			return 0, badJSONField(scheduler.ErrField, fieldNames[f], raw, "a whole number")
		}
	}
	return n, nil
}

// params reads the parameters: strings, and numbers and booleans as they are
// written.
func (o *object) params() (map[string]string, error) {
	params := map[string]string{}
	raw := o[fieldParams]
	if raw == nil {
		return params, nil
	}
	if raw[0] != '{' {
		return nil, badJSONField(scheduler.ErrParams, "params", raw, "an object of strings")
	}
	for quoted, value := range jsonwalk.Members(raw) {
		name, _ := jsonwalk.Unquote(quoted)
		switch value[0] {
		case '"':
			params[name], _ = jsonwalk.Unquote(value)
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
