package finishing

import (
	"context"
	"fmt"
	"iter"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/extsort"
	"github.com/reshelf/reshelf/shared/ledger"
)

// final is a final record.
type final struct {
	batch.Record
	// read: the object was read whole, even if its metadata could not be.
	read bool
	// row is the object's row of the plan at its end, nil where it has none.
	row *batch.Row
}

func newFinal(r batch.Record) final {
	return final{Record: r, read: len(r.FromStore) == 0 && (r.Outcome == batch.Done || len(r.Digests) > 0)}
}

// finals yields exactly one final record for each listed object, in ascending order of key.
func (f *finish) finals(ctx context.Context, rows *sortedRows, sidecars *extsort.Sorter) iter.Seq2[final, error] {
	if f.batch.Kind.Derived() {
		return derived(rows.all(ctx))
	}
	records := described(f.inspected(ctx), sidecars.Sorted(ctx))
	if f.batch.Kind == batch.Rename && rows != nil {
		return joined(records, rows.all(ctx))
	}
	return f.unplanned(records)
}

// derived makes the final records of a batch that lists nothing: each row of its plan is an object.
func derived(rows iter.Seq2[rowEnd, error]) iter.Seq2[final, error] {
	return func(yield func(final, error) bool) {
		for e, err := range rows {
			fin := final{Record: batch.Record{Object: archive.Object{Key: e.Row.From, Identity: e.Row.Want}, Outcome: batch.Done}}
			fin.end(e)
			if !yield(fin, err) || err != nil {
				return
			}
		}
	}
}

// unplanned makes the final records of a batch without a plan. Where the batch should have one, it was cancelled first.
func (f *finish) unplanned(records iter.Seq2[batch.Record, error]) iter.Seq2[final, error] {
	return func(yield func(final, error) bool) {
		for r, err := range records {
			fin := newFinal(r)
			if r.Outcome == batch.Done && f.batch.Kind == batch.Rename {
				fin.Outcome, fin.Reason = batch.Skipped, batch.ReasonCancelled
				fin.Message = "the batch was cancelled before this object was " + verb(f.batch.Copies())
			}
			if !yield(fin, err) || err != nil {
				return
			}
		}
	}
}

// joined joins the records of inspecting with the rows of the plan, both in ascending order of key. Each row must be that
// of a listed object, and each object that was inspected must have its row.
func joined(records iter.Seq2[batch.Record, error], rows iter.Seq2[rowEnd, error]) iter.Seq2[final, error] {
	return func(yield func(final, error) bool) {
		next, stop := iter.Pull2(rows)
		defer stop()
		row, err, more := next()
		for r, readErr := range records {
			if err == nil {
				err = readErr
			}
			if err == nil && more && row.Row.From < r.Key {
				err = planError(row.Row.From, "has a row and was not listed")
			}
			fin := newFinal(r)
			has := err == nil && more && row.Row.From == r.Key
			if err == nil && !has && r.Outcome == batch.Done {
				err = planError(r.Key, "has no row")
			}
			if has {
				fin.end(row)
			}
			if !yield(fin, err) || err != nil {
				return
			}
			if has {
				row, err, more = next()
			}
		}
		if err == nil && more {
			err = planError(row.Row.From, "has a row and was not listed")
		}
		if err != nil {
			yield(final{}, err)
		}
	}
}

func planError(key archive.Key, what string) error {
	return fmt.Errorf("plan: %s %s: %w", key.Text(), what, ledger.ErrCorrupt)
}

// end gives the record the end of its row. What failed before keeps its own outcome and reason.
func (fin *final) end(e rowEnd) {
	fin.row, fin.To, fin.Copy = &e.Row, e.Now, e.Copy
	if fin.Outcome != batch.Done {
		return
	}
	fin.Outcome, fin.Reason, fin.Message = e.Row.Outcome, e.Row.Reason, e.Row.Message
	if e.Epoch != 0 {
		fin.Epoch = e.Epoch
	}
}
