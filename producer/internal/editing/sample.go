package editing

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/listing"
)

// Divide divides the rows of a plan that move into a sample of about n, n > 0, and the rest, and stores each as the manifest of a
// batch that was not submitted yet. What belongs together is on one side, so the sample may have some rows more. Objects that
// go to a name which another one leaves, and those others, are all in the rest, so that no side waits for the other. Which of
// the remaining ones are in the sample is random, and the same for the same plan, whose digest is given. It returns how many
// rows of each move; the sample may have none.
//
// It streams: the plan is read three times, and a hash of each unit of rows is sorted below the sample's batch.
func Divide(ctx context.Context, led *ledger.Ledger, sample, rest batch.ID, base batch.Plan, digest string, n int64) (drawn, left int64, err error) {
	e := &edit{led: led, id: sample}
	defer e.remove(ctx)
	last, err := e.draw(ctx, base, digest, n)
	if err != nil {
		return 0, 0, err
	}
	drawnOnes := func(u unit) bool { return !u.chained() && bytes.Compare(u.lot(digest), last) <= 0 }
	others := func(u unit) bool { return !drawnOnes(u) }
	_, err = listing.Spool(ctx, led, sample, moves(units(ctx, led, base), drawnOnes, &drawn))
	if err == nil {
		_, err = listing.Spool(ctx, led, rest, moves(units(ctx, led, base), others, &left))
	}
	return drawn, left, err
}

// unit is the rows of a plan that belong together.
type unit []batch.Row

// chained reports whether the unit waits for another one to leave its name, or another one waits for it.
func (u unit) chained() bool { return u[0].Chain != 0 }

// lot is what a unit is drawn by.
func (u unit) lot(digest string) []byte {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", digest, u[0].N))
	return sum[:]
}

// draw is the last lot that is in a sample of n rows; nil if none can be drawn.
func (e *edit) draw(ctx context.Context, base batch.Plan, digest string, n int64) (last []byte, err error) {
	lots := e.sorter("lots")
	for u, err := range units(ctx, e.led, base) {
		if err == nil && !u.chained() {
			if moving := countMoves(u); moving > 0 {
				err = lots.Add(ctx, u.lot(digest), fmt.Append(nil, moving))
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

// units yields the units of a plan, in order. Each is valid until the next one.
func units(ctx context.Context, led *ledger.Ledger, p batch.Plan) iter.Seq2[unit, error] {
	return func(yield func(unit, error) bool) {
		var u unit
		for r, err := range led.Rows(ctx, p) {
			if err = errors.Join(err, ctx.Err()); err != nil {
				yield(nil, err)
				return
			}
			if len(u) > 0 && !r.Together(u[0]) {
				if !yield(u, nil) {
					return
				}
				u = u[:0]
			}
			u = append(u, r)
		}
		if len(u) > 0 {
			yield(u, nil)
		}
	}
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
			for _, r := range u {
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
