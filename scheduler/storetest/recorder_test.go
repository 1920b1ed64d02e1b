package storetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/snower/forsun/scheduler"
)

func TestRecorder(t *testing.T) {
	clock := NewClock(time.Unix(1_800_000_000, 0))
	r := NewRecorder()
	r.Now = clock.Now
	var _ scheduler.Action = r
	firing := func(key string, attempt int) *scheduler.Firing {
		return &scheduler.Firing{Plan: NewPlan(key), Due: 1_799_999_999, Attempt: attempt}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()

	refused := errors.New("refused")
	r.Fail("fails", 2, scheduler.Retryable(refused))
	for attempt, want := range map[int]error{1: refused, 2: refused, 3: nil} {
		if _, err := r.Execute(ctx, firing("fails", attempt)); !errors.Is(err, want) {
			t.Errorf("attempt %d: %v, want %v", attempt, err, want)
		}
	}

	release := r.Hang("hangs")
	ended := make(chan error, 2)
	short, stop := context.WithCancel(ctx)
	go func() { _, err := r.Execute(short, firing("hangs", 1)); ended <- err }()
	runs, err := r.Wait(ctx, func(runs []Recorded) bool { return len(runs) == 4 })
	if err != nil || !runs[3].Ended.IsZero() || runs[3].Key != "hangs" {
		t.Fatalf("Wait = %+v, %v, want a fourth run that hangs", runs, err)
	}
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("cut off: %v, want context.Canceled", err)
	}
	go func() { _, err := r.Execute(ctx, firing("hangs", 2)); ended <- err }()
	if _, err := r.Wait(ctx, func(runs []Recorded) bool { return len(runs) == 5 }); err != nil {
		t.Fatalf("Wait: %v", err)
	}
	clock.Advance(time.Second)
	release()
	release()
	if err := <-ended; err != nil {
		t.Errorf("released: %v, want nil", err)
	}
	runs, err = r.Wait(ctx, Ended(5))
	if err != nil || runs[4].Ended.Sub(runs[4].Started) != time.Second {
		t.Errorf("the last run = %+v, %v, want one of a second", runs[4], err)
	}
	if _, err := r.Wait(short, Ended(6)); !errors.Is(err, context.Canceled) {
		t.Errorf("Wait for what never comes: %v, want context.Canceled", err)
	}
}

func TestClock(t *testing.T) {
	at := time.Unix(1_800_000_000, 0)
	c := NewClock(at)
	var _ scheduler.Clock = c
	if got := c.Advance(time.Minute); !got.Equal(at.Add(time.Minute)) || !c.Now().Equal(got) {
		t.Errorf("advanced to %v, shows %v, want %v", got, c.Now(), at.Add(time.Minute))
	}
	c.Set(at)
	if !c.Now().Equal(at) {
		t.Errorf("set back, it shows %v, want %v", c.Now(), at)
	}
}
