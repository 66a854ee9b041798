package command

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/report"
	"github.com/reshelf/reshelf/shared/store"
)

// methodFlags say how objects are given their names.
type methodFlags struct{ copy, link bool }

func (m *methodFlags) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&m.copy, "copy", false, "leave the objects where they are, and give the names to copies of them")
	cmd.Flags().BoolVar(&m.link, "hardlink", false, "leave the objects where they are, and give the names to hard links of them (not in buckets)")
}

// method is what the flags say. They do not go together with flags about what objects leave.
func (m *methodFlags) method(cmd *cobra.Command, s *submission) (batch.Method, error) {
	method := batch.MethodRename
	switch {
	case m.copy && m.link:
		return method, badUsage(cmd, "give either --copy or --hardlink")
	case m.copy:
		method = batch.MethodCopy
	case m.link:
		method = batch.MethodLink
	}
	if method != batch.MethodRename && s.removeEmptyFolders {
		return method, badUsage(cmd, "--remove-empty-folders is about folders that objects leave, and with --copy or --hardlink none does")
	}
	return method, nil
}

// verbs are the words for what a batch does to its objects.
type verbs struct{ infinitive, participle, nouns string }

func verbsOf(b batch.Batch) verbs {
	switch {
	case b.Kind == batch.Undo:
		return verbs{"rename back", "renamed back", "renames"}
	case b.Method() == batch.MethodCopy:
		return verbs{"copy", "copied", "copies"}
	case b.Method() == batch.MethodLink:
		return verbs{"hard-link", "hard-linked", "hard links"}
	}
	return verbs{"rename", "renamed", "renames"}
}

// refuseCopies refuses to undo a batch that copied: nothing of an archive is ever deleted.
func (a *app) refuseCopies(ctx context.Context, d *desk, b batch.Batch) error {
	if !b.Copies() {
		return nil
	}
	list := a.commandLine("plan", string(b.ID), "--csv")
	s, err := readSummary(ctx, d, b.ID)
	if err != nil && !errors.Is(err, store.ErrNotExist) {
		return err
	}
	for _, f := range s.Files {
		if f.Name == report.PlanName {
			list = d.shownKey(f.Key)
		}
	}
	v := verbsOf(b)
	return stop(ExitNotRun, "batch %s %s objects, which are still under their old names: there is nothing to rename back, and Reshelf never deletes objects.\n"+
		"What it made, for whoever wants to delete some:  %s", b.ID, v.participle, list)
}
