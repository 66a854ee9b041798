package planning_test

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/digest"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/naming"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/worker/internal/planning"
)

func copyBatch(id batch.ID, template string, policy batch.Conflict) batch.Batch {
	b := renameBatch(id, template, policy)
	b.Renaming.Method = batch.MethodCopy
	b.V = b.Needs()
	return b
}

// copy carries rows out by copying.
func (w *world) copy(t tester, rows []batch.Row) {
	t.Helper()
	for _, r := range rows {
		if r.Moves() {
			check(t, w.archive.Copy(context.Background(), store.CopyRequest{From: r.From, To: r.To, Want: r.Want, OpID: r.OpID, Digest: r.Digest}))
		}
	}
}

// A name that an object has is taken, whoever has it and whatever becomes of it: objects that are copied keep theirs.
func TestCopiesLeaveNoNames(t *testing.T) {
	w := newWorld()
	w.put(t, []object{{key: "a.jpg", day: 1}, {key: "01.jpg", day: 2}, {key: "b.JPG", day: 3}, {key: "x.jpg", day: 4}, {key: "05.png", day: 5}})
	b := copyBatch(idA, `{date:%d|replace("03","b")|replace("04","n/x")}{ext|lower}`, batch.ConflictSkip)
	w.inspect(t, b, nil, nil)
	p, rows := w.plan(t, b, planning.Options{})
	want := map[archive.Key]string{
		"a.jpg": "skipped: target-exists", "01.jpg": "02.jpg", "b.JPG": "skipped: target-exists", "x.jpg": "n_x.jpg", "05.png": "skipped: unchanged",
	}
	if diff := cmp.Diff(want, outcomes(rows)); diff != "" {
		t.Errorf("plan differs (-want +got):\n%s", diff)
	}
	if notes := strings.Join(p.Summary.Notes, "; "); !strings.Contains(notes, "grows by") || !strings.Contains(notes, "never deletes") {
		t.Errorf("notes: %s", notes)
	}
}

// Whatever the objects, the names that are planned are free while all objects keep theirs; and carrying it out changes nothing that is
// there, and gives each copy the content of its object.
func TestCopiesProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		objects := drawObjects(t)
		problems, excluded, listed := map[archive.Key]batch.Reason{}, map[archive.Key]bool{}, map[archive.Key]bool{}
		w := newWorld()
		w.digests = digest.Set(0).With(digest.MD5)
		w.put(t, objects)
		for _, o := range objects {
			problems[o.key], excluded[o.key] = o.problem, o.excluded
			if !o.excluded {
				listed[o.key] = true
			}
		}
		opts := planning.Options{Rows: rapid.SampledFrom([]int{4, 6, 1000}).Draw(t, "rows"), Memory: rapid.SampledFrom([]int{1, 1 << 20}).Draw(t, "memory")}
		b := copyBatch(idA, rapid.SampledFrom(templates).Draw(t, "template"), rapid.SampledFrom(batch.Conflicts()).Draw(t, "policy"))
		w.inspect(t, b, problems, func(k archive.Key) bool { return excluded[k] })
		p, rows := w.plan(t, b, opts)
		checkRows(t, p, rows, listed, opts.Rows)
		checkTargets(t, rows, objects)
		checkSummary(t, p, rows)
		before := w.contents(t)
		names := map[string]archive.Key{}
		for key := range before {
			names[naming.Fold(key)] = key
		}
		want := maps.Clone(before)
		for _, r := range rows {
			if !r.Moves() {
				continue
			}
			if key, taken := names[naming.Fold(r.To)]; taken || r.Chain != 0 {
				t.Errorf("a copy of %s gets the name %s, which %s has; chain %d", r.From, r.To, key, r.Chain)
			}
			names[naming.Fold(r.To)] = r.From
			if follows := r.Group != "" && r.Group != r.From; r.Digest.IsZero() && !follows {
				t.Errorf("%s has no digest", r.From)
			}
			want[r.To] = before[r.From]
		}
		w.copy(t, rows)
		if diff := cmp.Diff(want, w.contents(t)); diff != "" {
			t.Errorf("archive after copying (-want +got):\n%s", diff)
		}
	})
}

// unguarded is an archive that may replace what others write.
type unguarded struct{ store.Store }

func (u unguarded) Properties() store.Properties {
	p := u.Store.Properties()
	p.GuardedRename, p.GuardedCopy, p.Remedy = false, false, "use another"
	return p
}

// halfGuarded is an archive that renames safely only while nobody else writes, and copies safely in any case.
type halfGuarded struct{ store.Store }

func (u halfGuarded) Properties() store.Properties {
	p := u.Store.Properties()
	p.GuardedRename, p.Remedy = false, "use another"
	return p
}

func TestCopiesWhereTheyAreSafe(t *testing.T) {
	for name, tt := range map[string]struct {
		archive func(store.Store) store.Store
		single  bool
		want    string
	}{
		"unsafe":        {func(s store.Store) store.Store { return unguarded{s} }, false, "failed: unsupported"},
		"single writer": {func(s store.Store) store.Store { return unguarded{s} }, true, "01.jpg"},
		"safe":          {func(s store.Store) store.Store { return halfGuarded{s} }, false, "01.jpg"},
	} {
		w := newWorld()
		w.put(t, []object{{key: "a.jpg", day: 1}})
		w.archive = tt.archive(w.archive)
		b := copyBatch(idA, "{date:%d}{ext}", batch.ConflictStop)
		b.AssumeSingleWriter = tt.single
		w.inspect(t, b, nil, nil)
		if _, rows := w.plan(t, b, planning.Options{}); outcome(rows[0]) != tt.want {
			t.Errorf("%s: got %s, want %s", name, outcome(rows[0]), tt.want)
		}
	}
}

// happenedCopies is happened of a batch that copies.
func (w *world) happenedCopies(t tester, id batch.ID, moves []past) {
	t.Helper()
	ctx := context.Background()
	b := copyBatch(id, "{name}", batch.ConflictSkip)
	check(t, w.led.CreateBatch(ctx, b))
	p := batch.Plan{Batch: id, Epoch: 1}
	pw, err := ledger.NewPartWriter(batch.Ref{Batch: id, Step: batch.StepRename, Generation: 1, Segment: 0}, 1)
	check(t, err)
	defer pw.Close()
	var rows []batch.Row
	for i, m := range moves {
		rows = append(rows, batch.Row{N: int64(i), From: m.from, To: m.to})
		r := batch.Record{Object: archive.Object{Key: m.from}, Outcome: batch.Failed, Reason: batch.ReasonConflict}
		if m.moved {
			r = batch.Record{Object: archive.Object{Key: m.from}, Outcome: batch.Done, Copy: m.to}
		}
		check(t, pw.Add(r))
	}
	seg, err := w.led.WritePlanRows(ctx, id, 1, 0, rows)
	check(t, err)
	p.Segments = append(p.Segments, seg)
	_, _, err = w.led.CreatePart(ctx, pw)
	check(t, err)
	check(t, w.led.SealPlan(ctx, p))
}

// A copy has the first name of its object, and the object keeps it.
func TestOriginalsOfCopies(t *testing.T) {
	w := newWorld()
	w.happened(t, "01arz3ndektsv4rrffq6900001", "file:///archive", time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), []past{{"a.jpg", "b.jpg", true}})
	w.happenedCopies(t, "01arz3ndektsv4rrffq6900002", []past{{"b.jpg", "c.jpg", true}, {"b.xmp", "d.jpg", false}})
	w.put(t, []object{{key: "b.jpg"}, {key: "c.jpg"}, {key: "d.jpg"}})
	b := renameBatch(idA, "{original}, {name}{ext}", batch.ConflictStop)
	w.inspect(t, b, nil, nil)
	_, rows := w.plan(t, b, planning.Options{})
	want := map[archive.Key]string{"b.jpg": "a, b.jpg", "c.jpg": "a, c.jpg", "d.jpg": "d, d.jpg"}
	if diff := cmp.Diff(want, outcomes(rows)); diff != "" {
		t.Errorf("plan differs (-want +got):\n%s", diff)
	}
}

// A later copy takes nothing away from a name, and what it brought to one is not what an earlier batch renamed.
func TestUndoBesideLaterCopies(t *testing.T) {
	w, rows := renamed(t)
	w.apply(t, rows)
	w.recordAll(t, rows)
	w.happenedCopies(t, idC, []past{{"n/01.jpg", "elsewhere.jpg", true}, {"other.jpg", "n/02.jpg", true}})
	want := map[archive.Key]string{"n/01.jpg": "a.jpg", "n/02.jpg": "failed: conflict", "n/03.cr2": "c.cr2", "n/03.jpg": "c.jpg"}
	if diff := cmp.Diff(want, outcomes(w.undo(t, idB))); diff != "" {
		t.Errorf("undo plan differs (-want +got):\n%s", diff)
	}
}

// recordAll writes that all rows of idA were renamed.
func (w *world) recordAll(t *testing.T, rows []batch.Row) {
	t.Helper()
	pw, err := ledger.NewPartWriter(batch.Ref{Batch: idA, Step: batch.StepRename, Generation: 1, Segment: 0}, 1)
	check(t, err)
	defer pw.Close()
	for _, r := range rows {
		rec := batch.Record{Object: archive.Object{Key: r.From, Identity: r.Want}, Outcome: r.Outcome, Reason: r.Reason}
		if r.Moves() {
			rec.Outcome, rec.To = batch.Done, r.To
		}
		check(t, pw.Add(rec))
	}
	_, _, err = w.led.CreatePart(t.Context(), pw)
	check(t, err)
}

// Nothing is ever deleted, so there is no undo of copies, whoever asks for it.
func TestUndoOfCopies(t *testing.T) {
	w := newWorld()
	w.happenedCopies(t, idA, []past{{"a.jpg", "b.jpg", true}})
	b := undoBatch(idB, idA)
	check(t, w.led.CreateBatch(t.Context(), b))
	err := planning.Undo(t.Context(), claim{}, w.led, w.archive, b, 3, over, func(string) {})
	if err == nil || !strings.Contains(err.Error(), "ever deleted") {
		t.Errorf("got %v", err)
	}
}

// An edited plan of copies is one of copies: no name is left, and the digests are those that were inspected.
func TestEditCopies(t *testing.T) {
	w := newWorld()
	w.digests = digest.DefaultSet()
	w.put(t, []object{{key: "a.jpg", day: 1}, {key: "b.jpg", day: 2}})
	b := copyBatch(idA, "n/{date:%d}{ext}", batch.ConflictStop)
	w.inspect(t, b, nil, nil)
	_, planned := w.plan(t, b, planning.Options{})
	w.withdraw(t, idA)
	_, rows := w.edit(t, idB, idA, names{"a.jpg": "n/one.jpg", "b.jpg": "a.jpg"}, planning.Options{})
	want := map[archive.Key]string{"a.jpg": "n/one.jpg", "b.jpg": "failed: target-exists"}
	if diff := cmp.Diff(want, outcomes(rows)); diff != "" {
		t.Errorf("plan differs (-want +got):\n%s", diff)
	}
	for i, r := range rows {
		if r.Digest.IsZero() || r.Digest != planned[i].Digest {
			t.Errorf("%s: digest %s, want %s", r.From, r.Digest, planned[i].Digest)
		}
	}
}

// What a batch copied after an undo was interrupted does not hide that what the undo had taken back is back.
func TestUndoAfterCopiesOfWhatIsBack(t *testing.T) {
	w := newWorld()
	w.put(t, []object{{key: "a.JPG", day: 1}, {key: "b.JPG", day: 2}})
	next := 0
	newID := func() batch.ID { next++; return batch.ID(fmt.Sprintf("01arz3ndektsv4rrffq69%05d", next)) }
	rename := func(template string) batch.ID {
		b := renameBatch(newID(), template, batch.ConflictStop)
		w.inspect(t, b, nil, nil)
		w.plan(t, b, planning.Options{})
		w.carryOut(t, b.ID, -1)
		return b.ID
	}
	before := w.contents(t)
	first := rename("{date:%d}{ext}")
	later := rename(`{name|replace("01","x")|replace("02","01")|replace("x","02")}{ext}`)
	w.carryOut(t, w.undoing(t, newID(), later, nil).batch.ID, 1)
	w.happenedCopies(t, newID(), []past{{"01.JPG", "elsewhere/01.jpg", true}, {"02.JPG", "elsewhere/02.jpg", true}})
	w.carryOut(t, w.undoing(t, newID(), later, nil).batch.ID, -1)
	u := w.undoing(t, newID(), first, nil)
	for _, r := range u.rows {
		if !r.Moves() {
			t.Errorf("%s: %s: %s", r.From, outcome(r), r.Message)
		}
	}
	w.carryOut(t, u.batch.ID, -1)
	if diff := cmp.Diff(before, w.contents(t)); diff != "" {
		t.Errorf("after all was undone (-want +got):\n%s", diff)
	}
}
