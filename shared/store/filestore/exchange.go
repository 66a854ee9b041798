//go:build linux

package filestore

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/store"
)

// Exchange implements store.Store by one renameat2(2) with RENAME_EXCHANGE; see the package comment.
func (s *Store) Exchange(ctx context.Context, req store.ExchangeRequest) error {
	if err := s.exchange(ctx, req); err != nil {
		return s.failed("exchange "+req.A.Text()+" with", req.B, err)
	}
	return nil
}

func (s *Store) exchange(ctx context.Context, req store.ExchangeRequest) error {
	if err := s.enter(ctx, req.A, req.B); err != nil {
		return err
	}
	switch {
	case !s.props.Exchange:
		return fmt.Errorf("%w: this file system cannot exchange two names in one step; %s", store.ErrUnsupported, remedyExchange)
	case req.WantA.Inode == 0 || req.WantB.Inode == 0 || req.WantA.Inode == req.WantB.Inode:
		return fmt.Errorf("%w: these two cannot be told apart by their inode numbers", store.ErrUnsupported)
	}
	a, err := s.pin(req.A)
	if err != nil {
		return err
	}
	defer a.close()
	b, err := s.pin(req.B)
	if err != nil {
		return err
	}
	defer b.close()
	s.at("exchange: pinned")
	if !req.WantA.Same(s.identity(a.st)) || !req.WantB.Same(s.identity(b.st)) {
		return store.ErrChanged
	}
	err = s.exchangeNames(a.entry, b.entry)
	s.at("exchange: exchanged")
	switch {
	case err == nil:
		return s.verifyExchange(req, a, b)
	case noReplaceUnknown(err):
		return fmt.Errorf("%w: this file system does not know RENAME_EXCHANGE; %s", store.ErrUnsupported, remedyExchange)
	case errors.Is(err, unix.EXDEV):
		return fmt.Errorf("%w: the two are on different devices", store.ErrUnsupported)
	}
	return err
}

// verifyExchange makes sure that what was exchanged is what was checked. Where something is there that nobody of those who make the same
// exchange brings there, somebody swapped it for one of the objects in the last moment, and the names are exchanged back.
func (s *Store) verifyExchange(req store.ExchangeRequest, a, b *pinned) error {
	at := both{a.entry, b.entry}
	now, err := s.lookAt(at)
	switch {
	case err != nil || now.is(req, a, b):
		return err
	case !now.foreign(req):
		return store.ErrRaced
	}
	s.at("exchange: mismatch seen")
	if err := s.exchangeNames(at.a, at.b); err != nil {
		return fmt.Errorf("%w, and could not be exchanged back (%w)", store.ErrRaced, classify(err))
	}
	s.at("exchange: exchanged back")
	return store.ErrRaced
}

// both are the names of an exchange, and view what is there.
type (
	both struct{ a, b entry }
	view struct {
		a, b     unix.Stat_t
		isA, isB archive.Identity
	}
)

// lookAt says what is at both names now. Where one is free, somebody has taken away what was exchanged: ErrRaced.
func (s *Store) lookAt(at both) (v view, err error) {
	if v.a, err = at.a.stat(); err == nil {
		v.b, err = at.b.stat()
	}
	if isMissing(err) {
		err = fmt.Errorf("%w: it was exchanged, and then renamed or deleted by somebody else", store.ErrRaced)
	}
	v.isA, v.isB = s.identity(v.a), s.identity(v.b)
	return v, err
}

// is reports whether the objects of a request, which were pinned, have one another's names.
func (v view) is(req store.ExchangeRequest, a, b *pinned) bool {
	return idOf(v.a) == idOf(b.st) && idOf(v.b) == idOf(a.st) && req.WantB.Same(v.isA) && req.WantA.Same(v.isB)
}

// foreign reports whether one of the names leads to what is neither of the request nor known to it, as it is wanted.
func (v view) foreign(req store.ExchangeRequest) bool {
	known := func(st unix.Stat_t, id archive.Identity) bool {
		return isRegular(st) && (req.WantA.Same(id) || req.WantB.Same(id) || req.Known != nil && req.Known(id))
	}
	return !known(v.a, v.isA) || !known(v.b, v.isB)
}
