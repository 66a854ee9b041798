//go:build linux

package filestore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/store"
)

// Create implements store.Store. Where it fails after folders were made, they are kept.
func (s *Store) Create(ctx context.Context, key archive.Key, body io.Reader) error {
	if err := s.write(ctx, key, body, s.publish); err != nil {
		return s.failed("create", key, err)
	}
	return nil
}

// Replace implements store.Store; it is ErrUnsupported in an archive.
func (s *Store) Replace(ctx context.Context, key archive.Key, body io.Reader) error {
	err := s.ledgerOnly()
	if err == nil {
		err = s.write(ctx, key, body, s.publishOver)
	}
	if err != nil {
		return s.failed("replace", key, err)
	}
	return nil
}

// Delete implements store.Store; it is ErrUnsupported in an archive. It is guarded by looking just before.
func (s *Store) Delete(ctx context.Context, key archive.Key, want archive.Identity) error {
	if err := s.remove(ctx, key, want); err != nil {
		return s.failed("delete", key, err)
	}
	return nil
}

func (s *Store) remove(ctx context.Context, key archive.Key, want archive.Identity) error {
	if err := s.ledgerOnly(); err != nil {
		return err
	}
	if err := s.enter(ctx, key); err != nil {
		return err
	}
	obj, err := s.pin(key)
	if err != nil {
		return sourceError(err)
	}
	defer obj.close()
	if want != (archive.Identity{}) && !want.Same(s.identity(obj.st)) {
		return store.ErrChanged
	}
	return unlinkat(obj.dir, obj.name)
}

// RemoveFolder implements store.Store by rmdir(2), which removes nothing but an empty directory.
func (s *Store) RemoveFolder(ctx context.Context, key archive.Key) (bool, error) {
	err := s.enter(ctx, key)
	var e entry
	if err == nil {
		e, err = s.lookup(key)
	}
	if err == nil {
		defer e.close()
		err = rmdirat(e.dir, e.name)
	}
	if folderStays(err) {
		return false, nil
	}
	if err != nil {
		return false, s.failed("remove folder", key, err)
	}
	return true, nil
}

// folderStays reports whether an error of rmdir(2) says that a directory is not to be removed, or is none.
func folderStays(err error) bool {
	var errno unix.Errno
	return errors.As(err, &errno) && slices.Contains([]unix.Errno{
		unix.ENOTEMPTY, unix.EEXIST, unix.ENOENT, unix.ENOTDIR, unix.ELOOP, unix.EACCES, unix.EPERM, unix.EBUSY, unix.EROFS,
	}, errno)
}

func (s *Store) ledgerOnly() error {
	if s.ledger {
		return nil
	}
	return fmt.Errorf("%w: objects of an archive are never replaced or deleted", store.ErrUnsupported)
}

// write stores body under key: temp file, fsync, publish, fsync of the directory and of those above it.
func (s *Store) write(ctx context.Context, key archive.Key, body io.Reader, publish func(t *temp, name string) error) error {
	if err := s.enter(ctx, key); err != nil {
		return err
	}
	dir, err := s.makeDir(key.Dir())
	if err != nil {
		return targetError(err)
	}
	defer dir.Close()
	s.at("write: folder made")
	target := entry{dir, key.Base()}
	if err := s.refuseEarly(target); err != nil {
		return err
	}
	t, err := newTemp(dir, s.fileMode())
	if err != nil {
		return err
	}
	defer t.discard()
	s.at("write: temp made")
	if err := t.fill(ctx, body); err != nil {
		return err
	}
	s.at("write: temp synced")
	if err := publish(t, target.name); err != nil {
		return err
	}
	s.at("write: published")
	return s.syncNames(dir, key.Dir())
}

// refuseEarly spares the writing of what cannot be published. publish decides.
func (s *Store) refuseEarly(target entry) error {
	st, err := target.stat()
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil
	case err != nil:
		return err
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		return fmt.Errorf("%w: a folder has that name", store.ErrExist)
	}
	return nil
}

// syncNames makes the names in dir durable, and dir itself with everything above it.
func (s *Store) syncNames(dir *os.File, key archive.Key) error {
	if err := fsyncDir(dir); err != nil {
		return err
	}
	var synced []archive.Key
	for ; key != "" && !s.durable.has(key); key = key.Dir() {
		if err := s.syncDir(key.Dir()); err != nil {
			return err
		}
		synced = append(synced, key)
	}
	s.durable.add(synced...)
	return nil
}

func (s *Store) syncDir(key archive.Key) error {
	dir, err := s.openDir(key)
	if err != nil {
		return err
	}
	defer dir.Close()
	return fsyncDir(dir)
}

// Sync implements store.Store: it syncs the directories of keys and all above them, each once, in the order of keys and from
// the innermost up. Pass the targets of renames before the sources.
func (s *Store) Sync(ctx context.Context, keys []archive.Key) error {
	done := make(map[archive.Key]struct{})
	for _, key := range keys {
		if err := s.syncAbove(ctx, key, done); err != nil {
			return s.failed("sync", key, err)
		}
	}
	return nil
}

func (s *Store) syncAbove(ctx context.Context, key archive.Key, done map[archive.Key]struct{}) error {
	if err := s.enter(ctx, key); err != nil {
		return err
	}
	for key != "" {
		key = key.Dir()
		if _, ok := done[key]; ok {
			return nil // and so is all above it
		}
		done[key] = struct{}{}
		// A directory that is gone holds no name that could be lost.
		if err := s.syncDir(key); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	return s.checkRoot()
}

// temp is a file that has no name yet that anybody looks at.
type temp struct {
	entry
	f *os.File
}

func newTemp(dir *os.File, mode uint32) (*temp, error) {
	name := store.TempPrefix + rand.Text()
	f, err := openat(dir, name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW, mode)
	if err != nil {
		return nil, err
	}
	return &temp{entry{dir, name}, f}, nil
}

// fill writes body and makes it durable.
func (t *temp) fill(ctx context.Context, body io.Reader) error {
	if _, err := io.Copy(t.f, ctxReader{ctx, bodyReader{body}}); err != nil {
		return err
	}
	return t.f.Sync()
}

// discard closes the file and removes the temporary name, if it has one that is still there: it is random, so it is ours.
func (t *temp) discard() {
	_ = t.f.Close() // synced before it counts
	if t.name != "" {
		_ = unlinkat(t.dir, t.name)
	}
}

// isAt reports whether name is this file now. A call whose answer was lost, or that was interrupted and repeated, fails
// although it did its work; so does link(2) over NFS.
func (t *temp) isAt(name string) bool {
	mine, err := fstat(t.f)
	if err != nil {
		return false
	}
	there, err := lstatat(t.dir, name)
	return err == nil && idOf(mine) == idOf(there)
}

// publish gives the file its name, if that is free.
func (s *Store) publish(t *temp, name string) error {
	err := s.renameNoReplace(t.dir, t.name, t.dir, name)
	if noReplaceUnknown(err) {
		err = s.link(t.dir, t.name, t.dir, name) // discard removes the other name
	}
	switch {
	case err == nil, t.isAt(name):
		return nil
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS):
		return fmt.Errorf("%w: the file system knows neither RENAME_NOREPLACE nor hard links; choose another one", store.ErrUnsupported)
	}
	return err
}

// publishOver gives the file its name, whatever has it now.
func (s *Store) publishOver(t *temp, name string) error {
	st, err := lstatat(t.dir, name)
	if err == nil && !isRegular(st) {
		return store.ErrNotRegular
	}
	err = retry(func() error { return unix.Renameat(int(t.dir.Fd()), t.name, int(t.dir.Fd()), name) })
	if err != nil && t.isAt(name) {
		return nil
	}
	return err
}

// bodyReader marks the errors of a body.
type bodyReader struct{ r io.Reader }

func (r bodyReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = bodyError{err}
	}
	return n, err
}

// bodyError is an error of somebody else's reader: whatever it says is not about this store.
type bodyError struct{ err error }

func (e bodyError) Error() string { return "read content: " + e.err.Error() }
func (e bodyError) Unwrap() error { return e.err }
