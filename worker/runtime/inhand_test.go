package runtime_test

import (
	"testing"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/flow"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/store/memstore"
	"github.com/reshelf/reshelf/worker/runtime"
)

// An execution whose end could not be written, since the ledger was away, must not be waited for by its own process for ever.
func TestExecutionsOfThisProcess(t *testing.T) {
	led := ledger.New(memstore.New(archive.Root{}))
	self, err := flow.Self("w1")
	if err != nil {
		t.Fatal(err)
	}
	ref := batch.Ref{Batch: "01arz3ndektsv4rrffq69g5fav", Step: batch.StepRename, Generation: 1}
	e := ledger.Execution{Ref: ref, Epoch: 1, Process: self}
	if err := led.BeginExecution(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	take, ended := runtime.InHand()
	check := func(want bool, open int) {
		t.Helper()
		if is, err := ended(t.Context(), led, self, e); is != want || err != nil {
			t.Errorf("ended: %v, %v; want %v", is, err, want)
		}
		n := 0
		for _, err := range led.SegmentExecutions(t.Context(), ref) {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		if n != open {
			t.Errorf("%d executions are open, want %d", n, open)
		}
	}
	release := take(e)
	check(false, 1)
	release()
	check(true, 0)
}
