package command

import (
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
)

// listed is one batch in `list --json`, a line each.
type listed struct {
	batch.Batch
	Status batch.Status `json:"status"`
}

func (a *app) listCommand() *cobra.Command {
	var limit int
	var open, asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List batches, the newest first",
		Args:  cobra.NoArgs,
	}
	cmd.Flags().IntVarP(&limit, "limit", "n", 20, "list `N` batches at most; 0 for all")
	cmd.Flags().BoolVar(&open, "open", false, "only those that are not over")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a line of JSON for each")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		d, err := a.look(cmd, asJSON)
		if err != nil {
			return err
		}
		defer d.close()
		rows, err := statuses(cmd, d, limit, open)
		if err != nil {
			return err
		}
		if !asJSON {
			return a.showList(rows)
		}
		for _, r := range rows {
			if err := printLine(a.env.Stdout, r); err != nil {
				return err
			}
		}
		return nil
	}
	return cmd
}

func statuses(cmd *cobra.Command, d *desk, limit int, open bool) ([]listed, error) {
	var rows []listed
	ask := limit
	if open {
		ask = 0
	}
	found, err := newest(cmd.Context(), d.ledger, ask, anyID, anyBatch)
	if err != nil {
		return nil, err
	}
	for _, b := range found {
		s, err := d.ledger.Status(cmd.Context(), b)
		if err != nil {
			return nil, err
		}
		if open && s.State.Over() {
			continue
		}
		if rows = append(rows, listed{b, s}); limit > 0 && len(rows) == limit {
			break
		}
	}
	return rows, nil
}

func (a *app) showList(rows []listed) error {
	if len(rows) == 0 {
		return a.print("no batches\n")
	}
	tw := tabwriter.NewWriter(a.env.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "BATCH\tKIND\tSTATE\tSUBMITTED\tARCHIVE\tNAME")
	for _, r := range rows {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\n", r.ID, r.Kind, r.Status, local(r.Submitted), shownRoot(r.Archive), archive.EscapeText(r.Name))
	}
	return tw.Flush()
}

// local is a time for a person, in this machine's time zone.
func local(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05") }
