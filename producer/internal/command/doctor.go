package command

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/reshelf/reshelf/shared/archive"
)

// States of a Finding.
const (
	FindingOK   = "ok"
	FindingWarn = "warn"
	FindingFail = "fail"
)

func (a *app) doctorCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:               "doctor [ARCHIVE]",
		Short:             "Check ExifTool, the ledger, Redis, and how safely an archive can be renamed",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeArchive,
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a line of JSON for each finding")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		p, err := a.where(cmd)
		if err != nil {
			return err
		}
		var root archive.Root
		if len(args) == 1 {
			if root, err = archiveArgument(cmd, p, args[0]); err != nil {
				return err
			}
		}
		findings := a.examine(cmd, p, root)
		worst := ExitDone
		for _, f := range findings {
			if f.State == FindingFail {
				worst = ExitNotRun
			}
		}
		if err := a.showFindings(findings, asJSON); err != nil {
			return err
		}
		if worst != ExitDone {
			return exitError{code: worst}
		}
		return nil
	}
	return cmd
}

func (a *app) examine(cmd *cobra.Command, p place, root archive.Root) []Finding {
	findings := a.env.Doctor(cmd.Context(), a.place.stores, a.place.exiftool, root)
	if p.fleet {
		return append(findings, a.examineFleet(cmd, p))
	}
	return append(findings, examineLedger(p.ledger.Path()))
}

func (a *app) showFindings(findings []Finding, asJSON bool) error {
	for _, f := range findings {
		if asJSON {
			if err := printLine(a.env.Stdout, f); err != nil {
				return err
			}
			continue
		}
		if err := a.print("%-4s  %-18s %s\n", f.State, f.Name, printable(f.Detail)); err != nil {
			return err
		}
		if f.Remedy != "" {
			if err := a.print("%-4s  %-18s -> %s\n", "", "", printable(f.Remedy)); err != nil {
				return err
			}
		}
	}
	return nil
}

// examineFleet connects, which checks Redis's version and eviction policy, and looks for workers.
func (a *app) examineFleet(cmd *cobra.Command, p place) Finding {
	f := Finding{Name: "fleet", State: FindingFail}
	d, err := a.openFleet(cmd, p, true)
	if err != nil {
		f.Detail, f.Remedy = err.Error(), "check --redis and --ledger, and that Redis runs with maxmemory-policy noeviction"
		return f
	}
	defer d.close()
	workers, err := d.flow.Live().Workers(cmd.Context())
	switch n := countAlive(workers); {
	case err != nil:
		f.Detail = err.Error()
	case n == 0:
		f.State, f.Detail, f.Remedy = FindingWarn, p.line("", ", no worker alive"), "start reshelf-worker with the same --redis and --ledger"
	default:
		f.State, f.Detail = FindingOK, p.line("", fmt.Sprintf(", %s alive", plural(int64(n), "worker")))
	}
	return f
}

// lowSpace is where the ledger's disk is called low, in bytes.
const lowSpace = 1 << 30

// examineLedger checks the directory of this machine's ledger, or the one that it would be made in.
func examineLedger(dir string) Finding {
	f := Finding{Name: "ledger", State: FindingFail, Remedy: "choose another --ledger"}
	there := dir
	for {
		if _, err := os.Stat(there); err == nil || there == filepath.Dir(there) {
			break
		}
		there = filepath.Dir(there)
	}
	if err := unix.Access(there, unix.W_OK|unix.X_OK); err != nil {
		f.Detail = fmt.Sprintf("%s cannot be written to: %v", archive.EscapeText(there), err)
		return f
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(there, &fs); err != nil {
		f.Detail = fmt.Sprintf("%s: %v", archive.EscapeText(there), err)
		return f
	}
	free := fs.Bavail * uint64(fs.Bsize)
	f.Detail = fmt.Sprintf("%s is writable, %s free", archive.EscapeText(dir), humanize.IBytes(free))
	if f.State, f.Remedy = FindingOK, ""; free < lowSpace {
		f.State, f.Remedy = FindingWarn, "free some space: a ledger takes about 1 KiB for each object and batch"
	}
	return f
}
