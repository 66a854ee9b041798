package renaming

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/store"
)

// move carries out one row.
func (m *mover) move(ctx context.Context, s *step) error {
	err := m.store(ctx, s, m.request(s.row))
	if _, lapsed := errors.AsType[lapsedError](err); lapsed {
		return err
	}
	if err != nil {
		return m.failed(ctx, s, err)
	}
	return m.moved(ctx, s)
}

// moved records that the object is at its new name.
func (m *mover) moved(ctx context.Context, s *step) error {
	if m.copies() {
		m.copied(s)
		return nil
	}
	m.touched.add(s.row.To, s.row.From)
	if m.keepsMTime {
		s.done(archive.Identity{})
		return nil
	}
	o, err := m.archive.Stat(ctx, s.row.To)
	if err != nil {
		return err
	}
	s.done(o.Identity)
	return nil
}

// request is the one that carries out a row.
func (m *mover) request(r batch.Row) store.RenameRequest {
	return store.RenameRequest{
		From: r.From, To: r.To, Want: r.Want, OpID: r.OpID, Undoes: (*store.Undone)(r.Undoes), Again: m.again, AssumeSingleWriter: m.singleWriter,
	}
}

// back is the request that reverses a row; now is the identity that the object has at its new name.
func (m *mover) back(r batch.Row, now archive.Identity) store.RenameRequest {
	return store.RenameRequest{
		From: r.To, To: r.From, Want: now, OpID: r.OpID + "-back", Undoes: &store.Undone{OpID: r.OpID, Was: r.Want}, Again: m.again, AssumeSingleWriter: m.singleWriter,
	}
}

// lapsedError: the claim is not held for certain any more.
type lapsedError struct{ err error }

func (e lapsedError) Error() string { return e.err.Error() }
func (e lapsedError) Unwrap() error { return e.err }

// store makes one move under the claim. Nothing is moved unless the claim is held right before; if it is not held any
// more right after, the object is moved to where the successor's part says.
func (m *mover) store(ctx context.Context, s *step, req store.RenameRequest) error {
	return m.claimed(func() error { return m.archive.Rename(ctx, req) }, func() error { return m.comply(ctx, s, req) })
}

// claimed makes a move under the claim, and calls comply where it was made, or may have been, and the claim has lapsed meanwhile.
func (m *mover) claimed(move, comply func() error) error {
	if err := m.hold.Held(); err != nil {
		return lapsedError{err}
	}
	moveErr := move()
	if err := m.hold.Held(); err != nil {
		if !refused(moveErr) {
			err = errors.Join(err, comply())
		}
		return lapsedError{err}
	}
	return moveErr
}

// refused reports whether a move was certainly not made.
func refused(err error) bool {
	for _, sentinel := range []error{store.ErrExist, store.ErrNotExist, store.ErrUnsupported, store.ErrPermission} {
		if errors.Is(err, sentinel) {
			return true
		}
	}
	return false
}

// How long, and how often, a lapsed execution looks for its successor's part. Undos wait for the execution meanwhile.
const (
	complyWithin = 20 * time.Second
	complyEvery  = 500 * time.Millisecond
)

// comply reverses a move that was made when the claim had lapsed, if the part of the segment says that the object is
// where it was before. If nobody has settled the segment in time, whoever does looks at the world after this execution.
func (m *mover) comply(ctx context.Context, s *step, made store.RenameRequest) error {
	settled, ok, err := m.settled(ctx, s.row.From)
	if !ok || err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endWithin)
	defer cancel()
	at, now, err := m.look(ctx, s)
	if err != nil {
		return err
	}
	forward := made.To == s.row.To
	switch {
	case forward && at == store.AtTarget && settled.To == "":
		err = m.archive.Rename(ctx, m.back(s.row, now))
	case !forward && at == store.AtSource && settled.To != "":
		err = m.archive.Rename(ctx, m.request(s.row))
	default:
		return nil
	}
	if err != nil {
		return fmt.Errorf("the claim lapsed during a move, and %s could not be put where the records say: %w", s.row.From.Text(), err)
	}
	return m.archive.Sync(ctx, []archive.Key{s.row.From, s.row.To})
}

// settled waits for the part of the segment and returns the record of an object; false if there is no part in time.
func (m *mover) settled(ctx context.Context, key archive.Key) (batch.Record, bool, error) {
	deadline := time.NewTimer(complyWithin)
	defer deadline.Stop()
	again := time.NewTicker(complyEvery)
	defer again.Stop()
	for {
		r, err := m.recorded(context.WithoutCancel(ctx), key)
		if !errors.Is(err, store.ErrNotExist) {
			return r, err == nil, err
		}
		select {
		case <-ctx.Done():
			return batch.Record{}, false, nil
		case <-deadline.C:
			return batch.Record{}, false, nil
		case <-again.C:
		}
	}
}

func (m *mover) recorded(ctx context.Context, key archive.Key) (batch.Record, error) {
	for r, err := range m.led.Part(ctx, m.ref) {
		if err != nil || r.Key == key {
			return r, err
		}
	}
	return batch.Record{}, fmt.Errorf("segment %s has no record of %s: %w", m.ref, key.Text(), ledger.ErrCorrupt)
}
