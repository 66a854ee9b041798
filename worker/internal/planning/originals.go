package planning

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"iter"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/extsort"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/report"
	"github.com/reshelf/reshelf/shared/store"
)

// gatherOriginals finds the first names of objects in what earlier batches of the ledger moved, if the template asks for them.
//
// All moves are sorted by name once. Then the objects, sorted by the names that they have now, are joined with them: an object that
// came to its name goes on to the next round with the name that it had before. So each round is as large as the number of
// objects that have been moved as often, and there are at most as many as batches. See docs/decisions/original-name.md.
func (p *planner) gatherOriginals(ctx context.Context, members *extsort.Sorter) error {
	if !p.needs().Original {
		return nil
	}
	moves, err := p.earlierMoves(ctx)
	if err != nil {
		return err
	}
	p.originals = p.sorter("originals")
	at := p.sorter("names")
	for it, err := range members.Sorted(ctx) {
		if err == nil {
			err = p.tick(ctx)
		}
		if err != nil {
			return err
		}
		key := archive.Key(it.Key[bytes.LastIndexByte(it.Key, 0)+1:]) // of a groupItem
		if err := at.Add(ctx, []byte(fullName(p.batch.Archive, key)), hadBefore(math.MaxUint32, key)); err != nil {
			return err
		}
	}
	for more := true; more; {
		before := p.sorter("names")
		if more, err = p.stepBack(ctx, at, moves, before); err != nil {
			return err
		}
		if err := at.Remove(ctx); err != nil {
			return err
		}
		at = before
	}
	return errors.Join(at.Remove(ctx), moves.Remove(ctx))
}

// fullName is a name wherever the archive begins that it is seen from.
func fullName(r archive.Root, key archive.Key) string {
	return strings.TrimSuffix(r.Path(), "/") + "/" + string(key)
}

// hadBefore says of an object, by its key now, that it had a name before the batch of that number began.
func hadBefore(n uint32, key archive.Key) []byte {
	return append(binary.BigEndian.AppendUint32(nil, n), key...)
}

// stepBack takes objects from the names at which they stand to those that they had before, or notes their first names.
func (p *planner) stepBack(ctx context.Context, at, moves, before *extsort.Sorter) (more bool, err error) {
	m := newMoveCursor(moves.Sorted(ctx))
	defer m.stop()
	for it, err := range at.Sorted(ctx) {
		if err == nil {
			err = p.tick(ctx)
		}
		if err == nil {
			err = m.to(it.Key)
		}
		if err != nil {
			return false, err
		}
		n, key := binary.BigEndian.Uint32(it.Value), archive.Key(it.Value[4:])
		if last := m.lastBefore(n); last.came() {
			more = true
			err = before.Add(ctx, last.from, hadBefore(last.batch, key))
		} else if name := archive.Key(it.Key).Base(); name != key.Base() {
			err = p.originals.Add(ctx, p.groupItem(key), []byte(name))
		}
		if err != nil {
			return false, err
		}
	}
	return more, nil
}

// move is what a batch did at a name: an object came to it from another one, or only left it.
type move struct {
	batch uint32
	from  []byte
}

func (m move) came() bool { return len(m.from) > 0 }

// encode puts what came to a name after what left it in the same batch, so that the last one is what is there then.
func (m move) encode() []byte {
	return append(binary.BigEndian.AppendUint32(nil, m.batch), m.from...)
}

// moveCursor steps through the moves by name.
type moveCursor struct {
	*cursor
	name  []byte
	moves []move // at the name, the oldest first: at most two of each batch
}

func newMoveCursor(items iter.Seq2[extsort.Item, error]) *moveCursor {
	return &moveCursor{cursor: newCursor(items)}
}

// to goes to a name. Names have to be asked for in ascending order.
func (c *moveCursor) to(name []byte) error {
	if bytes.Equal(c.name, name) {
		return c.err
	}
	c.name, c.moves = name, c.moves[:0]
	for c.ok && bytes.Compare(c.item.Key, name) < 0 {
		c.next()
	}
	for c.ok && bytes.Equal(c.item.Key, name) {
		c.moves = append(c.moves, move{binary.BigEndian.Uint32(c.item.Value), c.item.Value[4:]})
		c.next()
	}
	return c.err
}

// lastBefore is the last move at the name before a batch, the zero move if there is none.
func (c *moveCursor) lastBefore(n uint32) move {
	i, _ := slices.BinarySearchFunc(c.moves, n, func(m move, n uint32) int { return cmp.Compare(m.batch, n) })
	if i == 0 {
		return move{}
	}
	return c.moves[i-1]
}

// earlierMoves sorts by name what other batches of the ledger have moved.
func (p *planner) earlierMoves(ctx context.Context) (*extsort.Sorter, error) {
	others, err := p.others(ctx)
	if err != nil {
		return nil, err
	}
	moves := p.sorter("moves")
	for n, other := range others {
		err := p.eachMoved(ctx, other.Batch, func(r batch.Row, moved bool) error {
			if !moved {
				return nil
			}
			from, to := []byte(fullName(other.Archive, r.From)), []byte(fullName(other.Archive, r.To))
			if other.Copies() { // what was copied came from there, and left nothing
				return moves.Add(ctx, to, move{uint32(n), from}.encode())
			}
			return errors.Join(moves.Add(ctx, to, move{uint32(n), from}.encode()), moves.Add(ctx, from, move{batch: uint32(n)}.encode()))
		})
		if err != nil {
			return nil, err
		}
	}
	return moves, nil
}

// other is a batch that may have moved objects.
type other struct {
	batch.Batch
	finished time.Time // zero if it is not
}

// others are the batches that may have moved what this one plans for, in the order in which they were finished, those that are
// not at the end. They are held in memory.
func (p *planner) others(ctx context.Context) (out []other, err error) {
	for b, err := range p.movers(ctx) {
		if err != nil {
			return nil, err
		}
		o := other{Batch: b}
		if o.finished, err = p.finished(ctx, b.ID); err != nil {
			return nil, err
		}
		out = append(out, o)
	}
	slices.SortStableFunc(out, func(a, b other) int {
		if a.finished.IsZero() != b.finished.IsZero() {
			return b.finished.Compare(a.finished) // the zero time is the last
		}
		return cmp.Or(a.finished.Compare(b.finished), strings.Compare(string(a.ID), string(b.ID)))
	})
	return out, nil
}

// movers yields the batches that may have moved what this one plans for. An error that is batch.ErrInvalid is that of one batch and
// does not end the sequence.
func (d *desk) movers(ctx context.Context) iter.Seq2[batch.Batch, error] {
	return func(yield func(batch.Batch, error) bool) {
		for id, err := range d.led.Batches(ctx) {
			if err == nil {
				err = d.tick(ctx)
			}
			if err != nil {
				yield(batch.Batch{}, err)
				return
			}
			b, err := d.led.Batch(ctx, id)
			switch {
			case errors.Is(err, store.ErrNotExist): // it was removed meanwhile
				continue
			case err == nil && (id == d.batch.ID || !b.Kind.Has(batch.StepRename) || !sameNames(b.Archive, d.batch.Archive)):
				continue
			}
			if !yield(b, err) || err != nil && !errors.Is(err, batch.ErrInvalid) {
				return
			}
		}
	}
}

// sameNames reports whether equal paths below two roots are the same object.
func sameNames(a, b archive.Root) bool {
	settings := func(r archive.Root) string {
		_, query, _ := strings.Cut(r.String(), "?")
		return query
	}
	return a.Scheme() == b.Scheme() && a.Bucket() == b.Bucket() && settings(a) == settings(b)
}

func (d *desk) finished(ctx context.Context, id batch.ID) (time.Time, error) {
	c, err := d.led.Store().Open(ctx, ledger.Key(id, "report", report.SummaryName), 0, -1, archive.Identity{})
	if errors.Is(err, store.ErrNotExist) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, err
	}
	s, err := report.ReadSummary(c)
	return s.Finished, errors.Join(err, c.Close())
}

// eachMoved calls yield for each row of another batch's plan whose object was moved, or copied, as its records say, and, with moved false, for
// those of an undo whose objects were back already.
func (d *desk) eachMoved(ctx context.Context, of batch.Batch, yield func(r batch.Row, moved bool) error) error {
	plan, _, err := d.led.Plan(ctx, of.ID)
	if errors.Is(err, store.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for segment := range plan.Segments {
		moved, err := d.movedIn(ctx, of.ID, segment)
		if err != nil {
			return err
		}
		if len(moved) == 0 && of.Kind != batch.Undo {
			continue
		}
		rows, err := d.led.PlanRows(ctx, plan, segment)
		if err != nil {
			return err
		}
		for _, r := range rows {
			if err := d.tick(ctx); err != nil {
				return err
			}
			to, moved := moved[r.From]
			if moved = moved && r.Moves(); !moved && !r.Back {
				continue
			}
			if moved {
				r.To = cmp.Or(to, r.To)
			}
			if err := yield(r, moved); err != nil {
				return err
			}
		}
	}
	return nil
}

// movedIn are the objects that a segment of another batch's plan has moved or copied, by their old names, with the new ones if the records say them.
func (d *desk) movedIn(ctx context.Context, id batch.ID, segment int) (map[archive.Key]archive.Key, error) {
	if err := d.check(ctx); err != nil {
		return nil, err
	}
	moved := map[archive.Key]archive.Key{}
	for r, err := range d.led.Part(ctx, batch.Ref{Batch: id, Step: batch.StepRename, Generation: generation, Segment: segment}) {
		if errors.Is(err, store.ErrNotExist) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		if r.To != "" || r.Copy != "" || r.Outcome == batch.Done {
			moved[r.Key] = cmp.Or(r.To, r.Copy)
		}
	}
	return moved, nil
}
