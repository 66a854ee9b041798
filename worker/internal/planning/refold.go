package planning

import (
	"context"
	"fmt"
	"maps"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/store"
)

// findSpelled lists how the names of rows are spelled that the archive does not tell from those that their objects had.
func (u *undoer) findSpelled(ctx context.Context, rows []batch.Row) error {
	u.spelled, u.alike = map[archive.Key]bool{}, map[archive.Key][]archive.Key{}
	for _, r := range rows {
		if r.SameFolded() {
			u.alike[r.From.Dir()] = append(u.alike[r.From.Dir()], r.From, r.To)
		}
	}
	for _, r := range rows {
		if r.Chain != 0 || r.Park == "" || !r.SameFolded() {
			continue
		}
		if err := u.spell(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

// spell lists how the names of a row are spelled, and of all like it in the folder, so that it is listed once for each segment.
func (u *undoer) spell(ctx context.Context, r batch.Row) error {
	keys, ok := u.alike[r.From.Dir()]
	if !ok {
		return nil
	}
	if err := u.check(ctx); err != nil {
		return err
	}
	u.hold.Advance(0, 0)
	spelled, err := store.Spelled(ctx, u.archive, keys...)
	if err != nil {
		return err
	}
	maps.Copy(u.spelled, spelled)
	delete(u.alike, r.From.Dir())
	return nil
}

// reverseParked is reverse of a row whose object had a name in between, and is known by its identity: it may still be there.
func (u *undoer) reverseParked(ctx context.Context, r batch.Row, rec batch.Record, known bool, m mark) (batch.Row, error) {
	between, err := store.Look(ctx, u.archive, r.Park)
	switch {
	case err != nil:
		return batch.Row{}, err
	case between.Taken && m.by == "":
		return u.fromBetween(ctx, r, rec, between)
	case r.SameFolded():
		return u.respell(ctx, r, rec, known, m)
	}
	return u.reverse(ctx, r, rec, known, m)
}

// fromBetween brings an object back from the name in between. Nothing else is given that name, so what is there as it was wanted is the object.
func (u *undoer) fromBetween(ctx context.Context, r batch.Row, rec batch.Record, between store.Sight) (batch.Row, error) {
	back := batch.Row{From: r.Park, To: r.From, Want: between.Object.Identity, Undoes: &batch.Undone{OpID: r.OpID, Was: r.Want}}
	if !between.Is(wanted(r, rec)) {
		settle(&back, batch.Failed, batch.ReasonChanged, "what is at this name, at which it was between its old and its new one, is not as it was; look at it, and rename it back by hand")
		return back, nil
	}
	from, err := store.Look(ctx, u.archive, r.From)
	if err != nil || !from.Taken {
		return back, err
	}
	if !from.Is(r.Want) || u.spelled[r.To] { // else a rename by way of a second link was interrupted, and is ended the other way round
		settle(&back, batch.Failed, batch.ReasonConflict, fmt.Sprintf(
			"something has the old name %s by now; undo what brought it there, or move it away, and undo again", r.From.Text()))
	}
	return back, nil
}

// respell reverses a row whose names the archive may not tell apart: then only the spelling says which of them the object has.
func (u *undoer) respell(ctx context.Context, r batch.Row, rec batch.Record, known bool, m mark) (batch.Row, error) {
	back := batch.Row{From: r.To, To: r.From, Want: r.Want, Undoes: &batch.Undone{OpID: r.OpID, Was: r.Want}}
	to, err := store.Look(ctx, u.archive, r.To)
	if err != nil {
		return back, err
	}
	from, err := store.Look(ctx, u.archive, r.From)
	if err != nil {
		return back, err
	}
	want, recorded := wanted(r, rec), rec.To != ""
	moved := to.Is(want)
	stayed := from.Is(want) && (!moved || u.spelled[r.From] && !u.spelled[r.To])
	switch {
	case m.by != "":
		settle(&back, batch.Skipped, batch.ReasonUnchanged, fmt.Sprintf("undo %s has taken it back already", m.by))
	case stayed:
		back.Back = true
		settle(&back, batch.Skipped, batch.ReasonUnchanged, "it was not renamed, or is back already")
	case known && !recorded:
		settle(&back, batch.Skipped, batch.ReasonUnchanged, "it was not renamed")
	case moved && recorded && m.others:
		settle(&back, batch.Failed, batch.ReasonConflict, broughtAgain)
	case moved && (m.others || u.never):
		settle(&back, batch.Skipped, batch.ReasonUnchanged, "the batch did not rename it; it came to this name otherwise")
	case moved && from.Taken && !from.Is(want):
		settle(&back, batch.Failed, batch.ReasonConflict, fmt.Sprintf(
			"something else has the old name %s by now; undo what brought it there, or move it away, and undo again", r.From.Text()))
	case moved:
		back.Want = to.Object.Identity
	case to.Taken:
		settle(&back, batch.Failed, batch.ReasonChanged, "it has changed since it was renamed; if that is right, rename it back by hand")
	default:
		settle(&back, batch.Failed, batch.ReasonMissing, "it is neither at its new name nor at its old one; reshelf history says whether another batch has renamed it")
		return back, u.reachable(ctx)
	}
	return back, nil
}
