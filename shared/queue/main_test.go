package queue_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/queue"
	"github.com/reshelf/reshelf/shared/queue/redistest"
)

// consumerEnv makes the test program a consumer of the Redis at that address, which never ends.
const consumerEnv = "RESHELF_QUEUE_TEST_CONSUMER"

const (
	prefix    = "reshelf"
	pool      = "nas"
	queueName = "reshelf-nas-normal"
	patience  = 30 * time.Second
)

func TestMain(m *testing.M) {
	if addr := os.Getenv(consumerEnv); addr != "" {
		consumeForEver(addr)
		return
	}
	goleak.VerifyTestMain(m)
}

// connect starts a Redis for the test and connects to it as programs do.
func connect(t *testing.T) (*redistest.Server, redis.UniversalClient) {
	t.Helper()
	s := redistest.Start(t)
	return s, connectTo(t, s.URL())
}

func connectTo(t *testing.T, url string) redis.UniversalClient {
	t.Helper()
	a, err := queue.ParseAddress(url)
	if err != nil {
		t.Fatal(err)
	}
	client, warnings, err := queue.Connect(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	if len(warnings) > 0 {
		t.Errorf("got warnings %q, want none", warnings)
	}
	return client
}

func task(segment, attempt int) batch.Task {
	return batch.Task{V: batch.Version, Batch: "01hzzzzzzzzzzzzzzzzzzzzzzz", Step: batch.StepInspect, Generation: 1, Segment: segment, Attempt: attempt}
}

func tasks(n int) []batch.Task {
	all := make([]batch.Task, n)
	for i := range all {
		all[i] = task(i, 1)
	}
	return all
}

func enqueue(t *testing.T, client redis.UniversalClient, ts ...batch.Task) {
	t.Helper()
	if err := queue.NewProducer(client, prefix).EnqueueAll(t.Context(), pool, batch.Normal, ts); err != nil {
		t.Fatal(err)
	}
}

// consume starts a consumer that is stopped when the test ends.
func consume(t *testing.T, client redis.UniversalClient, o queue.ConsumerOptions, handle queue.Handler) *queue.Consumer {
	t.Helper()
	o.Pools, o.Poll = []string{pool}, 10*time.Millisecond
	c, err := queue.NewConsumer(client, o, handle)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := c.Stop(ctx); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	return c
}

// eventually polls until ok says yes.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func receive[T any](t *testing.T, what string, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatalf("not within %v: %s", patience, what)
		panic("unreachable")
	}
}

func queueInfo(t *testing.T, client redis.UniversalClient) *asynq.QueueInfo {
	t.Helper()
	info, err := asynq.NewInspectorFromRedisClient(client).GetQueueInfo(queueName)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func consumeForEver(url string) {
	a, err := queue.ParseAddress(url)
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	client, _, err := queue.Connect(ctx, a)
	if err != nil {
		panic(err)
	}
	c, err := queue.NewConsumer(client, queue.ConsumerOptions{Pools: []string{pool}, Slots: 1, Poll: 10 * time.Millisecond},
		func(context.Context, batch.Task) {
			fmt.Println("working")
			select {}
		})
	if err != nil {
		panic(err)
	}
	if err := c.Start(ctx); err != nil {
		panic(err)
	}
	select {}
}
