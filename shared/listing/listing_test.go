package listing_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/listing"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/filestore"
	"github.com/reshelf/reshelf/shared/store/memstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// claim is a Hold.
type claim struct {
	held      func() error
	cancelled func() bool
	objects   int64
}

func (c *claim) Held() error {
	if c.held == nil {
		return nil
	}
	return c.held()
}

func (c *claim) Cancelled() bool { return c.cancelled != nil && c.cancelled() }

func (c *claim) Advance(objects, _ int64) { c.objects += objects }

func root(t testing.TB, dir string) archive.Root {
	t.Helper()
	r, err := archive.FileRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func newBatch(t testing.TB, mods ...func(*batch.Batch)) batch.Batch {
	t.Helper()
	b := batch.Batch{
		V: batch.Version, ID: "01k9zzzzzzzzzzzzzzzzzzzzzz", Kind: batch.Inspect, Archive: root(t, "/archive"),
		Level: batch.LevelNone, Pool: "default", Priority: batch.Normal,
	}
	for _, mod := range mods {
		mod(&b)
	}
	return b
}

func manifestBatch(b *batch.Batch) { b.Manifest = true }

// newArchive returns a store that holds an object of the given size at each key ("key" or "key:size").
func newArchive(t testing.TB, keys ...string) *memstore.Store {
	t.Helper()
	st := memstore.New(root(t, "/archive"))
	for _, key := range keys {
		put(t, st, key)
	}
	return st
}

func put(t testing.TB, st store.Store, key string) {
	t.Helper()
	name, text, _ := strings.Cut(key, ":")
	size := 1
	if text != "" {
		if _, err := fmt.Sscan(text, &size); err != nil {
			t.Fatal(err)
		}
	}
	if err := st.Create(t.Context(), archive.Key(name), bytes.NewReader(make([]byte, size))); err != nil {
		t.Fatal(err)
	}
}

func newLedger(t testing.TB) *ledger.Ledger { return ledger.New(memstore.New(root(t, "/ledger"))) }

// list runs one lister to its end, and returns the numbers of the segments that it told of.
func list(t testing.TB, led *ledger.Ledger, st store.Store, b batch.Batch, opts listing.Options) (int, []int, error) {
	t.Helper()
	var told []int
	total, err := listing.List(t.Context(), &claim{}, led, st, b, opts, tell(&told))
	return total, told, err
}

func tell(told *[]int) func(context.Context, ledger.Header) error {
	return func(_ context.Context, h ledger.Header) error {
		*told = append(*told, h.Segment)
		return nil
	}
}

// segments reads the list that a ledger holds, and checks what is promised of every list.
func segments(t testing.TB, led *ledger.Ledger, id batch.ID) []batch.Segment {
	t.Helper()
	total, sealed, err := led.Sealed(t.Context(), id, batch.StepInspect, 1)
	if err != nil || !sealed {
		t.Fatalf("sealed = %v, %v; want true", sealed, err)
	}
	made, err := led.Segments(t.Context(), id, batch.StepInspect, 1)
	if err != nil || made != total {
		t.Fatalf("%d segments made, %v; want the %d that were sealed", made, err, total)
	}
	var out []batch.Segment
	var last archive.Key
	for n := range total {
		seg, err := led.Segment(t.Context(), batch.Ref{Batch: id, Step: batch.StepInspect, Generation: 1, Segment: n})
		if err != nil {
			t.Fatalf("segment %d: %v", n, err)
		}
		if seg.End != (n == total-1) {
			t.Errorf("segment %d of %d: End is %v", n, total, seg.End)
		}
		for _, o := range seg.Objects {
			if o.Key <= last {
				t.Errorf("segment %d: %q after %q", n, o.Key, last)
			}
			last = o.Key
		}
		out = append(out, seg)
	}
	return out
}

func keysOf(segs []batch.Segment) (keys []string) {
	for _, s := range segs {
		for _, o := range s.Objects {
			keys = append(keys, string(o.Key))
		}
	}
	return keys
}

func sizesOf(segs []batch.Segment) (sizes []int) {
	for _, s := range segs {
		sizes = append(sizes, len(s.Objects))
	}
	return sizes
}

func excludedIn(segs []batch.Segment) (n int64) {
	for _, s := range segs {
		n += s.Excluded
	}
	return n
}

func upTo(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

func numbered(n int, format string) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf(format, i)
	}
	return out
}

func TestListCuts(t *testing.T) {
	tests := []struct {
		name string
		keys []string
		opts listing.Options
		want []int // objects of each segment
	}{
		{"empty", nil, listing.Options{}, []int{0}},
		{"one", []string{"a"}, listing.Options{}, []int{1}},
		{"small archives are spread", numbered(160, "%03d"), listing.Options{}, slices.Repeat([]int{10}, 16)},
		{"but not into crumbs", numbered(20, "%03d"), listing.Options{}, []int{8, 8, 4}},
		{"full segments, then a finer tail", numbered(2000, "%04d"), listing.Options{Objects: 400, Parallel: 8},
			[]int{400, 400, 400, 100, 100, 100, 100, 100, 100, 100, 100}},
		{"bounded by bytes", []string{"a:40", "b:40", "c:40", "d:100", "e:0", "f:500", "g:60", "h:40"},
			listing.Options{Bytes: 100, Parallel: 1}, []int{2, 1, 1, 1, 1, 2}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			led, b := newLedger(t), newBatch(t)
			total, told, err := list(t, led, newArchive(t, tt.keys...), b, tt.opts)
			if err != nil {
				t.Fatal(err)
			}
			segs := segments(t, led, b.ID)
			if diff := cmp.Diff(tt.want, sizesOf(segs)); diff != "" {
				t.Errorf("objects of each segment (-want +got):\n%s", diff)
			}
			if got, want := len(keysOf(segs)), len(tt.keys); got != want {
				t.Errorf("%d objects listed, want %d", got, want)
			}
			if diff := cmp.Diff(upTo(total), told); diff != "" || total != len(segs) {
				t.Errorf("total %d of %d segments, told of (-want +got):\n%s", total, len(segs), diff)
			}
		})
	}
}

func TestListAgainTellsOfEverySegment(t *testing.T) {
	led, b, st := newLedger(t), newBatch(t), newArchive(t, numbered(50, "%02d")...)
	if _, _, err := list(t, led, st, b, listing.Options{Objects: 2}); err != nil {
		t.Fatal(err)
	}
	before := segments(t, led, b.ID)
	put(t, st, "zz")
	total, told, err := list(t, led, st, b, listing.Options{Objects: 5})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(upTo(len(before)), told); diff != "" || total != len(before) {
		t.Errorf("total %d, want %d; told of (-want +got):\n%s", total, len(before), diff)
	}
	if diff := cmp.Diff(before, segments(t, led, b.ID)); diff != "" {
		t.Errorf("the list has changed (-before +after):\n%s", diff)
	}
}

func TestListCountsExclusions(t *testing.T) {
	keys := []string{
		".hidden/a", ".hidden/b", "@eaDir/x", "a.jpg", "b/.DS_Store", "b/@eaDir/1", "b/@eaDir/2", "b/c.jpg", "b-c.jpg",
		"c.txt", "d/e.jpg", "d/e.tmp", "skip/x/1.jpg", "skip/x/2.jpg", "z.jpg", "~.tmp", "~~/Thumbs.db",
	}
	filter := batch.Filter{Include: []string{"*.jpg"}, Exclude: []string{"skip/**"}}
	for objects := 1; objects <= 6; objects++ {
		t.Run(fmt.Sprint(objects), func(t *testing.T) {
			led, b := newLedger(t), newBatch(t, func(b *batch.Batch) { b.Filter = filter })
			if _, _, err := list(t, led, newArchive(t, keys...), b, listing.Options{Objects: objects, Parallel: 1}); err != nil {
				t.Fatal(err)
			}
			segs := segments(t, led, b.ID)
			want := []string{"a.jpg", "b-c.jpg", "b/c.jpg", "d/e.jpg", "z.jpg"}
			if diff := cmp.Diff(want, keysOf(segs)); diff != "" {
				t.Errorf("keys (-want +got):\n%s", diff)
			}
			// Folders: .hidden, @eaDir, b/@eaDir, skip. Objects: b/.DS_Store, c.txt, d/e.tmp, ~.tmp, ~~/Thumbs.db.
			if got := excludedIn(segs); got != 9 {
				t.Errorf("excluded = %d, want 9", got)
			}
			if objects == 1 {
				var each []int64
				for _, s := range segs {
					each = append(each, s.Excluded)
				}
				if diff := cmp.Diff([]int64{2, 0, 2, 1, 4}, each); diff != "" {
					t.Errorf("excluded before the objects (-want +got):\n%s", diff)
				}
			}
		})
	}
}

func TestListRecordsWhatIsNoObject(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a.jpg", "d/b.jpg", "bad-\xff.jpg"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("d", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	st, err := filestore.Open(dir, filestore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	led, b := newLedger(t), newBatch(t)
	if _, _, err := list(t, led, st, b, listing.Options{Objects: 2}); err != nil {
		t.Fatal(err)
	}
	got := map[string]batch.Reason{}
	for _, s := range segments(t, led, b.ID) {
		for _, o := range s.Objects {
			got[string(o.Key)] = o.Problem
			if (o.Problem == "") != (o.Outcome == "") {
				t.Errorf("%q: outcome %q with problem %q", o.Key, o.Outcome, o.Problem)
			}
		}
	}
	want := map[string]batch.Reason{
		"a.jpg": "", "d/b.jpg": "", "bad-\xff.jpg": "", "link": batch.ReasonSymlink, "pipe": batch.ReasonSpecial,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestListCancelled(t *testing.T) {
	for after := range 40 {
		t.Run(fmt.Sprint(after), func(t *testing.T) {
			led, b := newLedger(t), newBatch(t)
			asked := 0
			hold := &claim{cancelled: func() bool { asked++; return asked > after }}
			var told []int
			st := newArchive(t, numbered(30, "%02d")...)
			opts := listing.Options{Objects: 4, Parallel: 4, Previous: 5}
			total, err := listing.List(t.Context(), hold, led, st, b, opts, tell(&told))
			if err != nil {
				t.Fatal(err)
			}
			segs := segments(t, led, b.ID)
			if diff := cmp.Diff(upTo(total), told); diff != "" {
				t.Errorf("told of (-want +got):\n%s", diff)
			}
			got := keysOf(segs)
			if want := numbered(len(got), "%02d"); !slices.Equal(got, want) || after < 30 && len(got) > after {
				t.Errorf("keys = %q, want the first of the archive, at most %d", got, after)
			}
			// Whoever comes later, not cancelled, finds a list that has ended.
			again, _, err := list(t, led, st, b, listing.Options{})
			if err != nil || again != total {
				t.Errorf("List again = %d, %v; want %d", again, err, total)
			}
		})
	}
}

func TestListEndsOnContext(t *testing.T) {
	led, b := newLedger(t), newBatch(t)
	ctx, cancel := context.WithCancel(t.Context())
	made := func(context.Context, ledger.Header) error { cancel(); return nil }
	_, err := listing.List(ctx, &claim{}, led, newArchive(t, numbered(50, "%02d")...), b, listing.Options{Objects: 2}, made)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v, want %v", err, context.Canceled)
	}
}

func TestListAdvances(t *testing.T) {
	hold := &claim{}
	st := newArchive(t, append(numbered(50, "%02d"), ".x", "y/.x")...)
	_, err := listing.List(t.Context(), hold, newLedger(t), st, newBatch(t), listing.Options{}, tell(new([]int)))
	if err != nil || hold.objects != 50 {
		t.Errorf("advanced by %d objects, %v; want 50", hold.objects, err)
	}
}
