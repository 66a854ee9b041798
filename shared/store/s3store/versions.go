package s3store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/store"
)

// errStop ends a protocol half way, as a crash does; only tests make one.
var errStop = errors.New("stopped by a test")

// maxMarkers bounds the delete markers above a version: each deletion of a name that is deleted adds one on some servers.
const maxMarkers = 1000

// history is what a versioned bucket has under one name, the newest first.
type history struct {
	markers []string         // version ids of the delete markers above the newest version
	newest  minio.ObjectInfo // the newest version that is an object; Key "" if there is none
}

func (s *Store) history(ctx context.Context, key archive.Key) (h history, err error) {
	name := s.name(key)
	err = s.try(ctx, attemptFor, func(ctx context.Context) error {
		h = history{}
		for v := range s.calls.ListObjectsIter(ctx, s.bucket, minio.ListObjectsOptions{Prefix: name, WithVersions: true, Recursive: true}) {
			switch {
			case v.Err != nil:
				return v.Err
			case v.Key != name:
				return nil // longer names follow
			case !v.IsDeleteMarker:
				h.newest = v
				return nil
			case len(h.markers) == maxMarkers:
				return fmt.Errorf("more than %d delete markers", maxMarkers)
			}
			h.markers = append(h.markers, v.VersionID)
		}
		return ctx.Err()
	})
	return h, s.unavailable(err)
}

// hide deletes the source of a versioned bucket, whose server does not know If-Match for that: the deletion only adds a
// marker. If it turns out that a newer version came in between, the marker is taken away again.
func (m *move) hide(ctx context.Context, src archive.Object) error {
	now, err := m.Stat(ctx, src.Key)
	if errors.Is(err, store.ErrNotExist) || err == nil && !src.Same(now.Identity) {
		return nil
	}
	if err != nil {
		return err
	}
	err = m.try(ctx, attemptFor, func(ctx context.Context) error {
		return m.calls.RemoveObject(ctx, m.bucket, m.name(src.Key), minio.RemoveObjectOptions{})
	})
	if err != nil {
		return m.unavailable(err)
	}
	if err := m.at("hidden"); err != nil {
		return err
	}
	h, err := m.history(ctx, src.Key)
	if err != nil || h.newest.Key == "" || src.Same(identityOf(h.newest)) {
		return err
	}
	return m.unhide(ctx, src.Key, h.markers)
}

// uncover brings back an object that somebody wrote at the source's name between the last look and the deletion of an
// execution that then died: it lies below that execution's marker, right above what was moved, and is not older than the
// target. Its owner may have deleted it too; then it comes back, which is the lesser evil.
func (m *move) uncover(ctx context.Context, dst archive.Object) error {
	h, err := m.history(ctx, m.req.From)
	if err != nil || len(h.markers) == 0 || h.newest.Key == "" || m.req.Want.Same(identityOf(h.newest)) ||
		h.newest.LastModified.Unix() < dst.ModTime().Unix() {
		return err
	}
	return m.unhide(ctx, m.req.From, h.markers)
}

// unhide takes delete markers away, the newest first.
func (m *move) unhide(ctx context.Context, key archive.Key, markers []string) error {
	for _, id := range markers {
		err := m.try(ctx, attemptFor, func(ctx context.Context) error {
			return m.calls.RemoveObject(ctx, m.bucket, m.name(key), minio.RemoveObjectOptions{VersionID: id})
		})
		if err != nil && classify(err) != classGone && !goneMarker(err) {
			return m.unavailable(err)
		}
	}
	return nil
}

// goneMarker: some servers call it an invalid argument to delete a version that is gone.
func goneMarker(err error) bool {
	var r minio.ErrorResponse
	return errors.As(err, &r) && r.Code == "InvalidArgument"
}

// takeBack undoes a rename without copying, where it can: in a versioned bucket the original is still there below a delete
// marker, and comes back with its ETag and its date; and where an interrupted rename left both, the copy is all there is to
// remove. It reports neither done nor again where the ordinary way is to be taken.
func (m *move) takeBack(ctx context.Context, src archive.Object) (done, again bool, err error) {
	u := m.req.Undoes
	if u == nil || m.allowed() != nil {
		return false, false, nil
	}
	dst, err := m.Stat(ctx, m.req.To)
	if errors.Is(err, store.ErrNotExist) {
		if back, err := m.bringBack(ctx, u.Was); !back || err != nil {
			return false, false, err
		}
		if dst, err = m.Stat(ctx, m.req.To); errors.Is(err, store.ErrNotExist) { // another execution is at it
			m.cause = err
			return false, true, nil
		}
	}
	if err != nil {
		return false, false, err
	}
	if src.Mark != u.OpID || dst.Mark == u.OpID || !m.original(dst) {
		return false, false, nil
	}
	if err := m.at("brought back"); err != nil {
		return false, false, err
	}
	return m.dropCopy(ctx, src, dst)
}

// original reports whether the target of an undo is what was there before: that very version, or, of a server that keeps no
// versions or has lost the number, one of the same ETag.
func (m *move) original(dst archive.Object) bool {
	was := m.req.Undoes.Was
	switch {
	case !was.Same(dst.Identity):
		return false
	case was.Version != "" && dst.Version != "":
		return true // Same compared them
	}
	return was.ETag != "" && (m.can.Versioned || was.ModTime().Unix() == dst.ModTime().Unix())
}

// settled is how long an original that came back is left alone before its copy is destroyed: Versity Gateway brings a
// version back in several steps, and where two executions have it do that at once, one may take away what the other brought.
const settled = 250 * time.Millisecond

// dropCopy removes the copy that an undo has no use for any more. Where the very version is back that it was made of, the
// copy's own version goes, and with it every trace of the rename: its name is free again also for servers that count a name
// as taken which was deleted. That cannot hit anything newer; and it is the one call that destroys something in a versioned
// bucket, so the original is looked at once more.
func (m *move) dropCopy(ctx context.Context, copied, original archive.Object) (done, again bool, err error) {
	u := m.req.Undoes
	if !m.can.Versioned || copied.Version == "" || original.Version == "" || original.Version != u.Was.Version {
		return m.dropUnversioned(ctx, copied, original)
	}
	if m.can.MarkersBlock {
		if err := sleep(ctx, settled); err != nil {
			return false, false, err
		}
	}
	now, err := m.Stat(ctx, m.req.To)
	if errors.Is(err, store.ErrNotExist) || err == nil && now.Identity != original.Identity {
		m.cause = store.ErrChanged
		return false, true, nil
	}
	if err != nil {
		return false, false, err
	}
	err = m.try(ctx, attemptFor, func(ctx context.Context) error {
		return m.calls.RemoveObject(ctx, m.bucket, m.name(copied.Key), minio.RemoveObjectOptions{VersionID: copied.Version})
	})
	switch {
	case err == nil, classify(err) == classGone, goneMarker(err):
		return true, false, nil
	case classify(err) != classForbidden: // or it is locked, or nobody may delete versions
		return false, false, m.unavailable(err)
	}
	return true, false, m.deleteSource(ctx, copied)
}

// dropUnversioned removes the copy where no number proves that the original is the one that was copied: if their contents are
// equal.
func (m *move) dropUnversioned(ctx context.Context, copied, original archive.Object) (done, again bool, err error) {
	same, err := m.compare(ctx, copied, original)
	switch {
	case errors.Is(err, store.ErrNotExist), errors.Is(err, store.ErrChanged):
		m.cause = err
		return false, true, nil
	case err != nil || !same:
		return false, false, err
	}
	return true, false, m.deleteSource(ctx, copied)
}

// bringBack makes the version that was renamed the current one again, if it lies right below delete markers. Where there are
// none, another execution has just done that.
func (m *move) bringBack(ctx context.Context, was archive.Identity) (bool, error) {
	if !m.can.Versioned || was.Version == "" {
		return false, nil
	}
	h, err := m.history(ctx, m.req.To)
	if err != nil || h.newest.VersionID != was.Version || !was.Same(identityOf(h.newest)) {
		return false, err
	}
	return true, m.unhide(ctx, m.req.To, h.markers)
}
