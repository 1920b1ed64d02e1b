package scheduler

import (
	"strings"
	"testing"
	"time"
)

func TestParseOptions(t *testing.T) {
	params := map[string]string{
		"cmd": "ls", OptionTimeout: "1.5", OptionRetries: "0", OptionRetryDelay: "0.25", OptionTimezone: "Asia/Shanghai",
	}
	got, err := ParseOptions(params)
	if err != nil {
		t.Fatal(err)
	}
	want := PlanOptions{
		Timeout: 1500 * time.Millisecond, Zone: mustZone(t, "Asia/Shanghai"),
		HasRetries: true, RetryDelay: 250 * time.Millisecond, HasRetryDelay: true,
	}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got, err := ParseOptions(map[string]string{"cmd": "ls"}); err != nil || got != (PlanOptions{}) {
		t.Errorf("no options: got %+v, %v", got, err)
	}
}

func TestParseOptionsValues(t *testing.T) {
	rows := []struct {
		why, name, value string
		ok               bool
	}{
		{"a day", OptionTimeout, "86400", true},
		{"more", OptionTimeout, "86400.001", false},
		{"0", OptionTimeout, "0", false},
		{"rounds to 0", OptionTimeout, "0.0000000001", false},
		{"negative", OptionTimeout, "-1", false},
		{"empty", OptionTimeout, "", false},
		{"a point", OptionTimeout, ".", false},
		{"two points", OptionTimeout, "1.2.3", false},
		{"half", OptionTimeout, ".5", true},
		{"other forms of a float", OptionTimeout, "1e3", false},
		{"not a number", OptionTimeout, "NaN", false},
		{"infinite", OptionTimeout, "inf", false},
		{"a unit", OptionTimeout, "5s", false},
		{"at once", OptionRetryDelay, "0", true},
		{"a day", OptionRetryDelay, "86400", true},
		{"more", OptionRetryDelay, "86401", false},
		{"none", OptionRetries, "0", true},
		{"100", OptionRetries, "100", true},
		{"101", OptionRetries, "101", false},
		{"negative", OptionRetries, "-1", false},
		{"signed", OptionRetries, "+1", false},
		{"a fraction", OptionRetries, "1.5", false},
		{"UTC", OptionTimezone, "UTC", true},
		{"nested", OptionTimezone, "America/Argentina/Ushuaia", true},
		{"the machine's own zone", OptionTimezone, "Local", false},
		{"the machine's own zone, by file", OptionTimezone, "localtime", false},
		{"empty", OptionTimezone, "", false},
		{"unknown", OptionTimezone, "Mars/Olympus", false},
		{"a path", OptionTimezone, "../zoneinfo/UTC", false},
		{"another spelling of a path", OptionTimezone, "Europe//Berlin", false},
		{"with leap seconds", OptionTimezone, "right/UTC", false},
		{"an offset", OptionTimezone, "+08:00", false},
		{"unknown name", "forsun.colour", "red", false},
		{"the case matters", "forsun.Timeout", "5", false},
		{"only the prefix", "forsun.", "5", false},
	}
	for _, r := range rows {
		_, err := ParseOptions(map[string]string{"cmd": "ls", r.name: r.value})
		var kind error
		if !r.ok {
			kind = ErrField
		}
		checkField(t, r.name+" "+r.why, err, kind, "params."+r.name)
	}
}

// TestParseOptionsErrors: the same error each time, and the rest is understood.
func TestParseOptionsErrors(t *testing.T) {
	params := map[string]string{"forsun.b": "1", "forsun.a": "1", OptionRetries: "5", OptionTimeout: "x"}
	for range 20 {
		got, err := ParseOptions(params)
		checkField(t, "the first by name", err, ErrField, "params.forsun.a")
		if !strings.Contains(err.Error(), OptionRetryDelay) {
			t.Errorf("the error does not list the options: %v", err)
		}
		if !got.HasRetries || got.Retries != 5 || got.Timeout != 0 {
			t.Errorf("got %+v, want the retries", got)
		}
	}
}

func TestParseOptionsAllocates(t *testing.T) {
	plain := map[string]string{"cmd": "ls", "cwd": "/"}
	zoned := map[string]string{"cmd": "ls", OptionTimezone: "Asia/Shanghai"}
	p := &Plan{Params: zoned}
	p.Zone(time.UTC) // fills the cache
	for why, f := range map[string]func(){
		"no options":    func() { ParseOptions(plain) },
		"a plan's zone": func() { p.Zone(time.UTC) },
	} {
		if got := testing.AllocsPerRun(100, f); got > 0 {
			t.Errorf("%s: got %v allocations, want 0", why, got)
		}
	}
}

func TestPlanOptionsDefaults(t *testing.T) {
	policy := DefaultRetryPolicy()
	none := PlanOptions{}
	if got := none.Retry(policy); got != policy {
		t.Errorf("no options: got %+v, want %+v", got, policy)
	}
	if got := none.TimeoutOr(time.Minute); got != time.Minute {
		t.Errorf("no timeout: got %s, want the action's", got)
	}
	if got := (PlanOptions{Timeout: time.Second}).TimeoutOr(time.Minute); got != time.Second {
		t.Errorf("a timeout: got %s, want 1s", got)
	}
	slow := PlanOptions{HasRetries: true, Retries: 0, HasRetryDelay: true, RetryDelay: time.Hour}
	if got, want := slow.Retry(policy), (RetryPolicy{Delay: time.Hour, Rate: 1, Max: time.Hour}); got != want {
		t.Errorf("a delay above the cap: got %+v, want %+v", got, want)
	}
}

func TestPlanZone(t *testing.T) {
	berlin := mustZone(t, "Europe/Berlin")
	rows := []struct {
		why    string
		params map[string]string
		want   *time.Location
	}{
		{"none", nil, berlin},
		{"own", map[string]string{OptionTimezone: "Asia/Shanghai"}, mustZone(t, "Asia/Shanghai")},
		{"unknown", map[string]string{OptionTimezone: "Mars/Olympus"}, berlin},
	}
	for _, r := range rows {
		if got := (&Plan{Params: r.params}).Zone(berlin); got != r.want {
			t.Errorf("%s: got %s, want %s", r.why, got, r.want)
		}
	}
}
