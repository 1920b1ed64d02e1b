//go:build !linux

package rpc

import "runtime"

// usage knows only the memory Go has taken from the system.
func usage() (u resources) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	u.resident, u.virtual = int64(m.Sys), int64(m.Sys)
	return u
}
