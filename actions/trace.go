//go:build !otel

package actions

import (
	"net/http"

	"github.com/snower/forsun/scheduler"
)

// traceContext adds nothing to a request: see trace_otel.go.
func traceContext(http.Header, *scheduler.Firing) {}
