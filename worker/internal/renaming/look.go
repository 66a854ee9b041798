package renaming

import (
	"context"
	"errors"
	"fmt"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/store"
)

// place is where a row's object was found.
type place int

const (
	atOld    place = iota // and its new name is free, or leads to the same file
	atNew                 // an execution of this row moved it
	conflict              // at its old name, and its new name is taken
	changed               // something else has its old name
	missing               // nothing has its old name, and its new name is free or taken by something else
)

// sight is what is at a key.
type sight struct {
	taken  bool
	object archive.Object // zero if it is not a regular file
}

func (s sight) is(want archive.Identity) bool {
	return s.object.Key != "" && want.Same(s.object.Identity)
}

// look finds a row's object. The rules are those of store.Rename: the target is ours if the source is gone and the
// identity fits; where something has the source's name, only the inode is proof.
func (m *mover) look(ctx context.Context, r batch.Row) (place, archive.Identity, error) {
	source, err := m.stat(ctx, r.From)
	if err != nil {
		return 0, archive.Identity{}, err
	}
	target, err := m.stat(ctx, r.To)
	if err != nil {
		return 0, archive.Identity{}, err
	}
	sameFile := target.is(r.Want) && r.Want.Inode != 0 && target.object.Inode == r.Want.Inode
	switch {
	case source.is(r.Want) && (!target.taken || sameFile):
		return atOld, source.object.Identity, nil
	case source.is(r.Want):
		return conflict, source.object.Identity, nil
	case sameFile, !source.taken && target.is(r.Want) && (r.Want.MTime != 0 || r.Want.ETag != ""):
		return atNew, target.object.Identity, nil
	case source.taken:
		return changed, archive.Identity{}, nil
	}
	return missing, archive.Identity{}, m.reachable(ctx)
}

func (m *mover) stat(ctx context.Context, key archive.Key) (sight, error) {
	o, err := m.archive.Stat(ctx, key)
	switch {
	case errors.Is(err, store.ErrNotExist):
		return sight{}, nil
	case errors.Is(err, store.ErrNotRegular):
		return sight{taken: true}, nil
	}
	return sight{taken: true, object: o}, err
}

// reachable is an error where the archive is empty: then its objects are not missing, it is not the archive.
func (m *mover) reachable(ctx context.Context) error {
	if m.there {
		return nil
	}
	for _, err := range m.archive.List(ctx, store.ListOptions{}) {
		m.there = err == nil
		return err
	}
	return fmt.Errorf("the archive is empty: %w", store.ErrUnavailable)
}

// staysFor records why an object that is not at its new name does not go there.
func (s *step) staysFor(at place) {
	switch at {
	case conflict:
		s.stays(batch.Failed, batch.ReasonConflict, fmt.Sprintf(
			"something else has got the name %s since the plan was made; nothing was touched; plan the rename again", s.row.To.Text()))
	case changed:
		s.stays(batch.Skipped, batch.ReasonChanged, "it has changed since the plan was made; inspect it and plan the rename again")
	case missing:
		s.stays(batch.Failed, batch.ReasonMissing, "it is neither at its old name nor at its new one")
	case atOld, atNew:
	}
}

// failed records an error of store.Rename, or returns it where it is not about this object.
func (m *mover) failed(ctx context.Context, s *step, err error) error {
	switch {
	case ctx.Err() != nil, errors.Is(err, store.ErrUnavailable):
		return err
	case errors.Is(err, store.ErrExist):
		s.staysFor(conflict)
	case errors.Is(err, store.ErrChanged), errors.Is(err, store.ErrNotRegular):
		s.stays(batch.Skipped, batch.ReasonChanged, "it has changed since the plan was made: "+err.Error())
	case errors.Is(err, store.ErrNotExist):
		s.staysFor(missing)
		return m.reachable(ctx)
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
	at, _, err := m.look(ctx, s.row)
	if err != nil {
		return errors.Join(cause, err)
	}
	switch {
	case at == atNew:
		return m.moved(ctx, s)
	case errors.Is(cause, store.ErrNoSpace):
		s.stays(batch.Failed, batch.ReasonNoSpace, cause.Error()+"; free some and plan the rename again")
	case errors.Is(cause, store.ErrPermission):
		s.stays(batch.Failed, batch.ReasonIO, cause.Error()+"; give the worker the right to write to both folders and plan the rename again")
	default:
		s.stays(batch.Failed, batch.ReasonIO, cause.Error())
	}
	return nil
}
