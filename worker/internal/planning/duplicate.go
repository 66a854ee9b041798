package planning

import (
	"context"
	"fmt"
	"slices"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/extsort"
)

// Under policy same-content, an object whose name another one has or gets is a duplicate if both have the same content: then it is
// recorded as one and stays where it is. Contents are compared by a digest that nobody can forge, and by size.

// noteContent keeps what is needed to compare an object's content with others'.
func (p *planner) noteContent(ctx context.Context, r batch.Record) error {
	if p.contents == nil || r.Outcome != batch.Done {
		return nil
	}
	proof, ok := p.batch.Digests.Proof()
	for _, d := range r.Digests {
		if ok && d.Algorithm() == proof {
			return p.contents.Add(ctx, []byte(r.Key), fmt.Appendf(nil, "%d %s", r.Size, d))
		}
	}
	return nil
}

// pair is a row, and the object that has or gets the name that it wants.
type pair struct {
	ID    string      `json:"id"` // of the row's unit
	Row   int         `json:"i"`
	From  archive.Key `json:"f"`
	Other archive.Key `json:"o"`
	// Content is that of Other.
	Content string `json:"c,omitempty"`
}

// duplicates returns what settles a unit, if it is one, as a duplicate. Units have to be asked for in the order of their ids.
func (r *resolver) duplicates(ctx context.Context, pairs *extsort.Sorter) (is func(*unit) (bool, error), stop func(), err error) {
	if pairs == nil {
		return func(*unit) (bool, error) { return false, nil }, func() {}, nil
	}
	twins, err := r.twins(ctx, pairs)
	if err != nil {
		return nil, nil, err
	}
	c := newCursor(twins.Sorted(ctx))
	return func(u *unit) (bool, error) {
		t, err := take[pair](c, []byte(u.id()))
		return err == nil && t != nil && u.duplicate(t), err
	}, c.stop, nil
}

// twins finds the rows whose contents are those of the objects that have or get their names. They are sorted by unit.
func (r *resolver) twins(ctx context.Context, pairs *extsort.Sorter) (*extsort.Sorter, error) {
	half, twins := r.sorter("pairs"), r.sorter("twins")
	err := r.joinContents(ctx, pairs, func(p pair, content string) error {
		p.Content = content
		return addJSON(ctx, half, []byte(p.From), p)
	})
	if err != nil {
		return nil, err
	}
	err = r.joinContents(ctx, half, func(p pair, content string) error {
		if content != p.Content {
			return nil
		}
		return addJSON(ctx, twins, []byte(p.ID), p)
	})
	if err != nil {
		return nil, err
	}
	if err := pairs.Remove(ctx); err != nil {
		return nil, err
	}
	return twins, half.Remove(ctx)
}

// joinContents calls yield for the pairs, which are sorted by a key, whose content is known.
func (r *resolver) joinContents(ctx context.Context, pairs *extsort.Sorter, yield func(p pair, content string) error) error {
	known := newCursor(r.contents.Sorted(ctx))
	defer known.stop()
	for it, err := range pairs.Sorted(ctx) {
		if err == nil {
			err = r.tick(ctx)
		}
		if err != nil {
			return err
		}
		known.to(it.Key)
		if known.err != nil {
			return known.err
		}
		if !known.at(it.Key) {
			continue
		}
		p, err := decode[pair](it.Value)
		if err == nil {
			err = yield(p, string(known.item.Value))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// duplicate settles a unit all of whose objects are duplicates of those that have or get their names.
func (u *unit) duplicate(twins []pair) bool {
	others := map[int]archive.Key{}
	for _, p := range twins {
		others[p.Row] = p.Other
	}
	for i, r := range u.Rows {
		if _, ok := others[i]; !ok && r.Moves() {
			return false
		}
	}
	for i := range u.Rows {
		if u.Rows[i].Moves() {
			settle(&u.Rows[i], batch.Skipped, batch.ReasonDuplicate,
				fmt.Sprintf("%s, with the same content, has the name %s or gets it; this one stays where it is", others[i].Text(), u.Rows[i].To.Text()))
		}
	}
	return true
}

// isPair reports whether a verdict is about an object whose content may be the same.
func (v verdict) isPair() bool {
	return v.Other != "" && slices.Contains([]batch.Reason{batch.ReasonExists, batch.ReasonSameTarget}, v.Reason)
}
