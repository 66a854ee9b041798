package planning_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/listing"
	"github.com/reshelf/reshelf/worker/internal/planning"
)

// made is a batch that was carried out.
type made struct {
	batch batch.Batch
	rows  []batch.Row
	// left: its execution died, and it was not recorded.
	left bool
}

// leftBetween reports whether objects may have been left at names in between.
func (m made) leftBetween() bool {
	return m.left && slices.ContainsFunc(m.rows, func(r batch.Row) bool { return r.Chain != 0 && r.Park != "" })
}

// carryOut moves what a plan says up to leg crashed (-1: all), and records it. Where it crashed, the last segment that it
// began has no records.
func (w *world) carryOut(t tester, id batch.ID, crashed int) {
	t.Helper()
	ctx := context.Background()
	p, _ := w.sealed(t, id)
	n := 0
	for i := range p.Segments {
		rows, err := w.led.PlanRows(ctx, p, i)
		check(t, err)
		pw, err := ledger.NewPartWriter(batch.Ref{Batch: id, Step: batch.StepRename, Generation: 1, Segment: i}, 1)
		check(t, err)
		defer pw.Close()
		e := ledger.Execution{Ref: batch.Ref{Batch: id, Step: batch.StepRename, Generation: 1, Segment: i}, Epoch: 1}
		if p.Segments[i].Moves > 0 {
			check(t, w.led.BeginExecution(ctx, e))
		}
		for _, l := range legsOf(rows) {
			if n == crashed {
				if n%2 == 0 {
					w.halve(t, l)
				}
				return
			}
			n++
			w.walk(t, l)
		}
		for _, r := range rows {
			rec := batch.Record{Object: archive.Object{Key: r.From, Identity: r.Want}, Outcome: r.Outcome, Reason: r.Reason}
			if r.Moves() {
				o, err := w.archive.Stat(ctx, r.To)
				check(t, err)
				rec.Outcome, rec.To, rec.Identity = batch.Done, r.To, o.Identity
			}
			check(t, pw.Add(rec))
		}
		_, _, err = w.led.CreatePart(ctx, pw)
		check(t, err)
		check(t, w.led.EndExecution(ctx, e))
	}
}

// undoing makes the undo of a batch, or of those of its objects that have these keys, and its plan.
func (w *world) undoing(t tester, id, of batch.ID, keys []archive.Key) made {
	t.Helper()
	ctx := context.Background()
	b := undoBatch(id, of)
	b.AssumeSingleWriter = w.single
	if keys != nil {
		b.Manifest, b.Filter.All = true, true
		_, err := listing.Spool(ctx, w.led, id, func(yield func(listing.Named, error) bool) {
			for _, k := range keys {
				if !yield(listing.Named{Key: k}, nil) {
					return
				}
			}
		})
		check(t, err)
	}
	check(t, w.led.CreateBatch(ctx, b))
	check(t, planning.Undo(ctx, claim{}, w.led, w.archive, b, 3, over, func(string) {}))
	p, rows := w.sealed(t, id)
	checkSummary(t, p, rows)
	return made{batch: b, rows: rows}
}

// up gives most objects of TestUndosProperties the name of the next one.
const up = `{dir}/{name|replace("e","f")|replace("d","e")|replace("c","d")|replace("b","c")|replace("a","b")` +
	`|replace("05","06")|replace("04","05")|replace("03","04")|replace("02","03")|replace("01","02")}{ext}`

// turn gives most of these objects the name of the next one, and the last one that of the first, and swap exchanges some.
const (
	turn = `{dir}/{name|replace("e","z")|replace("d","e")|replace("c","d")|replace("b","c")|replace("a","b")|replace("z","a")` +
		`|replace("05","zz")|replace("04","05")|replace("03","04")|replace("02","03")|replace("01","02")|replace("zz","01")}{ext}`
	swap = `{dir}/{name|replace("b","z")|replace("c","b")|replace("z","c")|replace("02","zz")|replace("05","02")|replace("zz","05")}{ext}`
)

// TestUndosProperties makes batches, undos of them, whole or of chosen keys, and undos of undos, some of which crash. No
// content is ever lost, and when all batches are undone, the newest first, every name is as it was: always without chains, and with them
// where no batch was undone before a later one, nor after one that had left objects at names in between.
func TestUndosProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		w.put(t, []object{
			{key: "a.jpg", day: 1}, {key: "b.jpg", day: 2}, {key: "c.cr2", day: 3}, {key: "c.jpg"}, {key: "d.jpg", day: 4}, {key: "e.jpg", day: 5}, {key: "none.txt"},
		})
		before := w.contents(t)
		next := 0
		newID := func() batch.ID { next++; return batch.ID(fmt.Sprintf("01arz3ndektsv4rrffq69%05d", next)) }
		var all []made
		chains, outOfOrder := false, false
		for range rapid.IntRange(1, 7).Draw(t, "batches") {
			undo := len(all) > 0 && rapid.IntRange(0, 3).Draw(t, "kind") > 0
			var m made
			if !undo {
				template := rapid.SampledFrom([]string{"n/{date:%d}{ext}", "{date:%d}{ext}", "m/x{date:%d}{ext}", up, up, turn, swap, "{dir}/{name}{ext|upper}", "{dir}/{name|upper}{ext|lower}"}).Draw(t, "template")
				m.batch = renameBatch(newID(), template, batch.ConflictSkip)
				m.batch.AssumeSingleWriter = w.single
				w.inspect(t, m.batch, nil, nil)
				_, m.rows = w.plan(t, m.batch, planning.Options{Rows: 2})
				chains = chains || template == up || template == turn || template == swap
			} else {
				of := rapid.SampledFrom(all).Draw(t, "undoes")
				var keys []archive.Key
				if rapid.Bool().Draw(t, "chosen") {
					keys = []archive.Key{"not/of/any"}
					for _, r := range of.rows {
						if r.Moves() && rapid.Bool().Draw(t, "choose") {
							keys = append(keys, r.To)
						}
					}
				}
				outOfOrder = outOfOrder || slices.ContainsFunc(all, made.leftBetween) || slices.ContainsFunc(all, func(m made) bool { return m.batch.Kind == batch.Rename && m.batch.ID > of.batch.ID })
				m = w.undoing(t, newID(), of.batch.ID, keys)
				checkChosen(t, of.rows, m.rows, keys)
			}
			crashed := -1
			if rapid.IntRange(0, 4).Draw(t, "crash") == 0 {
				crashed = rapid.IntRange(0, 12).Draw(t, "legs before the crash")
			}
			w.carryOut(t, m.batch.ID, crashed)
			m.left = crashed >= 0
			t.Logf("%s %s of %q, crashed %d: %v", m.batch.ID[20:], m.batch.Kind, m.batch.Undoes, crashed, outcomes(m.rows))
			all = append(all, m)
			w.checkContents(t, before)
		}
		w.undoAll(t, all, newID)
		w.checkContents(t, before)
		if chains && outOfOrder {
			return // one object may have got back to a name that another one has to pass on its way
		}
		if diff := cmp.Diff(before, w.contents(t)); diff != "" {
			t.Errorf("archive after everything was undone (-want +got):\n%s", diff)
		}
	})
}

// undoAll undoes all renames, the newest first. Undos of the same batch that were undone in part need no undo of their own, but for those that
// may have left objects at names in between.
func (w *world) undoAll(t tester, all []made, newID func() batch.ID) {
	t.Helper()
	for _, m := range slices.Backward(all) {
		if m.batch.Kind == batch.Rename || m.leftBetween() {
			u := w.undoing(t, newID(), m.batch.ID, nil)
			t.Logf("%s undo of %q: %v", u.batch.ID[20:], u.batch.Undoes, outcomes(u.rows))
			w.carryOut(t, u.batch.ID, -1)
			for _, r := range w.undoing(t, newID(), m.batch.ID, nil).rows {
				if r.Moves() {
					t.Errorf("undone again, %s goes to %s", r.From, r.To)
				}
			}
		}
	}
}

// checkContents: every content is there once.
func (w *world) checkContents(t tester, before map[archive.Key]string) {
	t.Helper()
	want, got := slices.Sorted(maps.Values(before)), slices.Sorted(maps.Values(w.contents(t)))
	if !w.archive.Properties().GuardedRename { // one that was on its way may have two names
		got = slices.Compact(got)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("contents (-want +got):\n%s", diff)
	}
}

// checkChosen: an undo has the chosen rows and those of their groups and circles, whole, and one for each key chosen in vain.
func checkChosen(t tester, of, undo []batch.Row, keys []archive.Key) {
	t.Helper()
	got := map[archive.Key]batch.Row{}
	for _, r := range undo {
		got[r.From] = r
	}
	groups, belongs := map[archive.Key]bool{}, map[archive.Key]bool{}
	for _, r := range of {
		chosen := keys == nil || slices.Contains(keys, r.To)
		if r.Moves() && chosen && r.Group != "" {
			groups[r.Group] = true
		}
	}
	for rest := of; len(rest) > 0; {
		circle := rest[:batch.Bonds(rest)[0]]
		rest = rest[len(circle):]
		chosen := func(r batch.Row) bool { return r.Moves() && (keys == nil || slices.Contains(keys, r.To)) }
		for _, r := range circle {
			belongs[r.From] = groups[r.Group] || batch.Circular(circle) && slices.ContainsFunc(circle, chosen)
		}
	}
	for _, r := range of {
		if !r.Moves() {
			continue
		}
		chosen := keys == nil || slices.Contains(keys, r.To)
		at := r.To
		if _, left := got[r.Park]; left {
			at = r.Park // the batch has left it there
		}
		row, has := got[at]
		delete(got, at)
		switch {
		case chosen && !has:
			t.Errorf("%s was chosen and has no row", r.To)
		case has && !chosen && !belongs[r.From]:
			t.Errorf("%s was neither chosen nor belongs to what was, and has a row", r.To)
		case has && row.Added != (!chosen && row.Moves()):
			t.Errorf("%s: added %t, chosen %t", r.To, row.Added, chosen)
		}
	}
	for key, r := range got {
		if r.Reason != batch.ReasonNotInBatch || !slices.Contains(keys, key) {
			t.Errorf("a row of %s: %s", key, outcome(r))
		}
	}
}

// TestUndoOfChosen shows the rows of an undo of chosen keys over several segments, and what a second undo makes of it.
func TestUndoOfChosen(t *testing.T) {
	w, _ := renamed(t)
	w.carryOut(t, idA, -1)
	first := w.undoing(t, idB, idA, []archive.Key{"a.jpg", "n/02.jpg", "n/03.jpg"})
	want := map[archive.Key]string{"a.jpg": "failed: not-in-batch", "n/02.jpg": "b.jpg", "n/03.cr2": "c.cr2", "n/03.jpg": "c.jpg"}
	if diff := cmp.Diff(want, outcomes(first.rows)); diff != "" {
		t.Errorf("undo plan differs (-want +got):\n%s", diff)
	}
	p, _ := w.sealed(t, idB)
	if n := len(p.Summary.Notes); n == 0 || !strings.Contains(p.Summary.Notes[n-1], "1 object not chosen, but moved too, since it belongs to what was: n/03.cr2") {
		t.Errorf("notes %q do not say that n/03.cr2 moves too", p.Summary.Notes)
	}
	w.carryOut(t, idB, -1)
	// Somebody else moves one of them to the same name again: that is not the batch's doing.
	w.apply(t, []batch.Row{{From: "b.jpg", To: "n/02.jpg", Want: w.stat(t, "b.jpg").Identity, OpID: "other"}})
	second := w.undoing(t, idC, idA, nil)
	want = map[archive.Key]string{"n/01.jpg": "a.jpg", "n/02.jpg": "skipped: unchanged", "n/03.cr2": "skipped: unchanged", "n/03.jpg": "skipped: unchanged"}
	if diff := cmp.Diff(want, outcomes(second.rows)); diff != "" {
		t.Errorf("second undo plan differs (-want +got):\n%s", diff)
	}
	for _, r := range second.rows {
		if !r.Moves() && !strings.Contains(r.Message, string(idB)) {
			t.Errorf("%s: %q does not name the undo that took it back", r.From, r.Message)
		}
	}
}

func (w *world) stat(t tester, key archive.Key) archive.Object {
	t.Helper()
	o, err := w.archive.Stat(context.Background(), key)
	check(t, err)
	return o
}

func TestUndoWaitsForTheWholeFamily(t *testing.T) {
	// idB undoes idA, idC undoes idB: while an undo of idC is planned, nothing of any of them may move.
	for _, busy := range []batch.ID{idA, idB, idC} {
		w, _ := renamed(t)
		w.carryOut(t, idA, -1)
		w.carryOut(t, w.undoing(t, idB, idA, nil).batch.ID, -1)
		w.carryOut(t, w.undoing(t, idC, idB, nil).batch.ID, -1)
		check(t, w.led.BeginExecution(t.Context(), ledger.Execution{Ref: batch.Ref{Batch: busy, Step: batch.StepRename, Generation: 1}, Epoch: 2}))
		var asked []batch.ID
		ended := func(_ context.Context, e ledger.Execution) (bool, error) {
			asked = append(asked, e.Batch)
			return true, nil
		}
		b := undoBatch("01arz3ndektsv4rrffq69g5faz", idC)
		check(t, w.led.CreateBatch(t.Context(), b))
		check(t, planning.Undo(t.Context(), claim{}, w.led, w.archive, b, 3, ended, func(string) {}))
		if !slices.Contains(asked, busy) {
			t.Errorf("an undo of %s does not ask for the executions of %s", idC, busy)
		}
	}
}

// TestUndoLeavesTheMovesOfOthers: an undo of a batch that was interrupted takes nothing back that a later batch has brought to the
// name that the interrupted one was to give, and so all can be undone.
func TestUndoLeavesTheMovesOfOthers(t *testing.T) {
	for name, crashed := range map[string]int{"begun": 4, "not begun": 2} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			w.put(t, []object{
				{key: "a.jpg", day: 1}, {key: "b.jpg", day: 2}, {key: "c.jpg", day: 3}, {key: "d.jpg", day: 4}, {key: "e.jpg", day: 5},
			})
			before, next := w.contents(t), 0
			newID := func() batch.ID { next++; return batch.ID(fmt.Sprintf("01arz3ndektsv4rrffq69%05d", next)) }
			var all []made
			rename := func(template string, crashed int) batch.ID {
				m := made{batch: renameBatch(newID(), template, batch.ConflictSkip)}
				w.inspect(t, m.batch, nil, nil)
				_, m.rows = w.plan(t, m.batch, planning.Options{Rows: 2})
				w.carryOut(t, m.batch.ID, crashed)
				all = append(all, m)
				return m.batch.ID
			}
			first := rename("n/{date:%d}{ext}", -1)
			interrupted := rename("{date:%d}{ext}", crashed)
			w.carryOut(t, w.undoing(t, newID(), first, []archive.Key{"n/05.jpg"}).batch.ID, -1)
			rename("{date:%d}{ext}", -1) // brings e.jpg to 05.jpg
			newer := newID()             // a batch by a newer version says nothing of these
			check(t, w.led.Store().Create(t.Context(), ledger.Key(newer, "batch.json"), strings.NewReader(`{"v":99,"id":"`+string(newer)+`"}`)))
			u := w.undoing(t, newID(), interrupted, nil)
			if got := outcomes(u.rows)["05.jpg"]; got != "skipped: unchanged" {
				t.Errorf("undo of the interrupted batch: 05.jpg: got %s, want it left alone", got)
			}
			w.carryOut(t, u.batch.ID, -1)
			w.undoAll(t, all, newID)
			if diff := cmp.Diff(before, w.contents(t)); diff != "" {
				t.Errorf("archive after everything was undone (-want +got):\n%s", diff)
			}
		})
	}
}

// TestUndoOfWhatOthersBroughtAgain: an object that a later batch has brought back to the name that an earlier one gave it is there by
// the later one. The undo of the earlier one says so, and in the right order all can be undone.
func TestUndoOfWhatOthersBroughtAgain(t *testing.T) {
	w := newWorld()
	w.put(t, []object{{key: "a.jpg", day: 1}, {key: "b.jpg", day: 2}})
	before, next := w.contents(t), 0
	newID := func() batch.ID { next++; return batch.ID(fmt.Sprintf("01arz3ndektsv4rrffq69%05d", next)) }
	var all []made
	for _, template := range []string{"n/{date:%d}{ext}", "m/{date:%d}{ext}", "n/{date:%d}{ext}"} {
		m := made{batch: renameBatch(newID(), template, batch.ConflictSkip)}
		w.inspect(t, m.batch, nil, nil)
		_, m.rows = w.plan(t, m.batch, planning.Options{})
		w.carryOut(t, m.batch.ID, -1)
		all = append(all, m)
	}
	u := w.undoing(t, newID(), all[0].batch.ID, nil)
	want := map[archive.Key]string{"n/01.jpg": "failed: conflict", "n/02.jpg": "failed: conflict"}
	if diff := cmp.Diff(want, outcomes(u.rows)); diff != "" {
		t.Errorf("undo of the first batch (-want +got):\n%s", diff)
	}
	w.carryOut(t, u.batch.ID, -1)
	w.undoAll(t, all, newID)
	if diff := cmp.Diff(before, w.contents(t)); diff != "" {
		t.Errorf("archive after everything was undone (-want +got):\n%s", diff)
	}
}

// TestUndoThatFoundThemBack: an undo that finds objects where it would bring them says nothing of who did, if records do.
func TestUndoThatFoundThemBack(t *testing.T) {
	w := newWorld()
	w.put(t, []object{{key: "a.jpg", day: 1}, {key: "b.jpg", day: 2}})
	before, next := w.contents(t), 0
	newID := func() batch.ID { next++; return batch.ID(fmt.Sprintf("01arz3ndektsv4rrffq69%05d", next)) }
	var all []made
	rename := func() batch.ID {
		m := made{batch: renameBatch(newID(), "n/{date:%d}{ext}", batch.ConflictSkip)}
		w.inspect(t, m.batch, nil, nil)
		_, m.rows = w.plan(t, m.batch, planning.Options{})
		w.carryOut(t, m.batch.ID, -1)
		all = append(all, m)
		return m.batch.ID
	}
	undo := func(of batch.ID, crashed int) batch.ID {
		u := w.undoing(t, newID(), of, nil)
		w.carryOut(t, u.batch.ID, crashed)
		return u.batch.ID
	}
	first := rename()
	unrecorded := undo(first, 2) // killed when both are back
	taken := undo(rename(), -1)
	undo(unrecorded, -1) // brings them to n/
	undo(taken, -1)      // would do so too
	w.undoAll(t, all, newID)
	if diff := cmp.Diff(before, w.contents(t)); diff != "" {
		t.Errorf("archive after everything was undone (-want +got):\n%s", diff)
	}
}
