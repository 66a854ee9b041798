package telemetry_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reshelf/reshelf/shared/telemetry"
)

func register(t *testing.T, h *telemetry.Health, checks ...telemetry.Check) {
	t.Helper()
	for _, c := range checks {
		if err := h.Register(c); err != nil {
			t.Fatal(err)
		}
	}
}

func startHealth(t *testing.T, h *telemetry.Health) {
	t.Helper()
	if err := h.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func ready(t *testing.T, h *telemetry.Health, want string) {
	t.Helper()
	if ok, why := h.Ready(); why != want || ok != (want == "") {
		t.Errorf("got ready %v, %q, want %q", ok, why, want)
	}
}

func TestHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		h := telemetry.NewHealth()
		hang := make(chan struct{})
		var broken atomic.Pointer[error]
		var probes atomic.Int64
		register(t, h,
			telemetry.Check{Name: "redis", Every: time.Second, Probe: func(context.Context) error {
				probes.Add(1)
				if err := broken.Load(); err != nil {
					return *err
				}
				return nil
			}},
			telemetry.Check{Name: "deaf", Timeout: 3 * time.Second, Probe: func(context.Context) error { <-hang; return nil }},
		)
		ready(t, h, "redis is not checked yet, deaf is not checked yet")
		startHealth(t, h)
		synctest.Wait()
		ready(t, h, "deaf is not checked yet")
		time.Sleep(3*time.Second + 1)
		ready(t, h, "deaf hangs")
		if got := probes.Load(); got != 4 {
			t.Errorf("got %d probes of redis beside a hanging check, want 4", got)
		}

		refused := errors.New("connection \x1b[31m refused")
		broken.Store(&refused)
		time.Sleep(time.Second)
		ready(t, h, "redis fails, deaf hangs")
		want := []telemetry.CheckStatus{
			{
				Name: "redis", LastOK: began.Add(3 * time.Second),
				LastError: `connection \u{1b}[31m refused`, LastErrorAt: began.Add(4 * time.Second),
			},
			{Name: "deaf", Hanging: true},
		}
		if diff := cmp.Diff(want, h.Snapshot()); diff != "" {
			t.Errorf("snapshot (-want +got):\n%s", diff)
		}

		broken.Store(nil)
		close(hang)
		time.Sleep(time.Second)
		ready(t, h, "")
		h.SetReady(false, "shutting down")
		ready(t, h, "shutting down")
		h.SetReady(true, "")
		ready(t, h, "")
		if err := h.Stop(t.Context()); err != nil {
			t.Errorf("stop: %v", err)
		}
		if err := h.Stop(t.Context()); err != nil {
			t.Errorf("second stop: %v", err)
		}
		ready(t, h, "")
	})
}

func TestHealthProbeTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := telemetry.NewHealth()
		register(t, h, telemetry.Check{Name: "slow", Timeout: 2 * time.Second, Probe: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }})
		startHealth(t, h)
		time.Sleep(2*time.Second + 1)
		ready(t, h, "slow fails")
		if got := h.Snapshot()[0]; got.Hanging || got.LastError != context.DeadlineExceeded.Error() {
			t.Errorf("got %+v, want a failure by its deadline that does not hang", got)
		}
		_ = h.Stop(t.Context())
	})
}

func TestHealthSecondProbeHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := telemetry.NewHealth()
		var probes atomic.Int64
		register(t, h, telemetry.Check{Name: "disk", Every: time.Second, Timeout: time.Second, Probe: func(ctx context.Context) error {
			if probes.Add(1) == 1 {
				return nil
			}
			time.Sleep(time.Minute)
			return nil
		}})
		startHealth(t, h)
		time.Sleep(time.Second + 1)
		ready(t, h, "")
		time.Sleep(time.Second)
		if got := h.Snapshot()[0]; !got.Hanging || got.OK || got.LastOK.IsZero() {
			t.Errorf("got %+v, want one that hangs, is not OK, and was", got)
		}
		_ = h.Stop(t.Context())
	})
}

func TestHealthStopIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := telemetry.NewHealth()
		register(t, h, telemetry.Check{Name: "slow", Probe: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }})
		startHealth(t, h)
		synctest.Wait()
		if err := h.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]telemetry.CheckStatus{{Name: "slow"}}, h.Snapshot()); diff != "" {
			t.Errorf("snapshot (-want +got):\n%s", diff)
		}
	})
}

func TestHealthStopLeavesTheDeaf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := telemetry.NewHealth()
		hang := make(chan struct{})
		register(t, h,
			telemetry.Check{Name: "deaf", Probe: func(context.Context) error { <-hang; return nil }},
			telemetry.Check{Name: "good", Probe: func(context.Context) error { return nil }})
		startHealth(t, h)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := h.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), ": deaf:") {
			t.Errorf("got %v, want an error that names the deaf check only", err)
		}
		close(hang)
	})
}

func TestHealthRegister(t *testing.T) {
	h := telemetry.NewHealth()
	c := telemetry.Check{Name: "redis", Probe: func(context.Context) error { return nil }}
	register(t, h, c)
	if err := h.Register(c); err == nil {
		t.Error("same name twice: got no error")
	}
	if err := h.Stop(t.Context()); err != nil {
		t.Errorf("stop before start: %v", err)
	}
	startHealth(t, h)
	defer func() { _ = h.Stop(t.Context()) }()
	if err := h.Start(t.Context()); err == nil {
		t.Error("second start: got no error")
	}
	if err := h.Register(telemetry.Check{Name: "late"}); err == nil {
		t.Error("register after start: got no error")
	}
}

func TestHealthHandler(t *testing.T) {
	h := telemetry.NewHealth()
	register(t, h, telemetry.Check{Name: "redis", Probe: func(context.Context) error { return nil }})
	metrics := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("metrics")) })
	handler := h.Handler(metrics)
	for _, tt := range []struct {
		method, path string
		status       int
		body         string
	}{
		{"GET", "/livez", 200, "ok\n"},
		{"HEAD", "/livez", 200, "ok\n"},
		{"GET", "/readyz", 503, "redis is not checked yet\n"},
		{"GET", "/readyz?verbose", 503, `{"ok":false,"why":"redis is not checked yet","checks":[{"name":"redis","ok":false}]}` + "\n"},
		{"GET", "/livez?verbose", 200, `{"ok":true,"checks":[{"name":"redis","ok":false}]}` + "\n"},
		{"GET", "/metrics", 200, "metrics"},
		{"POST", "/readyz", 405, ""},
		{"GET", "/", 404, ""},
	} {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(tt.method, tt.path, nil))
		if w.Code != tt.status || tt.body != "" && w.Body.String() != tt.body {
			t.Errorf("%s %s: got %d %q, want %d %q", tt.method, tt.path, w.Code, w.Body, tt.status, tt.body)
		}
		if strings.Contains(tt.path, "verbose") && !json.Valid(w.Body.Bytes()) {
			t.Errorf("%s: got %q, want JSON", tt.path, w.Body)
		}
	}
}
