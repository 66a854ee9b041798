package command

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/reshelf/reshelf/shared/batch"
)

func (a *app) resumeCommand() *cobra.Command {
	var yes, asJSON bool
	cmd := &cobra.Command{
		Use:   "resume BATCH",
		Short: "Go on with a batch that was paused or interrupted",
		Long: "Goes on with a batch that was paused, interrupted, or lost with Redis. What is finished is not done again. Where the\n" +
			"batch's plan awaits approval it is shown, as by rename.",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeBatch,
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "approve the plan without asking, if it awaits that")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the result as JSON")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if done, err := a.completeAlready(cmd, args[0]); done || err != nil {
			return err
		}
		return a.carryExisting(cmd, args[0], "resume", carrying{yes: yes, json: asJSON}, notOver)
	}
	return cmd
}

// completeAlready says so where there is nothing to go on with, which is no failure: it may have ended just before.
func (a *app) completeAlready(cmd *cobra.Command, text string) (bool, error) {
	d, err := a.look(cmd, true)
	if err != nil {
		return false, err
	}
	defer d.close()
	b, err := resolve(cmd.Context(), d.ledger, text)
	if err != nil {
		return false, err
	}
	s, err := d.ledger.Status(cmd.Context(), b)
	if err != nil || s.State != batch.Complete {
		return false, err
	}
	about(cmd.Context(), b)
	a.tell("batch %s is complete already", b.ID)
	return true, nil
}

// notOver checks that something can still happen to a batch.
func notOver(ctx context.Context, d *desk, b batch.Batch) error {
	s, err := d.ledger.Status(ctx, b)
	if err != nil {
		return err
	}
	if s.State.Over() {
		return stop(ExitNotRun, "batch %s is over: it is %s", b.ID, s)
	}
	return nil
}
