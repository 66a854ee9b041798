package finishing_test

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/report"
)

// TestNames: names of rows that were carried out or tried are found with their segments, and no others.
func TestNames(t *testing.T) {
	f := renameFixture(t)
	f.part(batch.StepRename, 0, moved("z", "new/z"), moved("a", "new/a"))
	f.part(batch.StepRename, 1,
		moved("c", ""), notDone("conflict", batch.Failed, batch.ReasonConflict), notDone("d", batch.Skipped, batch.ReasonChanged))
	check(t, f.finish())
	raw := f.result().names
	read := func(_ context.Context, offset, n int64) ([]byte, error) { return raw[offset:][:n], nil }
	want := map[archive.Key][]int{
		"a": {0}, "new/a": {0}, "z": {0}, "new/z": {0}, "c": {1}, "new/c": {1}, "conflict": {1}, "d": {1},
		"new/conflict": nil, "new/d": nil, "b": nil, "broken": nil, "same": nil,
	}
	got := map[archive.Key][]int{}
	for key := range want {
		var err error
		got[key], err = report.FindName(t.Context(), int64(len(raw)), read, key)
		check(t, err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("segments of names (-want +got):\n%s", diff)
	}
}

func TestNoNamesWhereNothingWasTried(t *testing.T) {
	f := renameFixture(t)
	f.cancel()
	check(t, f.finish())
	if r := f.result(); r.names != nil {
		t.Errorf("a report of a batch that renamed nothing has an index of names of %d bytes", len(r.names))
	}
}
