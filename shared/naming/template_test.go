package naming_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/digest"
	"github.com/reshelf/reshelf/shared/metadata"
	"github.com/reshelf/reshelf/shared/naming"
)

func parse(t testing.TB, source string) *naming.Template {
	t.Helper()
	tmpl, err := naming.Parse(source)
	if err != nil {
		t.Fatalf("Parse(%s): %v", source, err)
	}
	return tmpl
}

// tags makes Tags of names and texts in turn.
func tags(t testing.TB, pairs ...string) metadata.Tags {
	t.Helper()
	out := metadata.Tags{}
	for i := 0; i < len(pairs); i += 2 {
		text, err := json.Marshal(pairs[i+1])
		if err != nil {
			t.Fatal(err)
		}
		out[pairs[i]] = text
	}
	return out
}

func TestSyntaxErrors(t *testing.T) {
	for _, tc := range []struct {
		source  string
		column  int
		problem string
		want    string
	}{
		{"", 1, "the template is empty", "text and fields"},
		{"{", 1, `"{" without its "}"`, `"}" at the end`},
		{"a{name", 2, `"{" without its "}"`, `"}" at the end`},
		{"a}b", 2, `"}" without a field`, `"}}"`},
		{"{}", 2, `unexpected "}"`, "a field"},
		{"{name??}", 8, `unexpected "}"`, "a field"},
		{"{??name}", 2, `unexpected "??"`, "a field"},
		{"{name|}", 7, `unexpected "}"`, "the name of a filter"},
		{"{name name}", 7, `unexpected "name"`, `"|" and a filter`},
		{"{name,}", 6, `unexpected ","`, `"|" and a filter`},
		{"{name|slug(}", 12, `unexpected "}"`, `a "string"`},
		{`{name|replace("a" "b")}`, 19, `unexpected "\"b\""`, `","`},
		{`{name|replace("","b")}`, 15, "replace would replace nothing", "first argument"},
		{`{name|substr(0)}`, 14, `no character is number "0"`, "from 1"},
		{`{name|substr(1,0)}`, 16, `format "0"`, "from 1"},
		{`{name|pad(3,"ab")}`, 13, `cannot pad with "ab"`, "one character"},
		{`{name|pad(256)}`, 11, `format "256"`, "to 255"},
		{`{name|pad(}`, 11, `unexpected "}"`, "number"},
		{`{name|number(16)}`, 14, `format "16"`, "to 15"},
		{`{name|regex("(a{1000}){10}","")}`, 13, "invalid repeat count", "RE2"},
		{`{name|regex("[\\pL]{900}[\\pL]{900}[\\pL]{900}","")}`, 13, "instructions", "at most 2000"},
		{`{name|regex("(?<!a)b","")}`, 13, "error parsing regexp", "RE2"},
		{`{name|regex("^(.*)$","$1_x")}`, 22, `no group is named "1_x"`, "${1}"},
		{`{name|regex("a","$1")}`, 17, "no group has the number 1", "${0}"},
		{`{name|regex("(?P<n>a)","${m}")}`, 24, `no group is named "m"`, "${n}"},
		{`{date|shift("1")}`, 13, `"1" is no shift`, "+1h2m"},
		{`{date|shift("1m2h")}`, 13, `"1m2h" is no shift`, "+1h2m"},
		{`{date|shift("99999999999999999999d")}`, 13, "more than a century", "+1h2m"},
		{`{date|shift("36525d")|shift("1s")}`, 29, "more than a century", "+1h2m"},
		{`{date|shift("-36525d")|shift("-36525d")|shift("-36525d")}`, 30, "more than a century", "+1h2m"},
		{`{name|shift("0s")}`, 7, "no date to shift", "right after a date"},
		{`{date|lower|shift("1h")}`, 13, "no date to shift", "right after a date"},
		{"{date(name)}", 7, `unexpected "name"`, "ExifTool tag"},
		{"{date(Artist:%Y}", 13, `unexpected ":"`, ""},
		{"{date(Artist}", 13, `unexpected "}"`, `")"`},
		{"{date(Artist):%Q}", 15, `unknown conversion "%Q"`, "%Y"},
		{"{model(Artist)}", 8, `the field "model" is of no tag`, `"}"`},
		{"{seq:4,step=0}", 8, `format "0"`, "from 1"},
		{"{seq:4, 5}", 9, `format "5"`, `"by="`},
		{"{seq:4,start=1, start=2}", 17, `"start=" twice`, "once"},
		{"{seq:4,by=day,by=folder}", 15, `"by=" twice`, "once"},
		{"{seq:by=hour}", 6, `unknown scope "hour"`, "folder"},
		{strings.Repeat("{seq:by=prefix}", 17), 246, "counters in more than 16 scopes", "by=batch"},
		{"{csv}", 2, "csv of no column", "csv:Photographer"},
		{"{lat:16}", 6, `format "16"`, "to 15"},
		{"{duration:%H%Q}", 13, `unknown conversion "%Q"`, "%H"},
		{`{name|map("x")}`, 11, `no map is named "x"`, "--map"},
		{`{name|slug("x")}`, 7, `1 arguments for the filter "slug"`, "slug"},
		{"{name|lower:x}", 13, `unexpected "x"`, "in parentheses"},
		{"{name:x}", 7, "this field has no format", `"}"`},
		{"{date:}", 7, `nothing after ":"`, "a format"},
		{"{date:%}", 7, `unknown conversion "%"`, "%Y"},
		{"{date:%Y-%é}", 10, `unknown conversion "%é"`, "%Y"},
		{`{date:"%Y\"%Q"}`, 7, `unknown conversion "%Q"`, "%Y"},
		{"{date:%-B}", 7, `unknown conversion "%-B"`, "%-d"},
		{"{date:%D}", 7, `unknown conversion "%D"`, "%Y"},
		{"{date:%Y//%m}", 10, "a folder without a name", "one slash"},
		{`{date:"%Y`, 7, "string without its closing quote", `'"'`},
		{`{"a\n"}`, 5, "unknown escape", `\"`},
		{`{"a\`, 5, "unknown escape", `\"`},
		{`{"a":x}`, 5, `unexpected ":"`, "after a field"},
		{"{seq:0}", 6, `format "0"`, "from 1 to 18"},
		{"{seq:+4}", 6, `format "+4"`, "from 1 to 18"},
		{"{parent:0}", 9, `format "0"`, "a number from 1"},
		{"{crc32:9}", 8, `format "9"`, "from 1 to 8"},
		{"{nosuch}", 2, `unknown field "nosuch"`, "blake3"},
		{"{tag}", 2, `unknown field "tag"`, "ExifTool tag"},
		{"{tag:}", 6, `nothing after "tag:"`, "IFD0:Artist"},
		{"{tag:a:b:c}", 9, `unexpected ":"`, "after a field"},
		{"{Artist:8}", 8, `unexpected ":"`, "IFD0:Artist"},
		{"{IFD0:}", 6, `unexpected ":"`, "after its group"},
		{"{$x}", 2, "unexpected '$'", "a field"},
		{"ναι {modle}", 6, `unknown field "modle"`, "model"},
		{"a]", 2, `"]" without its "["`, `{"]"}`},
		{"[a", 1, `"[" without its "]"`, `"]" at the end`},
		{"[{name}", 1, `"[" without its "]"`, `"]" at the end`},
		{"x[a]", 2, "a section without a field", "a field in it"},
		{"/{name}", 1, "the name would leave the archive", "without a slash"},
		{"./{name}", 1, "the name would leave the archive", "dots"},
		{"a/../{name}", 3, `".." would leave`, "the name of a folder"},
		{"a/./{name}", 3, `"." would leave`, "the name of a folder"},
		{`{name}{"a/../b"}`, 11, `".." would leave`, "the name of a folder"},
		{`a//{name}`, 3, "a folder without a name", "one slash"},
		{"{name}/", 8, "ends with a folder", "after"},
		{"a\n{name}", 2, "control character U+000A", "printable"},
		{"a\xff", 2, "not UTF-8", "UTF-8"},
		{strings.Repeat("a", naming.MaxTemplateBytes+1), 1, "4097 bytes", "at most 4096"},
	} {
		t.Run(tc.source[:min(len(tc.source), 20)], func(t *testing.T) {
			_, err := naming.Parse(tc.source)
			var got *naming.SyntaxError
			if !errors.As(err, &got) || !errors.Is(err, naming.ErrSyntax) {
				t.Fatalf("got %v, want a SyntaxError", err)
			}
			if got.Column != tc.column || !strings.Contains(got.Problem, tc.problem) || !strings.Contains(got.Want, tc.want) {
				t.Errorf("got column %d: %s; want %s\nwant column %d: %s; want %s", got.Column, got.Problem, got.Want, tc.column, tc.problem, tc.want)
			}
		})
	}
}

func TestCaret(t *testing.T) {
	for _, tc := range []struct{ source, want string }{
		{"{modle}", "{modle}\n ^"},
		{"ναι{x}", "ναι{x}\n    ^"},
		{"写真{x}", "写真{x}\n     ^"},
		{"e\u0301{x}", "e\u0301{x}\n  ^"},
		{"\u202e{x}", "\\u{202e}{x}\n         ^"},
		{"a\x1b[31m", "a\\u{1b}[31m\n ^"},
	} {
		_, err := naming.Parse(tc.source)
		var got *naming.SyntaxError
		if !errors.As(err, &got) {
			t.Fatalf("%q: got %v, want a SyntaxError", tc.source, err)
		}
		if got.Caret() != tc.want {
			t.Errorf("got\n%q\nwant\n%q", got.Caret(), tc.want)
		}
		if strings.ContainsAny(got.Error(), "\x1b\u202e") {
			t.Errorf("the message holds raw control characters: %q", got.Error())
		}
	}
}

func TestNeeds(t *testing.T) {
	sha := digest.Set(0).With(digest.SHA256)
	for _, tc := range []struct {
		source string
		want   naming.Needs
	}{
		{"{name}{ext}{dir}{parent}{size}{mtime}", naming.Needs{}},
		{"{name}_{seq}", naming.Needs{Seq: true}},
		{"{date}", naming.Needs{Tags: true, Date: true}},
		{"{model}", naming.Needs{Tags: true}},
		{"{Artist}", naming.Needs{Tags: true}},
		{"{sha256:4}", naming.Needs{Digests: sha}},
		{"{name}[{date:%Y}[{crc32}{sha256}]]", naming.Needs{Tags: true, Date: true, Digests: sha.With(digest.CRC32)}},
		{"{model??sha256??seq}", naming.Needs{Tags: true, Digests: sha, Seq: true}},
	} {
		tmpl := parse(t, tc.source)
		if got := tmpl.Needs(); got != tc.want {
			t.Errorf("%s: got %+v, want %+v", tc.source, got, tc.want)
		}
		if got := tmpl.UsesSeq(); got != tc.want.Seq {
			t.Errorf("%s: UsesSeq is %v", tc.source, got)
		}
		if got := tmpl.String(); got != tc.source {
			t.Errorf("String: got %q, want %q", got, tc.source)
		}
	}
}

func TestDateSource(t *testing.T) {
	v := naming.Values{
		Key:   "a.jpg",
		MTime: time.Date(2024, 7, 1, 22, 30, 0, 0, time.UTC),
		Facts: metadata.Facts{Capture: metadata.Time{Wall: "2024-05-03T14:05:09", Source: "ExifIFD:DateTimeOriginal"}},
	}
	undated := v
	undated.Facts = metadata.Facts{}
	for _, tc := range []struct {
		source string
		values naming.Values
		want   string
	}{
		{"{date}", v, "ExifIFD:DateTimeOriginal"},
		{"{mtime}", v, "mtime"},
		{"{date:%Y}/{mtime:%m}", v, "ExifIFD:DateTimeOriginal"},
		{"{name}", v, ""},
		{"{date??mtime}", undated, "mtime"},
		{"{name}[{date}]", undated, ""},
		{"{name}[{date}{model}]", v, ""}, // the section with the date vanishes
	} {
		got, err := parse(t, tc.source).Name(tc.values)
		if err != nil {
			t.Fatal(err)
		}
		if got.DateSource != tc.want {
			t.Errorf("%s: got %q, want %q", tc.source, got.DateSource, tc.want)
		}
	}
}

func TestTimeZone(t *testing.T) {
	athens := time.FixedZone("EEST", 3*3600)
	naive := metadata.Time{Wall: "2024-05-03T14:05:09", Source: "x"}
	zoned := metadata.Time{Wall: "2024-05-03T14:05:09", Offset: "-07:00", Source: "x"}
	utc := metadata.Time{Wall: "2024-05-03T14:05:09", Offset: "Z", Source: "x"}
	mtime := time.Date(2024, 7, 1, 22, 30, 0, 0, time.UTC)
	for _, tc := range []struct {
		name    string
		source  string
		capture metadata.Time
		zone    *time.Location
		want    string
	}{
		{"naive", "{date:%H%M}", naive, nil, "1405"},
		{"naive in a zone", "{date:%H%M%z}", naive, athens, "1405+0300"},
		{"naive offset", `{date:%z??"?"}`, naive, nil, "_"},
		{"percent z is text", "{date:%%z}", naive, nil, "%z"},
		{"the camera's offset wins", "{date:%H%M%z}", zoned, athens, "1405-0700"},
		{"UTC", "{date:%H%M%z}", utc, nil, "1405+0000"},
		{"mtime in UTC", "{mtime:%d-%H%z}", naive, nil, "01-22+0000"},
		{"mtime in a zone", "{mtime:%d-%H%z}", naive, athens, "02-01+0300"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			v := naming.Values{Key: "a", MTime: mtime, Facts: metadata.Facts{Capture: tc.capture}, Location: tc.zone}
			got, err := parse(t, tc.source).Name(v)
			if err != nil {
				t.Fatal(err)
			}
			if string(got.Key) != tc.want {
				t.Errorf("got %q, want %q", got.Key, tc.want)
			}
		})
	}
}

// Nanoseconds since 1970 in 64 bits end in 2262; a later time begins again in 1677, before all that file systems keep.
func TestMTimeBeyondIdentities(t *testing.T) {
	for mtime, want := range map[time.Time]string{
		time.Date(1901, 12, 13, 20, 45, 52, 0, time.UTC):                         "1901",
		time.Date(2262, 4, 1, 0, 0, 0, 0, time.UTC):                              "2262",
		time.Unix(0, time.Date(2300, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano()):     "none",
		time.Unix(0, time.Date(2446, 5, 10, 22, 38, 55, 0, time.UTC).UnixNano()): "none",
	} {
		got, err := parse(t, `{mtime:%Y??"none"}`).Name(naming.Values{Key: "a", MTime: mtime})
		if err != nil || string(got.Key) != want {
			t.Errorf("%v: got %q, %v; want %q", mtime, got.Key, err, want)
		}
	}
}

// Long texts are cut before they are composed, so that what Pick has cut gives the same names.
func TestLongTextBeforeFilters(t *testing.T) {
	tmpl := parse(t, "{X:T|substr(1360)}")
	all := tags(t, "X:T", strings.Repeat("e\u0301", 3000))
	want, err := tmpl.Name(naming.Values{Key: "a", Tags: all})
	if err != nil {
		t.Fatal(err)
	}
	got, err := tmpl.Name(naming.Values{Key: "a", Tags: tmpl.Pick(all)})
	if err != nil || got.Key != want.Key {
		t.Errorf("got %q, %v; want %q", got.Key, err, want.Key)
	}
}

// Clocks in Athens skip the hour from 3 on 2024-03-31; a camera does not know that, and the text of its date stays as it is.
func TestSummerTime(t *testing.T) {
	mtime := time.Date(2024, 10, 27, 1, 30, 0, 0, time.UTC) // the second half past three of that night
	for source, want := range map[string]string{
		"{date:%d_%H%M%z}":               "31_0330+0200",
		`{date:%d_%H%M%z|shift("+1h")}`:  "31_0430+0300",
		`{date:%d_%H%M%z|shift("-1d")}`:  "30_0330+0200",
		`{date:%d_%H%M%z|shift("+1w")}`:  "07_0330+0300",
		"{date(CreateDate):%d_%H%M}":     "31_0330",
		"{mtime:%d_%H%M%z}":              "27_0330+0200",
		`{mtime:%d_%H%M%z|shift("-1d")}`: "26_0330+0300",
	} {
		tmpl, err := naming.ParseWith(source, naming.Options{TimeZone: "Europe/Athens"})
		if err != nil {
			t.Fatal(err)
		}
		got, err := tmpl.Name(naming.Values{
			Key: "a", MTime: mtime, Facts: metadata.Facts{Capture: at("2024-03-31T03:30:00", "", "x")},
			Tags: tags(t, "ExifIFD:CreateDate", "2024:03:31 03:30:00"),
		})
		if err != nil || string(got.Key) != want {
			t.Errorf("%s: got %q, %v; want %q", source, got.Key, err, want)
		}
	}
}

func TestNoValue(t *testing.T) {
	v := naming.Values{Key: "a.jpg", Tags: tags(t, "IFD0:Make", "  ", "IFD0:Model", "?!")}
	for _, tc := range []struct{ source, field, why string }{
		{"{date}", "date", "no capture time"},
		{"{mtime}", "mtime", "modification time is not known"},
		{"{Make}", "Make", "no tag Make"}, // blank
		{"{Model|slug}", "Model|slug", "nothing is left"},
		{"{lens??serial}", "lens??serial", "no lens"},
		{"{ lens ?? Model|slug }", " lens ?? Model|slug ", "no lens"},
		{"{width}", "width", "no width"},
		{"{seq}", "seq", "no number"},
		{"{md5}", "md5", "no md5 digest"},
		{"{parent}", "parent", "at the top"},
		{"{parent:3}", "parent:3", "less than 3 folders"},
	} {
		_, err := parse(t, tc.source).Name(v)
		var got *naming.NoValueError
		if !errors.As(err, &got) || !errors.Is(err, naming.ErrNoValue) {
			t.Errorf("%s: got %v, want a NoValueError", tc.source, err)
			continue
		}
		if got.Field != tc.field || !strings.Contains(got.Why, tc.why) {
			t.Errorf("%s: got %q: %s", tc.source, got.Field, got.Why)
		}
		for _, section := range []string{"x[" + tc.source + "]", "x[a{name}[" + tc.source + "]" + tc.source + "]"} {
			if res, err := parse(t, section).Name(v); err != nil || res.Key != "x" {
				t.Errorf("%s: got %q, %v", section, res.Key, err)
			}
		}
	}
}

func TestBadName(t *testing.T) {
	deep := archive.Key(strings.Repeat(strings.Repeat("d", 200)+"/", 6) + "a.jpg")
	for _, tc := range []struct {
		source string
		key    archive.Key
	}{
		{"{ext}", "a"},
		{"{name}/{ext}", "a"},
		{`{name}{"/"}{ext}`, "a"},
		{"{dir}/{name}{ext}", deep},
	} {
		got, err := parse(t, tc.source).Name(naming.Values{Key: tc.key})
		if !errors.Is(err, naming.ErrBadName) || errors.Is(err, naming.ErrNoValue) {
			t.Errorf("%s: got %q, %v; want ErrBadName", tc.source, got.Key, err)
		}
	}
}

// An object's own name is kept as it is, if it is safe: the template that changes nothing plans no renames.
func TestIdentityTemplate(t *testing.T) {
	tmpl := parse(t, "{dir}/{name}{ext}")
	for _, key := range []archive.Key{
		"a.jpg", "x/y z/a.tar.gz", ".hidden", ".config/.hidden.jpg", "no extension", "Ελένη/ΦΩΤΟ.JPG", "...a", "a.b.",
		"IMG_1234 (1).JPG", "e\u0301.jpg", "x/a\xff.jpg", "a:b.jpg",
	} {
		got, err := tmpl.Name(naming.Values{Key: key})
		if err != nil {
			t.Fatal(err)
		}
		if same := got.Key == key; same != (got.Changed == nil) {
			t.Errorf("%q became %q, changed: %q", key, got.Key, got.Changed)
		}
	}
}

func TestValuesMakeNoFolders(t *testing.T) {
	for _, value := range []string{"a/b", "/", "//", "../../etc/passwd", "..", ".", "a/../b", `..\..\x`, "\x00/\x00"} {
		v := naming.Values{Key: "d/a.jpg", Tags: tags(t, "X:T", value), Facts: metadata.Facts{Model: value, MIME: value}}
		for _, source := range []string{"{T}", "{model}", "{mime}", "{T|lower}", `{T|replace("_","/")}`, `{T|replace(".","/")}`, "{name}{T}"} {
			got, err := parse(t, source).Name(v)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(got.Key), "/") || got.Key == ".." {
				t.Errorf("%s with %q: got %q", source, value, got.Key)
			}
		}
	}
}

func TestFilters(t *testing.T) {
	for _, tc := range []struct{ filter, in, want string }{
		{"lower", "ÀΣΑΣ İ", "àσας i\u0307"},
		{"upper", "straße ΐ", "STRASSE \u03aa\u0301"},
		{"title", "NIKON d850, o'neill", "Nikon D850, O'neill"},
		{"slug", "!Ça--va: «Été» 2024!", "ca-va-ete-2024"},
		{"slug", "Ή Αθήνα Ёлка", "η-αθηνα-елка"},
		{"slug", "写真 हिन्दी", "写真-हिन्दी"},
		{"slug|replace(\"\ud55c\",\"x\")", "\ud55c\uad6d", "x\uad6d"},
		{"trim", "\u00a0 a b ", "a b"},
		{`replace("aa","b")`, "aaaaa", "bba"},
		{`replace("a","")`, "banana", "bnn"},
		{`regex("(?P<n>b)(c)?","${n}$2$$1 $0$ $")`, "abc", "abc$1 bc$ $"},
	} {
		got, err := parse(t, "{T|"+tc.filter+"}").Name(naming.Values{Key: "a", Tags: tags(t, "X:T", tc.in)})
		if err != nil {
			t.Fatal(err)
		}
		if string(got.Key) != tc.want {
			t.Errorf("%s of %q: got %q, want %q", tc.filter, tc.in, got.Key, tc.want)
		}
	}
	for filter, want := range map[string]string{`replace("é","e")`: "Cafe_", "substr(4,1)": "é", "pad(6)": "0Café_", `regex("f.","x")`: "Cax_"} {
		got, err := parse(t, "{name|"+filter+"}").Name(naming.Values{Key: "Cafe\u0301_"})
		if err != nil || string(got.Key) != want {
			t.Errorf("%s of composed text: got %q, %v; want %q", filter, got.Key, err, want)
		}
	}
	got, err := parse(t, "{name|lower}{ext|upper}").Name(naming.Values{Key: "A\xffB.j\xfeg"})
	if err != nil || got.Key != "a_b.J_G" {
		t.Errorf("bytes that are not UTF-8: got %q, %v", got.Key, err)
	}
	got, err = parse(t, `{name|replace("_","x")}`).Name(naming.Values{Key: "a\xffb"})
	if err != nil || got.Key != "axb" {
		t.Errorf("filters see what stands for such bytes: got %q, %v", got.Key, err)
	}
}

func TestChanged(t *testing.T) {
	v := naming.Values{Key: "a.jpg", Tags: tags(t, "X:T", "a:b?c", "X:D", ".x ")}
	got, err := parse(t, "{T}/{T}{D}/{D}").Name(v)
	if err != nil {
		t.Fatal(err)
	}
	if got.Key != "a_b_c/a_b_c.x/_x" {
		t.Errorf("got %q", got.Key)
	}
	want := []string{
		"characters that not every system allows in names were replaced by _",
		"a dot at the start of a name was replaced by _",
	}
	if !slices.Equal(got.Changed, want) {
		t.Errorf("got %q, want each change once: %q", got.Changed, want)
	}
}

func TestHugeValue(t *testing.T) {
	v := naming.Values{Key: "a.jpg", Tags: tags(t, "X:T", strings.Repeat("é", 1<<20))}
	got, err := parse(t, `{T}{ext}`).Name(v)
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.Repeat("é", 125) + ".jpg"; string(got.Key) != want || got.Changed == nil {
		t.Errorf("got %q (%d bytes), changed %q", got.Key, len(got.Key), got.Changed)
	}
	bomb := `{T` + strings.Repeat(`|replace("é","`+strings.Repeat("é", 50)+`")`, 20) + `}`
	if got, err = parse(t, bomb).Name(v); err != nil || len(got.Key) > 255 {
		t.Errorf("got %d bytes, %v", len(got.Key), err)
	}
}
