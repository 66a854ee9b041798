package finishing_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/digest"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/report"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/memstore"
	"github.com/reshelf/reshelf/worker/internal/finishing"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const id = batch.ID("01hxyzabcdefghjkmnpqrstvwx")

var (
	submitted = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	finished  = submitted.Add(10 * time.Minute)
)

// hold is a claim that is lost after so many questions; 0: never. It is used by one goroutine at a time.
type hold struct {
	lostAfter int64
	asked     int64
	lost      atomic.Bool
	advanced  int64
}

func (h *hold) Held() error {
	h.asked++
	if h.lostAfter > 0 && h.asked > h.lostAfter {
		h.lost.Store(true)
		return errLost
	}
	return nil
}
func (h *hold) Cancelled() bool          { return false }
func (h *hold) Advance(objects, _ int64) { h.advanced += objects }

var errLost = fmt.Errorf("claim lost")

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fixture is a batch on a ledger in memory.
type fixture struct {
	t      testing.TB
	led    *ledger.Ledger
	batch  batch.Batch
	status batch.Status
}

func newFixture(t testing.TB, kind batch.Kind) *fixture {
	t.Helper()
	root, err := archive.FileRoot("/photos")
	check(t, err)
	ledgerRoot, err := archive.FileRoot("/ledger")
	check(t, err)
	st := memstore.New(ledgerRoot)
	t.Cleanup(func() { check(t, st.Close()) })
	b := batch.Batch{
		V: batch.Version, ID: id, Kind: kind, Archive: root, Digests: digest.DefaultSet(), Level: batch.LevelNormal,
		Pool: "main", Priority: batch.Normal, Submitted: submitted,
	}
	switch kind {
	case batch.Rename:
		b.Renaming = &batch.RenameOptions{Template: "x", OnConflict: batch.ConflictStop}
	case batch.Undo:
		b.Undoes, b.Digests = id, 0
	}
	f := &fixture{t: t, led: ledger.New(st), batch: b, status: b.Initial()}
	check(t, f.led.CreateBatch(t.Context(), b))
	return f
}

func (f *fixture) cancel() {
	f.status.Cancelled, f.status.Reason = true, "wrong folder"
	check(f.t, f.led.CreateEvent(f.t.Context(), id, batch.Event{N: 1, Kind: batch.EventCancel, Reason: "wrong folder", At: submitted.Add(time.Minute)}))
}

func ref(step batch.Step, n int) batch.Ref {
	return batch.Ref{Batch: id, Step: step, Generation: 1, Segment: n}
}

func (f *fixture) segment(n int, objects ...batch.Listed) {
	_, err := f.led.CreateSegment(f.t.Context(), ref(batch.StepInspect, n), batch.Segment{Objects: objects, Excluded: 2})
	check(f.t, err)
}

func (f *fixture) part(step batch.Step, n int, records ...batch.Record) {
	w, err := ledger.NewPartWriter(ref(step, n), int64(n)+7)
	check(f.t, err)
	defer w.Close()
	for _, r := range records {
		check(f.t, w.Add(r))
	}
	_, _, err = f.led.CreatePart(f.t.Context(), w)
	check(f.t, err)
}

func (f *fixture) seal(step batch.Step, total int) {
	check(f.t, f.led.Seal(f.t.Context(), id, step, 1, total))
}

func (f *fixture) plan(segments ...[]batch.Row) {
	p := batch.Plan{Batch: id, Epoch: 5}
	for n, rows := range segments {
		seg, err := f.led.WritePlanRows(f.t.Context(), id, p.Epoch, n, rows)
		check(f.t, err)
		p.Segments = append(p.Segments, seg)
	}
	check(f.t, f.led.SealPlan(f.t.Context(), p))
	f.seal(batch.StepRename, len(segments))
}

func (f *fixture) finish() error {
	return f.finishOn(f.led, &hold{})
}

func (f *fixture) finishOn(led *ledger.Ledger, h finishing.Hold) error {
	return finishing.FinishInShards(f.t.Context(), h, led, f.batch, f.status, finished, 500, 64<<10)
}

func object(key archive.Key, size int64) archive.Object {
	return archive.Object{Key: key, Identity: archive.Identity{Size: size, MTime: 1e18}}
}

func numbered(n int) archive.Key { return archive.Key(fmt.Sprintf("dir/%08d.jpg", n)) }

func listed(keys ...archive.Key) (out []batch.Listed) {
	for _, k := range keys {
		out = append(out, batch.Listed{Object: object(k, 100)})
	}
	return out
}

// done is the record of an object whose content is told by seed.
func done(t testing.TB, key archive.Key, size int64, seed byte) batch.Record {
	r := batch.Record{Object: object(key, size), Outcome: batch.Done, ExifTool: "13.59"}
	for _, a := range digest.DefaultSet().Algorithms() {
		d, err := digest.New(a, bytes.Repeat([]byte{seed}, a.Size()))
		check(t, err)
		r.Digests = append(r.Digests, d)
	}
	return r
}

func moved(from, to archive.Key) batch.Record {
	return batch.Record{Object: object(from, 100), Outcome: batch.Done, To: to}
}

func notDone(key archive.Key, o batch.Outcome, why batch.Reason) batch.Record {
	return batch.Record{Object: object(key, 100), Outcome: o, Reason: why, Message: "because " + string(why)}
}

// result is a report as it was read back.
type result struct {
	summary report.Summary
	finals  []batch.Record
	rows    []report.CatalogueRow
	names   []byte
	text    map[string]string // the other files
}

func (f *fixture) read(key archive.Key) []byte {
	f.t.Helper()
	c, err := f.led.Store().Open(f.t.Context(), key, 0, -1, archive.Identity{})
	check(f.t, err)
	raw, err := io.ReadAll(c)
	check(f.t, err)
	check(f.t, c.Close())
	return raw
}

// result reads the report and checks that its files are those that the summary says, and no others.
func (f *fixture) result() result {
	f.t.Helper()
	s, err := report.ReadSummary(bytes.NewReader(f.read(ledger.Key(id, "report", report.SummaryName))))
	check(f.t, err)
	r := result{summary: s, text: map[string]string{}}
	want := map[archive.Key]bool{ledger.Key(id, "report", report.SummaryName): true}
	for _, file := range s.Files {
		want[file.Key] = true
		raw := f.read(file.Key)
		if got := int64(len(raw)); got != file.Size {
			f.t.Errorf("%s: %d bytes, the summary says %d", file.Name, got, file.Size)
		}
		if got := r.load(f.t, file.Name, raw); got != file.Rows {
			f.t.Errorf("%s: %d rows, the summary says %d", file.Name, got, file.Rows)
		}
	}
	for e, err := range f.led.Store().List(context.Background(), store.ListOptions{Prefix: string(ledger.Key(id, "report", ""))}) {
		check(f.t, err)
		if !want[e.Key] {
			f.t.Errorf("left over: %s", e.Key)
		}
	}
	if len(r.rows) != len(r.finals) {
		f.t.Fatalf("%d rows in the catalogue, %d records", len(r.rows), len(r.finals))
	}
	for i, row := range r.rows {
		if want := r.finals[i].Key.Text(); row.Key != want {
			f.t.Errorf("row %d of the catalogue is that of %s, the record that of %s", i, row.Key, want)
		}
	}
	return r
}

func (r *result) load(t testing.TB, name string, raw []byte) (rows int64) {
	switch {
	case strings.HasSuffix(name, ".parquet"):
		for row, err := range report.Catalogue(bytes.NewReader(raw), int64(len(raw))) {
			check(t, err)
			r.rows = append(r.rows, row)
			rows++
		}
	case strings.HasSuffix(name, ".jsonl.zst"):
		for rec, err := range report.Records(bytes.NewReader(raw)) {
			check(t, err)
			r.finals = append(r.finals, rec)
			rows++
		}
	case name == report.NamesName:
		r.names = raw
		return (int64(len(raw)) - 12) / report.NameEntry
	default:
		r.text[name] = string(raw)
		rows = int64(strings.Count(string(raw), "\n")) - 1
	}
	return rows
}

// ends is "outcome reason to" of each final record by key.
func (r result) ends() map[archive.Key]string {
	out := map[archive.Key]string{}
	for _, rec := range r.finals {
		out[rec.Key] = strings.TrimSpace(fmt.Sprintf("%s %s %s", rec.Outcome, rec.Reason, rec.To))
	}
	return out
}

func (f *fixture) removeReport() {
	for e, err := range f.led.Store().List(f.t.Context(), store.ListOptions{Prefix: string(ledger.Key(id, "report", ""))}) {
		check(f.t, err)
		check(f.t, f.led.Store().Delete(f.t.Context(), e.Key, archive.Identity{}))
	}
}
