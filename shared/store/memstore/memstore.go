// Package memstore keeps objects in memory. It is the fake for tests of what uses a store: it keeps every promise of
// the port, with inode numbers and modification times that grow with each object that is written.
package memstore

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/digest"
	"github.com/reshelf/reshelf/shared/store"
)

// Store is a tree of objects in memory. Folders exist only while they hold objects. It implements store.Store.
type Store struct {
	root archive.Root
	fold func(archive.Key) string // names that it makes equal are one; nil: it makes none equal

	mu      sync.Mutex
	objects map[archive.Key]object
	folders map[archive.Key]int    // objects below each folder
	spelled map[string]archive.Key // what is there, folded; only where names are folded
	written int64                  // objects written so far
}

type object struct {
	identity archive.Identity
	content  []byte // never changed
}

var _ store.Store = (*Store)(nil)

// New returns an empty store that says it is root.
func New(root archive.Root) *Store {
	return &Store{root: root, objects: make(map[archive.Key]object), folders: make(map[archive.Key]int)}
}

// NewFolding is New of a store in which names that fold makes equal are one, as on file systems that fold case. Objects and folders keep the
// names with which they were made.
func NewFolding(root archive.Root, fold func(archive.Key) string) *Store {
	s := New(root)
	s.fold, s.spelled = fold, make(map[string]archive.Key)
	return s
}

// Properties implements store.Store. Parallel is more than 1 so that tests work on several objects at once.
func (s *Store) Properties() store.Properties {
	return store.Properties{Root: s.root, KeepsMTime: true, GuardedRename: true, GuardedCopy: true, AtomicRename: true, Exchange: true, Parks: true, RenameMethod: "memory", FoldsCase: s.fold != nil, Folders: true, Parallel: 4}
}

// Close implements store.Store. The objects stay.
func (s *Store) Close() error { return nil }

func check(ctx context.Context, keys ...archive.Key) error {
	for _, key := range keys {
		if _, err := archive.ParseKey(string(key)); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func failed(op string, key archive.Key, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", op, key.Text(), err)
}

// actual is the key as it is spelled, as far as it is there; the lock is held.
func (s *Store) actual(key archive.Key) archive.Key {
	if s.fold == nil || key == "" {
		return key
	}
	if there, ok := s.spelled[s.fold(key)]; ok {
		return there
	}
	return below(s.actual(key.Dir()), key)
}

// below is the key with another folder.
func below(dir, key archive.Key) archive.Key {
	if dir == "" {
		return key
	}
	return dir + "/" + archive.Key(key.Base())
}

// get finds an object; the lock is held.
func (s *Store) get(key archive.Key) (object, error) {
	key = s.actual(key)
	if o, ok := s.objects[key]; ok {
		return o, nil
	}
	if s.folders[key] > 0 {
		return object{}, store.ErrNotRegular
	}
	return object{}, store.ErrNotExist
}

// free reports ErrExist if key, or a folder above it, is taken; the lock is held.
func (s *Store) free(key archive.Key) error {
	key = s.actual(key)
	if s.folders[key] > 0 {
		return store.ErrExist
	}
	for ; key != ""; key = key.Dir() {
		if _, ok := s.objects[key]; ok {
			return store.ErrExist
		}
	}
	return nil
}

// put and drop keep the folders right; the lock is held.
func (s *Store) put(key archive.Key, o object) {
	key = s.actual(key)
	s.drop(key)
	s.objects[key] = o
	s.spell(key)
	for dir := key.Dir(); dir != ""; dir = dir.Dir() {
		s.folders[dir]++
		s.spell(dir)
	}
}

func (s *Store) drop(key archive.Key) {
	key = s.actual(key)
	if _, ok := s.objects[key]; !ok {
		return
	}
	delete(s.objects, key)
	s.unspell(key)
	for dir := key.Dir(); dir != ""; dir = dir.Dir() {
		if s.folders[dir]--; s.folders[dir] == 0 {
			delete(s.folders, dir)
			s.unspell(dir)
		}
	}
}

func (s *Store) spell(key archive.Key) {
	if s.fold != nil {
		s.spelled[s.fold(key)] = key
	}
}

func (s *Store) unspell(key archive.Key) {
	if s.fold != nil {
		delete(s.spelled, s.fold(key))
	}
}

// List implements store.Store.
func (s *Store) List(ctx context.Context, opts store.ListOptions) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		s.mu.Lock()
		keys := slices.Sorted(maps.Keys(s.objects))
		s.mu.Unlock()
		for _, key := range keys {
			if err := ctx.Err(); err != nil {
				yield(store.Entry{}, fmt.Errorf("list: %w", err))
				return
			}
			s.mu.Lock()
			o, ok := s.objects[key]
			s.mu.Unlock()
			if !ok || !wanted(key, opts) {
				continue
			}
			if !yield(store.Entry{Object: archive.Object{Key: key, Identity: o.identity}}, nil) {
				return
			}
		}
		if err := ctx.Err(); err != nil {
			yield(store.Entry{}, fmt.Errorf("list: %w", err))
		}
	}
}

func wanted(key archive.Key, opts store.ListOptions) bool {
	if key <= opts.After || !strings.HasPrefix(string(key), opts.Prefix) || store.Temporary(key) {
		return false
	}
	if opts.Skip == nil {
		return true
	}
	for i := range len(key) {
		if key[i] == '/' && opts.Skip(key[:i], true) {
			return false
		}
	}
	return !opts.Skip(key, false)
}

// Stat implements store.Store.
func (s *Store) Stat(ctx context.Context, key archive.Key) (archive.Object, error) {
	if err := check(ctx, key); err != nil {
		return archive.Object{}, failed("stat", key, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	o, err := s.get(key)
	if err != nil {
		return archive.Object{}, failed("stat", key, err)
	}
	return archive.Object{Key: key, Identity: o.identity}, nil
}

// Open implements store.Store. What was opened stays as it was, so Recheck always says so.
func (s *Store) Open(ctx context.Context, key archive.Key, offset, length int64, want archive.Identity) (*store.Content, error) {
	if err := check(ctx, key); err != nil {
		return nil, failed("open", key, err)
	}
	if offset < 0 || length < -1 {
		return nil, failed("open", key, fmt.Errorf("no such range: %d bytes from %d", length, offset))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	o, err := s.get(key)
	if err == nil && want != (archive.Identity{}) && !want.Same(o.identity) {
		err = store.ErrChanged
	}
	if err != nil {
		return nil, failed("open", key, err)
	}
	content := o.content[min(offset, o.identity.Size):]
	if length >= 0 {
		content = content[:min(length, int64(len(content)))]
	}
	return &store.Content{
		ReadCloser: io.NopCloser(reader{ctx, bytes.NewReader(content)}),
		Object:     archive.Object{Key: key, Identity: o.identity},
		Recheck:    context.Context.Err,
	}, nil
}

// reader reads until its context ends.
type reader struct {
	ctx context.Context //nolint:containedctx // it lives as long as what was opened with the context
	r   io.Reader
}

func (r reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// Checksums implements store.Store; it keeps none.
func (s *Store) Checksums(ctx context.Context, key archive.Key, want archive.Identity) ([]digest.Digest, archive.Object, error) {
	o, err := s.Stat(ctx, key)
	if err == nil && want != (archive.Identity{}) && !want.Same(o.Identity) {
		err = failed("checksums of", key, store.ErrChanged)
	}
	return nil, o, err
}

// Create implements store.Store.
func (s *Store) Create(ctx context.Context, key archive.Key, body io.Reader) error {
	return failed("create", key, s.write(ctx, key, body, s.free))
}

// Replace implements store.Store.
func (s *Store) Replace(ctx context.Context, key archive.Key, body io.Reader) error {
	return failed("replace", key, s.write(ctx, key, body, func(key archive.Key) error {
		key = s.actual(key)
		if _, ok := s.objects[key]; ok {
			return nil
		}
		if s.folders[key] > 0 {
			return store.ErrNotRegular
		}
		return s.free(key)
	}))
}

func (s *Store) write(ctx context.Context, key archive.Key, body io.Reader, allowed func(archive.Key) error) error {
	if err := check(ctx, key); err != nil {
		return err
	}
	content, err := io.ReadAll(reader{ctx, body})
	if err != nil {
		return fmt.Errorf("read content: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := allowed(key); err != nil {
		return err
	}
	s.written++
	s.put(key, object{
		identity: archive.Identity{Size: int64(len(content)), MTime: s.written, Inode: uint64(s.written)},
		content:  content,
	})
	return nil
}

// Rename implements store.Store.
func (s *Store) Rename(ctx context.Context, req store.RenameRequest) error {
	err := check(ctx, req.From, req.To)
	if err == nil {
		err = s.rename(req)
	}
	return failed("rename "+req.From.Text()+" to", req.To, err)
}

func (s *Store) rename(req store.RenameRequest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	src, srcErr := s.get(req.From)
	if srcErr != nil || !req.Want.Same(src.identity) {
		dst, dstErr := s.get(req.To)
		switch {
		case dstErr == nil && req.Want.Inode != 0 && req.Want.Same(dst.identity):
			return nil
		case srcErr != nil:
			return srcErr
		}
		return store.ErrChanged
	}
	if req.From == req.To {
		return nil
	}
	if err := s.free(req.To); err != nil {
		return err
	}
	s.drop(req.From)
	s.put(req.To, src)
	return nil
}

// Exchange implements store.Store.
func (s *Store) Exchange(ctx context.Context, req store.ExchangeRequest) error {
	err := check(ctx, req.A, req.B)
	if err == nil {
		err = s.exchange(req)
	}
	return failed("exchange "+req.A.Text()+" with", req.B, err)
}

func (s *Store) exchange(req store.ExchangeRequest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, errA := s.get(req.A)
	b, errB := s.get(req.B)
	switch {
	case errA != nil:
		return errA
	case errB != nil:
		return errB
	case req.WantA.Inode == 0 || req.WantB.Inode == 0 || req.WantA.Inode == req.WantB.Inode:
		return fmt.Errorf("%w: these two cannot be told apart", store.ErrUnsupported)
	case !req.WantA.Same(a.identity) || !req.WantB.Same(b.identity):
		return store.ErrChanged
	}
	s.objects[s.actual(req.A)], s.objects[s.actual(req.B)] = b, a
	return nil
}

// Copy implements store.Store. A hard link is the same object at two keys; what replaces one leaves the other as it was.
func (s *Store) Copy(ctx context.Context, req store.CopyRequest) error {
	err := check(ctx, req.From, req.To)
	if err == nil {
		err = s.copy(req)
	}
	return failed("copy "+req.From.Text()+" to", req.To, err)
}

func (s *Store) copy(req store.CopyRequest) error {
	if done, err := s.begin(req); done || err != nil {
		return err
	}
	// During is called without the lock: it may look at the store.
	for _, n := range []int64{req.Want.Size, 0} {
		if err := req.Tell(n); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	src, err := s.source(req)
	if err == nil {
		err = s.free(req.To)
	}
	if err != nil {
		if s.copied(req) {
			return nil
		}
		return err
	}
	if !req.Link {
		s.written++
		src.identity.Inode = uint64(s.written)
	}
	s.put(req.To, src)
	return nil
}

// begin reports whether the request was carried out before, or why it cannot be.
func (s *Store) begin(req store.CopyRequest) (done bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.copied(req) {
		return true, nil
	}
	if _, err := s.source(req); err != nil {
		return false, err
	}
	return false, s.free(req.To)
}

// source is the object that is to be copied; the lock is held.
func (s *Store) source(req store.CopyRequest) (object, error) {
	src, err := s.get(req.From)
	if err != nil {
		return src, err
	}
	if !req.Want.Same(src.identity) {
		return src, store.ErrChanged
	}
	if d := req.Digest; !d.IsZero() {
		h := digest.NewHasher(digest.Set(0).With(d.Algorithm()))
		_, _ = h.Write(src.content) // it never fails
		if h.Digests()[0] != d {
			return src, store.ErrChanged
		}
	}
	return src, nil
}

// Copied implements store.Store.
func (s *Store) Copied(ctx context.Context, req store.CopyRequest) (bool, error) {
	if err := check(ctx, req.From, req.To); err != nil {
		return false, failed("copy of "+req.From.Text()+" at", req.To, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.copied(req), nil
}

// copied reports whether the target is a copy of the source: of the same content and time; the lock is held.
func (s *Store) copied(req store.CopyRequest) bool {
	dst, err := s.get(req.To)
	if err != nil || s.actual(req.From) == s.actual(req.To) {
		return false
	}
	if req.Link {
		return req.Want.Same(dst.identity)
	}
	src, err := s.get(req.From)
	return err == nil && req.Want.Same(src.identity) && dst.identity.MTime == src.identity.MTime &&
		dst.identity.Inode != src.identity.Inode && bytes.Equal(src.content, dst.content)
}

// Sync implements store.Store.
func (s *Store) Sync(ctx context.Context, keys []archive.Key) error {
	if err := check(ctx, keys...); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	return nil
}

// RemoveFolder implements store.Store: folders are gone with what was in them.
func (s *Store) RemoveFolder(ctx context.Context, key archive.Key) (bool, error) {
	return false, failed("remove folder", key, check(ctx, key))
}

// Delete implements store.Store.
func (s *Store) Delete(ctx context.Context, key archive.Key, want archive.Identity) error {
	if err := check(ctx, key); err != nil {
		return failed("delete", key, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	o, err := s.get(key)
	if err == nil && want != (archive.Identity{}) && !want.Same(o.identity) {
		err = store.ErrChanged
	}
	if err == nil {
		s.drop(key)
	}
	return failed("delete", key, err)
}
