//go:build linux

package filestore

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/store"
)

// Options for Open.
type Options struct {
	// Ledger: the directory is Reshelf's own. Open creates it, files and directories in it are for this user only, and
	// Replace and Delete work; in an archive they are ErrUnsupported.
	Ledger bool
}

// Store is a directory. It implements store.Store.
type Store struct {
	props      store.Properties
	keepsInode bool
	ledger     bool
	root       *os.Root
	id         fileID // of the root directory
	durable    durableDirs

	inMemory  int // directory entries that a listing holds in memory before it spills
	renameat2 func(olddir int, oldname string, newdir int, newname string, flags uint) error
	linkat    func(olddir int, oldname string, newdir int, newname string, flags int) error
	clone     func(dst, src int) error // FICLONE
	named     bool                     // copies are always made under temporary names; only in tests
	step      func(name string)        // called between the steps of a protocol; nil but in tests
}

var _ store.Store = (*Store)(nil)

// spillAbove bounds the entries of directories that a listing sorts in memory, and the entries it keeps while it is in
// directories further down.
const spillAbove = 100_000

// Open opens the directory dir, an absolute path, as a store. An archive that is missing is ErrUnavailable; it is never
// created or written to by Open. Close the store after use.
func Open(dir string, opts Options) (*Store, error) {
	root, err := archive.FileRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open archive: %w", err)
	}
	if opts.Ledger {
		if err := makeLedger(root.Path()); err != nil {
			return nil, fmt.Errorf("open ledger %s: %w", archive.EscapeText(dir), rootError(err))
		}
	}
	s := &Store{ledger: opts.Ledger, inMemory: spillAbove, renameat2: unix.Renameat2, linkat: unix.Linkat, clone: unix.IoctlFileClone}
	if err := s.open(root); err != nil {
		return nil, fmt.Errorf("open %s: %w", archive.EscapeText(dir), err)
	}
	return s, nil
}

func (s *Store) open(root archive.Root) (err error) {
	s.root, err = os.OpenRoot(root.Path())
	if err != nil {
		return rootError(err)
	}
	defer func() {
		if err != nil {
			_ = s.root.Close() // nothing was written
		}
	}()
	dir, err := s.root.Open(".")
	if err != nil {
		return classify(err)
	}
	defer dir.Close()
	st, err := fstat(dir)
	if err != nil {
		return classify(err)
	}
	s.id = idOf(st)
	fs, err := fileSystemOf(dir)
	if err != nil {
		return classify(err)
	}
	if !s.ledger && !fs.foldsCase {
		fs.foldsCase = foldsNames(dir)
	}
	s.keepsInode = fs.keepsInode
	s.props = fs.properties(root)
	return nil
}

// makeLedger creates dir with its parents, durably.
func makeLedger(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := makeLedger(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !os.IsExist(err) {
		return err
	}
	f, err := os.Open(parent)
	if err != nil {
		return err
	}
	defer f.Close()
	return fsyncDir(f)
}

// Properties implements store.Store. They follow from the type of the root's file system, and whether it folds case also from a look at
// the names in the root.
func (s *Store) Properties() store.Properties { return s.props }

// Close implements store.Store.
func (s *Store) Close() error { return s.root.Close() }

// enter starts every operation: it checks ctx, the keys and that the root is still the one that was opened.
func (s *Store) enter(ctx context.Context, keys ...archive.Key) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	for _, key := range keys {
		if _, err := archive.ParseKey(string(key)); err != nil {
			return err
		}
	}
	return s.checkRoot()
}

// checkRoot reports ErrUnavailable if the path of the root no longer leads to the directory that was opened.
func (s *Store) checkRoot() error {
	var st unix.Stat_t
	err := retry(func() error { return unix.Stat(s.props.Root.Path(), &st) })
	if err != nil {
		return rootError(err)
	}
	// Inode numbers that are made up may change while the directory stays.
	if now := idOf(st); now.dev != s.id.dev || s.keepsInode && now.ino != s.id.ino {
		return fmt.Errorf("%w: %s is not the directory that was opened; was it unmounted or moved?",
			store.ErrUnavailable, archive.EscapeText(s.props.Root.Path()))
	}
	return nil
}

// at marks a step of a protocol, for tests that crash or interfere there.
func (s *Store) at(name string) {
	if s.step != nil {
		s.step(name)
	}
}

func (s *Store) fileMode() uint32 {
	if s.ledger {
		return 0o600
	}
	return 0o666
}

func (s *Store) dirMode() uint32 {
	if s.ledger {
		return 0o700
	}
	return 0o777
}

// durableDirs remembers directories whose names, up to the root, are known to be on disk. It only saves work.
type durableDirs struct {
	mu   sync.Mutex
	dirs map[archive.Key]struct{}
}

const maxDurableDirs = 10_000

func (d *durableDirs) has(dir archive.Key) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, ok := d.dirs[dir]
	return ok
}

func (d *durableDirs) add(dirs ...archive.Key) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dirs == nil || len(d.dirs) >= maxDurableDirs {
		d.dirs = make(map[archive.Key]struct{})
	}
	for _, dir := range dirs {
		d.dirs[dir] = struct{}{}
	}
}

func (d *durableDirs) forget(dir archive.Key) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.dirs, dir)
}
