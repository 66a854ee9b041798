package renaming

import (
	"context"
	"errors"
	"fmt"

	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/store"
)

// Batches that copy leave every object where it is. Who carries out a row that was carried out before finds its own copy, and an
// execution whose claim has lapsed takes nothing back: a copy that the records do not know of replaces nothing, and nothing of an
// archive is ever deleted. The claim is looked at while an object is copied, and once more right before the copy gets its name.
//
// A group is copied whole or not at all as far as that can be known before. Where one of it cannot be copied after all, the copies
// that were made stay, and their records say so.

// copies reports whether objects stay, and copies of them get the names.
func (m *mover) copies() bool { return m.method != batch.MethodRename }

// bytes are what a record adds to those that were worked on: a copy has told them already.
func (m *mover) bytes(r batch.Record) int64 {
	if m.copies() {
		return 0
	}
	return r.Size
}

// errCancelled ends a copy of a batch that was cancelled.
var errCancelled = errors.New("the batch was cancelled")

// copyRequest is the one that carries out a row.
func (m *mover) copyRequest(r batch.Row) store.CopyRequest {
	return store.CopyRequest{
		From: r.From, To: r.To, Want: r.Want, OpID: r.OpID, Link: m.method == batch.MethodLink, Digest: r.Digest,
		Again: m.again, AssumeSingleWriter: m.singleWriter, During: m.during,
	}
}

// during tells how much was copied, and ends the copy where the claim is not held for certain any more.
func (m *mover) during(n int64) error {
	m.hold.Advance(0, n)
	if err := m.hold.Held(); err != nil {
		return lapsedError{err}
	}
	if m.hold.Cancelled() {
		return errCancelled
	}
	return nil
}

// lookForCopy finds out whether the copy of a row was made, or could be.
func (m *mover) lookForCopy(ctx context.Context, r batch.Row) (store.Place, error) {
	w, err := store.Locate(ctx, m.archive, m.request(r))
	if err != nil {
		return 0, err
	}
	if w.Target.Taken {
		made, err := m.archive.Copied(ctx, m.copyRequest(r))
		if made || err != nil {
			return store.AtTarget, err
		}
	}
	switch {
	case w.Source.Is(r.Want) && w.Target.Taken:
		return store.Conflict, nil
	case w.Source.Is(r.Want):
		return store.AtSource, nil
	case w.Source.Taken:
		return store.Changed, nil
	}
	return store.Missing, m.reachable(ctx)
}

// copyTogether copies objects that are copied together, or one.
func (m *mover) copyTogether(ctx context.Context, steps []*step) error {
	why, err := m.beforeCopies(ctx, steps)
	if err != nil {
		return err
	}
	for _, s := range steps {
		switch {
		case s.record.Outcome != "":
		case why != nil:
			s.stays(why.outcome, why.code, why.message)
		default:
			if err := m.copy(ctx, s); err != nil {
				return err
			}
		}
		if why == nil && s.record.Outcome != batch.Done {
			why = s.stops()
		}
	}
	if why != nil {
		left(steps, *why)
	}
	return nil
}

// beforeCopies records what is known before anything is copied: which copies an earlier execution made, and which cannot be made. It
// returns why no other is to be made, nil if all can.
func (m *mover) beforeCopies(ctx context.Context, steps []*step) (*reason, error) {
	over := m.hold.Cancelled()
	if len(steps) == 1 && !over {
		return nil, nil // the store looks itself
	}
	places, err := m.places(ctx, steps)
	if err != nil {
		return nil, err
	}
	var why *reason
	if over {
		r := cancelled("copied")
		why = &r
	}
	for i, s := range steps {
		if s.staysFor(places[i]); s.record.Outcome != "" && why == nil {
			why = s.stops()
		}
		if places[i] == store.AtTarget {
			m.copied(s)
		}
	}
	return why, nil
}

// stops is why the others of the group are not copied once this one was not.
func (s *step) stops() *reason {
	if s.record.Reason == batch.ReasonCancelled {
		r := cancelled("copied")
		return &r
	}
	r := s.because()
	return &r
}

// left says of the copies that were made of a group that it was not copied whole. If all were made, there is nothing to say.
func left(steps []*step, why reason) {
	if firstNotDone(steps) == nil {
		return
	}
	for _, s := range steps {
		if s.record.Outcome == batch.Done {
			s.record.Outcome, s.record.Reason = batch.Failed, batch.ReasonGroup
			s.record.Message = fmt.Sprintf("%s; this one was copied already, and the copy was left at %s: delete it before the group is copied again", why.message, s.record.Copy.Text())
		}
	}
}

func firstNotDone(steps []*step) *step {
	for _, s := range steps {
		if s.record.Outcome != batch.Done {
			return s
		}
	}
	return nil
}

// copy makes one copy under the claim.
func (m *mover) copy(ctx context.Context, s *step) error {
	if err := m.hold.Held(); err != nil {
		return lapsedError{err}
	}
	copyErr := m.archive.Copy(ctx, m.copyRequest(s.row))
	if err := m.hold.Held(); err != nil {
		return lapsedError{err}
	}
	_, lapsed := errors.AsType[lapsedError](copyErr)
	switch {
	case copyErr == nil:
		m.copied(s)
		return nil
	case lapsed:
		return copyErr
	case errors.Is(copyErr, errCancelled):
		r := cancelled("copied")
		s.stays(r.outcome, r.code, r.message)
		return nil
	}
	return m.failed(ctx, s, copyErr)
}

// copied records that the copy was made.
func (m *mover) copied(s *step) {
	m.touched.addTarget(s.row.To)
	s.record.Outcome, s.record.Reason, s.record.Message = batch.Done, "", ""
	s.record.Copy = s.row.To
}
