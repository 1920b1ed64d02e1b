//go:build unix

package memstore

import "golang.org/x/sys/unix"

// sameDisk says whether files of one directory can be linked into the other.
func sameDisk(a, b string) (bool, error) {
	var at, bt unix.Stat_t
	if err := unix.Stat(a, &at); err != nil {
		return false, err
	}
	if err := unix.Stat(b, &bt); err != nil {
		return false, err
	}
	return at.Dev == bt.Dev, nil
}
