package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"

	"github.com/spf13/cobra"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/listing"
	"github.com/reshelf/reshelf/shared/store"
)

// UndoCheck is what Environment.CheckUndo found.
type UndoCheck struct {
	// Plan is the one that the undo would have if it were made now; its rows are not kept.
	Plan batch.Plan
	// Busy says what may be moving objects meanwhile, a line each; escaped text.
	Busy []string
}

// CheckUndoFunc makes the plan of an undo without making the batch. named are the objects of its manifest, if it has one.
type CheckUndoFunc func(ctx context.Context, settings string, led *ledger.Ledger, b batch.Batch, named iter.Seq2[listing.Named, error]) (UndoCheck, error)

// undoCheck is what `undo --check --json` prints. docs/commands.md describes it.
type undoCheck struct {
	V       int          `json:"v"`
	Undoes  batch.ID     `json:"undoes"`
	Archive archive.Root `json:"archive"`
	Chosen  bool         `json:"chosen,omitempty"` // of chosen objects only
	// Objects are renamed back, would stay since they are back already or were never renamed, or cannot be renamed back.
	Can    int64 `json:"can"`
	Back   int64 `json:"back"`
	Cannot int64 `json:"cannot"`
	// Reasons count those that cannot.
	Reasons  map[batch.Reason]int64       `json:"reasons,omitempty"`
	Examples map[batch.Reason][]batch.Row `json:"examples,omitempty"`
	Bytes    int64                        `json:"bytes"` // of the objects that can
	Notes    []string                     `json:"notes,omitempty"`
	Busy     []string                     `json:"busy,omitempty"`
}

// checkUndo says what an undo would do. It makes no batch.
func (a *app) checkUndo(cmd *cobra.Command, b batch.Batch, s *undoFlags) (err error) {
	ctx := cmd.Context()
	d, err := a.look(cmd, s.json)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	objects, closeManifest, err := a.named(&s.submission)
	if err != nil {
		return err
	}
	found, err := a.env.CheckUndo(ctx, a.place.stores, d.ledger, b, untilDone(ctx, objects))
	if err = errors.Join(err, closeManifest()); errors.Is(err, store.ErrUnavailable) {
		return a.cannotCheck(b, d, err)
	}
	if err != nil {
		return err
	}
	c := newUndoCheck(b, found)
	if s.json {
		err = a.printJSON(c)
	} else {
		err = c.write(a.env.Stdout)
	}
	if err == nil && c.Cannot > 0 {
		return exitError{code: ExitSomeFailed}
	}
	return err
}

// cannotCheck says what else can be done where this machine cannot look at the archive.
func (a *app) cannotCheck(b batch.Batch, d *desk, err error) error {
	if !d.fleet {
		return stop(ExitNotRun, "archive %s: %v", shownRoot(b.Archive), err)
	}
	return stop(ExitNotRun, "archive %s cannot be looked at from this machine: %v\nHave a worker plan the undo, which renames nothing before it is approved:  %s",
		shownRoot(b.Archive), err, a.commandLine("undo", string(b.Undoes)))
}

func newUndoCheck(b batch.Batch, found UndoCheck) undoCheck {
	s := found.Plan.Summary
	c := undoCheck{
		V: 1, Undoes: b.Undoes, Archive: b.Archive, Chosen: b.Chooses(), Can: s.Moves, Back: s.Skipped[batch.ReasonUnchanged], Bytes: s.Bytes,
		Reasons: map[batch.Reason]int64{}, Examples: map[batch.Reason][]batch.Row{}, Notes: s.Notes, Busy: found.Busy,
	}
	for _, counts := range []map[batch.Reason]int64{s.Skipped, s.Failed} {
		for reason, n := range counts {
			if reason == batch.ReasonUnchanged {
				continue
			}
			c.Cannot += n
			c.Reasons[reason] += n
			c.Examples[reason] = s.Examples[reason]
		}
	}
	return c
}

func (c undoCheck) write(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Undo of batch %s\narchive %s\n", c.Undoes, shownRoot(c.Archive))
	fmt.Fprintf(&b, "  can be renamed back     %s\n", plural(c.Can, "object"))
	fmt.Fprintf(&b, "  back, or never renamed  %s\n", plural(c.Back, "object"))
	fmt.Fprintf(&b, "  cannot be renamed back  %s%s\n", plural(c.Cannot, "object"), reasons(c.Reasons))
	for _, note := range c.Notes {
		fmt.Fprintf(&b, "Note: %s\n", printable(note))
	}
	for _, line := range c.Busy {
		fmt.Fprintf(&b, "This may not stay so: %s\n", printable(line))
	}
	examples(&b, "Cannot be renamed back", c.Reasons, c.Examples)
	b.WriteString("Nothing was changed.\n")
	_, err := io.WriteString(w, b.String())
	return err
}
