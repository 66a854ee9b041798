package flow

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/store"
)

// The reconciler's times. A worker stops moving things validFor after its last sign of life, well before staleAfter, when
// others may take its segments.
const (
	tick          = 2 * time.Second
	lockFor       = 3 * time.Second
	staleAfter    = 6 * time.Second
	steadyFor     = 15 * time.Second
	queuedAfter   = 5 * time.Second
	progressAfter = 30 * time.Minute
)

// Reconciler repairs what died half way. Every worker runs one; a lock lets one at a time judge.
type Reconciler struct {
	flow  *Flow
	owner string
	log   *slog.Logger
	// sweep, if not nil, cleans the queues once a minute.
	sweep func(context.Context) error

	steady time.Time // Redis has answered without a gap since
	last   time.Time // it answered last
	ticks  int
}

// NewReconciler returns a reconciler of that owner (a worker's id). sweep may be nil.
func NewReconciler(f *Flow, owner string, log *slog.Logger, sweep func(context.Context) error) *Reconciler {
	return &Reconciler{flow: f, owner: owner, log: log, sweep: sweep}
}

// Run reconciles every two seconds until ctx is done.
func (r *Reconciler) Run(ctx context.Context) {
	t := time.NewTicker(tick)
	defer t.Stop()
	for {
		turn, cancel := context.WithTimeout(ctx, 30*time.Second)
		if err := r.Once(turn, time.Now()); err != nil && ctx.Err() == nil {
			r.log.WarnContext(ctx, "reconcile", "error", err)
		}
		cancel()
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// Once does one round. now is the local clock; it decides only whether Redis was steady for long enough to judge others.
func (r *Reconciler) Once(ctx context.Context, now time.Time) error {
	mine, err := r.flow.live.Lock(ctx, "reconciler", r.owner, lockFor)
	if err != nil {
		r.steady = time.Time{}
		return err
	}
	if r.steady.IsZero() || now.Sub(r.last) > 2*tick {
		r.steady = now
	}
	r.last = now
	if err := r.flow.Observe(ctx); err != nil || !mine {
		return err
	}
	r.ticks++
	ids, err := r.flow.live.Active(ctx)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if err := r.one(ctx, id, now.Sub(r.steady) >= steadyFor); err != nil {
			r.log.WarnContext(ctx, "reconcile batch", "batch", id, "error", err)
		}
	}
	if r.sweep != nil && r.ticks%30 == 0 {
		return r.sweep(ctx)
	}
	return nil
}

func (r *Reconciler) one(ctx context.Context, id batch.ID, judge bool) error {
	if judge {
		if err := r.judge(ctx, id); err != nil {
			return err
		}
	}
	err := r.flow.Sync(ctx, id)
	switch {
	case errors.Is(err, ledger.ErrNotLive):
		return r.flow.Recover(ctx, id)
	case errors.Is(err, store.ErrNotExist):
		return r.flow.live.Unexpect(ctx, id)
	}
	return err
}

func (r *Reconciler) judge(ctx context.Context, id batch.ID) error {
	found, err := r.flow.live.Reconcile(ctx, id, ledger.Limits{Stale: staleAfter, Progress: progressAfter, Queued: queuedAfter})
	if err != nil || len(found) == 0 {
		return err
	}
	head, err := r.flow.live.Head(ctx, id)
	if err != nil {
		return err
	}
	b, err := r.flow.ledger.Batch(ctx, id)
	if err != nil {
		return err
	}
	for _, j := range found {
		if j.Kind != "queued" {
			r.log.WarnContext(ctx, "segment dispatched again", "batch", id, "step", j.Step, "segment", j.Segment,
				"attempt", j.Attempt, "worker", j.Worker, "why", j.Kind)
			continue
		}
		t := batch.Task{V: batch.Version, Batch: id, Step: j.Step, Generation: 1, Segment: j.Segment, Attempt: j.Attempt}
		waiting, err := r.flow.queue.Waiting(ctx, b.Pool, head.Priority, t)
		if err != nil {
			return err
		}
		if err := r.flow.live.Requeue(ctx, id, j, waiting); err != nil {
			return err
		}
	}
	return nil
}
