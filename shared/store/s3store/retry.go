package s3store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/reshelf/reshelf/shared/store"
)

const (
	// attemptFor bounds one attempt at a call that carries little.
	attemptFor = time.Minute
	// uploadFor bounds one attempt to send a part, and copyFor one to have the server copy one.
	uploadFor = 5 * time.Minute
	copyFor   = 15 * time.Minute

	firstWait = 50 * time.Millisecond
	longWait  = 5 * time.Second
)

// try calls do, which must be harmless to repeat, until it gives an answer: a store that fails or does not answer is asked
// again, for as long as the store's patience. Each attempt has a deadline of its own. Its error is one of minio-go's.
func (s *Store) try(ctx context.Context, limit time.Duration, do func(ctx context.Context) error) error {
	began, wait := time.Now(), firstWait
	for {
		err := s.once(ctx, limit, do)
		if err == nil || ctx.Err() != nil {
			return err
		}
		switch classify(err) {
		case classRetry, classSlow:
		default:
			return err
		}
		if time.Since(began)+wait > s.patient {
			return err
		}
		if err := sleep(ctx, wait/2+rand.N(wait/2)); err != nil {
			return err
		}
		wait = min(2*wait, longWait)
	}
}

// once makes one attempt: when the endpoint may be asked, within limit.
func (s *Store) once(ctx context.Context, limit time.Duration, do func(ctx context.Context) error) error {
	if err := s.pace.wait(ctx); err != nil {
		return err
	}
	attempt, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := do(attempt)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	s.pace.learn(err)
	return err
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// pace slows a whole process down where an endpoint asks for it. Safe for concurrent use.
type pace struct {
	mu      sync.Mutex
	until   time.Time     // no call before
	backoff time.Duration // the last wait; 0 while all is well
	slowed  int64         // how often the endpoint asked for it
	last    time.Time     // and when it did last
}

const (
	firstBackoff = 100 * time.Millisecond
	longBackoff  = 20 * time.Second
	// backoffOver is how long after the last "slow down" an endpoint counts as well again.
	backoffOver = 10 * time.Second
)

// wait returns when the endpoint may be asked.
func (p *pace) wait(ctx context.Context) error {
	for {
		p.mu.Lock()
		left := time.Until(p.until)
		p.mu.Unlock()
		if left <= 0 {
			return ctx.Err()
		}
		if err := sleep(ctx, left); err != nil {
			return err
		}
	}
}

// learn takes the outcome of a call: the waits double while the endpoint asks to slow down, and halve when it answers.
func (p *pace) learn(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	switch {
	case err != nil && classify(err) == classSlow:
		if now.After(p.until) { // calls that were under way together ask for one wait
			p.backoff = min(max(2*p.backoff, firstBackoff), longBackoff)
			p.until = now.Add(p.backoff/2 + rand.N(p.backoff/2))
		}
		p.slowed++
		p.last = now
	case err == nil && p.backoff > 0 && now.After(p.until):
		p.backoff /= 2
		if p.backoff < firstBackoff {
			p.backoff = 0
		}
	}
}

// state is nil while the endpoint does not ask to slow down.
func (p *pace) state() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if well := time.Since(p.last) > backoffOver && time.Since(p.until) > backoffOver; p.slowed == 0 || well {
		return nil
	}
	return fmt.Errorf("%w %d times, last %s ago; calls wait up to %s", errSlow, p.slowed, time.Since(p.last).Round(time.Second), p.backoff)
}

// errSlow: the endpoint asks for fewer calls. All of this process wait for it.
var errSlow = errors.New("asked to slow down")

// unavailable marks the error of a store that was asked again in vain.
func (s *Store) unavailable(err error) error {
	if err = convert(err); errors.Is(err, store.ErrUnavailable) {
		return fmt.Errorf("%s: %w", s.address, err)
	}
	return err
}
