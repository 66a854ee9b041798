package naming_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/naming"
)

// units writes units as "principal: companion companion".
func units(us []naming.Unit) []string {
	var out []string
	for _, u := range us {
		s := string(u.Principal) + ":"
		for _, c := range u.Companions {
			s += " " + string(c)
		}
		out = append(out, s)
	}
	return out
}

func TestArrange(t *testing.T) {
	for _, tc := range []struct {
		name    string
		members string
		want    []string
	}{
		{"alone", "d/a.jpg", []string{"d/a.jpg:"}},
		{"raw and jpeg", "a.JPG a.cr2", []string{"a.cr2: a.JPG"}},
		{"raw and heif", "a.HIF a.CR3", []string{"a.CR3: a.HIF"}},
		{"raw, jpeg and all sidecars", "a.CR2 a.CR2.xmp a.JPG a.JPG.xmp a.xmp", []string{"a.CR2: a.CR2.xmp a.JPG a.JPG.xmp a.xmp"}},
		{"both spellings", "a.jpg a.jpg.xmp a.XMP", []string{"a.jpg: a.XMP a.jpg.xmp"}},
		{"two xmp cases", "a.jpg a.XMP a.xmp", []string{"a.jpg: a.XMP a.xmp"}},
		{"unrelated principals", "a.png a.pdf", []string{"a.pdf:", "a.png:"}},
		{"a sidecar goes to the first role", "a.pdf a.png a.xmp", []string{"a.pdf:", "a.png: a.xmp"}},
		{"then to the first in byte order", "a.png a.gif a.xmp", []string{"a.gif: a.xmp", "a.png:"}},
		{"the whole name wins", "a.pdf a.png a.pdf.xmp", []string{"a.pdf: a.pdf.xmp", "a.png:"}},
		{"two raws", "a.dng a.cr2 a.jpg a.xmp", []string{"a.cr2: a.jpg a.xmp", "a.dng:"}},
		{"a jpeg and a heic do not belong together", "a.heic a.jpg", []string{"a.heic:", "a.jpg:"}},
		{"live photo", "IMG_1.HEIC IMG_1.MOV IMG_1.AAE", []string{"IMG_1.HEIC: IMG_1.AAE", "IMG_1.MOV:"}},
		{"thumbnail of a film", "MVI_1.AVI MVI_1.THM", []string{"MVI_1.AVI: MVI_1.THM"}},
		{"original's adjustments", "IMG_1234.HEIC IMG_1234.AAE IMG_O1234.AAE", []string{"IMG_1234.HEIC: IMG_1234.AAE IMG_O1234.AAE"}},
		{"renamed adjustments", "x.heic x_O.AAE", []string{"x.heic: x_O.AAE"}},
		{"an O of its own", "x.heic x_O.AAE x_O.heic", []string{"x.heic:", "x_O.heic: x_O.AAE"}},
		{"no adjustments", "IMG_1234.HEIC IMG_O1234.xmp", []string{"IMG_1234.HEIC:", "IMG_O1234.xmp:"}},
		{"edited image", "IMG_1234.HEIC", []string{"IMG_1234.HEIC:"}},
		{"orphans", "a.xmp a.thm", []string{"a.thm:", "a.xmp:"}},
		{"an orphan with a whole name", "a.jpg.xmp a.png", []string{"a.jpg.xmp:", "a.png:"}},
		{"sidecar of a sidecar", "a.jpg a.xmp.xmp", []string{"a.jpg:", "a.xmp.xmp:"}},
		{"no extension", "a a.xmp", []string{"a: a.xmp"}},
		{"no role: the whole name only", "a.bin a.bin.xmp", []string{"a.bin: a.bin.xmp"}},
		{"another case of the stem", "a.jpg A.xmp", []string{"A.xmp:", "a.jpg:"}},
		{"dots", "a.b.jpg a.b.xmp a.b.jpg.xmp", []string{"a.b.jpg: a.b.jpg.xmp a.b.xmp"}},
		{"extensions in the stem", "a.jpg.png a.jpg.xmp", []string{"a.jpg.png: a.jpg.xmp"}},
		{"hidden", ".a.jpg .a.xmp", []string{".a.jpg: .a.xmp"}},
		{"none", "", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var members []archive.Key
			for _, m := range strings.Fields(tc.members) {
				members = append(members, archive.Key(m))
			}
			slices.Reverse(members)
			if diff := cmp.Diff(tc.want, units(naming.Arrange(members))); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestGroupKey(t *testing.T) {
	for _, tc := range []struct{ key, want string }{
		{"d/A.JPG", "d/a"}, {"d/a.jpg.xmp", "d/a"}, {"D.x/a.xmp", "D.x/a"}, {"a.b.cr2", "a.b"}, {"IMG.0001.jpg", "img.0001"},
		{"scan.0001", "scan.0001"}, {"a.jpg.png", "a"}, {".jpg", ".jpg"}, {"d/.jpg.xmp", "d/.jpg"}, {"IMG_O12.AAE", "img_12"}, {"a_O.aae", "a"},
	} {
		if got := naming.GroupKey(archive.Key(tc.key)); got != tc.want {
			t.Errorf("GroupKey(%q): got %q, want %q", tc.key, got, tc.want)
		}
	}
}

// keys draws distinct keys of a few folders and stems, so that most have relatives.
func keys() *rapid.Generator[[]archive.Key] {
	piece := rapid.SampledFrom([]string{"a", "A", "b", ".", "_O", "IMG_O1", "IMG_1", ".jpg", ".JPG", ".cr2", ".dng", ".png", ".pdf", ".xmp", ".XMP", ".aae", ".bin"})
	key := rapid.Custom(func(t *rapid.T) archive.Key {
		folder := rapid.SampledFrom([]string{"", "", "d/", "d.jpg/"}).Draw(t, "folder")
		base := strings.Join(rapid.SliceOfN(piece, 1, 4).Draw(t, "base"), "")
		k, err := archive.ParseKey(folder + base)
		if err != nil {
			t.Skip()
		}
		return k
	})
	return rapid.SliceOfNDistinct(key, 1, 40, rapid.ID[archive.Key])
}

// Arranging everything at once and arranging by GroupKey give the same units: no group is split between two GroupKeys.
func TestArrangeRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := keys().Draw(t, "keys")
		byKey := map[string][]archive.Key{}
		for _, k := range all {
			byKey[naming.GroupKey(k)] = append(byKey[naming.GroupKey(k)], k)
		}
		var apart []naming.Unit
		for _, members := range byKey {
			apart = append(apart, naming.Arrange(members)...)
		}
		slices.SortFunc(apart, func(a, b naming.Unit) int { return strings.Compare(string(a.Principal), string(b.Principal)) })
		together := naming.Arrange(all)
		if diff := cmp.Diff(together, apart); diff != "" {
			t.Fatalf("together and apart differ:\n%s", diff)
		}
		var seen []archive.Key
		for _, u := range together {
			seen = append(append(seen, u.Principal), u.Companions...)
			for _, c := range u.Companions {
				if c.Dir() != u.Principal.Dir() {
					t.Fatalf("%q is a companion of %q", c, u.Principal)
				}
			}
		}
		slices.Sort(seen)
		slices.Sort(all)
		if !slices.Equal(seen, all) {
			t.Fatalf("members %q, in units %q", all, seen)
		}
	})
}

func TestCompanionName(t *testing.T) {
	for _, tc := range []struct{ principalOld, principalNew, companionOld, want archive.Key }{
		{"d/a.jpg", "n/b.jpg", "d/a.xmp", "n/b.xmp"},
		{"d/a.jpg", "n/b.jpg", "d/a.jpg.xmp", "n/b.jpg.xmp"},
		{"a.CR2", "n/b.cr2", "a.CR2.xmp", "n/b.cr2.xmp"},
		{"a.CR2", "n/b.cr2", "a.JPG", "n/b.JPG"},
		{"a.CR2", "n/b.cr2", "a.JPG.xmp", "n/b.JPG.xmp"},
		{"a.CR2", "n/b.cr2", "a.XMP", "n/b.XMP"},
		{"a.cr2", "2024.05", "a.xmp", "2024.05.xmp"},
		{"a.cr2", "2024.05", "a.cr2.xmp", "2024.05.xmp"},
		{"a.jpeg", "b.jpg", "a.xmp", "b.xmp"},
		{"a", "b", "a.xmp", "b.xmp"},
		{"a.bin", "b.bin", "a.bin.xmp", "b.bin.xmp"},
		{"IMG_1234.HEIC", "b.heic", "IMG_O1234.AAE", "b_O.AAE"},
		{"IMG_1234.HEIC", "b.heic", "IMG_1234.AAE", "b.AAE"},
		{"b.heic", "c.heic", "b_O.AAE", "c_O.AAE"},
		{"a.jpg.png", "b.png", "a.jpg.xmp", "b.xmp"},
	} {
		if got := naming.CompanionName(tc.principalOld, tc.principalNew, tc.companionOld); got != tc.want {
			t.Errorf("CompanionName(%q, %q, %q): got %q, want %q", tc.principalOld, tc.principalNew, tc.companionOld, got, tc.want)
		}
	}
}

// A renamed group is still a group, with distinct names, and renaming it back gives the old names.
func TestCompanionNameRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		for _, u := range naming.Arrange(keys().Draw(t, "keys")) {
			stem := rapid.SampledFrom([]archive.Key{"new", "n/2024.05", "n/x_y"}).Draw(t, "stem")
			principal := stem + archive.Key(u.Principal.Ext())
			moved := []archive.Key{principal}
			for _, c := range u.Companions {
				to := naming.CompanionName(u.Principal, principal, c)
				if _, err := archive.ParseKey(string(to)); err != nil || to.Dir() != principal.Dir() || !strings.EqualFold(to.Ext(), c.Ext()) {
					t.Fatalf("%q of %q became %q", c, u.Principal, to)
				}
				if slices.Contains(moved, to) && !strings.Contains(string(c), "O") {
					t.Fatalf("two of %v became %q", u, to)
				}
				moved = append(moved, to)
				back := naming.CompanionName(principal, u.Principal, to)
				if back != c && !strings.Contains(string(c), "IMG_O") {
					t.Fatalf("%q became %q, and back %q", c, to, back)
				}
			}
			if u.Principal.Ext() == "" || u.Principal.Ext() == "." || u.Principal.Ext() == ".bin" {
				continue
			}
			again := naming.Arrange(slices.Compact(slices.Sorted(slices.Values(moved))))
			if len(again) != 1 || again[0].Principal != principal {
				t.Fatalf("%v became %v", u, again)
			}
		}
	})
}
