package queue

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/propagation"
	"golang.org/x/sync/errgroup"

	"github.com/reshelf/reshelf/shared/batch"
)

const (
	// enqueueParallel is how many tasks of a window are on their way at once: asynq has no call for several.
	enqueueParallel = 16
	// taskTimeout must be set, as asynq reads 0 as 30 minutes, and must never be reached: see the package comment.
	taskTimeout = 365 * 24 * time.Hour
)

//go:embed lua/first.lua
var firstScript string

// Producer enqueues tasks. It is safe for concurrent use.
type Producer struct {
	redis  redis.UniversalClient
	client *asynq.Client
	prefix string
	first  *redis.Script
}

// NewProducer returns a producer for the queues with this prefix. The client stays the caller's.
func NewProducer(client redis.UniversalClient, prefix string) *Producer {
	return &Producer{redis: client, client: asynq.NewClientFromRedisClient(client), prefix: prefix, first: redis.NewScript(firstScript)}
}

// Enqueue puts one task into the queue of a pool and priority. A task that is in the queue already is a success: the
// first try may have been ours, its answer lost. The span in ctx travels with the task.
func (p *Producer) Enqueue(ctx context.Context, pool string, priority batch.Priority, task batch.Task) error {
	return p.EnqueueAll(ctx, pool, priority, []batch.Task{task})
}

// EnqueueAll enqueues a window of up to a few hundred tasks as Enqueue does, several at a time and in no order. After
// an error any of them may be in the queue; enqueueing all of them again is safe.
//
// A task of a second or later attempt goes to the head of its queue, so that it gets the next free slot: its segment has
// waited in the queue once.
func (p *Producer) EnqueueAll(ctx context.Context, pool string, priority batch.Priority, tasks []batch.Task) error {
	queue, err := QueueName(p.prefix, pool, priority)
	if err != nil {
		return err
	}
	if len(tasks) == 0 {
		return nil
	}
	// Asynq announces a queue once in the life of a client, so a Redis that was emptied would never list it again.
	if err := p.redis.SAdd(ctx, allQueues, queue).Err(); err != nil {
		return fmt.Errorf("announce queue %s: %w", queue, err)
	}
	headers := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, headers)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(enqueueParallel)
	for _, t := range tasks {
		group.Go(func() error { return p.enqueue(ctx, queue, t, headers) })
	}
	return group.Wait()
}

func (p *Producer) enqueue(ctx context.Context, queue string, t batch.Task, headers map[string]string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("enqueue %s: %w", t.ID(), err)
	}
	payload, err := json.Marshal(t)
	if err != nil {
		return fmt.Errorf("enqueue %s: %w", t.ID(), err)
	}
	_, err = p.client.EnqueueContext(ctx, asynq.NewTaskWithHeaders(string(t.Step), payload, headers),
		asynq.Queue(queue), asynq.TaskID(t.ID()), asynq.MaxRetry(0), asynq.Timeout(taskTimeout))
	if err != nil && !errors.Is(err, asynq.ErrTaskIDConflict) {
		return fmt.Errorf("enqueue %s in %s: %w", t.ID(), queue, err)
	}
	if t.Attempt == 1 {
		return nil
	}
	if err := p.first.Run(ctx, p.redis, []string{queueKey(queue, "pending")}, t.ID()).Err(); err != nil {
		return fmt.Errorf("put %s first in %s: %w", t.ID(), queue, err)
	}
	return nil
}
