//go:build bugs

package scheduler

// bug is the defect that is seeded: the linker sets it.
var bug string

// Bug says whether a defect is seeded, to see whether the tests find it.
func Bug(name string) bool { return bug == name }
