package actions

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/snower/forsun/scheduler"
)

func TestHeadKeepsTheHead(t *testing.T) {
	tests := []struct {
		why   string
		parts []string
		want  string
	}{
		{"nothing", nil, ""},
		{"all of it", []string{"a", "", "bc"}, "abc"},
		{"cut at the limit", []string{strings.Repeat("x", scheduler.MaxOutput), "y"}, strings.Repeat("x", scheduler.MaxOutput)},
		{"one long write", []string{strings.Repeat("x", 1<<20)}, strings.Repeat("x", scheduler.MaxOutput)},
		{"not UTF-8", []string{"a\xffb"}, "a\uFFFDb"},
	}
	for _, tt := range tests {
		var h head
		for _, part := range tt.parts {
			if n, err := h.Write([]byte(part)); n != len(part) || err != nil {
				t.Errorf("%s: Write = %d, %v; want %d", tt.why, n, err, len(part))
			}
		}
		if got := string(h.output(nil)); got != tt.want {
			t.Errorf("%s: got %d bytes, want %d", tt.why, len(got), len(tt.want))
		}
	}
}

// Wherever a secret lies across the end of what is kept, none of it stays; also
// where masking what came before moves that end up into the output.
func TestHeadCutLeavesNoHalfSecret(t *testing.T) {
	const secret = "correct-horse-battery"
	secrets := scheduler.Secrets(map[string]string{"password": secret})
	for shift := range 2 * len(secret) {
		for _, filling := range []string{"界", secret + " ", "http://user:" + secret + "@host/ ", "http://user:other-secret@host/ "} {
			var h head
			fmt.Fprint(&h, strings.Repeat(".", shift), strings.Repeat(filling, 2*(scheduler.MaxOutput+headRoom)/len(filling)))
			got := string(h.output(secrets))
			if strings.Contains(got, "cor") || strings.Contains(got, "user") || strings.Contains(got, "other") {
				t.Fatalf("%q after %d dots: the output ends in %q", filling, shift, got[len(got)-40:])
			}
			if len(got) > scheduler.MaxOutput || !utf8.ValidString(got) {
				t.Fatalf("%q after %d dots: %d bytes, valid UTF-8 %v", filling, shift, len(got), utf8.ValidString(got))
			}
		}
	}
}

func TestHide(t *testing.T) {
	inner := fmt.Errorf("login with s3cret: %w", context.DeadlineExceeded)
	err := hide(&scheduler.RetryableError{Err: inner, After: time.Minute}, []string{"s3cret"})
	if got, want := err.Error(), "login with ***: context deadline exceeded"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Error("errors.Is does not find the cause")
	}
	retry, ok := errors.AsType[*scheduler.RetryableError](err)
	if !ok || retry.After != time.Minute || strings.Contains(retry.Err.Error(), "s3cret") {
		t.Errorf("got %#v, want it retryable after 1m, masked", err)
	}
	if hide(nil, nil) != nil {
		t.Error("hide(nil) is not nil")
	}
}
