package exiftool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	scratchPrefix = "reshelf-exiftool-"
	newPrefix     = scratchPrefix + "new-" // of a folder that is not locked yet
	lockName      = "lock"
	// unlockedFor is how old a folder without a lock, or a new one, must be to be taken for one left behind.
	unlockedFor = time.Hour
)

// scratch is a pool's private folder. It is locked, so that folders left behind by processes that were killed can be told
// from those in use.
type scratch struct {
	dir  string
	lock *os.File
}

// newScratch makes a folder in parent ("": the system's temporary folder), which is made if it is missing, and removes those
// left behind there.
func newScratch(parent string) (s scratch, err error) {
	if parent == "" {
		parent = os.TempDir()
	}
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return s, err
	}
	if parent, err = filepath.Abs(parent); err != nil {
		return s, err
	}
	removeLeft(parent)
	if s.dir, err = os.MkdirTemp(parent, newPrefix); err != nil {
		return s, err
	}
	// Nobody may take it for one left behind before it is locked, so it gets its name then.
	named := filepath.Join(parent, scratchPrefix+strings.TrimPrefix(filepath.Base(s.dir), newPrefix))
	if s.lock, err = takeLock(s.dir, os.O_CREATE|os.O_EXCL); err == nil {
		err = os.Rename(s.dir, named)
	}
	if err != nil {
		return s, errors.Join(err, os.RemoveAll(s.dir), s.lock.Close())
	}
	s.dir = named
	return s, nil
}

// remove removes the folder with all in it.
func (s scratch) remove() error { return errors.Join(os.RemoveAll(s.dir), s.lock.Close()) }

// takeLock locks a folder for as long as the file is open: flock(2) ends with the process, however that ends.
func takeLock(dir string, flags int) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|syscall.O_NOFOLLOW|syscall.O_NONBLOCK|flags, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", dir, err), f.Close())
	}
	return f, nil
}

// removeLeft removes this user's folders that nobody holds. What cannot be removed stays.
func removeLeft(parent string) {
	names, err := filepath.Glob(filepath.Join(parent, scratchPrefix+"*"))
	if err != nil {
		return // the pattern is wrong, so the folder has an odd name
	}
	for _, dir := range names {
		info, err := os.Lstat(dir)
		if err != nil || !info.IsDir() || info.Sys().(*syscall.Stat_t).Uid != uint32(os.Geteuid()) {
			continue
		}
		if strings.HasPrefix(filepath.Base(dir), newPrefix) && time.Since(info.ModTime()) < unlockedFor {
			continue
		}
		lock, err := takeLock(dir, 0)
		switch {
		case err == nil:
			_ = errors.Join(os.RemoveAll(dir), lock.Close())
		case errors.Is(err, os.ErrNotExist) && time.Since(info.ModTime()) > unlockedFor:
			_ = os.RemoveAll(dir)
		}
	}
}
