package actions

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/snower/forsun/scheduler"
)

// laravelPayload is what forsun-laravel stores for one job, and the queue entry
// that a Laravel worker must find.
type laravelPayload struct {
	Command string // of a redis plan
	SQL     string // of a mysql plan
	Expect  string
}

func laravelPayloads(t *testing.T) []laravelPayload {
	t.Helper()
	b, err := os.ReadFile("testdata/laravel_payloads.json")
	if err != nil {
		t.Fatal(err)
	}
	var all []laravelPayload
	if err := json.Unmarshal(b, &all); err != nil {
		t.Fatal(err)
	}
	if len(all) < 4 {
		t.Fatalf("laravel_payloads.json: got %d payloads, want at least 4", len(all))
	}
	return all
}

// firingOf returns the first attempt of a firing with params and more pairs of
// name and value.
func firingOf(params map[string]string, more ...string) *scheduler.Firing {
	all := map[string]string{}
	for name, value := range params {
		all[name] = value
	}
	for i := 0; i < len(more); i += 2 {
		all[more[i]] = more[i+1]
	}
	return &scheduler.Firing{
		Plan: &scheduler.Plan{Key: "plan", Revision: 7, Params: all},
		Due:  1795345900, Attempt: 1,
	}
}

// attempt runs f under the deadline every test of a working server has.
func attempt(t *testing.T, a scheduler.Action, f *scheduler.Firing) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	out, err := a.Execute(ctx, f)
	return string(out), err
}

// must is attempt of what must succeed.
func must(t *testing.T, a scheduler.Action, f *scheduler.Firing) string {
	t.Helper()
	out, err := attempt(t, a, f)
	if err != nil {
		t.Fatalf("Execute: %v", err)
	}
	return out
}

func isRetryable(err error) bool {
	var r *scheduler.RetryableError
	return errors.As(err, &r)
}

// wantFailure checks that err is retryable or final, as wanted, and says what it
// should.
func wantFailure(t *testing.T, why string, err error, retryable bool, texts ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: Execute: got no error, want one with %q", why, texts)
		return
	}
	if got := isRetryable(err); got != retryable {
		t.Errorf("%s: retryable: got %t, want %t (%v)", why, got, retryable, err)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%s: got error %q, want one with %q", why, err, text)
		}
	}
}

// wantField checks what Check says of params: field is the one refused, "" if
// none is.
func wantField(t *testing.T, why string, err error, kind error, field string) {
	t.Helper()
	if field == "" {
		if err != nil {
			t.Errorf("%s: Check: got %v, want no error", why, err)
		}
		return
	}
	var refused *scheduler.FieldError
	if !errors.As(err, &refused) {
		t.Errorf("%s: Check: got %v, want a refusal of %s", why, err, field)
		return
	}
	if refused.Field != field || !errors.Is(err, kind) {
		t.Errorf("%s: Check: got %v of kind %v, want kind %v of %s", why, err, refused.Kind, kind, field)
	}
}

// wantEndAtDeadline checks that an attempt against a peer that hangs ends when
// its context does: by deadline, and by an earlier cancellation.
func wantEndAtDeadline(t *testing.T, a scheduler.Action, f *scheduler.Firing) {
	t.Helper()
	const soon = 2 * time.Second // "soon after" of the contract, on a busy machine
	for _, row := range []struct {
		why  string
		with func() (context.Context, context.CancelFunc)
		want error
	}{
		{"deadline", func() (context.Context, context.CancelFunc) {
			return context.WithTimeout(t.Context(), 300*time.Millisecond)
		}, context.DeadlineExceeded},
		{"cancelled before its deadline", func() (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			time.AfterFunc(300*time.Millisecond, cancel)
			return ctx, cancel
		}, context.Canceled},
	} {
		ctx, cancel := row.with()
		start := time.Now()
		_, err := a.Execute(ctx, f)
		took := time.Since(start)
		cancel()
		wantFailure(t, row.why, err, true)
		if !errors.Is(err, row.want) {
			t.Errorf("%s: got error %v, want one that is %v", row.why, err, row.want)
		}
		if took < 250*time.Millisecond || took > 300*time.Millisecond+soon {
			t.Errorf("%s: Execute took %s, want about 300ms", row.why, took)
		}
	}
}

// wantNoSecret checks that no text holds the planted secret.
func wantNoSecret(t *testing.T, why, secret string, out string, err error) {
	t.Helper()
	if strings.Contains(out, secret) {
		t.Errorf("%s: the output %q holds the secret", why, out)
	}
	if err != nil && strings.Contains(err.Error(), secret) {
		t.Errorf("%s: the error %q holds the secret", why, err)
	}
}

func TestServerOptions(t *testing.T) {
	for name, o := range map[string]interface{ Validate() error }{
		"redis": DefaultRedisOptions(), "mysql": DefaultMySQLOptions(), "beanstalk": DefaultBeanstalkOptions(),
	} {
		if err := o.Validate(); err != nil {
			t.Errorf("default options of %s: %v", name, err)
		}
	}
	err := MySQLOptions{}.Validate()
	for _, field := range []string{"Timeout", "ConnectTimeout", "IdleTime", "MaxConnections", "MaxIdle", "User"} {
		if err == nil || !strings.Contains(err.Error(), "mysql action: "+field+":") {
			t.Errorf("empty options: got %v, want an error that names %s", err, field)
		}
	}
}
