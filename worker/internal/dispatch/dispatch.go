// Package dispatch turns tasks into settled segments: it claims, has the step's work done, stores the part and settles it.
// It is the only place in the worker that knows both the flow and the executors of the steps.
package dispatch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/flow"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/store"
)

// Step does the work of one claimed segment and adds its records to w. An error means that the segment is not done: it is
// given back, and what w holds is kept as a partial part.
type Step func(ctx context.Context, j Job, w *ledger.PartWriter) error

// Job is what a step works on.
type Job struct {
	Batch     batch.Batch
	Execution *flow.Execution
	// Archive is open while the step runs; nil for the finish step, which needs only the ledger.
	Archive store.Store
}

// Ref is the job's segment.
func (j Job) Ref() batch.Ref { return j.Execution.Claim.Ref() }

// Options configure a Dispatcher. Everything is required, unless it says otherwise.
type Options struct {
	Flow   *flow.Flow
	Claims *flow.Claims
	Steps  map[batch.Step]Step
	// Open opens an archive, to be read or for renames; Reaches says whether this worker may touch it.
	Open    func(ctx context.Context, root archive.Root, renames bool) (store.Store, error)
	Reaches func(root archive.Root) bool
	// LedgerFull, if set, is told each time that a batch cannot go on, and the ledger has no room for the event that would
	// pause it. It may be called by several goroutines and must not block.
	LedgerFull func(error)
	Log        *slog.Logger
}

// Dispatcher handles tasks. Handle is safe for concurrent use.
type Dispatcher struct{ Options }

// New returns a dispatcher.
func New(o Options) *Dispatcher { return &Dispatcher{o} }

const (
	// maxFailures of one segment for reasons that are no object's fault, before its batch is paused.
	maxFailures = 5
	// settleFor bounds how long a finished segment waits for Redis; its part is durable, so others can settle it later.
	settleFor = time.Minute
	// giveBackFor bounds what is done for a segment after its context has ended.
	giveBackFor = 5 * time.Second
)

// Handle does one task to its end: settled, given back, or found stale. Errors are logged: there is nobody to return them to.
func (d *Dispatcher) Handle(ctx context.Context, t batch.Task) {
	log := d.Log.With("batch", t.Batch, "step", t.Step, "segment", t.Segment, "attempt", t.Attempt)
	b, err := d.Flow.Ledger().Batch(ctx, t.Batch)
	if err != nil {
		log.ErrorContext(ctx, "task dropped", "error", err)
		return
	}
	if !d.Reaches(b.Archive) {
		log.WarnContext(ctx, "task dropped: this worker may not touch the archive", "archive", b.Archive.String())
		return
	}
	x, err := d.Claims.Take(ctx, t)
	if errors.Is(err, ledger.ErrStale) {
		log.DebugContext(ctx, "task is stale", "why", err)
		return
	}
	if err != nil {
		log.WarnContext(ctx, "task dropped", "error", err)
		return
	}
	defer d.Claims.End(x)
	start := time.Now()
	if err := d.execute(ctx, b, x); err != nil {
		d.giveBack(ctx, log, b, x, err)
		return
	}
	log.DebugContext(ctx, "segment settled", "took", time.Since(start))
}

func (d *Dispatcher) execute(ctx context.Context, b batch.Batch, x *flow.Execution) error {
	h, err := d.Flow.Ledger().PartHeader(ctx, x.Claim.Ref())
	if err == nil {
		return d.settle(ctx, b, h) // an earlier execution got that far
	}
	if !errors.Is(err, store.ErrNotExist) {
		return err
	}
	if h, err = d.work(ctx, b, x); err != nil {
		return err
	}
	return d.settle(ctx, b, h)
}

// work has the step done and stores its part.
func (d *Dispatcher) work(ctx context.Context, b batch.Batch, x *flow.Execution) (h ledger.Header, err error) {
	step, ok := d.Steps[x.Claim.Step]
	if !ok {
		return h, fmt.Errorf("step %s: %w", x.Claim.Step, errors.ErrUnsupported)
	}
	j := Job{Batch: b, Execution: x}
	if x.Claim.Step != batch.StepFinish {
		if j.Archive, err = d.Open(ctx, b.Archive, x.Claim.Step == batch.StepPlan || x.Claim.Step == batch.StepRename); err != nil {
			return h, err
		}
		defer j.Archive.Close()
	}
	w, err := ledger.NewPartWriter(x.Claim.Ref(), x.Claim.Epoch)
	if err != nil {
		return h, err
	}
	defer w.Close()
	if err := step(ctx, j, w); err != nil {
		return h, errors.Join(err, d.keep(ctx, x, w))
	}
	if x.Claim.Step == batch.StepRename {
		// Where the claim lapsed, another execution may have moved objects since: its records are the true ones.
		if err := x.Held(); err != nil {
			return h, err
		}
	}
	h, _, err = d.Flow.Ledger().CreatePart(ctx, w)
	return h, err
}

// keep stores what an interrupted inspection had finished.
func (d *Dispatcher) keep(ctx context.Context, x *flow.Execution, w *ledger.PartWriter) error {
	if x.Claim.Step != batch.StepInspect {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), giveBackFor)
	defer cancel()
	err := d.Flow.Ledger().SavePartial(ctx, w)
	if errors.Is(err, store.ErrExist) {
		return nil
	}
	return err
}

// settle tells Redis, for as long as it takes within settleFor: the part is durable. It does not wait for room in the ledger.
func (d *Dispatcher) settle(ctx context.Context, b batch.Batch, h ledger.Header) error {
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleFor)
	defer cancel()
	wait := 100 * time.Millisecond
	for {
		err := d.Flow.Settle(limit, b, h)
		if err == nil || errors.Is(err, ledger.ErrNotLive) {
			return nil
		}
		if errors.Is(err, store.ErrNoSpace) {
			return err
		}
		d.Log.WarnContext(ctx, "settle", "segment", h.Ref.String(), "error", err)
		select {
		case <-limit.Done():
			return err
		case <-ctx.Done():
			return err
		case <-time.After(wait):
			wait = min(2*wait, 2*time.Second)
		}
	}
}

// giveBack decides what an error means: shut down or lost: nothing to say, and no failure of the segment; archive or ledger
// unusable: the batch must wait for a person; anything else: again, up to maxFailures.
func (d *Dispatcher) giveBack(ctx context.Context, log *slog.Logger, b batch.Batch, x *flow.Execution, cause error) {
	stopping := ctx.Err() != nil
	ctx = context.WithoutCancel(ctx)
	failed := d.judge(ctx, log, b, x, cause, stopping)
	// Not the context of the decision: a ledger that does not answer must not keep the claim, nor turn what was in hand
	// into suspects.
	ctx, cancel := context.WithTimeout(ctx, giveBackFor)
	defer cancel()
	if err := d.Flow.Live().Release(ctx, x.Claim, failed); err != nil {
		log.WarnContext(ctx, "give back", "error", err)
		return
	}
	if !stopping {
		if err := d.Flow.Sync(ctx, b.ID); err != nil {
			log.WarnContext(ctx, "give back", "error", err)
		}
	}
}

// judge takes the decision that an error calls for, and reports whether it counts as a failure of the segment.
func (d *Dispatcher) judge(ctx context.Context, log *slog.Logger, b batch.Batch, x *flow.Execution, cause error, stopping bool) (failed bool) {
	ctx, cancel := context.WithTimeout(ctx, giveBackFor)
	defer cancel()
	switch {
	case x.Lost() || errors.Is(cause, flow.ErrLost):
		log.WarnContext(ctx, "claim lost; another execution will do the segment", "error", cause)
		return false
	case stopping:
		log.InfoContext(ctx, "segment given back: this worker stops")
		return false
	case errors.Is(cause, ledger.ErrCorrupt):
		d.decide(ctx, log, b, "batch failed", batch.Event{Kind: batch.EventAdvance, To: batch.FailedState, Reason: cause.Error(), By: "worker"})
	case errors.Is(cause, store.ErrUnavailable), errors.Is(cause, store.ErrNoSpace), x.Claim.Failures+1 >= maxFailures:
		d.decide(ctx, log, b, "batch paused", batch.Event{Kind: batch.EventPause, Reason: cause.Error(), By: "worker"})
	default:
		log.WarnContext(ctx, "segment given back", "error", cause)
	}
	return true
}

// decide takes a decision, and logs what it did.
func (d *Dispatcher) decide(ctx context.Context, log *slog.Logger, b batch.Batch, did string, e batch.Event) {
	_, err := d.Flow.Decide(ctx, b.ID, e)
	if errors.Is(err, batch.ErrTransition) {
		// It is paused already, or cancelled. A cancelled batch is not paused but tried again, in vain if the ledger is full.
		err = d.Flow.Ledger().Probe(ctx)
	}
	switch {
	case err == nil:
		log.ErrorContext(ctx, did, "error", e.Reason)
	case errors.Is(err, store.ErrNoSpace) && d.LedgerFull != nil:
		d.LedgerFull(err)
	default:
		log.WarnContext(ctx, "decide", "kind", e.Kind, "reason", e.Reason, "error", err)
	}
}
