// Package fleettest makes the state that a fleet leaves in a real Redis and a real ledger, without the fleet.
package fleettest

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/queue"
	"github.com/reshelf/reshelf/shared/queue/redistest"
	"github.com/reshelf/reshelf/shared/report"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/filestore"
)

// Prefix is that of the fleet's queues and keys.
const Prefix = "reshelf"

// Fleet is the state of a fleet. Its methods fail the test where they cannot do what they say.
type Fleet struct {
	t      testing.TB
	Server *redistest.Server
	Store  store.Store
	Dir    string // of the ledger
	Ledger *ledger.Ledger
	Live   *ledger.Live
	Queues *queue.Queues
	n      int
}

// New starts a Redis and makes a ledger, both for as long as the test runs.
func New(t testing.TB) *Fleet {
	t.Helper()
	f := &Fleet{t: t, Server: redistest.Start(t), Dir: t.TempDir()}
	st, err := filestore.Open(f.Dir, filestore.Options{Ledger: true})
	f.must(err)
	t.Cleanup(func() { f.must(st.Close()) })
	f.Store, f.Ledger = st, ledger.New(st)
	f.Live, err = ledger.NewLive(f.Server.Client(), Prefix)
	f.must(err)
	f.Queues = queue.NewQueues(f.Server.Client(), Prefix)
	return f
}

func (f *Fleet) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// Root parses a root.
func (f *Fleet) Root(text string) archive.Root {
	f.t.Helper()
	r, err := archive.ParseRoot(text)
	f.must(err)
	return r
}

// Write stores b in the ledger, with defaults where it says nothing, and tells nobody.
func (f *Fleet) Write(b batch.Batch) batch.Batch {
	f.t.Helper()
	f.n++
	b.V = batch.Version
	if b.Submitted.IsZero() {
		b.Submitted = time.Now().UTC()
	}
	if b.ID == "" {
		b.ID = f.id(b.Submitted)
	}
	if b.Kind == "" {
		b.Kind = batch.Inspect
	}
	if b.Kind != batch.Undo && b.Level == "" {
		b.Level = batch.LevelNormal
	}
	if b.Kind == batch.Rename && b.Renaming == nil {
		b.Renaming = &batch.RenameOptions{Template: "{name}{ext}", OnConflict: batch.ConflictStop}
	}
	if b.Archive.IsZero() {
		b.Archive = f.Root("file:///mnt/photos")
	}
	if b.Pool == "" {
		b.Pool = "default"
	}
	if b.Priority == "" {
		b.Priority = batch.Normal
	}
	f.must(f.Ledger.CreateBatch(f.t.Context(), b))
	return b
}

// id is a ULID of that time.
func (f *Fleet) id(at time.Time) batch.ID {
	const crockford = "0123456789abcdefghjkmnpqrstvwxyz"
	var b bytes.Buffer
	for shift := 45; shift >= 0; shift -= 5 {
		b.WriteByte(crockford[at.UnixMilli()>>shift&31])
	}
	return batch.ID(fmt.Sprintf("%sk7q2mzw9%08d", b.String(), f.n))
}

// Submit stores b and announces it.
func (f *Fleet) Submit(b batch.Batch) batch.Batch {
	f.t.Helper()
	b = f.Write(b)
	f.must(f.Live.Announce(f.t.Context(), b, b.Initial()))
	return b
}

// Happen records events, in the ledger and, if the batch is in hand, in Redis.
func (f *Fleet) Happen(b batch.Batch, events ...batch.Event) batch.Status {
	f.t.Helper()
	s, err := f.Ledger.Status(f.t.Context(), b)
	f.must(err)
	for _, e := range events {
		e.N = s.Event + 1
		if e.At.IsZero() {
			e.At = time.Now().UTC()
		}
		s, err = s.Apply(e)
		f.must(err)
		f.must(f.Ledger.CreateEvent(f.t.Context(), b.ID, e))
	}
	_, _ = f.Live.Apply(f.t.Context(), b.ID, s) // it may not be in hand
	return s
}

// Advance is Happen with a change to each of these states.
func (f *Fleet) Advance(b batch.Batch, at time.Time, to ...batch.State) {
	f.t.Helper()
	for _, s := range to {
		f.Happen(b, batch.Event{Kind: batch.EventAdvance, To: s, At: at})
	}
}

// List lists as many segments, each with that many objects of that size.
func (f *Fleet) List(b batch.Batch, segments int, objects, size int64) {
	f.t.Helper()
	p, err := f.Live.Progress(f.t.Context(), b.ID)
	f.must(err)
	known := p.Steps[batch.StepInspect].Known
	for n := known; n < known+segments; n++ {
		f.must(f.Live.Grow(f.t.Context(), ledger.Header{Ref: f.ref(b, batch.StepInspect, n), Objects: objects, Bytes: objects * size}))
	}
}

func (f *Fleet) ref(b batch.Batch, step batch.Step, n int) batch.Ref {
	return batch.Ref{Batch: b.ID, Step: step, Generation: 1, Segment: n}
}

// Listed ends the listing.
func (f *Fleet) Listed(b batch.Batch) {
	f.t.Helper()
	p, err := f.Live.Progress(f.t.Context(), b.ID)
	f.must(err)
	f.Seal(b, batch.StepInspect, p.Steps[batch.StepInspect].Known)
	f.Settle(b, batch.StepList, 0, 1, batch.Counts{})
}

// Seal says how many segments a step has.
func (f *Fleet) Seal(b batch.Batch, step batch.Step, total int) {
	f.t.Helper()
	_, err := f.Live.Seal(f.t.Context(), b.ID, step, total)
	f.must(err)
}

// Settle settles segments from first to last-1 with these counts each.
func (f *Fleet) Settle(b batch.Batch, step batch.Step, first, last int, c batch.Counts) {
	f.t.Helper()
	for n := first; n < last; n++ {
		_, err := f.Live.Settle(f.t.Context(), f.ref(b, step, n), c)
		f.must(err)
	}
}

// Work dispatches as many segments of a step and lets workers claim them, each with so much in hand.
func (f *Fleet) Work(b batch.Batch, step batch.Step, segments int, objects, size int64) []ledger.Sign {
	f.t.Helper()
	tasks, err := f.Live.Dispatch(f.t.Context(), b.ID, step, 1, segments)
	f.must(err)
	var signs []ledger.Sign
	for i, task := range tasks {
		c, err := f.Live.Claim(f.t.Context(), task, fmt.Sprintf("worker-%d", i))
		f.must(err)
		signs = append(signs, ledger.Sign{Claim: c, Objects: objects, Bytes: objects * size})
	}
	f.Beat(b, signs)
	return signs
}

// Beat tells of progress.
func (f *Fleet) Beat(b batch.Batch, signs []ledger.Sign) {
	f.t.Helper()
	_, err := f.Live.Beat(f.t.Context(), b.ID, signs)
	f.must(err)
}

// Plan seals a plan with that many rows.
func (f *Fleet) Plan(b batch.Batch, rows, moves int64) {
	f.t.Helper()
	f.must(f.Ledger.SealPlan(f.t.Context(), batch.Plan{Batch: b.ID, Epoch: 1, Summary: batch.PlanSummary{Rows: rows, Moves: moves}}))
	f.Settle(b, batch.StepPlan, 0, 1, batch.Counts{})
}

// Report stores the summary of a batch.
func (f *Fleet) Report(b batch.Batch, s report.Summary) {
	f.t.Helper()
	s.Batch, s.Kind, s.Archive, s.Name = b.ID, b.Kind, b.Archive, b.Name
	raw, err := s.Encode()
	f.must(err)
	f.must(f.Store.Create(f.t.Context(), ledger.Key(b.ID, "report", report.SummaryName), bytes.NewReader(raw)))
}

// Forget takes a batch out of hand.
func (f *Fleet) Forget(b batch.Batch) {
	f.t.Helper()
	f.must(f.Live.Forget(f.t.Context(), b))
}

// Register is a worker's sign of life, made so long ago.
func (f *Fleet) Register(w ledger.Worker, silent time.Duration) {
	f.t.Helper()
	f.must(f.Live.Register(f.t.Context(), w))
	if silent > 0 {
		err := f.Server.Client().ZIncrBy(f.t.Context(), Prefix+":{workers}:at", -float64(silent.Milliseconds()), w.ID).Err()
		f.must(err)
	}
}

// Enqueue puts as many tasks into a queue.
func (f *Fleet) Enqueue(pool string, p batch.Priority, b batch.Batch, n int) {
	f.t.Helper()
	producer := queue.NewProducer(f.Server.Client(), Prefix)
	for i := range n {
		task := batch.Task{V: batch.Version, Batch: b.ID, Step: batch.StepInspect, Generation: 1, Segment: i, Attempt: 1}
		f.must(producer.Enqueue(f.t.Context(), pool, p, task))
	}
}
