package metadata_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/reshelf/reshelf/shared/metadata"
)

// tagsOf makes tags of what ExifTool would print between the braces.
func tagsOf(t testing.TB, body string) metadata.Tags {
	t.Helper()
	_, tags, err := metadata.DecodeObject([]byte("{" + body + "}"))
	if err != nil {
		t.Fatal(err)
	}
	return tags
}

func TestTextOfIsWhatJSONSays(t *testing.T) {
	for _, value := range []string{
		`"sea"`, `""`, `"a \"b\" \\ \n\u00e9\ud83d\ude00"`, `"\ud800"`, `"Málaga"`, "\"\x7f\"", "\"\xff\xfe\"", "\"\u2028\"", "\"a\tb\"", "\"\x00\"",
		`"`, `"a`, `"a"b"`, `"a\"`, `"a" `, "", "null", "true", "12", `["a"]`, `{"a":"b"}`,
	} {
		var want string
		ok := json.Unmarshal([]byte(value), &want) == nil && value[0] == '"'
		if got, is := metadata.TextOf(json.RawMessage(value)); is != ok || is && got != want {
			t.Errorf("%q: got %q, %v; want %q, %v", value, got, is, want, ok)
		}
	}
}

func TestDecodeObject(t *testing.T) {
	source, tags, err := metadata.DecodeObject([]byte(`{
  "SourceFile": "a/1.jpg",
  "ExifTool:ExifToolVersion": 12.57,
  "IFD0:Software": 1.10,
  "Canon:Big": 1e999,
  "Nikon:AFFineTune": true,
  "XMP-dc:Subject": ["sea",2024,"x\ty"],
  "XMP-xmpMM:History": [{
      "Action": "saved",
      "Changed": 7
    }],
  "XMP-dc:Title": null,
  "IPTC:City": "Málaga \"centro\" \u0001` + "\xff" + `"
}`))
	if err != nil {
		t.Fatal(err)
	}
	if source != "a/1.jpg" {
		t.Errorf("source: got %q", source)
	}
	got := make(map[string]string)
	for name, value := range tags {
		got[name] = string(value)
	}
	want := map[string]string{
		"ExifTool:ExifToolVersion": `"12.57"`,
		"IFD0:Software":            `"1.10"`,
		"Canon:Big":                `"1e999"`,
		"Nikon:AFFineTune":         `"true"`,
		"XMP-dc:Subject":           `["sea","2024","x\ty"]`,
		"XMP-xmpMM:History":        `[{"Action":"saved","Changed":"7"}]`,
		"XMP-dc:Title":             `null`,
		"IPTC:City":                `"Málaga \"centro\" \u0001` + "\uFFFD" + `"`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("tags (-want +got):\n%s", diff)
	}
}

func TestDecodeObjectErrors(t *testing.T) {
	for _, in := range []string{
		"", "null", "[]", `[{"SourceFile":"a"}]`, `"a"`, "7", "{", `{"a":1,}`, `{"a":1}{"b":2}`, `{"a":"`,
		"Use of uninitialized value in print\n{}", strings.Repeat("[", 100_000),
	} {
		if _, tags, err := metadata.DecodeObject([]byte(in)); !errors.Is(err, metadata.ErrJSON) || tags != nil {
			t.Errorf("DecodeObject(%.40q): got %v, %v", in, tags, err)
		}
	}
}

func TestText(t *testing.T) {
	tags := tagsOf(t, `
		"IFD0:Make": "Canon", "XMP-tiff:Make": "CANON", "IFD1:Make": "thumb",
		"IFD0:Artist": "  ", "XMP-dc:Artist": "Ann", "IPTC:Artist": "Bob",
		"XMP-tiff:Compression": "xmp", "PNG:Compression": "png", "QuickTime:Compression": "qt", "IFD1:Compression": "ifd1",
		"SubIFD2:BitsPerSample": 14, "SubIFD:BitsPerSample": 16, "File:BitsPerSample": 8, "Canon:BitsPerSample": 12,
		"Nikon:LensID": "nikon", "Canon:LensID": "canon", "Composite:LensID": "composite", "GeoTiff:Version": 1,
		"Olympus:Version": 2, "IPTC:Version": 3,
		"GPS:GPSLatitude": "51 deg 30' 3.00\"", "Composite:GPSLatitude": "51 deg 30' 3.00\" S",
		"XMP-dc:Subject": ["a","b"], "IPTC:Keywords": "one", "XMP-xmpMM:History": {"a": "b"}, "XMP-dc:Rights": null,
		"ExifTool:Warning": "blank", "XMP-dc:Blank": "", "Lonely": "no group"`)
	tests := []struct {
		name, want string
		found      bool
	}{
		{"IFD0:Make", "Canon", true},
		{"xmp-TIFF:make", "CANON", true},
		{"make", "Canon", true},
		{"IFD0:Artist", "  ", true},
		{"Artist", "Ann", true},
		{"Compression", "qt", true},
		{"BitsPerSample", "16", true},
		{"LensID", "canon", true},
		{"Version", "1", true},
		{"GPSLatitude", `51 deg 30' 3.00" S`, true},
		{"GPS:GPSLatitude", `51 deg 30' 3.00"`, true},
		{"Blank", "", true},
		{"Lonely", "no group", true},
		{"Subject", "", false},
		{"History", "", false},
		{"Rights", "", false},
		{"IFD0", "", false},
		{":Make", "", false},
		{"EXIF:Make", "Canon", true},
		{"xmp:make", "CANON", true},
		{"MakerNotes:LensID", "canon", true},
		{"", "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, found := tags.Text(tt.name)
			if got != tt.want || found != tt.found {
				t.Errorf("got %q, %t; want %q, %t", got, found, tt.want, tt.found)
			}
		})
	}
}

func TestList(t *testing.T) {
	tags := tagsOf(t, `"XMP-dc:Subject": ["a", 2], "IPTC:Keywords": "one", "XMP-dc:Empty": [], "XMP-xmpMM:History": [{"a": "b"}],
		"XMP-mwg:Deep": [["a"]], "XMP-a:Name": {"a": "b"}, "XMP-b:Name": ["second"]`)
	tests := []struct {
		name  string
		want  []string
		found bool
	}{
		{"XMP-dc:Subject", []string{"a", "2"}, true},
		{"subject", []string{"a", "2"}, true},
		{"Keywords", []string{"one"}, true},
		{"Empty", []string{}, true},
		{"Name", []string{"second"}, true},
		{"History", nil, false},
		{"Deep", nil, false},
		{"Missing", nil, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, found := tags.List(tt.name)
			if diff := cmp.Diff(tt.want, got); diff != "" || found != tt.found {
				t.Errorf("found %t, want %t; list (-want +got):\n%s", found, tt.found, diff)
			}
		})
	}
}

func TestWithoutAlias(t *testing.T) {
	tags := tagsOf(t, `"System:FileName": "1.jpg", "System:Directory": "/run", "System:FilePermissions": "-rw-r--r--",
		"System:FileModifyDate": "2024:01:01 00:00:00Z", "System:FileAccessDate": "2024:01:01 00:00:00Z",
		"System:FileInodeChangeDate": "2024:01:01 00:00:00Z", "system:FileInodeNumber": 7, "System:FileSize": "10 kB",
		"File:FileType": "JPEG", "IFD0:FileName": "inner.jpg"`)
	tags["SourceFile"] = []byte(`"/run/1.jpg"`)
	before := len(tags)
	got := make(map[string]string)
	for name, value := range metadata.WithoutAlias(tags) {
		got[name] = string(value)
	}
	want := map[string]string{"System:FileSize": `"10 kB"`, "File:FileType": `"JPEG"`, "IFD0:FileName": `"inner.jpg"`}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("tags (-want +got):\n%s", diff)
	}
	if len(tags) != before {
		t.Errorf("the argument lost %d tags", before-len(tags))
	}
}
