package command

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/ledger"
)

// shownWorker is one worker in `workers --json`, a line each.
type shownWorker struct {
	ledger.Worker
	SilentSeconds float64  `json:"silentSeconds"`
	Alive         bool     `json:"alive"`
	InHand        []inHand `json:"inHand"`
}

// inHand is one segment that a worker has claimed.
type inHand struct {
	Batch   batch.ID   `json:"batch"`
	Step    batch.Step `json:"step"`
	Segment int        `json:"segment"`
	Attempt int        `json:"attempt"`
	// Objects and Bytes done so far.
	Objects int64 `json:"objects"`
	Bytes   int64 `json:"bytes"`
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
		workers, err := shownWorkers(cmd.Context(), d.flow.Live())
		if err != nil {
			return err
		}
		if !asJSON {
			return a.showWorkers(workers)
		}
		for _, w := range workers {
			if err := printLine(a.env.Stdout, w); err != nil {
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

// shownWorkers joins the registry with what the batches in hand say of their segments.
func shownWorkers(ctx context.Context, live *ledger.Live) ([]shownWorker, error) {
	workers, err := live.Workers(ctx)
	if err != nil {
		return nil, err
	}
	ids, err := live.Active(ctx)
	if err != nil {
		return nil, err
	}
	claimed := map[string][]inHand{}
	for _, id := range ids {
		p, err := live.Progress(ctx, id)
		if errors.Is(err, ledger.ErrNotLive) {
			continue // it has just ended
		}
		if err != nil {
			return nil, err
		}
		for _, e := range p.Window {
			if e.State == "c" {
				claimed[e.Worker] = append(claimed[e.Worker], inHand{id, e.Step, e.Segment, e.Attempt, e.Objects, e.Bytes})
			}
		}
	}
	out := make([]shownWorker, len(workers))
	for i, w := range workers {
		out[i] = shownWorker{w, w.Silent.Seconds(), w.Silent < silentAfter, claimed[w.ID]}
	}
	return out, nil
}

func (a *app) showWorkers(workers []shownWorker) error {
	if len(workers) == 0 {
		return a.print("no workers\n")
	}
	tw := tabwriter.NewWriter(a.env.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "WORKER\tHOST\tVERSION\tPOOLS\tSLOTS\tUP\tLAST SEEN\tCHECKS\tIN HAND\tROOTS")
	for _, w := range workers {
		var roots, hand []string
		for _, r := range w.Roots {
			roots = append(roots, r.String())
		}
		for _, h := range w.InHand {
			hand = append(hand, fmt.Sprintf("%s/%s/%d", h.Batch, h.Step, h.Segment))
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%d of %d busy\t%s\t%s\t%s\t%s\t%s\n", archive.EscapeText(w.ID), archive.EscapeText(w.Process.Host),
			archive.EscapeText(w.Version), archive.EscapeText(strings.Join(w.Pools, ",")), w.Busy, w.Slots,
			time.Since(w.Started).Round(time.Second), seen(w.Worker), checks(w.Worker), strings.Join(hand, ","), strings.Join(roots, ","))
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

// checks are the worker's checks by name.
func checks(w ledger.Worker) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(w.Health)) {
		state := " ok"
		if w.Health[name] != "" {
			state = ": " + w.Health[name]
		}
		parts = append(parts, archive.EscapeText(name+state))
	}
	return strings.Join(parts, "; ")
}
