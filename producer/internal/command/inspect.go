package command

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/digest"
	"github.com/reshelf/reshelf/shared/report"
)

func (a *app) inspectCommand() *cobra.Command {
	var s submission
	var digests, level, format string
	cmd := &cobra.Command{
		Use:   "inspect ARCHIVE",
		Short: "Hash all objects and read their metadata; never writes to the archive",
		Example: "  reshelf inspect ~/Pictures\n" +
			"  reshelf inspect ~/Pictures --format sha256sum >pictures.sha256\n" +
			"  find . -newer stamp -type f -print0 | reshelf inspect . --manifest -",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeArchive,
	}
	s.add(cmd)
	f := cmd.Flags()
	f.StringVar(&digests, "digests", digest.DefaultSet().String(), "compute `LIST` of digests, of "+algorithms()+"; none for none")
	f.StringVar(&level, "metadata", string(batch.LevelNormal), fmt.Sprintf("how deeply to read metadata: one of %v", batch.Levels()))
	f.StringVar(&format, "format", "", fmt.Sprintf("print a checksum list to standard output: one of %v", report.SumFormats()))
	completeWith(cmd, "metadata", batch.Levels())
	completeWith(cmd, "format", report.SumFormats())
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		set, err := parseDigests(digests)
		if err == nil && format != "" {
			err = sumFormat(format, set)
		}
		if err != nil {
			return usageError{err, cmd.CommandPath()}
		}
		make := func(root archive.Root) (batch.Batch, error) {
			b, err := s.newBatch(cmd, batch.Inspect, root)
			if err != nil {
				return b, err
			}
			b.Digests = set
			b.Level, err = choice(cmd, "metadata", level, batch.Levels())
			return b, err
		}
		return a.newRun(cmd, args[0], &s, make, carrying{json: s.json, sums: format})
	}
	return cmd
}

func algorithms() string {
	set := digest.Set(0)
	for _, x := range digest.Algorithms() {
		set = set.With(x)
	}
	return set.String()
}

func parseDigests(text string) (digest.Set, error) {
	if text == "none" {
		return 0, nil
	}
	return digest.ParseSet(text)
}

// newRun makes a batch over an archive and carries it on. Everything that can be checked is checked before a batch is made.
func (a *app) newRun(cmd *cobra.Command, archiveText string, s *submission, make func(archive.Root) (batch.Batch, error), o carrying) (err error) {
	p, err := a.where(cmd)
	if err != nil {
		return err
	}
	root, err := archiveArgument(cmd, p, archiveText)
	if err != nil {
		return err
	}
	b, err := make(root)
	if err != nil {
		return err
	}
	if err := b.Validate(); err != nil {
		return usageError{err, cmd.CommandPath()}
	}
	if s.detach && !p.fleet {
		return badUsage(cmd, "--detach needs a fleet (--redis): on this machine this command does the work")
	}
	ctx := cmd.Context()
	if err := a.reachable(ctx, p, b); err != nil {
		return err
	}
	d, err := a.work(cmd, fmt.Sprintf("%s %s", b.Kind, shownRoot(root)), o.json)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	if err := a.submit(ctx, d, b, s); err != nil {
		return a.notSubmitted(ctx, d, b, err)
	}
	if s.detach {
		return a.detached(d, b, o)
	}
	a.tell("batch %s", b.ID)
	return a.carry(ctx, d, b, o)
}

// notSubmitted tells an interrupted submission that made a batch from one that did not.
func (a *app) notSubmitted(ctx context.Context, d *desk, b batch.Batch, err error) error {
	if ctx.Err() == nil {
		return err
	}
	if _, readErr := d.ledger.Batch(context.WithoutCancel(ctx), b.ID); readErr == nil {
		return a.interrupted(d, b)
	}
	return stop(ExitInterrupted, "interrupted; no batch was made")
}

// detached ends the command while the fleet works.
func (a *app) detached(d *desk, b batch.Batch, o carrying) error {
	a.tell("watch it:   %s\ncancel it:  %s", a.commandLine("watch", string(b.ID)), a.commandLine("cancel", string(b.ID)))
	if o.json {
		return a.printJSON(result{V: 1, Batch: b.ID, Kind: b.Kind, Archive: b.Archive, Status: b.Initial()})
	}
	return a.print("%s\n", b.ID)
}
