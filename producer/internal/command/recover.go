package command

import (
	"errors"

	"github.com/spf13/cobra"
)

func (a *app) recoverCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "recover",
		Short: "Rebuild what Redis lost from the ledger, for every batch that is not over",
		Long: "Rebuilds the live state of every batch that is not over from the ledger: its events, its lists of segments and the\n" +
			"headers of its parts. It may run beside busy workers. On this machine resume does the same for one batch.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			p, err := a.where(cmd)
			if err != nil {
				return err
			}
			if !p.fleet {
				return stop(ExitUsage, "recover is for a fleet: give --redis; on this machine use reshelf resume BATCH")
			}
			d, err := a.openFleet(cmd, p, false)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, d.close()) }()
			n, err := d.flow.RecoverAll(cmd.Context())
			if err != nil {
				return err
			}
			return a.print("%d batches are in hand again\n", n)
		},
	}
}
