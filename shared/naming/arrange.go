package naming

import (
	"maps"
	"slices"
	"strings"

	"github.com/reshelf/reshelf/shared/archive"
)

// Unit is a principal with the companions that move with it, in byte order of keys.
type Unit struct {
	Principal  archive.Key
	Companions []archive.Key
	// Tails say how each of the Companions is named.
	Tails []Tail
	// Sidecars are those of the Companions that describe the principal itself in XMP, the whole name ("a.jpg.xmp") before
	// the stem ("a.xmp").
	Sidecars []archive.Key
}

// Tail is what a companion has behind the name of its principal.
type Tail struct {
	// Whole: it follows the whole name; otherwise the name without its extension.
	Whole bool   `json:"w,omitempty"`
	Text  string `json:"t"`
}

// Of is the key of a companion whose principal has the key and in it the extension, as [Groups.Ext] tells. It is not cut,
// since it would then no longer belong to its principal: see [Check].
func (t Tail) Of(principal archive.Key, ext string) archive.Key {
	if t.Whole {
		return principal + archive.Key(t.Text)
	}
	return archive.Key(strings.TrimSuffix(string(principal), ext) + t.Text)
}

// Ext is what of a principal's new key is its extension. A template that leaves the extension out may give a name with a dot
// in it ("2024.05"), so only the old extension, or one with a role, is taken for one.
func (g *Groups) Ext(principalOld, principalNew archive.Key) string {
	ext := principalNew.Ext()
	if strings.EqualFold(ext, principalOld.Ext()) || g.role(ext) != 0 {
		return ext
	}
	return ""
}

// CompanionNames are the new keys of the Companions of a unit whose principal moves: the principal's new folder and name with
// what each has behind the old one, as it is spelled there. So with "a.CR2" moving to "n/b.cr2", "a.CR2.xmp" becomes
// "n/b.cr2.xmp", "a.JPG" becomes "n/b.JPG" and "a.JPG.xmp" becomes "n/b.JPG.xmp". What a rule reads in several spellings
// gets that of its pattern.
func (g *Groups) CompanionNames(u Unit, principalNew archive.Key) []archive.Key {
	out := make([]archive.Key, len(u.Tails))
	for i, t := range u.Tails {
		out[i] = t.Of(principalNew, g.Ext(u.Principal, principalNew))
	}
	return out
}

// Arrange divides members, which all have the same Key, into units in byte order of their principals. Every member is in
// exactly one unit. Members must be distinct; their order does not matter. Time and memory grow with their number only.
func (g *Groups) Arrange(members []archive.Key) []Unit {
	sorted := slices.Sorted(slices.Values(members))
	a := newArrangement(g, sorted)
	units := map[archive.Key]*Unit{}
	for _, k := range sorted {
		m := a.member(k)
		p := m.principal
		if units[p] == nil {
			units[p] = &Unit{Principal: p}
		}
		if k == p {
			continue
		}
		units[p].Companions = append(units[p].Companions, k)
		units[p].Tails = append(units[p].Tails, m.tail)
		if m.owner == p && IsXMP(k) {
			units[p].Sidecars = append(units[p].Sidecars, k)
		}
	}
	out := make([]Unit, 0, len(units))
	for _, p := range slices.Sorted(maps.Keys(units)) {
		u := units[p]
		slices.SortStableFunc(u.Sidecars, func(x, y archive.Key) int { return len(y) - len(x) }) // the whole name is longer
		out = append(out, *u)
	}
	return out
}

// arrangement finds what each member belongs to.
type arrangement struct {
	groups *Groups
	// byName holds the keys of all that can own.
	byName map[string]bool
	// byStem is the object to which a stem's companions belong by a rule, the folder included in the stem.
	byStem map[ruled]archive.Key
	// byCut is the one object whose name has that beginning, or "" if it is not the only one.
	byCut   map[cutName]archive.Key
	members map[archive.Key]member
}

// ruled is a text to which a rule has something to say.
type ruled struct {
	rule int
	text string
}

// cutName is the beginning of names that have the group key: of others nobody knows who gathers by it.
type cutName struct {
	ruled
	group string
}

// member is what a member belongs to, directly and in the end, and its name behind that of its principal.
type member struct {
	owner, principal archive.Key
	tail             Tail
}

func newArrangement(g *Groups, sorted []archive.Key) *arrangement {
	a := &arrangement{
		groups: g, byName: map[string]bool{}, byStem: map[ruled]archive.Key{}, byCut: map[cutName]archive.Key{},
		members: map[archive.Key]member{},
	}
	wanted := map[int]bool{} // the rules that any member could be a companion by
	for _, k := range sorted {
		for _, n := range g.byExt[strings.ToLower(k.Ext())] {
			wanted[n] = true
		}
	}
	rules := slices.Sorted(maps.Keys(wanted))
	for _, k := range sorted {
		if g.role(k.Ext()) != RoleSidecar {
			a.byName[string(k)] = true
			a.offer(k, rules)
		}
	}
	return a
}

// stem is the key without its extension.
func stem(k archive.Key) string { return string(k[:len(k)-len(k.Ext())]) }

// offer makes k the owner of its stem by the rules that take it, unless a better one is known. It is called in byte order of
// keys.
func (a *arrangement) offer(k archive.Key, rules []int) {
	ext := strings.ToLower(k.Ext())
	role := a.groups.roles[ext]
	for _, n := range rules {
		r := &a.groups.rules[n]
		if !r.of.has(ext, role) {
			continue
		}
		if r.whole && r.cut > 0 {
			a.offerCut(k, n, r.cut)
		}
		if at := (ruled{n, stem(k)}); !r.whole {
			if best, ok := a.byStem[at]; !ok || role < a.groups.role(best.Ext()) {
				a.byStem[at] = k
			}
		}
	}
}

// offerCut makes k known by the beginning of its name, if that is not all of it.
func (a *arrangement) offerCut(k archive.Key, rule, cut int) {
	base := k.Base()
	stem, number := cutNumber(k.Stem())
	whole := stem + k.Ext()
	short := cutUnits(whole, cut)
	if short == whole {
		return
	}
	at := cutName{ruled{rule, string(k[:len(k)-len(base)]) + short + number}, a.groups.Key(k)}
	_, twice := a.byCut[at]
	a.byCut[at] = k
	if twice {
		a.byCut[at] = ""
	}
}

// member follows what a member belongs to up to the principal. Where rules go round in a circle, the first of it is the
// principal.
func (a *arrangement) member(k archive.Key) member {
	if m, ok := a.members[k]; ok {
		return m
	}
	self := member{owner: k, principal: k, tail: Tail{Whole: true}}
	a.members[k] = self
	owner, tail := a.owner(k)
	if owner == k {
		return self
	}
	of := a.member(owner)
	if of.principal == k {
		return self
	}
	m := member{owner: owner, principal: of.principal, tail: tail}
	if owner != of.principal {
		m.tail = Tail{Whole: of.tail.Whole, Text: of.tail.Text + tail.Text}
		if !tail.Whole {
			m.tail.Text = strings.TrimSuffix(of.tail.Text, owner.Ext()) + tail.Text
		}
	}
	a.members[k] = m
	return m
}

// owner is what k belongs to directly, and its name behind that; it is k itself if it belongs to nothing.
func (a *arrangement) owner(k archive.Key) (archive.Key, Tail) {
	base := k.Base()
	ext := k.Ext()
	f := finder{arrangement: a, key: k, folder: string(k[:len(k)-len(base)]), name: base[:len(base)-len(ext)], ext: ext}
	for _, n := range a.groups.byExt[strings.ToLower(ext)] {
		if owner, tail, ok := f.find(n); ok && owner != k {
			return owner, tail
		}
	}
	return k, Tail{}
}

// finder finds the owner of one member.
type finder struct {
	*arrangement
	key archive.Key
	// folder, name and ext make the key.
	folder, name, ext string
}

func (f *finder) find(n int) (archive.Key, Tail, bool) {
	r := &f.groups.rules[n]
	own := f.name[max(0, len(f.name)-len(r.text)):] // as it is spelled
	if o, ok := f.behind(n, f.name, "", len(r.text)); ok {
		return o, Tail{r.whole, own + f.ext}, true
	}
	name, number := f.name, ""
	if r.number {
		name, number = cutNumber(f.name)
	}
	if o, ok := f.special(n, name, number); ok {
		return o, Tail{r.whole, r.text + f.ext}, true
	}
	if number != "" {
		if o, ok := f.special(n, f.name, ""); ok {
			return o, Tail{r.whole, r.text + f.ext}, true
		}
	}
	return "", Tail{}, false
}

// special finds the owner in the other spellings of a rule.
func (f *finder) special(n int, name, number string) (archive.Key, bool) {
	r := &f.groups.rules[n]
	least := len(r.text)
	if r.cut > 0 {
		least = min(1, least)
	}
	for length := len(r.text); length >= least; length-- {
		if o, ok := f.behind(n, name, number, length); ok {
			return o, true
		}
	}
	var o archive.Key
	if digits, ok := strings.CutPrefix(name, r.read); r.read != "" && ok && digits != "" && isDigits(digits) {
		o = f.byStem[ruled{n, f.folder + r.stem + digits}]
	}
	if o == "" && r.whole && r.cut > 0 && units(name) == r.cut {
		o = f.byCut[cutName{ruled{n, f.folder + name + number}, f.groups.Key(f.key)}]
	}
	// Key is made to be equal here as well; where other rules keep it from that, the two are no group.
	return o, o != "" && f.groups.Key(o) == f.groups.Key(f.key)
}

// behind finds the owner of a name that ends with so much of the rule's text. The number goes behind the owner's stem.
func (f *finder) behind(n int, name, number string, length int) (archive.Key, bool) {
	r := &f.groups.rules[n]
	at := len(name) - length
	if at < 0 || !strings.EqualFold(name[at:], r.text[:length]) || !isStem(name[:at]) {
		return "", false
	}
	name = name[:at]
	if !r.whole {
		o, ok := f.byStem[ruled{n, f.folder + name + number}]
		return o, ok
	}
	ext := archive.Key(name).Ext()
	owner := f.folder + name[:len(name)-len(ext)] + number + ext
	ext = strings.ToLower(ext)
	return archive.Key(owner), f.byName[owner] && r.of.has(ext, f.groups.roles[ext])
}

// firstOf is the first rule that reads "{name}EXT", or "{stem}EXT".
func (g *Groups) firstOf(whole bool, ext string) (rule, bool) {
	i := slices.IndexFunc(g.rules, func(r rule) bool { return r.whole == whole && r.text == "" && r.ext == ext })
	if i < 0 {
		return rule{}, false
	}
	return g.rules[i], true
}
