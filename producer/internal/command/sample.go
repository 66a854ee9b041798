package command

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/reshelf/reshelf/producer/internal/editing"
	"github.com/reshelf/reshelf/shared/batch"
)

func addSample(cmd *cobra.Command, n *int64) {
	cmd.Flags().Int64Var(n, "sample", 0, "rename only about `N` objects, drawn at random; the rest of the plan awaits approval")
}

func checkSample(cmd *cobra.Command, n int64) error {
	if cmd.Flags().Changed("sample") && n < 1 {
		return badUsage(cmd, "--sample %d: want at least 1", n)
	}
	return nil
}

// carrySample divides an approved plan into a sample and the rest, a batch each, and carries out the sample. The rest is planned
// before anything moves. It returns nil if the sample is the whole plan, which is approved then; else an error that says how the
// command ends.
func (a *app) carrySample(ctx context.Context, d *desk, p planScreen, o carrying) error {
	sample, rest := partOf(ctx, d, p, batch.Sample), partOf(ctx, d, p, batch.Rest)
	rest.ID = newID(sample.Submitted.Add(time.Millisecond)) // so "apply last" takes the rest, and "undo last" the sample
	drawn, left, err := a.divide(ctx, d, p, sample, rest, o.sample)
	if err != nil || left == 0 {
		clean := context.WithoutCancel(ctx)
		err = errors.Join(err, remove(clean, d.ledger, sample.ID), remove(clean, d.ledger, rest.ID))
		if err == nil {
			_, err = d.flow.Decide(ctx, p.batch.ID, batch.Event{Kind: batch.EventApprove, Plan: p.digest, By: by()})
		}
		return err
	}
	// The sample comes first, since the rest says of the sample's rows that another batch has them.
	for _, part := range []batch.Batch{sample, rest} {
		if err := d.flow.Submit(context.WithoutCancel(ctx), part); err != nil { // the other plan is withdrawn by now
			return stop(ExitNotRun, "the plan of batch %s is withdrawn, and the %s could not be submitted: %v\n%s",
				p.batch.ID, part.Edits.Part, err, a.howToEdit(p.batch))
		}
	}
	a.tell("batch %s is a sample of %s, batch %s the rest, %s", sample.ID, plural(drawn, "object"), rest.ID, plural(left, "object"))
	if _, err := a.newFollower(d, rest).until(ctx, whenPlanned); err != nil && ctx.Err() == nil {
		return err
	}
	if err := a.endWithdrawn(ctx, d, p.batch); err != nil {
		return err
	}
	carried := a.carry(ctx, d, sample, carrying{yes: true, json: o.json})
	end := a.sayRest(context.WithoutCancel(ctx), d, sample, rest)
	if carried != nil {
		return carried
	}
	return end
}

// sayRest says where the rest of a plan stands after its sample, and how to go on. Its error is how the command ends where all went
// well with the sample.
func (a *app) sayRest(ctx context.Context, d *desk, sample, rest batch.Batch) error {
	r, err := resultOf(ctx, d, rest)
	if err != nil {
		return err
	}
	awaits := r.Status.State == batch.AwaitingApproval && !r.Status.Paused && r.Plan != nil
	code, id := ExitNotRun, string(rest.ID)
	switch {
	case awaits && len(r.Plan.Blocked) > 0:
		code = ExitSomeFailed
		a.tell("The rest of the plan, %s, cannot be carried out: it has conflicts, %v, and --on-conflict is %s.\n%sTo drop it:  %s",
			plural(r.Plan.Summary.Moves, "object"), r.Plan.Blocked, rest.Renaming.OnConflict, a.howToEdit(rest), a.commandLine("cancel", id))
	case awaits:
		code = ExitAwaiting
		a.tell("The rest of the plan, %s, awaits approval. To carry it out:  %s", plural(r.Plan.Summary.Moves, "object"), a.commandLine("apply", id))
	case r.Status.State.Over() || r.Status.State == batch.Finishing:
		code = ExitSomeFailed
		a.tell("Nothing of the rest of the plan can be renamed any more: batch %s is %s. To see why:  %s", id, r.Status, a.commandLine("plan", id))
	default:
		a.tell("The rest of the plan is batch %s, which is %s. To go on with it:  %s", id, r.Status, a.commandLine("resume", id))
	}
	if s, err := d.ledger.Status(ctx, sample); err == nil && s.Approved != "" && !sample.Copies() {
		a.tell("To take back the sample:  %s", a.commandLine("undo", string(sample.ID)))
	}
	return exitError{code: code}
}

// divide stores the rows of both parts, and withdraws the plan, unless nothing is left for the rest.
func (a *app) divide(ctx context.Context, d *desk, p planScreen, sample, rest batch.Batch, n int64) (drawn, left int64, err error) {
	if err := errors.Join(sample.Validate(), rest.Validate()); err != nil {
		return 0, 0, err
	}
	drawn, left, err = editing.Divide(ctx, d.ledger, sample.ID, rest.ID, p.plan, p.digest, n)
	switch {
	case err != nil || left == 0:
		return drawn, left, err
	case drawn == 0:
		return 0, left, stop(ExitNotRun, "batch %s: no sample can be drawn: each object waits for the name of another one", p.batch.ID)
	}
	reason := fmt.Sprintf("its plan was divided: batch %s is a sample, batch %s the rest", sample.ID, rest.ID)
	return drawn, left, withdraw(ctx, d, p.batch, reason)
}

// partOf is a batch of a part of a plan, whose rows keep the names that they have there.
func partOf(ctx context.Context, d *desk, p planScreen, part batch.Part) batch.Batch {
	b := newEdit(ctx, d.place, p.batch)
	if !p.batch.Renaming.OnConflict.KeepsNames() {
		b.Renaming.OnConflict = batch.ConflictSkip
	}
	b.Edits = &batch.PlanRef{Batch: p.batch.ID, Digest: p.digest, Part: part}
	return b
}
