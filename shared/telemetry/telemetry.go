// Package telemetry shows what a program does: its log, OpenTelemetry traces and metrics, and the health of what it
// depends on. Nothing in it is global; what Setup returns is handed to those who need it.
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/contrib/exporters/autoexport"
	"go.opentelemetry.io/otel"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
)

// scope names the instrumentation of this program.
const scope = "github.com/reshelf/reshelf"

// Options configure Setup.
type Options struct {
	// Service is the program's name, "reshelf-worker". OTEL_SERVICE_NAME overrides it in traces and metrics.
	Service string
	// Version is the program's version.
	Version string
	// Level of the log. Defaults to Info.
	Level slog.Leveler
	// Format of the log. Defaults to FormatAuto.
	Format Format
	// Output of the log. Defaults to standard error.
	Output io.Writer
}

// Telemetry is what a program reports through. All of it is safe for concurrent use.
type Telemetry struct {
	Log    *slog.Logger
	Tracer trace.Tracer
	Meter  metric.Meter
	// Metrics serves everything that Meter records, and Go's and the process's own metrics, in Prometheus' format.
	Metrics http.Handler
}

// Setup makes the telemetry of a program. Metrics can always be scraped. Traces, and metrics that are pushed, go where
// the standard variables say (OTEL_TRACES_EXPORTER, OTEL_METRICS_EXPORTER, OTEL_EXPORTER_OTLP_ENDPOINT and theirs); when
// none of them is set, or OTEL_SDK_DISABLED=true, nothing is sent. See
// https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/.
//
// The returned function sends what is still buffered and ends the exporters' goroutines. It is called last, once.
func Setup(ctx context.Context, o Options) (*Telemetry, func(context.Context) error, error) {
	if o.Output == nil {
		o.Output = os.Stderr
	}
	res, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithHost(),
		resource.WithAttributes(semconv.ServiceName(o.Service), semconv.ServiceVersion(o.Version)), resource.WithFromEnv())
	if err != nil {
		return nil, nil, fmt.Errorf("telemetry: %w", err)
	}
	tracer, stopTraces, err := newTracer(ctx, res)
	if err != nil {
		return nil, nil, fmt.Errorf("telemetry: traces: %w", err)
	}
	meter, handler, stopMetrics, err := newMeter(ctx, res)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("telemetry: metrics: %w", err), stopTraces(ctx))
	}
	t := &Telemetry{Log: NewLog(o.Output, o.Level, o.Format), Tracer: tracer, Meter: meter, Metrics: handler}
	shutdown := func(ctx context.Context) error {
		return errors.Join(stopTraces(ctx), stopMetrics(ctx))
	}
	return t, shutdown, nil
}

// LogSDK sends the errors of the OpenTelemetry SDK to log, as warnings, and with them what it logs by itself, such as an
// endpoint that is no URL; otherwise it writes them to standard error, between whatever else is shown there. The SDK has one
// handler and one logger for the whole process, so only a main calls this, once.
func LogSDK(log *slog.Logger) {
	otel.SetLogger(logr.FromSlogHandler(log.Handler()))
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("telemetry is not sent", "error", err) }))
}

func newTracer(ctx context.Context, res *resource.Resource) (trace.Tracer, func(context.Context) error, error) {
	if !wanted("TRACES") {
		return tracenoop.Tracer{}, func(context.Context) error { return nil }, nil
	}
	exporter, err := autoexport.NewSpanExporter(ctx)
	if err != nil {
		return nil, nil, err
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(res))
	return provider.Tracer(scope), provider.Shutdown, nil
}

func newMeter(ctx context.Context, res *resource.Resource) (metric.Meter, http.Handler, func(context.Context) error, error) {
	registry := prometheus.NewRegistry()
	err := errors.Join(registry.Register(collectors.NewGoCollector()),
		registry.Register(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})))
	if err != nil {
		return nil, nil, nil, err
	}
	scraped, err := otelprometheus.New(otelprometheus.WithRegisterer(registry))
	if err != nil {
		return nil, nil, nil, err
	}
	options := []sdkmetric.Option{sdkmetric.WithResource(res), sdkmetric.WithReader(scraped)}
	if wanted("METRICS") {
		pushed, err := autoexport.NewMetricReader(ctx)
		if err != nil {
			return nil, nil, nil, err
		}
		options = append(options, sdkmetric.WithReader(pushed))
	}
	provider := sdkmetric.NewMeterProvider(options...)
	return provider.Meter(scope), promhttp.HandlerFor(registry, promhttp.HandlerOpts{}), provider.Shutdown, nil
}

// wanted reports whether the environment asks to send a signal, TRACES or METRICS. The exporters would otherwise send
// to a collector on this machine that nobody spoke of.
func wanted(signal string) bool {
	if os.Getenv("OTEL_SDK_DISABLED") == "true" {
		return false
	}
	if exporter := os.Getenv("OTEL_" + signal + "_EXPORTER"); exporter != "" {
		return exporter != "none"
	}
	return os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_"+signal+"_ENDPOINT") != ""
}
