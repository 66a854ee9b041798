package ledger_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/filestore"
	"github.com/reshelf/reshelf/shared/store/memstore"
)

const batchID batch.ID = "01k9zzzzzzzzzzzzzzzzzzzzz0"

func parseRoot(t testing.TB, s string) archive.Root {
	t.Helper()
	r, err := archive.ParseRoot(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func newMemory(t testing.TB) *ledger.Ledger {
	return ledger.New(memstore.New(parseRoot(t, "file:///ledger")))
}

// onEachStore runs a test on a ledger in memory and on one in a directory.
func onEachStore(t *testing.T, test func(t *testing.T, l *ledger.Ledger)) {
	t.Run("memory", func(t *testing.T) { test(t, newMemory(t)) })
	t.Run("directory", func(t *testing.T) {
		st, err := filestore.Open(t.TempDir(), filestore.Options{Ledger: true})
		if err != nil {
			t.Fatal(err)
		}
		defer st.Close()
		test(t, ledger.New(st))
	})
}

func newBatch(t testing.TB, id batch.ID) batch.Batch {
	t.Helper()
	return batch.Batch{
		V: batch.Version, ID: id, Kind: batch.Rename, Archive: parseRoot(t, "file:///photos/%FF"), Level: batch.LevelFast,
		Filter:   batch.Filter{Exclude: []string{"*.tmp"}},
		Renaming: &batch.RenameOptions{Template: "{name}{ext}", OnConflict: batch.ConflictStop},
		Pool:     "default", Priority: batch.High, Labels: []string{"a"}, Submitted: time.Unix(1, 5).UTC(), By: "me@host",
	}
}

// replace writes raw text over an object of the ledger.
func replace(t testing.TB, l *ledger.Ledger, key archive.Key, text string) {
	t.Helper()
	if err := l.Store().Replace(t.Context(), key, strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
}

func wantError(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: err = %v, want %v", what, err, want)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func compareRoots(a, b archive.Root) bool { return a == b }

func TestBatches(t *testing.T) {
	onEachStore(t, func(t *testing.T, l *ledger.Ledger) {
		ctx := t.Context()
		var want []batch.ID
		for i := range 5 {
			id := batch.ID(fmt.Sprintf("01k9zzzzzzzzzzzzzzzzzzzzz%d", i))
			want = append(want, id)
			b := newBatch(t, id)
			must(t, l.CreateBatch(ctx, b))
			got, err := l.Batch(ctx, id)
			must(t, err)
			if diff := cmp.Diff(b, got, cmp.Comparer(compareRoots)); diff != "" {
				t.Errorf("batch (-want +got):\n%s", diff)
			}
			wantError(t, "CreateBatch again", l.CreateBatch(ctx, b), store.ErrExist)
			must(t, l.CreateEvent(ctx, id, batch.Event{N: 1, Kind: batch.EventPause}))
		}
		replace(t, l, "batches/not-a-batch/batch.json", "{}")
		replace(t, l, "batches.json", "{}")
		var got []batch.ID
		for id, err := range l.Batches(ctx) {
			must(t, err)
			got = append(got, id)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("batches (-want +got):\n%s", diff)
		}
		for id := range l.Batches(ctx) {
			if id != want[0] {
				t.Errorf("first batch = %s", id)
			}
			break
		}
	})
}

func TestBatchRefuses(t *testing.T) {
	l, ctx := newMemory(t), t.Context()
	_, err := l.Batch(ctx, batchID)
	wantError(t, "missing", err, store.ErrNotExist)
	_, err = l.Batch(ctx, "../../etc")
	wantError(t, "bad id", err, batch.ErrInvalid)
	bad := newBatch(t, batchID)
	bad.Pool = "../x"
	wantError(t, "invalid batch", l.CreateBatch(ctx, bad), batch.ErrInvalid)

	replace(t, l, ledger.Key(batchID, "batch.json"), "{")
	_, err = l.Batch(ctx, batchID)
	wantError(t, "damaged", err, ledger.ErrCorrupt)
	other := newMemory(t)
	must(t, other.CreateBatch(ctx, newBatch(t, "01k9zzzzzzzzzzzzzzzzzzzzz1")))
	must(t, copyObject(t, other, l, ledger.Key("01k9zzzzzzzzzzzzzzzzzzzzz1", "batch.json"), ledger.Key(batchID, "batch.json")))
	_, err = l.Batch(ctx, batchID)
	wantError(t, "another batch's file", err, ledger.ErrCorrupt)
}

func copyObject(t testing.TB, from, to *ledger.Ledger, source, target archive.Key) error {
	t.Helper()
	c, err := from.Store().Open(t.Context(), source, 0, -1, archive.Identity{})
	must(t, err)
	defer c.Close()
	return to.Store().Replace(t.Context(), target, c)
}

// The number of an event is the compare-and-swap: of many writers one wins.
func TestEvents(t *testing.T) {
	onEachStore(t, func(t *testing.T, l *ledger.Ledger) {
		ctx := t.Context()
		b := newBatch(t, batchID)
		must(t, l.CreateBatch(ctx, b))
		kinds := []batch.EventKind{batch.EventPause, batch.EventResume, batch.EventCancel}
		for n := range kinds {
			var wg sync.WaitGroup
			errs := make([]error, 8)
			for i := range errs {
				wg.Go(func() {
					errs[i] = l.CreateEvent(ctx, b.ID, batch.Event{N: n + 1, Kind: kinds[n], By: fmt.Sprint(i)})
				})
			}
			wg.Wait()
			won := slices.Index(errs, nil)
			for i, err := range errs {
				if i != won {
					wantError(t, "CreateEvent that lost", err, store.ErrExist)
				}
			}
			events, err := l.Events(ctx, b.ID, n)
			must(t, err)
			if len(events) != 1 || events[0].By != fmt.Sprint(won) || events[0].N != n+1 {
				t.Errorf("events after %d: %+v; want that of writer %d", n, events, won)
			}
		}
		status, err := l.Status(ctx, b)
		must(t, err)
		if !status.Cancelled || status.Paused || status.Event != 3 {
			t.Errorf("status = %+v; want cancelled by event 3", status)
		}
		replace(t, l, ledger.Key(b.ID, "events", "0000000004.json"), `{"v":1,"n":5,"kind":"pause"}`)
		_, err = l.Events(ctx, b.ID, 0)
		wantError(t, "event that says it is another", err, ledger.ErrCorrupt)
	})
}

func TestSeal(t *testing.T) {
	l, ctx := newMemory(t), t.Context()
	if n, sealed, err := l.Sealed(ctx, batchID, batch.StepInspect, 1); n != 0 || sealed || err != nil {
		t.Errorf("Sealed before = %d, %v, %v", n, sealed, err)
	}
	for range 2 {
		must(t, l.Seal(ctx, batchID, batch.StepInspect, 1, 7))
	}
	wantError(t, "Seal with another total", l.Seal(ctx, batchID, batch.StepInspect, 1, 8), ledger.ErrCorrupt)
	if n, sealed, err := l.Sealed(ctx, batchID, batch.StepInspect, 1); n != 7 || !sealed || err != nil {
		t.Errorf("Sealed = %d, %v, %v; want 7", n, sealed, err)
	}
	if _, sealed, err := l.Sealed(ctx, batchID, batch.StepInspect, 2); sealed || err != nil {
		t.Errorf("Sealed in the next generation = %v, %v; want false", sealed, err)
	}
	replace(t, l, ledger.Key(batchID, "segments", "inspect", "0000000001", "sealed.json"), `{"v":2,"total":7}`)
	_, sealed, err := l.Sealed(ctx, batchID, batch.StepInspect, 1)
	wantError(t, "Sealed in another version", err, ledger.ErrCorrupt)
	if sealed {
		t.Error("a seal that cannot be read counts as a seal")
	}
}

func TestPlan(t *testing.T) {
	onEachStore(t, func(t *testing.T, l *ledger.Ledger) {
		ctx := t.Context()
		segments := [][]batch.Row{
			{{N: 0, From: "a\xff", To: "b/<a>"}, {N: 1, From: "c", Outcome: batch.Skipped, Reason: batch.ReasonUnchanged}},
			{},
			{{N: 2, From: "d", To: "e", OpID: "x", Want: archive.Identity{Size: 3, MTime: 4, Inode: 5}}},
		}
		plan := batch.Plan{V: batch.Version, Batch: batchID, Epoch: 9}
		for n, rows := range segments {
			// What a killed execution of the same epoch wrote is replaced.
			_, err := l.WritePlanRows(ctx, batchID, plan.Epoch, n, []batch.Row{{From: "old"}})
			must(t, err)
			seg, err := l.WritePlanRows(ctx, batchID, plan.Epoch, n, rows)
			must(t, err)
			plan.Segments = append(plan.Segments, seg)
		}
		if got := plan.Segments[0]; got.Rows != 2 || got.Moves != 1 {
			t.Errorf("segment 0 = %+v; want 2 rows, 1 move", got)
		}
		_, _, err := l.Plan(ctx, batchID)
		wantError(t, "Plan before it is sealed", err, store.ErrNotExist)
		must(t, l.SealPlan(ctx, plan))
		wantError(t, "SealPlan again", l.SealPlan(ctx, plan), store.ErrExist)
		got, digest, err := l.Plan(ctx, batchID)
		must(t, err)
		if diff := cmp.Diff(plan, got); diff != "" || len(digest) != 64 {
			t.Errorf("digest %q, plan (-want +got):\n%s", digest, diff)
		}
		var rows []batch.Row
		for r, err := range l.Rows(ctx, got) {
			must(t, err)
			rows = append(rows, r)
		}
		if diff := cmp.Diff(slices.Concat(segments...), rows); diff != "" {
			t.Errorf("rows (-want +got):\n%s", diff)
		}
		for range l.Rows(ctx, got) {
			break
		}
	})
}

// Rows that are not those that were approved are never carried out.
func TestPlanRowsAreChecked(t *testing.T) {
	l, ctx := newMemory(t), t.Context()
	seg, err := l.WritePlanRows(ctx, batchID, 1, 0, []batch.Row{{From: "a", To: "b"}})
	must(t, err)
	plan := batch.Plan{V: batch.Version, Batch: batchID, Epoch: 1, Segments: []batch.PlanSegment{seg}}
	for _, n := range []int{-1, 1} {
		_, err := l.PlanRows(ctx, plan, n)
		wantError(t, fmt.Sprintf("segment %d", n), err, ledger.ErrCorrupt)
	}
	_, err = l.WritePlanRows(ctx, batchID, 1, 0, []batch.Row{{From: "a", To: "c"}})
	must(t, err)
	_, err = l.PlanRows(ctx, plan, 0)
	wantError(t, "other rows", err, ledger.ErrCorrupt)
	replace(t, l, ledger.Key(batchID, "plan", fmt.Sprintf("%020d", 1), "rows", fmt.Sprintf("%010d", 0)), "rubbish")
	_, err = l.PlanRows(ctx, plan, 0)
	wantError(t, "rubbish", err, ledger.ErrCorrupt)
	for _, err := range l.Rows(ctx, plan) {
		wantError(t, "Rows", err, ledger.ErrCorrupt)
	}
	replace(t, l, ledger.Key(batchID, "plan.json"), "rubbish")
	_, _, err = l.Plan(ctx, batchID)
	wantError(t, "rubbish for a plan", err, ledger.ErrCorrupt)
}

func TestExecutions(t *testing.T) {
	onEachStore(t, func(t *testing.T, l *ledger.Ledger) {
		ctx := t.Context()
		execution := func(segment int, epoch int64) ledger.Execution {
			return ledger.Execution{
				Ref:   batch.Ref{Batch: batchID, Step: batch.StepRename, Generation: 1, Segment: segment},
				Epoch: epoch, Process: ledger.Process{Worker: "w", Host: "h", Boot: "b", PID: segment + 1, Start: epoch},
			}
		}
		var open []ledger.Execution
		for segment := range 3 {
			for epoch := int64(1); epoch <= 12; epoch += 3 {
				e := execution(segment, epoch)
				must(t, l.BeginExecution(ctx, e))
				wantError(t, "BeginExecution again", l.BeginExecution(ctx, e), store.ErrExist)
				if (int64(segment)+epoch)%2 == 0 {
					open = append(open, e)
					continue
				}
				for range 2 {
					must(t, l.EndExecution(ctx, e))
				}
			}
		}
		// An execution whose beginning could not be written is ended all the same by its owner.
		must(t, l.EndExecution(ctx, execution(1, 0)))
		must(t, l.EndExecution(ctx, execution(1, 99)))
		var got []ledger.Execution
		for e, err := range l.Executions(ctx, batchID) {
			must(t, err)
			got = append(got, e)
		}
		if diff := cmp.Diff(open, got); diff != "" {
			t.Errorf("open executions (-want +got):\n%s", diff)
		}
		n := 0
		for range l.Executions(ctx, batchID) {
			n++
			break
		}
		if n != 1 {
			t.Errorf("range ended early gave %d", n)
		}
	})
}
