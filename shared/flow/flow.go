// Package flow is the life of a batch: submit, claim, dispatch, settle, step over, reconcile, recover. Correctness lives here
// and nowhere else: the ledger says what is, Redis says what is in hand, asynq only carries.
//
// The rule behind every function: write to the ledger first, then tell Redis, and let the Reconciler repeat the second
// half until it has happened. All of it is idempotent, so any process may do it at any time, twice, or be killed between.
package flow

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/telemetry"
)

// Queue carries tasks. The queue package's Producer is one.
type Queue interface {
	// EnqueueAll enqueues tasks; one that is there already is no error. The span in ctx travels with them.
	EnqueueAll(ctx context.Context, pool string, priority batch.Priority, tasks []batch.Task) error
	// Waiting reports whether a task still waits in its queue, taken by nobody.
	Waiting(ctx context.Context, pool string, priority batch.Priority, t batch.Task) (bool, error)
}

// Flow moves batches along. It is safe for concurrent use and holds no state that matters.
type Flow struct {
	ledger *ledger.Ledger
	live   *ledger.Live
	queue  Queue
	log    *slog.Logger
	slots  atomic.Pointer[map[string]int] // free-standing snapshot: slots of each pool
	active atomic.Int64                   // batches in hand at the last look
}

// New returns the flow over a ledger, its live half and a queue.
func New(led *ledger.Ledger, live *ledger.Live, q Queue, log *slog.Logger) *Flow {
	return &Flow{ledger: led, live: live, queue: q, log: log}
}

// Ledger is the durable half.
func (f *Flow) Ledger() *ledger.Ledger { return f.ledger }

// Live is the half in Redis.
func (f *Flow) Live() *ledger.Live { return f.live }

// Submit writes a batch to the ledger, then announces it. A batch that is there already (same id) is announced again.
func (f *Flow) Submit(ctx context.Context, b batch.Batch) error {
	if err := f.live.Expect(ctx, b.ID); err != nil {
		return fmt.Errorf("submit: %w", err)
	}
	if err := f.ledger.CreateBatch(ctx, b); err != nil && !errors.Is(err, store.ErrExist) {
		return fmt.Errorf("submit: %w", err)
	}
	if err := f.live.Announce(ctx, b, b.Initial()); err != nil {
		return err
	}
	return f.Sync(ctx, b.ID)
}

// Decide records a decision and tells Redis. The event's number, version and time are set here. batch.ErrTransition says
// that it is not possible in the batch's state; nothing was changed then.
func (f *Flow) Decide(ctx context.Context, id batch.ID, e batch.Event) (batch.Status, error) {
	b, err := f.ledger.Batch(ctx, id)
	if err != nil {
		return batch.Status{}, err
	}
	if e.Kind == batch.EventApprove {
		if err := f.approvable(ctx, b, e.Plan); err != nil {
			return batch.Status{}, err
		}
	}
	s, err := f.record(ctx, b, e)
	if err != nil {
		return s, err
	}
	err = f.Sync(ctx, id)
	if errors.Is(err, ledger.ErrNotLive) {
		err = nil // whoever has the batch in hand reads the event from the ledger
	}
	return s, err
}

// ErrBlocked: the plan has conflicts that its policy refuses.
var ErrBlocked = errors.New("the plan has conflicts")

// ErrOtherPlan: the digest approved is not that of the sealed plan.
var ErrOtherPlan = errors.New("that is not the digest of the batch's plan")

func (f *Flow) approvable(ctx context.Context, b batch.Batch, digest string) error {
	p, sealed, err := f.ledger.Plan(ctx, b.ID)
	if err != nil {
		return fmt.Errorf("approve batch %s: %w", b.ID, err)
	}
	if digest != sealed {
		return fmt.Errorf("approve batch %s: %w: it is %s", b.ID, ErrOtherPlan, sealed)
	}
	if reasons := Blocked(b, p); len(reasons) > 0 {
		return fmt.Errorf("approve batch %s: %w: %v", b.ID, ErrBlocked, reasons)
	}
	return nil
}

// Blocked are the reasons for which a plan cannot be approved.
func Blocked(b batch.Batch, p batch.Plan) []batch.Reason {
	if b.Renaming == nil {
		return nil
	}
	return p.Summary.Blocked(b.Renaming.OnConflict)
}

// Withdraw cancels a batch whose plan awaits approval, so that it can never be approved again. Unlike the decision to cancel it
// reaches no batch whose plan was approved meanwhile, and none that somebody else has cancelled or withdrawn: that is
// batch.ErrTransition, as is a batch that has no plan yet. So of several that make something of one plan only one goes on. The
// reason tells them apart: what was withdrawn for the same one is withdrawn once more.
func (f *Flow) Withdraw(ctx context.Context, id batch.ID, reason, by string) error {
	b, err := f.ledger.Batch(ctx, id)
	if err != nil {
		return err
	}
	again := errors.New("withdrawn already")
	_, err = f.recordIf(ctx, b, batch.Event{Kind: batch.EventCancel, Reason: reason, By: by}, func(s batch.Status) error {
		switch {
		case s.Withdrawn() && s.Cancelled && s.Reason == reason:
			return again
		case s.State != batch.AwaitingApproval || s.Cancelled:
			return fmt.Errorf("withdraw the plan of batch %s: %w: it is %s", id, batch.ErrTransition, s)
		}
		return nil
	})
	if err != nil && !errors.Is(err, again) {
		return err
	}
	if err := f.Sync(ctx, id); err != nil && !errors.Is(err, ledger.ErrNotLive) { // then whoever has it in hand reads the event
		return err
	}
	return nil
}

// record appends e to the batch's events; the loser of a race decides anew on the winner's state.
func (f *Flow) record(ctx context.Context, b batch.Batch, e batch.Event) (batch.Status, error) {
	return f.recordIf(ctx, b, e, func(batch.Status) error { return nil })
}

// recordIf is record, if the state right before the event allows it.
func (f *Flow) recordIf(ctx context.Context, b batch.Batch, e batch.Event, allowed func(batch.Status) error) (batch.Status, error) {
	for {
		s, err := f.ledger.Status(ctx, b)
		if err == nil {
			err = allowed(s)
		}
		if err != nil {
			return s, err
		}
		e.N, e.At = s.Event+1, time.Now().UTC()
		next, err := s.Apply(e)
		if err != nil {
			return s, fmt.Errorf("batch %s: %w", b.ID, err)
		}
		err = f.ledger.CreateEvent(ctx, b.ID, e)
		if err == nil {
			f.log.InfoContext(ctx, "batch event", "batch", b.ID, "event", e.N, "kind", e.Kind, "state", next.String(), "reason", e.Reason)
			return next, nil
		}
		if !errors.Is(err, store.ErrExist) {
			return s, err
		}
	}
}

// Sync brings Redis up to the ledger's events and takes every step that is due: a step that is over leads to the next
// state, and segments that may be worked on are enqueued. ledger.ErrNotLive if Redis does not know the batch.
func (f *Flow) Sync(ctx context.Context, id batch.ID) error {
	b, err := f.ledger.Batch(ctx, id)
	if err != nil {
		return err
	}
	for {
		s, err := f.ledger.Status(ctx, b)
		if err != nil {
			return err
		}
		if s.State.Over() {
			return f.leave(ctx, b, s)
		}
		over, err := f.enter(ctx, b, s)
		if err != nil {
			return err
		}
		if over && s.Cancelled && s.State == batch.Renaming {
			if over, err = f.accounted(ctx, b); err != nil {
				return err
			}
		}
		e, due, err := f.next(ctx, b, s, over)
		if err != nil {
			return err
		}
		if !due {
			return f.Refill(ctx, b, s)
		}
		if _, err := f.record(ctx, b, e); err != nil && !errors.Is(err, batch.ErrTransition) {
			return err
		}
	}
}

func (f *Flow) leave(ctx context.Context, b batch.Batch, s batch.Status) error {
	if _, err := f.live.Apply(ctx, b.ID, s); err != nil && !errors.Is(err, ledger.ErrNotLive) {
		return err
	}
	return f.live.Forget(ctx, b)
}

// enter tells Redis the state and what it needs to begin it.
func (f *Flow) enter(ctx context.Context, b batch.Batch, s batch.Status) (over bool, err error) {
	if over, err = f.live.Apply(ctx, b.ID, s); err != nil || s.State != batch.Renaming {
		return over, err
	}
	p, _, err := f.ledger.Plan(ctx, b.ID)
	if err != nil {
		return false, err
	}
	return f.live.Seal(ctx, b.ID, batch.StepRename, len(p.Segments))
}

// accounted reports whether each segment that an execution began to rename has its part. One that has not is taken in hand
// again: Redis may have been lost, and with it who had claimed what before the batch was cancelled.
func (f *Flow) accounted(ctx context.Context, b batch.Batch) (bool, error) {
	all := true
	for n, err := range f.ledger.Begun(ctx, b.ID, batch.StepRename, 1) {
		if err != nil {
			return false, err
		}
		ref := batch.Ref{Batch: b.ID, Step: batch.StepRename, Generation: 1, Segment: n}
		_, err := f.ledger.PartHeader(ctx, ref)
		if err == nil {
			continue
		}
		if !errors.Is(err, store.ErrNotExist) {
			return false, err
		}
		if err := f.live.Revive(ctx, ref); err != nil {
			return false, err
		}
		all = false
	}
	return all, nil
}

// next is the event that is due, if any.
func (f *Flow) next(ctx context.Context, b batch.Batch, s batch.Status, over bool) (batch.Event, bool, error) {
	advance := func(to batch.State) (batch.Event, bool, error) {
		return batch.Event{Kind: batch.EventAdvance, To: to, By: "flow"}, true, nil
	}
	switch {
	case s.State == batch.AwaitingApproval && s.Cancelled:
		return advance(batch.Finishing)
	case s.State == batch.AwaitingApproval:
		return f.autoApprove(ctx, b, s)
	case !over:
		return batch.Event{}, false, nil
	case s.State == batch.Finishing && s.Cancelled:
		return advance(batch.Cancelled)
	case s.State == batch.Finishing:
		return advance(batch.Complete)
	case s.Cancelled || s.State == batch.Renaming || s.State == batch.Inspecting && b.Kind == batch.Inspect:
		return advance(batch.Finishing)
	case s.State == batch.Inspecting:
		return advance(batch.Planning)
	}
	p, _, err := f.ledger.Plan(ctx, b.ID)
	if err != nil {
		return batch.Event{}, false, err
	}
	if p.Summary.Moves == 0 && len(Blocked(b, p)) == 0 {
		return advance(batch.Finishing)
	}
	return advance(batch.AwaitingApproval)
}

// autoApprove approves a plan that was approved in advance, if nothing stops it.
func (f *Flow) autoApprove(ctx context.Context, b batch.Batch, s batch.Status) (batch.Event, bool, error) {
	if b.Renaming == nil || !b.Renaming.Approved || s.Paused {
		return batch.Event{}, false, nil
	}
	p, digest, err := f.ledger.Plan(ctx, b.ID)
	if err != nil || len(Blocked(b, p)) > 0 {
		return batch.Event{}, false, err
	}
	return batch.Event{Kind: batch.EventApprove, Plan: digest, By: "submission"}, true, nil
}

// Refill enqueues what may be worked on, within the batch's share of the pool's slots.
func (f *Flow) Refill(ctx context.Context, b batch.Batch, s batch.Status) error {
	steps := []batch.Step{s.State.Step()}
	if s.State == batch.Inspecting {
		steps = []batch.Step{batch.StepList, batch.StepInspect}
	}
	for _, step := range steps {
		if step == "" {
			continue
		}
		tasks, err := f.live.Dispatch(ctx, b.ID, step, 1, f.room(b.Pool))
		if err != nil {
			return err
		}
		if len(tasks) == 0 {
			continue
		}
		if err := f.queue.EnqueueAll(telemetry.WithTraceparent(ctx, b.Traceparent), b.Pool, s.Priority, tasks); err != nil {
			return fmt.Errorf("enqueue %d tasks of batch %s: %w", len(tasks), b.ID, err)
		}
	}
	return nil
}

// refill is Refill without a known status, after a segment has settled.
func (f *Flow) refill(ctx context.Context, b batch.Batch) error {
	p, err := f.live.Head(ctx, b.ID)
	if err != nil {
		return err
	}
	return f.Refill(ctx, b, p)
}

// room is a batch's share of its pool: twice the pool's slots, so that nobody waits for a refill, divided among the
// batches in hand.
func (f *Flow) room(pool string) int {
	slots := 0
	if m := f.slots.Load(); m != nil {
		slots = (*m)[pool]
	}
	batches := max(1, int(f.active.Load()))
	return max(2, (2*slots+batches-1)/batches)
}

// Observe refreshes what Refill knows of the pools. Somebody calls it every few seconds.
func (f *Flow) Observe(ctx context.Context) error {
	workers, err := f.live.Workers(ctx)
	if err != nil {
		return err
	}
	active, err := f.live.Active(ctx)
	if err != nil {
		return err
	}
	slots := map[string]int{}
	for _, w := range workers {
		if w.Silent > staleAfter {
			continue
		}
		for _, p := range w.Pools {
			slots[p] += w.Slots
		}
	}
	f.slots.Store(&slots)
	f.active.Store(int64(len(active)))
	return nil
}

// ErrNoWorker: no live worker of the pool can reach the archive.
var ErrNoWorker = errors.New("no worker serves it")

// Served reports nil if a live worker of the batch's pool may touch its archive, else an error that says what is missing.
func (f *Flow) Served(ctx context.Context, b batch.Batch) error {
	workers, err := f.live.Workers(ctx)
	if err != nil {
		return err
	}
	pools := []string{}
	for _, w := range workers {
		if w.Silent > staleAfter {
			continue
		}
		if slices.Contains(w.Pools, b.Pool) && w.Reaches(b.Archive) {
			return nil
		}
		pools = append(pools, fmt.Sprintf("%s (pools %v, roots %v)", w.ID, w.Pools, w.Roots))
	}
	if len(pools) == 0 {
		return fmt.Errorf("archive %s, pool %s: %w: no worker is alive", b.Archive, b.Pool, ErrNoWorker)
	}
	return fmt.Errorf("archive %s, pool %s: %w: alive are %v", b.Archive, b.Pool, ErrNoWorker, pools)
}

// Settle counts a segment's part and takes the step that is due.
func (f *Flow) Settle(ctx context.Context, b batch.Batch, h ledger.Header) error {
	over, err := f.live.Settle(ctx, h.Ref, h.Counts)
	if err != nil {
		return err
	}
	if over {
		return f.Sync(ctx, b.ID)
	}
	return f.refill(ctx, b)
}

// Made announces a new segment of the inspect step and enqueues what fits.
func (f *Flow) Made(ctx context.Context, b batch.Batch, h ledger.Header) error {
	if err := f.live.Grow(ctx, h); err != nil {
		return err
	}
	return f.refill(ctx, b)
}

// Sealed announces that the inspect step has total segments.
func (f *Flow) Sealed(ctx context.Context, b batch.Batch, total int) error {
	over, err := f.live.Seal(ctx, b.ID, batch.StepInspect, total)
	if err != nil || !over {
		return err
	}
	return f.Sync(ctx, b.ID)
}

// Previous is the number of objects that the last batch over the same whole archive found, 0 if there was none: an archive
// that is suddenly empty is not believed. Only the newest hundred batches are looked at.
func (f *Flow) Previous(ctx context.Context, b batch.Batch) (int64, error) {
	ids, err := f.ledger.Newest(ctx, 100)
	if err != nil {
		return 0, err
	}
	for _, id := range ids {
		earlier, err := f.ledger.Batch(ctx, id)
		if err != nil {
			return 0, err
		}
		if id >= b.ID || earlier.Archive != b.Archive || earlier.Manifest || !earlier.Kind.Has(batch.StepInspect) {
			continue
		}
		h, err := f.ledger.SegmentHeader(ctx, batch.Ref{Batch: id, Step: batch.StepInspect, Generation: 1})
		if errors.Is(err, store.ErrNotExist) {
			continue
		}
		return h.Objects, err
	}
	return 0, nil
}
