package telemetry

import (
	"context"

	"go.opentelemetry.io/otel/propagation"
)

// traceparent is the W3C trace context's name of what tells one span from all others.
const traceparent = "traceparent"

// Traceparent is the span in ctx in the form of W3C trace context, to be kept or sent; "" if there is none.
func Traceparent(ctx context.Context) string {
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier[traceparent]
}

// WithTraceparent returns ctx with the span that Traceparent gave as its current one, in place of any other. It returns ctx
// as it is where text names no span: whatever was stored, a trace stops nothing.
func WithTraceparent(ctx context.Context, text string) context.Context {
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{traceparent: text})
}
