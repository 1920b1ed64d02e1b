package actions

import (
	"context"
	"time"

	"github.com/snower/forsun/scheduler"
)

// Noop is the action that does nothing and succeeds. It is there to measure the
// rest of forsun; a registry has it only if asked to. It takes no parameters.
type Noop struct{}

var _ scheduler.Action = Noop{}

// Check implements scheduler.Action: every plan can work.
func (Noop) Check(map[string]string) error { return nil }

// Target implements scheduler.Action: there is none.
func (Noop) Target(map[string]string) string { return "" }

// Timeout implements scheduler.Action.
func (Noop) Timeout(map[string]string) time.Duration { return time.Second }

// Execute implements scheduler.Action.
func (Noop) Execute(ctx context.Context, _ *scheduler.Firing) (scheduler.Output, error) {
	return nil, ctx.Err()
}
