package queue

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// subscribing is the client of one asynq server. Its subscriptions go through a client of their own, since asynq v0.26
// crashes the process when the client is closed under its subscriber (subscriber.go reads nil from the closed channel).
// That happens when a shutdown gives asynq up because Redis does not answer, and goes on to close the client.
type subscribing struct {
	redis.UniversalClient
	own redis.UniversalClient
}

// newSubscribing returns client with a second connection pool beside it, which connects only for a subscription.
func newSubscribing(client redis.UniversalClient) (subscribing, error) {
	switch c := client.(type) {
	case *redis.Client:
		o := *c.Options()
		return subscribing{client, redis.NewClient(&o)}, nil
	case *redis.ClusterClient:
		o := *c.Options()
		return subscribing{client, redis.NewClusterClient(&o)}, nil
	}
	return subscribing{}, fmt.Errorf("a Redis client of type %T; want one that Connect returned", client)
}

// Subscribe uses the client's own connection.
func (s subscribing) Subscribe(ctx context.Context, channels ...string) *redis.PubSub {
	return s.own.Subscribe(ctx, channels...)
}

// close ends the subscriptions. It follows the end of asynq's subscriber.
func (s subscribing) close() { _ = s.own.Close() }
