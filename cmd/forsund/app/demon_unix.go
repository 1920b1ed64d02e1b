//go:build unix

package app

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// demonEnv tells a process that it is the daemon, and on which descriptor it
// reports to the one that started it. demonFD is the first that exec passes on.
const (
	demonEnv = "FORSUND_DEMON_REPORT"
	demonFD  = 3
)

// Detach starts this program once more, as a daemon: in a session of its own,
// without the terminal. It returns the daemon's pid when that serves, or why
// it does not. When ctx is done before either, the daemon is stopped.
func Detach(ctx context.Context, args []string) (pid int, err error) {
	self, err := os.Executable()
	if err != nil {
		return 0, fmt.Errorf("detach: %w", err)
	}
	report, reporter, err := os.Pipe()
	if err != nil {
		return 0, fmt.Errorf("detach: %w", err)
	}
	defer report.Close()

	cmd := exec.Command(self, args...) // stdin, stdout, stderr: the null device
	cmd.Env = append(os.Environ(), demonEnv+"="+strconv.Itoa(demonFD))
	cmd.ExtraFiles = []*os.File{reporter}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	reporter.Close()
	if err != nil {
		return 0, fmt.Errorf("detach: %w", err)
	}
	stopWatching := context.AfterFunc(ctx, func() { cmd.Process.Signal(syscall.SIGTERM) })
	defer stopWatching()

	// The daemon writes one line and closes the pipe; or it dies, which closes it.
	line, err := bufio.NewReader(io.LimitReader(report, 64<<10)).ReadString('\n')
	line = strings.TrimSuffix(line, "\n")
	switch {
	case err != nil:
		if waitErr := cmd.Wait(); waitErr != nil {
			return 0, fmt.Errorf("the daemon ended before it was ready: %w", waitErr)
		}
		return 0, errors.New("the daemon ended before it was ready")
	case line == "":
		return cmd.Process.Pid, nil
	default:
		cmd.Wait()
		return 0, errors.New(line)
	}
}

// Report tells the process that waits in Detach how the start went.
type Report struct{ pipe *os.File }

// Demonized returns the report to make if this process was started by Detach,
// else nil. It takes the sign of that out of the environment, so that no child
// takes itself for the daemon, and leaves the directory it was started in, so
// that this can be unmounted: paths must be absolute by now.
func Demonized() *Report {
	if os.Getenv(demonEnv) != strconv.Itoa(demonFD) {
		return nil
	}
	os.Unsetenv(demonEnv)
	syscall.CloseOnExec(demonFD)
	os.Chdir("/") // which is always there
	return &Report{os.NewFile(demonFD, "report")}
}

// Ready says that the daemon serves. On a nil Report, as after the first report,
// this and Failed do nothing.
func (r *Report) Ready() { r.line("") }

// Failed says why the daemon does not serve.
func (r *Report) Failed(err error) { r.line(oneLine(err)) }

func (r *Report) line(s string) {
	if r != nil {
		fmt.Fprintln(r.pipe, s) // nobody left to tell if nobody reads
		r.pipe.Close()
	}
}
