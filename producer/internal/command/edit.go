package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/reshelf/reshelf/producer/internal/editing"
	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/telemetry"
)

// editPlan makes a batch that plans anew by the rows of an edited plan. The order matters: nothing is changed before the file is
// known to fit the plan, and the plan that was edited is withdrawn before there is another one for the same objects.
func (a *app) editPlan(cmd *cobra.Command, text string, o planFlags) (err error) {
	ctx := cmd.Context()
	switch {
	case o.edited == "":
		return badUsage(cmd, "--edited wants a file, or - for standard input")
	case o.csv || len(o.outcomes)+len(o.reasons) > 0:
		return badUsage(cmd, "--edited plans anew: --csv, --outcome and --reason print rows of a plan that there is")
	}
	base, err := a.find(cmd, text, editable)
	if err != nil {
		return err
	}
	p, err := a.where(cmd)
	if err != nil {
		return err
	}
	b := newEdit(ctx, p, base)
	if err := a.reachable(ctx, p, b); err != nil {
		return err
	}
	d, err := a.work(cmd, fmt.Sprintf("plan %s anew", base.ID), o.json)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	counts, replaced, err := a.takeEdits(ctx, d, &b, base, o.edited)
	if err != nil {
		return a.notSubmitted(ctx, d, b, errors.Join(err, remove(context.WithoutCancel(ctx), d.ledger, b.ID)))
	}
	if err := d.flow.Submit(context.WithoutCancel(ctx), b); err != nil { // the other plan is withdrawn by now
		return fmt.Errorf("the plan of batch %s is withdrawn, and the new one could not be submitted; give the same file once more: %w", base.ID, err)
	}
	a.tell("batch %s plans %s anew: %s renamed otherwise, %s left out", b.ID, base.ID, plural(counts.Renamed, "row"), plural(counts.LeftOut, "row"))
	for _, other := range append(replaced, base) {
		if err := a.endWithdrawn(ctx, d, other); err != nil {
			return a.noSpace(d, b, err)
		}
	}
	return a.carry(ctx, d, b, carrying{only: true, json: o.json})
}

// newEdit is an edit of the plan of a batch, without the plan.
func newEdit(ctx context.Context, p place, base batch.Batch) batch.Batch {
	b := base
	now := time.Now().UTC()
	b.ID, b.Kind, b.Submitted, b.By, b.Traceparent = newID(now), batch.Edit, now, by(), telemetry.Traceparent(ctx)
	b.Manifest, b.Filter, b.Digests, b.Level, b.TrustStoreChecksums = true, batch.Filter{}, 0, "", false
	if !p.fleet {
		b.Pool = defaultPool
	}
	options := *base.Renaming
	options.Approved = false
	if !options.OnConflict.KeepsNames() { // what a person writes is what the object is called
		options.OnConflict, options.ConflictTemplate = batch.ConflictStop, ""
	}
	b.Renaming = &options
	batchIs(ctx, b.ID)
	return b
}

// takeEdits stores the edited rows, and withdraws the plan that they were made from; where that was done before, the plans that were
// made from it since. It returns the batches that were withdrawn.
func (a *app) takeEdits(ctx context.Context, d *desk, b *batch.Batch, base batch.Batch, file string) (editing.Counts, []batch.Batch, error) {
	replaced, err := a.replaceable(ctx, d, base)
	if err != nil {
		return editing.Counts{}, nil, err
	}
	plan, digest, err := d.ledger.Plan(ctx, base.ID)
	if err != nil {
		return editing.Counts{}, nil, err
	}
	b.Edits = &batch.PlanRef{Batch: base.ID, Digest: digest}
	if err := b.Validate(); err != nil {
		return editing.Counts{}, nil, err
	}
	in := io.NopCloser(a.env.Stdin)
	if file != "-" {
		if in, err = os.Open(file); err != nil {
			return editing.Counts{}, nil, fmt.Errorf("edited plan: %w", err)
		}
	}
	counts, err := editing.Store(ctx, d.ledger, b.ID, plan, in)
	if err = errors.Join(err, in.Close()); err != nil {
		return counts, nil, fmt.Errorf("edited plan %s: %w", archive.EscapeText(file), err)
	}
	for _, other := range replaced {
		if err := d.flow.Recover(ctx, other.ID); err != nil {
			return counts, nil, err
		}
		why := "its plan was edited"
		if other.ID != base.ID {
			why = "the plan that it was made from was edited once more"
		}
		if err := withdraw(ctx, d, other, fmt.Sprintf("%s: batch %s", why, b.ID)); err != nil {
			return counts, nil, err
		}
	}
	return counts, replaced, nil
}

// replaceable are those of a batch that is to be edited and the ones that were made from its plan which await approval. It is an error
// if its plan cannot be edited, or one of these is at work: of two plans for the same objects each would count what the other one has
// renamed.
func (a *app) replaceable(ctx context.Context, d *desk, base batch.Batch) ([]batch.Batch, error) {
	if err := editable(ctx, d, base); err != nil {
		return nil, err
	}
	s, err := d.ledger.Status(ctx, base)
	if err != nil || !s.Withdrawn() {
		return []batch.Batch{base}, err // nothing is made from a plan before it is withdrawn
	}
	edits, err := newest(ctx, d.ledger, 0, anyID, func(b batch.Batch) bool { return b.Kind == batch.Edit })
	if err != nil {
		return nil, err
	}
	slices.Reverse(edits) // what was made from another one is younger
	made, out := map[batch.ID]bool{base.ID: true}, []batch.Batch{}
	for _, b := range edits {
		if !made[b.Edits.Batch] {
			continue
		}
		made[b.ID] = true
		switch s, err := d.ledger.Status(ctx, b); {
		case err != nil:
			return nil, err
		case s.State.Over() || s.Withdrawn():
		case s.State != batch.AwaitingApproval:
			return nil, stop(ExitNotRun, "batch %s, which was made from the plan of batch %s, is %s: finish it first (%s) or cancel it (%s)", b.ID, base.ID, s,
				a.commandLine("resume", string(b.ID)), a.commandLine("cancel", string(b.ID)))
		default:
			out = append(out, b)
		}
	}
	return out, nil
}

// withdraw withdraws a plan for what is to take its place. Once begun it is not interrupted, so that nobody is told that nothing
// was changed where it was.
func withdraw(ctx context.Context, d *desk, base batch.Batch, reason string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return d.flow.Withdraw(context.WithoutCancel(ctx), base.ID, reason, by())
}

// editable checks that a batch has a plan that nothing was or will be renamed by unless somebody approves it.
func editable(ctx context.Context, d *desk, b batch.Batch) error {
	s, err := d.ledger.Status(ctx, b)
	if err != nil {
		return err
	}
	if b.Kind != batch.Rename && b.Kind != batch.Edit {
		return stop(ExitNotRun, "batch %s: a plan of kind %s cannot be edited", b.ID, b.Kind)
	}
	if s.State != batch.AwaitingApproval && !s.Withdrawn() {
		return stop(ExitNotRun, "batch %s: its plan can be edited only while it awaits approval: it is %s", b.ID, s)
	}
	_, _, _, err = planOf(ctx, d, string(b.ID))
	return err
}

// endWithdrawn sees a batch that was withdrawn to its end, where this process does the work.
func (a *app) endWithdrawn(ctx context.Context, d *desk, b batch.Batch) error {
	if d.fleet {
		return nil
	}
	_, err := a.newFollower(d, b).until(ctx, whenOver)
	if ctx.Err() != nil {
		return nil // carry says how to go on
	}
	return err
}
