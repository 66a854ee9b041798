package naming_test

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/metadata"
	"github.com/reshelf/reshelf/shared/naming"
)

// listed yields keys as a listing does.
func listed(keys []archive.Key) iter.Seq2[archive.Key, error] {
	return func(yield func(archive.Key, error) bool) {
		for _, k := range slices.Sorted(slices.Values(keys)) {
			if !yield(k, nil) {
				return
			}
		}
	}
}

// described maps objects to their sidecars.
func described(t rapid.TB, g *naming.Groups, keys []archive.Key) map[archive.Key][]archive.Key {
	out := map[archive.Key][]archive.Key{}
	for d, err := range g.Sidecars(listed(keys)) {
		if err != nil {
			t.Fatal(err)
		}
		out[d.Object] = append(out[d.Object], d.Sidecar)
	}
	return out
}

func TestSidecars(t *testing.T) {
	for _, tc := range []struct {
		name string
		keys string
		want map[archive.Key][]archive.Key
	}{
		{"none", "a.jpg b.xmp c.jpg c.aae", map[archive.Key][]archive.Key{}},
		{"stem", "d/a.jpg d/a.xmp", map[archive.Key][]archive.Key{"d/a.jpg": {"d/a.xmp"}}},
		{"whole name first", "a.jpg a.XMP a.jpg.xmp", map[archive.Key][]archive.Key{"a.jpg": {"a.jpg.xmp", "a.XMP"}}},
		{"raw and jpeg", "a.CR2 a.CR2.xmp a.JPG a.JPG.xmp a.xmp", map[archive.Key][]archive.Key{
			"a.CR2": {"a.CR2.xmp", "a.xmp"}, "a.JPG": {"a.JPG.xmp"},
		}},
		{"before its object", "a.XMP a.jpg", map[archive.Key][]archive.Key{"a.jpg": {"a.XMP"}}},
		{"first by role, not by order", "a.gif a.nef a.pdf a.xmp", map[archive.Key][]archive.Key{"a.nef": {"a.xmp"}}},
		{"much between", "a.jpg a.b/c.jpg a.b/c.xmp a.b.jpg a.b.xmp a.x.bin a.xmp", map[archive.Key][]archive.Key{
			"a.jpg": {"a.xmp"}, "a.b/c.jpg": {"a.b/c.xmp"}, "a.b.jpg": {"a.b.xmp"},
		}},
		{"a name that begins another", "S S.j S.jpg S.jpg.xmp S.xmp", map[archive.Key][]archive.Key{"S": {"S.xmp"}, "S.jpg": {"S.jpg.xmp"}}},
		{"no role", "a.bin a.bin.xmp a.xmp", map[archive.Key][]archive.Key{"a.bin": {"a.bin.xmp"}}},
		{"names with a dot at their end", "a. a..xmp a.jpg a.xmp", map[archive.Key][]archive.Key{"a.": {"a..xmp"}, "a.jpg": {"a.xmp"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var all []archive.Key
			for _, k := range strings.Fields(tc.keys) {
				all = append(all, archive.Key(k))
			}
			if diff := cmp.Diff(tc.want, described(t, naming.DefaultGroups(), all)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			agreeOnSidecars(t, naming.DefaultGroups(), all)
		})
	}
}

// Sidecars and Arrange agree.
func TestSidecarsAreArranged(t *testing.T) {
	g := naming.DefaultGroups()
	rapid.Check(t, func(t *rapid.T) { agreeOnSidecars(t, g, keys().Draw(t, "keys")) })
}

func agreeOnSidecars(t rapid.TB, g *naming.Groups, all []archive.Key) {
	t.Helper()
	got := described(t, g, all)
	for _, u := range g.Arrange(all) {
		if diff := cmp.Diff(u.Sidecars, got[u.Principal]); diff != "" {
			t.Errorf("sidecars of %q among %q, -arranged +streamed:\n%s", u.Principal, all, diff)
		}
		var inUnit, companions []archive.Key
		for _, k := range append([]archive.Key{u.Principal}, u.Companions...) {
			inUnit = append(inUnit, got[k]...)
			if k != u.Principal && naming.IsXMP(k) {
				companions = append(companions, k)
			}
			delete(got, k)
		}
		slices.Sort(inUnit)
		if diff := cmp.Diff(companions, inUnit); diff != "" {
			t.Errorf("XMP companions of %q among %q, -arranged +streamed:\n%s", u.Principal, all, diff)
		}
	}
	if len(got) > 0 {
		t.Errorf("among %q no objects are %q", all, slices.Collect(maps.Keys(got)))
	}
}

// Memory does not grow where a name is the beginning of all others.
func TestSidecarsHoldsLittle(t *testing.T) {
	broken := errors.New("broken")
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	var before, after uint64
	many := func(yield func(archive.Key, error) bool) {
		yield("2024.jpg", nil)
		before = heap()
		for i := range 100_000 {
			yield(archive.Key(fmt.Sprintf("2024.jpg%07d.jpg", i)), nil)
		}
		after = heap()
		yield("", broken)
	}
	for _, err := range naming.DefaultGroups().Sidecars(many) {
		if !errors.Is(err, broken) {
			t.Errorf("got %v", err)
		}
	}
	if after > before+1<<20 {
		t.Errorf("holds %d KiB for 100,000 keys", (after-before)>>10)
	}
}

// A sidecar that says nothing changes no name, and neither does leaving out what Name does not read.
func TestNameWithoutWhatSaysNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ofTags := rapid.SampledFrom([]string{"{Artist}", "{sidecar:Artist}", "{XMP-b:Artist??Artist}", "{sidecar:XMP-b:Artist}"})
		tmpl, err := naming.Parse(rapid.OneOf(templates(), ofTags).Draw(t, "template"))
		if err != nil {
			t.Fatal(err)
		}
		v := objects().Draw(t, "object")
		want, wantErr := tmpl.Name(v)
		v.Sidecar = &naming.Sidecar{Facts: metadata.Facts{MIME: "application/rdf+xml"}}
		got, err := tmpl.Name(v)
		sameName(t, "a sidecar that says nothing", want, got, wantErr, err)

		said := objects().Draw(t, "sidecar")
		v.Sidecar = &naming.Sidecar{Facts: said.Facts, Tags: said.Tags}
		want, wantErr = tmpl.Name(v)
		v.Sidecar.Tags, v.Tags = tmpl.Pick(said.Tags), tmpl.Pick(v.Tags)
		got, err = tmpl.Name(v)
		sameName(t, "what is picked", want, got, wantErr, err)
	})
}

func sameName(t *rapid.T, what string, want, got naming.Result, wantErr, err error) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" || (wantErr == nil) != (err == nil) {
		t.Fatalf("%s: errors %v and %v, results -without +with:\n%s", what, wantErr, err, diff)
	}
}

func TestNameTellsOfTheSidecar(t *testing.T) {
	v := naming.Values{Key: "a.jpg", Facts: metadata.Facts{Capture: metadata.Time{Wall: "2024-05-03T10:00:00", Source: "ExifIFD:DateTimeOriginal"}}}
	v.Sidecar = &naming.Sidecar{Facts: metadata.Facts{Capture: metadata.Time{Wall: "2024-05-03T11:00:00", Source: "XMP-exif:DateTimeOriginal"}}}
	for template, want := range map[string]naming.Result{
		"{name}{ext}":         {Key: "a.jpg"},
		"{date:%H}{ext}":      {Key: "11.jpg", DateSource: "sidecar:XMP-exif:DateTimeOriginal", Sidecar: true},
		"{date:%d}{ext}":      {Key: "03.jpg", DateSource: "sidecar:XMP-exif:DateTimeOriginal", Sidecar: true},
		`{sidecar:X??"x"}`:    {Key: "x"},
		"{name}[{sidecar:X}]": {Key: "a"},
	} {
		tmpl, err := naming.Parse(template)
		if err != nil {
			t.Fatal(err)
		}
		got, err := tmpl.Name(v)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v, -want +got:\n%s", template, err, diff)
		}
	}
}
