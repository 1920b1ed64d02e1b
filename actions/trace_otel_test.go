//go:build otel

package actions

import (
	"regexp"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/snower/forsun/scheduler"
)

// TestTraceContext: a receiver is given a trace whose id is the firing's and a span
// for each attempt; a traceparent of the plan's own stays.
func TestTraceContext(t *testing.T) {
	t.Parallel()
	s, requests := recorder(t)
	a := newHTTP(t)
	send := func(attempt int, params map[string]string) seen {
		t.Helper()
		params["url"] = s.URL
		f := &scheduler.Firing{Plan: &scheduler.Plan{Key: "k", Action: "http", Params: params, Revision: 7}, Due: 1_795_797_120, Attempt: attempt}
		if _, err := a.Execute(t.Context(), f); err != nil {
			t.Fatal(err)
		}
		got := <-requests
		if !strings.Contains(got.Header.Get("Traceparent"), string(f.ID())) != (params["header_traceparent"] != "") {
			t.Errorf("traceparent %q, firing %s", got.Header.Get("Traceparent"), f.ID())
		}
		return got
	}
	spans := make(map[trace.SpanID]bool)
	for _, attempt := range []int{1, 2, 2} {
		got := send(attempt, map[string]string{})
		header := got.Header.Get("Traceparent")
		if !regexp.MustCompile(`^00-[0-9a-f]{32}-[0-9a-f]{16}-01$`).MatchString(header) {
			t.Errorf("traceparent %q", header)
		}
		ctx := propagation.TraceContext{}.Extract(t.Context(), propagation.HeaderCarrier(got.Header))
		span := trace.SpanContextFromContext(ctx)
		if !span.IsValid() || !span.IsRemote() || span.TraceID().String() != got.Header.Get(headerFiringID) {
			t.Errorf("the receiver reads %+v of %q", span, header)
		}
		spans[span.SpanID()] = true
	}
	if len(spans) != 2 {
		t.Errorf("%d spans of 2 attempts, one sent twice", len(spans))
	}
	const own = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	if got := send(1, map[string]string{"header_traceparent": own}); got.Header.Get("Traceparent") != own {
		t.Errorf("the plan's own became %q", got.Header.Get("Traceparent"))
	}
}
