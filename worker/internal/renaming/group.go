package renaming

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/store"
)

// together carries out rows that move together or not at all.
func (m *mover) together(ctx context.Context, steps []*step) error {
	places, err := m.places(ctx, steps)
	if err != nil {
		return err
	}
	for i, s := range steps {
		s.staysFor(places[i])
	}
	if culprit := firstThatStays(steps); culprit != nil {
		return m.reverse(ctx, steps, places, culprit.because())
	}
	for i, s := range steps {
		if err := m.move(ctx, s); err != nil {
			return err
		}
		if s.record.Outcome != batch.Done {
			return m.reverse(ctx, steps, places, s.because())
		}
		places[i] = store.AtTarget
	}
	return nil
}

// places looks where the objects of a group are.
func (m *mover) places(ctx context.Context, steps []*step) ([]store.Place, error) {
	places := make([]store.Place, len(steps))
	for i, s := range steps {
		var err error
		if places[i], _, err = m.look(ctx, s); err != nil {
			return nil, err
		}
	}
	return places, nil
}

func firstThatStays(steps []*step) *step {
	i := slices.IndexFunc(steps, func(s *step) bool { return s.record.Outcome != "" })
	if i < 0 {
		return nil
	}
	return steps[i]
}

// reason is why objects stay.
type reason struct {
	outcome batch.Outcome
	code    batch.Reason
	message string
}

// cancelled is the reason of rows that were not begun.
func cancelled(verb string) reason {
	return reason{batch.Skipped, batch.ReasonCancelled, "the batch was cancelled before it was " + verb}
}

// because is the reason for the others of the group to stay.
func (s *step) because() reason {
	if s.copies {
		return reason{batch.Skipped, batch.ReasonGroup, fmt.Sprintf("it is copied only together with %s, which could not be copied: %s", s.row.From.Text(), s.record.Message)}
	}
	return reason{batch.Skipped, batch.ReasonGroup, fmt.Sprintf("it moves only together with %s, which could not move: %s", s.row.From.Text(), s.record.Message)}
}

// reverse moves back what has moved of a group, the last first, and records that the group stays. Nothing is left of moves that were begun.
func (m *mover) reverse(ctx context.Context, steps []*step, places []store.Place, why reason) error {
	for i, s := range slices.Backward(steps) {
		if places[i] == store.AtTarget {
			if err := m.moveBack(ctx, s, why); err != nil {
				return err
			}
			continue
		}
		if s.record.Outcome == "" {
			s.stays(why.outcome, why.code, why.message)
		}
		if places[i] == store.AtSource {
			if err := m.dropHalf(ctx, s); err != nil {
				return err
			}
		}
	}
	return nil
}

// dropHalf takes away what an interrupted rename has left at the new name of an object that stays at its old one.
func (m *mover) dropHalf(ctx context.Context, s *step) error {
	if s.half == (archive.Identity{}) {
		return nil
	}
	if s.row.SameFolded() {
		spelled, err := store.Spelled(ctx, m.archive, s.row.From, s.row.To)
		if err != nil || !spelled[s.row.From] || !spelled[s.row.To] {
			return err // the archive takes both names for one
		}
	}
	m.touched.add(s.row.From, s.row.To)
	moveErr := m.store(ctx, s, m.back(s.row, s.half))
	if err := m.ends(ctx, moveErr); err != nil {
		return err
	}
	if moveErr != nil && !errors.Is(moveErr, store.ErrNotExist) {
		s.record.Message += fmt.Sprintf("; a copy of it that was begun is left at the name %s: %v", s.row.To.Text(), moveErr)
	}
	return nil
}

// moveBack moves an object back to its old name and records where it is in the end.
func (m *mover) moveBack(ctx context.Context, s *step, why reason) error {
	at, now, err := m.look(ctx, s)
	if err != nil {
		return err
	}
	if at != store.AtTarget {
		s.stays(why.outcome, why.code, why.message)
		s.staysFor(at)
		return nil
	}
	m.touched.add(s.row.From, s.row.To)
	err = m.store(ctx, s, m.back(s.row, now))
	_, lapsed := errors.AsType[lapsedError](err)
	switch {
	case err == nil:
		s.stays(why.outcome, why.code, why.message)
		return nil
	case lapsed, ctx.Err() != nil, errors.Is(err, store.ErrUnavailable):
		return err
	}
	at, now, lookErr := m.look(ctx, s)
	switch {
	case lookErr != nil:
		return errors.Join(err, lookErr)
	case at == store.AtTarget:
		s.done(now)
		s.record.Outcome, s.record.Reason = batch.Failed, batch.ReasonGroup
		s.record.Message = fmt.Sprintf("%s; it had moved already and could not be moved back: %v", why.message, err)
	default:
		s.stays(why.outcome, why.code, why.message)
		s.staysFor(at)
	}
	return nil
}

// findOut records what earlier executions did, of rows that are not to be carried out any more. A group that is half moved is moved back.
func (m *mover) findOut(ctx context.Context, steps []*step, why reason) error {
	places, err := m.places(ctx, steps)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(places, func(p store.Place) bool { return p != store.AtTarget }) {
		return m.reverse(ctx, steps, places, why)
	}
	for _, s := range steps {
		if err := m.moved(ctx, s); err != nil {
			return err
		}
	}
	return nil
}
