// Package runtime assembles a worker: the same parts serve a process of the fleet and the one process on a laptop.
package runtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	goruntime "runtime"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/flow"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/queue"
	"github.com/reshelf/reshelf/shared/service"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/storeurl"
	"github.com/reshelf/reshelf/shared/telemetry"
	"github.com/reshelf/reshelf/worker/internal/dispatch"
	"github.com/reshelf/reshelf/worker/internal/exiftool"
	"github.com/reshelf/reshelf/worker/internal/inspecting"
)

// Options configure a worker.
type Options struct {
	// ID names the worker; default host name, PID and a random part.
	ID string
	// Redis and Ledger are the caller's and must outlive the worker. Prefix is that of queues and keys.
	Redis  queue.Client
	Prefix string
	Ledger *ledger.Ledger
	// Pools that the worker serves; default "default".
	Pools []string
	// Roots are the archives that it may touch, with all below them. Required: nothing outside of them is touched.
	Roots []archive.Root
	// Buckets: beside Roots, it may touch every bucket that its credentials reach: one person's worker on this machine.
	Buckets bool
	// Stores opens archives, and is the caller's; default one without a stores file.
	Stores *storeurl.Opener
	// Slots are how many segments it works on at once; default the number of CPUs.
	Slots int
	// Poll is how long an idle worker waits before it asks Redis again; default 250 ms.
	Poll time.Duration
	// Strict serves a lower priority only when all higher ones are empty.
	Strict bool
	// ExifTool is the program; default "exiftool" from PATH.
	ExifTool string
	// Scratch is an existing folder for temporary files; default the system's.
	Scratch string
	// ScratchBytes bounds the contents of remote objects that are kept there at any time; default 1 GiB.
	ScratchBytes int64
	// Grace is how long segments in hand may run on when the worker stops, before they are given back; default none.
	Grace time.Duration
	// LedgerFull, if set, is told each time that a batch cannot go on, and the ledger has no room even for the event that
	// would pause it; it is tried again meanwhile. It may be called by several goroutines and must not block.
	LedgerFull func(error)
	// Version of the program, for the registry.
	Version string
	// Health, if set, is shown in the registry: each check by name with its error, "" if well.
	Health func() map[string]string
	// Tracer and Meter default to none.
	Tracer trace.Tracer
	Meter  metric.Meter
	Log    *slog.Logger
}

// Worker takes tasks and does them. Run its Parts with the service package.
type Worker struct {
	options    Options
	flow       *flow.Flow
	claims     *flow.Claims
	reconciler *flow.Reconciler
	consumer   *queue.Consumer
	pool       *exiftool.Pool
	self       ledger.Process
	started    time.Time
	rates      rates
	owned      owned
}

// New builds a worker and starts nothing.
func New(o Options) (*Worker, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	w := &Worker{options: o}
	if w.self, err = flow.Self(o.ID); err != nil {
		return nil, err
	}
	live, err := ledger.NewLive(o.Redis, o.Prefix)
	if err != nil {
		return nil, err
	}
	queues := queue.NewQueues(o.Redis, o.Prefix)
	w.flow = flow.New(o.Ledger, live, carrier{queue.NewProducer(o.Redis, o.Prefix), queues}, o.Log)
	w.claims = flow.NewClaims(live, o.ID, o.Log)
	w.reconciler = flow.NewReconciler(w.flow, o.ID, o.Log, sweep(queues, o.Log))
	w.pool, err = exiftool.NewPool(exiftool.Options{Processes: o.Slots, Binary: o.ExifTool, Scratch: o.Scratch, Read: folders(o.Roots...), Meter: o.Meter, Log: o.Log})
	if err != nil {
		return nil, err
	}
	d := dispatch.New(dispatch.Options{
		Flow: w.flow, Claims: w.claims, Open: w.openArchive, Reaches: w.reaches, LedgerFull: o.LedgerFull, Log: o.Log,
		Steps: steps{flow: w.flow, inspector: inspecting.New(w.pool, inspecting.Options{Scratch: w.pool.Spool(), ScratchBytes: o.ScratchBytes}), self: w.self, exiftool: o.ExifTool, stores: o.Stores, slots: o.Slots, log: o.Log, inHand: &inHand{}}.all(),
	})
	w.consumer, err = queue.NewConsumer(o.Redis, queue.ConsumerOptions{
		Prefix: o.Prefix, Pools: o.Pools, Slots: o.Slots, Strict: o.Strict, Poll: o.Poll, Grace: o.Grace, Log: o.Log, Tracer: o.Tracer, Meter: o.Meter,
	}, d.Handle)
	if err != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		return nil, errors.Join(err, w.pool.Close(ctx))
	}
	return w, nil
}

func (o Options) withDefaults() (Options, error) {
	if o.Redis == nil || o.Ledger == nil || len(o.Roots) == 0 {
		return o, errors.New("a worker needs Redis, a ledger and at least one root that it may touch")
	}
	if o.ID == "" {
		host, err := os.Hostname()
		if err != nil {
			return o, fmt.Errorf("host name: %w", err)
		}
		o.ID = fmt.Sprintf("%s-%d-%s", host, os.Getpid(), uuid.NewString()[:8])
	}
	if o.Prefix == "" {
		o.Prefix = "reshelf"
	}
	if o.Stores == nil {
		o.Stores = storeurl.New("")
	}
	if len(o.Pools) == 0 {
		o.Pools = []string{"default"}
	}
	if o.Slots < 1 {
		o.Slots = goruntime.GOMAXPROCS(0)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o, nil
}

// folders are those of roots on disks: what ExifTool may read.
func folders(roots ...archive.Root) []string {
	dirs := []string{}
	for _, r := range roots {
		if r.Scheme() == archive.SchemeFile {
			dirs = append(dirs, r.Path())
		}
	}
	return dirs
}

// carrier is the flow's queue.
type carrier struct {
	*queue.Producer
	queues *queue.Queues
}

func (c carrier) Waiting(ctx context.Context, pool string, p batch.Priority, t batch.Task) (bool, error) {
	return c.queues.Waiting(ctx, pool, p, t)
}

// NewFlow returns a flow for programs that submit and decide but do no work.
func NewFlow(client queue.Client, prefix string, led *ledger.Ledger, log *slog.Logger) (*flow.Flow, error) {
	live, err := ledger.NewLive(client, prefix)
	if err != nil {
		return nil, err
	}
	return flow.New(led, live, carrier{queue.NewProducer(client, prefix), queue.NewQueues(client, prefix)}, log), nil
}

func sweep(queues *queue.Queues, log *slog.Logger) func(context.Context) error {
	return func(ctx context.Context) error {
		swept, err := queues.Sweep(ctx)
		if err == nil && swept != (queue.Swept{}) {
			log.InfoContext(ctx, "queues swept", "swept", swept)
		}
		return err
	}
}

// openArchive opens an archive for a step. What is found out about its server is kept in the ledger.
func (w *Worker) openArchive(ctx context.Context, root archive.Root, renames bool) (store.Store, error) {
	return w.options.Stores.Open(ctx, root, storeurl.Options{Renames: renames, Kept: w.options.Ledger.Store()})
}

func (w *Worker) reaches(root archive.Root) bool {
	return ledger.Worker{Roots: w.options.Roots, Buckets: w.options.Buckets}.Reaches(root)
}

// Flow is the worker's flow.
func (w *Worker) Flow() *flow.Flow { return w.flow }

// ID is the worker's id in the registry.
func (w *Worker) ID() string { return w.options.ID }

// Checks are the worker's parts that can be unwell, for its health.
func (w *Worker) Checks() []telemetry.Check {
	return []telemetry.Check{
		{Name: "redis", Probe: func(ctx context.Context) error { return w.options.Redis.Ping(ctx).Err() }},
		{Name: "ledger", Probe: w.options.Ledger.Probe},
		{Name: "exiftool", Probe: w.pool.Check},
	}
}

// Parts are the worker's parts in the order in which they start; they stop in reverse: no more tasks, segments in hand
// finished or given back, then the signs of life, the registry, and ExifTool last.
func (w *Worker) Parts() []service.Part {
	return []service.Part{
		{Name: "exiftool", Stop: w.pool.Close, StopWithin: 5 * time.Second},
		{Name: "registry", Start: w.startRegistry, Stop: w.stopRegistry, StopWithin: 2 * time.Second},
		{Name: "claims", Start: w.startClaims, Stop: w.owned.stop("claims"), StopWithin: 2 * time.Second},
		{Name: "reconciler", Start: w.startReconciler, Stop: w.owned.stop("reconciler"), StopWithin: 3 * time.Second},
		{Name: "tasks", Start: w.consumer.Start, Stop: w.consumer.Stop, StopWithin: 15 * time.Second},
	}
}

func (w *Worker) startRegistry(ctx context.Context) error {
	w.started = time.Now().UTC()
	if err := w.register(ctx); err != nil {
		return err
	}
	w.owned.start(ctx, "registry", func(ctx context.Context) {
		every(ctx, time.Second, func(ctx context.Context) {
			if err := w.register(ctx); err != nil && ctx.Err() == nil {
				w.options.Log.WarnContext(ctx, "register", "error", err)
			}
		})
	})
	return nil
}

func (w *Worker) stopRegistry(ctx context.Context) error {
	return errors.Join(w.owned.stop("registry")(ctx), w.flow.Live().Deregister(ctx, w.options.ID))
}

func (w *Worker) register(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	health := map[string]string{}
	if w.options.Health != nil {
		maps.Copy(health, w.options.Health())
	}
	maps.Copy(health, w.options.Stores.Slowed())
	pool := w.pool.Status()
	if len(pool.Gaps) > 0 {
		health["confinement"] = strings.Join(pool.Gaps, "; ")
	}
	objects, bytes := w.rates.see(w.claims.Done())
	processes, memory := describe(pool)
	return w.flow.Live().Register(ctx, ledger.Worker{
		ObjectsPerSecond: objects, BytesPerSecond: bytes, ExifToolVersion: pool.Version, ExifTool: processes, Memory: memory,
		ID: w.options.ID, Process: w.self, Pools: w.options.Pools, Roots: w.options.Roots, Buckets: w.options.Buckets, Slots: w.options.Slots,
		Busy: w.claims.Busy(), Version: w.options.Version, Started: w.started, Health: health,
	})
}

func (w *Worker) startClaims(ctx context.Context) error {
	w.owned.start(ctx, "claims", w.claims.Run)
	return nil
}

func (w *Worker) startReconciler(ctx context.Context) error {
	w.owned.start(ctx, "reconciler", w.reconciler.Run)
	return nil
}

// every calls do each d until ctx is done.
func every(ctx context.Context, d time.Duration, do func(context.Context)) {
	t := time.NewTicker(d)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			do(ctx)
		}
	}
}

// owned are goroutines by name, each stopped by its own part.
type owned struct {
	mu      sync.Mutex
	running map[string]goroutine
}

type goroutine struct {
	cancel context.CancelFunc
	done   chan struct{}
}

// start runs do until it is stopped; the end of ctx does not end it, since parts stop in order.
func (o *owned) start(ctx context.Context, name string, do func(context.Context)) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	g := goroutine{cancel, make(chan struct{})}
	go func() {
		defer close(g.done)
		do(ctx)
	}()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.running == nil {
		o.running = map[string]goroutine{}
	}
	o.running[name] = g
}

func (o *owned) stop(name string) func(context.Context) error {
	return func(ctx context.Context) error {
		o.mu.Lock()
		g, ok := o.running[name]
		o.mu.Unlock()
		if !ok {
			return nil
		}
		g.cancel()
		select {
		case <-g.done:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", name, ctx.Err())
		}
	}
}
