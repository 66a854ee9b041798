package renaming

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/store"
)

// circle is rows some of whose objects get one another's names, and those that move only together with them. Its objects are known
// by their inodes and identities, at whichever of its names they are. Nothing of it is kept anywhere: what was done, and what is left
// to do, is told by the names alone.
type circle struct {
	steps   []*step
	names   []archive.Key // old and new ones, each once
	byInode map[uint64]*step
	// at is what was seen at the names, and holds which object of the circle, as it was wanted, is at one.
	at    map[archive.Key]store.Sight
	holds map[archive.Key]*step
	// place is the name at which the object of a step is; changed is the one at which it is, but has changed.
	place, changed map[*step]archive.Key
	// own are the reasons that steps have by themselves to stay.
	own map[*step]reason
}

func newCircle(steps []*step) *circle {
	c := &circle{steps: steps, byInode: map[uint64]*step{}, own: map[*step]reason{}}
	seen := map[archive.Key]bool{}
	for _, s := range steps {
		c.byInode[s.row.Want.Inode] = s
		for _, name := range []archive.Key{s.row.From, s.row.To} {
			if !seen[name] {
				seen[name] = true
				c.names = append(c.names, name)
			}
		}
	}
	return c
}

// distinct reports whether the objects can be told apart.
func (c *circle) distinct() bool { return len(c.byInode) == len(c.steps) && c.byInode[0] == nil }

// foreign reports whether something is at a name that is none of the circle's objects, not even a changed one.
func (c *circle) foreign(name archive.Key) bool {
	return c.at[name].Taken && c.holds[name] == nil && c.byInode[c.at[name].Object.Inode] == nil
}

// Directions in which a circle is carried out.
func forward(s *step) archive.Key  { return s.row.To }
func backward(s *step) archive.Key { return s.row.From }

// circleTries is how often a circle is looked at again whose names changed while it was carried out.
const circleTries = 8

// circle carries out rows of a circle, all or none, unless something in their chain blocks them.
func (m *mover) circle(ctx context.Context, rows []batch.Row, records []batch.Record, blocked *reason) error {
	steps := m.begin(rows, records)
	if len(steps) == 0 {
		return nil
	}
	c := newCircle(steps)
	why := m.whyNot(blocked)
	if !c.distinct() { // it was never begun
		why = cmp.Or(why, &reason{batch.Failed, batch.ReasonUnsupported, "two names of its circle lead to one file, or it cannot be told; give one of them another name first"})
		for _, s := range steps {
			s.stays(why.outcome, why.code, why.message)
		}
		return nil
	}
	for try := 0; ; try++ {
		if err := m.steady(ctx, c); err != nil {
			return err
		}
		if c.complete() {
			m.completed(c)
			return nil
		}
		if why == nil {
			why = c.problem(try)
		}
		if why != nil {
			return m.putBack(ctx, c, *why)
		}
		culprit, err := m.bring(ctx, c, forward)
		if err := m.ends(ctx, err); err != nil {
			return err
		}
		if err != nil && !passing(err) {
			c.own[culprit] = m.because(err)
		}
	}
}

// whyNot is why nothing of a circle is to be moved, except back.
func (m *mover) whyNot(blocked *reason) *reason {
	switch {
	case m.hold.Cancelled():
		why := cancelled("renamed")
		return &why
	case blocked != nil:
		return blocked
	case !m.exchanges:
		return &reason{batch.Failed, batch.ReasonUnsupported, "objects can exchange their names only where one step does it; give one of them another name first"}
	}
	return nil
}

// survey looks at all names of a circle.
func (m *mover) survey(ctx context.Context, c *circle) error {
	c.at, c.holds = map[archive.Key]store.Sight{}, map[archive.Key]*step{}
	c.place, c.changed = map[*step]archive.Key{}, map[*step]archive.Key{}
	for _, name := range c.names {
		m.hold.Advance(0, 0)
		sight, err := store.Look(ctx, m.archive, name)
		if err != nil {
			return err
		}
		c.at[name] = sight
		s := c.byInode[sight.Object.Inode]
		switch {
		case s == nil || sight.Object.Inode == 0:
		case !sight.Is(s.row.Want):
			c.changed[s] = name
		case c.place[s] == "" || name == s.row.From: // of a file with several names one is the object
			delete(c.holds, c.place[s])
			c.place[s], c.holds[name] = name, s
		}
	}
	return nil
}

// steady looks at all names of a circle, and again until it sees twice the same where an object is at none of them: another execution
// may have renamed it while it was looked for.
func (m *mover) steady(ctx context.Context, c *circle) error {
	var before map[archive.Key]store.Sight
	for range circleTries {
		if err := m.survey(ctx, c); err != nil {
			return err
		}
		if len(c.place) == len(c.steps) {
			return nil
		}
		if maps.Equal(before, c.at) {
			break
		}
		before = c.at
	}
	return m.reachable(ctx)
}

// complete reports whether all objects are at their new names, changed there or not.
func (c *circle) complete() bool {
	return !slices.ContainsFunc(c.steps, func(s *step) bool {
		return c.place[s] != s.row.To && c.changed[s] != s.row.To
	})
}

// completed records a circle all of whose objects are at their new names.
func (m *mover) completed(c *circle) {
	for _, s := range c.steps {
		m.touched.add(s.row.To, s.row.From)
		s.done(archive.Identity{})
		if c.place[s] == "" {
			s.hasChanged(s.row.To, c.at[s.row.To].Object.Identity)
		}
	}
}

// hasChanged records an object that is at a name, and has changed.
func (s *step) hasChanged(at archive.Key, now archive.Identity) {
	if at == s.row.From {
		s.staysFor(store.Changed)
		return
	}
	s.done(now)
	s.record.To = at
	s.record.Outcome, s.record.Reason, s.record.Message = batch.Failed, batch.ReasonChanged, "it was renamed, and has changed since the plan was made"
}

// problem is why the circle, as it was seen, cannot be completed; nil if it can. The steps that it is about have reasons of their own.
func (c *circle) problem(try int) *reason {
	for _, s := range c.steps {
		if why := c.stays(s); why != nil {
			c.own[s] = *why
		}
	}
	if try == circleTries && len(c.own) == 0 {
		c.own[c.steps[0]] = reason{batch.Failed, batch.ReasonIO, "others renamed it again and again while it was renamed; plan the rename again"}
	}
	for _, s := range c.steps {
		if why, ok := c.own[s]; ok {
			return &reason{batch.Failed, batch.ReasonConflict, fmt.Sprintf(
				"it is in a circle of objects that get one another's names, and %s could not be renamed: %s", s.row.From.Text(), why.message)}
		}
	}
	return nil
}

// stays is why the object of a step cannot go to its new name.
func (c *circle) stays(s *step) *reason {
	told := &step{row: s.row, record: &batch.Record{}}
	switch {
	case c.place[s] == "":
		c.lost(s, told)
	case c.place[s] != s.row.To && c.foreign(s.row.To):
		told.staysFor(store.Conflict)
	default:
		return nil
	}
	return &reason{told.record.Outcome, told.record.Reason, told.record.Message}
}

// lost tells in the record of a step that the object of s, as it was wanted, is at none of the names.
func (c *circle) lost(s, told *step) {
	switch at := c.changed[s]; {
	case at != "":
		told.hasChanged(at, c.at[at].Object.Identity)
	case c.foreign(s.row.From):
		told.staysFor(store.Changed)
	default:
		told.staysFor(store.Missing)
	}
}

// putBack brings the objects of a circle back to their old names, as far as these are free or have objects of the circle, and
// records where each is in the end.
func (m *mover) putBack(ctx context.Context, c *circle, why reason) error {
	var failed error
	for range circleTries {
		_, err := m.bring(ctx, c, backward)
		if err := m.ends(ctx, err); err != nil {
			return err
		}
		failed = cmp.Or(err, failed)
		before := c.place
		if err := m.steady(ctx, c); err != nil {
			return err
		}
		if c.complete() { // by another execution
			m.completed(c)
			return nil
		}
		if len(c.plan(backward)) == 0 || failed != nil && maps.Equal(before, c.place) && !passing(failed) {
			break
		}
	}
	for _, s := range c.steps {
		m.touched.add(s.row.From, s.row.To)
		c.record(s, why, failed)
	}
	return nil
}

// record records where the object of a step is, in a circle that was not carried out.
func (c *circle) record(s *step, why reason, failed error) {
	if own, ok := c.own[s]; ok {
		why = own
	}
	switch at := c.place[s]; at {
	case "":
		c.lost(s, s)
	case s.row.From:
		s.stays(why.outcome, why.code, why.message)
	default:
		s.done(archive.Identity{})
		s.record.To, s.record.Outcome, s.record.Reason = at, batch.Failed, batch.ReasonConflict
		s.record.Message = fmt.Sprintf("%s; it was at the name %s by then and could not be brought back", why.message, at.Text())
		if failed != nil {
			s.record.Message += ": " + failed.Error()
		}
	}
}

// passing reports whether an error of a move says only that the world is not what it was when it was looked at.
func passing(err error) bool {
	for _, sentinel := range []error{store.ErrExist, store.ErrNotExist, store.ErrChanged, store.ErrRaced, store.ErrNotRegular} {
		if errors.Is(err, sentinel) {
			return true
		}
	}
	return false
}

// ends returns an error of a move that is not about an object, else nil.
func (m *mover) ends(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if _, lapsed := errors.AsType[lapsedError](err); lapsed || ctx.Err() != nil || errors.Is(err, store.ErrUnavailable) {
		return err
	}
	return nil
}

// because makes a reason of an error of a move.
func (m *mover) because(err error) reason {
	switch {
	case errors.Is(err, store.ErrUnsupported):
		return reason{batch.Failed, batch.ReasonUnsupported, remedy(err, m.archive.Properties().Remedy)}
	case errors.Is(err, store.ErrNoSpace):
		return reason{batch.Failed, batch.ReasonNoSpace, err.Error() + "; free some and plan the rename again"}
	case errors.Is(err, store.ErrPermission):
		return reason{batch.Failed, batch.ReasonIO, err.Error() + "; give the worker the right to write to both folders and plan the rename again"}
	}
	return reason{batch.Failed, batch.ReasonIO, err.Error()}
}
