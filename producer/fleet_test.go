package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/trace"

	"github.com/reshelf/reshelf/producer/internal/command"
	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/queue"
	"github.com/reshelf/reshelf/shared/queue/redistest"
	"github.com/reshelf/reshelf/shared/service"
	"github.com/reshelf/reshelf/shared/store/storeurl"
	"github.com/reshelf/reshelf/worker/runtime"
)

// startWorker runs a worker for the bench's archive until the returned function is called. It has registered when this returns.
func startWorker(t *testing.T, b *bench, redis string) (stop func()) {
	t.Helper()
	return startTracedWorker(t, b, redis, nil)
}

func startTracedWorker(t *testing.T, b *bench, redis string, tracer trace.Tracer) (stop func()) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	address, err := queue.ParseAddress(redis)
	must(err)
	client, _, err := queue.Connect(t.Context(), address)
	must(err)
	root, err := archive.FileRoot(b.ledger)
	must(err)
	st, err := storeurl.New("").Open(t.Context(), root, storeurl.Options{Ledger: true})
	must(err)
	pictures, err := archive.FileRoot(b.archive)
	must(err)
	w, err := runtime.New(runtime.Options{
		Redis: client, Ledger: ledger.New(st), Roots: []archive.Root{pictures}, Slots: 2, Poll: 20 * time.Millisecond,
		Scratch: t.TempDir(), Health: func() map[string]string { return map[string]string{"exiftool": ""} }, Log: slog.New(slog.DiscardHandler),
		Tracer: tracer,
	})
	must(err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- service.Run(ctx, slog.New(slog.DiscardHandler), w.Parts()...) }()
	live, err := ledger.NewLive(client, "reshelf")
	must(err)
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		registered, err := live.Workers(t.Context())
		must(err)
		if len(registered) > 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the worker does not register")
		}
	}
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		_ = client.Close()
		_ = st.Close()
	}
}

func TestFleet(t *testing.T) {
	b := newBench(t, pictures())
	redis := redistest.Start(t).Addr()
	t.Setenv("RESHELF_REDIS", "redis://"+redis)
	b.want(0, []string{"fleet, Redis redis://" + redis, "no worker alive", "no workers"}, "workers")
	o := b.want(0, []string{"warning:", "no worker is alive", "reshelf watch"}, "rename", b.archive, byHash, "--yes", "--detach")
	id := strings.TrimSpace(o.stdout)

	stop := startWorker(t, b, redis)
	defer stop()
	b.want(0, []string{"1 worker alive", "3 objects renamed"}, "watch", id)
	if diff := cmp.Diff(renamed(), b.files()); diff != "" {
		t.Errorf("after rename:\n%s", diff)
	}
	b.want(0, []string{"0 of 2 busy", "exiftool ok"}, "workers")
	b.want(0, []string{`"slots":2`, `"alive":true`}, "workers", "--json")
	b.want(0, []string{"3 objects renamed back"}, "undo", "last", "--yes")
	b.want(3, []string{"reshelf apply"}, "rename", b.archive, byHash)
	edited := strings.ReplaceAll(b.want(0, nil, "plan", "last", "--csv").stdout, ".txt,", "_x.txt,")
	b.stdin = strings.NewReplacer("a_x.txt,", "a.txt,", "b_x.txt,", "b.txt,", "c_x.txt,", "c.txt,").Replace(edited)
	b.want(3, []string{"3 rows renamed otherwise", "rename   3 objects", "reshelf apply"}, "plan", "last", "--edited", "-")
	b.want(3, []string{"1 object renamed;", "The rest of the plan, 2 objects"}, "apply", "last", "--sample", "1")
	b.want(0, []string{"2 objects renamed;"}, "apply", "last")
	b.want(0, []string{"2 objects renamed back"}, "undo", "last", "--yes")
	b.want(0, []string{"1 object renamed back"}, "undo", "last", "--yes")
	b.want(3, []string{"reshelf apply"}, "rename", b.archive, byHash)
	b.want(0, []string{"is cancelled"}, "cancel", "last")
	b.want(4, []string{"was cancelled"}, "watch", "last")
	b.want(0, []string{"fleet", "1 worker alive"}, "doctor", b.archive)
}

func TestFleetForgotten(t *testing.T) {
	b := newBench(t, pictures())
	server := redistest.Start(t)
	t.Setenv("RESHELF_REDIS", "redis://"+server.Addr())
	o := b.want(0, nil, "inspect", b.archive, "--metadata", "none", "--detach")
	server.FlushAll()
	stop := startWorker(t, b, server.Addr())
	defer stop()
	b.want(0, []string{"3 objects,"}, "watch", strings.TrimSpace(o.stdout))
}

func TestFleetPassword(t *testing.T) {
	b := newBench(t, nil)
	server := redistest.Start(t)
	if err := server.Client().ConfigSet(t.Context(), "requirepass", "s3cret").Err(); err != nil {
		t.Fatal(err)
	}
	t.Setenv("RESHELF_REDIS", "redis://"+server.Addr())
	b.want(4, []string{"NOAUTH"}, "workers")
	t.Setenv("RESHELF_REDIS_PASSWORD", "s3cret")
	if o := b.want(0, []string{"no workers"}, "workers"); strings.Contains(o.stderr, "s3cret") {
		t.Errorf("the password is printed: %s", o.stderr)
	}
}

// TestLedgerThatCannotBeReached: it is not called a ledger that was never made.
func TestLedgerThatCannotBeReached(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, "<Error><Code>SignatureDoesNotMatch</Code><Message>no</Message></Error>")
	}))
	defer server.Close()
	t.Setenv("AWS_ACCESS_KEY_ID", "key")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
	b := newBench(t, nil)
	b.ledger = "s3://bucket/ledger?endpoint=" + server.URL
	for _, args := range [][]string{{"list"}, {"show", "last"}} {
		o := b.want(4, []string{"does not accept the credentials"}, append(args, "--redis", "redis://127.0.0.1:1")...)
		if strings.Contains(o.stderr, "no ledger") || strings.Contains(o.stderr, "s3cret") {
			t.Errorf("%v: %s", args, o.stderr)
		}
	}
}

func TestFleetInterrupt(t *testing.T) {
	b := newBench(t, pictures())
	t.Setenv("RESHELF_REDIS", "redis://"+redistest.Start(t).Addr())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var stdout, stderr bytes.Buffer
	env := environment([]string{"inspect", b.archive, "--ledger", b.ledger}, strings.NewReader(""), &stdout, writerFunc(func(p []byte) (int, error) {
		if bytes.HasPrefix(p, []byte("batch ")) {
			cancel()
		}
		return stderr.Write(p)
	}))
	if code := command.Run(ctx, env); code != 130 || !strings.Contains(stderr.String(), "detached; the batch goes on") {
		t.Errorf("got exit code %d, %s", code, stderr.String())
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
