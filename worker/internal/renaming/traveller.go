package renaming

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/store"
)

// stop is how far an object of a chain has come.
type stop byte

const (
	lost    stop = iota // it is nowhere, or has changed
	home                // at its old name
	parked              // at the name in between
	arrived             // at its new name
)

// traveller is a step that is carried out by way of a name in between.
type traveller struct {
	*step
	at  stop
	now archive.Identity // of the object there
	// left is the identity at the name before, where the object is at that name too: a copy was made and nothing deleted yet.
	left archive.Identity
	// copied is the mark of the copy at the name in between where the object is parked and at its old name, too.
	copied string
	links  bool // a rename that was interrupted leaves a second link, and not a copy
	tried  bool // a part of the way, by this execution
	single bool // what is like it at another name is another object: a rename was refused that would have left one name of two
	// unsure: the archive does not tell the old name from the new one, and the object may have either. It is taken for home.
	unsure bool
	// Of an object that is lost: found is the name at which it is and has changed, "" if it has not left its old one, or is nowhere, and
	// gone says that it does not have its old name, nor does anything from outside.
	found archive.Key
	gone  bool
	// why is the reason not to go on, or of what is left where the object has arrived.
	why *reason
}

// find says where the object is that is known by its identity, by what was seen at its names. Where a rename is by way of a second name, or
// of a copy, and was interrupted, it is at two of them: halves. Else what is like it at another name than the one in between is not the object.
func (t *traveller) find(from, between, to store.Sight, halves bool) {
	want := t.row.Want
	atHome, atPark, atNew := from.Is(want), between.Is(want), to.Is(want)
	t.left, t.unsure = archive.Identity{}, false
	switch {
	case atPark && atNew && !atHome && halves:
		t.at, t.now, t.left = arrived, to.Object.Identity, between.Object.Identity
	case atPark:
		t.at, t.now = parked, between.Object.Identity
		if atHome && halves {
			t.left, t.unsure = from.Object.Identity, atNew && t.row.SameFolded()
		}
	case atNew && !atHome && (!from.Taken || want.Inode != 0):
		t.at, t.now = arrived, to.Object.Identity
	case atHome:
		t.at, t.now, t.unsure = home, from.Object.Identity, atNew && t.row.SameFolded()
	case between.Taken:
		t.at, t.why = lost, t.strange()
	default:
		t.lose(from.Taken)
	}
}

// findInChain is find where other objects of the chain can have its old name and its new one, and inode numbers tell them apart. An object that
// has changed is still known by its number.
func (t *traveller) findInChain(c *caravan, from, between, to store.Sight, halves bool) {
	want := t.row.Want
	own := func(s store.Sight) bool { return want.File() != 0 && s.Object.File() == want.File() }
	is := func(s store.Sight) bool { return own(s) && s.Is(want) }
	others := c.files[from.Object.File()] && !own(from)
	t.left, t.found, t.gone = archive.Identity{}, "", false
	switch {
	case is(between) && is(to) && !own(from) && halves:
		t.at, t.now, t.left = arrived, to.Object.Identity, between.Object.Identity
	case is(between):
		t.at, t.now = parked, between.Object.Identity
		if is(from) && halves {
			t.left = from.Object.Identity
		}
	case is(to) && !own(from):
		t.at, t.now = arrived, to.Object.Identity
	case is(from):
		t.at, t.now = home, from.Object.Identity
		if own(to) && t.row.Undoes == nil { // a link that somebody made; an undo ends a rename that was interrupted there
			t.why = t.conflict(t.row.To)
		}
	case own(from):
		t.lose(true)
		if own(between) {
			t.why.message += fmt.Sprintf("; %s is left at the name %s", t.half(), t.row.Park.Text())
		}
	case own(to):
		t.changed(t.row.To, to)
	case own(between):
		t.changed(t.row.Park, between)
	case between.Taken:
		t.at, t.gone, t.why = lost, !from.Taken || others, t.strange()
	default:
		t.lose(from.Taken && !others)
	}
}

// findAtHome is find where nothing can tell where the object is, but no other execution has moved any.
func (t *traveller) findAtHome(from store.Sight) {
	if t.at, t.now = home, from.Object.Identity; !from.Is(t.row.Want) {
		t.lose(from.Taken)
	}
}

// changed says that the object is at a name on its way, and is not as it was wanted.
func (t *traveller) changed(at archive.Key, s store.Sight) {
	t.at, t.found, t.now, t.gone = lost, at, s.Object.Identity, true
	t.why = &reason{batch.Failed, batch.ReasonChanged, fmt.Sprintf("it has changed since the plan was made, and is at the name %s; look at it, and rename it by hand", at.Text())}
}

// strange is the reason where what is at the name in between is not the object, or not as it was.
func (t *traveller) strange() *reason {
	return &reason{batch.Failed, batch.ReasonChanged, fmt.Sprintf(
		"what is at the name %s, between the old name and the new one, is not as the plan wants it; look at it, and rename it by hand", t.row.Park.Text())}
}

// locate says where the object is, by what was seen at its names.
func (t *traveller) locate(c *caravan, from, between, to store.Sight) {
	marked := func(s store.Sight, ids ...string) bool {
		for _, id := range ids {
			if s.Object.Mark == id && s.Taken {
				return true
			}
		}
		return false
	}
	atHome := marked(from, t.row.HomeID()) || from.Is(t.row.Want) && (!c.marks[from.Object.Mark] || t.row.Undoes != nil && from.Object.Mark == t.row.Undoes.OpID)
	atPark := marked(between, t.row.ParkID(), t.row.RetreatID()) || t.row.Undoes != nil && marked(between, t.row.Undoes.ParkID(), t.row.Undoes.RetreatID())
	t.left, t.copied = archive.Identity{}, ""
	switch {
	case marked(to, t.row.OpID), t.row.Undoes != nil && t.row.Undoes.Was.Version != "" && t.row.Undoes.Was.Version == to.Object.Version && to.Is(t.row.Undoes.Was) && !atHome:
		t.at, t.now = arrived, to.Object.Identity
		if atPark {
			t.left = between.Object.Identity
		}
	case atPark:
		t.at, t.now = parked, between.Object.Identity
		if atHome {
			t.left, t.copied = from.Object.Identity, between.Object.Mark
		}
	case atHome:
		t.at, t.now = home, from.Object.Identity
	case t.row.Undoes != nil && to.Is(t.row.Undoes.Was) && !c.marks[to.Object.Mark]: // it had never left
		t.at, t.now = arrived, to.Object.Identity
	default:
		t.lose(from.Taken && !c.marks[from.Object.Mark])
	}
}

// lose says that the object is nowhere as it was wanted; changed: something else is at its old name.
func (t *traveller) lose(changed bool) {
	told := &step{row: t.row, record: &batch.Record{}}
	if changed {
		told.staysFor(store.Changed)
	} else {
		told.staysFor(store.Missing)
	}
	t.at, t.gone, t.why = lost, !changed, &reason{told.record.Outcome, told.record.Reason, told.record.Message}
}

// both reports whether the object is at the name before, too.
func (t *traveller) both() bool { return t.left != (archive.Identity{}) }

// source is the identity that the object has where the next part of the way begins.
func (t *traveller) source() archive.Identity { return cmp.Or(t.left, t.now) }

// outward is the request that brings an object from its old name to the name in between. If a copy is there already, be it on its way
// home or begun by what is undone, what is left at the old name goes.
func (t *traveller) outward() store.RenameRequest {
	return store.RenameRequest{From: t.row.From, To: t.row.Park, Want: t.source(), OpID: cmp.Or(t.copied, t.row.ParkID())}
}

// undoes lets the copy at the name in between go where the original comes back.
func (t *traveller) undoes() *store.Undone {
	if t.row.Undoes == nil {
		return nil
	}
	return &store.Undone{OpID: t.row.ParkID(), Was: t.row.Undoes.Was}
}

// retreat is the request that brings an object from its new name to the name in between; if it is still there, the copy goes.
func (t *traveller) retreat() store.RenameRequest {
	req := store.RenameRequest{From: t.row.To, To: t.row.Park, Want: t.now, OpID: t.row.RetreatID()}
	if t.both() {
		req.Undoes = &store.Undone{OpID: t.row.OpID, Was: t.left}
	}
	return req
}

// homeward is the request that brings an object from the name in between to its old one, likewise.
func (t *traveller) homeward() store.RenameRequest {
	return store.RenameRequest{
		From: t.row.Park, To: t.row.From, Want: t.now, OpID: t.row.HomeID(),
		Undoes: &store.Undone{OpID: t.row.ParkID(), Was: cmp.Or(t.left, t.row.Want)},
	}
}

// conflict is the reason where something else has a name on the way.
func (t *traveller) conflict(name archive.Key) *reason {
	return &reason{batch.Failed, batch.ReasonConflict, fmt.Sprintf("something else has got the name %s since the plan was made", name.Text())}
}

// because is why a part of the way could not be made.
func (t *traveller) because(m *mover, to archive.Key, err error) *reason {
	switch {
	case err == nil, errors.Is(err, store.ErrExist):
		return t.conflict(to)
	case errors.Is(err, store.ErrChanged), errors.Is(err, store.ErrNotRegular):
		return &reason{batch.Skipped, batch.ReasonChanged, "it has changed since the plan was made: " + err.Error()}
	}
	why := m.because(err)
	return &why
}

// half is what a rename leaves at the name before where it was interrupted.
func (t *traveller) half() string {
	if t.links {
		return "a second link of it"
	}
	return "a copy of it"
}

// report records where the object is in the end.
func (t *traveller) report() {
	switch t.at {
	case arrived:
		t.done(t.now)
		switch {
		case t.both():
			t.record.Outcome, t.record.Reason = batch.Failed, batch.ReasonIO
			t.record.Message = fmt.Sprintf("it is at its new name, and %s is left at the name %s, which could not be deleted: %s", t.half(), t.row.Park.Text(), t.why.message)
		case t.why != nil:
			t.record.Outcome, t.record.Reason = batch.Failed, batch.ReasonGroup
			t.record.Message = t.why.message + "; it had moved already and could not be moved back"
		}
	case parked:
		if t.both() {
			t.stays(t.why.outcome, t.why.code, fmt.Sprintf("%s; %s that was begun is left at the name %s", t.why.message, t.half(), t.row.Park.Text()))
			t.record.Identity = t.left
			return
		}
		t.done(t.now)
		t.record.To, t.record.Outcome, t.record.Reason = t.row.Park, batch.Failed, batch.ReasonConflict
		t.record.Message = fmt.Sprintf("%s; it is at the name %s, and could not be brought back to its old one: undo the batch, or give it a name by hand",
			t.why.message, t.row.Park.Text())
	default:
		t.stays(t.why.outcome, t.why.code, t.why.message)
		if t.found != "" {
			t.record.To, t.record.Identity = t.found, t.now
		}
		if t.at == home {
			t.record.Identity = t.now
		}
		if t.why.code == batch.ReasonConflict {
			t.record.Message += "; plan the rename again"
		}
	}
}
