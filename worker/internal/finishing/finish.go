// Package finishing is the finish step: it joins the records of a batch into one final record for each listed object, and
// writes the report from them.
//
// # Final records
//
// A batch of kind inspect: the record of inspecting.
//
// A batch of kind rename: an object that could not be inspected keeps that record's outcome and reason, also where it was
// renamed with the one that it is the sidecar of. For any other, the
// outcome is that of its row of the plan: of the record of renaming where the row was to be renamed ("done" means that the
// object has its planned name), else what the plan says, so an object that had its name already is "skipped: unchanged".
// Digests, tags and identity are those that were inspected; To is the key that the object has now, if another.
//
// A batch of kind undo or edit: the same from the plan alone; the identity is the one that the plan asked for.
//
// Each final record of a listed object names the XMP sidecars that describe it. They are found in the segment lists, before
// the records are read.
//
// In a cancelled batch, what was not reached is "skipped: cancelled". What was inspected but not renamed is so too.
//
// # Files
//
// Every execution writes below a folder of its own, so twins never mix, and then creates summary.json, which names the
// files of the folder, if there is none. Whose summary is there has made the report; all other folders are deleted.
//
// # Goroutines
//
// One segment of records is read and joined with its list ahead of the one in hand, and the two forms of the final records,
// the catalogue and the JSON lines, are encoded by a goroutine each, which get them in chunks. All else is done by the caller's,
// which alone asks and tells the claim, counts, and starts and ends files. No goroutine is left when Finish returns, and a panic
// in one of them is a panic of Finish.
package finishing

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/extsort"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/report"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/worker/internal/panics"
)

// ErrUnsettled: a segment of the rename step may have moved objects and has no part yet. Its execution has to be settled
// first.
var ErrUnsettled = errors.New("not settled")

// Hold is the claim under which work is done. It is used by one goroutine at a time.
type Hold interface {
	Held() error                  // nil while the claim is certainly held; else stop at once and touch nothing any more
	Cancelled() bool              // the batch was cancelled
	Advance(objects, bytes int64) // progress made since the last call
}

// defaultShardRows is the number of records in a shard of the catalogue.
const defaultShardRows = 1_000_000

// Finish writes the report of batch b, whose status is st and whose end is now. It returns nil once the report is whole,
// whoever wrote it. It may be repeated, run twice at once, or be killed at any point.
//
// Errors wrap ledger.ErrCorrupt where the records do not cover the segment lists exactly, with the segment and the key, and
// ErrUnsettled where renames of a cancelled batch are not settled. Finish holds the records of two
// segments and a few chunks, the buffers of the files that it writes and four times extsort's memory.
func Finish(ctx context.Context, hold Hold, led *ledger.Ledger, b batch.Batch, st batch.Status, now time.Time) error {
	return newFinish(hold, led, b, st, now).run(ctx)
}

type finish struct {
	hold  Hold
	led   *ledger.Ledger
	batch batch.Batch
	// cancelled allows segments without a part.
	cancelled bool
	reason    string // of the cancellation
	now       time.Time
	// folder is this execution's, below the batch's report folder.
	folder    string
	shardRows int64
	sort      extsort.Options
	tally     tally
	// names of rows that were carried out or tried, with their segments; named if there are any.
	names *extsort.Sorter
	named bool
	files []report.File // those that are whole
	open  []*stream     // those that are being written
}

func newFinish(hold Hold, led *ledger.Ledger, b batch.Batch, st batch.Status, now time.Time) *finish {
	return &finish{
		hold: hold, led: led, batch: b, cancelled: st.Cancelled, reason: st.Reason, now: now,
		folder:    strings.ToLower(rand.Text()),
		shardRows: defaultShardRows,
		tally:     newTally(b),
	}
}

func (f *finish) key(parts ...string) archive.Key {
	return ledger.Key(f.batch.ID, append([]string{"report"}, parts...)...)
}

func (f *finish) summaryKey() archive.Key { return f.key(report.SummaryName) }

// scratch is where a sorter writes its runs.
func (f *finish) scratch(name string) string { return string(f.key(f.folder, "tmp", name)) }

func (f *finish) run(ctx context.Context) error {
	whole, err := f.published(ctx)
	if err != nil || whole {
		return err
	}
	writing, cancel := context.WithCancel(ctx)
	defer cancel()
	err = f.write(writing)
	if err == nil {
		return nil
	}
	cancel()
	f.abort(err)
	f.sweepOwn(ctx)
	panics.Rethrow(err)
	// A twin that was first has swept this execution's files away.
	if whole, readErr := f.published(ctx); readErr == nil && whole {
		return nil
	}
	return fmt.Errorf("finish batch %s: %w", f.batch.ID, err)
}

// published reports whether the batch has its report, and if so deletes what other executions left.
func (f *finish) published(ctx context.Context) (bool, error) {
	c, err := f.led.Store().Open(ctx, f.summaryKey(), 0, -1, archive.Identity{})
	if errors.Is(err, store.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("finish batch %s: %w", f.batch.ID, err)
	}
	s, err := report.ReadSummary(c)
	if err = errors.Join(err, c.Close()); err != nil {
		return false, fmt.Errorf("finish batch %s: %s: %w: %w", f.batch.ID, f.summaryKey(), ledger.ErrCorrupt, err)
	}
	f.sweepOthers(ctx, s.Files)
	return true, nil
}

func (f *finish) write(ctx context.Context) (err error) {
	defer panics.Catch(&err) // whoever writes waits for its goroutines also then
	f.names = extsort.New(f.led.Store(), f.scratch("names"), f.sort)
	rows, err := f.sortRows(ctx)
	if err != nil {
		return err
	}
	if err := f.writeNames(ctx); err != nil {
		return err
	}
	sidecars, err := f.sortSidecars(ctx)
	if err != nil {
		return err
	}
	contents := extsort.New(f.led.Store(), f.scratch("contents"), f.sort)
	if err := f.writeFinals(ctx, rows, sidecars, contents); err != nil {
		return err
	}
	if err := f.writeDuplicates(ctx, contents); err != nil {
		return err
	}
	if err := errors.Join(rows.remove(ctx), sidecars.Remove(ctx), contents.Remove(ctx)); err != nil {
		return err
	}
	return f.publish(ctx)
}

// publish makes the report whole, or finds that another execution did so first.
func (f *finish) publish(ctx context.Context) error {
	events, err := f.led.Events(ctx, f.batch.ID, 0)
	if err != nil {
		return err
	}
	summary, err := f.summary(events)
	if err != nil {
		return err
	}
	raw, err := summary.Encode()
	if err != nil {
		return err
	}
	if err := f.hold.Held(); err != nil {
		return err
	}
	err = f.led.Store().Create(ctx, f.summaryKey(), bytes.NewReader(raw))
	if errors.Is(err, store.ErrExist) {
		f.sweepOwn(ctx)
		return nil
	}
	if err != nil {
		return err
	}
	f.sweepOthers(ctx, f.files)
	return nil
}

// sweepTimeout bounds the deletion of what an execution leaves behind.
const sweepTimeout = 20 * time.Second

// sweepOwn deletes this execution's folder, unless its claim is lost.
func (f *finish) sweepOwn(ctx context.Context) { f.sweep(ctx, string(f.key(f.folder, "")), nil) }

// sweepOthers deletes all files in the batch's report folder but the summary and those that it names.
func (f *finish) sweepOthers(ctx context.Context, files []report.File) {
	keep := map[archive.Key]bool{f.summaryKey(): true}
	for _, file := range files {
		keep[file.Key] = true
	}
	f.sweep(ctx, string(f.key("")), keep)
}

// sweep deletes what it can: nothing refers to these files, and what is left takes space but changes no report.
func (f *finish) sweep(ctx context.Context, prefix string, keep map[archive.Key]bool) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sweepTimeout)
	defer cancel()
	for e, err := range f.led.Store().List(ctx, store.ListOptions{Prefix: prefix}) {
		if err != nil || f.hold.Held() != nil {
			return
		}
		if !keep[e.Key] {
			_ = f.led.Store().Delete(ctx, e.Key, archive.Identity{})
		}
	}
}

// alive is asked before each unit of work.
func (f *finish) alive(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return f.hold.Held()
}
