// Package proc runs a server program for the length of a test: on a port of its
// own, waited for until it answers, and gone when the test ends, even if the
// test process is killed (on Linux). It is the common part of redistest and
// actionstest.
package proc

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// startTimeout bounds how long a server may take until it answers: generous,
// because tests of many packages share the machine.
const startTimeout = 30 * time.Second

// stopTimeout is how long a server may take to end by itself after SIGTERM.
const stopTimeout = 10 * time.Second

// Find returns the path of the first of names that is installed, looking also
// where Debian puts servers that are not on a user's PATH. If there is none the
// test fails with the name of the package to install.
func Find(t testing.TB, debianPackage string, names ...string) string {
	t.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
		for _, dir := range []string{"/usr/sbin/", "/usr/local/sbin/"} {
			if _, err := os.Stat(dir + name); err == nil {
				return dir + name
			}
		}
	}
	t.Fatalf("%s is not installed; this test needs it: install the package %s (apt-get install %s)",
		strings.Join(names, " or "), debianPackage, debianPackage)
	return ""
}

// Process is a running server.
type Process struct {
	cmd  *exec.Cmd
	out  *tail
	done chan struct{} // closed when the program has ended
	err  error         // how it ended; valid once done is closed
}

// Start runs the program path and waits until ready returns nil. ready is given
// the tail of what the program printed: a line there proves that it is this
// program that listens and not a stranger who took the port first. Start fails
// if the program ends before, or is not ready within 30 s; the error then holds
// that tail.
func Start(path string, args []string, ready func(printed string) error) (*Process, error) {
	return StartCommand(exec.Command(path, args...), ready)
}

// StartCommand is Start for a program that needs an environment of its own.
func StartCommand(cmd *exec.Cmd, ready func(printed string) error) (*Process, error) {
	p := &Process{cmd: cmd, out: &tail{}, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	p.cmd.SysProcAttr = dieWithParent()
	started := make(chan error, 1)
	go func() {
		// The parent whose death ends the server is this thread, not the
		// process: it must live until the server has ended.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.done)
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.err = p.cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	deadline := time.Now().Add(startTimeout)
	for {
		err := ready(p.out.String())
		if err == nil {
			return p, nil
		}
		select {
		case <-p.done:
			return nil, fmt.Errorf("%s ended instead of starting: %v\n%s", cmd.Path, p.err, p.out)
		default:
		}
		if time.Now().After(deadline) {
			p.Kill()
			return nil, fmt.Errorf("%s was not ready within %s: %w\n%s", cmd.Path, startTimeout, err, p.out)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// PID returns the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Ended returns a channel that is closed when the program has ended, however.
func (p *Process) Ended() <-chan struct{} { return p.done }

// Output returns the last of what the program printed.
func (p *Process) Output() string { return p.out.String() }

// Stop asks the program to end (SIGTERM), waits, and kills it if it does not. A
// paused one goes on for that. It may be called again.
func (p *Process) Stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop pid %d: %w", p.PID(), err)
	}
	p.Resume() // fails only if it has ended already
	select {
	case <-p.done:
		return nil
	case <-time.After(stopTimeout):
		p.Kill()
		return fmt.Errorf("pid %d did not end within %s of SIGTERM and was killed", p.PID(), stopTimeout)
	}
}

// Kill ends the program at once (SIGKILL), paused or not, and waits. It may be
// called again.
func (p *Process) Kill() {
	p.cmd.Process.Kill() // fails only if it has ended already
	<-p.done
}

// tail keeps the last 8 KiB written to it.
type tail struct {
	mu sync.Mutex
	b  []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	if over := len(t.b) - 8<<10; over > 0 {
		t.b = t.b[over:]
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.b)
}
