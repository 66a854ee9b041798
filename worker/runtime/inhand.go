package runtime

import (
	"context"
	"sync"

	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/flow"
	"github.com/reshelf/reshelf/shared/ledger"
)

// inHand are the executions of this process that may move something. The zero inHand has none.
type inHand struct {
	mu  sync.Mutex
	all map[executionID]bool
}

// executionID tells an execution from all others.
type executionID struct {
	batch.Ref
	epoch int64
}

func idOf(e ledger.Execution) executionID { return executionID{e.Ref, e.Epoch} }

// take notes an execution until the returned function is called.
func (h *inHand) take(e ledger.Execution) (release func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.all == nil {
		h.all = map[executionID]bool{}
	}
	h.all[idOf(e)] = true
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.all, idOf(e))
	}
}

func (h *inHand) has(e ledger.Execution) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.all[idOf(e)]
}

// ended reports whether an execution will certainly move nothing more, seen from process self. One of self that is not in hand could not
// write that it ended, since the ledger was away; it is written now, for the others that wait.
func (h *inHand) ended(ctx context.Context, led *ledger.Ledger, self ledger.Process, e ledger.Execution) (bool, error) {
	switch {
	case e.Process != self:
		return flow.Gone(e.Process)
	case h.has(e):
		return false, nil
	}
	return true, led.EndExecution(ctx, e)
}
