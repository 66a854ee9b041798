package renaming

import (
	"context"
	"sync"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/store"
)

// spell finds out which of two names that the archive does not tell apart the objects have.
func (m *mover) spell(ctx context.Context, all ...*traveller) error {
	for _, t := range all {
		if !t.unsure {
			continue
		}
		m.hold.Advance(0, 0)
		has, err := m.hasNewName(ctx, t)
		if err != nil {
			return err
		}
		if t.unsure = false; has {
			t.at = arrived // where it has two names, it is the same at both
		}
	}
	return nil
}

// hasNewName reports whether the new name of an object is listed exactly so. The folders of objects that this execution has not touched
// are listed once.
func (m *mover) hasNewName(ctx context.Context, t *traveller) (bool, error) {
	if t.tried {
		spelled, err := store.Spelled(ctx, m.archive, t.row.To)
		return spelled[t.row.To], err
	}
	m.spelled.mu.Lock()
	defer m.spelled.mu.Unlock()
	dir := t.row.To.Dir()
	if m.spelled.in[dir] == nil {
		spelled, err := store.Spelled(ctx, m.archive, m.spelled.names[dir]...)
		if err != nil {
			return false, err
		}
		m.spelled.in[dir] = spelled
	}
	return m.spelled.in[dir][t.row.To], nil
}

// spelling is how names of a segment were spelled before this execution touched their objects.
type spelling struct {
	names map[archive.Key][]archive.Key // the new names of rows whose objects may have them by folding alone, by folder

	mu sync.Mutex
	in map[archive.Key]map[archive.Key]bool // those of them that are listed, by folder
}

func newSpelling(rows []batch.Row) *spelling {
	s := &spelling{names: map[archive.Key][]archive.Key{}, in: map[archive.Key]map[archive.Key]bool{}}
	for _, r := range rows {
		if r.SameFolded() {
			s.names[r.To.Dir()] = append(s.names[r.To.Dir()], r.To)
		}
	}
	return s
}
