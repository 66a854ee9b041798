package s3store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/minio/minio-go/v7"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/store"
)

// List implements store.Store: pages of 1,000 keys, in the order of the server, which is that of bytes. Where a page fails,
// the listing goes on after the last key. A server that lists in another order is an error.
func (s *Store) List(ctx context.Context, opts store.ListOptions) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		if err := s.enter(ctx); err != nil {
			yield(store.Entry{}, fmt.Errorf("list: %w", err))
			return
		}
		l := lister{store: s, options: opts, dirs: pruned{skip: opts.Skip}, yield: yield, exists: s.exists}
		for info, err := range s.all(ctx, s.prefix+sendable(opts.Prefix), s.after(opts.After)) {
			if err == nil {
				err = ctx.Err()
			}
			if err == nil {
				err = l.take(ctx, info)
			}
			if err != nil {
				l.end(ctx, fmt.Errorf("list: %w", err))
				return
			}
			if l.ended {
				return
			}
		}
		l.end(ctx, nil)
	}
}

// after is the name to start after, "" for none.
func (s *Store) after(key archive.Key) string {
	if key == "" {
		return ""
	}
	return s.prefix + sendable(string(key))
}

// exists reports whether there is an object of that very key.
func (s *Store) exists(ctx context.Context, key archive.Key) (bool, error) {
	_, err := s.Stat(ctx, key)
	if errors.Is(err, store.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// sendable is the longest start of a text that every server understands: valid UTF-8 without NUL, and without segments that
// are "." or ".." but for spaces, which MinIO refuses even where they are the start of a name.
func sendable(text string) string {
	for i, r := range text {
		if _, n := utf8.DecodeRuneInString(text[i:]); r == 0 || r == utf8.RuneError && n == 1 {
			text = text[:i]
			break
		}
	}
	start := 0
	for seg := range strings.SplitSeq(text, "/") {
		if seg := strings.TrimSpace(seg); seg == "." || seg == ".." {
			return text[:start]
		}
		start += len(seg) + 1
	}
	return text
}

// names yields what is in the bucket below a prefix of names, and after a name, in order; but see garbled.
func (s *Store) names(ctx context.Context, prefix, after string) iter.Seq2[minio.ObjectInfo, error] {
	return func(yield func(minio.ObjectInfo, error) bool) {
		p := pass{Store: s, prefix: prefix, after: after, yield: yield}
		began, wait := time.Now(), firstWait
		for {
			from := p.after
			err := p.run(ctx)
			if p.ended || err == nil {
				return
			}
			if p.after != from {
				began, wait = time.Now(), firstWait
				if errors.Is(err, errSpoilt) {
					continue
				}
			}
			if c := classify(err); (c != classRetry && c != classSlow) || ctx.Err() != nil || time.Since(began) > s.patient {
				yield(minio.ObjectInfo{}, s.unavailable(err))
				return
			}
			if err := sleep(ctx, wait); err != nil {
				yield(minio.ObjectInfo{}, err)
				return
			}
			wait = min(2*wait, longWait)
		}
	}
}

// pass is a listing from a name to the end, or to the first page that fails.
type pass struct {
	*Store
	prefix, after string
	yield         func(minio.ObjectInfo, error) bool
	ended         bool // the caller has enough
}

// errSpoilt: the server would go on after a name that it cannot tell, and so leave others out.
var errSpoilt = errors.New("the server cannot go on listing after a name with a control character, and there is nothing else on a whole page; " +
	"rename these objects with the tool that made them")

var errOrder = errors.New("the server does not list in ascending order of names; objects would be lost; it cannot be used")

func (p *pass) run(ctx context.Context) error {
	if err := p.pace.wait(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	idle := time.AfterFunc(attemptFor, func() { cancel(errIdle) })
	defer idle.Stop()
	o := minio.ListObjectsOptions{Prefix: p.prefix, StartAfter: p.after, Recursive: true, MaxKeys: pageSize, WithRestoreStatus: true, FetchOwner: new(bool)}
	for info := range p.calls.ListObjectsIter(ctx, p.bucket, o) {
		idle.Stop()
		if info.Err != nil {
			p.pace.learn(info.Err)
			return cmp.Or(context.Cause(ctx), info.Err)
		}
		switch {
		case garbled(info.Key):
		case info.Key == p.after:
			continue // a server that takes "start after" for "start at"
		case info.Key < p.after:
			return errOrder
		default:
			p.after = info.Key
		}
		if p.ended = !p.yield(info, nil); p.ended {
			return nil
		}
		idle.Reset(attemptFor)
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	p.pace.learn(nil)
	return nil
}

// garbled reports whether a name may not be what the server stores: XML 1.0 has no control characters, and servers that
// write them nevertheless (or do not know encoding-type=url) put U+FFFD instead, at the place of the true name.
func garbled(name string) bool { return strings.ContainsRune(name, utf8.RuneError) }

// lister makes entries of what a bucket holds.
type lister struct {
	store   *Store
	options store.ListOptions
	dirs    pruned
	yield   func(store.Entry, error) bool
	exists  func(ctx context.Context, key archive.Key) (bool, error)
	ended   bool
	// garbled are names that stand at another place than their own; each is yielded where its own would be. A listing that is
	// resumed after that place does not find it.
	garbled []minio.ObjectInfo
}

// maxGarbled bounds the names that are held back.
const maxGarbled = 10_000

// take yields what a name gives, in order.
func (l *lister) take(ctx context.Context, info minio.ObjectInfo) error {
	if garbled(info.Key) {
		return l.hold(info)
	}
	for len(l.garbled) > 0 && l.garbled[0].Key < info.Key && !l.ended {
		if err := l.release(ctx); err != nil {
			return err
		}
	}
	if e, ok := l.entry(info); ok && !l.ended {
		l.ended = !l.yield(e, nil)
	}
	return nil
}

func (l *lister) hold(info minio.ObjectInfo) error {
	i, there := slices.BinarySearchFunc(l.garbled, info, func(a, b minio.ObjectInfo) int { return strings.Compare(a.Key, b.Key) })
	if there {
		return nil
	}
	if len(l.garbled) == maxGarbled {
		return fmt.Errorf("the server spoils more than %d names with control characters; rename these objects with the tool that made them", maxGarbled)
	}
	l.garbled = slices.Insert(l.garbled, i, info)
	return nil
}

// release yields the first garbled name: as an object if there is one of that name, else as one that cannot be addressed.
func (l *lister) release(ctx context.Context) error {
	info := l.garbled[0]
	l.garbled = l.garbled[1:]
	e, ok := l.entry(info)
	if !ok {
		return nil
	}
	there, err := l.exists(ctx, e.Key)
	if err != nil {
		return err
	}
	if !there {
		e.Kind, e.Err = store.Unaddressable, errors.New("its name holds a character that the server does not tell")
	}
	l.ended = !l.yield(e, nil)
	return nil
}

// end yields what is held back, or an error.
func (l *lister) end(ctx context.Context, err error) {
	for err == nil && !l.ended && len(l.garbled) > 0 {
		err = l.release(ctx)
	}
	if err != nil && !l.ended {
		l.yield(store.Entry{}, err)
	}
}

func (l *lister) entry(info minio.ObjectInfo) (store.Entry, bool) {
	key := l.store.key(info.Key)
	e := store.Entry{Object: archive.Object{Key: key, Identity: identityOf(info)}}
	switch _, err := archive.ParseKey(string(key)); {
	case key <= l.options.After || !strings.HasPrefix(string(key), l.options.Prefix) || store.Temporary(key):
		return e, false
	case strings.HasSuffix(string(key), "/") && info.Size == 0, key == "":
		return e, false // a folder, as consoles make them
	case err != nil:
		e.Kind, e.Err = store.Unaddressable, err
		return e, true
	case l.dirs.inside(key) || l.options.Skip != nil && l.options.Skip(key, false):
		return e, false
	case cold(info):
		e.Kind, e.Class = store.Cold, info.StorageClass
	}
	return e, true
}

// cold reports whether an object must be restored before it can be read (Amazon's "Storage classes for archiving").
func cold(info minio.ObjectInfo) bool {
	switch info.StorageClass {
	case "GLACIER", "DEEP_ARCHIVE":
		return info.Restore == nil || info.Restore.OngoingRestore || info.Restore.ExpiryTime.IsZero()
	}
	return false
}

// pruned asks once for each folder whether it is left out, in the order of keys.
type pruned struct {
	skip    func(key archive.Key, dir bool) bool
	folder  archive.Key // the last one that was asked for, with all above it
	outside archive.Key // the folder that is left out, "" if none of them is
}

// inside reports whether key lies in a folder that is left out.
func (p *pruned) inside(key archive.Key) bool {
	if p.skip == nil {
		return false
	}
	dir := key.Dir()
	if p.outside != "" && strings.HasPrefix(string(key), string(p.outside)+"/") {
		return true
	}
	if dir == p.folder {
		return false
	}
	common := p.folder
	for common != "" && dir != common && !strings.HasPrefix(string(dir), string(common)+"/") {
		common = common.Dir()
	}
	p.folder, p.outside = dir, ""
	for i := len(common) + 1; i <= len(dir); i++ {
		if i == len(dir) || dir[i] == '/' {
			if p.skip(dir[:i], true) {
				p.folder, p.outside = dir[:i].Dir(), dir[:i]
				return true
			}
		}
	}
	return false
}
