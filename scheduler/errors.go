package scheduler

import (
	"errors"
	"fmt"
	"strconv"
	"time"
)

// The kinds of failure a caller can tell apart with errors.Is. rpc maps them to
// the codes and messages of the wire.
var (
	ErrNotFound     = errors.New("no such plan")
	ErrExists       = errors.New("there is a plan of this key")    // which was not to be replaced
	ErrTime         = errors.New("this time never comes")          // the schedule has no due second
	ErrField        = errors.New("field value not allowed")        // a value out of its range
	ErrMissing      = errors.New("required argument missing")      // a field that must be given
	ErrParams       = errors.New("action parameters not allowed")  // the action cannot work with these
	ErrAction       = errors.New("unknown action")                 // no such action here
	ErrNotAllowed   = errors.New("not allowed")                    // policy, not form
	ErrTooLarge     = errors.New("too large")                      // over a size limit
	ErrFull         = errors.New("store is full")                  // no room for another plan; nothing was stored
	ErrStore        = errors.New("store failed")                   // the store refused or could not; nothing was stored
	ErrUnsure       = errors.New("durability unknown")             // stored, but the wished copies did not confirm; or the answer was lost: stored or not
	ErrFenced       = errors.New("fenced: the lease is no longer") // another term leads this shard
	ErrLeaseHeld    = errors.New("lease is held by another replica")
	ErrLayout       = errors.New("the deployment has another layout")      // shards, zone or the like differ from what all replicas share: this one must not start
	ErrReplicaTaken = errors.New("replica id is taken by another process") // which lives, and started earlier
	ErrClosed       = errors.New("closed")
	ErrShuttingDown = errors.New("shutting down")
)

// LeaseHeldError is ErrLeaseHeld of a store that knows when the lease runs out, unless
// it is renewed.
type LeaseHeldError struct{ Left time.Duration }

func (e *LeaseHeldError) Error() string { return ErrLeaseHeld.Error() }

// Unwrap returns ErrLeaseHeld.
func (e *LeaseHeldError) Unwrap() error { return ErrLeaseHeld }

// FieldError says which field of a request cannot be accepted, with which
// value, and what is allowed. It unwraps to one of the kinds above.
type FieldError struct {
	Kind    error  // ErrField, ErrMissing, ErrParams, ErrTooLarge, ErrNotAllowed, ErrTime or ErrAction
	Field   string // as the client named it, e.g. "second" or "params.url"
	Value   string // as given; shortened and never a secret; "" where there is none
	Allowed string // what would be right, e.g. "0 to 59, or -1 for any"
}

func (e *FieldError) Error() string {
	if e.Kind == ErrMissing && e.Allowed == "" {
		return fmt.Sprintf("%s: required, but not given", e.Field)
	}
	if e.Value == "" {
		return fmt.Sprintf("%s: %s; allowed: %s", e.Field, e.Kind, e.Allowed)
	}
	return fmt.Sprintf("%s: %s is not allowed; allowed: %s", e.Field, e.Value, e.Allowed)
}

func (e *FieldError) Unwrap() error { return e.Kind }

// fieldError makes a FieldError of kind with the value shortened to what fits a
// line.
func fieldError(kind error, field, value, allowed string) error {
	return &FieldError{Kind: kind, Field: field, Value: Shorten(value, 64), Allowed: allowed}
}

// Shorten quotes s for a message if it needs quoting and cuts it to about max
// bytes, saying how long it was.
func Shorten(s string, max int) string {
	if len(s) > max {
		return strconv.Quote(s[:max]) + fmt.Sprintf("… (%d bytes)", len(s))
	}
	for _, r := range s {
		if r <= ' ' || r == 0x7f || r == '"' || r == 0xfffd {
			return strconv.Quote(s)
		}
	}
	return s
}
