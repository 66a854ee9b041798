package planning

import (
	"context"
	"errors"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/extsort"
	"github.com/reshelf/reshelf/shared/store"
)

// kin are the batches that move the objects of an undone batch to and fro: the batch itself, what it undoes if it is an
// undo, and so on, and all undos of any of them.
type kin struct {
	// all but the undo that is planned.
	all []batch.ID
	// below are the undos of the undone batch, the undos of these, and so on.
	below []descendant
}

// descendant is an undo of the undone batch, or one of such an undo, and so on.
type descendant struct {
	id batch.ID
	// back: it moves objects back from the names that the undone batch gave, not to them.
	back bool
}

func (u *undoer) relatives(ctx context.Context) (kin, error) {
	parent, undos := map[batch.ID]batch.ID{}, map[batch.ID][]batch.ID{}
	for id, err := range u.led.Batches(ctx) {
		if err != nil {
			return kin{}, err
		}
		b, err := u.led.Batch(ctx, id)
		if errors.Is(err, store.ErrNotExist) || errors.Is(err, batch.ErrInvalid) {
			continue // not submitted, or by a newer version: then not an undo of these
		}
		if err != nil {
			return kin{}, err
		}
		if b.Kind == batch.Undo && id != u.batch.ID {
			parent[id] = b.Undoes
			undos[b.Undoes] = append(undos[b.Undoes], id)
		}
	}
	f := kin{below: descendants(undos, u.batch.Undoes, true)}
	root := u.batch.Undoes
	for seen := map[batch.ID]bool{}; parent[root] != "" && !seen[root]; root = parent[root] {
		seen[root] = true
	}
	f.all = []batch.ID{root}
	for _, d := range descendants(undos, root, true) {
		f.all = append(f.all, d.id)
	}
	return f, nil
}

// descendants are the undos of a batch, each before its own.
func descendants(undos map[batch.ID][]batch.ID, of batch.ID, back bool) []descendant {
	var out []descendant
	seen := map[batch.ID]bool{of: true}
	var visit func(batch.ID, bool)
	visit = func(of batch.ID, back bool) {
		for _, id := range undos[of] {
			if !seen[id] {
				seen[id] = true
				out = append(out, descendant{id, back})
				visit(id, !back)
			}
		}
	}
	visit(of, back)
	return out
}

// takenBack says which rows of an undone plan undos have taken back, as their records say. The zero takenBack is none.
// Rows have to be asked for from the last to the first.
type takenBack struct{ rows *rowCursor }

// Kinds of item when moves are joined, in the order in which they are joined.
const (
	movedBack  = 'b'
	movedAgain = 'c' // by the undo of an undo
	mayBeAgain = 'd' // likewise, if its execution, which was interrupted, came so far
	movedFirst = 'e' // a row of the undone plan
)

// findTakenBack counts for each row how often an undo moved its object back, and the undo of such an undo moved it again.
// An object goes to and fro, so it is back where the first number is greater, whatever the order in which the undos were
// carried out. What was not recorded, since an execution was interrupted and not settled, leaves open where the object is:
// there the world has to be looked at.
func (u *undoer) findTakenBack(ctx context.Context, undone batch.Plan) (takenBack, error) {
	moves := u.sorter("moves")
	some := false
	for _, d := range u.kin.below {
		n, err := u.addMoves(ctx, moves, d)
		if err != nil {
			return takenBack{}, err
		}
		some = some || n > 0
	}
	if !some {
		return takenBack{}, nil
	}
	for r, err := range u.led.Rows(ctx, undone) {
		if err == nil {
			err = u.tick(ctx)
		}
		if err == nil && r.Moves() {
			err = moves.Add(ctx, way(r.From, r.To), append([]byte{movedFirst}, fromLast(r.N)...))
		}
		if err == nil && r.Park != "" { // it may have been brought back from there
			err = moves.Add(ctx, way(r.From, r.Park), append([]byte{movedFirst}, fromLast(r.N)...))
		}
		if err != nil {
			return takenBack{}, err
		}
	}
	rows := u.sorter("taken-back")
	if err := joinMoves(ctx, moves, rows); err != nil {
		return takenBack{}, err
	}
	if err := moves.Remove(ctx); err != nil {
		return takenBack{}, err
	}
	return takenBack{newRowCursor(rows.Sorted(ctx))}, nil
}

// way is what a row of the undone plan and its undos have in common. No key holds a NUL byte.
func way(from, to archive.Key) []byte { return []byte(string(from) + "\x00" + string(to)) }

// addMoves adds what an undo has moved, or may have, and returns how many objects these are.
func (u *undoer) addMoves(ctx context.Context, moves *extsort.Sorter, d descendant) (n int, err error) {
	plan, _, err := u.led.Plan(ctx, d.id)
	if errors.Is(err, store.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	for segment, err := range u.led.Begun(ctx, d.id, batch.StepRename, generation) {
		if err != nil {
			return n, err
		}
		added, err := u.addSegmentMoves(ctx, moves, d, plan, segment)
		if err != nil {
			return n, err
		}
		n += added
	}
	return n, nil
}

func (u *undoer) addSegmentMoves(ctx context.Context, moves *extsort.Sorter, d descendant, plan batch.Plan, segment int) (n int, err error) {
	rows, err := u.led.PlanRows(ctx, plan, segment)
	if err != nil {
		return 0, err
	}
	records, err := u.records(ctx, d.id, segment)
	if err != nil {
		return 0, err
	}
	settled := len(records) > 0 // a segment that was begun has rows, and each has its record
	for _, r := range rows {
		if err := u.tick(ctx); err != nil {
			return n, err
		}
		key, kind := way(r.From, r.To), byte(movedAgain)
		switch moved := r.Moves() && records[r.From].To == r.To; { // elsewhere it is of a circle that was left half way
		case d.back && moved:
			key, kind = way(r.To, r.From), movedBack
		case !d.back && r.Moves() && !settled:
			kind = mayBeAgain
		case !moved:
			continue
		}
		if err := moves.Add(ctx, key, append([]byte{kind}, d.id...)); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// joinMoves adds the rows that are back to rows, each with the last undo that moved it.
func joinMoves(ctx context.Context, moves, rows *extsort.Sorter) error {
	var key, by string
	var back int
	var open bool
	for it, err := range moves.Sorted(ctx) {
		if err != nil {
			return err
		}
		if string(it.Key) != key {
			key, by, back, open = string(it.Key), "", 0, false
		}
		switch value := it.Value[1:]; it.Value[0] {
		case movedBack:
			back++
			by = string(value) // ids sort by time
		case movedAgain:
			back--
		case mayBeAgain:
			open = true
		case movedFirst:
			if back > 0 && !open {
				if err := rows.Add(ctx, value, []byte(by)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (t *takenBack) close() { t.rows.close() }

// by is the undo that has taken a row back, "" if none has.
func (t *takenBack) by(r batch.Row) (batch.ID, error) {
	id, ok, err := t.rows.at(r.N)
	if !ok {
		return "", err
	}
	return batch.ID(id), err
}
