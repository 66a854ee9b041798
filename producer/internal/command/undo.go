package command

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/listing"
	"github.com/reshelf/reshelf/shared/store"
)

// undoFlags are those of undo besides the ones that all batches have.
type undoFlags struct {
	submission // without the flags of a batch over an archive that it does not add
	yes, check bool
}

func (a *app) undoCommand() *cobra.Command {
	var s undoFlags
	cmd := &cobra.Command{
		Use:   "undo BATCH [KEY...]",
		Short: "Reverse the renames of a batch, or of some of its objects, after showing what can be reversed",
		Long: "Plans the renames of a batch backwards and shows what it will reverse, and what it cannot and why. On a terminal it\n" +
			"then asks; elsewhere it stops with exit code 3, unless --yes is given. \"last\" is the newest batch that renamed objects\n" +
			"and was not undone, or not wholly.\n\n" +
			"With KEYs, --manifest, --include or --exclude only the objects with these names are renamed back: the names that the\n" +
			"batch gave. Objects that belong together move together. The rest of the batch can be undone later.\n\n" +
			"--check only says what can be reversed and what cannot. It makes no batch and changes nothing.",
		Example: "  reshelf undo last\n  reshelf undo 01jd8q --yes\n  reshelf undo last --check\n" +
			"  reshelf undo last 2024/05/20240501-101500_X100.jpg\n  reshelf undo last --include '2024/05/**'",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeBatch,
	}
	s.batchFlags.add(cmd)
	s.addSingleWriter(cmd)
	f := cmd.Flags()
	f.StringArrayVar(&s.include, "include", nil, "take back only objects whose new key matches `GLOB`; ** spans folders; may be repeated")
	f.StringArrayVar(&s.exclude, "exclude", nil, "leave objects where they are whose new key, or a folder above it, matches `GLOB`; may be repeated")
	f.StringVar(&s.manifest, "manifest", "", "take back only the objects whose new keys are listed in `FILE` (- for standard input)")
	f.StringVar(&s.manifestFormat, "manifest-format", string(listing.FormatAuto), fmt.Sprintf("`FORMAT` of the manifest: one of %v", listing.Formats()))
	f.BoolVarP(&s.yes, "yes", "y", false, "rename back without asking")
	f.BoolVar(&s.check, "check", false, "only say what can be renamed back and what cannot")
	completeWith(cmd, "manifest-format", listing.Formats())
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		undoes, err := a.undoable(cmd, args[0])
		if err != nil {
			return err
		}
		about(cmd.Context(), undoes)
		b, err := s.newBatch(cmd, undoes, args[1:])
		if err != nil {
			return err
		}
		if s.check {
			return a.checkUndo(cmd, b, &s)
		}
		return a.undo(cmd, b, &s.submission, carrying{yes: s.yes, json: s.json})
	}
	return cmd
}

// newBatch is the undo of a batch, or of the objects in it that have these keys, which stand on the command line.
func (s *undoFlags) newBatch(cmd *cobra.Command, undoes batch.Batch, keys []string) (batch.Batch, error) {
	if s.check && (s.yes || s.detach) {
		return batch.Batch{}, badUsage(cmd, "--check renames nothing: give neither --yes nor --detach")
	}
	if len(keys) > 0 && s.manifest != "" {
		return batch.Batch{}, badUsage(cmd, "name the keys either on the command line or in --manifest")
	}
	if !cmd.Flags().Changed("pool") {
		s.pool = undoes.Pool
	}
	s.assumeSingleWriter = s.assumeSingleWriter || undoes.AssumeSingleWriter
	s.all = true // nothing is left out that was not named
	b, err := s.submission.newBatch(cmd, batch.Undo, undoes.Archive)
	if err != nil {
		return b, err
	}
	for _, text := range keys {
		key, err := keyArgument(undoes.Archive, text)
		if err != nil {
			return b, badUsage(cmd, "%w; for what is in a folder give --include 'FOLDER/**'", err)
		}
		s.keys = append(s.keys, key)
	}
	b.Manifest = b.Manifest || len(s.keys) > 0
	if !b.Chooses() {
		b.Filter = batch.Filter{}
	}
	b.Undoes = undoes.ID
	if err := b.Validate(); err != nil {
		return b, usageError{err, cmd.CommandPath()}
	}
	return b, nil
}

// keyArgument reads a KEY: the raw key below the archive's root, or for an archive on a disk the path of the object.
func keyArgument(root archive.Root, text string) (archive.Key, error) {
	if strings.HasPrefix(text, "/") && root.Scheme() == archive.SchemeFile {
		dir, base := filepath.Split(filepath.Clean(text))
		below, ok := strings.CutPrefix(filepath.Join(resolved(filepath.Clean(dir)), base), strings.TrimSuffix(root.Path(), "/")+"/")
		if !ok {
			return "", fmt.Errorf("%w %q: it is not in the archive %s", archive.ErrKey, archive.EscapeText(text), shownRoot(root))
		}
		text = below
	}
	return archive.ParseKey(strings.TrimPrefix(text, "./"))
}

func (a *app) undo(cmd *cobra.Command, b batch.Batch, s *submission, o carrying) (err error) {
	ctx := cmd.Context()
	p, err := a.where(cmd)
	if err != nil {
		return err
	}
	if s.detach && !p.fleet {
		return badUsage(cmd, "--detach needs a fleet (--redis): on this machine this command does the work")
	}
	if !p.fleet {
		b.Pool = defaultPool // the undone batch may be a fleet's
	}
	if err := a.reachable(ctx, p, b); err != nil {
		return err
	}
	d, err := a.work(cmd, fmt.Sprintf("undo %s", b.Undoes), o.json)
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
	a.tell("batch %s undoes %s", b.ID, b.Undoes)
	return a.carry(ctx, d, b, o)
}

// undoable finds the batch to undo. It must be over, so that nothing of it moves any more.
func (a *app) undoable(cmd *cobra.Command, text string) (batch.Batch, error) {
	d, err := a.look(cmd, true)
	if err != nil {
		return batch.Batch{}, err
	}
	defer d.close()
	ctx := cmd.Context()
	if text == last {
		return a.lastRename(ctx, d)
	}
	b, err := resolve(ctx, d.ledger, text)
	if err != nil {
		return b, err
	}
	if !b.Kind.Has(batch.StepRename) {
		return b, stop(ExitNotRun, "batch %s renames nothing: it is of kind %s", b.ID, b.Kind)
	}
	s, err := d.ledger.Status(ctx, b)
	if err == nil {
		err = a.refuseCopies(ctx, d, b)
	}
	if err != nil {
		return b, err
	}
	if !s.State.Over() {
		return b, stop(ExitNotRun, "batch %s is %s: finish it first (%s) or cancel it (%s)", b.ID, s,
			a.commandLine("resume", string(b.ID)), a.commandLine("cancel", string(b.ID)))
	}
	if s.Approved == "" {
		return b, stop(ExitNotRun, "batch %s renamed nothing: its plan was never approved", b.ID)
	}
	return b, nil
}

// lastRename is the newest rename batch that renamed objects and was not undone, or not wholly. Where a newer one copied, it is refused:
// whoever asks for the last one may mean that.
func (a *app) lastRename(ctx context.Context, d *desk) (batch.Batch, error) {
	found, err := newest(ctx, d.ledger, 0, anyID, func(b batch.Batch) bool { return b.Kind != batch.Inspect })
	if err != nil {
		return batch.Batch{}, err
	}
	u := undos{desk: d, of: map[batch.ID][]batch.Batch{}}
	for _, b := range found {
		s, err := d.ledger.Status(ctx, b)
		switch {
		case err != nil:
			return b, err
		case s.Approved == "":
			continue
		case b.Kind == batch.Undo:
			u.of[b.Undoes] = append(u.of[b.Undoes], b)
			continue
		case b.Copies():
			if made, err := u.copied(ctx, b); err != nil || made {
				return b, errors.Join(err, a.refuseCopies(ctx, d, b))
			}
			continue
		}
		if undone, err := u.wholly(ctx, b); err != nil {
			return b, err
		} else if undone {
			continue
		}
		if !s.State.Over() {
			return b, stop(ExitNotRun, "the last batch that renames, %s, is %s: resume it or cancel it first", b.ID, s)
		}
		return b, nil
	}
	return batch.Batch{}, stop(ExitNotRun, "no batch in this ledger renamed anything that was not undone")
}

// undos are the approved undos of each batch.
type undos struct {
	*desk
	of map[batch.ID][]batch.Batch
}

// wholly reports whether a batch is undone: an undo of all of it left nothing that could be undone again, and was not undone
// itself, or undos of some of it amount to all.
func (u *undos) wholly(ctx context.Context, b batch.Batch) (bool, error) {
	for _, undo := range u.of[b.ID] {
		if undo.Chooses() || len(u.of[undo.ID]) > 0 {
			continue
		}
		s, err := readSummary(ctx, u.desk, undo.ID)
		if errors.Is(err, store.ErrNotExist) {
			return true, nil // it is at work
		}
		if err != nil || s.Counts.Failed == 0 {
			return err == nil, err
		}
	}
	left, known, err := u.left(ctx, b)
	return known && left <= 0, err
}

// copied reports whether a batch that copies made copies, or may have.
func (u *undos) copied(ctx context.Context, b batch.Batch) (bool, error) {
	s, err := readSummary(ctx, u.desk, b.ID)
	if errors.Is(err, store.ErrNotExist) {
		return true, nil
	}
	return s.Copied > 0, err
}

// left is how many of the objects that a batch renamed are not undone, and false if its summary is not there to tell.
func (u *undos) left(ctx context.Context, b batch.Batch) (int64, bool, error) {
	s, err := readSummary(ctx, u.desk, b.ID)
	if errors.Is(err, store.ErrNotExist) {
		return 0, false, nil
	}
	left := s.Renamed
	for _, undo := range u.of[b.ID] {
		n, known, undoErr := u.left(ctx, undo)
		if err = errors.Join(err, undoErr); known {
			left -= n
		}
	}
	return left, err == nil, err
}
