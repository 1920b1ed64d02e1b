//go:build unix

package access

import (
	"fmt"
	"io/fs"
	"os"
)

// writable says whether every user may write a file.
func writable(info fs.FileInfo) bool { return info.Mode().Perm()&0o002 != 0 }

// exposed says how a file can be read by every user; "" if it cannot.
func exposed(path string) string {
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm()&0o004 == 0 {
		return ""
	}
	return fmt.Sprintf("every user may read it (mode %s); chmod 600 it", info.Mode().Perm())
}
