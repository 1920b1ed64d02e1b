package extension

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/snower/forsun/scheduler"
)

// ProtocolVersion is the version of the protocol that this package speaks.
const ProtocolVersion = 1

// Limits of the protocol.
const (
	// MaxLine is how long a line of an extension may be, in bytes.
	MaxLine = 256 << 10
	// MaxConcurrency is the highest concurrency that an extension may declare.
	MaxConcurrency = 1024
	// HangTimeout is how long a check may go without an answer before the process counts
	// as stuck.
	HangTimeout = 30 * time.Second

	maxParameters  = 256
	maxVersion     = 64
	maxSeconds     = 86400
	defaultTimeout = 30 * time.Second
)

// Types of messages.
const (
	typeHello   = "hello"
	typeCheck   = "check"
	typeChecked = "checked"
	typeExecute = "execute"
	typeResult  = "result"
	typeCancel  = "cancel"
)

// What forsund writes. The order of the fields is part of the protocol.
type (
	helloRequest struct {
		Type      string `json:"type"`
		Protocols []int  `json:"protocols"`
		Name      string `json:"name"`
		Forsun    string `json:"forsun"`
	}
	checkRequest struct {
		Type   string            `json:"type"`
		ID     uint64            `json:"id"`
		Params map[string]string `json:"params"`
	}
	executeRequest struct {
		Type      string            `json:"type"`
		ID        uint64            `json:"id"`
		Key       string            `json:"key"`
		Due       int64             `json:"due"`
		Firing    string            `json:"firing"`
		Attempt   int               `json:"attempt"`
		Missed    int               `json:"missed"`
		TimeoutMS int64             `json:"timeout_ms"`
		Params    map[string]string `json:"params"`
	}
	cancelRequest struct {
		Type string `json:"type"`
		ID   uint64 `json:"id"`
	}
)

// message is what an extension may write: a hello, or an answer.
type message struct {
	Type string `json:"type"`

	// Of a hello.
	Protocol    int         `json:"protocol"`
	Name        string      `json:"name"`
	Version     string      `json:"version"`
	Concurrency *int        `json:"concurrency"`
	Timeout     *float64    `json:"timeout"`
	ParamsBytes *int        `json:"params_bytes"`
	Check       bool        `json:"check"`
	Parameters  []parameter `json:"parameters"`

	// Of an answer.
	ID         uint64  `json:"id"`
	Output     string  `json:"output"`
	Error      string  `json:"error"`
	Retryable  *bool   `json:"retryable"`
	RetryAfter float64 `json:"retry_after"`
	Parameter  string  `json:"parameter"`
}

// parameter is one that an extension declares.
type parameter struct {
	Name     string   `json:"name"`
	Required bool     `json:"required"`
	Values   []string `json:"values"`
}

// parse reads a line of an extension.
func parse(line []byte) (m message, err error) {
	if err := json.Unmarshal(line, &m); err != nil {
		return m, err
	}
	if !(m.RetryAfter >= 0 && m.RetryAfter <= maxSeconds) {
		return m, fmt.Errorf("retry_after: %v is not allowed; allowed: 0 to %d seconds", m.RetryAfter, maxSeconds)
	}
	return m, nil
}

// declaration is what an extension says of itself in its hello.
type declaration struct {
	version     string
	concurrency int
	timeout     time.Duration
	paramsBytes int
	check       bool
	parameters  []parameter
}

// ErrHandshake is that an extension's hello is not one that forsund can work with: it
// will be no other when the process is started again.
var ErrHandshake = errors.New("its handshake is wrong")

// declared checks a hello.
func (m *message) declared(name string) (d declaration, err error) {
	refuse := func(field string, value any, allowed string) (declaration, error) {
		return declaration{}, fmt.Errorf("%w: %s: %s is not allowed; allowed: %s", ErrHandshake, field, scheduler.Shorten(fmt.Sprint(value), 64), allowed)
	}
	d = declaration{version: m.Version, concurrency: 1, timeout: defaultTimeout, paramsBytes: scheduler.MaxParamsBytes, check: m.Check, parameters: m.Parameters}
	switch {
	case m.Type != typeHello:
		return refuse("type", m.Type, typeHello+", first of all")
	case m.Protocol != ProtocolVersion:
		return refuse("protocol", m.Protocol, fmt.Sprintf("%d, the version this forsund speaks", ProtocolVersion))
	case m.Name != name:
		return refuse("name", m.Name, name)
	case len(m.Version) > maxVersion:
		return refuse("version", m.Version, fmt.Sprintf("at most %d bytes", maxVersion))
	case len(m.Parameters) > maxParameters:
		return refuse("parameters", fmt.Sprint(len(m.Parameters), " of them"), fmt.Sprintf("at most %d", maxParameters))
	}
	if m.Concurrency != nil {
		if d.concurrency = *m.Concurrency; d.concurrency < 1 || d.concurrency > MaxConcurrency {
			return refuse("concurrency", d.concurrency, fmt.Sprintf("1 to %d", MaxConcurrency))
		}
	}
	if m.Timeout != nil {
		if !(*m.Timeout > 0 && *m.Timeout <= maxSeconds) {
			return refuse("timeout", *m.Timeout, fmt.Sprintf("seconds, above 0 and at most %d", maxSeconds))
		}
		d.timeout = max(time.Duration(*m.Timeout*float64(time.Second)), time.Millisecond)
	}
	if m.ParamsBytes != nil {
		if d.paramsBytes = *m.ParamsBytes; d.paramsBytes < 1 {
			return refuse("params_bytes", d.paramsBytes, "1 or more")
		}
	}
	for _, p := range m.Parameters {
		if p.Name == "" || len(p.Name) > scheduler.MaxParamNameBytes || strings.HasPrefix(p.Name, scheduler.OptionPrefix) {
			return refuse("parameters", p.Name, fmt.Sprintf("names of 1 to %d bytes that do not begin with %s", scheduler.MaxParamNameBytes, scheduler.OptionPrefix))
		}
	}
	return d, nil
}

// own returns the parameters that are the action's, without the options of the plan.
func own(params map[string]string) map[string]string {
	all := make(map[string]string, len(params))
	for name, value := range params {
		if !strings.HasPrefix(name, scheduler.OptionPrefix) {
			all[name] = value
		}
	}
	return all
}

// allows checks parameters against what was declared; params are without options.
func (d *declaration) allows(params map[string]string) error {
	size := 0
	for _, name := range slices.Sorted(maps.Keys(params)) {
		size += len(name) + len(params[name])
		if !utf8.ValidString(params[name]) { // names were checked before
			return &scheduler.FieldError{Kind: scheduler.ErrParams, Field: "params." + name, Value: "a value that is not UTF-8", Allowed: "UTF-8, since JSON carries nothing else"}
		}
	}
	if size > d.paramsBytes {
		return &scheduler.FieldError{
			Kind: scheduler.ErrTooLarge, Field: "params", Value: fmt.Sprintf("%d bytes", size),
			Allowed: fmt.Sprintf("up to %d bytes for this action, names and values together", d.paramsBytes),
		}
	}
	for _, p := range d.parameters {
		value := params[p.Name]
		if value == "" {
			if p.Required {
				return &scheduler.FieldError{Kind: scheduler.ErrMissing, Field: "params." + p.Name}
			}
			continue
		}
		if len(p.Values) > 0 && !slices.Contains(p.Values, value) {
			masked := scheduler.MaskParams(map[string]string{p.Name: value})[p.Name]
			return &scheduler.FieldError{Kind: scheduler.ErrParams, Field: "params." + p.Name, Value: scheduler.Shorten(masked, 64), Allowed: strings.Join(p.Values, ", ")}
		}
	}
	return nil
}

// retryAfter is the wait that a result asks for.
func (m *message) retryAfter() time.Duration {
	return time.Duration(math.Ceil(m.RetryAfter * float64(time.Second)))
}
