package planning

import (
	"context"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/store"
)

// parkMark begins the last segment of names in between. It is no hidden name: what is left there is listed like any object.
const parkMark = "reshelf-"

// park gives the rows of a chain or group names in between, unless they have one, where that is needed.
func (d *desk) park(rows []batch.Row) {
	needed := rows[0].Chain != 0 && d.parks() || rows[0].Chain == 0 && slices.ContainsFunc(rows, d.refolded)
	for i := range rows {
		switch r := &rows[i]; {
		case !needed || !r.Moves():
			r.Park = ""
		case r.Park == "":
			r.Park = parkName(*r, d.props)
		}
	}
}

// parkName is the name that the object of a row has in between: beside its old name, and with the end of it, so that an object that is
// left there can be recognized and opened. Nothing else has a name with that op id.
func parkName(r batch.Row, props store.Properties) archive.Key {
	room := archive.MaxKeyBytes
	if props.MaxKey > 0 {
		room = min(room, props.MaxKey)
	}
	first := parkMark + r.OpID[:16]
	dir := string(r.From.Dir())
	if dir != "" {
		dir += "/"
	}
	if len(dir)+len(first) > room {
		return archive.Key(first)
	}
	rest := "-" + r.From.Base()
	for len(dir)+len(first)+len(rest) > room || len(first)+len(rest) > maxSegment {
		_, size := utf8.DecodeRuneInString(rest)
		rest = rest[size:]
	}
	return archive.Key(dir + first + rest)
}

// maxSegment bounds the last segment of a name in between, in bytes: where buckets are kept on disks, these have file names.
const maxSegment = 255

// parkNote tells of objects that go by way of names in between.
func (d *desk) parkNote(n int64) string {
	how := "copied to names in between (%s…), which takes two copies of each"
	if !d.props.Marks {
		how = "renamed to names in between (%s…)"
	}
	return fmt.Sprintf("%s get names that others of this batch leave: all of these are first "+how, objects(n), parkMark)
}

// refoldNote tells of objects whose new names the archive does not tell from their old ones.
func refoldNote(n int64) string {
	return fmt.Sprintf("%s get names that this archive does not tell from their old ones (another case, or form of letters): these are renamed by way of names in between (%s…)",
		objects(n), parkMark)
}

// away is an object of a chain that had a name in between, as the world shows it.
type away struct {
	row  batch.Row // of the undone plan
	back batch.Row
	// from, between and to are what is at the old name, the one in between and the new one.
	from, between, to store.Sight
	at                archive.Key // where the object is; "" if it is nowhere
}

// look looks at the names of an object.
func (u *undoer) look(ctx context.Context, a *away) (err error) {
	if a.to, err = store.Look(ctx, u.archive, a.row.To); err != nil {
		return err
	}
	if a.between, err = store.Look(ctx, u.archive, a.row.Park); err != nil {
		return err
	}
	a.from, err = store.Look(ctx, u.archive, a.row.From)
	return err
}

// parked reverses rows of a chain whose objects had names in between: those that are chosen, and what moved together with them.
// An object goes back if its old name is free, or is left by another one that goes back.
func (u *undoer) parked(ctx context.Context, w *writer, b bond, records map[archive.Key]batch.Record) error {
	ids := map[string]bool{}
	for _, r := range b.rows {
		ids[r.OpID], ids[r.HomeID()] = true, true
	}
	all := make([]*away, len(b.rows))
	for i, r := range b.rows {
		err := u.tick(ctx) // a chain is long
		if err != nil {
			return err
		}
		a := &away{row: r, back: batch.Row{From: r.To, To: r.From, Want: r.Want, Chain: r.Chain, Undoes: &batch.Undone{OpID: r.OpID, Was: r.Want}}}
		if err := u.look(ctx, a); err != nil {
			return err
		}
		rec, known := records[r.From]
		switch {
		case u.props.Marks:
			err = u.wherever(ctx, a, rec, known, b.marks[i], ids)
		case u.props.Parks:
			err = u.byFile(ctx, a, rec, known, b.marks[i])
		default:
			settle(&a.back, batch.Failed, batch.ReasonUnsupported, "it was renamed by way of a name in between, and here inode numbers, which alone tell where it is, may change; undo it where it was renamed")
		}
		if err != nil {
			return err
		}
		all[i] = a
	}
	groups := together(all)
	chosen := u.withCircles(all, groups, b.marks)
	for n, g := range groups {
		for _, i := range g {
			if !chosen[n] && all[i].back.Moves() {
				settle(&all[i].back, batch.Skipped, batch.ReasonUnchanged, "it was not chosen")
			}
		}
	}
	u.clearHomes(all, groups, ids)
	reversed := make([]batch.Row, len(all))
	for i, a := range all {
		reversed[i] = a.back
	}
	return u.emitBack(ctx, w, b, reversed)
}

// withCircles says which groups go back: those of which an object was chosen, and those that are in a circle with one of these.
func (u *undoer) withCircles(all []*away, groups [][]int, marks []mark) []bool {
	chosen, of, holder := make([]bool, len(groups)), make([]int, len(all)), u.holders(all)
	for n, g := range groups {
		for _, i := range g {
			of[i] = n
			chosen[n] = chosen[n] || marks[i].chosen
		}
	}
	waiters := make([][]edge, len(groups)) // for names that a group has
	for i, a := range all {
		if at, ok := holder(a); ok && of[at] != of[i] {
			waiters[of[at]] = append(waiters[of[at]], edge{unit: int64(of[i]), other: int64(of[at])})
		}
	}
	g := graph{units: make([]chained, len(groups))}
	g.components(func(n int64) []edge { return waiters[n] }, func(circle []int64) {
		if slices.ContainsFunc(circle, func(n int64) bool { return chosen[n] }) {
			for _, n := range circle {
				chosen[n] = true
			}
		}
	})
	return chosen
}

// holders says which of all has the old name of one, perhaps in another case where the archive folds names: not where they go back in one step,
// since circles that go so have to have the very names of one another, nor where what is seen at that name is another object.
func (u *undoer) holders(all []*away) func(*away) (int, bool) {
	exact, like := make(map[archive.Key]int, len(all)), make(map[string]int, len(all))
	for i, a := range all {
		if a.at != "" {
			exact[a.at], like[u.name(a.at)] = i, i
		}
	}
	return func(a *away) (int, bool) {
		i, ok := exact[a.row.From]
		if !ok && u.parks() {
			i, ok = like[u.name(a.row.From)]
			ok = ok && a.from.Taken && all[i].back.Want == a.from.Object.Identity
		}
		return i, ok
	}
}

// together are the places of objects that moved together.
func together(all []*away) (groups [][]int) {
	for i, a := range all {
		if i == 0 || !a.row.Together(all[i-1].row) {
			groups = append(groups, nil)
		}
		groups[len(groups)-1] = append(groups[len(groups)-1], i)
	}
	return groups
}

// wherever finds an object at its new name, the name in between or its old one, by its record, or by the mark that it bears. ids are
// the marks of all objects of the chain at their new names, and of those that went home.
func (u *undoer) wherever(ctx context.Context, a *away, rec batch.Record, known bool, m mark, ids map[string]bool) error {
	r, to, between := a.row, a.to, a.between
	recorded, waits := known && rec.To != "", []string{r.ParkID(), r.RetreatID()}
	is := func(s store.Sight, key archive.Key, marks ...string) bool {
		if recorded && rec.To == key {
			return s.Is(rec.Identity)
		}
		return s.Taken && slices.Contains(marks, s.Object.Mark)
	}
	// Nothing else has that name: what an undo of an undo brought there has its mark.
	same := between.Taken && between.Object.ETag != "" && between.Object.ETag == r.Want.ETag && between.Object.Size == r.Want.Size
	// What was not recorded may have come to its new name as it was, by an undo that brought the original back, or by the undo of an undo.
	original := !known && !ids[to.Object.Mark] && (to.Is(r.Want) || r.Undoes != nil && to.Is(r.Undoes.Was))
	switch {
	case m.by != "":
		settle(&a.back, batch.Skipped, batch.ReasonUnchanged, fmt.Sprintf("undo %s has taken it back already", m.by))
	case recorded && m.others && rec.To == r.To && to.Is(rec.Identity) && to.Object.Mark != r.OpID:
		settle(&a.back, batch.Failed, batch.ReasonConflict, broughtAgain)
	case is(to, r.To, r.OpID), original && !is(between, r.Park, waits...) && !same && !a.from.Is(r.Want):
		a.at, a.back.Want = r.To, to.Object.Identity
		if between.Taken && slices.Contains(waits, between.Object.Mark) { // a copy was begun: it goes back to where it was made of
			a.back.Park = r.Park
		}
	case is(between, r.Park, waits...), same:
		a.at, a.back.From, a.back.Want, a.back.Undoes.OpID = r.Park, r.Park, between.Object.Identity, between.Object.Mark
	case a.from.Is(r.Want) && !ids[a.from.Object.Mark], a.from.Taken && a.from.Object.Mark == r.HomeID():
		a.at, a.back.Back = r.From, true
		settle(&a.back, batch.Skipped, batch.ReasonUnchanged, "it was not renamed, or is back already")
	case known && !recorded:
		settle(&a.back, batch.Skipped, batch.ReasonUnchanged, "it was not renamed")
	case to.Taken && !ids[to.Object.Mark]:
		settle(&a.back, batch.Failed, batch.ReasonChanged, "it has changed since it was renamed; if that is right, rename it back by hand")
	default:
		settle(&a.back, batch.Failed, batch.ReasonMissing, nowhereToGo)
		return u.reachable(ctx)
	}
	return nil
}

const nowhereToGo = "it is neither at its new name nor at its old one, nor in between; if an undo of it was interrupted, resume that, or undo it; " +
	"reshelf history says whether another batch has renamed it"

// byFile is wherever where objects are known by their inode numbers, and disks say nothing of who has brought one to a name. The name in
// between nothing else is ever given. A rename by way of a second link that was interrupted has left the object at two names.
func (u *undoer) byFile(ctx context.Context, a *away, rec batch.Record, known bool, m mark) error {
	r, recorded := a.row, known && rec.To != ""
	is := func(s store.Sight) bool { return s.Object.File() != 0 && s.Is(wanted(r, rec)) }
	own := func(s store.Sight) bool { return s.Object.File() != 0 && s.Object.File() == r.Want.File() }
	atNew, between, atHome := is(a.to), is(a.between), is(a.from)
	otherwise := atNew && !between && (m.others || u.never)
	switch {
	case m.by != "":
		settle(&a.back, batch.Skipped, batch.ReasonUnchanged, fmt.Sprintf("undo %s has taken it back already", m.by))
	case recorded && otherwise:
		settle(&a.back, batch.Failed, batch.ReasonConflict, broughtAgain)
	case atNew && (!atHome || recorded) && !otherwise && (recorded || !known || between):
		a.at, a.back.Want = r.To, a.to.Object.Identity
		if between && !u.props.GuardedRename { // the second link goes first
			a.back.Park = r.Park
		}
	case between:
		a.at, a.back.From, a.back.Want = r.Park, r.Park, a.between.Object.Identity
	case atHome:
		a.at, a.back.Back = r.From, true
		settle(&a.back, batch.Skipped, batch.ReasonUnchanged, "it was not renamed, or is back already")
	case own(a.between):
		a.at, a.back.From = r.Park, r.Park
		settle(&a.back, batch.Failed, batch.ReasonChanged, "what is at this name, at which it was between its old and its new one, is not as it was; look at it, and rename it back by hand")
	case own(a.to) && (recorded || !known):
		a.at = r.To
		settle(&a.back, batch.Failed, batch.ReasonChanged, "it has changed since it was renamed; if that is right, rename it back by hand")
	case known && !recorded:
		settle(&a.back, batch.Skipped, batch.ReasonUnchanged, "it was not renamed")
	case atNew:
		settle(&a.back, batch.Skipped, batch.ReasonUnchanged, "the batch did not rename it; it came to this name otherwise")
	case own(a.from):
		settle(&a.back, batch.Skipped, batch.ReasonChanged, "it is at its old name, and has changed: there is nothing to rename back")
	case a.to.Taken && !u.chained[a.to.Object.File()]:
		settle(&a.back, batch.Failed, batch.ReasonChanged, "it has changed since it was renamed; if that is right, rename it back by hand")
	default:
		settle(&a.back, batch.Failed, batch.ReasonMissing, nowhereToGo)
		return u.reachable(ctx)
	}
	return nil
}

// clearHomes lets those stay whose old names are not left, and those that move only together with them.
func (u *undoer) clearHomes(all []*away, groups [][]int, ids map[string]bool) {
	c := &homes{all: all, groups: groups, ids: ids, holder: u.holders(all), wants: map[string][]int{}, of: make([]int, len(all)), closed: make([]bool, len(groups))}
	for n, g := range groups {
		for _, i := range g {
			old := u.name(all[i].row.From)
			c.of[i], c.wants[old] = n, append(c.wants[old], i)
		}
	}
	for i := range all {
		c.look(i)
	}
	for n := range groups {
		c.close(n)
	}
	for len(c.stayed) > 0 {
		i := c.stayed[0]
		c.stayed = c.stayed[1:]
		c.close(c.of[i])
		for _, waits := range c.wants[u.name(all[i].at)] {
			c.look(waits)
		}
	}
}

// homes are the old names of the objects of a chain.
type homes struct {
	all    []*away
	groups [][]int
	ids    map[string]bool
	holder func(*away) (int, bool) // which object is there
	wants  map[string][]int        // whose old name it is
	of     []int                   // the group of an object
	closed []bool                  // groups that stay
	stayed []int                   // objects that do not move, be it news for those that want their names
}

// look lets an object stay whose old name is not left.
func (c *homes) look(i int) {
	a := c.all[i]
	held, own := c.holder(a)
	own = own && held != i
	switch {
	case !a.back.Moves(), !a.from.Taken, own && c.all[held].back.Moves():
		return
	case a.at == a.row.Park && a.from.Is(a.row.Want) && !c.ids[a.from.Object.Mark]: // it was copied from there, and no more
		return
	}
	settle(&a.back, batch.Failed, batch.ReasonConflict, fmt.Sprintf(
		"something else, perhaps another object that this batch has brought there, has the old name %s; undo what brought it there, or move it away, and undo again", a.row.From.Text()))
	c.stayed = append(c.stayed, i)
}

// close keeps all of a group where they are if one has to stay.
func (c *homes) close(n int) {
	if c.closed[n] {
		return
	}
	group := c.groups[n]
	rows := make([]batch.Row, len(group))
	for k, i := range group {
		rows[k] = c.all[i].back
	}
	allOrNone(rows, blocksUndo)
	for k, i := range group {
		if c.all[i].back.Moves() && !rows[k].Moves() {
			c.stayed = append(c.stayed, i)
		}
		c.all[i].back = rows[k]
		c.closed[n] = c.closed[n] || !rows[k].Moves() && blocksUndo(rows[k].Reason)
	}
}
