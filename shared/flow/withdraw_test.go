package flow_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/reshelf/reshelf/shared/batch"
)

// TestWithdrawnPlanIsNeverApproved: whoever comes first, the approval or the withdrawal, the other one is refused.
func TestWithdrawnPlanIsNeverApproved(t *testing.T) {
	for range 5 {
		w := newWorld(t)
		b, digest := w.planned()
		var approved, withdrawn error
		var both sync.WaitGroup
		both.Go(func() { _, approved = w.flow.Decide(w.ctx(), id, batch.Event{Kind: batch.EventApprove, Plan: digest}) })
		both.Go(func() { withdrawn = w.newFlow().Withdraw(w.ctx(), id, "edited", "ada") })
		both.Wait()
		s := w.status()
		if (approved == nil) == (withdrawn == nil) {
			t.Fatalf("approve: %v, withdraw: %v", approved, withdrawn)
		}
		if loser := errors.Join(approved, withdrawn); !errors.Is(loser, batch.ErrTransition) {
			t.Errorf("the loser of the race got %v", loser)
		}
		if s.Cancelled != (withdrawn == nil) || s.Withdrawn() != s.Cancelled {
			t.Errorf("withdraw: %v, status %+v", withdrawn, s)
		}
		w.drain(b, batch.StepRename)
		w.drain(b, batch.StepFinish)
		if got := w.status(); withdrawn == nil && (got.State != batch.Cancelled || got.Approved != "") || withdrawn != nil && got.State != batch.Complete {
			t.Errorf("withdraw: %v; in the end %+v", withdrawn, got)
		}
		// Once more: what is withdrawn stays so, what was renamed is not cancelled.
		if err := w.flow.Withdraw(w.ctx(), id, "edited", "ada"); (err == nil) != (withdrawn == nil) {
			t.Errorf("withdraw once more: %v, the first time: %v", err, withdrawn)
		}
	}
}

func TestPlanThatIsNotThereYetIsNotWithdrawn(t *testing.T) {
	w := newWorld(t)
	b := w.submit(batch.Rename)
	w.list(b, 1)
	if err := w.flow.Withdraw(w.ctx(), id, "edited", "ada"); !errors.Is(err, batch.ErrTransition) || w.status().Cancelled {
		t.Errorf("withdraw: %v, %+v", err, w.status())
	}
}

// TestPlanIsWithdrawnOnce: of two that make something of one plan only one goes on, and none where somebody has dropped it.
func TestPlanIsWithdrawnOnce(t *testing.T) {
	w := newWorld(t)
	w.planned()
	var errs [2]error
	var both sync.WaitGroup
	for i := range errs {
		both.Go(func() { errs[i] = w.newFlow().Withdraw(w.ctx(), id, fmt.Sprint("edit ", i), "ada") })
	}
	both.Wait()
	if (errs[0] == nil) == (errs[1] == nil) || !errors.Is(errors.Join(errs[:]...), batch.ErrTransition) {
		t.Errorf("two withdrawals: %v", errs)
	}

	w = newWorld(t)
	w.planned()
	if _, err := w.flow.Decide(w.ctx(), id, batch.Event{Kind: batch.EventCancel, Reason: "no"}); err != nil {
		t.Fatal(err)
	}
	if err := w.flow.Withdraw(w.ctx(), id, "edited", "ada"); !errors.Is(err, batch.ErrTransition) {
		t.Errorf("withdraw what was cancelled: %v", err)
	}
}
