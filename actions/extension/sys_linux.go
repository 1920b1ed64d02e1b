package extension

import "syscall"

// attributes of the process: a group of its own, and death with the thread that
// started it, which lives as long as the process does.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
