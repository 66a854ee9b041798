// Package embedded runs the Redis of a program that works alone: miniredis, in this process, keeping nothing on disk.
package embedded

import (
	"context"
	"crypto/rand"
	"fmt"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/reshelf/reshelf/shared/queue"
)

// Server is a running miniredis on 127.0.0.1, behind a random password so that other users of the machine cannot reach
// it. It is safe for concurrent use.
type Server struct {
	redis   *miniredis.Miniredis
	address queue.Address
	client  redis.UniversalClient
}

// Start starts a server on a free port and connects to it.
func Start(ctx context.Context) (*Server, error) {
	password := rand.Text()
	m := miniredis.NewMiniRedis()
	m.RequireAuth(password)
	// By default keys with a time to live stay for ever, and with them locks and heartbeats.
	m.ClockTTL(true)
	if err := m.StartAddr("127.0.0.1:0"); err != nil {
		return nil, fmt.Errorf("start embedded Redis: %w", err)
	}
	address, err := queue.ParseAddress(m.Addr())
	if err != nil {
		m.Close()
		return nil, fmt.Errorf("start embedded Redis: %w", err)
	}
	address = address.WithPassword(password)
	// The warnings say that miniredis has no version and no eviction policy; it evicts nothing.
	client, _, err := queue.Connect(ctx, address)
	if err != nil {
		m.Close()
		return nil, fmt.Errorf("start embedded Redis: %w", err)
	}
	return &Server{redis: m, address: address, client: client}, nil
}

// Address is for further clients in this process.
func (s *Server) Address() queue.Address { return s.address }

// Client is a client of the server. Close closes it.
func (s *Server) Client() redis.UniversalClient { return s.client }

// Close ends the server and its connections and waits for its goroutines. Everything in it is lost. Close it once,
// after everything that uses it has stopped.
func (s *Server) Close() error {
	err := s.client.Close()
	s.redis.Close()
	if err != nil {
		return fmt.Errorf("close embedded Redis: %w", err)
	}
	return nil
}
