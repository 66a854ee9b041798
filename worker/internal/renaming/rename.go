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
//
// A group, or an object that moves by itself, is a unit, and so is a chain: groups and objects that get names which others
// leave, in their order. Where one of a chain does not move, its name is taken, and what was to get it stays as in any conflict.
// Objects of a chain that get one another's names are a circle: they exchange them, one step after the other, all or none.
// Where renames take two steps, all objects of a chain go to names in between first, and so does an object whose new name the archive
// does not tell from its old one (see park.go).
// Where the batch copies, objects stay, and nothing is ever taken back (see copies.go).
//
// Units do not depend on each other, so as many as the store asks for are in hand at once (Properties.Parallel); within a unit
// one move follows the other. When an error ends the segment,
// no other unit is begun, and those in hand go on until they are done, find the same, or ctx ends: a move is not cut short
// because another one failed, nor is the wait for the part of a successor. Rename returns when all have ended; only then
// the execution has.
package renaming

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/worker/internal/panics"
)

// Hold is the claim under which work is done. It is safe for concurrent use.
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

// Segment is a segment of a sealed plan, and who carries it out.
type Segment struct {
	Batch     batch.Batch
	Plan      batch.Plan
	Execution ledger.Execution // its Ref names the segment
	// Ended reports whether another execution will certainly move nothing more. Objects with names in between are not touched before
	// all others have ended; meanwhile Note tells what is waited for, and after a while Rename returns an error that says so.
	Ended func(context.Context, ledger.Execution) (bool, error)
	Note  func(string)
}

// Rename carries out a segment and adds one record for each of its rows to w. When it returns nil the moves are
// durable, and w is ready to be stored as the part of the segment. When it returns an error the records do not count, and
// the segment has to be carried out again; that is also so where the archive is unavailable or the claim has lapsed.
//
// A segment that has its part is settled: nothing is moved, and w gets the records of the part.
//
// Rows that a cancelled batch did not begin are skipped. A group that an earlier execution left half moved is moved back
// even then.
func Rename(ctx context.Context, hold Hold, led *ledger.Ledger, st store.Store, seg Segment, w *ledger.PartWriter) error {
	if err := rename(ctx, hold, led, st, seg, w); err != nil {
		return fmt.Errorf("rename segment %s: %w", seg.Execution.Ref, err)
	}
	return nil
}

func rename(ctx context.Context, hold Hold, led *ledger.Ledger, st store.Store, seg Segment, w *ledger.PartWriter) (err error) {
	b, exec := seg.Batch, seg.Execution
	rows, err := led.PlanRows(ctx, seg.Plan, exec.Segment)
	if err != nil {
		return err
	}
	if seg.Plan.Segments[exec.Segment].Moves > 0 {
		// An execution's epoch is its own, so one that exists already was written by this very call.
		if err := led.BeginExecution(ctx, exec); err != nil && !errors.Is(err, store.ErrExist) {
			return err
		}
		defer func() { err = errors.Join(err, end(ctx, led, exec)) }()
	}
	if settled, err := adopt(ctx, led, w, exec.Ref); settled || err != nil {
		return err
	}
	m := &mover{hold: hold, led: led, archive: st, ref: exec.Ref, room: make(chan struct{}, max(1, st.Properties().Parallel)), singleWriter: b.AssumeSingleWriter, again: exec.Again, keepsMTime: st.Properties().KeepsMTime,
		chains: st.Properties().AtomicRename && !b.AssumeSingleWriter, exchanges: st.Properties().Exchange && !b.AssumeSingleWriter, method: b.Method()}
	if batch.Parked(rows) {
		if err := m.alone(ctx, seg); err != nil {
			return err
		}
		if m.repeated, err = led.Repeated(ctx, exec); err != nil {
			return err
		}
		m.spelled = newSpelling(rows)
	}
	records, err := m.rows(ctx, rows)
	if err != nil {
		return err
	}
	if keys := m.touched.keys(); len(keys) > 0 {
		if err := st.Sync(ctx, keys); err != nil {
			return err
		}
	}
	for _, r := range records {
		if err := w.Add(r); err != nil {
			return err
		}
	}
	if b.RemoveEmptyFolders {
		return m.removeFolders(ctx)
	}
	return nil
}

// removeFolders removes the folders that objects were moved out of, and those above them, where nothing is left in them. Whichever
// segment moves the last object out of a folder finds it empty.
func (m *mover) removeFolders(ctx context.Context) error {
	left := map[archive.Key]bool{}
	for _, key := range m.touched.sources {
		left[key.Dir()] = true
	}
	for dir := range left {
		for dir != "" {
			if err := m.hold.Held(); err != nil {
				return lapsedError{err}
			}
			removed, err := m.archive.RemoveFolder(ctx, dir)
			if err != nil {
				return err
			}
			if !removed {
				break
			}
			dir = dir.Dir()
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

// mover moves the objects of one segment. Units use it at the same time.
type mover struct {
	hold         Hold
	led          *ledger.Ledger
	archive      store.Store
	ref          batch.Ref
	singleWriter bool
	again        bool // the segment was begun before
	repeated     bool // the segment has other executions; known only where these wait for one another
	spelled      *spelling
	keepsMTime   bool
	chains       bool // objects may get names that others leave
	exchanges    bool // and exchange them
	method       batch.Method

	room    chan struct{} // holds one for each thing in hand, see inRoom
	touched touched
	// there: the archive holds something, so an object that is not found is missing.
	there atomic.Bool
}

// touched are keys whose folders must be synced.
type touched struct {
	mu               sync.Mutex
	targets, sources []archive.Key
}

func (t *touched) add(target, source archive.Key) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.targets, t.sources = append(t.targets, target), append(t.sources, source)
}

// addTarget is add where the source stays.
func (t *touched) addTarget(target archive.Key) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.targets = append(t.targets, target)
}

// keys are in the order that store.Sync asks for. No unit may be in hand any more.
func (t *touched) keys() []archive.Key { return append(t.targets, t.sources...) }

// rows carries out the rows of a segment, several units at once, and returns a record for each, in their order.
func (m *mover) rows(ctx context.Context, rows []batch.Row) ([]batch.Record, error) {
	records := make([]batch.Record, len(rows))
	err := m.atOnce(ctx, func(begun func(func() error)) {
		for begin, end := 0, 0; begin < len(rows); begin = end {
			end = begin + unit(rows[begin:])
			begun(func() error { return m.unit(ctx, rows[begin:end], records[begin:end]) })
		}
	})
	if err != nil {
		return nil, err
	}
	return records, nil
}

// atOnce does what all hands over, as much at once as the store asks for. After an error nothing more is begun, and what was begun goes on.
func (m *mover) atOnce(ctx context.Context, all func(begin func(func() error))) error {
	units, ended := errgroup.WithContext(ctx)
	units.SetLimit(cap(m.room))
	all(func(do func() error) {
		units.Go(func() (err error) {
			defer panics.Catch(&err)
			if ended.Err() != nil {
				return context.Cause(ended)
			}
			return do()
		})
	})
	err := units.Wait()
	panics.Rethrow(err)
	return err
}

// inRoom does one thing when there is room for it. What it does must not call inRoom: chains are at once, and objects of each, and
// all of these are no more than the store asks for.
func (m *mover) inRoom(ctx context.Context, do func() error) error {
	select {
	case m.room <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-m.room }()
	return do()
}

// unit is how many of the first rows must be carried out one after another: the rows of a group or of a chain.
func unit(rows []batch.Row) int {
	end := 1
	for end < len(rows) && rows[end].Follows(rows[0]) {
		end++
	}
	return end
}

// unit carries out a chain, a group or a single row, and says what became of the rows.
func (m *mover) unit(ctx context.Context, rows []batch.Row, records []batch.Record) error {
	c := m.newChain(rows)
	for _, n := range batch.Bonds(rows) {
		if err := m.bonded(ctx, &c, rows[:n], records[:n]); err != nil {
			return err
		}
		rows, records = rows[n:], records[n:]
	}
	return nil
}

// bonded carries out rows of a chain that are carried out as a whole.
func (m *mover) bonded(ctx context.Context, c *chain, rows []batch.Row, records []batch.Record) error {
	if batch.Parked(rows) {
		return m.byWayOf(ctx, rows, records)
	}
	return m.inRoom(ctx, func() error { return m.inOrder(ctx, c, rows, records) })
}

// inOrder is bonded for rows whose objects have no names in between.
func (m *mover) inOrder(ctx context.Context, c *chain, rows []batch.Row, records []batch.Record) error {
	if m.chains && !m.copies() && batch.Circular(rows) {
		if err := m.circle(ctx, rows, records, c.blocks(rows)); err != nil {
			return err
		}
		c.settleCircle(rows, records)
		m.advance(records)
		return nil
	}
	for begin, end := 0, 0; begin < len(rows); begin = end {
		end = begin + group(rows[begin:])
		if err := m.group(ctx, rows[begin:end], records[begin:end], c.blocks(rows[begin:end])); err != nil {
			return err
		}
		if rows[begin].Chain != 0 {
			if err := m.settleChained(ctx, c, rows[begin:end], records[begin:end]); err != nil {
				return err
			}
		}
		m.advance(records[begin:end])
	}
	return nil
}

func (m *mover) advance(records []batch.Record) {
	for _, r := range records {
		m.hold.Advance(1, m.bytes(r))
	}
}

// group is how many of the first rows move together.
func group(rows []batch.Row) int {
	end := 1
	for end < len(rows) && rows[end].Together(rows[0]) {
		end++
	}
	return end
}

// group carries out rows that move together, or one, unless something in their chain blocks them.
func (m *mover) group(ctx context.Context, rows []batch.Row, records []batch.Record, blocked *reason) error {
	moving := m.begin(rows, records)
	if len(moving) == 0 {
		return nil
	}
	if m.copies() {
		return m.copyTogether(ctx, moving)
	}
	if m.hold.Cancelled() {
		return m.findOut(ctx, moving, cancelled("renamed"))
	}
	if blocked != nil {
		return m.findOut(ctx, moving, *blocked)
	}
	if len(moving) == 1 {
		return m.move(ctx, moving[0])
	}
	return m.together(ctx, moving)
}

// begin makes the records of rows, and the steps of those that move.
func (m *mover) begin(rows []batch.Row, records []batch.Record) (moving []*step) {
	for i, r := range rows {
		records[i] = batch.Record{
			Object:  archive.Object{Key: r.From, Identity: r.Want},
			Outcome: r.Outcome, Reason: r.Reason, Message: r.Message,
		}
		if r.Moves() {
			moving = append(moving, &step{row: r, record: &records[i], copies: m.copies()})
		}
	}
	return moving
}

// step is one row that moves, with the record that becomes of it.
type step struct {
	row    batch.Row
	record *batch.Record
	copies bool // the object stays; a copy gets the name
	// half is the identity of what an interrupted rename has left at the new name, where the object was still seen at its old one.
	half archive.Identity
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
	s.record.To, s.record.Copy, s.record.Identity = "", "", s.row.Want
}
