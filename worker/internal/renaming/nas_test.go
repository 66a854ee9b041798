package renaming_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/naming"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/filestore"
	"github.com/reshelf/reshelf/shared/store/memstore"
)

// onNAS is an archive whose renames take two steps, with a plan of a chain: each row "from -> to", or "from -> to @ group". In directories all
// objects have one size and one time.
func onNAS(t tester, st store.Store, moves ...string) *world {
	t.Helper()
	w := &world{archive: &hooked{Store: st}, led: ledger.New(memstore.New(archive.Root{})), batch: batch.Batch{ID: idA, AssumeSingleWriter: true}}
	check(t, st.Create(context.Background(), "another", strings.NewReader("another")))
	for i, move := range moves {
		move, group, _ := strings.Cut(move, " @ ")
		from, to, _ := strings.Cut(move, " -> ")
		check(t, st.Create(context.Background(), archive.Key(from), strings.NewReader("content of "+from)))
		if st.Properties().Root.Path() != "" {
			day := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
			check(t, os.Chtimes(filepath.Join(rootOf(st), from), day, day))
		}
		o, err := st.Stat(context.Background(), archive.Key(from))
		check(t, err)
		r := batch.Row{N: int64(i), From: o.Key, To: archive.Key(to), Want: o.Identity, OpID: fmt.Sprintf("op%d", i), Chain: 1, Group: archive.Key(group)}
		r.Park = archive.Key("parked-" + from)
		w.rows = append(w.rows, r)
	}
	w.seal(t)
	return w
}

func link(t tester, st store.Store, from, to archive.Key) {
	t.Helper()
	o, err := st.Stat(context.Background(), from)
	check(t, err)
	check(t, st.Copy(context.Background(), store.CopyRequest{From: from, To: to, Want: o.Identity, Link: true}))
}

// shares are real directories whose renames are a second link and the removal of the first, or one step that no batch trusts, and one in memory.
func shares(t *testing.T) map[string]func() store.Store {
	t.Helper()
	open := func(unguard bool) func() store.Store {
		return func() store.Store {
			// A ledger's store renames as an archive's does, and lets this test delete and create.
			st, err := filestore.Open(t.TempDir(), filestore.Options{Ledger: true})
			check(t, err)
			t.Cleanup(func() { check(t, st.Close()) })
			if unguard {
				return linking{st}
			}
			return lone{st}
		}
	}
	return map[string]func() store.Store{"memory": func() store.Store { return newNAS(false) }, "card": func() store.Store { return newCard(false) }, "link+unlink": open(true), "renameat2": open(false)}
}

// linking is a directory as seen where renames take two steps; each of them is around.
type linking struct{ *filestore.Store }

func (l linking) Properties() store.Properties {
	p := l.Store.Properties()
	p.GuardedRename, p.AtomicRename, p.Exchange = false, false, false
	p.Parks = true // new files keep their numbers, also below overlayfs
	return p
}

func (l linking) Rename(ctx context.Context, req store.RenameRequest) error {
	return l.rename(ctx, req, func(do func() error) error { return do() })
}

func (l linking) rename(ctx context.Context, req store.RenameRequest, around func(func() error) error) error {
	c := &card{Store: l.Store, links: true, inodes: true}
	return c.rename(ctx, req, around)
}

// Executions die before and after every operation, each followed by one that goes on, or finds that the batch was cancelled, and by an undo
// that dies there too.
func TestChainOnAShareDiesAnywhere(t *testing.T) {
	plans := map[string][]string{
		"swap":   {"a -> b", "b -> a"},
		"chain":  {"c -> d", "b -> c", "a -> b"},
		"groups": {"a.jpg -> b.jpg @ a.jpg", "a.xmp -> b.xmp @ a.jpg", "b.jpg -> a.jpg"},
	}
	for plan, moves := range plans {
		for kind, open := range shares(t) {
			t.Run(plan+"/"+kind, func(t *testing.T) {
				survived := false
				for left := 1; !survived && !t.Failed(); left++ {
					for _, last := range []bool{false, true} {
						for _, cancelled := range []bool{false, true} {
							w := onNAS(t, open(), moves...)
							survived = dieOnAShare(t, w, left, last, cancelled) || survived
						}
					}
				}
			})
		}
	}
}

// So do those where the names that objects get are spelled otherwise than those that others leave.
func TestChainWhereNamesAreFoldedDiesAnywhere(t *testing.T) {
	plans := map[string][]string{
		"swap":   {"a -> B", "b -> A"},
		"chain":  {"c -> d", "b -> C", "a -> B"},
		"groups": {"a.jpg -> B.jpg @ a.jpg", "a.xmp -> B.xmp @ a.jpg", "b.jpg -> a.JPG"},
	}
	stores := map[string]func() store.Store{
		"link+unlink": func() store.Store { return newNAS(true) },
		"renameat2":   func() store.Store { return lone{memstore.NewFolding(archive.Root{}, naming.Fold)} },
	}
	for plan, moves := range plans {
		for kind, open := range stores {
			t.Run(plan+"/"+kind, func(t *testing.T) {
				survived := false
				for left := 1; !survived && !t.Failed(); left++ {
					for _, last := range []bool{false, true} {
						for _, cancelled := range []bool{false, true} {
							survived = dieOnAShare(t, onNAS(t, open(), moves...), left, last, cancelled) || survived
						}
					}
				}
			})
		}
	}
}

func dieOnAShare(t *testing.T, w *world, left int, last, cancelled bool) (survived bool) {
	t.Helper()
	before := contents(t, w.archive.Store)
	if w.diesAfter(left, last) == nil {
		return true
	}
	at := fmt.Sprintf("after %d, last %t, cancelled %t", left, last, cancelled)
	check(t, w.execute(claim{cancelled: cancelled}))
	w.checkWorld(t, nil)
	w.checkGroups(t)
	for key, r := range w.records(t) {
		if r.Outcome != batch.Done && !cancelled {
			t.Errorf("%s: %s: %s: %s", at, key, r.Outcome, r.Message)
		}
	}
	u := w.planUndo(t)
	if len(u.rows) > 0 {
		_ = u.diesAfter(left, last)
		check(t, u.execute(claim{}))
	}
	if diff := cmp.Diff(before, contents(t, w.archive.Store)); diff != "" {
		t.Errorf("%s: after the undo (-want +got):\n%s", at, diff)
	}
	return false
}

// A batch is undone whose execution died and was never followed. The undo dies, too, and is followed. Also where it could go in one step.
func TestUndoOfAChainOnAShareThatDied(t *testing.T) {
	for kind, open := range shares(t) {
		t.Run(kind, func(t *testing.T) {
			survived := false
			for left := 1; !survived && !t.Failed(); left++ {
				for _, last := range []bool{false, true} {
					w := onNAS(t, open(), "a -> b", "b -> a", "x -> y", "y -> z")
					before := contents(t, w.archive.Store)
					survived = w.diesAfter(left, last) == nil || survived
					w.batch.AssumeSingleWriter = !w.archive.Properties().GuardedRename
					u := w.again(t, idB)
					if len(u.rows) == 0 {
						continue
					}
					_ = u.diesAfter(left, last)
					check(t, u.execute(claim{}))
					if diff := cmp.Diff(before, contents(t, w.archive.Store)); diff != "" {
						t.Errorf("after %d, last %t (-want +got):\n%s", left, last, diff)
					}
				}
			}
		})
	}
}

// A batch is undone whose execution died and was never followed, and then the undo, which died too.
func TestUndoOfAnUndoOnAShareThatWasNotRecorded(t *testing.T) {
	for kind, open := range shares(t) {
		t.Run(kind, func(t *testing.T) {
			survived := false
			for left := 1; !survived && !t.Failed(); left++ {
				for _, last := range []bool{false, true} {
					w := onNAS(t, open(), "a -> b", "b -> a", "x.jpg -> y.jpg @ x.jpg", "x.xmp -> y.xmp @ x.jpg", "y.jpg -> z.jpg")
					before := contents(t, w.archive.Store)
					survived = w.diesAfter(left, last) == nil || survived
					u := w.again(t, idB)
					if len(u.rows) == 0 {
						continue
					}
					_ = u.diesAfter(left, last)
					v := u.again(t, "01arz3ndektsv4rrffq69g5faz")
					if len(v.rows) > 0 {
						check(t, v.execute(claim{}))
					}
					if got := contents(t, w.archive.Store); len(got) < len(before) {
						t.Fatalf("after %d, last %t: %v", left, last, got)
					}
					check(t, u.execute(claim{}))
					for key, r := range u.records(t) {
						if r.Outcome == batch.Failed {
							t.Errorf("after %d, last %t: %s: %s", left, last, key, r.Message)
						}
					}
				}
			}
		})
	}
}

// An object that somebody writes to while it is on its way is left where it is then, and its record says so. An undo takes it home.
func TestChangedOnItsWay(t *testing.T) {
	for kind, open := range shares(t) {
		if kind == "memory" || kind == "card" {
			continue // a memory gives what is written anew another number, or has none
		}
		for at, want := range map[archive.Key]string{"parked-a": "failed: changed, at parked-a", "b": "failed: changed, at b", "a": "skipped: changed"} {
			t.Run(fmt.Sprintf("%s/%s", kind, at), func(t *testing.T) {
				st := open()
				w := onNAS(t, st, "b -> c", "a -> b")
				for left := 1; contents(t, st)[at] != "content of a"; left++ {
					if w.diesAfter(left, true) == nil {
						t.Fatalf("a never was at %s", at)
					}
				}
				check(t, os.WriteFile(filepath.Join(rootOf(st), string(at)), []byte("CONTENT of a, changed"), 0o600))
				check(t, w.execute(claim{}))
				if got := w.outcomes(t)["a"]; got != want {
					t.Errorf("a: %s, want %s: %s", got, want, w.records(t)["a"].Message)
				}
				if got := contents(t, st)[at]; got != "CONTENT of a, changed" {
					t.Errorf("at %s: %q", at, got)
				}
				if b := w.records(t)["b"]; contents(t, st)[cmpOr(b.To, b.Key)] != "content of b" {
					t.Errorf("b is recorded at %q: %v", b.To, contents(t, st))
				}
				u := w.planUndo(t)
				if len(u.rows) > 0 {
					check(t, u.execute(claim{}))
				}
				if diff := cmp.Diff(map[archive.Key]string{"another": "another", "a": "CONTENT of a, changed", "b": "content of b"}, contents(t, st)); diff != "" {
					t.Errorf("after the undo (-want +got):\n%s", diff)
				}
			})
		}
	}
}

func cmpOr(a, b archive.Key) archive.Key {
	if a != "" {
		return a
	}
	return b
}

func rootOf(st store.Store) string { return st.Properties().Root.Path() }

// Somebody makes hard links of the objects at any names while executions die. No content is ever without a name, and every record is true.
func TestForeignLinksInAChain(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		st := newNAS(rapid.Bool().Draw(rt, "folds"))
		w := onNAS(rt, st, "a -> b", "b -> c", "c -> a", "d -> e")
		names := []archive.Key{"a", "b", "c", "d", "e", "parked-a", "parked-b", "parked-c", "parked-d", "foreign"}
		meddle := func(label string) {
			if !rapid.Bool().Draw(rt, label) {
				return
			}
			from, to := rapid.SampledFrom(names).Draw(rt, "link of"), rapid.SampledFrom(names).Draw(rt, "at")
			if o, err := st.Stat(context.Background(), from); err == nil {
				_ = st.Copy(context.Background(), store.CopyRequest{From: from, To: to, Want: o.Identity, Link: true})
			}
		}
		all := func(when string) {
			there := map[string]bool{}
			for _, content := range contents(rt, st) {
				there[content] = true
			}
			for _, r := range w.rows {
				if !there["content of "+string(r.From)] {
					rt.Fatalf("%s: the content of %s is gone: %v", when, r.From, contents(rt, st))
				}
			}
		}
		carryOut := func(w *world) {
			for range rapid.IntRange(0, 3).Draw(rt, "deaths") {
				meddle("meddle")
				_ = w.diesAfter(rapid.IntRange(1, 60).Draw(rt, "left"), rapid.Bool().Draw(rt, "last"))
				all("after a death")
			}
			meddle("meddle at last")
			check(rt, w.execute(claim{cancelled: rapid.IntRange(0, 3).Draw(rt, "cancelled") == 0}))
			all("after all")
			records := w.records(rt)
			for _, row := range w.rows {
				r, at := records[row.From], cmpOr(records[row.From].To, row.From)
				if !row.Moves() {
					continue
				}
				if o, err := st.Stat(context.Background(), at); r.Reason != batch.ReasonMissing && r.Reason != batch.ReasonChanged && (err != nil || o.Identity != r.Identity) {
					rt.Errorf("%s is not at %s: %s %s", row.From, at, r.Outcome, r.Message)
				}
			}
		}
		carryOut(w)
		if u := w.planUndo(rt); len(u.rows) > 0 {
			carryOut(u)
		}
	})
}

// What somebody linked to the new name of an object that has not left is not ours: the object stays, and so do those that wait for its name.
func TestForeignLinkAtTheNewName(t *testing.T) {
	for kind, open := range shares(t) {
		t.Run(kind, func(t *testing.T) {
			w := onNAS(t, open(), "b -> c", "a -> b")
			link(t, w.archive.Store, "b", "c")
			w.archive.before = func(op string, key archive.Key) error {
				if op == "rename" {
					t.Errorf("%s is renamed", key)
				}
				return nil
			}
			check(t, w.execute(claim{}))
			if diff := cmp.Diff(map[archive.Key]string{"a": "failed: conflict", "b": "failed: conflict"}, w.outcomes(t)); diff != "" {
				t.Errorf("outcomes (-want +got):\n%s", diff)
			}
			want := map[archive.Key]string{"another": "another", "a": "content of a", "b": "content of b", "c": "content of b"}
			if diff := cmp.Diff(want, contents(t, w.archive.Store)); diff != "" {
				t.Errorf("archive (-want +got):\n%s", diff)
			}
		})
	}
}

// renumbered is an archive whose inode numbers may change, as below overlayfs.
type renumbered struct{ store.Store }

func (r renumbered) Properties() store.Properties {
	p := r.Store.Properties()
	p.AtomicRename, p.Exchange, p.Parks = false, false, false
	return p
}

// A worker that finds the archive where numbers may change moves nothing, and says so; where another one has begun, it gives the segment back.
func TestChainWhereNumbersMayChange(t *testing.T) {
	w := onNAS(t, newNAS(false), "a -> b", "b -> a")
	before := contents(t, w.archive.Store)
	check(t, w.executeOn(claim{}, renumbered{w.archive}))
	if diff := cmp.Diff(map[archive.Key]string{"a": "failed: unsupported", "b": "failed: unsupported"}, w.outcomes(t)); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(before, contents(t, w.archive.Store)); diff != "" {
		t.Errorf("archive (-want +got):\n%s", diff)
	}

	w = onNAS(t, newNAS(false), "a -> b", "b -> a")
	if w.diesAfter(20, true) == nil {
		t.Fatal("it did not die")
	}
	half := contents(t, w.archive.Store)
	if err := w.executeOn(claim{}, renumbered{w.archive}); err == nil || !strings.Contains(err.Error(), "inode numbers") {
		t.Errorf("it went on: %v", err)
	}
	w.archive.Store = renumbered{w.archive.Store}
	for _, r := range w.planUndo(t).rows {
		if r.Moves() || r.Reason != batch.ReasonUnsupported {
			t.Errorf("undo: %s: %s", r.From, r.Reason)
		}
	}
	if diff := cmp.Diff(half, contents(t, w.archive.Store)); diff != "" {
		t.Errorf("archive (-want +got):\n%s", diff)
	}
}

// A new name on another device would take a copy, which no inode number tells. The object goes home, or stays at the name in between where
// another one has its old name already, and the undo brings it back.
func TestChainToAnotherDevice(t *testing.T) {
	w := onNAS(t, newNAS(false), "b -> c", "a -> b")
	before := contents(t, w.archive.Store)
	refused := false
	w.archive.before = func(op string, key archive.Key) error {
		if op == "rename" && key == "parked-b" && !refused {
			refused = true
			return fmt.Errorf("another device: %w", store.ErrUnsupported)
		}
		return nil
	}
	check(t, w.execute(claim{}))
	w.alive()
	w.checkWorld(t, nil)
	if b := w.records(t)["b"]; b.Outcome != batch.Failed || !strings.Contains(b.Message, "another device") {
		t.Errorf("b: %s %s", b.Outcome, b.Message)
	}
	if u := w.planUndo(t); len(u.rows) > 0 {
		check(t, u.execute(claim{}))
	}
	if diff := cmp.Diff(before, contents(t, w.archive.Store)); diff != "" {
		t.Errorf("archive (-want +got):\n%s", diff)
	}
}

// What was carried out in one step can be undone by way of names in between, where nobody else writes.
func TestUndoByASingleWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(bubbled{t}, func(t *rapid.T) {
			w := drawWorld(t, memstore.New(archive.Root{}))
			before := contents(t, w.archive.Store)
			check(t, w.execute(claim{}))
			w.batch.AssumeSingleWriter = true
			u := w.again(t, idB)
			for range rapid.IntRange(0, 3).Draw(t, "deaths") {
				_ = u.diesAfter(rapid.IntRange(1, 60).Draw(t, "left"), rapid.Bool().Draw(t, "last"))
			}
			check(t, u.execute(claim{}))
			if diff := cmp.Diff(before, contents(t, w.archive.Store)); diff != "" {
				t.Errorf("after the undo (-want +got):\n%s", diff)
			}
		})
	})
}

// Later batches have taken objects of a chain away and brought them to the same names again. They are there by the last one, which has to be
// undone first.
func TestUndoOfAChainThatOthersBroughtAgain(t *testing.T) {
	kinds := map[string]func() store.Store{
		"bucket": func() store.Store { return newBucketed(false, 1) },
		"nas":    func() store.Store { return newNAS(false) },
		"lone":   func() store.Store { return lone{memstore.New(archive.Root{})} },
	}
	rapid.Check(t, func(t *rapid.T) {
		st := kinds[rapid.SampledFrom([]string{"bucket", "nas", "lone"}).Draw(t, "kind")]()
		y := &years{archive: st, led: ledger.New(memstore.New(archive.Root{})), foreign: map[archive.Key]bool{}}
		for _, k := range []archive.Key{"a.jpg", "b.cr2", "b.jpg", "c.jpg"} {
			check(t, st.Create(context.Background(), k, strings.NewReader("content of "+string(k))))
		}
		before := contents(t, st)
		var all []batch.Batch
		for _, template := range []string{rapid.SampledFrom([]string{upward, around, swap}).Draw(t, "template"), "n/{name}{ext}", "{name}{ext}"} {
			b := y.rename(t, template, batch.ConflictSkip, 1000)
			y.settleAll(t, b)
			all = append(all, b)
		}
		p, _, err := y.led.Plan(context.Background(), y.undo(t, all[0].ID).ID)
		check(t, err)
		for r, err := range y.led.Rows(context.Background(), p) {
			check(t, err)
			if r.Chain != 0 && r.Reason != batch.ReasonConflict && r.Reason != batch.ReasonGroup {
				t.Errorf("%s to %s: %s %s: %s", r.From, r.To, r.Outcome, r.Reason, r.Message)
			}
		}
		for _, b := range slices.Backward(all) {
			y.settleAll(t, y.undo(t, b.ID))
		}
		if diff := cmp.Diff(before, contents(t, st)); diff != "" {
			t.Errorf("after all was undone (-want +got):\n%s", diff)
		}
	})
}

// asking notes which renames could become copies to another device.
type asking struct {
	store.Store
	copies *atomic.Int64
}

func (a asking) Rename(ctx context.Context, req store.RenameRequest) error {
	if !req.SameFile {
		a.copies.Add(1)
	}
	return a.Store.Rename(ctx, req)
}

// On no disk an object of a chain is copied to another device: half a copy could not be told from the object.
func TestChainsOnDisksAreNotCopied(t *testing.T) {
	for kind, st := range map[string]store.Store{"nas": newNAS(false), "card": newCard(false)} {
		copies := &atomic.Int64{}
		w := onNAS(t, asking{st, copies}, "a -> b", "b -> a")
		check(t, w.execute(claim{}))
		if n := copies.Load(); n > 0 {
			t.Errorf("%s: %d renames may be copies", kind, n)
		}
	}
}
