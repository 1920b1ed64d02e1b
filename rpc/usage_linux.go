package rpc

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// usage asks the system what the process has used.
func usage() (u resources) {
	var r unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &r) == nil {
		u.user = time.Duration(r.Utime.Nano())
		u.system = time.Duration(r.Stime.Nano())
	}
	if statm, err := os.ReadFile("/proc/self/statm"); err == nil {
		var virtual, resident int64 // pages
		if _, err := fmt.Sscan(string(statm), &virtual, &resident); err == nil {
			page := int64(os.Getpagesize())
			u.virtual, u.resident = virtual*page, resident*page
		}
	}
	return u
}
