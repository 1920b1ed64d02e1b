package scheduler

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"time"
	"unicode/utf8"
)

// attempt runs a firing's action once and decides what is to become of it.
func (e *Engine) attempt(ctx context.Context, action Action, f *Firing) Finish {
	opts := f.Plan.options()
	timeout := opts.TimeoutOr(e.timeout(action, f))
	started := e.clock.Now()
	mono := time.Now()
	bounded := newBounded(ctx, mono, timeout, noEnd(timeout))
	output, err := e.execute(bounded, action, f)
	if err != nil && bounded.Err() != nil && ctx.Err() == nil {
		// The deadline is the reason, whatever the action made of it.
		err = Retryable(fmt.Errorf("%w: %w", context.Cause(bounded), err))
	}
	ended := time.Now()
	bounded.end(ended)
	took := ended.Sub(mono)

	if err != nil && ctx.Err() != nil {
		// Cut off by the drain: it runs again elsewhere, under the same id.
		e.counters.Returned.Add(1)
		return Finish{Firing: f, Verdict: Return}
	}
	record := &Attempt{
		Firing: f.ID(), Key: f.Plan.Key, Action: f.Plan.Action, Due: f.Due, Missed: f.Missed, Attempt: f.Attempt,
		Started: started, Late: started.Sub(time.Unix(f.Due, 0)), Took: took,
		Outcome: Succeeded, Output: string(output[:min(len(output), MaxOutput)]), Replica: e.opts.Replica,
	}
	finish := Finish{Firing: f, Verdict: Done, Attempt: record}
	if err == nil {
		if f.Plan.Action == CanaryAction {
			finish.Attempt = nil // or they would fill the history
		}
		return finish
	}
	record.Error = head(err.Error(), MaxOutput)
	policy := opts.Retry(e.opts.Retry)
	var again *RetryableError
	if errors.As(err, &again) && policy.Allows(f.Attempt) {
		finish.Verdict = Retry
		finish.At = e.clock.Now().Add(policy.Wait(f.Attempt, again.After, rand.Float64()))
		record.Outcome, record.RetryAt = Failed, finish.At
		return finish
	}
	finish.Verdict = Bury
	record.Outcome = Dead
	return finish
}

// noEnd is why an attempt is cut off: it took so long.
type noEnd time.Duration

func (d noEnd) Error() string { return "no end after " + time.Duration(d).String() }

// head returns at most n bytes of s, not ending within a character.
func head(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// bury ends a firing that cannot be run at all.
func (e *Engine) bury(f *Firing, err error) Finish {
	now := e.clock.Now()
	return Finish{Firing: f, Verdict: Bury, Attempt: &Attempt{
		Firing: f.ID(), Key: f.Plan.Key, Action: f.Plan.Action, Due: f.Due, Missed: f.Missed, Attempt: f.Attempt,
		Started: now, Late: now.Sub(time.Unix(f.Due, 0)), Outcome: Dead, Error: err.Error(), Replica: e.opts.Replica,
	}}
}

// unrunnable says why no worker can run an action.
func (e *Engine) unrunnable(action string) error {
	if slices.Contains(e.opts.Forbidden, action) {
		return fmt.Errorf("%w: action %s, by this deployment's --actions", ErrNotAllowed, action)
	}
	return fmt.Errorf("%w: %s", ErrAction, action)
}

// target asks the action what f talks to; an action that panics has no target,
// and fails when it is executed.
func (e *Engine) target(action Action, f *Firing) (name string) {
	defer e.recovered(f, nil)
	return action.Target(f.Plan.Params)
}

// timeout asks the action for the deadline of an attempt.
func (e *Engine) timeout(action Action, f *Firing) (d time.Duration) {
	d = time.Minute
	defer e.recovered(f, nil)
	return action.Timeout(f.Plan.Params)
}

// recovered turns a panic of an action into its error. Defer it.
func (e *Engine) recovered(f *Firing, err *error) {
	p := recover()
	if p == nil {
		return
	}
	f.log(e.log.Error()).Interface("panic", p).Bytes("stack", debug.Stack()).Msg("action panicked")
	if err != nil {
		*err = fmt.Errorf("action %s panicked", f.Plan.Action)
	}
}

// execute calls the action; a panic there is the firing's failure, not the
// process's.
func (e *Engine) execute(ctx context.Context, action Action, f *Firing) (out Output, err error) {
	defer e.recovered(f, &err)
	return action.Execute(ctx, f)
}
