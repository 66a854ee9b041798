package flow

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
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
	noteEvery     = time.Second
	gap           = 4 * time.Second // without a note, and Redis was not steady
	silence       = time.Second     // nobody is judged in a round in which an answer of Redis took longer
	roundFor      = 2 * time.Second // of one round, beside what cannot wait
)

// Reconciler repairs what died half way. Every worker runs one; a lock lets one at a time repair and judge. Each notes in
// Redis, every second, that it is answered: so whoever has the lock knows for how long Redis was steady, also if it has just
// started itself.
type Reconciler struct {
	flow  *Flow
	owner string
	log   *slog.Logger
	// sweep, if not nil, cleans the queues once a minute.
	sweep func(context.Context) error

	ticks int
	// repaired is the batch that was repaired last.
	repaired batch.ID
}

// NewReconciler returns a reconciler of that owner (a worker's id). sweep may be nil.
func NewReconciler(f *Flow, owner string, log *slog.Logger, sweep func(context.Context) error) *Reconciler {
	return &Reconciler{flow: f, owner: owner, log: log, sweep: sweep}
}

// Run reconciles every two seconds until ctx is done.
func (r *Reconciler) Run(ctx context.Context) {
	var notes sync.WaitGroup
	notes.Go(func() { r.every(ctx, noteEvery, "note that Redis answers", r.note) })
	defer notes.Wait()
	r.every(ctx, tick, "reconcile", r.Once)
}

func (r *Reconciler) every(ctx context.Context, d time.Duration, what string, do func(context.Context) error) {
	t := time.NewTicker(d)
	defer t.Stop()
	for {
		turn, cancel := context.WithTimeout(ctx, 30*time.Second)
		if err := do(turn); err != nil && ctx.Err() == nil {
			r.log.WarnContext(ctx, what, "error", err)
		}
		cancel()
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

func (r *Reconciler) note(ctx context.Context) error {
	_, _, err := r.flow.live.Steady(ctx, gap)
	return err
}

// Once does one round: it judges all batches, then repairs those that were judged and as many others as it can in a short
// time. Nobody is judged until Redis was steady for long enough.
func (r *Reconciler) Once(ctx context.Context) error {
	mine, err := r.flow.live.Lock(ctx, "reconciler", r.owner, lockFor)
	if err != nil {
		return err
	}
	if err := r.flow.Observe(ctx); err != nil || !mine {
		return err
	}
	r.ticks++
	ids, err := r.flow.live.Active(ctx)
	if err != nil {
		return err
	}
	judged := r.judgeAll(ctx, ids)
	if err := r.repair(ctx, append(judged, r.rotate(ids)...), len(judged)); err != nil {
		return err
	}
	if r.sweep != nil && r.ticks%30 == 0 {
		return r.sweep(ctx)
	}
	return nil
}

// rotate orders ids so that they begin after the one that was repaired last: with very many, a round does not reach all.
func (r *Reconciler) rotate(ids []batch.ID) []batch.ID {
	i, found := slices.BinarySearch(ids, r.repaired)
	if found {
		i++
	}
	return slices.Concat(ids[i:], ids[:i])
}

// judgeAll returns the batches in which something is to be dispatched again. It asks only Redis, so that it takes a short time
// for many batches too.
func (r *Reconciler) judgeAll(ctx context.Context, ids []batch.ID) (judged []batch.ID) {
	for _, id := range ids {
		n, err := r.judge(ctx, id)
		if n > 0 {
			judged = append(judged, id)
		}
		if errors.Is(err, errUnsteady) {
			return judged
		}
		if errors.Is(err, ledger.ErrSilent) {
			r.log.WarnContext(ctx, "reconcile: nobody is judged in this round", "error", err)
			return judged
		}
		if err != nil {
			r.log.WarnContext(ctx, "reconcile batch", "batch", id, "error", err)
		}
	}
	return judged
}

// repair does the first must of ids, and then as many as it can within roundFor. It keeps the lock meanwhile.
func (r *Reconciler) repair(ctx context.Context, ids []batch.ID, must int) error {
	began, renewed := time.Now(), time.Now()
	for i, id := range ids {
		if i >= must && time.Since(began) > roundFor {
			return nil
		}
		if time.Since(renewed) > lockFor/3 {
			if mine, err := r.flow.live.Lock(ctx, "reconciler", r.owner, lockFor); err != nil || !mine {
				return err
			}
			renewed = time.Now()
		}
		if err := r.one(ctx, id); err != nil {
			r.log.WarnContext(ctx, "reconcile batch", "batch", id, "error", err)
		}
		if i >= must {
			r.repaired = id
		}
	}
	return nil
}

func (r *Reconciler) one(ctx context.Context, id batch.ID) error {
	err := r.flow.Sync(ctx, id)
	switch {
	case errors.Is(err, ledger.ErrNotLive):
		return r.flow.Recover(ctx, id)
	case errors.Is(err, store.ErrNotExist):
		return r.flow.live.Unexpect(ctx, id)
	}
	return err
}

// errUnsteady: Redis was not steady for long enough to judge anybody.
var errUnsteady = errors.New("redis is not steady yet")

// judge judges one batch and returns how many of its segments were found. Right before it asks for how long Redis was steady,
// so that a freeze at any moment is either seen there, or by Redis itself between the two.
func (r *Reconciler) judge(ctx context.Context, id batch.ID) (int, error) {
	asked := time.Now()
	seen, steady, err := r.flow.live.Steady(ctx, gap)
	if err != nil {
		return 0, err
	}
	if took := time.Since(asked); took > silence {
		return 0, fmt.Errorf("%w for %v", ledger.ErrSilent, took)
	}
	if steady < steadyFor {
		return 0, errUnsteady
	}
	found, err := r.flow.live.Reconcile(ctx, id, ledger.Limits{
		Stale: staleAfter, Progress: progressAfter, Queued: queuedAfter, Seen: seen, Silence: silence,
	})
	if err != nil || len(found) == 0 {
		return 0, err
	}
	return len(found), r.answer(ctx, id, found)
}

// answer finds out about segments that are only queued, and logs the others.
func (r *Reconciler) answer(ctx context.Context, id batch.ID, found []ledger.Judgement) error {
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
