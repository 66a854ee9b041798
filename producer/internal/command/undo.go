package command

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/store"
)

func (a *app) undoCommand() *cobra.Command {
	var s batchFlags
	var yes bool
	cmd := &cobra.Command{
		Use:   "undo BATCH",
		Short: "Reverse the renames of a batch, after showing what can be reversed",
		Long: "Plans the renames of a batch backwards and shows what it will reverse, and what it cannot and why. On a terminal it\n" +
			"then asks; elsewhere it stops with exit code 3, unless --yes is given. \"last\" is the newest batch that renamed objects\n" +
			"and was not undone.",
		Example:           "  reshelf undo last\n  reshelf undo 01jd8q --yes",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeBatch,
	}
	s.add(cmd)
	s.addSingleWriter(cmd)
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "rename back without asking")
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		undoes, err := a.undoable(cmd, args[0])
		if err != nil {
			return err
		}
		if !cmd.Flags().Changed("pool") {
			s.pool = undoes.Pool
		}
		s.assumeSingleWriter = s.assumeSingleWriter || undoes.AssumeSingleWriter
		b, err := s.newBatch(cmd, batch.Undo, undoes.Archive)
		if err != nil {
			return err
		}
		b.Undoes = undoes.ID
		if err := b.Validate(); err != nil {
			return usageError{err, cmd.CommandPath()}
		}
		return a.undo(cmd, b, &s, carrying{yes: yes, json: s.json})
	}
	return cmd
}

func (a *app) undo(cmd *cobra.Command, b batch.Batch, s *batchFlags, o carrying) (err error) {
	ctx := cmd.Context()
	p, err := a.where(cmd)
	if err != nil {
		return err
	}
	if s.detach && !p.fleet {
		return badUsage(cmd, "--detach needs a fleet (--redis): on this machine this command does the work")
	}
	if !p.fleet {
		b.Pool = defaultPool // the undone batch may be a fleet's
	}
	if err := a.reachable(ctx, p, b); err != nil {
		return err
	}
	d, err := a.work(cmd, fmt.Sprintf("undo %s", b.Undoes), o.json)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	if err := a.submit(ctx, d, b, &submission{}); err != nil {
		return a.notSubmitted(ctx, d, b, err)
	}
	if s.detach {
		return a.detached(d, b, o)
	}
	a.tell("batch %s undoes %s", b.ID, b.Undoes)
	return a.carry(ctx, d, b, o)
}

// undoable finds the batch to undo. It must be over, so that nothing of it moves any more.
func (a *app) undoable(cmd *cobra.Command, text string) (batch.Batch, error) {
	d, err := a.look(cmd, true)
	if err != nil {
		return batch.Batch{}, err
	}
	defer d.close()
	ctx := cmd.Context()
	if text == last {
		return lastRename(ctx, d)
	}
	b, err := resolve(ctx, d.ledger, text)
	if err != nil {
		return b, err
	}
	if !b.Kind.Has(batch.StepRename) {
		return b, stop(ExitNotRun, "batch %s renames nothing: it is of kind %s", b.ID, b.Kind)
	}
	s, err := d.ledger.Status(ctx, b)
	if err != nil {
		return b, err
	}
	if !s.State.Over() {
		return b, stop(ExitNotRun, "batch %s is %s: finish it first (%s) or cancel it (%s)", b.ID, s,
			a.commandLine("resume", string(b.ID)), a.commandLine("cancel", string(b.ID)))
	}
	if s.Approved == "" {
		return b, stop(ExitNotRun, "batch %s renamed nothing: its plan was never approved", b.ID)
	}
	return b, nil
}

// lastRename is the newest rename batch that renamed objects and was not undone, or not wholly.
func lastRename(ctx context.Context, d *desk) (batch.Batch, error) {
	undone := map[batch.ID]bool{}
	found, err := newest(ctx, d.ledger, 0, anyID, func(b batch.Batch) bool { return b.Kind != batch.Inspect })
	if err != nil {
		return batch.Batch{}, err
	}
	for _, b := range found {
		s, err := d.ledger.Status(ctx, b)
		if err != nil {
			return b, err
		}
		switch {
		case b.Kind == batch.Undo && s.Approved != "" && !undone[b.ID]:
			if undone[b.Undoes], err = wholly(ctx, d, b.ID); err != nil {
				return b, err
			}
		case b.Kind == batch.Undo || s.Approved == "" || undone[b.ID]:
		case !s.State.Over():
			return b, stop(ExitNotRun, "the last batch that renames, %s, is %s: resume it or cancel it first", b.ID, s)
		default:
			return b, nil
		}
	}
	return batch.Batch{}, stop(ExitNotRun, "no batch in this ledger renamed anything that was not undone")
}

// wholly reports whether an undo left nothing that could be undone again.
func wholly(ctx context.Context, d *desk, id batch.ID) (bool, error) {
	s, err := readSummary(ctx, d, id)
	if errors.Is(err, store.ErrNotExist) {
		return true, nil // it is at work
	}
	return s.Counts.Failed == 0, err
}
