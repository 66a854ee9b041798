package planning

import (
	"context"
	"fmt"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/store"
)

// whirl is a circle of the undone batch, as the world shows it: an object of it can be at any of its names, since an execution that was
// interrupted may have left it half way. Its objects are known by their inodes.
type whirl struct {
	rows []batch.Row // of the undone plan, the last first
	back []batch.Row // their reverse
	at   map[archive.Key]store.Sight
	// place is the name at which each object is, by its place in rows; "" where it is at none. holds is the reverse.
	place   []archive.Key
	holds   map[archive.Key]int
	byInode map[uint64]int // places in rows
}

// circle reverses rows that got one another's names: all of them that are there. Where one has changed, or cannot
// have its old name, all stay.
func (u *undoer) circle(ctx context.Context, w *writer, b bond, records map[archive.Key]batch.Record) error {
	c := &whirl{rows: b.rows, at: map[archive.Key]store.Sight{}, holds: map[archive.Key]int{}, byInode: map[uint64]int{}}
	if err := c.look(ctx, u.archive, records); err != nil {
		return err
	}
	for i, r := range b.rows {
		rec, known := records[r.From]
		if err := u.turn(ctx, c, i, rec, known, b.marks[i]); err != nil {
			return err
		}
	}
	u.straighten(c)
	allOrNone(c.back, blocksUndo)
	return u.emitBack(ctx, w, b, c.back)
}

// look looks at all names, and finds the objects as they were wanted, or as they were recorded.
func (c *whirl) look(ctx context.Context, st store.Store, records map[archive.Key]batch.Record) error {
	c.place = make([]archive.Key, len(c.rows))
	for i, r := range c.rows {
		c.byInode[r.Want.Inode] = i
	}
	for _, r := range c.rows {
		for _, name := range []archive.Key{r.From, r.To} {
			if _, seen := c.at[name]; seen {
				continue
			}
			s, err := store.Look(ctx, st, name)
			if err != nil {
				return err
			}
			c.at[name] = s
			if i, ok := c.byInode[s.Object.Inode]; ok && s.Object.Inode != 0 && s.Is(wanted(c.rows[i], records[c.rows[i].From])) && (c.place[i] == "" || name == c.rows[i].To) {
				delete(c.holds, c.place[i])
				c.place[i], c.holds[name] = name, i
			}
		}
	}
	return nil
}

// wanted is the identity that an object has, if it has not changed since.
func wanted(r batch.Row, rec batch.Record) archive.Identity {
	if rec.To != "" {
		return rec.Identity
	}
	return r.Want
}

// turn says what undoing row i takes, if all others move.
func (u *undoer) turn(ctx context.Context, c *whirl, i int, rec batch.Record, known bool, m mark) error {
	r, at := c.rows[i], c.place[i]
	back := batch.Row{From: r.To, To: r.From, Want: r.Want, Chain: r.Chain, Undoes: &batch.Undone{OpID: r.OpID, Was: r.Want}}
	otherwise, recorded := at != "" && at != r.From && (m.others || u.never), known && rec.To != ""
	switch {
	case m.by != "":
		settle(&back, batch.Skipped, batch.ReasonUnchanged, fmt.Sprintf("undo %s has taken it back already", m.by))
	case otherwise && recorded:
		settle(&back, batch.Failed, batch.ReasonConflict, broughtAgain)
	case otherwise:
		settle(&back, batch.Skipped, batch.ReasonUnchanged, "the batch did not rename it; it came to this name otherwise")
	case at != "":
		back.Want = c.at[at].Object.Identity
	case c.changed(i, recorded):
		settle(&back, batch.Failed, batch.ReasonChanged, "it has changed since it was renamed; if that is right, rename it back by hand")
	case known && !recorded:
		settle(&back, batch.Skipped, batch.ReasonUnchanged, "it was not renamed")
	default:
		settle(&back, batch.Failed, batch.ReasonMissing, "it is neither at its new name nor at its old one; reshelf history says whether another batch has renamed it")
		c.back = append(c.back, back)
		return u.reachable(ctx)
	}
	c.back = append(c.back, back)
	return nil
}

// changed reports whether object i, which is nowhere as it was, is there and has changed: it is known by its inode, or
// something else has come into its place.
func (c *whirl) changed(i int, recorded bool) bool {
	for _, s := range c.at {
		if s.Object.Inode != 0 && s.Object.Inode == c.rows[i].Want.Inode {
			return true
		}
	}
	return recorded && c.foreign(c.rows[i].To)
}

// foreign reports whether something is at a name that is none of the circle's objects, not even a changed one.
func (c *whirl) foreign(name archive.Key) bool {
	_, known := c.byInode[c.at[name].Object.Inode]
	return c.at[name].Taken && !known
}

const broughtAgain = "another batch has brought it to this name again, be it in another case, or put a copy there; undo that one first, or take its copy away: reshelf history says which"

// straighten settles the rows that would move and need not, or cannot.
func (u *undoer) straighten(c *whirl) {
	moving, off := 0, 0 // off: at neither of their names
	for i := range c.back {
		if c.back[i].Moves() {
			moving++
			if at := c.place[i]; at != c.rows[i].From && at != c.rows[i].To {
				off++
			}
		}
	}
	for i := range c.back {
		back := &c.back[i]
		switch {
		case !back.Moves():
		case c.place[i] == c.rows[i].From && (off == 0 || moving < len(c.back)):
			back.Back = true
			settle(back, batch.Skipped, batch.ReasonUnchanged, "it was not renamed, or is back already")
		case off > 0 && moving < len(c.back):
			// Each row is carried out from the name that its object was to get, unless all of the circle are.
			settle(back, batch.Failed, batch.ReasonConflict, fmt.Sprintf(
				"it is in a circle of objects that was renamed half way, and not all of them are there as they were; it is at the name %s: rename it back by hand", c.place[i].Text()))
		case off > 0 && !u.exchanges():
			settle(back, batch.Failed, batch.ReasonUnsupported, fmt.Sprintf(
				"it is in a circle of objects that was renamed half way, and is at the name %s; here names cannot be exchanged in one step; %s", c.place[i].Text(), undoWhereItIs))
		default:
			u.checkHome(c, i)
		}
	}
}

// checkHome settles a row whose old name its object cannot get, unless that is because of another row that keeps it where it is anyway.
func (u *undoer) checkHome(c *whirl, i int) {
	old := c.rows[i].From
	held, own := c.holds[old]
	switch {
	case own && held == i, !c.at[old].Taken, c.foreign(old) && u.freed[u.name(old)]:
	case c.foreign(old), own && !c.back[held].Moves() && !blocksUndo(c.back[held].Reason):
		settle(&c.back[i], batch.Failed, batch.ReasonConflict, fmt.Sprintf(
			"something else has the old name %s by now; undo what brought it there, or move it away, and undo again", old.Text()))
	case !u.exchanges() && !u.parks():
		settle(&c.back[i], batch.Failed, batch.ReasonUnsupported, fmt.Sprintf(
			"another object of its circle has the old name %s, and here names cannot be exchanged in one step; %s", old.Text(), undoWhereItIs))
	}
}

const undoWhereItIs = "undo it on the machine whose disk it is, without --assume-single-writer"
