package exiftool

import (
	"context"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/reshelf/reshelf/shared/batch"
)

// slot is the right to read one file at a time, with the keepers that were used in it before: one for each level. Two reads share
// a slot: while one has its turn, the other announces its file, so that ExifTool goes from one file to the next.
type slot struct {
	reads     int                       // that share it; guarded by Pool.mu
	instances map[batch.Level]*instance // used by the read that has its turn, and by the pool while there are no reads

	mu      sync.Mutex
	taken   bool          // a read has its turn
	waiter  chan struct{} // of the other read, closed when it gets its turn; nil if there is none
	reading *instance     // whose keeper knows the file of the read that has its turn, and may be told of the next
	level   batch.Level   // of reading
}

// readsPerSlot is how many reads share a slot.
const readsPerSlot = 2

// takeTurn waits until the read may use the slot's keepers. While it waits it announces its file, if announce is not nil, to the
// keeper that will read it; the request is nil where none was told.
func (s *slot) takeTurn(ctx context.Context, level batch.Level, announce func(*instance) (*request, error)) (*request, error) {
	s.mu.Lock()
	if !s.taken {
		s.taken = true
		s.mu.Unlock()
		return nil, nil
	}
	given := make(chan struct{})
	s.waiter = given
	var r *request
	if s.reading != nil && s.level == level && announce != nil {
		r, _ = announce(s.reading) // where it fails it is announced again, by try, whose error counts
	}
	s.mu.Unlock()
	select {
	case <-given:
		return r, nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	waits := s.waiter == given
	if waits {
		s.waiter = nil
	}
	s.mu.Unlock()
	if !waits {
		s.endTurn()
	}
	return nil, ctx.Err()
}

// endTurn gives the turn to the other read, if there is one.
func (s *slot) endTurn() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reading = nil
	if s.waiter == nil {
		s.taken = false
		return
	}
	close(s.waiter)
	s.waiter = nil
}

// known is called by the read that has its turn when i's keeper knows its file and may be told of the next one; nil when it may not.
func (s *slot) known(i *instance, level batch.Level) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reading, s.level = i, level
}

// newWaits makes the histogram of the time that reads wait for a slot.
func newWaits(meter metric.Meter) (metric.Float64Histogram, error) {
	return meter.Float64Histogram("reshelf.exiftool.wait", metric.WithUnit("s"),
		metric.WithDescription("How long reading the tags of a file waited for a free ExifTool process."),
		metric.WithExplicitBucketBoundaries(.0001, .001, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300))
}

// acquire waits for a place in a slot and takes, of those with the fewest reads, the one used last that has a keeper for level; so
// what is not needed is left idle.
func (p *Pool) acquire(ctx context.Context, level batch.Level) (*slot, error) {
	select {
	case <-p.closing:
		return nil, ErrClosed
	default:
	}
	select {
	case <-p.places:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-p.closing:
		return nil, ErrClosed
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	best := len(p.slots) - 1
	for n := best - 1; n >= 0; n-- {
		one, other := p.slots[n], p.slots[best]
		if one.reads < other.reads || one.reads == 0 && other.reads == 0 && one.instances[level] != nil && other.instances[level] == nil {
			best = n
		}
	}
	s := p.slots[best]
	s.reads++
	return s, nil
}

func (p *Pool) release(s *slot) {
	p.mu.Lock()
	s.reads--
	at := slices.Index(p.slots, s)
	p.slots = append(slices.Delete(p.slots, at, at+1), s)
	p.sweepLater()
	p.mu.Unlock()
	p.places <- struct{}{}
}

// sweeper ends keepers that have nothing to do. Its fields are guarded by Pool.mu.
type sweeper struct {
	timer   *time.Timer // nil while no sweep is due
	stopped bool
	sweeps  sync.WaitGroup // those that are due or under way
}

// sweepLater sees to it that keepers which run now are looked at again. The caller holds p.mu.
func (p *Pool) sweepLater() {
	w := &p.sweeper
	if w.timer != nil || w.stopped || len(p.running) == 0 {
		return
	}
	w.sweeps.Add(1)
	w.timer = time.AfterFunc(p.options.IdleAfter/2, p.sweep)
}

// sweep ends the keepers that have been idle for too long.
func (p *Pool) sweep() {
	defer p.sweeper.sweeps.Done()
	p.mu.Lock()
	var idle []*instance
	for _, s := range p.slots {
		if s.reads == 0 {
			idle = append(idle, s.idle(p.options.IdleAfter)...)
		}
	}
	p.sweeper.timer = nil
	p.mu.Unlock()
	for _, i := range idle {
		p.end(i)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sweepLater()
}

// idle takes the instances out of a slot without reads that have read nothing for so long.
func (s *slot) idle(after time.Duration) (idle []*instance) {
	for level, i := range s.instances {
		if time.Since(i.used) >= after {
			delete(s.instances, level)
			idle = append(idle, i)
		}
	}
	return idle
}

// stopSweeping waits for a sweep that is under way and prevents others.
func (p *Pool) stopSweeping() {
	p.mu.Lock()
	w := &p.sweeper
	w.stopped = true
	if w.timer != nil && w.timer.Stop() {
		w.timer = nil
		w.sweeps.Done()
	}
	p.mu.Unlock()
	w.sweeps.Wait()
}
