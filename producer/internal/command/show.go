package command

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
)

// shownBatch is what `show --json` prints.
type shownBatch struct {
	result
	Submission batch.Batch   `json:"submission"`
	Events     []batch.Event `json:"events"`
}

func (a *app) showCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:               "show BATCH",
		Short:             "Show what a batch is, what happened to it, and what can be done next",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeBatch,
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		d, err := a.look(cmd, asJSON)
		if err != nil {
			return err
		}
		defer d.close()
		ctx := cmd.Context()
		b, err := resolve(ctx, d.ledger, args[0])
		if err != nil {
			return err
		}
		about(ctx, b)
		s := shownBatch{Submission: b}
		if s.result, err = resultOf(ctx, d, b); err != nil {
			return err
		}
		if s.Events, err = d.ledger.Events(ctx, b.ID, 0); err != nil {
			return err
		}
		if asJSON {
			return a.printJSON(s)
		}
		return a.showBatch(s)
	}
	return cmd
}

func (a *app) showBatch(s shownBatch) error {
	var text strings.Builder
	s.describe(&text)
	fmt.Fprintln(&text)
	for _, e := range s.Events {
		fmt.Fprintf(&text, "%s  %s\n", local(e.At), eventText(e))
	}
	if s.Summary != nil {
		fmt.Fprintln(&text)
		if err := s.Summary.Text(&text); err != nil {
			return err
		}
		fmt.Fprintf(&text, "Report: %s\n", s.Report)
	}
	if next := a.nextCommands(s); next != "" {
		fmt.Fprintf(&text, "\n%s", next)
	}
	return a.print("%s", text.String())
}

func (s shownBatch) describe(w io.Writer) {
	b := s.Submission
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(name, text string) {
		if text != "" {
			fmt.Fprintf(tw, "%s\t%s\n", name, text)
		}
	}
	line("batch", string(b.ID))
	line("kind", string(b.Kind))
	line("state", s.Status.String())
	line("reason", archive.EscapeText(s.Status.Reason))
	line("archive", shownRoot(b.Archive))
	line("undoes", string(b.Undoes))
	if b.Edits != nil {
		line("plan is", partText(b.Edits.Part)+" the plan of batch "+string(b.Edits.Batch)+", "+b.Edits.Digest)
	}
	if b.Renaming != nil {
		line("template", archive.EscapeText(b.Renaming.Template))
		line("on conflict", conflictText(*b.Renaming))
		line("method", string(b.Renaming.Method))
		line("profile", string(b.Renaming.Profile))
		line("time zone", archive.EscapeText(b.Renaming.TimeZone))
		for _, s := range b.Renaming.Shifts {
			line("clock shift", archive.EscapeText(s.String()))
		}
		line("maps", escapedList(slices.Sorted(maps.Keys(b.Renaming.Maps))))
	}
	if b.Manifest {
		line("objects", manifestText(b.Kind))
	}
	line("include", escapedList(b.Filter.Include))
	line("exclude", escapedList(b.Filter.Exclude))
	line("digests", b.Digests.String())
	line("metadata", string(b.Level))
	line("pool", b.Pool+", priority "+string(s.Status.Priority))
	line("name", archive.EscapeText(b.Name))
	line("note", archive.EscapeText(b.Note))
	line("labels", escapedList(b.Labels))
	line("submitted", local(b.Submitted)+" by "+archive.EscapeText(b.By))
	if s.Plan != nil {
		line("plan", fmt.Sprintf("%s of %s to be %s, %s", commas(s.Plan.Summary.Moves), plural(s.Plan.Summary.Rows, "object"), verbsOf(b).participle, s.Plan.Digest))
	}
	_ = tw.Flush() // to a strings.Builder
}

// manifestText is what the manifest of a batch is for.
func manifestText(k batch.Kind) string {
	if k == batch.Edit {
		return "rows of that plan"
	}
	return "those that a manifest names"
}

func escapedList(values []string) string { return archive.EscapeText(strings.Join(values, ", ")) }

// eventText is an event in words.
func eventText(e batch.Event) string {
	text := string(e.Kind)
	switch e.Kind {
	case batch.EventAdvance:
		text = "is " + string(e.To)
	case batch.EventApprove:
		text = "plan " + e.Plan + " approved"
	case batch.EventPriority:
		text = "priority " + string(e.Priority)
	}
	if e.Reason != "" {
		text += ": " + archive.EscapeText(e.Reason)
	}
	if e.By != "" && e.By != "flow" {
		text += ", by " + archive.EscapeText(e.By)
	}
	return text
}

// nextCommands are what a person may want to do now.
func (a *app) nextCommands(s shownBatch) string {
	id := string(s.Batch)
	line := func(what, verb string) string {
		return fmt.Sprintf("%-11s %s\n", what+":", a.commandLine(verb, id))
	}
	switch st := s.Status; {
	case st.State.Over():
		if s.Summary != nil && s.Summary.Renamed > 0 {
			return line("undo it", "undo")
		}
		return ""
	case st.Paused:
		return line("go on", "resume") + line("cancel it", "cancel")
	case st.State == batch.AwaitingApproval:
		return line("see it", "plan") + line("apply it", "apply") + line("cancel it", "cancel")
	}
	return line("watch it", "watch") + line("go on", "resume") + line("cancel it", "cancel")
}
