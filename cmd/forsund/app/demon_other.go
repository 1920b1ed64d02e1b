//go:build !unix

package app

import (
	"context"
	"errors"
)

// Detach is for systems with sessions and file descriptors to inherit.
func Detach(context.Context, []string) (pid int, err error) {
	return 0, errors.New("--demon does not exist on this system: run forsund as a service of it")
}

// Report tells the process that waits in Detach how the start went.
type Report struct{}

// Demonized says that this process is no daemon.
func Demonized() *Report { return nil }

// Ready does nothing here.
func (r *Report) Ready() {}

// Failed does nothing here.
func (r *Report) Failed(error) {}
