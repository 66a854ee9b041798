//go:build linux

package filestore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/digest"
	"github.com/reshelf/reshelf/shared/store"
)

// Stat implements store.Store.
func (s *Store) Stat(ctx context.Context, key archive.Key) (archive.Object, error) {
	obj, err := s.stat(ctx, key)
	if err != nil {
		return archive.Object{}, s.failed("stat", key, err)
	}
	return obj, nil
}

func (s *Store) stat(ctx context.Context, key archive.Key) (archive.Object, error) {
	if err := s.enter(ctx, key); err != nil {
		return archive.Object{}, err
	}
	e, err := s.lookup(key)
	if err != nil {
		return archive.Object{}, sourceError(err)
	}
	defer e.close()
	st, err := e.stat()
	if err != nil {
		return archive.Object{}, sourceError(err)
	}
	if !isRegular(st) {
		return archive.Object{}, store.ErrNotRegular
	}
	return archive.Object{Key: key, Identity: s.identity(st)}, nil
}

// Checksums implements store.Store; file systems keep none that they would tell.
func (s *Store) Checksums(ctx context.Context, key archive.Key, want archive.Identity) ([]digest.Digest, archive.Object, error) {
	obj, err := s.Stat(ctx, key)
	if err == nil && want != (archive.Identity{}) && !want.Same(obj.Identity) {
		err = s.failed("checksums of", key, store.ErrChanged)
	}
	return nil, obj, err
}

// sourceError is for errors in looking for an object: where its name cannot exist, it does not.
func sourceError(err error) error {
	if isNameTooLong(err) {
		return store.ErrNotExist
	}
	return err
}

// Open implements store.Store. The content's File is the open file; reading the content does not move its offset. Reads
// end with ctx. Recheck looks at the open file, so it holds where the object was renamed meanwhile.
func (s *Store) Open(ctx context.Context, key archive.Key, offset, length int64, want archive.Identity) (*store.Content, error) {
	c, err := s.openContent(ctx, key, offset, length, want)
	if err != nil {
		return nil, s.failed("open", key, err)
	}
	return c, nil
}

func (s *Store) openContent(ctx context.Context, key archive.Key, offset, length int64, want archive.Identity) (*store.Content, error) {
	if offset < 0 || length < -1 {
		return nil, fmt.Errorf("no such range: %d bytes from %d", length, offset)
	}
	if err := s.enter(ctx, key); err != nil {
		return nil, err
	}
	e, err := s.lookup(key)
	if err != nil {
		return nil, sourceError(err)
	}
	defer e.close()
	f, st, err := s.openRegular(e)
	if err != nil {
		return nil, sourceError(err)
	}
	obj := archive.Object{Key: key, Identity: s.identity(st)}
	if want != (archive.Identity{}) && !want.Same(obj.Identity) {
		_ = f.Close()
		return nil, store.ErrChanged
	}
	if rest := max(0, obj.Size-offset); length < 0 || length > rest {
		length = rest
	}
	r := &contentReader{store: s, ctx: ctx, key: key, section: io.NewSectionReader(f, offset, length), file: f}
	return &store.Content{
		ReadCloser: r,
		Object:     obj,
		File:       f,
		Recheck:    func(ctx context.Context) error { return s.recheck(ctx, f, obj) },
	}, nil
}

// openRegular opens a regular file for reading. It looks before it opens, since opening a device can move it, and looks
// again afterwards; O_NONBLOCK keeps a FIFO that came in between from blocking.
func (s *Store) openRegular(e entry) (*os.File, unix.Stat_t, error) {
	st, err := e.stat()
	if err != nil {
		return nil, st, err
	}
	if !isRegular(st) {
		return nil, st, store.ErrNotRegular
	}
	s.at("open: looked")
	f, err := openat(e.dir, e.name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, st, err
	}
	if st, err = fstat(f); err == nil && !isRegular(st) {
		err = store.ErrNotRegular
	}
	if err == nil {
		err = unix.SetNonblock(int(f.Fd()), false)
	}
	if err != nil {
		_ = f.Close()
		return nil, st, err
	}
	return f, st, nil
}

// recheck compares the open file with what it was.
func (s *Store) recheck(ctx context.Context, f *os.File, was archive.Object) error {
	err := ctx.Err()
	if err == nil {
		var st unix.Stat_t
		st, err = fstat(f)
		if err == nil && s.identity(st) != was.Identity {
			err = store.ErrChanged
		}
	}
	if err != nil {
		return s.failed("recheck", was.Key, err)
	}
	return nil
}

// contentReader reads a range of an open file until its context ends.
type contentReader struct {
	store   *Store
	ctx     context.Context //nolint:containedctx // a content lives no longer than the context that opened it
	key     archive.Key
	section *io.SectionReader
	file    *os.File
}

func (r *contentReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, r.store.failed("read", r.key, err)
	}
	n, err := r.section.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = r.store.failed("read", r.key, err)
	}
	return n, err
}

func (r *contentReader) Close() error { return r.file.Close() }
