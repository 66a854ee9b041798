package renaming_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/listing"
	"github.com/reshelf/reshelf/worker/internal/planning"
)

// again is an undo of a batch, which may be an undo itself.
func (w *world) again(t tester, id batch.ID, chosen ...string) *world {
	t.Helper()
	return w.planned(t, batch.Batch{
		ID: id, Kind: batch.Undo, Undoes: w.batch.ID, Filter: batch.Filter{Include: chosen}, AssumeSingleWriter: w.batch.AssumeSingleWriter,
	})
}

// planned is an undo with its plan.
func (w *world) planned(t tester, b batch.Batch) *world {
	t.Helper()
	ctx := context.Background()
	over := func(context.Context, ledger.Execution) (bool, error) { return true, nil }
	u := &world{archive: w.archive, led: w.led, batch: b}
	check(t, planning.Undo(ctx, claim{}, u.led, u.archive.Store, u.batch, 1, over, func(string) {}))
	var err error
	u.plan, _, err = w.led.Plan(ctx, b.ID)
	check(t, err)
	if len(u.plan.Segments) > 0 {
		u.rows, err = w.led.PlanRows(ctx, u.plan, 0)
		check(t, err)
	}
	return u
}

// checkSpelled: what is recorded as moved is where its record says, and everything is there.
func (w *world) checkSpelled(t tester, all int) {
	t.Helper()
	there := contents(t, w.archive.Store)
	if len(there) != all {
		t.Errorf("%d objects: %v", len(there), there)
	}
	for key, r := range w.records(t) {
		at := key
		if r.To != "" {
			at = r.To
		}
		if r.Reason != batch.ReasonMissing && r.Reason != batch.ReasonChanged && r.Reason != batch.ReasonUnchanged && there[at] == "" {
			t.Errorf("%s: not at %s (%s %s): %v", key, at, r.Outcome, r.Message, there)
		}
	}
}

// An undo of an undo, of an undo: each dies anywhere and is carried out again.
func TestFoldedUndos(t *testing.T) {
	for name, open := range foldingStores() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rapid.Check(bubbled{t}, func(t *rapid.T) {
					w := drawFolded(t, open())
					before := contents(t, w.archive.Store)
					finish := func(w *world) {
						if len(w.rows) == 0 {
							return
						}
						for range rapid.IntRange(0, 2).Draw(t, "deaths") {
							_ = w.diesAfter(rapid.IntRange(1, 60).Draw(t, "left"), rapid.Bool().Draw(t, "last"))
						}
						check(t, w.execute(claim{}))
						w.checkSpelled(t, len(before))
						for key, r := range w.records(t) {
							if r.Outcome == batch.Failed {
								t.Errorf("%s of %s: %s", w.batch.ID, key, r.Message)
							}
						}
					}
					recorded := rapid.Bool().Draw(t, "first recorded") || name == "share" || name == "numbers" // else an object may have two names
					if recorded {
						finish(w)
					} else {
						_ = w.diesAfter(rapid.IntRange(1, 60).Draw(t, "left"), rapid.Bool().Draw(t, "last"))
					}
					after := contents(t, w.archive.Store)
					last := w
					for n := range rapid.IntRange(1, 4).Draw(t, "undos") {
						last = last.again(t, batch.ID(fmt.Sprintf("01arz3ndektsv4rrffq69g5fb%d", n)))
						finish(last)
						want := before
						if n%2 == 1 {
							want = after
						}
						if !recorded && n > 0 {
							continue // it was half done, and nothing says how
						}
						if diff := cmp.Diff(want, contents(t, w.archive.Store)); diff != "" {
							t.Fatalf("after undo %d (-want +got):\n%s", n, diff)
						}
					}
				})
			})
		})
	}
}

// An object that is left at the name in between can be chosen by that name, which is the only one that a listing shows.
func TestUndoOfANameInBetween(t *testing.T) {
	for name, open := range foldingStores() {
		t.Run(name, func(t *testing.T) {
			w := folded(t, open(), "A.JPG -> A.jpg", "B.JPG -> B.jpg")
			w.archive.after = func(op string, key archive.Key) error {
				if op == "rename" && key == "A.JPG" {
					return w.archive.Create(t.Context(), "a.jpg", strings.NewReader("foreign"))
				}
				return nil
			}
			check(t, w.execute(claim{}))
			w.alive()
			check(t, w.archive.Delete(t.Context(), "a.jpg", archive.Identity{}))
			b := batch.Batch{ID: idB, Kind: batch.Undo, Undoes: idA, Manifest: true, AssumeSingleWriter: w.batch.AssumeSingleWriter}
			_, err := listing.Spool(t.Context(), w.led, idB, func(yield func(listing.Named, error) bool) {
				yield(listing.Named{Key: "parked-A.JPG"}, nil)
			})
			check(t, err)
			u := w.planned(t, b)
			check(t, u.execute(claim{}))
			wantContents(t, w.archive.Store, "A.JPG", "B.jpg")
			if diff := cmp.Diff(map[archive.Key]string{"parked-A.JPG": "A.JPG"}, u.outcomes(t)); diff != "" {
				t.Errorf("outcomes (-want +got):\n%s", diff)
			}
		})
	}
}
