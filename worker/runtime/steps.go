package runtime

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/flow"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/listing"
	"github.com/reshelf/reshelf/shared/store/storeurl"
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
	stores    *storeurl.Opener
	slots     int
	log       *slog.Logger
	inHand    *inHand
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

// inspect does the objects that never hurt anybody first, several at once where the archive asks for it, then the
// suspects, each alone in a process of its own.
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
	var others, suspects []int
	for i, o := range seg.Objects {
		_, done := finished[o.Key]
		_, suspect := x.Claim.Suspects[i]
		if suspect && !done && o.Problem == "" {
			suspects = append(suspects, i)
		} else {
			others = append(others, i)
		}
	}
	err = s.abreast(ctx, j, w, others, func(ctx context.Context, i int) (batch.Record, error) {
		if r, ok := finished[seg.Objects[i].Key]; ok {
			x.Advance(1, 0)
			return r, nil
		}
		return s.one(ctx, j, seg.Objects[i], i, s.inspector.Inspect)
	})
	if err != nil {
		return err
	}
	for _, i := range suspects {
		r, err := s.suspect(ctx, j, seg.Objects[i], i)
		if err == nil {
			err = w.Add(r)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// abreast makes records of objects, as many at once as the archive asks for, and adds them to w in the given order. The
// first error cancels the others; when it is returned they have ended, and w has the records that were made by then.
func (s steps) abreast(ctx context.Context, j dispatch.Job, w *ledger.PartWriter, objects []int,
	record func(ctx context.Context, index int) (batch.Record, error),
) error {
	width := max(1, j.Archive.Properties().Parallel)
	if j.Batch.Level != batch.LevelNone {
		width = max(2, width) // while ExifTool reads one, the next is made ready and the last recorded
	}
	width = min(width, ledger.MaxInHand)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(width)
	line := newLineup(w, lead*width)
	var stopped error
	for place, index := range objects {
		if stopped = line.enter(ctx); stopped != nil {
			break
		}
		group.Go(func() error {
			r, err := record(ctx, index)
			if err != nil {
				return err
			}
			return line.put(place, r)
		})
	}
	err := group.Wait() // the first error; stopped may be what followed from it
	if err == nil {
		err = stopped
	}
	return errors.Join(err, line.rest())
}

type inspectFunc = inspecting.Func

func (s steps) one(ctx context.Context, j dispatch.Job, o batch.Listed, index int, inspect inspectFunc) (batch.Record, error) {
	x := j.Execution
	switch {
	case x.Lost():
		return batch.Record{}, flow.ErrLost
	case ctx.Err() != nil:
		return batch.Record{}, context.Cause(ctx)
	case x.Cancelled() && o.Problem == "":
		return batch.Record{Object: o.Object, Outcome: batch.Skipped, Reason: batch.ReasonCancelled}, nil
	}
	x.Begin(index, false)
	defer x.Finish(index)
	r, err := inspect(ctx, j.Archive, j.Batch, o, func(n int64) { x.Advance(0, n) })
	if err != nil {
		return batch.Record{}, err
	}
	x.Advance(1, 0)
	return r, nil
}

func (s steps) plan(ctx context.Context, j dispatch.Job, _ *ledger.PartWriter) error {
	x, led := j.Execution, s.flow.Ledger()
	var err error
	switch j.Batch.Kind {
	case batch.Undo:
		err = planning.Undo(ctx, x, led, j.Archive, j.Batch, x.Claim.Epoch, s.ended, func(what string) {
			s.log.InfoContext(ctx, "undo waits", "batch", j.Batch.ID, "for", what)
		})
	case batch.Edit:
		err = planning.Edit(ctx, x, led, j.Archive, j.Batch, x.Claim.Epoch, planning.Options{})
	default:
		err = planning.Plan(ctx, x, led, j.Archive, j.Batch, x.Claim.Epoch, planning.Options{})
	}
	if err != nil && x.Cancelled() && ctx.Err() == nil {
		return nil
	}
	return err
}

// ended reports whether an execution will certainly move nothing more.
func (s steps) ended(ctx context.Context, e ledger.Execution) (bool, error) {
	return s.inHand.ended(ctx, s.flow.Ledger(), s.self, e)
}

func (s steps) rename(ctx context.Context, j dispatch.Job, w *ledger.PartWriter) error {
	p, _, err := s.flow.Ledger().Plan(ctx, j.Batch.ID)
	if err != nil {
		return err
	}
	exec := ledger.Execution{Ref: j.Ref(), Epoch: j.Execution.Claim.Epoch, Process: s.self, Again: j.Execution.Claim.Attempt > 1}
	defer s.inHand.take(exec)()
	return renaming.Rename(ctx, j.Execution, s.flow.Ledger(), j.Archive, renaming.Segment{
		Batch: j.Batch, Plan: p, Execution: exec, Ended: s.ended, Note: func(what string) {
			s.log.InfoContext(ctx, "rename waits", "batch", j.Batch.ID, "segment", exec.Segment, "for", what)
		},
	}, w)
}

func (s steps) finish(ctx context.Context, j dispatch.Job, _ *ledger.PartWriter) error {
	st, err := s.flow.Ledger().Status(ctx, j.Batch)
	if err != nil {
		return err
	}
	return finishing.Finish(ctx, j.Execution, s.flow.Ledger(), j.Batch, st, time.Now().UTC())
}

var errNoRecord = errors.New("the process ended without a record")
