package planning

import (
	"context"
	"encoding/binary"
	"errors"
	"iter"
	"slices"
	"strings"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/extsort"
	"github.com/reshelf/reshelf/shared/store"
)

// findBrought finds the rows of the undone plan whose objects later batches have brought to their new names: an identity alone does not
// tell who has moved an object. It joins these names with what the later batches have moved, as their records say, if there are any
// that are not relatives of the undone one; otherwise it reads nothing and returns nil. What an undo found to be back already was brought back by one that
// was interrupted, if it was moved at all. Copies were brought to their names too; that a batch took something away matters only where an
// undo brings that back, and there is none of one that copies. Where names are folded, one that changed their case brought objects to the same names.
func (u *undoer) findBrought(ctx context.Context, undone batch.Plan) (*rowCursor, error) {
	later, err := u.laterBatches(ctx)
	stranger := func(b batch.Batch) bool { return !slices.Contains(u.kin.all, b.ID) }
	if err != nil || !slices.ContainsFunc(later, stranger) {
		return nil, err
	}
	moves, names, rows := u.sorter("later"), u.sorter("names"), u.sorter("brought")
	some := false
	for n, by := range later {
		add := func(r batch.Row, moved bool) error {
			some = true
			from, to := u.fullName(by.Archive, r.From), u.fullName(by.Archive, r.To)
			return errors.Join(moves.Add(ctx, from, step{uint32(n), false, !moved}.encode()), moves.Add(ctx, to, step{uint32(n), true, !moved}.encode()))
		}
		err := u.eachMoved(ctx, by, add)
		if err == nil && stranger(by) && u.refolds() {
			err = u.eachUnrecorded(ctx, by, func(r batch.Row) error { return add(r, true) })
		}
		if err != nil {
			return nil, err
		}
	}
	if !some {
		return nil, nil
	}
	for r, err := range u.led.Rows(ctx, undone) {
		if err == nil {
			err = u.tick(ctx)
		}
		if err == nil && r.Moves() {
			err = names.Add(ctx, u.fullName(u.batch.Archive, r.To), fromLast(r.N))
		}
		if err != nil {
			return nil, err
		}
	}
	if err := u.joinBrought(ctx, later, names, moves.Sorted(ctx), rows); err != nil {
		return nil, err
	}
	if err := errors.Join(moves.Remove(ctx), names.Remove(ctx)); err != nil {
		return nil, err
	}
	return newRowCursor(rows.Sorted(ctx)), nil
}

// eachUnrecorded calls yield for each row of a later batch that may have changed the case of a name, and says nothing of it, since it was interrupted.
// What is at such a name looks as if nobody had touched it.
func (u *undoer) eachUnrecorded(ctx context.Context, by batch.Batch, yield func(batch.Row) error) error {
	plan, _, err := u.led.Plan(ctx, by.ID)
	if errors.Is(err, store.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for segment, err := range u.led.Begun(ctx, by.ID, batch.StepRename, generation) {
		if err == nil {
			_, err = u.led.PartHeader(ctx, batch.Ref{Batch: by.ID, Step: batch.StepRename, Generation: generation, Segment: segment})
		}
		if err == nil {
			continue
		}
		if !errors.Is(err, store.ErrNotExist) {
			return err
		}
		rows, err := u.led.PlanRows(ctx, plan, segment)
		if err != nil {
			return err
		}
		for _, r := range rows {
			if err = u.tick(ctx); err == nil && r.Moves() && r.SameFolded() {
				err = yield(r)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// fullName is what names of archives that overlap are compared by.
func (u *undoer) fullName(root archive.Root, key archive.Key) []byte {
	return []byte(u.name(archive.Key(fullName(root, key))))
}

// step is that a later batch brought an object to a name or took it away. In their order a batch takes away what it replaces.
type step struct {
	batch uint32
	came  bool
	back  bool // or so an interrupted undo did, if the object was moved at all
}

func (s step) encode() []byte {
	return append(binary.BigEndian.AppendUint32(nil, s.batch), bit(s.came), bit(s.back))
}

func bit(set bool) byte {
	if set {
		return 1
	}
	return 0
}

func (u *undoer) joinBrought(ctx context.Context, later []batch.Batch, names *extsort.Sorter, moves iter.Seq2[extsort.Item, error], rows *extsort.Sorter) error {
	at := newCursor(moves)
	defer at.stop()
	for it, err := range names.Sorted(ctx) {
		if err == nil {
			err = u.tick(ctx)
		}
		if err != nil {
			return err
		}
		name := nameSince{came: map[batch.ID]bool{}, left: map[batch.ID]bool{}}
		for at.to(it.Key); at.at(it.Key); {
			by := later[binary.BigEndian.Uint32(at.item.Value)]
			name.pass(by, takeSteps(at, it.Key), u.batch.Undoes, slices.Contains(u.kin.all, by.ID))
		}
		if at.err != nil {
			return at.err
		}
		if name.others {
			if err := rows.Add(ctx, it.Value, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// steps are those of one batch at one name.
type steps struct{ left, came, leftBack, cameBack bool }

// takeSteps takes the steps of the batch and name at which the cursor stands.
func takeSteps(at *cursor, name []byte) (s steps) {
	for by := binary.BigEndian.Uint32(at.item.Value); at.at(name) && binary.BigEndian.Uint32(at.item.Value) == by; at.next() {
		switch came, back := at.item.Value[4] == 1, at.item.Value[5] == 1; {
		case came && back:
			s.cameBack = true
		case came:
			s.came = true
		case back:
			s.leftBack = true
		default:
			s.left = true
		}
	}
	return s
}

// nameSince is what became of a name since the undone batch.
type nameSince struct {
	others     bool              // what is there was brought there by others
	gone       bool              // the object was taken away from the name, as records say, and not brought there again
	came, left map[batch.ID]bool // others, as it was before a batch brought an object there, and took it away
}

// pass takes a batch into account. Where an undo found one object to be back at the name, that it found another one to be away says nothing more.
func (n *nameSince) pass(by batch.Batch, s steps, undone batch.ID, kin bool) {
	if s.left {
		n.leave(by)
	}
	if s.leftBack && !s.came && !s.cameBack {
		n.restore(by, false)
	}
	if s.came {
		n.come(by, undone, kin)
	}
	if s.cameBack {
		n.restore(by, true)
	}
}

// leave: a batch has taken the object away from the name. Where it came by what this one undoes, all is as before.
func (n *nameSince) leave(by batch.Batch) {
	n.left[by.ID], n.gone = n.others, true
	if before, here := n.came[by.Undoes]; here {
		n.others = before
	}
}

// come: a batch has brought an object to the name, a relative of the undone one or not. An undo brings it to where it was, by whom
// ever; if it was there before the undone batch, then not by that one.
func (n *nameSince) come(by batch.Batch, undone batch.ID, kin bool) {
	n.came[by.ID], n.gone = n.others, false
	before, away := n.left[by.Undoes]
	switch {
	case kin:
		n.others = false
	case by.Kind == batch.Undo && away:
		n.others = before
	case by.Kind == batch.Undo && by.Undoes > undone: // not recorded when that one took it away
	default:
		n.others = true
	}
}

// restore: an undo has found the object where it was before what it undoes, and not at the name that this gave it. If records say who
// has brought it there, all is told by them.
func (n *nameSince) restore(by batch.Batch, came bool) {
	if came != n.gone {
		return
	}
	n.gone = !came
	what := n.came
	if came {
		what = n.left
	}
	if before, ok := what[by.Undoes]; ok {
		n.others = before
	}
}

// laterBatches are those that were submitted later than the undone one and may have moved its objects, in that order. They are held in
// memory.
func (u *undoer) laterBatches(ctx context.Context) (later []batch.Batch, err error) {
	for b, err := range u.movers(ctx) {
		if errors.Is(err, batch.ErrInvalid) { // by a newer version, as in relatives
			continue
		}
		if err != nil {
			return nil, err
		}
		if b.ID > u.batch.Undoes && overlap(b.Archive, u.batch.Archive) {
			later = append(later, b)
		}
	}
	slices.SortFunc(later, func(a, b batch.Batch) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return later, nil
}

// overlap reports whether one archive lies in the other.
func overlap(a, b archive.Root) bool {
	x, y := strings.TrimSuffix(a.Path(), "/")+"/", strings.TrimSuffix(b.Path(), "/")+"/"
	return strings.HasPrefix(x, y) || strings.HasPrefix(y, x)
}

// findBegun finds the segments of the undone batch that were begun, once.
func (u *undoer) findBegun(ctx context.Context, undone batch.Plan) error {
	if u.begun != nil {
		return nil
	}
	u.begun = make([]bool, len(undone.Segments))
	for n, err := range u.led.Begun(ctx, undone.Batch, batch.StepRename, generation) {
		if err != nil {
			return err
		}
		if n < len(u.begun) {
			u.begun[n], u.someBegun = true, true
		}
	}
	return nil
}
