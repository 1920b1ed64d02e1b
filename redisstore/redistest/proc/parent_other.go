//go:build !linux

package proc

import "syscall"

// dieWithParent: only Linux can do that; elsewhere a killed test may leave its
// server running.
func dieWithParent() *syscall.SysProcAttr { return nil }
