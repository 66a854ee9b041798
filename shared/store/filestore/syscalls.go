//go:build linux

package filestore

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"github.com/reshelf/reshelf/shared/archive"
)

// fileID tells files of one machine apart, as long as one of them is held open.
type fileID struct{ dev, ino uint64 }

//nolint:unconvert // the types of Stat_t differ between architectures
func idOf(st unix.Stat_t) fileID { return fileID{uint64(st.Dev), uint64(st.Ino)} }

func isRegular(st unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFREG }

// retry repeats a system call that was interrupted, as network file systems may even with SA_RESTART.
func retry(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// openat opens name in dir. The file's Name is for nobody.
func openat(dir *os.File, name string, flags int, mode uint32) (*os.File, error) {
	var fd int
	err := retry(func() (err error) {
		fd, err = unix.Openat(int(dir.Fd()), name, flags|unix.O_CLOEXEC, mode)
		return err
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), archive.EscapeText(name)), nil
}

func fstat(f *os.File) (st unix.Stat_t, err error) {
	err = retry(func() error { return unix.Fstat(int(f.Fd()), &st) })
	return st, err
}

// lstatat describes name in dir and does not follow a link.
func lstatat(dir *os.File, name string) (st unix.Stat_t, err error) {
	err = retry(func() error { return unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	return st, err
}

func unlinkat(dir *os.File, name string) error {
	return retry(func() error { return unix.Unlinkat(int(dir.Fd()), name, 0) })
}

// rmdirat removes a directory only if it is empty.
func rmdirat(dir *os.File, name string) error {
	return retry(func() error { return unix.Unlinkat(int(dir.Fd()), name, unix.AT_REMOVEDIR) })
}

// link gives the file name a second name, or fails with EEXIST.
func (s *Store) link(from *os.File, name string, to *os.File, newname string) error {
	return retry(func() error { return s.linkat(int(from.Fd()), name, int(to.Fd()), newname, 0) })
}

// renameNoReplace moves name to newname, or fails with EEXIST. Where a network file system interrupts it, the repetition
// may fail with ENOENT although the first call succeeded: callers look at the target then.
func (s *Store) renameNoReplace(from *os.File, name string, to *os.File, newname string) error {
	return retry(func() error {
		return s.renameat2(int(from.Fd()), name, int(to.Fd()), newname, unix.RENAME_NOREPLACE)
	})
}

// exchangeNames exchanges what is at two names. No file system of one machine interrupts it, so it is not repeated: a repetition
// would exchange them back.
func (s *Store) exchangeNames(a, b entry) error {
	return s.renameat2(int(a.dir.Fd()), a.name, int(b.dir.Fd()), b.name, unix.RENAME_EXCHANGE)
}

// fsyncDir makes the names in dir durable; dir may have been opened with O_PATH.
func fsyncDir(dir *os.File) error {
	f, err := openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	err = retry(func() error { return unix.Fsync(int(f.Fd())) })
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil // FUSE and SMB: names cannot be synced one by one
	}
	return err
}
