package scheduler

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// A bounded context is what the library's is, whatever happens to it and whoever looks
// at it, before or after.
func TestBoundedIsAContext(t *testing.T) {
	cause, cut := errors.New("no end"), errors.New("cut off")
	type name struct{}
	look := map[string]func(ctx context.Context) any{
		"Done":  func(ctx context.Context) any { return ctx.Done() != nil },
		"Err":   func(ctx context.Context) any { return ctx.Err() },
		"Value": func(ctx context.Context) any { return ctx.Value(name{}) },
		"Cause": func(ctx context.Context) any { return context.Cause(ctx) },
		"nothing": func(context.Context) any {
			return nil
		},
		"a child": func(ctx context.Context) any {
			child, cancel := context.WithCancel(ctx)
			context.AfterFunc(child, cancel)
			return child.Err()
		},
	}
	happen := map[string]func(end, cutOff func()){
		"nothing":           func(end, cutOff func()) {},
		"it ends":           func(end, cutOff func()) { end() },
		"it ends twice":     func(end, cutOff func()) { end(); end() },
		"it is cut off":     func(end, cutOff func()) { cutOff() },
		"cut off, then end": func(end, cutOff func()) { cutOff(); end() },
		"end, then cut off": func(end, cutOff func()) { end(); cutOff() },
		"time passes":       func(end, cutOff func()) { time.Sleep(time.Minute) },
		"time, then end":    func(end, cutOff func()) { time.Sleep(time.Minute); end() },
		"end, then time":    func(end, cutOff func()) { end(); time.Sleep(time.Minute) },
	}
	for what, happens := range happen {
		for how, before := range look {
			t.Run(what+" after "+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					type state struct {
						deadline               time.Time
						has                    bool
						seen, err, cause, name any
						done, childDone        bool
						childErr, childCause   error
					}
					see := func(ctx context.Context, end, cutOff func()) (s state) {
						s.seen = before(ctx)
						happens(end, cutOff)
						synctest.Wait()
						s.deadline, s.has = ctx.Deadline()
						s.err = ctx.Err()
						s.cause, s.name = context.Cause(ctx), ctx.Value(name{})
						select {
						case <-ctx.Done():
							s.done = true
						default:
						}
						child, cancel := context.WithTimeout(ctx, time.Hour)
						defer cancel()
						select {
						case <-child.Done():
							s.childDone = true
						default:
						}
						s.childErr, s.childCause = child.Err(), context.Cause(child)
						return s
					}
					root := context.WithValue(t.Context(), name{}, "n")
					parent1, cut1 := context.WithCancelCause(root)
					parent2, cut2 := context.WithCancelCause(root)
					began := time.Now()
					library, end := context.WithTimeoutCause(parent1, time.Second, cause)
					want := see(library, end, func() { cut1(cut) })
					late := time.Since(began) // synctest's clock moves only while all sleep
					own := newBounded(parent2, time.Now(), time.Second, cause)
					got := see(own, func() { own.end(time.Now()) }, func() { cut2(cut) })
					got.deadline = got.deadline.Add(-late)
					if got != want {
						t.Errorf("got  %+v\nwant %+v", got, want)
					}
					end()
					own.end(time.Now())
					cut1(nil)
					cut2(nil)
				})
			})
		}
	}
}

// Whoever waits is told when the parent ends, at the deadline, and at the end.
func TestBoundedWaiters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parent, cancel := context.WithCancel(t.Context())
		began := time.Now()
		short, long, ends := newBounded(parent, began, time.Second, errTrustEnded), newBounded(parent, began, time.Hour, nil), newBounded(parent, began, time.Hour, nil)
		sooner := newBounded(short, began, time.Minute, nil)
		time.AfterFunc(2*time.Second, func() { ends.end(time.Now()) })
		time.AfterFunc(3*time.Second, cancel)
		for i, c := range []struct {
			ctx   context.Context
			after time.Duration
			err   error
		}{
			{short, time.Second, context.DeadlineExceeded},
			{sooner, time.Second, context.DeadlineExceeded},
			{ends, 2 * time.Second, context.Canceled},
			{long, 3 * time.Second, context.Canceled},
		} {
			<-c.ctx.Done()
			if took := time.Since(began); took != c.after || c.ctx.Err() != c.err {
				t.Errorf("%d: ended after %v by %v, want %v, %v", i, took, c.ctx.Err(), c.after, c.err)
			}
		}
		if got := context.Cause(short); got != errTrustEnded {
			t.Errorf("cause %v", got)
		}
		short.end(time.Now())
		sooner.end(time.Now())
		long.end(time.Now())
	})
}

// keeps is an action that goes on after it has answered.
type keeps struct {
	canary
	ctx context.Context
}

func (k *keeps) Execute(ctx context.Context, _ *Firing) (Output, error) {
	k.ctx = ctx
	ctx.Done()
	return nil, nil
}

// What an attempt left behind is told to stop as soon as it has answered.
func TestAttemptEndsItsContext(t *testing.T) {
	l := loopOf(t, &claimStub{})
	var action keeps
	l.e.attempt(t.Context(), &action, &Firing{Plan: &Plan{Action: "a"}, Attempt: 1})
	select {
	case <-action.ctx.Done():
	default:
		t.Error("its context goes on")
	}
}
