package actions

import (
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/snower/forsun/scheduler"
)

// testFiring is a firing of a plan with params, due at 1700000000.
func testFiring(params map[string]string) *scheduler.Firing {
	return &scheduler.Firing{
		Plan:    &scheduler.Plan{Key: "pläne/50%", Revision: 7, Params: params},
		Due:     1700000000,
		Attempt: 2,
	}
}

// checkRow is a set of parameters and what Check says of them: "" if nothing.
type checkRow struct {
	why    string
	params map[string]string
	want   string
}

// testCheck runs rows of Check. A refusal must be a FieldError of the right kind,
// and Check must leave the parameters alone.
func testCheck(t *testing.T, a scheduler.Action, rows []checkRow) {
	t.Helper()
	for _, row := range rows {
		kept := maps.Clone(row.params)
		err := a.Check(row.params)
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != row.want {
			t.Errorf("%s: Check(%v)\n got %q\nwant %q", row.why, row.params, got, row.want)
		}
		if err != nil {
			field, ok := errors.AsType[*scheduler.FieldError](err)
			if !ok || !strings.HasPrefix(field.Field, "params.") {
				t.Errorf("%s: Check says %#v, want a FieldError of params.…", row.why, err)
			} else if want := scheduler.ErrParams; field.Kind != want && field.Kind != scheduler.ErrMissing {
				t.Errorf("%s: kind %v, want %v or %v", row.why, field.Kind, want, scheduler.ErrMissing)
			}
		}
		if !maps.Equal(row.params, kept) {
			t.Errorf("%s: Check changed the parameters to %v", row.why, row.params)
		}
	}
}

func TestReaderNumbers(t *testing.T) {
	tests := []struct {
		why, value string
		want       int
		refused    bool
	}{
		{"absent or empty", "", 5, false},
		{"lowest", "1", 1, false},
		{"highest", "10", 10, false},
		{"blanks around", " 7\n", 7, false},
		{"a sign", "+7", 7, false},
		{"below", "0", 5, true},
		{"above", "11", 5, true},
		{"negative", "-1", 5, true},
		{"a fraction", "1.5", 5, true},
		{"no number", "ten", 5, true},
		{"too long for an int", "99999999999999999999", 5, true},
		{"blank in the middle", "1 0", 5, true},
	}
	for _, tt := range tests {
		r := read(map[string]string{"n": tt.value})
		if got := r.integer("n", 5, 1, 10); got != tt.want || (r.err() != nil) != tt.refused {
			t.Errorf("%s: integer(%q) = %d, %v; want %d, refused %v", tt.why, tt.value, got, r.err(), tt.want, tt.refused)
		}
		if tt.refused && !strings.HasSuffix(r.err().Error(), "allowed: 1 to 10") {
			t.Errorf("%s: %v, want the allowed range in it", tt.why, r.err())
		}
	}
}

func TestReaderSeconds(t *testing.T) {
	tests := []struct {
		why, value string
		want       time.Duration
		refused    bool
	}{
		{"absent or empty", "", time.Minute, false},
		{"whole", "5", 5 * time.Second, false},
		{"a fraction", "0.25", 250 * time.Millisecond, false},
		{"an exponent", "1e1", 10 * time.Second, false},
		{"the most", "3600", time.Hour, false},
		{"zero", "0", time.Minute, true},
		{"less than the clock's step", "1e-12", time.Minute, true},
		{"negative", "-1", time.Minute, true},
		{"more", "3600.001", time.Minute, true},
		{"not a number", "NaN", time.Minute, true},
		{"infinite", "Inf", time.Minute, true},
		{"a unit", "5s", time.Minute, true},
	}
	for _, tt := range tests {
		r := read(map[string]string{"t": tt.value})
		if got := r.seconds("t", time.Minute, time.Hour); got != tt.want || (r.err() != nil) != tt.refused {
			t.Errorf("%s: seconds(%q) = %v, %v; want %v, refused %v", tt.why, tt.value, got, r.err(), tt.want, tt.refused)
		}
	}
}

func TestReaderAddress(t *testing.T) {
	tests := []struct {
		why, host, port string
		want            string // "" = refused
	}{
		{"defaults", "", "", "127.0.0.1:99"},
		{"a name", "db.example", "1234", "db.example:1234"},
		{"IPv6", "::1", "", "[::1]:99"},
		{"IPv6 in brackets", "[::1]", "1", "[::1]:1"},
		{"blanks around", " h ", " 8 ", "h:8"},
		{"with its port", "h:80", "", ""},
		{"a URL", "http://h", "", ""},
		{"user information", "u:p@h", "", ""},
		{"a blank within", "a b", "", ""},
		{"a control character", "a\x01", "", ""},
		{"port 0", "h", "0", ""},
		{"port too high", "h", "65536", ""},
	}
	for _, tt := range tests {
		r := read(map[string]string{"host": tt.host, "port": tt.port})
		got := r.address(99)
		if refused := r.err() != nil; refused != (tt.want == "") || !refused && got != tt.want {
			t.Errorf("%s: address(%q, %q) = %q, %v; want %q", tt.why, tt.host, tt.port, got, r.err(), tt.want)
		}
	}
}

func TestReaderKeepsFirstRefusalAndMasks(t *testing.T) {
	r := read(map[string]string{"a": "x", "b": "y", "password": "s3cret", "c": "http://u:s3cret@h"})
	r.integer("a", 0, 1, 2)
	r.integer("b", 0, 1, 2)
	if got, want := r.err().Error(), "params.a: x is not allowed; allowed: 1 to 2"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, name := range []string{"password", "c"} {
		r := read(r.params)
		r.refuse(name, "something else")
		if strings.Contains(r.err().Error(), "s3cret") || !strings.Contains(r.err().Error(), "***") {
			t.Errorf("refusal of %s shows %q", name, r.err())
		}
	}
}
