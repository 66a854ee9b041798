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

func (a *app) planCommand() *cobra.Command {
	var asCSV, asJSON bool
	var outcomes, reasons []string
	cmd := &cobra.Command{
		Use:   "plan BATCH",
		Short: "Show a plan, or print its rows",
		Example: "  reshelf plan last\n" +
			"  reshelf plan last --csv --outcome failed\n" +
			"  reshelf plan last --json --reason same-target",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeBatch,
	}
	f := cmd.Flags()
	f.BoolVar(&asCSV, "csv", false, "print rows as CSV")
	f.BoolVar(&asJSON, "json", false, "print rows as lines of JSON")
	f.StringArrayVar(&outcomes, "outcome", nil, "only rows with this `OUTCOME`: rename, skipped or failed; may be repeated")
	f.StringArrayVar(&reasons, "reason", nil, "only rows with this `REASON`; may be repeated")
	cmd.MarkFlagsMutuallyExclusive("csv", "json")
	completeWith(cmd, "outcome", []string{moving, string(batch.Skipped), string(batch.Failed)})
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		for _, o := range outcomes {
			if _, err := choice(cmd, "outcome", o, []string{moving, string(batch.Skipped), string(batch.Failed)}); err != nil {
				return err
			}
		}
		rows := asCSV || asJSON
		if !rows && len(outcomes)+len(reasons) > 0 {
			return badUsage(cmd, "--outcome and --reason choose among rows: give --csv or --json too")
		}
		d, err := a.look(cmd, rows)
		if err != nil {
			return err
		}
		defer d.close()
		ctx := cmd.Context()
		b, p, sum, err := planOf(ctx, d, args[0])
		if err != nil {
			return err
		}
		want := func(r batch.Row) bool { return wanted(r, outcomes, reasons) }
		switch {
		case asCSV:
			return writePlan(ctx, d, p, a.env.Stdout, want)
		case asJSON:
			return a.planLines(ctx, d, p, want)
		}
		screen := planScreen{batch: b, plan: p, digest: sum}
		key := ledger.Key(b.ID, planCSVName)
		if _, err := d.ledger.Store().Stat(ctx, key); err == nil {
			screen.csv = d.shownKey(key)
		}
		return screen.write(a.env.Stdout)
	}
	return cmd
}

func planOf(ctx context.Context, d *desk, text string) (batch.Batch, batch.Plan, string, error) {
	b, err := resolve(ctx, d.ledger, text)
	if err != nil {
		return b, batch.Plan{}, "", err
	}
	p, sum, err := d.ledger.Plan(ctx, b.ID)
	if errors.Is(err, store.ErrNotExist) {
		s, statusErr := d.ledger.Status(ctx, b)
		return b, p, sum, errors.Join(statusErr, stop(ExitNotRun, "batch %s has no plan: it is of kind %s and %s", b.ID, b.Kind, s))
	}
	return b, p, sum, err
}

func wanted(r batch.Row, outcomes, reasons []string) bool {
	outcome := string(r.Outcome)
	if r.Moves() {
		outcome = moving
	}
	return (len(outcomes) == 0 || slices.Contains(outcomes, outcome)) &&
		(len(reasons) == 0 || slices.Contains(reasons, string(r.Reason)))
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
