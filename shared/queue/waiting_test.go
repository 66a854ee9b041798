package queue_test

import (
	"testing"

	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/queue"
	"github.com/reshelf/reshelf/shared/queue/redistest"
)

func TestWaitingIsOnlyWhatNobodyTook(t *testing.T) {
	server := redistest.Start(t)
	task := batch.Task{V: batch.Version, Batch: "01jd0000000000000000000000", Step: batch.StepInspect, Generation: 1, Attempt: 1}
	queues, producer := queue.NewQueues(server.Client(), "reshelf"), queue.NewProducer(server.Client(), "reshelf")
	want := func(want bool, when string) {
		t.Helper()
		if got, err := queues.Waiting(t.Context(), "default", batch.Normal, task); err != nil || got != want {
			t.Errorf("Waiting %s = %v, %v; want %v", when, got, err, want)
		}
	}
	want(false, "before it was enqueued")
	if err := producer.Enqueue(t.Context(), "default", batch.Normal, task); err != nil {
		t.Fatal(err)
	}
	want(true, "in its queue")
	task.Attempt = 2
	want(false, "for another attempt")
}
