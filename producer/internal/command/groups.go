package command

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/naming"
)

func (a *app) groupsCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "groups",
		Short: "Print the rules by which objects move together",
		Long: "Prints the default rules by which sidecars, RAW+JPEG and live photos move together, as a file to be changed and given to\n" +
			"rename and try with --groups. With --groups it checks a file and prints that.",
		Example: "  reshelf groups > groups.yaml\n" +
			"  reshelf groups --groups groups.yaml",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, text, err := readGroups(cmd, file)
			if err != nil {
				return err
			}
			return a.print("%s", text)
		},
	}
	addGroups(cmd, &file)
	return cmd
}

// addGroups adds the flag of commands that arrange objects in groups.
func addGroups(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVar(file, "groups", "", "move objects together by the rules in `FILE`; `reshelf groups` prints the default")
}

// readGroups reads the rules that are in force, with their text: those of a file, or the default for "".
func readGroups(cmd *cobra.Command, file string) (naming.Rules, string, error) {
	if file == "" {
		return naming.DefaultRules(), naming.DefaultRulesText(), nil
	}
	raw, err := readOptionFile(file)
	if err != nil {
		return naming.Rules{}, "", usageError{fmt.Errorf("--groups: %w", err), cmd.CommandPath()}
	}
	rules, err := naming.ParseRules(raw)
	var wrong *naming.RulesError
	if errors.As(err, &wrong) {
		return rules, "", badUsage(cmd, "--groups %s: %w", archive.EscapeText(file), err)
	}
	return rules, string(raw), err
}
