package report

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
)

// Text writes the summary for a person at a terminal, in human units with the exact numbers beside them.
func (s Summary) Text(w io.Writer) error {
	var b strings.Builder
	s.head(&b)
	s.counts(&b)
	s.failures(&b)
	fmt.Fprintf(&b, "\n%s\n", upperFirst(s.Closing()))
	_, err := io.WriteString(w, b.String())
	return err
}

func (s Summary) head(b *strings.Builder) {
	fmt.Fprintf(b, "%s %s", s.Kind, s.Batch)
	if s.Name != "" {
		fmt.Fprintf(b, ` "%s"`, archive.EscapeText(s.Name))
	}
	fmt.Fprintf(b, ": %s", s.State)
	if s.Reason != "" {
		fmt.Fprintf(b, " (%s)", archive.EscapeText(s.Reason))
	}
	fmt.Fprintf(b, "\narchive %s\n\n", s.Archive)
}

func (s Summary) counts(b *strings.Builder) {
	tw := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		fmt.Fprintf(tw, "  %s\t%s\n", name, fmt.Sprintf(format, args...))
	}
	listed := ""
	if s.ListingIncomplete {
		listed = "; cancelled before everything was listed"
	}
	line("listed", "%s, %s%s", plural(s.Listed, "object"), size(s.ListedBytes), listed)
	if s.Excluded > 0 {
		line("excluded", "%s, by the filter", humanize.Comma(s.Excluded))
	}
	line("done", "%s, %s", plural(s.Counts.Done, "object"), size(s.Counts.Bytes))
	line("skipped", "%s%s", plural(s.Counts.Skipped, "object"), byReason(s.Skipped))
	line("failed", "%s%s", plural(s.Counts.Failed, "object"), byReason(s.Failed))
	line("time", "%s", s.took())
	switch {
	case s.Inspected > 0 && s.Digests.Len() > 0:
		line("read", "%s, %s%s", plural(s.Inspected, "object"), size(s.InspectedBytes), s.rate())
	case s.Inspected > 0: // without digests, not all of an object is read
		line("inspected", "%s%s", plural(s.Inspected, "object"), s.objectRate())
	}
	if s.FromStore > 0 {
		line("trusted", "%s hashed by the store, not downloaded", plural(s.FromStore, "object"))
	}
	if d := s.Duplicates; d != nil {
		line("duplicates", "%s in %s, %s wasted", plural(d.Objects, "object"), plural(d.Groups, "group"), size(d.WastedBytes))
		if d.Empty > 0 {
			line("empty", "%s", plural(d.Empty, "object"))
		}
	}
	switch {
	case !s.AssumeSingleWriter:
	case s.Copied > 0:
		line("note", "copied with --assume-single-writer: safe only if nobody else wrote to the archive")
	case s.Renamed > 0:
		line("note", "renamed with --assume-single-writer: safe only if nobody else wrote to the archive")
	}
	tw.Flush() // to a strings.Builder, which cannot fail
}

func (s Summary) failures(b *strings.Builder) {
	if len(s.Failures) == 0 {
		return
	}
	b.WriteString("\ncommonest failures\n")
	for _, f := range s.Failures {
		fmt.Fprintf(b, "  %s: %s\n", f.Reason, plural(f.Objects, "object"))
		for _, e := range f.Examples {
			fmt.Fprintf(b, "    %s", e.Key.Text())
			if e.Message != "" {
				fmt.Fprintf(b, ": %s", printable(e.Message))
			}
			b.WriteByte('\n')
		}
	}
}

func (s Summary) took() string {
	working, whole := seconds(s.WorkingSeconds), s.Finished.Sub(s.Submitted)
	if whole-working < time.Second {
		return round(whole)
	}
	return fmt.Sprintf("%s, and %s of pauses and waiting for approval", round(working), round(whole-working))
}

func (s Summary) rate() string {
	if s.InspectingSeconds <= 0 {
		return ""
	}
	bytes := float64(s.InspectedBytes) / s.InspectingSeconds
	return s.objectRate() + ", " + humanize.IBytes(uint64(bytes)) + "/s"
}

func (s Summary) objectRate() string {
	if s.InspectingSeconds <= 0 {
		return ""
	}
	objects := float64(s.Inspected) / s.InspectingSeconds
	return fmt.Sprintf(" in %s: %s objects/s", round(seconds(s.InspectingSeconds)), humanize.CommafWithDigits(objects, 1))
}

// byReason is ": 12 unchanged, 3 cancelled", the commonest first.
func byReason(counts map[batch.Reason]int64) string {
	var parts []string
	for _, r := range commonest(counts) {
		parts = append(parts, humanize.Comma(counts[r])+" "+string(r))
	}
	if parts == nil {
		return ""
	}
	return ": " + strings.Join(parts, ", ")
}

// commonest are the reasons in descending order of count, then in order of name.
func commonest(counts map[batch.Reason]int64) []batch.Reason {
	return slices.SortedFunc(maps.Keys(counts), func(a, b batch.Reason) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b))
	})
}

func plural(n int64, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return humanize.Comma(n) + " " + noun
}

// size is "1.2 GiB (1,234,567,890 bytes)".
func size(n int64) string {
	if n < 1024 {
		return plural(n, "byte")
	}
	return fmt.Sprintf("%s (%s)", humanize.IBytes(uint64(n)), plural(n, "byte"))
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// round cuts what nobody reads: to hundredths below a minute, to seconds above.
func round(d time.Duration) string {
	if d < time.Minute {
		return d.Round(10 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

func upperFirst(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
