package command

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/flow"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/queue"
	"github.com/reshelf/reshelf/shared/store"
)

// place is where batches live: this machine, or a fleet.
type place struct {
	fleet  bool
	redis  queue.Address
	ledger archive.Root
}

// desk is an open place, or only its ledger.
type desk struct {
	place
	ledger *ledger.Ledger
	root   archive.Root // of the ledger
	flow   *flow.Flow   // nil where only the ledger is open
	full   <-chan error // see Installation.LedgerFull
	close  func() error
}

// where reads the flags that say where batches live.
func (a *app) where(cmd *cobra.Command) (place, error) {
	p := place{fleet: a.place.redis != ""}
	if p.fleet {
		address, err := queue.AddressFrom(a.place.redis, a.env.Getenv)
		if err != nil {
			return p, badUsage(cmd, "--redis: %w", err)
		}
		p.redis = address
	}
	text := a.place.ledger
	if text == "" && p.fleet {
		return p, badUsage(cmd, "--redis needs --ledger: the ledger that all workers share")
	}
	if text == "" {
		dir, err := a.env.DefaultLedger()
		if err != nil {
			return p, err
		}
		text = dir
	}
	root, err := parseRoot(text)
	if err != nil {
		return p, badUsage(cmd, "--ledger: %w", err)
	}
	if !p.fleet && root.Scheme() != archive.SchemeFile {
		return p, badUsage(cmd, "--ledger %s: on this machine the ledger is a directory; for a fleet give --redis too", root)
	}
	p.ledger = root
	return p, nil
}

// parseRoot reads a path, which may be relative, or a URL. Symbolic links in a path are followed, as far as it exists.
func parseRoot(text string) (archive.Root, error) {
	if strings.Contains(text, "://") {
		return archive.ParseRoot(text)
	}
	if text == "" {
		return archive.Root{}, fmt.Errorf("%w: it is empty", archive.ErrRoot)
	}
	if strings.HasPrefix(text, archive.SchemeS3+":") { // its user part, which is not repeated, may be a secret
		return archive.Root{}, fmt.Errorf("%w: want s3://bucket/prefix, with two slashes, or ./s3:... for a folder of that name", archive.ErrRoot)
	}
	path, err := filepath.Abs(text)
	if err != nil {
		return archive.Root{}, err
	}
	return archive.FileRoot(resolved(path))
}

// resolved is path without symbolic links. What does not exist cannot be one.
func resolved(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	dir, base := filepath.Split(filepath.Clean(path))
	if dir == "" || base == "" || dir == path {
		return path
	}
	return filepath.Join(resolved(filepath.Clean(dir)), base)
}

// look opens only the ledger, to read it. quiet leaves the line out that says where it is.
func (a *app) look(cmd *cobra.Command, quiet bool) (*desk, error) {
	p, err := a.where(cmd)
	if err != nil {
		return nil, err
	}
	st, err := a.env.OpenStore(cmd.Context(), a.place.stores, p.ledger)
	if errors.Is(err, store.ErrUnavailable) && p.ledger.Scheme() != archive.SchemeFile {
		return nil, stop(ExitNotRun, "the ledger cannot be read: %v", err) // which says why: the bucket, the credentials, the server
	}
	if errors.Is(err, store.ErrUnavailable) {
		return nil, stop(ExitNotRun, "no ledger at %s: no batch was made there yet, or --ledger is another", shownRoot(p.ledger))
	}
	if err != nil {
		return nil, err
	}
	if !quiet {
		a.tell("%s", p.line(ledgerSize(cmd.Context(), st), ""))
	}
	return &desk{place: p, ledger: ledger.New(st), root: p.ledger, close: st.Close}, nil
}

// work opens the place so that batches can be made and carried on. On this machine this process does the work.
func (a *app) work(cmd *cobra.Command, doing string, quiet bool) (*desk, error) {
	p, err := a.where(cmd)
	if err != nil {
		return nil, err
	}
	if p.fleet {
		return a.openFleet(cmd, p, quiet)
	}
	in, err := a.env.StartMachine(cmd.Context(), a.machine(p, doing))
	if err != nil {
		return nil, err
	}
	return a.opened(cmd.Context(), p, in, quiet, ""), nil
}

func (a *app) machine(p place, doing string) MachineOptions {
	return MachineOptions{Dir: p.ledger.Path(), Stores: a.place.stores, Slots: a.place.slots, ExifTool: a.place.exiftool, Doing: doing,
		Tracer: a.tracing.tracer(), Meter: a.tracing.meter(), Log: a.log}
}

func (a *app) openFleet(cmd *cobra.Command, p place, quiet bool) (*desk, error) {
	ctx := cmd.Context()
	in, err := a.env.OpenFleet(ctx, FleetOptions{Redis: p.redis, Prefix: a.place.prefix, Ledger: p.ledger, Stores: a.place.stores, Log: a.log})
	if err != nil {
		return nil, err
	}
	alive := ", no worker alive"
	if workers, err := in.Flow.Live().Workers(ctx); err != nil {
		return nil, errors.Join(err, in.Close())
	} else if n := countAlive(workers); n > 0 {
		alive = fmt.Sprintf(", %s alive", plural(int64(n), "worker"))
	}
	return a.opened(ctx, p, in, quiet, alive), nil
}

func (a *app) opened(ctx context.Context, p place, in Installation, quiet bool, more string) *desk {
	for _, w := range in.Warnings {
		a.tell("warning: %s", w)
	}
	if !quiet {
		size := ""
		if !p.fleet {
			size = ledgerSize(ctx, in.Flow.Ledger().Store())
		}
		a.tell("%s", p.line(size, more))
	}
	return &desk{place: p, ledger: in.Flow.Ledger(), root: p.ledger, flow: in.Flow, full: in.LedgerFull, close: in.Close}
}

// silentAfter is how long a worker may be silent and still count as alive.
const silentAfter = 6 * time.Second

func countAlive(workers []ledger.Worker) int {
	n := 0
	for _, w := range workers {
		if w.Silent < silentAfter {
			n++
		}
	}
	return n
}

// line says where batches live.
func (p place) line(size, more string) string {
	if p.fleet {
		return fmt.Sprintf("fleet, Redis %s, ledger %s%s", p.redis, p.ledger, more)
	}
	return fmt.Sprintf("this machine, ledger %s%s", shownRoot(p.ledger), size)
}

// shownRoot is a root for a person: a path where it is one.
func shownRoot(r archive.Root) string {
	if r.Scheme() == archive.SchemeFile {
		return archive.EscapeText(r.Path())
	}
	return r.String()
}

// sizingTakes bounds the time for adding up a ledger: a large one has hundreds of thousands of files.
const sizingTakes = 200 * time.Millisecond

// ledgerSize is " (1.2 MiB)", or "" if it cannot be told.
func ledgerSize(ctx context.Context, st store.Store) string {
	ctx, cancel := context.WithTimeout(ctx, sizingTakes)
	defer cancel()
	var n int64
	for e, err := range st.List(ctx, store.ListOptions{}) {
		if ctx.Err() != nil {
			return fmt.Sprintf(" (more than %s)", humanize.IBytes(uint64(n)))
		}
		if err != nil {
			return ""
		}
		n += e.Size
	}
	return fmt.Sprintf(" (%s)", humanize.IBytes(uint64(n)))
}

func plural(n int64, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return humanize.Comma(n) + " " + noun
}
