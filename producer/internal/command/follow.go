package command

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/flow"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/store"
)

const (
	// lookEvery is the time between two looks at a batch: by a process that does the work itself, and by others.
	lookEvery      = 100 * time.Millisecond
	lookEveryFleet = 500 * time.Millisecond
	// patience is how long Redis or the ledger may fail before following ends.
	patience      = 5 * time.Second
	patienceFleet = 2 * time.Minute
)

// follower shows the progress of one batch.
type follower struct {
	app   *app
	desk  *desk
	batch batch.Batch
	every time.Duration
	plan  *batch.Plan // once it is sealed
	// failing since, and its last error; zero while all is well.
	failing time.Time
}

func (a *app) newFollower(d *desk, b batch.Batch) *follower {
	f := &follower{app: a, desk: d, batch: b, every: lookEvery}
	if d.fleet {
		f.every = lookEveryFleet
	}
	return f
}

// until shows progress until enough says that the status is what was waited for. It always ends when the batch is over or
// paused, and when nobody but a person can carry it on; with store.ErrNoSpace when the ledger is full.
func (f *follower) until(ctx context.Context, enough func(batch.Status) bool) (batch.Status, error) {
	tick := time.NewTicker(f.every)
	defer tick.Stop()
	for {
		status, ended, err := f.look(ctx, enough)
		if err != nil || ended {
			f.app.display.Clear()
			return status, err
		}
		select {
		case <-ctx.Done():
			f.app.display.Clear()
			return status, ctx.Err()
		case err := <-f.desk.full:
			f.app.display.Clear()
			return status, err
		case <-tick.C:
		}
	}
}

// look shows the progress once. What it says of the end it has from the ledger.
func (f *follower) look(ctx context.Context, enough func(batch.Status) bool) (batch.Status, bool, error) {
	p, err := f.desk.flow.Live().Progress(ctx, f.batch.ID)
	gone := errors.Is(err, ledger.ErrNotLive)
	if err != nil && !gone {
		return p.Status, false, f.bear(ctx, err)
	}
	if !gone && !f.ends(p.Status, enough) {
		f.failing = time.Time{}
		f.app.display.Show(stateOf(p, f.batch.Method(), f.plan))
		if err := f.learnPlan(ctx, p.Status); err != nil {
			return p.Status, false, f.bear(ctx, err)
		}
		return p.Status, false, nil
	}
	status, err := f.desk.ledger.Status(ctx, f.batch)
	if err != nil {
		return status, false, f.bear(ctx, err)
	}
	ended, err := f.certainly(ctx, status, enough)
	if err == nil && !ended && gone {
		err = f.desk.flow.Recover(ctx, f.batch.ID)
	}
	if err != nil {
		return status, false, f.bear(ctx, err)
	}
	f.failing = time.Time{}
	return status, ended, nil
}

func (f *follower) ends(s batch.Status, enough func(batch.Status) bool) bool {
	return s.State.Over() || s.Paused || s.State == batch.AwaitingApproval || enough(s)
}

// certainly reports whether the status ends following. A plan that was approved in advance goes on by itself.
func (f *follower) certainly(ctx context.Context, s batch.Status, enough func(batch.Status) bool) (bool, error) {
	if !f.ends(s, enough) {
		return false, nil
	}
	if s.State != batch.AwaitingApproval || s.Paused || enough(s) {
		return true, nil
	}
	if s.Cancelled {
		return false, nil
	}
	if f.batch.Renaming == nil || !f.batch.Renaming.Approved {
		return true, nil
	}
	p, _, err := f.desk.ledger.Plan(ctx, f.batch.ID)
	return len(flow.Blocked(f.batch, p)) > 0, err
}

// learnPlan reads the plan once, for the totals of renaming.
func (f *follower) learnPlan(ctx context.Context, s batch.Status) error {
	if f.plan != nil || s.State != batch.Renaming {
		return nil
	}
	p, _, err := f.desk.ledger.Plan(ctx, f.batch.ID)
	if errors.Is(err, store.ErrNotExist) {
		return nil
	}
	f.plan = &p
	return err
}

// bear says that something does not answer, and gives up when that has lasted too long.
func (f *follower) bear(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil // until says so
	}
	limit := patience
	if f.desk.fleet {
		limit = patienceFleet
	}
	now := time.Now()
	if f.failing.IsZero() {
		f.failing = now
		f.app.tell("warning: %v; trying again", err)
	}
	if now.Sub(f.failing) > limit {
		return fmt.Errorf("batch %s: %w", f.batch.ID, err)
	}
	return nil
}

// Conditions for until.
func whenOver(s batch.Status) bool { return s.State.Over() }

// whenPlanned: listing, inspecting and planning are behind, or the batch was cancelled.
func whenPlanned(s batch.Status) bool {
	return s.State != batch.Inspecting && s.State != batch.Planning
}
