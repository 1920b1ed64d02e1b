//go:build !otel

package actions

import (
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/snower/forsun/scheduler"
)

// TestTraceContext: requests carry no trace, and nothing of OpenTelemetry is compiled
// in, but with the tag otel: then its tests, of this name, pass.
func TestTraceContext(t *testing.T) {
	t.Parallel()
	s, requests := recorder(t)
	f := &scheduler.Firing{Plan: &scheduler.Plan{Key: "k", Action: "http", Params: map[string]string{"url": s.URL}, Revision: 7}, Due: 1_795_797_120, Attempt: 1}
	if _, err := newHTTP(t).Execute(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	if got := (<-requests).Header.Get("Traceparent"); got != "" {
		t.Errorf("traceparent %q without the tag", got)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	deps, err := exec.CommandContext(ctx, "go", "list", "-deps", "../cmd/forsund").Output()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(deps), "opentelemetry") {
		t.Error("forsund links OpenTelemetry without the tag")
	}
	out, err := exec.CommandContext(ctx, "go", "test", "-tags", "otel", "-count=1", "-v", "-run", "^TestTraceContext$", ".").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestTraceContext") {
		t.Errorf("with the tag: %v\n%s", err, out)
	}
	if out, err := exec.CommandContext(ctx, "go", "vet", "-tags", "otel", "../cmd/forsund").CombinedOutput(); err != nil {
		t.Errorf("forsund with the tag: %v\n%s", err, out)
	}
}
