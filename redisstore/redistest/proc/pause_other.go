//go:build !unix

package proc

import "errors"

// Pause fails: only Unix can stop a program and let it go on.
func (p *Process) Pause() error { return errors.ErrUnsupported }

// Resume fails as Pause does.
func (p *Process) Resume() error { return errors.ErrUnsupported }
