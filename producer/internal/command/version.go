package command

import (
	"runtime"

	"github.com/spf13/cobra"
)

// versionResult is what `version --json` prints.
type versionResult struct {
	Version string `json:"version"`
	Go      string `json:"go"`
	OS      string `json:"os"`
	Arch    string `json:"arch"`
}

func (a *app) versionCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := versionResult{a.env.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH}
			if asJSON {
				return a.printJSON(v)
			}
			return a.print("reshelf %s (%s, %s/%s)\n", v.Version, v.Go, v.OS, v.Arch)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	return cmd
}
