package s3store

import (
	"context"
	"errors"
	"fmt"

	"github.com/reshelf/reshelf/shared/store"
)

// Copy implements store.Store: the first half of a rename, under the same conditions and with the same mark. A bucket has no hard links.
// CopyRequest.Digest is not looked at: the ETag of Want stands for the content.
func (s *Store) Copy(ctx context.Context, req store.CopyRequest) error {
	m, err := s.copying(ctx, req)
	if err == nil {
		err = m.untilCertain(ctx)
	}
	if ended, ok := errors.AsType[endedError](err); ok {
		err = ended.error
	}
	return failed("copy "+req.From.Text()+" to", req.To, err)
}

// Copied implements store.Store: the mark is proof.
func (s *Store) Copied(ctx context.Context, req store.CopyRequest) (bool, error) {
	m, err := s.copying(ctx, req)
	if errors.Is(err, store.ErrExist) || errors.Is(err, store.ErrUnsupported) {
		return false, nil
	}
	if err == nil {
		dst, statErr := m.Stat(ctx, req.To)
		switch {
		case statErr == nil:
			return m.isOurs(dst) && dst.Size == req.Want.Size, nil
		case errors.Is(statErr, store.ErrNotExist):
			return false, nil
		}
		err = statErr
	}
	return false, failed("copy of "+req.From.Text()+" at", req.To, err)
}

// copying is a request to copy, which was checked.
func (s *Store) copying(ctx context.Context, req store.CopyRequest) (*move, error) {
	if err := s.enter(ctx, req.From, req.To); err != nil {
		return nil, err
	}
	if req.Link {
		return nil, fmt.Errorf("%w: a bucket knows no hard links; make copies instead (--copy)", store.ErrUnsupported)
	}
	if err := errors.Join(s.takes(req.To), checkOpID(req.OpID)); err != nil {
		return nil, err
	}
	if req.From == req.To {
		return nil, store.ErrExist
	}
	return &move{Store: s, keeps: true, during: req.During, req: store.RenameRequest{
		From: req.From, To: req.To, Want: req.Want, OpID: req.OpID, Again: req.Again, AssumeSingleWriter: req.AssumeSingleWriter,
	}}, nil
}

// endedError: whoever wanted the copy wants it no more.
type endedError struct{ error }

func (e endedError) Unwrap() error { return e.error }

// tell tells whoever wanted the copy how far it is; a rename tells nobody.
func (m *move) tell(amounts ...int64) error {
	for _, n := range amounts {
		if m.during == nil {
			return nil
		}
		if err := m.during(n); err != nil {
			return endedError{err}
		}
	}
	return nil
}
