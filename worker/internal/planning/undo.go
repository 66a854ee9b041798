package planning

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/naming"
	"github.com/reshelf/reshelf/shared/store"
)

// PollEvery is how often Undo looks whether it can start.
const PollEvery = 2 * time.Second

// Undo makes and seals the plan of a batch of kind undo, or adopts the one that is sealed. Its rows are those of the undone
// batch's plan that may ever have been dispatched, each reversed, the last first; what an earlier undo has taken back stays,
// and of the others the world says which of them move.
//
// An undo of chosen keys has the rows of these alone, with the objects that move only together with them, and a row that
// fails for each key of its manifest that the undone batch was to give no object.
//
// Before it looks it waits until no execution can move any of these objects any more, neither one of the undone batch nor
// of its undos, nor of a batch that it undoes itself: each has ended, or ended reports that its process is gone. Meanwhile
// note tells what it waits for. Like Plan it returns nil where the undo was cancelled.
func Undo(ctx context.Context, hold Hold, led *ledger.Ledger, st store.Store, b batch.Batch, epoch int64,
	ended func(context.Context, ledger.Execution) (bool, error), note func(string),
) error {
	u := &undoer{desk: newDesk(hold, led, st, b, epoch, Options{}), archive: &seen{Store: st}, ended: ended, note: note}
	if err := u.seal(ctx, u.plan); err != nil {
		return fmt.Errorf("plan undo %s of batch %s: %w", b.ID, b.Undoes, err)
	}
	return nil
}

// undoer makes the plan of an undo.
type undoer struct {
	*desk
	archive *seen
	ended   func(context.Context, ledger.Execution) (bool, error)
	note    func(string)
	// there: the archive holds something, so an object that is not found is missing.
	there bool

	kin    kin
	chosen choice
	back   takenBack
	added  added
	// brought are the rows whose objects later batches have brought to their new names.
	brought *rowCursor
	// freed are names that objects of the segment leave before those that had them come back: they are of chains.
	freed map[string]bool
	// chained are the inodes of the objects of chains in the segment.
	chained map[uint64]bool
	// begun: which segments of the undone batch were begun; nil until it matters. someBegun: at least one was.
	begun     []bool
	someBegun bool
	// spelled are names of the segment as they are listed, where the archive does not tell them from others.
	spelled map[archive.Key]bool
	// alike are names of rows that differ by folding alone, in folders that were not listed yet, by folder.
	alike map[archive.Key][]archive.Key
	// never: the segment at hand has moved nothing, since it was not begun, unlike others.
	never bool
}

// errCopies: an undo would have to delete.
var errCopies = errors.New("it copied objects, and nothing of an archive is ever deleted")

func (u *undoer) plan(ctx context.Context) (batch.Plan, error) {
	undoes, err := u.led.Batch(ctx, u.batch.Undoes)
	if err == nil && undoes.Copies() {
		err = errCopies
	}
	if err != nil && !errors.Is(err, store.ErrNotExist) {
		return batch.Plan{}, err
	}
	if u.kin, err = u.relatives(ctx); err != nil {
		return batch.Plan{}, err
	}
	if err := u.wait(ctx); err != nil {
		return batch.Plan{}, err
	}
	w := newWriter(u.desk)
	undone, _, err := u.led.Plan(ctx, u.batch.Undoes)
	if err != nil && !errors.Is(err, store.ErrNotExist) { // without a plan it was cancelled before it could move anything
		return batch.Plan{}, err
	}
	if u.chosen, err = u.choose(ctx, undone); err != nil {
		return batch.Plan{}, err
	}
	defer u.chosen.close()
	if u.back, err = u.findTakenBack(ctx, undone); err != nil {
		return batch.Plan{}, err
	}
	defer u.back.close()
	if u.brought, err = u.findBrought(ctx, undone); err != nil {
		return batch.Plan{}, err
	}
	defer u.brought.close()
	if err := u.segments(ctx, w, undone); err != nil {
		return batch.Plan{}, err
	}
	if err := u.chosen.eachStranger(ctx, func(key archive.Key) error { return w.add(ctx, stranger(key)) }); err != nil {
		return batch.Plan{}, err
	}
	p, err := w.finish(ctx)
	p.Summary.Notes = append(p.Summary.Notes, u.added.note()...)
	return p, err
}

// segments reverses the segments of the undone plan, the last first.
func (u *undoer) segments(ctx context.Context, w *writer, undone batch.Plan) error {
	var first int64 // row of the segment
	for _, s := range undone.Segments {
		first += s.Rows
	}
	for n, s := range slices.Backward(undone.Segments) {
		first -= s.Rows
		if err := u.check(ctx); err != nil {
			return err
		}
		if none, err := u.chosen.noneFrom(first); err != nil {
			return err
		} else if none {
			continue
		}
		if err := u.segment(ctx, w, undone, n); err != nil {
			return err
		}
	}
	return nil
}

// wait returns when nothing can move the objects any more.
func (u *undoer) wait(ctx context.Context) error {
	related := u.kin.all
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
	u.never = false
	if records == nil {
		if err := u.findBegun(ctx, undone); err != nil {
			return err
		}
		u.never = u.someBegun && !u.begun[n]
	}
	u.freed, u.chained = map[string]bool{}, map[uint64]bool{}
	for _, r := range rows {
		if r.Chain != 0 && r.Moves() {
			u.chained[r.Want.File()] = true
		}
	}
	if err := u.findSpelled(ctx, rows); err != nil {
		return err
	}
	bonds, err := u.bonds(rows)
	if err == nil {
		err = u.lookAt(ctx, bonds)
	}
	if err != nil {
		return err
	}
	for _, b := range bonds {
		if err := b.reverse(ctx, w, b, records); err != nil {
			return err
		}
	}
	return nil
}

// records are what the undone batch says became of a segment, by the old key; nil if it did not get so far.
func (u *undoer) records(ctx context.Context, id batch.ID, n int) (map[archive.Key]batch.Record, error) {
	out := map[archive.Key]batch.Record{}
	ref := batch.Ref{Batch: id, Step: batch.StepRename, Generation: generation, Segment: n}
	for r, err := range u.led.Part(ctx, ref) {
		if errors.Is(err, store.ErrNotExist) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		out[r.Key] = r
	}
	return out, nil
}

// group reverses rows that moved together. Objects that are gone do not keep the others from moving back.
func (u *undoer) group(ctx context.Context, w *writer, b bond, records map[archive.Key]batch.Record) error {
	var reversed []batch.Row
	for i, r := range b.rows {
		rec, known := records[r.From]
		reverse := u.reverse
		if r.Park != "" {
			reverse = u.reverseParked
		}
		row, err := reverse(ctx, r, rec, known, b.marks[i])
		if err != nil {
			return err
		}
		reversed = append(reversed, row)
	}
	allOrNone(reversed, blocksUndo)
	return u.emitBack(ctx, w, b, reversed)
}

// blocksUndo reports whether an object that does not move back for that reason keeps those that moved with it where they are.
func blocksUndo(r batch.Reason) bool {
	return r == batch.ReasonConflict || r == batch.ReasonChanged || r == batch.ReasonUnsupported
}

// emitBack writes the reverse of rows that moved together.
func (u *undoer) emitBack(ctx context.Context, w *writer, b bond, reversed []batch.Row) error {
	principals := principalsNow(b.rows, reversed)
	for i, r := range reversed {
		// Of an object that was not chosen it matters only whether it moves, or keeps others where they are.
		if !b.marks[i].chosen && !r.Moves() && !blocksUndo(r.Reason) {
			continue
		}
		r.Group = principals[b.rows[i].Group]
		if r.Chain != 0 && r.Moves() && (u.chains() || u.parks()) {
			u.freed[u.name(r.From)] = true
		}
		if r.Added = !b.marks[i].chosen && r.Moves(); r.Added {
			u.added.add(r.From)
		}
		if err := w.add(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

// principalsNow says of each group where its principal is, or else the first of it; nothing of those with but one object.
func principalsNow(rows, reversed []batch.Row) map[archive.Key]archive.Key {
	now, n := map[archive.Key]archive.Key{}, map[archive.Key]int{}
	for i, r := range rows {
		if n[r.Group]++; n[r.Group] == 1 || r.From == r.Group {
			now[r.Group] = reversed[i].From
		}
	}
	maps.DeleteFunc(now, func(group, _ archive.Key) bool { return group == "" || n[group] == 1 })
	return now
}

// mark is what is known of a row without looking at the world.
type mark struct {
	chosen bool
	by     batch.ID // the undo that has taken it back; "" if none has
	others bool     // a later batch has brought the object to its new name again
}

// marks are those of rows of the undone plan, the last ones first.
func (u *undoer) marks(rows []batch.Row) ([]mark, error) {
	marks := make([]mark, len(rows))
	for i, r := range rows {
		m := &marks[i]
		var err error
		if m.chosen, err = u.chosen.has(r); err != nil {
			return nil, err
		}
		if m.by, err = u.back.by(r); err != nil {
			return nil, err
		}
		if _, m.others, err = u.brought.at(r.N); err != nil {
			return nil, err
		}
	}
	return marks, nil
}

// reverse says what undoing a row takes, by looking at the world. What is at the new name where an undo has taken the row back, be it
// the same object, did not come there by the undone batch.
func (u *undoer) reverse(ctx context.Context, r batch.Row, rec batch.Record, known bool, m mark) (batch.Row, error) {
	back := batch.Row{From: r.To, To: r.From, Want: r.Want, Chain: r.Chain, Undoes: &batch.Undone{OpID: r.OpID, Was: r.Want}}
	if m.by != "" {
		settle(&back, batch.Skipped, batch.ReasonUnchanged, fmt.Sprintf("undo %s has taken it back already", m.by))
		return back, nil
	}
	w, err := store.Locate(ctx, u.archive, store.RenameRequest{From: r.From, To: r.To, Want: r.Want, OpID: r.OpID})
	if err != nil {
		return back, err
	}
	source, target := w.Source, w.Target
	stayed, moved := source.Is(r.Want), w.Proven()
	recorded := known && rec.To != ""
	otherwise := !stayed && !u.props.Marks && (m.others || u.never) // marks tell who has moved it
	switch {
	case recorded && otherwise && target.Is(rec.Identity):
		settle(&back, batch.Failed, batch.ReasonConflict, broughtAgain)
		return back, nil
	case recorded:
		back.Want = rec.Identity
		moved = target.Is(rec.Identity)
	case !known && otherwise && target.Is(r.Want):
		settle(&back, batch.Skipped, batch.ReasonUnchanged, "the batch did not rename it; it came to this name otherwise")
		return back, nil
	case !known:
		moved = moved || target.Is(r.Want)
	}
	// An interrupted rename left both: one file with two names, or a copy whose source is still there.
	// In a chain the new name may still be that of an object which was not renamed.
	foreign := target.Object.File() != r.Want.File() && u.chained[target.Object.File()]
	free := !source.Taken || u.freed[u.name(r.From)]
	if moved && stayed && r.SameFolded() {
		if moved, stayed, err = u.spelling(ctx, r); err != nil {
			return back, err
		}
		free = free || !stayed
	}
	both := moved && stayed && w.Proven() && (!recorded || source.Object.Inode != 0)
	switch {
	case both:
		back.Want = target.Object.Identity
	case stayed:
		back.Back = true
		settle(&back, batch.Skipped, batch.ReasonUnchanged, "it was not renamed, or is back already")
	case moved && free:
		back.Want = target.Object.Identity
	case moved:
		what := "something else"
		if r.Chain != 0 {
			what = "another object, perhaps one that this batch has brought there,"
		}
		settle(&back, batch.Failed, batch.ReasonConflict, fmt.Sprintf(
			"%s has the old name %s by now; undo what brought it there, or move it away, and undo again", what, r.From.Text()))
	case target.Taken && free && !foreign, target.Object.Inode != 0 && target.Object.Inode == r.Want.Inode:
		settle(&back, batch.Failed, batch.ReasonChanged, "it has changed since it was renamed; if that is right, rename it back by hand")
	case known && rec.To == "":
		settle(&back, batch.Skipped, batch.ReasonUnchanged, "it was not renamed")
	case source.Taken && !target.Taken:
		settle(&back, batch.Skipped, batch.ReasonChanged, "something is at its old name, and nothing at its new one: there is nothing to rename back")
	default:
		settle(&back, batch.Failed, batch.ReasonMissing, "it is neither at its new name nor at its old one; reshelf history says whether another batch has renamed it")
		return back, u.reachable(ctx)
	}
	return back, nil
}

// spelling says of an object that is found by the old and the new name of a row which of them it has: both, unless the archive, or its folder
// alone, takes them for one.
func (u *undoer) spelling(ctx context.Context, r batch.Row) (moved, stayed bool, err error) {
	err = u.spell(ctx, r)
	return u.spelled[r.To], u.spelled[r.From] || !u.spelled[r.To], err
}

// name is what names are compared by.
func (u *undoer) name(key archive.Key) string {
	if u.props.FoldsCase {
		return naming.Fold(key)
	}
	return string(key)
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
