package proc

import (
	"os"
	"syscall"
)

// WriteProgram writes a program that is to be run at once, and starts no process
// meanwhile: a child has what is open here open, too, until it executes its own program, and
// the one written would be busy for as long (ETXTBSY, golang.org/issue/22315).
func WriteProgram(path string, program []byte) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return os.WriteFile(path, program, 0o755)
}
