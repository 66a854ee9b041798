package renaming_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/digest"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/naming"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/memstore"
	"github.com/reshelf/reshelf/worker/internal/planning"
	"github.com/reshelf/reshelf/worker/internal/renaming"
)

// alwaysPlanning is a hold of planning.
type alwaysPlanning struct{ claim }

type years struct {
	archive store.Store
	led     *ledger.Ledger
	ids     int
	epoch   int64
	foreign map[archive.Key]bool
	// outsider renames objects too; then records may say that one is missing, or has changed.
	outsider bool
	// alone: nobody else is there. Where there are neither inode numbers nor marks nothing proves that what is at a new name was renamed, once
	// something else has the old one: then it is skipped as changed, and an undo leaves it.
	alone bool
}

func (y *years) id() batch.ID {
	y.ids++
	return batch.ID(fmt.Sprintf("01arz3ndektsv4rrffq69%05d", y.ids))
}

func (y *years) rename(t tester, template string, policy batch.Conflict, rows int) batch.Batch {
	ctx := context.Background()
	root, _ := archive.FileRoot("/archive")
	b := batch.Batch{
		V: batch.Version, ID: y.id(), Kind: batch.Rename, Archive: root, Level: batch.LevelNormal, Pool: "local", Priority: batch.Normal,
		Digests: digest.Set(0).With(digest.SHA256), AssumeSingleWriter: single(y.archive),
		Renaming: &batch.RenameOptions{Template: template, OnConflict: policy},
	}
	if policy == batch.ConflictTemplate {
		b.Renaming.ConflictTemplate = "second/{name}{ext}"
	}
	check(t, y.led.CreateBatch(ctx, b))
	var seg batch.Segment
	for e, err := range y.archive.List(ctx, store.ListOptions{}) {
		check(t, err)
		if !y.foreign[e.Key] {
			seg.Objects = append(seg.Objects, batch.Listed{Object: e.Object})
		}
	}
	ref := batch.Ref{Batch: b.ID, Step: batch.StepInspect, Generation: 1}
	_, err := y.led.CreateSegment(ctx, ref, seg)
	check(t, err)
	pw, err := ledger.NewPartWriter(ref, 1)
	check(t, err)
	defer pw.Close()
	for _, o := range seg.Objects {
		check(t, pw.Add(batch.Record{Object: o.Object, Outcome: batch.Done}))
	}
	_, _, err = y.led.CreatePart(ctx, pw)
	check(t, err)
	check(t, y.led.Seal(ctx, b.ID, batch.StepInspect, 1, 1))
	check(t, planning.Plan(ctx, alwaysPlanning{}, y.led, y.archive, b, 7, planning.Options{Rows: rows}))
	return b
}

func (y *years) undo(t tester, of batch.ID) batch.Batch {
	ctx := context.Background()
	root, _ := archive.FileRoot("/archive")
	b := batch.Batch{V: batch.Version, ID: y.id(), Kind: batch.Undo, Archive: root, Pool: "local", Priority: batch.Normal, Undoes: of, AssumeSingleWriter: single(y.archive)}
	check(t, y.led.CreateBatch(ctx, b))
	over := func(context.Context, ledger.Execution) (bool, error) { return true, nil }
	check(t, planning.Undo(ctx, alwaysPlanning{}, y.led, y.archive, b, 3, over, func(string) {}))
	return b
}

func (y *years) execute(b batch.Batch, p batch.Plan, n int, hold claim, st store.Store, led *ledger.Ledger) error {
	y.epoch++
	ref := batch.Ref{Batch: b.ID, Step: batch.StepRename, Generation: 1, Segment: n}
	pw, err := ledger.NewPartWriter(ref, y.epoch)
	if err != nil {
		return err
	}
	defer pw.Close()
	exec := ledger.Execution{Ref: ref, Epoch: y.epoch, Process: ledger.Process{Worker: "w", PID: int(y.epoch)}}
	over := func(context.Context, ledger.Execution) (bool, error) { return true, nil }
	seg := renaming.Segment{Batch: b, Plan: p, Execution: exec, Ended: over, Note: func(string) {}}
	if err := renaming.Rename(context.Background(), hold, led, st, seg, pw); err != nil {
		return err
	}
	_, _, err = led.CreatePart(context.Background(), pw)
	return err
}

// carryOut carries a batch out with workers that die; its last segments may have no records.
func (y *years) carryOut(t *rapid.T, b batch.Batch) {
	p, _, err := y.led.Plan(context.Background(), b.ID)
	check(t, err)
	cancelled := false
	for n := range p.Segments {
		for rapid.IntRange(0, 2).Draw(t, "die") == 0 {
			y.meddle(t)
			pr := &process{left: rapid.IntRange(1, 50).Draw(t, "operations"), last: rapid.Bool().Draw(t, "last"), lapsesAt: 1 << 30, delays: []int{0}}
			_ = y.execute(b, p, n, claim{held: pr.held, cancelled: cancelled}, mortal{y.archive, pr}, ledger.New(mortal{y.led.Store(), pr}))
			cancelled = cancelled || rapid.IntRange(0, 5).Draw(t, "cancel") == 0
		}
		if rapid.IntRange(0, 5).Draw(t, "left as it is") == 0 && y.mayBeLeft(t, p, n) {
			return
		}
		y.meddle(t)
		y.settle(t, b, p, n, cancelled)
	}
}

// settle carries a segment out to the end.
func (y *years) settle(t tester, b batch.Batch, p batch.Plan, n int, cancelled bool) {
	check(t, y.execute(b, p, n, claim{cancelled: cancelled}, y.archive, y.led))
	y.checkTrue(t, b, p, n)
}

// settleAll carries a batch out, and says how many objects it moves.
func (y *years) settleAll(t tester, b batch.Batch) int64 {
	p, _, err := y.led.Plan(context.Background(), b.ID)
	check(t, err)
	for n := range p.Segments {
		y.settle(t, b, p, n, false)
	}
	return p.Summary.Moves
}

// mayBeLeft reports whether the segment may be left unsettled. Where renames take two steps a row that is in no chain is at both names then,
// also for the batches that follow.
func (y *years) mayBeLeft(t *rapid.T, p batch.Plan, n int) bool {
	rows, err := y.led.PlanRows(context.Background(), p, n)
	check(t, err)
	return !twoSteps(y.archive) || !slices.ContainsFunc(rows, func(r batch.Row) bool { return r.Moves() && r.Park == "" })
}

// checkTrue: each object is where its record says.
func (y *years) checkTrue(t tester, b batch.Batch, p batch.Plan, n int) {
	rows, err := y.led.PlanRows(context.Background(), p, n)
	check(t, err)
	want := map[archive.Key]batch.Row{}
	for _, r := range rows {
		want[r.From] = r
	}
	for r, err := range y.led.Part(context.Background(), batch.Ref{Batch: b.ID, Step: batch.StepRename, Generation: 1, Segment: n}) {
		check(t, err)
		row := want[r.Key]
		if y.outsider {
			continue
		}
		if !row.Moves() || r.Reason == batch.ReasonMissing || r.Reason == batch.ReasonChanged {
			if row.Moves() {
				t.Errorf("%s %s: %s > %s: %s %s", b.Kind, b.ID, row.From, row.To, r.Outcome, r.Reason)
			}
			continue
		}
		at := r.Key
		if r.To != "" {
			at = r.To
		}
		if o, err := y.archive.Stat(context.Background(), at); err != nil || o.Inode != row.Want.Inode || o.ETag != row.Want.ETag {
			t.Errorf("%s %s: %s > %s: %s %s says it is at %s: %v %v", b.Kind, b.ID, row.From, row.To, r.Outcome, r.Reason, at, o, err)
		}
		if spelled, err := store.Spelled(context.Background(), y.archive, at); err != nil || !spelled[at] {
			t.Errorf("%s %s: %s > %s: %s %s says it is at %s, which is spelled otherwise: %v", b.Kind, b.ID, row.From, row.To, r.Outcome, r.Reason, at, err)
		}
	}
}

// meddle puts a foreign object at a name, or takes it away.
func (y *years) meddle(t *rapid.T) {
	if y.alone || rapid.IntRange(0, 3).Draw(t, "meddle") > 0 {
		return
	}
	key := archive.Key(rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f", "g"}).Draw(t, "stem") + rapid.SampledFrom([]string{".jpg", ".cr2"}).Draw(t, "ext"))
	if y.outsider && rapid.Bool().Draw(t, "outsider") {
		for _, from := range slices.Sorted(maps.Keys(contents(t, y.archive))) {
			if o, err := y.archive.Stat(context.Background(), from); err == nil && strings.HasPrefix(string(from), rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f"}).Draw(t, "from")) {
				_ = y.archive.Rename(context.Background(), store.RenameRequest{From: from, To: key, Want: o.Identity})
				if y.foreign[from] {
					delete(y.foreign, from)
					y.foreign[key] = true
				}
				return
			}
		}
	}
	if y.foreign[key] && contents(t, y.archive)[key] == "foreign" {
		check(t, y.archive.Delete(context.Background(), key, archive.Identity{}))
		delete(y.foreign, key)
	} else if y.archive.Create(context.Background(), key, strings.NewReader("foreign")) == nil {
		y.foreign[key] = true
	}
}

const (
	upward   = `{dir}/{name|replace("f","g")|replace("e","f")|replace("d","e")|replace("c","d")|replace("b","c")|replace("a","b")}{ext}`
	around   = `{dir}/{name|replace("e","z")|replace("d","e")|replace("c","d")|replace("b","c")|replace("a","b")|replace("z","a")}{ext}`
	swap     = `{dir}/{name|replace("a","z")|replace("c","a")|replace("z","c")|replace("d","z")|replace("e","d")|replace("z","e")}{ext}`
	downward = `{dir}/{name|replace("b","a")|replace("c","b")|replace("d","c")|replace("e","d")|replace("f","e")|replace("g","f")}{ext}`
)

// templates of batches; some of them change only the case of names.
func templates() []string {
	return []string{upward, around, around, swap, "n/{name}{ext}", "{dir}/{name|upper}{ext}", "{dir}/{name}{ext|upper}", "{dir}/{name|lower}{ext|lower}"}
}

// twoSteps reports whether a rename that is interrupted leaves an object at both names.
func twoSteps(st store.Store) bool {
	p := st.Properties()
	return p.Marks || !p.GuardedRename
}

// archives are disks, a bucket, a share that keeps inode numbers, and disks that fold names, on which renames are one step.
func archives() map[string]func() store.Store {
	all := foldingStores()
	delete(all, "share")
	delete(all, "numbers")
	all["nas"] = func() store.Store { return newNAS(false) }
	all["lone"] = func() store.Store { return lone{memstore.New(archive.Root{})} }
	all["lone folding"] = func() store.Store { return lone{memstore.NewFolding(archive.Root{}, naming.Fold)} }
	all["memory"] = func() store.Store { return memstore.New(archive.Root{}) }
	all["bucket"] = func() store.Store { return newBucketed(false, 1) }
	return all
}

// eachArchive checks draws of property on each kind of archive.
func eachArchive(t *testing.T, property func(t *rapid.T, st store.Store)) {
	for name, open := range archives() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rapid.Check(bubbled{t}, func(t *rapid.T) { property(t, open()) })
			})
		})
	}
}

// TestOutsiders: somebody renames objects meanwhile. No content is ever lost.
func TestOutsiders(t *testing.T) {
	eachArchive(t, func(t *rapid.T, st store.Store) {
		y := &years{archive: st, led: ledger.New(memstore.New(archive.Root{})), foreign: map[archive.Key]bool{}, outsider: true}
		for _, k := range []archive.Key{"a.cr2", "a.jpg", "b.jpg", "c.cr2", "c.jpg", "d.jpg", "e.cr2", "e.jpg", "none.txt"} {
			check(t, y.archive.Create(context.Background(), k, strings.NewReader("content of "+string(k))))
		}
		before := contents(t, y.archive)
		var all []batch.Batch
		for range rapid.IntRange(1, 5).Draw(t, "batches") {
			var b batch.Batch
			if len(all) == 0 || rapid.Bool().Draw(t, "rename") {
				b = y.rename(t, rapid.SampledFrom(append(templates(), downward)).Draw(t, "template"),
					rapid.SampledFrom(batch.Conflicts()).Draw(t, "policy"), rapid.SampledFrom([]int{3, 1000}).Draw(t, "rows"))
			} else {
				b = y.undo(t, rapid.SampledFrom(all).Draw(t, "undoes").ID)
			}
			y.carryOut(t, b)
			all = append(all, b)
		}
		got := slices.DeleteFunc(slices.Sorted(maps.Values(contents(t, y.archive))), func(s string) bool { return s == "foreign" })
		if twoSteps(st) { // a copy that was begun is at both names
			got = slices.Compact(got)
		}
		if diff := cmp.Diff(slices.Sorted(maps.Values(before)), got); diff != "" {
			t.Fatalf("contents (-want +got):\n%s", diff)
		}
	})
}

// TestBatches makes batches of chains and undos of them, carried out by workers that die, are cancelled, and find foreign objects at
// the names. Every record is true, nothing is lost, and when all is undone, the newest first, every name is as it was.
func TestBatches(t *testing.T) {
	eachArchive(t, func(t *rapid.T, st store.Store) {
		y := &years{archive: st, led: ledger.New(memstore.New(archive.Root{})), foreign: map[archive.Key]bool{}}
		for _, k := range []archive.Key{"a.cr2", "a.jpg", "b.jpg", "c.cr2", "c.jpg", "d.jpg", "e.cr2", "e.jpg", "none.txt"} {
			check(t, y.archive.Create(context.Background(), k, strings.NewReader("content of "+string(k))))
		}
		o, err := y.archive.Stat(context.Background(), "none.txt")
		check(t, err)
		y.alone = o.Inode == 0 && !st.Properties().Marks
		before := contents(t, y.archive)
		var all []batch.Batch
		for range rapid.IntRange(1, 4).Draw(t, "batches") {
			var b batch.Batch
			if len(all) == 0 || rapid.Bool().Draw(t, "rename") {
				b = y.rename(t, rapid.SampledFrom(templates()).Draw(t, "template"),
					rapid.SampledFrom(batch.Conflicts()).Draw(t, "policy"), rapid.SampledFrom([]int{3, 1000}).Draw(t, "rows"))
			} else {
				b = y.undo(t, rapid.SampledFrom(all).Draw(t, "undoes").ID)
			}
			y.carryOut(t, b)
			all = append(all, b)
		}
		got := contents(t, y.archive)
		for k := range y.foreign {
			check(t, y.archive.Delete(context.Background(), k, archive.Identity{}))
			delete(got, k)
		}
		values := slices.Sorted(maps.Values(got))
		if twoSteps(st) { // a copy that was begun is at both names
			values = slices.Compact(values)
		}
		if diff := cmp.Diff(slices.Sorted(maps.Values(before)), values); diff != "" {
			t.Fatalf("contents (-want +got):\n%s", diff)
		}
		y.foreign = map[archive.Key]bool{}
		for _, b := range slices.Backward(all) {
			y.settleAll(t, y.undo(t, b.ID))
		}
		if diff := cmp.Diff(before, contents(t, y.archive)); diff != "" {
			t.Errorf("archive after everything was undone (-want +got):\n%s", diff)
		}
	})
}

// An object whose name a later batch has changed, if only its case, does not go back by the undo of an older one, and in the right order all do.
func TestUndoBeforeALaterChangeOfCase(t *testing.T) {
	for name, open := range archives() {
		for _, template := range []string{upward, around, swap, "n/{name}{ext}"} {
			t.Run(name+"/"+template, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { undoBeforeALaterChangeOfCase(t, open(), template) })
			})
		}
	}
}

func undoBeforeALaterChangeOfCase(t *testing.T, st store.Store, template string) {
	y := &years{archive: st, led: ledger.New(memstore.New(archive.Root{}))}
	for _, k := range []archive.Key{"a.jpg", "b.jpg", "c.cr2", "c.jpg", "d.jpg", "e.jpg"} {
		check(t, st.Create(context.Background(), k, strings.NewReader("content of "+string(k))))
	}
	before := contents(t, st)
	first := y.rename(t, template, batch.ConflictSkip, 1000)
	y.settleAll(t, first)
	second := y.rename(t, "{dir}/{name|upper}{ext|upper}", batch.ConflictSkip, 1000)
	if y.settleAll(t, second) != int64(len(before)) {
		t.Fatal("the second batch does not rename all")
	}
	after := contents(t, st)
	if moved := y.settleAll(t, y.undo(t, first.ID)); moved != 0 || !maps.Equal(after, contents(t, st)) {
		t.Errorf("the undo of the first batch moves %d objects that the second one has renamed: %v", moved, contents(t, st))
	}
	for _, b := range []batch.Batch{second, first} {
		y.settleAll(t, y.undo(t, b.ID))
	}
	if diff := cmp.Diff(before, contents(t, st)); diff != "" {
		t.Errorf("archive after everything was undone (-want +got):\n%s", diff)
	}
}
