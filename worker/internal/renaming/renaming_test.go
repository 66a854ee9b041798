package renaming_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/memstore"
	"github.com/reshelf/reshelf/worker/internal/renaming"
)

const idA = batch.ID("01arz3ndektsv4rrffq69g5fav")

// tester is what testing.T and rapid.T have in common.
type tester interface {
	Helper()
	Fatalf(string, ...any)
	Errorf(string, ...any)
}

func check(t tester, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%v", err)
	}
}

// claim is a Hold. The zero claim is always held.
type claim struct {
	held      func() error
	cancelled bool
}

func (c claim) Held() error {
	if c.held == nil {
		return nil
	}
	return c.held()
}
func (c claim) Cancelled() bool      { return c.cancelled }
func (c claim) Advance(int64, int64) {}

var errLapsed = errors.New("the claim has lapsed")

// hooked is an archive that calls before and after around each operation that reads or changes it. Where before returns an
// error, the operation is not carried out; an error of after replaces what it returned.
type hooked struct {
	store.Store
	before, after func(op string, key archive.Key) error
}

func (h *hooked) around(op string, key archive.Key, do func() error) error {
	if h.before != nil {
		if err := h.before(op, key); err != nil {
			return err
		}
	}
	err := do()
	if h.after != nil {
		if err := h.after(op, key); err != nil {
			return err
		}
	}
	return err
}

func (h *hooked) Rename(ctx context.Context, req store.RenameRequest) error {
	return h.around("rename", req.From, func() error { return h.Store.Rename(ctx, req) })
}

func (h *hooked) Exchange(ctx context.Context, req store.ExchangeRequest) error {
	return h.around("exchange", req.A, func() error { return h.Store.Exchange(ctx, req) })
}

func (h *hooked) Copy(ctx context.Context, req store.CopyRequest) error {
	return h.around("copy", req.From, func() error { return h.Store.Copy(ctx, req) })
}

func (h *hooked) Stat(ctx context.Context, key archive.Key) (o archive.Object, err error) {
	err = h.around("stat", key, func() error { o, err = h.Store.Stat(ctx, key); return err })
	return o, err
}

func (h *hooked) Sync(ctx context.Context, keys []archive.Key) error {
	return h.around("sync", "", func() error { return h.Store.Sync(ctx, keys) })
}

// world is an archive with a ledger that holds a sealed plan of one segment.
type world struct {
	archive *hooked
	led     *ledger.Ledger
	batch   batch.Batch
	plan    batch.Plan
	rows    []batch.Row
	epoch   int64
	// untrue: a worker woke up when the segment was settled, and died before it could look at its claim again. It may have
	// made moves, as many as it had in hand, that no record knows of; an undo finds them.
	untrue bool
	// running are the epochs of executions that have not returned.
	running sync.Map
	patient bool // executions wait for those, instead of giving up with errRunning
}

// twin is the same world to another worker, whose executions have greater epochs, with its own way to the ledger.
func (w *world) twin(epoch int64, led *ledger.Ledger) *world {
	return &world{archive: w.archive, led: led, batch: w.batch, plan: w.plan, rows: w.rows, epoch: epoch}
}

// errRunning: an execution would wait for another one that is stopped.
var errRunning = errors.New("an earlier execution is running")

func (w *world) ended(_ context.Context, e ledger.Execution) (bool, error) {
	_, is := w.running.Load(e.Epoch)
	if is && !w.patient {
		return false, errRunning
	}
	return !is, nil
}

// newWorld writes an object for each from of the moves "from -> to", all of one group if group is set. A move whose
// "from" begins with "-" is a row that does not move.
func newWorld(t tester, group bool, moves ...string) *world {
	t.Helper()
	w := newUnsealed(t, group, moves...)
	w.seal(t)
	return w
}

func newUnsealed(t tester, group bool, moves ...string) *world {
	t.Helper()
	ctx := context.Background()
	w := &world{archive: &hooked{Store: memstore.New(archive.Root{})}, led: ledger.New(memstore.New(archive.Root{})), batch: batch.Batch{ID: idA}}
	check(t, w.archive.Create(ctx, "another", strings.NewReader("another")))
	for i, move := range moves {
		from, to, _ := strings.Cut(move, " -> ")
		stays := strings.HasPrefix(from, "-")
		from = strings.TrimPrefix(from, "-")
		check(t, w.archive.Create(ctx, archive.Key(from), strings.NewReader("content of "+from)))
		o, err := w.archive.Stat(ctx, archive.Key(from))
		check(t, err)
		r := batch.Row{N: int64(i), From: o.Key, To: archive.Key(to), Want: o.Identity, OpID: fmt.Sprintf("op%d", i)}
		if stays {
			r.Outcome, r.Reason, r.Message = batch.Skipped, batch.ReasonUnchanged, "it stays"
		}
		if group {
			r.Group = w.first(r)
		}
		w.rows = append(w.rows, r)
	}
	return w
}

func (w *world) first(r batch.Row) archive.Key {
	if len(w.rows) == 0 {
		return r.From
	}
	return w.rows[0].From
}

func (w *world) seal(t tester) {
	t.Helper()
	seg, err := w.led.WritePlanRows(context.Background(), w.batch.ID, 1, 0, w.rows)
	check(t, err)
	w.plan = batch.Plan{V: batch.Version, Batch: w.batch.ID, Epoch: 1, Segments: []batch.PlanSegment{seg}}
	check(t, w.led.SealPlan(context.Background(), w.plan))
}

func (w *world) ref() batch.Ref {
	return batch.Ref{Batch: w.batch.ID, Step: batch.StepRename, Generation: 1, Segment: 0}
}

// execute carries the segment out and stores its part.
func (w *world) execute(hold renaming.Hold) error { return w.executeOn(hold, w.archive) }

func (w *world) executeOn(hold renaming.Hold, st store.Store) error {
	return w.executeIn(context.Background(), hold, st)
}

func (w *world) executeIn(ctx context.Context, hold renaming.Hold, st store.Store) error {
	w.epoch++
	pw, err := ledger.NewPartWriter(w.ref(), w.epoch)
	if err != nil {
		return err
	}
	defer pw.Close()
	w.running.Store(w.epoch, true)
	defer w.running.Delete(w.epoch)
	exec := ledger.Execution{Ref: w.ref(), Epoch: w.epoch, Process: ledger.Process{Worker: "w", PID: int(w.epoch)}}
	if err := renaming.Rename(ctx, hold, w.led, st, renaming.Segment{Batch: w.batch, Plan: w.plan, Execution: exec, Ended: w.ended, Note: func(string) {}}, pw); err != nil {
		return err
	}
	_, _, err = w.led.CreatePart(ctx, pw)
	return err
}

func (w *world) records(t tester) map[archive.Key]batch.Record {
	t.Helper()
	out := map[archive.Key]batch.Record{}
	n := 0
	for r, err := range w.led.Part(context.Background(), w.ref()) {
		check(t, err)
		out[r.Key] = r
		n++
	}
	if n != len(w.rows) || len(out) != n {
		t.Errorf("%d records of %d objects, want one for each of %d rows", n, len(out), len(w.rows))
	}
	return out
}

// outcomes says of each record where the object is, or "skipped: reason", or "failed: reason", and where it is if not at
// its old name.
func (w *world) outcomes(t tester) map[archive.Key]string {
	t.Helper()
	out := map[archive.Key]string{}
	for k, r := range w.records(t) {
		switch {
		case r.Outcome == batch.Done:
			out[k] = string(r.To)
		case r.To != "":
			out[k] = fmt.Sprintf("%s: %s, at %s", r.Outcome, r.Reason, r.To)
		default:
			out[k] = fmt.Sprintf("%s: %s", r.Outcome, r.Reason)
		}
		if r.Outcome != batch.Done && r.Message == "" {
			t.Errorf("record of %s says %q without a message", k, r.Reason)
		}
	}
	return out
}

func contents(t tester, st store.Store) map[archive.Key]string {
	t.Helper()
	out := map[archive.Key]string{}
	for e, err := range st.List(context.Background(), store.ListOptions{}) {
		check(t, err)
		c, err := st.Open(context.Background(), e.Key, 0, -1, archive.Identity{})
		check(t, err)
		raw, err := io.ReadAll(c)
		check(t, errors.Join(err, c.Close()))
		out[e.Key] = string(raw)
	}
	return out
}

// checkWorld: every object is where its record says, and nothing else has come or gone.
func (w *world) checkWorld(t tester, foreign map[archive.Key]string) {
	t.Helper()
	want := map[archive.Key]string{"another": "another"}
	for k, v := range foreign {
		want[k] = v
	}
	for _, r := range w.records(t) {
		if r.Reason == batch.ReasonMissing || r.Reason == batch.ReasonChanged {
			continue
		}
		at := r.Key
		if r.To != "" {
			at = r.To
		}
		want[at] = "content of " + string(r.Key)
	}
	if diff := cmp.Diff(want, contents(t, w.archive.Store)); diff != "" {
		t.Errorf("the archive is not what the records say (-records +archive):\n%s", diff)
	}
}

func (w *world) open(t tester) int {
	t.Helper()
	n := 0
	for _, err := range w.led.Executions(context.Background(), w.batch.ID) {
		check(t, err)
		n++
	}
	return n
}

func TestRename(t *testing.T) {
	failing := func(err error) func(string, archive.Key) error {
		return func(op string, key archive.Key) error {
			if op == "rename" && key == "b" {
				return fmt.Errorf("rename b to n/b: %w", err)
			}
			return nil
		}
	}
	put := func(key archive.Key) func(*world) error {
		return func(w *world) error {
			return w.archive.Create(context.Background(), key, strings.NewReader("foreign"))
		}
	}
	remove := func(w *world) error { return w.archive.Delete(context.Background(), "b", archive.Identity{}) }
	tests := map[string]struct {
		prepare   func(*world) error
		before    func(string, archive.Key) error
		cancelled bool
		want      string // of b, where it moves alone
		wantGroup map[archive.Key]string
	}{
		"done": {want: "n/b", wantGroup: map[archive.Key]string{"a": "n/a", "b": "n/b", "c": "n/c"}},
		"target taken": {
			prepare: put("n/b"), want: "failed: conflict",
			wantGroup: map[archive.Key]string{"a": "skipped: group", "b": "failed: conflict", "c": "skipped: group"},
		},
		"target is a folder": {
			prepare: put("n/b/x"), want: "failed: conflict",
			wantGroup: map[archive.Key]string{"a": "skipped: group", "b": "failed: conflict", "c": "skipped: group"},
		},
		"source gone": {
			prepare: remove, want: "failed: missing",
			wantGroup: map[archive.Key]string{"a": "skipped: group", "b": "failed: missing", "c": "skipped: group"},
		},
		"source changed": {
			prepare: func(w *world) error { return errors.Join(remove(w), put("b")(w)) }, want: "skipped: changed",
			wantGroup: map[archive.Key]string{"a": "skipped: group", "b": "skipped: changed", "c": "skipped: group"},
		},
		"unsupported": {
			before: failing(store.ErrUnsupported), want: "failed: unsupported",
			wantGroup: map[archive.Key]string{"a": "skipped: group", "b": "failed: unsupported", "c": "skipped: group"},
		},
		"no space": {
			before: failing(store.ErrNoSpace), want: "failed: no-space",
			wantGroup: map[archive.Key]string{"a": "skipped: group", "b": "failed: no-space", "c": "skipped: group"},
		},
		"no permission": {
			before: failing(store.ErrPermission), want: "failed: io",
			wantGroup: map[archive.Key]string{"a": "skipped: group", "b": "failed: io", "c": "skipped: group"},
		},
		"target taken in the last moment": {
			before: failing(store.ErrExist), want: "failed: conflict",
			wantGroup: map[archive.Key]string{"a": "skipped: group", "b": "failed: conflict", "c": "skipped: group"},
		},
		"cancelled": {
			cancelled: true, want: "skipped: cancelled",
			wantGroup: map[archive.Key]string{"a": "skipped: cancelled", "b": "skipped: cancelled", "c": "skipped: cancelled"},
		},
	}
	for name, tt := range tests {
		for _, group := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/group=%t", name, group), func(t *testing.T) {
				w := newWorld(t, group, "a -> n/a", "b -> n/b", "c -> n/c", "-d -> ")
				if tt.prepare != nil {
					check(t, tt.prepare(w))
				}
				w.archive.before = tt.before
				check(t, w.execute(claim{cancelled: tt.cancelled}))
				want := tt.wantGroup
				if !group {
					want = map[archive.Key]string{"a": "n/a", "b": tt.want, "c": "n/c"}
					if tt.cancelled {
						want["a"], want["c"] = "skipped: cancelled", "skipped: cancelled"
					}
				}
				want["d"] = "skipped: unchanged"
				if diff := cmp.Diff(want, w.outcomes(t)); diff != "" {
					t.Errorf("records differ (-want +got):\n%s", diff)
				}
				foreign := map[archive.Key]string{}
				for k, v := range contents(t, w.archive.Store) {
					if v == "foreign" {
						foreign[k] = v
					}
				}
				w.checkWorld(t, foreign)
				if n := w.open(t); n != 0 {
					t.Errorf("%d executions are open, want none", n)
				}
			})
		}
	}
}

func TestUnavailableArchiveIsNoOutcome(t *testing.T) {
	tests := map[string]func(*world){
		"error": func(w *world) {
			w.archive.before = func(string, archive.Key) error { return store.ErrUnavailable }
		},
		"empty": func(w *world) { w.archive.Store = memstore.New(archive.Root{}) },
	}
	for name, breakIt := range tests {
		for _, group := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/group=%t", name, group), func(t *testing.T) {
				w := newWorld(t, group, "a -> n/a", "b -> n/b")
				breakIt(w)
				if err := w.execute(claim{}); !errors.Is(err, store.ErrUnavailable) {
					t.Errorf("Rename = %v, want %v", err, store.ErrUnavailable)
				}
				if n := w.open(t); n != 0 {
					t.Errorf("%d executions are open, want none", n)
				}
			})
		}
	}
}

func TestErrorAfterTheMoveIsDone(t *testing.T) {
	w := newWorld(t, false, "a -> n/a")
	w.archive.after = func(op string, _ archive.Key) error {
		if op == "rename" {
			return errors.New("input/output error")
		}
		return nil
	}
	check(t, w.execute(claim{}))
	if got := w.outcomes(t)["a"]; got != "n/a" {
		t.Errorf("record of a: %s, want n/a", got)
	}
}

func TestObjectThatCannotBeMovedBack(t *testing.T) {
	w := newWorld(t, true, "a -> n/a", "b -> n/b")
	w.archive.before = func(op string, key archive.Key) error {
		switch {
		case op == "rename" && key == "b":
			return errors.New("input/output error")
		case op == "rename" && key == "n/a":
			return store.ErrPermission
		}
		return nil
	}
	check(t, w.execute(claim{}))
	want := map[archive.Key]string{"a": "failed: group, at n/a", "b": "failed: io"}
	if diff := cmp.Diff(want, w.outcomes(t)); diff != "" {
		t.Errorf("records differ (-want +got):\n%s", diff)
	}
	w.checkWorld(t, nil)
}

func TestCancelledGroupIsWhole(t *testing.T) {
	move := func(t *testing.T, w *world, i int) {
		t.Helper()
		r := w.rows[i]
		check(t, w.archive.Rename(t.Context(), store.RenameRequest{From: r.From, To: r.To, Want: r.Want, OpID: r.OpID}))
	}
	t.Run("half moved", func(t *testing.T) {
		w := newWorld(t, true, "a -> n/a", "b -> n/b")
		move(t, w, 0)
		check(t, w.execute(claim{cancelled: true}))
		if diff := cmp.Diff(map[archive.Key]string{"a": "skipped: cancelled", "b": "skipped: cancelled"}, w.outcomes(t)); diff != "" {
			t.Errorf("records differ (-want +got):\n%s", diff)
		}
		w.checkWorld(t, nil)
	})
	t.Run("moved", func(t *testing.T) {
		w := newWorld(t, true, "a -> n/a", "b -> n/b")
		move(t, w, 0)
		move(t, w, 1)
		check(t, w.execute(claim{cancelled: true}))
		if diff := cmp.Diff(map[archive.Key]string{"a": "n/a", "b": "n/b"}, w.outcomes(t)); diff != "" {
			t.Errorf("records differ (-want +got):\n%s", diff)
		}
	})
}

func TestSyncedBeforeTheRecords(t *testing.T) {
	w := newWorld(t, false, "a -> n/a", "b -> n/b")
	var mu sync.Mutex
	var ops []string
	w.archive.before = func(op string, _ archive.Key) error {
		mu.Lock()
		defer mu.Unlock()
		ops = append(ops, op)
		if op == "sync" {
			return store.ErrUnavailable
		}
		return nil
	}
	if err := w.execute(claim{}); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Rename without a sync = %v, want %v", err, store.ErrUnavailable)
	}
	if len(ops) == 0 || ops[len(ops)-1] != "sync" {
		t.Errorf("operations are %q, want a sync at the end", ops)
	}
	w.archive.before = nil
	check(t, w.execute(claim{}))
	w.checkWorld(t, nil)
}

// TestNothingMovesWithoutTheClaim: a claim that has lapsed before a move is no move.
func TestNothingMovesWithoutTheClaim(t *testing.T) {
	w := newWorld(t, false, "a -> n/a")
	if err := w.execute(claim{held: func() error { return errLapsed }}); !errors.Is(err, errLapsed) {
		t.Errorf("Rename = %v, want %v", err, errLapsed)
	}
	if _, err := w.archive.Stat(t.Context(), "a"); err != nil {
		t.Errorf("a was touched: %v", err)
	}
}

// TestWorkerThatWakesUp stops a worker right before a move until its successor has settled the segment.
func TestWorkerThatWakesUp(t *testing.T) {
	for _, group := range []bool{false, true} {
		for _, cancelled := range []bool{false, true} {
			for _, at := range []archive.Key{"a", "b"} {
				t.Run(fmt.Sprintf("group=%t/cancelled=%t/at=%s", group, cancelled, at), func(t *testing.T) {
					w := newWorld(t, group, "a -> n/a", "b -> n/b")
					var lapsed atomic.Bool
					sleepy := &hooked{Store: w.archive.Store, before: func(op string, key archive.Key) error {
						if op != "rename" || key != at || !lapsed.CompareAndSwap(false, true) {
							return nil
						}
						return w.execute(claim{cancelled: cancelled})
					}}
					err := w.executeOn(claim{held: func() error {
						if lapsed.Load() {
							return errLapsed
						}
						return nil
					}}, sleepy)
					if !errors.Is(err, errLapsed) {
						t.Errorf("Rename = %v, want %v", err, errLapsed)
					}
					w.checkWorld(t, nil)
					if n := w.open(t); n != 0 {
						t.Errorf("%d executions are open, want none", n)
					}
				})
			}
		}
	}
}

// TestWorkerThatWakesUpMovingBack stops a worker right before it moves the first of a group back, until its successor has
// found the reason gone and renamed the group.
func TestWorkerThatWakesUpMovingBack(t *testing.T) {
	w := newWorld(t, true, "a -> n/a", "b -> n/b")
	r := w.rows[0]
	check(t, w.archive.Rename(t.Context(), store.RenameRequest{From: r.From, To: r.To, Want: r.Want, OpID: r.OpID}))
	check(t, w.archive.Create(t.Context(), "n/b", strings.NewReader("foreign")))
	lapsed := false
	sleepy := &hooked{Store: w.archive.Store, before: func(op string, key archive.Key) error {
		if op != "rename" || key != "n/a" || lapsed {
			return nil
		}
		lapsed = true
		check(t, w.archive.Delete(t.Context(), "n/b", archive.Identity{}))
		return w.execute(claim{})
	}}
	err := w.executeOn(claim{held: func() error {
		if lapsed {
			return errLapsed
		}
		return nil
	}}, sleepy)
	if !errors.Is(err, errLapsed) {
		t.Errorf("Rename = %v, want %v", err, errLapsed)
	}
	if diff := cmp.Diff(map[archive.Key]string{"a": "n/a", "b": "n/b"}, w.outcomes(t)); diff != "" {
		t.Errorf("records differ (-want +got):\n%s", diff)
	}
	w.checkWorld(t, nil)
}

// TestWorkerThatWakesUpEarly: the successor settles the segment only after the worker has moved.
func TestWorkerThatWakesUpEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, false, "a -> n/a")
		lapsed := false
		looked, settle := make(chan struct{}), make(chan struct{})
		slow := &hooked{Store: w.archive.Store, before: func(op string, key archive.Key) error { return nil }}
		slow.after = func(op string, key archive.Key) error {
			if op == "stat" && key == "n/a" { // it has seen that the object is at its old name
				close(looked)
				<-settle
			}
			return nil
		}
		done := make(chan error, 1)
		sleepy := &hooked{Store: w.archive.Store, before: func(op string, key archive.Key) error {
			if op == "rename" && !lapsed {
				lapsed = true
				go func() { done <- w.executeOn(claim{cancelled: true}, slow) }()
				<-looked
			}
			return nil
		}}
		go func() {
			time.Sleep(3 * time.Second)
			close(settle)
		}()
		err := w.executeOn(claim{held: func() error {
			if lapsed {
				return errLapsed
			}
			return nil
		}}, sleepy)
		if !errors.Is(err, errLapsed) {
			t.Errorf("Rename = %v, want %v", err, errLapsed)
		}
		check(t, <-done)
		w.checkWorld(t, nil)
	})
}

// TestLapsedClaimWithoutSuccessor: the execution does not wait for ever, and the next one finishes its work.
func TestLapsedClaimWithoutSuccessor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, true, "a -> n/a", "b -> n/b")
		calls := 0
		start := time.Now()
		err := w.execute(claim{held: func() error {
			if calls++; calls > 1 {
				return errLapsed
			}
			return nil
		}})
		if !errors.Is(err, errLapsed) || time.Since(start) > time.Minute {
			t.Errorf("Rename = %v after %v, want %v within a minute", err, time.Since(start), errLapsed)
		}
		check(t, w.execute(claim{}))
		w.checkWorld(t, nil)
	})
}
