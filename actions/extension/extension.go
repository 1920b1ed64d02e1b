package extension

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/snower/forsun/scheduler"
)

const (
	// backoffMin and backoffMax bound the wait before a process is started again.
	backoffMin = 100 * time.Millisecond
	backoffMax = 30 * time.Second
	// steady is how long a process must have served for the next wait to be the least.
	steady = 10 * time.Second
	// maxChecks bounds the checks without an answer.
	maxChecks = 64
	// maxRefusal is how much of what an extension says of parameters is told, in bytes.
	maxRefusal = 512
)

// Extension is an action that is a program of its own: see the package's comment.
type Extension struct {
	opts Options

	process atomic.Pointer[process]     // nil while it is away
	known   atomic.Pointer[declaration] // what it declared last; nil: nothing yet
	why     atomic.Pointer[error]       // why it is away

	ready sync.Once
	first chan error // how its first start went

	stop context.CancelFunc
	done chan struct{}
}

var (
	_ scheduler.Action  = (*Extension)(nil)
	_ scheduler.Limited = (*Extension)(nil)
)

// Start starts the extension's executable and keeps it running until Close. It
// fails if that cannot be right (see Options.Validate), or if its handshake is wrong
// (ErrHandshake). An extension that ends, or says nothing, is none: it is started again
// in the background, and Start returns after the first try.
func Start(ctx context.Context, opts Options) (*Extension, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	x := &Extension{opts: opts, first: make(chan error, 1), done: make(chan struct{})}
	away := errors.New("it is being started")
	x.why.Store(&away)
	running, stop := context.WithCancel(context.Background())
	x.stop = stop
	go x.run(running)
	select {
	case err := <-x.first:
		if errors.Is(err, ErrHandshake) {
			x.Close()
			return nil, x.wrap(err)
		}
		return x, nil
	case <-ctx.Done():
		x.Close()
		return nil, x.wrap(context.Cause(ctx))
	}
}

// wrap says which extension err is about.
func (x *Extension) wrap(err error) error { return fmt.Errorf("extension %s: %w", x.opts.Name, err) }

// Close ends the extension: see the package's comment. Call it when no firing runs
// any more.
func (x *Extension) Close() error {
	x.stop()
	<-x.done
	return nil
}

// run keeps a process running until ctx is done.
func (x *Extension) run(ctx context.Context) {
	defer close(x.done)
	for wait, first := backoffMin, true; ; wait, first = min(2*wait, backoffMax), false {
		served, err := x.runOnce(ctx)
		x.started(err)
		if ctx.Err() != nil || first && errors.Is(err, ErrHandshake) {
			return // what Start says of it
		}
		if served >= steady {
			wait = backoffMin
		}
		pause := wait + rand.N(wait/4+1)
		x.opts.Log.Error().Str("extension", x.opts.Name).Err(err).Dur("served_ms", served).Dur("again_in_ms", pause).
			Msg("an extension is away; it is started again")
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

// started tells Start how the first start went.
func (x *Extension) started(err error) { x.ready.Do(func() { x.first <- err }) }

// runOnce runs a process to its end, and returns for how long it served and why it
// does no longer.
func (x *Extension) runOnce(ctx context.Context) (served time.Duration, err error) {
	p, err := start(x.opts)
	if err != nil {
		x.why.Store(&err)
		return 0, err
	}
	if err := p.greet(ctx); err != nil {
		x.why.Store(&err)
		p.end(ctx.Err() != nil)
		return 0, err
	}
	began := time.Now()
	x.known.Store(&p.declared)
	x.process.Store(p)
	x.opts.Log.Info().Str("extension", x.opts.Name).Str("version", p.declared.version).Int("concurrency", p.declared.concurrency).
		Int("pid", p.cmd.Process.Pid).Msg("an extension is ready")
	x.started(nil)
	select {
	case <-p.broken.Done():
	case <-ctx.Done():
	}
	err = context.Cause(p.broken)
	why := err
	if why == nil {
		why = errStopping
	}
	x.why.Store(&why)
	x.process.Store(nil)
	p.end(err == nil)
	return time.Since(began), err
}

// current is the process to ask, or why there is none.
func (x *Extension) current() (*process, error) {
	p := x.process.Load()
	if p == nil {
		return nil, *x.why.Load()
	}
	if err := context.Cause(p.broken); err != nil {
		return nil, err
	}
	return p, nil
}

// Slots implements scheduler.Limited: what the process declared; 0 while it is away.
func (x *Extension) Slots() int {
	p, err := x.current()
	if err != nil {
		return 0
	}
	return p.declared.concurrency
}

// Target implements scheduler.Action: there is none.
func (x *Extension) Target(map[string]string) string { return "" }

// Timeout implements scheduler.Action: what the process declared, or 30 s.
func (x *Extension) Timeout(map[string]string) time.Duration {
	if d := x.known.Load(); d != nil {
		return d.timeout
	}
	return defaultTimeout
}

// Check implements scheduler.Action. While the process is away, or does not answer
// in time, it is a *scheduler.FieldError of kind ErrNotAllowed, for "action".
func (x *Extension) Check(params map[string]string) error { return x.CheckHiding(params, nil) }

// CheckHiding is Check of parameters that hold secrets, which neither the error nor
// the log may show, beside those that their names tell of.
func (x *Extension) CheckHiding(params map[string]string, secrets []string) error {
	p, err := x.current()
	if err != nil {
		return x.notNow(err.Error())
	}
	params = own(params)
	if err := p.declared.allows(params); err != nil {
		return err
	}
	if !p.declared.check {
		return nil
	}
	slow := fmt.Errorf("it did not answer a check within %s", x.opts.CheckTimeout)
	ctx, cancel := context.WithTimeoutCause(context.Background(), x.opts.CheckTimeout, slow)
	defer cancel()
	select {
	case p.checks <- struct{}{}:
	case <-p.broken.Done():
		return x.notNow(context.Cause(p.broken).Error())
	case <-ctx.Done():
		return x.notNow(fmt.Sprintf("%d checks wait for its answer", maxChecks))
	}
	secrets, left := append(scheduler.Secrets(params), secrets...), false
	c := &call{want: typeChecked, secrets: secrets}
	m, err := p.ask(ctx, c, func(id uint64) any { return checkRequest{typeCheck, id, params} }, func() { left = p.leave(c) })
	if !left {
		<-p.checks
	}
	if err != nil {
		return x.notNow(err.Error())
	}
	if m.Error == "" {
		return nil
	}
	said := strings.Map(printable, cutText(scheduler.MaskText(m.Error, secrets...), maxRefusal))
	if m.Parameter == "" {
		return fmt.Errorf("%w: %s", scheduler.ErrParams, said)
	}
	return fmt.Errorf("params.%s: %w: %s", scheduler.Shorten(scheduler.MaskText(m.Parameter, secrets...), 64), scheduler.ErrParams, said)
}

// notNow is the error of a check that cannot be made.
func (x *Extension) notNow(why string) error {
	return &scheduler.FieldError{
		Kind: scheduler.ErrNotAllowed, Field: "action", Value: x.opts.Name,
		Allowed: fmt.Sprintf("it once its extension answers (%s); try again later", cutText(why, maxRefusal)),
	}
}

// Execute implements scheduler.Action. What becomes of an attempt:
//
//	a result without error              success
//	an error, retryable or not          as the extension says
//	the process is away, or ends        retryable
//	no result at the deadline           retryable; the process is killed a grace later
//	a parameter that JSON cannot carry  not retryable
func (x *Extension) Execute(ctx context.Context, f *scheduler.Firing) (scheduler.Output, error) {
	p, err := x.current()
	if err != nil {
		return nil, scheduler.Retryable(fmt.Errorf("extension %s is not running: %w", x.opts.Name, err))
	}
	params := own(f.Plan.Params)
	for name, value := range params {
		if !utf8.ValidString(value) {
			return nil, x.wrap(fmt.Errorf("params.%s is not UTF-8", name))
		}
	}
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-p.broken.Done():
		return nil, scheduler.Retryable(x.wrap(context.Cause(p.broken)))
	case <-ctx.Done():
		return nil, scheduler.Retryable(x.wrap(context.Cause(ctx)))
	}
	secrets := scheduler.SecretsOf(ctx, f.Plan.Params)
	m, err := p.ask(ctx, &call{want: typeResult, secrets: secrets},
		func(id uint64) any {
			return executeRequest{
				Type: typeExecute, ID: id, Key: f.Plan.Key, Due: f.Due, Firing: string(f.ID()),
				Attempt: f.Attempt, Missed: f.Missed, TimeoutMS: timeLeft(ctx), Params: params,
			}
		},
		func() { p.fail(fmt.Errorf("it gave no result within %s of a cancel", x.opts.Grace)) })
	if err != nil {
		return nil, scheduler.Retryable(fmt.Errorf("extension %s: %w", x.opts.Name, err))
	}
	output := scheduler.Output(cutText(scheduler.MaskText(m.Output, secrets...), scheduler.MaxOutput))
	if m.Error == "" {
		return output, nil
	}
	failure := x.wrap(errors.New(cutText(scheduler.MaskText(m.Error, secrets...), scheduler.MaxOutput)))
	if m.Retryable != nil && !*m.Retryable {
		return output, failure
	}
	return output, &scheduler.RetryableError{Err: failure, After: m.retryAfter()}
}

// timeLeft is how long ctx lasts, in milliseconds, at least 1.
func timeLeft(ctx context.Context) int64 {
	deadline, ok := ctx.Deadline()
	if !ok {
		return maxSeconds * 1000
	}
	return max(time.Until(deadline).Milliseconds(), 1)
}

// cutText returns at most n bytes of s, not ending within a character.
func cutText(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
