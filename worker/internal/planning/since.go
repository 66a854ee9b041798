package planning

import (
	"bytes"
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
// was interrupted, if it was moved at all. Copies were brought to their names too, and left none. Where names are folded, one that changed their case brought objects to the same names.
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
			switch at := uint32(n); {
			case moved && by.Copies(): // what was copied is where it was
				return moves.Add(ctx, to, step{at, came}.encode())
			case moved:
				return errors.Join(moves.Add(ctx, from, step{at, left}.encode()), moves.Add(ctx, to, step{at, came}.encode()))
			case bytes.Equal(from, to):
				return moves.Add(ctx, to, step{at, wasSpelled}.encode())
			default:
				return errors.Join(moves.Add(ctx, from, step{at, wasAway}.encode()), moves.Add(ctx, to, step{at, wasBack}.encode()))
			}
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

// step is what a later batch did at a name, or found there.
type step struct {
	batch uint32
	did   byte
}

// What a batch did: it brought an object to the name, or took it away. An undo also may have found an object to be back where it would bring it, and
// away from where it would take it, or to have the old case: an undo before it that was interrupted did that, if the object was moved at all.
const (
	left byte = iota
	came
	wasAway
	wasBack
	wasSpelled
	deedKinds int = iota
)

// deeds says which of these one batch did at a name.
type deeds [deedKinds]bool

func (s step) encode() []byte { return append(binary.BigEndian.AppendUint32(nil, s.batch), s.did) }

func decodeStep(b []byte) step { return step{binary.BigEndian.Uint32(b), b[4]} }

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
		name := nameSince{came: map[batch.ID]tenure{}, left: map[batch.ID]tenure{}}
		for at.to(it.Key); at.at(it.Key); {
			by, did := takeSteps(at, it.Key)
			name.pass(later[by], did, u.batch.Undoes, slices.Contains(u.kin.all, later[by].ID))
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

// takeSteps takes the steps of the batch and name at which the cursor stands.
func takeSteps(at *cursor, name []byte) (by uint32, did deeds) {
	by = decodeStep(at.item.Value).batch
	for at.at(name) {
		s := decodeStep(at.item.Value)
		if s.batch != by {
			break
		}
		did[s.did] = true
		at.next()
	}
	return by, did
}

// tenure says by whom a name was taken.
type tenure struct {
	others bool     // what is there was brought there by others
	last   batch.ID // has brought an object there, or taken it away, and was not undone since
}

// nameSince is what became of a name since the undone batch.
type nameSince struct {
	tenure
	came, left map[batch.ID]tenure // as it was before a batch brought an object there, and took it away
}

// pass takes a batch into account, which takes away what it replaces. kin: it is a relative of the undone one.
func (n *nameSince) pass(by batch.Batch, did deeds, undone batch.ID, kin bool) {
	if did[left] {
		n.leave(by)
	}
	if did[came] {
		n.come(by, undone, kin)
	}
	if !did[left] && !did[came] {
		n.find(by, did)
	}
}

// leave: a batch has taken the object away from the name. Where it came by what this one undoes, all is as before.
func (n *nameSince) leave(by batch.Batch) {
	n.left[by.ID], n.last = n.tenure, by.ID
	if before, here := n.came[by.Undoes]; here {
		n.tenure = before
	}
}

// come: a batch has brought an object to the name, a relative of the undone one or not. An undo brings it to where it was, by whom
// ever; if it was there before the undone batch, then not by that one.
func (n *nameSince) come(by batch.Batch, undone batch.ID, kin bool) {
	n.came[by.ID], n.last = n.tenure, by.ID
	before, away := n.left[by.Undoes]
	switch {
	case kin:
		n.others = false
	case by.Kind == batch.Undo && away:
		n.tenure = before
	case by.Kind == batch.Undo && by.Undoes > undone: // not recorded when that one took it away
	default:
		n.others = true
	}
}

// find: an undo has found the name as it would make it, so an undo before it that was interrupted has done that. Not if another batch has done
// something there since what is undone: then all is told by its records.
func (n *nameSince) find(by batch.Batch, did deeds) {
	if n.last != by.Undoes {
		return
	}
	was := n.left
	if !did[wasBack] && !did[wasSpelled] {
		was = n.came
	}
	if before, ok := was[by.Undoes]; ok {
		n.tenure = before
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
