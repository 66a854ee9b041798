package runtime_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/digest"
	"github.com/reshelf/reshelf/shared/flow"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/queue/redistest"
	"github.com/reshelf/reshelf/shared/report"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/memstore"
	"github.com/reshelf/reshelf/worker/internal/dispatch"
	"github.com/reshelf/reshelf/worker/runtime"
)

// bucket is an archive with all that only a bucket has: objects in cold storage, and keys that no object may have.
type bucket struct {
	store.Store
	t             *testing.T
	cold          map[archive.Key]bool // that the listing tells
	froze         archive.Key          // after it was listed
	unaddressable []archive.Key
	// keeps digests of all objects, and spoilt is the one whose content is not that.
	keeps  bool
	spoilt archive.Key
}

func newBucket(t *testing.T) *bucket {
	t.Helper()
	b := &bucket{
		Store: memstore.New(root(t, "/archive")), t: t, cold: map[archive.Key]bool{"cold.jpg": true, "dir/cold.jpg": true}, froze: "froze.jpg",
		unaddressable: []archive.Key{"../up", "/lead", "a.jpg/", "dir//\xff\n.jpg", "dir/\x00", "dir/a.jpg\x00"},
	}
	for _, key := range []archive.Key{"a.jpg", "b.jpg", "cold.jpg", "dir/a.jpg", "dir/cold.jpg", "froze.jpg"} {
		if err := b.Create(t.Context(), key, strings.NewReader("content of "+string(key))); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func (b *bucket) List(ctx context.Context, opts store.ListOptions) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		var all []store.Entry
		for _, key := range b.unaddressable {
			if key > opts.After && strings.HasPrefix(string(key), opts.Prefix) {
				all = append(all, store.Entry{Object: archive.Object{Key: key, Identity: archive.Identity{Size: 5, ETag: "e"}}, Kind: store.Unaddressable})
			}
		}
		for e, err := range b.Store.List(ctx, opts) {
			if err != nil {
				yield(e, err)
				return
			}
			if b.cold[e.Key] {
				e.Kind, e.Class = store.Cold, "GLACIER"
			}
			all = append(all, e)
		}
		slices.SortFunc(all, func(x, y store.Entry) int { return strings.Compare(string(x.Key), string(y.Key)) })
		for _, e := range all {
			if !yield(e, nil) {
				return
			}
		}
	}
}

func (b *bucket) Open(ctx context.Context, key archive.Key, offset, length int64, want archive.Identity) (*store.Content, error) {
	if b.cold[key] || slices.Contains(b.unaddressable, key) {
		b.t.Errorf("%s was opened", key.Text())
	}
	if key == b.froze {
		return nil, fmt.Errorf("open %s: %w: restore it first", key, store.ErrCold)
	}
	c, err := b.Store.Open(ctx, key, offset, length, want)
	if err == nil && key == b.spoilt {
		c.ReadCloser = io.NopCloser(strings.NewReader(strings.Repeat("x", int(c.Object.Size))))
	}
	return c, err
}

// Checksums are those of the true content, of one algorithm for all but one object, which has both that are asked for.
func (b *bucket) Checksums(ctx context.Context, key archive.Key, want archive.Identity) ([]digest.Digest, archive.Object, error) {
	_, o, err := b.Store.Checksums(ctx, key, want)
	if err != nil || !b.keeps {
		return nil, o, err
	}
	set := digest.Set(0).With(digest.CRC64NVME)
	if key == "b.jpg" {
		set = set.With(digest.SHA256).With(digest.CRC32)
	}
	h := digest.NewHasher(set)
	_, _ = io.WriteString(h, "content of "+string(key))
	return h.Digests(), o, nil
}

// whole carries a batch over a bucket from its submission to its report, as one worker does.
func whole(t *testing.T, st *bucket, b batch.Batch) *ledger.Ledger {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	led := ledger.New(memstore.New(root(t, "/ledger")))
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	f, err := runtime.NewFlow(redistest.Start(t).Client(), "reshelf", led, log)
	must(err)
	steps, err := runtime.Steps(f, log)
	must(err)
	d := dispatch.New(dispatch.Options{
		Flow: f, Claims: flow.NewClaims(f.Live(), "worker", log), Steps: steps, Log: log,
		Open:    func(context.Context, archive.Root, bool) (store.Store, error) { return st, nil },
		Reaches: func(archive.Root) bool { return true },
	})
	must(f.Submit(t.Context(), b))
	for _, step := range b.Kind.Steps() {
		segments := 1
		switch step {
		case batch.StepInspect:
			segments, err = led.Segments(t.Context(), b.ID, step, 1)
		case batch.StepRename:
			var p batch.Plan
			p, _, err = led.Plan(t.Context(), b.ID)
			segments = len(p.Segments)
		}
		must(err)
		for n := range segments {
			d.Handle(t.Context(), batch.Task{V: batch.Version, Batch: b.ID, Step: step, Generation: 1, Segment: n, Attempt: 1})
		}
		must(f.Sync(t.Context(), b.ID))
	}
	if s, err := led.Status(t.Context(), b); err != nil || s.State != batch.Complete {
		t.Fatalf("batch is %s, %v; want it complete", s, err)
	}
	return led
}

func bucketBatch(t *testing.T, kind batch.Kind) batch.Batch {
	t.Helper()
	b := batch.Batch{
		V: batch.Version, ID: id, Kind: kind, Archive: root(t, "/archive"), Level: batch.LevelNone, Digests: digest.DefaultSet(),
		Pool: "default", Priority: batch.Normal, Submitted: time.Now().UTC(),
	}
	if kind == batch.Rename {
		b.Renaming = &batch.RenameOptions{Template: "{dir}/{name}-{sha256:4}{ext}", OnConflict: batch.ConflictStop, Approved: true}
	}
	return b
}

// reported reads every form of the report, checks that all have the same objects, and says what became of each.
func reported(t *testing.T, led *ledger.Ledger) (report.Summary, []batch.Record, map[archive.Key]string) {
	t.Helper()
	read := func(key archive.Key) []byte {
		c, err := led.Store().Open(t.Context(), key, 0, -1, archive.Identity{})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		raw, err := io.ReadAll(c)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	s, err := report.ReadSummary(bytes.NewReader(read(ledger.Key(id, "report", report.SummaryName))))
	if err != nil {
		t.Fatal(err)
	}
	var records []batch.Record
	var rows []report.CatalogueRow
	lines := map[string]int{}
	for _, f := range s.Files {
		raw := read(f.Key)
		switch {
		case strings.HasSuffix(f.Name, ".parquet"):
			for row, err := range report.Catalogue(bytes.NewReader(raw), int64(len(raw))) {
				if err != nil {
					t.Fatal(err)
				}
				rows = append(rows, row)
			}
		case strings.HasSuffix(f.Name, ".zst"):
			for r, err := range report.Records(bytes.NewReader(raw)) {
				if err != nil {
					t.Fatal(err)
				}
				records = append(records, r)
			}
		default:
			lines[f.Name] = bytes.Count(raw, []byte("\n")) - 1
		}
	}
	ends := map[archive.Key]string{}
	for i, r := range records {
		ends[r.Key] = strings.TrimSpace(string(r.Outcome) + " " + string(r.Reason))
		if i >= len(rows) || rows[i].Key != r.Key.Text() || string(rows[i].KeyRaw) != string(r.Key) && r.Key.Text() != string(r.Key) {
			t.Errorf("catalogue: row %d is not that of %s", i, r.Key.Text())
		}
		if r.Outcome != batch.Done && r.Message == "" {
			t.Errorf("%s: %s without a message", r.Key.Text(), r.Reason)
		}
	}
	if len(ends) != len(records) || len(rows) != len(records) {
		t.Errorf("%d records of %d objects, %d rows in the catalogue", len(records), len(ends), len(rows))
	}
	if got := lines[report.FailuresName]; int64(got) != s.Counts.Failed {
		t.Errorf("%s: %d lines, want %d", report.FailuresName, got, s.Counts.Failed)
	}
	return s, records, ends
}

// sums is the checksum list of a report.
func sums(t *testing.T, records []batch.Record) (keys []archive.Key) {
	t.Helper()
	var list bytes.Buffer
	w := report.NewSumWriter(&list, digest.SHA256)
	for _, r := range records {
		if err := w.Add(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for s, err := range report.Sums(&list, digest.SHA256) {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, s.Key)
	}
	return keys
}

func TestABucketIsInspectedToItsEnd(t *testing.T) {
	s, records, ends := reported(t, whole(t, newBucket(t), bucketBatch(t, batch.Inspect)))
	want := map[archive.Key]string{
		"../up": "failed unaddressable", "/lead": "failed unaddressable", "a.jpg": "done", "a.jpg/": "failed unaddressable", "b.jpg": "done",
		"cold.jpg": "skipped cold-storage", "dir//\xff\n.jpg": "failed unaddressable", "dir/\x00": "failed unaddressable", "dir/a.jpg": "done",
		"dir/a.jpg\x00": "failed unaddressable", "dir/cold.jpg": "skipped cold-storage", "froze.jpg": "skipped cold-storage",
	}
	if diff := cmp.Diff(want, ends); diff != "" {
		t.Errorf("final records (-want +got):\n%s", diff)
	}
	if s.Listed != 12 || s.Counts.Done != 3 || s.Counts.Skipped != 3 || s.Counts.Failed != 6 || s.FromStore != 0 {
		t.Errorf("summary: %+v", s)
	}
	if diff := cmp.Diff([]archive.Key{"a.jpg", "b.jpg", "dir/a.jpg"}, sums(t, records)); diff != "" {
		t.Errorf("checksum list (-want +got):\n%s", diff)
	}
}

func TestABucketIsRenamedToItsEnd(t *testing.T) {
	st := newBucket(t)
	b := bucketBatch(t, batch.Rename)
	led := whole(t, st, b)
	s, records, ends := reported(t, led)
	want := map[archive.Key]string{
		"../up": "failed unaddressable", "/lead": "failed unaddressable", "a.jpg": "done", "a.jpg/": "failed unaddressable", "b.jpg": "done",
		"cold.jpg": "skipped cold-storage", "dir//\xff\n.jpg": "failed unaddressable", "dir/\x00": "failed unaddressable", "dir/a.jpg": "done",
		"dir/a.jpg\x00": "failed unaddressable", "dir/cold.jpg": "skipped cold-storage", "froze.jpg": "skipped cold-storage",
	}
	if diff := cmp.Diff(want, ends); diff != "" {
		t.Errorf("final records (-want +got):\n%s", diff)
	}
	if s.Renamed != 3 || len(sums(t, records)) != 3 {
		t.Errorf("%d renamed and %d sums, want 3", s.Renamed, len(sums(t, records)))
	}
	p, _, err := led.Plan(t.Context(), id)
	if err != nil || p.Summary.Rows != 12 || p.Summary.Moves != 3 {
		t.Errorf("plan %+v, %v; want a row for each of 12 objects, of which 3 move", p.Summary, err)
	}
	for key := range st.cold {
		if _, err := st.Stat(t.Context(), key); err != nil {
			t.Errorf("%s was touched: %v", key, err)
		}
	}
}

func TestABucketIsTrustedToItsEnd(t *testing.T) {
	st := newBucket(t)
	st.keeps, st.spoilt = true, "dir/a.jpg"
	b := bucketBatch(t, batch.Inspect)
	b.TrustStoreChecksums = true
	s, records, ends := reported(t, whole(t, st, b))
	if ends["a.jpg"] != "done" || ends["b.jpg"] != "done" || ends["dir/a.jpg"] != "failed checksum-mismatch" {
		t.Errorf("final records: %v", ends)
	}
	if s.FromStore != 1 || s.Inspected != 1 {
		t.Errorf("%d from the store and %d read, want 1 and 1", s.FromStore, s.Inspected)
	}
	if diff := cmp.Diff([]archive.Key{"a.jpg", "b.jpg"}, sums(t, records)); diff != "" {
		t.Errorf("checksum list (-want +got):\n%s", diff)
	}
}
