package renaming

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/store"
)

// shift brings the object of a step from one name to another, and with it the one that is there, if any, from there to here.
type shift struct {
	step, other *step
	from, to    archive.Key
}

// plan says what brings objects to the names that goal gives them: first those whose names are free, or come to be free so, then those that
// have to be exchanged. Objects that have to wait for others which cannot move stay where they are, and so does what is not as
// it was wanted. Each shift puts at least one object in its place.
func (c *circle) plan(goal func(*step) archive.Key) []shift {
	var out []shift
	place, holds, wants := map[*step]archive.Key{}, map[archive.Key]*step{}, map[archive.Key]*step{}
	for _, s := range c.steps {
		if at := c.place[s]; at != "" {
			place[s], holds[at], wants[goal(s)] = at, s, s
		}
	}
	for _, name := range c.names {
		if c.at[name].Taken {
			continue
		}
		for free := name; ; {
			s := wants[free]
			if s == nil || place[s] == free {
				break
			}
			from := place[s]
			out = append(out, shift{step: s, from: from, to: free})
			place[s], holds[free] = free, s
			delete(holds, from)
			free = from
		}
	}
	open := map[*step]bool{}
	for _, first := range c.steps {
		if place[first] == "" || place[first] == goal(first) || open[first] || !closed(first, goal, holds, open) {
			continue
		}
		pivot := place[first]
		for s := first; goal(s) != pivot; s = holds[pivot] {
			to := goal(s)
			other := holds[to]
			out = append(out, shift{s, other, pivot, to})
			place[s], holds[to] = to, s
			place[other], holds[pivot] = pivot, other
		}
	}
	return out
}

// closed reports whether the objects from the first on, each at the name that the one before goes to, come back to the first. Otherwise it
// adds them to open.
func closed(first *step, goal func(*step) archive.Key, holds map[archive.Key]*step, open map[*step]bool) bool {
	s := holds[goal(first)]
	for s != nil && s != first && !open[s] {
		s = holds[goal(s)]
	}
	if s == first {
		return true
	}
	for s := first; s != nil && !open[s]; s = holds[goal(s)] {
		open[s] = true
	}
	return false
}

// bring makes the shifts that bring objects to the names that goal gives them. It ends at the first that fails, and returns its step.
func (m *mover) bring(ctx context.Context, c *circle, goal func(*step) archive.Key) (*step, error) {
	if !m.exchanges {
		return nil, nil
	}
	for _, sh := range c.plan(goal) {
		m.hold.Advance(0, 0)
		if err := m.shift(ctx, c, sh); err != nil {
			return sh.step, err
		}
	}
	return nil, nil
}

// shift makes a shift under the claim, as store does a move.
func (m *mover) shift(ctx context.Context, c *circle, sh shift) error {
	var made error
	return m.claimed(func() error {
		made = m.make(ctx, c, sh)
		return made
	}, func() error {
		if passing(made) && !errors.Is(made, store.ErrRaced) { // not made
			return nil
		}
		return m.complyCircle(ctx, c, sh, made)
	})
}

func (m *mover) make(ctx context.Context, c *circle, sh shift) error {
	if sh.other != nil {
		return m.archive.Exchange(ctx, store.ExchangeRequest{A: sh.from, B: sh.to, WantA: sh.step.row.Want, WantB: sh.other.row.Want, Known: c.known})
	}
	req := m.request(sh.step.row)
	req.From, req.To = sh.from, sh.to
	return m.archive.Rename(ctx, req)
}

// known reports whether an object is one of the circle, as it was wanted.
func (c *circle) known(id archive.Identity) bool {
	s := c.byInode[id.Inode]
	return s != nil && id.Inode != 0 && s.row.Want.Same(id)
}

// complyCircle puts right what a shift did when the claim had lapsed: what is at its two names goes, where that is so, to the
// one that the part of the segment says. If nobody has settled the segment in time, whoever does looks at the world after this
// execution; but an exchange that came to something else is taken to have come after that.
func (m *mover) complyCircle(ctx context.Context, c *circle, sh shift, made error) error {
	where, err := m.settledCircle(ctx, c)
	if err != nil || where == nil && !errors.Is(made, store.ErrRaced) {
		return err
	}
	if where == nil {
		where = map[*step]archive.Key{sh.step: sh.to, sh.other: sh.from}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endWithin)
	defer cancel()
	for range circleTries {
		wrong, err := m.wrong(ctx, c, sh, where)
		if err == nil && wrong != nil {
			err = m.make(ctx, c, *wrong)
		}
		switch {
		case err == nil:
			return m.archive.Sync(ctx, []archive.Key{sh.from, sh.to})
		case !passing(err):
			return fmt.Errorf("the claim lapsed during a move, and %s could not be put where the records say: %w", sh.step.row.From.Text(), err)
		}
	}
	return fmt.Errorf("the claim lapsed during a move, and others renamed %s at the same time", sh.step.row.From.Text())
}

// wrong is the shift between the two names of another one after which more objects are where they belong; nil if there is none.
func (m *mover) wrong(ctx context.Context, c *circle, sh shift, where map[*step]archive.Key) (*shift, error) {
	there := map[archive.Key]*step{}
	taken := map[archive.Key]bool{}
	for _, name := range []archive.Key{sh.from, sh.to} {
		sight, err := store.Look(ctx, m.archive, name)
		if err != nil {
			return nil, err
		}
		if taken[name] = sight.Taken; c.known(sight.Object.Identity) {
			there[name] = c.byInode[sight.Object.Inode]
		}
	}
	a, b := there[sh.from], there[sh.to]
	switch {
	case a != nil && b != nil && count(where[a] == sh.to, where[b] == sh.from) > count(where[a] == sh.from, where[b] == sh.to):
		return &shift{a, b, sh.from, sh.to}, nil
	case a != nil && !taken[sh.to] && where[a] == sh.to:
		return &shift{step: a, from: sh.from, to: sh.to}, nil
	case b != nil && !taken[sh.from] && where[b] == sh.from:
		return &shift{step: b, from: sh.to, to: sh.from}, nil
	}
	return nil, nil
}

func count(which ...bool) (n int) {
	for _, is := range which {
		if is {
			n++
		}
	}
	return n
}

// settledCircle waits for the part of the segment, and returns where it says that the objects of a circle are; nil if there is no part in time.
func (m *mover) settledCircle(ctx context.Context, c *circle) (map[*step]archive.Key, error) {
	if _, ok, err := m.settled(ctx, c.steps[0].row.From); !ok || err != nil {
		return nil, err
	}
	steps, where := map[archive.Key]*step{}, map[*step]archive.Key{}
	for _, s := range c.steps {
		steps[s.row.From] = s
	}
	for r, err := range m.led.Part(context.WithoutCancel(ctx), m.ref) {
		if err != nil {
			return nil, err
		}
		if s := steps[r.Key]; s != nil && r.Reason != batch.ReasonMissing {
			where[s] = cmp.Or(r.To, r.Key)
		}
	}
	return where, nil
}
