//go:build !bugs

package scheduler

// Bug says whether a defect is seeded, to see whether the tests find it. None is, and
// what it guards compiles to nothing, unless built with the tag bugs: see
// scripts/chaos/BUGS.md.
func Bug(string) bool { return false }
