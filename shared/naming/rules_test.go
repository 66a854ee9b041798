package naming_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/naming"
)

func TestDefaultRules(t *testing.T) {
	r, err := naming.ParseRules([]byte(naming.DefaultRulesText()))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r, naming.DefaultRules()); diff != "" {
		t.Error(diff)
	}
	if n := len(r.Roles["raw"]); n != 28 || len(r.Companions) != 14 {
		t.Errorf("%d raw extensions, %d companions; want 28, 14", n, len(r.Companions))
	}
}

// The example in docs/groups.md is right.
func TestRulesPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/groups.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(page), "```yaml\n")
	file, _, closed := strings.Cut(rest, "```\n")
	if !ok || !closed {
		t.Fatal("there is no example")
	}
	if _, err := naming.ParseRules([]byte(file)); err != nil {
		t.Error(err)
	}
}

// Rules travel as JSON.
func TestRulesSurviveJSON(t *testing.T) {
	want := naming.DefaultRules()
	raw, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got naming.Rules
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" || got.Validate() != nil {
		t.Errorf("%v\n%s", got.Validate(), diff)
	}
}

const some = "roles: {raw: [dng], rendered: [jpg, heic], video: [mov], sidecar: [xmp]}\n"

func TestWrongRules(t *testing.T) {
	companion := func(fields string) string { return some + "companions:\n  - name: '{stem}.jpg'\n  - " + fields }
	for _, tc := range []struct{ file, want string }{
		{"", "the file is empty; want one document of YAML with roles and companions"},
		{"# nothing", "the file is empty; want"},
		{"roles: [", "line 1, did not find expected node content; want one document"},
		{"roles:\n\t- a", "line 2, found character that cannot start any token"},
		{some + "---\n" + some, "line 2, a second document; want one document"},
		{"hello", `line 1, "hello"; want the fields roles, companions`},
		{"- a", "line 1, a list; want the fields roles, companions"},
		{some + "rules: []", `line 2, unknown field "rules"; want the fields roles, companions`},
		{some + some, `line 2, the field "roles" a second time; want it once`},
		{"roles:", "line 1, roles, nothing; want the fields raw, rendered, image, video, other, sidecar"},
		{"roles: {}", "line 1, roles, no roles; want extensions of at least one role"},
		{"companions: []", "line 1, roles, no roles; want"},
		{"roles:\n  raw: [dng]\n  film: [mov]", `line 3, roles, unknown field "film"; want the fields raw,`},
		{"roles:\n  raw: dng", `line 2, roles.raw, "dng"; want a list of extensions`},
		{"roles:\n  raw: [dng,\n    .nef]", `line 3, roles.raw[1], ".nef"; want an extension of at most 16 letters and digits, without a dot`},
		{"roles:\n  raw: [dng,\n    [nef]]", "line 3, roles.raw[1], a list; want extensions"},
		{"roles:\n  raw: [dng]\n  image:\n    - DNG", `line 4, roles.image[0], "DNG" has the role raw already; want each extension once`},
		{"roles:\n  image: [xmp]", "line 2, roles.image[0], xmp; want the role sidecar for it"},
		{"roles:\n  raw: [" + many(501, "e%d") + "]", "line 2, roles.raw, 501 extensions; want at most 500"},
		{"roles:\n  raw: [" + many(400, "e%d") + "]\n  image: [" + many(400, "f%d") + "]", "too many extensions; want at most 500"},
		{some + "companions: {}", "line 2, companions, fields; want a list of companions"},
		{some + "companions: [" + many(65, "{name: '{name}.e%d'}") + "]", "line 2, companions, 65 companions; want at most 64"},
		{companion("'{name}.json'"), `line 4, companions[1], "{name}.json"; want the fields name, of,`},
		{companion("of: [raw]"), `line 4, companions[1].name, ""; want a pattern such as`},
		{companion("name: '{base}.json'"), `line 4, companions[1].name, "{base}.json"; want a pattern such as "{name}.json"`},
		{companion("name: '{name}{stem}.json'"), "want a pattern"},
		{companion("name: '{name}json'"), "want a pattern"},
		{companion("name: '{name}.'"), "want a pattern"},
		{companion("name: '{name}.a/b'"), "want a pattern"},
		{companion("name: '{name}/../x.json'"), "want a pattern"},
		{companion("name: '{stem}1.json'"), "want a pattern"},
		{companion("name: '{stem}(1).json'"), "want a pattern"},
		{companion("name: '{stem}é.json'"), "want a pattern"},
		{companion("name: '{stem}{film}'"), "want a pattern"},
		{companion("name: '{stem}{sidecar}'"), "want a pattern"},
		{companion("name: '{name}{raw}'"), "want a pattern"},
		{companion("name: '{stem}" + strings.Repeat("x", 65) + ".json'"), "want a pattern"},
		{companion("name: '{stem}.JPG'"), `line 4, companions[1].name, "{stem}.JPG" stands there twice; want each pattern once`},
		{companion("name: '{stem}x.xmp'"), `want "{name}.xmp" or "{stem}.xmp", since what XMP says counts for names`},
		{"roles: {raw: [dng]}\ncompanions: [{name: '{name}.xmp'}]", "line 2, companions[0].name, companions with an extension that is no sidecar's; want xmp among roles.sidecar"},
		{companion("name: '{stem}.x'\n    of: raw"), `line 5, companions[1].of, "raw"; want a list of roles or extensions`},
		{companion("name: '{stem}.x'\n    of: [raw,\n      rw]"), `line 6, companions[1].of[1], "rw"; want one of raw, rendered, image, video, other, or an extension that has a role, such as .mp4`},
		{companion("name: '{stem}.x'\n    of: [.png]"), `companions[1].of[0], ".png"; want one of raw`},
		{companion("name: '{stem}.x'\n    of: [sidecar]"), `"sidecar": a sidecar owns nothing; want what is no sidecar`},
		{companion("name: '{stem}.x'\n    of: [.xmp]"), "a sidecar owns nothing"},
		{companion("name: '{stem}.x'\n    of: [" + many(33, "raw#%d") + "]"), "33 roles or extensions; want at most 32"},
		{companion("name: '{name}.x'\n    of: [raw]\n    cut: 5"), "line 6, companions[1].cut, 5; want a number from 16 to 255"},
		{companion("name: '{name}.x'\n    cut: many"), `line 5, companions[1].cut, "many"; want a number`},
		{companion("name: '{name}.x'\n    number: 1"), `line 5, companions[1].number, "1"; want true or false`},
		{companion("name: '{name}.x'\n    number: true"), "line 4, companions[1].of, it is missing; want roles or extensions, with cut and number"},
		{companion("name: '{name}.mov'\n    of: [raw]\n    cut: 46"), "want an extension that has no role, with cut and number"},
		{companion("name: '{stem}_O.x'\n    from: 'O{digits}.y'\n    stem: '{digits}'"), `line 5, companions[1].from, "O{digits}.y"; want a pattern such as "IMG_O{digits}.aae", with the extension of name`},
		{companion("name: '{stem}_O.x'\n    from: 'O{digits}.x'"), `companions[1].stem, ""; want a pattern such as "IMG_{digits}", shorter than from`},
		{companion("name: '{stem}_O.x'\n    from: 'O{digits}.x'\n    stem: 'IMG{digits}'"), "shorter than from"},
		{companion("name: '{stem}_O.x'\n    stem: 'IMG{digits}'"), `companions[1].from, ""; want`},
		{companion("name: '{name}_O.x'\n    from: 'O{digits}.x'\n    stem: '{digits}'"), "want a name with {stem}"},
		{"roles: &a {raw: [dng]}", "line 1, roles, an anchor or alias; want the fields"},
		{"a: &a [x, x]\nroles: {raw: *a}", `unknown field "a"`},
		{"roles: {raw: *a}", "unknown anchor 'a' referenced"},
		{some + "#" + strings.Repeat("x", naming.MaxRulesBytes), "bytes; want at most 65536"},
		{strings.Repeat("[", 60_000), "want one document"},
		{"roles: {raw: [\"\\e[2J\"]}", `"\\x1b[2J"; want an extension`},
	} {
		_, err := naming.ParseRules([]byte(tc.file))
		var wrong *naming.RulesError
		if !errors.As(err, &wrong) || !errors.Is(err, naming.ErrRules) || !strings.HasPrefix(err.Error(), "invalid rules of groups: ") || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%.80q: got %v, want %q", tc.file, err, tc.want)
		}
	}
}

func many(n int, format string) string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf(strings.ReplaceAll(format, "#%d", "%.0d"), i)
	}
	return strings.Join(all, ", ")
}

// Rules can be replaced as a whole.
func TestOtherRules(t *testing.T) {
	for _, tc := range []struct{ name, companions, members, want string }{
		{"nothing moves together", "[]", "a.dng a.jpg a.xmp", "a.dng: / a.jpg: / a.xmp:"},
		{"films stay by themselves", "[{name: '{stem}{rendered}', of: [raw]}, {name: '{stem}.xmp'}]", "a.jpg a.mov a.xmp", "a.jpg: a.xmp / a.mov:"},
		{"edited copies", "[{name: '{stem}_edited{rendered}', of: [rendered]}, {name: '{stem}.xmp'}]", "a.jpg a_edited.JPG a_edited.xmp b_edited.jpg",
			"a.jpg: a_edited.JPG a_edited.xmp / b_edited.jpg:"},
		{"the whole name comes first whatever the order", "[{name: '{stem}.xmp'}, {name: '{name}.xmp'}]", "a.dng a.jpg a.jpg.heic a.jpg.xmp a.xmp", "a.dng: a.xmp / a.jpg: a.jpg.xmp / a.jpg.heic:"},
		{"whole names of raw files only", "[{name: '{name}.xmp', of: [raw]}]", "a.bin a.bin.xmp a.dng a.dng.xmp a.jpg a.jpg.xmp", "a.bin: / a.bin.xmp: / a.dng: a.dng.xmp / a.jpg: / a.jpg.xmp:"},
		{"another spelling alone", "[{name: '{stem}_O.aae', from: 'IMG_O{digits}.AAE', stem: 'IMG_{digits}'}]", "IMG_1.jpg IMG_1.aae IMG_O1.aae", "IMG_1.aae: / IMG_1.jpg: IMG_O1.aae"},
		{"the first pattern counts", "[{name: '{stem}.txt', of: [video]}, {name: '{stem}_1x.txt'}, {name: '{stem}x.txt'}]", "a.dng a.mov a.txt", "a.dng: / a.mov: a.txt"},
		{"in a circle", "[{name: '{stem}.jpg', of: [video]}, {name: '{stem}.mov', of: [rendered]}]", "a.jpg a.mov", "a.jpg: a.mov"},
		{"of an extension", "[{name: '{stem}.wav', of: [.jpg]}]", "a.dng a.wav b.jpg b.WAV", "a.dng: / a.wav: / b.jpg: b.WAV"},
	} {
		r, err := naming.ParseRules([]byte(some + "companions: " + tc.companions))
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		g, err := r.Groups()
		if err != nil {
			t.Fatal(err)
		}
		var members []archive.Key
		for _, m := range strings.Fields(tc.members) {
			members = append(members, archive.Key(m))
		}
		if got := strings.Join(units(g.Arrange(members)), " / "); got != tc.want {
			t.Errorf("%s: got %s, want %s", tc.name, got, tc.want)
		}
		agreeOnSidecars(t, g, members)
		checkArrange(t, g, members)
	}
}

// The largest rules cost little.
func TestLargestRules(t *testing.T) {
	r := naming.Rules{Roles: map[string][]string{"rendered": {"jpg"}}}
	for i := range 499 {
		r.Roles["raw"] = append(r.Roles["raw"], fmt.Sprintf("aaaaaaaaaaaaa%03d", i))
	}
	for i := range 64 {
		r.Companions = append(r.Companions, naming.CompanionRule{
			Name: "{name}" + strings.Repeat("a", 60) + fmt.Sprintf(".x%03d", i), Of: []string{"raw", "rendered"}, Cut: 16 + i, Number: true,
		})
	}
	began := time.Now()
	g, err := r.Groups()
	if err != nil {
		t.Fatal(err)
	}
	g.Key(archive.Key(strings.Repeat("a", 4000) + ".x001"))
	g.Arrange([]archive.Key{"a.jpg", archive.Key("a.jpg" + strings.Repeat("a", 3000) + ".x001")})
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
}

func FuzzRules(f *testing.F) {
	f.Add([]byte(naming.DefaultRulesText()), "IMG(1).jpg", "IMG.jpg.s(1).json")
	f.Add([]byte(some+"companions: [{name: '{stem}_O.aae', from: 'IMG_O{digits}.aae', stem: 'IMG_{digits}'}]"), "IMG_1.jpg", "IMG_O1.aae")
	f.Add([]byte("roles: &a {raw: [*a]}"), "a", "b")
	f.Fuzz(func(t *testing.T, file []byte, a, b string) {
		r, err := naming.ParseRules(file)
		if err != nil {
			var wrong *naming.RulesError
			if !errors.As(err, &wrong) || wrong.Problem == "" || wrong.Want == "" || wrong.Line < 0 || wrong.Line > len(file)+1 {
				t.Fatalf("got %#v", err)
			}
			return
		}
		g, err := r.Groups()
		if err != nil {
			t.Fatalf("parsed, but %v", err)
		}
		var all []archive.Key
		for _, s := range []string{a, b} {
			if k, err := archive.ParseKey(s); err == nil && (len(all) == 0 || all[0] != k) {
				all = append(all, k)
			}
		}
		n := 0
		for _, u := range g.Arrange(all) {
			n += 1 + len(u.Companions)
			for _, c := range u.Companions {
				if g.Key(c) != g.Key(u.Principal) {
					t.Errorf("%q belongs to %q, but their keys differ", c, u.Principal)
				}
			}
		}
		if n != len(all) {
			t.Errorf("%d members, %d in units", len(all), n)
		}
	})
}
