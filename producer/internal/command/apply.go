package command

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/flow"
	"github.com/reshelf/reshelf/shared/store"
)

func (a *app) applyCommand() *cobra.Command {
	var plan string
	var asJSON bool
	var sample int64
	cmd := &cobra.Command{
		Use:   "apply BATCH",
		Short: "Carry out a plan that awaits approval",
		Long: "Carries out a plan that awaits approval.\n\n" +
			"With --sample only about N rows are carried out, drawn at random, with what belongs to them. They are a batch of their own,\n" +
			"which can be undone; the rest is another one, whose plan awaits approval. Exit code 3 says so.",
		Example:           "  reshelf apply last\n  reshelf apply 01jd8q --plan 9f86d081884c\n  reshelf apply last --sample 20",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeBatch,
	}
	cmd.Flags().StringVar(&plan, "plan", "", "only if the plan's `DIGEST` is this one, or begins with it")
	addSample(cmd, &sample)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the result as JSON")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if cmd.Flags().Changed("plan") && (len(plan) < minDigest || strings.Trim(strings.ToLower(plan), "0123456789abcdef") != "") {
			return badUsage(cmd, "--plan %q is no digest of a plan: want at least %d hexadecimal digits", plan, minDigest)
		}
		if err := checkSample(cmd, sample); err != nil {
			return err
		}
		return a.carryExisting(cmd, args[0], "apply", carrying{yes: true, json: asJSON, sample: sample}, func(ctx context.Context, d *desk, b batch.Batch) error {
			err := applicable(ctx, d, b, plan)
			if err == nil && sample > 0 {
				err = editable(ctx, d, b)
			}
			return err
		})
	}
	return cmd
}

// minDigest is the least number of hexadecimal digits that stand for a plan.
const minDigest = 8

// applicable checks that a batch has that plan, that it awaits approval, and that nothing stops it.
func applicable(ctx context.Context, d *desk, b batch.Batch, plan string) error {
	s, err := d.ledger.Status(ctx, b)
	if err != nil {
		return err
	}
	p, sum, err := d.ledger.Plan(ctx, b.ID)
	switch {
	case errors.Is(err, store.ErrNotExist):
		return stop(ExitNotRun, "batch %s has no plan: it is %s", b.ID, s)
	case err != nil:
		return err
	case !strings.HasPrefix(sum, strings.ToLower(plan)):
		return stop(ExitNotRun, "batch %s: the plan is not %q but %s", b.ID, plan, sum)
	case s.State != batch.AwaitingApproval:
		return stop(ExitNotRun, "batch %s awaits no approval: it is %s", b.ID, s)
	case len(flow.Blocked(b, p)) > 0:
		return stop(ExitSomeFailed, "batch %s: the plan has conflicts and cannot be carried out: %v; make another with another --on-conflict, or edit it",
			b.ID, flow.Blocked(b, p))
	}
	return nil
}

// carryExisting finds a batch, checks it, takes it in hand again where that is needed, and carries it on.
func (a *app) carryExisting(cmd *cobra.Command, text, verb string, o carrying, check func(context.Context, *desk, batch.Batch) error) (err error) {
	ctx := cmd.Context()
	b, err := a.find(cmd, text, check)
	if err != nil {
		return err
	}
	d, err := a.work(cmd, fmt.Sprintf("%s %s", verb, b.ID), o.json)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	if err := check(ctx, d, b); err != nil {
		return err
	}
	if err := d.flow.Recover(ctx, b.ID); err != nil {
		return a.noSpace(d, b, err)
	}
	if err := a.wake(ctx, d, b); err != nil {
		return a.noSpace(d, b, err)
	}
	a.tell("batch %s", b.ID)
	return a.carry(ctx, d, b, o)
}

// find resolves a batch and checks it without taking the ledger.
func (a *app) find(cmd *cobra.Command, text string, check func(context.Context, *desk, batch.Batch) error) (batch.Batch, error) {
	d, err := a.look(cmd, true)
	if err != nil {
		return batch.Batch{}, err
	}
	defer d.close()
	b, err := resolve(cmd.Context(), d.ledger, text)
	if err != nil {
		return b, err
	}
	about(cmd.Context(), b)
	return b, check(cmd.Context(), d, b)
}

// wake resumes a batch that is paused.
func (a *app) wake(ctx context.Context, d *desk, b batch.Batch) error {
	s, err := d.ledger.Status(ctx, b)
	if err != nil || !s.Paused {
		return err
	}
	_, err = d.flow.Decide(ctx, b.ID, batch.Event{Kind: batch.EventResume, By: by()})
	return err
}
