package planning_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/listing"
	"github.com/reshelf/reshelf/shared/naming"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/worker/internal/planning"
)

// names are those of an edited plan: an empty one stands for an emptied cell, and a row without one was deleted.
type names map[archive.Key]archive.Key

// asPlanned are the names of a plan, as somebody gets them to edit.
func asPlanned(rows []batch.Row) names {
	out := names{}
	for _, r := range rows {
		out[r.From] = r.To
	}
	return out
}

// withdraw cancels a batch whose plan awaits approval.
func (w *world) withdraw(t tester, id batch.ID) {
	t.Helper()
	b, err := w.led.Batch(context.Background(), id)
	check(t, err)
	s, err := w.led.Status(context.Background(), b)
	check(t, err)
	events := []batch.Event{{Kind: batch.EventAdvance, To: batch.Planning}, {Kind: batch.EventAdvance, To: batch.AwaitingApproval}, {Kind: batch.EventCancel}}
	if b.Kind == batch.Edit {
		events = events[1:]
	}
	for i, e := range events {
		e.V, e.N = batch.Version, s.Event+i+1
		check(t, w.led.CreateEvent(context.Background(), id, e))
	}
}

// editBatch is an edit of a batch's plan, submitted with its rows.
func (w *world) editBatch(t tester, id, of batch.ID, rows names) batch.Batch {
	t.Helper()
	ctx := context.Background()
	base, err := w.led.Batch(ctx, of)
	check(t, err)
	_, digest, err := w.led.Plan(ctx, of)
	check(t, err)
	b := base
	b.ID, b.Kind, b.Level, b.Manifest, b.Edits = id, batch.Edit, "", true, &batch.PlanRef{Batch: of, Digest: digest}
	o := *base.Renaming
	if b.Renaming = &o; !o.OnConflict.KeepsNames() {
		o.OnConflict, o.ConflictTemplate = batch.ConflictStop, ""
	}
	var named iter.Seq2[listing.Named, error] = func(yield func(listing.Named, error) bool) {
		for from, to := range rows {
			n := listing.Named{Key: from}
			if to != "" {
				n.Columns = map[string]string{batch.ColumnTo: to.Text()}
			}
			if !yield(n, nil) {
				return
			}
		}
	}
	_, err = listing.Spool(ctx, w.led, id, named)
	check(t, err)
	check(t, w.led.CreateBatch(ctx, b))
	return b
}

func (w *world) edit(t tester, id, of batch.ID, rows names, opts planning.Options) (batch.Plan, []batch.Row) {
	t.Helper()
	b := w.editBatch(t, id, of, rows)
	check(t, planning.Edit(context.Background(), claim{}, w.led, w.archive, b, 9, opts))
	return w.sealed(t, id)
}

func TestEdit(t *testing.T) {
	objects := []object{
		{key: "a.jpg", day: 1}, {key: "b.jpg", day: 2}, {key: "c.cr2", day: 3}, {key: "c.jpg"}, {key: "c.jpg.xmp", tags: sidecarOf(9)},
		{key: "none.jpg"}, {key: "bad.jpg", problem: batch.ReasonUnreadable}, {key: "X.lrdata/x", day: 1}, {key: "n/04.jpg", day: 4}, {key: "there", excluded: true},
	}
	planned := map[archive.Key]string{
		"a.jpg": "n/01.jpg", "b.jpg": "n/02.jpg", "c.cr2": "n/03.cr2", "c.jpg": "n/03.jpg", "c.jpg.xmp": "n/03.jpg.xmp", "none.jpg": "failed: no-value",
		"bad.jpg": "failed: not-inspected", "X.lrdata/x": "skipped: managed-library", "n/04.jpg": "skipped: unchanged",
	}
	const deleted = archive.Key("\x00")
	tests := map[string]struct {
		edits names
		then  func(t *testing.T, w *world) // after the first plan
		want  map[archive.Key]string       // where it differs from the first plan
	}{
		"nothing":      {},
		"another name": {edits: names{"a.jpg": "m/one.jpg"}, want: map[archive.Key]string{"a.jpg": "m/one.jpg"}},
		"left out":     {edits: names{"a.jpg": "", "b.jpg": deleted}, want: map[archive.Key]string{"a.jpg": "skipped: left-out", "b.jpg": "skipped: left-out"}},
		"nothing is left": {edits: names{
			"a.jpg": deleted, "b.jpg": deleted, "c.cr2": deleted, "c.jpg": deleted, "c.jpg.xmp": deleted, "none.jpg": deleted, "bad.jpg": deleted, "X.lrdata/x": deleted, "n/04.jpg": deleted,
		}, want: map[archive.Key]string{
			"a.jpg": "skipped: left-out", "b.jpg": "skipped: left-out", "c.cr2": "skipped: left-out", "c.jpg": "skipped: left-out", "c.jpg.xmp": "skipped: left-out",
		}},
		"a name for what had none": {edits: names{"none.jpg": "n/none.jpg"}, want: map[archive.Key]string{"none.jpg": "n/none.jpg"}},
		"the old name":             {edits: names{"a.jpg": "a.jpg"}, want: map[archive.Key]string{"a.jpg": "skipped: unchanged"}},
		"names that change places": {
			edits: names{"a.jpg": "n/02.jpg", "b.jpg": "n/01.jpg"}, want: map[archive.Key]string{"a.jpg": "n/02.jpg", "b.jpg": "n/01.jpg"},
		},
		"objects exchange their names": {
			edits: names{"a.jpg": "b.jpg", "b.jpg": "a.jpg"}, want: map[archive.Key]string{"a.jpg": "b.jpg", "b.jpg": "a.jpg"},
		},
		"a group and one exchange theirs": {
			edits: names{"a.jpg": "c.jpg", "c.cr2": "a.cr2", "c.jpg": "a.jpg", "c.jpg.xmp": "a.jpg.xmp"},
			want:  map[archive.Key]string{"a.jpg": "c.jpg", "c.cr2": "a.cr2", "c.jpg": "a.jpg", "c.jpg.xmp": "a.jpg.xmp"},
		},
		"companions follow": {
			edits: names{"c.cr2": "m/x.cr2"},
			want:  map[archive.Key]string{"c.cr2": "m/x.cr2", "c.jpg": "m/x.jpg", "c.jpg.xmp": "m/x.jpg.xmp"},
		},
		"companions that are written as they follow": {
			edits: names{"c.cr2": "m/x.cr2", "c.jpg": "m/x.jpg", "c.jpg.xmp": "m/x.jpg.xmp"},
			want:  map[archive.Key]string{"c.cr2": "m/x.cr2", "c.jpg": "m/x.jpg", "c.jpg.xmp": "m/x.jpg.xmp"},
		},
		"a companion with a name of its own": {
			edits: names{"c.jpg": "m/x.jpg"},
			want:  map[archive.Key]string{"c.cr2": "skipped: group", "c.jpg": "failed: group", "c.jpg.xmp": "skipped: group"},
		},
		"half a group": {
			edits: names{"c.jpg": ""},
			want:  map[archive.Key]string{"c.cr2": "skipped: group", "c.jpg": "skipped: left-out", "c.jpg.xmp": "skipped: group"},
		},
		"the other half": {
			edits: names{"c.cr2": deleted},
			want:  map[archive.Key]string{"c.cr2": "skipped: left-out", "c.jpg": "skipped: group", "c.jpg.xmp": "skipped: group"},
		},
		"the other half with a name": {
			edits: names{"c.cr2": "", "c.jpg": "m/x.jpg"},
			want:  map[archive.Key]string{"c.cr2": "skipped: left-out", "c.jpg": "failed: group", "c.jpg.xmp": "skipped: group"},
		},
		"a group in the way of another": {
			edits: names{"a.jpg": "n/03.JPG"},
			want: map[archive.Key]string{
				"a.jpg": "failed: same-target", "c.cr2": "skipped: group", "c.jpg": "failed: same-target", "c.jpg.xmp": "skipped: group",
			},
		},
		"one name twice":       {edits: names{"a.jpg": "n/02.JPG"}, want: map[archive.Key]string{"a.jpg": "failed: same-target", "b.jpg": "failed: same-target"}},
		"a name that is taken": {edits: names{"a.jpg": "THERE"}, want: map[archive.Key]string{"a.jpg": "failed: target-exists"}},
		"the name of one left": {edits: names{"a.jpg": "b.jpg", "b.jpg": ""}, want: map[archive.Key]string{"a.jpg": "failed: target-exists", "b.jpg": "skipped: left-out"}},
		"below an object":      {edits: names{"a.jpg": "there/a.jpg"}, want: map[archive.Key]string{"a.jpg": "failed: target-prefix"}},
		"a folder": {edits: names{"a.jpg": "n"}, want: map[archive.Key]string{
			"a.jpg": "failed: target-prefix", "b.jpg": "failed: target-prefix", "c.cr2": "failed: target-prefix", "c.jpg": "failed: target-prefix",
			"c.jpg.xmp": "failed: target-prefix",
		}},
		"a folder that is new":   {edits: names{"a.jpg": "m", "b.jpg": "m/b.jpg"}, want: map[archive.Key]string{"a.jpg": "failed: target-prefix", "b.jpg": "failed: target-prefix"}},
		"forbidden characters":   {edits: names{"a.jpg": "n/a?.jpg"}, want: map[archive.Key]string{"a.jpg": "failed: bad-name"}},
		"a device":               {edits: names{"a.jpg": "n/con.jpg"}, want: map[archive.Key]string{"a.jpg": "failed: bad-name"}},
		"a space at the end":     {edits: names{"a.jpg": "n /a.jpg"}, want: map[archive.Key]string{"a.jpg": "failed: bad-name"}},
		"Reshelf's own":          {edits: names{"a.jpg": ".reshelf-x"}, want: map[archive.Key]string{"a.jpg": "failed: bad-name"}},
		"no UTF-8":               {edits: names{"a.jpg": "\xff.jpg"}, want: map[archive.Key]string{"a.jpg": "failed: bad-name"}},
		"into a library":         {edits: names{"a.jpg": "X.lrdata/a"}, want: map[archive.Key]string{"a.jpg": "skipped: managed-library"}},
		"out of a library":       {edits: names{"X.lrdata/x": "x"}},
		"what was not inspected": {edits: names{"bad.jpg": "n/bad.jpg"}},
		"a name that somebody took meanwhile": {
			then: func(t *testing.T, w *world) { w.create(t, "n/01.jpg") },
			want: map[archive.Key]string{"a.jpg": "failed: target-exists"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			w.put(t, objects)
			problems, excluded := map[archive.Key]batch.Reason{}, map[archive.Key]bool{}
			for _, o := range objects {
				problems[o.key], excluded[o.key] = o.problem, o.excluded
			}
			b := renameBatch(idA, "n/{date:%d}{ext}", batch.ConflictStop)
			b.Renaming.IgnoreSidecars = true
			w.inspect(t, b, problems, func(k archive.Key) bool { return excluded[k] })
			first, rows := w.plan(t, b, planning.Options{})
			if diff := cmp.Diff(planned, outcomes(rows)); diff != "" {
				t.Fatalf("the first plan (-want +got):\n%s", diff)
			}
			w.withdraw(t, idA)
			if tt.then != nil {
				tt.then(t, w)
			}
			said := asPlanned(rows)
			for from, to := range tt.edits {
				if said[from] = to; to == deleted {
					delete(said, from)
				}
			}
			p, edited := w.edit(t, idB, idA, said, planning.Options{})
			want := maps.Clone(planned)
			maps.Copy(want, tt.want)
			if diff := cmp.Diff(want, outcomes(edited)); diff != "" {
				t.Errorf("the edited plan (-want +got):\n%s", diff)
			}
			checkSummary(t, p, edited)
			if name == "nothing" {
				for i := range rows {
					rows[i].OpID, edited[i].OpID = "", ""
				}
				if diff := cmp.Diff(rows, edited); diff != "" || p.Epoch == first.Epoch {
					t.Errorf("a plan that was not edited has other rows (-want +got):\n%s", diff)
				}
			}
			w.apply(t, edited)
		})
	}
}

// TestEditOfCrowds: objects of which nobody can tell what belongs together stay, whatever is written.
func TestEditOfCrowds(t *testing.T) {
	w := newWorld()
	w.put(t, []object{{key: "a.cr2", day: 1}, {key: "a.jpg"}, {key: "a.png"}, {key: "a.xmp"}, {key: "a.aae"}, {key: "b.jpg"}, {key: "b.xmp"}})
	b := renameBatch(idA, "n/{date:%d}{ext}", batch.ConflictStop)
	w.inspect(t, b, nil, nil)
	opts := planning.Options{Rows: 4}
	_, rows := w.plan(t, b, opts)
	w.withdraw(t, idA)
	said := asPlanned(rows)
	said["a.cr2"], said["a.jpg"], said["b.xmp"] = "x.cr2", "x.jpg", "y.xmp"
	_, edited := w.edit(t, idB, idA, said, opts)
	want := outcomes(rows)
	want["b.xmp"] = "failed: group" // a companion of what has no name
	if diff := cmp.Diff(want, outcomes(edited)); diff != "" || want["a.cr2"] != "failed: group" {
		t.Errorf("edited (-want +got):\n%s", diff)
	}
}

// TestEditProperties: whatever is written, the plan keeps what every plan keeps, and gives no name that was not written.
func TestEditProperties(t *testing.T) {
	written := rapid.SampledFrom([]archive.Key{
		"x.jpg", "X.JPG", "n/x.cr2", "n/x.jpg", "n", "n/01", "01.jpg", "a/01.jpg", "x", "x/y", "02.cr2", "q?.jpg", "con", "X.lrdata/x", "\xff", "img_1.jpg", "", "", "a/IMG_1.jpg",
	})
	rapid.Check(t, func(t *rapid.T) {
		objects := drawObjects(t)
		problems, excluded, listed := map[archive.Key]batch.Reason{}, map[archive.Key]bool{}, map[archive.Key]bool{}
		w := newWorld()
		w.put(t, objects)
		for _, o := range objects {
			problems[o.key], excluded[o.key] = o.problem, o.excluded
			if !o.excluded {
				listed[o.key] = true
			}
		}
		opts := planning.Options{Rows: rapid.SampledFrom([]int{4, 1000}).Draw(t, "rows"), Memory: rapid.SampledFrom([]int{1, 1 << 20}).Draw(t, "memory")}
		b := renameBatch(idA, rapid.SampledFrom(templates).Draw(t, "template"), rapid.SampledFrom(batch.Conflicts()).Draw(t, "policy"))
		drawSecond(t, b)
		w.inspect(t, b, problems, func(k archive.Key) bool { return excluded[k] })
		_, rows := w.plan(t, b, opts)
		before, id := rows, idA
		for _, next := range []batch.ID{idB, idC} { // an edit, and an edit of that
			w.withdraw(t, id)
			said := asPlanned(rows)
			for _, from := range slices.Sorted(maps.Keys(said)) {
				switch rapid.IntRange(0, 5).Draw(t, "fate") {
				case 0:
					delete(said, from)
				case 1, 2:
					said[from] = written.Draw(t, "name")
				}
			}
			var p batch.Plan
			p, rows = w.edit(t, next, id, said, opts)
			checkRows(t, p, rows, listed, opts.Rows)
			checkTargets(t, rows, objects)
			checkBroken(t, rows, problems)
			checkSummary(t, p, rows)
			checkWritten(t, before, rows, said)
			id = next
		}
		contents := w.contents(t)
		w.apply(t, rows)
		checkMoved(t, contents, w.contents(t), rows)
	})
}

// TestPartsProperties: a sample and the rest amount to the plan; together they move what it moves, to where it moves it.
func TestPartsProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		objects := drawObjects(t)
		problems, excluded := map[archive.Key]batch.Reason{}, map[archive.Key]bool{}
		w := newWorld()
		w.put(t, objects)
		for _, o := range objects {
			problems[o.key], excluded[o.key] = o.problem, o.excluded
		}
		opts := planning.Options{Rows: rapid.SampledFrom([]int{4, 1000}).Draw(t, "rows")}
		b := renameBatch(idA, rapid.SampledFrom(templates).Draw(t, "template"), rapid.SampledFrom(batch.Conflicts()).Draw(t, "policy"))
		drawSecond(t, b)
		w.inspect(t, b, problems, func(k archive.Key) bool { return excluded[k] })
		_, rows := w.plan(t, b, opts)
		w.withdraw(t, idA)
		sample, rest := names{}, names{}
		want, drawn := outcomes(rows), map[archive.Key]bool{}
		for _, r := range rows {
			leader := r.From
			if r.Group != "" {
				leader = r.Group
			}
			if _, ok := drawn[leader]; !ok {
				drawn[leader] = r.Chain == 0 && rapid.Bool().Draw(t, "drawn") // chains are in the rest
			}
			if !r.Moves() {
				continue
			}
			if rest[r.From] = r.To; drawn[leader] {
				sample[r.From] = r.To
				delete(rest, r.From)
			}
		}
		left := w.part(t, idB, batch.Rest, rest, opts)
		for from, to := range want {
			if sample[from] != "" {
				to = "skipped: left-out"
			}
			if left[from] != to {
				t.Errorf("rest: %s: %s, want %s", from, left[from], to)
			}
		}
		for from, to := range w.part(t, idC, batch.Sample, sample, opts) {
			if to != want[from] {
				t.Errorf("sample: %s: %s, want %s", from, to, want[from])
			}
			delete(sample, from)
		}
		if len(sample) > 0 {
			t.Errorf("not in the sample's plan: %v", sample)
		}
	})
}

// part plans a part of the plan of batch A.
func (w *world) part(t tester, id batch.ID, part batch.Part, rows names, opts planning.Options) map[archive.Key]string {
	t.Helper()
	b := w.editBatch(t, id, idA, rows)
	if b.Edits.Part = part; b.Renaming.OnConflict == batch.ConflictNumber || b.Renaming.OnConflict == batch.ConflictSameContent {
		b.Renaming.OnConflict = batch.ConflictSkip
	}
	check(t, planning.Edit(context.Background(), claim{}, w.led, w.archive, b, 9, opts))
	p, got := w.sealed(t, id)
	checkSummary(t, p, got)
	return outcomes(got)
}

// checkWritten: the rows keep the identities of the first plan, and move only to names that were written.
func checkWritten(t tester, first, rows []batch.Row, said names) {
	t.Helper()
	want := map[archive.Key]archive.Identity{}
	for _, r := range first {
		want[r.From] = r.Want
	}
	for _, r := range rows {
		if r.Want != want[r.From] {
			t.Errorf("%s is wanted as %v, it was inspected as %v", r.From, r.Want, want[r.From])
		}
		to, there := said[r.From]
		companion := r.Group != "" && r.Group != r.From
		if r.Moves() && (!there || !companion && to != r.To) {
			t.Errorf("%s goes to %s; written is %q, %v", r.From, r.To, to, there)
		}
		if err := naming.Check(r.To); r.Moves() && err != nil {
			t.Errorf("%s goes to %s: %v", r.From, r.To, err)
		}
	}
}

// TestEditWhereRenamesAreNotSafe: an edit does not promise a single writer that the first plan did not.
func TestEditWhereRenamesAreNotSafe(t *testing.T) {
	w := newWorld()
	w.put(t, []object{{key: "a.jpg", day: 1}})
	b := renameBatch(idA, "n/{date:%d}{ext}", batch.ConflictStop)
	w.inspect(t, b, nil, nil)
	w.plan(t, b, planning.Options{})
	w.withdraw(t, idA)
	w.archive = bucket{Store: w.archive, properties: func(p *store.Properties) { p.GuardedRename, p.MaxKey = false, 8 }}
	_, rows := w.edit(t, idB, idA, names{"a.jpg": "n/1.jpg"}, planning.Options{})
	if got := outcomes(rows)["a.jpg"]; got != "failed: unsupported" {
		t.Errorf("a.jpg: %s", got)
	}
	w.withdraw(t, idB)
	w.archive = bucket{Store: w.archive, properties: func(p *store.Properties) { p.GuardedRename, p.MaxKey = true, 8 }}
	if _, rows = w.edit(t, idC, idB, names{"a.jpg": "n/long.jpg"}, planning.Options{}); outcomes(rows)["a.jpg"] != "failed: bad-name" {
		t.Errorf("a name too long for the archive: %v", outcomes(rows))
	}
}

// TestEditOfWhatCannotBeEdited: no plan that may have moved anything, or that is another than was edited, leads to a plan.
func TestEditOfWhatCannotBeEdited(t *testing.T) {
	tests := map[string]func(t *testing.T, w *world, b *batch.Batch){
		"it awaits approval": func(t *testing.T, w *world, b *batch.Batch) {
			_, digest, err := w.led.Plan(t.Context(), idC)
			check(t, err)
			b.Edits = &batch.PlanRef{Batch: idC, Digest: digest}
		},
		"it is another plan": func(_ *testing.T, _ *world, b *batch.Batch) {
			b.Edits.Digest = fmt.Sprintf("%064d", 1)
		},
		"it is an undo": func(t *testing.T, w *world, b *batch.Batch) {
			undo := batch.ID("01arz3ndektsv4rrffq69g5fa0")
			w.undo(t, undo)
			_, digest, err := w.led.Plan(t.Context(), undo)
			check(t, err)
			check(t, w.led.CreateEvent(t.Context(), undo, batch.Event{V: batch.Version, N: 1, Kind: batch.EventCancel}))
			b.ID, b.Edits = "01arz3ndektsv4rrffq69g5fa2", &batch.PlanRef{Batch: undo, Digest: digest}
			_, err = listing.Spool(t.Context(), w.led, b.ID, func(yield func(listing.Named, error) bool) { yield(listing.Named{Key: "n/01.jpg"}, nil) })
			check(t, err)
		},
		"it is of another archive": func(t *testing.T, _ *world, b *batch.Batch) {
			root, err := archive.FileRoot("/elsewhere")
			check(t, err)
			b.Archive = root
		},
		"the rows are of another plan": func(t *testing.T, w *world, b *batch.Batch) {
			b.ID = "01arz3ndektsv4rrffq69g5fa1"
			_, err := listing.Spool(t.Context(), w.led, b.ID, func(yield func(listing.Named, error) bool) {
				yield(listing.Named{Key: "A", Columns: map[string]string{batch.ColumnTo: "x.jpg"}}, nil) // sorts before a.jpg
			})
			check(t, err)
		},
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			w.put(t, []object{{key: "a.jpg", day: 1}})
			for _, id := range []batch.ID{idA, idC} {
				b := renameBatch(id, "n/{date:%d}{ext}", batch.ConflictStop)
				w.inspect(t, b, nil, nil)
				w.plan(t, b, planning.Options{})
			}
			w.withdraw(t, idA)
			b := w.editBatch(t, idB, idA, names{"a.jpg": "x.jpg"})
			change(t, w, &b)
			err := planning.Edit(t.Context(), claim{}, w.led, w.archive, b, 9, planning.Options{})
			_, _, planErr := w.led.Plan(t.Context(), b.ID)
			if err == nil || !errors.Is(planErr, store.ErrNotExist) {
				t.Errorf("Edit: %v; the plan: %v", err, planErr)
			}
		})
	}
}

// TestSecondEditAdopts: of two executions of an edit the first seals the plan.
func TestSecondEditAdopts(t *testing.T) {
	w := newWorld()
	w.put(t, []object{{key: "a.jpg", day: 1}})
	b := renameBatch(idA, "n/{date:%d}{ext}", batch.ConflictStop)
	w.inspect(t, b, nil, nil)
	w.plan(t, b, planning.Options{})
	w.withdraw(t, idA)
	first, _ := w.edit(t, idB, idA, names{"a.jpg": "x.jpg"}, planning.Options{})
	b, err := w.led.Batch(t.Context(), idB)
	check(t, err)
	check(t, planning.Edit(t.Context(), claim{}, w.led, w.archive, b, 12, planning.Options{}))
	if second, _ := w.sealed(t, idB); second.Epoch != first.Epoch {
		t.Errorf("the plan is that of epoch %d, want %d", second.Epoch, first.Epoch)
	}
	held := errors.New("lapsed")
	c := w.editBatch(t, idC, idA, names{"a.jpg": "y.jpg"})
	err = planning.Edit(t.Context(), claim{held: func() error { return held }}, w.led, w.archive, c, 13, planning.Options{})
	if _, _, planErr := w.led.Plan(t.Context(), idC); !errors.Is(err, held) || !errors.Is(planErr, store.ErrNotExist) {
		t.Errorf("an execution whose claim lapsed: %v, %v", err, planErr)
	}
}

// TestEditKeepsSpellings: which spelling a companion's name has may depend on objects beside its group, which an edit does not look
// at. It gives no other name than the plan has, to what nobody has renamed otherwise.
func TestEditKeepsSpellings(t *testing.T) {
	stem := archive.Key(strings.Repeat("s", 45))
	w := newWorld()
	w.put(t, []object{taken(stem+".jpg", 1), taken(stem+".mp4", 2), {key: stem + "..json"}}) // cut, it could be of either
	b := renameBatch(idA, "n/{date:%d}{ext}", batch.ConflictStop)
	w.inspect(t, b, nil, nil)
	_, rows := w.plan(t, b, planning.Options{})
	want := map[archive.Key]string{stem + ".jpg": "n/01.jpg", stem + ".mp4": "n/02.mp4", stem + "..json": "n/01.supplemental-metadata.json"}
	if diff := cmp.Diff(want, outcomes(rows)); diff != "" {
		t.Fatalf("plan (-want +got):\n%s", diff)
	}
	w.withdraw(t, idA)
	want[stem+".jpg"], want[stem+"..json"] = "failed: group", "failed: group"
	_, edited := w.edit(t, idB, idA, asPlanned(rows), planning.Options{})
	if diff := cmp.Diff(want, outcomes(edited)); diff != "" {
		t.Errorf("edited (-want +got):\n%s", diff)
	}
}

// TestEditOfEditKeepsProblems: what was not inspected stays, also where an edit in between gave it a name that it cannot have.
func TestEditOfEditKeepsProblems(t *testing.T) {
	w := newWorld()
	w.put(t, []object{{key: "a.jpg"}, {key: "a.aae"}}) // no capture time
	b := renameBatch(idA, "{date:%d}{ext}", batch.ConflictStop)
	w.inspect(t, b, map[archive.Key]batch.Reason{"a.aae": batch.ReasonFormat}, nil)
	w.plan(t, b, planning.Options{})
	w.withdraw(t, idA)
	w.edit(t, idB, idA, names{"a.jpg": "", "a.aae": "b.aae"}, planning.Options{})
	w.withdraw(t, idB)
	_, rows := w.edit(t, idC, idB, names{"a.jpg": "c.jpg", "a.aae": ""}, planning.Options{})
	want := map[archive.Key]string{"a.jpg": "skipped: group", "a.aae": "failed: not-inspected"}
	if diff := cmp.Diff(want, outcomes(rows)); diff != "" {
		t.Errorf("the edit of the edit (-want +got):\n%s", diff)
	}
}
