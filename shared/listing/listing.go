// Package listing is the list step: it turns an archive, or a manifest, into the immutable segments of the inspect step.
//
// # Protocol
//
// Segment n of a batch begins strictly after the last key of segment n-1 and is created if absent. A lister whose creation
// is lost to another (a twin whose claim lapsed, or a predecessor that died) adopts the segment that is there: it forgets
// what it has listed and goes on strictly after the last key of the last segment that exists. There is no cursor besides.
//
// The end of the list is decided in the same way. The last segment says that it is the last (Segment.End), so no lister
// can append to a list that another one has ended, and the seal only repeats what the segments say. That is why an empty
// archive, and a listing that was cancelled, end in a segment without objects.
//
// So whatever number of listers run, at whatever point they die, however each of them cuts, and even if the archive
// changes between them, there is one list: strictly ascending by key, without gaps.
package listing

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/store"
)

// Hold is the claim under which work is done.
type Hold interface {
	// Held is nil while the claim is certainly held; else the lister stops at once.
	Held() error
	// Cancelled: the batch was cancelled. The lister ends the list where it is.
	Cancelled() bool
	// Advance tells of progress since the last call. List calls it for each entry, from one goroutine.
	Advance(objects, bytes int64)
}

// Options say how the list is cut; the zero value works. Listers of one batch may have different ones.
type Options struct {
	// Objects bounds a segment. Defaults to 1,000.
	Objects int
	// Bytes bounds a segment by the sum of its objects' sizes; a larger object is a segment of its own. Defaults to 1 GiB.
	Bytes int64
	// Parallel is about how many segments the tail of the list gives: the lister holds back the last objects, a quarter of
	// Parallel full segments, and cuts them finer, so that a small archive still keeps several workers busy. Defaults to 16.
	Parallel int
	// Previous is the number of objects that the last batch found in this archive. Where it is above 0, a listing that
	// finds nothing is store.ErrUnavailable.
	Previous int64
}

// Both bounds of a segment double every growEvery segments, so that a batch has at most a million of them: a million
// segments hold 10^11 objects or 100 PiB at the default bounds. Memory grows with a segment, which is still at 2,000
// objects after 100 million. The growth need not be the same in two listers, since each adopts what the other made.
const (
	growEvery = 100_000
	maxGrowth = 10 // doublings
)

// The step that List makes segments of.
const (
	step       = batch.StepInspect
	generation = 1
)

// errLost: another lister made the segment first.
var errLost = errors.New("another lister was first")

// List makes the segments of step inspect, generation 1, of batch b from the archive st, or from the manifest that Spool
// stored if b.Manifest is set, and seals the step. It calls made for each segment in order, whoever made it and when, and
// returns the number of segments. Memory is bounded by the tail that is held back.
//
// List may be repeated, run twice at once and be killed at any point (see the package comment). An error leaves the
// step unsealed; store.ErrUnavailable among them means that the archive is missing, or empty where it should not be.
func List(ctx context.Context, hold Hold, led *ledger.Ledger, st store.Store, b batch.Batch, opts Options,
	made func(context.Context, ledger.Header) error,
) (total int, err error) {
	l, err := newLister(hold, led, st, b, opts, made)
	if err != nil {
		return 0, err
	}
	for !l.ended {
		err := l.adopt(ctx)
		if err == nil && !l.ended {
			err = l.extend(ctx)
		}
		if err != nil && !errors.Is(err, errLost) {
			return l.next, fmt.Errorf("list %s: %w", b.Archive, err)
		}
	}
	if err := hold.Held(); err != nil {
		return l.next, err
	}
	return l.next, led.Seal(ctx, b.ID, step, generation, l.next)
}

type lister struct {
	hold   Hold
	ledger *ledger.Ledger
	store  store.Store
	batch  batch.Batch
	opts   Options
	made   func(context.Context, ledger.Header) error
	filter *Filter

	next  int         // number of the next segment
	last  archive.Key // of the segments before it
	ended bool
	tail  tail
}

func newLister(hold Hold, led *ledger.Ledger, st store.Store, b batch.Batch, opts Options,
	made func(context.Context, ledger.Header) error,
) (*lister, error) {
	filter, err := Compile(b.Filter)
	if err != nil {
		return nil, err
	}
	opts.Objects = min(max(1, cmp.Or(opts.Objects, 1000)), 1_000_000)
	opts.Bytes = min(max(1, cmp.Or(opts.Bytes, 1<<30)), 1<<50)
	opts.Parallel = min(max(1, cmp.Or(opts.Parallel, 16)), 1000)
	return &lister{hold: hold, ledger: led, store: st, batch: b, opts: opts, made: made, filter: filter}, nil
}

func (l *lister) ref(n int) batch.Ref {
	return batch.Ref{Batch: l.batch.ID, Step: step, Generation: generation, Segment: n}
}

// adopt takes over all segments that exist from l.next on.
func (l *lister) adopt(ctx context.Context) error {
	if l.next == 0 {
		if err := l.adoptCounted(ctx); err != nil {
			return err
		}
	}
	for !l.ended {
		h, err := l.ledger.SegmentHeader(ctx, l.ref(l.next))
		if errors.Is(err, store.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := l.take(ctx, h); err != nil {
			return err
		}
	}
	return nil
}

// headersAtOnce bounds how many headers are read at once when a list is resumed.
const headersAtOnce = 16

// adoptCounted takes over the segments that a listing of the ledger shows, reading ahead: there may be a million.
func (l *lister) adoptCounted(ctx context.Context) error {
	n, err := l.ledger.Segments(ctx, l.batch.ID, step, generation)
	if err != nil {
		return err
	}
	refs := func(yield func(batch.Ref, error) bool) {
		for i := range n {
			if !yield(l.ref(i), nil) {
				return
			}
		}
	}
	for h, err := range ordered(ctx, refs, headersAtOnce, l.ledger.SegmentHeader) {
		if errors.Is(err, store.ErrNotExist) {
			return fmt.Errorf("segment %d of %d is gone: %w", l.next, n, ledger.ErrCorrupt)
		}
		if err != nil {
			return err
		}
		if l.ended {
			return fmt.Errorf("segment %s follows the last one: %w", h.Ref, ledger.ErrCorrupt)
		}
		if err := l.take(ctx, h); err != nil {
			return err
		}
	}
	return nil
}

// take moves on past segment l.next, whose header is h.
func (l *lister) take(ctx context.Context, h ledger.Header) error {
	if h.Objects > 0 && h.Last <= l.last || h.Objects == 0 && !h.End {
		return fmt.Errorf("segment %s ends at %q, not after %q: %w", h.Ref, h.Last.Text(), l.last.Text(), ledger.ErrCorrupt)
	}
	if err := l.made(ctx, h); err != nil {
		return err
	}
	l.next++
	l.last = max(l.last, h.Last)
	l.ended = h.End
	return nil
}

// extend lists strictly after l.last and makes segments until the end, or until it loses one (errLost).
func (l *lister) extend(ctx context.Context) error {
	l.tail = tail{}
	for f, err := range l.source(ctx) {
		if err != nil {
			return err
		}
		if l.hold.Cancelled() {
			return l.create(ctx, batch.Segment{End: true})
		}
		if l.tail.add(f, l.limit().bytes) {
			l.hold.Advance(1, 0)
		} else {
			l.hold.Advance(0, 0)
		}
		for l.tail.fullerThan(l.heldBack().plus(l.limit())) {
			if err := l.create(ctx, l.tail.cut(l.limit())); err != nil {
				return err
			}
		}
	}
	if l.hold.Cancelled() {
		return l.create(ctx, batch.Segment{End: true})
	}
	return l.finish(ctx)
}

func (l *lister) source(ctx context.Context) found {
	if l.batch.Manifest {
		return l.manifest(ctx)
	}
	return l.walk(ctx)
}

// limit is the bound of the next segment.
func (l *lister) limit() bound {
	growth := min(l.next/growEvery, maxGrowth)
	return bound{l.opts.Objects << growth, l.opts.Bytes << growth}
}

// heldBack bounds the tail that is not cut before the end of the list is known. It is never nothing, so that there is an
// object left for the last segment.
func (l *lister) heldBack() bound {
	return bound{max(1, l.opts.Objects*l.opts.Parallel/4), max(1, l.opts.Bytes/4*int64(l.opts.Parallel))}
}

// finish cuts the tail into about Parallel segments, of which the last one ends the list.
func (l *lister) finish(ctx context.Context) error {
	if l.next == 0 && l.tail.len() == 0 && l.opts.Previous > 0 {
		return fmt.Errorf("%w: it is empty (%d files or folders excluded), but the last batch found %d objects in it; "+
			"check that it is mounted", store.ErrUnavailable, l.tail.excluded, l.opts.Previous)
	}
	piece := l.tail.piece(l.opts.Parallel).atMost(l.limit())
	for !l.ended {
		seg := l.tail.cut(piece)
		if l.tail.len() == 0 {
			seg.Excluded += l.tail.excluded
			seg.End = true
		}
		if err := l.create(ctx, seg); err != nil {
			return err
		}
	}
	return nil
}

// create makes segment l.next: errLost if another lister did.
func (l *lister) create(ctx context.Context, seg batch.Segment) error {
	if err := l.confirmMissing(ctx, seg); err != nil {
		return err
	}
	if err := l.hold.Held(); err != nil {
		return err
	}
	h, err := l.ledger.CreateSegment(ctx, l.ref(l.next), seg)
	if errors.Is(err, store.ErrExist) {
		return errLost
	}
	if err != nil {
		return err
	}
	return l.take(ctx, h)
}
