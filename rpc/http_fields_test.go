package rpc

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/snower/forsun/rpc/jsonwalk"
)

// FuzzObject: the fields of a plan are read as encoding/json reads them.
func FuzzObject(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"a":1,"b":"c","a":null}`, ` { "a" : { "b" : [ "}" , "\"]" ] } , "c" : -1.5e3 } `, `{"":"","\\":true}`,
		`{"key":"a\"","key":"\\\\\"","params":{"method":1},"method":null,"secon\u0064":"5","keys":1,"count":[{"week":2}]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var want map[string]json.RawMessage
		if !utf8.Valid(text) || json.Unmarshal(text, &want) != nil || want == nil {
			return // no body, or no object in one
		}
		o := object{fieldWeek: json.RawMessage("of the plan before")}
		if end := o.read(text, jsonwalk.Next(text, 0)); jsonwalk.Next(text, end) != len(text) {
			t.Errorf("%q: got its end at %d", text, end)
		}
		for f, name := range fieldNames {
			if string(want[name]) == "null" {
				want[name] = nil
			}
			if d := cmp.Diff(want[name], o[f]); d != "" {
				t.Errorf("%q (-encoding/json +object):\n%s: %s", text, name, d)
			}
		}
	})
}

// TestListRefused: of several faults of a list the first is told, but for too many plans.
func TestListRefused(t *testing.T) {
	t.Parallel()
	many := strings.Repeat(`{"key":"k"},`, maxBodyPlans-2)
	for _, row := range []struct{ name, body, want string }{
		{"first", `[{"key":"a"},{"key":"b","second":"x"},{"key":"c","method":"x"}]`, `plan 2 (key b): second: "x" is not allowed; allowed: a whole number`},
		{"method", `[{"key":"a","method":"x","second":"y"}]`, `plan 1 (key a): method: "x" is not allowed; allowed: create, createTimeout`},
		{"method of another type", `[{"key":"a","method":1}]`, `plan 1 (key a): method: 1 is not allowed; allowed: a string`},
		{"no object", `[{"key":"a"}, 1 ,{"key":1}]`, "the body is not a JSON object or a list of them"},
		{"no object, but later", `[{"key":1},1]`, "plan 1 (key ): key: 1 is not allowed; allowed: a string"},
		{"just as many as allowed", "[" + many + `{"key":"k"},{"key":"last","week":[]}]`, `plan 10000 (key last): week: [] is not allowed; allowed: a whole number`},
		{"too many, and one wrong", `[{"key":1},7,` + many + `{}]`, "body: 10001 plans is not allowed; allowed: up to 10000"},
		{"a number", "7", "the body is not a JSON object or a list of them"},
	} {
		if got, err := jsonRequests([]byte(row.body), true); err == nil || err.Error() != row.want {
			t.Errorf("%s: got %v, %v; want %s", row.name, len(got), err, row.want)
		}
	}
}
