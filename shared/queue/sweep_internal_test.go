package queue

import (
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/reshelf/reshelf/shared/queue/redistest"
)

// The age of an orphan is told by the clock, which only sweep takes from outside.
func TestSweepOrphans(t *testing.T) {
	const name, leased = "reshelf-nas-normal", 5
	client := redistest.Start(t).Client()
	ctx := t.Context()
	client.SAdd(ctx, allQueues, name)
	orphans := sweepPage*2 + 50
	for i := range orphans {
		id := fmt.Sprint("orphan", i)
		client.LPush(ctx, queueKey(name, "active"), id)
		client.HSet(ctx, queueKey(name, "t:"+id), "state", "active")
	}
	for i := range leased {
		id := fmt.Sprint("leased", i)
		client.LPush(ctx, queueKey(name, "active"), id)
		client.ZAdd(ctx, queueKey(name, "lease"), redis.Z{Score: 1, Member: id})
	}

	q, now := NewQueues(client, "reshelf"), time.Now()
	for _, step := range []struct {
		after  time.Duration
		before func()
		want   int
	}{
		{0, nil, 0},
		{orphanAge - time.Second, nil, 0},
		{orphanAge, func() { client.ZAdd(ctx, queueKey(name, "lease"), redis.Z{Score: 1, Member: "orphan7"}) }, orphans - 1},
		{orphanAge * 2, nil, 0},
	} {
		if step.before != nil {
			step.before()
		}
		got, err := q.sweep(ctx, now.Add(step.after))
		if err != nil || got.Orphans != step.want {
			t.Fatalf("after %v: got %+v, %v, want %d orphans removed", step.after, got, err, step.want)
		}
	}
	if got := client.LLen(ctx, queueKey(name, "active")).Val(); got != leased+1 {
		t.Errorf("got %d active tasks, want the %d with a lease", got, leased+1)
	}
	if got := client.Exists(ctx, queueKey(name, "t:orphan0")).Val(); got != 0 {
		t.Error("an orphan's hash is still there")
	}
}

func TestSweepIsBounded(t *testing.T) {
	const name = "reshelf-nas-normal"
	client := redistest.Start(t).Client()
	ctx := t.Context()
	client.SAdd(ctx, allQueues, name)
	archived := make([]redis.Z, sweepPage*sweepPages+1)
	for i := range archived {
		archived[i] = redis.Z{Score: float64(i), Member: fmt.Sprint(i)}
	}
	client.ZAdd(ctx, queueKey(name, "archived"), archived...)
	q := NewQueues(client, "reshelf")
	for _, want := range []int{sweepPage * sweepPages, 1, 0} {
		if got, err := q.Sweep(ctx); err != nil || got.Archived != want {
			t.Errorf("got %+v, %v, want %d", got, err, want)
		}
	}
}

// A lease may appear between the two scripts, so each of them looks for itself.
func TestOrphanScriptsSpareLeasedTasks(t *testing.T) {
	client := redistest.Start(t).Client()
	ctx := t.Context()
	keys := []string{queueKey("q", "active"), queueKey("q", "lease")}
	client.LPush(ctx, keys[0], "leased", "orphan")
	client.ZAdd(ctx, keys[1], redis.Z{Member: "leased"})
	q := NewQueues(client, "reshelf")
	found, err := q.unleased.Run(ctx, client, keys, -sweepPage, -1).StringSlice()
	if err != nil || len(found) != 1 || found[0] != "orphan" {
		t.Errorf("unleased: got %q, %v, want only the orphan", found, err)
	}
	n, err := q.forgets.Run(ctx, client, keys, queueKey("q", "t:"), "leased", "orphan", "gone").Int()
	if left := client.LRange(ctx, keys[0], 0, -1).Val(); err != nil || n != 1 || len(left) != 1 || left[0] != "leased" {
		t.Errorf("forget: got %d removed, %v, left %q, want the leased one left", n, err, left)
	}
}
