//go:build linux

package filestore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// dirent is a name in a directory. kind is its DT_ type, DT_UNKNOWN where the file system does not tell.
type dirent struct {
	name string
	kind byte
}

// dirReader streams the names of a directory without "." and "..", in the file system's order. os.File.ReadDir is
// not used because it describes entries of unknown type by path.
type dirReader struct {
	dir  *os.File
	buf  []byte // dirBufferBytes long
	rest []byte // of buf: what was read and not yet returned
}

const dirBufferBytes = 64 << 10

// next returns the next name, or io.EOF.
func (r *dirReader) next() (dirent, error) {
	for {
		if len(r.rest) == 0 {
			var n int
			err := retry(func() (err error) {
				n, err = unix.Getdents(int(r.dir.Fd()), r.buf)
				return err
			})
			if err != nil {
				return dirent{}, err
			}
			if n == 0 {
				return dirent{}, io.EOF
			}
			r.rest = r.buf[:n]
		}
		d, size, err := parseDirent(r.rest)
		if err != nil {
			return dirent{}, err
		}
		r.rest = r.rest[size:]
		if d.name != "" && d.name != "." && d.name != ".." {
			return d, nil
		}
	}
}

// parseDirent reads the struct linux_dirent64 at the start of buf (getdents64(2)): inode and offset of 8 bytes each, length
// of 2, type of 1, then the name, which ends with NUL. The name is "" for an entry without inode, which was removed.
func parseDirent(buf []byte) (dirent, int, error) {
	const nameAt = 19
	if len(buf) < nameAt+1 {
		return dirent{}, 0, errBadDirectory
	}
	size := int(binary.NativeEndian.Uint16(buf[16:]))
	if size < nameAt+1 || size > len(buf) {
		return dirent{}, 0, errBadDirectory
	}
	name, _, ended := bytes.Cut(buf[nameAt:size], []byte{0})
	if !ended || bytes.IndexByte(name, '/') >= 0 {
		return dirent{}, 0, errBadDirectory
	}
	if binary.NativeEndian.Uint64(buf) == 0 {
		return dirent{}, size, nil
	}
	return dirent{string(name), buf[18]}, size, nil
}

var errBadDirectory = errors.New("the directory cannot be read: its entries are damaged")
