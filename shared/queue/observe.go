package queue

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/semconv/v1.43.0/messagingconv"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/reshelf/reshelf/shared/batch"
)

// Values of error.type; "" is success.
const (
	failurePanic     = "panic"
	failureMalformed = "malformed"
)

const (
	system    = messagingconv.SystemAttr("asynq")
	operation = "process"
)

// observer records spans and metrics of tasks by OpenTelemetry's messaging conventions.
type observer struct {
	tracer   trace.Tracer
	consumed messagingconv.ClientConsumedMessages
	duration messagingconv.ProcessDuration
}

// newObserver accepts nil for what is not wanted.
func newObserver(tracer trace.Tracer, meter metric.Meter) (*observer, error) {
	if tracer == nil {
		tracer = tracenoop.Tracer{}
	}
	consumed, err := messagingconv.NewClientConsumedMessages(meter)
	if err != nil {
		return nil, err
	}
	// The conventions' buckets end at 10 s; a segment of large files takes minutes.
	duration, err := messagingconv.NewProcessDuration(meter, metric.WithExplicitBucketBoundaries(
		.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600))
	if err != nil {
		return nil, err
	}
	return &observer{tracer: tracer, consumed: consumed, duration: duration}, nil
}

// begin starts the span of one task and returns what ends it with an error.type. The span is the root of a trace of its
// own that links to the span which enqueued the task: one trace for each batch would have millions of spans.
func (o *observer) begin(ctx context.Context, queue string, t batch.Task, headers map[string]string) (context.Context, func(failure string)) {
	began := time.Now()
	remote := propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier(headers))
	ctx, span := o.tracer.Start(remote, operation+" "+string(t.Step),
		trace.WithNewRoot(), trace.WithSpanKind(trace.SpanKindConsumer), trace.WithLinks(trace.LinkFromContext(remote)),
		trace.WithAttributes(
			semconv.MessagingSystemKey.String(string(system)),
			semconv.MessagingOperationName(operation),
			semconv.MessagingOperationTypeProcess,
			semconv.MessagingDestinationName(queue),
			semconv.MessagingMessageID(t.ID()),
			semconv.MessagingMessageConversationID(string(t.Batch)),
		))
	return ctx, func(failure string) {
		attributes := o.attributes(queue, failure)
		if failure != "" {
			span.SetStatus(codes.Error, failure)
		}
		o.consumed.Add(ctx, 1, operation, system, attributes...)
		o.duration.Record(ctx, time.Since(began).Seconds(), operation, system, attributes...)
		span.End()
	}
}

func (o *observer) malformed(ctx context.Context, queue string) {
	o.consumed.Add(ctx, 1, operation, system, o.attributes(queue, failureMalformed)...)
}

func (o *observer) attributes(queue, failure string) []attribute.KeyValue {
	a := []attribute.KeyValue{semconv.MessagingDestinationName(queue)}
	if failure != "" {
		a = append(a, semconv.ErrorTypeKey.String(failure))
	}
	return a
}
