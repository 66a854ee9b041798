package planning

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/extsort"
	"github.com/reshelf/reshelf/shared/ledger"
)

// sizes of what a summary shows.
const (
	examples = 3
	samples  = 5
	// sources of dates are named so many; hostile objects can have dates in as many tags as they like.
	sources = 1000
)

// writer writes rows in segments, the rows of a group or chain in one, and counts the summary.
type writer struct {
	*desk
	plan batch.Plan
	// segment and group hold rows that are not written yet, group those of one group or chain.
	segment, group []batch.Row
	rows           int64
	sameFolded     int64 // rows to be renamed whose names fold equal
	last           archive.Key
	oldFolders     folders
	newFolders     folders
	random         *rand.Rand
}

func newWriter(d *desk) *writer {
	return &writer{
		desk: d,
		plan: batch.Plan{
			V: batch.Version, Batch: d.batch.ID, Epoch: d.epoch, Segments: []batch.PlanSegment{},
			Summary: batch.PlanSummary{
				Skipped: map[batch.Reason]int64{}, Failed: map[batch.Reason]int64{},
				Examples: map[batch.Reason][]batch.Row{}, DateSources: map[string]int64{}, Changed: map[string]int64{},
			},
		},
		oldFolders: folders{sorter: d.sorter("old-folders")},
		newFolders: folders{sorter: d.sorter("new-folders")},
		random:     rand.New(rand.NewChaCha8(sha256.Sum256([]byte(d.batch.ID)))),
	}
}

// add appends a row; the rows of a group or chain come one after the other.
func (w *writer) add(ctx context.Context, r batch.Row) error {
	if err := w.tick(ctx); err != nil {
		return err
	}
	if w.rows > 0 && r.From == w.last {
		return fmt.Errorf("%s has two rows: %w", r.From.Text(), ledger.ErrCorrupt)
	}
	w.last = r.From
	w.refuse(&r)
	if len(w.group) > 0 && !r.Follows(w.group[0]) {
		if err := w.endGroup(ctx); err != nil {
			return err
		}
	}
	r.N = w.rows
	r.OpID = opID(w.batch.ID, w.epoch, r.N)
	w.rows++
	w.group = append(w.group, r)
	return nil
}

// opID is unique to a row of a plan: the first 32 digits of a SHA-256.
func opID(id batch.ID, epoch, row int64) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d %d", id, epoch, row))
	return hex.EncodeToString(sum[:])[:32]
}

func (w *writer) endGroup(ctx context.Context) error {
	if len(w.group) == 0 {
		return nil
	}
	w.park(w.group)
	for _, r := range w.group {
		if err := w.count(ctx, r); err != nil {
			return err
		}
	}
	if len(w.segment)+len(w.group) > w.opts.Rows {
		if err := w.flush(ctx); err != nil {
			return err
		}
	}
	w.segment = append(w.segment, w.group...)
	w.group = w.group[:0]
	return nil
}

func (w *writer) flush(ctx context.Context) error {
	if len(w.segment) == 0 {
		return nil
	}
	if err := w.check(ctx); err != nil {
		return err
	}
	seg, err := w.led.WritePlanRows(ctx, w.batch.ID, w.epoch, len(w.plan.Segments), w.segment)
	if err != nil {
		return err
	}
	w.plan.Segments = append(w.plan.Segments, seg)
	w.segment = w.segment[:0]
	return nil
}

// finish writes what is left and returns the plan.
func (w *writer) finish(ctx context.Context) (batch.Plan, error) {
	if err := w.endGroup(ctx); err != nil {
		return batch.Plan{}, err
	}
	if err := w.flush(ctx); err != nil {
		return batch.Plan{}, err
	}
	var err error
	if w.plan.Summary.OldFolders, err = w.oldFolders.count(ctx); err != nil {
		return batch.Plan{}, err
	}
	if w.plan.Summary.NewFolders, err = w.newFolders.count(ctx); err != nil {
		return batch.Plan{}, err
	}
	w.plan.Summary.Notes = w.notes(w.plan.Summary)
	if w.sameFolded > 0 {
		w.plan.Summary.Notes = append(w.plan.Summary.Notes, refoldNote(w.sameFolded))
	}
	return w.plan, nil
}

// count adds a row to the summary.
func (w *writer) count(ctx context.Context, r batch.Row) error {
	s := &w.plan.Summary
	s.Rows++
	if !r.Moves() {
		if r.Outcome == batch.Skipped {
			s.Skipped[r.Reason]++
		} else {
			s.Failed[r.Reason]++
		}
		if len(s.Examples[r.Reason]) < examples {
			s.Examples[r.Reason] = append(s.Examples[r.Reason], r)
		}
		return nil
	}
	s.Moves++
	s.Bytes += r.Want.Size
	if r.Numbered {
		s.Numbered++
	}
	if r.Second {
		s.Second++
	}
	if r.Chain != 0 {
		s.Chained++
	}
	if w.refolded(r) {
		w.sameFolded++
	}
	countSource(s.DateSources, r.DateSource)
	for _, what := range r.Changed {
		s.Changed[what]++
	}
	if r.Sidecar != "" && r.From == r.Group {
		s.Sidecars++
	}
	if r.Message != "" && r.From == r.Group {
		s.SidecarsMuted++
	}
	w.draw(r)
	if err := w.oldFolders.add(ctx, r.From.Dir()); err != nil {
		return err
	}
	return w.newFolders.add(ctx, r.To.Dir())
}

// otherSources stands for the sources of dates beyond those that are named.
const otherSources = "other tags"

func countSource(counts map[string]int64, source string) {
	if source == "" {
		return
	}
	if _, named := counts[source]; !named && len(counts) >= sources {
		source = otherSources
	}
	counts[source]++
}

// draw keeps a uniform sample of the rows that move (Vitter's algorithm R, ACM TOMS 11, 1985).
func (w *writer) draw(r batch.Row) {
	s := &w.plan.Summary
	if len(s.Sample) < samples {
		s.Sample = append(s.Sample, r)
		return
	}
	if i := w.random.Int64N(s.Moves); i < samples {
		s.Sample[i] = r
	}
}

// folders counts distinct folders.
type folders struct {
	sorter *extsort.Sorter
	last   archive.Key
	some   bool
}

func (f *folders) add(ctx context.Context, dir archive.Key) error {
	if f.some && dir == f.last {
		return nil
	}
	f.last, f.some = dir, true
	return f.sorter.Add(ctx, []byte(dir), nil)
}

func (f *folders) count(ctx context.Context) (int64, error) {
	var n int64
	last, some := "", false
	for it, err := range f.sorter.Sorted(ctx) {
		if err != nil {
			return 0, err
		}
		if !some || string(it.Key) != last {
			n++
		}
		last, some = string(it.Key), true
	}
	return n, nil
}
