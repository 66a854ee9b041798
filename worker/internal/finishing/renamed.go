package finishing

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/extsort"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/store"
)

// rowEnd is a row of the plan with what became of it.
type rowEnd struct {
	// Row has its final outcome, reason and message.
	Row batch.Row `json:"row"`
	// Now is the key that the object has now, "" if its own; Copy is that of its copy, "" if there is none.
	Now   archive.Key `json:"now,omitempty"`
	Copy  archive.Key `json:"copy,omitempty"`
	Epoch int64       `json:"epoch,omitempty"`
	// tried: the row was carried out, or was begun.
	tried bool
}

// sortedRows are the ends of all rows of a plan. Rows are stored in segments that keep groups together, so they are
// sorted to be joined with the listed objects. The nil sortedRows is that of a batch without a plan.
type sortedRows struct{ sorter *extsort.Sorter }

// sortRows joins the rows of the plan with the records of renaming, if the batch has a plan.
func (f *finish) sortRows(ctx context.Context) (*sortedRows, error) {
	if !f.batch.Kind.Has(batch.StepPlan) {
		return nil, nil
	}
	if err := f.onlyGeneration(ctx, batch.StepRename); err != nil {
		return nil, err
	}
	plan, _, err := f.led.Plan(ctx, f.batch.ID)
	switch {
	case errors.Is(err, store.ErrNotExist) && f.cancelled:
		return nil, nil
	case errors.Is(err, store.ErrNotExist):
		return nil, fmt.Errorf("the batch has no plan: %w", ledger.ErrCorrupt)
	case err != nil:
		return nil, err
	}
	if err := f.settled(ctx); err != nil {
		return nil, err
	}
	rows := &sortedRows{extsort.New(f.led.Store(), f.scratch("rows"), f.sort)}
	for n := range plan.Segments {
		ends, err := f.renamedSegment(ctx, plan, n)
		if err != nil {
			return nil, err
		}
		if err := errors.Join(rows.add(ctx, ends), f.addNames(ctx, n, ends)); err != nil {
			return nil, err
		}
		f.hold.Advance(int64(len(ends)), 0)
	}
	return rows, nil
}

// settled checks that no execution may have moved objects without a record of it. While the batch was not cancelled,
// every segment has its part anyway.
func (f *finish) settled(ctx context.Context) error {
	if !f.cancelled {
		return nil
	}
	for e, err := range f.led.Executions(ctx, f.batch.ID) {
		if err != nil {
			return err
		}
		_, err := f.led.PartHeader(ctx, e.Ref)
		if errors.Is(err, store.ErrNotExist) {
			return fmt.Errorf("segment %s: execution %d may have moved objects: %w", e.Ref, e.Epoch, ErrUnsettled)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (f *finish) renamedSegment(ctx context.Context, plan batch.Plan, n int) ([]rowEnd, error) {
	if err := f.alive(ctx); err != nil {
		return nil, err
	}
	ref := f.ref(batch.StepRename, n)
	rows, err := f.led.PlanRows(ctx, plan, n)
	if err != nil {
		return nil, err
	}
	part, found, err := f.part(ctx, ref)
	if err != nil {
		return nil, err
	}
	ends := make([]rowEnd, 0, len(rows))
	for _, row := range rows {
		r, ok := part[row.From]
		delete(part, row.From)
		switch {
		case row.Moves() && found && !ok:
			return nil, corrupt(ref, row.From, "has no record")
		case row.Moves() && !found && !f.cancelled:
			return nil, corrupt(ref, row.From, "has no record, nor has its segment any")
		}
		end, err := endOf(ref, row, r, f.batch.Copies())
		if err != nil {
			return nil, err
		}
		ends = append(ends, end)
	}
	return ends, leftOver(ref, part)
}

// endOf is the end of a row; r is the record of renaming, zero where there is none. copies: the objects stay.
func endOf(ref batch.Ref, row batch.Row, r batch.Record, copies bool) (rowEnd, error) {
	switch {
	case !row.Moves():
		if r.Outcome == batch.Done || r.To != "" || r.Copy != "" {
			return rowEnd{}, corrupt(ref, row.From, "was renamed, against its plan")
		}
		return rowEnd{Row: row, Epoch: r.Epoch}, nil
	case r.Outcome == "":
		row.Outcome, row.Reason = batch.Skipped, batch.ReasonCancelled
		row.Message = "the batch was cancelled before this object was " + verb(copies)
		return rowEnd{Row: row}, nil
	case copies && (r.To != "" || r.Outcome == batch.Done && r.Copy != row.To), !copies && r.Copy != "":
		return rowEnd{}, corrupt(ref, row.From, "has a record that does not fit its plan")
	case copies:
	case r.Outcome == batch.Done && r.To == "":
		r.To = row.To
	case r.Outcome == batch.Done && r.To != row.To:
		return rowEnd{}, corrupt(ref, row.From, "was renamed to "+r.To.Text()+", its plan says "+row.To.Text())
	}
	row.Outcome, row.Reason, row.Message = r.Outcome, r.Reason, cmp.Or(r.Message, row.Message)
	return rowEnd{Row: row, Now: r.To, Copy: r.Copy, Epoch: r.Epoch, tried: true}, nil
}

func verb(copies bool) string {
	if copies {
		return "copied"
	}
	return "renamed"
}

func (s *sortedRows) add(ctx context.Context, ends []rowEnd) error {
	for _, e := range ends {
		raw, err := json.Marshal(e)
		if err != nil {
			return fmt.Errorf("plan row %d: %w", e.Row.N, err)
		}
		if err := s.sorter.Add(ctx, []byte(e.Row.From), raw); err != nil {
			return err
		}
	}
	return nil
}

// all yields the rows in ascending order of From, each only once.
func (s *sortedRows) all(ctx context.Context) iter.Seq2[rowEnd, error] {
	return func(yield func(rowEnd, error) bool) {
		if s == nil {
			return
		}
		var last archive.Key
		for item, err := range s.sorter.Sorted(ctx) {
			var e rowEnd
			if err == nil {
				err = json.Unmarshal(item.Value, &e)
			}
			if err == nil && e.Row.From == last {
				err = fmt.Errorf("plan: %s has two rows: %w", e.Row.From.Text(), ledger.ErrCorrupt)
			}
			if !yield(e, err) || err != nil {
				return
			}
			last = e.Row.From
		}
	}
}

func (s *sortedRows) remove(ctx context.Context) error {
	if s == nil {
		return nil
	}
	return s.sorter.Remove(ctx)
}
