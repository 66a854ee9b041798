package planning_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/report"
	"github.com/reshelf/reshelf/worker/internal/planning"
)

// past is a rename of an earlier batch, as it stands in the ledger.
type past struct {
	from, to archive.Key
	moved    bool
}

// happened writes a batch over root that has tried renames, and was finished then, or not at all if that is the zero time.
func (w *world) happened(t tester, id batch.ID, root string, finished time.Time, moves []past) {
	t.Helper()
	ctx := context.Background()
	b := renameBatch(id, "{name}", batch.ConflictSkip)
	var err error
	b.Archive, err = archive.ParseRoot(root)
	check(t, err)
	check(t, w.led.CreateBatch(ctx, b))
	p := batch.Plan{Batch: id, Epoch: 1}
	for i, m := range moves { // a segment for each
		seg, err := w.led.WritePlanRows(ctx, id, 1, i, []batch.Row{{N: int64(i), From: m.from, To: m.to}})
		check(t, err)
		p.Segments = append(p.Segments, seg)
		pw, err := ledger.NewPartWriter(batch.Ref{Batch: id, Step: batch.StepRename, Generation: 1, Segment: i}, 1)
		check(t, err)
		defer pw.Close()
		r := batch.Record{Object: archive.Object{Key: m.from}, Outcome: batch.Failed, Reason: batch.ReasonConflict}
		if m.moved {
			r = batch.Record{Object: archive.Object{Key: m.from}, Outcome: batch.Done, To: m.to}
		}
		check(t, pw.Add(r))
		_, _, err = w.led.CreatePart(ctx, pw)
		check(t, err)
	}
	check(t, w.led.SealPlan(ctx, p))
	if finished.IsZero() {
		return
	}
	raw, err := json.Marshal(report.Summary{V: report.SummaryVersion, Batch: id, Finished: finished})
	check(t, err)
	check(t, w.led.Store().Create(ctx, ledger.Key(id, "report", report.SummaryName), strings.NewReader(string(raw))))
}

func TestOriginals(t *testing.T) {
	w := newWorld()
	day := func(n int) time.Time { return time.Date(2026, 1, n, 0, 0, 0, 0, time.UTC) }
	done := func(from, to archive.Key) past { return past{from, to, true} }
	id := func(n int) batch.ID { return batch.ID(fmt.Sprintf("01arz3ndektsv4rrffq69%05d", n)) }
	// They were finished in another order than they were submitted in.
	w.happened(t, id(1), "file:///archive", day(2), []past{done("in/b.jpg", "in/c.jpg"), done("swap/1.jpg", "swap/2.jpg"), done("swap/2.jpg", "swap/1.jpg"), {"in/tried.jpg", "in/d.jpg", false}})
	w.happened(t, id(2), "file:///archive/in", day(1), []past{done("a.jpg", "b.jpg"), done("gone.jpg", "elsewhere.jpg")})
	w.happened(t, id(3), "file:///", time.Time{}, []past{done("archive/in/c.jpg", "archive/out/e.jpg"), done("home/photo.jpg", "archive/out/photo 2.jpg")})
	w.happened(t, id(4), "file:///archive2", day(3), []past{done("x.jpg", "in/d.jpg")})
	w.happened(t, id(5), "s3://archive", day(3), []past{done("x.jpg", "archive/in/d.jpg")})
	w.put(t, []object{
		{key: "out/e.jpg"}, {key: "out/e.xmp"}, {key: "swap/1.jpg"}, {key: "swap/2.jpg"}, {key: "in/d.jpg"}, {key: "in/gone.jpg"}, {key: "out/photo 2.jpg"},
	})
	b := renameBatch(idA, "{dir}/{original}, {name}{ext}", batch.ConflictStop)
	w.inspect(t, b, nil, nil)
	_, rows := w.plan(t, b, planning.Options{})
	want := map[archive.Key]string{
		"out/e.jpg": "out/a, e.jpg", "out/e.xmp": "out/a, e.xmp", "swap/1.jpg": "swap/2, 1.jpg", "swap/2.jpg": "swap/1, 2.jpg", "in/d.jpg": "in/d, d.jpg",
		"in/gone.jpg": "in/gone, gone.jpg", "out/photo 2.jpg": "out/photo, photo 2.jpg",
	}
	if diff := cmp.Diff(want, outcomes(rows)); diff != "" {
		t.Errorf("plan differs (-want +got):\n%s", diff)
	}
}

// Objects keep their first names through any renames, swaps and cycles among them, and those that come to a name which another one has
// left are new ones.
func TestOriginalsProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld()
		now := map[archive.Key]archive.Key{} // the first names
		left := map[archive.Key]bool{}       // nothing that was moved is known to be there
		pool := make([]archive.Key, 8)
		for i := range pool {
			pool[i] = archive.Key(fmt.Sprintf("d/%d.jpg", i))
			left[pool[i]] = true
		}
		for n := range rapid.IntRange(0, 6).Draw(t, "batches") {
			for _, key := range pool {
				if _, there := now[key]; !there && left[key] && rapid.Bool().Draw(t, "new") {
					now[key] = key
				}
			}
			targets := rapid.Permutation(pool).Draw(t, "targets")
			var moves []past
			next := map[archive.Key]archive.Key{}
			for i, key := range pool {
				first, there := now[key]
				if !there {
					continue
				}
				next[targets[i]] = first
				if key != targets[i] {
					moves = append(moves, past{key, targets[i], true})
				}
			}
			for _, m := range moves {
				left[m.from] = true
			}
			for _, m := range moves {
				left[m.to] = false
			}
			now = next
			// Some are deleted, which no batch knows, and a batch that only tried changes nothing.
			for _, key := range pool {
				if _, there := now[key]; there && rapid.IntRange(0, 9).Draw(t, "deleted") == 0 {
					delete(now, key)
				}
			}
			if rapid.Bool().Draw(t, "tried") && len(moves) > 0 {
				moves = append(moves, past{moves[0].to + ".tried", moves[0].to, false})
			}
			slices.SortFunc(moves, func(a, b past) int { return strings.Compare(string(a.from), string(b.from)) })
			w.happened(t, batch.ID(fmt.Sprintf("01arz3ndektsv4rrffq69%05d", n)), "file:///archive", time.Time{}, moves)
		}
		var objects []object
		want := map[archive.Key]string{}
		for key, first := range now {
			objects = append(objects, object{key: key})
			want[key] = fmt.Sprintf("d/%s=%s.jpg", first.Stem(), key.Stem())
		}
		w.put(t, objects)
		b := renameBatch(idA, "{dir}/{original}={name}{ext}", batch.ConflictStop)
		w.inspect(t, b, nil, nil)
		_, rows := w.plan(t, b, planning.Options{Memory: rapid.SampledFrom([]int{0, 1}).Draw(t, "memory")})
		if diff := cmp.Diff(want, outcomes(rows)); diff != "" {
			t.Errorf("plan differs (-want +got):\n%s", diff)
		}
	})
}
