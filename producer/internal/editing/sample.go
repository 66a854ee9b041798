package editing

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/extsort"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/listing"
	"github.com/reshelf/reshelf/shared/naming"
)

// Divide divides the rows of a plan that move into a sample of about n, n > 0, and the rest, and stores each as the manifest of a
// batch that was not submitted yet. What belongs together is on one side, so the sample may have some rows more. Objects that
// go to a name which another one leaves, and those others, are all in the rest, so that no side waits for the other. Which of
// the remaining ones are in the sample is random, and the same for the same plan, whose digest is given. It returns how many
// rows of each move; the sample may have none.
//
// It streams: the plan is read four times, and its names and a hash of each unit of rows are sorted below the sample's batch.
func Divide(ctx context.Context, led *ledger.Ledger, sample, rest batch.ID, base batch.Plan, digest string, n int64) (drawn, left int64, err error) {
	e := &edit{led: led, id: sample}
	defer e.remove(ctx)
	tied, err := e.tied(ctx, base)
	if err != nil {
		return 0, 0, err
	}
	last, err := e.draw(ctx, base, tied, digest, n)
	if err != nil {
		return 0, 0, err
	}
	drawnOnes := func(u unit) bool { return !u.tied && bytes.Compare(lot(digest, u), last) <= 0 }
	others := func(u unit) bool { return !drawnOnes(u) }
	_, err = listing.Spool(ctx, led, sample, moves(units(ctx, led, base, tied), drawnOnes, &drawn))
	if err == nil {
		_, err = listing.Spool(ctx, led, rest, moves(units(ctx, led, base, tied), others, &left))
	}
	return drawn, left, err
}

// unit is the rows of a plan that belong together.
type unit struct {
	rows []batch.Row
	// tied: a row goes to a name that a row of another unit leaves, or leaves one that another goes to.
	tied bool
}

func (u unit) number() []byte { return binary.BigEndian.AppendUint64(nil, uint64(u.rows[0].N)) }

// Kinds of item when names are joined.
const (
	leaving = 'l'
	getting = 'g'
)

// tied sorts the numbers of the units that are tied to others; a number may be there more than once.
func (e *edit) tied(ctx context.Context, base batch.Plan) (*extsort.Sorter, error) {
	names, tied := e.sorter("ties"), e.sorter("tied")
	for u, err := range units(ctx, e.led, base, nil) {
		for _, r := range u.rows {
			if err != nil || !r.Moves() {
				continue
			}
			err = errors.Join(names.Add(ctx, []byte(naming.Fold(r.From)), append(u.number(), leaving)),
				names.Add(ctx, []byte(naming.Fold(r.To)), append(u.number(), getting)))
		}
		if err != nil {
			return nil, err
		}
	}
	var name, leaves, gets []byte
	for it, err := range names.Sorted(ctx) {
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(it.Key, name) {
			name, leaves, gets = it.Key, nil, nil
		}
		number, kind := it.Value[:len(it.Value)-1], it.Value[len(it.Value)-1]
		if kind == leaving {
			leaves = number
		} else {
			gets = number
		}
		if leaves != nil && gets != nil && !bytes.Equal(leaves, gets) {
			if err := errors.Join(tied.Add(ctx, leaves, nil), tied.Add(ctx, gets, nil)); err != nil {
				return nil, err
			}
		}
	}
	return tied, names.Remove(ctx)
}

// lot is what a unit is drawn by.
func lot(digest string, u unit) []byte {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", digest, u.rows[0].N))
	return sum[:]
}

// draw is the last lot that is in a sample of n rows; nil if none can be drawn.
func (e *edit) draw(ctx context.Context, base batch.Plan, tied *extsort.Sorter, digest string, n int64) (last []byte, err error) {
	lots := e.sorter("lots")
	for u, err := range units(ctx, e.led, base, tied) {
		if err == nil && !u.tied {
			if moving := countMoves(u.rows); moving > 0 {
				err = lots.Add(ctx, lot(digest, u), fmt.Append(nil, moving))
			}
		}
		if err != nil {
			return nil, err
		}
	}
	var drawn int64
	for it, err := range lots.Sorted(ctx) {
		if err != nil {
			return nil, err
		}
		var moving int64
		if _, err := fmt.Sscan(string(it.Value), &moving); err != nil {
			return nil, fmt.Errorf("read what was sorted: %w", err)
		}
		last = slices.Clone(it.Key)
		if drawn += moving; drawn >= n {
			break
		}
	}
	return last, nil
}

func countMoves(rows []batch.Row) (n int64) {
	for _, r := range rows {
		if r.Moves() {
			n++
		}
	}
	return n
}

// units yields the units of a plan, in order; tied, which may be nil, has the numbers of those that are tied. Their rows are valid
// until the next one.
func units(ctx context.Context, led *ledger.Ledger, p batch.Plan, tied *extsort.Sorter) iter.Seq2[unit, error] {
	return func(yield func(unit, error) bool) {
		mark, stop := marker(ctx, tied)
		defer stop()
		var u unit
		for r, err := range led.Rows(ctx, p) {
			if err == nil && len(u.rows) > 0 && (r.Group == "" || r.Group != u.rows[0].Group) {
				if err = mark(&u); err == nil && !yield(u, nil) {
					return
				}
				u.rows = u.rows[:0]
			}
			if err = errors.Join(err, ctx.Err()); err != nil {
				yield(unit{}, err)
				return
			}
			u.rows = append(u.rows, r)
		}
		if len(u.rows) > 0 {
			yield(u, mark(&u))
		}
	}
}

// marker returns what says whether a unit is tied; units have to come in order. Stop it.
func marker(ctx context.Context, tied *extsort.Sorter) (mark func(*unit) error, stop func()) {
	if tied == nil {
		return func(*unit) error { return nil }, func() {}
	}
	next, stop := iter.Pull2(tied.Sorted(ctx))
	it, err, ok := next()
	return func(u *unit) error {
		number := u.number()
		for ok && err == nil && bytes.Compare(it.Key, number) < 0 {
			it, err, ok = next()
		}
		u.tied = ok && err == nil && bytes.Equal(it.Key, number)
		return err
	}, stop
}

// moves yields the rows that move of the units that are wanted, and counts them.
func moves(all iter.Seq2[unit, error], wanted func(unit) bool, n *int64) iter.Seq2[listing.Named, error] {
	return func(yield func(listing.Named, error) bool) {
		for u, err := range all {
			if err != nil {
				yield(listing.Named{}, err)
				return
			}
			if !wanted(u) {
				continue
			}
			for _, r := range u.rows {
				if !r.Moves() {
					continue
				}
				*n++
				if !yield(listing.Named{Key: r.From, Columns: map[string]string{batch.ColumnTo: r.To.Text()}}, nil) {
					return
				}
			}
		}
	}
}
