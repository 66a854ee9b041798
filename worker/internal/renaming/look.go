package renaming

import (
	"context"
	"errors"
	"fmt"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/store"
)

// look finds a step's object, and says with which identity.
func (m *mover) look(ctx context.Context, s *step) (store.Place, archive.Identity, error) {
	if m.copies() {
		at, err := m.lookForCopy(ctx, s.row)
		return at, archive.Identity{}, err
	}
	w, err := store.Locate(ctx, m.archive, m.request(s.row))
	if err != nil {
		return 0, archive.Identity{}, err
	}
	if s.half = (archive.Identity{}); w.Half() {
		s.half = w.Target.Object.Identity
	}
	switch place := w.Place(); place {
	case store.AtSource, store.Conflict:
		return place, w.Source.Object.Identity, nil
	case store.AtTarget:
		return place, w.Target.Object.Identity, nil
	case store.Missing:
		return place, archive.Identity{}, m.reachable(ctx)
	default:
		return place, archive.Identity{}, nil
	}
}

// reachable is an error where the archive is empty: then its objects are not missing, it is not the archive.
func (m *mover) reachable(ctx context.Context) error {
	if m.there.Load() {
		return nil
	}
	for _, err := range m.archive.List(ctx, store.ListOptions{}) {
		m.there.Store(err == nil)
		return err
	}
	return fmt.Errorf("the archive is empty: %w", store.ErrUnavailable)
}

// staysFor records why an object that is not at its new name does not go there.
func (s *step) staysFor(at store.Place) {
	switch at {
	case store.Conflict:
		s.stays(batch.Failed, batch.ReasonConflict, fmt.Sprintf(
			"something else has got the name %s since the plan was made; nothing was touched; plan the rename again", s.row.To.Text()))
	case store.Changed:
		s.stays(batch.Skipped, batch.ReasonChanged, "it has changed since the plan was made; inspect it and plan the rename again")
	case store.Missing:
		message := "it is neither at its old name nor at its new one"
		if s.copies {
			message = "it is not there any more, and there is no copy of it"
		}
		s.stays(batch.Failed, batch.ReasonMissing, message)
	case store.AtSource, store.AtTarget:
	}
}

// failed records an error of store.Rename, or returns it where it is not about this object.
func (m *mover) failed(ctx context.Context, s *step, err error) error {
	switch {
	case ctx.Err() != nil, errors.Is(err, store.ErrUnavailable):
		return err
	case errors.Is(err, store.ErrExist):
		s.staysFor(store.Conflict)
	case errors.Is(err, store.ErrChanged), errors.Is(err, store.ErrNotRegular):
		s.stays(batch.Skipped, batch.ReasonChanged, "it has changed since the plan was made: "+err.Error())
	case errors.Is(err, store.ErrUnsupported) && m.copies(): // it has its own remedy
		s.stays(batch.Failed, batch.ReasonUnsupported, err.Error())
	case errors.Is(err, store.ErrUnsupported):
		s.stays(batch.Failed, batch.ReasonUnsupported, remedy(err, m.archive.Properties().Remedy))
	default:
		return m.interrupted(ctx, s, err)
	}
	return nil
}

func remedy(err error, words string) string {
	if words == "" {
		return err.Error()
	}
	return err.Error() + "; " + words
}

// interrupted records an error after which only the world can say whether the object was moved.
func (m *mover) interrupted(ctx context.Context, s *step, cause error) error {
	at, _, err := m.look(ctx, s)
	if err != nil {
		return errors.Join(cause, err)
	}
	switch {
	case at == store.AtTarget:
		return m.moved(ctx, s)
	case errors.Is(cause, store.ErrNotExist) && at != store.AtSource: // else it was a handle that went stale
		s.staysFor(at)
	case errors.Is(cause, store.ErrNoSpace):
		s.stays(batch.Failed, batch.ReasonNoSpace, cause.Error()+"; free some and plan the rename again")
	case errors.Is(cause, store.ErrPermission):
		s.stays(batch.Failed, batch.ReasonIO, cause.Error()+"; give the worker the right to write to both folders and plan the rename again")
	default:
		s.stays(batch.Failed, batch.ReasonIO, cause.Error())
	}
	return nil
}
