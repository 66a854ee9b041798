package ledger_test

import (
	"testing"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/store/memstore"
)

// An execution follows those of its segment that began before it, ended or not, and no others.
func TestRepeated(t *testing.T) {
	l := ledger.New(memstore.New(archive.Root{}))
	execution := func(segment int, epoch int64) ledger.Execution {
		ref := batch.Ref{Batch: "01arz3ndektsv4rrffq69g5fav", Step: batch.StepRename, Generation: 1, Segment: segment}
		return ledger.Execution{Ref: ref, Epoch: epoch}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	want := func(e ledger.Execution, want bool) {
		t.Helper()
		if got, err := l.Repeated(t.Context(), e); err != nil || got != want {
			t.Errorf("execution %d of segment %d is repeated: %t, %v; want %t", e.Epoch, e.Segment, got, err, want)
		}
	}
	must(l.EndExecution(t.Context(), execution(0, 1))) // it did not begin
	must(l.BeginExecution(t.Context(), execution(0, 9)))
	want(execution(0, 9), false)
	must(l.BeginExecution(t.Context(), execution(0, 10)))
	want(execution(0, 9), true)
	want(execution(0, 10), true)
	must(l.EndExecution(t.Context(), execution(0, 9)))
	want(execution(0, 10), true)
	want(execution(1, 10), false)
}
