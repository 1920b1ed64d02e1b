package scheduler

import (
	"context"
	"errors"
	"testing"
	"time"
)

// scriptedAlarm answers what a test tells it to, in place of the system's timer.
type scriptedAlarm struct {
	answers chan alarmAnswer
	asked   chan time.Time
}

type alarmAnswer struct {
	stepped bool
	err     error
}

func (a *scriptedAlarm) sleep(ctx context.Context, t time.Time) (bool, error) {
	select {
	case a.asked <- t:
	case <-ctx.Done():
		return false, ctx.Err()
	}
	select {
	case ans := <-a.answers:
		return ans.stepped, ans.err
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

func (a *scriptedAlarm) close() error { return nil }

// fixedClock stands where it is put.
type fixedClock struct{ now time.Time }

func (c *fixedClock) Now() time.Time { return c.now }

func TestTickerAsksForTheNextWholeSecond(t *testing.T) {
	for _, row := range []struct {
		why  string
		now  time.Time
		want time.Time
	}{
		{"just after a second: the next one, not this one", time.Unix(100, 1), time.Unix(101, 0)},
		{"exactly at a second: it has begun", time.Unix(100, 0), time.Unix(101, 0)},
		{"just before a second", time.Unix(100, 999_999_999), time.Unix(101, 0)},
	} {
		a := &scriptedAlarm{answers: make(chan alarmAnswer, 1), asked: make(chan time.Time, 1)}
		tick := &secondTicker{alarm: a, clock: &fixedClock{row.now}}
		a.answers <- alarmAnswer{}
		if _, err := tick.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := <-a.asked; !got.Equal(row.want) {
			t.Errorf("%s: asked for %v, want %v", row.why, got, row.want)
		}
	}
}

func TestTickerReportsAStepAndGoesOn(t *testing.T) {
	clock := &fixedClock{time.Unix(100, 500)}
	a := &scriptedAlarm{answers: make(chan alarmAnswer, 2), asked: make(chan time.Time, 2)}
	tick := &secondTicker{alarm: a, clock: clock}
	a.answers <- alarmAnswer{stepped: true}
	got, err := tick.Next(t.Context())
	if err != nil || !got.Stepped {
		t.Fatalf("got %+v, %v; want a step", got, err)
	}
	clock.now = time.Unix(50, 0) // set back meanwhile
	<-a.asked
	a.answers <- alarmAnswer{}
	if got, err = tick.Next(t.Context()); err != nil || got.Stepped {
		t.Fatalf("got %+v, %v; want a plain tick", got, err)
	}
	if want := time.Unix(51, 0); !(<-a.asked).Equal(want) {
		t.Errorf("after the step it does not follow the new time")
	}
}

// The machine's own timer: three ticks in a row, each soon after its second and
// never before it.
func TestSystemTickerIsNeverEarly(t *testing.T) {
	tick, err := NewTicker()
	if err != nil {
		t.Fatal(err)
	}
	defer tick.Close()
	var last int64
	for range 3 {
		before := time.Now()
		got, err := tick.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got.Stepped {
			continue // somebody set this machine's clock: not what is tested here
		}
		if got.Now.Unix() <= before.Unix() {
			t.Errorf("woke at %v, before the second after %v began", got.Now, before)
		}
		if last != 0 && got.Now.Unix() <= last {
			t.Errorf("second %d ticked twice", last)
		}
		last = got.Now.Unix()
	}
}

func TestTickerEndsWithItsContext(t *testing.T) {
	tick, err := NewTicker()
	if err != nil {
		t.Fatal(err)
	}
	defer tick.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	for ctx.Err() == nil { // a second may begin within the 5 ms
		tick.Next(ctx)
	}
	if _, err = tick.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
	}
	// It still works for another context.
	if _, err := tick.Next(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestTickHubNeverWaitsAndNeverLosesAStep(t *testing.T) {
	var hub tickHub
	ticks, cancel := hub.subscribe()
	hub.publish(Tick{Now: time.Unix(1, 0)})
	hub.publish(Tick{Now: time.Unix(2, 0)}) // nobody took the first
	hub.publish(Tick{Now: time.Unix(9, 0), Stepped: true})
	if got := <-ticks; !got.Stepped {
		t.Errorf("got %+v, want the step", got)
	}
	cancel()
	hub.publish(Tick{})
	select {
	case got := <-ticks:
		t.Errorf("got %+v after the end of the subscription", got)
	default:
	}
}
