package line

import (
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/snower/forsun/scheduler"
)

// TestParamsOfExistingClients replays what the Python parser made of parameters.
func TestParamsOfExistingClients(t *testing.T) {
	type row struct {
		Parameters string
		Map        map[string]string
	}
	for _, r := range readLines[row](t, "parameters.jsonl") {
		got, err := ParseParams(r.Parameters)
		if err != nil || !maps.Equal(got, r.Map) {
			t.Errorf("ParseParams(%q): got %q, %v; want %q", r.Parameters, got, err, r.Map)
		}
	}
}

func TestParseParams(t *testing.T) {
	rows := []struct {
		why, text string
		want      map[string]string
	}{
		{"nothing", " ; ;", map[string]string{}},
		{"blanks around", " a = 'x ' ; b =  y z  ;", map[string]string{"a": "x ", "b": "y z"}},
		{"the first = splits", "a==b", map[string]string{"a": "=b"}},
		{"empty values", "a=;b=''", map[string]string{"a": "", "b": ""}},
		{"quotes inside a plain value are literal", `a=it's`, map[string]string{"a": "it's"}},
		{"an open string ends with the text", "a='x;b=1", map[string]string{"a": "x;b=1"}},
		{"backslashes after the quote belong to the value", `a='x;y'\\;b=1`, map[string]string{"a": `x;y\\`, "b": "1"}},
	}
	for _, r := range rows {
		got, err := ParseParams(r.text)
		if err != nil || !maps.Equal(got, r.want) {
			t.Errorf("%s: ParseParams(%q): got %q, %v; want %q", r.why, r.text, got, err, r.want)
		}
	}
}

func TestParseParamsRefuses(t *testing.T) {
	rows := []struct{ why, text, field, says string }{
		{"no =", "host=h;secret", "params", "after host"},
		{"no name", "=secret", "params", "without a name"},
		{"twice", "a=secret;a=2", "params.a", "each name once"},
		{"text after the quote: how to quote is shown", "a='secret'x", "params.a", `\'`},
	}
	for _, r := range rows {
		_, err := ParseParams(r.text)
		var field *scheduler.FieldError
		if !errors.As(err, &field) || field.Kind != scheduler.ErrParams || field.Field != r.field {
			t.Errorf("%s: ParseParams(%q): got %v, want ErrParams for %s", r.why, r.text, err, r.field)
			continue
		}
		if text := err.Error(); !strings.Contains(text, r.says) || strings.Contains(text, "secret") {
			t.Errorf("%s: ParseParams(%q): error %q should say %q and no value", r.why, r.text, text, r.says)
		}
	}
}

func TestFormatParams(t *testing.T) {
	got := FormatParams(map[string]string{"host": "127.0.0.1", "command": "SET b 1 EX 300"})
	if want := "command='SET b 1 EX 300';host='127.0.0.1'"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := Quote(got), `"command='SET b 1 EX 300';host='127.0.0.1'"`; got != want {
		t.Errorf("as a word: got %s, want %s", got, want)
	}
}

func TestActionParams(t *testing.T) {
	rows := []struct {
		why, action, text string
		want              map[string]string
	}{
		{"a command", "shell", "date >> log.txt", map[string]string{"cmd": "date >> log.txt"}},
		{"a command with ;", "shell", "cd /; ls", map[string]string{"cmd": "cd /; ls"}},
		{"a command that sets a variable", "shell", "FOO=1 make", map[string]string{"cmd": "FOO=1 make"}},
		{"parameters", "shell", "cwd=/;cmd=ls", map[string]string{"cwd": "/", "cmd": "ls"}},
		{"an option is a parameter", "shell", "forsun.timeout=5;cmd=ls", map[string]string{"forsun.timeout": "5", "cmd": "ls"}},
		{"a URL", "http", "http://h/?a=1;b=2", map[string]string{"url": "http://h/?a=1;b=2"}},
		{"parameters", "http", "url=http://h/?a=1;method=PUT", map[string]string{"url": "http://h/?a=1", "method": "PUT"}},
		{"a header first", "http", "header_X-A='1';url=http://h/", map[string]string{"header_X-A": "1", "url": "http://h/"}},
		{"no other action has a shorthand", "redis", "command=SET a b", map[string]string{"command": "SET a b"}},
		{"nothing stays nothing", "shell", "", map[string]string{}},
	}
	for _, r := range rows {
		got, err := ActionParams(r.action, r.text)
		if err != nil || !maps.Equal(got, r.want) {
			t.Errorf("%s: %s %q: got %q, %v; want %q", r.why, r.action, r.text, got, err, r.want)
		}
	}
	if got, err := ActionParams("redis", "SET a b"); err == nil {
		t.Errorf("redis without name=: got %q, want an error", got)
	}
}

func FuzzParams(f *testing.F) {
	for _, seed := range []string{"a=b", "a='x;y';b=\"\\\"\"", `a='\'\`, "=;a", "sql='select 1", "\xff=\x00"} {
		f.Add(seed, "v", `x\`)
	}
	f.Fuzz(func(t *testing.T, text, v1, v2 string) {
		check := func(params map[string]string) {
			written := FormatParams(params)
			got, err := ParseParams(written)
			if err != nil || !maps.Equal(got, params) {
				t.Fatalf("%q written as %s comes back as %q, %v", params, written, got, err)
			}
		}
		check(map[string]string{"a": v1, "b": v2})
		if params, err := ParseParams(text); err == nil {
			check(params)
		}
		if params, err := ActionParams("http", text); err == nil {
			check(params)
		}
	})
}

func TestFormatActionParams(t *testing.T) {
	params := map[string]string{"url": "http://h/", "A": "1"}
	written := FormatActionParams("http", params)
	if want := "url='http://h/';A='1'"; written != want {
		t.Errorf("a parameter of the action comes first: got %s, want %s", written, want)
	}
	if got, err := ActionParams("http", written); err != nil || !maps.Equal(got, params) {
		t.Errorf("%s reads back as %q, %v", written, got, err)
	}
}
