package finishing_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/report"
	"github.com/reshelf/reshelf/shared/store"
)

// TestRecordsThatDoNotCover has everything that can be wrong with records; none of it may end in a report.
func TestRecordsThatDoNotCover(t *testing.T) {
	inspected := func(t *testing.T, f *fixture) {
		f.segment(0, listed("a", "b")...)
		f.part(batch.StepInspect, 0, done(t, "a", 100, 1), done(t, "b", 100, 2))
		f.seal(batch.StepInspect, 1)
	}
	move := []batch.Row{{N: 0, From: "a", To: "x/a"}, {N: 1, From: "b", To: "x/b"}}
	for _, c := range []struct {
		name string
		kind batch.Kind
		make func(t *testing.T, f *fixture)
		want []string // parts of the error
	}{
		{"record missing", batch.Inspect, func(t *testing.T, f *fixture) {
			f.segment(0, listed("a", "b")...)
			f.part(batch.StepInspect, 0, done(t, "a", 100, 1))
			f.seal(batch.StepInspect, 1)
		}, []string{"inspect/1/0", "b: has no record"}},
		{"record double", batch.Inspect, func(t *testing.T, f *fixture) {
			f.segment(0, listed("a", "b")...)
			f.part(batch.StepInspect, 0, done(t, "a", 100, 1), done(t, "b", 100, 1), done(t, "a", 100, 1))
			f.seal(batch.StepInspect, 1)
		}, []string{"inspect/1/0", "a: has two records"}},
		{"record of an unknown object", batch.Inspect, func(t *testing.T, f *fixture) {
			f.segment(0, listed("a")...)
			f.part(batch.StepInspect, 0, done(t, "a", 100, 1), done(t, "b\xff", 100, 1))
			f.seal(batch.StepInspect, 1)
		}, []string{"inspect/1/0", `b\xff: has a record and is not in the segment`}},
		{"record in the part of another segment", batch.Inspect, func(t *testing.T, f *fixture) {
			f.segment(0, listed("a")...)
			f.segment(1, listed("b")...)
			f.part(batch.StepInspect, 0, done(t, "a", 100, 1), done(t, "b", 100, 1))
			f.part(batch.StepInspect, 1)
			f.seal(batch.StepInspect, 2)
		}, []string{"inspect/1/0", "b: has a record"}},
		{"unknown outcome", batch.Inspect, func(t *testing.T, f *fixture) {
			f.segment(0, listed("a")...)
			f.part(batch.StepInspect, 0, batch.Record{Object: object("a", 1), Outcome: "maybe"})
			f.seal(batch.StepInspect, 1)
		}, []string{"inspect/1/0", "a: ", "maybe"}},
		{"part missing", batch.Inspect, func(t *testing.T, f *fixture) {
			f.segment(0, listed("a")...)
			f.seal(batch.StepInspect, 1)
		}, []string{"inspect/1/0", "has no records"}},
		{"segment missing", batch.Inspect, func(t *testing.T, f *fixture) { f.seal(batch.StepInspect, 1) }, []string{"inspect/1/0", "is missing"}},
		{"listing not sealed", batch.Inspect, func(*testing.T, *fixture) {}, []string{"not sealed"}},
		{"object listed twice", batch.Inspect, func(t *testing.T, f *fixture) {
			f.segment(0, listed("a", "b")...)
			f.segment(1, listed("b")...)
			f.part(batch.StepInspect, 0, done(t, "a", 100, 1), done(t, "b", 100, 2))
			f.part(batch.StepInspect, 1, done(t, "b", 100, 2))
			f.seal(batch.StepInspect, 2)
		}, []string{"inspect/1/1", "b: is not after"}},

		{"no plan", batch.Rename, inspected, []string{"no plan"}},
		{"rename record missing", batch.Rename, func(t *testing.T, f *fixture) {
			inspected(t, f)
			f.plan(move)
			f.part(batch.StepRename, 0, moved("a", "x/a"))
		}, []string{"rename/1/0", "b: has no record"}},
		{"rename record double", batch.Rename, func(t *testing.T, f *fixture) {
			inspected(t, f)
			f.plan(move)
			f.part(batch.StepRename, 0, moved("a", "x/a"), moved("a", "x/a"), moved("b", "x/b"))
		}, []string{"rename/1/0", "a: has two records"}},
		{"rename record of an unknown object", batch.Rename, func(t *testing.T, f *fixture) {
			inspected(t, f)
			f.plan(move)
			f.part(batch.StepRename, 0, moved("a", "x/a"), moved("b", "x/b"), moved("c", "x/c"))
		}, []string{"rename/1/0", "c: has a record"}},
		{"rename part missing", batch.Rename, func(t *testing.T, f *fixture) {
			inspected(t, f)
			f.plan(move)
		}, []string{"rename/1/0", "a: has no record"}},
		{"renamed elsewhere", batch.Rename, func(t *testing.T, f *fixture) {
			inspected(t, f)
			f.plan(move)
			f.part(batch.StepRename, 0, moved("a", "x/b"), moved("b", "x/b"))
		}, []string{"rename/1/0", "a: was renamed to x/b"}},
		{"renamed against the plan", batch.Rename, func(t *testing.T, f *fixture) {
			inspected(t, f)
			f.plan([]batch.Row{move[0], {N: 1, From: "b", Outcome: batch.Skipped, Reason: batch.ReasonUnchanged}})
			f.part(batch.StepRename, 0, moved("a", "x/a"), moved("b", "x/b"))
		}, []string{"rename/1/0", "b: was renamed, against its plan"}},
		{"object without a row", batch.Rename, func(t *testing.T, f *fixture) {
			inspected(t, f)
			f.plan(move[:1])
			f.part(batch.StepRename, 0, moved("a", "x/a"))
		}, []string{"b has no row"}},
		{"first object without a row", batch.Rename, func(t *testing.T, f *fixture) {
			inspected(t, f)
			f.plan(move[1:])
			f.part(batch.StepRename, 0, moved("b", "x/b"))
		}, []string{"a has no row"}},
		{"row of an unknown object", batch.Rename, func(t *testing.T, f *fixture) {
			inspected(t, f)
			f.plan(append([]batch.Row{{N: 2, From: "aa", To: "x/aa"}}, move...))
			f.part(batch.StepRename, 0, moved("a", "x/a"), moved("aa", "x/aa"), moved("b", "x/b"))
		}, []string{"aa has a row and was not listed"}},
		{"row of an unknown object at the end", batch.Rename, func(t *testing.T, f *fixture) {
			inspected(t, f)
			f.plan(append([]batch.Row{{N: 2, From: "c", To: "x/c"}}, move...))
			f.part(batch.StepRename, 0, moved("a", "x/a"), moved("b", "x/b"), moved("c", "x/c"))
		}, []string{"c has a row and was not listed"}},
		{"row double", batch.Rename, func(t *testing.T, f *fixture) {
			inspected(t, f)
			f.plan(move, []batch.Row{{N: 2, From: "a", To: "x/c"}})
			f.part(batch.StepRename, 0, moved("a", "x/a"), moved("b", "x/b"))
			f.part(batch.StepRename, 1, notDone("a", batch.Skipped, batch.ReasonMissing))
		}, []string{"a has two rows"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t, c.kind)
			c.make(t, f)
			err := f.finish()
			if !errors.Is(err, ledger.ErrCorrupt) {
				t.Fatalf("got %v, want ErrCorrupt", err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
			f.nothingLeft()
		})
	}
}

func TestLaterGenerationIsRefused(t *testing.T) {
	for _, step := range []batch.Step{batch.StepInspect, batch.StepRename} {
		f, _ := manyRecords(t, 1, 2)
		check(t, f.led.Seal(t.Context(), id, step, 2, 1))
		if err := f.finish(); err == nil || !strings.Contains(err.Error(), "generation 2") {
			t.Errorf("%s: got %v, want an error about generation 2", step, err)
		}
	}
}

// nothingLeft checks that there is no report, whole or not.
func (f *fixture) nothingLeft() {
	f.t.Helper()
	for e, err := range f.led.Store().List(f.t.Context(), store.ListOptions{Prefix: string(ledger.Key(id, "report", ""))}) {
		check(f.t, err)
		f.t.Errorf("left over: %s", e.Key)
	}
	if _, err := f.led.Store().Stat(f.t.Context(), ledger.Key(id, "report", report.SummaryName)); !errors.Is(err, store.ErrNotExist) {
		f.t.Errorf("summary: got %v, want ErrNotExist", err)
	}
}
