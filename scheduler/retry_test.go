package scheduler

import (
	"math"
	"testing"
	"time"
)

func TestRetryPolicyWait(t *testing.T) {
	const almostOne = 1 - 1e-12
	policy := DefaultRetryPolicy()
	day := RetryPolicy{Retries: 1, Delay: 24 * time.Hour, Max: 24 * time.Hour}
	rows := []struct {
		why     string
		p       RetryPolicy
		attempt int
		after   time.Duration
		rnd     float64
		want    time.Duration
	}{
		{"first", policy, 1, 0, 0.5, 3 * time.Second},
		{"grows by as much each time", policy, 2, 0, 0.5, 6 * time.Second},
		{"and again", policy, 3, 0, 0.5, 9 * time.Second},
		{"up to 10 % less", policy, 1, 0, 0, 2700 * time.Millisecond},
		{"up to 10 % more", policy, 1, 0, almostOne, 3300 * time.Millisecond},
		{"capped", policy, 1000, 0, 0.5, 10 * time.Minute},
		{"capped with its jitter", policy, 1000, 0, almostOne, 10 * time.Minute},
		{"no overflow", policy, math.MaxInt, 0, 0.5, 10 * time.Minute},
		{"an attempt 0 counts as 1", policy, 0, 0, 0.5, 3 * time.Second},
		{"all alike", RetryPolicy{Retries: 3, Delay: 3 * time.Second, Max: time.Minute}, 3, 0, 0.5, 3 * time.Second},
		{"twice as much longer each time", RetryPolicy{Retries: 3, Delay: 3 * time.Second, Rate: 2, Max: time.Minute}, 3, 0, 0.5, 15 * time.Second},
		{"no delay", RetryPolicy{Retries: 3, Max: time.Minute}, 2, 0, 0.5, 0},
		{"a delay as long as the cap", day, 1, 0, 0.5, 24 * time.Hour},
		{"the target asks for more", policy, 1, time.Minute, 0, time.Minute},
		{"the target asks for more, jittered", policy, 1, time.Minute, almostOne, 66 * time.Second},
		{"the target asks for less", policy, 1, time.Second, 0.5, 3 * time.Second},
		{"the target asks for more than the cap", policy, 1, time.Hour, 0, time.Hour},
		{"the target asks for a year: a day", policy, 1, 365 * 24 * time.Hour, 0, 24 * time.Hour},
	}
	for _, r := range rows {
		got := r.p.Wait(r.attempt, r.after, r.rnd).Round(time.Millisecond)
		if got != r.want {
			t.Errorf("%s: Wait(%d, %s, %v): got %s, want %s", r.why, r.attempt, r.after, r.rnd, got, r.want)
		}
	}
}

func TestRetryPolicyAllows(t *testing.T) {
	policy := RetryPolicy{Retries: 2}
	for attempt, want := range map[int]bool{1: true, 2: true, 3: false} {
		if got := policy.Allows(attempt); got != want {
			t.Errorf("after attempt %d: got %v, want %v", attempt, got, want)
		}
	}
}
