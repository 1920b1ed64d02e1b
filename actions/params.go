package actions

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/snower/forsun/scheduler"
)

// reader reads an action's parameters by name and keeps the first refusal; after
// it, values are defaults and only err matters. A value that is empty counts as
// not given.
type reader struct {
	params  map[string]string
	refused error
}

// read returns a reader of params, which it does not change.
func read(params map[string]string) *reader { return &reader{params: params} }

// err returns the first refusal: a *scheduler.FieldError of kind ErrParams or
// ErrMissing.
func (r *reader) err() error { return r.refused }

// refuse says that parameter name has a value that is not allowed. The value is
// shown with its secrets masked.
func (r *reader) refuse(name, allowed string) {
	shown := scheduler.MaskParams(map[string]string{name: r.params[name]})[name]
	r.refuseAs(name, scheduler.Shorten(shown, 64), allowed)
}

// refuseAs is refuse with what to show of the value.
func (r *reader) refuseAs(name, shown, allowed string) {
	if r.refused != nil {
		return
	}
	r.refused = &scheduler.FieldError{Kind: scheduler.ErrParams, Field: "params." + name, Value: shown, Allowed: allowed}
}

// text returns any text, def if it is not given.
func (r *reader) text(name, def string) string {
	if v := r.params[name]; v != "" {
		return v
	}
	return def
}

// need returns a text that must be given.
func (r *reader) need(name string) string {
	v := r.params[name]
	if v == "" && r.refused == nil {
		r.refused = &scheduler.FieldError{Kind: scheduler.ErrMissing, Field: "params." + name}
	}
	return v
}

// integer returns a whole number from low to high.
func (r *reader) integer(name string, def, low, high int) int {
	v := strings.TrimSpace(r.params[name])
	if v == "" {
		return def
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < low || n > high {
		r.refuse(name, fmt.Sprintf("%d to %d", low, high))
		return def
	}
	return n
}

// seconds returns a duration given in seconds, which may have a fraction: more
// than 0 and at most high.
func (r *reader) seconds(name string, def, high time.Duration) time.Duration {
	v := strings.TrimSpace(r.params[name])
	if v == "" {
		return def
	}
	n, err := strconv.ParseFloat(v, 64)
	// Written so that NaN is refused; the smallest step is a nanosecond.
	if err != nil || !(n >= 1e-9 && n <= high.Seconds()) {
		r.refuse(name, fmt.Sprintf("seconds, more than 0 and at most %d", int64(high/time.Second)))
		return def
	}
	return time.Duration(n * float64(time.Second))
}

// choice returns one of allowed, which are in lower case; the value may be in any.
func (r *reader) choice(name, def string, allowed ...string) string {
	v := strings.ToLower(strings.TrimSpace(r.params[name]))
	if v == "" {
		return def
	}
	for _, a := range allowed {
		if v == a {
			return v
		}
	}
	r.refuse(name, strings.Join(allowed, ", "))
	return def
}

// address returns the host:port of parameters "host" and "port", in the form
// net.Dial takes. An IPv6 address may be given with or without brackets.
func (r *reader) address(defPort int) string {
	host := strings.TrimSpace(r.text("host", "127.0.0.1"))
	if h, ok := strings.CutPrefix(host, "["); ok {
		host = strings.TrimSuffix(h, "]")
	}
	if host == "" || strings.ContainsAny(host, "/@[]\"'\\") || strings.Count(host, ":") == 1 || !printable(host) {
		r.refuse("host", "a host name or an IP address, without port")
	}
	return net.JoinHostPort(host, strconv.Itoa(r.integer("port", defPort, 1, 65535)))
}

// maxConnections returns parameter "max_connections", the bound on connections to
// one target. The first plan that connects to a target sets it.
func (r *reader) maxConnections(def int) int {
	return r.integer("max_connections", def, 1, 1024)
}

// printable says whether s has no blank and no control character.
func printable(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c == 0x7f })
}
