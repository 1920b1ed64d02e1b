package scheduler

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// OptionPrefix begins the names of the parameters that are options of the plan,
// not of its action.
const OptionPrefix = "forsun."

// Names of the options.
const (
	OptionTimeout    = OptionPrefix + "timeout"     // seconds per attempt, above 0 up to 86400, decimals allowed
	OptionRetries    = OptionPrefix + "retries"     // attempts after the first, 0 to 100
	OptionRetryDelay = OptionPrefix + "retry_delay" // seconds before the first retry, 0 to 86400, decimals allowed
	OptionTimezone   = OptionPrefix + "timezone"    // IANA name; calendars only
)

// maxOptionSeconds bounds timeouts and delays to a day.
const maxOptionSeconds = 86400

// PlanOptions are the options a plan carries in its parameters. What it does not
// carry is left to the deployment's defaults: see the methods.
type PlanOptions struct {
	Timeout    time.Duration  // deadline of an attempt; 0 = not given
	Zone       *time.Location // of a calendar; nil = not given
	Retries    int            // if HasRetries
	RetryDelay time.Duration  // if HasRetryDelay

	HasRetries    bool
	HasRetryDelay bool
}

// ParseOptions reads the options among a plan's parameters. An unknown name
// under "forsun.", or a value that is not allowed, is a *FieldError of kind
// ErrField for "params.<name>"; of several, the first by name; the options that
// were understood are returned beside it. Without options it allocates nothing.
func ParseOptions(params map[string]string) (PlanOptions, error) {
	var (
		o        PlanOptions
		firstErr error
		errName  string
	)
	for name, value := range params {
		if !strings.HasPrefix(name, OptionPrefix) {
			continue
		}
		if err := o.set(name, value); err != nil && (firstErr == nil || name < errName) {
			firstErr, errName = err, name
		}
	}
	return o, firstErr
}

// options returns the options of a plan that was stored, for running it: what cannot
// be read (another version checked it when the plan was created) counts as not given.
func (p *Plan) options() (o PlanOptions) {
	for _, name := range [...]string{OptionRetries, OptionRetryDelay, OptionTimeout} { // cheaper than to look at every parameter
		if value, ok := p.Params[name]; ok {
			_ = o.set(name, value)
		}
	}
	return o
}

func (o *PlanOptions) set(name, value string) (err error) {
	field := "params." + name
	switch name {
	case OptionTimeout:
		var ok bool
		if o.Timeout, ok = parseSeconds(value); !ok || o.Timeout == 0 {
			return fieldError(ErrField, field, value, "seconds above 0 up to 86400, decimals allowed")
		}
	case OptionRetryDelay:
		if o.RetryDelay, o.HasRetryDelay = parseSeconds(value); !o.HasRetryDelay {
			return fieldError(ErrField, field, value, "seconds from 0 to 86400, decimals allowed")
		}
	case OptionRetries:
		n, err := strconv.ParseUint(value, 10, 16)
		if err != nil || n > 100 {
			return fieldError(ErrField, field, value, "0 to 100")
		}
		o.Retries, o.HasRetries = int(n), true
	case OptionTimezone:
		o.Zone, err = LoadZone(field, value)
		return err
	default:
		return fieldError(ErrField, "params."+Shorten(name, 64), value,
			strings.Join([]string{OptionRetries, OptionRetryDelay, OptionTimeout, OptionTimezone}, ", "))
	}
	return nil
}

// parseSeconds reads decimal seconds from 0 to maxOptionSeconds. It takes digits
// and a point only, not the other forms a float can have.
func parseSeconds(value string) (time.Duration, bool) {
	for i := range len(value) {
		if c := value[i]; c != '.' && (c < '0' || c > '9') {
			return 0, false
		}
	}
	seconds, err := strconv.ParseFloat(value, 64)
	if err != nil || seconds > maxOptionSeconds {
		return 0, false
	}
	return time.Duration(math.Round(seconds * float64(time.Second))), true
}

// TimeoutOr returns the deadline of an attempt, or the action's own where the
// plan gives none.
func (o PlanOptions) TimeoutOr(action time.Duration) time.Duration {
	if o.Timeout > 0 {
		return o.Timeout
	}
	return action
}

// Retry returns the deployment's retry policy with what the plan changes in it.
// A delay above the policy's cap raises the cap: the plan asked for it.
func (o PlanOptions) Retry(p RetryPolicy) RetryPolicy {
	if o.HasRetries {
		p.Retries = o.Retries
	}
	if o.HasRetryDelay {
		p.Delay = o.RetryDelay
		p.Max = max(p.Max, o.RetryDelay)
	}
	return p
}

// Zone returns the time zone of the plan's calendar: its own, or the
// deployment's. An own zone that cannot be loaded (it was checked when the plan
// was stored, perhaps by a replica with newer data) counts as none: the plan
// still fires.
func (p *Plan) Zone(deployment *time.Location) *time.Location {
	if name, ok := p.Params[OptionTimezone]; ok {
		if z, err := LoadZone("params."+OptionTimezone, name); err == nil {
			return z
		}
	}
	return deployment
}
