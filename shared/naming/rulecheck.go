package naming

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// What fields of rules hold.
const (
	wantPattern   = `a pattern such as "{name}.json", "{stem}M01.xml" or "{stem}{rendered}"`
	wantExtension = `an extension of at most 16 letters and digits, without a dot`
	wantFrom      = `a pattern such as "IMG_O{digits}.aae", with the extension of name`
	wantCut       = `a number from 16 to 255`
	wantStem      = `a pattern such as "IMG_{digits}", shorter than from`
)

// roleNames are the names of roles, by their number.
func roleNames() []string { return []string{"raw", "rendered", "image", "video", "other", "sidecar"} }

// roleOf is the role of a name, 0 if there is none.
func roleOf(name string) Role { return Role(slices.Index(roleNames(), name) + 1) }

// String is the role's name in rules.
func (r Role) String() string {
	if r < 1 || int(r) > len(roleNames()) {
		return "none"
	}
	return roleNames()[r-1]
}

// rule is a CompanionRule that was checked.
type rule struct {
	// whole: its pattern is {name}; otherwise {stem}.
	whole bool
	// text is between the placeholder and the extension, which is in lower case, with its dot, and "" for those of role.
	text, ext string
	role      Role
	of        owners
	// read and stem are what stands before the digits in From and Stem.
	read, stem string
	cut        int
	number     bool
}

// owners are what companions can belong to. The zero value is everything but sidecars.
type owners struct {
	// role is a bit for each; some is false where they are not limited.
	some  bool
	roles uint8
	exts  string // with a space behind each
}

func (o owners) has(ext string, role Role) bool {
	return role != RoleSidecar && (!o.some || o.roles&(1<<role) != 0 || ext != "" && strings.Contains(o.exts, ext+" "))
}

// Validate checks rules. Errors are [*RulesError].
func (r Rules) Validate() error {
	if _, err := r.compile(); err != nil {
		return err
	}
	return nil
}

// Groups makes rules ready for use. Errors are [*RulesError].
func (r Rules) Groups() (*Groups, error) {
	g, err := r.compile()
	if err != nil {
		return nil, err
	}
	return g, nil
}

func (r Rules) compile() (*Groups, *RulesError) {
	g := &Groups{roles: map[string]Role{}, byExt: map[string][]int{}}
	for _, name := range sortedRoles(r.Roles) {
		if err := g.addRole(name, r.Roles[name]); err != nil {
			return nil, err
		}
	}
	if len(g.roles) == 0 {
		return nil, wrong("roles", "extensions of at least one role", "no roles")
	}
	if len(r.Companions) > maxCompanions {
		return nil, wrong("companions", fmt.Sprintf("at most %d", maxCompanions), "%d companions", len(r.Companions))
	}
	for i, c := range r.Companions {
		compiled, err := g.compile(c)
		if err != nil {
			err.Field = strings.TrimSuffix(fmt.Sprintf("companions[%d].%s", i, err.Field), ".")
			return nil, err
		}
		g.rules = append(g.rules, compiled)
	}
	slices.SortStableFunc(g.rules, func(a, b rule) int { return cmp.Compare(order(a), order(b)) })
	g.index()
	return g, nil
}

// order puts the patterns with {name} first.
func order(r rule) int {
	if r.whole {
		return 0
	}
	return 1
}

// sortedRoles are the names of roles in their order; those that are none come first.
func sortedRoles(roles map[string][]string) []string {
	return slices.SortedFunc(maps.Keys(roles), func(a, b string) int {
		return cmp.Or(cmp.Compare(roleOf(a), roleOf(b)), cmp.Compare(a, b))
	})
}

func (g *Groups) addRole(name string, extensions []string) *RulesError {
	field := "roles." + name
	role := roleOf(name)
	if role == 0 {
		return wrong(field, "one of "+strings.Join(roleNames(), ", "), "unknown role %.40q", name)
	}
	for i, e := range extensions {
		field := fmt.Sprintf("%s[%d]", field, i)
		ext := "." + strings.ToLower(e)
		switch {
		case !isExtension(ext):
			return wrong(field, wantExtension, "%.40q", e)
		case g.roles[ext] != 0:
			return wrong(field, "each extension once", "%q has the role %s already", e, g.roles[ext])
		case len(g.roles) == maxExtensions:
			return wrong(field, fmt.Sprintf("at most %d", maxExtensions), "too many extensions")
		case ext == xmp && role != RoleSidecar:
			return wrong(field, "the role sidecar for it", "xmp")
		}
		g.roles[ext] = role
	}
	return nil
}

// isExtension checks an extension in lower case, with its dot.
func isExtension(ext string) bool {
	name, ok := strings.CutPrefix(ext, ".")
	return ok && name != "" && len(name) <= maxRuleNameBytes && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789") == ""
}

// compile checks one companion. The field of an error is below the companion.
func (g *Groups) compile(c CompanionRule) (rule, *RulesError) {
	r, ok := g.pattern(c.Name)
	if !ok {
		return r, wrong("name", wantPattern, "%.80q", c.Name)
	}
	r.cut, r.number = c.Cut, c.Number
	if c.Cut != 0 && (c.Cut < minCut || c.Cut > maxCut) {
		return r, wrong("cut", wantCut, "%d", c.Cut)
	}
	if err := g.compileOf(&r, c.Of); err != nil {
		return r, err
	}
	if err := g.compileFrom(&r, c); err != nil {
		return r, err
	}
	return r, g.checkKind(r, c)
}

// pattern reads "{name}TEXT.EXT", "{stem}TEXT.EXT" and "{stem}TEXT{ROLE}".
func (g *Groups) pattern(s string) (rule, bool) {
	var r rule
	rest, whole := strings.CutPrefix(s, "{name}")
	rest, stem := strings.CutPrefix(rest, "{stem}")
	if whole == stem {
		return r, false
	}
	r.whole = whole
	if i := strings.LastIndexAny(rest, ".{"); i >= 0 {
		r.text, r.ext = rest[:i], strings.ToLower(rest[i:])
	}
	if name, ok := strings.CutPrefix(r.ext, "{"); ok {
		r.ext, r.role = "", roleOf(strings.TrimSuffix(name, "}"))
		return r, stem && r.role != 0 && r.role != RoleSidecar && strings.HasSuffix(name, "}") && isText(r.text)
	}
	return r, isExtension(r.ext) && isText(r.text)
}

// isText checks what stands between a placeholder and an extension. Nothing but digits would make companions of counters.
func isText(s string) bool {
	for _, c := range s {
		if c <= ' ' || c > '~' || strings.ContainsRune(`/\{}()`, c) {
			return false
		}
	}
	return len(s) <= maxPatternBytes && (s == "" || strings.Trim(s, "0123456789") != "")
}

func (g *Groups) compileOf(r *rule, of []string) *RulesError {
	if len(of) == 0 && !r.whole {
		r.of = owners{some: true, roles: 1<<RoleRaw | 1<<RoleRendered | 1<<RoleImage | 1<<RoleVideo | 1<<RoleOther}
		return nil
	}
	if len(of) > maxOf {
		return wrong("of", fmt.Sprintf("at most %d", maxOf), "%d roles and extensions", len(of))
	}
	for i, o := range of {
		field := fmt.Sprintf("of[%d]", i)
		ext := strings.ToLower(o)
		switch role := roleOf(o); {
		case role == RoleSidecar || g.roles[ext] == RoleSidecar:
			return wrong(field, "what is no sidecar", "%q: a sidecar owns nothing", o)
		case role != 0:
			r.of.roles |= 1 << role
		case g.roles[ext] != 0:
			r.of.exts += ext + " "
		default:
			return wrong(field, "one of "+strings.Join(roleNames()[:5], ", ")+", or an extension that has a role, such as .mp4", "%.40q", o)
		}
		r.of.some = true
	}
	return nil
}

func (g *Groups) compileFrom(r *rule, c CompanionRule) *RulesError {
	if c.From == "" && c.Stem == "" {
		return nil
	}
	read, ext, ok := strings.Cut(c.From, "{digits}")
	if !ok || read == "" || !isText(read) || r.ext == "" || strings.ToLower(ext) != r.ext {
		return wrong("from", wantFrom, "%.80q", c.From)
	}
	stem, rest, ok := strings.Cut(c.Stem, "{digits}")
	if !ok || rest != "" || !isText(stem) || len(stem) >= len(read) {
		return wrong("stem", wantStem, "%.80q", c.Stem)
	}
	if r.whole {
		return wrong("from", "a name with {stem}", "another spelling of %.80q", c.Name)
	}
	r.read, r.stem = read, stem
	return nil
}

// checkKind checks what depends on several fields.
func (g *Groups) checkKind(r rule, c CompanionRule) *RulesError {
	special := r.cut > 0 || r.number
	switch {
	case special && (r.ext == "" || g.roles[r.ext] != 0):
		return wrong("name", "an extension that has no role, with cut and number", "%.80q", c.Name)
	case special && len(c.Of) == 0:
		return wrong("of", "roles or extensions, with cut and number", "it is missing")
	case r.ext == xmp && g.roles[xmp] != RoleSidecar:
		return wrong("name", "xmp among roles.sidecar", "companions with an extension that is no sidecar's")
	case r.ext == xmp && (r.text != "" || r.read != ""):
		return wrong("name", `"{name}.xmp" or "{stem}.xmp", since what XMP says counts for names`, "%.80q", c.Name)
	}
	for _, other := range g.rules {
		if other.whole == r.whole && strings.EqualFold(other.text, r.text) && other.ext == r.ext && other.role == r.role {
			return wrong("name", "each pattern once", "%.80q stands there twice", c.Name)
		}
	}
	return nil
}
