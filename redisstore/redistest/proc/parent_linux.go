package proc

import "syscall"

// dieWithParent has the kernel kill the server when the thread that started it
// dies, so that a test that is killed or times out leaves nothing behind.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
