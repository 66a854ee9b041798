package planning

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/reshelf/reshelf/shared/extsort"
)

// Units can want names that others have now and leave. Such a unit waits for the others: it is carried out after them, by the
// same worker, in the same segment. What waits for one another is a chain. Units that wait for themselves, by others, are a circle: where
// names can be exchanged in one step, they move together. Where renames take two steps, all of a chain go to names in between first,
// and no order matters. See docs/decisions/chains.md.

const (
	// maxWaits bounds what sweep holds across one place in the order of units, in names that are waited for: about 230 bytes of memory each,
	// while they are solved. Where it is more, units are refused.
	maxWaits = 1 << 20
	// maxChain bounds the rows of one chain, which are one segment, and maxChainBytes what they are when they are stored.
	maxChain      = 20_000
	maxChainBytes = 64 << 20
)

// fate is what becomes of a unit that waits for others, or that others wait for.
type fate byte

const (
	notInChain   fate = iota
	moves             // when those that it waits for have moved
	stays             // one that it waits for does not move
	inCircle          // it waits for itself, by others, and names cannot be exchanged
	linkedCircle      // it waits for itself, by others, and objects of these are one file
	foldedCircle      // it waits for itself, by others, for a name that differs in case or form from the one that it gets
	chainTooLong      // see maxChain
)

// findChains reads which units wait for which, by the conditions among the verdicts of a round. Stop what it returns.
func (r *resolver) findChains(ctx context.Context, units, verdicts *extsort.Sorter) (chains, error) {
	movers, waits, links := r.sorter("movers"), r.sorter("waits"), r.sorter("links")
	if err := r.spread(ctx, units, verdicts, movers, waits); err != nil {
		return chains{}, err
	}
	if err := r.meet(ctx, movers, waits, links); err != nil {
		return chains{}, err
	}
	for _, s := range []*extsort.Sorter{movers, waits} {
		if err := s.Remove(ctx); err != nil {
			return chains{}, err
		}
	}
	solved := r.sorter("chains")
	if err := r.sweep(ctx, links, solved); err != nil {
		return chains{}, err
	}
	if err := links.Remove(ctx); err != nil {
		return chains{}, err
	}
	return openChains(ctx, solved), nil
}

// spread adds each row that would move to movers, by its old name, and each condition to waits, by the name that it is about.
func (r *resolver) spread(ctx context.Context, units, verdicts, movers, waits *extsort.Sorter) error {
	return r.eachUnit(ctx, units, verdicts, func(number int64, u *unit, against []verdict) error {
		refused := slices.ContainsFunc(against, func(v verdict) bool { return v.Awaits == "" })
		if refused || slices.ContainsFunc(u.Rows, r.refolded) {
			return nil // it does not move, or not in a chain
		}
		e := end{unit: number, rows: int32(len(u.Rows)), bytes: u.stored()}
		for _, row := range u.Rows {
			if e.file = row.Want.File(); !row.Moves() {
				continue
			}
			if err := movers.Add(ctx, []byte(row.From), e.encode()); err != nil {
				return err
			}
		}
		for _, v := range against {
			e.file, e.folded = u.Rows[v.Row].Want.File(), u.Rows[v.Row].To != v.Awaits
			if err := waits.Add(ctx, []byte(v.Awaits), e.encode()); err != nil {
				return err
			}
		}
		return nil
	})
}

// stored is about how many bytes the rows of the unit are when they are stored, in any case not fewer.
func (u *unit) stored() int32 {
	const (
		escaped = 6 // bytes of JSON for one of a text
		rest    = 1 << 10
	)
	n := 0
	for i, r := range u.Rows {
		n += escaped*(len(r.From)+len(r.To)+len(r.Sidecar)+len(r.DateSource)+len(u.Rows[0].From)+len(u.Notes[i])) + rest
		for _, what := range r.Changed {
			n += escaped * len(what)
		}
	}
	return int32(min(n, maxChainBytes+1))
}

// end of a wait: a unit, and the object in it that waits or is waited for.
type end struct {
	unit  int64
	file  uint64
	rows  int32 // of the unit
	bytes int32 // that the unit is when it is stored
	// folded: see chained.
	folded bool
}

func (e end) encode() []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(e.unit))
	b = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(b, e.file), uint32(e.rows))
	return append(binary.BigEndian.AppendUint32(b, uint32(e.bytes)), bit(e.folded))
}

func bit(set bool) byte {
	if set {
		return 1
	}
	return 0
}

func decodeEnd(b []byte) end {
	return end{
		int64(binary.BigEndian.Uint64(b)), binary.BigEndian.Uint64(b[8:]),
		int32(binary.BigEndian.Uint32(b[16:])), int32(binary.BigEndian.Uint32(b[20:])), b[24] == 1,
	}
}

// meet joins those that wait for a name with the unit that leaves it, if there is one, and adds what it finds to links.
func (r *resolver) meet(ctx context.Context, movers, waits, links *extsort.Sorter) error {
	there := newCursor(movers.Sorted(ctx))
	defer there.stop()
	for it, err := range waits.Sorted(ctx) {
		if err == nil {
			err = r.tick(ctx)
		}
		if err != nil {
			return err
		}
		there.to(it.Key)
		if there.err != nil {
			return there.err
		}
		waiter := decodeEnd(it.Value)
		found := []link{stuckLink(waiter)}
		if there.at(it.Key) {
			found = linksOf(waiter, decodeEnd(there.item.Value), r.props.Marks)
		}
		for _, l := range found {
			if err := links.Add(ctx, l.key(), l.encode()); err != nil {
				return err
			}
		}
	}
	return nil
}

// graph says which units wait for which.
type graph struct {
	units []chained
	edges []edge
	parks bool // by way of names in between
	marks bool // objects are told apart by the marks of renames, and not by their inodes
}

// chained is a unit that waits for others, or that others wait for.
type chained struct {
	number int64
	rows   int32
	bytes  int32
	// chain is the place in graph.units of the first unit of its chain.
	chain int32
	// order counts within the graph: a unit has a greater one than all that it waits for, and units of a circle follow one another.
	order int32
	fate  fate
	// folded: a name that it waits for is not exactly the one that it gets.
	folded bool
}

// edge: unit waits for other. Both are numbers of units, and in solve places in graph.units. file is that of the object that waits.
type edge struct {
	unit, other int64
	file        uint64
}

// ends are the lesser and the greater number of its units.
func (e edge) ends() (lesser, greater int64) { return min(e.unit, e.other), max(e.unit, e.other) }

// solve finds what becomes of all units, in time and memory that grow with their number. Circles move where names can be exchanged.
// Afterwards there is each unit once, in the order of numbers.
func (g *graph) solve(exchange bool) {
	g.number()
	waiters := g.backward()
	left := make([]int32, len(g.units)) // how many each still waits for
	for _, e := range g.edges {
		left[e.unit]++
	}
	g.keepWaiters(waiters)
	g.order(waiters, left, g.circles(waiters, exchange))
	g.connect()
	g.limit()
}

// number sorts the units, each once, and makes the edges places in them.
func (g *graph) number() {
	slices.SortFunc(g.units, func(a, b chained) int {
		return cmp.Or(cmp.Compare(a.number, b.number), cmp.Compare(b.fate, a.fate), cmp.Compare(bit(b.folded), bit(a.folded)))
	})
	g.units = slices.CompactFunc(g.units, func(a, b chained) bool { return a.number == b.number }) // keeps the greatest fate
	for i, e := range g.edges {
		g.edges[i] = edge{g.place(e.unit), g.place(e.other), e.file}
	}
	compare := func(a, b edge) int {
		return cmp.Or(cmp.Compare(a.other, b.other), cmp.Compare(a.unit, b.unit), cmp.Compare(a.file, b.file))
	}
	slices.SortFunc(g.edges, compare)
	g.edges = slices.Compact(g.edges)
}

// place is that of the unit of a number, which there is.
func (g *graph) place(number int64) int64 {
	i, _ := slices.BinarySearchFunc(g.units, number, func(c chained, n int64) int { return cmp.Compare(c.number, n) })
	return int64(i)
}

// backward returns those that wait for a unit.
func (g *graph) backward() func(place int64) []edge {
	first := make([]int32, len(g.units)+1)
	for _, e := range g.edges {
		first[e.other+1]++
	}
	for i := range g.units {
		first[i+1] += first[i]
	}
	return func(place int64) []edge { return g.edges[first[place]:first[place+1]] }
}

// keepWaiters keeps what waits for units that stay where it is.
func (g *graph) keepWaiters(waiters func(int64) []edge) {
	var queue []int64
	for i, u := range g.units {
		if u.fate == stays {
			queue = append(queue, int64(i))
		}
	}
	for len(queue) > 0 {
		at := queue[0]
		queue = queue[1:]
		for _, e := range waiters(at) {
			if g.units[e.unit].fate != stays {
				g.units[e.unit].fate = stays
				queue = append(queue, e.unit)
			}
		}
	}
}

// order numbers the units so that each comes after all that it waits for (A. B. Kahn, CACM 5, 1962), a circle like one unit. Those that
// cannot be numbered wait for circles that cannot move.
func (g *graph) order(waiters func(int64) []edge, left []int32, circles circles) {
	queue := make([]int64, 0, len(g.units))
	ready := func(i int64) {
		members := circles.of(i)
		for _, m := range members {
			if left[m] > 0 || g.units[m].fate != notInChain {
				return
			}
		}
		queue = append(queue, members...)
	}
	for i := range g.units {
		for _, e := range waiters(int64(i)) {
			if circles.same(e.unit, e.other) {
				left[e.unit]--
			}
		}
	}
	for i := range g.units {
		if circles.first(int64(i)) {
			ready(int64(i))
		}
	}
	for n := 0; n < len(queue); n++ {
		g.units[queue[n]].fate, g.units[queue[n]].order = moves, int32(n)
		for _, e := range waiters(queue[n]) {
			if circles.same(e.unit, e.other) {
				continue
			}
			if left[e.unit]--; left[e.unit] == 0 {
				ready(e.unit)
			}
		}
	}
	for i := range g.units {
		if g.units[i].fate == notInChain {
			g.units[i].fate = stays
		}
	}
}

// connect finds the chains: the units that move and wait for one another, in any order.
func (g *graph) connect() {
	f := newForest(len(g.units))
	for _, e := range g.edges {
		if g.units[e.unit].fate == moves {
			f.join(int32(e.unit), int32(e.other))
		}
	}
	for i := range g.units {
		g.units[i].chain = f.root(int32(i))
	}
}

// forest is a partition of places (R. E. Tarjan, J. van Leeuwen, J. ACM 31, 1984): of each the one above it in its tree, whose root is the least.
type forest []int32

func newForest(n int) forest {
	f := make(forest, n)
	for i := range f {
		f[i] = int32(i)
	}
	return f
}

func (f forest) root(i int32) int32 {
	for f[i] != i {
		f[i] = f[f[i]]
		i = f[i]
	}
	return i
}

func (f forest) join(a, b int32) {
	a, b = f.root(a), f.root(b)
	f[max(a, b)] = min(a, b)
}

// limit refuses the units that wait in chains that are too long. What they wait for may move.
func (g *graph) limit() {
	rows, bytes := make([]int64, len(g.units)), make([]int64, len(g.units)) // by chain
	for _, u := range g.units {
		rows[u.chain] += int64(u.rows)
		bytes[u.chain] += int64(u.bytes)
	}
	waits := make([]bool, len(g.units))
	for _, e := range g.edges {
		waits[e.unit] = true
	}
	for i, u := range g.units {
		if u.fate == moves && (rows[u.chain] > maxChain || bytes[u.chain] > maxChainBytes) {
			g.units[i].fate = notInChain
			if waits[i] {
				g.units[i].fate = chainTooLong
			}
		}
	}
}

// refusals are the verdicts about a unit that does not move: where there are only conditions, these.
func refusals(against []verdict, f fate) []verdict {
	var out []verdict
	for _, v := range against {
		if v.Awaits == "" {
			out = append(out, v)
		}
	}
	if out != nil {
		return out
	}
	for _, v := range against {
		out = append(out, v.because(f))
	}
	return out
}

// because makes a refusal of a condition.
func (v verdict) because(f fate) verdict {
	v.Awaits = ""
	switch f {
	case inCircle:
		v.Message += ", and waits for names that wait for that one: objects can exchange their names only where the disk does it in one step; " +
			"give one of them another name first, " + remedy
	case linkedCircle:
		v.Message += ", and waits for names that wait for that one, of which two are one file (hard links), so that nobody could tell which was renamed; " +
			"give one of them another name first, " + remedy
	case foldedCircle:
		v.Message += ", and waits for names that wait for that one, which differ in case or form from those that are to be exchanged; " +
			"give one of them another name first, " + remedy
	case chainTooLong:
		v.Message += fmt.Sprintf(", and waits for another one in turn, and so on, for more objects than a chain may have (%d, fewer where keys are long); rename in parts, or %s", maxChain, remedy)
	default:
		v.Message += " and does not leave it, or not for certain; " + remedy
	}
	return v
}
