package queue

import (
	"context"
	_ "embed"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// sweepPage bounds what one script does, so that no other client waits for it.
	sweepPage = 100
	// sweepPages bounds what one Sweep does to one queue.
	sweepPages = 10
	// orphanAge is how long an active task without a lease is left alone.
	orphanAge = time.Minute
)

//go:embed lua/archived.lua
var archivedScript string

//go:embed lua/unleased.lua
var unleasedScript string

//go:embed lua/forget.lua
var forgetScript string

// Queues looks after all queues of one prefix, whichever pools they serve. It is safe for concurrent use.
type Queues struct {
	redis                       redis.UniversalClient
	prefix                      string
	archived, unleased, forgets *redis.Script

	mu sync.Mutex
	// orphans is when each active task without a lease was first seen, by queue and id. Ids that are not seen again are
	// dropped, and a sweep sees at most sweepPage*sweepPages of each queue.
	orphans map[string]map[string]time.Time
}

// NewQueues returns the queues with this prefix. The client stays the caller's.
func NewQueues(client redis.UniversalClient, prefix string) *Queues {
	return &Queues{
		redis: client, prefix: prefix,
		archived: redis.NewScript(archivedScript), unleased: redis.NewScript(unleasedScript), forgets: redis.NewScript(forgetScript),
		orphans: map[string]map[string]time.Time{},
	}
}

// Depth is how many tasks a queue holds.
type Depth struct {
	Pending int64 `json:"pending"` // waiting for a worker
	Active  int64 `json:"active"`  // with a worker, or with one that died less than about two minutes ago
}

// Depths are those of all queues that were ever used, by queue name, in two round trips.
func (q *Queues) Depths(ctx context.Context) (map[string]Depth, error) {
	names, err := q.names(ctx)
	if err != nil {
		return nil, err
	}
	pending, active := make([]*redis.IntCmd, len(names)), make([]*redis.IntCmd, len(names))
	_, err = q.redis.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, name := range names {
			pending[i], active[i] = p.LLen(ctx, queueKey(name, "pending")), p.LLen(ctx, queueKey(name, "active"))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read queue depths: %w", err)
	}
	depths := make(map[string]Depth, len(names))
	for i, name := range names {
		depths[name] = Depth{Pending: pending[i].Val(), Active: active[i].Val()}
	}
	return depths, nil
}

// names are the queues of our prefix that asynq knows, sorted.
func (q *Queues) names(ctx context.Context) ([]string, error) {
	all, err := q.redis.SMembers(ctx, allQueues).Result()
	if err != nil {
		return nil, fmt.Errorf("list queues: %w", err)
	}
	names := slices.DeleteFunc(all, func(name string) bool { return !isOurs(q.prefix, name) })
	slices.Sort(names)
	return names, nil
}

// Swept counts what one Sweep removed.
type Swept struct {
	Archived int // tasks of dead workers, which asynq archives because it may not retry them
	Orphans  int // active tasks that had no lease for a minute
}

// Sweep removes what dead workers and lost writes left behind in asynq's keys; nothing else ever would. It does a
// bounded amount of work in small steps, so call it again and again, some seconds apart, in one process at a time. An
// orphan is removed by the first call that comes a minute after one that saw it.
func (q *Queues) Sweep(ctx context.Context) (Swept, error) {
	return q.sweep(ctx, time.Now())
}

func (q *Queues) sweep(ctx context.Context, now time.Time) (Swept, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	names, err := q.names(ctx)
	if err != nil {
		return Swept{}, err
	}
	var total Swept
	for _, name := range names {
		n, err := q.deleteArchived(ctx, name)
		total.Archived += n
		if err != nil {
			return total, fmt.Errorf("sweep archive of %s: %w", name, err)
		}
		n, err = q.forgetOrphans(ctx, name, now)
		total.Orphans += n
		if err != nil {
			return total, fmt.Errorf("sweep active tasks of %s: %w", name, err)
		}
	}
	return total, nil
}

func (q *Queues) deleteArchived(ctx context.Context, name string) (total int, err error) {
	for range sweepPages {
		n, err := q.archived.Run(ctx, q.redis, []string{queueKey(name, "archived")}, queueKey(name, "t:"), sweepPage).Int()
		total += n
		if err != nil || n < sweepPage {
			return total, err
		}
	}
	return total, nil
}

// forgetOrphans looks at the oldest active tasks, since orphans stay while others come and go.
func (q *Queues) forgetOrphans(ctx context.Context, name string, now time.Time) (total int, err error) {
	keys := []string{queueKey(name, "active"), queueKey(name, "lease")}
	length, err := q.redis.LLen(ctx, keys[0]).Result()
	if err != nil {
		return 0, err
	}
	seen := map[string]time.Time{}
	var old []any
	for page := range int(min((length+sweepPage-1)/sweepPage, sweepPages)) {
		ids, err := q.unleased.Run(ctx, q.redis, keys, -(page+1)*sweepPage, -page*sweepPage-1).StringSlice()
		if err != nil {
			return 0, err
		}
		for _, id := range ids {
			first, known := q.orphans[name][id]
			if !known {
				first = now
			}
			seen[id] = first
			if now.Sub(first) >= orphanAge {
				old = append(old, id)
			}
		}
	}
	q.orphans[name] = seen
	for ids := range slices.Chunk(old, sweepPage) {
		n, err := q.forgets.Run(ctx, q.redis, keys, append([]any{queueKey(name, "t:")}, ids...)...).Int()
		total += n
		if err != nil {
			return total, err
		}
	}
	return total, nil
}
