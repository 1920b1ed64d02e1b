//go:build !unix

package access

import "io/fs"

// What other systems say of modes means nothing.
func writable(fs.FileInfo) bool { return false }
func exposed(string) string     { return "" }
