//go:build linux

package filestore

import (
	"golang.org/x/sys/unix"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/store"
)

// SetStep makes s call step between the steps of every protocol, with the step's name.
func (s *Store) SetStep(step func(name string)) { s.step = step }

// SetRenameat2 replaces renameat2(2).
func (s *Store) SetRenameat2(f func(olddir int, oldname string, newdir int, newname string, flags uint) error) {
	s.renameat2 = f
}

// SetLinkat replaces linkat(2).
func (s *Store) SetLinkat(f func(olddir int, oldname string, newdir int, newname string, flags int) error) {
	s.linkat = f
}

// SetClone replaces the ioctl FICLONE.
func (s *Store) SetClone(f func(dst, src int) error) { s.clone = f }

// NameCopies makes s make copies under temporary names.
func (s *Store) NameCopies() { s.named = true }

// Unguard gives s the properties of a file system that does not guard renames.
func (s *Store) Unguard() {
	s.props = fileSystem{keepsInode: true}.properties(s.props.Root)
}

// PropertiesOf are those of a type of file system.
func PropertiesOf(magic uint32) store.Properties {
	return fileSystemOfType(magic).properties(archive.Root{})
}

// Guard gives s the properties of vfat.
func (s *Store) Guard() {
	fs := fileSystemOfType(unix.MSDOS_SUPER_MAGIC)
	s.keepsInode, s.props = fs.keepsInode, fs.properties(s.props.Root)
}

// FoldCase makes s believe that its file system folds case.
func (s *Store) FoldCase() { s.props.FoldsCase = true }

// AllowExchange lets s exchange names although the type of the file system does not say that they can be told apart for good: files
// that were just made can.
func (s *Store) AllowExchange() {
	s.keepsInode, s.props.AtomicRename, s.props.Exchange = true, true, true
}

// SpillAbove bounds the entries that a listing holds in memory.
func (s *Store) SpillAbove(entries int) { s.inMemory = entries }

// Classify wraps a system error with its sentinel.
func Classify(err error) error { return classify(err) }

// ParseDirent reads one directory entry.
func ParseDirent(buf []byte) (name string, kind byte, size int, err error) {
	d, size, err := parseDirent(buf)
	return d.name, d.kind, size, err
}
