package extension

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/snower/forsun/scheduler"
)

// patience bounds what a test waits for on a busy machine.
const patience = 30 * time.Second

// started starts an extension and ends it with the test.
func started(t *testing.T, opts Options) *Extension {
	t.Helper()
	x, err := Start(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.Close() })
	return x
}

// eventually polls until done.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s for: %s", patience, what)
		}
	}
}

// firing is an attempt with these parameters: name, value, …
func firing(params ...string) *scheduler.Firing {
	f := &scheduler.Firing{Plan: &scheduler.Plan{Key: "my key", Action: "fake", Params: make(map[string]string)}, Due: 1795479950, Attempt: 2}
	for i := 0; i+1 < len(params); i += 2 {
		f.Plan.Params[params[i]] = params[i+1]
	}
	return f
}

// run executes within some time.
func run(t *testing.T, x *Extension, within time.Duration, params ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	out, err := x.Execute(ctx, firing(params...))
	return string(out), err
}

// logBuffer keeps what is logged.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func retryable(err error) bool {
	_, ok := errors.AsType[*scheduler.RetryableError](err)
	return ok
}

// TestExecuteMessage: what an extension is told of a firing, byte for byte.
func TestExecuteMessage(t *testing.T) {
	t.Parallel()
	x := started(t, install(t, "none"))
	f := firing("do", "echo", "forsun.retries", "5", "text", `a"b<\`)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := x.Execute(ctx, f)
	if err != nil {
		t.Fatal(err)
	}
	var said struct {
		TimeoutMS int64 `json:"timeout_ms"`
	}
	if err := json.Unmarshal(out, &said); err != nil || said.TimeoutMS <= 0 || said.TimeoutMS > patience.Milliseconds() {
		t.Errorf("timeout_ms: got %d, %v", said.TimeoutMS, err)
	}
	want := fmt.Sprintf(`{"type":"execute","id":1,"key":"my key","due":1795479950,"firing":"%s","attempt":2,"missed":0,"timeout_ms":%d,"params":{"do":"echo","text":"a\"b\u003c\\"}}`+"\n",
		f.ID(), said.TimeoutMS)
	if string(out) != want {
		t.Errorf("got\n%swant\n%s", out, want)
	}
	// (The shell that starts the fake adds PWD.)
	if out, err := run(t, x, patience, "do", "environment"); err != nil || out != "PATH="+path+" FORSUN_ACTION=fake" &&
		out != "PATH="+path+" FORSUN_ACTION=fake PWD="+filepath.Dir(x.opts.Path) && out != "FORSUN_ACTION=fake PATH="+path+" PWD="+filepath.Dir(x.opts.Path) {
		t.Errorf("environment: got %q, %v", out, err)
	}
	if got := x.Slots(); got != 4 {
		t.Errorf("slots: got %d, want 4", got)
	}
	if got := x.Timeout(nil); got != 7500*time.Millisecond {
		t.Errorf("timeout: got %s, want 7.5s", got)
	}
}

// TestResults: what becomes of an answer.
func TestResults(t *testing.T) {
	t.Parallel()
	x := started(t, install(t, "none"))
	long := strings.Repeat("é", 3000)
	for _, row := range []struct {
		why, answer string
		output, err string
		retryable   bool
		after       time.Duration
	}{
		{why: "success", answer: ""},
		{why: "output", answer: `,"output":"done"`, output: "done"},
		{why: "output is cut between characters", answer: `,"output":"` + long[:4097+1] + `"`, output: long[:4096]},
		{why: "error", answer: `,"error":"no luck","output":"o"`, output: "o", err: "extension fake: no luck", retryable: true},
		{why: "final error", answer: `,"error":"no luck","retryable":false`, err: "extension fake: no luck"},
		{why: "error with a wait", answer: `,"error":"e","retryable":true,"retry_after":1.5`, err: "extension fake: e", retryable: true, after: 1500 * time.Millisecond},
		{why: "secrets are masked", answer: `,"error":"s3cret! http://u:p@h/","output":"is s3cret!"`, output: "is ***", err: "extension fake: *** http://***@h/", retryable: true},
	} {
		out, err := run(t, x, patience, "do", "answer "+row.answer, "password", "s3cret!")
		if text := fmt.Sprint(err); out != row.output || row.err != "" && text != row.err || row.err == "" && err != nil {
			t.Errorf("%s: got %.50q, %v; want %.50q, %q", row.why, out, err, row.output, row.err)
		}
		again, ok := errors.AsType[*scheduler.RetryableError](err)
		if ok != row.retryable || ok && again.After != row.after {
			t.Errorf("%s: retryable %t %+v, want %t after %s", row.why, ok, again, row.retryable, row.after)
		}
	}
	if out, err := run(t, x, patience, "do", "large"); err != nil || len(out) != scheduler.MaxOutput {
		t.Errorf("the longest line: got %d bytes, %v", len(out), err)
	}
	if _, err := run(t, x, patience, "do", "answer", "text", "\xff"); err == nil || retryable(err) || !strings.Contains(err.Error(), "params.text is not UTF-8") {
		t.Errorf("not UTF-8: got %v", err)
	}
	if x.process.Load().last > 8 {
		t.Errorf("%d questions were asked", x.process.Load().last)
	}
}

// TestCheck: parameters are checked by what was declared, and by the extension.
func TestCheck(t *testing.T) {
	t.Parallel()
	opts := install(t, "none")
	opts.CheckTimeout, opts.Grace = 300*time.Millisecond, 100*time.Millisecond
	x := started(t, opts)
	for _, row := range []struct {
		why    string
		params []string
		kind   error
		says   string
	}{
		{"good", []string{"do", "x", "other", "y", "color", "red"}, nil, ""},
		{"required", []string{"color", "red"}, scheduler.ErrMissing, "params.do: required"},
		{"empty", []string{"do", ""}, scheduler.ErrMissing, "params.do"},
		{"values", []string{"do", "x", "color", "green"}, scheduler.ErrParams, "params.color: green is not allowed; allowed: red, blue"},
		{"size", []string{"do", strings.Repeat("x", 999)}, scheduler.ErrTooLarge, "1001 bytes"},
		{"not UTF-8", []string{"do", "\xff"}, scheduler.ErrParams, "params.do"},
		{"refused by itself", []string{"do", "refused s3cret!", "password", "s3cret!"}, scheduler.ErrParams, "params.do: action parameters not allowed: *** is refused [1m"},
		{"no answer", []string{"do", "unchecked"}, scheduler.ErrNotAllowed, "did not answer a check within"},
	} {
		err := x.Check(firing(row.params...).Plan.Params)
		if row.kind == nil && err != nil || !errors.Is(err, row.kind) || err != nil && !strings.Contains(err.Error(), row.says) {
			t.Errorf("%s: got %v, want %v that says %q", row.why, err, row.kind, row.says)
		}
	}
	if n := len(x.process.Load().checks); n != 1 {
		t.Errorf("%d checks count as not answered, want 1", n)
	}
	if _, err := run(t, x, patience, "do", "answer"); err != nil {
		t.Errorf("after a check without an answer: %v", err)
	}
	x.process.Load().signal(syscall.SIGKILL)
	eventually(t, "it to be away", func() bool { return x.Slots() == 0 })
	if err := x.Check(map[string]string{"do": "x"}); err != nil && (!errors.Is(err, scheduler.ErrNotAllowed) || !strings.Contains(err.Error(), "signal: killed")) {
		t.Errorf("while it is away: %v", err)
	}
}

// TestChecksAreBounded: a process that answers no check is asked no more than it may
// be, and still runs firings.
func TestChecksAreBounded(t *testing.T) {
	t.Parallel()
	opts := install(t, "none")
	opts.CheckTimeout, opts.Grace = 200*time.Millisecond, 10*time.Millisecond
	x := started(t, opts)
	var asking sync.WaitGroup
	for range 2 * maxChecks {
		asking.Go(func() {
			if err := x.Check(map[string]string{"do": "unchecked"}); !errors.Is(err, scheduler.ErrNotAllowed) {
				t.Errorf("got %v", err)
			}
		})
	}
	asking.Wait()
	p := x.process.Load()
	p.mu.Lock()
	pending := len(p.pending)
	p.mu.Unlock()
	if pending != maxChecks {
		t.Errorf("%d checks wait for an answer, want %d", pending, maxChecks)
	}
	if _, err := run(t, x, patience, "do", "answer"); err != nil {
		t.Error(err)
	}
}

// TestWrongStart: an extension that can never work is refused with the reason, and
// leaves no process.
func TestWrongStart(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ fault, says string }{
		{"version", "protocol: 2 is not allowed; allowed: 1"},
		{"name", "name: other is not allowed; allowed: fake"},
		{"concurrency", "concurrency: 5000 is not allowed; allowed: 1 to 1024"},
		{"nonsense", `"hello, forsund" cannot be used`},
	} {
		_, err := Start(t.Context(), install(t, row.fault))
		if !errors.Is(err, ErrHandshake) || !strings.Contains(err.Error(), row.says) || !strings.Contains(err.Error(), "extension fake") {
			t.Errorf("%s: got %v, want that it says %s", row.fault, err, row.says)
		}
	}
	opts := install(t, "none")
	for _, row := range []struct {
		why, says string
		do        func() error
	}{
		{"writable", "chmod o-w", func() error { return os.Chmod(opts.Path, 0o757) }},
		{"not executable", "chmod +x", func() error { return os.Chmod(opts.Path, 0o644) }},
		{"a directory", "is not a file", func() error { return errors.Join(os.Remove(opts.Path), os.Mkdir(opts.Path, 0o755)) }},
		{"not there", "no such file", func() error { return os.Remove(opts.Path) }},
	} {
		if err := row.do(); err != nil {
			t.Fatal(err)
		}
		if _, err := Start(t.Context(), opts); err == nil || !strings.Contains(err.Error(), row.says) {
			t.Errorf("%s: got %v, want that it says %s", row.why, err, row.says)
		}
	}
}

// TestAway: an extension that ends at its start, or is silent, keeps nobody else from
// starting, and is started again until it works.
func TestAway(t *testing.T) {
	t.Parallel()
	log := &logBuffer{}
	opts := install(t, "status")
	opts.Log = zerolog.New(log)
	x := started(t, opts)
	if _, err := run(t, x, patience, "do", "answer"); !retryable(err) || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("got %v", err)
	}
	if err := x.Check(nil); !errors.Is(err, scheduler.ErrNotAllowed) || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("check: got %v", err)
	}
	eventually(t, "three starts", func() bool { return strings.Count(log.String(), "it is started again") >= 3 })
	if !strings.Contains(log.String(), "cannot find my files") {
		t.Errorf("its standard error is not in the log:\n%s", log)
	}

	opts = install(t, "slow")
	opts.StartTimeout = 300 * time.Millisecond
	x = started(t, opts)
	if _, err := run(t, x, patience, "do", "answer"); err != nil && (!retryable(err) || !strings.Contains(err.Error(), "no answer to hello within 300ms")) {
		t.Errorf("while it starts: %v", err)
	}
	eventually(t, "its second start", func() bool { return x.Slots() > 0 })
}

// TestFaults: whatever an extension does instead of answering, its attempts fail as
// retryable, the log says why, and it works again.
func TestFaults(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ do, says string }{
		{"die", "signal: killed"},
		{"close", "it has closed its output"},
		{"long", "its line is longer than 262144 bytes"},
		{"garbage {no json", `cannot be used: invalid character`},
		{"garbage {}", "nothing with the id 0 waits"},
		{`garbage {"type":"checked","id":1}`, "type: checked is not allowed; allowed: result"},
		{`answer ,"error":"e","retry_after":1e9`, "retry_after"},
		{"hang", "no result within"},
	} {
		t.Run(row.do, func(t *testing.T) {
			t.Parallel()
			log := &logBuffer{}
			opts := install(t, "none")
			opts.Grace, opts.Log = 100*time.Millisecond, zerolog.New(log)
			x := started(t, opts)
			var beside error
			var others sync.WaitGroup
			others.Go(func() {
				_, beside = run(t, x, patience, "do", "hang")
			})
			eventually(t, "one beside it", func() bool {
				p := x.process.Load()
				p.mu.Lock()
				defer p.mu.Unlock()
				return len(p.pending) == 1
			})
			within := patience
			if row.do == "hang" {
				within = 200 * time.Millisecond
			}
			do := strings.Replace(row.do, `"id":1`, `"id":2`, 1)
			_, err := run(t, x, within, "do", do, "password", "s3cret!")
			if !retryable(err) {
				t.Errorf("got %v, want that it is retryable", err)
			}
			others.Wait()
			if !retryable(beside) || !strings.Contains(beside.Error(), row.says) {
				t.Errorf("the one beside it: %v, want that it says %s", beside, row.says)
			}
			eventually(t, "it to be back", func() bool { return x.Slots() > 0 })
			if _, err := run(t, x, patience, "do", "answer"); err != nil {
				t.Errorf("afterwards: %v", err)
			}
			if text := log.String(); !strings.Contains(text, "an extension is away") {
				t.Errorf("the log does not say so:\n%s", text)
			}
		})
	}
}

// TestGarbageWithSecrets: what an extension repeats is not shown.
func TestGarbageWithSecrets(t *testing.T) {
	t.Parallel()
	log := &logBuffer{}
	opts := install(t, "none")
	opts.Log = zerolog.New(log)
	x := started(t, opts)
	_, err := run(t, x, patience, "do", "garbage "+strings.Repeat("z", 95)+"s3cret!", "password", "s3cret!")
	if err == nil || strings.Contains(err.Error(), "s3c") {
		t.Errorf("got %v", err)
	}
	eventually(t, "it to be back", func() bool { return x.Slots() > 0 })
	if _, err := run(t, x, patience, "do", "noise s3cret!", "password", "s3cret!"); err != nil {
		t.Error(err)
	}
	eventually(t, "standard error", func() bool { return strings.Contains(log.String(), "yyy") })
	if text := log.String(); strings.Contains(text, "s3c") {
		t.Errorf("a secret is in the log:\n%s", text)
	} else if n := strings.Count(text, "yyy"); n > 200*logLine/3 {
		t.Errorf("%d are in the log", n)
	}
}

// TestStandardErrorIsBounded: lines are cut, and no more than some a second are logged;
// all are read.
func TestStandardErrorIsBounded(t *testing.T) {
	t.Parallel()
	log := &logBuffer{}
	opts := install(t, "none")
	opts.Log = zerolog.New(log)
	x := started(t, opts)
	began := time.Now()
	if _, err := run(t, x, patience, "do", "noise is made"); err != nil {
		t.Fatal(err)
	}
	x.Close()
	seconds := int(time.Since(began)/time.Second) + 2
	logged := 0
	for line := range strings.Lines(log.String()) {
		if !strings.Contains(line, "is made") {
			continue
		}
		logged++
		if len(line) > logLine+200 || !strings.Contains(line, `"cut":true`) {
			t.Errorf("a line of %d bytes is logged: %.80s", len(line), line)
		}
	}
	if logged == 0 || logged > seconds*logRate {
		t.Errorf("%d lines were logged in %d seconds", logged, seconds)
	}
}

// TestTimeout: an attempt whose time is over is cancelled. An extension that obeys goes
// on; what it answers counts.
func TestTimeout(t *testing.T) {
	t.Parallel()
	x := started(t, install(t, "obedient"))
	p := x.process.Load()
	_, err := run(t, x, 100*time.Millisecond, "do", "hang")
	if !retryable(err) || !strings.Contains(err.Error(), "cancelled") {
		t.Errorf("got %v", err)
	}
	if _, err := run(t, x, patience, "do", "answer"); err != nil {
		t.Error(err)
	}
	if x.process.Load() != p {
		t.Error("the process was started again")
	}
}

// TestConcurrency: no more run than were declared.
func TestConcurrency(t *testing.T) {
	t.Parallel()
	x := started(t, install(t, "obedient"))
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for range 20 {
		running.Go(func() { x.Execute(ctx, firing("do", "hang")) })
	}
	p := x.process.Load()
	pending := func() int {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.pending)
	}
	eventually(t, "some that run", func() bool { return pending() == 4 })
	time.Sleep(50 * time.Millisecond) // for more to come, if they could
	if n := pending(); n != 4 {
		t.Errorf("%d run at a time, want 4", n)
	}
	cancel()
	running.Wait()
}

// TestDeaf: a process that does not read its input holds nobody up for longer than
// their time.
func TestDeaf(t *testing.T) {
	t.Parallel()
	opts := install(t, "deaf")
	opts.Grace = 50 * time.Millisecond
	x := started(t, opts)
	began := time.Now()
	var asking sync.WaitGroup
	for range 8 {
		asking.Go(func() {
			if _, err := run(t, x, 300*time.Millisecond, "do", strings.Repeat("x", 100_000)); !retryable(err) {
				t.Errorf("got %v", err)
			}
		})
	}
	asking.Wait()
	if took := time.Since(began); took > patience {
		t.Errorf("it took %s", took)
	}
}

// TestClose: the end of the input is enough for who heeds it; who does not is killed,
// with what it started.
func TestClose(t *testing.T) {
	t.Parallel()
	opts := install(t, "polite")
	x := started(t, opts)
	x.Close()
	if _, err := os.Stat(filepath.Join(filepath.Dir(opts.Path), "bye")); err != nil {
		t.Errorf("it was not let end by itself: %v", err)
	}
	if _, err := run(t, x, patience, "do", "answer"); !retryable(err) {
		t.Errorf("after the end: %v", err)
	}

	opts = install(t, "stubborn")
	opts.Grace = 100 * time.Millisecond
	x = started(t, opts)
	pids, err := os.ReadFile(filepath.Join(filepath.Dir(opts.Path), "pids"))
	if err != nil {
		t.Fatal(err)
	}
	x.Close()
	var parent, child int
	if _, err := fmt.Sscan(string(pids), &parent, &child); err != nil {
		t.Fatal(err)
	}
	eventually(t, "what it started to be gone", func() bool { return gone(parent) && gone(child) })
}

// gone says whether a process does not run any more.
func gone(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return syscall.Kill(pid, 0) != nil
	}
	i := bytes.LastIndexByte(stat, ')')
	return bytes.HasPrefix(stat[i+1:], []byte(" Z")) // nobody has waited for it
}

// TestStop: who waits for a slow start can be stopped.
func TestStop(t *testing.T) {
	t.Parallel()
	opts := install(t, "silent")
	opts.Grace = 100 * time.Millisecond
	ctx, cancel := context.WithTimeoutCause(t.Context(), 200*time.Millisecond, errors.New("enough"))
	defer cancel()
	if _, err := Start(ctx, opts); err == nil || !strings.Contains(err.Error(), "enough") {
		t.Errorf("got %v", err)
	}
}
