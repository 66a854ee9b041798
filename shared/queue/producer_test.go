package queue_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hibiken/asynq"
	"go.opentelemetry.io/otel/trace"

	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/queue"
)

// What is sent is frozen: workers of one version take the tasks of another.
func TestEnqueueGolden(t *testing.T) {
	_, client := connect(t)
	span := trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{0x0a, 0xf7, 0x65, 0x19, 0x16, 0xcd, 0x43, 0xdd, 0x84, 0x48, 0xeb, 0x21, 0x1c, 0x80, 0x31, 0x9c},
		SpanID:  trace.SpanID{0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31}, TraceFlags: trace.FlagsSampled,
	})
	ctx := trace.ContextWithSpanContext(t.Context(), span)
	if err := queue.NewProducer(client, prefix).Enqueue(ctx, pool, batch.Normal, task(42, 3)); err != nil {
		t.Fatal(err)
	}
	info, err := asynq.NewInspectorFromRedisClient(client).GetTaskInfo(queueName, task(42, 3).ID())
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(map[string]any{
		"id": info.ID, "type": info.Type, "queue": info.Queue, "maxRetry": info.MaxRetry, "timeout": info.Timeout.String(),
		"payload": json.RawMessage(info.Payload), "headers": info.Headers,
	})
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/task.json")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(decode(t, want), decode(t, got)); diff != "" {
		t.Errorf("task (-want +got):\n%s", diff)
	}
	if !bytes.Contains(want, info.Payload) {
		t.Errorf("got payload %s, want it byte for byte as in the golden file", info.Payload)
	}
	if info.Retention != 0 || !info.Deadline.IsZero() {
		t.Errorf("got retention %v and deadline %v, want none", info.Retention, info.Deadline)
	}
}

func decode(t *testing.T, data []byte) (m map[string]any) {
	t.Helper()
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestEnqueueTwiceIsOneTask(t *testing.T) {
	_, client := connect(t)
	enqueue(t, client, tasks(300)...)
	enqueue(t, client, tasks(300)...)
	if got := queueInfo(t, client).Pending; got != 300 {
		t.Errorf("got %d pending tasks, want 300", got)
	}
}

// Asynq announces each queue once in the life of a client; the Redis it was announced in may be gone.
func TestEnqueueAnnouncesTheQueueAgain(t *testing.T) {
	s, client := connect(t)
	p := queue.NewProducer(client, prefix)
	for attempt := range 2 {
		if err := p.Enqueue(t.Context(), pool, batch.Normal, task(0, attempt+1)); err != nil {
			t.Fatal(err)
		}
		depths, err := queue.NewQueues(client, prefix).Depths(t.Context())
		want := map[string]queue.Depth{queueName: {Pending: 1}}
		if diff := cmp.Diff(want, depths); err != nil || diff != "" {
			t.Fatalf("attempt %d: %v, depths (-want +got):\n%s", attempt, err, diff)
		}
		s.FlushAll()
	}
}

func TestEnqueueErrors(t *testing.T) {
	s, client := connect(t)
	p := queue.NewProducer(client, prefix)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Enqueue(ended, pool, batch.Normal, task(0, 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("ended context: got %v, want context.Canceled", err)
	}
	if err := p.Enqueue(t.Context(), "{x}", batch.Normal, task(0, 1)); !errors.Is(err, queue.ErrName) {
		t.Errorf("bad pool: got %v, want ErrName", err)
	}
	if err := p.EnqueueAll(t.Context(), pool, batch.Normal, nil); err != nil {
		t.Errorf("no tasks: %v", err)
	}
	if n := client.DBSize(t.Context()).Val(); n != 0 {
		t.Errorf("got %d keys, want none", n)
	}
	s.Stop()
	if err := p.EnqueueAll(t.Context(), pool, batch.Normal, tasks(100)); err == nil {
		t.Error("no Redis: got no error")
	}
}

func TestASecondAttemptIsTakenFirst(t *testing.T) {
	_, client := connect(t)
	enqueue(t, client, tasks(20)...)
	enqueue(t, client, task(30, 2), task(30, 2)) // its enqueueing may be repeated
	var mu sync.Mutex
	var got []batch.Task
	took := func() []batch.Task {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(got)
	}
	consume(t, client, queue.ConsumerOptions{Slots: 1}, func(_ context.Context, task batch.Task) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, task)
	})
	eventually(t, "all tasks are done", func() bool { return queueInfo(t, client).Size == 0 })
	if all := took(); len(all) != 21 || all[0] != task(30, 2) {
		t.Errorf("%d tasks were taken, the first was %+v; want 21 and the second attempt first", len(all), all[0])
	}
}

func TestATaskThatWasTakenIsNotPutBackFirst(t *testing.T) {
	_, client := connect(t)
	release := make(chan struct{})
	var runs atomic.Int64
	consume(t, client, queue.ConsumerOptions{Slots: 2}, func(context.Context, batch.Task) { runs.Add(1); <-release })
	defer close(release)
	enqueue(t, client, task(0, 2))
	eventually(t, "the task is taken", func() bool { return runs.Load() == 1 })
	enqueue(t, client, task(0, 2))
	if i := queueInfo(t, client); i.Pending != 0 || i.Active != 1 {
		t.Errorf("got %d pending and %d active tasks, want only the one that was taken", i.Pending, i.Active)
	}
}
