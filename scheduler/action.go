package scheduler

import (
	"context"
	"time"
)

// Action runs firings of one kind: shell, http, … One value serves all workers
// at once. Implementations live in the actions package.
type Action interface {
	// Check says whether a plan with these parameters can work, with a
	// *FieldError of kind ErrParams or ErrMissing (field "params.<name>") if not. It
	// is called when the plan is created, takes seconds at most and does not keep
	// or change params. An error of kind ErrNotAllowed: it cannot say now. Options
	// (names under "forsun.") are not its business.
	Check(params map[string]string) error

	// Target names what a firing will talk to ("host:port"), so that one that
	// hangs uses up its own slots only. "" means no target: the action's slots
	// alone count.
	Target(params map[string]string) string

	// Timeout is the deadline of one attempt where the plan sets no option
	// "forsun.timeout".
	Timeout(params map[string]string) time.Duration

	// Execute runs one attempt. It returns when the action has ended or soon
	// after ctx is done, whatever its peer does. What is worth another attempt
	// is returned as a *RetryableError; any other error is final. Neither error
	// nor output holds a secret. It does not change f, nor what f refers to.
	Execute(ctx context.Context, f *Firing) (Output, error)
}

// Limited is an Action that cannot always run as many attempts as it has slots: one
// that is a process of its own, say, which may be away.
type Limited interface {
	Action

	// Slots is how many attempts can run at a time just now. Workers take no more
	// firings of the action than that; with 0 they leave them to others. It is asked
	// often, and must not wait.
	Slots() int
}

// Output is what an action has to show: the head of what a command printed or
// a server answered. The engine keeps at most MaxOutput bytes of it.
type Output []byte

// MaxOutput is how many bytes of an attempt's output are kept in the history.
const MaxOutput = 4 << 10

// RetryableError marks an error of Action.Execute as worth another attempt.
type RetryableError struct {
	Err   error
	After time.Duration // wait at least this long first (a server's Retry-After); 0: as the plan says
}

func (e *RetryableError) Error() string { return e.Err.Error() }
func (e *RetryableError) Unwrap() error { return e.Err }

// Retryable marks err as worth another attempt; nil stays nil.
func Retryable(err error) error {
	if err == nil {
		return nil
	}
	return &RetryableError{Err: err}
}
