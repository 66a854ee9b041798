package command

import (
	"context"
	"log/slog"
	"time"

	"github.com/spf13/cobra"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/telemetry"
)

// How long the end of a command may wait for a collector. What is not sent by then is lost: nobody waits for telemetry, least
// of all after Ctrl-C.
const (
	flushFor            = 2 * time.Second
	flushForInterrupted = time.Second
)

// tracing is the command's trace. The zero value traces nothing.
type tracing struct {
	on    *telemetry.Telemetry
	flush func(context.Context) error
	span  trace.Span
}

// startTrace starts the command's span, in which everything that it does is. A command that cannot be traced runs all the same.
func (a *app) startTrace(cmd *cobra.Command) {
	completing := cmd.Name() == cobra.ShellCompRequestCmd || cmd.Name() == cobra.ShellCompNoDescRequestCmd
	if a.env.Telemetry == nil || completing {
		return
	}
	on, flush, err := a.env.Telemetry(cmd.Context(), a.log)
	if err != nil {
		a.log.DebugContext(cmd.Context(), "nothing is traced", "error", err)
		return
	}
	ctx, span := on.Tracer.Start(cmd.Context(), cmd.CommandPath(), trace.WithAttributes(semconv.ProcessExecutableName("reshelf")))
	a.tracing = tracing{on: on, flush: flush, span: span}
	cmd.SetContext(ctx)
}

func (t *tracing) tracer() trace.Tracer {
	if t.on == nil {
		return nil
	}
	return t.on.Tracer
}

func (t *tracing) meter() metric.Meter {
	if t.on == nil {
		return nil
	}
	return t.on.Meter
}

// end ends the command's span and sends what was not sent yet, in a bounded time. ctx is the command's.
func (t *tracing) end(ctx context.Context, log *slog.Logger, code int) {
	if t.on == nil {
		return
	}
	t.span.SetAttributes(semconv.ProcessExitCode(code))
	if failure := failureOf(code); failure != "" {
		t.span.SetAttributes(semconv.ErrorTypeKey.String(failure))
		t.span.SetStatus(codes.Error, failure)
	}
	t.span.End()
	limit := flushFor
	if ctx.Err() != nil {
		limit = flushForInterrupted
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- t.flush(ctx) }()
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		err = ctx.Err() // an exporter that does not heed its context ends with the process
	}
	if err != nil {
		log.DebugContext(ctx, "telemetry is not sent", "error", err)
	}
}

// failureOf is an exit code as the value of error.type, "" for one that is no failure.
func failureOf(code int) string {
	switch code {
	case ExitDone, ExitAwaiting:
		return ""
	case ExitSomeFailed:
		return "some_failed"
	case ExitUsage:
		return "usage"
	case ExitInterrupted:
		return "interrupted"
	}
	return "not_run"
}

// batchIs says in the command's span which batch it makes.
func batchIs(ctx context.Context, id batch.ID) {
	trace.SpanFromContext(ctx).SetAttributes(semconv.MessagingMessageConversationID(string(id)))
}

// about says in the command's span which batch it is about, and links it to the command that made the batch.
func about(ctx context.Context, b batch.Batch) {
	batchIs(ctx, b.ID)
	if made := trace.SpanContextFromContext(telemetry.WithTraceparent(context.Background(), b.Traceparent)); made.IsValid() {
		trace.SpanFromContext(ctx).AddLink(trace.Link{SpanContext: made})
	}
}
