package naming

import (
	"slices"
	"strings"
	"unicode/utf16"

	"github.com/reshelf/reshelf/shared/archive"
)

// Role is what an object can be in a group, by its extension.
type Role uint8

// Roles. Where a companion could belong to several objects of one stem, the one whose role comes first here gets it.
const (
	// RoleRaw is a camera's raw file.
	RoleRaw Role = 1 + iota
	// RoleRendered is an image that a camera makes of its raw data, a JPEG or HEIF.
	RoleRendered
	// RoleImage is any other image.
	RoleImage
	// RoleVideo is a film.
	RoleVideo
	// RoleOther is what else has companions: sound and documents.
	RoleOther
	// RoleSidecar describes another object, and owns nothing.
	RoleSidecar
)

// Groups are [Rules] that say which objects move together. They never change and are safe for concurrent use. Extensions
// without a role are those of objects whose companions must be spelled with the whole name, "a.bin.xmp".
//
// What all rules have in common:
//   - A group has one principal, whose new name the whole group gets, and companions, which all lie in its folder.
//   - A companion belongs to the object that the first pattern finds; patterns with {name} are tried before those with
//     {stem}. Of several objects with a stem, it is the first by role, then by byte order of keys. So "a.xmp" beside
//     "a.cr2" and "a.jpg" belongs to the raw file, as Adobe's programs write it, and beside "a.png" and "a.pdf" to the image.
//   - What belongs to a companion is of its group: by the default rules "a.jpg.xmp" beside "a.jpg" beside "a.cr2".
//   - A companion of nothing is its own principal.
//   - Stems must be equal to the byte; the case of what a pattern puts behind them does not matter.
type Groups struct {
	roles map[string]Role
	rules []rule
	// byExt are the numbers of the rules by the extension of companions.
	byExt map[string][]int
	// endings are what Key takes off a name, in lower case, by their last byte, the longest first.
	endings   [256][]string
	spellings []spelling
	cuts      []int
	numbers   bool
}

// spelling is another spelling of stems, in lower case.
type spelling struct{ read, stem string }

// DefaultGroups are those of [DefaultRules].
func DefaultGroups() *Groups {
	g, err := DefaultRules().Groups()
	if err != nil {
		panic(err) // the file is part of the program
	}
	return g
}

// role is the role of an extension in any case of letters, 0 for none.
func (g *Groups) role(ext string) Role { return g.roles[strings.ToLower(ext)] }

// Key is equal for all objects that can belong to one group, and seldom for others: sort by it (and then by key) to have
// the members of each group beside each other. It is never a name. It takes time in proportion to the name.
//
// Hostile archives can hold any number of objects with one Key, so bound what you gather.
func (g *Groups) Key(key archive.Key) string {
	base := key.Base()
	folder := string(key[:len(key)-len(base)])
	base = strings.ToLower(base)
	numbers := ""
	for {
		shorter := g.withoutEnding(base)
		if shorter == base && g.numbers {
			var number string
			shorter, number = cutNumber(base)
			numbers = number + numbers
		}
		if shorter == base {
			shorter = g.withoutSpelling(base)
		}
		if shorter == base {
			return folder + base + numbers
		}
		base = shorter
	}
}

// withoutEnding takes off what rules put behind names, so that what is left is the same for whatever belongs together: see
// index.
func (g *Groups) withoutEnding(base string) string {
	if base == "" {
		return base
	}
	for _, e := range g.endings[base[len(base)-1]] {
		if rest, ok := strings.CutSuffix(base, e); ok && isStem(rest) {
			return rest
		}
	}
	return base
}

// withoutSpelling undoes what else rules do to stems.
func (g *Groups) withoutSpelling(base string) string {
	for _, s := range g.spellings {
		if digits, ok := strings.CutPrefix(base, s.read); ok && isDigits(digits) {
			return s.stem + digits
		}
	}
	for _, n := range g.cuts {
		switch {
		case len(base) < n:
		case units(base) == n:
			base = g.withoutPart(base)
		case units(base) == n+1:
			// Takeout's names have up to five units more than what it cuts to, an extension of four among them.
			return cutUnits(base, n)
		}
	}
	return base
}

// withoutPart takes off what a cut has left of an extension with a role.
func (g *Groups) withoutPart(base string) string {
	dot := strings.LastIndexByte(base, '.')
	if dot < 0 || !isStem(base[:dot]) {
		return base
	}
	for ext := range g.roles {
		if strings.HasPrefix(ext, base[dot:]) {
			return base[:dot]
		}
	}
	return base
}

// isStem reports whether a name is more than the dots that hide one, so that an extension may follow.
func isStem(s string) bool { return strings.Trim(s, ".") != "" }

func isDigits(s string) bool { return strings.Trim(s, "0123456789") == "" }

// cutNumber cuts "(1)" from the end of a name.
func cutNumber(s string) (rest, number string) {
	body, ok := strings.CutSuffix(s, ")")
	if !ok {
		return s, ""
	}
	rest = strings.TrimRight(body, "0123456789")
	if len(rest) == len(body) || !strings.HasSuffix(rest, "(") || !isStem(rest[:len(rest)-1]) {
		return s, ""
	}
	rest = rest[:len(rest)-1]
	return rest, s[len(rest):]
}

// units is the length of s in UTF-16 units.
func units(s string) int {
	n := 0
	for _, r := range s {
		n += max(utf16.RuneLen(r), 1)
	}
	return n
}

// cutUnits is the beginning of s that has at most n UTF-16 units.
func cutUnits(s string, n int) string {
	for i, r := range s {
		if n -= max(utf16.RuneLen(r), 1); n < 0 {
			return s[:i]
		}
	}
	return s
}

// index makes what finding rules and Key need.
//
// Key takes endings off until none is left. It gives one result whatever is taken off first, and so the same for a name
// and for that name with any ending, since of two endings of which one ends with the other ("_O.aae" and ".aae") what is
// before it ("_O") is an ending too.
func (g *Groups) index() {
	all := map[string]bool{}
	for ext := range g.roles {
		all[ext] = true
	}
	for i, r := range g.rules {
		for _, ext := range g.extensions(r) {
			g.byExt[ext] = append(g.byExt[ext], i)
			g.addEndings(all, r, strings.ToLower(r.text), ext)
		}
		g.numbers = g.numbers || r.number
		if r.read != "" {
			g.spellings = append(g.spellings, spelling{strings.ToLower(r.read), strings.ToLower(r.stem)})
		}
		if r.cut > 0 && !slices.Contains(g.cuts, r.cut) {
			g.cuts = append(g.cuts, r.cut)
		}
	}
	delete(all, "")
	open := make([]string, 0, len(all))
	for e := range all {
		open = append(open, e)
	}
	for len(open) > 0 {
		e := open[len(open)-1]
		open = open[:len(open)-1]
		for i := 1; i < len(e); i++ {
			if all[e[i:]] && !all[e[:i]] {
				all[e[:i]] = true
				open = append(open, e[:i])
			}
		}
		last := e[len(e)-1]
		g.endings[last] = append(g.endings[last], e)
	}
	for i := range g.endings {
		slices.SortFunc(g.endings[i], func(a, b string) int { return len(b) - len(a) })
	}
}

// extensions are those of a rule's companions.
func (g *Groups) extensions(r rule) []string {
	if r.ext != "" {
		return []string{r.ext}
	}
	var out []string
	for ext, role := range g.roles {
		if role == r.role {
			out = append(out, ext)
		}
	}
	return out
}

// addEndings adds what companions of a rule have behind the name, or stem, of what they belong to. What is cut, or has a
// number in it, is taken off in pieces.
func (g *Groups) addEndings(all map[string]bool, r rule, text, ext string) {
	all[text+ext] = true
	if r.number {
		all[text], all[ext] = true, true
	}
	if r.read != "" {
		all[ext] = true
	}
	if r.cut == 0 {
		return
	}
	for i := range text {
		all[text[:i]], all[text[:i]+ext] = true, true
	}
}
