package queue_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.uber.org/goleak"

	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/queue"
	"github.com/reshelf/reshelf/shared/queue/redistest"
)

func TestConsumerRunsEachTaskOnce(t *testing.T) {
	_, client := connect(t)
	var mu sync.Mutex
	got := map[batch.Task]int{}
	consume(t, client, queue.ConsumerOptions{Slots: 8}, func(_ context.Context, task batch.Task) {
		mu.Lock()
		defer mu.Unlock()
		got[task]++
	})
	want := map[batch.Task]int{}
	for _, task := range tasks(200) {
		want[task] = 1
	}
	enqueue(t, client, tasks(200)...)
	eventually(t, "all tasks are done", func() bool { return queueInfo(t, client).Size == 0 })
	mu.Lock()
	defer mu.Unlock()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("runs by task (-want +got):\n%s", diff)
	}
}

// Asynq frees its slot when its context ends, though the handler may be deaf to that. Cancelling through asynq ends the
// context as a Redis outage does.
func TestDeafHandlersKeepTheirSlots(t *testing.T) {
	_, client := connect(t)
	const slots = 2
	release := make(chan struct{})
	var running, most, ran atomic.Int64
	c := consume(t, client, queue.ConsumerOptions{Slots: slots}, func(context.Context, batch.Task) {
		if n := running.Add(1); n > most.Load() {
			most.Store(n)
		}
		<-release
		running.Add(-1)
		ran.Add(1)
	})
	enqueue(t, client, tasks(3*slots)...)
	inspector := asynq.NewInspectorFromRedisClient(client)
	for given := slots; given <= 2*slots; given += slots {
		eventually(t, "asynq has handed out as many tasks as it has slots", func() bool { return queueInfo(t, client).Active == slots })
		eventually(t, "asynq has given them up", func() bool {
			active, err := inspector.ListActiveTasks(queueName)
			if err != nil {
				t.Fatal(err)
			}
			for _, task := range active {
				if queueInfo(t, client).Archived < given {
					_ = inspector.CancelProcessing(task.ID) // by publishing, so it may be too early for the subscriber
				}
			}
			return queueInfo(t, client).Archived >= given
		})
	}
	if got := running.Load(); got != slots || c.Running() != slots {
		t.Errorf("asynq gave %d tasks up: got %d handlers running (the consumer says %d), want %d", 2*slots, got, c.Running(), slots)
	}
	close(release)
	eventually(t, "nothing is left", func() bool { i := queueInfo(t, client); return i.Active == 0 && i.Pending == 0 && running.Load() == 0 })
	if got := most.Load(); got > slots {
		t.Errorf("got %d handlers at once, want at most %d", got, slots)
	}
}

// failOnce makes the first acknowledgement of a task fail, as a dropped connection does. Asynq's script for it has five
// keys, the active list first.
type failOnce struct{ failed atomic.Bool }

func (f *failOnce) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (f *failOnce) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		args := cmd.Args()
		if len(args) > 4 && args[2] == 5 && args[3] == "asynq:{"+queueName+"}:active" && f.failed.CompareAndSwap(false, true) {
			err := errors.New("injected: connection reset")
			cmd.SetErr(err)
			return err
		}
		return next(ctx, cmd)
	}
}

func (f *failOnce) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error { return next(ctx, cmds) }
}

// Without the hook of Connect, asynq repeats the acknowledgement with an ended context until the lease is over, and
// then archives the task that went well.
func TestLostAcknowledgementIsRepeated(t *testing.T) {
	t.Parallel()
	_, client := connect(t)
	fault := &failOnce{}
	client.AddHook(fault)
	var runs atomic.Int64
	consume(t, client, queue.ConsumerOptions{Slots: 1}, func(context.Context, batch.Task) { runs.Add(1) })
	enqueue(t, client, task(0, 1))
	eventually(t, "the acknowledgement fails", fault.failed.Load)
	if got := queueInfo(t, client).Active; got != 1 {
		t.Fatalf("got %d active tasks after the lost acknowledgement, want 1", got)
	}
	eventually(t, "asynq's syncer, every 5 s, acknowledges the task", func() bool { return queueInfo(t, client).Active == 0 })
	if i := queueInfo(t, client); runs.Load() != 1 || i.Size != 0 {
		t.Errorf("got %d runs and %d tasks left in asynq, want 1 and 0", runs.Load(), i.Size)
	}
}

func TestStop(t *testing.T) {
	type result struct {
		cause error // of the handler's context, at its end
	}
	for _, tt := range []struct {
		name  string
		grace time.Duration
		work  func(ctx context.Context, draining <-chan struct{})
		cause error
	}{
		{"handlers end within the grace", time.Hour, func(_ context.Context, draining <-chan struct{}) { <-draining }, nil},
		{"handlers are cancelled without grace", 0, func(ctx context.Context, _ <-chan struct{}) { <-ctx.Done() }, context.Canceled},
		{"handlers are cancelled after the grace", time.Millisecond, func(ctx context.Context, _ <-chan struct{}) { <-ctx.Done() }, context.Canceled},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, client := connect(t)
			began, draining, ended := make(chan struct{}), make(chan struct{}), make(chan result, 1)
			c := consume(t, client, queue.ConsumerOptions{Slots: 1, Grace: tt.grace}, func(ctx context.Context, _ batch.Task) {
				close(began)
				tt.work(ctx, draining)
				ended <- result{ctx.Err()}
			})
			enqueue(t, client, task(0, 1))
			receive(t, "the handler begins", began)
			c.Drain()
			enqueue(t, client, task(1, 1))
			time.AfterFunc(20*time.Millisecond, func() { close(draining) })
			if err := c.Stop(t.Context()); err != nil {
				t.Errorf("stop: %v", err)
			}
			if got := receive(t, "the handler ends", ended).cause; got != tt.cause {
				t.Errorf("got cause %v, want %v", got, tt.cause)
			}
			if i := queueInfo(t, client); i.Pending != 1 || i.Active != 0 {
				t.Errorf("got %d pending and %d active tasks, want the one enqueued while draining, and none", i.Pending, i.Active)
			}
			if err := c.Stop(t.Context()); err != nil {
				t.Errorf("second stop: %v", err)
			}
		})
	}
}

func TestStopHandsBackWhatDoesNotEnd(t *testing.T) {
	_, client := connect(t)
	began, release, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
	c, err := queue.NewConsumer(client, queue.ConsumerOptions{Pools: []string{pool}, Slots: 1, Poll: 10 * time.Millisecond},
		func(context.Context, batch.Task) {
			close(began)
			<-release
			close(ended)
		})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Stop(t.Context()); err != nil {
		t.Errorf("stop before start: %v", err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err == nil {
		t.Error("second start: got no error")
	}
	enqueue(t, client, task(0, 1))
	receive(t, "the handler begins", began)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := c.Stop(ctx); !errors.Is(err, queue.ErrStillRunning) {
		t.Errorf("stop: got %v, want ErrStillRunning", err)
	}
	if i := queueInfo(t, client); i.Pending != 1 || i.Active != 0 {
		t.Errorf("got %d pending and %d active tasks, want the task handed back", i.Pending, i.Active)
	}
	again := make(chan batch.Task, 1)
	consume(t, client, queue.ConsumerOptions{Slots: 1}, func(_ context.Context, task batch.Task) { again <- task })
	if got := receive(t, "another consumer gets it", again); got != task(0, 1) {
		t.Errorf("got task %+v", got)
	}
	close(release)
	receive(t, "the deaf handler ends", ended)
}

// A task can be with asynq, as active, without having a slot: when asynq gave up a handler that still runs. It must not
// vanish in a shutdown.
func TestStopHandsBackWhatHasNotBegun(t *testing.T) {
	_, client := connect(t)
	began, release := make(chan struct{}, 2), make(chan struct{})
	c := consume(t, client, queue.ConsumerOptions{Slots: 1}, func(context.Context, batch.Task) {
		began <- struct{}{}
		<-release
	})
	enqueue(t, client, task(0, 1))
	receive(t, "the handler begins", began)
	enqueue(t, client, task(1, 1))
	inspector := asynq.NewInspectorFromRedisClient(client)
	eventually(t, "asynq gives the first task up and hands the second out", func() bool {
		_ = inspector.CancelProcessing(task(0, 1).ID())
		i := queueInfo(t, client)
		return i.Archived == 1 && i.Active == 1
	})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := c.Stop(ctx); !errors.Is(err, queue.ErrStillRunning) {
		t.Errorf("stop: got %v, want ErrStillRunning", err)
	}
	if i := queueInfo(t, client); i.Pending != 1 || i.Active != 0 || len(began) != 0 {
		t.Errorf("got %d pending and %d active tasks and %d more handlers, want the second task handed back", i.Pending, i.Active, len(began))
	}
	close(release)
	eventually(t, "the deaf handler ends", func() bool { return c.Running() == 0 })
}

// What comes after the consumer in a shutdown closes the client, though asynq may still be at it.
func TestStopEndsWhileRedisIsFrozen(t *testing.T) {
	s := redistest.Start(t)
	before := goleak.IgnoreCurrent()
	client := connectTo(t, s.URL())
	c, err := queue.NewConsumer(client, queue.ConsumerOptions{Pools: []string{pool}, Slots: 1}, func(context.Context, batch.Task) {})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "asynq has subscribed", func() bool {
		return client.PubSubNumSub(t.Context(), "asynq:cancel").Val()["asynq:cancel"] == 1
	})
	s.Pause()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	stopped := make(chan error)
	go func() { stopped <- c.Stop(ctx) }()
	if err := receive(t, "stop returns", stopped); err == nil {
		t.Error("got no error, want one that says that Redis does not answer")
	}
	if err := client.Close(); err != nil {
		t.Error(err)
	}
	s.Resume()
	eventually(t, "asynq's goroutines end", func() bool { return goleak.Find(before) == nil })
}

func TestPanicsAndMalformedPayloads(t *testing.T) {
	_, client := connect(t)
	var log bytes.Buffer
	reader, spans := metric.NewManualReader(), tracetest.NewInMemoryExporter()
	done := make(chan struct{})
	c := consume(t, client, queue.ConsumerOptions{
		Slots: 1, Log: slog.New(slog.NewTextHandler(&log, nil)),
		Meter:  metric.NewMeterProvider(metric.WithReader(reader)).Meter("test"),
		Tracer: sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans)).Tracer("test"),
	}, func(_ context.Context, task batch.Task) {
		if task.Segment == 0 {
			panic("boom \x1b[31m")
		}
		close(done)
	})
	enqueue(t, client, task(0, 1))
	hostile := asynq.NewTask("inspect", []byte("{\x1b[2J\n"))
	if _, err := asynq.NewClientFromRedisClient(client).EnqueueContext(t.Context(), hostile, asynq.Queue(queueName), asynq.MaxRetry(0)); err != nil {
		t.Fatal(err)
	}
	enqueue(t, client, task(1, 1))
	receive(t, "the task behind them runs", done)
	eventually(t, "nothing is left", func() bool { return queueInfo(t, client).Size == 0 })
	if err := c.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	text := log.String()
	for _, want := range []string{"handler panicked", "boom", "consumer_test.go", "task dropped", `\\u{1b}`} {
		if !strings.Contains(text, want) {
			t.Errorf("the log lacks %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "\x1b") {
		t.Errorf("the log holds a raw escape:\n%s", text)
	}
	want := map[string]int64{"": 1, "panic": 1, "malformed": 1}
	if diff := cmp.Diff(want, consumed(t, reader)); diff != "" {
		t.Errorf("messaging.client.consumed.messages by error.type (-want +got):\n%s", diff)
	}
	if got := spans.GetSpans(); len(got) != 2 || got[0].Name != "process inspect" {
		t.Errorf("got %d spans %+v, want 2 named process inspect", len(got), got)
	}
}

func consumed(t *testing.T, reader metric.Reader) map[string]int64 {
	t.Helper()
	var rm metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &rm); err != nil {
		t.Fatal(err)
	}
	got := map[string]int64{}
	for _, m := range rm.ScopeMetrics[0].Metrics {
		sum, ok := m.Data.(metricdata.Sum[int64])
		if !ok || m.Name != "messaging.client.consumed.messages" {
			continue
		}
		for _, p := range sum.DataPoints {
			kind, _ := p.Attributes.Value("error.type")
			got[kind.AsString()] += p.Value
		}
	}
	return got
}

func TestTraceContextTravels(t *testing.T) {
	_, client := connect(t)
	exporter := tracetest.NewInMemoryExporter()
	tracer := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter)).Tracer("test")
	c := consume(t, client, queue.ConsumerOptions{Slots: 1, Tracer: tracer}, func(context.Context, batch.Task) {})
	ctx, span := tracer.Start(t.Context(), "submit")
	if err := queue.NewProducer(client, prefix).Enqueue(ctx, pool, batch.Normal, task(0, 1)); err != nil {
		t.Fatal(err)
	}
	span.End()
	eventually(t, "both spans have ended", func() bool { return len(exporter.GetSpans()) == 2 })
	if err := c.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, s := range exporter.GetSpans() {
		if s.Name == "submit" {
			continue
		}
		if s.Parent.IsValid() || len(s.Links) != 1 || s.Links[0].SpanContext.TraceID() != span.SpanContext().TraceID() {
			t.Errorf("got span %q with parent %v and links %+v, want a root linked to %v", s.Name, s.Parent, s.Links, span.SpanContext())
		}
	}
}

func TestStrictTakesTheHighestPriorityFirst(t *testing.T) {
	_, client := connect(t)
	var want []string
	for i, p := range batch.Priorities() {
		want = append(want, fmt.Sprint(i))
		if err := queue.NewProducer(client, prefix).Enqueue(t.Context(), pool, p, task(i, 1)); err != nil {
			t.Fatal(err)
		}
	}
	order := make(chan string, len(want))
	consume(t, client, queue.ConsumerOptions{Slots: 1, Strict: true}, func(_ context.Context, task batch.Task) { order <- fmt.Sprint(task.Segment) })
	var got []string
	for range want {
		got = append(got, receive(t, "the next task", order))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
}

func TestNewConsumerRefuses(t *testing.T) {
	_, client := connect(t)
	for name, o := range map[string]queue.ConsumerOptions{
		"no slots": {Pools: []string{pool}}, "no pools": {Slots: 1}, "bad pool": {Slots: 1, Pools: []string{"{x}"}},
		"bad prefix": {Slots: 1, Pools: []string{pool}, Prefix: "a-b"},
	} {
		if _, err := queue.NewConsumer(client, o, func(context.Context, batch.Task) {}); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}
