package planning_test

import (
	"context"
	"errors"
	"iter"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/memstore"
	"github.com/reshelf/reshelf/worker/internal/planning"
)

func undoBatch(id, of batch.ID) batch.Batch {
	b := renameBatch(id, "", "")
	b.Kind, b.Level, b.Renaming, b.Undoes = batch.Undo, "", nil, of
	return b
}

func over(context.Context, ledger.Execution) (bool, error) { return true, nil }

// renamed is a world in which a.jpg, b.jpg and the group c.cr2, c.jpg were planned to go to n.
func renamed(t *testing.T) (*world, []batch.Row) {
	t.Helper()
	w := newWorld()
	return w, w.renamed(t)
}

func (w *world) renamed(t *testing.T) []batch.Row {
	t.Helper()
	w.put(t, []object{{key: "a.jpg", day: 1}, {key: "b.jpg", day: 2}, {key: "c.cr2", day: 3}, {key: "c.jpg"}, {key: "none.jpg"}})
	b := renameBatch(idA, "n/{date:%d}{ext}", batch.ConflictStop)
	w.inspect(t, b, nil, nil)
	_, rows := w.plan(t, b, planning.Options{})
	return rows
}

func (w *world) undo(t *testing.T, id batch.ID) []batch.Row {
	t.Helper()
	b := undoBatch(id, idA)
	check(t, w.led.CreateBatch(t.Context(), b))
	check(t, planning.Undo(t.Context(), claim{}, w.led, w.archive, b, 3, over, func(string) {}))
	p, rows := w.sealed(t, id)
	checkSummary(t, p, rows)
	return rows
}

func (w *world) remove(t *testing.T, key archive.Key) {
	t.Helper()
	check(t, w.archive.Delete(t.Context(), key, archive.Identity{}))
}

func (w *world) create(t *testing.T, key archive.Key) {
	t.Helper()
	check(t, w.archive.Create(t.Context(), key, strings.NewReader("foreign")))
}

func TestUndo(t *testing.T) {
	tests := map[string]struct {
		apply func(archive.Key) bool // which rows were carried out; all if nil
		then  func(t *testing.T, w *world)
		want  map[archive.Key]string
	}{
		"all": {want: map[archive.Key]string{"n/01.jpg": "a.jpg", "n/02.jpg": "b.jpg", "n/03.cr2": "c.cr2", "n/03.jpg": "c.jpg"}},
		"half of it was carried out": {
			apply: func(k archive.Key) bool { return k == "a.jpg" || k == "c.jpg" },
			want: map[archive.Key]string{
				"n/01.jpg": "a.jpg", "n/02.jpg": "skipped: unchanged", "n/03.cr2": "skipped: unchanged", "n/03.jpg": "c.jpg",
			},
		},
		"gone": {
			then: func(t *testing.T, w *world) { w.remove(t, "n/01.jpg"); w.remove(t, "n/03.jpg") },
			want: map[archive.Key]string{"n/01.jpg": "failed: missing", "n/02.jpg": "b.jpg", "n/03.cr2": "c.cr2", "n/03.jpg": "failed: missing"},
		},
		"another has the old name": {
			then: func(t *testing.T, w *world) { w.create(t, "a.jpg"); w.create(t, "c.cr2/x") },
			want: map[archive.Key]string{
				"n/01.jpg": "failed: conflict", "n/02.jpg": "b.jpg", "n/03.cr2": "failed: conflict", "n/03.jpg": "skipped: group",
			},
		},
		"changed": {
			then: func(t *testing.T, w *world) { w.remove(t, "n/01.jpg"); w.create(t, "n/01.jpg") },
			want: map[archive.Key]string{"n/01.jpg": "failed: changed", "n/02.jpg": "b.jpg", "n/03.cr2": "c.cr2", "n/03.jpg": "c.jpg"},
		},
		"both names are foreign": {
			then: func(t *testing.T, w *world) {
				w.remove(t, "n/01.jpg")
				w.create(t, "n/01.jpg")
				w.create(t, "a.jpg")
			},
			want: map[archive.Key]string{"n/01.jpg": "failed: missing", "n/02.jpg": "b.jpg", "n/03.cr2": "c.cr2", "n/03.jpg": "c.jpg"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w, rows := renamed(t)
			before := w.contents(t)
			for _, r := range rows {
				if tt.apply == nil || tt.apply(r.From) {
					w.apply(t, []batch.Row{r})
				}
			}
			if tt.then != nil {
				tt.then(t, w)
			}
			undo := w.undo(t, idB)
			if diff := cmp.Diff(tt.want, outcomes(undo)); diff != "" {
				t.Errorf("undo plan differs (-want +got):\n%s", diff)
			}
			w.apply(t, undo)
			if tt.then == nil {
				if diff := cmp.Diff(before, w.contents(t)); diff != "" {
					t.Errorf("archive after the undo (-want +got):\n%s", diff)
				}
			}
			again := w.undo(t, idC)
			for _, r := range again {
				if r.Moves() {
					t.Errorf("undone again, %s goes to %s", r.From, r.To)
				}
			}
		})
	}
}

func TestUndoIsInReverseOrder(t *testing.T) {
	w, rows := renamed(t)
	w.apply(t, rows)
	undo := w.undo(t, idB)
	var got []archive.Key
	for _, r := range undo {
		got = append(got, r.To)
	}
	if diff := cmp.Diff([]archive.Key{"c.jpg", "c.cr2", "b.jpg", "a.jpg"}, got); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
	if undo[0].Group != "n/03.cr2" || undo[1].Group != "n/03.cr2" || undo[2].Group != "" {
		t.Errorf("groups are %q, %q, %q; want n/03.cr2 twice and none", undo[0].Group, undo[1].Group, undo[2].Group)
	}
}

// coarse is an archive that keeps neither inode numbers nor times.
type coarse struct{ store.Store }

func blur(o archive.Object) archive.Object {
	o.Inode, o.MTime = 0, 0
	return o
}

func (c coarse) Stat(ctx context.Context, key archive.Key) (archive.Object, error) {
	o, err := c.Store.Stat(ctx, key)
	return blur(o), err
}

func (c coarse) List(ctx context.Context, opts store.ListOptions) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		for e, err := range c.Store.List(ctx, opts) {
			e.Object = blur(e.Object)
			if !yield(e, err) {
				return
			}
		}
	}
}

// TestUndoTrustsRecords: what the batch recorded as not renamed is not ours, even if it looks like it.
func TestUndoTrustsRecords(t *testing.T) {
	w := newWorld()
	w.archive = coarse{w.archive}
	rows := w.renamed(t)
	pw, err := ledger.NewPartWriter(batch.Ref{Batch: idA, Step: batch.StepRename, Generation: 1, Segment: 0}, 1)
	check(t, err)
	defer pw.Close()
	for _, r := range rows {
		rec := batch.Record{Object: archive.Object{Key: r.From, Identity: r.Want}, Outcome: batch.Failed, Reason: batch.ReasonConflict}
		if r.From == "b.jpg" {
			w.apply(t, []batch.Row{r})
			rec.Outcome, rec.Reason, rec.To = batch.Done, "", r.To
		}
		check(t, pw.Add(rec))
	}
	_, _, err = w.led.CreatePart(t.Context(), pw)
	check(t, err)
	w.remove(t, "a.jpg")
	w.create(t, "n/01.jpg")
	want := map[archive.Key]string{
		"n/01.jpg": "failed: changed", "n/02.jpg": "b.jpg", "n/03.cr2": "skipped: unchanged", "n/03.jpg": "skipped: unchanged",
	}
	if diff := cmp.Diff(want, outcomes(w.undo(t, idB))); diff != "" {
		t.Errorf("undo plan differs (-want +got):\n%s", diff)
	}
}

func TestUndoOfBatchWithoutPlan(t *testing.T) {
	w := newWorld()
	check(t, w.led.CreateBatch(t.Context(), renameBatch(idA, "x", batch.ConflictStop)))
	if rows := w.undo(t, idB); rows != nil {
		t.Errorf("undo has rows %v, want none", rows)
	}
}

func TestUndoOfEmptyArchiveIsUnavailable(t *testing.T) {
	w, rows := renamed(t)
	w.apply(t, rows)
	err := planning.Undo(t.Context(), claim{}, w.led, memstore.New(archive.Root{}), undoBatch(idB, idA), 3, over, func(string) {})
	if !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Undo of an archive that is empty by now = %v, want %v", err, store.ErrUnavailable)
	}
}

func TestUndoWaits(t *testing.T) {
	tests := map[string]batch.ID{"for the undone batch": idA, "for another undo of it": idC}
	for name, id := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, rows := renamed(t)
				check(t, w.led.CreateBatch(t.Context(), undoBatch(idC, idA)))
				check(t, w.led.CreateBatch(t.Context(), undoBatch(idB, idA)))
				e := ledger.Execution{Ref: batch.Ref{Batch: id, Step: batch.StepRename, Generation: 1}, Epoch: 1, Process: ledger.Process{Worker: "w1", PID: 42, Host: "h"}}
				gone := e
				gone.Epoch = 2
				check(t, w.led.BeginExecution(t.Context(), e))
				check(t, w.led.BeginExecution(t.Context(), gone))
				ended := func(_ context.Context, e ledger.Execution) (bool, error) { return e.Epoch == 2, nil }
				start := time.Now()
				var notes []string
				done := make(chan error, 1)
				go func() {
					done <- planning.Undo(t.Context(), claim{}, w.led, w.archive, undoBatch(idB, idA), 3, ended, func(s string) { notes = append(notes, s) })
				}()
				time.Sleep(7 * time.Second)
				w.apply(t, rows[:1]) // the stopped worker woke up, moved, and ends
				check(t, w.led.EndExecution(t.Context(), e))
				check(t, <-done)
				if waited := time.Since(start); waited != 8*time.Second {
					t.Errorf("Undo took %v, want 8s: every %v it looks again", waited, planning.PollEvery)
				}
				if len(notes) != 4 || !strings.Contains(notes[0], "w1") || !strings.Contains(notes[0], "42") {
					t.Errorf("notes are %q, want 4 that name worker w1 and process 42", notes)
				}
				_, undo := w.sealed(t, idB)
				if got := outcomes(undo)["n/01.jpg"]; got != "a.jpg" {
					t.Errorf("the row that moved last is undone as %q, want a.jpg", got)
				}
			})
		})
	}
}

func TestCancelledUndoEndsWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := renamed(t)
		check(t, w.led.BeginExecution(t.Context(), ledger.Execution{Ref: batch.Ref{Batch: idA, Step: batch.StepRename, Generation: 1}, Epoch: 1}))
		never := func(context.Context, ledger.Execution) (bool, error) { return false, nil }
		start := time.Now()
		cancelled := claim{cancelled: func() bool { return time.Since(start) > 5*time.Second }}
		check(t, planning.Undo(t.Context(), cancelled, w.led, w.archive, undoBatch(idB, idA), 3, never, func(string) {}))
		if _, _, err := w.led.Plan(t.Context(), idB); !errors.Is(err, store.ErrNotExist) {
			t.Errorf("a cancelled undo has a plan: %v", err)
		}
	})
}
