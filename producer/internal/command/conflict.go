package command

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/naming"
)

// conflictFlags say what becomes of names that are taken.
type conflictFlags struct{ policy, template string }

func (c *conflictFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&c.policy, "on-conflict", string(batch.ConflictStop),
		fmt.Sprintf("what to do where objects want one name, or it is taken: one of %v", batch.Conflicts()))
	cmd.Flags().StringVar(&c.template, "conflict-template", "",
		"give objects whose names are taken the names of this second `TEMPLATE`: --on-conflict template")
	completeWith(cmd, "on-conflict", batch.Conflicts())
}

// asked is what the templates of a batch ask for.
type asked struct {
	needs   naming.Needs
	columns []string // of a manifest
}

// set completes the options of a batch, whose template is there, and checks both templates.
func (c *conflictFlags) set(cmd *cobra.Command, o *batch.RenameOptions) (asked, error) {
	t, err := parseTemplate(cmd, *o)
	if err != nil {
		return asked{}, err
	}
	all := asked{t.Needs(), t.Columns()}
	if o.OnConflict, err = choice(cmd, "on-conflict", c.policy, batch.Conflicts()); err != nil {
		return all, err
	}
	switch given := cmd.Flags().Changed("conflict-template"); {
	case !given && o.OnConflict == batch.ConflictTemplate:
		return all, badUsage(cmd, "--on-conflict %s: give the template with --conflict-template", batch.ConflictTemplate)
	case !given:
		return all, nil
	case o.OnConflict != batch.ConflictTemplate && cmd.Flags().Changed("on-conflict"):
		return all, badUsage(cmd, "--conflict-template is for --on-conflict %s, not %s", batch.ConflictTemplate, o.OnConflict)
	}
	o.OnConflict, o.ConflictTemplate = batch.ConflictTemplate, c.template
	second, err := o.ParseConflict()
	if err != nil {
		return all, wrongTemplate(cmd, "--conflict-template: ", err)
	}
	all.needs = all.needs.And(second.Needs())
	for _, column := range second.Columns() {
		if !slices.Contains(all.columns, column) {
			all.columns = append(all.columns, column)
		}
	}
	return all, nil
}

// conflictText is the policy of a batch, with its template if it has one.
func conflictText(o batch.RenameOptions) string {
	if o.OnConflict != batch.ConflictTemplate {
		return string(o.OnConflict)
	}
	return fmt.Sprintf("%s %s", o.OnConflict, archive.EscapeText(o.ConflictTemplate))
}
