package scheduler

import "time"

// Clock tells the wall-clock time. Every operation takes one "now" at its edge
// and works with that.
type Clock interface {
	Now() time.Time
}

// SystemClock is the machine's clock.
type SystemClock struct{}

// Now returns time.Now().
func (SystemClock) Now() time.Time { return time.Now() }
