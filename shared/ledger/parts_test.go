package ledger_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/digest"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/store"
)

func refOf(segment int) batch.Ref {
	return batch.Ref{Batch: batchID, Step: batch.StepInspect, Generation: 1, Segment: segment}
}

// keyIn is where the ledger keeps what belongs to ref.
func keyIn(folder string, ref batch.Ref, more ...string) archive.Key {
	parts := append([]string{
		folder, string(ref.Step), fmt.Sprintf("%010d", ref.Generation), fmt.Sprintf("%010d", ref.Segment),
	}, more...)
	return ledger.Key(ref.Batch, parts...)
}

func listed(key archive.Key, size int64) batch.Listed {
	return batch.Listed{Object: archive.Object{Key: key, Identity: archive.Identity{Size: size, MTime: 1<<62 + 1, Inode: 1 << 63}}}
}

// awkward is a segment with everything in it that a store or a person could come up with.
func awkward() batch.Segment {
	link := listed("z/<link>&\u2028", 0)
	link.Outcome, link.Problem, link.Detail = batch.Skipped, batch.ReasonSymlink, `a "link" <b>\xff`
	return batch.Segment{
		Objects: []batch.Listed{
			listed("a\\x00\xff\x01\n\"", 3), listed(archive.Key(strings.Repeat("\xf3\xa0\x80\x80", 1000)), 4), link,
		},
		Excluded: 5,
	}
}

func TestSegments(t *testing.T) {
	onEachStore(t, func(t *testing.T, l *ledger.Ledger) {
		ctx := t.Context()
		want := []batch.Segment{awkward(), {Objects: []batch.Listed{listed("zz", 1)}}, {End: true, Excluded: 2}}
		headers := []ledger.Header{
			{V: 1, Ref: refOf(0), Objects: 3, Bytes: 7, Excluded: 5, Last: "z/<link>&\u2028"},
			{V: 1, Ref: refOf(1), Objects: 1, Bytes: 1, Last: "zz"},
			{V: 1, Ref: refOf(2), Excluded: 2, End: true},
		}
		_, err := l.Segment(ctx, refOf(0))
		wantError(t, "Segment before", err, store.ErrNotExist)
		_, err = l.SegmentHeader(ctx, refOf(0))
		wantError(t, "SegmentHeader before", err, store.ErrNotExist)
		for n, seg := range want {
			made, err := l.CreateSegment(ctx, refOf(n), seg)
			must(t, err)
			_, err = l.CreateSegment(ctx, refOf(n), batch.Segment{Objects: []batch.Listed{listed("other", 1)}})
			wantError(t, "CreateSegment again", err, store.ErrExist)
			read, err := l.SegmentHeader(ctx, refOf(n))
			must(t, err)
			if diff := cmp.Diff(headers[n], made); diff != "" {
				t.Errorf("header made (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(headers[n], read); diff != "" {
				t.Errorf("header read (-want +got):\n%s", diff)
			}
			got, err := l.Segment(ctx, refOf(n))
			must(t, err)
			if diff := cmp.Diff(seg, got); diff != "" {
				t.Errorf("segment %d (-want +got):\n%s", n, diff)
			}
			if total, err := l.Segments(ctx, batchID, batch.StepInspect, 1); total != n+1 || err != nil {
				t.Errorf("Segments = %d, %v; want %d", total, err, n+1)
			}
		}
		must(t, l.Seal(ctx, batchID, batch.StepInspect, 1, 3))
		if total, err := l.Segments(ctx, batchID, batch.StepInspect, 1); total != 3 || err != nil {
			t.Errorf("Segments after Seal = %d, %v; want 3", total, err)
		}
		if total, err := l.Segments(ctx, batchID, batch.StepInspect, 2); total != 0 || err != nil {
			t.Errorf("Segments of generation 2 = %d, %v; want 0", total, err)
		}
	})
}

// A segment that is larger than what is held in memory goes through a file, of which nothing stays.
func TestLargeSegment(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	l, ctx := newMemory(t), t.Context()
	rnd := rand.New(rand.NewPCG(1, 1))
	var want batch.Segment
	for i := range 40_000 {
		noise := make([]byte, 300)
		for j := range noise {
			noise[j] = byte('0' + rnd.IntN(44)) // to '[', the last before the backslash
		}
		want.Objects = append(want.Objects, listed(archive.Key(fmt.Sprintf("%08d", i)+string(noise)), 1))
	}
	_, err := l.CreateSegment(ctx, refOf(0), want)
	must(t, err)
	if o, err := l.Store().Stat(ctx, keyIn("segments", refOf(0))); err != nil || o.Size < 8<<20 {
		t.Errorf("stored %d bytes, %v; the test wants more than 8 MiB", o.Size, err)
	}
	got, err := l.Segment(ctx, refOf(0))
	must(t, err)
	if !slices.Equal(want.Objects, got.Objects) {
		t.Error("the segment has changed")
	}
	left, err := os.ReadDir(dir)
	must(t, err)
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func record(key archive.Key, outcome batch.Outcome, size int64) batch.Record {
	return batch.Record{Object: archive.Object{Key: key, Identity: archive.Identity{Size: size}}, Outcome: outcome}
}

func newPart(t testing.TB, ref batch.Ref, epoch int64, records ...batch.Record) *ledger.PartWriter {
	t.Helper()
	w, err := ledger.NewPartWriter(ref, epoch)
	must(t, err)
	t.Cleanup(w.Close)
	for _, r := range records {
		must(t, w.Add(r))
	}
	return w
}

func partOf(t testing.TB, l *ledger.Ledger, ref batch.Ref) (out []batch.Record) {
	t.Helper()
	for r, err := range l.Part(t.Context(), ref) {
		must(t, err)
		out = append(out, r)
	}
	return out
}

func TestParts(t *testing.T) {
	onEachStore(t, func(t *testing.T, l *ledger.Ledger) {
		ctx := t.Context()
		var all []batch.Record
		for n, records := range map[int][]batch.Record{
			2:  {record("x\xff", batch.Done, 5), record("y", batch.Failed, 6), record("z", batch.Skipped, 7)},
			10: {},
			9:  {{Object: archive.Object{Key: "t"}, Outcome: batch.Done, Digests: []digest.Digest{}, Message: "<&>"}},
		} {
			h, ours, err := l.CreatePart(ctx, newPart(t, refOf(n), 4, records...))
			must(t, err)
			read, err := l.PartHeader(ctx, refOf(n))
			must(t, err)
			if diff := cmp.Diff(h, read); diff != "" || !ours || h.Epoch != 4 || h.Objects != int64(len(records)) {
				t.Errorf("ours %v, header %+v (-made +read):\n%s", ours, h, diff)
			}
			if n == 2 && h.Counts != (batch.Counts{Done: 1, Skipped: 1, Failed: 1, Bytes: 5}) {
				t.Errorf("counts = %+v", h.Counts)
			}
			got := partOf(t, l, refOf(n))
			if len(got) != len(records) {
				t.Fatalf("part %d has %d records, want %d", n, len(got), len(records))
			}
			for i, r := range records {
				if got[i].Key != r.Key || got[i].Outcome != r.Outcome || got[i].Message != r.Message || got[i].Epoch != 4 {
					t.Errorf("part %d, record %d = %+v; want %+v", n, i, got[i], r)
				}
			}
		}
		for r, err := range l.Records(ctx, batchID, batch.StepInspect, 1) {
			must(t, err)
			all = append(all, r)
		}
		if len(all) != 4 || all[0].Key != "x\xff" || all[3].Key != "t" {
			t.Errorf("records of the step = %+v; want those of segment 2, then 9", all)
		}
		for range l.Records(ctx, batchID, batch.StepInspect, 1) {
			break
		}
		var numbers []int
		for n, err := range l.Parts(ctx, batchID, batch.StepInspect, 1) {
			must(t, err)
			numbers = append(numbers, n)
		}
		if diff := cmp.Diff([]int{2, 9, 10}, numbers); diff != "" {
			t.Errorf("parts (-want +got):\n%s", diff)
		}
		for _, err := range l.Part(ctx, refOf(1)) {
			wantError(t, "part that is not there", err, store.ErrNotExist)
		}
	})
}

// Of many executions one part stands, and all of them learn its counts.
func TestCreatePartOnce(t *testing.T) {
	onEachStore(t, func(t *testing.T, l *ledger.Ledger) {
		const twins = 6
		headers, ours, errs := make([]ledger.Header, twins), make([]bool, twins), make([]error, twins)
		var wg sync.WaitGroup
		for i := range twins {
			w := newPart(t, refOf(0), int64(i), record("a", batch.Done, int64(i)))
			wg.Go(func() { headers[i], ours[i], errs[i] = l.CreatePart(t.Context(), w) })
		}
		wg.Wait()
		winners := 0
		for i := range twins {
			must(t, errs[i])
			if ours[i] {
				winners++
			}
			if headers[i] != headers[0] || ours[i] != (headers[i].Epoch == int64(i)) {
				t.Errorf("twin %d: ours %v, header %+v; twin 0 has %+v", i, ours[i], headers[i], headers[0])
			}
		}
		if part := partOf(t, l, refOf(0)); winners != 1 || len(part) != 1 || part[0].Epoch != headers[0].Epoch {
			t.Errorf("%d winners, part %+v, header %+v", winners, part, headers[0])
		}
	})
}

func TestPartial(t *testing.T) {
	onEachStore(t, func(t *testing.T, l *ledger.Ledger) {
		ctx := t.Context()
		must(t, l.SavePartial(ctx, newPart(t, refOf(1), 1)))
		if got, err := l.Partial(ctx, refOf(1)); len(got) != 0 || err != nil {
			t.Errorf("Partial of nothing = %v, %v", got, err)
		}
		must(t, l.SavePartial(ctx, newPart(t, refOf(1), 10, record("a", batch.Done, 10), record("b", batch.Done, 10))))
		must(t, l.SavePartial(ctx, newPart(t, refOf(1), 9, record("a", batch.Done, 9), record("c", batch.Done, 9))))
		must(t, l.SavePartial(ctx, newPart(t, refOf(11), 1, record("x", batch.Done, 1))))
		wantError(t, "SavePartial again", l.SavePartial(ctx, newPart(t, refOf(1), 9, record("d", batch.Done, 1))), store.ErrExist)
		got, err := l.Partial(ctx, refOf(1))
		must(t, err)
		sizes := map[archive.Key]int64{}
		for key, r := range got {
			sizes[key] = r.Size
		}
		if diff := cmp.Diff(map[archive.Key]int64{"a": 10, "b": 10, "c": 9}, sizes); diff != "" {
			t.Errorf("partial (-want +got):\n%s", diff)
		}
	})
}

// An execution that could not learn whether its part was stored finds its own.
func TestCreatePartAgain(t *testing.T) {
	l := newMemory(t)
	w := newPart(t, refOf(0), 7, record("a", batch.Done, 1))
	for range 2 {
		if h, ours, err := l.CreatePart(t.Context(), w); err != nil || !ours || h.Epoch != 7 {
			t.Errorf("CreatePart = %+v, %v, %v; want ours", h, ours, err)
		}
	}
}

// A writer whose partial was saved goes on, and its part holds everything.
func TestPartialThenPart(t *testing.T) {
	l, ctx := newMemory(t), t.Context()
	w := newPart(t, refOf(0), 1, record("a", batch.Done, 1))
	must(t, l.SavePartial(ctx, w))
	must(t, w.Add(record("b", batch.Failed, 1)))
	h, ours, err := l.CreatePart(ctx, w)
	if err != nil || !ours || h.Objects != 2 || w.Counts().Objects() != 2 {
		t.Errorf("CreatePart = %+v, %v, %v; want 2 objects", h, ours, err)
	}
	if got := partOf(t, l, refOf(0)); len(got) != 2 || got[1].Key != "b" {
		t.Errorf("part = %+v, want a and b", got)
	}
	w.Close()
	w.Close()
}

func raw(t testing.TB, l *ledger.Ledger, key archive.Key) []byte {
	t.Helper()
	c, err := l.Store().Open(t.Context(), key, 0, -1, archive.Identity{})
	must(t, err)
	defer c.Close()
	b, err := io.ReadAll(c)
	must(t, err)
	return b
}

// readEverything reads a segment and a part in every way that there is.
func readEverything(ctx context.Context, l *ledger.Ledger, n int) map[string]error {
	_, segment := l.Segment(ctx, refOf(n))
	var part error
	for _, err := range l.Part(ctx, refOf(n)) {
		part = err
	}
	return map[string]error{"segment": segment, "part": part}
}

func TestDamage(t *testing.T) {
	tests := []struct {
		name   string
		damage func(good []byte) []byte
	}{
		{"empty", func([]byte) []byte { return nil }},
		{"rubbish", func([]byte) []byte { return []byte("rubbish\n") }},
		{"endless header", func([]byte) []byte { return bytes.Repeat([]byte("x"), 1<<20) }},
		{"header without its end", func(b []byte) []byte { return b[:bytes.IndexByte(b, '\n')] }},
		{"no lines", func(b []byte) []byte { return b[:bytes.IndexByte(b, '\n')+1] }},
		{"cut short", func(b []byte) []byte { return b[:len(b)-1] }},
		{"something appended", func(b []byte) []byte { return append(bytes.Clone(b), "x"...) }},
		{"lines twice", func(b []byte) []byte { return append(bytes.Clone(b), b[bytes.IndexByte(b, '\n')+1:]...) }},
		{"a bit flipped", func(b []byte) []byte { b = bytes.Clone(b); b[len(b)-6] ^= 4; return b }},
		{"another segment's", func(b []byte) []byte { return bytes.Replace(b, []byte(`"segment":0`), []byte(`"segment":1`), 1) }},
		{"another version", func(b []byte) []byte { return bytes.Replace(b, []byte(`"v":1`), []byte(`"v":2`), 1) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l, ctx := newMemory(t), t.Context()
			_, err := l.CreateSegment(ctx, refOf(0), awkward())
			must(t, err)
			_, _, err = l.CreatePart(ctx, newPart(t, refOf(0), 1, record("a", batch.Done, 1), record("b", batch.Done, 1)))
			must(t, err)
			for what, err := range readEverything(ctx, l, 0) {
				if err != nil {
					t.Fatalf("%s before the damage: %v", what, err)
				}
			}
			for _, folder := range []string{"segments", "records"} {
				key := keyIn(folder, refOf(0))
				replace(t, l, key, string(tt.damage(raw(t, l, key))))
			}
			for what, err := range readEverything(ctx, l, 0) {
				wantError(t, what, err, ledger.ErrCorrupt)
			}
		})
	}
}

// faulty breaks off what is read after some bytes.
type faulty struct {
	store.Store
	after int64
}

var errBroken = errors.New("connection reset")

func (f faulty) Open(ctx context.Context, key archive.Key, offset, length int64, want archive.Identity) (*store.Content, error) {
	c, err := f.Store.Open(ctx, key, offset, length, want)
	if err != nil {
		return nil, err
	}
	r := io.MultiReader(io.LimitReader(c.ReadCloser, f.after), iotest.ErrReader(errBroken))
	c.ReadCloser = struct {
		io.Reader
		io.Closer
	}{r, c.ReadCloser}
	return c, nil
}

// A store that fails is not taken for a ledger that is damaged.
func TestFaultOfTheStoreIsNoDamage(t *testing.T) {
	l, ctx := newMemory(t), t.Context()
	_, err := l.CreateSegment(ctx, refOf(0), awkward())
	must(t, err)
	_, _, err = l.CreatePart(ctx, newPart(t, refOf(0), 1, record("a", batch.Done, 1)))
	must(t, err)
	for _, after := range []int64{0, 20, 250} {
		for what, err := range readEverything(ctx, ledger.New(faulty{l.Store(), after}), 0) {
			if !errors.Is(err, errBroken) || errors.Is(err, ledger.ErrCorrupt) {
				t.Errorf("%s broken off after %d bytes: err = %v, want only %v", what, after, err, errBroken)
			}
		}
	}
}

func FuzzSegment(f *testing.F) {
	l := newMemory(f)
	_, err := l.CreateSegment(f.Context(), refOf(0), awkward())
	must(f, err)
	f.Add(raw(f, l, keyIn("segments", refOf(0))))
	f.Add([]byte(`{"v":1,"batch":"` + string(batchID) + `","step":"inspect","generation":1,"segment":0,"objects":0}` + "\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		l := newMemory(t)
		replace(t, l, keyIn("segments", refOf(0)), string(data))
		seg, err := l.Segment(t.Context(), refOf(0))
		if err != nil {
			wantError(t, "Segment", err, ledger.ErrCorrupt)
			return
		}
		for _, o := range seg.Objects {
			if _, err := archive.ParseKey(string(o.Key)); o.Key != "" && err != nil {
				t.Errorf("key %q: %v", o.Key, err)
			}
		}
		if _, err := l.SegmentHeader(t.Context(), refOf(0)); err != nil {
			t.Errorf("SegmentHeader: %v", err)
		}
	})
}
