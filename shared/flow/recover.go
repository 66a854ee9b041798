package flow

import (
	"context"
	"errors"
	"fmt"

	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/store"
)

// Recover rebuilds the live state of one batch from the ledger: events, segment lists and the headers of parts. It may run
// while workers are busy, since everything it says to Redis is idempotent. A batch that is over is left alone.
func (f *Flow) Recover(ctx context.Context, id batch.ID) error {
	b, err := f.ledger.Batch(ctx, id)
	if err != nil {
		return err
	}
	s, err := f.ledger.Status(ctx, b)
	if err != nil {
		return err
	}
	if s.State.Over() {
		return nil
	}
	if err := f.live.Announce(ctx, b, s); err != nil {
		return err
	}
	for _, again := range []func(context.Context, batch.Batch) error{f.recoverInspect, f.recoverPlan, f.recoverFinish} {
		if err := again(ctx, b); err != nil {
			return fmt.Errorf("recover batch %s: %w", id, err)
		}
	}
	return f.Sync(ctx, id)
}

// RecoverAll recovers every batch that is not over, and returns how many there are.
func (f *Flow) RecoverAll(ctx context.Context) (int, error) {
	n := 0
	for id, err := range f.ledger.Batches(ctx) {
		if err != nil {
			return n, err
		}
		b, err := f.ledger.Batch(ctx, id)
		if err != nil {
			return n, err
		}
		s, err := f.ledger.Status(ctx, b)
		if err != nil {
			return n, err
		}
		if s.State.Over() {
			continue
		}
		if err := f.Recover(ctx, id); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

func (f *Flow) recoverInspect(ctx context.Context, b batch.Batch) error {
	if !b.Kind.Has(batch.StepInspect) {
		return nil
	}
	known, err := f.ledger.Segments(ctx, b.ID, batch.StepInspect, 1)
	if err != nil {
		return err
	}
	for n := range known {
		h, err := f.ledger.SegmentHeader(ctx, batch.Ref{Batch: b.ID, Step: batch.StepInspect, Generation: 1, Segment: n})
		if err != nil {
			return err
		}
		if err := f.live.Grow(ctx, h); err != nil {
			return err
		}
	}
	total, sealed, err := f.ledger.Sealed(ctx, b.ID, batch.StepInspect, 1)
	if err != nil {
		return err
	}
	if sealed {
		if _, err := f.live.Seal(ctx, b.ID, batch.StepInspect, total); err != nil {
			return err
		}
		if _, err := f.live.Settle(ctx, single(b.ID, batch.StepList), batch.Counts{}); err != nil {
			return err
		}
	}
	return f.recoverParts(ctx, b, batch.StepInspect)
}

// single is the only segment of a step that has one.
func single(id batch.ID, step batch.Step) batch.Ref {
	return batch.Ref{Batch: id, Step: step, Generation: 1}
}

func (f *Flow) recoverPlan(ctx context.Context, b batch.Batch) error {
	p, _, err := f.ledger.Plan(ctx, b.ID)
	if errors.Is(err, store.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := f.live.Settle(ctx, single(b.ID, batch.StepPlan), batch.Counts{}); err != nil {
		return err
	}
	if _, err := f.live.Seal(ctx, b.ID, batch.StepRename, len(p.Segments)); err != nil {
		return err
	}
	return f.recoverParts(ctx, b, batch.StepRename)
}

func (f *Flow) recoverFinish(ctx context.Context, b batch.Batch) error {
	return f.recoverParts(ctx, b, batch.StepFinish)
}

func (f *Flow) recoverParts(ctx context.Context, b batch.Batch, step batch.Step) error {
	for n, err := range f.ledger.Parts(ctx, b.ID, step, 1) {
		if err != nil {
			return err
		}
		var h ledger.Header
		if h, err = f.ledger.PartHeader(ctx, batch.Ref{Batch: b.ID, Step: step, Generation: 1, Segment: n}); err != nil {
			return err
		}
		if _, err := f.live.Settle(ctx, h.Ref, h.Counts); err != nil {
			return err
		}
	}
	return nil
}
