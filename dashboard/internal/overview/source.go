package overview

import (
	"context"
	"fmt"
	"time"

	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/queue"
)

const (
	// fresh is how long an overview is shown to everybody who asks.
	fresh = time.Second
	// liveWithin bounds what is waited for Redis.
	liveWithin = 5 * time.Second
)

// Source makes overviews, at most one a second, however many ask. It is safe for concurrent use.
type Source struct {
	live    *ledger.Live
	queues  *queue.Queues
	prefix  string
	durable *durable

	// turn is held by whoever makes an overview, and guards what follows.
	turn   chan struct{}
	last   *Overview
	liveAt time.Time // when Redis answered last
	inHand map[batch.ID]bool
	meters map[batch.ID]*meter
}

// New returns a source that reads the ledger led, its live half, and the queues of a prefix.
func New(led *ledger.Ledger, live *ledger.Live, queues *queue.Queues, prefix string) *Source {
	return &Source{
		live: live, queues: queues, prefix: prefix, durable: newDurable(led),
		turn: make(chan struct{}, 1), meters: map[batch.ID]*meter{},
	}
}

// Overview returns what was known at most a second ago. The only error is that of ctx: what cannot be read is among the
// overview's problems, and what was read of it last is shown in its place.
func (s *Source) Overview(ctx context.Context) (*Overview, error) {
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-s.turn }()
	if s.last == nil || time.Since(s.last.At) >= fresh {
		s.last = s.make(ctx)
	}
	return s.last, nil
}

// make does not end with ctx, since others wait for the same overview.
func (s *Source) make(ctx context.Context) *Overview {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), liveWithin)
	defer cancel()
	o := &Overview{At: time.Now()}
	err := s.readLive(ctx, o)
	if err == nil {
		s.liveAt = o.At
	} else {
		o = s.withoutLive(o.At, err)
	}
	s.durable.refresh(ctx, s.inHand, s.missingPlans(o))
	s.durable.fill(o)
	if err != nil {
		o.Adrift = nil // nobody knows
	}
	return o
}

// withoutLive is an overview with the live half of the last one.
func (s *Source) withoutLive(now time.Time, err error) *Overview {
	o := &Overview{At: now, Batches: []Batch{}, Workers: []Worker{}, Queues: []Queue{}}
	if s.liveAt.IsZero() {
		o.problem("Redis does not answer: %v", err)
		return o
	}
	*o = *s.last
	o.At, o.Problems = now, nil
	o.problem("Redis does not answer; batches in hand, workers and queues are those of %s UTC: %v", s.liveAt.UTC().Format(time.TimeOnly), err)
	return o
}

// missingPlans are the batches whose plan is to be read: those that have one, and are shown without.
func (s *Source) missingPlans(o *Overview) []batch.ID {
	var ids []batch.ID
	for _, b := range o.Batches {
		if b.planned && b.Plan == nil {
			ids = append(ids, b.ID)
		}
	}
	return ids
}

// problem adds a problem, MaxProblems at most.
func (o *Overview) problem(format string, args ...any) {
	if len(o.Problems) < MaxProblems {
		o.Problems = append(o.Problems, text(fmt.Sprintf(format, args...)))
	}
}

// Close ends the reading of the ledger, and waits for it until ctx ends.
func (s *Source) Close(ctx context.Context) error { return s.durable.close(ctx) }
