package extsort_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/extsort"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/filestore"
	"github.com/reshelf/reshelf/shared/store/memstore"
)

// record is an Item as text, which go-cmp prints readably.
type record struct{ Key, Value string }

func collect(t interface {
	Helper()
	Fatalf(string, ...any)
}, s *extsort.Sorter,
) []record {
	t.Helper()
	var out []record
	for it, err := range s.Sorted(context.Background()) {
		if err != nil {
			t.Fatalf("Sorted: %v", err)
		}
		out = append(out, record{string(it.Key), string(it.Value)})
	}
	return out
}

func keys(t *testing.T, st store.Store) []archive.Key {
	t.Helper()
	var out []archive.Key
	for e, err := range st.List(t.Context(), store.ListOptions{}) {
		if err != nil {
			t.Fatalf("List: %v", err)
		}
		out = append(out, e.Key)
	}
	return out
}

func TestSortedEqualsSort(t *testing.T) {
	text := rapid.StringOfN(rapid.RuneFrom([]rune("ab\x00é")), 0, 6, -1)
	rapid.Check(t, func(t *rapid.T) {
		st := memstore.New(archive.Root{})
		s := extsort.New(st, "sort/1", extsort.Options{
			Memory: rapid.SampledFrom([]int{1, 300, 1000, 1 << 20}).Draw(t, "memory"),
			FanIn:  rapid.IntRange(0, 4).Draw(t, "fanIn"),
		})
		var want []record
		for range rapid.IntRange(1, 2).Draw(t, "rounds") {
			for range rapid.IntRange(0, 60).Draw(t, "records") {
				r := record{text.Draw(t, "key"), text.Draw(t, "value")}
				want = append(want, r)
				if err := s.Add(context.Background(), []byte(r.Key), []byte(r.Value)); err != nil {
					t.Fatalf("Add: %v", err)
				}
			}
			slices.SortFunc(want, func(a, b record) int {
				return cmp.Or(strings.Compare(a.Key, b.Key), strings.Compare(a.Value, b.Value))
			})
			for range 2 {
				if diff := gocmp.Diff(want, collect(t, s)); diff != "" {
					t.Fatalf("Sorted differs (-want +got):\n%s", diff)
				}
			}
		}
		if err := s.Remove(context.Background()); err != nil {
			t.Fatalf("Remove: %v", err)
		}
		for e := range st.List(context.Background(), store.ListOptions{}) {
			t.Fatalf("Remove left %s", e.Key)
		}
		if got := collect(t, s); got != nil {
			t.Fatalf("Sorted after Remove = %v, want nothing", got)
		}
	})
}

// TestGroup adds to the sorters of a group while others of it are ranged over.
func TestGroup(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		st := memstore.New(archive.Root{})
		g := extsort.NewGroup(st, extsort.Options{
			Memory: rapid.SampledFrom([]int{1, 1000, 4000, 1 << 20}).Draw(t, "memory"),
			FanIn:  rapid.IntRange(0, 4).Draw(t, "fanIn"),
		})
		sorters, want := make([]*extsort.Sorter, 4), make([][]record, 4)
		for i := range sorters {
			sorters[i] = g.Sorter(fmt.Sprintf("sort/%d", i))
		}
		var free []int
		add := func() {
			i := free[rapid.IntRange(0, len(free)-1).Draw(t, "sorter")]
			r := record{fmt.Sprint(rapid.IntRange(0, 99).Draw(t, "key")), strings.Repeat("v", rapid.IntRange(0, 300).Draw(t, "value"))}
			want[i] = append(want[i], r)
			if err := sorters[i].Add(context.Background(), []byte(r.Key), []byte(r.Value)); err != nil {
				t.Fatalf("Add: %v", err)
			}
		}
		// Each of those that are ranged over is ranged over within the one before.
		var nested func(order []int)
		nested = func(order []int) {
			free = order
			for range rapid.IntRange(0, 30).Draw(t, "records") {
				add()
			}
			if len(order) == 1 {
				return
			}
			i, after := order[0], rapid.IntRange(0, 40).Draw(t, "after")
			var got []record
			for it, err := range sorters[i].Sorted(context.Background()) {
				if err != nil {
					t.Fatalf("Sorted: %v", err)
				}
				got = append(got, record{string(it.Key), string(it.Value)})
				if len(got) == after {
					nested(order[1:])
				}
				free = order[1:]
				add()
			}
			slices.SortFunc(want[i], func(a, b record) int {
				return cmp.Or(strings.Compare(a.Key, b.Key), strings.Compare(a.Value, b.Value))
			})
			if diff := gocmp.Diff(want[i], got); diff != "" {
				t.Fatalf("sorter %d differs (-want +got):\n%s", i, diff)
			}
		}
		for range 2 {
			nested(rapid.Permutation([]int{0, 1, 2, 3}).Draw(t, "order"))
		}
		for _, s := range sorters {
			if err := s.Remove(context.Background()); err != nil {
				t.Fatalf("Remove: %v", err)
			}
		}
		for e := range st.List(context.Background(), store.ListOptions{}) {
			t.Fatalf("Remove left %s", e.Key)
		}
	})
}

func TestSmallInputWritesNothing(t *testing.T) {
	st := memstore.New(archive.Root{})
	s := extsort.New(st, "sort/1", extsort.Options{})
	for i := range 1000 {
		if err := s.Add(t.Context(), binary.BigEndian.AppendUint32(nil, uint32(1000-i)), nil); err != nil {
			t.Fatal(err)
		}
	}
	if got := collect(t, s); len(got) != 1000 {
		t.Fatalf("got %d records, want 1000", len(got))
	}
	if got := keys(t, st); got != nil {
		t.Errorf("the store holds %v, want nothing", got)
	}
}

func TestRunsStayBelowPrefixAndAreRemoved(t *testing.T) {
	st := memstore.New(archive.Root{})
	if err := st.Create(t.Context(), "sort/10", strings.NewReader("another's")); err != nil {
		t.Fatal(err)
	}
	s := extsort.New(st, "sort/1", extsort.Options{Memory: 1, FanIn: 2})
	for i := range 9 {
		if err := s.Add(t.Context(), []byte{byte(9 - i)}, []byte("v")); err != nil {
			t.Fatal(err)
		}
	}
	for _, key := range keys(t, st) {
		if key != "sort/10" && !strings.HasPrefix(string(key), "sort/1/") {
			t.Errorf("run at %s, want it below sort/1/", key)
		}
	}
	for range s.Sorted(t.Context()) {
		break
	}
	if got := len(keys(t, st)); got != 3 {
		t.Errorf("%d objects while the last pass reads, want the 2 last runs and the foreign object", got)
	}
	for range 2 {
		if err := s.Remove(t.Context()); err != nil {
			t.Fatalf("Remove: %v", err)
		}
	}
	if diff := gocmp.Diff([]archive.Key{"sort/10"}, keys(t, st)); diff != "" {
		t.Errorf("after Remove (-want +got):\n%s", diff)
	}
}

func TestDamagedRunIsAnError(t *testing.T) {
	whole := func(t *testing.T, st store.Store, key archive.Key) []byte {
		c, err := st.Open(t.Context(), key, 0, -1, archive.Identity{})
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
	tests := map[string]func([]byte) []byte{
		"truncated": func(raw []byte) []byte { return raw[:len(raw)/2] },
		"empty":     func([]byte) []byte { return nil },
		"flipped":   func(raw []byte) []byte { raw[len(raw)/2] ^= 0x40; return raw },
		"foreign":   func([]byte) []byte { return []byte("not a run") },
	}
	for name, damage := range tests {
		t.Run(name, func(t *testing.T) {
			st := memstore.New(archive.Root{})
			s := extsort.New(st, "sort", extsort.Options{Memory: 2000})
			for i := range 100 {
				if err := s.Add(t.Context(), fmt.Appendf(nil, "%d", i*7919), []byte("value")); err != nil {
					t.Fatal(err)
				}
			}
			key := keys(t, st)[0]
			if err := st.Replace(t.Context(), key, bytes.NewReader(damage(whole(t, st, key)))); err != nil {
				t.Fatal(err)
			}
			var got error
			n := 0
			for _, err := range s.Sorted(t.Context()) {
				got = err
				n++
			}
			if got == nil {
				t.Fatalf("%d records without an error", n)
			}
			if !strings.Contains(got.Error(), string(key)) {
				t.Errorf("error %q does not name the run %s", got, key)
			}
		})
	}
}

// FuzzRun reads a run that is anything: its records, or an error.
func FuzzRun(f *testing.F) {
	st := memstore.New(archive.Root{})
	const records = 50
	s := extsort.New(st, "sort", extsort.Options{Memory: 1000})
	for i := range records {
		if err := s.Add(f.Context(), binary.BigEndian.AppendUint32(nil, uint32(i)), []byte("value")); err != nil {
			f.Fatal(err)
		}
	}
	for range s.Sorted(f.Context()) { // all of them are in runs
		break
	}
	var key archive.Key
	for e, err := range st.List(f.Context(), store.ListOptions{}) {
		if err != nil {
			f.Fatal(err)
		}
		key = e.Key
		c, err := st.Open(f.Context(), key, 0, -1, archive.Identity{})
		if err != nil {
			f.Fatal(err)
		}
		raw, err := io.ReadAll(c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Add([]byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if err := st.Replace(t.Context(), key, bytes.NewReader(raw)); err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, err := range s.Sorted(t.Context()) {
			if err != nil {
				return
			}
			n++
		}
		if n != records {
			t.Errorf("%d records without an error, want %d", n, records)
		}
	})
}

func TestCancelledAndTooLarge(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, memory := range []int{1, 1 << 20} {
		s := extsort.New(memstore.New(archive.Root{}), "sort", extsort.Options{Memory: memory})
		for _, k := range []string{"b", "a"} {
			if err := s.Add(t.Context(), []byte(k), nil); err != nil {
				t.Fatal(err)
			}
		}
		var got error
		for _, err := range s.Sorted(ctx) {
			got = err
		}
		if !errors.Is(got, context.Canceled) {
			t.Errorf("memory %d: Sorted with a cancelled context gave %v, want %v", memory, got, context.Canceled)
		}
		if err := s.Add(t.Context(), make([]byte, extsort.MaxRecord), []byte("x")); err == nil {
			t.Error("Add took a record larger than MaxRecord")
		}
	}
}

// TestMemoryIsBounded sorts 64 MB in 4 MB.
func TestMemoryIsBounded(t *testing.T) {
	st, err := filestore.Open(t.TempDir(), filestore.Options{Ledger: true})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	const records, size, memory, bound = 64_000, 1000, 4 << 20, 24 << 20
	var before, now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	check := func(i int) {
		if i%8000 != 0 {
			return
		}
		runtime.GC()
		runtime.ReadMemStats(&now)
		if now.HeapAlloc > before.HeapAlloc+bound {
			t.Fatalf("record %d: the heap grew by %d bytes, want at most %d", i, now.HeapAlloc-before.HeapAlloc, bound)
		}
	}
	rng := rand.New(rand.NewPCG(1, 2))
	s := extsort.New(st, "sort", extsort.Options{Memory: memory, FanIn: 8})
	value := make([]byte, size)
	for i := range records {
		key := binary.BigEndian.AppendUint64(nil, rng.Uint64())
		copy(value, key)
		if err := s.Add(t.Context(), key, value); err != nil {
			t.Fatal(err)
		}
		check(i)
	}
	n, last := 0, []byte(nil)
	for it, err := range s.Sorted(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Compare(last, it.Key) > 0 || len(it.Value) != size {
			t.Fatalf("record %d: key %x after %x, %d bytes", n, it.Key, last, len(it.Value))
		}
		last = it.Key
		check(n)
		n++
	}
	if n != records {
		t.Errorf("got %d records, want %d", n, records)
	}
	if err := s.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// liveHeap is how many bytes are in use.
func liveHeap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // pools give up what they hold at the second
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestGroupSharesMemory fills eight sorters of a group one after the other, each while the one before is ranged over.
func TestGroupSharesMemory(t *testing.T) {
	st, err := filestore.Open(t.TempDir(), filestore.Options{Ledger: true})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	const sorters, records, memory, bound = 8, 12_000, 4 << 20, 8 << 20
	before := liveHeap()
	g, rng, peak := extsort.NewGroup(st, extsort.Options{Memory: memory}), rand.New(rand.NewPCG(1, 2)), uint64(0)
	value := make([]byte, 200) // 3.6 MB in each
	var fill func(n int, ranged *extsort.Sorter)
	fill = func(n int, ranged *extsort.Sorter) {
		peak = max(peak, liveHeap()-before)
		if n == 0 {
			return
		}
		s := g.Sorter(fmt.Sprint("sort/", n))
		add := func() {
			if err := s.Add(t.Context(), binary.BigEndian.AppendUint64(nil, rng.Uint64()), value); err != nil {
				t.Fatal(err)
			}
		}
		seen := 0
		for _, err := range ranged.Sorted(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			if seen++; seen <= records/2 {
				add()
				add()
			}
			if seen == records/2 {
				fill(n-1, s)
			}
		}
		if seen != records {
			t.Errorf("%d records, want %d", seen, records)
		}
	}
	first := g.Sorter("sort/first")
	for range records {
		if err := first.Add(t.Context(), binary.BigEndian.AppendUint64(nil, rng.Uint64()), value); err != nil {
			t.Fatal(err)
		}
	}
	fill(sorters, first)
	if peak > bound {
		t.Errorf("the heap grew by %d bytes, want at most %d", peak, bound)
	}
	t.Logf("the heap grew by %d KiB", peak>>10)
}

// TestMergingTakesLittle has as many runs open as are merged at once.
func TestMergingTakesLittle(t *testing.T) {
	st, err := filestore.Open(t.TempDir(), filestore.Options{Ledger: true})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	before := liveHeap()
	const runs, perRun, bound = extsort.DefaultFanIn, 2000, 2 << 20
	rng := rand.New(rand.NewPCG(1, 2))
	s := extsort.New(st, "sort", extsort.Options{Memory: 1 << 20})
	for range runs * perRun {
		n := rng.Uint64()
		value := fmt.Appendf(nil, `{"from":"card-%05d/%05d.jpg","to":"2020/01/%d.jpg","digest":"sha256:%016[3]x%016x","outcome":"done"%300s}`, n%99999, n%9999, n, ^n, "")
		if err := s.Add(t.Context(), binary.BigEndian.AppendUint64(nil, n), value); err != nil {
			t.Fatal(err)
		}
	}
	n, peak := 0, uint64(0)
	for _, err := range s.Sorted(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n == runs*perRun/2 {
			if open := len(keys(t, st)); open < runs*3/4 {
				t.Fatalf("only %d runs are open", open)
			}
			peak = liveHeap() - before
		}
	}
	if peak > bound {
		t.Errorf("the heap grew by %d bytes, want at most %d", peak, bound)
	}
	t.Logf("the heap grew by %d KiB", peak>>10)
}

func BenchmarkSort(b *testing.B) {
	value := make([]byte, 200)
	b.SetBytes(50_000 * (8 + 200))
	for b.Loop() {
		rng := rand.New(rand.NewPCG(1, 2))
		s := extsort.New(memstore.New(archive.Root{}), "sort", extsort.Options{Memory: 2 << 20})
		for range 50_000 {
			if err := s.Add(b.Context(), binary.BigEndian.AppendUint64(nil, rng.Uint64()), value); err != nil {
				b.Fatal(err)
			}
		}
		for _, err := range s.Sorted(b.Context()) {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
}
