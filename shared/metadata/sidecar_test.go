package metadata_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/reshelf/reshelf/shared/metadata"
)

func TestCaptureWithSidecar(t *testing.T) {
	const original, digitized, movie = "ExifIFD:DateTimeOriginal", "ExifIFD:CreateDate", "QuickTime:CreateDate"
	const said, created, xmpCreate = "XMP-exif:DateTimeOriginal", "XMP-photoshop:DateCreated", "XMP-xmp:CreateDate"
	at := func(wall, offset, source string) metadata.Time {
		return metadata.Time{Wall: wall, Offset: offset, Source: source}
	}
	none := metadata.Time{}
	own := at("2024-05-03T14:05:09.25", "+03:00", original)
	naive := at("2024-05-03T14:05:09", "", original)
	scan := at("2020-01-01T08:00:00", "", digitized)
	tests := []struct {
		name         string
		own, sidecar metadata.Time
		wins         bool
	}{
		{"nothing said", own, none, false},
		{"nothing known", none, at("2024-05-03T14:05:09", "", said), true},
		{"nothing known, digitized", none, at("2024-05-03T14:05:09", "", xmpCreate), true},
		{"neither", none, none, false},
		{"another hour", own, at("2024-05-03T15:05:09", "", said), true},
		{"another second", own, at("2024-05-03T14:05:08.25", "+03:00", said), true},
		{"another fraction", own, at("2024-05-03T14:05:09.26", "+03:00", said), true},
		{"another offset", own, at("2024-05-03T14:05:09.25", "+02:00", said), true},
		{"photoshop's date", own, at("1987-06-01T00:00:00", "", created), true},
		{"any DateTimeOriginal", own, at("2024-05-03T15:05:09", "", "XMP-x:DateTimeOriginal"), true},
		{"the same", own, at("2024-05-03T14:05:09.25", "+03:00", said), false},
		{"the same without its offset", own, at("2024-05-03T14:05:09.25", "", said), false},
		{"the same without its fraction", own, at("2024-05-03T14:05:09", "+03:00", said), false},
		{"the same with a fraction of zeros", own, at("2024-05-03T14:05:09.000", "", said), false},
		{"zeros that own lacks", naive, at("2024-05-03T14:05:09.000", "", said), false},
		{"the same day", own, at("2024-05-03T00:00:00", "", created), false},
		{"another day", own, at("2024-05-04T00:00:00", "", created), true},
		{"an offset besides", naive, at("2024-05-03T14:05:09", "+02:00", said), true},
		{"a fraction besides", naive, at("2024-05-03T14:05:09.5", "", said), true},
		{"digitized is no correction", own, at("2024-06-01T10:00:00", "", xmpCreate), false},
		{"digitized is none of a scan either", scan, at("2024-06-01T10:00:00", "", xmpCreate), false},
		{"a scan of what was taken before", scan, at("1987-06-01T12:00:00", "", created), true},
		{"a film's header", at("2024-05-03T11:05:09", "Z", movie), at("2024-05-03T14:05:09", "+03:00", said), true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := tt.own
			if tt.wins {
				want = tt.sidecar
				want.Source = "sidecar:" + want.Source
			}
			got := metadata.Facts{Capture: tt.own}.WithSidecar(metadata.Facts{Capture: tt.sidecar}).Capture
			if got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

func TestFactsWithSidecar(t *testing.T) {
	zero := 0.0
	sidecar := metadata.Facts{
		Make: "Leica", Model: "M6", Lens: "Summicron", Serial: "1", Width: 1, Height: 2, Duration: 3, MIME: "application/rdf+xml",
		Latitude: &zero, Longitude: &zero,
	}
	tests := []struct {
		name      string
		own, want metadata.Facts
	}{
		{"no camera", metadata.Facts{MIME: "image/tiff", Lens: "L"}, metadata.Facts{MIME: "image/tiff", Make: "Leica", Model: "M6", Lens: "L", Serial: "1"}},
		{"the same model", metadata.Facts{Model: "M6", Serial: "2", Width: 9}, metadata.Facts{Make: "Leica", Model: "M6", Lens: "Summicron", Serial: "2", Width: 9}},
		{"a scanner", metadata.Facts{Make: "EPSON", Model: "V850"}, metadata.Facts{Make: "EPSON", Model: "V850"}},
		{"a maker alone", metadata.Facts{Make: "EPSON"}, metadata.Facts{Make: "EPSON"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, tt.own.WithSidecar(sidecar)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if diff := cmp.Diff(tt.own, tt.own.WithSidecar(metadata.Facts{MIME: "application/rdf+xml"})); diff != "" {
				t.Errorf("a sidecar that says nothing changes something:\n%s", diff)
			}
		})
	}
}

func TestTextWithSidecar(t *testing.T) {
	own := tagsOf(t, `"IFD0:Rating":"0","XMP-dc:Title":"own","IPTC:City":"IPTC","PNG:Author":"PNG","Canon:Owner":" ","File:FileType":"JPEG","XMP-x:List":["a"]`)
	sidecar := tagsOf(t, `"XMP-xmp:Rating":"4","XMP-dc:Title":"said","XMP-photoshop:City":"said","XMP-x:Author":"said","XMP-x:Owner":"said",
		"File:FileType":"XMP","File:LineCount":"7","XMP-x:Label":" ","XMP-x:List":["b"],"XMP-x:Only":"said"`)
	for name, want := range map[string]string{
		"Rating": "0", "title": "said", "City": "said", "Author": "PNG", "Owner": "said", "FileType": "JPEG", "Only": "said",
		"XMP-dc:Title": "own", "XMP-x:Only": "", "LineCount": "", "List": "", "Nothing": "",
	} {
		if got, ok := own.TextWithSidecar(sidecar, name); got != want || ok != (want != "") {
			t.Errorf("%s: got %q, %v, want %q", name, got, ok, want)
		}
		alone, ok := own.Text(name)
		if got, gotOK := own.TextWithSidecar(nil, name); got != alone || gotOK != ok {
			t.Errorf("%s without a sidecar: got %q, %v, want %q, %v", name, got, gotOK, alone, ok)
		}
	}
	if got, ok := own.TextWithSidecar(sidecar, "Label"); got != " " || !ok {
		t.Errorf("a blank text: got %q, %v", got, ok)
	}
}

func TestPick(t *testing.T) {
	tags := tagsOf(t, `"IFD0:Artist":" Ada ","XMP-x:artist":"é","IFD0:Make":"Canon","XMP-dc:Title":"  ","XMP-x:Title":["a"],"Bare":"b","XMP-xmp:Rating":"4"`)
	tags["XMP-y:Artist"], tags["Canon:Artist"] = tags["IFD0:Make"], tags["IFD0:Make"]
	want := tagsOf(t, `"IFD0:Artist":"Ada","XMP-x:artist":"é","Bare":"b"`)
	if diff := cmp.Diff(want, tags.Pick([]string{"ARTIST", "Title", "bare", "ifd1:Make"}, nil, 3)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got, _ := tags.Pick([]string{"Artist"}, nil, 1).Text("XMP-x:Artist"); got != "" {
		t.Errorf("a cut rune: got %q", got)
	}
	long := tagsOf(t, `"IFD0:Artist":"`+strings.Repeat("x", 100)+`"`)
	if got, _ := long.Pick([]string{"IFD0:Artist"}, nil, 7).Text("Artist"); got != "xxxxxxx" {
		t.Errorf("a long text: got %q", got)
	}
	if got := tags.Pick(nil, nil, 9); len(got) != 0 {
		t.Errorf("nothing asked for: got %v", got)
	}
}

func TestHasXMP(t *testing.T) {
	for text, want := range map[string]bool{
		`"XMP-dc:Title":"x"`: true, `"XMP-x:XMPToolkit":"x","File:FileType":"XMP"`: true, `"File:FileType":"XMP"`: false, ``: false,
	} {
		if got := tagsOf(t, text).HasXMP(); got != want {
			t.Errorf("%s: got %v", text, got)
		}
	}
}
