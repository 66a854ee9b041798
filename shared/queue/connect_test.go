package queue_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/queue"
	"github.com/reshelf/reshelf/shared/queue/redistest"
)

func mustParse(t *testing.T, text string) queue.Address {
	t.Helper()
	a, err := queue.ParseAddress(text)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestConnectLogsInAsTheUser(t *testing.T) {
	s := redistest.Start(t)
	if err := s.Client().Do(t.Context(), "acl", "setuser", "alice", "on", ">hunter/2", "~*", "&*", "+@all").Err(); err != nil {
		t.Fatal(err)
	}
	host := strings.TrimPrefix(s.URL(), "redis://")
	for name, a := range map[string]queue.Address{
		"password in the address": mustParse(t, "redis://alice:hunter%2F2@"+host+"/3"),
		"password apart":          mustParse(t, "redis://alice@"+host+"/3").WithPassword("hunter/2"),
	} {
		t.Run(name, func(t *testing.T) {
			client, warnings, err := queue.Connect(t.Context(), a)
			if err != nil || len(warnings) > 0 {
				t.Fatalf("got %v, warnings %q", err, warnings)
			}
			defer client.Close()
			if got := client.Do(t.Context(), "acl", "whoami").Val(); got != "alice" {
				t.Errorf("got user %v, want alice", got)
			}
			if got := client.(*redis.Client).Options().DB; got != 3 {
				t.Errorf("got database %d, want 3", got)
			}
		})
	}
	_, _, err := queue.Connect(t.Context(), mustParse(t, "redis://alice:hunter3@"+host))
	if err == nil || strings.Contains(err.Error(), "hunter") || !strings.Contains(err.Error(), host) {
		t.Errorf("wrong password: got %v, want an error with the address and without the password", err)
	}
}

func TestConnectChecksTheServer(t *testing.T) {
	s := redistest.Start(t)
	ctx := t.Context()
	host := strings.TrimPrefix(s.URL(), "redis://")
	if err := s.Client().Do(ctx, "acl", "setuser", "tenant", "on", ">x", "~*", "&*", "+@all", "-info", "-config").Err(); err != nil {
		t.Fatal(err)
	}
	client, warnings, err := queue.Connect(ctx, mustParse(t, "redis://tenant:x@"+host))
	if err != nil || len(warnings) != 2 {
		t.Errorf("INFO and CONFIG forbidden: got %v, warnings %q, want two warnings", err, warnings)
	} else {
		_ = client.Close()
	}

	if err := s.Client().ConfigSet(ctx, "maxmemory-policy", "allkeys-lru").Err(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := queue.Connect(ctx, mustParse(t, s.URL())); !errors.Is(err, queue.ErrServer) || !strings.Contains(err.Error(), "noeviction") {
		t.Errorf("policy allkeys-lru: got %v, want ErrServer that names noeviction", err)
	}
}

func TestConnectEndsWithoutAnAnswer(t *testing.T) {
	s := redistest.Start(t)
	s.Pause()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, _, err := queue.Connect(ctx, mustParse(t, s.URL())); err == nil {
		t.Error("frozen server: got no error")
	}
	s.Stop()
	if _, _, err := queue.Connect(t.Context(), mustParse(t, s.URL())); err == nil {
		t.Error("no server: got no error")
	}
	if _, _, err := queue.Connect(t.Context(), queue.Address{}); !errors.Is(err, queue.ErrAddress) {
		t.Errorf("zero address: got %v, want ErrAddress", err)
	}
}

// The hook for asynq's late writes must not touch the scripts of others: to them an ended context means stop.
func TestEndedContextStopsOtherScripts(t *testing.T) {
	_, client := connect(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	const script = `return redis.call("SET", KEYS[1], "1")`
	if err := client.Eval(ctx, script, []string{"asynq:{q}:x"}).Err(); err != nil {
		t.Errorf("asynq's script: %v", err)
	}
	if err := client.Eval(ctx, script, []string{"reshelf:{q}:x"}).Err(); !errors.Is(err, context.Canceled) {
		t.Errorf("another's script: got %v, want context.Canceled", err)
	}
	if n := client.Exists(t.Context(), "reshelf:{q}:x").Val(); n != 0 {
		t.Error("another's script ran")
	}
}

// Every kind of address carries tasks from end to end.
func TestTopologies(t *testing.T) {
	for _, tt := range []struct {
		name  string
		start func(t *testing.T) string
	}{
		{"cluster", func(t *testing.T) string { return "redis+cluster://" + redistest.StartCluster(t).Addr() }},
		{"sentinel", func(t *testing.T) string {
			return "redis+sentinel://" + redistest.StartSentinel(t, "mymaster", redistest.Start(t)).Addr() + "/mymaster?db=2"
		}},
		{"socket", func(t *testing.T) string {
			dir, err := os.MkdirTemp("", "redis") // t.TempDir may be too long for a socket
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.RemoveAll(dir) })
			redistest.Start(t, "--unixsocket", dir+"/s")
			return "unix://" + dir + "/s?db=1"
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			client := connectTo(t, tt.start(t))
			ran := make(chan batch.Task, 1)
			c := consume(t, client, queue.ConsumerOptions{Slots: 2}, func(_ context.Context, task batch.Task) { ran <- task })
			enqueue(t, client, task(0, 1))
			if got := receive(t, "the task runs", ran); got != task(0, 1) {
				t.Errorf("got task %+v", got)
			}
			queues := queue.NewQueues(client, prefix)
			eventually(t, "the queue is empty", func() bool {
				d, err := queues.Depths(t.Context())
				return err == nil && d[queueName] == queue.Depth{}
			})
			if _, err := queues.Sweep(t.Context()); err != nil {
				t.Errorf("sweep: %v", err)
			}
			if err := c.Stop(t.Context()); err != nil {
				t.Errorf("stop: %v", err)
			}
		})
	}
}
