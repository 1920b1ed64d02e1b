package rpc

import (
	"encoding/json"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// FuzzFields: a JSON list or object is taken apart as encoding/json does it.
func FuzzFields(f *testing.F) {
	for _, seed := range []string{
		`[]`, `{}`, ` [ 1 , "a" ,{} , [ ] ] `, `{"a":1,"b":"c","a":null}`, ` { "a" : { "b" : [ "}" , "\"]" ] } , "c" : -1.5e3 } `,
		`[{"key":"k","params":{"url":"http://h/?a=\\"}},{"k\u0065y":"\ud800\"\\\\"}]`, `{"":"","\\":true}`, "[\"\u00a0\",\t1\r\n]",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if !utf8.Valid(text) {
			return // no body is
		}
		var list []json.RawMessage
		var fields map[string]json.RawMessage
		isList, isObject := json.Unmarshal(text, &list) == nil && list != nil, json.Unmarshal(text, &fields) == nil && fields != nil
		from := next(text, 0)
		if isList {
			got := []json.RawMessage{}
			for element := range elements(text[from:]) {
				got = append(got, element)
			}
			if d := cmp.Diff(list, got); d != "" {
				t.Errorf("%q (-encoding/json +elements):\n%s", text, d)
			}
		}
		if isObject {
			got := map[string]json.RawMessage{}
			for quoted, value := range members(text[from:]) {
				name, ok := unquote(quoted)
				if !ok {
					t.Errorf("%q: the name %q is no string", text, quoted)
				}
				got[name] = value
			}
			if d := cmp.Diff(fields, got); d != "" {
				t.Errorf("%q (-encoding/json +members):\n%s", text, d)
			}
		}
	})
}

// TestUnquote: what is no string, and what is escaped.
func TestUnquote(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		raw, want string
		ok        bool
	}{
		{`"a"`, "a", true}, {`""`, "", true}, {`"\n\u00fc\""`, "\nü\"", true}, {`"\\"`, `\`, true},
		{`1`, "", false}, {`{}`, "", false}, {`true`, "", false}, {`null`, "", false},
	} {
		if got, ok := unquote(json.RawMessage(row.raw)); got != row.want || ok != row.ok {
			t.Errorf("%s: got %q, %t; want %q, %t", row.raw, got, ok, row.want, row.ok)
		}
	}
}
