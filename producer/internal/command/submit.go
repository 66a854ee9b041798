package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"os/user"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/flow"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/listing"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/telemetry"
)

// newBatch is a batch with what all kinds share.
func (s *batchFlags) newBatch(cmd *cobra.Command, kind batch.Kind, root archive.Root) (batch.Batch, error) {
	priority, err := choice(cmd, "priority", s.priority, batch.Priorities())
	if err != nil {
		return batch.Batch{}, err
	}
	now := time.Now().UTC()
	id := newID(now)
	batchIs(cmd.Context(), id)
	return batch.Batch{
		V: batch.Version, ID: id, Kind: kind, Archive: root, Pool: s.pool, Priority: priority,
		AssumeSingleWriter: s.assumeSingleWriter, RemoveEmptyFolders: s.removeEmptyFolders, Name: s.name, Note: s.note, Labels: s.labels, Submitted: now, By: by(),
		Traceparent: telemetry.Traceparent(cmd.Context()),
	}, nil
}

// newBatch is a batch over an archive.
func (s *submission) newBatch(cmd *cobra.Command, kind batch.Kind, root archive.Root) (batch.Batch, error) {
	b, err := s.batchFlags.newBatch(cmd, kind, root)
	if err != nil {
		return b, err
	}
	b.Filter = batch.Filter{Include: s.include, Exclude: s.exclude, All: s.all}
	b.Manifest = s.manifest != ""
	b.TrustStoreChecksums = s.trustStoreChecksums
	if _, err := listing.Compile(b.Filter); err != nil {
		return b, usageError{err, cmd.CommandPath()}
	}
	if _, err := choice(cmd, "manifest-format", s.manifestFormat, listing.Formats()); err != nil {
		return b, err
	}
	return b, nil
}

// by is user@host, as far as it is known.
func by() string {
	name, host := "unknown", "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if h, err := os.Hostname(); err == nil {
		host = h
	}
	return name + "@" + host
}

// archiveArgument reads an ARCHIVE argument, and refuses one that holds the ledger or lies in it.
func archiveArgument(cmd *cobra.Command, p place, text string) (archive.Root, error) {
	root, err := parseRoot(text)
	if err != nil {
		return root, usageError{err, cmd.CommandPath()}
	}
	if root.Overlaps(p.ledger) {
		return root, stop(ExitUsage, "the ledger %s and the archive %s must not lie in each other: choose another --ledger",
			shownRoot(p.ledger), shownRoot(root))
	}
	return root, nil
}

// reachable opens an archive to see that it is there, before a batch is made. On a fleet only its workers can tell.
func (a *app) reachable(ctx context.Context, p place, b batch.Batch) error {
	if p.fleet {
		return nil
	}
	if b.Pool != defaultPool {
		return stop(ExitUsage, "--pool %s is for a fleet (--redis): on this machine this command does the work", archive.EscapeText(b.Pool))
	}
	if err := a.hasExifTool(ctx, b); err != nil {
		return err
	}
	if root := b.Archive; root.Scheme() == archive.SchemeFile {
		info, err := os.Stat(root.Path())
		switch {
		case errors.Is(err, os.ErrNotExist):
			return stop(ExitNotRun, "archive %s does not exist", shownRoot(root))
		case err == nil && !info.IsDir():
			return stop(ExitNotRun, "archive %s is not a directory; for one file name its directory and use --include %s",
				shownRoot(root), quote(archive.EscapeText(filepath.Base(root.Path()))))
		}
	}
	st, err := a.env.OpenStore(ctx, a.place.stores, b.Archive)
	if err != nil {
		return fmt.Errorf("archive %s: %w", shownRoot(b.Archive), err)
	}
	defer st.Close()
	p2 := st.Properties()
	if !p2.Local {
		return nil // what its server can do is found out when the plan is made, and is in it
	}
	if b.Kind != batch.Inspect && !b.Copies() && !p2.GuardedRename && !b.AssumeSingleWriter {
		return stop(ExitNotRun, "archive %s: objects cannot be renamed safely there while others write to it (%s).\n"+
			"%s\nIf nobody else writes to it, give --assume-single-writer.", shownRoot(b.Archive), p2.RenameMethod, p2.Remedy)
	}
	return nil
}

// hasExifTool has ExifTool read a sample, where the batch needs it, so that a batch is not made in vain.
func (a *app) hasExifTool(ctx context.Context, b batch.Batch) error {
	if b.Level == "" || b.Level == batch.LevelNone {
		return nil
	}
	for _, f := range a.env.Doctor(ctx, a.place.stores, a.place.exiftool, archive.Root{}) {
		if f.State == "fail" {
			return stop(ExitNotRun, "%s: %s; %s", f.Name, archive.EscapeText(f.Detail), f.Remedy)
		}
	}
	return nil
}

// submit writes the batch to the ledger, its manifest first, and announces it.
func (a *app) submit(ctx context.Context, d *desk, b batch.Batch, s *submission) error {
	if b.Manifest {
		if err := a.spool(ctx, d.ledger, b.ID, s); err != nil {
			return err
		}
	}
	if err := d.flow.Submit(ctx, b); err != nil {
		return err
	}
	if !d.fleet {
		return nil
	}
	if err := d.flow.Served(ctx, b); errors.Is(err, flow.ErrNoWorker) {
		a.tell("warning: %v; the batch waits until a worker serves it", err)
	} else if err != nil {
		return err
	}
	return nil
}

// spool stores the manifest; where that fails it leaves nothing behind.
func (a *app) spool(ctx context.Context, led *ledger.Ledger, id batch.ID, s *submission) error {
	objects, closeManifest, err := a.named(s)
	if err != nil {
		return err
	}
	n, err := listing.Spool(ctx, led, id, untilDone(ctx, objects))
	if err = errors.Join(err, closeManifest()); err != nil {
		return errors.Join(err, remove(context.WithoutCancel(ctx), led, id))
	}
	a.log.InfoContext(ctx, "manifest spooled", "batch", id, "keys", n)
	return nil
}

// named are the objects that were named, and what ends reading them.
func (a *app) named(s *submission) (iter.Seq2[listing.Named, error], func() error, error) {
	if s.manifest == "" {
		return func(yield func(listing.Named, error) bool) {
			for _, key := range s.keys {
				if !yield(listing.Named{Key: key}, nil) {
					return
				}
			}
		}, func() error { return nil }, nil
	}
	in := io.NopCloser(a.env.Stdin)
	if s.manifest != "-" {
		file, err := os.Open(s.manifest)
		if err != nil {
			return nil, nil, fmt.Errorf("manifest: %w", err)
		}
		in = file
	}
	return listing.ReadManifest(in, listing.Format(s.manifestFormat), s.columns), in.Close, nil
}

// untilDone ends a sequence with ctx.
func untilDone(ctx context.Context, objects iter.Seq2[listing.Named, error]) iter.Seq2[listing.Named, error] {
	return func(yield func(listing.Named, error) bool) {
		for o, err := range objects {
			if ctx.Err() != nil {
				err = ctx.Err()
			}
			if !yield(o, err) || err != nil {
				return
			}
		}
	}
}

// remove deletes what a batch that was never submitted left in the ledger.
func remove(ctx context.Context, led *ledger.Ledger, id batch.ID) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for e, err := range led.Store().List(ctx, store.ListOptions{Prefix: string(ledger.Key(id, ""))}) {
		if err == nil {
			err = led.Store().Delete(ctx, e.Key, archive.Identity{})
		}
		if err != nil {
			return fmt.Errorf("remove batch %s, which was not submitted: %w", id, err)
		}
	}
	return nil
}
