package s3store

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/google/uuid"
	"github.com/minio/minio-go/v7"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/store"
)

// uploadPart is the size of the parts of an upload, in bytes. An object that fits into one is sent with one request. It
// doubles every growEvery parts: there may be 10,000 of them, and a Versity Gateway on ext4 takes no more than some 400.
const (
	uploadPart = 8 << 20
	growEvery  = 64
)

// reentries is how often a conditional write starts again when it cannot tell what stands in its way.
const reentries = 3

// Create implements store.Store. The object bears a mark of this very call, by which it knows its own after an answer was lost.
func (s *Store) Create(ctx context.Context, key archive.Key, content io.Reader) error {
	return failed("create", key, s.create(ctx, key, content))
}

func (s *Store) create(ctx context.Context, key archive.Key, content io.Reader) error {
	if err := s.writable(ctx, key); err != nil {
		return err
	}
	up := upload{store: s, key: key, op: uuid.NewString(), absent: true}
	return up.send(ctx, content)
}

// Replace implements store.Store; it is ErrUnsupported in an archive.
func (s *Store) Replace(ctx context.Context, key archive.Key, content io.Reader) error {
	return failed("replace", key, s.replace(ctx, key, content))
}

func (s *Store) replace(ctx context.Context, key archive.Key, content io.Reader) error {
	if err := s.writable(ctx, key); err != nil {
		return err
	}
	if err := s.refuseUnlessLedger(); err != nil {
		return err
	}
	up := upload{store: s, key: key, op: uuid.NewString()}
	return up.send(ctx, content)
}

func (s *Store) writable(ctx context.Context, key archive.Key) error {
	if err := s.enter(ctx, key); err != nil {
		return err
	}
	if err := s.takes(key); err != nil {
		return err
	}
	if s.can.Nested == nestedHidden {
		return s.unlessFolder(ctx, key)
	}
	return nil
}

// unlessFolder is store.ErrExist where the key is a folder, or a folder of the key is an object: some servers refuse such a
// key with errors of many kinds, and some take it and hide what is there.
func (s *Store) unlessFolder(ctx context.Context, key archive.Key) error {
	for dir := key.Dir(); dir != ""; dir = dir.Dir() {
		if there, err := s.exists(ctx, dir); err != nil || there {
			return cmp.Or(err, store.ErrExist)
		}
	}
	if len(s.name(key)) >= maxKey {
		return nil // nothing can lie below it
	}
	for _, err := range s.names(ctx, s.name(key)+"/", "") {
		return cmp.Or(err, store.ErrExist)
	}
	return nil
}

// upload writes one object.
type upload struct {
	store  *Store
	key    archive.Key
	op     string
	absent bool // only if there is none
}

func (u upload) options() minio.PutObjectOptions {
	o := minio.PutObjectOptions{UserMetadata: map[string]string{mark: u.op}, DisableMultipart: true, DisableContentSha256: true}
	if u.absent {
		o.SetMatchETagExcept("*")
	}
	return o
}

// send sends the content whole, in one request where it is small.
func (u upload) send(ctx context.Context, content io.Reader) error {
	part := make([]byte, 0, 64<<10)
	part, err := fill(ctx, content, part, uploadPart)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read content: %w", err)
	}
	if err != nil {
		return u.settle(ctx, func(ctx context.Context) error { return u.put(ctx, part) })
	}
	return u.inParts(ctx, content, part)
}

// fill reads up to n bytes; io.EOF says that the content has ended.
func fill(ctx context.Context, content io.Reader, into []byte, n int) ([]byte, error) {
	b := bytes.NewBuffer(into[:0])
	_, err := io.CopyN(b, reader{ctx, content}, int64(n))
	return b.Bytes(), err
}

// reader reads until its context ends.
type reader struct {
	ctx context.Context //nolint:containedctx // it lives as long as one call
	io.Reader
}

func (r reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}

func (u upload) put(ctx context.Context, content []byte) error {
	_, err := u.store.calls.PutObject(ctx, u.store.bucket, u.store.name(u.key), bytes.NewReader(content), int64(len(content)), "", sum(content), u.options())
	return err
}

// sum is the SHA-256 that the server checks a request's body against.
func sum(content []byte) string {
	h := sha256.Sum256(content)
	return hex.EncodeToString(h[:])
}

// settle makes the call that writes the object, once in a while again, until it is certain that it is written or is not.
func (u upload) settle(ctx context.Context, write func(ctx context.Context) error) error {
	var err error
	for wait := firstWait; wait < firstWait<<reentries; wait *= 2 {
		attempts := 0
		err = u.store.try(ctx, uploadFor, func(ctx context.Context) error {
			attempts++
			return write(ctx)
		})
		if err == nil && attempts > 1 {
			return u.confirm(ctx)
		}
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return u.store.unavailable(err)
		}
		switch classify(err) {
		case classTaken, classAgain, classRetry, classSlow, classGone:
		case classFinal:
			return errors.Join(u.store.unlessFolder(ctx, u.key), u.store.unavailable(err))
		default:
			return u.store.unavailable(err)
		}
		obj, lookErr := u.store.Stat(ctx, u.key)
		switch {
		case lookErr == nil && obj.Mark == u.op:
			return nil // the answer was lost
		case !u.absent && classify(err) == classAgain:
		case !u.absent && classify(err) == classGone: // the upload: it was completed, and then replaced by somebody else, or dropped
			return fmt.Errorf("%w: the upload is gone, and it is not certain what became of it", store.ErrUnavailable)
		case !u.absent:
			return u.store.unavailable(err)
		case lookErr == nil, isParent(err):
			return store.ErrExist
		case !errors.Is(lookErr, store.ErrNotExist):
			return lookErr
		}
		if err := sleep(ctx, wait); err != nil {
			return err
		}
	}
	switch classify(err) {
	case classTaken:
		return errVacated
	case classGone, classAgain:
		return fmt.Errorf("%w: %s", store.ErrUnavailable, words(err))
	}
	return u.store.unavailable(err)
}

// confirm looks at what a call that was repeated has written: a server that died in the middle of completing an upload may
// call it completed ever after, and have nothing (Versity Gateway).
func (u upload) confirm(ctx context.Context) error {
	obj, err := u.store.Stat(ctx, u.key)
	switch {
	case err == nil && obj.Mark == u.op:
		return nil
	case err == nil && u.absent, err != nil && !errors.Is(err, store.ErrNotExist):
		return cmp.Or(err, store.ErrExist)
	}
	return fmt.Errorf("%w: %w", store.ErrUnavailable, errNothing)
}

// isParent reports whether a write was refused since a folder of the key is an object, or the key is a folder.
func isParent(err error) bool {
	var r minio.ErrorResponse
	if !errors.As(err, &r) {
		return false
	}
	switch r.Code {
	case "ObjectParentIsFile", "ExistingObjectIsDirectory", "XMinioParentIsObject", "XMinioObjectExistsAsDirectory":
		return true
	}
	return false
}

// inParts sends a large content: nothing is there until the last call, which bears the condition.
func (u upload) inParts(ctx context.Context, content io.Reader, part []byte) (err error) {
	s := u.store
	id, _, err := s.begin(ctx, u.key, minio.PutObjectOptions{UserMetadata: map[string]string{mark: u.op}})
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.abort(ctx, u.key, id))
		}
	}()
	var parts []minio.CompletePart
	for size, ended := uploadPart, false; len(part) > 0; {
		p, err := s.sendPart(ctx, u.key, id, len(parts)+1, part)
		if err != nil {
			return err
		}
		if parts = append(parts, p); ended {
			break
		}
		if len(parts)%growEvery == 0 {
			size = min(2*size, maxPart)
		}
		part, err = fill(ctx, content, part, size)
		if ended = errors.Is(err, io.EOF); err != nil && !ended {
			return fmt.Errorf("read content: %w", err)
		}
	}
	return u.settle(ctx, func(ctx context.Context) error { return s.complete(ctx, s.copies, u.key, id, parts, u.absent) })
}

// begin begins an upload in parts. Where it took several attempts, uploads may be left of which only the server knows.
func (s *Store) begin(ctx context.Context, key archive.Key, o minio.PutObjectOptions) (id string, attempts int, err error) {
	err = s.try(ctx, attemptFor, func(ctx context.Context) error {
		attempts++
		id, err = s.calls.NewMultipartUpload(ctx, s.bucket, s.name(key), o)
		if err == nil && id == "" {
			err = errNothing
		}
		return err
	})
	return id, attempts, s.unavailable(err)
}

func (s *Store) sendPart(ctx context.Context, key archive.Key, id string, n int, part []byte) (done minio.CompletePart, err error) {
	err = s.try(ctx, uploadFor, func(ctx context.Context) error {
		p, err := s.calls.PutObjectPart(ctx, s.bucket, s.name(key), id, n, bytes.NewReader(part), int64(len(part)),
			minio.PutObjectPartOptions{Sha256Hex: sum(part), DisableContentSha256: true})
		done = minio.CompletePart{PartNumber: n, ETag: p.ETag}
		return err
	})
	return done, s.unavailable(err)
}

// complete makes an object of the parts of an upload; if absent is set, only where there is none of that key.
func (s *Store) complete(ctx context.Context, on *minio.Core, key archive.Key, id string, parts []minio.CompletePart, absent bool) error {
	var o minio.PutObjectOptions
	if absent {
		o.SetMatchETagExcept("*")
	}
	done, err := on.CompleteMultipartUpload(ctx, s.bucket, s.name(key), id, parts, o)
	if err == nil && done.ETag == "" {
		return errNothing // 200 with an error inside
	}
	return err
}

// abort drops an upload, also where ctx is done. One that is gone is dropped.
func (s *Store) abort(ctx context.Context, key archive.Key, id string) error {
	limit := attemptFor / 2
	if ctx.Err() != nil {
		limit = longWait // whoever is told to stop does not wait for a server that is gone
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	err := s.try(ctx, attemptFor, func(ctx context.Context) error {
		return s.calls.AbortMultipartUpload(ctx, s.bucket, s.name(key), id)
	})
	if err == nil || classify(err) == classGone {
		return nil
	}
	return fmt.Errorf("drop an upload of %s: %w", key.Text(), s.unavailable(err))
}

// Delete implements store.Store; it is ErrUnsupported in an archive. It is guarded by looking just before, and by If-Match
// where the server knows that.
func (s *Store) Delete(ctx context.Context, key archive.Key, want archive.Identity) error {
	return failed("delete", key, s.remove(ctx, key, want))
}

func (s *Store) remove(ctx context.Context, key archive.Key, want archive.Identity) error {
	if err := s.enter(ctx, key); err != nil {
		return err
	}
	if err := s.refuseUnlessLedger(); err != nil {
		return err
	}
	obj, _, err := s.head(ctx, key, minio.StatObjectOptions{})
	if err != nil {
		return err
	}
	if want != (archive.Identity{}) && !want.Same(obj.Identity) {
		return store.ErrChanged
	}
	attempts := 0
	err = s.try(ctx, attemptFor, func(ctx context.Context) error {
		attempts++
		return s.calls.RemoveObject(withHeader(ctx, "If-Match", `"`+obj.ETag+`"`), s.bucket, s.name(key), minio.RemoveObjectOptions{})
	})
	if err == nil {
		return nil
	}
	switch classify(err) {
	case classTaken, classGone: // changed, or gone: by an attempt whose answer was lost, or by somebody else
		_, _, look := s.head(ctx, key, minio.StatObjectOptions{})
		switch {
		case errors.Is(look, store.ErrNotExist) && attempts > 1:
			return nil
		case look != nil:
			return look
		}
		return store.ErrChanged
	}
	return s.unavailable(err)
}
