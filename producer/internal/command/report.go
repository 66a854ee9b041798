package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/report"
	"github.com/reshelf/reshelf/shared/store"
)

// reportFormats are the values of report --format; CSV files of the report go by their names without ".csv".
func reportFormats() []string {
	return append([]string{"text", "json", "jsonl", "failures", "duplicates", "plan"}, report.SumFormats()...)
}

func (a *app) reportCommand() *cobra.Command {
	var format, file string
	cmd := &cobra.Command{
		Use:   "report BATCH",
		Short: "Print the report of a finished batch, or a part of it",
		Long: "Prints the report of a finished batch: text (the summary), json (the summary), jsonl (the final record of each object),\n" +
			"failures, duplicates and plan (CSV), or a checksum list such as sha256sum.",
		Example: "  reshelf report last\n" +
			"  reshelf report last --format sha256sum -o pictures.sha256\n" +
			"  reshelf report last --format jsonl | jq -r 'select(.outcome==\"failed\").key'",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeBatch,
	}
	cmd.Flags().StringVar(&format, "format", "text", fmt.Sprintf("one of %v", reportFormats()))
	cmd.Flags().StringVarP(&file, "output", "o", "", "write to a new `FILE` instead of standard output")
	completeWith(cmd, "format", reportFormats())
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		if _, err := choice(cmd, "format", format, reportFormats()); err != nil {
			return err
		}
		d, err := a.look(cmd, format != "text")
		if err != nil {
			return err
		}
		defer d.close()
		ctx := cmd.Context()
		s, err := summaryOf(ctx, d, args[0])
		if err != nil {
			return err
		}
		if file == "" {
			return a.writeReport(ctx, d, s, format, a.env.Stdout)
		}
		return a.newFile(file, func(w io.Writer) error { return a.writeReport(ctx, d, s, format, w) })
	}
	return cmd
}

func summaryOf(ctx context.Context, d *desk, text string) (report.Summary, error) {
	b, err := resolve(ctx, d.ledger, text)
	if err != nil {
		return report.Summary{}, err
	}
	about(ctx, b)
	s, err := readSummary(ctx, d, b.ID)
	if errors.Is(err, store.ErrNotExist) {
		status, statusErr := d.ledger.Status(ctx, b)
		return s, errors.Join(statusErr, stop(ExitNotRun, "batch %s has no report yet: it is %s", b.ID, status))
	}
	return s, err
}

// newFile creates a file that must not exist, and removes it if writing fails.
func (a *app) newFile(name string, write func(io.Writer) error) (err error) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	if err = errors.Join(write(f), f.Close()); err != nil {
		return errors.Join(err, os.Remove(name))
	}
	a.tell("written to %s", archive.EscapeText(name))
	return nil
}

func (a *app) writeReport(ctx context.Context, d *desk, s report.Summary, format string, w io.Writer) error {
	switch {
	case format == "text":
		if err := s.Text(w); err != nil {
			return err
		}
		_, err := fmt.Fprintf(w, "Report: %s\n", d.shownKey(reportFolder(s)))
		return err
	case format == "json":
		raw, err := s.Encode()
		if err == nil {
			_, err = w.Write(raw)
		}
		return err
	case format == "jsonl":
		return finals(ctx, d, s, func(r batch.Record) error { return printLine(w, r) })
	case slices.Contains(report.SumFormats(), format):
		return writeSums(ctx, d, s, format, w)
	}
	return copyFile(ctx, d, s, format+".csv", w)
}

// copyFile copies one file of a report.
func copyFile(ctx context.Context, d *desk, s report.Summary, name string, w io.Writer) error {
	i := slices.IndexFunc(s.Files, func(f report.File) bool { return f.Name == name })
	if i < 0 {
		var names []string
		for _, f := range s.Files {
			names = append(names, f.Name)
		}
		return stop(ExitNotRun, "the report of batch %s has no %s; it has %s", s.Batch, name, strings.Join(names, ", "))
	}
	c, err := d.ledger.Store().Open(ctx, s.Files[i].Key, 0, -1, archive.Identity{})
	if err != nil {
		return err
	}
	_, err = io.Copy(w, c)
	return errors.Join(err, c.Close())
}
