package s3store

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/digest"
	"github.com/reshelf/reshelf/shared/store"
)

// mark is the user metadata that names the request that made an object.
const mark = "Reshelf-Op"

// check makes a signed call with a body, which alone tells refused credentials, a missing bucket and a missing object apart
// on every server.
func (s *Store) check(ctx context.Context) error {
	began := time.Now() // what the answer says was true later than this
	err := s.try(ctx, attemptFor, func(ctx context.Context) error {
		for o := range s.calls.ListObjectsIter(ctx, s.bucket, minio.ListObjectsOptions{Prefix: s.prefix, Recursive: true, MaxKeys: 1, FetchOwner: new(bool)}) {
			return o.Err
		}
		return ctx.Err()
	})
	if err != nil && classify(err) == classGone { // for a listing only the bucket can be gone
		return fmt.Errorf("%w: %s; check the bucket's name and the credentials", store.ErrUnavailable, words(err))
	}
	if err == nil {
		s.answered.Store(began.UnixNano())
	}
	return s.unavailable(err)
}

// Stat implements store.Store.
func (s *Store) Stat(ctx context.Context, key archive.Key) (archive.Object, error) {
	obj, _, err := s.head(ctx, key, minio.StatObjectOptions{})
	return obj, failed("stat", key, err)
}

// head describes an object, with everything that the server tells of it.
func (s *Store) head(ctx context.Context, key archive.Key, o minio.StatObjectOptions) (archive.Object, minio.ObjectInfo, error) {
	if err := s.enter(ctx, key); err != nil {
		return archive.Object{}, minio.ObjectInfo{}, err
	}
	if s.takes(key) != nil {
		return archive.Object{}, minio.ObjectInfo{}, store.ErrNotExist
	}
	var info minio.ObjectInfo
	err := s.try(ctx, attemptFor, func(ctx context.Context) (err error) {
		info, err = s.calls.StatObject(ctx, s.bucket, s.name(key), o)
		if err == nil && info.Size < 0 {
			return errNothing
		}
		return err
	})
	if err != nil {
		return archive.Object{}, info, s.headError(ctx, key, err)
	}
	s.answered.Store(time.Now().UnixNano())
	return s.object(key, info), info, nil
}

// believe is how long an answer proves that the bucket is there and the credentials are accepted.
const believe = time.Second

// headError tells what a HEAD without a body cannot: whether it is the credentials that are refused, or the bucket that is
// gone (some servers answer 404 to both), or the name that the server cannot have.
func (s *Store) headError(ctx context.Context, key archive.Key, err error) error {
	var r minio.ErrorResponse
	bad := errors.As(err, &r) && r.StatusCode == http.StatusBadRequest
	lately := time.Since(time.Unix(0, s.answered.Load())) < believe
	if c := classify(err); bad || c == classForbidden || c == classGone && !lately {
		if err := s.check(ctx); err != nil {
			return err
		}
	}
	if bad && longSegment(key) {
		return store.ErrNotExist
	}
	return s.unavailable(err)
}

// longSegment reports whether a segment of the key is longer than file systems have names, on which some servers store.
func longSegment(key archive.Key) bool {
	for seg := range strings.SplitSeq(string(key), "/") {
		if len(seg) > 255 {
			return true
		}
	}
	return false
}

func (s *Store) object(key archive.Key, info minio.ObjectInfo) archive.Object {
	return archive.Object{Key: key, Identity: identityOf(info), Mark: info.UserMetadata[mark]}
}

func identityOf(info minio.ObjectInfo) archive.Identity {
	id := archive.Identity{Size: info.Size, ETag: strings.Trim(info.ETag, `"`)}
	if info.VersionID != "null" {
		id.Version = info.VersionID
	}
	if !info.LastModified.IsZero() {
		id.MTime = info.LastModified.UnixNano()
	}
	return id
}

// Open implements store.Store: one GET. What it reads is what the object was then, so Recheck finds nothing; where the
// connection breaks, the rest is asked for under the same ETag.
func (s *Store) Open(ctx context.Context, key archive.Key, offset, length int64, want archive.Identity) (*store.Content, error) {
	c, err := s.open(ctx, key, offset, length, want)
	return c, failed("open", key, err)
}

func (s *Store) open(ctx context.Context, key archive.Key, offset, length int64, want archive.Identity) (*store.Content, error) {
	if offset < 0 || length < -1 {
		return nil, fmt.Errorf("no such range: %d bytes from %d", length, offset)
	}
	if err := s.enter(ctx, key); err != nil {
		return nil, err
	}
	if s.takes(key) != nil {
		return nil, store.ErrNotExist
	}
	b := &body{store: s, ctx: ctx, key: key, at: offset, end: -1}
	if length >= 0 && offset+length >= offset {
		b.end = offset + length
	}
	obj, err := b.first(want)
	if err != nil {
		return nil, err
	}
	if want != (archive.Identity{}) && !want.Same(obj.Identity) {
		_ = b.Close()
		return nil, store.ErrChanged
	}
	return &store.Content{ReadCloser: b, Object: obj, Recheck: context.Context.Err}, nil
}

// body is the content of an object, from at up to end. It is read by one goroutine.
type body struct {
	store *Store
	ctx   context.Context //nolint:containedctx // it lives as long as what was opened with the context
	key   archive.Key
	obj   archive.Object
	at    int64
	end   int64 // -1 until the size is known

	tired  bool          // the rest was asked for, and nothing has come
	from   io.ReadCloser // nil between two requests
	idle   *time.Timer   // cancels the request when nothing comes
	cancel context.CancelCauseFunc
}

const (
	// idleFor is how long a connection may bring nothing before the rest is asked for anew.
	idleFor = 30 * time.Second
)

var errIdle = errors.New("the server sends nothing")

// first makes the first request and says what the object is.
func (b *body) first(want archive.Identity) (archive.Object, error) {
	if b.end == b.at { // nothing is asked for, which no range can say
		obj, _, err := b.store.head(b.ctx, b.key, minio.StatObjectOptions{})
		return obj, err
	}
	var info minio.ObjectInfo
	err := b.store.try(b.ctx, attemptFor, func(context.Context) (err error) {
		info, err = b.request(want)
		return err
	})
	switch {
	case err == nil:
	case classify(err) == classRange: // past the end
		obj, _, err := b.store.head(b.ctx, b.key, minio.StatObjectOptions{})
		b.end = b.at
		return obj, err
	case classify(err) == classTaken:
		return archive.Object{}, store.ErrChanged
	default:
		return archive.Object{}, b.store.headError(b.ctx, b.key, err)
	}
	b.obj = b.store.object(b.key, info)
	if b.end < 0 || b.end > b.obj.Size {
		b.end = b.obj.Size
	}
	return b.obj, nil
}

// request asks for what is left. It lives as long as it is read, so it has no deadline but that something must come.
func (b *body) request(want archive.Identity) (minio.ObjectInfo, error) {
	var o minio.GetObjectOptions
	if want.ETag != "" {
		if err := o.SetMatchETag(want.ETag); err != nil {
			return minio.ObjectInfo{}, err
		}
	}
	switch {
	case b.end >= 0:
		o.Set("Range", "bytes="+strconv.FormatInt(b.at, 10)+"-"+strconv.FormatInt(b.end-1, 10))
	case b.at > 0:
		o.Set("Range", "bytes="+strconv.FormatInt(b.at, 10)+"-")
	}
	ctx, cancel := context.WithCancelCause(b.ctx)
	idle := time.AfterFunc(b.store.idle, func() { cancel(errIdle) })
	from, info, header, err := b.store.calls.GetObject(ctx, b.store.bucket, b.store.name(b.key), o)
	if err != nil {
		if idle.Stop(); errors.Is(context.Cause(ctx), errIdle) {
			err = errIdle
		}
		cancel(nil)
		return info, err
	}
	idle.Stop()
	b.from, b.idle, b.cancel = from, idle, cancel
	if info.Size, err = b.total(header.Get("Content-Range"), info.Size); err != nil {
		b.drop()
	}
	return info, err
}

// total is the size of the object that an answer is a part of. An answer that begins elsewhere than was asked for would be
// taken for other bytes of the object.
func (b *body) total(contentRange string, length int64) (int64, error) {
	if contentRange == "" {
		switch {
		case b.at > 0:
			return 0, fmt.Errorf("%w: the server gives the whole object when it is asked for a part of it", store.ErrUnsupported)
		case length < 0:
			return 0, errNothing
		}
		return length, nil
	}
	span, total, _ := strings.Cut(strings.TrimPrefix(contentRange, "bytes "), "/")
	first, _, _ := strings.Cut(span, "-")
	from, err := strconv.ParseInt(first, 10, 64)
	size, sizeErr := strconv.ParseInt(total, 10, 64)
	if err != nil || sizeErr != nil || from != b.at {
		return 0, fmt.Errorf("range %q from %d: %w", archive.EscapeText(contentRange), b.at, errNothing)
	}
	return size, nil
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	if left := b.end - b.at; left <= 0 {
		return 0, io.EOF
	} else if int64(len(p)) > left {
		p = p[:left]
	}
	began := time.Now()
	for wait := firstWait; ; wait = min(2*wait, longWait) {
		n, err := b.some(p)
		b.at += int64(n)
		if n > 0 || len(p) == 0 {
			b.tired = false
			return n, nil
		}
		if ctxErr := b.ctx.Err(); ctxErr != nil {
			return 0, ctxErr
		}
		if time.Since(began) > b.store.patient {
			return 0, fmt.Errorf("read %s at %d: %w", b.key.Text(), b.at, b.store.unavailable(err))
		}
		if b.tired { // the last request brought nothing, either
			if err := sleep(b.ctx, wait); err != nil {
				return 0, err
			}
		}
		b.tired = true
		if err := b.resume(); err != nil {
			return 0, fmt.Errorf("read %s at %d: %w", b.key.Text(), b.at, err)
		}
	}
}

// some reads from the request in hand; where it ends too early, that is an error.
func (b *body) some(p []byte) (int, error) {
	if b.from == nil {
		return 0, io.ErrUnexpectedEOF
	}
	b.idle.Reset(b.store.idle)
	n, err := b.from.Read(p)
	b.idle.Stop()
	if err != nil {
		b.drop()
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
	}
	return n, err
}

// resume asks for the rest of the very same content.
func (b *body) resume() error {
	err := b.store.try(b.ctx, attemptFor, func(context.Context) error {
		info, err := b.request(archive.Identity{ETag: b.obj.ETag})
		if err == nil && !b.obj.Same(identityOf(info)) {
			b.drop()
			return minio.ErrorResponse{StatusCode: http.StatusPreconditionFailed}
		}
		return err
	})
	if err == nil {
		return nil
	}
	switch classify(err) {
	case classTaken, classGone, classRange:
		return store.ErrChanged
	default:
		return b.store.unavailable(err)
	}
}

func (b *body) drop() {
	if b.from == nil {
		return
	}
	b.idle.Stop()
	_ = b.from.Close() // it was only read
	b.cancel(nil)
	b.from = nil
}

// Close implements io.Closer.
func (b *body) Close() error {
	b.drop()
	return nil
}

// Checksums implements store.Store: those that the server keeps of the whole object (FULL_OBJECT), by one HEAD. Checksums
// of checksums, which uploads in parts have, are no digests of the content.
func (s *Store) Checksums(ctx context.Context, key archive.Key, want archive.Identity) ([]digest.Digest, archive.Object, error) {
	obj, info, err := s.head(ctx, key, minio.StatObjectOptions{Checksum: true})
	if err == nil && want != (archive.Identity{}) && !want.Same(obj.Identity) {
		err = store.ErrChanged
	}
	if err != nil {
		return nil, obj, failed("checksums of", key, err)
	}
	return fullChecksums(info), obj, nil
}

func fullChecksums(info minio.ObjectInfo) []digest.Digest {
	parts := strings.Contains(strings.Trim(info.ETag, `"`), "-")
	if info.ChecksumMode != "FULL_OBJECT" && (info.ChecksumMode != "" || parts) {
		return nil
	}
	var out []digest.Digest
	for _, c := range []struct {
		algorithm digest.Algorithm
		text      string
	}{
		{digest.CRC32, info.ChecksumCRC32},
		{digest.CRC32C, info.ChecksumCRC32C},
		{digest.SHA1, info.ChecksumSHA1},
		{digest.SHA256, info.ChecksumSHA256},
		{digest.CRC64NVME, info.ChecksumCRC64NVME},
	} {
		raw, err := base64.StdEncoding.DecodeString(c.text)
		if err != nil || len(raw) == 0 {
			continue
		}
		if d, err := digest.New(c.algorithm, raw); err == nil {
			out = append(out, d)
		}
	}
	return out
}
