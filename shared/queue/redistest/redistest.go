// Package redistest runs a real redis-server as a child process of a test, which can kill, restart, freeze and empty it.
package redistest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/reshelf/reshelf/shared/childtest"
)

// reportWithin bounds the time until a server reports that it is ready for its special work.
const reportWithin = 30 * time.Second

// Server is one redis-server on 127.0.0.1 that keeps nothing on disk: what it held is gone after Stop. Its methods fail
// the test when they cannot do what they say. They are for the test's goroutine; the server itself may be used by any.
type Server struct {
	*childtest.Server

	t      testing.TB
	client *redis.Client
}

// Start starts a server on a free port, with further options of redis-server if any. It is killed when the test ends.
// A missing redis-server fails the test: a skipped Redis test would look like a passed one.
func Start(t testing.TB, options ...string) *Server {
	t.Helper()
	return run(t, func(dir string) ([]string, error) {
		return append([]string{"--dir", dir, "--save", "", "--appendonly", "no"}, options...), nil
	})
}

// StartCluster starts a Redis Cluster of one server.
func StartCluster(t testing.TB) *Server {
	t.Helper()
	s := Start(t, "--cluster-enabled", "yes")
	if err := s.client.ClusterAddSlotsRange(context.Background(), 0, 16383).Err(); err != nil {
		t.Fatalf("redistest: %v", err)
	}
	s.waitInfo("cluster_state:ok", s.client.ClusterInfo)
	return s
}

// StartSentinel starts a Sentinel that watches master under a name.
func StartSentinel(t testing.TB, name string, master *Server) *Server {
	t.Helper()
	s := run(t, func(dir string) ([]string, error) {
		conf := filepath.Join(dir, "sentinel.conf")
		text := fmt.Sprintf("dir %s\nsentinel monitor %s 127.0.0.1 %d 1\n", dir, name, master.Port())
		return []string{conf, "--sentinel"}, os.WriteFile(conf, []byte(text), 0o600)
	})
	s.waitInfo("status=ok", func(ctx context.Context) *redis.StringCmd { return s.client.Info(ctx, "sentinel") })
	return s
}

func run(t testing.TB, args func(dir string) ([]string, error)) *Server {
	t.Helper()
	s := &Server{t: t}
	s.Server = childtest.Run(t, childtest.Program{
		Name: "redis-server",
		Command: func(port int) (*exec.Cmd, error) {
			path, err := exec.LookPath("redis-server")
			if err != nil {
				return nil, fmt.Errorf("install redis-server (Debian: apt-get install redis-server): %w", err)
			}
			args, err := args(t.TempDir())
			if err != nil {
				return nil, err
			}
			cmd := exec.Command(path, append(args, "--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--daemonize", "no")...)
			cmd.Env = append(os.Environ(), "LC_ALL=C")
			return cmd, nil
		},
		Ready: ready,
	})
	s.client = redis.NewClient(&redis.Options{Addr: s.Addr()})
	t.Cleanup(func() { _ = s.client.Close() })
	return s
}

func ready(ctx context.Context, addr string) bool {
	client := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1, DialerRetries: 1})
	defer client.Close()
	return client.Ping(ctx).Err() == nil
}

// waitInfo waits until a report of the server holds want.
func (s *Server) waitInfo(want string, report func(context.Context) *redis.StringCmd) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), reportWithin)
	defer cancel()
	for !strings.Contains(report(ctx).Val(), want) {
		if ctx.Err() != nil {
			s.t.Fatalf("redistest: %s: not within %v: %s", s.Addr(), reportWithin, want)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// URL is Addr with its scheme, as programs take it: "redis://127.0.0.1:23456".
func (s *Server) URL() string { return "redis://" + s.Addr() }

// Client is a plain client of the server that lives as long as the test. It is always the same one; do not close it.
func (s *Server) Client() redis.UniversalClient { return s.client }

// Restart stops the server if it runs and starts it again, empty, on the same port.
func (s *Server) Restart() {
	s.t.Helper()
	s.Stop()
	s.Start()
}

// FlushAll deletes every key.
func (s *Server) FlushAll() {
	s.t.Helper()
	if err := s.client.FlushAll(context.Background()).Err(); err != nil {
		s.t.Fatalf("redistest: flushall: %v", err)
	}
}
