package telemetry_test

import (
	"context"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/reshelf/reshelf/shared/telemetry"
)

func TestTraceparent(t *testing.T) {
	if got := telemetry.Traceparent(t.Context()); got != "" {
		t.Errorf("without a span: got %q, want none", got)
	}
	tracer := sdktrace.NewTracerProvider().Tracer("test")
	submitting, span := tracer.Start(t.Context(), "submit")
	text := telemetry.Traceparent(submitting)
	want := "00-" + span.SpanContext().TraceID().String() + "-" + span.SpanContext().SpanID().String() + "-01"
	if text != want {
		t.Errorf("got %q, want %q", text, want)
	}
	other, _ := tracer.Start(context.Background(), "process")
	if got := trace.SpanContextFromContext(telemetry.WithTraceparent(other, text)); !got.IsRemote() || got.SpanID() != span.SpanContext().SpanID() {
		t.Errorf("got %+v, want %s", got, want)
	}
	for _, odd := range []string{"", "00", "00-0-0-01", want + "\x1b[2J", "ff" + want[2:]} {
		if got := trace.SpanContextFromContext(telemetry.WithTraceparent(other, odd)); !got.Equal(trace.SpanContextFromContext(other)) {
			t.Errorf("%q: got %+v, want what was there", odd, got)
		}
	}
}
