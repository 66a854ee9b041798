//go:build linux

package filestore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/store"
)

// List implements store.Store. It holds one directory open at a time and at most twice spillAbove names in memory.
// Mount points inside the root are entered, symbolic links are not, and hard links are objects of their own.
//
// A directory that cannot be read, and whose own key is not among those asked for (After lies inside it, or Prefix below
// it), ends the listing with an error, since an Unreadable entry could not tell of it.
func (s *Store) List(ctx context.Context, opts store.ListOptions) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		l := &lister{store: s, ctx: ctx, opts: opts, yield: yield, buf: make([]byte, dirBufferBytes)}
		defer l.close()
		if err := l.run(); err != nil && !errors.Is(err, errStopped) {
			yield(store.Entry{}, err)
		}
	}
}

// errStopped: the caller's loop has ended.
var errStopped = errors.New("listing stopped")

// lister is one listing. It goes through the tree depth first.
type lister struct {
	store *Store
	ctx   context.Context //nolint:containedctx // a lister lives for one call of List
	opts  store.ListOptions
	yield func(store.Entry, error) bool
	spill spill
	stack []*level // from the root to the directory being listed
	kept  int      // items in memory on all levels
	buf   []byte   // for reading directories
}

// level is a directory that was read and is not yet finished.
type level struct {
	key     archive.Key
	dir     *os.File // open only while this level is on top of the stack
	items   items
	last    string // name of the last item
	kept    int
	mark    int64    // of the spill before this directory was read
	waiting []*level // read at their names, entered later; the last one first
}

func (l *lister) close() {
	for _, v := range l.stack {
		v.closeDir()
	}
	l.spill.close()
}

func (v *level) closeDir() {
	if v.dir != nil {
		_ = v.dir.Close() // only read
		v.dir = nil
	}
}

func (l *lister) run() error {
	if err := l.store.enter(l.ctx); err != nil {
		return l.failed("", err)
	}
	if err := l.start(); err != nil {
		return err
	}
	for len(l.stack) > 0 {
		if err := l.ctx.Err(); err != nil {
			return l.failed("", err)
		}
		if err := l.step(); err != nil {
			return err
		}
	}
	if err := l.store.checkRoot(); err != nil { // it may have vanished, and then everything has
		return l.failed("", err)
	}
	return nil
}

// failed names what was listed; "" is the root.
func (l *lister) failed(key archive.Key, err error) error {
	if _, ok := errors.AsType[spillError](err); ok {
		return fmt.Errorf("list: %w", err)
	}
	if key == "" {
		return fmt.Errorf("list: %w", classify(err))
	}
	return l.store.failed("list", key, err)
}

// start reads the root.
func (l *lister) start() error {
	dir, err := l.store.root.Open(".")
	if err != nil {
		return l.failed("", err)
	}
	defer dir.Close()
	root, incomplete, err := l.read("", dir)
	if err = errors.Join(err, incomplete); err != nil {
		return l.failed("", err)
	}
	l.stack = append(l.stack, root)
	return nil
}

// step takes the next item of the directory on top.
func (l *lister) step() error {
	v := l.stack[len(l.stack)-1]
	it, ok, err := v.items.next()
	switch {
	case err != nil:
		return l.failed(v.key, err)
	case !ok:
		return l.leave()
	case it.name == v.last:
		return nil // the directory changed while it was read
	}
	v.last = it.name
	if it.enters() {
		l.enter(v, strings.TrimSuffix(it.name, "/"))
		return nil
	}
	if open, err := l.reopen(v); !open || err != nil {
		return err
	}
	if it.dir {
		return l.readBelow(v, it.name)
	}
	return l.describe(v, it.name)
}

// enter puts the directory name of v on top, unless it was gone when it was to be read.
func (l *lister) enter(v *level, name string) {
	last := len(v.waiting) - 1
	if last < 0 || v.waiting[last].key != join(v.key, name) {
		return
	}
	v.closeDir()
	l.stack = append(l.stack, v.waiting[last])
	v.waiting = v.waiting[:last]
}

// leave ends the directory on top.
func (l *lister) leave() error {
	last := len(l.stack) - 1
	v := l.stack[last]
	l.stack = l.stack[:last]
	v.closeDir()
	l.kept -= v.kept
	if err := l.spill.release(v.mark); err != nil {
		return l.failed(v.key, err)
	}
	return nil
}

// reopen makes sure that the directory of v is open. Where it is gone, so is what was left of it.
func (l *lister) reopen(v *level) (bool, error) {
	if v.dir != nil {
		return true, nil
	}
	dir, err := l.store.openDir(v.key)
	if isMissing(err) || errors.Is(err, store.ErrNotRegular) {
		return false, nil
	}
	if err != nil {
		return false, l.failed(v.key, err)
	}
	v.dir = dir
	return true, nil
}

// readBelow reads the directory name in v, which will be entered later, and reports it where it is unreadable.
func (l *lister) readBelow(v *level, name string) error {
	key := join(v.key, name)
	dir, err := openat(v.dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	switch {
	case isMissing(err), errors.Is(err, unix.ELOOP):
		return nil
	case err != nil:
		return l.unreadable(key, err)
	}
	defer dir.Close()
	below, incomplete, err := l.read(key, dir)
	if err != nil {
		return l.failed(key, err)
	}
	v.waiting = append(v.waiting, below)
	if incomplete != nil {
		return l.unreadable(key, incomplete)
	}
	return nil
}

// unreadable reports a directory, or an entry that cannot be described, at its own key.
func (l *lister) unreadable(key archive.Key, err error) error {
	err = l.failed(key, err)
	after := string(l.opts.After)
	switch {
	case errors.Is(err, store.ErrUnavailable), l.ctx.Err() != nil, !strings.HasPrefix(string(key), l.opts.Prefix),
		strings.HasPrefix(after, string(key)+"/"):
		return err
	case string(key) <= after:
		return nil // the listing that came as far as After has told of it
	}
	return l.emit(store.Entry{Object: archive.Object{Key: key}, Kind: store.Unreadable, Err: err})
}

func (l *lister) emit(e store.Entry) error {
	if !l.yield(e, nil) {
		return errStopped
	}
	return nil
}

// read reads a directory and puts it in order. incomplete says why not all of it could be read; err ends the listing.
func (l *lister) read(key archive.Key, dir *os.File) (v *level, incomplete, err error) {
	v = &level{key: key, mark: l.spill.mark()}
	s := &sorter{spill: &l.spill, limit: l.store.inMemory}
	// Without the right to search it, the names of a directory can be read, but nothing else.
	if _, incomplete = lstatat(dir, "."); incomplete == nil {
		incomplete, err = l.readNames(key, dir, s)
	}
	if err == nil {
		v.items, v.kept, err = s.sorted(l.store.inMemory - l.kept)
		l.kept += v.kept
	}
	return v, incomplete, err
}

func (l *lister) readNames(key archive.Key, dir *os.File, s *sorter) (incomplete, err error) {
	r := dirReader{dir: dir, buf: l.buf}
	for n := 0; ; n++ {
		if n%1024 == 0 && l.ctx.Err() != nil {
			return nil, l.ctx.Err()
		}
		d, err := r.next()
		if errors.Is(err, io.EOF) {
			return incomplete, nil
		}
		if err != nil {
			return err, nil
		}
		unusable, err := l.sortIn(key, dir, d, s)
		if err != nil {
			return nil, err
		}
		if unusable != nil {
			incomplete = unusable
		}
	}
}

// sortIn adds a name to s, if it is asked for.
func (l *lister) sortIn(parent archive.Key, dir *os.File, d dirent, s *sorter) (unusable, err error) {
	if d.kind == unix.DT_UNKNOWN {
		st, err := lstatat(dir, d.name)
		if err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
			d.kind = unix.DT_DIR
		} // else it is described when its turn comes
	}
	key := join(parent, d.name)
	if strings.HasPrefix(d.name, store.TempPrefix) {
		return nil, nil
	}
	if _, err := archive.ParseKey(string(key)); err != nil {
		return err, nil // too long
	}
	if d.kind == unix.DT_DIR {
		if !l.wantsDir(key) {
			return nil, nil
		}
		enter := d.name + "/"
		if err := s.add(item{name: enter[:len(d.name)], dir: true}); err != nil {
			return nil, err
		}
		return nil, s.add(item{name: enter})
	}
	if !l.wantsObject(key) || l.skips(key, false) {
		return nil, nil
	}
	return nil, s.add(item{name: d.name})
}

func (l *lister) wantsObject(key archive.Key) bool {
	return key > l.opts.After && strings.HasPrefix(string(key), l.opts.Prefix)
}

// wantsDir reports whether anything below key may be asked for.
func (l *lister) wantsDir(key archive.Key) bool {
	below := string(key) + "/"
	after := string(l.opts.After)
	if below < after && !strings.HasPrefix(after, below) {
		return false
	}
	if !strings.HasPrefix(below, l.opts.Prefix) && !strings.HasPrefix(l.opts.Prefix, below) {
		return false
	}
	return !l.skips(key, true)
}

func (l *lister) skips(key archive.Key, dir bool) bool {
	return l.opts.Skip != nil && l.opts.Skip(key, dir)
}

// describe yields what is not a directory.
func (l *lister) describe(v *level, name string) error {
	key := join(v.key, name)
	st, err := lstatat(v.dir, name)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return l.unreadable(key, err)
	}
	e := store.Entry{Object: archive.Object{Key: key, Identity: l.store.identity(st)}}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
	case unix.S_IFLNK:
		e.Kind = store.Symlink
	case unix.S_IFDIR:
		return nil // it came into the place of what was read
	default:
		e.Kind = store.Special
	}
	return l.emit(e)
}

func join(dir archive.Key, name string) archive.Key {
	if dir == "" {
		return archive.Key(name)
	}
	return dir + "/" + archive.Key(name)
}
