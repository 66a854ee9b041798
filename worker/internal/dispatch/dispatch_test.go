package dispatch_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/flow"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/queue/redistest"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/filestore"
	"github.com/reshelf/reshelf/worker/internal/dispatch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const id batch.ID = "01jd0000000000000000000000"

// carrier keeps what is enqueued, so that a test hands out each task.
type carrier struct {
	mu    sync.Mutex
	tasks []batch.Task
}

func (c *carrier) EnqueueAll(_ context.Context, _ string, _ batch.Priority, tasks []batch.Task) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tasks = append(c.tasks, tasks...)
	return nil
}

func (c *carrier) Waiting(context.Context, string, batch.Priority, batch.Task) (bool, error) {
	return true, nil
}

func (c *carrier) take(step batch.Step) (batch.Task, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.IndexFunc(c.tasks, func(t batch.Task) bool { return t.Step == step })
	if i < 0 {
		return batch.Task{}, false
	}
	t := c.tasks[i]
	c.tasks = slices.Delete(c.tasks, i, i+1)
	return t, true
}

// world is a worker's dispatcher over a real Redis and a ledger on a disk. The steps are the test's.
type world struct {
	t      *testing.T
	redis  *redistest.Server
	ledger *ledger.Ledger
	queue  *carrier
	flow   *flow.Flow
	claims *flow.Claims
	steps  map[batch.Step]dispatch.Step
	batch  batch.Batch
	open   error // what opening the archive gives
	denied bool
	opened int
	full   []error // what LedgerFull was told
}

func newWorld(t *testing.T, kind batch.Kind) *world {
	t.Helper()
	t.Parallel() // most of the time is spent waiting
	st, err := filestore.Open(t.TempDir(), filestore.Options{Ledger: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	w := &world{t: t, redis: redistest.Start(t), ledger: ledger.New(st), queue: &carrier{}, steps: map[batch.Step]dispatch.Step{}}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	live, err := ledger.NewLive(w.redis.Client(), "reshelf")
	w.must(err)
	w.flow = flow.New(w.ledger, live, w.queue, log)
	w.claims = flow.NewClaims(live, "worker", log)
	root, err := archive.FileRoot(t.TempDir())
	w.must(err)
	w.batch = batch.Batch{
		V: batch.Version, ID: id, Kind: kind, Archive: root, Level: batch.LevelNone, Pool: "default", Priority: batch.Normal, Submitted: time.Now().UTC(),
	}
	if kind == batch.Rename {
		w.batch.Renaming = &batch.RenameOptions{Template: "{name}{ext}", OnConflict: batch.ConflictStop, Approved: true}
	}
	w.must(w.flow.Submit(t.Context(), w.batch))
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) ctx() context.Context { return w.t.Context() }

func (w *world) dispatcher() *dispatch.Dispatcher {
	return dispatch.New(dispatch.Options{
		Flow: w.flow, Claims: w.claims, Steps: w.steps, Log: slog.New(slog.NewTextHandler(w.t.Output(), nil)),
		Open: func(context.Context, archive.Root, bool) (store.Store, error) {
			w.opened++
			if w.open != nil {
				return nil, w.open
			}
			return filestore.Open(w.batch.Archive.Path(), filestore.Options{})
		},
		Reaches:    func(archive.Root) bool { return !w.denied },
		LedgerFull: func(err error) { w.full = append(w.full, err) },
	})
}

// task waits until a task of the step is enqueued; failed segments come again only after a while.
func (w *world) task(step batch.Step) batch.Task {
	w.t.Helper()
	var t batch.Task
	w.wait("a task of step "+string(step), func() bool {
		var ok bool
		if t, ok = w.queue.take(step); !ok {
			w.must(w.flow.Sync(w.ctx(), id))
		}
		return ok
	})
	return t
}

func (w *world) wait(what string, done func() bool) {
	w.t.Helper()
	for start := time.Now(); !done(); {
		if time.Since(start) > time.Minute {
			w.t.Fatalf("not within a minute: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (w *world) handle(t batch.Task) { w.dispatcher().Handle(w.ctx(), t) }

// list makes n segments of one object and settles the list step.
func (w *world) list(n int) {
	w.t.Helper()
	w.steps[batch.StepList] = func(ctx context.Context, j dispatch.Job, _ *ledger.PartWriter) error {
		for i := range n {
			ref := batch.Ref{Batch: id, Step: batch.StepInspect, Generation: 1, Segment: i}
			seg := batch.Segment{Objects: []batch.Listed{{Object: object(i, 0)}, {Object: object(i, 1)}}}
			h, err := w.ledger.CreateSegment(ctx, ref, seg)
			if err != nil {
				return err
			}
			if err := w.flow.Made(ctx, j.Batch, h); err != nil {
				return err
			}
		}
		return errors.Join(w.ledger.Seal(ctx, id, batch.StepInspect, 1, n), w.flow.Sealed(ctx, j.Batch, n))
	}
	w.handle(w.task(batch.StepList))
}

func object(segment, i int) archive.Object {
	return archive.Object{Key: archive.Key(fmt.Sprintf("%03d/%d", segment, i)), Identity: archive.Identity{Size: 10}}
}

// inspectAll records both objects of a segment as done.
func inspectAll(_ context.Context, j dispatch.Job, w *ledger.PartWriter) error {
	for i := range 2 {
		if err := w.Add(batch.Record{Object: object(j.Ref().Segment, i), Outcome: batch.Done}); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) progress() ledger.Progress {
	w.t.Helper()
	p, err := w.flow.Live().Progress(w.ctx(), id)
	w.must(err)
	return p
}

func (w *world) status() batch.Status {
	w.t.Helper()
	s, err := w.ledger.Status(w.ctx(), w.batch)
	w.must(err)
	return s
}

func (w *world) wantWindow(state string) {
	w.t.Helper()
	p := w.progress()
	if len(p.Window) != 1 || p.Window[0].State != state {
		w.t.Errorf("window = %+v, want one segment in state %s", p.Window, state)
	}
}

func TestASegmentSettles(t *testing.T) {
	w := newWorld(t, batch.Inspect)
	w.list(2)
	w.steps[batch.StepInspect] = inspectAll
	for range 2 {
		w.handle(w.task(batch.StepInspect))
	}
	want := ledger.StepProgress{Known: 2, Total: 2, Settled: 2, Counts: batch.Counts{Done: 4, Bytes: 40}}
	if got := w.progress().Steps[batch.StepInspect]; got != want {
		t.Errorf("inspect step = %+v, want %+v", got, want)
	}
	if s := w.status(); s.State != batch.Finishing {
		t.Errorf("batch is %s, want %s", s, batch.Finishing)
	}
	if n := w.claims.Busy(); n != 0 {
		t.Errorf("%d claims are held, want none", n)
	}
}

func TestFinishingNeedsNoArchive(t *testing.T) {
	w := newWorld(t, batch.Inspect)
	w.list(0)
	w.open = fmt.Errorf("open: %w", store.ErrUnavailable)
	w.steps[batch.StepFinish] = func(context.Context, dispatch.Job, *ledger.PartWriter) error { return nil }
	w.handle(w.task(batch.StepFinish))
	if s := w.status(); s.State != batch.Complete {
		t.Errorf("batch is %s, want %s", s, batch.Complete)
	}
}

func TestAPartThatExistsIsAdopted(t *testing.T) {
	w := newWorld(t, batch.Inspect)
	w.list(1)
	task := w.task(batch.StepInspect)
	pw, err := ledger.NewPartWriter(task.Ref(), 1)
	w.must(err)
	defer pw.Close()
	w.must(pw.Add(batch.Record{Object: object(0, 0), Outcome: batch.Done}))
	w.must(pw.Add(batch.Record{Object: object(0, 1), Outcome: batch.Failed, Reason: batch.ReasonFormat}))
	_, _, err = w.ledger.CreatePart(w.ctx(), pw)
	w.must(err)
	w.open, w.opened = store.ErrUnavailable, 0
	w.steps[batch.StepInspect] = func(context.Context, dispatch.Job, *ledger.PartWriter) error {
		t.Error("the step was run again")
		return nil
	}
	w.handle(task)
	if got := w.progress().Steps[batch.StepInspect].Counts; got.Done != 1 || got.Failed != 1 || w.opened != 0 {
		t.Errorf("counts = %+v, archive opened %d times; want the winner's counts and none", got, w.opened)
	}
}

func TestTheLoserOfAPartSettlesTheWinners(t *testing.T) {
	w := newWorld(t, batch.Inspect)
	w.list(1)
	w.steps[batch.StepInspect] = func(ctx context.Context, j dispatch.Job, pw *ledger.PartWriter) error {
		twin, err := ledger.NewPartWriter(j.Ref(), j.Execution.Claim.Epoch-1)
		if err != nil {
			return err
		}
		defer twin.Close()
		_, _, err = w.ledger.CreatePart(ctx, twin)
		return errors.Join(err, inspectAll(ctx, j, pw))
	}
	w.handle(w.task(batch.StepInspect))
	if got := w.progress().Steps[batch.StepInspect]; got.Settled != 1 || got.Counts.Done != 0 {
		t.Errorf("inspect step = %+v, want it settled with the winner's counts, which are zero", got)
	}
}

func TestErrorsThatStopABatch(t *testing.T) {
	cause := func(of error) error { return fmt.Errorf("reading the shelf: %w", of) }
	for _, tc := range []struct {
		name       string
		open, step error
		paused     bool
		state      batch.State
	}{
		{"archive cannot be opened", cause(store.ErrUnavailable), nil, true, batch.Inspecting},
		{"archive goes away", nil, cause(store.ErrUnavailable), true, batch.Inspecting},
		{"no space", nil, cause(store.ErrNoSpace), true, batch.Inspecting},
		{"ledger damaged", nil, cause(ledger.ErrCorrupt), false, batch.FailedState},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t, batch.Inspect)
			w.list(1)
			w.open = tc.open
			w.steps[batch.StepInspect] = func(context.Context, dispatch.Job, *ledger.PartWriter) error { return tc.step }
			w.handle(w.task(batch.StepInspect))
			s := w.status()
			if s.Paused != tc.paused || s.State != tc.state || !strings.Contains(s.Reason, "reading the shelf") {
				t.Fatalf("batch is %s because of %q, want %s, paused %v, with the reason", s, s.Reason, tc.state, tc.paused)
			}
			if !tc.paused {
				return
			}
			w.open = nil
			w.steps[batch.StepInspect] = inspectAll
			_, err := w.flow.Decide(w.ctx(), id, batch.Event{Kind: batch.EventResume})
			w.must(err)
			w.handle(w.task(batch.StepInspect))
			if s := w.status(); s.State != batch.Finishing {
				t.Errorf("resumed batch is %s, want %s", s, batch.Finishing)
			}
		})
	}
}

// crowded is a ledger's store without room for objects whose key contains one of no.
type crowded struct {
	store.Store
	no []string
}

func (c *crowded) Create(ctx context.Context, key archive.Key, body io.Reader) error {
	if slices.ContainsFunc(c.no, func(part string) bool { return strings.Contains(string(key), part) }) {
		return fmt.Errorf("create %s: %w", key.Text(), store.ErrNoSpace)
	}
	return c.Store.Create(ctx, key, body)
}

func TestAFullLedger(t *testing.T) {
	for _, tc := range []struct {
		name         string
		no           []string
		paused, full bool
	}{
		{"no room for the part", []string{"/records/"}, true, false},
		{"nor for the event that pauses", []string{"/records/", "/events/"}, false, true},
		{"no room for the next state", []string{"/events/"}, false, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t, batch.Inspect)
			disk := &crowded{Store: w.ledger.Store()}
			w.ledger = ledger.New(disk)
			w.flow = flow.New(w.ledger, w.flow.Live(), w.queue, slog.New(slog.NewTextHandler(t.Output(), nil)))
			w.steps[batch.StepInspect] = inspectAll
			w.list(1)
			disk.no = tc.no
			start := time.Now()
			w.handle(w.task(batch.StepInspect))
			if took := time.Since(start); took > 10*time.Second {
				t.Errorf("it took %v to find out", took)
			}
			if got := w.status().Paused; got != tc.paused {
				t.Errorf("paused = %v, want %v", got, tc.paused)
			}
			if got := len(w.full) == 1 && errors.Is(w.full[0], store.ErrNoSpace); got != tc.full {
				t.Errorf("LedgerFull was told %v, want it told: %v", w.full, tc.full)
			}
			disk.no = nil // somebody makes room
			if tc.paused {
				_, err := w.flow.Decide(w.ctx(), id, batch.Event{Kind: batch.EventResume})
				w.must(err)
			}
			w.must(w.flow.Recover(w.ctx(), id))
			if w.status().State == batch.Inspecting {
				w.handle(w.task(batch.StepInspect))
			}
			if got := w.status().State; got != batch.Finishing {
				t.Errorf("batch is %s, want %s", got, batch.Finishing)
			}
		})
	}
}

func TestACancelledBatchSaysThatTheLedgerIsFull(t *testing.T) {
	w := newWorld(t, batch.Inspect)
	disk := &crowded{Store: w.ledger.Store()}
	w.ledger = ledger.New(disk)
	w.flow = flow.New(w.ledger, w.flow.Live(), w.queue, slog.New(slog.NewTextHandler(t.Output(), nil)))
	w.list(1)
	_, err := w.flow.Decide(w.ctx(), id, batch.Event{Kind: batch.EventCancel})
	w.must(err)
	w.steps[batch.StepFinish] = func(context.Context, dispatch.Job, *ledger.PartWriter) error { return nil }
	disk.no = []string{"batches/", "probe/"}
	w.handle(w.task(batch.StepFinish))
	if len(w.full) != 1 || !errors.Is(w.full[0], store.ErrNoSpace) {
		t.Errorf("LedgerFull was told %v, want ErrNoSpace", w.full)
	}
	disk.no = nil
	w.handle(w.task(batch.StepFinish))
	if got := w.status().State; got != batch.Cancelled {
		t.Errorf("batch is %s, want %s", got, batch.Cancelled)
	}
}

func TestOtherErrorsPauseAfterFive(t *testing.T) {
	w := newWorld(t, batch.Inspect)
	w.list(1)
	runs := 0
	w.steps[batch.StepInspect] = func(context.Context, dispatch.Job, *ledger.PartWriter) error {
		runs++
		return errors.New("odd")
	}
	start := time.Now()
	for !w.status().Paused {
		w.handle(w.task(batch.StepInspect))
		w.wantWindow("r")
	}
	if runs != 5 || w.status().Reason != "odd" {
		t.Errorf("paused after %d runs because of %q, want 5 and odd", runs, w.status().Reason)
	}
	if took := time.Since(start); took < 10*time.Second {
		t.Errorf("five failures within %v: a short fault of a network pauses the batch", took)
	}
}

func TestAnErrorInACancelledBatchIsNotRepeatedAtOnce(t *testing.T) {
	w := newWorld(t, batch.Inspect)
	w.list(1)
	task := w.task(batch.StepInspect)
	w.steps[batch.StepInspect] = func(ctx context.Context, _ dispatch.Job, _ *ledger.PartWriter) error {
		_, err := w.flow.Decide(ctx, id, batch.Event{Kind: batch.EventCancel})
		return errors.Join(err, store.ErrUnavailable)
	}
	w.handle(task)
	w.wantWindow("r") // a cancelled batch cannot be paused; the segment waits instead
	w.steps[batch.StepInspect] = func(_ context.Context, j dispatch.Job, _ *ledger.PartWriter) error {
		if !j.Execution.Cancelled() {
			t.Error("the execution is not told that its batch is cancelled")
		}
		return nil
	}
	w.handle(w.task(batch.StepInspect))
	if s := w.status(); s.State != batch.Finishing {
		t.Errorf("batch is %s, want %s", s, batch.Finishing)
	}
}

func TestShutdownGivesBack(t *testing.T) {
	w := newWorld(t, batch.Inspect)
	w.list(1)
	ctx, shutdown := context.WithCancel(w.ctx())
	w.steps[batch.StepInspect] = func(ctx context.Context, j dispatch.Job, pw *ledger.PartWriter) error {
		if err := pw.Add(batch.Record{Object: object(0, 0), Outcome: batch.Done, Message: "by the first"}); err != nil {
			return err
		}
		shutdown()
		return ctx.Err()
	}
	w.dispatcher().Handle(ctx, w.task(batch.StepInspect))
	w.wantWindow("r")
	found := map[archive.Key]batch.Record{}
	w.steps[batch.StepInspect] = func(ctx context.Context, j dispatch.Job, pw *ledger.PartWriter) error {
		if j.Execution.Claim.Failures != 0 || len(j.Execution.Claim.Suspects) != 0 || j.Execution.Claim.Attempt != 2 {
			t.Errorf("claim = %+v, want attempt 2 without failures or suspects", j.Execution.Claim)
		}
		var err error
		found, err = w.ledger.Partial(ctx, j.Ref())
		return errors.Join(err, inspectAll(ctx, j, pw))
	}
	w.handle(w.task(batch.StepInspect))
	if r := found[object(0, 0).Key]; len(found) != 1 || r.Message != "by the first" {
		t.Errorf("partial part = %+v, want what the first execution had finished", found)
	}
}

func TestAStaleTaskTouchesNothing(t *testing.T) {
	w := newWorld(t, batch.Inspect)
	w.list(1)
	w.steps[batch.StepInspect] = inspectAll
	task := w.task(batch.StepInspect)
	w.handle(task)
	before := w.progress()
	w.opened = 0
	w.handle(task)
	if after := w.progress(); w.opened != 0 || after.Steps[batch.StepInspect] != before.Steps[batch.StepInspect] {
		t.Errorf("archive opened %d times, step = %+v; want none, %+v", w.opened, after.Steps, before.Steps)
	}
}

func TestAnArchiveOutOfReachCostsNoClaim(t *testing.T) {
	w := newWorld(t, batch.Inspect)
	w.list(1)
	w.denied, w.opened = true, 0
	w.handle(w.task(batch.StepInspect))
	if p := w.progress(); len(p.Window) != 1 || p.Window[0].State != "q" || p.Window[0].Epoch != 0 || w.opened != 0 {
		t.Errorf("window = %+v, archive opened %d times; want the segment enqueued and never claimed", p.Window, w.opened)
	}
}

func TestSettlingWaitsForRedis(t *testing.T) {
	w := newWorld(t, batch.Inspect)
	w.list(1)
	task := w.task(batch.StepInspect)
	w.steps[batch.StepInspect] = func(ctx context.Context, j dispatch.Job, pw *ledger.PartWriter) error {
		w.redis.Pause()
		return inspectAll(ctx, j, pw)
	}
	handled := make(chan struct{})
	go func() {
		defer close(handled)
		w.handle(task)
	}()
	w.wait("the part", func() bool {
		_, err := w.ledger.PartHeader(w.ctx(), task.Ref())
		return err == nil
	})
	select {
	case <-handled:
		t.Error("gave up while Redis was silent")
	case <-time.After(4 * time.Second): // longer than one try of the client
	}
	w.redis.Resume()
	<-handled
	if got := w.progress().Steps[batch.StepInspect]; got.Settled != 1 || got.Counts.Done != 2 {
		t.Errorf("inspect step = %+v, want one segment of two objects settled once", got)
	}
}

func TestSettlingEndsWhenRedisForgotTheBatch(t *testing.T) {
	w := newWorld(t, batch.Inspect)
	w.list(1)
	w.steps[batch.StepInspect] = func(ctx context.Context, j dispatch.Job, pw *ledger.PartWriter) error {
		w.redis.FlushAll()
		return inspectAll(ctx, j, pw)
	}
	w.handle(w.task(batch.StepInspect))
	w.must(w.flow.Recover(w.ctx(), id))
	if got := w.progress().Steps[batch.StepInspect]; got.Settled != 1 || got.Counts.Done != 2 {
		t.Errorf("inspect step = %+v, want what the part says", got)
	}
}

// renaming brings a batch to its rename step of one row.
func renaming(t *testing.T) *world {
	w := newWorld(t, batch.Rename)
	w.list(1)
	w.steps[batch.StepInspect] = inspectAll
	w.handle(w.task(batch.StepInspect))
	w.steps[batch.StepPlan] = func(ctx context.Context, j dispatch.Job, _ *ledger.PartWriter) error {
		rows := []batch.Row{{N: 0, From: object(0, 0).Key, To: "new"}}
		seg, err := w.ledger.WritePlanRows(ctx, id, 1, 0, rows)
		if err != nil {
			return err
		}
		return w.ledger.SealPlan(ctx, batch.Plan{Batch: id, Epoch: 1, Segments: []batch.PlanSegment{seg}, Summary: batch.PlanSummary{Moves: 1}})
	}
	w.handle(w.task(batch.StepPlan))
	return w
}

func TestALapsedRenameStoresNoPart(t *testing.T) {
	w := renaming(t)
	task := w.task(batch.StepRename)
	w.steps[batch.StepRename] = func(_ context.Context, j dispatch.Job, pw *ledger.PartWriter) error {
		// Nobody renews the claim, as if this process had been stopped.
		w.wait("the claim to lapse", func() bool { return errors.Is(j.Execution.Held(), flow.ErrLost) })
		return pw.Add(batch.Record{Object: object(0, 0), Outcome: batch.Failed, Reason: batch.ReasonMissing})
	}
	w.handle(task)
	if _, err := w.ledger.PartHeader(w.ctx(), task.Ref()); !errors.Is(err, store.ErrNotExist) {
		t.Fatalf("part = %v, want none: the claim had lapsed", err)
	}
	w.steps[batch.StepRename] = func(_ context.Context, j dispatch.Job, pw *ledger.PartWriter) error {
		if j.Execution.Claim.Failures != 0 {
			t.Errorf("failures = %d, want 0: a lost claim is no failure", j.Execution.Claim.Failures)
		}
		return pw.Add(batch.Record{Object: object(0, 0), Outcome: batch.Done, To: "new"})
	}
	w.handle(w.task(batch.StepRename))
	if got := w.progress().Steps[batch.StepRename].Counts; got.Done != 1 || got.Failed != 0 {
		t.Errorf("counts = %+v, want those of the execution that held its claim", got)
	}
}
