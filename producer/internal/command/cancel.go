package command

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/reshelf/reshelf/shared/batch"
)

func (a *app) cancelCommand() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "cancel BATCH",
		Short: "Cancel a batch; what is renamed stays renamed, and is in the report",
		Long: "Cancels a batch. Segments in hand end quickly, what was not reached is reported as skipped, and the report is written.\n" +
			"What was renamed stays renamed: `reshelf undo` reverses it.",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeBatch,
	}
	cmd.Flags().StringVar(&reason, "reason", "", "say `WHY`, for the report")
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		ctx := cmd.Context()
		b, err := a.find(cmd, args[0], notOver)
		if err != nil {
			return err
		}
		d, alone, err := a.control(cmd, "cancel "+string(b.ID))
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, d.close()) }()
		if alone {
			if err := d.flow.Recover(ctx, b.ID); err != nil {
				return err
			}
		}
		if err := cancel(ctx, d, b, reason); err != nil {
			return err
		}
		if !alone {
			return a.print("batch %s is cancelled; its report follows when its segments in hand have ended\n", b.ID)
		}
		return a.carryCancelled(ctx, d, b)
	}
	return cmd
}

// cancel records the decision, unless it was made before.
func cancel(ctx context.Context, d *desk, b batch.Batch, reason string) error {
	s, err := d.ledger.Status(ctx, b)
	if err != nil || s.Cancelled {
		return err
	}
	_, err = d.flow.Decide(ctx, b.ID, batch.Event{Kind: batch.EventCancel, Reason: reason, By: by()})
	return err
}

// carryCancelled sees a cancelled batch to its end, which is what was asked for.
func (a *app) carryCancelled(ctx context.Context, d *desk, b batch.Batch) error {
	status, err := a.newFollower(d, b).until(ctx, whenOver)
	if ctx.Err() != nil {
		return a.interrupted(d, b)
	}
	if err != nil {
		return err
	}
	if status.State != batch.Cancelled {
		return a.conclude(ctx, d, b, status, carrying{})
	}
	s, err := readSummary(ctx, d, b.ID)
	if err != nil {
		return err
	}
	return a.showSummary(d, s, carrying{})
}

// control opens the place for a decision. Alone says that this process does the work: nobody else has the ledger in hand.
func (a *app) control(cmd *cobra.Command, doing string) (d *desk, alone bool, err error) {
	p, err := a.where(cmd)
	if err != nil {
		return nil, false, err
	}
	if p.fleet {
		d, err = a.openFleet(cmd, p, false)
		return d, false, err
	}
	in, err := a.env.StartMachine(cmd.Context(), a.machine(p, doing))
	if err == nil {
		return a.opened(cmd.Context(), p, in, false, ""), true, nil
	}
	if !errors.Is(err, ErrInUse) {
		return nil, false, err
	}
	if in, err = a.env.JoinMachine(cmd.Context(), a.machine(p, doing)); err != nil {
		return nil, false, err
	}
	return a.opened(cmd.Context(), p, in, false, ", in use by another process"), false, nil
}
