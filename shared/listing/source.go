package listing

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"unicode/utf8"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/store"
)

// entry is an object of the list. Its Key is empty where it only tells of exclusions.
type entry struct {
	batch.Listed
	excluded int64 // left out since the entry before
}

// found yields entries in strictly ascending order of key.
type found = iter.Seq2[entry, error]

// errOrder: the store broke its promise, on which "no loss and no double" rests.
var errOrder = errors.New("the store did not list in ascending order of keys")

// walk lists the archive strictly after l.last.
func (l *lister) walk(ctx context.Context) found {
	return func(yield func(entry, error) bool) {
		pruned := prunedDirs{after: l.last}
		skip := func(key archive.Key, dir bool) bool {
			// Objects are left to the loop below, where they can be counted in their order.
			if !dir || !l.filter.Skip(key, true) {
				return false
			}
			pruned.add(key)
			return true
		}
		last := l.last
		for e, err := range l.store.List(ctx, store.ListOptions{After: l.last, Skip: skip}) {
			if err == nil {
				err = check(e, last)
			}
			if err != nil {
				yield(entry{}, err)
				return
			}
			last = e.Key
			f := entry{excluded: pruned.before(e.Key)}
			if l.leavesOut(e) {
				f.excluded++
			} else {
				f.Listed = describe(e)
			}
			if !yield(f, nil) {
				return
			}
		}
		yield(entry{excluded: pruned.rest()}, nil)
	}
}

// leavesOut reports whether the filter leaves out an entry. The folders above it were asked for by the store, but for keys
// that cannot be addressed.
func (l *lister) leavesOut(e store.Entry) bool {
	if e.Kind == store.Unaddressable {
		return l.filter.excludes(e.Key)
	}
	return l.filter.Skip(e.Key, e.Kind == store.Unreadable)
}

// check refuses what cannot be part of a list.
func check(e store.Entry, last archive.Key) error {
	if e.Key == "" {
		return fmt.Errorf("%w: its root cannot be listed: %w", store.ErrUnavailable, e.Err)
	}
	if _, err := archive.ParseKey(string(e.Key)); err != nil && (e.Kind != store.Unaddressable || len(e.Key) > archive.MaxKeyBytes) {
		return fmt.Errorf("the store listed a key that cannot be addressed: %w", err)
	}
	if e.Key <= last {
		return fmt.Errorf("%w: %s after %s", errOrder, e.Key.Text(), last.Text())
	}
	return nil
}

// describe says what is to become of an entry.
func describe(e store.Entry) batch.Listed {
	l := batch.Listed{Object: e.Object}
	switch e.Kind {
	case store.Regular:
	case store.Symlink:
		l.Outcome, l.Problem, l.Detail = batch.Skipped, batch.ReasonSymlink, "a symbolic link; links are not followed"
	case store.Unreadable:
		l.Outcome, l.Problem = batch.Failed, batch.ReasonUnreadable
		l.Detail = "the folder could not be listed"
		if e.Err != nil {
			l.Detail += ": " + detail(e.Err)
		}
	case store.Cold:
		l.Outcome, l.Problem = batch.Skipped, batch.ReasonCold
		l.Detail = "it is in cold storage (class " + archive.EscapeText(cmp.Or(e.Class, "unknown")) + "); restore the object, then inspect it again"
	case store.Unaddressable:
		l.Outcome, l.Problem = batch.Failed, batch.ReasonUnaddressable
		l.Detail = "its name cannot be addressed; rename it with the tool that made it"
		if e.Err != nil {
			l.Detail = "its name cannot be addressed (" + detail(e.Err) + "); rename it with the tool that made it"
		}
	default:
		l.Outcome, l.Problem, l.Detail = batch.Skipped, batch.ReasonSpecial, "not a regular file"
	}
	return l
}

// maxDetail bounds a Detail, in bytes.
const maxDetail = 500

// detail is an error's text for a person.
func detail(err error) string {
	s := archive.EscapeText(err.Error())
	if len(s) <= maxDetail {
		return s
	}
	n := maxDetail
	for !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}

// prunedDirs counts folders that were left out, each once however often the store asks, at their place in the order of
// keys. It is safe for concurrent use.
type prunedDirs struct {
	after archive.Key

	mu    sync.Mutex
	dirs  []archive.Key // with a slash at the end, in ascending order
	extra int64
}

// maxPruned bounds what is held of folders that were left out. Where more than that follow each other without an object
// between them, some may be counted in an earlier segment, and again if the store asks for them again.
const maxPruned = 4096

func (p *prunedDirs) add(dir archive.Key) {
	dir += "/"
	if dir <= p.after {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	i, there := slices.BinarySearch(p.dirs, dir)
	if there {
		return
	}
	if len(p.dirs) == maxPruned {
		p.extra += maxPruned
		p.dirs, i = nil, 0
	}
	p.dirs = slices.Insert(p.dirs, i, dir)
}

// before counts the folders whose contents sort before key and that were not counted yet.
func (p *prunedDirs) before(key archive.Key) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	i, _ := slices.BinarySearch(p.dirs, key)
	n := p.extra + int64(i)
	p.dirs, p.extra = slices.Delete(p.dirs, 0, i), 0
	return n
}

func (p *prunedDirs) rest() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.extra + int64(len(p.dirs))
}
