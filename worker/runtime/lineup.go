package runtime

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/ledger"
)

// lead is how far the others may get ahead of an object that takes long, in turns of as many as are worked on at once.
const lead = 4

// lineup adds records to a part in order, in whatever order they are made, so that the same objects give the same part.
// It holds only those between one that is still being made and the last one that was begun, and bounds how many these are.
// It is safe for concurrent use.
type lineup struct {
	room chan struct{} // one for each object that was begun and whose record is not in the part

	mu    sync.Mutex
	part  *ledger.PartWriter
	next  int
	ready map[int]batch.Record
}

func newLineup(part *ledger.PartWriter, room int) *lineup {
	return &lineup{room: make(chan struct{}, room), part: part, ready: map[int]batch.Record{}}
}

// enter waits until another object may be begun, and is an error when ctx ends.
func (l *lineup) enter(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	select {
	case l.room <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// put hands in the record of the object at a place: places are counted from 0 in order of enter, each used once.
func (l *lineup) put(place int, r batch.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ready[place] = r
	for {
		r, ok := l.ready[l.next]
		if !ok {
			return nil
		}
		if err := l.add(l.next, r); err != nil {
			return err
		}
		l.next++
	}
}

func (l *lineup) add(place int, r batch.Record) error {
	delete(l.ready, place)
	<-l.room
	return l.part.Add(r)
}

// rest adds, in order, the records that still wait for one that was never made. It is called when all work has ended.
func (l *lineup) rest() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, place := range slices.Sorted(maps.Keys(l.ready)) {
		if err := l.add(place, l.ready[place]); err != nil {
			return err
		}
	}
	return nil
}
