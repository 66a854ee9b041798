package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/report"
	"github.com/reshelf/reshelf/shared/store"
)

// out is where text for a person goes: to standard error where standard output is for data.
func (a *app) out(o carrying) io.Writer {
	if o.sums != "" {
		return a.display
	}
	return a.env.Stdout
}

// printJSON prints one value, indented.
func (a *app) printJSON(v any) error {
	a.display.Clear()
	enc := json.NewEncoder(a.env.Stdout)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// printLine prints one value as a line of JSON.
func printLine(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// shownKey is where a file of the ledger is: its path on this machine, else its URL.
func (p place) shownKey(key archive.Key) string {
	if p.ledger.Scheme() == archive.SchemeFile {
		return archive.EscapeText(filepath.Join(p.ledger.Path(), string(key)))
	}
	return p.ledger.String() + "/" + key.Text()
}

// reportFolder is the folder of a report's files, or that of its summary where there are none.
func reportFolder(s report.Summary) archive.Key {
	if len(s.Files) > 0 {
		return archive.Key(path.Dir(string(s.Files[0].Key)))
	}
	return ledger.Key(s.Batch, "report")
}

// readSummary reads a batch's summary: store.ErrNotExist while it has none.
func readSummary(ctx context.Context, d *desk, id batch.ID) (report.Summary, error) {
	c, err := d.ledger.Store().Open(ctx, ledger.Key(id, "report", report.SummaryName), 0, -1, archive.Identity{})
	if err != nil {
		return report.Summary{}, err
	}
	s, err := report.ReadSummary(c)
	return s, errors.Join(err, c.Close())
}

// finals yields the final records of a finished batch, in order of key, to each until it fails.
func finals(ctx context.Context, d *desk, s report.Summary, each func(batch.Record) error) error {
	for _, f := range s.Files {
		if ok, err := path.Match("records-*.jsonl.zst", f.Name); err != nil || !ok {
			continue
		}
		if err := shard(ctx, d.ledger.Store(), f.Key, each); err != nil {
			return err
		}
	}
	return nil
}

func shard(ctx context.Context, st store.Store, key archive.Key, each func(batch.Record) error) (err error) {
	c, err := st.Open(ctx, key, 0, -1, archive.Identity{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	for r, err := range report.Records(c) {
		if err == nil {
			err = each(r)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	return nil
}

// writeSums writes a checksum list of a finished batch.
func writeSums(ctx context.Context, d *desk, s report.Summary, format string, out io.Writer) error {
	algorithm, err := report.ParseSumFormat(format)
	if err != nil {
		return err
	}
	if s.Listed > 0 && !s.Digests.Has(algorithm) {
		return stop(ExitNotRun, "%s needs the digest %s, which batch %s did not compute; inspect again with --digests %s", format, algorithm, s.Batch, algorithm)
	}
	w := report.NewSumWriter(out, algorithm)
	return errors.Join(finals(ctx, d, s, w.Add), w.Close())
}

// printable escapes what is not printable in text that is escaped already, should its writer have missed any.
func printable(text string) string {
	var b strings.Builder
	for i, r := range text {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(text[i:], string(utf8.RuneError)):
			fmt.Fprintf(&b, `\x%02x`, text[i])
		case !unicode.IsPrint(r):
			fmt.Fprintf(&b, `\u{%x}`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
