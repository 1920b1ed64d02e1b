//go:build !linux

package scheduler

import (
	"context"
	"time"
)

// timerAlarm sleeps on the runtime's timer, in short steps so that a wall clock
// that is set is noticed.
type timerAlarm struct{}

func newAlarm() (alarm, error) { return timerAlarm{}, nil }

// A step is seen as a difference between how far the wall clock and the
// monotonic clock moved.
func (timerAlarm) sleep(ctx context.Context, t time.Time) (stepped bool, err error) {
	const slice = 250 * time.Millisecond
	const jump = 100 * time.Millisecond
	for {
		before := time.Now()
		left := t.Sub(before.Round(0))
		if left <= 0 {
			return false, nil
		}
		timer := time.NewTimer(min(left, slice))
		select {
		case <-ctx.Done():
			timer.Stop()
			return false, ctx.Err()
		case <-timer.C:
		}
		after := time.Now()
		wall := after.Round(0).Sub(before.Round(0))
		if d := wall - after.Sub(before); d > jump || d < -jump {
			return true, nil
		}
	}
}

func (timerAlarm) close() error { return nil }
