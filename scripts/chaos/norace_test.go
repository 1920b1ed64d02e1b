//go:build !race

package chaos

// buildFlags builds forsund as these tests are built.
var buildFlags []string
