//go:build linux

package filestore

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/store"
)

const walkFlags = unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW

// openDir opens the directory dir ("" is the root) for lookups below it, and follows no link. ENOENT and ENOTDIR mean
// that it is missing or that a file is in the way; a link in the way is ErrNotRegular.
func (s *Store) openDir(dir archive.Key) (*os.File, error) {
	return s.walk(dir, openSegment)
}

// makeDir is openDir, and makes what is missing. The new names are not yet durable.
func (s *Store) makeDir(dir archive.Key) (*os.File, error) {
	return s.walk(dir, func(parent *os.File, path archive.Key) (*os.File, error) {
		f, err := openSegment(parent, path)
		if !errors.Is(err, unix.ENOENT) {
			return f, err
		}
		err = retry(func() error { return unix.Mkdirat(int(parent.Fd()), path.Base(), s.dirMode()) })
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return nil, err
		}
		s.durable.forget(path)
		return openSegment(parent, path)
	})
}

// walk goes down from the root to dir, one segment at a time; next opens the last segment of path in parent.
func (s *Store) walk(dir archive.Key, next func(parent *os.File, path archive.Key) (*os.File, error)) (*os.File, error) {
	cur, err := s.root.OpenFile(".", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	for end := 0; end < len(dir); end++ {
		if i := strings.IndexByte(string(dir[end:]), '/'); i >= 0 {
			end += i
		} else {
			end = len(dir)
		}
		f, err := next(cur, dir[:end])
		_ = cur.Close() // O_PATH: nothing to lose
		if err != nil {
			return nil, err
		}
		cur = f
	}
	return cur, nil
}

// openSegment opens the last segment of path in parent.
func openSegment(parent *os.File, path archive.Key) (*os.File, error) {
	f, err := openat(parent, path.Base(), walkFlags, 0)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		if st, statErr := lstatat(parent, path.Base()); statErr == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK {
			return nil, fmt.Errorf("%w: the folder %s is a symbolic link", store.ErrNotRegular, path.Text())
		}
	}
	return f, err
}

// entry is a name in an open directory.
type entry struct {
	dir  *os.File
	name string
}

// lookup opens the directory that key is in.
func (s *Store) lookup(key archive.Key) (entry, error) {
	dir, err := s.openDir(key.Dir())
	if err == nil && !s.props.GuardedRename {
		_ = refresh(dir) // a folder that cannot be read is looked at as it is remembered
	}
	return entry{dir, key.Base()}, err
}

// refresh makes what is then asked of names in dir true: a network file system answers from what it remembers of a folder, for up to a
// minute also after others have renamed in it, until the folder is opened to be read (nfs(5), "close-to-open cache consistency"). O_PATH does not ask.
func refresh(dir *os.File) error {
	f, err := openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	return f.Close()
}

func (e entry) close() { _ = e.dir.Close() }

// stat describes what the name is now, and does not follow a link.
func (e entry) stat() (unix.Stat_t, error) { return lstatat(e.dir, e.name) }

// pinned is an object that is held open, so that its inode number cannot be used again.
type pinned struct {
	entry
	file *os.File // O_PATH
	st   unix.Stat_t
}

// pin finds the object at key: ENOENT, ENOTDIR, ErrNotRegular.
func (s *Store) pin(key archive.Key) (*pinned, error) {
	e, err := s.lookup(key)
	if err != nil {
		return nil, err
	}
	p := &pinned{entry: e}
	p.file, err = openat(e.dir, e.name, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err == nil {
		p.st, err = fstat(p.file)
	}
	if err == nil && !isRegular(p.st) {
		err = store.ErrNotRegular
	}
	if err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *pinned) close() {
	p.entry.close()
	if p.file != nil {
		_ = p.file.Close()
	}
}

// isAt reports whether the name e still, or now, leads to the pinned object.
func (p *pinned) isAt(e entry) (bool, error) {
	st, err := e.stat()
	if isMissing(err) {
		return false, nil
	}
	return err == nil && idOf(st) == idOf(p.st), err
}

// identity of a file, without an inode where the file system makes them up.
func (s *Store) identity(st unix.Stat_t) archive.Identity {
	id := archive.Identity{Size: st.Size, MTime: st.Mtim.Nano()}
	if s.keepsInode {
		id.Inode = st.Ino
	}
	return id
}
