package command

import (
	"context"
	"errors"
	"slices"

	"github.com/spf13/cobra"

	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/store"
)

// moving is how --outcome names rows that are to be renamed; their outcome is empty.
const moving = "rename"

// planFlags choose what of a plan is printed.
type planFlags struct {
	csv, json         bool
	edited            string // FILE
	outcomes, reasons []string
}

func planOutcomes() []string { return []string{moving, string(batch.Skipped), string(batch.Failed)} }

func (a *app) planCommand() *cobra.Command {
	var o planFlags
	cmd := &cobra.Command{
		Use:   "plan BATCH",
		Short: "Show a plan, print its rows, or plan again as a person has edited them",
		Long: "Shows a plan: numbers first, then examples. --csv and --json print its rows.\n\n" +
			"--edited takes the rows back, as --csv prints them, with other names in the column \"to\". A row whose \"to\" is empty, or\n" +
			"that is missing, is left out. It makes a new batch with a new plan, which is checked like any other, and withdraws the\n" +
			"plan that was edited. Nothing is renamed: `reshelf apply` carries out the new plan.",
		Example: "  reshelf plan last\n" +
			"  reshelf plan last --csv --outcome failed\n" +
			"  reshelf plan last --json --reason same-target\n" +
			"  reshelf plan last --csv > plan.csv; edit plan.csv; reshelf plan last --edited plan.csv",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeBatch,
	}
	f := cmd.Flags()
	f.BoolVar(&o.csv, "csv", false, "print rows as CSV")
	f.BoolVar(&o.json, "json", false, "print rows as lines of JSON")
	f.StringArrayVar(&o.outcomes, "outcome", nil, "only rows with this `OUTCOME`: rename, skipped or failed; may be repeated")
	f.StringArrayVar(&o.reasons, "reason", nil, "only rows with this `REASON`; may be repeated")
	f.StringVar(&o.edited, "edited", "", "plan again by the rows in `FILE` (- for standard input)")
	cmd.MarkFlagsMutuallyExclusive("csv", "json")
	completeWith(cmd, "outcome", planOutcomes())
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		for _, outcome := range o.outcomes {
			if _, err := choice(cmd, "outcome", outcome, planOutcomes()); err != nil {
				return err
			}
		}
		if cmd.Flags().Changed("edited") {
			return a.editPlan(cmd, args[0], o)
		}
		if !o.rows() && len(o.outcomes)+len(o.reasons) > 0 {
			return badUsage(cmd, "--outcome and --reason choose among rows: give --csv or --json too")
		}
		d, err := a.look(cmd, o.rows())
		if err != nil {
			return err
		}
		defer d.close()
		return a.showPlan(cmd.Context(), d, args[0], o)
	}
	return cmd
}

// rows reports whether rows are asked for, rather than the screen.
func (o planFlags) rows() bool { return o.csv || o.json }

func (a *app) showPlan(ctx context.Context, d *desk, text string, o planFlags) error {
	b, p, sum, err := planOf(ctx, d, text)
	if err != nil {
		return err
	}
	switch {
	case o.csv:
		return writePlan(ctx, d, p, a.env.Stdout, o.wanted)
	case o.json:
		return a.planLines(ctx, d, p, o.wanted)
	}
	screen := planScreen{batch: b, plan: p, digest: sum}
	key := ledger.Key(b.ID, planCSVName)
	if _, err := d.ledger.Store().Stat(ctx, key); err == nil {
		screen.csv = d.shownKey(key)
	}
	return screen.write(a.env.Stdout)
}

func planOf(ctx context.Context, d *desk, text string) (batch.Batch, batch.Plan, string, error) {
	b, err := resolve(ctx, d.ledger, text)
	if err != nil {
		return b, batch.Plan{}, "", err
	}
	about(ctx, b)
	p, sum, err := d.ledger.Plan(ctx, b.ID)
	if errors.Is(err, store.ErrNotExist) {
		s, statusErr := d.ledger.Status(ctx, b)
		return b, p, sum, errors.Join(statusErr, stop(ExitNotRun, "batch %s has no plan: it is of kind %s and %s", b.ID, b.Kind, s))
	}
	return b, p, sum, err
}

func (o planFlags) wanted(r batch.Row) bool {
	outcome := string(r.Outcome)
	if r.Moves() {
		outcome = moving
	}
	return (len(o.outcomes) == 0 || slices.Contains(o.outcomes, outcome)) &&
		(len(o.reasons) == 0 || slices.Contains(o.reasons, string(r.Reason)))
}

func (a *app) planLines(ctx context.Context, d *desk, p batch.Plan, want func(batch.Row) bool) error {
	for r, err := range d.ledger.Rows(ctx, p) {
		if err != nil {
			return err
		}
		if !want(r) {
			continue
		}
		if err := printLine(a.env.Stdout, r); err != nil {
			return err
		}
	}
	return nil
}
