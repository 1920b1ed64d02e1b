package actions

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/snower/forsun/scheduler"
)

// ShellOptions configure the shell action.
type ShellOptions struct {
	Timeout time.Duration // deadline of an attempt where the plan sets none; above 0
	Cwd     string        // directory of a command where the plan sets none: an absolute path
	Path    string        // PATH of a command where the plan sets none
	Grace   time.Duration // from SIGTERM to SIGKILL; above 0, at most 10 s
	Allow   ShellAllow    // the commands that plans may run; the zero value: any
}

// DefaultShellOptions returns the options of a deployment that sets none.
func DefaultShellOptions() ShellOptions {
	return ShellOptions{
		Timeout: time.Hour,
		Cwd:     "/tmp",
		Path:    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		Grace:   time.Second,
	}
}

// Validate says which options are out of range, all of them joined.
func (o ShellOptions) Validate() error {
	var errs []error
	bad := func(wrong bool, field string, value any, allowed string) {
		if wrong {
			errs = append(errs, fmt.Errorf("shell action: %s: %v is not allowed; allowed: %s", field, value, allowed))
		}
	}
	bad(o.Timeout <= 0, "Timeout", o.Timeout, "above 0")
	bad(!filepath.IsAbs(o.Cwd) || strings.ContainsRune(o.Cwd, 0), "Cwd", strconv.Quote(o.Cwd), "an absolute path")
	bad(o.Path == "" || strings.ContainsRune(o.Path, 0), "Path", strconv.Quote(o.Path), "directories between :")
	bad(o.Grace <= 0 || o.Grace > 10*time.Second, "Grace", o.Grace, "above 0, at most 10s")
	return errors.Join(append(errs, o.Allow.Validate())...)
}

// Shell is the action that runs a command with sh -c.
//
// The command gets no input and, as its environment, PATH, what the parameter
// env says, and
//
//	FORSUN_TIMESTAMP   the due second, Unix
//	FORSUN_KEY         the plan's key
//	FORSUN_FIRING_ID   the firing's id: the same for every attempt
//	FORSUN_ATTEMPT     1, 2, …
//
// and nothing of forsund's own. Exit status 0 is success. It runs in a process
// group of its own: at its deadline the group gets SIGTERM, and SIGKILL if it is
// still there after the grace. What a command leaves running in the background
// when it ends by itself goes on, but is cut off from the captured output:
// where it means to print, it must redirect.
//
// When forsund dies, its commands go on, and the firing runs again elsewhere: a
// command that must not overlap itself can tell by FORSUN_FIRING_ID. The parent
// death signal of Linux is not used: it follows the thread that forked, which
// the Go runtime may end at any time, and reaches the shell but not what the
// shell started. A service manager that ends the whole control group does.
type Shell struct {
	opts ShellOptions
}

var _ scheduler.Action = (*Shell)(nil)

// NewShell returns the shell action. opts must be valid.
func NewShell(opts ShellOptions) *Shell { return &Shell{opts: opts} }

// shellParams are the parameters of a shell plan.
//
//	cmd  required: the command, at most 131071 bytes
//	cwd  its directory: an absolute path, which must exist when it runs; default /tmp
//	env  NAME=value pairs between ";", e.g. a=1;b=c; blanks around a pair are
//	     dropped; names that begin with FORSUN_ are refused
type shellParams struct {
	cmd, cwd string
	env      []string
}

// maxArgument is the longest argument Linux hands to a new process, in bytes
// without the NUL at its end (32 pages of 4 KiB).
const maxArgument = 32*4096 - 1

func (a *Shell) parse(params map[string]string) (shellParams, error) {
	r := read(params)
	p := shellParams{cmd: r.need("cmd"), cwd: r.text("cwd", a.opts.Cwd)}
	if len(p.cmd) > maxArgument || strings.ContainsRune(p.cmd, 0) {
		r.refuse("cmd", fmt.Sprintf("a command of at most %d bytes, without NUL", maxArgument))
	}
	if !filepath.IsAbs(p.cwd) || strings.ContainsRune(p.cwd, 0) {
		r.refuse("cwd", "an absolute path")
	}
	for pair := range strings.SplitSeq(params["env"], ";") {
		if pair = strings.TrimSpace(pair); pair == "" {
			continue
		}
		name, value, ok := strings.Cut(pair, "=")
		name = strings.TrimSpace(name)
		switch {
		case !ok || name == "" || len(pair) > maxArgument || strings.ContainsRune(pair, 0):
			r.refuse("env", `NAME=value pairs between ";", e.g. a=1;b=c`)
		case strings.HasPrefix(name, "FORSUN_"):
			r.refuse("env", "names that do not begin with FORSUN_, which are forsun's")
		}
		p.env = append(p.env, name+"="+value)
	}
	a.opts.Allow.refuse(r, p)
	return p, r.err()
}

// Check implements scheduler.Action.
func (a *Shell) Check(params map[string]string) error {
	_, err := a.parse(params)
	return err
}

// Target implements scheduler.Action: there is none.
func (a *Shell) Target(map[string]string) string { return "" }

// Timeout implements scheduler.Action.
func (a *Shell) Timeout(map[string]string) time.Duration { return a.opts.Timeout }

// Execute implements scheduler.Action. The output is the head of what the command
// wrote to its standard output and standard error, in the order it came.
func (a *Shell) Execute(ctx context.Context, f *scheduler.Firing) (scheduler.Output, error) {
	p, err := a.parse(f.Plan.Params)
	if err != nil {
		return nil, err
	}
	expand := expandSecrets(ctx)
	for i, pair := range p.env {
		name, value, _ := strings.Cut(pair, "=") // the name is as it was checked
		p.env[i] = name + "=" + expand(value)
	}
	secrets := scheduler.SecretsOf(ctx, f.Plan.Params)
	printed, err := a.run(ctx, p, f)
	return printed.output(secrets), hide(err, secrets)
}

// run runs the command to its end, and marks what failed as retryable if it is:
//
//	exit status 1 to 125, and above 127   yes
//	exit status 126, 127                  no: it cannot be executed, is not found
//	ended by a signal, or at the deadline yes
//	no directory, no shell                no
//	too few processes, descriptors, pages yes
func (a *Shell) run(ctx context.Context, p shellParams, f *scheduler.Firing) (printed head, err error) {
	if info, err := os.Stat(p.cwd); err != nil {
		return printed, fmt.Errorf("shell: directory of the command: %w", err)
	} else if !info.IsDir() {
		return printed, fmt.Errorf("shell: directory of the command: %s is not a directory", p.cwd)
	}
	if err := ctx.Err(); err != nil {
		return printed, scheduler.Retryable(fmt.Errorf("shell: not started: %w", context.Cause(ctx)))
	}
	// A pipe of our own, and not the command's writers of os/exec: those would
	// have Wait wait for everything that holds the pipe, the command or not.
	ours, its, err := os.Pipe()
	if err != nil {
		return printed, scheduler.Retryable(fmt.Errorf("shell: %w", err))
	}
	defer ours.Close()
	cmd := exec.Command("/bin/sh", "-c", p.cmd)
	cmd.Dir, cmd.Env = p.cwd, a.environment(p, f)
	cmd.Stdout, cmd.Stderr = its, its
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err = cmd.Start()
	its.Close()
	if err != nil {
		return printed, startError(err)
	}

	read := make(chan struct{})
	go func() {
		defer close(read)
		io.Copy(&printed, ours) // ends with the pipe, or at the deadline that wait sets
	}()
	err = a.wait(ctx, cmd)
	// Whatever the command itself wrote is in the pipe by now. Who still holds it
	// is in the background, and is not waited for.
	ours.SetReadDeadline(time.Now().Add(pipeTime))
	<-read
	return printed, err
}

// pipeTime is how long the rest of a pipe may take to be read: it is 64 KiB at
// most, unless something in the background goes on writing.
const pipeTime = 200 * time.Millisecond

// environment returns what the command gets. Of names given twice the last
// counts, so the plan may set PATH.
func (a *Shell) environment(p shellParams, f *scheduler.Firing) []string {
	return append(append([]string{"PATH=" + a.opts.Path}, p.env...),
		"FORSUN_TIMESTAMP="+strconv.FormatInt(f.Due, 10),
		"FORSUN_KEY="+f.Plan.Key,
		"FORSUN_FIRING_ID="+string(f.ID()),
		"FORSUN_ATTEMPT="+strconv.Itoa(f.Attempt),
	)
}

// wait waits for the command, and ends its process group when ctx is done.
func (a *Shell) wait(ctx context.Context, cmd *exec.Cmd) error {
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		return exitError(err)
	case <-ctx.Done():
	}
	group := -cmd.Process.Pid
	syscall.Kill(group, syscall.SIGTERM)
	kill := time.NewTimer(a.opts.Grace)
	defer kill.Stop()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for gone := false; ; {
		select {
		case <-ended:
			gone = true
		case <-look.C:
			// The shell is gone, but what it started may still be cleaning up.
			// The group's number is not given to others while it has members.
			if gone && syscall.Kill(group, 0) != nil {
				return stopped(ctx)
			}
		case <-kill.C:
			syscall.Kill(group, syscall.SIGKILL)
			if !gone {
				<-ended
			}
			return stopped(ctx)
		}
	}
}

// stopped says that a command was ended because its context was done.
func stopped(ctx context.Context) error {
	return scheduler.Retryable(fmt.Errorf("shell: stopped: %w", context.Cause(ctx)))
}

// exitError says how a command ended; nil for exit status 0.
func exitError(err error) error {
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		if err != nil {
			return scheduler.Retryable(fmt.Errorf("shell: wait: %w", err))
		}
		return nil
	}
	status, _ := exit.Sys().(syscall.WaitStatus)
	switch {
	case status.Signaled():
		return scheduler.Retryable(fmt.Errorf("shell: ended by signal %d, %s", int(status.Signal()), status.Signal()))
	case status.ExitStatus() == 126:
		return errors.New("shell: exit status 126: the command cannot be executed")
	case status.ExitStatus() == 127:
		return errors.New("shell: exit status 127: the command was not found")
	}
	return scheduler.Retryable(fmt.Errorf("shell: exit status %d", status.ExitStatus()))
}

// startError marks a failure to start as retryable if the machine was short of
// something.
func startError(err error) error {
	wrapped := fmt.Errorf("shell: %w", err)
	short := []syscall.Errno{syscall.EAGAIN, syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE}
	if slices.ContainsFunc(short, func(e syscall.Errno) bool { return errors.Is(err, e) }) {
		return scheduler.Retryable(wrapped)
	}
	return wrapped
}
