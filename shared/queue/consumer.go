package queue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
)

// ErrStillRunning is wrapped by [Consumer.Stop] when handlers did not end in time.
var ErrStillRunning = errors.New("handlers still running")

// asynqAbort is how long asynq waits, once we shut it down, before it pushes unfinished tasks back. All waiting is
// done before, by Stop.
const asynqAbort = 50 * time.Millisecond

// Handler works on one task. It may run for as long as it needs. It must end soon after ctx does, and see to it that
// what it did not finish is dispatched again: for the queue the task is over when Handler returns.
type Handler func(ctx context.Context, t batch.Task)

// ConsumerOptions configure a Consumer.
type ConsumerOptions struct {
	// Prefix of the queues. Defaults to DefaultPrefix.
	Prefix string
	// Pools whose queues are consumed, at least one.
	Pools []string
	// Slots is how many handlers run at once, at least 1.
	Slots int
	// Strict takes a task only when no queue of a higher priority has one. By default priorities share by weight,
	// 16:8:4:2:1.
	Strict bool
	// Poll is about how often empty queues are looked at. Defaults to 250 ms.
	Poll time.Duration
	// Grace is how long Stop lets handlers run on before it cancels their context. Defaults to none.
	Grace time.Duration
	// Log defaults to nowhere.
	Log *slog.Logger
	// Tracer starts a span for each task. Defaults to none.
	Tracer trace.Tracer
	// Meter counts tasks. Defaults to none.
	Meter metric.Meter
}

func (o ConsumerOptions) withDefaults() ConsumerOptions {
	o.Prefix = cmp.Or(o.Prefix, DefaultPrefix)
	o.Poll = cmp.Or(o.Poll, 250*time.Millisecond)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// queues are the weights of all queues of o's pools.
func (o ConsumerOptions) queues() (map[string]int, error) {
	m := map[string]int{}
	for _, pool := range o.Pools {
		for _, p := range batch.Priorities() {
			name, err := QueueName(o.Prefix, pool, p)
			if err != nil {
				return nil, err
			}
			m[name] = p.Weight()
		}
	}
	return m, nil
}

// Consumer takes tasks from the queues of its pools and hands each to its handler. Its methods are safe for concurrent
// use. It runs once: Start, then Stop.
type Consumer struct {
	handle  Handler
	options ConsumerOptions
	redis   subscribing
	server  *asynq.Server
	observe *observer

	// slots holds one token for each running handler. Asynq's own count is not enough: it counts a handler as gone
	// when asynq's context ends.
	slots chan struct{}
	// pulled is closed when asynq takes no more tasks.
	pulled chan struct{}
	drain  func()

	running atomic.Int64

	mu     sync.Mutex
	state  state
	cancel context.CancelFunc // of the handlers' context
}

type state int

const (
	created state = iota
	started
	stopped
)

// NewConsumer returns a consumer that is not started. The client stays the caller's and must outlive Stop.
func NewConsumer(client redis.UniversalClient, o ConsumerOptions, handle Handler) (*Consumer, error) {
	o = o.withDefaults()
	if o.Slots < 1 || len(o.Pools) == 0 {
		return nil, fmt.Errorf("consumer: %d slots for %d pools: want at least one of each", o.Slots, len(o.Pools))
	}
	queues, err := o.queues()
	if err != nil {
		return nil, fmt.Errorf("consumer: %w", err)
	}
	observe, err := newObserver(o.Tracer, o.Meter)
	if err != nil {
		return nil, fmt.Errorf("consumer: %w", err)
	}
	own, err := newSubscribing(client)
	if err != nil {
		return nil, fmt.Errorf("consumer: %w", err)
	}
	c := &Consumer{
		handle: handle, options: o, observe: observe, redis: own,
		server: asynq.NewServerFromRedisClient(own, asynq.Config{
			Concurrency: o.Slots, Queues: queues, StrictPriority: o.Strict, TaskCheckInterval: o.Poll,
			ShutdownTimeout: asynqAbort, Logger: asynqLog{o.Log}, LogLevel: asynq.InfoLevel,
		}),
		slots:  make(chan struct{}, o.Slots),
		pulled: make(chan struct{}),
	}
	c.drain = sync.OnceFunc(func() { go c.stopPulling() })
	return c, nil
}

// stopPulling may wait for an answer of Redis.
func (c *Consumer) stopPulling() {
	defer close(c.pulled)
	c.server.Stop()
}

// Start begins to take tasks and returns at once. The handlers' context has the values of ctx but does not end with it:
// only Stop ends it.
func (c *Consumer) Start(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != created {
		return errors.New("consumer: started twice")
	}
	handling, cancel := context.WithCancel(context.WithoutCancel(ctx))
	err := c.server.Start(asynq.HandlerFunc(func(lease context.Context, t *asynq.Task) error {
		c.process(handling, lease, t)
		return nil
	}))
	if err != nil {
		cancel()
		return fmt.Errorf("consumer: %w", err)
	}
	c.cancel, c.state = cancel, started
	return nil
}

// Running is the number of handlers that run now.
func (c *Consumer) Running() int { return int(c.running.Load()) }

// Drain stops taking tasks and returns at once. Handlers run on; one more task may still begin.
func (c *Consumer) Drain() { c.drain() }

// Stop drains, lets handlers run on for the grace of the options, cancels their context, and waits for them until ctx
// ends. Tasks that have not begun go back to their queue. Handlers that have not ended by then keep running without
// owner: their tasks go back too, and Stop reports them with [ErrStillRunning]. Stop does nothing before Start and when
// it was called before.
func (c *Consumer) Stop(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != started {
		return nil
	}
	c.state = stopped
	c.Drain()
	grace, done := context.WithTimeout(ctx, c.options.Grace)
	free := c.takeSlots(grace, c.options.Slots)
	done()
	c.cancel()
	free += c.takeSlots(ctx, c.options.Slots-free)
	err := c.shutdown(ctx)
	if left := c.options.Slots - free; left > 0 {
		return errors.Join(fmt.Errorf("stop consumer: %w: %d", ErrStillRunning, left), err)
	}
	return err
}

// takeSlots takes n slots for good, and so waits for their handlers, or as many as it can before ctx ends.
func (c *Consumer) takeSlots(ctx context.Context, n int) int {
	for taken := range n {
		select {
		case c.slots <- struct{}{}:
		case <-ctx.Done():
			return taken
		}
	}
	return n
}

// shutdown ends asynq's goroutines. Each of them may first have to wait for an answer of Redis, so it is done aside.
func (c *Consumer) shutdown(ctx context.Context) error {
	down := make(chan struct{})
	go func() {
		defer close(down)
		<-c.pulled
		c.server.Shutdown()
		c.redis.close()
	}()
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	select {
	case <-down:
		return nil
	case <-ctx.Done():
	}
	select {
	case <-down:
		return nil
	case <-limit.Done():
		return fmt.Errorf("stop consumer: Redis does not answer, the connection ends by itself: %w", context.Cause(ctx))
	}
}

// process runs one task. Its result is the same to asynq whatever happens. handling is the handlers' context; lease is
// asynq's, and only says whether asynq still counts on this task.
func (c *Consumer) process(handling, lease context.Context, at *asynq.Task) {
	queue, _ := asynq.GetQueueName(lease)
	task, err := batch.ParseTask(at.Payload())
	if err != nil {
		c.observe.malformed(handling, queue)
		c.options.Log.Error("task dropped: its payload cannot be read", "queue", queue, "type", archive.EscapeText(at.Type()),
			"payload", archive.EscapeText(string(at.Payload()[:min(len(at.Payload()), 512)])), "error", archive.EscapeText(err.Error()))
		return
	}
	if !c.enter(handling, lease) {
		return
	}
	defer func() { <-c.slots }()
	c.run(handling, queue, task, at.Headers())
}

// enter takes a slot. It says no when asynq gave the task up, which is recorded there, or when Stop has begun: then it
// waits until asynq has pushed the task back into its queue.
func (c *Consumer) enter(handling, lease context.Context) bool {
	if handling.Err() == nil {
		select {
		case c.slots <- struct{}{}:
			return true
		case <-lease.Done():
			return false
		case <-handling.Done():
		}
	}
	<-lease.Done()
	return false
}

func (c *Consumer) run(ctx context.Context, queue string, t batch.Task, headers map[string]string) {
	c.running.Add(1)
	defer c.running.Add(-1)
	ctx, end := c.observe.begin(ctx, queue, t, headers)
	failure := ""
	defer func() {
		if cause := recover(); cause != nil {
			failure = failurePanic
			c.options.Log.Error("handler panicked", "task", t.ID(), "queue", queue,
				"panic", archive.EscapeText(fmt.Sprint(cause)), "stack", string(debug.Stack()))
		}
		end(failure)
	}()
	c.handle(ctx, t)
}
