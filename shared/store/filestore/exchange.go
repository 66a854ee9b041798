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
	switch {
	case req.WantA.Same(s.identity(b.st)) && req.WantB.Same(s.identity(a.st)):
		return nil
	case !req.WantA.Same(s.identity(a.st)) || !req.WantB.Same(s.identity(b.st)):
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

// exchangeTries is how often an exchange that was not what was meant is reversed, where another process exchanges the same names at
// the same time: each leaves them as if it had not been there.
const exchangeTries = 64

// verifyExchange makes sure that what was exchanged is what was checked, and else exchanges back, until the names are as they were
// right before. It touches them no more where others have brought something else to one of them.
func (s *Store) verifyExchange(req store.ExchangeRequest, a, b *pinned) error {
	at := both{a.entry, b.entry}
	now, err := s.lookAt(at)
	if err != nil || now.is(req, a, b) {
		return err
	}
	s.at("exchange: mismatch seen")
	made := now.files()
	for range exchangeTries {
		if err := s.exchangeNames(at.a, at.b); err != nil {
			return fmt.Errorf("%w at the last moment and could not be exchanged back (%w)", store.ErrChanged, classify(err))
		}
		s.at("exchange: exchanged back")
		now, err := s.lookAt(at)
		switch {
		case err != nil || now.is(req, a, b): // another execution of the request has made it
			return err
		case now.files() != made:
			return store.ErrChanged
		}
	}
	return fmt.Errorf("%w at the last moment, and others exchange the same names", store.ErrChanged)
}

// both are the names of an exchange, and view what is there.
type (
	both struct{ a, b entry }
	view struct {
		a, b     unix.Stat_t
		isA, isB archive.Identity
	}
)

// lookAt says what is at both names now. Where one is free, somebody has taken away what was exchanged: ErrChanged.
func (s *Store) lookAt(at both) (v view, err error) {
	if v.a, err = at.a.stat(); err == nil {
		v.b, err = at.b.stat()
	}
	if isMissing(err) {
		err = fmt.Errorf("%w: it was exchanged, and then renamed or deleted by somebody else", store.ErrChanged)
	}
	v.isA, v.isB = s.identity(v.a), s.identity(v.b)
	return v, err
}

func (v view) files() [2]fileID { return [2]fileID{idOf(v.a), idOf(v.b)} }

// is reports whether the objects of a request, which were pinned, have one another's names.
func (v view) is(req store.ExchangeRequest, a, b *pinned) bool {
	return v.files() == [2]fileID{idOf(b.st), idOf(a.st)} && req.WantB.Same(v.isA) && req.WantA.Same(v.isB)
}
