//go:build linux

package filestore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/reshelf/reshelf/shared/store"
)

// markAttribute holds the OpID of the request that made a copy, so that a repetition knows its own target.
const markAttribute = "user.reshelf.op"

// moveByCopy is for targets on another device than the source. It is safe only while nobody else writes.
func (s *Store) moveByCopy(ctx context.Context, req store.RenameRequest, src *pinned, dst entry) error {
	switch {
	case !req.AssumeSingleWriter:
		return unguarded("source and target are on different devices, so the object would be copied and then deleted")
	case req.OpID == "":
		return fmt.Errorf("%w: a copy to another device needs an operation id", store.ErrUnsupported)
	}
	in, err := s.openPinned(src)
	if err != nil {
		return err
	}
	defer in.Close()
	t, err := newTemp(dst.dir, 0o600)
	if err != nil {
		return err
	}
	defer t.discard()
	s.at("copy: temp made")
	if err := t.copyOf(ctx, in, src.st, req.OpID); err != nil {
		return err
	}
	s.at("copy: temp synced")
	err = s.publish(t, dst.name)
	if errors.Is(err, unix.EEXIST) { // perhaps another execution of this request was faster
		return s.resumeCopy(ctx, req, src)
	}
	if err != nil {
		return err
	}
	s.at("copy: published")
	copied, err := fstat(t.f)
	if err != nil {
		return err
	}
	return s.finishCopy(ctx, req, src, dst, idOf(copied))
}

// openPinned opens the pinned object for reading.
func (s *Store) openPinned(p *pinned) (*os.File, error) {
	f, st, err := s.openRegular(p.entry)
	if err != nil {
		return nil, err
	}
	if idOf(st) != idOf(p.st) {
		_ = f.Close()
		return nil, store.ErrChanged
	}
	return f, nil
}

// copyOf makes t a copy of in with its attributes, durably, and reads it again to be sure.
func (t *temp) copyOf(ctx context.Context, in *os.File, st unix.Stat_t, opID string) error {
	want, err := copyHashed(ctx, t.f, in)
	if err != nil {
		return err
	}
	mark := func(t *temp) error {
		if err := t.mark(opID); err != nil {
			return notKept("extended attributes", err)
		}
		return nil
	}
	if err := t.keepAttributes(in, st, mark); err != nil {
		return err
	}
	if err := t.f.Sync(); err != nil {
		return err
	}
	if err := t.rewind(); err != nil {
		return err
	}
	got, err := copyHashed(ctx, io.Discard, t.f)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return errReadsBack
	}
	return nil
}

var errReadsBack = errors.New("the copy reads back differently; check the target's device")

// rewind has t read from its begin. Written pages are dropped so that the disk is read, not the cache; where that is refused, the cache is.
func (t *temp) rewind() error {
	_ = unix.Fadvise(int(t.f.Fd()), 0, 0, unix.FADV_DONTNEED)
	_, err := t.f.Seek(0, io.SeekStart)
	return err
}

// mark notes the request that made the file.
func (t *temp) mark(opID string) error {
	return unix.Fsetxattr(int(t.f.Fd()), markAttribute, []byte(opID), 0)
}

// copyHashed copies src to dst and returns the SHA-256 of what was read.
func copyHashed(ctx context.Context, dst io.Writer, src io.Reader) ([]byte, error) {
	h := sha256.New()
	if _, err := io.Copy(io.MultiWriter(dst, h), ctxReader{ctx, src}); err != nil {
		return nil, err
	}
	return h.Sum(nil), nil
}

// keepAttributes gives t the owner (where allowed), mode, extended attributes and times of in, and the mark. Where the owner is not
// kept, nor are the bits that let a file run as its owner.
func (t *temp) keepAttributes(in *os.File, st unix.Stat_t, mark func(t *temp) error) error {
	fd, mode := int(t.f.Fd()), st.Mode&0o7777
	if err := unix.Fchown(fd, int(st.Uid), int(st.Gid)); errors.Is(err, unix.EPERM) {
		mode &^= unix.S_ISUID | unix.S_ISGID
	} else if err != nil {
		return err
	}
	if err := copyAttributes(in, t.f); err != nil {
		return err
	}
	if err := mark(t); err != nil {
		return err
	}
	if err := unix.Fchmod(fd, mode); err != nil { // last, since it may forbid attributes
		return err
	}
	times := []unix.Timespec{st.Atim, st.Mtim}
	if err := t.setTimes(times); err != nil {
		return err
	}
	now, err := fstat(t.f)
	if err == nil && now.Mtim != st.Mtim {
		return notKept("the exact modification time", nil)
	}
	return err
}

func (t *temp) setTimes(times []unix.Timespec) error {
	if t.name == "" {
		return unix.UtimesNanoAt(unix.AT_FDCWD, openPath(t.f), times, 0)
	}
	return unix.UtimesNanoAt(int(t.dir.Fd()), t.name, times, unix.AT_SYMLINK_NOFOLLOW)
}

func notKept(what string, err error) error {
	if err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return err
	}
	return fmt.Errorf("%w: the target's device cannot keep %s of the object; rename it within its device", store.ErrUnsupported, what)
}

// copyAttributes copies extended attributes. Those of the user must be kept; the others (access lists, security labels)
// belong to the system and are copied where that is allowed.
func copyAttributes(from, to *os.File) error {
	names, err := readAttribute(func(buf []byte) (int, error) { return unix.Flistxattr(int(from.Fd()), buf) })
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	if err != nil {
		return err
	}
	for name := range strings.SplitSeq(string(names), "\x00") {
		if name == "" || name == markAttribute {
			continue
		}
		value, err := readAttribute(func(buf []byte) (int, error) { return unix.Fgetxattr(int(from.Fd()), name, buf) })
		if err == nil {
			err = unix.Fsetxattr(int(to.Fd()), name, value, 0)
		}
		if err != nil && strings.HasPrefix(name, "user.") {
			return notKept("extended attributes", err)
		}
	}
	return nil
}

// readAttribute reads with a buffer that is large enough for any extended attribute (XATTR_SIZE_MAX, 64 KiB).
func readAttribute(read func(buf []byte) (int, error)) ([]byte, error) {
	buf := make([]byte, 64<<10)
	n, err := read(buf)
	if err != nil {
		return nil, err
	}
	return buf[:n], nil
}

// finishCopy removes the source once the copy is durable and the source is still what was copied; else it removes the copy.
func (s *Store) finishCopy(ctx context.Context, req store.RenameRequest, src *pinned, dst entry, copied fileID) error {
	if err := s.syncNames(dst.dir, req.To.Dir()); err != nil {
		return err
	}
	s.at("copy: target synced")
	if err := ctx.Err(); err != nil {
		return err // a repetition goes on from here
	}
	there, err := dst.stat()
	if err != nil {
		return err
	}
	if idOf(there) != copied {
		return fmt.Errorf("%w: the copy was replaced by somebody else; the source was kept", store.ErrChanged)
	}
	now, err := src.stat()
	if err != nil {
		return err
	}
	if idOf(now) != idOf(src.st) || now.Size != src.st.Size || now.Mtim != src.st.Mtim {
		// The copy is kept: another execution of this request may have relied on it and removed the source.
		return fmt.Errorf("%w while it was copied: the copy was kept too", store.ErrChanged)
	}
	if err := unlinkat(src.dir, src.name); err != nil {
		return err
	}
	s.at("copy: source removed")
	return nil
}

// isCopy reports whether dst bears the mark of the request with that id, and has that size.
func (s *Store) isCopy(dst *pinned, opID string, size int64) (bool, error) {
	if opID == "" || dst.st.Size != size {
		return false, nil
	}
	f, err := s.openPinned(dst)
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
		return false, nil // no proof
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	mark, err := readAttribute(func(buf []byte) (int, error) { return unix.Fgetxattr(int(f.Fd()), markAttribute, buf) })
	if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.EOPNOTSUPP) {
		return false, nil
	}
	return err == nil && string(mark) == opID, err
}

// resumeCopy goes on where an execution of this request was interrupted after its copy had got its name.
func (s *Store) resumeCopy(ctx context.Context, req store.RenameRequest, src *pinned) error {
	dst, err := s.pin(req.To)
	if errors.Is(err, store.ErrNotRegular) {
		return store.ErrExist
	}
	if err != nil {
		return err
	}
	defer dst.close()
	mine, err := s.isCopy(dst, req.OpID, req.Want.Size)
	if err == nil && mine {
		mine, err = s.sameContent(ctx, src, dst)
	}
	switch {
	case err != nil:
		return err
	case !mine:
		return store.ErrExist
	}
	return s.finishCopy(ctx, req, src, dst.entry, idOf(dst.st))
}

func (s *Store) sameContent(ctx context.Context, a, b *pinned) (bool, error) {
	var sums [2][]byte
	for i, p := range []*pinned{a, b} {
		f, err := s.openPinned(p)
		if err != nil {
			return false, err
		}
		sums[i], err = copyHashed(ctx, io.Discard, f)
		_ = f.Close() // only read
		if err != nil {
			return false, err
		}
	}
	return bytes.Equal(sums[0], sums[1]), nil
}

// ctxReader reads until its context ends.
type ctxReader struct {
	ctx context.Context //nolint:containedctx // it lives for one copy
	r   io.Reader
}

func (r ctxReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}
