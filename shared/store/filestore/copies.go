//go:build linux

package filestore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/reshelf/reshelf/shared/digest"
	"github.com/reshelf/reshelf/shared/store"
)

const (
	remedyCopies = "make copies instead (--copy)"
	remedyLinks  = "keep the archive on a file system that knows hard links"
)

// Copy implements store.Store; see the package comment. Where it fails after folders were made, they are kept.
func (s *Store) Copy(ctx context.Context, req store.CopyRequest) error {
	if err := s.copyObject(ctx, req); err != nil {
		return s.failed("copy "+req.From.Text()+" to", req.To, err)
	}
	return nil
}

func (s *Store) copyObject(ctx context.Context, req store.CopyRequest) error {
	if err := s.enter(ctx, req.From, req.To); err != nil {
		return err
	}
	src, err := s.pin(req.From)
	switch {
	case isMissing(err) || isNameTooLong(err):
		return s.unlessCopied(ctx, req, nil, store.ErrNotExist)
	case errors.Is(err, store.ErrNotRegular):
		return s.unlessCopied(ctx, req, nil, err)
	case err != nil:
		return err
	}
	defer src.close()
	s.at("copy: source pinned")
	if !req.Want.Same(s.identity(src.st)) {
		return s.unlessCopied(ctx, req, nil, store.ErrChanged)
	}
	free, err := s.targetFree(req.To)
	if err != nil {
		return err
	}
	if !free {
		return s.unlessCopied(ctx, req, src, store.ErrExist)
	}
	err = s.makeCopy(ctx, req, src)
	if errors.Is(err, unix.EEXIST) { // another execution of this request may have been faster
		return s.unlessCopied(ctx, req, src, store.ErrExist)
	}
	return err
}

// unlessCopied is nil where the target is what the request made, else otherwise. src is the source, nil where that is not what was
// asked for.
func (s *Store) unlessCopied(ctx context.Context, req store.CopyRequest, src *pinned, otherwise error) error {
	mine, err := s.isOwnCopy(ctx, req, src)
	if mine || err != nil {
		return err
	}
	return otherwise
}

// Copied implements store.Store.
func (s *Store) Copied(ctx context.Context, req store.CopyRequest) (bool, error) {
	mine, err := s.copied(ctx, req)
	if err != nil {
		err = s.failed("copy of "+req.From.Text()+" at", req.To, err)
	}
	return mine, err
}

func (s *Store) copied(ctx context.Context, req store.CopyRequest) (bool, error) {
	if err := s.enter(ctx, req.From, req.To); err != nil {
		return false, err
	}
	src, err := s.pin(req.From)
	switch {
	case isMissing(err), isNameTooLong(err), errors.Is(err, store.ErrNotRegular):
		src = nil
	case err != nil:
		return false, err
	default:
		defer src.close()
		if !req.Want.Same(s.identity(src.st)) {
			src = nil
		}
	}
	return s.isOwnCopy(ctx, req, src)
}

// isOwnCopy reports whether the target is what the request made: the file itself, of a hard link; and of a copy a file of the same size
// and time that bears the request's mark, or, where the file system keeps no marks, has the content of the source.
func (s *Store) isOwnCopy(ctx context.Context, req store.CopyRequest, src *pinned) (bool, error) {
	if req.From == req.To {
		return false, nil
	}
	dst, err := s.pin(req.To)
	if err != nil {
		if isMissing(err) || isNameTooLong(err) || errors.Is(err, store.ErrNotRegular) {
			return false, nil
		}
		return false, err
	}
	defer dst.close()
	switch {
	case req.Link && src == nil:
		return req.Want.Inode != 0 && req.Want.Same(s.identity(dst.st)), nil
	case req.Link && idOf(dst.st) == idOf(src.st):
		return bothListed(src.entry, dst.entry)
	case req.Link, dst.st.Size != req.Want.Size, dst.st.Mtim.Nano() != req.Want.MTime, src != nil && idOf(dst.st) == idOf(src.st):
		return false, nil
	}
	if marked, err := s.isCopy(dst, req.OpID, req.Want.Size); marked || err != nil || src == nil {
		return marked, err
	}
	return s.sameContent(ctx, src, dst)
}

// makeCopy makes the target; the source was checked and the target was free.
func (s *Store) makeCopy(ctx context.Context, req store.CopyRequest, src *pinned) (err error) {
	for range folderTries {
		if err = s.makeCopyOnce(ctx, req, src); !errors.Is(err, unix.ENOENT) {
			return err
		}
		if now, statErr := src.stat(); statErr != nil {
			return err
		} else if idOf(now) != idOf(src.st) {
			return store.ErrChanged
		}
	}
	return err
}

func (s *Store) makeCopyOnce(ctx context.Context, req store.CopyRequest, src *pinned) error {
	dir, err := s.makeDir(req.To.Dir())
	if err != nil {
		return targetError(err)
	}
	defer dir.Close()
	s.at("copy: folder made")
	t, err := s.newCopy(dir, src, req)
	if err != nil {
		return err
	}
	defer t.discard()
	s.at("copy: temp made")
	if !req.Link {
		if err := s.fillCopy(ctx, t, src, req); err != nil {
			return err
		}
	}
	s.at("copy: temp synced")
	if err := s.stillWanted(t, src, req); err != nil {
		return err
	}
	if err := errors.Join(ctx.Err(), req.Tell(0)); err != nil {
		return err
	}
	if err := s.publishCopy(t, req.To.Base(), req); err != nil {
		return err
	}
	s.at("copy: published")
	return nil
}

// newCopy makes the file that becomes the target: an empty one, or the source itself. It has no name where that can be, so that nothing is
// left of it when the process is killed. Else it has a temporary one; for a link(2) that finds the source by its name.
func (s *Store) newCopy(dir *os.File, src *pinned, req store.CopyRequest) (*temp, error) {
	if s.canLinkOpen() {
		if t, err := unnamed(dir, src, req.Link); err == nil || !unnamedUnknown(err) {
			return t, err
		}
	}
	if !req.Link {
		return newTemp(dir, 0o600)
	}
	name := store.TempPrefix + rand.Text()
	if err := linkError(s.link(src.dir, src.name, dir, name)); err != nil {
		return nil, err
	}
	f, err := openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, errors.Join(err, unlinkat(dir, name))
	}
	return &temp{entry{dir, name}, f}, nil
}

// unnamed is a file in dir that has no name yet: a new one, or with link the source.
func unnamed(dir *os.File, src *pinned, link bool) (*temp, error) {
	if !link {
		f, err := openat(dir, ".", unix.O_RDWR|unix.O_TMPFILE, 0o600)
		return &temp{entry{dir, ""}, f}, err
	}
	fd, err := unix.FcntlInt(src.file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return &temp{entry{dir, ""}, os.NewFile(uintptr(fd), "")}, nil
}

// unnamedUnknown reports whether err may say that a file system knows no files without names. Older kernels take the flag for a
// directory's, and ext4 says EPERM where the folder is gone.
func unnamedUnknown(err error) bool {
	return errors.Is(err, unix.EPERM) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EINVAL)
}

// openPath leads to an open file as long as it is open.
func openPath(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

// canLinkOpen reports whether a file can get a name by its descriptor.
func (s *Store) canLinkOpen() bool {
	return !s.named && unix.Access("/proc/self/fd", unix.X_OK) == nil
}

// linkOpen gives a file that has no name one, or fails with EEXIST.
func (s *Store) linkOpen(t *temp, name string) error {
	return retry(func() error {
		return s.linkat(unix.AT_FDCWD, openPath(t.f), int(t.dir.Fd()), name, unix.AT_SYMLINK_FOLLOW)
	})
}

// linkError says what helps where link(2) can make no link.
func linkError(err error) error {
	why, remedy := "", remedyCopies
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EMLINK):
		why = "the file has as many hard links as its file system allows"
	case errors.Is(err, unix.EXDEV):
		why = "a hard link cannot lead to another device"
	case errors.Is(err, unix.EPERM):
		why, remedy = "the file system knows no hard links, or the system allows none of a file that this user may not write to", remedyLinks+", or "+remedyCopies
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS):
		why, remedy = "the file system knows no hard links", remedyLinks+", or "+remedyCopies
	default:
		return err
	}
	return fmt.Errorf("%w: %s; %s", store.ErrUnsupported, why, remedy)
}

// fillCopy gives t the content of the source and what else belongs to it, durably. Content that the file system does not clone is read
// again to be sure, and each half of the work counts as half of the bytes.
func (s *Store) fillCopy(ctx context.Context, t *temp, src *pinned, req store.CopyRequest) error {
	in, err := s.openPinned(src)
	if err != nil {
		return err
	}
	defer in.Close()
	var wrote []digest.Digest
	cloned := s.clone(int(t.f.Fd()), int(in.Fd())) == nil
	if !cloned {
		if wrote, err = hashed(ctx, t.f, in, req, firstHalf); err != nil {
			return err
		}
	}
	if err := t.keepAttributes(in, src.st, func(t *temp) error { return markIfKept(t.mark(req.OpID)) }); err != nil {
		return err
	}
	if err := t.f.Sync(); err != nil {
		return err
	}
	if cloned && req.Digest.IsZero() {
		return req.Tell(src.st.Size)
	}
	if err := t.rewind(); err != nil {
		return err
	}
	counts := secondHalf
	if cloned {
		counts = whole
	}
	read, err := hashed(ctx, io.Discard, t.f, req, counts)
	switch {
	case err != nil:
		return err
	case !req.Digest.IsZero() && read[0] != req.Digest && (cloned || wrote[0] == read[0]):
		return fmt.Errorf("%w: it has another content than when it was inspected", store.ErrChanged)
	case !cloned && wrote[len(wrote)-1] != read[len(read)-1]:
		return errReadsBack
	}
	return nil
}

// markIfKept passes over that a file system keeps no marks: a copy is then known by its content.
func markIfKept(err error) error {
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.E2BIG) {
		return nil
	}
	return err
}

// What a pass over the first n bytes of a copy counts for; both halves together are the whole.
func firstHalf(n int64) int64  { return n / 2 }
func secondHalf(n int64) int64 { return n - n/2 }
func whole(n int64) int64      { return n }

// hashed copies src to dst, tells the request what that counts for, and returns the digests of what was read: that of the request's
// algorithm, if it names one, and SHA-256.
func hashed(ctx context.Context, dst io.Writer, src io.Reader, req store.CopyRequest, counts func(int64) int64) ([]digest.Digest, error) {
	hashers := []*digest.Hasher{digest.NewHasher(digest.Set(0).With(digest.SHA256))}
	if a := req.Digest.Algorithm(); !req.Digest.IsZero() && a != digest.SHA256 {
		hashers = append([]*digest.Hasher{digest.NewHasher(digest.Set(0).With(a))}, hashers...)
	}
	to := []io.Writer{dst}
	for _, h := range hashers {
		to = append(to, h)
	}
	counted := &counter{req: req, counts: counts}
	if _, err := io.CopyBuffer(io.MultiWriter(append(to, counted)...), ctxReader{ctx, src}, make([]byte, copyBuffer)); err != nil {
		return nil, err
	}
	out := make([]digest.Digest, len(hashers))
	for i, h := range hashers {
		out[i] = h.Digests()[0]
	}
	return out, nil
}

const copyBuffer = 1 << 20

// counter tells a request what the bytes count for that are written to it.
type counter struct {
	req    store.CopyRequest
	counts func(int64) int64
	passed int64
}

func (c *counter) Write(p []byte) (int, error) {
	before := c.counts(c.passed)
	c.passed += int64(len(p))
	if err := c.req.Tell(c.counts(c.passed) - before); err != nil {
		return 0, err
	}
	return len(p), nil
}

// stillWanted makes sure that the source is what was asked for after it was copied, and that a link is one of it.
func (s *Store) stillWanted(t *temp, src *pinned, req store.CopyRequest) error {
	now, err := fstat(src.file)
	if err != nil {
		return err
	}
	if !req.Want.Same(s.identity(now)) || now.Mtim != src.st.Mtim {
		return store.ErrChanged
	}
	if !req.Link {
		return nil
	}
	linked, err := fstat(t.f)
	if err == nil && idOf(linked) != idOf(src.st) {
		err = store.ErrChanged
	}
	return err
}

// publishCopy gives the file its name, if that is free. Where a file system may take RENAME_NOREPLACE and ignore it, only link(2) is
// certain not to replace.
func (s *Store) publishCopy(t *temp, name string, req store.CopyRequest) error {
	var err error
	switch {
	case t.name == "":
		err = s.linkOpen(t, name)
	case s.props.GuardedRename || req.AssumeSingleWriter:
		return s.publish(t, name)
	default:
		err = s.link(t.dir, t.name, t.dir, name) // discard removes the other name
	}
	switch {
	case err == nil, t.isAt(name):
		return nil
	case req.Link:
		return linkError(err)
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EMLINK):
		return unguarded("this file system gives a copy no name without a risk to what others write: it knows no hard links")
	}
	return err
}
