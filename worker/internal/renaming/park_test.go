package renaming_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/memstore"
	"github.com/reshelf/reshelf/worker/internal/planning"
)

// stepped is a bucket that asks before each step of a rename: 0 looks at the source, 1 at the target, and the others copy and delete.
type stepped struct {
	*bucketed
	before func(req store.RenameRequest, step int) error
}

func (s stepped) Rename(ctx context.Context, req store.RenameRequest) error {
	step := 0
	return s.rename(ctx, req, func(do func() error) error {
		if err := s.before(req, step); err != nil {
			return err
		}
		step++
		return do()
	})
}

var errDead = fmt.Errorf("the process is dead: %w", store.ErrUnavailable)

// inChain is a bucket with a plan of a chain: each row "from -> to", or "from -> to @ group". Where same is set, all contents are equal.
func inChain(t *testing.T, same bool, moves ...string) (*world, *bucketed) {
	t.Helper()
	b := newBucketed(false, 1)
	w := &world{archive: &hooked{Store: b}, led: ledger.New(memstore.New(archive.Root{})), batch: batch.Batch{ID: idA}}
	check(t, b.Create(t.Context(), "another", strings.NewReader("another")))
	for i, move := range moves {
		move, group, _ := strings.Cut(move, " @ ")
		from, to, _ := strings.Cut(move, " -> ")
		content := "content of " + from
		if same {
			content = "duplicate"
		}
		check(t, b.Create(t.Context(), archive.Key(from), strings.NewReader(content)))
		o, err := b.Stat(t.Context(), archive.Key(from))
		check(t, err)
		r := batch.Row{N: int64(i), From: o.Key, To: archive.Key(to), Want: o.Identity, OpID: fmt.Sprintf("op%d", i), Chain: 1, Group: archive.Key(group)}
		w.rows = append(w.rows, parkedIn(b, r))
	}
	w.seal(t)
	return w, b
}

// planUndo plans the undo of all, or of the chosen.
func (w *world) planUndo(t tester, chosen ...string) *world {
	t.Helper()
	return w.planned(t, batch.Batch{ID: idB, Kind: batch.Undo, Undoes: idA, Filter: batch.Filter{Include: chosen}, AssumeSingleWriter: w.batch.AssumeSingleWriter})
}

// Of two duplicates the first is at its name in between, and the second has not set out, when the execution dies. An undo that was not told
// by records must not take the second for the first.
func TestUndoOfDuplicatesThatWereNotRecorded(t *testing.T) {
	w, b := inChain(t, true, "a -> b", "b -> c")
	before := contents(t, b)
	err := w.executeOn(claim{}, stepped{b, func(req store.RenameRequest, _ int) error {
		if req.From == "b" {
			return errDead
		}
		return nil
	}})
	if err == nil || contents(t, b)["parked-a"] == "" {
		t.Fatalf("%v: %v, want a at its name in between", err, contents(t, b))
	}
	check(t, w.planUndo(t).execute(claim{}))
	if diff := cmp.Diff(before, contents(t, b)); diff != "" {
		t.Errorf("after the undo (-want +got):\n%s", diff)
	}
}

// One of two duplicates was deleted by somebody. The undo must not say of it what is true of the other.
func TestUndoOfADuplicateThatIsGone(t *testing.T) {
	w, b := inChain(t, true, "a -> b", "b -> c")
	check(t, w.execute(claim{}))
	u := w.planUndo(t)
	check(t, b.Delete(t.Context(), "c", archive.Identity{}))
	check(t, u.execute(claim{}))
	if diff := cmp.Diff(map[archive.Key]string{"b": "a", "c": "failed: missing"}, u.outcomes(t)); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
}

// A group is on its way back from its new names, since somebody took one of them, when the execution dies.
func TestUndoOfARetreatThatWasNotRecorded(t *testing.T) {
	w, b := inChain(t, false, "a.jpg -> b.jpg @ a.jpg", "a.xmp -> b.xmp @ a.jpg", "b.jpg -> c.jpg")
	before := contents(t, b)
	err := w.executeOn(claim{}, stepped{b, func(req store.RenameRequest, step int) error {
		if req.To == "b.xmp" && step == 0 {
			check(t, b.Create(t.Context(), "b.xmp", strings.NewReader("foreign")))
		}
		if strings.HasSuffix(req.OpID, "-retreat") && step == 3 {
			return errDead
		}
		return nil
	}})
	if err == nil {
		t.Fatal("it did not die")
	}
	check(t, w.planUndo(t).execute(claim{}))
	before["b.xmp"] = "foreign"
	if diff := cmp.Diff(before, contents(t, b)); diff != "" {
		t.Errorf("after the undo (-want +got):\n%s", diff)
	}
}

func TestUndoOfOneOfACircleTakesItAll(t *testing.T) {
	w, _ := inChain(t, false, "a -> b", "b -> c", "c -> a", "x -> y", "y -> z")
	check(t, w.execute(claim{}))
	var moved []archive.Key
	for _, r := range w.planUndo(t, "b", "y").rows {
		if r.Moves() {
			moved = append(moved, r.From)
		}
	}
	slices.Sort(moved)
	if want := []archive.Key{"a", "b", "c", "y"}; !slices.Equal(moved, want) {
		t.Errorf("%v go back, want %v", moved, want)
	}
}

// Names in between that somebody has taken, and objects that may not be deleted, keep all that wait for them at home. Records say what is left.
func TestChainThatCannotSetOut(t *testing.T) {
	w, b := inChain(t, false, "a -> b", "b -> c")
	check(t, b.Create(t.Context(), "parked-b", strings.NewReader("foreign")))
	check(t, w.execute(claim{}))
	if diff := cmp.Diff(map[archive.Key]string{"a": "failed: conflict", "b": "failed: conflict"}, w.outcomes(t)); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
	if message := w.records(t)["b"].Message; !strings.Contains(message, "parked-b") {
		t.Errorf("message %q names not what is taken", message)
	}
	w.checkWorld(t, map[archive.Key]string{"parked-b": "foreign"})

	w, b = inChain(t, false, "a -> b", "b -> c")
	check(t, w.executeOn(claim{}, stepped{b, func(req store.RenameRequest, step int) error {
		if _, err := b.Stat(t.Context(), req.To); step >= 2 && err == nil {
			return store.ErrPermission
		}
		return nil
	}}))
	for key, r := range w.records(t) {
		if r.Outcome != batch.Failed || r.To != "" || !strings.Contains(r.Message, "a copy of it that was begun is left at the name parked-"+string(key)) {
			t.Errorf("record of %s, which is at both names: %s at %q: %s", key, r.Outcome, r.To, r.Message)
		}
	}
}

// A plan of a chain in which an object has no name in between is not of this archive as it is.
func TestChainWithoutNamesInBetween(t *testing.T) {
	w, _ := inChain(t, false, "a -> b", "b -> c")
	w.batch.ID, w.rows[0].Park = idB, ""
	w.seal(t)
	check(t, w.execute(claim{}))
	if diff := cmp.Diff(map[archive.Key]string{"a": "failed: unsupported", "b": "failed: unsupported"}, w.outcomes(t)); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
	w.checkWorld(t, nil)
}

// TestDuplicatesInBatches makes batches of duplicates, and undos of them, some of which are left as they are when a worker has died. None is lost.
func TestDuplicatesInBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(bubbled{t}, func(t *rapid.T) {
			y := &years{archive: newBucketed(false, 1), led: ledger.New(memstore.New(archive.Root{})), foreign: map[archive.Key]bool{}, outsider: true}
			for _, k := range []archive.Key{"a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg", "none.txt"} {
				check(t, y.archive.Create(context.Background(), k, strings.NewReader("duplicate")))
			}
			before := contents(t, y.archive)
			var all []batch.Batch
			for range rapid.IntRange(1, 3).Draw(t, "batches") {
				var b batch.Batch
				if len(all) == 0 || rapid.Bool().Draw(t, "rename") {
					b = y.rename(t, rapid.SampledFrom([]string{upward, downward, around, swap}).Draw(t, "template"), batch.ConflictSkip, 1000)
				} else {
					b = y.undo(t, rapid.SampledFrom(all).Draw(t, "undoes").ID)
				}
				y.dieIn(t, b)
				all = append(all, b)
				if got := contents(t, y.archive); len(got) < len(before) {
					t.Fatalf("after %s %s: %d objects, want %d: %v", b.Kind, b.ID, len(got), len(before), got)
				}
			}
		})
	})
}

// dieIn carries out a batch with workers that die, and may leave it so.
func (y *years) dieIn(t *rapid.T, b batch.Batch) {
	p, _, err := y.led.Plan(context.Background(), b.ID)
	check(t, err)
	for n := range p.Segments {
		for rapid.IntRange(0, 2).Draw(t, "die") == 0 {
			pr := &process{left: rapid.IntRange(1, 90).Draw(t, "operations"), last: rapid.Bool().Draw(t, "last"), lapsesAt: 1 << 30, delays: []int{0}}
			_ = y.execute(b, p, n, claim{held: pr.held}, mortal{y.archive, pr}, ledger.New(mortal{y.led.Store(), pr}))
		}
		if rapid.Bool().Draw(t, "left as it is") {
			return
		}
		check(t, y.execute(b, p, n, claim{}, y.archive, y.led))
	}
}

// TestNamesTakenMeanwhile has somebody else take names while executions are at work, which die, are cancelled and follow one another, and
// then while an undo is. Each object is where its record says, once, and no group is torn.
func TestNamesTakenMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(bubbled{t}, func(t *rapid.T) {
			b := newBucketed(rapid.Bool().Draw(t, "same contents"), 4)
			w := drawWorld(t, b)
			foreign := map[archive.Key]string{}
			w.crowded(t, b, foreign, "rename")
			w.checkWorld(t, foreign)
			w.checkGroups(t)
			if u := w.planUndo(t); len(u.rows) > 0 {
				before := contents(t, b)
				u.crowded(t, b, foreign, "undo")
				if got := contents(t, b); len(got) < len(before) {
					t.Errorf("%d objects after the undo, %d before: %v", len(got), len(before), got)
				}
			}
		})
	})
}

// crowded carries the segment out in executions during which somebody takes names.
func (w *world) crowded(t *rapid.T, b *bucketed, foreign map[archive.Key]string, label string) {
	var mu sync.Mutex
	runs := rapid.IntRange(1, 4).Draw(t, label+" executions")
	for run := range runs {
		left := 1 << 30
		if run < runs-1 {
			left = rapid.IntRange(1, 80).Draw(t, "operations")
		}
		takes := map[int]archive.Key{}
		for range rapid.IntRange(0, 3).Draw(t, "foreign") {
			r := rapid.SampledFrom(w.rows).Draw(t, "row")
			takes[rapid.IntRange(1, 80).Draw(t, "before")] = rapid.SampledFrom([]archive.Key{r.To, r.From}).Draw(t, "name")
		}
		delays := rapid.SliceOfN(rapid.IntRange(0, 3), 1, 8).Draw(t, "delays")
		steps := 0
		st := stepped{b, func(store.RenameRequest, int) error {
			mu.Lock()
			steps++
			key, delay, dead := takes[steps], delays[steps%len(delays)], steps > left
			if !dead && key != "" && b.Create(context.Background(), key, strings.NewReader("foreign")) == nil {
				foreign[key] = "foreign"
			}
			mu.Unlock()
			time.Sleep(time.Duration(delay) * time.Millisecond)
			if dead {
				return errDead
			}
			return nil
		}}
		err := w.executeOn(claim{cancelled: rapid.IntRange(0, 4).Draw(t, "cancelled") == 0}, st)
		if run == runs-1 {
			check(t, err)
		}
	}
}

// An object has gone home to the name that an equal one, which somebody has deleted meanwhile, was to come back to.
func TestUndoOfADuplicateThatIsGoneWhereAnotherOneIsHome(t *testing.T) {
	w, b := inChain(t, true, "b -> c", "a -> b")
	check(t, w.execute(claim{}))
	u := w.planUndo(t)
	check(t, u.executeOn(claim{}, stepped{b, func(req store.RenameRequest, step int) error {
		switch {
		case req.To == "a" && step == 0:
			return b.Create(t.Context(), "a", strings.NewReader("foreign"))
		case req.To == "c" && step == 0:
			return b.Delete(t.Context(), req.From, archive.Identity{})
		}
		return nil
	}}))
	if diff := cmp.Diff(map[archive.Key]string{"b": "failed: conflict", "c": "failed: missing"}, u.outcomes(t)); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
}

// Somebody puts another object at a name in between. It is not what was to be renamed.
func TestNameInBetweenThatIsTakenOver(t *testing.T) {
	w, b := inChain(t, false, "b -> c", "a -> b")
	taken := false
	st := lookout{stepped{b, func(store.RenameRequest, int) error { return nil }}, func(key archive.Key) {
		if _, err := b.Stat(t.Context(), key); err != nil || key != "parked-a" || taken {
			return
		}
		taken = true
		check(t, b.Delete(t.Context(), key, archive.Identity{}))
		check(t, b.Create(t.Context(), key, strings.NewReader("foreign")))
	}}
	check(t, w.executeOn(claim{}, st))
	if diff := cmp.Diff(map[archive.Key]string{"a": "failed: missing", "b": "c"}, w.outcomes(t)); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
	w.checkWorld(t, map[archive.Key]string{"parked-a": "foreign"})
}

// lookout is a bucket that tells when it is looked at.
type lookout struct {
	stepped
	looks func(key archive.Key)
}

func (l lookout) Stat(ctx context.Context, key archive.Key) (archive.Object, error) {
	l.looks(key)
	return l.stepped.Stat(ctx, key)
}

// Of a group one object has its new name, and cannot go back, when another one finds that it cannot have its.
func TestGroupThatIsTornInAChain(t *testing.T) {
	w, b := inChain(t, false, "a.jpg -> b.jpg @ a.jpg", "a.xmp -> b.xmp @ a.jpg", "b.jpg -> c.jpg")
	check(t, w.executeOn(claim{}, stepped{b, func(req store.RenameRequest, step int) error {
		switch {
		case req.To == "b.xmp" && step == 0:
			return b.Create(t.Context(), "b.xmp", strings.NewReader("foreign"))
		case strings.HasSuffix(req.OpID, "-retreat") && step == 2:
			return store.ErrPermission
		}
		return nil
	}}))
	want := map[archive.Key]string{"a.jpg": "failed: group, at b.jpg", "a.xmp": "failed: conflict", "b.jpg": "c.jpg"}
	if diff := cmp.Diff(want, w.outcomes(t)); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
	w.checkWorld(t, map[archive.Key]string{"b.xmp": "foreign"})
}

// A group was on its way home when the execution died, and all names are free when the next one looks.
func TestGroupThatWasOnItsWayHome(t *testing.T) {
	w, b := inChain(t, false, "a.jpg -> b.jpg @ a.jpg", "a.xmp -> b.xmp @ a.jpg", "b.jpg -> c.jpg")
	err := w.executeOn(claim{}, stepped{b, func(req store.RenameRequest, step int) error {
		switch {
		case req.To == "b.xmp" && step == 0:
			return b.Create(t.Context(), "b.xmp", strings.NewReader("foreign"))
		case req.To == "a.jpg" && step == 3:
			return errDead
		}
		return nil
	}})
	if err == nil {
		t.Fatal("it did not die")
	}
	check(t, b.Delete(t.Context(), "b.xmp", archive.Identity{}))
	check(t, w.execute(claim{}))
	if diff := cmp.Diff(map[archive.Key]string{"a.jpg": "b.jpg", "a.xmp": "b.xmp", "b.jpg": "c.jpg"}, w.outcomes(t)); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
	w.checkWorld(t, nil)
}

// As above, of a segment that has no records: the undo leaves the one that is home where it is.
func TestUndoLeavesDuplicatesAtHome(t *testing.T) {
	w, b := inChain(t, true, "b -> c", "a -> b")
	parked := 0
	hold := &weather{cancelled: 1}
	err := w.executeOn(hold, stepped{b, func(req store.RenameRequest, step int) error {
		if strings.HasSuffix(req.OpID, "-park") && step == 3 {
			if parked++; parked == 2 {
				hold.requests = 1
			}
		}
		if req.To == "a" {
			return errDead
		}
		return nil
	}})
	if err == nil {
		t.Fatal("it did not die")
	}
	check(t, b.Delete(t.Context(), "parked-a", archive.Identity{}))
	check(t, w.planUndo(t).execute(claim{}))
	if diff := cmp.Diff(map[archive.Key]string{"another": "another", "b": "duplicate"}, contents(t, b)); diff != "" {
		t.Errorf("after the undo (-want +got):\n%s", diff)
	}
}

// Executions wait for all others: for a process that is gone for good, not without end, and also for one with a greater epoch, as it is
// when Redis was lost and its clock went back.
func TestWaitForOtherExecutions(t *testing.T) {
	for name, test := range map[string]struct {
		epoch     int64
		cancelled bool
		atMost    time.Duration
	}{
		"earlier":   {epoch: 7, atMost: time.Minute},
		"later":     {epoch: 1000, atMost: time.Minute},
		"cancelled": {epoch: 7, cancelled: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, b := inChain(t, false, "a -> b", "b -> c")
				w.epoch = 99
				before := contents(t, b)
				e := ledger.Execution{Ref: w.ref(), Epoch: test.epoch, Process: ledger.Process{Worker: "w9", PID: 9, Host: "gone"}}
				check(t, w.led.BeginExecution(t.Context(), e))
				w.patient = true
				w.running.Store(e.Epoch, true)
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				began := time.Now()
				err := w.executeIn(ctx, claim{cancelled: test.cancelled}, b)
				if err == nil || !strings.Contains(err.Error(), "w9") || !strings.Contains(err.Error(), "stop that process") || time.Since(began) > test.atMost {
					t.Errorf("after %v: Rename = %v, want an error that says what it waits for", time.Since(began), err)
				}
				if diff := cmp.Diff(before, contents(t, b)); diff != "" {
					t.Errorf("it moved something (-want +got):\n%s", diff)
				}
				w.running.Delete(e.Epoch)
				check(t, w.execute(claim{cancelled: test.cancelled}))
			})
		})
	}
}

// However many chains a segment has, no more is in hand at once than the store asks for, and nothing less.
func TestChainsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBucketed(false, 4)
		w := &world{archive: &hooked{Store: b}, led: ledger.New(memstore.New(archive.Root{})), batch: batch.Batch{ID: idA}}
		for i := range 60 {
			key := archive.Key(fmt.Sprintf("%02d", i))
			check(t, b.Create(t.Context(), key, strings.NewReader("content of "+string(key))))
			o, err := b.Stat(t.Context(), key)
			check(t, err)
			to := archive.Key(fmt.Sprintf("%02d", i/10*10+(i+1)%10))
			w.rows = append(w.rows, parkedIn(b, batch.Row{N: int64(i), From: key, To: to, Want: o.Identity, OpID: "op" + string(key), Chain: int64(i/10 + 1)}))
		}
		w.seal(t)
		var mu sync.Mutex
		now, most := 0, 0
		check(t, w.executeOn(claim{}, lookout{stepped{b, func(store.RenameRequest, int) error { return nil }}, func(archive.Key) {
			mu.Lock()
			now++
			most = max(most, now)
			mu.Unlock()
			time.Sleep(time.Millisecond)
			mu.Lock()
			now--
			mu.Unlock()
		}}))
		if most != 4 {
			t.Errorf("%d at once, want 4", most)
		}
	})
}

// Each look of the plan of an undo is a request, and a chain may have 20,000 objects. An undo that is cancelled does not look at all of them.
func TestUndoOfALongChainIsCancelled(t *testing.T) {
	const n = 2000
	var moves []string
	for i := range n {
		moves = append(moves, fmt.Sprintf("%04d -> %04d", n-1-i, n-i))
	}
	w, b := inChain(t, false, moves...)
	looks := 0
	st := lookout{stepped{bucketed: b}, func(archive.Key) { looks++ }}
	over := func(context.Context, ledger.Execution) (bool, error) { return true, nil }
	u := batch.Batch{ID: idB, Kind: batch.Undo, Undoes: idA}
	check(t, planning.Undo(t.Context(), whileLooking{&looks}, w.led, st, u, 1, over, func(string) {}))
	if looks == 0 || looks > n {
		t.Errorf("%d looks at %d objects after it was cancelled", looks, n)
	}
}

// whileLooking is a claim of an undo that is cancelled when it has begun to look.
type whileLooking struct{ looks *int }

func (whileLooking) Held() error          { return nil }
func (w whileLooking) Cancelled() bool    { return *w.looks > 0 }
func (whileLooking) Advance(int64, int64) {}
