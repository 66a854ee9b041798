package s3store

import (
	"cmp"
	"context"
	"iter"
	"slices"
	"strings"
	"sync"

	"github.com/minio/minio-go/v7"
)

// A listing is one page after the other, each a round trip. Where there are many, the names are divided into ranges that are
// listed at once and handed on in order.
const (
	// largeAfter is after how many names a listing is divided.
	largeAfter = 5 * pageSize
	// listedAtOnce bounds the ranges that are listed at once, and pagesAhead the pages that each holds ready: about 24,000 names
	// in all.
	listedAtOnce = 8
	pagesAhead   = 2
	// wantedCuts is how many cuts are looked for, by at most maxLooks listings of folders.
	wantedCuts = 64
	maxLooks   = 64
)

// all yields what names yields, sooner where there is much of it.
func (s *Store) all(ctx context.Context, prefix, after string) iter.Seq2[minio.ObjectInfo, error] {
	return func(yield func(minio.ObjectInfo, error) bool) {
		n, large := 0, cmp.Or(s.large, largeAfter)
		for info, err := range s.names(ctx, prefix, after) {
			if !yield(info, err) || err != nil {
				return
			}
			if !garbled(info.Key) {
				after = info.Key
			}
			if n++; n >= large && !garbled(info.Key) {
				s.ranges(ctx, prefix, after, yield)
				return
			}
		}
	}
}

// ranges lists the rest by ranges.
func (s *Store) ranges(ctx context.Context, prefix, after string, yield func(minio.ObjectInfo, error) bool) {
	ctx, cancel := context.WithCancel(ctx)
	var listers sync.WaitGroup
	defer listers.Wait()
	defer cancel()
	cuts, err := s.cuts(ctx, prefix, after)
	if err != nil {
		yield(minio.ObjectInfo{}, err)
		return
	}
	all := divide(after, cuts)
	under := make([]chan page, 0, len(all))
	begin := func() {
		r, pages := all[len(under)], make(chan page, pagesAhead)
		under = append(under, pages)
		listers.Go(func() { s.list(ctx, prefix, r, pages) })
	}
	for i := range all {
		for len(under) < min(i+listedAtOnce, len(all)) {
			begin()
		}
		for p := range under[i] {
			for _, info := range p.names {
				if !yield(info, nil) {
					return
				}
			}
			if p.err != nil {
				yield(minio.ObjectInfo{}, p.err)
				return
			}
		}
		under[i] = nil
	}
}

// page is some names of a range, in order, or the error that ended it.
type page struct {
	names []minio.ObjectInfo
	err   error
}

// list lists one range, and closes pages at its end.
func (s *Store) list(ctx context.Context, prefix string, r nameRange, pages chan<- page) {
	defer close(pages)
	send := func(p page) bool {
		select {
		case pages <- p:
			return true
		case <-ctx.Done():
			return false
		}
	}
	var p page
	for info, err := range s.names(ctx, prefix, r.after) {
		if err != nil {
			p.err = err
			break
		}
		// A garbled name stands where its true one would be, so it says nothing about the range.
		if !garbled(info.Key) {
			if info.Key < r.from {
				continue
			}
			if r.to != "" && info.Key >= r.to {
				break
			}
		}
		if p.names = append(p.names, info); len(p.names) == pageSize {
			if !send(p) {
				return
			}
			p = page{}
		}
	}
	send(p)
}

// nameRange are the names from from on, and below to. It is listed after a name that lies before all of them.
type nameRange struct{ after, from, to string }

// divide makes ranges of what lies after a name. Cuts are in order, greater than after, and end with a slash.
func divide(after string, cuts []string) []nameRange {
	out := make([]nameRange, 0, len(cuts)+1)
	r := nameRange{after: after}
	for _, cut := range cuts {
		r.to = cut
		out = append(out, r)
		// Of what sorts right before "dir/" this is near enough; what is between is left out by from.
		r = nameRange{after: strings.TrimSuffix(cut, "/") + ".\U0010ffff", from: cut}
	}
	return append(out, r)
}

// cuts are names of folders after a name, which divide what there is. It looks at folders level by level, until it has
// enough of them.
func (s *Store) cuts(ctx context.Context, prefix, after string) ([]string, error) {
	var cuts []string
	level := []string{prefix}
	for looks := 0; len(level) > 0 && len(cuts) < wantedCuts && looks < maxLooks; {
		var below []string
		for _, folder := range level {
			if looks++; looks > maxLooks {
				break
			}
			found, err := s.folders(ctx, folder)
			if err != nil {
				return nil, err
			}
			below = append(below, found...)
		}
		level = slices.DeleteFunc(below, func(folder string) bool { // what ends before the rest begins
			return folder <= after && !strings.HasPrefix(after, folder)
		})
		for _, folder := range level {
			if folder > after {
				cuts = append(cuts, folder)
			}
		}
	}
	slices.Sort(cuts)
	return slices.Compact(cuts), nil
}

// maxFolders bounds the folders that are taken of one folder; further ones are listed with the last of them.
const maxFolders = 1000

// folders are the names, with a slash at the end, of the folders in a folder.
func (s *Store) folders(ctx context.Context, folder string) (found []string, err error) {
	err = s.try(ctx, attemptFor, func(ctx context.Context) error {
		found = found[:0]
		seen := 0
		for info := range s.calls.ListObjectsIter(ctx, s.bucket, minio.ListObjectsOptions{Prefix: folder, MaxKeys: pageSize, FetchOwner: new(bool)}) {
			if info.Err != nil {
				return info.Err
			}
			if seen++; seen > maxFolders {
				return nil
			}
			if strings.HasSuffix(info.Key, "/") && info.Key != folder && !garbled(info.Key) {
				found = append(found, info.Key)
			}
		}
		return ctx.Err()
	})
	return found, s.unavailable(err)
}
