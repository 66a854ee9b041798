package renaming

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/naming"
	"github.com/reshelf/reshelf/shared/store"
)

// Where a rename takes two steps, a copy or a second link and a deletion, a worker that was stopped between the two deletes a name late. So no name of a
// chain is given to another object while an earlier execution may still do that: executions of a segment with such chains wait for one
// another, and all objects go to names in between, which are never given again, before any goes to its new name. Each leg is a rename
// like any other. Where an object is, its marks tell, or on disks its inode number. See docs/decisions/chains.md.
//
// Where the archive folds names, an object goes the same way to a name that folds like its old one. There its identity tells where it is, and
// a listing how its name is spelled.

// How often an execution looks whether the others have ended, and for how long. Then another worker may have the segment, which may be
// able to tell that a process is gone.
const (
	aloneEvery = 2 * time.Second
	aloneFor   = 30 * time.Second
)

// alone returns nil when no other execution of the segment can move anything any more; later ones wait for this one. It is an error if
// that does not come about in time, or the batch is cancelled meanwhile.
func (m *mover) alone(ctx context.Context, seg Segment) error {
	tick, late := time.NewTicker(aloneEvery), time.NewTimer(aloneFor)
	defer tick.Stop()
	defer late.Stop()
	for {
		if err := m.hold.Held(); err != nil {
			return lapsedError{err}
		}
		other, err := m.other(ctx, seg)
		if other == nil || err != nil {
			return err
		}
		what := fmt.Sprintf("worker %s (process %d on %s), which may still be renaming objects of this segment; stop that process to go on",
			archive.EscapeText(other.Worker), other.PID, archive.EscapeText(other.Host))
		if m.hold.Cancelled() {
			return fmt.Errorf("cannot find out where the objects are before the end of %s", what)
		}
		seg.Note(what)
		m.hold.Advance(0, 0)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-late.C:
			return fmt.Errorf("waited %s for %s", aloneFor, what)
		case <-tick.C:
		}
	}
}

// other is the process of another execution that may still move something, nil if there is none. One that began later does not hold the
// claim beside this one, unless Redis was lost and its clock went back: then epochs tell nothing. Two that wait for one another do so only
// until one of them finds its claim lapsed.
func (m *mover) other(ctx context.Context, seg Segment) (*ledger.Process, error) {
	for e, err := range m.led.SegmentExecutions(ctx, seg.Execution.Ref) {
		if err != nil {
			return nil, err
		}
		if e.Epoch == seg.Execution.Epoch {
			continue
		}
		over, err := seg.Ended(ctx, e)
		if err != nil {
			return nil, err
		}
		if !over {
			return &e.Process, nil
		}
	}
	return nil, nil
}

// caravan is the objects of a chain, or those that move together where names are folded.
type caravan struct {
	all    []*traveller
	groups [][]*traveller // those that move together
	waits  map[string][]*traveller
	marks  map[string]bool // of objects of the chain that it has brought to their new names, or home
	files  map[uint64]bool // of all of them, on disks

	mu sync.Mutex
	// given are the names that objects of the chain go to, or have gone to, at the end of their way, each to one of them.
	given map[string]*traveller
}

// give reserves names for objects that move together, all of them or none.
func (c *caravan) give(group []*traveller, name func(*traveller) archive.Key) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range group {
		if other := c.given[naming.Fold(name(t))]; other != nil && other != t {
			return false
		}
	}
	for _, t := range group {
		c.given[naming.Fold(name(t))] = t
	}
	return true
}

func newName(t *traveller) archive.Key { return t.row.To }
func oldName(t *traveller) archive.Key { return t.row.From }

func newCaravan(steps []*step, links bool) *caravan {
	c := &caravan{waits: map[string][]*traveller{}, marks: map[string]bool{}, files: map[uint64]bool{}, given: map[string]*traveller{}}
	for i, s := range steps {
		t := &traveller{step: s, links: links}
		c.all = append(c.all, t)
		if i == 0 || !s.row.Together(steps[i-1].row) {
			c.groups = append(c.groups, nil)
		}
		last := &c.groups[len(c.groups)-1]
		*last = append(*last, t)
		to := naming.Fold(s.row.To)
		c.waits[to] = append(c.waits[to], t)
		c.marks[s.row.OpID], c.marks[s.row.HomeID()], c.files[s.row.Want.File()] = true, true, true
		if s.row.Undoes != nil {
			c.marks[s.row.Undoes.OpID] = true
		}
	}
	return c
}

// byWayOf carries out a chain by way of names in between. Whatever an earlier execution did, it looks where the objects are and goes
// on from there. Objects that cannot go on, and those that wait for their names or belong to them, go home.
func (m *mover) byWayOf(ctx context.Context, rows []batch.Row, records []batch.Record) error {
	c := newCaravan(m.begin(rows, records), !m.archive.Properties().Marks)
	if m.repeated && !m.tells(c) {
		return errors.New("an earlier execution may have brought objects of a chain to names in between, and here inode numbers, which alone tell where each is, " +
			"may change; let a worker go on that sees the archive as the first one did")
	}
	if err := each(ctx, m, c.all, func(t *traveller) error { return m.find(ctx, c, t) }); err != nil {
		return err
	}
	if m.hold.Cancelled() {
		if err := m.spell(ctx, c.all...); err != nil {
			return err
		}
	}
	m.halt(c)
	c.settle()
	if err := each(ctx, m, c.all, func(t *traveller) error { return m.setOut(ctx, c, t) }); err != nil {
		return err
	}
	m.halt(c)
	c.settle()
	if err := each(ctx, m, c.all, func(t *traveller) error { return m.reconnoitre(ctx, c, t) }); err != nil {
		return err
	}
	c.settle()
	for _, t := range c.all {
		if t.at == arrived {
			c.give([]*traveller{t}, newName)
		}
	}
	m.hold.Advance(int64(len(rows)-len(c.all)), 0) // those that do not move
	return each(ctx, m, c.groups, func(group []*traveller) error {
		if err := m.arrive(ctx, c, group); err != nil {
			return err
		}
		for _, t := range group {
			m.touched.add(t.row.To, t.row.From)
			t.report()
			m.hold.Advance(1, m.bytes(*t.record))
		}
		return nil
	})
}

// each does something for all, as much at once as there is room for.
func each[T any](ctx context.Context, m *mover, all []T, do func(T) error) error {
	return m.atOnce(ctx, func(begin func(func() error)) {
		for _, one := range all {
			begin(func() error { return m.inRoom(ctx, func() error { return do(one) }) })
		}
	})
}

// find looks where an object is.
func (m *mover) find(ctx context.Context, c *caravan, t *traveller) error {
	m.hold.Advance(0, 0)
	to, err := store.Look(ctx, m.archive, t.row.To)
	if err != nil {
		return err
	}
	var between store.Sight
	if t.row.Park != "" {
		if between, err = store.Look(ctx, m.archive, t.row.Park); err != nil {
			return err
		}
	}
	from, err := store.Look(ctx, m.archive, t.row.From)
	if err != nil {
		return err
	}
	switch p := m.archive.Properties(); {
	case p.Marks:
		t.locate(c, from, between, to)
	case t.row.Chain == 0:
		t.find(from, between, to, !p.GuardedRename && !t.single)
	case m.tells(c):
		t.findInChain(c, from, between, to, !p.GuardedRename && !t.single)
	default:
		t.findAtHome(from)
	}
	switch tried := t.tried || m.repeated; {
	case !tried:
		t.unsure = false
	case t.unsure && t.both():
		return m.spell(ctx, t)
	}
	if t.at == lost && t.why.code == batch.ReasonMissing {
		return m.reachable(ctx)
	}
	return nil
}

// astray reports whether an object has no name in between: the plan is of a time when the archive was another.
func (c *caravan) astray() bool {
	return slices.ContainsFunc(c.all, func(t *traveller) bool { return t.row.Park == "" })
}

// tells reports whether the archive tells where objects are: those of a chain, or those whose names it folds.
func (m *mover) tells(c *caravan) bool {
	p := m.archive.Properties()
	if len(c.all) > 0 && c.all[0].row.Chain != 0 {
		return p.Parks || p.Marks
	}
	return !p.Marks
}

// parks reports whether names in between are of use in the archive.
func (m *mover) parks(c *caravan) bool {
	p := m.archive.Properties()
	return m.tells(c) && (c.all[0].row.Chain == 0 || p.Parks && (p.GuardedRename || m.singleWriter))
}

// halt lets nothing more set out where the batch is cancelled, or names in between are of no use here any more. Once an object has
// arrived, all others go on.
func (m *mover) halt(c *caravan) {
	var why *reason
	switch {
	case m.hold.Cancelled():
		r := cancelled("renamed")
		why = &r
	case !m.parks(c) || m.copies() || c.astray():
		why = &reason{batch.Failed, batch.ReasonUnsupported, "objects cannot get the names that others leave in this archive any more; plan the rename again"}
	default:
		return
	}
	for _, t := range c.all {
		if t.at == arrived {
			return
		}
	}
	for _, t := range c.all {
		if t.why == nil {
			t.why = why
		}
	}
}

// settle finds those that cannot go on since others do not: those that wait for their names, or belong to them.
func (c *caravan) settle() {
	group := map[*traveller][]*traveller{}
	var queue []*traveller
	for _, g := range c.groups {
		for _, t := range g {
			group[t] = g
			if t.why != nil {
				queue = append(queue, t)
			}
		}
	}
	for len(queue) > 0 {
		t := queue[0]
		queue = queue[1:]
		for _, other := range group[t] {
			if other.why == nil {
				other.why = &reason{batch.Skipped, batch.ReasonGroup, fmt.Sprintf("it moves only together with %s, which could not move: %s", t.row.From.Text(), t.why.message)}
				queue = append(queue, other)
			}
		}
		if t.at == lost && t.gone {
			continue // its name is free
		}
		for _, other := range c.waits[naming.Fold(t.row.From)] {
			if other.why == nil && other.at != arrived {
				other.why = &reason{batch.Failed, batch.ReasonConflict, fmt.Sprintf("%s has not left the name %s: %s", t.row.From.Text(), other.row.To.Text(), t.why.message)}
				queue = append(queue, other)
			}
		}
	}
}

// setOut brings an object from its old name to the name in between, or ends what was begun of that.
func (m *mover) setOut(ctx context.Context, c *caravan, t *traveller) error {
	begun := t.at == parked && t.both()
	switch {
	case t.why != nil, t.at != home && !begun:
		return nil
	case m.hold.Cancelled() && !begun:
		why := cancelled("renamed")
		t.why = &why
		return nil
	}
	return m.leg(ctx, c, t, parked, t.outward())
}

// reconnoitre looks whether the new name of an object is free.
func (m *mover) reconnoitre(ctx context.Context, c *caravan, t *traveller) error {
	if t.at != parked || t.why != nil {
		return nil
	}
	to, err := store.Look(ctx, m.archive, t.row.To)
	if err == nil && to.Taken && !(t.row.Undoes != nil && to.Is(t.row.Undoes.Was) && !c.marks[to.Object.Mark]) {
		t.why = t.conflict(t.row.To)
	}
	return err
}

// arrive brings objects that move together to their new names. Where one of them cannot go there, all of them go home.
func (m *mover) arrive(ctx context.Context, c *caravan, group []*traveller) error {
	first := group[0]
	if first.why == nil && !c.give(group, newName) { // another one has gone home to one of the names
		first.why = first.conflict(first.row.To)
	}
	for _, t := range group {
		if t.why == nil && (t.at == parked || t.both()) {
			err := m.leg(ctx, c, t, arrived, store.RenameRequest{From: t.row.Park, To: t.row.To, Want: t.source(), OpID: t.row.OpID, Undoes: t.undoes()})
			if err != nil {
				return err
			}
		}
		if t.why != nil && (t.at != arrived || !t.both()) {
			return m.withdraw(ctx, c, group, *t.why)
		}
	}
	return nil
}

// withdraw brings a group home, or as far as it can: those that arrived go back to the names in between, and then all to their
// old names, if all of these are free.
func (m *mover) withdraw(ctx context.Context, c *caravan, group []*traveller, why reason) error {
	if err := m.spell(ctx, group...); err != nil {
		return err
	}
	for _, t := range group {
		if t.why == nil {
			t.why = &reason{batch.Skipped, batch.ReasonGroup, "it moves only together with others, of which one could not move: " + why.message}
		}
		if t.at == arrived {
			if err := m.legBack(ctx, c, t, parked, t.retreat()); err != nil {
				return err
			}
		}
	}
	taken, err := m.homeTaken(ctx, group)
	if err != nil {
		return err
	}
	if !taken && c.give(group, oldName) {
		for _, t := range group {
			if t.at == parked {
				if err := m.legBack(ctx, c, t, home, t.homeward()); err != nil {
					return err
				}
			}
		}
	}
	return m.gather(ctx, c, group)
}

// gather brings those of a group that are at home to their names in between where others could not leave theirs.
func (m *mover) gather(ctx context.Context, c *caravan, group []*traveller) error {
	if !slices.ContainsFunc(group, func(t *traveller) bool { return t.at == parked && !t.both() }) {
		return nil
	}
	for _, t := range group {
		if t.at == home || t.both() && t.at == parked {
			if err := m.legBack(ctx, c, t, parked, t.outward()); err != nil {
				return err
			}
		}
	}
	return nil
}

// homeTaken reports whether something else has the old name of one of a group that is not there.
func (m *mover) homeTaken(ctx context.Context, group []*traveller) (bool, error) {
	for _, t := range group {
		if t.at != parked || t.both() {
			continue
		}
		if from, err := store.Look(ctx, m.archive, t.row.From); err != nil || from.Taken {
			return true, err
		}
	}
	return false, nil
}

// legBack is leg on the way home; the reason for it is the one that is recorded.
func (m *mover) legBack(ctx context.Context, c *caravan, t *traveller, to stop, req store.RenameRequest) error {
	why := t.why
	if err := m.leg(ctx, c, t, to, req); err != nil {
		return err
	}
	if t.at != lost {
		t.why = why
	}
	return nil
}

// leg carries out a part of the way, and finds out where the object is then. That it is not there, or not only there, gets a reason.
func (m *mover) leg(ctx context.Context, c *caravan, t *traveller, to stop, req store.RenameRequest) error {
	m.hold.Advance(0, 0)
	t.tried = true
	req.Again, req.AssumeSingleWriter, req.SameFile = m.again, m.singleWriter, t.row.Want.Inode != 0 || t.links && t.row.Chain != 0
	// Whoever follows waits until this execution has ended, and then looks where the object is.
	moveErr := m.claimed(func() error { return m.archive.Rename(ctx, req) }, func() error { return nil })
	if err := m.ends(ctx, moveErr); err != nil {
		return err
	}
	if moveErr == nil {
		there, err := store.Look(ctx, m.archive, req.To)
		if err != nil {
			return err
		}
		if m.made(req, there) {
			t.at, t.now, t.left, t.copied, t.unsure = to, there.Object.Identity, archive.Identity{}, "", false
			return nil
		}
	}
	t.single = t.single || errors.Is(moveErr, store.ErrExist)
	if err := m.find(ctx, c, t); err != nil {
		return err
	}
	if err := m.spell(ctx, t); err != nil {
		return err
	}
	if t.at != lost && (t.at != to || t.both()) {
		t.why = t.because(m, req.To, moveErr)
	}
	return nil
}

// made reports whether what is seen at the target of a request that was carried out is what it brought there, and nothing that somebody
// has put there since.
func (m *mover) made(req store.RenameRequest, there store.Sight) bool {
	if !m.archive.Properties().Marks {
		return there.Is(req.Want)
	}
	if there.Taken && there.Object.Mark == req.OpID {
		return true
	}
	return req.Undoes != nil && there.Object.Mark != req.Undoes.OpID && there.Is(req.Undoes.Was)
}
