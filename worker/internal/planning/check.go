package planning

import (
	"context"
	"fmt"
	"iter"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/extsort"
	"github.com/reshelf/reshelf/shared/store"
)

// want keeps a unit that wants to move, and the names that it wants.
func (p *planner) want(ctx context.Context, units, wishes *extsort.Sorter, u *unit) error {
	id := u.id()
	if err := addJSON(ctx, units, []byte(id), u); err != nil {
		return err
	}
	for i, r := range u.Rows {
		if !r.Moves() {
			continue
		}
		if err := addJSON(ctx, wishes, pathOf(r.To).item(markWish, id), wish{Row: i, From: r.From, Moved: r.From.Dir() != r.To.Dir()}); err != nil {
			return err
		}
	}
	return nil
}

// wish is the value beside a name that a row wants.
type wish struct {
	Row  int         `json:"i"` // its number in the unit
	From archive.Key `json:"f"`
	// Moved: the name is in another folder, by its exact name.
	Moved bool `json:"m,omitempty"`
}

// verdict says why a wish was not granted.
type verdict struct {
	Row     int          `json:"i"`
	Reason  batch.Reason `json:"r"`
	Message string       `json:"m"`
	// Final: no number would help.
	Final bool `json:"f,omitempty"`
	// Other has the name or gets it. It is not kept with the verdict.
	Other archive.Key `json:"-"`
	// Awaits makes it a condition: the wish is granted if the object of that key moves away.
	Awaits archive.Key `json:"k,omitempty"`
}

// present is the value beside a name that the archive has.
type present struct {
	Key  archive.Key `json:"k"`
	Kind store.Kind  `json:"t,omitempty"`
}

// list sorts everything that the archive has by path.
func (p *planner) list(ctx context.Context) (*extsort.Sorter, error) {
	there := p.sorter("present")
	n := 0
	for e, err := range p.archive.List(ctx, store.ListOptions{}) {
		if err == nil {
			err = p.tick(ctx)
		}
		if err != nil {
			return nil, err
		}
		if err := addJSON(ctx, there, pathOf(e.Key).item(markPresent, ""), present{Key: e.Key, Kind: e.Kind}); err != nil {
			return nil, err
		}
		n++
	}
	if n == 0 {
		return nil, fmt.Errorf("the archive lists no objects, but %d were to be renamed: %w", p.moving, store.ErrUnavailable)
	}
	return there, nil
}

// checker goes over everything that stands at a path, or would like to, in order, and refuses wishes. It holds one path
// and the folders above it.
type checker struct {
	// refuse takes the verdict about a wish of unit id, or a condition; wishes that it is not called for are granted.
	refuse func(id string, w wish, v verdict) error
	// all: of several that want one name none gets it (policies stop and skip); otherwise the first by id.
	all bool
	// foldsCase: the archive does not tell names that fold equal; refolds: all the same an object can get such a name, in its folder.
	foldsCase, refolds bool
	// chain: a name that an object has may be wanted on condition that it moves away.
	chain bool
	// copies: objects keep their names.
	copies bool

	at    path
	above []standing
	here  standing
	// first is the wish at this path that was not refused yet.
	first     *wish
	firstID   string
	contested *wish // another one at this path, where the first is to be refused too
}

// standing is what makes a path unusable for others.
type standing struct {
	at path
	// present is one of what the archive has there, and presents their number.
	present  present
	presents int
	// settled: the name of a row that moves.
	settled bool
	// wished is a row that wants the name.
	wished archive.Key
}

func (c *checker) run(ctx context.Context, tick func(context.Context) error, items iter.Seq2[extsort.Item, error]) error {
	for it, err := range items {
		if err == nil {
			err = tick(ctx)
		}
		if err != nil {
			return err
		}
		at, mark, id := cutItem(it.Key)
		if at != c.at {
			if err := c.leave(at); err != nil {
				return err
			}
		}
		if err := c.meet(mark, id, it.Value); err != nil {
			return err
		}
	}
	return c.leave("")
}

// meet takes one item at the present path.
func (c *checker) meet(mark byte, id string, value []byte) error {
	switch mark {
	case markPresent:
		var err error
		c.here.present, err = decode[present](value)
		c.here.presents++
		return err
	case markSettled:
		c.here.settled = true
		return nil
	}
	w, err := decode[wish](value)
	if err != nil {
		return err
	}
	defer func() { c.here.wished = w.From }()
	v, refused := c.judge(w)
	if refused || v.Awaits != "" {
		if err := c.refuse(id, w, v); refused || err != nil {
			return err
		}
	}
	if c.first == nil {
		c.first, c.firstID = &w, id
		return nil
	}
	if c.all {
		c.contested = &w
	}
	return c.refuse(id, w, sameTarget(w, c.first.From))
}

// leave judges what is left at the present path, knowing the next one, and goes there.
func (c *checker) leave(next path) error {
	if w := c.first; w != nil {
		var err error
		switch {
		case c.at.holds(next):
			err = c.refuse(c.firstID, *w, verdict{Row: w.Row, Reason: batch.ReasonPrefix, Message: "there is a folder of that name, or this batch would make one"})
		case c.contested != nil:
			err = c.refuse(c.firstID, *w, sameTarget(*w, c.contested.From))
		}
		if err != nil {
			return err
		}
	}
	if c.here.presents > 0 || c.here.settled || (c.all && c.here.wished != "") {
		c.above = append(c.above, c.here)
	}
	for len(c.above) > 0 && !c.above[len(c.above)-1].at.holds(next) {
		c.above = c.above[:len(c.above)-1]
	}
	c.at, c.here = next, standing{at: next}
	c.first, c.contested = nil, nil
	return nil
}

const remedy = "put more into the template, use --on-conflict number or skip, or edit the plan"

func sameTarget(w wish, other archive.Key) verdict {
	return verdict{Row: w.Row, Reason: batch.ReasonSameTarget, Other: other, Message: fmt.Sprintf("%s would get the same name; %s", other.Text(), remedy)}
}

// judge refuses a wish for what the archive has, and for what is settled.
func (c *checker) judge(w wish) (verdict, bool) {
	v := verdict{Row: w.Row, Reason: batch.ReasonExists}
	own := c.here.presents == 1 && c.here.present.Key == w.From
	switch {
	case len(c.above) > 0:
		return c.below(w, c.above[len(c.above)-1]), true
	case c.here.settled:
		v.Reason = batch.ReasonSameTarget
		v.Message = "another object of the batch gets that name; " + remedy
	case own && c.copies:
		v.Final = true
		v.Message = "it would differ from its copy only in case, or in the form of letters, which counts as one name; change the template"
	case own && c.refolds && w.Moved:
		v.Final = true
		v.Message = "the new name differs from the old one in the case of a folder, or in the form of its letters, and this archive takes both for one folder; " +
			"rename the folder by hand, to another name and then to this one, or let the template keep its name ({dir})"
	case own && c.foldsCase && !c.refolds:
		v.Final = true
		v.Message = "the archive does not tell the new name from the old one; rename it to another name first"
	case own || c.here.presents == 0:
		return v, false
	case c.chain && c.here.presents == 1:
		v.Awaits, v.Other, v.Message = c.here.present.Key, c.here.present.Key, c.here.present.Key.Text()+" has that name"
		return v, false
	case c.copies:
		v.Other = c.here.present.Key
		v.Message = c.here.present.Key.Text() + " has that name, and objects that are copied keep theirs; " + remedy
	default:
		v.Other = c.here.present.Key
		v.Message = fmt.Sprintf("%s has that name, and in this archive a name counts as taken also where this batch would free it; "+
			"rename again afterwards, %s", c.here.present.Key.Text(), remedy)
	}
	return v, true
}

// below refuses a wish for a name inside something that is not a folder.
func (c *checker) below(w wish, s standing) verdict {
	v := verdict{Row: w.Row, Reason: batch.ReasonPrefix, Final: true}
	switch {
	case s.presents > 0 && s.present.Kind == store.Unreadable:
		v.Message = fmt.Sprintf("the folder %s cannot be listed, so it is not known which names are free in it", s.present.Key.Text())
	case s.presents > 0:
		v.Message = fmt.Sprintf("%s would have to be a folder and is not one; change the template, or move it away", s.present.Key.Text())
	case s.wished == "":
		v.Message = "the folder that it would go to has the name that another object gets; change the template"
	default:
		v.Message = fmt.Sprintf("the folder that it would go to has the name that %s would get; change the template", s.wished.Text())
	}
	return v
}
