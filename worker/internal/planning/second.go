package planning

import (
	"maps"
	"slices"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/metadata"
	"github.com/reshelf/reshelf/shared/naming"
	"github.com/reshelf/reshelf/shared/store"
)

// Under policy template, units whose names are taken are tried once more by the names of a second template, when all names of the
// first one are settled. So no second name keeps a first one from anybody, and which of several units has the first one is what
// policy number says. In the second round a name counts as taken also where this batch frees it, as numbers do.

// second is the name of a unit where the one of the first template is taken.
type second struct {
	Key        archive.Key `json:"k,omitempty"`
	Ext        string      `json:"e,omitempty"` // what of Key is its extension
	DateSource string      `json:"d,omitempty"`
	Sidecar    archive.Key `json:"s,omitempty"`
	Changed    []string    `json:"c,omitempty"`
	// Missing says why the second template gives no name.
	Missing string `json:"m,omitempty"`
}

// needs are those of both templates.
func (p *planner) needs() naming.Needs {
	n := p.template.Needs()
	if p.second != nil {
		n = n.And(p.second.Needs())
	}
	return n
}

// pick keeps the tags that either template reads.
func (p *planner) pick(tags metadata.Tags) metadata.Tags {
	out := p.template.Pick(tags)
	if p.second != nil {
		maps.Copy(out, p.second.Pick(tags)) // more of the same tags makes no difference to what a template reads
	}
	return out
}

// readsColumns reports whether a name may be made of what a manifest says.
func (p *planner) readsColumns() bool {
	return len(p.template.Columns()) > 0 || p.second != nil && len(p.second.Columns()) > 0
}

// secondName is what the second template says of a principal, nil if there is none.
func (p *planner) secondName(k known) *second {
	if p.second == nil {
		return nil
	}
	named, err := p.second.Name(k.values(p.second))
	if err != nil {
		return &second{Missing: err.Error()}
	}
	s := &second{Key: named.Key, Ext: p.groups.Ext(k.principal.Row.From, named.Key), DateSource: named.DateSource, Changed: named.Changed}
	if named.Sidecar {
		s.Sidecar = k.sidecar.Row.From
	}
	return s
}

// mayTakeSecond reports whether another name could help a unit, and it has one that was not tried. Where only the case of its name
// changes, and the archive does not tell the two apart, its name is not taken: then the unit stays.
func (u *unit) mayTakeSecond(against []verdict) bool {
	itself := func(v verdict) bool { return v.Final && v.Reason == batch.ReasonExists }
	return u.Second != nil && u.Second.Missing == "" && !slices.ContainsFunc(against, itself)
}

// takeSecond gives the unit its second name.
func (u *unit) takeSecond(props store.Properties) {
	s := u.Second
	u.Second, u.BySecond = nil, true
	u.Natural, u.Ext = s.Key, s.Ext
	u.rename(u.Natural, props)
	for i := range u.Rows {
		u.Rows[i].DateSource, u.Rows[i].Changed, u.Rows[i].Sidecar = s.DateSource, s.Changed, s.Sidecar
	}
	allOrNone(u.Rows, stuck)
}

// refusal is why a row in conflict has no name, where message says why it does not get the one that was tried last.
func (u *unit) refusal(message string) string {
	switch {
	case u.BySecond:
		return "its first name is taken, and so is the second: " + message
	case u.Second != nil && u.Second.Missing != "":
		return message + "; the template for names that are taken gives it none: " + u.Second.Missing
	}
	return message
}
