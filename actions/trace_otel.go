//go:build otel

package actions

import (
	"context"
	"crypto/sha256"
	"net/http"
	"strconv"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/snower/forsun/scheduler"
)

// traceContext gives a request the context of a trace (W3C Trace Context, header
// traceparent): the trace is the firing, its id the firing's, and each attempt is a
// span of it, so that what receivers record is found from a line of the log. forsund
// itself records no spans. A traceparent that the plan sets stays.
func traceContext(header http.Header, f *scheduler.Firing) {
	if header.Get("traceparent") != "" {
		return
	}
	id, err := trace.TraceIDFromHex(string(f.ID()))
	if err != nil {
		return // an id of zeros only: no firing has it, in all probability
	}
	sum := sha256.Sum256([]byte(string(f.ID()) + "/" + strconv.Itoa(f.Attempt)))
	span := trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: id, SpanID: trace.SpanID(sum[:8]), TraceFlags: trace.FlagsSampled, Remote: true,
	})
	propagation.TraceContext{}.Inject(trace.ContextWithSpanContext(context.Background(), span), propagation.HeaderCarrier(header))
}
