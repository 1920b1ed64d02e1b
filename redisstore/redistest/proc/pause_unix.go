//go:build unix

package proc

import (
	"bytes"
	"fmt"
	"os"
	"syscall"
	"time"
)

// Pause stops the program where it stands (SIGSTOP), until Resume: when it
// returns, the program does nothing more. Its connections stay open and fill up.
func (p *Process) Pause() error {
	if err := p.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	// The signal is sent, and arrives a moment later. Where there is no /proc
	// nobody can tell when.
	for deadline := time.Now().Add(stopTimeout); ; time.Sleep(time.Millisecond) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID()))
		if err != nil {
			return nil
		}
		// pid (name) state …; the name may hold anything but ends at the last ")".
		if i := bytes.LastIndexByte(stat, ')'); bytes.HasPrefix(stat[i+1:], []byte(" T")) {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("pid %d has not stopped within %s of SIGSTOP", p.PID(), stopTimeout)
		}
	}
}

// Resume lets a paused program go on (SIGCONT).
func (p *Process) Resume() error { return p.signal(syscall.SIGCONT) }

func (p *Process) signal(s syscall.Signal) error {
	if err := p.cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("send %v to pid %d: %w", s, p.PID(), err)
	}
	return nil
}
