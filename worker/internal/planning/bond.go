package planning

import (
	"context"
	"slices"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
)

// bond is rows of the undone plan that are reversed together, the last first: those that move.
type bond struct {
	rows    []batch.Row
	marks   []mark
	reverse func(context.Context, *writer, bond, map[archive.Key]batch.Record) error
}

// bonds are those of a segment of which an object was chosen, the last ones first.
func (u *undoer) bonds(rows []batch.Row) (bonds []bond, err error) {
	for _, n := range slices.Backward(batch.Bonds(rows)) {
		bonded := rows[len(rows)-n:]
		rows = rows[:len(rows)-n]
		b := bond{reverse: u.group}
		switch {
		case batch.Parked(bonded) && bonded[0].Chain != 0:
			b.reverse = u.parked
		case batch.Circular(bonded):
			b.reverse = u.circle
		}
		slices.Reverse(bonded)
		b.rows = slices.DeleteFunc(bonded, func(r batch.Row) bool { return !r.Moves() })
		if b.marks, err = u.marks(b.rows); err != nil {
			return nil, err
		}
		if slices.ContainsFunc(b.marks, func(m mark) bool { return m.chosen }) {
			bonds = append(bonds, b)
		}
	}
	return bonds, nil
}

// lookAt looks at all names at which objects of the bonds may be.
func (u *undoer) lookAt(ctx context.Context, bonds []bond) error {
	var names []archive.Key
	for _, b := range bonds {
		for i, r := range b.rows {
			if b.marks[i].by == "" || r.Chain != 0 {
				names = append(names, r.From, r.To, r.Park)
			}
		}
	}
	return u.archive.lookAt(ctx, names, u.tick)
}
