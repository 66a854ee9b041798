package queue

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/reshelf/reshelf/shared/batch"
)

// Waiting reports whether a task still waits to be taken. One that was taken is not waiting, whether its handler runs or
// its worker died: whoever asks knows from the claim, or from its absence.
func (q *Queues) Waiting(ctx context.Context, pool string, priority batch.Priority, t batch.Task) (bool, error) {
	name, err := QueueName(q.prefix, pool, priority)
	if err != nil {
		return false, err
	}
	state, err := q.redis.HGet(ctx, queueKey(name, "t:"+t.ID()), "state").Result()
	if errors.Is(err, redis.Nil) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for task %s: %w", t.ID(), err)
	}
	return state == "pending", nil
}
