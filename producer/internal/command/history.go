package command

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/reshelf/reshelf/producer/internal/history"
	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
)

// shownHistory is what `history --json` prints. docs/commands.md describes it.
type shownHistory struct {
	V       int              `json:"v"`
	Objects []history.Object `json:"objects"`
}

func (a *app) historyCommand() *cobra.Command {
	var in string
	var limit int
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "history KEY",
		Short: "Show where an object came from, and where it went, through all batches of the ledger",
		Long: "Shows every rename and undo of each object that had the key at any time, the newest first, back to its first name and\n" +
			"on to its present one. KEY is below the archive, or for an archive on a disk the object's path. Only the ledger is\n" +
			"read: what others renamed is not known. Exit code 1: no batch renamed an object from or to that key.",
		Example: "  reshelf history 2024/05/20240501-101500_X100.jpg\n  reshelf history ~/Pictures/IMG_0001.jpg --json",
		Args:    cobra.ExactArgs(1),
	}
	cmd.Flags().StringVar(&in, "archive", "", "only in this `ARCHIVE`")
	cmd.Flags().IntVarP(&limit, "limit", "n", 100, "show `N` moves of each object at most; 0 for all")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		d, err := a.look(cmd, asJSON)
		if err != nil {
			return err
		}
		defer d.close()
		h, err := history.Open(cmd.Context(), d.ledger, func(id batch.ID) {
			a.tell("batch %s has no index of names: its whole plan is read, which may take a while", id)
		})
		if err != nil {
			return err
		}
		roots := h.Roots()
		if in != "" {
			root, err := parseRoot(in)
			if err != nil {
				return usageError{err, cmd.CommandPath()}
			}
			roots = []archive.Root{root}
		}
		objects, err := a.histories(cmd, h, roots, args[0], limit)
		if err != nil {
			return err
		}
		return a.showHistory(objects, args[0], asJSON)
	}
	return cmd
}

// histories follows the key in each archive where it may be. Archives that lie in each other may find the same object.
func (a *app) histories(cmd *cobra.Command, h *history.History, roots []archive.Root, text string, limit int) ([]history.Object, error) {
	objects := []history.Object{}
	var wrong error
	tried := false
	for _, root := range roots {
		key, err := keyArgument(root, text)
		if err != nil {
			wrong = err
			continue
		}
		tried = true
		found, err := h.Of(cmd.Context(), root, key, limit)
		if err != nil {
			return nil, err
		}
		for _, o := range found {
			same := func(other history.Object) bool {
				return len(other.Moves) == len(o.Moves) && other.Moves[0] == o.Moves[0]
			}
			if !slices.ContainsFunc(objects, same) {
				objects = append(objects, o)
			}
		}
	}
	if !tried && wrong != nil {
		return nil, badUsage(cmd, "%w", wrong)
	}
	return objects, context.Cause(cmd.Context())
}

func (a *app) showHistory(objects []history.Object, text string, asJSON bool) error {
	if asJSON {
		if err := a.printJSON(shownHistory{1, objects}); err != nil {
			return err
		}
	}
	if len(objects) == 0 {
		return stop(ExitSomeFailed, "no batch in this ledger renamed an object from or to %s", archive.EscapeText(text))
	}
	if asJSON {
		return nil
	}
	var b strings.Builder
	for i, o := range objects {
		if i > 0 {
			b.WriteString("\n")
		}
		writeObject(&b, o)
	}
	return a.print("%s", b.String())
}

func writeObject(b *strings.Builder, o history.Object) {
	fmt.Fprintf(b, "%s in %s, first %s\n", o.Last.Text(), shownRoot(o.Archive), o.First.Text())
	if o.Lost {
		b.WriteString("Another object was given that name later: this one was moved or deleted by somebody else before.\n")
	}
	tw := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	for _, m := range o.Moves {
		fmt.Fprintf(tw, "  %s\t%s\t%s -> %s\t%s\t%s\n", local(m.Began), m.Batch, m.From.Text(), m.To.Text(), outcomeText(m), howText(m))
	}
	_ = tw.Flush() // to a strings.Builder
	if o.More {
		b.WriteString("  and more: --limit 0 shows all\n")
	}
}

func outcomeText(m history.Move) string {
	switch {
	case m.Outcome == "":
		return "under way"
	case m.Reason != "":
		return string(m.Outcome) + ": " + string(m.Reason)
	case m.Method == batch.MethodCopy:
		return "copied"
	case m.Method == batch.MethodLink:
		return "hard-linked"
	}
	return string(m.Outcome)
}

func howText(m history.Move) string {
	switch m.Kind {
	case batch.Undo:
		return "undoes " + string(m.Undoes)
	case batch.Edit:
		return "an edited plan"
	}
	return archive.EscapeText(m.Template)
}
