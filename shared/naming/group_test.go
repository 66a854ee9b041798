package naming_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
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
		{"live photo", "IMG_1.HEIC IMG_1.MOV IMG_1.AAE", []string{"IMG_1.HEIC: IMG_1.AAE IMG_1.MOV"}},
		{"live photo in two spellings of case", "IMG_1.jpg IMG_1.mov", []string{"IMG_1.jpg: IMG_1.mov"}},
		{"live photo with sidecars of both", "a.HEIC a.MOV a.MOV.xmp a.HEIC.json a.MOV.json", []string{"a.HEIC: a.HEIC.json a.MOV a.MOV.json a.MOV.xmp"}},
		{"raw, jpeg and film", "a.DNG a.JPG a.MOV a.JPG.json", []string{"a.DNG: a.JPG a.JPG.json a.MOV"}},
		{"a raw file and a film", "a.DNG a.MOV", []string{"a.DNG:", "a.MOV:"}},
		{"no still image", "a.png a.MOV", []string{"a.MOV:", "a.png:"}},
		{"live photo of a takeout", "a.HEIC a.MP4", []string{"a.HEIC: a.MP4"}},
		{"a film in MP4 beside a JPEG", "a.JPG a.MP4", []string{"a.JPG:", "a.MP4:"}},
		{"films have companions too", "MVI_1.MOV MVI_1.THM", []string{"MVI_1.MOV: MVI_1.THM"}},
		{"a burst", "IMG_1.jpg IMG_1_BURST001.jpg IMG_1_BURST002.jpg IMG_1_BURST002.jpg.xmp",
			[]string{"IMG_1.jpg:", "IMG_1_BURST001.jpg:", "IMG_1_BURST002.jpg: IMG_1_BURST002.jpg.xmp"}},
		{"a burst of a telephone", "00000IMG_00000_BURST20240101_COVER.jpg 00001IMG_00001_BURST20240101.jpg",
			[]string{"00000IMG_00000_BURST20240101_COVER.jpg:", "00001IMG_00001_BURST20240101.jpg:"}},
		{"Sony", "C0001.MP4 C0001M01.XML", []string{"C0001.MP4: C0001M01.XML"}},
		{"Sony's XDCAM in lower case", "c0001.mxf c0001m01.xml", []string{"c0001.mxf: c0001m01.xml"}},
		{"not Sony's", "C0001.JPG C0001M01.XML C0002.MP4 C0002.XML C0002M02.XML",
			[]string{"C0001.JPG:", "C0001M01.XML:", "C0002.MP4:", "C0002.XML:", "C0002M02.XML:"}},
		{"a film called M01", "C0001.MP4 C0001M01.MP4 C0001M01.XML C0001M01.xmp", []string{"C0001.MP4: C0001M01.XML", "C0001M01.MP4: C0001M01.xmp"}},
		{"takeout", "IMG.jpg IMG.jpg.json", []string{"IMG.jpg: IMG.jpg.json"}},
		{"takeout of today", "IMG.jpg IMG.jpg.supplemental-metadata.json", []string{"IMG.jpg: IMG.jpg.supplemental-metadata.json"}},
		{"cut", "IMG.jpg IMG.jpg.supplemental-metad.json", []string{"IMG.jpg: IMG.jpg.supplemental-metad.json"}},
		{"cut to one letter", "IMG.jpg IMG.jpg.s.json", []string{"IMG.jpg: IMG.jpg.s.json"}},
		{"cut to the dot", "IMG.jpg IMG.jpg..json", []string{"IMG.jpg: IMG.jpg..json"}},
		{"cut in the extension", "123456789123456789123456789123456789_DSCN01.JPG 123456789123456789123456789123456789_DSCN01.JP.json",
			[]string{"123456789123456789123456789123456789_DSCN01.JPG: 123456789123456789123456789123456789_DSCN01.JP.json"}},
		{"cut in the extension, but not to 46", "123456789123456789123456789123456789_DSCN1.JPG 123456789123456789123456789123456789_DSCN1.JP.json",
			[]string{"123456789123456789123456789123456789_DSCN1.JP.json:", "123456789123456789123456789123456789_DSCN1.JPG:"}},
		{"cut at the dot", "123456789123456789123456789123456789_DSCN0123.JPG 123456789123456789123456789123456789_DSCN0123..json",
			[]string{"123456789123456789123456789123456789_DSCN0123.JPG: 123456789123456789123456789123456789_DSCN0123..json"}},
		{"cut in the stem", "original_1d4caa6f-16c6-4c3d-901b-9387de10e528_P.jpg original_1d4caa6f-16c6-4c3d-901b-9387de10e528_.json",
			[]string{"original_1d4caa6f-16c6-4c3d-901b-9387de10e528_P.jpg: original_1d4caa6f-16c6-4c3d-901b-9387de10e528_.json"}},
		{"cut in the stem, of two", "original_1d4caa6f-16c6-4c3d-901b-9387de10e528_P.jpg original_1d4caa6f-16c6-4c3d-901b-9387de10e528_Q.jpg original_1d4caa6f-16c6-4c3d-901b-9387de10e528_.json",
			[]string{"original_1d4caa6f-16c6-4c3d-901b-9387de10e528_.json:", "original_1d4caa6f-16c6-4c3d-901b-9387de10e528_P.jpg:", "original_1d4caa6f-16c6-4c3d-901b-9387de10e528_Q.jpg:"}},
		{"cut in a stem with a number", "Backyard_ceremony_wedding_photography_xxxxxxx_m(494).jpg Backyard_ceremony_wedding_photography_xxxxxxx_(494).json",
			[]string{"Backyard_ceremony_wedding_photography_xxxxxxx_m(494).jpg: Backyard_ceremony_wedding_photography_xxxxxxx_(494).json"}},
		{"cut in UTF-16", "😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀xyz.jpg 😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀xy.json",
			[]string{"😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀xyz.jpg: 😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀xy.json"}},
		{"cut in the stem, beside one that begins so and is longer", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxabcd.bin.jpg xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxabcd.jpg xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxabcd.json",
			[]string{"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxabcd.bin.jpg:", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxabcd.jpg: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxabcd.json"}},
		{"cut into what another rule puts there", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx_O.jpg xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx_.json", []string{"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx_.json:", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx_O.jpg:"}},
		{"numbered", "IMG(1).jpg IMG.jpg(1).json IMG.jpg IMG.jpg.json", []string{"IMG(1).jpg: IMG.jpg(1).json", "IMG.jpg: IMG.jpg.json"}},
		{"numbered today", "IMG(1).jpg IMG.jpg.supplemental-metadata(1).json IMG(2).jpg IMG.jpg.supple(2).json",
			[]string{"IMG(1).jpg: IMG.jpg.supplemental-metadata(1).json", "IMG(2).jpg: IMG.jpg.supple(2).json"}},
		{"numbered, of nothing", "IMG.jpg IMG.jpg(1).json", []string{"IMG.jpg:", "IMG.jpg(1).json:"}},
		{"without the extension", "Peanut.jpg Peanut.supplemental-metadata.json", []string{"Peanut.jpg: Peanut.supplemental-metadata.json"}},
		{"JSON of no image", "a.json a.jpg b.pdf b.pdf.json c.bin c.bin.json metadata.json d.jpg.metadata.json d.jpg",
			[]string{"a.jpg:", "a.json:", "b.pdf:", "b.pdf.json:", "c.bin:", "c.bin.json:", "d.jpg:", "d.jpg.metadata.json:", "metadata.json:"}},
		{"XMP of a JSON", "a.jpg a.jpg.json a.jpg.json.xmp", []string{"a.jpg: a.jpg.json a.jpg.json.xmp"}},
		{"a raw file's JPEG's takeout", "a(1).CR2 a(1).JPG a.JPG.s(1).json", []string{"a(1).CR2: a(1).JPG a.JPG.s(1).json"}},
		{"thumbnail of a film", "MVI_1.AVI MVI_1.THM", []string{"MVI_1.AVI: MVI_1.THM"}},
		{"original's adjustments", "IMG_1234.HEIC IMG_1234.AAE IMG_O1234.AAE", []string{"IMG_1234.HEIC: IMG_1234.AAE IMG_O1234.AAE"}},
		{"renamed adjustments", "x.heic x_O.AAE", []string{"x.heic: x_O.AAE"}},
		{"an O of its own with two sidecars", "x_O.heic x_O.AAE x_O.heic.aae", []string{"x_O.heic: x_O.AAE x_O.heic.aae"}},
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
			if diff := cmp.Diff(tc.want, units(naming.DefaultGroups().Arrange(members))); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			checkArrange(t, naming.DefaultGroups(), members)
		})
	}
}

func TestGroupKey(t *testing.T) {
	g := naming.DefaultGroups()
	for _, tc := range []struct{ key, want string }{
		{"d/A.JPG", "d/a"}, {"d/a.jpg.xmp", "d/a"}, {"D.x/a.xmp", "D.x/a"}, {"a.b.cr2", "a.b"}, {"IMG.0001.jpg", "img.0001"},
		{"scan.0001", "scan.0001"}, {"a.jpg.png", "a"}, {".jpg", ".jpg"}, {"d/.jpg.xmp", "d/.jpg"}, {"IMG_O12.AAE", "img_12"}, {"a_O.aae", "a"},
		{"C0001M01.XML", "c0001"}, {"report.xml", "report.xml"}, {"data.json", "data"}, {"IMG.jpg.supple(12).json", "img(12)"}, {"IMG(12).JPG", "img(12)"},
		{"a(1)(2).jpg", "a(1)(2)"}, {"(1).jpg", "(1)"}, {"a().jpg", "a()"}, {"a(1", "a(1"}, {"IMG_1_BURST001.jpg", "img_1_burst001"},
		{"The Smith family archive of photographs, box 12345.tif", "the smith family archive of photographs, box 12345"},
	} {
		if got := g.Key(archive.Key(tc.key)); got != tc.want {
			t.Errorf("Key(%q): got %q, want %q", tc.key, got, tc.want)
		}
	}
}

// keys draws distinct keys of a few folders and stems, so that most have relatives.
func keys() *rapid.Generator[[]archive.Key] {
	long := strings.Repeat("x", 42)
	stem := rapid.SampledFrom([]string{"a", "a", "A", "b", ".", "IMG_O1", "IMG_1", long + "a", long + "abc", long + "abcd", long + "abcdP"})
	piece := rapid.SampledFrom([]string{
		"a", ".", "_O", ".jpg", ".jpg", ".JPG", ".heic", ".cr2", ".dng", ".png", ".pdf", ".mov", ".MP4", ".xmp", ".XMP", ".aae", ".bin", "M01", ".XML",
		".json", ".json", ".supplemental-metadata", ".s", "(1)", "(1)", "(23)", ".j",
	})
	key := rapid.Custom(func(t *rapid.T) archive.Key {
		folder := rapid.SampledFrom([]string{"", "", "d/", "d.jpg/"}).Draw(t, "folder")
		base := stem.Draw(t, "stem") + strings.Join(rapid.SliceOfN(piece, 0, 4).Draw(t, "base"), "")
		k, err := archive.ParseKey(folder + base)
		if err != nil {
			t.Skip()
		}
		return k
	})
	return rapid.SliceOfNDistinct(key, 1, 40, rapid.ID[archive.Key])
}

// rules draws rules of few extensions and texts, which meet and contradict each other often.
func rules() *rapid.Generator[naming.Rules] {
	text := rapid.SampledFrom([]string{"", "", "_O", "M01", "a", "_Oa", ".s", ".supplemental-metadata", ".json", "IMG_O1"})
	ext := rapid.SampledFrom([]string{".jpg", ".mov", ".xml", ".json", ".bin", ".aae", "{raw}", "{rendered}", "{video}"})
	of := rapid.SliceOfN(rapid.SampledFrom([]string{"raw", "rendered", "video", ".jpg", ".mov", ".png"}), 0, 2)
	return rapid.Custom(func(t *rapid.T) naming.Rules {
		r := naming.Rules{Roles: map[string][]string{
			"raw": {"cr2", "dng"}, "rendered": {"jpg", "heic"}, "image": {"png"}, "video": {"mov", "mp4"}, "other": {"pdf"}, "sidecar": {"aae", "xmp"},
		}}
		for range rapid.IntRange(0, 8).Draw(t, "companions") {
			c := naming.CompanionRule{
				Name: rapid.SampledFrom([]string{"{name}", "{stem}"}).Draw(t, "of") + text.Draw(t, "text") + ext.Draw(t, "ext"), Of: of.Draw(t, "owners"),
				Number: rapid.Bool().Draw(t, "number"), Cut: rapid.SampledFrom([]int{0, 16, 46}).Draw(t, "cut"),
			}
			if strings.HasSuffix(c.Name, ".aae") && rapid.Bool().Draw(t, "from") {
				c.From, c.Stem = "IMG_O{digits}.aae", "IMG_{digits}"
			}
			one := r
			one.Companions = append(slices.Clone(r.Companions), c)
			if one.Validate() == nil {
				r = one
			}
		}
		return r
	})
}

func TestArrangeRules(t *testing.T) {
	g := naming.DefaultGroups()
	rapid.Check(t, func(t *rapid.T) { checkArrange(t, g, keys().Draw(t, "keys")) })
}

// Whatever the rules are, what Arrange and Key promise is true.
func TestArrangeByAnyRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g, err := rules().Draw(t, "rules").Groups()
		if err != nil {
			t.Fatal(err)
		}
		checkArrange(t, g, keys().Draw(t, "keys"))
	})
}

// checkArrange: arranging everything at once and arranging by Key give the same units, so no group is split between two Keys,
// and every member is in exactly one of them.
func checkArrange(t rapid.TB, g *naming.Groups, all []archive.Key) {
	byKey := map[string][]archive.Key{}
	for _, k := range all {
		byKey[g.Key(k)] = append(byKey[g.Key(k)], k)
	}
	var apart []naming.Unit
	for _, members := range byKey {
		apart = append(apart, g.Arrange(members)...)
	}
	slices.SortFunc(apart, func(a, b naming.Unit) int { return strings.Compare(string(a.Principal), string(b.Principal)) })
	together := g.Arrange(all)
	if diff := cmp.Diff(together, apart, cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("together and apart differ:\n%s", diff)
	}
	var seen []archive.Key
	for _, u := range together {
		seen = append(append(seen, u.Principal), u.Companions...)
		if len(u.Tails) != len(u.Companions) {
			t.Fatalf("%v has %d tails", u, len(u.Tails))
		}
		for _, c := range u.Companions {
			if c.Dir() != u.Principal.Dir() || g.Key(c) != g.Key(u.Principal) {
				t.Fatalf("%q is a companion of %q", c, u.Principal)
			}
		}
	}
	slices.Sort(seen)
	slices.Sort(all)
	if !slices.Equal(seen, all) {
		t.Fatalf("members %q, in units %q", all, seen)
	}
}

func TestCompanionNames(t *testing.T) {
	for _, tc := range []struct {
		principalNew   archive.Key
		members, names string // of the companions, in byte order
	}{
		{"n/b.jpg", "d/a.jpg d/a.xmp", "n/b.xmp"},
		{"n/b.jpg", "d/a.jpg d/a.jpg.xmp", "n/b.jpg.xmp"},
		{"n/b.cr2", "a.CR2 a.CR2.xmp a.JPG a.JPG.xmp a.XMP", "n/b.cr2.xmp n/b.JPG n/b.JPG.xmp n/b.XMP"},
		{"2024.05", "a.cr2 a.xmp", "2024.05.xmp"},
		{"2024.05", "a.cr2 a.cr2.xmp", "2024.05.xmp"},
		{"b.jpg", "a.jpeg a.xmp", "b.xmp"},
		{"b", "a a.xmp", "b.xmp"},
		{"b.bin", "a.bin a.bin.xmp", "b.bin.xmp"},
		{"b.heic", "IMG_1234.HEIC IMG_1234.AAE IMG_O1234.AAE", "b.AAE b_O.AAE"},
		{"c.heic", "b.heic b_O.AAE", "c_O.AAE"},
		{"b.png", "a.jpg.png a.jpg.xmp", "b.xmp"},
		{"new.mp4", "C0001.MP4 C0001M01.XML", "newM01.XML"},
		{"new.mp4", "c0001.mp4 c0001m01.xml", "newm01.xml"},
		{"new.heic", "IMG_1.HEIC IMG_1.MOV IMG_1.MOV.json", "new.MOV new.MOV.json"},
		{"new.heic", "C0001.HEIC C0001.MP4 C0001M01.XML", "new.MP4 newM01.XML"},
		{"new.jpg", "IMG.jpg IMG.jpg.json", "new.jpg.json"},
		{"new.jpg", "IMG.jpg IMG.jpg.supplemental-metadata.json", "new.jpg.supplemental-metadata.json"},
		{"new.jpg", "IMG.jpg IMG.jpg.supplemental-metad.json", "new.jpg.supplemental-metadata.json"},
		{"new.jpg", "IMG(1).jpg IMG.jpg(1).json", "new.jpg.json"},
		{"new.jpg", "IMG(1).jpg IMG.jpg.supple(1).json", "new.jpg.supplemental-metadata.json"},
		{"new(1).jpg", "IMG.jpg IMG.jpg.json", "new(1).jpg.json"},
		{"new.jpg", "Peanut.jpg Peanut.supplemental.json", "new.supplemental-metadata.json"},
		{"new.jpg", "original_1d4caa6f-16c6-4c3d-901b-9387de10e528_P.jpg original_1d4caa6f-16c6-4c3d-901b-9387de10e528_.json", "new.jpg.json"},
		{"new.cr2", "a(1).CR2 a(1).JPG a.JPG.s(1).json", "new.JPG new.JPG.supplemental-metadata.json"},
		{"new.jpg", "a.jpg a.jpg.s.json a.jpg.s.json.xmp", "new.jpg.supplemental-metadata.json new.jpg.supplemental-metadata.json.xmp"},
	} {
		g := naming.DefaultGroups()
		var members []archive.Key
		for _, m := range strings.Fields(tc.members) {
			members = append(members, archive.Key(m))
		}
		us := g.Arrange(members)
		if len(us) != 1 || us[0].Principal != members[0] {
			t.Errorf("%s: %v", tc.members, units(us))
			continue
		}
		if got := strings.Trim(fmt.Sprint(g.CompanionNames(us[0], tc.principalNew)), "[]"); got != tc.names {
			t.Errorf("%s to %s: got %q, want %q", tc.members, tc.principalNew, got, tc.names)
		}
	}
}

// A renamed group is still a group, in which each companion has the name that follows from the principal's.
func TestCompanionNamesRules(t *testing.T) {
	g := naming.DefaultGroups()
	rapid.Check(t, func(t *rapid.T) {
		for _, u := range g.Arrange(keys().Draw(t, "keys")) {
			stem := rapid.SampledFrom([]archive.Key{"new", "n/2024.05", "n/x_y", "n(1)", archive.Key(strings.Repeat("y", 60))}).Draw(t, "stem")
			principal := stem + archive.Key(u.Principal.Ext())
			moved := g.CompanionNames(u, principal)
			for i, to := range moved {
				c := u.Companions[i]
				if _, err := archive.ParseKey(string(to)); err != nil || to.Dir() != principal.Dir() || !strings.EqualFold(to.Ext(), c.Ext()) {
					t.Fatalf("%q of %q became %q", c, u.Principal, to)
				}
				// Only what is read in several spellings can meet.
				if slices.Index(moved, to) < i && !strings.Contains(string(c), "IMG_O") && !strings.EqualFold(archive.Key(strings.TrimSuffix(string(c), ".xmp")).Ext(), ".json") {
					t.Fatalf("two of %v became %q", u, to)
				}
			}
			slices.Sort(moved)
			moved = slices.Compact(moved)
			again := g.Arrange(append(moved, principal))
			if len(again) != 1 || again[0].Principal != principal {
				t.Fatalf("%v became %v", u, again)
			}
			if got := g.CompanionNames(again[0], principal); !slices.Equal(got, moved) {
				t.Fatalf("%v became %v, and under the same name %v", u, moved, got)
			}
		}
	})
}

// Time and memory of hostile members grow with their number only.
func TestArrangeHostile(t *testing.T) {
	g := naming.DefaultGroups()
	var members []archive.Key
	for i := range 20_000 {
		members = append(members, archive.Key(fmt.Sprintf("a%s.jpg.%06d.json", strings.Repeat("(1)", i%50), i)))
	}
	chain := archive.Key("b.jpg")
	for len(chain) < 4000 {
		members = append(members, chain)
		chain += ".json"
	}
	began := time.Now()
	if got := len(g.Arrange(members)); got < 20_000 {
		t.Errorf("%d units of %d members", got, len(members))
	}
	g.Key(archive.Key(strings.Repeat("(1).json", 500)))
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
}
