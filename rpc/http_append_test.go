package rpc

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/snower/forsun/rpc/wire"
	"github.com/snower/forsun/scheduler"
)

// jsonRefused stands in a list of plans for one that was not stored.
type jsonRefused struct {
	Key     string    `json:"key"`
	Code    wire.Code `json:"errcode"`
	Message string    `json:"errmsg"`
}

// jsonUnsure stands in a list of plans for one that may be stored.
type jsonUnsure struct {
	*jsonPlan
	Code    wire.Code `json:"errcode"`
	Message string    `json:"errmsg"`
}

// FuzzCreated: the answer of a create is to the byte what encoding/json makes of it.
func FuzzCreated(f *testing.F) {
	f.Add("key", "http", "url", "http://127.0.0.1/?a=1&b=<2>", int64(1795479958919453), 3600, true, uint8(0), "")
	f.Add("\u4f60\u597d \U0001f600", "n", "\u2028", "\x00\x1f\b\f\n\r\t\"\\/\x7f\u0080", int64(0), -1, false, uint8(1), "\u6267\u884c\u9519\u8bef")
	f.Add("\xff\xc0", "", "\xe2\x80", "\u2029\ufffd\xed\xa0\x80", int64(-5), math.MinInt, false, uint8(2), "\xf0")
	f.Fuzz(func(t *testing.T, key, action, name, value string, micros int64, n int, timeout bool, kind uint8, message string) {
		p := &scheduler.Plan{
			Key: key, Action: action, Params: map[string]string{name: value, "b": "2", "a": "1", value: name},
			Schedule: scheduler.Schedule{Second: n, Minute: n + 1, Hour: n + 2, Day: n + 3, Month: n + 4, Week: n + 5, Count: n + 6},
			Due:      micros, Fired: n + 7, LastDue: micros + 1, Status: scheduler.Status(n % 2),
		}
		if micros != 0 {
			p.Created = time.UnixMicro(micros)
		}
		if timeout {
			p.Schedule.Kind = scheduler.Timeout
		}
		if n < 0 {
			p.Params = nil
		}
		answer, want := createdPlan{plan: p}, any(newJSONPlan(p))
		if kind > 0 {
			answer.code, answer.message = wire.Code(kind), message
			want = jsonRefused{key, answer.code, message}
		}
		if kind > 1 {
			answer.unsure = true
			want = jsonUnsure{newJSONPlan(p), answer.code, message}
		}
		for _, row := range []struct{ ours, theirs any }{
			{&answer, want},
			{createdPlans{answer, answer, {plan: &scheduler.Plan{}}}, []any{want, want, newJSONPlan(&scheduler.Plan{})}},
			{createdPlans{}, []any{}},
		} {
			ours, err1 := (&envelope{Code: wire.Code(n), Message: message, Data: row.ours}).encode()
			theirs, err2 := (&envelope{Code: wire.Code(n), Message: message, Data: row.theirs}).encode()
			if d := cmp.Diff(string(theirs), string(ours)); d != "" || err1 != nil || err2 != nil {
				t.Errorf("%v, %v (-encoding/json +ours):\n%s", err1, err2, d)
			}
		}
	})
}
