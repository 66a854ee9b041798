// Package childtest runs a server program as a child process of a test, which can kill, start and freeze it.
package childtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// startWithin bounds the time from the start of a process until it is ready.
const startWithin = 30 * time.Second

// Program says how a server is run.
type Program struct {
	Name string // in messages
	// Command is called for each start, with the port of 127.0.0.1 to listen on. Run sets output and process attributes.
	Command func(port int) (*exec.Cmd, error)
	// Ready tells whether this very server answers: another one may have been faster to take the port.
	Ready func(ctx context.Context, addr string) bool
}

// Server is a program that listens on a port of 127.0.0.1. Its methods fail the test when they cannot do what they say.
// They are for the test's goroutine; the server itself may be used by any.
type Server struct {
	t       testing.TB
	program Program
	port    int

	mu      sync.Mutex
	process *process // nil while stopped
}

// Run starts a program on a free port and waits until it is ready. It is killed when the test ends.
func Run(t testing.TB, p Program) *Server {
	t.Helper()
	s := &Server{t: t, program: p}
	for attempt := 1; ; attempt++ {
		s.port = freePort(t)
		err := s.start()
		if err == nil {
			break
		}
		if !errors.Is(err, errPortTaken) || attempt == 10 {
			t.Fatalf("%s: %v", p.Name, err)
		}
	}
	t.Cleanup(s.Stop)
	return s
}

// Port is the server's port. It stays the same after a new start.
func (s *Server) Port() int { return s.port }

// Addr is the server's address, "127.0.0.1:23456".
func (s *Server) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// Stop kills the server with SIGKILL and waits until it is gone. Stopping twice does nothing.
func (s *Server) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process != nil {
		s.process.kill()
		s.process = nil
	}
}

// Start starts a stopped server again on the same port and waits until it is ready.
func (s *Server) Start() {
	s.t.Helper()
	if s.running() != nil {
		s.t.Fatalf("%s: start: it runs", s.program.Name)
	}
	if err := s.start(); err != nil {
		s.t.Fatalf("%s: %v", s.program.Name, err)
	}
}

// Pause freezes the server with SIGSTOP: connections stay open and nothing answers.
func (s *Server) Pause() { s.t.Helper(); s.signal(syscall.SIGSTOP) }

// Resume undoes Pause.
func (s *Server) Resume() { s.t.Helper(); s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) {
	s.t.Helper()
	p := s.running()
	if p == nil {
		s.t.Fatalf("%s: %v: it is stopped", s.program.Name, sig)
	}
	if err := p.signal(sig); err != nil {
		s.t.Fatalf("%s: %v: %v", s.program.Name, sig, err)
	}
}

func (s *Server) running() *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.process
}

func (s *Server) start() error {
	cmd, err := s.program.Command(s.port)
	if err != nil {
		return err
	}
	p, err := startProcess(cmd)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.process = p
	s.mu.Unlock()
	if err := s.waitReady(p); err != nil {
		s.Stop()
		return err
	}
	return nil
}

var errPortTaken = errors.New("the port is taken")

func (s *Server) waitReady(p *process) error {
	ctx, cancel := context.WithTimeout(context.Background(), startWithin)
	defer cancel()
	for !s.ready(ctx) {
		select {
		case <-p.exited:
			if strings.Contains(strings.ToLower(p.output.String()), "address already in use") {
				return fmt.Errorf("on %s: %w", s.Addr(), errPortTaken)
			}
			return fmt.Errorf("on %s: it ended: %s", s.Addr(), p.output)
		case <-ctx.Done():
			return fmt.Errorf("on %s: no answer within %v", s.Addr(), startWithin)
		case <-time.After(5 * time.Millisecond):
		}
	}
	return nil
}

func (s *Server) ready(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	return s.program.Ready(ctx, s.Addr())
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
	t.Fatal("no free port between 10000 and 32000")
	return 0
}
