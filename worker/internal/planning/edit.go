package planning

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/extsort"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/listing"
	"github.com/reshelf/reshelf/shared/naming"
	"github.com/reshelf/reshelf/shared/store"
)

// Edit makes and seals the plan of a batch of kind edit, or adopts the one that is sealed: every row of the plan that it starts
// from, with the names that its manifest gives. Such names are checked like those that a template makes, against the archive as
// it is now; the identity that an object must have is the one with which it was inspected for the first of these plans.
//
// Objects that belong together still move together or not at all. The companions of an object follow its name, so that the
// manifest can only confirm their names or leave them out. Objects that no name can move, since they were not inspected or
// another program manages them, stay. Like Plan it returns nil where the batch was cancelled.
func Edit(ctx context.Context, hold Hold, led *ledger.Ledger, st store.Store, b batch.Batch, epoch int64, opts Options) error {
	if err := b.Validate(); err != nil {
		return fmt.Errorf("plan batch %s: %w", b.ID, err)
	}
	groups, err := b.Renaming.ParseGroups()
	if err != nil {
		return fmt.Errorf("plan batch %s: %w", b.ID, err)
	}
	e := &editor{planner: planner{desk: newDesk(hold, led, st, b, epoch, opts), archive: st, groups: groups, policy: b.Renaming.OnConflict}}
	if err := e.seal(ctx, e.plan); err != nil {
		return fmt.Errorf("plan batch %s, an edit of batch %s: %w", b.ID, b.Edits.Batch, err)
	}
	return nil
}

// editor makes the plan of an edit.
type editor struct{ planner }

func (e *editor) plan(ctx context.Context) (batch.Plan, error) {
	base, err := e.base(ctx)
	if err != nil {
		return batch.Plan{}, err
	}
	e.rows, e.units, e.wishes = e.sorter("rows"), e.sorter("units"), e.sorter("wishes")
	names, err := e.names(ctx, base)
	if err != nil {
		return batch.Plan{}, err
	}
	if err := e.evaluate(ctx, base, names); err != nil {
		return batch.Plan{}, err
	}
	if e.moving > 0 {
		if err := e.resolve(ctx); err != nil {
			return batch.Plan{}, err
		}
	}
	return e.write(ctx)
}

// errNotEditable: a plan that objects were moved by, or may yet be, is not the start of another one.
var errNotEditable = errors.New("its plan cannot be edited")

// base is the plan that is edited. Nothing was moved by it and nothing will be: it was withdrawn before this batch was submitted.
func (e *editor) base(ctx context.Context) (batch.Plan, error) {
	ref := e.batch.Edits
	b, err := e.led.Batch(ctx, ref.Batch)
	if err != nil {
		return batch.Plan{}, err
	}
	s, err := e.led.Status(ctx, b)
	switch {
	case err != nil:
		return batch.Plan{}, err
	case b.Kind != batch.Rename && b.Kind != batch.Edit:
		return batch.Plan{}, fmt.Errorf("%w: it is of kind %s", errNotEditable, b.Kind)
	case !s.Withdrawn():
		return batch.Plan{}, fmt.Errorf("%w: it is %s", errNotEditable, s)
	case b.Archive != e.batch.Archive:
		return batch.Plan{}, fmt.Errorf("%w: it is of another archive", errNotEditable)
	}
	p, digest, err := e.led.Plan(ctx, ref.Batch)
	if err == nil && digest != ref.Digest {
		err = fmt.Errorf("its plan is %s, not %s: %w", digest, ref.Digest, ledger.ErrCorrupt)
	}
	return p, err
}

// byNumber is a row's number as bytes that sort the first row first.
func byNumber(n int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }

// names sorts the new names that the manifest gives by the number of the row: a row that it leaves out has none, and one whose
// name is empty has an empty one. Names for rows that the plan does not have are refused before a batch is made.
func (e *editor) names(ctx context.Context, base batch.Plan) (*extsort.Sorter, error) {
	byKey, names := e.sorter("keys"), e.sorter("names")
	for r, err := range e.led.Rows(ctx, base) {
		if err == nil {
			err = e.tick(ctx)
		}
		if err == nil {
			err = byKey.Add(ctx, []byte(r.From), byNumber(r.N))
		}
		if err != nil {
			return nil, err
		}
	}
	there := newCursor(byKey.Sorted(ctx))
	defer there.stop()
	for o, err := range listing.Spooled(ctx, e.led, e.batch.ID) {
		if err == nil {
			err = e.tick(ctx)
		}
		if err != nil {
			return nil, err
		}
		for there.ok && string(there.item.Key) < string(o.Key) {
			there.next()
		}
		if there.err != nil {
			return nil, there.err
		}
		if !there.ok || string(there.item.Key) != string(o.Key) {
			return nil, fmt.Errorf("the manifest names %s, which the plan does not: %w", o.Key.Text(), ledger.ErrCorrupt)
		}
		if err := names.Add(ctx, there.item.Value, []byte(o.Columns[batch.ColumnTo])); err != nil {
			return nil, err
		}
	}
	there.stop()
	return names, byKey.Remove(ctx)
}

// edited is a row of the plan that is edited, with what became of it.
type edited struct {
	batch.Row
	// said: the manifest has the row. New is the name there, "" if it is empty.
	said bool
	new  archive.Key
	part batch.Part
}

// evaluate turns the rows into those that are settled and units that want to move.
func (e *editor) evaluate(ctx context.Context, base batch.Plan, names *extsort.Sorter) error {
	said := newCursor(names.Sorted(ctx))
	defer said.stop()
	var group []edited
	for r, err := range e.led.Rows(ctx, base) {
		if err == nil {
			err = e.tick(ctx)
		}
		if err == nil && len(group) > 0 && !r.Together(group[0].Row) {
			err = e.settle(ctx, group)
			group = group[:0]
		}
		if err != nil {
			return err
		}
		row := edited{Row: r, part: e.batch.Edits.Part}
		if err := row.take(said); err != nil {
			return err
		}
		group = append(group, row)
	}
	if said.ok {
		return fmt.Errorf("the plan has fewer rows than its manifest names: %w", ledger.ErrCorrupt)
	}
	return e.settle(ctx, group)
}

// settle makes the unit of rows that belong together. One of which nothing is in a sample is not in its plan.
func (e *editor) settle(ctx context.Context, group []edited) error {
	said := func(r edited) bool { return r.said }
	if len(group) == 0 || e.batch.Edits.Part == batch.Sample && !slices.ContainsFunc(group, said) {
		return nil
	}
	return e.sortOut(ctx, e.unit(group))
}

// take takes the row's new name, where it is the next one.
func (r *edited) take(names *cursor) (err error) {
	if names.ok && string(names.item.Key) == string(byNumber(r.N)) {
		r.said = true
		if text := string(names.item.Value); text != "" {
			if r.new, err = archive.ParseKeyText(text); err != nil {
				return fmt.Errorf("the new name of %s: %w: %w", r.From.Text(), ledger.ErrCorrupt, err)
			}
		}
		names.next()
	}
	return names.err
}

// fixed reports whether no name can move the object of a row. A part of a plan moves nothing that the plan does not move.
func (r edited) fixed() bool {
	_, managed := listing.ManagedLibrary(r.From)
	_, err := archive.ParseKey(string(r.From))
	return managed || err != nil || !r.Moves() && (r.part != "" || r.Reason == batch.ReasonNotDone || r.Reason == batch.ReasonGroup && r.Group == "")
}

// untouched reports whether the row says what it said in the plan that is edited.
func (r edited) untouched() bool { return r.said && r.new == r.To }

// leftOut reports whether somebody took the row, or its name, away.
func (r edited) leftOut() bool { return !r.said || r.new == "" && r.To != "" }

// idle reports whether the object had its name already, so that to leave it out changes nothing.
func (r edited) idle() bool {
	return r.Reason == batch.ReasonUnchanged && r.To == r.From && r.leftOut()
}

func (r edited) leaveOut() batch.Row {
	row := batch.Row{From: r.From, Want: r.Want}
	message := "it was left out when the plan was edited"
	if r.part == batch.Rest {
		message = "it is in the sample that was taken of the plan"
	}
	settle(&row, batch.Skipped, batch.ReasonLeftOut, message)
	return row
}

// unit makes the rows of what belongs together, the principal first.
func (e *editor) unit(group []edited) *unit {
	if i := slices.IndexFunc(group, func(r edited) bool { return r.From == r.Group }); i > 0 {
		principal := group[i]
		group = slices.Insert(slices.Delete(group, i, i+1), 0, principal)
	}
	u := &unit{Notes: map[int]string{}}
	for _, r := range group {
		u.Rows = append(u.Rows, batch.Row{From: r.From, Want: r.Want, Digest: r.Digest})
	}
	if !e.tails(u) || !e.named(u, group) {
		u.scatter(group)
		return u
	}
	switch principal := group[0]; {
	case principal.fixed(), principal.To == "" && principal.new == "":
		u.stay(group)
		return u
	case principal.idle():
		u.rename(principal.From, e.props)
	case principal.leftOut():
		u.Rows[0] = principal.leaveOut()
	default:
		e.rename(u, principal)
	}
	for i, companion := range group[1:] {
		u.follow(i+1, companion)
	}
	return u
}

// tails finds how the companions are named, and reports false where the rules of the batch do not say so.
func (e *editor) tails(u *unit) bool {
	if len(u.Rows) == 1 {
		return true
	}
	var keys []archive.Key
	for _, r := range u.Rows {
		keys = append(keys, r.From)
	}
	tails := map[archive.Key]naming.Tail{}
	for _, of := range e.groups.Arrange(keys) {
		for i, key := range of.Companions {
			if of.Principal == u.Rows[0].From {
				tails[key] = of.Tails[i]
			}
		}
	}
	for _, r := range u.Rows[1:] {
		u.Tails = append(u.Tails, tails[r.From])
	}
	return len(tails) == len(u.Rows)-1
}

// named reports whether the companions follow their principal as in the plan that is edited. Which of its spellings a rule finds can
// depend on objects beside the group, which are not known here.
func (e *editor) named(u *unit, group []edited) bool {
	principal := group[0]
	if principal.To == "" || principal.To == principal.From {
		return true
	}
	ext := e.groups.Ext(principal.From, principal.To)
	for i, companion := range group[1:] {
		if companion.To != "" && companion.To != u.Tails[i].Of(principal.To, ext) {
			return false
		}
	}
	return true
}

// scatter settles rows that the plan moves together and the rules do not, or not in the same way: by another version of this
// program, or since the plan knew what else is in their folder.
func (u *unit) scatter(group []edited) {
	for i, r := range group {
		if r.fixed() {
			u.Rows[i] = r.Row
			continue
		}
		settle(&u.Rows[i], batch.Failed, batch.ReasonGroup, "it cannot be told how the names of these objects belong together; plan the rename again")
	}
}

// stay settles a unit whose principal has no name in either plan. Nothing of it moved by the plan that is edited.
func (u *unit) stay(group []edited) {
	for i, r := range group {
		switch {
		case r.fixed():
			u.Rows[i] = r.Row
		case r.Moves():
			settle(&u.Rows[i], batch.Skipped, batch.ReasonGroup, fmt.Sprintf("it moves only together with %s, which has no new name", group[0].From.Text()))
		case i > 0 && r.new != "" && r.new != r.To:
			u.stray(i)
		default:
			u.Rows[i] = r.Row
		}
	}
}

// stray fails a companion that was given a name of its own.
func (u *unit) stray(i int) {
	settle(&u.Rows[i], batch.Failed, batch.ReasonGroup, fmt.Sprintf(
		"it belongs to %s, and its name follows from that one's; leave its cell as it was", u.Rows[0].From.Text()))
}

// rename gives the unit the name that was written for its principal.
func (e *editor) rename(u *unit, principal edited) {
	u.Natural, u.Ext = principal.new, e.groups.Ext(principal.From, principal.new)
	u.rename(u.Natural, e.props)
	if principal.untouched() {
		for i := range u.Rows {
			u.Rows[i].DateSource, u.Rows[i].Changed = principal.DateSource, principal.Changed
			u.Rows[i].Sidecar, u.Rows[i].Numbered, u.Rows[i].Second = principal.Sidecar, principal.Numbered, principal.Second
		}
		if principal.Moves() {
			u.note(0, principal.Message)
		}
		return
	}
	if err := e.batch.Renaming.Profile.Check(principal.new); err != nil && u.Rows[0].Moves() {
		settle(&u.Rows[0], batch.Failed, batch.ReasonBadName, err.Error())
		u.Rows[0].To = ""
	}
}

// follow settles a companion that does not move with its principal as it should.
func (u *unit) follow(i int, companion edited) {
	switch r := &u.Rows[i]; {
	case companion.fixed():
		*r = companion.Row
	case r.Reason == batch.ReasonUnchanged && (companion.leftOut() || companion.untouched()):
	case companion.leftOut():
		*r = companion.leaveOut()
	case companion.new != companion.To && companion.new != r.To:
		u.stray(i)
	case companion.Moves():
		u.note(i, companion.Message)
	}
}
