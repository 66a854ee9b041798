package command

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
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
	for _, w := range workers {
		if err := a.print("%s", describeWorker(w)); err != nil {
			return err
		}
	}
	return nil
}

// describeWorker is a paragraph for one worker.
func describeWorker(w shownWorker) string {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "  %-9s %s\n", name, archive.EscapeText(fmt.Sprintf(format, args...)))
	}
	fmt.Fprintf(&b, "%s\n", archive.EscapeText(fmt.Sprintf("%s on %s, version %s, up %s, last seen %s", w.ID, w.Process.Host, w.Version,
		time.Since(w.Started).Round(time.Second), seen(w.Worker))))
	line("serves", "pools %s; roots %v", strings.Join(w.Pools, ", "), w.Roots)
	line("slots", "%d of %d busy", w.Busy, w.Slots)
	for _, h := range w.InHand {
		line("in hand", "%s, %s, segment %d, attempt %d: %d objects, %s", h.Batch, h.Step, h.Segment, h.Attempt, h.Objects, humanize.IBytes(uint64(max(0, h.Bytes))))
	}
	line("speed", "%.1f objects/s, %s/s", w.ObjectsPerSecond, humanize.IBytes(uint64(max(0, w.BytesPerSecond))))
	line("memory", "%s, its ExifTool processes included", humanize.IBytes(uint64(max(0, w.Memory))))
	if len(w.ExifTool) == 0 && w.ExifToolVersion != "" {
		line("exiftool", "%s, no process: nothing to read", w.ExifToolVersion)
	}
	for _, e := range w.ExifTool {
		line("exiftool", "%s, level %s, process %d, %d restarts", e.Version, e.Level, e.PID, e.Restarts)
	}
	line("checks", "%s", checks(w.Worker))
	return b.String()
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
