package planning

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/store"
)

// PollEvery is how often Undo looks whether it can start.
const PollEvery = 2 * time.Second

// Undo makes and seals the plan of a batch of kind undo, or adopts the one that is sealed. Its rows are those of the undone
// batch's plan that may ever have been dispatched, each reversed, the last first; the world says which of them move.
//
// Before it looks it waits until no execution can move any of these objects any more, neither one of the undone batch nor
// of another undo of it: each has ended, or ended reports that its process is gone. Meanwhile note tells what it waits
// for. Like Plan it returns nil where the undo was cancelled.
func Undo(ctx context.Context, hold Hold, led *ledger.Ledger, st store.Store, b batch.Batch, epoch int64,
	ended func(context.Context, ledger.Execution) (bool, error), note func(string),
) error {
	u := &undoer{desk: newDesk(hold, led, b, epoch, Options{}), archive: st, ended: ended, note: note}
	if err := u.seal(ctx, u.plan); err != nil {
		return fmt.Errorf("plan undo %s of batch %s: %w", b.ID, b.Undoes, err)
	}
	return nil
}

// undoer makes the plan of an undo.
type undoer struct {
	*desk
	archive store.Store
	ended   func(context.Context, ledger.Execution) (bool, error)
	note    func(string)
	// there: the archive holds something, so an object that is not found is missing.
	there bool
}

func (u *undoer) plan(ctx context.Context) (batch.Plan, error) {
	if err := u.wait(ctx); err != nil {
		return batch.Plan{}, err
	}
	w := newWriter(u.desk)
	undone, _, err := u.led.Plan(ctx, u.batch.Undoes)
	if errors.Is(err, store.ErrNotExist) { // it was cancelled before it could move anything
		return w.finish(ctx)
	}
	if err != nil {
		return batch.Plan{}, err
	}
	for n := len(undone.Segments) - 1; n >= 0; n-- {
		if err := u.segment(ctx, w, undone, n); err != nil {
			return batch.Plan{}, err
		}
	}
	return w.finish(ctx)
}

// wait returns when nothing can move the objects any more.
func (u *undoer) wait(ctx context.Context) error {
	related, err := u.related(ctx)
	if err != nil {
		return err
	}
	tick := time.NewTicker(PollEvery)
	defer tick.Stop()
	for {
		if err := u.check(ctx); err != nil {
			return err
		}
		e, err := u.open(ctx, related)
		if e == nil || err != nil {
			return err
		}
		u.note(fmt.Sprintf("waiting for worker %s (process %d on %s), which may still be renaming segment %d of batch %s; stop that process to go on",
			archive.EscapeText(e.Process.Worker), e.Process.PID, archive.EscapeText(e.Process.Host), e.Segment, e.Batch))
		u.hold.Advance(0, 0)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// related are the undone batch and the other undos of it.
func (u *undoer) related(ctx context.Context) ([]batch.ID, error) {
	ids := []batch.ID{u.batch.Undoes}
	for id, err := range u.led.Batches(ctx) {
		if err != nil {
			return nil, err
		}
		b, err := u.led.Batch(ctx, id)
		if errors.Is(err, store.ErrNotExist) || errors.Is(err, batch.ErrInvalid) {
			continue // not submitted, or by a newer version: then not an undo of this batch
		}
		if err != nil {
			return nil, err
		}
		if b.Undoes == u.batch.Undoes && b.ID != u.batch.ID {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// open is an execution that may still move something, nil if there is none.
func (u *undoer) open(ctx context.Context, of []batch.ID) (*ledger.Execution, error) {
	for _, id := range of {
		for e, err := range u.led.Executions(ctx, id) {
			if err != nil {
				return nil, err
			}
			over, err := u.ended(ctx, e)
			if err != nil {
				return nil, err
			}
			if !over {
				return &e, nil
			}
		}
	}
	return nil, nil
}

// segment reverses a segment of the undone plan.
func (u *undoer) segment(ctx context.Context, w *writer, undone batch.Plan, n int) error {
	rows, err := u.led.PlanRows(ctx, undone, n)
	if err != nil {
		return err
	}
	records, err := u.records(ctx, undone.Batch, n)
	if err != nil {
		return err
	}
	slices.Reverse(rows)
	for len(rows) > 0 {
		end := 1
		for end < len(rows) && rows[0].Group != "" && rows[end].Group == rows[0].Group {
			end++
		}
		if err := u.group(ctx, w, rows[:end], records); err != nil {
			return err
		}
		rows = rows[end:]
	}
	return nil
}

// records are what the undone batch says became of a segment, by the old key; none if it did not get so far.
func (u *undoer) records(ctx context.Context, id batch.ID, n int) (map[archive.Key]batch.Record, error) {
	out := map[archive.Key]batch.Record{}
	ref := batch.Ref{Batch: id, Step: batch.StepRename, Generation: generation, Segment: n}
	for r, err := range u.led.Part(ctx, ref) {
		if errors.Is(err, store.ErrNotExist) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		out[r.Key] = r
	}
	return out, nil
}

// group reverses rows that moved together. Objects that are gone do not keep the others from moving back.
func (u *undoer) group(ctx context.Context, w *writer, rows []batch.Row, records map[archive.Key]batch.Record) error {
	var back []batch.Row
	var principal archive.Key // where it is now
	for _, r := range rows {
		if !r.Moves() {
			continue
		}
		rec, known := records[r.From]
		row, err := u.reverse(ctx, r, rec, known)
		if err != nil {
			return err
		}
		if principal == "" || r.From == r.Group {
			principal = row.From
		}
		back = append(back, row)
	}
	allOrNone(back, func(r batch.Reason) bool { return r == batch.ReasonConflict || r == batch.ReasonChanged })
	for _, r := range back {
		if len(back) > 1 {
			r.Group = principal
		}
		if err := w.add(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

// reverse says what undoing a row takes, by looking at the world.
func (u *undoer) reverse(ctx context.Context, r batch.Row, rec batch.Record, known bool) (batch.Row, error) {
	want := r.Want
	if known && rec.To != "" {
		want = rec.Identity
	}
	back := batch.Row{From: r.To, To: r.From, Want: want}
	target, err := u.look(ctx, r.To)
	if err != nil {
		return back, err
	}
	source, err := u.look(ctx, r.From)
	if err != nil {
		return back, err
	}
	moved := target.is(want)
	if known && rec.To == "" { // then only its inode proves that it was moved nevertheless
		moved = moved && want.Inode != 0 && target.object.Inode == want.Inode
	}
	stayed := source.is(r.Want)
	linked := moved && stayed && want.Inode != 0 && source.object.Inode == target.object.Inode
	switch {
	case linked: // an interrupted link+unlink left both names
		back.Want = target.object.Identity
	case stayed:
		settle(&back, batch.Skipped, batch.ReasonUnchanged, "it was not renamed, or is back already")
	case moved && !source.taken:
		back.Want = target.object.Identity
	case moved:
		settle(&back, batch.Failed, batch.ReasonConflict, fmt.Sprintf("something else has the old name %s by now; move that away and undo again", r.From.Text()))
	case target.taken && !source.taken:
		settle(&back, batch.Failed, batch.ReasonChanged, "it has changed since it was renamed; if that is right, rename it back by hand")
	case known && rec.To == "":
		settle(&back, batch.Skipped, batch.ReasonUnchanged, "it was not renamed")
	case source.taken && !target.taken:
		settle(&back, batch.Skipped, batch.ReasonChanged, "something is at its old name, and nothing at its new one: there is nothing to rename back")
	default:
		settle(&back, batch.Failed, batch.ReasonMissing, "it is neither at its new name nor at its old one")
		return back, u.reachable(ctx)
	}
	return back, nil
}

// sight is what is at a key.
type sight struct {
	taken  bool
	object archive.Object // zero if it is not a regular file
}

func (s sight) is(want archive.Identity) bool {
	return s.object.Key != "" && want.Same(s.object.Identity)
}

func (u *undoer) look(ctx context.Context, key archive.Key) (sight, error) {
	o, err := u.archive.Stat(ctx, key)
	switch {
	case errors.Is(err, store.ErrNotExist):
		return sight{}, nil
	case errors.Is(err, store.ErrNotRegular):
		return sight{taken: true}, nil
	}
	return sight{taken: true, object: o}, err
}

// reachable is an error where the archive is empty: then its objects are not missing, it is not the archive.
func (u *undoer) reachable(ctx context.Context) error {
	if u.there {
		return nil
	}
	for _, err := range u.archive.List(ctx, store.ListOptions{}) {
		u.there = err == nil
		return err
	}
	return fmt.Errorf("the archive is empty: %w", store.ErrUnavailable)
}
