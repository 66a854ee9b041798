package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/dustin/go-humanize"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/report"
	"github.com/reshelf/reshelf/shared/store"
)

// planScreen is a plan on one screen.
type planScreen struct {
	batch  batch.Batch
	plan   batch.Plan
	digest string
	csv    string // where the plan is as CSV, "" if nowhere
}

// verb of what the plan does: "Rename".
func (p planScreen) verb() string {
	v := verbsOf(p.batch).infinitive
	return strings.ToUpper(v[:1]) + v[1:]
}

// write prints the plan in one write, so that nothing comes between its lines.
func (p planScreen) write(w io.Writer) error {
	var b strings.Builder
	s := p.plan.Summary
	p.head(&b)
	p.counts(&b)
	for _, note := range s.Notes {
		fmt.Fprintf(&b, "Note: %s\n", printable(note))
	}
	examples(&b, "Failures", s.Failed, s.Examples)
	examples(&b, "Not "+verbsOf(p.batch).participle, skippedWorthShowing(s.Skipped), s.Examples)
	dates(&b, s.DateSources)
	if len(s.Sample) > 0 {
		fmt.Fprintf(&b, "Some of the %s\n", verbsOf(p.batch).nouns)
		for _, r := range s.Sample {
			fmt.Fprintf(&b, "  %s\n    -> %s\n", r.From.Text(), r.To.Text())
		}
	}
	if p.csv != "" {
		fmt.Fprintf(&b, "All rows: %s\n", p.csv)
	}
	fmt.Fprintf(&b, "Plan %s\n", p.digest)
	_, err := io.WriteString(w, b.String())
	return err
}

func (p planScreen) head(b *strings.Builder) {
	what := "Plan of batch " + string(p.batch.ID)
	if p.batch.Kind == batch.Undo {
		what += ", which undoes batch " + string(p.batch.Undoes)
	}
	fmt.Fprintf(b, "%s\narchive %s\n", what, shownRoot(p.batch.Archive))
	if p.batch.Kind == batch.Undo && p.batch.Chooses() {
		b.WriteString("of chosen objects only; the rest of the batch can be undone later\n")
	}
	if e := p.batch.Edits; e != nil {
		fmt.Fprintf(b, "%s the plan of batch %s, on conflict %s\n", partText(e.Part), e.Batch, p.batch.Renaming.OnConflict)
	} else if p.batch.Renaming != nil {
		fmt.Fprintf(b, "template %s, on conflict %s\n", archive.EscapeText(p.batch.Renaming.Template), conflictText(*p.batch.Renaming))
	}
}

// partText says what a batch has of the plan that it starts from.
func partText(p batch.Part) string {
	switch p {
	case batch.Sample:
		return "a sample of"
	case batch.Rest:
		return "without a sample, the rest of"
	}
	return "edited from"
}

func (p planScreen) counts(b *strings.Builder) {
	s := p.plan.Summary
	tw := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	more := ""
	if s.Numbered > 0 {
		more = fmt.Sprintf("; %s numbered", commas(s.Numbered))
	}
	if s.Second > 0 {
		more += fmt.Sprintf("; %s by the template for names that are taken", commas(s.Second))
	}
	if s.Chained > 0 {
		more += fmt.Sprintf("; %s in chains, one after another", commas(s.Chained))
	}
	fmt.Fprintf(tw, "  %s\t%s, %s%s\n", strings.ToLower(p.verb()), plural(s.Moves, "object"), humanize.IBytes(uint64(max(0, s.Bytes))), more)
	fmt.Fprintf(tw, "  leave\t%s%s\n", plural(total(s.Skipped), "object"), reasons(s.Skipped))
	fmt.Fprintf(tw, "  fail\t%s%s\n", plural(total(s.Failed), "object"), reasons(s.Failed))
	if p.batch.Copies() {
		fmt.Fprintf(tw, "  folders\tobjects in %s, %s in %s\n", commas(s.OldFolders), verbsOf(p.batch).nouns, commas(s.NewFolders))
	} else {
		fmt.Fprintf(tw, "  folders\t%s before, %s after\n", commas(s.OldFolders), commas(s.NewFolders))
	}
	tw.Flush() // to a strings.Builder, which cannot fail
}

func total(counts map[batch.Reason]int64) (n int64) {
	for _, c := range counts {
		n += c
	}
	return n
}

// byCount are the reasons, the commonest first.
func byCount(counts map[batch.Reason]int64) []batch.Reason {
	return slices.SortedFunc(maps.Keys(counts), func(a, b batch.Reason) int {
		if d := counts[b] - counts[a]; d != 0 {
			return int(max(-1, min(1, d)))
		}
		return strings.Compare(string(a), string(b))
	})
}

func reasons(counts map[batch.Reason]int64) string {
	var parts []string
	for _, r := range byCount(counts) {
		parts = append(parts, commas(counts[r])+" "+string(r))
	}
	if parts == nil {
		return ""
	}
	return ": " + strings.Join(parts, ", ")
}

// skippedWorthShowing leaves out what needs no example: objects that have their name already.
func skippedWorthShowing(counts map[batch.Reason]int64) map[batch.Reason]int64 {
	out := maps.Clone(counts)
	delete(out, batch.ReasonUnchanged)
	return out
}

// examples lists reasons with up to three rows each.
func examples(b *strings.Builder, title string, counts map[batch.Reason]int64, rows map[batch.Reason][]batch.Row) {
	if len(counts) == 0 {
		return
	}
	fmt.Fprintf(b, "%s\n", title)
	for _, reason := range byCount(counts) {
		fmt.Fprintf(b, "  %s: %s\n", reason, plural(counts[reason], "object"))
		for _, r := range rows[reason] {
			line := r.From.Text()
			if r.To != "" {
				line += " -> " + r.To.Text()
			}
			if r.Message != "" {
				line += ": " + printable(r.Message)
			}
			fmt.Fprintf(b, "    %s\n", line)
		}
	}
}

// maxSources bounds how many sources of dates are named.
const maxSources = 6

func dates(b *strings.Builder, sources map[string]int64) {
	if len(sources) == 0 {
		return
	}
	names := slices.SortedFunc(maps.Keys(sources), func(x, y string) int {
		if sources[x] != sources[y] {
			return int(max(-1, min(1, sources[y]-sources[x])))
		}
		return strings.Compare(x, y)
	})
	var parts []string
	for _, n := range names[:min(len(names), maxSources)] {
		parts = append(parts, commas(sources[n])+" "+archive.EscapeText(n))
	}
	if more := len(names) - maxSources; more > 0 {
		parts = append(parts, plural(int64(more), "other tag"))
	}
	fmt.Fprintf(b, "Dates are from: %s\n", strings.Join(parts, ", "))
}

// planCSVName is the plan as CSV beside its batch. It is created once, since a sealed plan never changes.
const planCSVName = "plan.csv"

// planCSV writes the plan as CSV beside the batch, if it is not there, and returns where it is.
func (a *app) planCSV(ctx context.Context, d *desk, b batch.Batch, p batch.Plan) (string, error) {
	key := ledger.Key(b.ID, planCSVName)
	if _, err := d.ledger.Store().Stat(ctx, key); err == nil {
		return d.shownKey(key), nil
	}
	pr, pw := io.Pipe()
	written := make(chan struct{})
	go func() {
		defer close(written)
		pw.CloseWithError(writePlan(ctx, d, p, pw, func(batch.Row) bool { return true }))
	}()
	err := d.ledger.Store().Create(ctx, key, pr)
	pr.CloseWithError(errors.Join(err, io.ErrClosedPipe)) // ends the writer where the store has ended first
	<-written
	if errors.Is(err, store.ErrExist) {
		err = nil
	}
	if err != nil {
		return "", fmt.Errorf("write the plan as CSV: %w", err)
	}
	return d.shownKey(key), nil
}

// writePlan writes those rows of a plan as CSV.
func writePlan(ctx context.Context, d *desk, p batch.Plan, out io.Writer, want func(batch.Row) bool) error {
	w, err := report.NewPlanWriter(out)
	if err != nil {
		return err
	}
	for r, err := range d.ledger.Rows(ctx, p) {
		if err != nil {
			return err
		}
		if !want(r) {
			continue
		}
		if err := w.Add(r); err != nil {
			return err
		}
	}
	return w.Close()
}
