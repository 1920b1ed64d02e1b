package scheduler

import (
	"errors"
	"strings"
	"testing"
)

// checkField fails unless err is a *FieldError of the kind for the field, or nil
// where kind is nil.
func checkField(t *testing.T, why string, err, kind error, field string) {
	t.Helper()
	if kind == nil {
		if err != nil {
			t.Errorf("%s: got %v, want no error", why, err)
		}
		return
	}
	var fe *FieldError
	if !errors.As(err, &fe) || !errors.Is(fe.Kind, kind) || fe.Field != field {
		t.Errorf("%s: got %v, want %v for %s", why, err, kind, field)
	}
}

func TestScheduleValidate(t *testing.T) {
	timeout := func(second, count int) Schedule {
		return Schedule{Kind: Timeout, Second: second, Minute: Any, Hour: Any, Day: Any, Month: Any, Week: Any, Count: count}
	}
	rows := []struct {
		why   string
		s     Schedule
		kind  error
		field string
	}{
		{"all any", cal(Any, Any, Any, Any, Any, Any), nil, ""},
		{"the lowest", cal(0, 0, 0, 1, 1, 0), nil, ""},
		{"the highest", cal(59, 59, 23, 31, 12, 7), nil, ""},
		{"second 60", cal(60, 0, 0, 1, 1, 0), ErrField, "second"},
		{"second -2", cal(-2, 0, 0, 1, 1, 0), ErrField, "second"},
		{"minute 60", cal(0, 60, 0, 1, 1, 0), ErrField, "minute"},
		{"hour 24", cal(0, 0, 24, 1, 1, 0), ErrField, "hour"},
		{"day 0", cal(0, 0, 0, 0, 1, 0), ErrField, "day"},
		{"day 32", cal(0, 0, 0, 32, 1, 0), ErrField, "day"},
		{"month 0", cal(0, 0, 0, 1, 0, 0), ErrField, "month"},
		{"month 13", cal(0, 0, 0, 1, 13, 0), ErrField, "month"},
		{"week 8", cal(0, 0, 0, 1, 1, 8), ErrField, "week"},
		{"29 February comes", cal(0, 0, 0, 29, 2, Any), nil, ""},
		{"30 February does not", cal(0, 0, 0, 30, 2, Any), ErrTime, "day"},
		{"31 February does not", cal(Any, Any, Any, 31, 2, Any), ErrTime, "day"},
		{"31 April does not", cal(0, 0, 0, 31, 4, Any), ErrTime, "day"},
		{"31 February or a Monday does", cal(0, 0, 0, 31, 2, 1), nil, ""},
		{"day 31 of any month does", cal(0, 0, 0, 31, Any, Any), nil, ""},
		{"a calendar's count is ignored", Schedule{Minute: Any, Hour: Any, Day: Any, Month: Any, Week: Any, Count: -5}, nil, ""},

		{"a timeout", timeout(5, 1), nil, ""},
		{"for ever", timeout(5, 0), nil, ""},
		{"amounts have no range", timeout(1_000_000, 1_000_000), nil, ""},
		{"count -1", timeout(5, -1), ErrTime, "count"},
		{"at once", timeout(0, 1), nil, ""},
		{"negative amounts are 0: at once", timeout(-5, 1), nil, ""},
		{"an interval of 0 for ever", timeout(0, 0), ErrField, "count"},
		{"an interval of 0, twice", timeout(0, 2), ErrField, "count"},
		{"beyond the year 9999", timeout(lastDue+1, 1), ErrTime, "interval"},
		{"no such kind", Schedule{Kind: 9}, ErrField, "kind"},
	}
	for _, r := range rows {
		checkField(t, r.why, r.s.Validate(), r.kind, r.field)
	}
}

// TestScheduleErrorText: an error says the field, the value, and what is allowed.
func TestScheduleErrorText(t *testing.T) {
	err := cal(0, 75, 0, Any, Any, Any).Validate()
	if got, want := err.Error(), "minute: 75 is not allowed; allowed: 0 to 59, or -1 for any"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestValidateKey(t *testing.T) {
	rows := []struct {
		why, key string
		kind     error
	}{
		{"plain", "a", nil},
		{"512 bytes", strings.Repeat("k", 512), nil},
		{"blanks, braces, colons, other scripts", "a {0}:b 键😀", nil},
		{"U+FFFD itself is text", "\ufffd", nil},
		{"empty", "", ErrMissing},
		{"513 bytes", strings.Repeat("k", 513), ErrTooLarge},
		{"171 characters of three bytes", strings.Repeat("键", 171), ErrTooLarge},
		{"NUL", "a\x00b", ErrField},
		{"newline", "a\nb", ErrField},
		{"escape", "\x1b[31m", ErrField},
		{"DEL", "a\x7f", ErrField},
		{"C1", "a\u0085b", ErrField},
		{"not UTF-8", "a\xff", ErrField},
		{"cut in a character", "键"[:2], ErrField},
	}
	for _, r := range rows {
		err := ValidateKey(r.key)
		checkField(t, r.why, err, r.kind, "key")
		if err != nil && strings.ContainsAny(err.Error(), "\x00\n\x1b\x7f\u0085") {
			t.Errorf("%s: control characters in the error: %q", r.why, err)
		}
	}
}

func TestValidateParams(t *testing.T) {
	many := func(n int) map[string]string {
		params := make(map[string]string, n)
		for i := range n {
			params[strings.Repeat("n", i+1)] = ""
		}
		return params
	}
	rows := []struct {
		why    string
		params map[string]string
		kind   error
	}{
		{"none", nil, nil},
		{"256 entries, a name of 256 bytes", many(256), nil},
		{"257 entries", many(257), ErrTooLarge},
		{"256 KiB", map[string]string{"body": strings.Repeat("x", 256<<10-4)}, nil},
		{"a byte more", map[string]string{"body": strings.Repeat("x", 256<<10-3)}, ErrTooLarge},
		{"a name of 257 bytes", map[string]string{strings.Repeat("n", 257): ""}, ErrTooLarge},
		{"an empty name", map[string]string{"": "x"}, ErrField},
		{"a control character in a name", map[string]string{"a\nb": "x"}, ErrField},
		{"a name that is not UTF-8", map[string]string{"a\xff": "x"}, ErrField},
		{"values may be any bytes", map[string]string{"body": "\x00\xff\n"}, nil},
	}
	for _, r := range rows {
		checkField(t, r.why, ValidateParams(r.params), r.kind, "params")
	}
}
