package scheduler

import "time"

// maxRetryAfter bounds what a server may ask for with Retry-After: a firing must
// not be parked for a year by one wrong header.
const maxRetryAfter = 24 * time.Hour

// RetryPolicy says how often, and after what delay, a failed firing is tried
// again.
type RetryPolicy struct {
	Retries int           // attempts after the first; 0 = none
	Delay   time.Duration // before the first retry
	Rate    float64       // each later one waits Rate × Delay longer; 0 or more
	Max     time.Duration // cap of a delay
}

// DefaultRetryPolicy returns three retries, after 3, 6 and 9 seconds; a delay
// never grows beyond 10 minutes.
func DefaultRetryPolicy() RetryPolicy {
	return RetryPolicy{Retries: 3, Delay: 3 * time.Second, Rate: 1, Max: 10 * time.Minute}
}

// Allows says whether a firing whose attempt (1, 2, …) failed may be tried again.
func (p RetryPolicy) Allows(attempt int) bool { return attempt <= p.Retries }

// Wait returns how long to wait after a failed attempt (1, 2, …) before the
// next: Delay × (1 + Rate × (attempt − 1)), up to 10 % more or less so that firings that failed
// together do not return together, at most Max. It is at least after, what the
// target asked for (at most a day of it; 0 = nothing), plus up to 10 %. rnd is
// a random number in [0, 1).
func (p RetryPolicy) Wait(attempt int, after time.Duration, rnd float64) time.Duration {
	attempt = max(attempt, 1)
	factor := (1 + p.Rate*float64(attempt-1)) * (0.9 + 0.2*rnd)
	wait := p.Max
	if want := float64(max(p.Delay, 0)) * factor; want < float64(p.Max) {
		wait = time.Duration(want)
	}
	if after = min(after, maxRetryAfter); after > 0 {
		wait = max(wait, after+time.Duration(float64(after)*0.1*rnd))
	}
	return wait
}
