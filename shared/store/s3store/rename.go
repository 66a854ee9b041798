package s3store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/store"
)

// Rename implements store.Store by copying and deleting; see the package comment. Steps between which a process may die,
// and what any later execution of the request then finds and does:
//
//	before the copy is complete   only the source: starts again; with RenameRequest.Again unfinished uploads are dropped
//	after the copy is complete    the source, and a target with the request's mark: verifies it and deletes the source
//	after the source is deleted   only a target with the request's mark: it is done
//
// Of two executions at once one completes its copy; the other sees the mark, and both may delete the source, which is still
// guarded. Where something else has the source's name by the time it is to be deleted, it stays: the object that was asked
// for is at the target.
func (s *Store) Rename(ctx context.Context, req store.RenameRequest) error {
	if err := s.rename(ctx, req); err != nil {
		return failed("rename "+req.From.Text()+" to", req.To, err)
	}
	return nil
}

// Exchange implements store.Store: no request exchanges two objects.
func (s *Store) Exchange(_ context.Context, req store.ExchangeRequest) error {
	return failed("exchange "+req.A.Text()+" with", req.B, fmt.Errorf("%w: a bucket renames by copying; give one of them another name first", store.ErrUnsupported))
}

func (s *Store) rename(ctx context.Context, req store.RenameRequest) error {
	if err := s.enter(ctx, req.From, req.To); err != nil {
		return err
	}
	if err := s.takes(req.To); err != nil {
		return err
	}
	if err := checkOpID(req.OpID); err != nil {
		return err
	}
	m := &move{Store: s, req: req}
	return m.untilCertain(ctx)
}

func checkOpID(id string) error {
	if id == "" || len(id) > maxOpID || strings.Trim(id, opIDLetters) != "" {
		return fmt.Errorf("op id %q: want 1 to %d letters, digits, hyphens, underscores and dots", id, maxOpID)
	}
	return nil
}

// untilCertain goes through the protocol, and again while the world changes under it: a few times, or for as long as the
// store's patience where the server only failed or asked to slow down.
func (m *move) untilCertain(ctx context.Context) error {
	began, tries := time.Now(), 0
	for wait := firstWait; ; wait = min(2*wait, longWait) {
		again, err := m.carryOut(ctx)
		if !again || err != nil {
			return err
		}
		if m.looked = true; !passing(m.cause) {
			tries++
		}
		if tries == reentries || time.Since(began) > m.patient {
			break
		}
		if err := sleep(ctx, wait); err != nil {
			return err
		}
	}
	switch {
	case errors.Is(m.cause, errNoETag):
		return errNoETag
	case m.cause != nil && classify(m.cause) == classTaken:
		return errVacated
	}
	return errors.New(words(m.cause)) // the store is there: it is about this object
}

// passing reports whether an error says nothing about the object: the server failed, or asked to slow down.
func passing(err error) bool {
	if err == nil {
		return false
	}
	c := classify(err)
	return c == classRetry || c == classSlow
}

// errNoETag: the server gives none of the source. Versity Gateway does that, too, at the moment when another execution deletes
// it, so it is asked again.
var errNoETag = fmt.Errorf("%w: the server gives no ETag, by which a change would be seen", store.ErrUnsupported)

// errVacated: a name counts as taken where nothing is.
var errVacated = fmt.Errorf("%w: the server says that the name is taken, and has nothing there; in a versioned bucket a delete marker may keep it: "+
	"remove that, or use another name", store.ErrUnsupported)

// What an op id is made of: it has to go through a header unchanged.
const (
	maxOpID     = 128
	opIDLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."
)

// move is one request in hand: to rename, or to copy.
type move struct {
	*Store
	req    store.RenameRequest
	looked bool  // an execution of this request may have made the target, so look at it before copying
	strays bool  // an upload may have been begun whose answer was lost
	cause  error // why the last one was in doubt
	// repeated: the copy was completed by a call that was not the first. A server that died in the middle of the first one may
	// say so and have nothing (Versity Gateway).
	repeated bool
	// keeps: the source stays, so that what is made is a copy.
	keeps bool
	// during is that of a store.CopyRequest, nil of a rename.
	during func(n int64) error
}

// carryOut goes through the protocol; again says that the world has changed meanwhile, and is to be looked at anew.
func (m *move) carryOut(ctx context.Context) (again bool, err error) {
	src, info, err := m.head(ctx, m.req.From, minio.StatObjectOptions{Checksum: m.can.Checksums})
	switch {
	case errors.Is(err, store.ErrNotExist):
		return false, m.ours(ctx, store.ErrNotExist)
	case err != nil:
		return false, err
	case !m.req.Want.Same(src.Identity):
		return false, m.ours(ctx, store.ErrChanged)
	case m.req.From == m.req.To:
		return false, nil
	case src.ETag == "":
		m.cause = errNoETag
		return true, nil
	}
	if err := m.at("source seen"); err != nil {
		return false, err
	}
	if done, again, err := m.takeBack(ctx, src); done || again || err != nil {
		return again, err
	}
	if err := m.allowed(); err != nil {
		return false, errors.Join(m.unlessTaken(ctx), err)
	}
	if err := m.sweep(ctx); err != nil {
		return false, err
	}
	if m.req.Again || m.looked {
		switch dst, err := m.Stat(ctx, m.req.To); {
		case err == nil && m.isOurs(dst):
			return m.finish(ctx, src, info)
		case err == nil:
			return false, store.ErrExist
		case !errors.Is(err, store.ErrNotExist):
			return false, err
		}
	}
	if m.can.Nested == nestedHidden {
		if err := m.unlessFolder(ctx, m.req.To); err != nil {
			return false, err
		}
	}
	if err := m.copy(ctx, src, info); err != nil {
		return m.doubt(ctx, err, src, info)
	}
	if err := m.at("copied"); err != nil {
		return false, err
	}
	return m.finish(ctx, src, info)
}

// allowed refuses where the bucket cannot do it safely, and nobody says that nobody else writes.
func (m *move) allowed() error {
	if m.can.guarded() || m.keeps && m.can.guardsCopies() || m.req.AssumeSingleWriter && m.can.V != 0 {
		return nil
	}
	return fmt.Errorf("%w: %s", store.ErrUnsupported, m.can.why())
}

// unlessTaken is store.ErrExist where the target is taken: that is the better news of two.
func (m *move) unlessTaken(ctx context.Context) error {
	if _, err := m.Stat(ctx, m.req.To); err == nil {
		return store.ErrExist
	}
	return nil
}

// ours is nil if the target is what this request moved, else otherwise.
func (m *move) ours(ctx context.Context, otherwise error) error {
	if m.req.From == m.req.To {
		return otherwise
	}
	dst, err := m.Stat(ctx, m.req.To)
	switch {
	case err == nil && m.isOurs(dst) && dst.Size == m.req.Want.Size:
		return m.tidy(ctx, dst)
	case err == nil, errors.Is(err, store.ErrNotExist):
		if err := m.sweep(ctx); err != nil {
			return err
		}
		return otherwise
	}
	return err
}

// sweep drops what an earlier execution may have begun.
func (m *move) sweep(ctx context.Context) error {
	if !m.req.Again {
		return nil
	}
	return m.dropUploads(ctx, time.Time{})
}

// tidy removes what other executions of a request that is carried out may have left.
func (m *move) tidy(ctx context.Context, dst archive.Object) error {
	if m.req.Again && m.can.Versioned && !m.can.ConditionalDelete && !m.keeps {
		if err := m.uncover(ctx, dst); err != nil {
			return err
		}
	}
	if m.req.Again || m.strays {
		return m.dropUploads(ctx, dst.ModTime())
	}
	return nil
}

// isOurs: the target bears the request's mark, or is the very object that was to be brought back.
func (m *move) isOurs(dst archive.Object) bool {
	if dst.Mark == m.req.OpID && m.req.OpID != "" {
		return true
	}
	u := m.req.Undoes
	return u != nil && dst.Mark != u.OpID && m.original(dst)
}

// copy makes the target, marked, from exactly the source that was seen; nothing is replaced.
func (m *move) copy(ctx context.Context, src archive.Object, info minio.ObjectInfo) error {
	o, err := m.headersOf(ctx, src, info)
	if err != nil {
		return err
	}
	inParts := strings.Contains(src.ETag, "-") && m.can.ConditionalComplete // such an ETag only another copy in parts has
	switch {
	case m.can.ConditionalCopy && src.Size <= maxPartSize && !inParts:
		return m.copyWhole(withHeader(ctx, "If-None-Match", "*"), src, o)
	case m.can.ConditionalComplete:
	case !m.req.AssumeSingleWriter:
		return fmt.Errorf("%w: it is larger than %d bytes, and the server has no guard for what it copies in parts", store.ErrUnsupported, int64(maxPartSize))
	default: // a single writer was promised; look all the same
		if _, err := m.Stat(ctx, m.req.To); !errors.Is(err, store.ErrNotExist) {
			return errors.Join(err, minio.ErrorResponse{Code: "PreconditionFailed", StatusCode: 412})
		}
		if src.Size <= maxPartSize {
			return m.copyWhole(ctx, src, o)
		}
	}
	return m.copyInParts(ctx, src, info, o)
}

// doubt decides after a copy that may or may not have been made: only what stands at the target tells.
func (m *move) doubt(ctx context.Context, cause error, src archive.Object, info minio.ObjectInfo) (again bool, err error) {
	_, ended := errors.AsType[endedError](cause)
	if ended || ctx.Err() != nil || errors.Is(cause, errStop) || errors.Is(cause, store.ErrUnsupported) {
		return false, cause
	}
	dst, err := m.Stat(ctx, m.req.To)
	switch {
	case err == nil && m.isOurs(dst):
		return m.finish(ctx, src, info)
	case err == nil:
		return false, store.ErrExist
	case !errors.Is(err, store.ErrNotExist):
		return false, errors.Join(m.unavailable(cause), err)
	}
	if m.can.folders() {
		if err := m.unlessFolder(ctx, m.req.To); err != nil {
			return false, err
		}
	}
	m.cause = cause
	switch classify(cause) {
	case classTaken, classAgain, classGone, classRetry, classSlow: // taken: of the source, or of a target that is gone again
		return true, nil
	}
	return false, m.unavailable(cause)
}

// finish verifies the target and deletes the source.
func (m *move) finish(ctx context.Context, src archive.Object, info minio.ObjectInfo) (again bool, err error) {
	dst, dstInfo, err := m.head(ctx, m.req.To, minio.StatObjectOptions{Checksum: m.can.Checksums})
	if errors.Is(err, store.ErrNotExist) && m.repeated {
		m.cause, m.strays = errNothing, true
		return true, nil
	}
	if errors.Is(err, store.ErrNotExist) {
		return false, fmt.Errorf("%w: it was copied, and then moved or deleted by somebody else; the source is untouched", store.ErrChanged)
	}
	if err != nil {
		return false, err
	}
	if !m.isOurs(dst) {
		return false, store.ErrExist
	}
	err = m.verify(ctx, src, info, dst, dstInfo)
	if errors.Is(err, store.ErrNotExist) || errors.Is(err, store.ErrChanged) { // another execution was faster, or somebody else
		m.cause = err
		return true, nil
	}
	if err != nil {
		return false, err
	}
	if err := m.at("verified"); err != nil {
		return false, err
	}
	if err := m.leave(ctx, src); err != nil {
		return false, err
	}
	if m.strays {
		return false, m.dropUploads(ctx, dst.ModTime())
	}
	return false, nil
}

// leave deletes the source, unless it is to stay.
func (m *move) leave(ctx context.Context, src archive.Object) error {
	if m.keeps {
		return nil
	}
	if err := m.deleteSource(ctx, src); err != nil {
		return err
	}
	return m.at("source deleted")
}

// deleteSource deletes the source unless it is not the one that was copied any more. That it is gone, or something else by
// now, is no error: the object that was asked for is at the target. The guard is as good as the server's: Versity Gateway 1.8
// and rclone 1.76 compare and then remove, so what somebody else writes at that very moment is lost, as with any deletion there.
func (m *move) deleteSource(ctx context.Context, src archive.Object) error {
	switch {
	case m.can.ConditionalDelete:
		err := m.try(ctx, attemptFor, func(ctx context.Context) error {
			return m.calls.RemoveObject(withHeader(ctx, "If-Match", `"`+src.ETag+`"`), m.bucket, m.name(src.Key), minio.RemoveObjectOptions{})
		})
		switch {
		case err == nil, classify(err) == classGone:
			return nil
		case classify(err) != classTaken:
			return m.unavailable(err)
		}
		if still, err := m.still(ctx, src); !still || err != nil {
			return err
		}
		return fmt.Errorf("%w: the server calls the source changed when it is to delete it, and unchanged when it is asked; it is at both names now", store.ErrUnsupported)
	case m.can.Versioned:
		return m.hide(ctx, src)
	}
	// A single writer was promised; look all the same.
	if still, err := m.still(ctx, src); !still || err != nil {
		return err
	}
	return m.unavailable(m.try(ctx, attemptFor, func(ctx context.Context) error {
		return m.calls.RemoveObject(ctx, m.bucket, m.name(src.Key), minio.RemoveObjectOptions{})
	}))
}

// still reports whether an object is what it was.
func (m *move) still(ctx context.Context, src archive.Object) (bool, error) {
	now, err := m.Stat(ctx, src.Key)
	if errors.Is(err, store.ErrNotExist) {
		return false, nil
	}
	return err == nil && src.Same(now.Identity), err
}
