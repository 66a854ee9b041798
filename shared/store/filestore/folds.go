//go:build linux

package filestore

import "os"

// triedNames bounds the names of a directory that foldsNames asks for, and readNames those that it reads to find them. As a rule the first
// one tells.
const (
	triedNames = 16
	readNames  = 10_000
)

// foldsNames reports whether a directory certainly takes names that differ in case for one: it finds one of its entries by a name that it
// does not list (with FUSE each name may give another inode number). It writes nothing. Of a directory without ASCII letters in its names it
// cannot tell.
func foldsNames(dir *os.File) bool {
	r := dirReader{dir: dir, buf: make([]byte, dirBufferBytes)}
	for tried, read := 0, 0; tried < triedNames && read < readNames; read++ {
		d, err := r.next()
		if err != nil {
			return false
		}
		other := entry{dir, otherCase(d.name)}
		if other.name == d.name {
			continue
		}
		tried++
		one, err := lstatat(dir, d.name)
		if err != nil {
			continue // it is gone
		}
		there, err := other.stat()
		if err != nil {
			return false
		}
		if listed, err := other.isListed(); err != nil || !listed {
			return err == nil
		}
		if idOf(there) != idOf(one) {
			return false
		} // else it is a hard link of that very name
	}
	return false
}

// otherCase exchanges capital and small ASCII letters.
func otherCase(name string) string {
	b := []byte(name)
	for i, c := range b {
		switch {
		case 'a' <= c && c <= 'z':
			b[i] = c - 'a' + 'A'
		case 'A' <= c && c <= 'Z':
			b[i] = c - 'A' + 'a'
		}
	}
	return string(b)
}
