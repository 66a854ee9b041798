package redistest_test

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/reshelf/reshelf/shared/queue/redistest"
)

func TestServer(t *testing.T) {
	s := redistest.Start(t)
	addr, ctx := s.Addr(), t.Context()
	set := func() {
		t.Helper()
		if err := s.Client().Set(ctx, "k", "v", 0).Err(); err != nil {
			t.Fatalf("set: %v", err)
		}
	}
	size := func() int64 {
		t.Helper()
		n, err := s.Client().DBSize(ctx).Result()
		if err != nil {
			t.Fatalf("dbsize: %v", err)
		}
		return n
	}

	set()
	s.Pause()
	impatient := redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true, MaxRetries: -1})
	defer impatient.Close()
	short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	if err := impatient.Ping(short).Err(); err == nil {
		t.Error("a paused server answered")
	}
	s.Resume()
	if got := size(); got != 1 {
		t.Errorf("after pause and resume: got %d keys, want 1", got)
	}

	s.FlushAll()
	if got := size(); got != 0 {
		t.Errorf("after flushall: got %d keys, want 0", got)
	}

	set()
	s.Restart()
	if got := size(); got != 0 {
		t.Errorf("after a restart: got %d keys, want 0: nothing is kept on disk", got)
	}
	if s.Addr() != addr {
		t.Errorf("after a restart: got address %s, want %s", s.Addr(), addr)
	}

	s.Stop()
	s.Stop()
	if err := impatient.Ping(ctx).Err(); err == nil {
		t.Error("a stopped server answered")
	}
}
