package command

import (
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
	// Sidecar is that of the plan's row, and Notes are its message.
	Sidecar archive.Key `json:"sidecar,omitempty"`
	Notes   []string    `json:"notes,omitempty"`
	Changed []string    `json:"changed,omitempty"`
	Error   string      `json:"error,omitempty"`
}

func (a *app) tryCommand() *cobra.Command {
	var root string
	var asJSON bool
	var names namingFlags
	cmd := &cobra.Command{
		Use:   "try TEMPLATE FILE...",
		Short: "Show the names that a template gives to some files; renames nothing",
		Long: "Names the files as a batch of just these would: companions get the name of what they belong to, and what an XMP sidecar\n" +
			"says counts if it is one of the files.",
		Example: "  reshelf try '{date:%Y/%m}/{date:%Y%m%d-%H%M%S}_{model}{ext}' DSC_0001.JPG\n" +
			"  reshelf try '{dir}/{sha256:16}{ext}' --archive ~/Pictures ~/Pictures/2024/*.jpg",
		Args: cobra.MinimumNArgs(2),
	}
	cmd.Flags().StringVar(&root, "archive", "", "name files as objects of the archive in this `DIRECTORY` (default the working directory, or a file's own)")
	names.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a line of JSON for each file")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o, err := names.options(cmd, args[0])
		if err != nil {
			return err
		}
		t, err := parseTemplate(cmd, o)
		if err != nil {
			return err
		}
		files, err := tryFiles(root, args[1:])
		if err != nil {
			return usageError{err, cmd.CommandPath()}
		}
		groups, err := o.ParseGroups()
		if err != nil {
			return err
		}
		return a.try(cmd.Context(), t, files, trying{asJSON: asJSON, ignoreSidecars: o.IgnoreSidecars, groups: groups})
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

// trying is how files are tried.
type trying struct {
	asJSON, ignoreSidecars bool
	groups                 *naming.Groups
}

func (a *app) try(ctx context.Context, t *naming.Template, files []tryFile, how trying) error {
	needs := t.Needs()
	records := map[tryFile]batch.Record{}
	for _, group := range byRoot(files) {
		keys := make([]archive.Key, len(group))
		for i, f := range group {
			keys[i] = f.key
		}
		n := 0
		for r, err := range a.env.Preview(ctx, a.place.stores, a.place.exiftool, group[0].root, keys, levelFor(needs), needs.Digests) {
			if err != nil {
				return err
			}
			records[group[n]] = r
			n++
		}
	}
	return a.showTried(trial{t, records, how}, files)
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

func (a *app) showTried(t trial, files []tryFile) error {
	failed := false
	for f, r := range t.named(files) {
		failed = failed || r.Error != ""
		var err error
		switch {
		case t.asJSON:
			err = printLine(a.env.Stdout, r)
		case r.Error != "":
			err = a.print("%s: %s\n", f.shown, printable(r.Error))
		default:
			err = a.print("%s -> %s%s\n", f.shown, r.To.Text(), remarks(r))
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
	parts := slices.Concat(r.Notes, r.Changed)
	if r.DateSource != "" {
		parts = append([]string{"date from " + archive.EscapeText(r.DateSource)}, parts...)
	}
	if len(parts) == 0 {
		return ""
	}
	return "  (" + printable(strings.Join(parts, "; ")) + ")"
}
