package finishing_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/report"
)

// copies makes the batch of a fixture one that copies. What was written of it stays.
func copies(f *fixture) *fixture {
	f.batch.Renaming.Method = batch.MethodCopy
	return f
}

func copied(from, to archive.Key) batch.Record {
	return batch.Record{Object: object(from, 100), Outcome: batch.Done, Copy: to}
}

// A batch that copies leaves every object at its key, and says where the copies are.
func TestCopies(t *testing.T) {
	f := copies(renameFixture(t))
	left := notDone("c", batch.Failed, batch.ReasonGroup)
	left.Copy = "new/c"
	f.part(batch.StepRename, 0, copied("z", "new/z"), copied("a", "new/a"))
	f.part(batch.StepRename, 1, left, notDone("conflict", batch.Failed, batch.ReasonConflict), notDone("d", batch.Skipped, batch.ReasonChanged))
	check(t, f.finish())
	r := f.result()
	if s := r.summary; s.Renamed != 0 || s.Copied != 3 || s.Method != batch.MethodCopy || s.Counts.Done != 2 || !strings.Contains(s.Closing(), "3 objects copied") {
		t.Errorf("renamed %d, copied %d (%q), counts %+v: %s", s.Renamed, s.Copied, s.Method, s.Counts, s.Closing())
	}
	got := map[archive.Key]archive.Key{}
	for i, fin := range r.finals {
		if fin.To != "" || r.rows[i].To != "" || r.rows[i].Copy != fin.Copy.Text() || report.CurrentKey(fin) != fin.Key {
			t.Errorf("%s is at %q: %q in the catalogue, its copy %q", fin.Key, fin.To, r.rows[i].To, r.rows[i].Copy)
		}
		if fin.Copy != "" {
			got[fin.Key] = fin.Copy
		}
	}
	if diff := cmp.Diff(map[archive.Key]archive.Key{"a": "new/a", "c": "new/c", "z": "new/z"}, got); diff != "" {
		t.Errorf("copies (-want +got):\n%s", diff)
	}
	read := func(_ context.Context, offset, n int64) ([]byte, error) { return r.names[offset:][:n], nil }
	for _, key := range []archive.Key{"a", "new/a", "new/c"} {
		if segments, err := report.FindName(t.Context(), int64(len(r.names)), read, key); err != nil || len(segments) != 1 {
			t.Errorf("segments of %s: %v, %v", key, segments, err)
		}
	}
	if !strings.Contains(r.text[report.PlanName], "a,new/a,done,") {
		t.Errorf("plan: %s", r.text[report.PlanName])
	}
}

// Records that do not fit how the batch gives names fail it loudly.
func TestCopiesThatDoNotFit(t *testing.T) {
	for name, spoil := range map[string]func(f *fixture, r *batch.Record){
		"renamed":      func(f *fixture, r *batch.Record) { copies(f); r.To, r.Copy = r.Copy, "" },
		"elsewhere":    func(f *fixture, r *batch.Record) { copies(f); r.Copy = "other" },
		"nowhere":      func(f *fixture, r *batch.Record) { copies(f); r.Copy = "" },
		"no copies":    func(*fixture, *batch.Record) {},
		"of none that": func(f *fixture, r *batch.Record) { copies(f); r.Key = "same" },
	} {
		f := renameFixture(t)
		r := copied("z", "new/z")
		spoil(f, &r)
		f.part(batch.StepRename, 0, r, copied("a", "new/a"))
		f.part(batch.StepRename, 1, notDone("c", batch.Failed, batch.ReasonConflict), notDone("conflict", batch.Failed, batch.ReasonConflict), notDone("d", batch.Skipped, batch.ReasonChanged))
		if err := f.finish(); !errors.Is(err, ledger.ErrCorrupt) {
			t.Errorf("%s: got %v, want %v", name, err, ledger.ErrCorrupt)
		}
	}
}
