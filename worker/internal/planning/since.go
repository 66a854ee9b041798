package planning

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
)

// since tells which objects of a segment of the undone batch that has no records are at their new names through others.
type since struct {
	never bool // others of the batch were begun, but not this segment: it has moved nothing
	to    map[archive.Key]bool
}

func (s since) has(to archive.Key) bool { return s.never || s.to[to] }

// movedSince looks for moves to the new names of a segment that was not recorded, by batches that were submitted later than the
// undone one: an identity alone does not tell who has moved an object. It reads what these batches have moved, but only where
// an execution was interrupted and not settled.
func (u *undoer) movedSince(ctx context.Context, undone batch.Plan, segment int, rows []batch.Row) (since, error) {
	if err := u.findBegun(ctx, undone); err != nil {
		return since{}, err
	}
	if u.someBegun && !u.begun[segment] {
		return since{never: true}, nil
	}
	names := map[string]*nameSince{}
	for _, r := range rows {
		if r.Moves() {
			names[fullName(u.batch.Archive, r.To)] = &nameSince{came: map[batch.ID]bool{}, left: map[batch.ID]bool{}}
		}
	}
	if err := u.findLater(ctx); err != nil {
		return since{}, err
	}
	for _, by := range u.later {
		err := u.eachMoved(ctx, by.ID, func(r batch.Row) error {
			if n := names[fullName(by.Archive, r.From)]; n != nil {
				n.leave(by)
			}
			if n := names[fullName(by.Archive, r.To)]; n != nil {
				n.come(by, u.batch.Undoes, slices.Contains(u.kin.all, by.ID))
			}
			return nil
		})
		if err != nil {
			return since{}, err
		}
	}
	s := since{to: map[archive.Key]bool{}}
	for _, r := range rows {
		if r.Moves() {
			s.to[r.To] = names[fullName(u.batch.Archive, r.To)].others
		}
	}
	return s, nil
}

// nameSince is what became of a name since the undone batch.
type nameSince struct {
	others     bool              // what is there was brought there by others
	came, left map[batch.ID]bool // others, as it was before a batch brought an object there, and took it away
}

// leave: a batch has taken the object away from the name. Where it came by what this one undoes, all is as before.
func (n *nameSince) leave(by batch.Batch) {
	n.left[by.ID] = n.others
	if before, here := n.came[by.Undoes]; here {
		n.others = before
	}
}

// come: a batch has brought an object to the name, a relative of the undone one or not. An undo brings it to where it was, by whom
// ever; if it was there before the undone batch, then not by that one.
func (n *nameSince) come(by batch.Batch, undone batch.ID, kin bool) {
	n.came[by.ID] = n.others
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

// findLater finds the batches that were submitted later than the undone one and may have moved its objects, in that order, once.
func (u *undoer) findLater(ctx context.Context) error {
	if u.later != nil {
		return nil
	}
	u.later = []batch.Batch{}
	for b, err := range u.movers(ctx) {
		if errors.Is(err, batch.ErrInvalid) { // by a newer version, as in relatives
			continue
		}
		if err != nil {
			return err
		}
		if b.ID > u.batch.Undoes {
			u.later = append(u.later, b)
		}
	}
	slices.SortFunc(u.later, func(a, b batch.Batch) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return nil
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
