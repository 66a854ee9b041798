package command

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/ledger"
)

// shownWorker is one worker in `workers --json`, a line each.
type shownWorker struct {
	ledger.Worker
	SilentSeconds float64 `json:"silentSeconds"`
	Alive         bool    `json:"alive"`
}

func (a *app) workersCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "workers",
		Short: "Show the workers of a fleet, or who works on this machine",
		Args:  cobra.NoArgs,
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a line of JSON for each")
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		p, err := a.where(cmd)
		if err != nil {
			return err
		}
		if !p.fleet {
			return a.localWorker(p, asJSON)
		}
		d, err := a.openFleet(cmd, p, asJSON)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, d.close()) }()
		workers, err := d.flow.Live().Workers(cmd.Context())
		if err != nil {
			return err
		}
		if !asJSON {
			return a.showWorkers(workers)
		}
		for _, w := range workers {
			row := shownWorker{w, w.Silent.Seconds(), w.Silent < silentAfter}
			if err := printLine(a.env.Stdout, row); err != nil {
				return err
			}
		}
		return nil
	}
	return cmd
}

// localWorker says who works on this machine's ledger: the process of one command at a time.
func (a *app) localWorker(p place, asJSON bool) error {
	who, err := a.env.InUse(p.ledger.Path())
	if err != nil || asJSON && who == "" {
		return err
	}
	if asJSON {
		return printLine(a.env.Stdout, struct {
			InUse string `json:"inUse"`
		}{who})
	}
	a.tell("%s", p.line("", ""))
	if who == "" {
		return a.print("nobody works on this ledger now; on this machine a command does its work itself\n")
	}
	return a.print("%s\n", archive.EscapeText(who))
}

func (a *app) showWorkers(workers []ledger.Worker) error {
	if len(workers) == 0 {
		return a.print("no workers\n")
	}
	tw := tabwriter.NewWriter(a.env.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "WORKER\tHOST\tVERSION\tPOOLS\tSLOTS\tUP\tLAST SEEN\tHEALTH\tROOTS")
	for _, w := range workers {
		var roots []string
		for _, r := range w.Roots {
			roots = append(roots, r.String())
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%d of %d busy\t%s\t%s\t%s\t%s\n", archive.EscapeText(w.ID), archive.EscapeText(w.Process.Host),
			archive.EscapeText(w.Version), archive.EscapeText(strings.Join(w.Pools, ",")), w.Busy, w.Slots,
			time.Since(w.Started).Round(time.Second), seen(w), health(w), strings.Join(roots, ","))
	}
	return tw.Flush()
}

func seen(w ledger.Worker) string {
	text := w.Silent.Round(100*time.Millisecond).String() + " ago"
	if w.Silent >= silentAfter {
		text += ", silent"
	}
	return text
}

func health(w ledger.Worker) string {
	var bad []string
	for _, name := range slices.Sorted(maps.Keys(w.Health)) {
		if w.Health[name] != "" {
			bad = append(bad, archive.EscapeText(name+": "+w.Health[name]))
		}
	}
	if bad == nil {
		return "ok"
	}
	return strings.Join(bad, "; ")
}
