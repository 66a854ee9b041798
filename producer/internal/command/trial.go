package command

import (
	"cmp"
	"fmt"
	"iter"
	"slices"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/naming"
)

// trial names files as a plan of just these would.
type trial struct {
	template *naming.Template
	records  map[tryFile]batch.Record
	trying
}

// tryUnit is a file that names the others of its group, with what its name is made of.
type tryUnit struct {
	principal tryFile
	tails     map[archive.Key]naming.Tail
	sidecar   *naming.Sidecar
	from      archive.Key // the sidecar's key
	notes     []string
	seq       int64
	counters  []int64
}

// named yields the files in their order, each with its name.
func (t trial) named(files []tryFile) iter.Seq2[tryFile, tried] {
	units := t.units(files)
	return func(yield func(tryFile, tried) bool) {
		for _, f := range files {
			u := units[f]
			r := t.name(*u)
			if f != u.principal {
				r = t.companion(f, *u, r)
			}
			r.File = f.shown
			if !yield(f, r) {
				return
			}
		}
	}
}

// units finds what each file belongs to, and numbers the principals of each archive in order of capture time, then key.
func (t trial) units(files []tryFile) map[tryFile]*tryUnit {
	out := map[tryFile]*tryUnit{}
	for _, group := range byRoot(files) {
		byKey := map[archive.Key]tryFile{}
		keys := make([]archive.Key, len(group))
		for i, f := range group {
			byKey[f.key], keys[i] = f, f.key
		}
		var numbered []*tryUnit
		for _, of := range t.groups.Arrange(keys) {
			u := t.unit(byKey, of)
			for _, k := range append(of.Companions, of.Principal) {
				out[byKey[k]] = u
			}
			if t.records[u.principal].Outcome == batch.Done {
				numbered = append(numbered, u)
			}
		}
		slices.SortStableFunc(numbered, func(x, y *tryUnit) int {
			return cmp.Or(cmp.Compare(t.captured(x), t.captured(y)), cmp.Compare(x.principal.key, y.principal.key))
		})
		counts := map[string]int64{}
		for i, u := range numbered {
			u.seq = int64(i + 1)
			v := t.values(u)
			for c := range t.template.Counters() {
				scope := fmt.Sprint(c, " ", t.template.Scope(c, v))
				counts[scope]++
				u.counters = append(u.counters, counts[scope])
			}
		}
	}
	return out
}

func (t trial) unit(byKey map[archive.Key]tryFile, of naming.Unit) *tryUnit {
	u := &tryUnit{principal: byKey[of.Principal], tails: map[archive.Key]naming.Tail{}}
	for i, k := range of.Companions {
		u.tails[k] = of.Tails[i]
	}
	for _, k := range of.Sidecars {
		r := t.records[byKey[k]]
		mute := r.Mute()
		switch {
		case t.ignoreSidecars || u.sidecar != nil:
		case mute == "":
			u.sidecar, u.from = &naming.Sidecar{Facts: *r.Facts, Tags: r.Tags}, k
		case t.template.Needs().Tags:
			u.notes = append(u.notes, fmt.Sprintf("its sidecar %s was not used: %s", k.Text(), mute))
		}
	}
	return u
}

func (t trial) values(u *tryUnit) naming.Values {
	r := t.records[u.principal]
	v := naming.Values{
		Key: r.Key, Size: r.Size, MTime: r.ModTime(), Tags: r.Tags, Digests: r.Digests, Seq: u.seq, Sidecar: u.sidecar,
		Counters: u.counters, Batch: noBatch,
	}
	if r.Facts != nil {
		v.Facts = *r.Facts
	}
	return v
}

// noBatch stands for the id that a batch will have.
const noBatch = "00000000000000000000000000"

// captured is what a plan sorts by.
func (t trial) captured(u *tryUnit) string { return t.template.Captured(t.values(u)) }

// name names a principal.
func (t trial) name(u tryUnit) tried {
	out := tried{From: u.principal.key, Notes: u.notes}
	if out.Error = notInspected(t.records[u.principal]); out.Error != "" {
		return out
	}
	res, err := t.template.Name(t.values(&u))
	if err != nil {
		out.Error = err.Error()
		return out
	}
	out.To, out.DateSource, out.Changed = res.Key, res.DateSource, res.Changed
	if res.Sidecar {
		out.Sidecar = u.from
	}
	return out
}

func notInspected(r batch.Record) string {
	if r.Outcome == batch.Done {
		return ""
	}
	return cmp.Or(r.Message, string(r.Reason), "it was not inspected")
}

// companion names a file after the principal of its unit, whose name is r.
func (t trial) companion(f tryFile, u tryUnit, r tried) tried {
	principal := u.principal
	out := tried{From: f.key, DateSource: r.DateSource, Sidecar: r.Sidecar, Error: notInspected(t.records[f])}
	switch {
	case out.Error != "":
	case r.Error != "":
		out.Error = fmt.Sprintf("it moves only together with %s: %s", principal.shown, r.Error)
	case r.To == principal.key:
		out.To = f.key
	default:
		out.To = u.tails[f.key].Of(r.To, t.groups.Ext(principal.key, r.To))
	}
	return out
}
