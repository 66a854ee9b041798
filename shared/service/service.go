// Package service runs the parts of a program: it starts them in order, waits, and stops them in the reverse order, each
// within its own limit of time and with a line in the log. Its flags can be set by variables, too.
package service

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"
)

var (
	// ErrOverran is wrapped for each part that did not stop in time. Whatever it was doing goes on without owner.
	ErrOverran = errors.New("did not stop in time")
	// ErrEnded is the failure of a part that ended by itself without saying why.
	ErrEnded = errors.New("ended by itself")
)

const (
	defaultStopWithin = 10 * time.Second
	// overrun is how much longer than its limit a part may take: the time to come back after its context has ended.
	overrun = time.Second
)

// Part is one phase of a program's start and shutdown.
type Part struct {
	// Name is for the log, "consumer".
	Name string
	// Start returns as soon as the part works. Its context ends when the program is told to stop, and must not be the
	// one the part lives by: that ends in Stop. Nil if there is nothing to start.
	Start func(ctx context.Context) error
	// Stop returns when the part has ended. Its context is fresh and ends after StopWithin. Nil if there is nothing to
	// stop. It is not called if Start failed.
	Stop func(ctx context.Context) error
	// StopWithin defaults to 10 s.
	StopWithin time.Duration
	// Failed yields an error when the part has failed after its start, which stops the program. Nil if it cannot.
	Failed <-chan error
}

// Run starts the parts in order and then waits until ctx ends or a part fails. Either way, and also when a part cannot
// start, it stops the parts that were started, in reverse order. A part that does not stop in time is reported and left
// behind, so Run returns at the latest a second for each part after the sum of their StopWithin. The error is nil if ctx
// ended and all parts stopped well; otherwise it joins what went wrong, each with the part's name.
func Run(ctx context.Context, log *slog.Logger, parts ...Part) error {
	began := time.Now()
	started, err := start(ctx, log, parts)
	if err == nil && ctx.Err() == nil {
		log.Info("running", "took", time.Since(began))
		err = wait(ctx, started)
	}
	if err != nil {
		log.Error("stopping", "because", err)
	} else {
		log.Info("stopping", "because", context.Cause(ctx))
	}
	began = time.Now()
	errs := []error{err}
	for _, p := range slices.Backward(started) {
		errs = append(errs, stop(context.WithoutCancel(ctx), log, p))
	}
	log.Info("all stopped", "took", time.Since(began))
	return errors.Join(errs...)
}

// start returns the parts that were started. It ends early, without error, when ctx ends.
func start(ctx context.Context, log *slog.Logger, parts []Part) ([]Part, error) {
	for i, p := range parts {
		if ctx.Err() != nil {
			return parts[:i], nil
		}
		began := time.Now()
		if p.Start != nil {
			if err := p.Start(ctx); err != nil && ctx.Err() != nil {
				return parts[:i], nil
			} else if err != nil {
				return parts[:i], fmt.Errorf("start %s: %w", p.Name, err)
			}
		}
		log.Info("started", "part", p.Name, "took", time.Since(began))
	}
	return parts, nil
}

// wait returns the first failure of a part, nil when ctx ends first.
func wait(ctx context.Context, parts []Part) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	first := make(chan error, len(parts))
	var watchers sync.WaitGroup
	for _, p := range parts {
		if p.Failed == nil {
			continue
		}
		watchers.Go(func() {
			select {
			case err := <-p.Failed:
				first <- fmt.Errorf("%s: %w", p.Name, cmp.Or(err, ErrEnded))
			case <-ctx.Done():
			}
		})
	}
	defer watchers.Wait()
	defer cancel()
	select {
	case err := <-first:
		return err
	case <-ctx.Done():
		return nil
	}
}

func stop(ctx context.Context, log *slog.Logger, p Part) error {
	if p.Stop == nil {
		return nil
	}
	within := cmp.Or(p.StopWithin, defaultStopWithin)
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- p.Stop(ctx) }()
	limit := time.NewTimer(within + overrun)
	defer limit.Stop()
	select {
	case err := <-done:
		took := time.Since(began)
		if err != nil {
			log.Error("stopped badly", "part", p.Name, "took", took, "error", err)
			return fmt.Errorf("stop %s: %w", p.Name, err)
		}
		log.Info("stopped", "part", p.Name, "took", took)
		return nil
	case <-limit.C:
		log.Error("did not stop in time, going on without it", "part", p.Name, "limit", within)
		return fmt.Errorf("stop %s: %w: %v", p.Name, ErrOverran, within)
	}
}

// Background is a part that is one goroutine: run, which ends soon after its context. A return before that is a failure
// of the part, whatever the error.
func Background(name string, stopWithin time.Duration, run func(ctx context.Context) error) Part {
	failed, done := make(chan error, 1), make(chan struct{})
	var cancel context.CancelFunc
	var result error
	return Part{
		Name: name, StopWithin: stopWithin, Failed: failed,
		Start: func(ctx context.Context) error {
			ctx, cancel = context.WithCancel(context.WithoutCancel(ctx))
			go func() {
				defer close(done)
				err := run(ctx)
				if ctx.Err() == nil {
					failed <- err
				} else if !errors.Is(err, context.Canceled) {
					result = err
				}
			}()
			return nil
		},
		Stop: func(ctx context.Context) error {
			cancel()
			select {
			case <-done:
				return result
			case <-ctx.Done():
				return ctx.Err()
			}
		},
	}
}
