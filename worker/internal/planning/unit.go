package planning

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/extsort"
	"github.com/reshelf/reshelf/shared/listing"
	"github.com/reshelf/reshelf/shared/naming"
	"github.com/reshelf/reshelf/shared/store"
)

// unit is what moves together or not at all: one row, or those of a principal (the first) and its companions.
type unit struct {
	// Captured orders units: the wall clock of the capture time, or else the mtime, in one fixed form.
	Captured string `json:"c"`
	// Natural is the name that the template gives the principal.
	Natural archive.Key `json:"n"`
	// Ext is what of Natural is its extension, and Tails say how the companions are named.
	Ext   string        `json:"e,omitempty"`
	Tails []naming.Tail `json:"t,omitempty"`
	// Notes are what is to be said of rows, by their number, whatever becomes of them.
	Notes map[int]string `json:"w,omitempty"`
	// Number is the number in the principal's name that was proposed last, 0 for none.
	Number int `json:"i,omitempty"`
	// Second is the name that it gets where the natural one is taken, until it is tried; BySecond: it was.
	Second   *second `json:"s,omitempty"`
	BySecond bool    `json:"b,omitempty"`
	// Again: its natural name is tried once more.
	Again bool        `json:"a,omitempty"`
	Rows  []batch.Row `json:"r"`

	// chain is the number of the one in which it moves, 0 for a unit that waits for no other one, nor is waited for. leader is the
	// principal of the chain's first unit by id, and order says when it moves.
	chain  int64
	leader archive.Key
	order  int32
}

// id is unique, and orders units by capture time, then key.
func (u *unit) id() string { return u.Captured + "\x00" + string(u.Rows[0].From) }

// rename gives the principal a name, and each companion the one that follows from it, in an archive with these properties.
// Where the principal stays they stay.
func (u *unit) rename(principal archive.Key, props store.Properties) {
	from := u.Rows[0].From
	u.Rows[0].To = principal
	for i := range u.Rows[1:] {
		r := &u.Rows[i+1]
		r.To = r.From
		if principal != from {
			r.To = u.Tails[i].Of(principal, u.Ext)
		}
	}
	for i := range u.Rows {
		checkTarget(&u.Rows[i], props)
	}
	u.checkOneself()
}

// checkTarget settles rows whose new name is the old one, or none that an object of the archive may have.
func checkTarget(r *batch.Row, props store.Properties) {
	r.Outcome, r.Reason, r.Message = "", "", ""
	_, err := archive.ParseKey(string(r.To))
	if err == nil {
		err = naming.Check(r.To)
	}
	if err == nil {
		err = props.Takes(r.To)
	}
	switch {
	case r.To == r.From:
		settle(r, batch.Skipped, batch.ReasonUnchanged, "it has that name already")
	case err != nil:
		settle(r, batch.Failed, batch.ReasonBadName, err.Error())
		r.To = ""
	default:
		if library, ok := listing.ManagedLibrary(r.To); ok {
			settle(r, batch.Skipped, batch.ReasonLibrary,
				fmt.Sprintf("the name would put it into %s, which another program manages", archive.EscapeText(library)))
		}
	}
}

// checkOneself fails rows of one unit that want the same name: no number can tell them apart.
func (u *unit) checkOneself() {
	if len(u.Rows) == 1 {
		return
	}
	first := map[string]int{}
	for i := range u.Rows {
		if !u.Rows[i].Moves() {
			continue
		}
		folded := naming.Fold(u.Rows[i].To)
		j, taken := first[folded]
		if !taken {
			first[folded] = i
			continue
		}
		for _, k := range []int{i, j} {
			settle(&u.Rows[k], batch.Failed, batch.ReasonSameTarget,
				fmt.Sprintf("%s and %s belong together and would get the same name; rename one of them by hand",
					u.Rows[j].From.Text(), u.Rows[i].From.Text()))
		}
	}
}

func settle(r *batch.Row, o batch.Outcome, reason batch.Reason, message string) {
	r.Outcome, r.Reason, r.Message = o, reason, message
}

func (u *unit) note(row int, note string) {
	if note != "" {
		u.Notes[row] = note
	}
}

// moves reports whether any row is to be renamed.
func (u *unit) moves() bool { return slices.ContainsFunc(u.Rows, batch.Row.Moves) }

// allOrNone settles the rows that would move where another one cannot, for a reason that blocks.
func allOrNone(rows []batch.Row, blocks func(batch.Reason) bool) {
	culprit := slices.IndexFunc(rows, func(r batch.Row) bool { return !r.Moves() && blocks(r.Reason) })
	if culprit < 0 {
		return
	}
	message := fmt.Sprintf("it moves only together with %s, which cannot move: %s", rows[culprit].From.Text(), rows[culprit].Message)
	for i := range rows {
		if rows[i].Moves() {
			settle(&rows[i], batch.Skipped, batch.ReasonGroup, message)
		}
	}
}

// stuck reports whether an object that does not move for that reason keeps its group where it is.
func stuck(r batch.Reason) bool { return r != batch.ReasonUnchanged }

// alwaysKept is the greatest number that a name keeps in any case, so that the same rename again has nothing to do. Names
// of cameras and telephones that look numbered ("20240101_153000.jpg") have greater ones: these are kept only where the
// natural name is taken. So such a name is given once more only if the object that held the natural one moved away.
const alwaysKept = 999

// bearsNumber reports the number with which the unit bears its natural name already, as an earlier plan gave it.
func (u *unit) bearsNumber() (int, bool) {
	_, n, ok := cutNumber(u.Rows[0].From)
	if !ok {
		return 0, false
	}
	now := naming.Numbered(u.Natural, n)
	if now != u.Rows[0].From {
		return 0, false
	}
	for i, r := range u.Rows[1:] {
		if u.Tails[i].Of(now, u.Ext) != r.From {
			return 0, false
		}
	}
	return n, true
}

// keep settles all rows of a unit that keeps its numbered name.
func (u *unit) keep() {
	for i := range u.Rows {
		u.Rows[i].To = ""
		settle(&u.Rows[i], batch.Skipped, batch.ReasonUnchanged, "it has that name already, with a number")
	}
}

// emit hands over the rows of a unit that is settled.
func (p *planner) emit(ctx context.Context, u *unit) error {
	allOrNone(u.Rows, stuck)
	for i, note := range u.Notes {
		u.Rows[i].Message = strings.TrimPrefix(u.Rows[i].Message+"; "+note, "; ")
	}
	for _, r := range u.Rows {
		if len(u.Rows) > 1 {
			r.Group = u.Rows[0].From
		}
		if r.Moves() {
			r.Numbered = r.Numbered || u.Number > 0
			r.Second = r.Second || u.BySecond
		}
		r.Chain = u.chain
		if err := p.emitRow(ctx, u.place(), r); err != nil {
			return err
		}
	}
	return nil
}

// place is where the rows of a principal's unit come in the plan.
func place(principal archive.Key) string {
	// Only a key that cannot be addressed holds a NUL. It must not come between the rows of a group.
	return strings.ReplaceAll(string(principal), "\x00", "\x01") + "\x00"
}

// place is that of the principal; the units of a chain come in their order in the place of its leader.
func (u *unit) place() string {
	if u.chain == 0 {
		return place(u.Rows[0].From)
	}
	return place(u.leader) + fmt.Sprintf("%010d\x00", u.order)
}

func (p *planner) emitRow(ctx context.Context, place string, r batch.Row) error {
	if err := p.tick(ctx); err != nil {
		return err
	}
	return addJSON(ctx, p.rows, []byte(place+string(r.From)), r)
}

func addJSON(ctx context.Context, to *extsort.Sorter, key []byte, value any) error {
	raw, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("%T: %w", value, err)
	}
	return to.Add(ctx, key, raw)
}

func decode[T any](raw []byte) (T, error) {
	var v T
	if err := json.Unmarshal(raw, &v); err != nil {
		return v, fmt.Errorf("read sorted %T: %w", v, err)
	}
	return v, nil
}
