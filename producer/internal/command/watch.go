package command

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/store"
)

func (a *app) watchCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:               "watch BATCH",
		Short:             "Show the progress of a batch that a fleet or another process works on",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeBatch,
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the result as JSON when it is there")
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		p, err := a.where(cmd)
		if err != nil {
			return err
		}
		var d *desk
		if p.fleet {
			d, err = a.openFleet(cmd, p, asJSON)
		} else {
			d, err = a.look(cmd, asJSON)
		}
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, d.close()) }()
		ctx := cmd.Context()
		b, err := resolve(ctx, d.ledger, args[0])
		if err != nil {
			return err
		}
		about(ctx, b)
		a.tell("batch %s", b.ID)
		status, err := a.watch(ctx, d, b)
		if ctx.Err() != nil {
			return exitError{code: ExitInterrupted}
		}
		if err != nil {
			return err
		}
		return a.concludeWatching(ctx, d, b, status, carrying{json: asJSON})
	}
	return cmd
}

func (a *app) watch(ctx context.Context, d *desk, b batch.Batch) (batch.Status, error) {
	if d.fleet {
		return a.newFollower(d, b).until(ctx, whenOver)
	}
	return a.watchBeside(ctx, d, b)
}

func (a *app) concludeWatching(ctx context.Context, d *desk, b batch.Batch, s batch.Status, o carrying) error {
	if s.State == batch.AwaitingApproval && !s.Paused {
		if err := a.decideNothing(ctx, d, b, o); err != nil {
			return err
		}
		return a.awaiting(ctx, d, b, o)
	}
	return a.conclude(ctx, d, b, s, o)
}

// decideNothing shows the plan that awaits approval.
func (a *app) decideNothing(ctx context.Context, d *desk, b batch.Batch, o carrying) error {
	if o.json {
		return nil
	}
	p, sum, err := d.ledger.Plan(ctx, b.ID)
	if err != nil {
		return err
	}
	a.display.Clear()
	return planScreen{batch: b, plan: p, digest: sum}.write(a.env.Stdout)
}

// besideEvery is the time between two looks at a ledger that another process of this machine works on.
const besideEvery = time.Second

// watchBeside shows what the process that works on this machine's ledger writes down, until that changes nothing any more.
func (a *app) watchBeside(ctx context.Context, d *desk, b batch.Batch) (batch.Status, error) {
	defer a.display.Clear()
	tick := time.NewTicker(besideEvery)
	defer tick.Stop()
	for {
		who, err := a.env.InUse(d.root.Path())
		if err != nil {
			return batch.Status{}, err
		}
		s, err := d.ledger.Status(ctx, b)
		if err != nil || s.State.Over() || s.Paused || s.State == batch.AwaitingApproval {
			return s, err
		}
		if who == "" {
			return s, stop(ExitNotRun, "batch %s is %s, and no process works on it\nGo on with:  %s", b.ID, s, a.commandLine("resume", string(b.ID)))
		}
		p, err := d.ledger.SavedProgress(ctx, b.ID)
		if err != nil && !errors.Is(err, store.ErrNotExist) {
			return s, err
		}
		if err == nil {
			p.Status = s
			a.display.Show(stateOf(p, b.Method(), nil))
		}
		select {
		case <-ctx.Done():
			return s, ctx.Err()
		case <-tick.C:
		}
	}
}
