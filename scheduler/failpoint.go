//go:build failpoints

package scheduler

import "sync/atomic"

// failpoint is the one that is armed.
type failpoint struct {
	name string
	left atomic.Int64 // how often it is yet to be passed
	act  func()
}

var armed atomic.Pointer[failpoint]

// ArmFailpoint has whoever comes to a failpoint as the n-th call act there, once.
func ArmFailpoint(name string, n int64, act func()) {
	f := &failpoint{name: name, act: act}
	f.left.Store(n)
	armed.Store(f)
}

// Failpoint is a place where a test can have the process die, or stand still.
func Failpoint(name string) {
	if f := armed.Load(); f != nil && f.name == name && f.left.Add(-1) == 0 {
		f.act()
	}
}
