package embedded_test

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/queue"
	"github.com/reshelf/reshelf/shared/queue/embedded"
)

func start(t *testing.T) *embedded.Server {
	t.Helper()
	s, err := embedded.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		goleak.VerifyNone(t)
	})
	return s
}

func TestKeysExpire(t *testing.T) {
	s := start(t)
	ctx := t.Context()
	if err := s.Client().Set(ctx, "lock", "1", 50*time.Millisecond).Err(); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(10 * time.Second)
	for s.Client().Exists(ctx, "lock").Val() == 1 {
		if time.Now().After(deadline) {
			t.Fatal("a key with a time to live of 50 ms is still there after 10 s")
		}
	}
}

func TestPasswordIsNeeded(t *testing.T) {
	s := start(t)
	a, _ := queue.ParseAddress(s.Client().(*redis.Client).Options().Addr)
	if client, _, err := queue.Connect(t.Context(), a); err == nil {
		_ = client.Close()
		t.Error("connected without the password")
	}
	client, _, err := queue.Connect(t.Context(), s.Address())
	if err != nil {
		t.Fatalf("with the password: %v", err)
	}
	_ = client.Close()
}

func TestTasksFlow(t *testing.T) {
	s := start(t)
	got := make(chan batch.Task, 1)
	c, err := queue.NewConsumer(s.Client(), queue.ConsumerOptions{Pools: []string{"local"}, Slots: 2, Poll: 10 * time.Millisecond},
		func(_ context.Context, task batch.Task) { got <- task })
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := batch.Task{V: 1, Batch: "01hzzzzzzzzzzzzzzzzzzzzzzz", Step: batch.StepInspect, Generation: 1, Segment: 7, Attempt: 1}
	if err := queue.NewProducer(s.Client(), queue.DefaultPrefix).Enqueue(t.Context(), "local", batch.Normal, want); err != nil {
		t.Fatal(err)
	}
	select {
	case task := <-got:
		if task != want {
			t.Errorf("got task %+v, want %+v", task, want)
		}
	case <-time.After(10 * time.Second):
		t.Error("no task within 10 s")
	}
	if err := c.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}
