//go:build !linux

package extension

import "syscall"

// attributes of the process: a group of its own.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
