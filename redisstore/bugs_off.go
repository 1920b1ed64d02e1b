//go:build !bugs

package redisstore

import "context"

// seeded returns a script as it is: no defect is seeded.
func seeded(_, text string) string { return text }

// secondStep does nothing: a claim is one step.
func (s *Store) secondStep(context.Context, *claiming, string) error { return nil }
