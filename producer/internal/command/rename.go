package command

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/digest"
	"github.com/reshelf/reshelf/shared/naming"
)

func (a *app) renameCommand() *cobra.Command {
	var s submission
	var conflict conflictFlags
	var yes bool
	var sample int64
	var names namingFlags
	var how methodFlags
	cmd := &cobra.Command{
		Use:   "rename ARCHIVE TEMPLATE",
		Short: "Plan new names, show the plan, and rename once it is approved",
		Long: "Inspects the archive, plans a new key for each object, and shows the plan. On a terminal it then asks; elsewhere it\n" +
			"stops with exit code 3, unless --yes is given. `reshelf undo` reverses what was renamed.\n\n" +
			"With --copy or --hardlink the objects stay, and copies or hard links of them get the names. That cannot be undone: Reshelf\n" +
			"never deletes objects of an archive.",
		Example: "  reshelf rename ~/Pictures '{date:%Y/%m}/{date:%Y%m%d-%H%M%S}_{model}{ext}'\n" +
			"  reshelf rename ~/Pictures '{dir}/{sha256:16}{ext}' --on-conflict number --yes",
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: completeArchive,
	}
	s.add(cmd)
	s.addSingleWriter(cmd)
	conflict.add(cmd)
	names.add(cmd)
	how.add(cmd)
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "rename without asking, if the plan has no conflicts that stop it")
	addSample(cmd, &sample)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o, err := names.options(cmd, args[1])
		if err != nil {
			return err
		}
		named, err := conflict.set(cmd, &o)
		if err != nil {
			return err
		}
		if s.columns = named.columns; len(s.columns) > 0 && s.manifest == "" {
			return badUsage(cmd, "the template asks for the column %q of a manifest; give one with --manifest", s.columns[0])
		}
		if err := checkSample(cmd, sample); err != nil {
			return err
		}
		if sample > 0 && s.detach {
			return badUsage(cmd, "--sample divides the plan when it is made: give it to apply, which follows --detach")
		}
		o.Approved = yes && sample == 0
		if o.Method, err = how.method(cmd, &s); err != nil {
			return err
		}
		make := func(root archive.Root) (batch.Batch, error) {
			if o.Method == batch.MethodLink && root.Scheme() != archive.SchemeFile {
				return batch.Batch{}, badUsage(cmd, "%s: a bucket has no hard links; give --copy", shownRoot(root))
			}
			b, err := s.newBatch(cmd, batch.Rename, root)
			b.Digests, b.Level = named.needs.Digests, levelFor(named.needs)
			if _, ok := b.Digests.Proof(); !ok && o.OnConflict == batch.ConflictSameContent {
				b.Digests = b.Digests.With(digest.SHA256)
			}
			b.Renaming = &o
			b.V = b.Needs()
			return b, err
		}
		return a.newRun(cmd, args[0], &s, make, carrying{yes: yes, json: s.json, sample: sample})
	}
	return cmd
}

// levelFor is what a template needs of ExifTool.
func levelFor(n naming.Needs) batch.Level {
	if n.Tags || n.Date {
		return batch.LevelNormal
	}
	return batch.LevelNone
}

// parseTemplate shows where a template is wrong.
func parseTemplate(cmd *cobra.Command, o batch.RenameOptions) (*naming.Template, error) {
	t, err := o.Parse()
	return t, wrongTemplate(cmd, "", err)
}

// wrongTemplate shows where a template that a flag gave, or an argument, is wrong. It is nil if err is.
func wrongTemplate(cmd *cobra.Command, flag string, err error) error {
	var wrong *naming.SyntaxError
	switch {
	case errors.As(err, &wrong):
		return badUsage(cmd, "%s%w\n%s", flag, err, wrong.Caret())
	case err != nil:
		return usageError{err, cmd.CommandPath()}
	}
	return nil
}
