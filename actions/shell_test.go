package actions

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/snower/forsun/scheduler"
)

func TestShellCheck(t *testing.T) {
	const envAllowed = `allowed: NAME=value pairs between ";", e.g. a=1;b=c`
	testCheck(t, NewShell(DefaultShellOptions()), []checkRow{
		{"a command", map[string]string{"cmd": "ls"}, ""},
		{"everything", map[string]string{"cmd": "ls", "cwd": "/", "env": " a=1; b=x=y ;;c=", "other": "x"}, ""},
		{"no command", map[string]string{}, "params.cmd: required, but not given"},
		{"an empty command", map[string]string{"cmd": ""}, "params.cmd: required, but not given"},
		{"NUL", map[string]string{"cmd": "a\x00b"}, `params.cmd: "a\x00b" is not allowed; allowed: a command of at most 131071 bytes, without NUL`},
		{"the longest", map[string]string{"cmd": strings.Repeat("x", 131071)}, ""},
		{
			"too long",
			map[string]string{"cmd": strings.Repeat("x", 131072)},
			"params.cmd: \"" + strings.Repeat("x", 64) + "\"… (131072 bytes) is not allowed; allowed: a command of at most 131071 bytes, without NUL",
		},
		{"a relative directory", map[string]string{"cmd": "ls", "cwd": "tmp"}, "params.cwd: tmp is not allowed; allowed: an absolute path"},
		{"no =", map[string]string{"cmd": "ls", "env": "a=1;b"}, "params.env: a=1;b is not allowed; " + envAllowed},
		{"no name", map[string]string{"cmd": "ls", "env": "=1"}, "params.env: =1 is not allowed; " + envAllowed},
		{
			"forsun's own",
			map[string]string{"cmd": "ls", "env": "FORSUN_KEY=x"},
			"params.env: FORSUN_KEY=x is not allowed; allowed: names that do not begin with FORSUN_, which are forsun's",
		},
	})
}

func TestShellExecute(t *testing.T) {
	t.Setenv("FORSUND_OWN_SECRET", "leaked")
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	id := string(testFiring(nil).ID())
	tests := []struct {
		why    string
		params map[string]string
		output string
		err    string // "" = success
		retry  bool
	}{
		{"success", map[string]string{"cmd": "true"}, "", "", false},
		{"both outputs, in order", map[string]string{"cmd": "echo a; echo b >&2; echo c"}, "a\nb\nc\n", "", false},
		{"no input", map[string]string{"cmd": "cat; echo done"}, "done\n", "", false},
		{"the default directory", map[string]string{"cmd": "pwd"}, "/tmp\n", "", false},
		{"its directory", map[string]string{"cmd": "pwd", "cwd": dir}, dir + "\n", "", false},
		{
			"the environment, and no other",
			map[string]string{"cmd": "env | grep -v ^_= | grep -v ^PWD= | sort", "env": "a=1; b=c d"},
			"FORSUN_ATTEMPT=2\nFORSUN_FIRING_ID=" + id + "\nFORSUN_KEY=pläne/50%\nFORSUN_TIMESTAMP=1700000000\n" +
				"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\na=1\nb=c d\n", "", false,
		},
		{"its own PATH", map[string]string{"cmd": "echo $PATH", "env": "PATH=/x"}, "/x\n", "", false},
		{"failure", map[string]string{"cmd": "echo why >&2; exit 3"}, "why\n", "shell: exit status 3", true},
		{"not executable", map[string]string{"cmd": file}, "", "shell: exit status 126: the command cannot be executed", false},
		{"not found", map[string]string{"cmd": "/nonexistent/x 2>/dev/null"}, "", "shell: exit status 127: the command was not found", false},
		{"a signal", map[string]string{"cmd": "kill -9 $$"}, "", "shell: ended by signal 9, killed", true},
		{
			"no such directory",
			map[string]string{"cmd": "true", "cwd": dir + "/no"},
			"",
			"shell: directory of the command: stat " + dir + "/no: no such file or directory", false,
		},
		{
			"a file for a directory",
			map[string]string{"cmd": "true", "cwd": file},
			"",
			"shell: directory of the command: " + file + " is not a directory", false,
		},
		{"a URL's password in the output", map[string]string{"cmd": "echo http://u:s3cret@h s3cret"}, "http://***@h ***\n", "", false},
		{"no command", map[string]string{}, "", "params.cmd: required, but not given", false},
	}
	a := NewShell(DefaultShellOptions())
	for _, tt := range tests {
		out, err := a.Execute(t.Context(), testFiring(tt.params))
		got := ""
		if err != nil {
			got = err.Error()
		}
		if !strings.HasPrefix(string(out), tt.output) || tt.err == "" && string(out) != tt.output {
			t.Errorf("%s: output %q, want %q", tt.why, out, tt.output)
		}
		if got != tt.err || isRetryable(err) != tt.retry {
			t.Errorf("%s: error %q, retryable %v; want %q, %v", tt.why, got, isRetryable(err), tt.err, tt.retry)
		}
	}
}

// A command that prints without end is neither blocked nor kept whole.
func TestShellOutputIsCapped(t *testing.T) {
	out, err := NewShell(DefaultShellOptions()).Execute(t.Context(), testFiring(map[string]string{
		"cmd": "head -c 20000000 /dev/zero | tr '\\0' x; echo end",
	}))
	if err != nil || len(out) != scheduler.MaxOutput || strings.Trim(string(out), "x") != "" {
		t.Errorf("got %d bytes, %v; want %d of x", len(out), err, scheduler.MaxOutput)
	}
}

// pidFrom waits until a command has written a process id to file.
func pidFrom(t *testing.T, file string) (pid int) {
	t.Helper()
	waitFor(t, "a process id in "+filepath.Base(file), func() bool {
		b, _ := os.ReadFile(file)
		pid, _ = strconv.Atoi(strings.TrimSpace(string(b)))
		return pid > 0
	})
	return pid
}

// gone says whether a process has ended (a zombie has).
func gone(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return true
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(state, "Z")
}

func TestShellDeadline(t *testing.T) {
	tests := []struct{ why, cmd, last string }{ // last: what the output ends with
		{"a child", `sleep 300 & echo $! >pid; wait`, ""},
		{"the shell itself", `echo $$ >pid; exec sleep 300`, ""},
		{"one that cleans up", `(trap 'sleep 0.1; echo cleaned; exit' TERM; while :; do sleep 0.01; done) & echo $! >pid; wait`, "cleaned\n"},
		{"one that will not stop", `trap '' TERM; echo $$ >pid; while :; do sleep 0.05; done`, ""},
		{"a grandchild that will not stop", `(trap '' TERM; while :; do sleep 0.05; done) & echo $! >pid; wait`, ""},
	}
	for _, tt := range tests {
		t.Run(tt.why, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			ctx, cancel := context.WithCancel(t.Context())
			type result struct {
				out scheduler.Output
				err error
			}
			results := make(chan result, 1)
			go func() {
				out, err := NewShell(DefaultShellOptions()).Execute(ctx, testFiring(map[string]string{"cmd": tt.cmd, "cwd": dir}))
				results <- result{out, err}
			}()
			pid := pidFrom(t, filepath.Join(dir, "pid"))
			if tt.last != "" {
				waitForTrap(t, pid)
			}
			cancel()
			start := time.Now()
			got := <-results
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("Execute returned %v after its context, want soon", took)
			}
			if !errors.Is(got.err, context.Canceled) || !isRetryable(got.err) {
				t.Errorf("error %v, want context.Canceled, retryable", got.err)
			}
			if !strings.HasSuffix(string(got.out), tt.last) {
				t.Errorf("output %q, want %q at its end", got.out, tt.last)
			}
			waitFor(t, "the process to end", func() bool { return gone(pid) })
		})
	}
}

// waitForTrap waits until a process catches SIGTERM.
func waitForTrap(t *testing.T, pid int) {
	t.Helper()
	waitFor(t, "the trap to be set", func() bool {
		status, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
		_, caught, _ := strings.Cut(string(status), "SigCgt:\t")
		caught, _, _ = strings.Cut(caught, "\n")
		mask, _ := strconv.ParseUint(caught, 16, 64)
		return mask&(1<<(uint(syscall.SIGTERM)-1)) != 0
	})
}

// What is left in the background holds the pipe, but not Execute.
func TestShellBackground(t *testing.T) {
	dir := t.TempDir()
	start := time.Now()
	out, err := NewShell(DefaultShellOptions()).Execute(t.Context(), testFiring(map[string]string{
		"cmd": "sleep 300 & echo $! >pid; echo started", "cwd": dir,
	}))
	pid := pidFrom(t, filepath.Join(dir, "pid"))
	defer syscall.Kill(pid, syscall.SIGKILL)
	if err != nil || string(out) != "started\n" {
		t.Errorf("got %q, %v; want started", out, err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %v, want no wait for the background", took)
	}
	if gone(pid) {
		t.Error("what was left in the background was ended with its command")
	}
}

func TestShellNotStartedAfterItsContext(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := NewShell(DefaultShellOptions()).Execute(ctx, testFiring(map[string]string{"cmd": "touch ran", "cwd": dir}))
	if !errors.Is(err, context.Canceled) || !isRetryable(err) {
		t.Errorf("error %v, want context.Canceled, retryable", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "ran")); err == nil {
		t.Error("the command ran")
	}
}

func TestShellOptions(t *testing.T) {
	if err := DefaultShellOptions().Validate(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
	want := "shell action: Timeout: 0s is not allowed; allowed: above 0\n" +
		"shell action: Cwd: \"tmp\" is not allowed; allowed: an absolute path\n" +
		"shell action: Path: \"\" is not allowed; allowed: directories between :\n" +
		"shell action: Grace: 1m0s is not allowed; allowed: above 0, at most 10s"
	if err := (ShellOptions{Cwd: "tmp", Grace: time.Minute}).Validate(); err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

// What the machine was short of may be there for the next attempt.
func TestShellStartErrors(t *testing.T) {
	for _, tt := range []struct {
		errno syscall.Errno
		retry bool
	}{
		{syscall.EAGAIN, true},
		{syscall.ENOMEM, true},
		{syscall.EMFILE, true},
		{syscall.ENFILE, true},
		{syscall.ENOENT, false},
		{syscall.EACCES, false},
		{syscall.E2BIG, false},
	} {
		err := startError(&os.PathError{Op: "fork/exec", Path: "/bin/sh", Err: tt.errno})
		if isRetryable(err) != tt.retry || !strings.HasPrefix(err.Error(), "shell: fork/exec /bin/sh: ") {
			t.Errorf("%v: got %v, retryable %v; want retryable %v", tt.errno, err, isRetryable(err), tt.retry)
		}
	}
}
