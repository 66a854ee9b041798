// Package redistest runs a real redis-server as a child process of a test, which can kill, restart, freeze and empty it.
package redistest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// startWithin bounds the time from the start of the process to its first PONG.
const startWithin = 30 * time.Second

// Server is one redis-server on 127.0.0.1 that keeps nothing on disk: what it held is gone after Stop. Its methods fail
// the test when they cannot do what they say. They are for the test's goroutine; the server itself may be used by any.
type Server struct {
	t    testing.TB
	port int
	args func(dir string) ([]string, error)

	mu      sync.Mutex
	process *process // nil while stopped
	client  *redis.Client
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
		text := fmt.Sprintf("dir %s\nsentinel monitor %s 127.0.0.1 %d 1\n", dir, name, master.port)
		return []string{conf, "--sentinel"}, os.WriteFile(conf, []byte(text), 0o600)
	})
	s.waitInfo("status=ok", func(ctx context.Context) *redis.StringCmd { return s.client.Info(ctx, "sentinel") })
	return s
}

func run(t testing.TB, args func(dir string) ([]string, error)) *Server {
	t.Helper()
	s := &Server{t: t, args: args}
	for attempt := 1; ; attempt++ {
		s.port = freePort(t)
		err := s.start()
		if err == nil {
			break
		}
		if !errors.Is(err, errPortTaken) || attempt == 10 {
			t.Fatalf("redistest: %v", err)
		}
	}
	s.client = redis.NewClient(&redis.Options{Addr: s.Addr()})
	t.Cleanup(func() {
		_ = s.client.Close()
		s.Stop()
	})
	return s
}

// waitInfo waits until a report of the server holds want.
func (s *Server) waitInfo(want string, report func(context.Context) *redis.StringCmd) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startWithin)
	defer cancel()
	for !strings.Contains(report(ctx).Val(), want) {
		if ctx.Err() != nil {
			s.t.Fatalf("redistest: %s: not within %v: %s", s.Addr(), startWithin, want)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// Addr is the server's address, "127.0.0.1:23456". It stays the same after a restart.
func (s *Server) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// URL is Addr with its scheme, as programs take it: "redis://127.0.0.1:23456".
func (s *Server) URL() string { return "redis://" + s.Addr() }

// Client is a plain client of the server that lives as long as the test. It is always the same one; do not close it.
func (s *Server) Client() redis.UniversalClient { return s.client }

// Stop kills the server with SIGKILL and waits until it is gone. Its data is lost. Stopping twice does nothing.
func (s *Server) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process != nil {
		s.process.kill()
		s.process = nil
	}
}

// Restart stops the server if it runs and starts it again, empty, on the same port.
func (s *Server) Restart() {
	s.t.Helper()
	s.Stop()
	if err := s.start(); err != nil {
		s.t.Fatalf("redistest: %v", err)
	}
}

// Pause freezes the server with SIGSTOP: connections stay open and nothing answers. Its data stays.
func (s *Server) Pause() { s.t.Helper(); s.signal(syscall.SIGSTOP) }

// Resume undoes Pause.
func (s *Server) Resume() { s.t.Helper(); s.signal(syscall.SIGCONT) }

// FlushAll deletes every key.
func (s *Server) FlushAll() {
	s.t.Helper()
	if err := s.client.FlushAll(context.Background()).Err(); err != nil {
		s.t.Fatalf("redistest: flushall: %v", err)
	}
}

func (s *Server) signal(sig syscall.Signal) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		s.t.Fatalf("redistest: %v: the server is stopped", sig)
	}
	if err := s.process.cmd.Process.Signal(sig); err != nil {
		s.t.Fatalf("redistest: %v: %v", sig, err)
	}
}

func (s *Server) start() error {
	args, err := s.args(s.t.TempDir())
	if err != nil {
		return err
	}
	p, err := startProcess(append(args, "--port", strconv.Itoa(s.port), "--bind", "127.0.0.1", "--daemonize", "no"))
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.process = p
	s.mu.Unlock()
	if err := p.waitReady(s.Addr()); err != nil {
		s.Stop()
		return err
	}
	return nil
}

var errPortTaken = errors.New("the port is taken")

// process is one run of redis-server.
type process struct {
	cmd    *exec.Cmd
	output *bytes.Buffer // read it only after exited is closed
	exited chan struct{}
}

func startProcess(args []string) (*process, error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, fmt.Errorf("install redis-server (Debian: apt-get install redis-server): %w", err)
	}
	p := &process{exited: make(chan struct{}), output: new(bytes.Buffer)}
	p.cmd = exec.Command(path, args...)
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	p.cmd.Env = append(os.Environ(), "LC_ALL=C")
	dieWithParent(p.cmd)
	started := make(chan error, 1)
	go func() {
		// The kernel sends the parent-death signal when the thread that started the child ends, so this thread must
		// live as long as the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait()
		}
		close(p.exited)
	}()
	return p, <-started
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.exited
}

func (p *process) waitReady(addr string) error {
	client := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1, DialerRetries: 1})
	defer client.Close()
	deadline := time.NewTimer(startWithin)
	defer deadline.Stop()
	for {
		if client.Ping(context.Background()).Err() == nil {
			return nil
		}
		select {
		case <-p.exited:
			if bytes.Contains(p.output.Bytes(), []byte("Address already in use")) {
				return fmt.Errorf("redis-server on %s: %w", addr, errPortTaken)
			}
			return fmt.Errorf("redis-server on %s ended: %s", addr, p.output)
		case <-deadline.C:
			return fmt.Errorf("redis-server on %s: no answer within %v", addr, startWithin)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// freePort picks a port below the range from which the kernel takes the local ports of outgoing connections: such a
// connection could otherwise sit on the port while the server is stopped.
func freePort(t testing.TB) int {
	t.Helper()
	for range 100 {
		port := 10000 + rand.IntN(22000)
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			_ = l.Close()
			return port
		}
	}
	t.Fatal("redistest: no free port between 10000 and 32000")
	return 0
}
