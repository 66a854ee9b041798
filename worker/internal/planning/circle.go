package planning

import "slices"

// circles are the units of a graph that wait for themselves, by others, and can move all the same: by its place each unit has the
// circle that it is in.
type circles struct {
	number  []int32 // of the circle, from 1; 0 for units in none
	members [][]int64
	alone   *[1]int64 // see of
}

// of is the circle of a unit, or the unit alone. It is valid until the next call.
func (c circles) of(place int64) []int64 {
	if n := c.number[place]; n > 0 {
		return c.members[n-1]
	}
	c.alone[0] = place
	return c.alone[:]
}

// first reports whether a unit is the first of its circle, or in none.
func (c circles) first(place int64) bool { return c.of(place)[0] == place }

// same reports whether two units are in one circle.
func (c circles) same(a, b int64) bool { return c.number[a] > 0 && c.number[a] == c.number[b] }

// circles finds the circles that can move: the strongly connected components of more than one unit (R. E. Tarjan, SIAM J. Comput. 1, 1972)
// none of whose units stays. It settles the units of those that cannot.
func (g *graph) circles(waiters func(int64) []edge, exchange bool) circles {
	c := circles{number: make([]int32, len(g.units)), alone: new([1]int64)}
	g.components(waiters, func(members []int64) {
		if len(members) == 1 || g.units[members[0]].fate == stays {
			return
		}
		c.members = append(c.members, slices.Clone(members))
		for _, m := range members {
			c.number[m] = int32(len(c.members))
		}
	})
	for _, members := range c.members {
		why := notInChain
		switch {
		case g.marks && g.parks:
		case !exchange && !g.parks:
			why = inCircle
		case !g.parks && g.folded(members):
			why = foldedCircle
		case g.linked(members, waiters, c):
			why = linkedCircle
		}
		for _, m := range members {
			g.units[m].fate = max(g.units[m].fate, why)
		}
	}
	return c
}

func (g *graph) folded(members []int64) bool {
	for _, m := range members {
		if g.units[m].folded {
			return true
		}
	}
	return false
}

// linked reports whether two objects of a circle are one file.
func (g *graph) linked(members []int64, waiters func(int64) []edge, c circles) bool {
	seen := map[uint64]bool{}
	for _, m := range members {
		for _, e := range waiters(m) {
			if !c.same(e.unit, m) {
				continue
			}
			if seen[e.file] {
				return true
			}
			seen[e.file] = true
		}
	}
	return false
}

// components calls yield for each strongly connected component of the graph. The members are valid during the call.
func (g *graph) components(waiters func(int64) []edge, yield func(members []int64)) {
	t := tarjan{waiters: waiters, index: make([]int32, len(g.units)), low: make([]int32, len(g.units)), yield: yield}
	for i := range g.units {
		if t.index[i] == 0 {
			t.visit(int64(i))
		}
	}
}

// tarjan is a search in depth, without recursion since a chain is as deep as it is long.
type tarjan struct {
	waiters func(int64) []edge
	// index counts units in the order in which they are found, from 1; low is the least index of an open unit that one is known to
	// reach, and 0 of a unit whose component was found.
	index, low []int32
	found      int32
	open       []int64
	path       []visit
	yield      func(members []int64)
}

// visit is a unit on the path that is searched, and how many of its edges were followed.
type visit struct {
	unit int64
	next int
}

func (t *tarjan) visit(first int64) {
	t.enter(first)
	for len(t.path) > 0 {
		at := &t.path[len(t.path)-1]
		edges := t.waiters(at.unit)
		if at.next == len(edges) {
			t.leave(at.unit)
			continue
		}
		other := edges[at.next].unit
		at.next++
		switch {
		case t.index[other] == 0:
			t.enter(other)
		case t.low[other] != 0:
			t.low[at.unit] = min(t.low[at.unit], t.index[other])
		}
	}
}

func (t *tarjan) enter(unit int64) {
	t.found++
	t.index[unit], t.low[unit] = t.found, t.found
	t.open = append(t.open, unit)
	t.path = append(t.path, visit{unit: unit})
}

func (t *tarjan) leave(unit int64) {
	t.path = t.path[:len(t.path)-1]
	low := t.low[unit]
	if low == t.index[unit] {
		begin := len(t.open) - 1
		for t.open[begin] != unit {
			begin--
		}
		members := t.open[begin:]
		for _, m := range members {
			t.low[m] = 0
		}
		t.yield(members)
		t.open = t.open[:begin]
	}
	if len(t.path) > 0 && low != t.index[unit] {
		above := t.path[len(t.path)-1].unit
		t.low[above] = min(t.low[above], low)
	}
}
