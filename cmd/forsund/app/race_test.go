//go:build race

package app

// buildFlags builds forsund as these tests are built.
var buildFlags = []string{"-race"}
