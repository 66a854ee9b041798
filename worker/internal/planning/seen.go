package planning

import (
	"cmp"
	"context"
	"errors"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/worker/internal/panics"
)

// seen is an archive that knows what was found at some names, so that it need not be asked one after the other, each a request, about
// the thousands of a segment.
type seen struct {
	store.Store

	mu sync.Mutex
	at map[archive.Key]found
}

// found is what Stat said of a name.
type found struct {
	object archive.Object
	err    error
}

// Stat is that of the archive, or what it was when its name was last looked at.
func (s *seen) Stat(ctx context.Context, key archive.Key) (archive.Object, error) {
	s.mu.Lock()
	f, ok := s.at[key]
	s.mu.Unlock()
	if ok {
		return f.object, f.err
	}
	return s.Store.Stat(ctx, key)
}

// lookAt looks at names, as many at once as the archive takes, and forgets all others. It calls tick before each. An archive that takes one at a
// time is asked when it matters.
func (s *seen) lookAt(ctx context.Context, names []archive.Key, tick func(context.Context) error) error {
	s.at = make(map[archive.Key]found, len(names))
	parallel := s.Properties().Parallel
	if parallel <= 1 {
		return nil
	}
	looks, ended := errgroup.WithContext(ctx)
	looks.SetLimit(parallel)
	asked := make(map[archive.Key]bool, len(names))
	var stopped error
	for _, name := range names {
		if stopped = tick(ctx); stopped != nil || ended.Err() != nil {
			break
		}
		if name == "" || asked[name] {
			continue
		}
		asked[name] = true
		looks.Go(func() (err error) {
			defer panics.Catch(&err)
			return s.look(ended, name)
		})
	}
	err := looks.Wait()
	panics.Rethrow(err)
	return cmp.Or(stopped, err)
}

// look asks the archive about a name. It is an error where that cannot be told.
func (s *seen) look(ctx context.Context, name archive.Key) error {
	o, err := s.Store.Stat(ctx, name)
	if err != nil && !errors.Is(err, store.ErrNotExist) && !errors.Is(err, store.ErrNotRegular) {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at[name] = found{o, err}
	return nil
}
