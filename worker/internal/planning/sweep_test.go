package planning

import (
	"context"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/memstore"
)

// wait adds that e waits for other, in whatever order.
func (g *graph) wait(e, other end) {
	for _, l := range linksOf(e, other, g.marks) {
		g.units = append(g.units, l.unit)
		if l.waits {
			g.edges = append(g.edges, edge{l.unit.number, l.other, l.file})
		}
	}
}

// waiting is that a unit waits for another one; other is -1 where nothing leaves the name.
type waiting struct{ unit, other end }

// drawWaits draws which of n units wait for which: mostly for near ones, so that there are places across which nothing is connected.
func drawWaits(t *rapid.T, n int) []waiting {
	units, next := drawUnits(t, n), drawNext(t, n)
	far := rapid.SampledFrom([]int{1, 2, 3, 10, n}).Draw(t, "far")
	inodes := rapid.SampledFrom([]uint64{3, 100, 100}).Draw(t, "inodes")
	var waits []waiting
	for i := range n {
		for range rapid.SampledFrom([]int{0, 1, 1, 1, 1, 1, 1, 2}).Draw(t, "waits") {
			w := waiting{units[i], units[min(max(0, i+rapid.IntRange(-far, far).Draw(t, "other")), n-1)]}
			w.unit.file, w.other.file = rapid.Uint64Range(1, inodes).Draw(t, "file"), rapid.Uint64Range(1, inodes).Draw(t, "file of other")
			if next != nil {
				w.other = units[next[i]]
				w.unit.file, w.other.file = uint64(i+1), uint64(next[i]+1)
			}
			w.unit.folded = rapid.IntRange(0, 19).Draw(t, "folded") == 19
			if rapid.IntRange(0, 19).Draw(t, "stuck") == 19 {
				w.other.unit = -1
			}
			waits = append(waits, w)
		}
	}
	return rapid.Permutation(waits).Draw(t, "order")
}

func drawUnits(t *rapid.T, n int) []end {
	units := make([]end, n)
	for i := range units {
		units[i] = end{
			unit: int64(i), rows: rapid.SampledFrom([]int32{1, 1, 1, 2, maxChain / 9}).Draw(t, "rows"),
			bytes: rapid.SampledFrom([]int32{1, 1, 1, 1, maxChainBytes / 5}).Draw(t, "bytes"),
		}
	}
	return units
}

// drawNext draws for whom each unit waits where names only change hands, folder by folder; nil where it is not so.
func drawNext(t *rapid.T, n int) []int {
	if rapid.Bool().Draw(t, "any waits") {
		return nil
	}
	var next []int
	for len(next) < n {
		folder := make([]int, min(n-len(next), rapid.SampledFrom([]int{1, 2, 3, 10, n}).Draw(t, "folder")))
		for i := range folder {
			folder[i] = len(next) + i
		}
		next = append(next, rapid.Permutation(folder).Draw(t, "folder")...)
	}
	return next
}

func linksOfAll(waits []waiting, marks bool) (links []link) {
	for _, w := range waits {
		if w.other.unit < 0 {
			links = append(links, stuckLink(w.unit))
			continue
		}
		links = append(links, linksOf(w.unit, w.other, marks)...)
	}
	return links
}

// whole solves all at once, in a graph of which it is given an empty one.
func whole(g graph, waits []waiting, exchange bool) graph {
	for _, w := range waits {
		if w.other.unit < 0 {
			g.units = append(g.units, stuckLink(w.unit).unit)
			continue
		}
		g.wait(w.unit, w.other)
	}
	g.solve(exchange)
	return g
}

// drawArchive draws how names can be exchanged.
func drawArchive(t *rapid.T) store.Properties {
	return rapid.SampledFrom([]store.Properties{
		{AtomicRename: true, GuardedRename: true, Exchange: true}, {AtomicRename: true, GuardedRename: true},
		{Parks: true, GuardedRename: true}, {Parks: true, GuardedRename: true, Marks: true},
	}).Draw(t, "archive")
}

func newResolver(props store.Properties, maxWaits, solveAt int) *resolver {
	st := memstore.New(archive.Root{})
	d := newDesk(idle{}, ledger.New(st), st, batch.Batch{ID: "01arz3ndektsv4rrffq69g5fav"}, 1, Options{Memory: 64 << 10})
	d.props = props
	return &resolver{planner: &planner{desk: d}, maxWaits: maxWaits, solveAt: solveAt}
}

// members sweeps over the links, and sees that no more is held than should be.
func (r *resolver) members(t rapid.TB, links []link, n int) []member {
	ctx := context.Background()
	sorted, solved := r.sorter("links"), r.sorter("chains")
	s := r.newSweep(solved)
	for _, l := range links {
		if err := sorted.Add(ctx, l.key(), l.encode()); err != nil {
			t.Fatal(err)
		}
	}
	for it, err := range sorted.Sorted(ctx) {
		if err == nil {
			err = s.take(ctx, decodeLink(it))
		}
		if err != nil {
			t.Fatal(err)
		}
		if most := r.maxWaits + r.maxWaits/8 + 1; len(s.held.edges) > most || len(s.held.units) > 2*most {
			t.Fatalf("%d edges and %d units are held, want no more than %d and twice that", len(s.held.edges), len(s.held.units), most)
		}
	}
	if err := s.settle(ctx, &s.held); err != nil {
		t.Fatal(err)
	}
	c := openChains(ctx, solved)
	defer c.stop()
	out := make([]member, n)
	for i := range out {
		var err error
		if out[i], err = c.of(int64(i)); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// Piece by piece comes to the same as all at once.
func TestSweepIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 50).Draw(t, "units")
		waits := drawWaits(t, n)
		r := newResolver(drawArchive(t), 1000, rapid.IntRange(1, 20).Draw(t, "solve at"))
		got := r.members(t, linksOfAll(waits, r.props.Marks), n)
		checkSound(t, waits, got, r.props.Marks)
		want := whole(r.newSweep(nil).held, waits, r.exchanges())
		fates := make([]member, n)
		for i, u := range want.units {
			if u.fate != notInChain && u.fate != stays {
				last := !slices.ContainsFunc(want.units[i+1:], func(o chained) bool { return o.chain == u.chain })
				fates[u.number] = member{chain: want.units[u.chain].number, order: u.order, fate: u.fate, last: last}
			}
		}
		if want, got := ranked(fates), ranked(got); !slices.Equal(want, got) {
			t.Errorf("all at once: %v\npiece by piece: %v", want, got)
		}
	})
}

// ranked has orders counted in each chain alone.
func ranked(members []member) []member {
	out := slices.Clone(members)
	for i, m := range members {
		out[i].order = 0
		for _, o := range members {
			if o.fate == moves && m.fate == moves && o.chain == m.chain && o.order < m.order {
				out[i].order++
			}
		}
	}
	return out
}

// Where more units wait for one another than may be held, none moves that must not.
func TestSweepBeyondTheBoundIsSound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 50).Draw(t, "units")
		waits := drawWaits(t, n)
		r := newResolver(drawArchive(t), rapid.IntRange(1, 20).Draw(t, "most waits"), rapid.IntRange(1, 20).Draw(t, "solve at"))
		checkSound(t, waits, r.members(t, linksOfAll(waits, r.props.Marks), n), r.props.Marks)
	})
}

// A wait that reaches over all others keeps none of them from being solved.
func TestSweepHoldsWhatIsConnectedAcrossOnePlace(t *testing.T) {
	const n = 1000
	at := func(i int) end { return end{unit: int64(i), file: uint64(i) + 1, rows: 1, bytes: 1} }
	waits := []waiting{{at(0), at(n - 1)}}
	for i := 1; i < n-1; i += 2 {
		waits = append(waits, waiting{at(i), at(i + 1)})
	}
	r := newResolver(store.Properties{AtomicRename: true, GuardedRename: true}, 2, 1)
	for i, m := range r.members(t, linksOfAll(waits, false), n) {
		if m.fate != moves {
			t.Errorf("unit %d: got fate %d, want that it moves", i, m.fate)
		}
	}
}

// checkSound sees that what moves waits only for what moves before it, in the same chain, or with it, in a circle.
func checkSound(t rapid.TB, waits []waiting, got []member, marks bool) {
	reaches := reachable(waits, len(got))
	same := func(a, b int64) bool { return reaches[a][b] && reaches[b][a] }
	for _, w := range waits {
		u := got[w.unit.unit]
		if u.fate != moves {
			continue
		}
		if links := linksOfAll([]waiting{w}, marks); len(links) == 1 {
			t.Fatalf("%d moves, which waits for what does not come true", w.unit.unit)
		}
		o := got[w.other.unit]
		if o.fate != moves || o.chain != u.chain || o.order >= u.order && !same(w.unit.unit, w.other.unit) {
			t.Fatalf("%d waits for %d and moves: %+v, %+v", w.unit.unit, w.other.unit, u, o)
		}
	}
	for a := range got {
		if got[a].fate == moves {
			checkContiguous(t, got, int64(a), same)
		}
	}
}

// checkContiguous sees that nothing comes between a unit and others of its circle.
func checkContiguous(t rapid.TB, got []member, a int64, same func(a, b int64) bool) {
	least, most, units := got[a].order, got[a].order, int32(0)
	for b := range got {
		if int64(b) == a || same(a, int64(b)) {
			if got[b].fate != moves {
				t.Fatalf("%d moves and %d does not, of one circle", a, b)
			}
			least, most, units = min(least, got[b].order), max(most, got[b].order), units+1
		}
	}
	if most-least+1 != units {
		t.Fatalf("the circle of %d has %d units, and orders from %d to %d", a, units, least, most)
	}
}

// reachable says which units wait for which, also by others.
func reachable(waits []waiting, n int) [][]bool {
	reaches := make([][]bool, n)
	for i := range reaches {
		reaches[i] = make([]bool, n)
	}
	for _, w := range waits {
		if w.other.unit >= 0 {
			reaches[w.unit.unit][w.other.unit] = true
		}
	}
	for k := range n {
		for i := range n {
			for j := range n {
				reaches[i][j] = reaches[i][j] || reaches[i][k] && reaches[k][j]
			}
		}
	}
	return reaches
}
