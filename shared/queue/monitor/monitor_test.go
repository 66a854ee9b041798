package monitor_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/queue"
	"github.com/reshelf/reshelf/shared/queue/monitor"
	"github.com/reshelf/reshelf/shared/queue/redistest"
)

func TestHandler(t *testing.T) {
	client := redistest.Start(t).Client()
	task := batch.Task{V: 1, Batch: "01hzzzzzzzzzzzzzzzzzzzzzzz", Step: batch.StepInspect, Generation: 1, Attempt: 1}
	if err := queue.NewProducer(client, "reshelf").Enqueue(t.Context(), "nas", batch.Normal, task); err != nil {
		t.Fatal(err)
	}
	h, err := monitor.Handler(client, "/queues/")
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(h)
	defer srv.Close()

	const pending = "/queues/api/queues/reshelf-nas-normal/pending_tasks"
	for _, tt := range []struct {
		name, method, path string
		origin             string
		status             int
		contentType, body  string
	}{
		{"page", "GET", "/queues/", "", 200, "text/html; charset=utf-8", `FLAG_READ_ONLY="true"`},
		{"deep link", "GET", "/queues/queues/reshelf-nas-normal", "", 200, "text/html; charset=utf-8", "Asynq - Monitoring"},
		{"image", "GET", "/queues/static/media/logo-white.3fa2ac55.svg", "", 200, "image/svg+xml", "<svg"},
		{"list", "GET", "/queues/api/queues", "", 200, "application/json", "reshelf-nas-normal"},
		{"tasks", "GET", pending, "", 200, "application/json", string(task.Batch)},
		{"own origin", "GET", pending, srv.URL, 200, "application/json", string(task.Batch)},
		{"head", "HEAD", pending, "", 200, "application/json", ""},
		{"foreign origin", "GET", pending, "https://evil.example", 403, "text/plain; charset=utf-8", "other sites"},
		{"null origin", "GET", pending, "null", 403, "text/plain; charset=utf-8", "other sites"},
		{"pause", "POST", "/queues/api/queues/reshelf-nas-normal:pause", "", 405, "text/plain; charset=utf-8", "looking only"},
		{"delete", "DELETE", "/queues/api/queues/reshelf-nas-normal", "", 405, "text/plain; charset=utf-8", "looking only"},
		{"options", "OPTIONS", "/queues/", "", 405, "text/plain; charset=utf-8", "looking only"},
		{"no such queue", "GET", "/queues/api/queues/other", "", 500, "text/plain; charset=utf-8", "NOT_FOUND"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			req, _ := http.NewRequestWithContext(t.Context(), tt.method, srv.URL+tt.path, nil)
			if tt.origin != "" {
				req.Header.Set("Origin", tt.origin)
			}
			res, err := srv.Client().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			body, err := io.ReadAll(res.Body)
			if err != nil {
				t.Fatal(err)
			}
			if res.StatusCode != tt.status {
				t.Errorf("got status %d, want %d: %s", res.StatusCode, tt.status, body)
			}
			if got := res.Header.Get("Content-Type"); got != tt.contentType {
				t.Errorf("got content type %q, want %q", got, tt.contentType)
			}
			if !strings.Contains(string(body), tt.body) {
				t.Errorf("got body %.300q, want it to hold %q", body, tt.body)
			}
			if tt.contentType == "application/json" && tt.method == "GET" && !json.Valid(body) {
				t.Errorf("got body %.300q, want JSON", body)
			}
			for name, want := range map[string]string{"X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff"} {
				if got := res.Header.Get(name); got != want {
					t.Errorf("got %s %q, want %q", name, got, want)
				}
			}
		})
	}
}

func TestHandlerRootPath(t *testing.T) {
	client := redistest.Start(t).Client()
	for _, path := range []string{"", "/", "queues", "/{x}", "/a b", "/a?b"} {
		if _, err := monitor.Handler(client, path); err == nil {
			t.Errorf("root path %q: got no error", path)
		}
	}
}
