package planning

import (
	"context"
	"encoding/binary"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/extsort"
)

// link is a wait as one of its two units has it, and all that is known of that unit. Of each wait there are two, at the numbers of its
// units; what can be seen at once not to come true has one.
type link struct {
	unit  chained // number, rows, bytes, fate (stays or none yet) and folded
	other int64   // the number of the other one; its own where there is none
	waits bool    // it waits for the other one, which else waits for it
	file  uint64  // of the object that waits
}

// stuckLink is that of a unit one of whose waits does not come true.
func stuckLink(e end) link {
	u := e.chained()
	u.fate = stays
	return link{unit: u, other: e.unit}
}

// linksOf are those of a wait: e waits for other. Where both are one unit there is no order in which it could move. Objects that cannot be
// told apart, by their inodes or by the marks of renames, may not come to one another's names: which of them has moved could not be told.
func linksOf(e, other end, marks bool) []link {
	if e.unit == other.unit || !marks && (e.file == other.file || e.file == 0 || other.file == 0) {
		return []link{stuckLink(e)}
	}
	return []link{
		{unit: e.chained(), other: other.unit, waits: true, file: e.file},
		{unit: other.chained(), other: e.unit, file: e.file},
	}
}

func (e end) chained() chained {
	return chained{number: e.unit, rows: e.rows, bytes: e.bytes, folded: e.folded}
}

// numberKey sorts by the numbers of units.
func numberKey(number int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(number)) }

func (l link) key() []byte { return numberKey(l.unit.number) }

func (l link) encode() []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(l.other))
	b = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(b, l.file), uint32(l.unit.rows))
	return append(binary.BigEndian.AppendUint32(b, uint32(l.unit.bytes)), byte(l.unit.fate), bit(l.unit.folded), bit(l.waits))
}

func decodeLink(it extsort.Item) link {
	b := it.Value
	return link{
		unit: chained{
			number: int64(binary.BigEndian.Uint64(it.Key)), rows: int32(binary.BigEndian.Uint32(b[16:])), bytes: int32(binary.BigEndian.Uint32(b[20:])),
			fate: fate(b[24]), folded: b[25] == 1,
		},
		other: int64(binary.BigEndian.Uint64(b)), waits: b[26] == 1, file: binary.BigEndian.Uint64(b[8:]),
	}
}

// add adds a link. Those of a unit have to come one after the other, so that there is each unit once.
func (g *graph) add(l link) {
	if last := len(g.units) - 1; last >= 0 && g.units[last].number == l.unit.number {
		g.units[last].fate = max(g.units[last].fate, l.unit.fate)
		g.units[last].folded = g.units[last].folded || l.unit.folded
	} else {
		g.units = append(g.units, l.unit)
	}
	switch {
	case l.other <= l.unit.number: // there is none, or the link of the other one has added the edge
	case l.waits:
		g.edges = append(g.edges, edge{l.unit.number, l.other, l.file})
	default:
		g.edges = append(g.edges, edge{l.other, l.unit.number, l.file})
	}
}

// sweep solves the graph that links make without ever holding all of it. It goes over them in the order of units, and now and then,
// right before a unit, looks at what it holds. What nothing connects with that unit or one behind it is solved and forgotten: all links of its
// units were read, so nothing that is still to come has to do with it. So no more is held than what is connected across one place in that
// order, and a little, as long as that is no more than maxWaits edges.
//
// Where it is more, the sweep gives up what it holds. Units before that place are complete, all that they wait for is known. Those from there on may
// wait for more, so they stay, and with them all that wait for them; what else can move is settled. Then all is forgotten, and so are the
// links of all units up to the horizon: the greatest unit that is connected with what was forgotten, which goes further with each link that is.
// This lets nothing move that must not:
//   - What waits and is not settled stays, so nothing has to be known of what was forgotten.
//   - A unit before the place that is settled was held with all its links. What it waits for was held likewise, or is said to stay.
//   - Of a unit behind the horizon no link was forgotten, nor of one that it is connected with by a link: that one would have
//     taken the horizon to it.
type sweep struct {
	r       *resolver
	held    graph
	ready   int   // how many edges are held when they are looked at
	horizon int64 // -1 where nothing was given up
	solved  *extsort.Sorter
}

// solveAt is how many edges are held, where few are connected across one place, before what can be solved is.
const solveAt = 4096

// sweep reads links, by the numbers of units, and adds what becomes of units of chains to solved.
func (r *resolver) sweep(ctx context.Context, links, solved *extsort.Sorter) error {
	s := r.newSweep(solved)
	for it, err := range links.Sorted(ctx) {
		if err == nil {
			err = r.tick(ctx)
		}
		if err != nil {
			return err
		}
		if err := s.take(ctx, decodeLink(it)); err != nil {
			return err
		}
	}
	return s.settle(ctx, &s.held)
}

func (r *resolver) newSweep(solved *extsort.Sorter) *sweep {
	s := &sweep{r: r, held: graph{parks: r.parks(), marks: r.props.Marks}, horizon: -1, solved: solved}
	s.wait()
	return s
}

// wait sets when to look next: after so many more edges that looking takes no more time, but for a factor, than reading them, also where nothing can be
// solved.
func (s *sweep) wait() {
	s.ready = min(max(s.r.solveAt, 2*len(s.held.edges)), s.r.maxWaits+s.r.maxWaits/8+1)
}

// take takes the next link. After a look each unit that is held has an edge, so of those there are at most twice as many.
func (s *sweep) take(ctx context.Context, l link) error {
	if len(s.held.edges) >= s.ready || len(s.held.units) >= 2*s.ready {
		if err := s.look(ctx, l.unit.number); err != nil {
			return err
		}
	}
	if l.unit.number <= s.horizon {
		s.horizon = max(s.horizon, l.other)
		return nil
	}
	s.held.add(l)
	return nil
}

// look settles what is not connected with next or units behind it, and gives up the rest where it is too much. All links of units before
// next were read, and perhaps some of next.
func (s *sweep) look(ctx context.Context, next int64) error {
	done := s.held.split(next)
	if err := s.settle(ctx, &done); err != nil {
		return err
	}
	if len(s.held.edges) > s.r.maxWaits {
		s.horizon = s.held.giveUp(next)
		if err := s.settle(ctx, &s.held); err != nil {
			return err
		}
		s.held = s.held.empty()
	}
	s.wait()
	return nil
}

// empty is such a graph without units.
func (g *graph) empty() graph { return graph{parks: g.parks, marks: g.marks} }

// split takes out of a graph what is not connected with next or units behind it. Both parts have their units in order, as the graph has.
func (g *graph) split(next int64) (done graph) {
	open := g.open(next)
	done = g.empty()
	edges, units := g.edges[:0], g.units[:0]
	for _, e := range g.edges {
		if lesser, _ := e.ends(); open(g.place(lesser)) {
			edges = append(edges, e)
		} else {
			done.edges = append(done.edges, e)
		}
	}
	for i, u := range g.units {
		if open(int64(i)) {
			units = append(units, u)
		} else {
			done.units = append(done.units, u)
		}
	}
	g.edges, g.units = edges, units
	return done
}

// open tells of the places of units whether they are connected with next or units behind it. All units before next are there.
func (g *graph) open(next int64) func(place int64) bool {
	f, is := newForest(len(g.units)), make([]bool, len(g.units)) // is: by roots
	for _, e := range g.edges {
		if lesser, greater := e.ends(); greater < next {
			f.join(int32(g.place(lesser)), int32(g.place(greater)))
		}
	}
	for _, e := range g.edges {
		if lesser, greater := e.ends(); greater >= next {
			is[f.root(int32(g.place(lesser)))] = true
		}
	}
	for i, u := range g.units {
		if u.number >= next {
			is[f.root(int32(i))] = true
		}
	}
	return func(place int64) bool { return is[f.root(int32(place))] }
}

// giveUp lets next and all units behind it stay, with what waits for them, and forgets the edges to them. It returns the greatest unit that was
// known, at least next.
func (g *graph) giveUp(next int64) (horizon int64) {
	horizon = next
	edges := g.edges[:0]
	for _, e := range g.edges {
		lesser, greater := e.ends()
		switch {
		case greater < next:
			edges = append(edges, e)
		case e.other == greater:
			g.units[g.place(lesser)].fate = stays
		}
		horizon = max(horizon, greater)
	}
	g.edges = edges
	if last := len(g.units) - 1; g.units[last].number == next {
		g.units[last].fate = stays
	}
	return horizon
}

// settle solves a graph and adds what became of its units. Of those that stay nothing is to be said.
func (s *sweep) settle(ctx context.Context, g *graph) error {
	g.solve(s.r.exchanges())
	last := make([]int32, len(g.units)) // units of chains, by chain
	for i, u := range g.units {
		last[u.chain] = int32(i)
	}
	for i, u := range g.units {
		if err := s.r.tick(ctx); err != nil {
			return err
		}
		if u.fate == notInChain || u.fate == stays {
			continue
		}
		m := member{chain: g.units[u.chain].number, order: u.order, fate: u.fate, last: last[u.chain] == int32(i)}
		if err := s.solved.Add(ctx, numberKey(u.number), m.encode()); err != nil {
			return err
		}
	}
	return nil
}

// member is what became of a unit of a chain.
type member struct {
	chain int64 // the number of its first unit
	order int32 // a unit has a greater one than all that it waits for, and units of a circle follow one another
	fate  fate
	last  bool // there is none with a greater number in the chain
}

func (m member) encode() []byte {
	b := binary.BigEndian.AppendUint32(numberKey(m.chain), uint32(m.order))
	return append(b, byte(m.fate), bit(m.last))
}

func decodeMember(b []byte) member {
	return member{int64(binary.BigEndian.Uint64(b)), int32(binary.BigEndian.Uint32(b[8:])), fate(b[12]), b[13] == 1}
}

// chains are the units of a round that wait for others, or that others wait for, by their number in the order of ids. Units have
// to be asked for in that order. The zero chains has none.
type chains struct {
	solved  *extsort.Sorter
	at      *cursor
	leaders map[int64]archive.Key // of chains whose first unit was asked for, and whose last was not
}

func openChains(ctx context.Context, solved *extsort.Sorter) chains {
	return chains{solved: solved, at: newCursor(solved.Sorted(ctx)), leaders: map[int64]archive.Key{}}
}

// of is the unit of that number; its fate is notInChain where it is in none, or does not move since one that it waits for does not.
func (c *chains) of(number int64) (member, error) {
	if c.at == nil {
		return member{}, nil
	}
	key := numberKey(number)
	if c.at.to(key); !c.at.at(key) {
		return member{}, c.at.err
	}
	return decodeMember(c.at.item.Value), nil
}

// leader is the principal in whose place the chain comes in the plan, that of its first unit. It has to be asked for once for each unit that moves, of
// which principal is the one.
func (c *chains) leader(m member, principal archive.Key) archive.Key {
	first, ok := c.leaders[m.chain]
	if !ok {
		first = principal
		c.leaders[m.chain] = first
	}
	if m.last {
		delete(c.leaders, m.chain)
	}
	return first
}

// stop ends reading. It may be repeated.
func (c *chains) stop() {
	if c.at != nil {
		c.at.stop()
	}
}

// remove ends reading, and removes what is read.
func (c *chains) remove(ctx context.Context) error {
	if c.stop(); c.solved == nil {
		return nil
	}
	return c.solved.Remove(ctx)
}
