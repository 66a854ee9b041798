package command

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/naming"
)

// tried is one line of `try --json`.
type tried struct {
	File       string      `json:"file"` // escaped text
	From       archive.Key `json:"from"`
	To         archive.Key `json:"to,omitempty"`
	DateSource string      `json:"dateSource,omitempty"`
	Changed    []string    `json:"changed,omitempty"`
	Error      string      `json:"error,omitempty"`
}

func (a *app) tryCommand() *cobra.Command {
	var root string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "try TEMPLATE FILE...",
		Short: "Show the names that a template gives to some files; renames nothing",
		Example: "  reshelf try '{date:%Y/%m}/{date:%Y%m%d-%H%M%S}_{model}{ext}' DSC_0001.JPG\n" +
			"  reshelf try '{dir}/{sha256:16}{ext}' --archive ~/Pictures ~/Pictures/2024/*.jpg",
		Args: cobra.MinimumNArgs(2),
	}
	cmd.Flags().StringVar(&root, "archive", "", "name files as objects of the archive in this `DIRECTORY` (default the working directory, or a file's own)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a line of JSON for each file")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		t, err := parseTemplate(cmd, args[0])
		if err != nil {
			return err
		}
		files, err := tryFiles(root, args[1:])
		if err != nil {
			return usageError{err, cmd.CommandPath()}
		}
		return a.try(cmd.Context(), t, files, asJSON)
	}
	return cmd
}

// tryFile is a file as an object of an archive.
type tryFile struct {
	shown string
	root  archive.Root
	key   archive.Key
}

func tryFiles(root string, names []string) ([]tryFile, error) {
	var files []tryFile
	for _, name := range names {
		path, err := filepath.Abs(name)
		if err != nil {
			return nil, err
		}
		dir, err := tryRoot(root, path)
		if err != nil {
			return nil, err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return nil, err
		}
		f := tryFile{shown: archive.EscapeText(name)}
		if f.root, err = archive.FileRoot(dir); err == nil {
			f.key, err = archive.ParseKey(filepath.ToSlash(rel))
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.shown, err)
		}
		files = append(files, f)
	}
	return files, nil
}

// tryRoot is the archive that a file counts to: the one that was given, the working directory if the file is below it, or the
// file's own directory.
func tryRoot(given, path string) (string, error) {
	if given != "" {
		return filepath.Abs(given)
	}
	wd, err := os.Getwd()
	if err != nil {
		return "", err
	}
	if strings.HasPrefix(path, strings.TrimSuffix(wd, "/")+"/") {
		return wd, nil
	}
	return filepath.Dir(path), nil
}

func (a *app) try(ctx context.Context, t *naming.Template, files []tryFile, asJSON bool) error {
	needs := t.Needs()
	records := map[tryFile]batch.Record{}
	for _, group := range byRoot(files) {
		keys := make([]archive.Key, len(group))
		for i, f := range group {
			keys[i] = f.key
		}
		n := 0
		for r, err := range a.env.Preview(ctx, a.place.exiftool, group[0].root, keys, levelFor(needs), needs.Digests) {
			if err != nil {
				return err
			}
			records[group[n]] = r
			n++
		}
	}
	return a.showTried(t, files, records, asJSON)
}

// byRoot puts files of one archive together.
func byRoot(files []tryFile) [][]tryFile {
	var out [][]tryFile
	for _, f := range files {
		i := slices.IndexFunc(out, func(g []tryFile) bool { return g[0].root == f.root })
		if i < 0 {
			out = append(out, []tryFile{f})
			continue
		}
		if !slices.Contains(out[i], f) {
			out[i] = append(out[i], f)
		}
	}
	return out
}

func (a *app) showTried(t *naming.Template, files []tryFile, records map[tryFile]batch.Record, asJSON bool) error {
	seq, failed := numbers(files, records), false
	for _, f := range files {
		r := nameTried(t, f, records[f], seq[f])
		failed = failed || r.Error != ""
		var err error
		switch {
		case asJSON:
			err = printLine(a.env.Stdout, r)
		case r.Error != "":
			err = a.print("%s: %s\n", r.File, printable(r.Error))
		default:
			err = a.print("%s -> %s%s\n", r.File, r.To.Text(), remarks(r))
		}
		if err != nil {
			return err
		}
	}
	if failed {
		return exitError{code: ExitSomeFailed}
	}
	return nil
}

func remarks(r tried) string {
	parts := r.Changed
	if r.DateSource != "" {
		parts = append([]string{"date from " + archive.EscapeText(r.DateSource)}, parts...)
	}
	if len(parts) == 0 {
		return ""
	}
	return "  (" + printable(strings.Join(parts, "; ")) + ")"
}

func nameTried(t *naming.Template, f tryFile, r batch.Record, seq int64) tried {
	out := tried{File: f.shown, From: f.key}
	if r.Outcome != batch.Done {
		out.Error = cmp.Or(r.Message, string(r.Reason), "it was not inspected")
		return out
	}
	v := naming.Values{Key: r.Key, Size: r.Size, MTime: r.ModTime(), Tags: r.Tags, Digests: r.Digests, Seq: seq}
	if r.Facts != nil {
		v.Facts = *r.Facts
	}
	res, err := t.Name(v)
	if err != nil {
		out.Error = err.Error()
		return out
	}
	out.To, out.DateSource, out.Changed = res.Key, res.DateSource, res.Changed
	return out
}

// numbers counts the files of each archive as a plan does: in order of capture time, then key.
func numbers(files []tryFile, records map[tryFile]batch.Record) map[tryFile]int64 {
	out := map[tryFile]int64{}
	for _, group := range byRoot(files) {
		group = slices.DeleteFunc(group, func(f tryFile) bool { return records[f].Outcome != batch.Done })
		slices.SortStableFunc(group, func(x, y tryFile) int {
			return cmp.Or(cmp.Compare(captured(records[x]), captured(records[y])), cmp.Compare(x.key, y.key))
		})
		for i, f := range group {
			out[f] = int64(i + 1)
		}
	}
	return out
}

// captured is what a plan sorts by: the reading of the camera's clock, else the modification time.
func captured(r batch.Record) string {
	if r.Facts != nil && r.Facts.Capture.Wall != "" {
		return r.Facts.Capture.Wall
	}
	return r.ModTime().Format("2006-01-02T15:04:05.999999999")
}
