package main

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	metricspb "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	tracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	"google.golang.org/protobuf/proto"

	"github.com/reshelf/reshelf/shared/queue/redistest"
)

// sentSpan is a span as a collector got it.
type sentSpan struct {
	name, service, batch, failure string
	code                          int64
	trace, id, parent             string
	links                         []string // trace/span
}

func (s sentSpan) ref() string { return s.trace + "/" + s.id }

// collector is a receiver of OTLP over HTTP.
type collector struct {
	t       *testing.T
	mu      sync.Mutex
	spans   []sentSpan
	metrics []string
}

// newCollector starts one and points the standard variables to it.
func newCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{t: t}
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.URL)
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
	return c
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		c.t.Error(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch r.URL.Path {
	case "/v1/traces":
		c.addSpans(raw)
	case "/v1/metrics":
		c.addMetrics(raw)
	default:
		c.t.Errorf("got a request of %s", r.URL.Path)
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

func (c *collector) addSpans(raw []byte) {
	var m tracepb.ExportTraceServiceRequest
	if err := proto.Unmarshal(raw, &m); err != nil {
		c.t.Error(err)
	}
	for _, rs := range m.GetResourceSpans() {
		for _, ss := range rs.GetScopeSpans() {
			for _, s := range ss.GetSpans() {
				got := sentSpan{
					name: s.GetName(), service: text(rs.GetResource().GetAttributes(), "service.name"),
					batch: text(s.GetAttributes(), "messaging.message.conversation_id"), failure: text(s.GetAttributes(), "error.type"),
					code:  value(s.GetAttributes(), "process.exit.code").GetIntValue(),
					trace: hex.EncodeToString(s.GetTraceId()), id: hex.EncodeToString(s.GetSpanId()), parent: hex.EncodeToString(s.GetParentSpanId()),
				}
				for _, l := range s.GetLinks() {
					got.links = append(got.links, hex.EncodeToString(l.GetTraceId())+"/"+hex.EncodeToString(l.GetSpanId()))
				}
				c.spans = append(c.spans, got)
			}
		}
	}
}

func (c *collector) addMetrics(raw []byte) {
	var m metricspb.ExportMetricsServiceRequest
	if err := proto.Unmarshal(raw, &m); err != nil {
		c.t.Error(err)
	}
	for _, rm := range m.GetResourceMetrics() {
		for _, sm := range rm.GetScopeMetrics() {
			for _, metric := range sm.GetMetrics() {
				c.metrics = append(c.metrics, metric.GetName())
			}
		}
	}
}

func value(attributes []*commonpb.KeyValue, key string) *commonpb.AnyValue {
	for _, a := range attributes {
		if a.GetKey() == key {
			return a.GetValue()
		}
	}
	return nil
}

func text(attributes []*commonpb.KeyValue, key string) string {
	return value(attributes, key).GetStringValue()
}

// take returns what was sent since the last take: the one span of a command, and those of tasks.
func (c *collector) take() (command sentSpan, tasks []sentSpan) {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.spans {
		if s.service != "reshelf" {
			c.t.Errorf("%s is of service %q, want reshelf", s.name, s.service)
		}
		if strings.HasPrefix(s.name, "process ") {
			tasks = append(tasks, s)
			continue
		}
		if command.name != "" {
			c.t.Errorf("got spans of the commands %q and %q, want one", command.name, s.name)
		}
		command = s
	}
	c.spans = nil
	return command, tasks
}

// tasksOf checks that tasks of all steps are there, each a trace of its own that links to the command and to nothing else.
func tasksOf(t *testing.T, command sentSpan, tasks []sentSpan, steps ...string) {
	t.Helper()
	seen := map[string]bool{}
	for _, s := range tasks {
		seen[strings.TrimPrefix(s.name, "process ")] = true
		if s.parent != "" || s.trace == command.trace || !slices.Equal(s.links, []string{command.ref()}) || s.batch != command.batch {
			t.Errorf("got %+v, want a root that links to %s, of batch %s", s, command.ref(), command.batch)
		}
	}
	for _, step := range steps {
		if !seen[step] {
			t.Errorf("no span of step %s in %v", step, seen)
		}
	}
}

func TestTraceOnThisMachine(t *testing.T) {
	c := newCollector(t)
	b := newBench(t, pictures())
	b.want(0, nil, "rename", b.archive, byHash, "--yes")
	renamed, tasks := c.take()
	if renamed.name != "reshelf rename" || renamed.parent != "" || len(renamed.batch) != 26 || len(renamed.links) > 0 || renamed.failure != "" {
		t.Errorf("got %+v, want the root span of reshelf rename", renamed)
	}
	tasksOf(t, renamed, tasks, "list", "inspect", "plan", "rename", "finish")
	if !slices.Contains(c.metrics, "messaging.process.duration") {
		t.Errorf("got metrics %v, want those of tasks", c.metrics)
	}

	b.want(3, nil, "undo", "last")
	planned, tasks := c.take()
	if planned.batch == renamed.batch || !slices.Equal(planned.links, []string{renamed.ref()}) || planned.code != 3 || planned.failure != "" {
		t.Errorf("got %+v, want a span of a new batch that links to that of %s", planned, renamed.batch)
	}
	tasksOf(t, planned, tasks, "plan")

	// What a later command enqueues is the batch's as well.
	b.want(0, nil, "apply", "last")
	applied, tasks := c.take()
	if applied.name != "reshelf apply" || applied.batch != planned.batch || !slices.Equal(applied.links, []string{planned.ref()}) {
		t.Errorf("got %+v, want a span that links to %s", applied, planned.ref())
	}
	tasksOf(t, planned, tasks, "rename", "finish")

	b.want(4, nil, "apply", "last")
	if refused, _ := c.take(); refused.failure != "not_run" || refused.code != 4 || refused.batch != planned.batch {
		t.Errorf("got %+v, want a failure of exit code 4", refused)
	}
	b.want(2, nil, "inspect", b.archive, "--frobnicate")
	if span, _ := c.take(); span.name != "" {
		t.Errorf("got %+v of a command line that was not understood, want nothing", span)
	}
}

// TestTraceOfAFleet loses Redis between the command and the worker: only the ledger can still tell the worker's spans what
// to link to.
func TestTraceOfAFleet(t *testing.T) {
	c := newCollector(t)
	b := newBench(t, pictures())
	server := redistest.Start(t)
	t.Setenv("RESHELF_REDIS", "redis://"+server.Addr())
	o := b.want(0, nil, "inspect", b.archive, "--metadata", "none", "--detach")
	submitted, tasks := c.take()
	if len(tasks) > 0 || submitted.batch != strings.TrimSpace(o.stdout) {
		t.Fatalf("got %+v and tasks %+v, want the command's span alone", submitted, tasks)
	}
	server.FlushAll()
	exporter := tracetest.NewInMemoryExporter()
	stop := startTracedWorker(t, b, server.Addr(), sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter)).Tracer("worker"))
	b.want(0, nil, "watch", submitted.batch)
	stop()
	for _, s := range exporter.GetSpans() {
		got := sentSpan{name: s.Name, trace: s.SpanContext.TraceID().String()}
		if s.Parent.IsValid() {
			got.parent = s.Parent.SpanID().String()
		}
		for _, a := range s.Attributes {
			if a.Key == "messaging.message.conversation_id" {
				got.batch = a.Value.AsString()
			}
		}
		for _, l := range s.Links {
			got.links = append(got.links, l.SpanContext.TraceID().String()+"/"+l.SpanContext.SpanID().String())
		}
		tasks = append(tasks, got)
	}
	tasksOf(t, submitted, tasks, "list", "inspect", "finish")
	if watched, _ := c.take(); watched.name != "reshelf watch" || !slices.Equal(watched.links, []string{submitted.ref()}) {
		t.Errorf("got %+v, want the span of reshelf watch", watched)
	}
}

// silent is a collector that takes connections and never answers. asked is closed with the first.
func silent(t *testing.T) (url string, asked <-chan struct{}) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	first, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tell := sync.OnceFunc(func() { close(first) })
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			tell()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-ended
	})
	return "http://" + l.Addr().String(), first
}

// TestTelemetryIsNoBurden: whatever is wrong with it, a command does the same, says nothing of it, and ends in time.
func TestTelemetryIsNoBurden(t *testing.T) {
	const endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT="
	deaf, _ := silent(t)
	for name, env := range map[string][]string{
		"silent":           {endpoint + deaf},
		"silent, gRPC":     {endpoint + deaf, "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"},
		"nobody there":     {endpoint + "http://127.0.0.1:1"},
		"no URL":           {endpoint + "http://a b:%%"},
		"unknown exporter": {"OTEL_TRACES_EXPORTER=carrier-pigeon"},
		"odd attributes":   {endpoint + "http://127.0.0.1:1", "OTEL_RESOURCE_ATTRIBUTES=a"},
		"odd numbers":      {endpoint + "http://127.0.0.1:1", "OTEL_BSP_SCHEDULE_DELAY=soon", "OTEL_EXPORTER_OTLP_TIMEOUT=late"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, pictures())
			cmd := exec.Command(os.Args[0], "--ledger", b.ledger, "inspect", b.archive, "--metadata", "none")
			cmd.Env = append(append(os.Environ(), asProgram+"=1"), env...)
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			began := time.Now()
			if err := cmd.Run(); err != nil {
				t.Fatalf("%v\n%s", err, stderr.String())
			}
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("it took %v", took)
			}
			lines := strings.Split(strings.TrimSpace(stderr.String()), "\n")
			if len(lines) != 2 || !strings.HasPrefix(lines[0], "this machine, ledger ") || !strings.HasPrefix(lines[1], "batch ") {
				t.Errorf("got on standard error\n%s\nwant where the ledger is, and the batch", stderr.String())
			}
		})
	}
}

// TestInterruptWithSilentCollector: telemetry that cannot be sent does not keep Ctrl-C waiting.
func TestInterruptWithSilentCollector(t *testing.T) {
	files := map[string]string{}
	for i := range 1000 {
		files[fmt.Sprintf("f%03d.xmp", i)] = fmt.Sprintf("<x:xmpmeta xmlns:x='adobe:ns:meta/'/><!-- %d -->", i)
	}
	b := newBench(t, files)
	url, asked := silent(t)
	cmd := exec.Command(os.Args[0], "--ledger", b.ledger, "inspect", b.archive)
	cmd.Env = append(os.Environ(), asProgram+"=1", "OTEL_EXPORTER_OTLP_ENDPOINT="+url, "OTEL_BSP_SCHEDULE_DELAY=10")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-asked: // with the span of the list step; its objects are not inspected yet
	case <-time.After(time.Minute):
		t.Error("nothing was sent within a minute")
	}
	began := time.Now()
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	err := cmd.Wait()
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v to stop, want 5 s at most", took)
	}
	if code := cmd.ProcessState.ExitCode(); code != 130 {
		t.Errorf("exit code %d (%v), want 130\n%s", code, err, stderr.String())
	}
	if strings.Contains(stderr.String(), "telemetry") || strings.Contains(stderr.String(), "export") {
		t.Errorf("got on standard error\n%s", stderr.String())
	}
}
