package naming

import (
	"maps"
	"slices"
	"strings"

	"github.com/reshelf/reshelf/shared/archive"
)

// Role is what an object can be in a group, by its extension.
type Role uint8

// Roles. Where a sidecar could belong to several principals of one name, the one whose role comes first here gets it.
const (
	// RoleRaw is a camera's raw file: the principal of the renderings that the camera wrote beside it.
	RoleRaw Role = 1 + iota
	// RoleRendered is a JPEG or HEIF image: the companion of a raw file of its name, otherwise a principal.
	RoleRendered
	// RoleImage is any other image.
	RoleImage
	// RoleVideo is a film.
	RoleVideo
	// RoleOther is what else has sidecars: sound and documents.
	RoleOther
	// RoleSidecar describes the object of its name: always a companion where that object is present.
	RoleSidecar
)

// Groups say which objects move together: the role of each extension, in lower case with its dot. Extensions that it
// does not name have no role; such objects are principals whose sidecars must be spelled with the whole name, "a.bin.xmp".
//
// The rules:
//   - A group has one principal, whose new name the whole group gets, and companions, which all lie in its folder.
//   - "a.jpg.xmp" is the sidecar of "a.jpg" (the whole name), "a.xmp" of any "a.EXT" where EXT has a role (the stem).
//     The whole name is tried first.
//   - Where several objects have the stem, the sidecar belongs to the first by role, then by byte order of keys. So
//     "a.xmp" beside "a.cr2" and "a.jpg" belongs to the raw file, as Adobe's programs write it, and beside "a.png" and
//     "a.pdf" to the image.
//   - "a.jpg" beside "a.cr2" is the raw file's companion, and what belongs to "a.jpg" is the raw file's companion too.
//     Beside several raw files ("a.cr2" and "a.dng") renderings belong to the first by byte order; the raw files do not
//     belong together.
//   - Apple's "IMG_O1234.AAE", the adjustments of the original, belongs to "IMG_1234.EXT". It is renamed to "new_O.AAE",
//     a form that is also read.
//   - A sidecar that belongs to nothing is its own principal.
//   - Stems must be equal to the byte; the case of extensions does not matter.
type Groups map[string]Role

// DefaultGroups returns a new copy of the default rules.
func DefaultGroups() Groups {
	g := Groups{}
	for role, extensions := range map[Role]string{
		RoleRaw: ".3fr .arw .cr2 .cr3 .crw .dcr .dng .erf .fff .gpr .iiq .k25 .kdc .mef .mos .mrw .nef .nrw .orf .pef .raf " +
			".raw .rw2 .rwl .sr2 .srf .srw .x3f",
		RoleRendered: ".heic .heif .hif .jpe .jpeg .jpg",
		RoleImage:    ".avif .bmp .gif .jp2 .jxl .png .psb .psd .tif .tiff .webp",
		RoleVideo:    ".3gp .avi .m2ts .m4v .mkv .mov .mp4 .mpg .mts .mxf .webm .wmv",
		RoleOther:    ".aif .aiff .flac .m4a .mp3 .pdf .wav",
		RoleSidecar:  ".aae .thm .xmp",
	} {
		for _, e := range strings.Fields(extensions) {
			g[e] = role
		}
	}
	return g
}

// Unit is a principal with the companions that move with it, in byte order of keys.
type Unit struct {
	Principal  archive.Key
	Companions []archive.Key
	// Sidecars are those of the Companions that describe the principal itself in XMP, the whole name ("a.jpg.xmp") before
	// the stem ("a.xmp").
	Sidecars []archive.Key
}

// role is the role of an extension in any case of letters, 0 for none.
func (g Groups) role(ext string) Role { return g[strings.ToLower(ext)] }

// Key is equal for all objects that can belong to one group, and seldom for others: sort by it (and then by key) to have
// the members of each group beside each other. It is the folder and the name without all extensions that have a role, in
// lower case; it is never a name.
//
// Hostile archives can hold any number of objects with one Key, so bound what you gather.
func (g Groups) Key(key archive.Key) string {
	base := key.Base()
	folder := string(key[:len(key)-len(base)])
	for {
		shorter, ext := cutExt(base)
		if g.role(ext) == 0 {
			shorter = withoutO(base)
		}
		if shorter == base {
			return folder + strings.ToLower(base)
		}
		base = shorter
	}
}

// cutExt cuts a name before its extension, as archive.Key does.
func cutExt(base string) (stem, ext string) {
	ext = archive.Key(base).Ext()
	return base[:len(base)-len(ext)], ext
}

// withoutO is the stem that the adjustments of an original belong to: "IMG_1234" for "IMG_O1234", "a" for "a_O"; or the
// stem itself.
func withoutO(stem string) string {
	if number, ok := strings.CutPrefix(stem, "IMG_O"); ok && number != "" && strings.Trim(number, "0123456789") == "" {
		return "IMG_" + number
	}
	if s, ok := strings.CutSuffix(stem, "_O"); ok && s != "" {
		return s
	}
	return stem
}

// Arrange divides members, which all have the same Key, into units in byte order of their principals. Every member is in
// exactly one unit. Members must be distinct; their order does not matter. Time and memory grow with their number only.
func (g Groups) Arrange(members []archive.Key) []Unit {
	sorted := slices.Sorted(slices.Values(members))
	a := arrangement{groups: g, byName: map[string]bool{}, byStem: map[string]archive.Key{}, principal: map[archive.Key]archive.Key{}}
	for _, k := range sorted {
		if a.isSidecar(k) {
			continue
		}
		a.byName[string(k)] = true
		a.offer(k)
	}
	for _, k := range sorted {
		a.principal[k] = a.of(k)
	}
	units := map[archive.Key]*Unit{}
	for _, k := range sorted {
		p := a.principal[k]
		if units[p] == nil {
			units[p] = &Unit{Principal: p}
		}
		if k != p {
			units[p].Companions = append(units[p].Companions, k)
		}
		if k != p && IsXMP(k) && a.owner(k) == p {
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

// arrangement finds the principal of each member.
type arrangement struct {
	groups Groups
	// byName holds the keys that are not sidecars.
	byName map[string]bool
	// byStem is the object that a stem's sidecars belong to, the folder included in the stem.
	byStem    map[string]archive.Key
	principal map[archive.Key]archive.Key
}

func (a *arrangement) role(k archive.Key) Role { return a.groups.role(k.Ext()) }

func (a *arrangement) isSidecar(k archive.Key) bool { return a.role(k) == RoleSidecar }

// stem is the key without its extension.
func stem(k archive.Key) string { return string(k[:len(k)-len(k.Ext())]) }

// offer makes k the owner of its stem unless a better one is known. It is called in byte order of keys.
func (a *arrangement) offer(k archive.Key) {
	role := a.role(k)
	if role == 0 {
		return
	}
	if best, ok := a.byStem[stem(k)]; !ok || role < a.role(best) {
		a.byStem[stem(k)] = k
	}
}

// of is the principal of k, which is k itself if it belongs to nothing.
func (a *arrangement) of(k archive.Key) archive.Key {
	owner := a.owner(k)
	if owner == k || a.role(owner) != RoleRendered {
		return owner
	}
	return a.owner(owner)
}

// owner is what k belongs to directly.
func (a *arrangement) owner(k archive.Key) archive.Key {
	s := stem(k)
	switch a.role(k) {
	case RoleRendered:
		if best := a.byStem[s]; a.role(best) == RoleRaw {
			return best
		}
	case RoleSidecar:
		if a.byName[s] {
			return archive.Key(s)
		}
		if best, ok := a.byStem[s]; ok {
			return best
		}
		return a.ownerOfO(k)
	}
	return k
}

// ownerOfO is the owner of the adjustments of an original, or k.
func (a *arrangement) ownerOfO(k archive.Key) archive.Key {
	if !strings.EqualFold(k.Ext(), aae) {
		return k
	}
	name := k.Stem()
	folder := stem(k)[:len(stem(k))-len(name)]
	if best, ok := a.byStem[folder+withoutO(name)]; ok {
		return best
	}
	return k
}

// aae is the extension of the adjustments that Apple Photos writes.
const aae = ".aae"

// CompanionName is the new key of a companion whose principal moves from principalOld to principalNew: the principal's
// new folder and name with what the companion has behind the old one, as it is spelled there. So with "a.CR2" moving to
// "n/b.cr2", "a.CR2.xmp" becomes "n/b.cr2.xmp", "a.JPG" becomes "n/b.JPG" and "a.JPG.xmp" becomes "n/b.JPG.xmp".
//
// The companion must be from the principal's Unit. The new key is not cut, since it would then no longer belong to its
// principal: see [Check].
func CompanionName(principalOld, principalNew, companionOld archive.Key) archive.Key {
	base := companionOld.Base()
	if rest, ok := strings.CutPrefix(base, principalOld.Base()); ok && strings.HasPrefix(rest, ".") {
		return principalNew + archive.Key(rest)
	}
	newStem := newStem(principalOld, principalNew)
	if rest, ok := strings.CutPrefix(base, principalOld.Stem()); ok && (strings.HasPrefix(rest, ".") || strings.HasPrefix(rest, "_O.")) {
		return newStem + archive.Key(rest)
	}
	if name, ext := cutExt(base); withoutO(name) != name {
		return newStem + archive.Key("_O"+ext)
	}
	return newStem + archive.Key(companionOld.Ext())
}

// newStem is principalNew without its extension. A template that leaves the extension out may give a name with a dot in
// it ("2024.05"), so only the old extension, or one with a role, is taken for an extension.
func newStem(principalOld, principalNew archive.Key) archive.Key {
	ext := principalNew.Ext()
	if strings.EqualFold(ext, principalOld.Ext()) || defaultGroups.role(ext) != 0 {
		return principalNew[:len(principalNew)-len(ext)]
	}
	return principalNew
}

// GroupKey is [Groups.Key] of the default rules.
func GroupKey(key archive.Key) string { return defaultGroups.Key(key) }

// Arrange is [Groups.Arrange] of the default rules.
func Arrange(members []archive.Key) []Unit { return defaultGroups.Arrange(members) }

// defaultGroups is never changed.
var defaultGroups = DefaultGroups() //nolint:gochecknoglobals // never changed; made once because it is asked for every object
