package telemetry_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/reshelf/reshelf/shared/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// collector is an OTLP receiver that notes what was sent to it.
func collector(t *testing.T) (url string, sent func(path string) string) {
	t.Helper()
	var mu sync.Mutex
	bodies := map[string]string{}
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		bodies[r.URL.Path] += string(body)
	}))
	t.Cleanup(srv.Close)
	return srv.URL, func(path string) string {
		mu.Lock()
		defer mu.Unlock()
		return bodies[path]
	}
}

// record makes one span and one count and shuts the telemetry down.
func record(t *testing.T) (recording bool, metrics string) {
	t.Helper()
	ctx := t.Context()
	tel, shutdown, err := telemetry.Setup(ctx, telemetry.Options{Service: "reshelf-test", Version: "1.2.3", Output: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	_, span := tel.Tracer.Start(ctx, "inspect-a-segment")
	recording = span.IsRecording()
	span.End()
	counter, err := tel.Meter.Int64Counter("reshelf.objects")
	if err != nil {
		t.Fatal(err)
	}
	counter.Add(ctx, 42)
	w := httptest.NewRecorder()
	tel.Metrics.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if err := shutdown(ctx); err != nil {
		t.Errorf("shutdown: %v", err)
	}
	return recording, w.Body.String()
}

func TestSetup(t *testing.T) {
	const spans, counts = "/v1/traces", "/v1/metrics"
	for _, tt := range []struct {
		name string
		env  map[string]string // %s is the collector
		sent []string
	}{
		{"nothing set", nil, nil},
		{"endpoint", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "%s"}, []string{spans, counts}},
		{"endpoint of traces", map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "%s/v1/traces"}, []string{spans}},
		{"no metrics", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "%s", "OTEL_METRICS_EXPORTER": "none"}, []string{spans}},
		{"disabled", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "%s", "OTEL_SDK_DISABLED": "true"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			url, sent := collector(t)
			t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
			for name, value := range tt.env {
				t.Setenv(name, strings.ReplaceAll(value, "%s", url))
			}
			recording, metrics := record(t)
			for path, want := range map[string]string{spans: "inspect-a-segment", counts: "reshelf.objects"} {
				expected := false
				for _, p := range tt.sent {
					expected = expected || p == path
				}
				body := sent(path)
				if expected && (!strings.Contains(body, want) || !strings.Contains(body, "reshelf-test") || !strings.Contains(body, "1.2.3")) {
					t.Errorf("%s: got %q, want %q of service reshelf-test 1.2.3", path, body, want)
				}
				if !expected && body != "" {
					t.Errorf("%s: got %d bytes, want none", path, len(body))
				}
				if path == spans && recording != expected {
					t.Errorf("got recording %v, want %v", recording, expected)
				}
			}
			for _, want := range []string{"reshelf_objects_total", "} 42", "go_goroutines", "process_open_fds"} {
				if !strings.Contains(metrics, want) {
					t.Errorf("/metrics lacks %q:\n%s", want, metrics)
				}
			}
		})
	}
}

func TestSetupRefusesAnUnknownExporter(t *testing.T) {
	t.Setenv("OTEL_TRACES_EXPORTER", "carrier-pigeon")
	if _, _, err := telemetry.Setup(t.Context(), telemetry.Options{Service: "x"}); err == nil {
		t.Error("got no error")
	}
}
