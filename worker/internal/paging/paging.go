// Package paging makes a remote content look like a local file: a sparse one of the right size, into which only what is
// about to be read is fetched.
//
// What is fetched is a window that starts at the first missing byte. It doubles while reading goes forward, so that a
// reader which touches everything needs a number of requests that grows with the logarithm of the size. After a few
// misses, or when much of a content has been fetched, the rest comes in one request if it may be held.
//
// The disk that a file takes is bounded: where the next window would go beyond, all that was fetched is dropped first.
package paging

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
)

var (
	// ErrScratch: this machine could not keep what was fetched. It is no fault of the content.
	ErrScratch = errors.New("keep the content in scratch space")
	// ErrTooMany: more requests were made for one content than are allowed.
	ErrTooMany = errors.New("too many parts are read")
)

const (
	// Block is what windows start with and are aligned to, in bytes.
	Block = 64 << 10
	// MinBudget is the least disk that a file may be bounded to, in bytes.
	MinBudget = 4 << 20

	maxWindow = 16 << 20
	// near is how many windows further on a miss may be to count as going forward.
	near = 4
	// After manyMisses, or when a content has been fetched to one part in muchFetched, the rest is fetched.
	manyMisses  = 8
	muchFetched = 3
	// maxRequests bounds the requests for one content. A film of 100 GB that is read whole takes some 6,000.
	maxRequests = 20_000
)

// Fetch opens the bytes from offset up to offset+length of the content, always of the same version.
type Fetch func(ctx context.Context, offset, length int64) (io.ReadCloser, error)

// File is a content of which not all is there. It is safe for concurrent use.
type File struct {
	file   *os.File
	size   int64
	budget int64
	fetch  Fetch

	mu       sync.Mutex
	present  []extent // in order, apart from one another
	window   int64    // of the last fetch
	next     int64    // where the last fetch ended
	misses   int
	requests int
	fetched  int64
}

// extent are the bytes from from up to to.
type extent struct{ from, to int64 }

// New gives file, which must be empty, the content's size in bytes. It stays the caller's to close. budget bounds the
// disk that it may take, in bytes; at least MinBudget.
func New(file *os.File, size, budget int64, fetch Fetch) (*File, error) {
	if err := file.Truncate(size); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrScratch, err)
	}
	return &File{file: file, size: size, budget: max(budget, MinBudget), fetch: fetch}, nil
}

// File is the sparse file.
func (f *File) File() *os.File { return f.file }

// Requests is how often the content was asked for, and for how many bytes in all.
func (f *File) Requests() (n int, bytes int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.requests, f.fetched
}

// Put keeps bytes of the content that came in another way, as long as there is room.
func (f *File) Put(p []byte, offset int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	e := extent{offset, offset + int64(len(p))}
	if e.to > f.size || f.held(extent{0, f.size})+int64(len(p)) > f.budget {
		return nil
	}
	if _, err := f.file.WriteAt(p, offset); err != nil {
		return fmt.Errorf("%w: %w", ErrScratch, err)
	}
	f.add(e)
	return nil
}

// Load brings the bytes from offset up to offset+length, as far as the content has them, into the file, and reports the
// extent around them that is there. It is there until the next Load. length is at most MinBudget/2.
func (f *File) Load(ctx context.Context, offset, length int64) (from, to int64, err error) {
	if offset < 0 || length < 0 || length > MinBudget/2 {
		return 0, 0, fmt.Errorf("no such part: %d bytes from %d", length, offset)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	offset = min(offset, f.size) // the sum must not overflow
	want := extent{offset, min(offset+length, f.size)}
	if e, ok := f.around(want); ok {
		return e.from, e.to, nil
	}
	if f.misses++; f.requests >= maxRequests {
		return 0, 0, fmt.Errorf("%w: %d requests", ErrTooMany, f.requests)
	}
	part := f.plan(want)
	if f.held(extent{0, f.size})+part.to-part.from-f.held(part) > f.budget {
		if err := f.drop(); err != nil {
			return 0, 0, err
		}
		part = f.plan(want)
	}
	if err := f.bring(ctx, part); err != nil {
		return 0, 0, err
	}
	e, _ := f.around(want)
	return e.from, e.to, nil
}

// plan is what to fetch so that want is there.
func (f *File) plan(want extent) extent {
	gap := f.gap(want)
	if f.size <= f.budget && (f.misses >= manyMisses || f.fetched*muchFetched > f.size) {
		return f.gap(extent{0, f.size})
	}
	window := int64(Block)
	if gap.from >= f.next && gap.from <= f.next+near*f.window && f.next > 0 {
		window = min(2*f.window, maxWindow, f.budget/4)
	}
	f.window = window
	ahead := min(gap.from+window, f.size)
	if i := slices.IndexFunc(f.present, func(e extent) bool { return e.from >= gap.to }); i >= 0 {
		ahead = min(ahead, f.present[i].from)
	}
	gap.to = max(gap.to, ahead)
	return gap
}

// gap is the smallest extent of whole blocks that covers what is missing of want.
func (f *File) gap(want extent) extent {
	for _, e := range f.present {
		if e.from <= want.from && want.from < e.to {
			want.from = e.to
		}
	}
	for _, e := range slices.Backward(f.present) {
		if e.from < want.to && want.to <= e.to {
			want.to = e.from
		}
	}
	g := extent{want.from / Block * Block, min((want.to+Block-1)/Block*Block, f.size)}
	for _, e := range f.present { // what is there before and after is not fetched again
		if e.from <= g.from && g.from < e.to && e.to <= want.from {
			g.from = e.to
		}
		if want.to <= e.from && e.from < g.to && g.to <= e.to {
			g.to = e.from
		}
	}
	return g
}

// bring fetches one part.
func (f *File) bring(ctx context.Context, part extent) error {
	length := part.to - part.from
	f.requests++
	content, err := f.fetch(ctx, part.from, length)
	if err != nil {
		return err
	}
	defer func() { _ = content.Close() }() // it was only read
	n, err := io.Copy(scratch{io.NewOffsetWriter(f.file, part.from)}, io.LimitReader(content, length))
	f.fetched += n
	if err == nil && n < length {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("read %d bytes from %d: %w", length, part.from, err)
	}
	f.next = part.to
	f.add(part)
	return nil
}

// scratch tells failures to write from failures to fetch.
type scratch struct{ w io.Writer }

func (s scratch) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrScratch, err)
	}
	return n, err
}

// drop frees all disk that the file takes. Nobody reads it now: whoever does waits for Load.
func (f *File) drop() error {
	f.present = nil
	if err := errors.Join(f.file.Truncate(0), f.file.Truncate(f.size)); err != nil {
		return fmt.Errorf("%w: %w", ErrScratch, err)
	}
	return nil
}

// around is the present extent that holds all of want; of an empty one, what lies at its place.
func (f *File) around(want extent) (extent, bool) {
	for _, e := range f.present {
		if e.from <= want.from && want.to <= e.to {
			return e, true
		}
	}
	return want, want.from == want.to
}

// held is how many bytes of an extent are there.
func (f *File) held(of extent) (sum int64) {
	for _, e := range f.present {
		sum += max(0, min(e.to, of.to)-max(e.from, of.from))
	}
	return sum
}

// add notes that an extent is there.
func (f *File) add(e extent) {
	kept := make([]extent, 0, len(f.present)+1)
	for _, old := range f.present {
		if old.to < e.from || e.to < old.from {
			kept = append(kept, old)
		} else {
			e = extent{min(e.from, old.from), max(e.to, old.to)}
		}
	}
	kept = append(kept, e)
	slices.SortFunc(kept, func(a, b extent) int { return int(min(max(a.from-b.from, -1), 1)) })
	f.present = kept
}
