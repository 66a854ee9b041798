package exiftool

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/worker/internal/exiftool/keeper"
)

// extension is what ExifTool takes for the extension of name: all after the last dot of the base name, also of a hidden
// one. It is "" where it is nothing that ExifTool knows by name; spelling is kept.
func extension(name archive.Key) string {
	base := name.Base()
	ext := base[strings.LastIndexByte(base, '.')+1:]
	if len(ext) == len(base) || !keeper.ValidExt(ext) {
		return ""
	}
	return ext
}

// alias is a name for an open file that is safe to pass on.
type alias struct {
	path string
	fd   int // a duplicate, so that the alias can never name another file
}

func newAlias(dir string, n int, file *os.File, ext string) (*alias, error) {
	conn, err := file.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("alias: %w", err)
	}
	fd, dupErr := -1, error(nil)
	err = conn.Control(func(raw uintptr) { fd, dupErr = unix.FcntlInt(raw, unix.F_DUPFD_CLOEXEC, 0) })
	if err == nil {
		err = dupErr
	}
	if err != nil {
		return nil, fmt.Errorf("alias: %w", err)
	}
	base := strconv.Itoa(n)
	if ext != "" {
		base += "." + ext
	}
	a := &alias{filepath.Join(keeper.AliasDir(dir), base), fd}
	if err := os.Symlink(fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), fd), a.path); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("alias: %w", err)
	}
	return a, nil
}

func (a *alias) remove() {
	_ = os.Remove(a.path)
	_ = unix.Close(a.fd)
}
