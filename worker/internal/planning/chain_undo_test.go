package planning_test

import (
	"context"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/filestore"
	"github.com/reshelf/reshelf/worker/internal/planning"
)

// down gives most objects the name of the one before.
const down = `{dir}/{name|replace("b","a")|replace("c","b")|replace("d","c")|replace("e","d")|replace("f","e")` +
	`|replace("02","01")|replace("03","02")|replace("04","03")|replace("05","04")|replace("06","05")}{ext}`

// TestUndosInOrder is TestUndosProperties where all batches, undos too, are undone in the reverse of the order in which they
// were carried out. Then every name is as it was.
func TestUndosInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawDisk(t)
		w.put(t, []object{
			{key: "a.jpg", day: 1}, {key: "b.jpg", day: 2}, {key: "b.xmp"}, {key: "c.cr2", day: 3}, {key: "c.jpg"}, {key: "d.jpg", day: 4}, {key: "e.jpg", day: 5}, {key: "none.txt"},
		})
		before := w.contents(t)
		next := 0
		newID := func() batch.ID { next++; return batch.ID(fmt.Sprintf("01arz3ndektsv4rrffq69%05d", next)) }
		var all []made
		for range rapid.IntRange(1, 6).Draw(t, "batches") {
			var m made
			if len(all) == 0 || rapid.IntRange(0, 2).Draw(t, "kind") == 0 {
				template := rapid.SampledFrom([]string{"n/{date:%d}{ext}", "{date:%d}{ext}", up, up, down, down, turn, turn, swap, swap}).Draw(t, "template")
				if rapid.Bool().Draw(t, "upper") {
					template = strings.ReplaceAll(template, "{ext}", "{ext|upper}")
				}
				policy := rapid.SampledFrom(batch.Conflicts()).Draw(t, "policy")
				m.batch = renameBatch(newID(), template, policy)
				m.batch.AssumeSingleWriter = w.single
				w.inspect(t, m.batch, nil, nil)
				_, m.rows = w.plan(t, m.batch, planning.Options{Rows: rapid.SampledFrom([]int{2, 1000}).Draw(t, "rows")})
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
				m = w.undoing(t, newID(), of.batch.ID, keys)
			}
			crashed := -1
			if rapid.IntRange(0, 2).Draw(t, "crash") == 0 {
				crashed = rapid.IntRange(0, 16).Draw(t, "legs before the crash")
			}
			w.carryOut(t, m.batch.ID, crashed)
			all = append(all, m)
			w.checkContents(t, before)
			if rapid.IntRange(0, 3).Draw(t, "copies") == 0 {
				var copied []past
				for key := range w.contents(t) {
					copied = append(copied, past{key, "elsewhere/" + key, true})
				}
				w.happenedCopies(t, newID(), copied)
			}
		}
		for _, m := range slices.Backward(all) {
			u := w.undoing(t, newID(), m.batch.ID, nil)
			w.carryOut(t, u.batch.ID, -1)
			w.checkContents(t, before)
		}
		if diff := cmp.Diff(before, w.contents(t)); diff != "" {
			t.Errorf("archive after everything was undone (-want +got):\n%s", diff)
		}
	})
}

// An undo that finds objects of a chain to be back, since another batch has brought them there, says nothing of who did: what was half way can be undone
// after it.
func TestUndoThatFoundChainBack(t *testing.T) {
	w := newWorld()
	w.put(t, []object{{key: "a.jpg"}, {key: "b.jpg"}, {key: "c.jpg"}, {key: "d.jpg"}, {key: "e.jpg"}})
	before, next := w.contents(t), 0
	newID := func() batch.ID { next++; return batch.ID(fmt.Sprintf("01arz3ndektsv4rrffq69%05d", next)) }
	var all []batch.ID
	carryOut := func(id batch.ID, crashed int) batch.ID {
		w.carryOut(t, id, crashed)
		all = append(all, id)
		return id
	}
	rename := func(template string, crashed int) batch.ID {
		b := renameBatch(newID(), template, batch.ConflictSkip)
		w.inspect(t, b, nil, nil)
		w.plan(t, b, planning.Options{})
		return carryOut(b.ID, crashed)
	}
	circle := rename(turn, 2)
	chain := rename(up, -1)
	carryOut(w.undoing(t, newID(), chain, nil).batch.ID, -1)
	carryOut(w.undoing(t, newID(), circle, nil).batch.ID, -1)
	for _, id := range slices.Backward(all) {
		w.carryOut(t, w.undoing(t, newID(), id, nil).batch.ID, -1)
	}
	if diff := cmp.Diff(before, w.contents(t)); diff != "" {
		t.Errorf("archive after everything was undone (-want +got):\n%s", diff)
	}
}

// drawDisk draws whether renames are one step, whether files have inode numbers, and whether batches assume that nobody else writes.
func drawDisk(t *rapid.T) *world {
	w := newWorld()
	if rapid.Bool().Draw(t, "folds") {
		w = newFoldingWorld()
	}
	w.single = rapid.Bool().Draw(t, "single writer")
	switch {
	case rapid.IntRange(0, 3).Draw(t, "numbers") == 0:
		w.archive = numberless{w.archive}
	case w.single && rapid.Bool().Draw(t, "two steps"):
		w.archive = twoSteps{w.archive}
	}
	return w
}

// numberless is the same archive as a disk shows it that keeps no inode numbers, as vfat and exFAT.
type numberless struct{ store.Store }

func (s numberless) Properties() store.Properties {
	p := s.Store.Properties()
	p.AtomicRename, p.Exchange = false, false
	return p
}

func (s numberless) Stat(ctx context.Context, key archive.Key) (archive.Object, error) {
	o, err := s.Store.Stat(ctx, key)
	o.Inode = 0
	return o, err
}

func (s numberless) List(ctx context.Context, opts store.ListOptions) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		for e, err := range s.Store.List(ctx, opts) {
			if e.Inode = 0; !yield(e, err) {
				return
			}
		}
	}
}

// twoSteps is the same archive seen from where a rename takes two steps, as over NFS.
type twoSteps struct{ store.Store }

func (s twoSteps) Properties() store.Properties {
	p := s.Store.Properties()
	p.AtomicRename, p.GuardedRename, p.Exchange = false, false, false
	return p
}

// shifted is an archive in which 1, 2 and 3 went to 2, 3 and 4 in a chain.
func shifted(t *testing.T) *world {
	t.Helper()
	w := newWorld()
	w.put(t, []object{{key: "n/01.jpg", day: 2}, {key: "n/02.jpg", day: 3}, {key: "n/03.jpg", day: 4}})
	b := renameBatch(idA, shift, batch.ConflictStop)
	w.inspect(t, b, nil, nil)
	w.plan(t, b, planning.Options{})
	w.carryOut(t, idA, -1)
	return w
}

// Where files have no inode numbers, objects that are alike in size and time do not get one another's names.
func TestPlanOfTwinsWithoutNumbers(t *testing.T) {
	w := newWorld()
	w.put(t, []object{{key: "n/01.jpg", day: 2}, {key: "n/02.jpg", day: 3}, {key: "n/03.jpg", day: 4}})
	w.archive = alike{numberless{w.archive}, "n/01.jpg"}
	b := renameBatch(idA, shift, batch.ConflictStop)
	w.inspect(t, b, nil, nil)
	_, rows := w.plan(t, b, planning.Options{})
	want := map[archive.Key]string{"n/01.jpg": "failed: target-exists", "n/02.jpg": "n/03.jpg", "n/03.jpg": "n/04.jpg"}
	if diff := cmp.Diff(want, outcomes(rows)); diff != "" {
		t.Errorf("plan (-want +got):\n%s", diff)
	}
}

// alike shows an object with the time of the next one.
type alike struct {
	store.Store
	key archive.Key
}

func (s alike) List(ctx context.Context, opts store.ListOptions) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		for e, err := range s.Store.List(ctx, opts) {
			if e.Key == s.key {
				e.MTime++
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// passing is the same archive seen from where inode numbers can change, as below overlayfs.
type passing struct{ store.Store }

func (s passing) Properties() store.Properties {
	p := s.Store.Properties()
	p.AtomicRename, p.Exchange, p.Parks = false, false, false
	return p
}

// An undo, too, lets an object have the name that another one leaves at once only where a rename is one step. Elsewhere all go by way of
// names in between, where inode numbers stay.
func TestUndoOfChainWhereRenamesTakeTwoSteps(t *testing.T) {
	tests := map[string]struct {
		twoSteps, passing, alone bool
	}{"single writer": {alone: true}, "two steps, single writer": {twoSteps: true, alone: true}, "numbers that change": {passing: true}}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := shifted(t)
			if tt.twoSteps {
				w.archive = twoSteps{w.archive}
			}
			if tt.passing {
				w.archive = passing{w.archive}
			}
			b := undoBatch(idB, idA)
			b.AssumeSingleWriter = tt.alone
			check(t, w.led.CreateBatch(t.Context(), b))
			check(t, planning.Undo(t.Context(), claim{}, w.led, w.archive, b, 3, over, func(string) {}))
			_, rows := w.sealed(t, idB)
			for _, r := range rows {
				_, err := w.archive.Stat(t.Context(), r.To)
				if taken := err == nil; r.Moves() && taken && r.Park == "" {
					t.Errorf("%s is to go to %s, which is not free yet, where a rename takes two steps", r.From, r.To)
				}
				if !tt.passing && (!r.Moves() || r.Park == "") {
					t.Errorf("%s: %s, by way of %q", r.From, outcome(r), r.Park)
				}
			}
		})
	}
}

// What has the old name of the chosen object is one of the same batch, and the message does not call it something else.
func TestUndoOfChosenInChain(t *testing.T) {
	w := shifted(t)
	u := w.undoing(t, idB, idA, []archive.Key{"n/03.jpg"})
	for _, r := range u.rows {
		if !r.Moves() && strings.Contains(r.Message, "something else has the old name") {
			t.Errorf("%s: %s", r.From, r.Message)
		}
	}
}

// An object that was deleted before its turn came is not said to have changed since it was renamed.
func TestUndoOfCrashedChain(t *testing.T) {
	w := newWorld()
	w.put(t, []object{{key: "n/01.jpg", day: 2}, {key: "n/02.jpg", day: 3}, {key: "n/03.jpg", day: 4}})
	b := renameBatch(idA, shift, batch.ConflictStop)
	w.inspect(t, b, nil, nil)
	w.plan(t, b, planning.Options{})
	w.carryOut(t, idA, 1) // 3 went to 4
	// somebody deletes 1, which the batch has not renamed
	w.remove(t, "n/01.jpg")
	u := w.undoing(t, idB, idA, nil)
	for _, r := range u.rows {
		if r.To == "n/01.jpg" && strings.Contains(r.Message, "since it was renamed") {
			t.Errorf("%s, which the batch has not renamed, and is deleted: %s %s: %s", r.To, r.Outcome, r.Reason, r.Message)
		}
	}
}

// On a file system that tells case, N/03.JPG does not free n/03.jpg.
func TestUndoOfChainTellsCase(t *testing.T) {
	w := newWorld()
	w.put(t, []object{{key: "n/01.jpg", day: 3}, {key: "n/03.JPG", day: 4}})
	b := renameBatch(idA, shift, batch.ConflictStop)
	w.inspect(t, b, nil, nil)
	_, rows := w.plan(t, b, planning.Options{})
	if rows[0].Chain == 0 {
		t.Fatalf("no chain: %v", rows)
	}
	w.carryOut(t, idA, -1)
	w.create(t, "n/03.JPG") // foreign
	u := w.undoing(t, idB, idA, nil)
	for _, r := range u.rows {
		if r.To == "n/03.JPG" && r.Moves() {
			t.Errorf("%s is to go back to %s, which somebody else has", r.From, r.To)
		}
	}
}

var shifts = []string{
	`{dir}/{name|replace("x_2","x_3")|replace("01","02")|replace("IMG_1","IMG_O1")|replace("IMG_O1","x_2")}{ext}`,
	`{dir}/{name|replace("02","x")|replace("01","02")|replace("x_3","x_400")|replace("x_2","x_3")}{ext}`,
	`{dir}/{name|replace("x","n")|replace("n","01")|replace("01","02")}{ext}`,
	`n/{name|replace("01","02")|replace("02","x_2")|replace("img_1","01")}{ext}`,
	`{dir}/{date:%d??"x"}{ext}`, `{dir}/{date:%d??"x_2"}{ext}`, `{dir}/{seq:2}{ext}`, `{dir}/x_{seq}{ext}`, `n/{seq:2}{ext}`,
	`{dir}/{name|replace("x","#")|replace("01","x")|replace("#","01")}{ext}`, `{dir}/{name|replace("x_2","#")|replace("x_3","x_2")|replace("01","x_3")|replace("#","01")}{ext}`,
	`{dir}/{name|replace("x","X")|replace("img","IMG")}{ext|lower}`,
}

// TestShifts is TestPlanProperties with templates that shift names, and plans with least memory.
func TestShifts(t *testing.T) {
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
		b := renameBatch(idA, rapid.SampledFrom(shifts).Draw(t, "template"), rapid.SampledFrom(batch.Conflicts()).Draw(t, "policy"))
		drawSecond(t, b)
		w.inspect(t, b, problems, func(k archive.Key) bool { return excluded[k] })
		opts := planning.Options{Rows: rapid.SampledFrom([]int{4, 1000}).Draw(t, "rows"), Memory: 1}
		p, rows := w.plan(t, b, opts)
		checkRows(t, p, rows, listed, opts.Rows)
		checkTargets(t, rows, objects)
		checkBroken(t, rows, problems)
		checkSummary(t, p, rows)
		again := newWorldLike(w)
		if _, same := again.plan(t, b, planning.Options{Rows: opts.Rows}); cmp.Diff(rows, same) != "" {
			t.Errorf("a second execution plans something else:\n%s", cmp.Diff(rows, same))
		}
		before := w.contents(t)
		w.apply(t, rows)
		checkMoved(t, before, w.contents(t), rows)
		w.undoAfter(t, b.ID, before)
	})
}

// undoAfter undoes a batch that was carried out and has no records.
func (w *world) undoAfter(t tester, id batch.ID, before map[archive.Key]string) {
	t.Helper()
	u := undoBatch(idB, id)
	check(t, w.led.CreateBatch(context.Background(), u))
	check(t, planning.Undo(context.Background(), claim{}, w.led, w.archive, u, 3, over, func(string) {}))
	_, rows := w.sealed(t, idB)
	w.apply(t, rows)
	if diff := cmp.Diff(before, w.contents(t)); diff != "" {
		t.Errorf("archive after the undo (-want +got):\n%s", diff)
	}
}

// The batch is done and recorded. Then the sidecar of the last group is edited in place; its old name is that of another one now, which
// goes back first. Its group stays, as it does without a chain.
func TestUndoOfEditedInChain(t *testing.T) {
	for name, objects := range map[string][]object{
		"alone": {{key: "n/02.cr2", day: 3}, {key: "n/02.xmp"}},
		"chain": {{key: "n/01.cr2", day: 2}, {key: "n/01.xmp"}, {key: "n/02.cr2", day: 3}, {key: "n/02.xmp"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			w.put(t, objects)
			b := renameBatch(idA, shift, batch.ConflictStop)
			w.inspect(t, b, nil, nil)
			w.plan(t, b, planning.Options{})
			w.carryOut(t, idA, -1)
			check(t, w.archive.Replace(t.Context(), "n/03.xmp", strings.NewReader("edited")))
			got := outcomes(w.undoing(t, idB, idA, nil).rows)
			if got["n/03.xmp"] != "failed: changed" || got["n/03.cr2"] != "skipped: group" {
				t.Errorf("n/03.xmp: %s, n/03.cr2: %s; want that both stay, since the sidecar has changed", got["n/03.xmp"], got["n/03.cr2"])
			}
		})
	}
}

// Of two links of one file neither gets the name of the other, and the plan does not say that the other one does not move away.
func TestHardLinksInChain(t *testing.T) {
	for _, single := range []bool{false, true} {
		dir := t.TempDir()
		check(t, os.WriteFile(filepath.Join(dir, "01.jpg"), []byte("x"), 0o644))
		check(t, os.Link(filepath.Join(dir, "01.jpg"), filepath.Join(dir, "02.jpg")))
		st, err := filestore.Open(dir, filestore.Options{})
		check(t, err)
		defer st.Close()
		w := newWorld()
		w.archive = st
		b := renameBatch(idA, `{name|replace("02","03")|replace("01","02")}{ext}`, batch.ConflictStop)
		b.AssumeSingleWriter = single
		w.inspect(t, b, nil, nil)
		_, rows := w.plan(t, b, planning.Options{})
		for _, r := range rows {
			if r.From == "01.jpg" && r.Moves() {
				t.Errorf("single writer %t: 01.jpg is to get the name of 02.jpg, which is the same file", single)
			}
			if r.From == "01.jpg" && outcomes(rows)["02.jpg"] == "03.jpg" && strings.Contains(r.Message, "does not move away") {
				t.Errorf("single writer %t: 02.jpg moves to 03.jpg, and of 01.jpg the plan says: %s", single, r.Message)
			}
		}
	}
}

// The note tells of names in between, and of no copies where there are none.
func TestNoteOfNamesInBetween(t *testing.T) {
	w := newWorld()
	w.put(t, []object{{key: "n/01.jpg", day: 2}, {key: "n/02.jpg", day: 1}})
	b := renameBatch(idA, shift, batch.ConflictStop)
	b.AssumeSingleWriter = true
	w.inspect(t, b, nil, nil)
	p, rows := w.plan(t, b, planning.Options{})
	for _, r := range rows {
		if !r.Moves() || r.Park == "" {
			t.Errorf("%s: %s, by way of %q", r.From, outcome(r), r.Park)
		}
	}
	if notes := strings.Join(p.Summary.Notes, "\n"); !strings.Contains(notes, "first renamed to names in between (reshelf-") || strings.Contains(notes, "cop") {
		t.Errorf("notes %q", notes)
	}
}
