//go:build linux

package filestore

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/store"
)

// failed names the operation and the key, and wraps the sentinel that fits err. Before it says that something does not
// exist it makes sure that the root does.
func (s *Store) failed(op string, key archive.Key, err error) error {
	err = classify(err)
	if errors.Is(err, store.ErrNotExist) {
		if gone := s.checkRoot(); gone != nil {
			err = gone
		}
	}
	return fmt.Errorf("%s %s: %w", op, key.Text(), err)
}

// classify wraps a system error with the sentinel that fits it. Names of files, which are hostile, are left out.
func classify(err error) error {
	if _, ok := errors.AsType[bodyError](err); ok {
		return err
	}
	for _, known := range []error{
		store.ErrExist, store.ErrNotExist, store.ErrChanged, store.ErrRaced, store.ErrNotRegular, store.ErrPermission,
		store.ErrUnsupported, store.ErrUnavailable, store.ErrNoSpace,
	} {
		if errors.Is(err, known) {
			return err
		}
	}
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		err = pathErr.Err
	}
	errno, ok := errors.AsType[syscall.Errno](err)
	if !ok {
		return err
	}
	switch errno {
	case unix.ENOENT, unix.ENOTDIR:
		return store.ErrNotExist
	case unix.EEXIST:
		return store.ErrExist
	case unix.EACCES:
		return store.ErrPermission
	case unix.ENOSPC:
		return store.ErrNoSpace
	case unix.EPERM, unix.EROFS:
		return fmt.Errorf("%w: %w", store.ErrPermission, errno)
	case unix.EDQUOT:
		return fmt.Errorf("%w: %w", store.ErrNoSpace, errno)
	case unix.ELOOP, unix.EISDIR, unix.ENXIO:
		return fmt.Errorf("%w: %w", store.ErrNotRegular, errno)
	case unix.ESTALE:
		return fmt.Errorf("%w: %w", store.ErrNotExist, errno)
	case unix.ENOTCONN, unix.EHOSTDOWN, unix.ESHUTDOWN, unix.ENODEV:
		return fmt.Errorf("%w: %w", store.ErrUnavailable, errno)
	}
	return err
}

// rootError is for errors in reaching the root itself, where "no such file" means that the archive is missing.
func rootError(err error) error {
	if errors.Is(err, unix.ENOTDIR) {
		return fmt.Errorf("%w: it is not a directory", store.ErrUnavailable)
	}
	err = classify(err)
	switch {
	case errors.Is(err, store.ErrNotExist):
		return fmt.Errorf("%w: no such directory; is it mounted?", store.ErrUnavailable)
	case errors.Is(err, store.ErrPermission), errors.Is(err, store.ErrUnavailable):
		return err
	}
	return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
}

// targetError is for errors on the way to a target, where "not a directory" means that an object is in the way.
func targetError(err error) error {
	if errors.Is(err, unix.ENOTDIR) {
		return fmt.Errorf("%w: a folder of that name is an object", store.ErrExist)
	}
	return err
}

func isMissing(err error) bool { return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) }

// isNameTooLong: no object can have that name.
func isNameTooLong(err error) bool { return errors.Is(err, unix.ENAMETOOLONG) }

// noReplaceUnknown reports whether err says that the file system does not know RENAME_NOREPLACE.
func noReplaceUnknown(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EOPNOTSUPP)
}
