package jsonwalk

import (
	"encoding/json"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// FuzzWalk: a JSON list or object is taken apart as encoding/json does it.
func FuzzWalk(f *testing.F) {
	for _, seed := range []string{
		`[]`, `{}`, ` [ 1 , "a" ,{} , [ ] ] `, `{"a":1,"b":"c","a":null}`, ` { "a" : { "b" : [ "}" , "\"]" ] } , "c" : -1.5e3 } `,
		`[{"key":"k","params":{"url":"http://h/?a=\\"}},{"k\u0065y":"\ud800\"\\\\"}]`, `{"":"","\\":true}`, "[\"\u00a0\",\t1\r\n]",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if !utf8.Valid(text) {
			return // no text that is taken apart is
		}
		var list []json.RawMessage
		var want map[string]json.RawMessage
		isList, isObject := json.Unmarshal(text, &list) == nil && list != nil, json.Unmarshal(text, &want) == nil && want != nil
		from := Next(text, 0)
		if isList {
			got := []json.RawMessage{}
			for i := Next(text, from+1); text[i] != ']'; {
				end := ValueEnd(text, i)
				got, i = append(got, json.RawMessage(text[i:end])), Next(text, end)
			}
			if d := cmp.Diff(list, got); d != "" {
				t.Errorf("%q (-encoding/json +ours):\n%s", text, d)
			}
		}
		if isObject {
			got := map[string]json.RawMessage{}
			for quoted, value := range Members(text[from:]) {
				name, ok := Unquote(quoted)
				if !ok {
					t.Errorf("%q: the name %q is no string", text, quoted)
				}
				got[name] = value
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("%q (-encoding/json +Members):\n%s", text, d)
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
		{`"a"`, "a", true},
		{`""`, "", true},
		{`"\n\u00fc\""`, "\nü\"", true},
		{`"\\"`, `\`, true},
		{`1`, "", false},
		{`{}`, "", false},
		{`true`, "", false},
		{`null`, "", false},
	} {
		if got, ok := Unquote(json.RawMessage(row.raw)); got != row.want || ok != row.ok {
			t.Errorf("%s: got %q, %t; want %q, %t", row.raw, got, ok, row.want, row.ok)
		}
	}
}
