package planning_test

import (
	"context"
	"iter"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/memstore"
	"github.com/reshelf/reshelf/worker/internal/planning"
)

// bucket is an archive with other properties than memory has, and with entries that memory cannot hold.
type bucket struct {
	store.Store
	properties func(*store.Properties)
	entries    []store.Entry
}

func (b bucket) Properties() store.Properties {
	p := b.Store.Properties()
	if b.properties != nil {
		b.properties(&p)
	}
	return p
}

func (b bucket) List(ctx context.Context, opts store.ListOptions) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		all := slices.Clone(b.entries)
		for e, err := range b.Store.List(ctx, opts) {
			if err != nil {
				yield(e, err)
				return
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

func TestNamesThatTheArchiveCannotHave(t *testing.T) {
	w := newWorld()
	w.archive = bucket{Store: w.archive, properties: func(p *store.Properties) { p.MaxKey = 9 }}
	w.put(t, []object{{key: "a.jpg", day: 1}, {key: "long.jpg", day: 2}, {key: "a.xmp"}})
	b := renameBatch(idA, "n/{name}{ext}", batch.ConflictStop)
	w.inspect(t, b, nil, nil)
	p, rows := w.plan(t, b, planning.Options{})
	want := map[archive.Key]string{"a.jpg": "n/a.jpg", "a.xmp": "n/a.xmp", "long.jpg": "failed: bad-name"}
	if diff := cmp.Diff(want, outcomes(rows)); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	for _, r := range rows {
		if !r.Moves() && !strings.Contains(r.Message, "takes 9") {
			t.Errorf("%s: message %q does not say why", r.From.Text(), r.Message)
		}
	}
	checkSummary(t, p, rows)
}

// A number can make a name too long.
func TestNumberedNamesThatTheArchiveCannotHave(t *testing.T) {
	w := newWorld()
	w.archive = bucket{Store: w.archive, properties: func(p *store.Properties) { p.MaxKey = 6 }}
	w.put(t, []object{{key: "a.jpg", day: 1}, {key: "b.jpg", day: 1}})
	b := renameBatch(idA, "{date:%d}{ext}", batch.ConflictNumber)
	w.inspect(t, b, nil, nil)
	_, rows := w.plan(t, b, planning.Options{})
	want := map[archive.Key]string{"a.jpg": "01.jpg", "b.jpg": "failed: bad-name"}
	if diff := cmp.Diff(want, outcomes(rows)); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}

// Where the archive cannot rename safely the plan says so, and not each rename.
func TestUnguarded(t *testing.T) {
	const remedy = "switch on versioning"
	unguarded := func(p *store.Properties) { p.GuardedRename, p.Remedy = false, remedy }
	refused := func(t *testing.T, p batch.Plan, rows []batch.Row, moving int) {
		t.Helper()
		failed := 0
		for _, r := range rows {
			if r.Moves() {
				t.Errorf("%s moves", r.From)
			}
			if r.Reason == batch.ReasonUnsupported {
				failed++
				if r.Outcome != batch.Failed || !strings.Contains(r.Message, remedy) {
					t.Errorf("%s: %s, %q; want it failed, with the remedy", r.From, r.Outcome, r.Message)
				}
			}
		}
		if failed != moving || p.Summary.Failed[batch.ReasonUnsupported] != int64(moving) || p.Summary.Moves != 0 || p.Summary.Notes != nil {
			t.Errorf("%d rows refused, summary %+v; want %d and nothing else to tell", failed, p.Summary, moving)
		}
		checkSummary(t, p, rows)
	}
	t.Run("rename", func(t *testing.T) {
		w := newWorld()
		w.archive = bucket{Store: w.archive, properties: unguarded}
		rows := w.renamed(t)
		p, _, err := w.led.Plan(t.Context(), idA)
		check(t, err)
		refused(t, p, rows, 4)
		if got := outcomes(rows)["none.jpg"]; got != "failed: no-value" {
			t.Errorf("none.jpg: got %s, want what is wrong with it", got)
		}
	})
	t.Run("undo", func(t *testing.T) {
		w, rows := renamed(t)
		w.apply(t, rows)
		w.archive = bucket{Store: w.archive, properties: unguarded}
		undo := w.undo(t, idB)
		p, _, err := w.led.Plan(t.Context(), idB)
		check(t, err)
		refused(t, p, undo, 4)
	})
	t.Run("a single writer", func(t *testing.T) {
		w := newWorld()
		w.archive = bucket{Store: w.archive, properties: unguarded}
		w.put(t, []object{{key: "a.jpg", day: 1}})
		b := renameBatch(idA, "n/{date:%d}{ext}", batch.ConflictStop)
		b.AssumeSingleWriter = true
		w.inspect(t, b, nil, nil)
		p, rows := w.plan(t, b, planning.Options{})
		if got := outcomes(rows)["a.jpg"]; got != "n/01.jpg" {
			t.Errorf("a.jpg: got %s, want it renamed", got)
		}
		if diff := cmp.Diff([]string{"renames are safe only while nobody else writes (--assume-single-writer)"}, p.Summary.Notes); diff != "" {
			t.Errorf("notes (-want +got):\n%s", diff)
		}
	})
}

func TestNotes(t *testing.T) {
	const (
		grows  = "the bucket keeps the old versions: it grows by 28 B"
		time   = "LastModified of renamed objects becomes the time of the rename"
		locked = "Object Lock: copies get the same retention; the originals stay as versions until it ends"
	)
	tests := map[string]struct {
		properties func(*store.Properties)
		rename     []string
		undo       []string
	}{
		"a disk":             {func(*store.Properties) {}, nil, nil},
		"a bucket":           {func(p *store.Properties) { p.KeepsMTime = false }, []string{time}, []string{time}},
		"a versioned bucket": {func(p *store.Properties) { p.KeepsMTime, p.Versioned = false, true }, []string{grows, time}, nil},
		"a locked bucket": {
			func(p *store.Properties) { p.KeepsMTime, p.Versioned, p.Locked = false, true, true }, []string{grows, time, locked}, nil,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			w.archive = bucket{Store: w.archive, properties: tt.properties}
			rows := w.renamed(t)
			w.apply(t, rows)
			w.undo(t, idB)
			for id, want := range map[batch.ID][]string{idA: tt.rename, idB: tt.undo} {
				p, _, err := w.led.Plan(t.Context(), id)
				check(t, err)
				if diff := cmp.Diff(want, p.Summary.Notes); diff != "" {
					t.Errorf("%s: notes (-want +got):\n%s", p.Batch, diff)
				}
			}
		})
	}
}

// unaddressable keys stand in the list between the others. Some would come between b.jpg and its companion, or look like
// something else, wherever a NUL is taken for the end of a key.
var unaddressable = []archive.Key{
	"./b.jpg", "../b.jpg", "/b.jpg", "01//x.jpg", "01//x.xmp", "01/./x.jpg", "a\x00.jpg", "a\x00", "b\x00b.k", "b.jpg\x00", "b.jpg\x00b.p", "b.jpg/",
	"c//", "c///", "c//x\x00", "q\x00\x00", "q\x00\x00Ta",
}

// What cannot be addressed has its row, never moves, holds no other object back, and takes room in the archive.
func TestUnaddressable(t *testing.T) {
	for _, policy := range batch.Conflicts() {
		t.Run(string(policy), func(t *testing.T) {
			st := bucket{Store: memstore.New(archive.Root{})}
			for _, key := range unaddressable {
				e := store.Entry{Object: archive.Object{Key: key}, Kind: store.Unaddressable}
				st.entries = append(st.entries, e)
			}
			w := &world{archive: st, led: ledger.New(memstore.New(archive.Root{}))}
			for _, key := range []archive.Key{"b.jpg", "b.xmp", "B2.jpg", "b3.jpg"} {
				w.create(t, key)
			}
			b := renameBatch(idA, `{name|replace("b3","01")|replace("B2","q")|replace("b","c")}`, policy)
			w.inspectListed(t, b)
			p, rows := w.plan(t, b, planning.Options{Rows: 2})

			want := map[archive.Key]string{"b.jpg": "failed: target-prefix", "b.xmp": "skipped: group", "B2.jpg": "q", "b3.jpg": "failed: target-prefix"}
			switch policy {
			case batch.ConflictSkip:
				want["b.jpg"], want["b3.jpg"] = "skipped: target-prefix", "skipped: target-prefix"
			case batch.ConflictNumber:
				want["b.jpg"], want["b.xmp"], want["b3.jpg"] = "c_2", "c_2.xmp", "01_2"
			case batch.ConflictTemplate: // of one size, so of one second name
				want["b.jpg"], want["b.xmp"], want["b3.jpg"] = "2/7.jpg", "2/7.xmp", "failed: same-target"
			}
			for _, key := range unaddressable {
				want[key] = "failed: not-inspected"
			}
			if diff := cmp.Diff(want, outcomes(rows)); diff != "" {
				t.Errorf("rows (-want +got):\n%s", diff)
			}
			if got := slices.Sorted(maps.Keys(want)); len(rows) != len(got) {
				t.Errorf("%d rows, want one for each of %d objects", len(rows), len(got))
			}
			checkSummary(t, p, rows)
			checkGroupsInOneSegment(t, w, p)
		})
	}
}

// inspectListed writes one segment of everything that the archive lists, and its records.
func (w *world) inspectListed(t *testing.T, b batch.Batch) {
	t.Helper()
	check(t, w.led.CreateBatch(t.Context(), b))
	ref := batch.Ref{Batch: b.ID, Step: batch.StepInspect, Generation: 1}
	pw, err := ledger.NewPartWriter(ref, 1)
	check(t, err)
	defer pw.Close()
	seg := batch.Segment{End: true}
	for e, err := range w.archive.List(t.Context(), store.ListOptions{}) {
		check(t, err)
		o, r := batch.Listed{Object: e.Object}, batch.Record{Object: e.Object, Outcome: batch.Done}
		if e.Kind == store.Unaddressable {
			o.Outcome, o.Problem = batch.Failed, batch.ReasonUnaddressable
			r.Outcome, r.Reason = o.Outcome, o.Problem
		}
		seg.Objects = append(seg.Objects, o)
		check(t, pw.Add(r))
	}
	_, err = w.led.CreateSegment(t.Context(), ref, seg)
	check(t, err)
	_, _, err = w.led.CreatePart(t.Context(), pw)
	check(t, err)
	check(t, w.led.Seal(t.Context(), b.ID, batch.StepInspect, 1, 1))
}

func checkGroupsInOneSegment(t *testing.T, w *world, p batch.Plan) {
	t.Helper()
	segments := map[archive.Key]int{}
	for n := range p.Segments {
		rows, err := w.led.PlanRows(t.Context(), p, n)
		check(t, err)
		for _, r := range rows {
			if other, seen := segments[r.Group]; r.Group != "" && seen && other != n {
				t.Errorf("group %s is in segments %d and %d", r.Group, other, n)
			}
			segments[r.Group] = n
		}
	}
}
