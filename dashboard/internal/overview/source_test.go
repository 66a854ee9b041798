package overview_test

import (
	"context"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/reshelf/reshelf/dashboard/internal/fleettest"
	"github.com/reshelf/reshelf/dashboard/internal/overview"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/digest"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/queue"
	"github.com/reshelf/reshelf/shared/report"
	"github.com/reshelf/reshelf/shared/store"
)

func newSource(t *testing.T, f *fleettest.Fleet, led *ledger.Ledger) *overview.Source {
	t.Helper()
	s := overview.New(led, f.Live, f.Queues, fleettest.Prefix)
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}

func look(t *testing.T, s *overview.Source) *overview.Overview {
	t.Helper()
	o, err := s.Overview(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// lookAt is a look with a source of its own, which has nothing cached.
func lookAt(t *testing.T, f *fleettest.Fleet) *overview.Overview {
	t.Helper()
	return look(t, newSource(t, f, f.Ledger))
}

// until looks until a condition holds.
func until(t *testing.T, s *overview.Source, what string, holds func(*overview.Overview) bool) *overview.Overview {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		o := look(t, s)
		if holds(o) {
			return o
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s; last: %+v", what, o)
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		}
	}
}

func TestBatchInHand(t *testing.T) {
	f := fleettest.New(t)
	b := f.Submit(batch.Batch{Kind: batch.Rename, Name: "one", Pool: "nas", Priority: batch.High})
	f.List(b, 4, 1000, 10)
	f.Settle(b, batch.StepInspect, 0, 2, batch.Counts{Done: 990, Skipped: 7, Failed: 3, Bytes: 9900})
	f.Work(b, batch.StepInspect, 1, 250, 10)

	steps := func(list, inspect, plan, rename, finish overview.Step) []overview.Step {
		s := []overview.Step{list, inspect, plan, rename, finish}
		for i, name := range batch.Rename.Steps() {
			s[i].Name = name
		}
		return s
	}
	want := overview.Batch{
		ID: b.ID, Name: "one", Kind: batch.Rename, Archive: "file:///mnt/photos", Pool: "nas", Priority: batch.High,
		Submitted: b.Submitted.Truncate(time.Millisecond), State: batch.Inspecting, Words: "inspecting", Listing: true,
		Counted: batch.StepInspect, Skipped: 14, Failed: 6,
		Objects: overview.Amount{Settled: 2000, InHand: 250, Total: 4000}, Bytes: overview.Amount{Settled: 19800, InHand: 2500, Total: 40000},
		Steps: steps(overview.Step{Now: true, Known: 1, Total: 1}, overview.Step{Now: true, Settled: 2, Known: 4, Total: -1},
			overview.Step{Known: 1, Total: 1}, overview.Step{Total: -1}, overview.Step{Known: 1, Total: 1}),
	}
	ignore := cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".planned" }, cmp.Ignore())
	check := func(what string) {
		t.Helper()
		o := lookAt(t, f)
		if len(o.Batches) != 1 || o.InHand != 1 {
			t.Fatalf("%s: got %d batches, %d in hand, want 1", what, len(o.Batches), o.InHand)
		}
		if diff := cmp.Diff(want, o.Batches[0], ignore); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	check("listing")

	f.Listed(b)
	want.Listing = false
	want.Steps[0] = overview.Step{Name: batch.StepList, Over: true, Settled: 1, Known: 1, Total: 1}
	want.Steps[1].Total = 4
	check("listed")

	f.Happen(b, batch.Event{Kind: batch.EventPause, Reason: "too many failures"})
	want.Paused, want.Words, want.Reason = true, "inspecting, paused", "too many failures"
	check("paused")

	f.Happen(b, batch.Event{Kind: batch.EventResume})
	f.Settle(b, batch.StepInspect, 2, 4, batch.Counts{Done: 1000, Bytes: 10000})
	f.Advance(b, time.Time{}, batch.Planning)
	want.Paused, want.Words, want.Reason = false, "planning", ""
	want.State, want.Objects, want.Bytes.Settled, want.Bytes.InHand = batch.Planning, overview.Amount{Settled: 4000, Total: 4000}, 39800, 0
	want.Steps[1] = overview.Step{Name: batch.StepInspect, Over: true, Settled: 4, Known: 4, Total: 4}
	want.Steps[2].Now = true
	check("planning")

	f.Plan(b, 4000, 3900)
	f.Advance(b, time.Time{}, batch.AwaitingApproval)
	want.State, want.Words, want.Plan = batch.AwaitingApproval, "awaiting-approval", nil
	want.Steps[2] = overview.Step{Name: batch.StepPlan, Over: true, Settled: 1, Known: 1, Total: 1}
	check("awaiting approval, plan not read yet")

	plan := &overview.Plan{Rows: 4000, Moves: 3900}
	s := newSource(t, f, f.Ledger)
	until(t, s, "the plan is shown", func(o *overview.Overview) bool { return cmp.Equal(o.Batches[0].Plan, plan) })

	f.Happen(b, batch.Event{Kind: batch.EventApprove})
	f.Seal(b, batch.StepRename, 4)
	f.Settle(b, batch.StepRename, 0, 1, batch.Counts{Done: 993, Failed: 7, Bytes: 9930})
	f.Work(b, batch.StepRename, 2, 10, 10)
	o := until(t, s, "it is renaming", func(o *overview.Overview) bool { return o.Batches[0].State == batch.Renaming })
	got := o.Batches[0]
	if want := (overview.Amount{Settled: 1000, InHand: 20, Total: 4000}); got.Objects != want || got.Bytes != (overview.Amount{}) {
		t.Errorf("renaming: got objects %+v, bytes %+v, want %+v and none", got.Objects, got.Bytes, want)
	}
	if got.Failed != 7 {
		t.Errorf("renaming: got %d failed, want 7: those of the inspect step have their row again", got.Failed)
	}
}

func TestFinishedAndAdrift(t *testing.T) {
	f := fleettest.New(t)
	s := newSource(t, f, f.Ledger)
	now := time.Now().UTC()
	var all []batch.Batch
	for i := range overview.MaxFinished + 5 {
		at := now.Add(-time.Duration(100-i) * time.Hour)
		b := f.Write(batch.Batch{Name: fmt.Sprint(i), Submitted: at})
		f.Advance(b, at.Add(time.Minute), batch.Finishing, batch.Complete)
		all = append(all, b)
	}
	last := all[len(all)-1]
	f.Report(last, report.Summary{Counts: batch.Counts{Done: 5, Failed: 2}, Listed: 7, Renamed: 4, WorkingSeconds: 1.5,
		Duplicates: &report.Duplicates{Algorithm: digest.SHA256, WastedBytes: 99}})
	lost := f.Write(batch.Batch{Submitted: now.Add(-time.Hour)})
	young := f.Write(batch.Batch{Submitted: now})
	live := f.Submit(batch.Batch{Submitted: now.Add(-2 * time.Hour)})
	broken := f.Write(batch.Batch{Submitted: now.Add(-3 * time.Hour)})
	if err := os.WriteFile(filepath.Join(f.Dir, "batches", string(broken.ID), "batch.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}

	o := look(t, s)
	if got, want := len(o.Finished), overview.MaxFinished; got != want {
		t.Fatalf("got %d finished batches, want %d", got, want)
	}
	if got, want := o.Finished[0].ID, last.ID; got != want {
		t.Errorf("got %s first, want the newest, %s", got, want)
	}
	want := &overview.Final{Counts: batch.Counts{Done: 5, Failed: 2}, Listed: 7, Renamed: 4, WorkingSeconds: 1.5, WastedBytes: 99}
	if diff := cmp.Diff(want, o.Finished[0].Final); diff != "" {
		t.Errorf("final counts (-want +got):\n%s", diff)
	}
	if o.Finished[1].Final != nil {
		t.Errorf("got counts %+v for a batch without a report", o.Finished[1].Final)
	}
	if len(o.Adrift) != 1 || o.Adrift[0].ID != lost.ID {
		t.Errorf("got adrift %+v, want only %s, not %s, which is in hand, nor %s, which is young", o.Adrift, lost.ID, live.ID, young.ID)
	}
	if len(o.Problems) != 1 || !strings.Contains(o.Problems[0], string(broken.ID)) {
		t.Errorf("got problems %q, want one about %s", o.Problems, broken.ID)
	}

	// It ends while somebody looks: it is among the finished ones at once.
	f.Advance(live, now, batch.Finishing, batch.Complete)
	f.Forget(live)
	gone := map[*overview.Overview]bool{}
	until(t, s, "the batch that ended is among the finished ones", func(o *overview.Overview) bool {
		if o.InHand == 0 {
			gone[o] = true
		}
		return o.InHand == 0 && o.Finished[0].ID == live.ID
	})
	if len(gone) > 4 {
		t.Errorf("%d overviews had the batch neither in hand nor finished, want it to be looked for at once", len(gone)-1)
	}
}

func TestBounds(t *testing.T) {
	f := fleettest.New(t)
	for range overview.MaxBatches + 3 {
		f.Submit(batch.Batch{Name: strings.Repeat("é", 5000)})
	}
	for i := range overview.MaxWorkers + 3 {
		health := map[string]string{}
		for n := range 100 {
			health[fmt.Sprint(n)] = strings.Repeat("x", 1000)
		}
		f.Register(ledger.Worker{ID: fmt.Sprintf("w%03d", i), Slots: 4, Busy: 1, Health: health, Pools: make([]string, 100)}, 0)
	}
	// A machine that is busy may not have read the ledger within the source's patience.
	o := until(t, newSource(t, f, f.Ledger), "all is read", func(o *overview.Overview) bool { return len(o.Batches) > 0 && len(o.Workers) > 0 })
	if len(o.Batches) != overview.MaxBatches || o.InHand != overview.MaxBatches+3 {
		t.Errorf("got %d batches of %d", len(o.Batches), o.InHand)
	}
	if len(o.Workers) != overview.MaxWorkers || o.Registered != overview.MaxWorkers+3 || o.Slots != 4*o.Registered || o.Busy != o.Registered {
		t.Errorf("got %d workers of %d with %d of %d slots busy", len(o.Workers), o.Registered, o.Busy, o.Slots)
	}
	if n := len([]rune(o.Batches[0].Name)); n != overview.MaxText+1 {
		t.Errorf("got a name of %d runes, want %d and an ellipsis", n, overview.MaxText)
	}
	if w := o.Workers[0]; len(w.Checks) > 20 || len(w.Pools) > 20 || len(w.Checks[0].Error) > 4*overview.MaxText {
		t.Errorf("got %d checks, %d pools, an error of %d bytes", len(w.Checks), len(w.Pools), len(w.Checks[0].Error))
	}
}

func TestWorkersAndQueues(t *testing.T) {
	f := fleettest.New(t)
	f.Register(ledger.Worker{ID: "b", Pools: []string{"nas"}, Health: map[string]string{"redis": "", "exiftool": "perl \x1b[31m"}}, time.Minute)
	f.Register(ledger.Worker{ID: "a"}, 0)
	b := f.Write(batch.Batch{})
	f.Enqueue("nas-2", batch.High, b, 3)
	f.Enqueue("nas-2", batch.Low, b, 1)
	if err := queue.NewProducer(f.Server.Client(), "other").Enqueue(t.Context(), "nas", batch.Normal, batch.Task{
		V: 1, Batch: b.ID, Step: batch.StepInspect, Generation: 1, Attempt: 1,
	}); err != nil {
		t.Fatal(err)
	}
	o := lookAt(t, f)
	if len(o.Workers) != 2 || o.Workers[0].ID != "a" || !o.Workers[0].Well() || o.Workers[1].Well() || o.Workers[1].Silent < 60 {
		t.Errorf("got workers %+v", o.Workers)
	}
	want := []overview.Check{{Name: "exiftool", Error: `perl \u{1b}[31m`}, {Name: "redis"}}
	if diff := cmp.Diff(want, o.Workers[1].Checks); diff != "" {
		t.Errorf("checks (-want +got):\n%s", diff)
	}
	queues := []overview.Queue{
		{Name: "reshelf-nas-2-high", Pool: "nas-2", Priority: batch.High, Pending: 3},
		{Name: "reshelf-nas-2-low", Pool: "nas-2", Priority: batch.Low, Pending: 1},
	}
	if diff := cmp.Diff(queues, o.Queues); diff != "" || o.Pending != 4 {
		t.Errorf("queues, %d pending (-want +got):\n%s", o.Pending, diff)
	}
}

func TestOneOverviewForAll(t *testing.T) {
	f := fleettest.New(t)
	f.Submit(batch.Batch{})
	before := commands(t, f)
	s := newSource(t, f, f.Ledger)
	seen := make([]*overview.Overview, 50)
	began := time.Now()
	var viewers sync.WaitGroup
	for i := range seen {
		viewers.Go(func() { seen[i], _ = s.Overview(context.Background()) })
	}
	viewers.Wait()
	seconds := int(time.Since(began)/time.Second) + 1
	slices.SortFunc(seen, func(a, b *overview.Overview) int { return a.At.Compare(b.At) })
	if n := len(slices.Compact(seen)); n > seconds {
		t.Errorf("got %d overviews for 50 viewers within %d s", n, seconds)
	}
	if n := commands(t, f) - before; n > 30*seconds {
		t.Errorf("50 viewers cost Redis %d commands", n)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Overview(gone); err == nil && time.Since(seen[0].At) > time.Second {
		t.Error("got no error for a viewer that has gone")
	}
}

// commands is how many commands Redis has processed.
func commands(t *testing.T, f *fleettest.Fleet) (n int) {
	t.Helper()
	info, err := f.Server.Client().Info(t.Context(), "stats").Result()
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(info, "total_commands_processed:")
	if _, err := fmt.Sscan(rest, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestRedisGone(t *testing.T) {
	f := fleettest.New(t)
	b := f.Submit(batch.Batch{Submitted: time.Now().Add(-time.Hour)})
	f.Register(ledger.Worker{ID: "w"}, 0)
	s := newSource(t, f, f.Ledger)
	look(t, s)
	f.Server.Stop()
	o := until(t, s, "it says that Redis is gone", func(o *overview.Overview) bool { return len(o.Problems) > 0 })
	if !strings.Contains(o.Problems[0], "Redis does not answer") {
		t.Errorf("got problem %q", o.Problems[0])
	}
	if len(o.Batches) != 1 || o.Batches[0].ID != b.ID || len(o.Workers) != 1 {
		t.Errorf("got %d batches and %d workers, want those of the last answer", len(o.Batches), len(o.Workers))
	}
	if len(o.Adrift) != 0 {
		t.Errorf("got %d batches adrift, though nobody knows", len(o.Adrift))
	}
	fresh := lookAt(t, f)
	if len(fresh.Problems) == 0 || fresh.Batches == nil || len(fresh.Adrift) != 0 {
		t.Errorf("a dashboard started without Redis: got %+v, want a problem, no batches and none adrift", fresh)
	}
	f.Server.Restart()
	until(t, s, "the batch that Redis forgot is adrift", func(o *overview.Overview) bool { return len(o.Adrift) == 1 && len(o.Problems) == 0 })
}

// stuck is a store whose listings hang.
type stuck struct {
	store.Store
	free chan struct{}
}

func (s stuck) List(ctx context.Context, o store.ListOptions) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		select {
		case <-s.free:
		case <-ctx.Done():
			yield(store.Entry{}, ctx.Err())
			return
		}
		for e, err := range s.Store.List(ctx, o) {
			if !yield(e, err) {
				return
			}
		}
	}
}

func TestLedgerHangs(t *testing.T) {
	f := fleettest.New(t)
	f.Submit(batch.Batch{})
	old := f.Write(batch.Batch{Submitted: time.Now().Add(-time.Hour)})
	f.Advance(old, time.Time{}, batch.Finishing, batch.Complete)
	hanging := stuck{f.Store, make(chan struct{})}
	s := newSource(t, f, ledger.New(hanging))
	o := until(t, s, "it says that the ledger hangs", func(o *overview.Overview) bool { return len(o.Problems) > 0 })
	if !strings.Contains(o.Problems[0], "the ledger does not answer") || len(o.Batches) != 1 {
		t.Errorf("got problems %q and %d batches, want the ledger's and one", o.Problems, len(o.Batches))
	}
	close(hanging.free)
	until(t, s, "the ledger is back", func(o *overview.Overview) bool { return len(o.Problems) == 0 && len(o.Finished) == 1 })
}

func TestCloseEndsReading(t *testing.T) {
	f := fleettest.New(t)
	before := goleak.IgnoreCurrent()
	hanging := ledger.New(stuck{f.Store, make(chan struct{})})
	s := overview.New(hanging, f.Live, f.Queues, fleettest.Prefix)
	look(t, s)
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	closed := overview.New(hanging, f.Live, f.Queues, fleettest.Prefix)
	if err := closed.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	look(t, closed) // starts no reading any more
	goleak.VerifyNone(t, before, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).checkMinIdleConns"))
}
