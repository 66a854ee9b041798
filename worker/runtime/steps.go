package runtime

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/flow"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/listing"
	"github.com/reshelf/reshelf/worker/internal/dispatch"
	"github.com/reshelf/reshelf/worker/internal/finishing"
	"github.com/reshelf/reshelf/worker/internal/inspecting"
	"github.com/reshelf/reshelf/worker/internal/planning"
	"github.com/reshelf/reshelf/worker/internal/renaming"
)

// steps do the work of each step.
type steps struct {
	flow      *flow.Flow
	inspector *inspecting.Inspector
	self      ledger.Process
	exiftool  string
	slots     int
	log       *slog.Logger
}

func (s steps) all() map[batch.Step]dispatch.Step {
	return map[batch.Step]dispatch.Step{
		batch.StepList:    s.list,
		batch.StepInspect: s.inspect,
		batch.StepPlan:    s.plan,
		batch.StepRename:  s.rename,
		batch.StepFinish:  s.finish,
	}
}

func (s steps) list(ctx context.Context, j dispatch.Job, _ *ledger.PartWriter) error {
	made := func(ctx context.Context, h ledger.Header) error {
		j.Execution.Advance(h.Objects, 0)
		return s.flow.Made(ctx, j.Batch, h)
	}
	previous, err := s.flow.Previous(ctx, j.Batch)
	if err != nil {
		return err
	}
	total, err := listing.List(ctx, j.Execution, s.flow.Ledger(), j.Archive, j.Batch, listing.Options{Previous: previous, Parallel: 8 * s.slots}, made)
	if err != nil {
		return err
	}
	return s.flow.Sealed(ctx, j.Batch, total)
}

// inspect does the objects that never hurt anybody first, then the suspects, each alone in a process of its own.
func (s steps) inspect(ctx context.Context, j dispatch.Job, w *ledger.PartWriter) error {
	seg, err := s.flow.Ledger().Segment(ctx, j.Ref())
	if err != nil {
		return err
	}
	x := j.Execution
	var finished map[archive.Key]batch.Record
	if x.Claim.Attempt > 1 {
		if finished, err = s.flow.Ledger().Partial(ctx, j.Ref()); err != nil {
			return err
		}
	}
	var suspects []int
	for i, o := range seg.Objects {
		if r, ok := finished[o.Key]; ok {
			x.Advance(1, 0)
			if err := w.Add(r); err != nil {
				return err
			}
			continue
		}
		if _, ok := x.Claim.Suspects[i]; ok && o.Problem == "" {
			suspects = append(suspects, i)
			continue
		}
		if err := s.one(ctx, j, w, seg.Objects[i], i, s.inspector.Inspect); err != nil {
			return err
		}
	}
	for _, i := range suspects {
		if err := s.suspect(ctx, j, w, seg.Objects[i], i); err != nil {
			return err
		}
	}
	x.Working(-1, false)
	return nil
}

type inspectFunc = inspecting.Func

func (s steps) one(ctx context.Context, j dispatch.Job, w *ledger.PartWriter, o batch.Listed, index int, inspect inspectFunc) error {
	x := j.Execution
	switch {
	case x.Lost():
		return flow.ErrLost
	case x.Cancelled() && o.Problem == "":
		return w.Add(batch.Record{Object: o.Object, Outcome: batch.Skipped, Reason: batch.ReasonCancelled})
	}
	x.Working(index, false)
	r, err := inspect(ctx, j.Archive, j.Batch, o, func(n int64) { x.Advance(0, n) })
	if err != nil {
		return err
	}
	x.Advance(1, 0)
	return w.Add(r)
}

func (s steps) plan(ctx context.Context, j dispatch.Job, _ *ledger.PartWriter) error {
	x, led := j.Execution, s.flow.Ledger()
	var err error
	if j.Batch.Kind == batch.Undo {
		err = planning.Undo(ctx, x, led, j.Archive, j.Batch, x.Claim.Epoch, s.ended, func(what string) {
			s.log.InfoContext(ctx, "undo waits", "batch", j.Batch.ID, "for", what)
		})
	} else {
		err = planning.Plan(ctx, x, led, j.Archive, j.Batch, x.Claim.Epoch, planning.Options{})
	}
	if err != nil && x.Cancelled() && ctx.Err() == nil {
		return nil
	}
	return err
}

// ended reports whether an execution will certainly move nothing more.
func (s steps) ended(_ context.Context, e ledger.Execution) (bool, error) {
	return flow.Gone(e.Process)
}

func (s steps) rename(ctx context.Context, j dispatch.Job, w *ledger.PartWriter) error {
	p, _, err := s.flow.Ledger().Plan(ctx, j.Batch.ID)
	if err != nil {
		return err
	}
	exec := ledger.Execution{Ref: j.Ref(), Epoch: j.Execution.Claim.Epoch, Process: s.self}
	return renaming.Rename(ctx, j.Execution, s.flow.Ledger(), j.Archive, j.Batch, p, j.Ref().Segment, exec, w)
}

func (s steps) finish(ctx context.Context, j dispatch.Job, _ *ledger.PartWriter) error {
	st, err := s.flow.Ledger().Status(ctx, j.Batch)
	if err != nil {
		return err
	}
	return finishing.Finish(ctx, j.Execution, s.flow.Ledger(), j.Batch, st, time.Now().UTC())
}

var errNoRecord = errors.New("the process ended without a record")
