package naming_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/digest"
	"github.com/reshelf/reshelf/shared/metadata"
	"github.com/reshelf/reshelf/shared/naming"
)

// templates draws valid templates.
func templates() *rapid.Generator[string] {
	source := rapid.SampledFrom([]string{
		"date", "date:%Y/%m", "date:%B %H:%M:%S.%L", `date:"%z|/x"`, "mtime", "make", "model", "lens", "serial", "name", "ext", "dir",
		"parent", "parent:2", "original", "seq", "seq:4", "size", "width", "height", "mime", "sha256", "sha256:8", "crc32", "Artist", "IFD0:Artist",
		"seq:3,by=prefix", "seq:by=day,start=0", "seq:by=folder", "date(Artist):%Y/%m", "date(sidecar:Artist)", "date(XMP:Artist):%z", "artist",
		`artist:"/"`, "title", "keywords", "rating", "megapixels", "orientation", "duration", "duration:%H/%M", "kind", "lat", "lat:+3", "alt:1",
		"realext", "batch", "csv:Box", "EXIF:Artist", "tag:x:artist", "XMP-b:Artist", "sidecar:Artist", "sidecar:x:artist", `"x"`, `""`, `"a/b"`, `"."`, `".reshelf"`, `"/"`, `"\"\\"`,
	})
	filters := rapid.SampledFrom([]string{"", "", "", "|lower", "|upper", "|title", "|slug", "|trim", `|replace("a","/")`, `|replace("_",".")`, `|replace(".","")`,
		"|ascii", "|snake", "|kebab", "|camel", "|pad(4)", `|pad(200,"/")`, "|substr(2,3)", "|substr(-1)", "|number(2)", `|regex("(.)","$1/$1")`,
		`|regex("^","..")`, `|default("a/b")`, `|default("..")`, `|shift("-4h")`, `|shift("0s")`})
	field := rapid.Custom(func(t *rapid.T) string {
		var choices []string
		for range rapid.IntRange(1, 3).Draw(t, "choices") {
			choices = append(choices, source.Draw(t, "source")+filters.Draw(t, "filter")+filters.Draw(t, "filter"))
		}
		return "{" + strings.Join(choices, "??") + "}"
	})
	plain := rapid.SampledFrom([]string{"a", "_", "x/y", ".", "...", "{{", "}}", ":", "con", "é", "/", ".reshelf", "~"})
	return rapid.Custom(func(t *rapid.T) string {
		var b strings.Builder
		depth := 0
		for range rapid.IntRange(1, 8).Draw(t, "parts") {
			switch rapid.IntRange(0, 4).Draw(t, "part") {
			case 0:
				b.WriteString(plain.Draw(t, "text"))
			case 1:
				b.WriteString("[" + field.Draw(t, "field"))
				depth++
			case 2:
				if depth > 0 {
					b.WriteString("]")
					depth--
				}
			default:
				b.WriteString(field.Draw(t, "field"))
			}
		}
		b.WriteString(strings.Repeat("]", depth))
		if _, err := naming.Parse(b.String()); err != nil {
			t.Skip()
		}
		return b.String()
	})
}

func objects() *rapid.Generator[naming.Values] {
	return rapid.Custom(func(t *rapid.T) naming.Values {
		s := func(label string) string { return rapid.OneOf(rapid.Just(""), hostile()).Draw(t, label) }
		key, err := archive.ParseKey(strings.Join(rapid.SliceOfN(hostile(), 1, 4).Draw(t, "key"), "/"))
		if err != nil {
			key = "dir/sub.x/a.jpg"
		}
		v := naming.Values{
			Original: rapid.SampledFrom([]string{"", ".a.b", "x", "é.jpg"}).Draw(t, "original"),
			Batch:    s("batch"), Columns: map[string]string{"Box": s("column")}, Counters: []int64{1, rapid.Int64Range(1, 1<<40).Draw(t, "counter"), 3, 4, 5, 6, 7, 8},
			Key: key, Size: rapid.Int64Min(0).Draw(t, "size"), Seq: rapid.Int64Range(0, 1<<40).Draw(t, "seq"), Tags: metadata.Tags{},
		}
		for _, tag := range []string{"IFD0:Artist", "x:artist", "XMP-a:Artist", "XMP-b:Artist", "Canon:Artist"} {
			raw, err := json.Marshal(s(tag))
			if err != nil {
				t.Fatal(err)
			}
			v.Tags[tag] = raw
		}
		for _, tag := range []string{"XMP-dc:Creator", "IPTC:Keywords", "XMP-dc:Title", "IFD0:Orientation", "Composite:GPSAltitude", "File:FileTypeExtension"} {
			list := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) string { return s(tag) }), 0, 3).Draw(t, "list")
			raw, err := json.Marshal(list)
			if len(list) == 1 {
				raw, err = json.Marshal(list[0])
			}
			if err != nil {
				t.Fatal(err)
			}
			v.Tags[tag] = raw
		}
		v.Facts.Latitude, v.Facts.Duration = new(float64), rapid.Float64().Draw(t, "duration")
		v.Facts = metadata.Facts{Make: s("make"), Model: s("model"), Lens: s("lens"), Serial: s("serial"), MIME: s("mime"), Width: rapid.IntRange(-1, 9).Draw(t, "width")}
		if rapid.Bool().Draw(t, "dated") {
			v.MTime = time.Unix(rapid.Int64Range(-1<<36, 1<<36).Draw(t, "mtime"), 0)
			v.Facts.Capture = metadata.Time{Wall: "2024-05-03T14:05:09.5", Offset: rapid.SampledFrom([]string{"", "Z", "+05:30"}).Draw(t, "offset"), Source: "x"}
		}
		if rapid.Bool().Draw(t, "hashed") {
			d, err := digest.New(digest.SHA256, make([]byte, 32))
			if err != nil {
				t.Fatal(err)
			}
			v.Digests = []digest.Digest{d}
		}
		return v
	})
}

// checkName checks what must be true of every template and object.
func checkName(t rapid.TB, tmpl *naming.Template, v naming.Values) {
	t.Helper()
	got, err := tmpl.Name(v)
	if err != nil {
		if !errors.Is(err, naming.ErrNoValue) && !errors.Is(err, naming.ErrBadName) {
			t.Fatalf("%s: unknown kind of error: %v", tmpl, err)
		}
		if got.Key != "" {
			t.Fatalf("%s: got %q with error %v", tmpl, got.Key, err)
		}
		return
	}
	if key, err := archive.ParseKey(string(got.Key)); err != nil || key != got.Key {
		t.Fatalf("%s: got %q: %v", tmpl, got.Key, err)
	}
	if err := naming.Check(got.Key); err != nil {
		t.Fatalf("%s: %v", tmpl, err)
	}
	for s := range strings.SplitSeq(string(got.Key), "/") {
		checkSegment(t, s)
	}
	// Each folder is due to a slash in the template or to one of {dir}.
	allowed := strings.Count(tmpl.String(), "/") + strings.Count(tmpl.String(), "dir")*strings.Count(string(v.Key), "/")
	if n := strings.Count(string(got.Key), "/"); n > allowed {
		t.Fatalf("%s: %q has %d folders; the template allows %d", tmpl, got.Key, n, allowed)
	}
	again, err := tmpl.Name(v)
	if diff := cmp.Diff(got, again); err != nil || diff != "" {
		t.Fatalf("%s: a second evaluation differs: %v\n%s", tmpl, err, diff)
	}
}

func TestNameRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		source := templates().Draw(t, "template")
		tmpl, err := naming.Parse(source)
		if err != nil {
			t.Fatal(err)
		}
		checkName(t, tmpl, objects().Draw(t, "object"))
	})
}

// Only what Needs says can make a difference to a name.
func TestNeedsRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tmpl, err := naming.Parse(templates().Draw(t, "template"))
		if err != nil {
			t.Fatal(err)
		}
		full := objects().Draw(t, "object")
		needed := naming.Values{Key: full.Key, Size: full.Size, MTime: full.MTime, Batch: full.Batch}
		if tmpl.Needs().Original {
			needed.Original = full.Original
		}
		if len(tmpl.Columns()) > 0 {
			needed.Columns = full.Columns
		}
		if tmpl.Counters() > 0 {
			needed.Counters = full.Counters
		}
		needs := tmpl.Needs()
		if needs.Tags {
			needed.Tags, needed.Facts = tmpl.Pick(full.Tags), full.Facts
		}
		if !needs.Date {
			needed.Facts.Capture = metadata.Time{}
		}
		if needs.Seq {
			needed.Seq = full.Seq
		}
		for _, d := range full.Digests {
			if needs.Digests.Has(d.Algorithm()) {
				needed.Digests = append(needed.Digests, d)
			}
		}
		want, wantErr := tmpl.Name(full)
		got, err := tmpl.Name(needed)
		if diff := cmp.Diff(want, got); diff != "" || (err == nil) != (wantErr == nil) {
			t.Fatalf("%s needs more than %+v: %v, %v\n%s", tmpl, needs, wantErr, err, diff)
		}
	})
}

func FuzzTemplate(f *testing.F) {
	for _, source := range []string{
		"{date:%Y/%m}/{date:%Y%m%d-%H%M%S}_{model}{ext}", `{title??name??"untitled"}`, "{model|slug|upper}", "{name}[_{Artist}]", "{{{name}}}",
		`{IPTC:City|replace("/"," ")}/{dir}/{name}`, "{tag:IFD0:Artist}", "{sha256:8}{seq:4}{parent:2}", `{date:"%z"??mtime:%-d}`, "[[[{ext}]]]", "{", `{"\`,
		`{date(IFD0:Artist):%Y|shift("-1d2h")|ascii}`, `{seq:4,by=prefix,step=2}{csv:Box|pad(3,"x")}`, `{artist:" & "|regex("(\\pL+)","$1")|substr(-4,2)}`,
		`{duration:%H-%M}{lat:+3}{alt}{orientation??kind|default("x")}`, `{model|camel|snake|kebab|number(2)}`, `{keywords|map("m")}`,
	} {
		f.Add(source, "d/IMG_1234.JPG", "Canon/EOS: R5", "..")
	}
	f.Fuzz(func(t *testing.T, source, key, value, other string) {
		tmpl, err := naming.Parse(source)
		if err != nil {
			var syntax *naming.SyntaxError
			if !errors.As(err, &syntax) || syntax.Column < 1 || syntax.Column > len(source)+1 || syntax.Problem == "" || syntax.Want == "" {
				t.Fatalf("got %#v", err)
			}
			_ = syntax.Caret()
			return
		}
		k, err := archive.ParseKey(key)
		if err != nil {
			k = "d/a.jpg"
		}
		raw, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		checkName(t, tmpl, naming.Values{
			Key: k, Size: 1, Seq: 3, Tags: metadata.Tags{"IFD0:Artist": raw, "IPTC:City": raw},
			Facts: metadata.Facts{Make: other, Model: value, MIME: other, Capture: metadata.Time{Wall: "2024-05-03T14:05:09", Source: "x"}},
		})
	})
}

func FuzzGroups(f *testing.F) {
	f.Add("a.jpg", "a.jpg.xmp", "IMG_O1.AAE")
	f.Add("IMG(1).jpg", "IMG.jpg(1).json", "IMG(1).jpg.json")
	f.Add("C0001.MP4", "C0001M01.XML", "C0001M01.XML.xmp")
	f.Add("original_1d4caa6f-16c6-4c3d-901b-9387de10e528_P.jpg", "original_1d4caa6f-16c6-4c3d-901b-9387de10e528_.json", "a.jpg.s.json")
	g := naming.DefaultGroups()
	f.Fuzz(func(t *testing.T, a, b, c string) {
		var all []archive.Key
		for _, s := range []string{a, b, c} {
			if k, err := archive.ParseKey(s); err == nil && (len(all) == 0 || all[0] != k && all[len(all)-1] != k) {
				all = append(all, k)
			}
		}
		n := 0
		for _, u := range g.Arrange(all) {
			n += 1 + len(u.Companions)
			for i, to := range g.CompanionNames(u, "n/b.x") {
				if c := u.Companions[i]; g.Key(c) != g.Key(u.Principal) {
					t.Errorf("%q belongs to %q, but their keys differ", c, u.Principal)
				}
				if _, err := archive.ParseKey(string(to)); err != nil {
					t.Error(err)
				}
			}
		}
		if n != len(all) {
			t.Errorf("%d members, %d in units", len(all), n)
		}
	})
}
