//go:build !failpoints

package scheduler

// Failpoint marks a place where it matters for correctness what has been done and what
// not yet. It does nothing, and compiles to nothing, unless built with the tag
// failpoints: then a test can have the process die there, or stand still.
func Failpoint(string) {}
