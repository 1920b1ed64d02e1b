//go:build !linux

package app

import "time"

// monotonic is for service managers of Linux.
func monotonic() time.Duration { return 0 }
