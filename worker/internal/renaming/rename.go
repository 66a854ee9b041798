// Package renaming carries out a segment of a sealed plan.
//
// Whoever carries out a row looks at the world first, and store.Rename never replaces and may be repeated, so a row may
// be started by one execution and be finished by another, or by two at once. What can go wrong is that a worker is
// stopped right before a move and wakes up when others have gone on. So every execution is written to the ledger before
// its first move, and ended after its last one; what builds on the moves waits for that. And after each move the claim is
// looked at again: if it has lapsed meanwhile, the part that the successor wrote is what counts, and the object is moved
// to where it says, again without replacing.
//
// Objects of a group move together or not at all. All are checked before the first one moves; where one cannot move
// after all, those that moved are moved back, also those that an earlier execution had moved.
package renaming

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/store"
)

// Hold is the claim under which work is done.
type Hold interface {
	// Held is nil while the claim is certainly held; else stop at once and touch nothing any more.
	Held() error
	// Cancelled: the batch was cancelled. What was begun is found out, and nothing new is begun.
	Cancelled() bool
	// Advance tells what was done since the last call.
	Advance(objects, bytes int64)
}

// endWithin bounds what has to be written when an execution ends, also where its context is done.
const endWithin = 30 * time.Second

// Rename carries out segment n of plan p and adds one record for each of its rows to w. When it returns nil the moves are
// durable, and w is ready to be stored as the part of exec.Ref. When it returns an error the records do not count, and
// the segment has to be carried out again; that is also so where the archive is unavailable or the claim has lapsed.
//
// A segment that has its part is settled: nothing is moved, and w gets the records of the part.
//
// Rows that a cancelled batch did not begin are skipped. A group that an earlier execution left half moved is moved back
// even then.
func Rename(ctx context.Context, hold Hold, led *ledger.Ledger, st store.Store, b batch.Batch, p batch.Plan, n int,
	exec ledger.Execution, w *ledger.PartWriter,
) error {
	if err := rename(ctx, hold, led, st, b, p, n, exec, w); err != nil {
		return fmt.Errorf("rename segment %s: %w", exec.Ref, err)
	}
	return nil
}

func rename(ctx context.Context, hold Hold, led *ledger.Ledger, st store.Store, b batch.Batch, p batch.Plan, n int,
	exec ledger.Execution, w *ledger.PartWriter,
) (err error) {
	rows, err := led.PlanRows(ctx, p, n)
	if err != nil {
		return err
	}
	if p.Segments[n].Moves > 0 {
		// An execution's epoch is its own, so one that exists already was written by this very call.
		if err := led.BeginExecution(ctx, exec); err != nil && !errors.Is(err, store.ErrExist) {
			return err
		}
		defer func() { err = errors.Join(err, end(ctx, led, exec)) }()
	}
	if settled, err := adopt(ctx, led, w, exec.Ref); settled || err != nil {
		return err
	}
	m := &mover{hold: hold, led: led, archive: st, ref: exec.Ref, singleWriter: b.AssumeSingleWriter, keepsMTime: st.Properties().KeepsMTime}
	records, err := m.rows(ctx, rows)
	if err != nil {
		return err
	}
	if len(m.touched) > 0 {
		if err := st.Sync(ctx, m.touched); err != nil {
			return err
		}
	}
	for _, r := range records {
		if err := w.Add(r); err != nil {
			return err
		}
	}
	return nil
}

// adopt copies the records of a segment that has its part already: nothing may move any more, or they would not be true.
func adopt(ctx context.Context, led *ledger.Ledger, w *ledger.PartWriter, ref batch.Ref) (bool, error) {
	switch _, err := led.PartHeader(ctx, ref); {
	case errors.Is(err, store.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	}
	for r, err := range led.Part(ctx, ref) {
		if err == nil {
			err = w.Add(r)
		}
		if err != nil {
			return false, err
		}
	}
	return true, nil
}

func end(ctx context.Context, led *ledger.Ledger, exec ledger.Execution) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endWithin)
	defer cancel()
	return led.EndExecution(ctx, exec)
}

// mover moves the objects of one segment.
type mover struct {
	hold         Hold
	led          *ledger.Ledger
	archive      store.Store
	ref          batch.Ref
	singleWriter bool
	keepsMTime   bool

	// touched are keys whose folders must be synced.
	touched []archive.Key
	// there: the archive holds something, so an object that is not found is missing.
	there bool
}

// rows carries out the rows of a segment, group by group, and returns a record for each.
func (m *mover) rows(ctx context.Context, rows []batch.Row) ([]batch.Record, error) {
	records := make([]batch.Record, 0, len(rows))
	for len(rows) > 0 {
		end := 1
		for end < len(rows) && rows[0].Group != "" && rows[end].Group == rows[0].Group {
			end++
		}
		done, err := m.group(ctx, rows[:end])
		if err != nil {
			return nil, err
		}
		for _, r := range done {
			m.hold.Advance(1, r.Size)
		}
		records = append(records, done...)
		rows = rows[end:]
	}
	return records, nil
}

// group carries out rows that move together, or a single one.
func (m *mover) group(ctx context.Context, rows []batch.Row) ([]batch.Record, error) {
	records := make([]batch.Record, len(rows))
	var moving []*step
	for i, r := range rows {
		records[i] = batch.Record{
			Object:  archive.Object{Key: r.From, Identity: r.Want},
			Outcome: r.Outcome, Reason: r.Reason, Message: r.Message,
		}
		if r.Moves() {
			moving = append(moving, &step{row: r, record: &records[i]})
		}
	}
	if len(moving) == 0 {
		return records, nil
	}
	if m.hold.Cancelled() {
		return records, m.findOut(ctx, moving)
	}
	if len(moving) == 1 {
		return records, m.move(ctx, moving[0])
	}
	return records, m.together(ctx, moving)
}

// step is one row that moves, with the record that becomes of it.
type step struct {
	row    batch.Row
	record *batch.Record
}

// done says that the object is at its new name, as now (zero: as it was wanted).
func (s *step) done(now archive.Identity) {
	s.record.Outcome, s.record.Reason, s.record.Message = batch.Done, "", ""
	s.record.To = s.row.To
	if now != (archive.Identity{}) {
		s.record.Identity = now
	}
}

// stays says that the object is at its old name, and why.
func (s *step) stays(o batch.Outcome, r batch.Reason, message string) {
	s.record.Outcome, s.record.Reason, s.record.Message = o, r, message
	s.record.To, s.record.Identity = "", s.row.Want
}
