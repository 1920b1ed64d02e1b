//go:build !failpoints

package app

import "github.com/rs/zerolog"

// armFailpoint does nothing: this program has no failpoints.
func armFailpoint(zerolog.Logger, func(string) (string, bool)) error { return nil }
