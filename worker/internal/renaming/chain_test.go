package renaming_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/filestore"
	"github.com/reshelf/reshelf/shared/store/memstore"
	"github.com/reshelf/reshelf/worker/internal/planning"
)

// seen is an archive as it is seen where a rename is one step, or is not, whatever the file system that the test runs on. Files that were
// just made keep their inodes on all of them.
type seen struct {
	store.Store
	oneStep bool
}

func (s seen) Properties() store.Properties {
	p := s.Store.Properties()
	p.AtomicRename, p.Exchange = s.oneStep, s.oneStep
	return p
}

// Exchange is that of the disk, which the store refuses where the inodes of older files can change.
func (s seen) Exchange(ctx context.Context, req store.ExchangeRequest) error {
	a, errA := s.Stat(ctx, req.A)
	b, errB := s.Stat(ctx, req.B)
	switch {
	case errA != nil || errB != nil:
		return errors.Join(errA, errB)
	case !req.WantA.Same(a.Identity) || !req.WantB.Same(b.Identity):
		return store.ErrChanged
	}
	path := func(key archive.Key) string { return filepath.Join(s.Properties().Root.Path(), string(key)) }
	return unix.Renameat2(unix.AT_FDCWD, path(req.A), unix.AT_FDCWD, path(req.B), unix.RENAME_EXCHANGE)
}

// Where a rename is not one step, no object gets a name that another one leaves, but the others are renamed.
func TestChainWhereRenamesTakeTwoSteps(t *testing.T) {
	w, _ := files(t, false, "3 -> 4", "2 -> 3", "9 -> 8")
	w.archive.Store = seen{w.archive.Store, false}
	check(t, w.execute(claim{}))
	records := w.records(t)
	if records["3"].To != "4" || records["9"].To != "8" || records["2"].Reason != batch.ReasonUnsupported || records["2"].To != "" {
		t.Errorf("records: %v", records)
	}
}

// files is an archive of real files, with a plan of a chain: each row "from -> to", in their order.
func files(t *testing.T, group bool, moves ...string) (*world, string) {
	t.Helper()
	dir := t.TempDir()
	st, err := filestore.Open(dir, filestore.Options{})
	check(t, err)
	t.Cleanup(func() { st.Close() })
	w := &world{archive: &hooked{Store: seen{st, true}}, led: ledger.New(memstore.New(archive.Root{})), batch: batch.Batch{ID: idA, Kind: batch.Rename}}
	for i, move := range moves {
		from, to, _ := strings.Cut(move, " -> ")
		check(t, os.WriteFile(filepath.Join(dir, from), []byte("content of "+from), 0o644))
		o, err := st.Stat(t.Context(), archive.Key(from))
		check(t, err)
		r := batch.Row{N: int64(i), From: o.Key, To: archive.Key(to), Want: o.Identity, OpID: "op" + from, Chain: 1}
		if group && i < 2 {
			r.Group = "3"
		}
		w.rows = append(w.rows, r)
	}
	w.seal(t)
	return w, dir
}

// diesAt carries the segment out with a worker that dies before the operation op on key.
func (w *world) diesAt(t *testing.T, op string, key archive.Key) {
	t.Helper()
	dead := false
	w.archive.before = func(o string, k archive.Key) error {
		if dead = dead || o == op && k == key; dead {
			return store.ErrUnavailable
		}
		return nil
	}
	if err := w.execute(claim{}); !errors.Is(err, store.ErrUnavailable) {
		t.Fatalf("got %v, want the death of the worker", err)
	}
	w.archive.before = nil
}

// A worker dies after 3 went to 4 and 2 to 3. Somebody writes to 4, or only touches it. The record says that the object is at 4, by its inode.
func TestTouchedInChain(t *testing.T) {
	w, dir := files(t, false, "3 -> 4", "2 -> 3", "1 -> 2")
	w.diesAt(t, "rename", "1")
	check(t, os.Chtimes(filepath.Join(dir, "4"), time.Time{}, time.Unix(2e9, 0)))
	check(t, w.execute(claim{}))
	at := map[archive.Key]archive.Key{} // by the name that the records give
	for _, r := range w.records(t) {
		now := r.Key
		if r.To != "" {
			now = r.To
		}
		if r.Reason == batch.ReasonMissing {
			continue // honest
		}
		if other, twice := at[now]; twice {
			t.Errorf("the records say of two objects, %s and %s, that they are at %s", other, r.Key, now)
		}
		at[now] = r.Key
	}
	if r := w.records(t)["3"]; r.Reason == batch.ReasonChanged && r.To == "" {
		t.Errorf("record of 3, which is at 4: %s, %s, at its old name: %s", r.Outcome, r.Reason, r.Message)
	}
}

// After that, the undo does not say that the object was not renamed.
func TestUndoTouchedInChain(t *testing.T) {
	w, dir := files(t, false, "3 -> 4", "2 -> 3", "1 -> 2")
	w.diesAt(t, "rename", "1")
	check(t, os.Chtimes(filepath.Join(dir, "4"), time.Time{}, time.Unix(2e9, 0)))
	check(t, w.execute(claim{}))
	over := func(context.Context, ledger.Execution) (bool, error) { return true, nil }
	b := batch.Batch{ID: idB, Kind: batch.Undo, Undoes: idA}
	check(t, planning.Undo(t.Context(), claim{}, w.led, w.archive.Store, b, 1, over, func(string) {}))
	p, _, err := w.led.Plan(t.Context(), idB)
	check(t, err)
	rows, err := w.led.PlanRows(t.Context(), p, 0)
	check(t, err)
	for _, r := range rows {
		if r.From == "4" && !r.Moves() && r.Reason == batch.ReasonUnchanged {
			t.Errorf("undo of 3, which the batch has renamed to 4: %s, %s: %s", r.Outcome, r.Reason, r.Message)
		}
	}
}

// The same where the touched object is one of a group.
func TestTouchedGroupInChain(t *testing.T) {
	w, dir := files(t, true, "3 -> 4", "3x -> 4x", "2 -> 3", "2x -> 3x", "1 -> 2")
	w.diesAt(t, "rename", "1")
	check(t, os.Chtimes(filepath.Join(dir, "4"), time.Time{}, time.Unix(2e9, 0)))
	check(t, w.execute(claim{}))
	for key, r := range w.records(t) {
		t.Logf("%s: %s %s to %q: %s", key, r.Outcome, r.Reason, r.To, r.Message)
	}
	if r := w.records(t)["3"]; r.To == "" && r.Reason != batch.ReasonMissing {
		t.Errorf("record of 3, which is at 4: %s, %s, at its old name", r.Outcome, r.Reason)
	}
}

// 3 went to 4, its companion could not follow, and 3 cannot go back since somebody else has taken its name. What waits for the name is not
// told that 3 has it.
func TestReasonOfWhatWaits(t *testing.T) {
	w, dir := files(t, true, "3 -> 4", "3x -> 4x", "2 -> 3")
	first := true
	w.archive.after = func(op string, key archive.Key) error {
		if op == "rename" && key == "3" && first {
			first = false
			check(t, os.WriteFile(filepath.Join(dir, "4x"), []byte("foreign"), 0o644))
			check(t, os.WriteFile(filepath.Join(dir, "3"), []byte("foreign"), 0o644))
		}
		return nil
	}
	check(t, w.execute(claim{}))
	records := w.records(t)
	if records["3"].To == "4" && strings.Contains(records["2"].Message, "did not leave it") {
		t.Errorf("3 is at %s, and of 2 it says: %s", records["3"].To, records["2"].Message)
	}
}

// Worker A is stopped right before it moves 3 to 4. Its successor B finds something at 4, so 3 stays. Then 4 is free again, A wakes and moves
// 3 to 4; B comes to 2, finds 3 free, and leaves it free, so that A can move 3 back, as the record says (docs/decisions/no-move-back.md).
func TestMoveBackInChain(t *testing.T) {
	w, dir := files(t, false, "3 -> 4", "2 -> 3", "1 -> 2")
	st := w.archive.Store
	check(t, os.WriteFile(filepath.Join(dir, "4"), []byte("foreign"), 0o644))
	overtaken, b := false, &hooked{Store: st}
	request := store.RenameRequest{From: "3", To: "4", Want: w.rows[0].Want, OpID: w.rows[0].OpID}
	b.before = func(op string, key archive.Key) error {
		if op == "rename" && key == "2" { // B is done with 3
			check(t, os.Remove(filepath.Join(dir, "4")))
			check(t, st.Rename(t.Context(), request)) // A wakes
		}
		return nil
	}
	w.archive.before = func(op string, key archive.Key) error {
		if op == "rename" && key == "3" && !overtaken {
			overtaken = true
			check(t, w.executeOn(claim{}, b))
		}
		return nil
	}
	err := w.execute(claim{held: func() error {
		if overtaken {
			return errLapsed
		}
		return nil
	}})
	t.Logf("A: %v", err)
	got := contents(t, st)
	for key, r := range w.records(t) {
		at := r.Key
		if r.To != "" {
			at = r.To
		}
		if got[at] != "content of "+string(key) {
			t.Errorf("the record of %s says it is at %s (%s, %s); there is %q", key, at, r.Outcome, r.Reason, got[at])
		}
	}
}

// 3 was deleted before the batch, so 2 goes to 3; the worker dies. The second execution, too, records that 3 is missing.
func TestDeletedBeforeCrash(t *testing.T) {
	w, dir := files(t, false, "3 -> 4", "2 -> 3", "1 -> 2")
	check(t, os.Remove(filepath.Join(dir, "3")))
	w.diesAt(t, "rename", "1")
	check(t, w.execute(claim{}))
	if r := w.records(t)["3"]; r.Reason != batch.ReasonMissing {
		t.Errorf("record of 3, which was deleted: %s, %s: %s", r.Outcome, r.Reason, r.Message)
	}
}

// 3 and 1 are one file. The worker dies before any rename.
func TestLinksInChain(t *testing.T) {
	for _, at := range []archive.Key{"3", "2", "1"} {
		w, dir := files(t, false, "3 -> 4", "2 -> 3", "1 -> 2")
		check(t, os.Remove(filepath.Join(dir, "1")))
		check(t, os.Link(filepath.Join(dir, "3"), filepath.Join(dir, "1")))
		w.rows[2].Want = w.rows[0].Want
		w.led = ledger.New(memstore.New(archive.Root{}))
		w.seal(t)
		w.diesAt(t, "rename", at)
		check(t, w.execute(claim{}))
		want := map[archive.Key]string{"4": "content of 3", "3": "content of 2", "2": "content of 3"}
		if got := contents(t, w.archive.Store); len(got) != 3 || got["4"] != want["4"] || got["3"] != want["3"] || got["2"] != want["2"] {
			t.Errorf("dead before %s: got %v", at, got)
		}
		over := func(context.Context, ledger.Execution) (bool, error) { return true, nil }
		b := batch.Batch{ID: idB, Kind: batch.Undo, Undoes: idA}
		check(t, planning.Undo(t.Context(), claim{}, w.led, w.archive.Store, b, 1, over, func(string) {}))
		p, _, err := w.led.Plan(t.Context(), idB)
		check(t, err)
		u := &world{archive: w.archive, led: w.led, batch: b, plan: p}
		u.rows, err = w.led.PlanRows(t.Context(), p, 0)
		check(t, err)
		u.diesAt(t, "rename", map[archive.Key]archive.Key{"3": "2", "2": "3", "1": "4"}[at])
		check(t, u.execute(claim{}))
		if got := contents(t, w.archive.Store); len(got) != 3 || got["3"] != "content of 3" || got["2"] != "content of 2" || got["1"] != "content of 3" {
			t.Errorf("after the undo: got %v", got)
		}
	}
}
