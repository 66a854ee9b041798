package naming_test

import (
	"errors"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/reshelf/reshelf/shared/metadata"
	"github.com/reshelf/reshelf/shared/naming"
)

func TestParseShift(t *testing.T) {
	for text, want := range map[string]naming.Shift{
		"Canon EOS R5=+1h2m": {Camera: "Canon EOS R5", Seconds: 3720},
		"a=b = -1w2d3s":      {Camera: "a=b", Seconds: -(9*86400 + 3)},
		"*=90m":              {Camera: "*", Seconds: 5400},
	} {
		if got, err := naming.ParseShift(strings.ReplaceAll(text, "= -", "=-")); err != nil || got != want {
			t.Errorf("%s: got %+v, %v; want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "=1h", "x", "x=", "x=+", "x=1", "x=--1h", "x=1h1h", "x=1m1h", "x=1.5h", "x=40000d", "x=5300w7d", "x=9223372036854775807s", "x= 1h"} {
		if got, err := naming.ParseShift(text); !errors.Is(err, naming.ErrOptions) {
			t.Errorf("%s: got %+v, %v", text, got, err)
		}
	}
}

func TestShiftRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := naming.Shift{Camera: rapid.StringMatching(`[A-Za-z0-9*=][A-Za-z0-9=. -]*[A-Za-z0-9.]`).Draw(t, "camera"), Seconds: rapid.Int64Range(-1e9, 1e9).Draw(t, "seconds")}
		if back, err := naming.ParseShift(s.String()); err != nil || back != s {
			t.Fatalf("%s is read as %+v, %v", s, back, err)
		}
	})
}

func TestClockOptions(t *testing.T) {
	shifts := []naming.Shift{{Camera: "serial 7", Seconds: 60}, {Camera: "canon eos r5", Seconds: 3600}, {Camera: "Nikon Z 6", Seconds: -3600}}
	for name, tc := range map[string]struct {
		facts metadata.Facts
		zone  string
		want  string
	}{
		"model":              {metadata.Facts{Model: "Canon EOS R5", Capture: at("2024-02-28T23:30:00.250", "+02:00", "ExifIFD:DateTimeOriginal")}, "", "0229 003000.250 +0200"},
		"make and model":     {metadata.Facts{Make: "NIKON", Model: "Z 6", Capture: at("2024-01-01T00:30:00", "", "IFD0:ModifyDate")}, "+01:00", "1231 233000.000 +0100"},
		"serial":             {metadata.Facts{Serial: "Serial 7", Model: "Canon EOS R5", Capture: at("2024-01-01T00:30:00", "Z", "x")}, "", "0101 003100.000 +0000"},
		"another camera":     {metadata.Facts{Model: "Canon EOS R", Capture: at("2024-01-01T00:30:00", "Z", "x")}, "", "0101 003000.000 +0000"},
		"a fix":              {metadata.Facts{Model: "Canon EOS R5", Capture: at("2024-01-01T00:30:00", "Z", "GPS:GPSDateStamp")}, "", "0101 003000.000 +0000"},
		"a fix in a zone":    {metadata.Facts{Model: "Canon EOS R5", Capture: at("2024-01-01T00:30:00", "Z", "GPS:GPSDateStamp")}, "America/New_York", "1231 193000.000 -0500"},
		"summer":             {metadata.Facts{Capture: at("2024-07-01T23:30:00", "Z", "Track1:TrackCreateDate")}, "Europe/Athens", "0702 023000.000 +0300"},
		"a camera at UTC":    {metadata.Facts{Capture: at("2024-07-01T23:30:00", "Z", "ExifIFD:DateTimeOriginal")}, "Europe/Athens", "0701 233000.000 +0000"},
		"no offset":          {metadata.Facts{Capture: at("2024-07-01T23:30:00", "", "ExifIFD:DateTimeOriginal")}, "Europe/Athens", "0701 233000.000 +0300"},
		"beyond the year 0":  {metadata.Facts{Model: "canon eos r5", Capture: at("9999-12-31T23:30:00", "Z", "x")}, "", "1231 233000.000 +0000"},
		"no such wall clock": {metadata.Facts{Model: "canon eos r5", Capture: at("\x00", "Z", "QuickTime:CreateDate")}, "UTC", ""},
	} {
		t.Run(name, func(t *testing.T) {
			tmpl, err := naming.ParseWith("{date:%m%d %H%M%S.%L %z}", naming.Options{TimeZone: tc.zone, Shifts: shifts})
			if err != nil {
				t.Fatal(err)
			}
			got, err := tmpl.Name(naming.Values{Key: "a", Facts: tc.facts})
			if string(got.Key) != tc.want || (err == nil) != (tc.want != "") {
				t.Errorf("got %q, %v; want %q", got.Key, err, tc.want)
			}
		})
	}
}

func at(wall, offset, source string) metadata.Time {
	return metadata.Time{Wall: wall, Offset: offset, Source: source}
}

func TestShiftsHaveBounds(t *testing.T) {
	for _, seconds := range []int64{math.MinInt64, math.MaxInt64, 36525*86400 + 1, -36525*86400 - 1} {
		err := naming.Options{Shifts: []naming.Shift{{Camera: "*", Seconds: seconds}}}.Validate()
		if !errors.Is(err, naming.ErrOptions) {
			t.Errorf("%d seconds: got %v", seconds, err)
		}
	}
}

func TestShift(t *testing.T) {
	for source, want := range map[string]string{
		`{date:%d_%H%M|shift("0s")}`:                  "03_1405",
		`{date:%d_%H%M|shift("+0h")|upper}`:           "03_1405",
		`{date:%d_%H%M|shift("+1d")|shift("-1h30m")}`: "04_1235",
	} {
		got, err := parse(t, source).Name(naming.Values{Key: "a", Facts: metadata.Facts{Capture: at("2024-05-03T14:05:09", "", "x")}})
		if err != nil || string(got.Key) != want {
			t.Errorf("%s: got %q, %v; want %q", source, got.Key, err, want)
		}
	}
}

// A sidecar's date is a correction already.
func TestClockShiftAndSidecar(t *testing.T) {
	tmpl, err := naming.ParseWith("{date:%H%M}", naming.Options{Shifts: []naming.Shift{{Camera: "*", Seconds: 3600}}})
	if err != nil {
		t.Fatal(err)
	}
	v := naming.Values{Key: "a", Facts: metadata.Facts{Capture: at("2024-01-01T10:00:00", "", "ExifIFD:DateTimeOriginal")}}
	for wall, want := range map[string]string{"2024-01-01T10:00:00": "1100", "2024-01-01T12:00:00": "1200"} {
		v.Sidecar = &naming.Sidecar{Facts: metadata.Facts{Capture: at(wall, "", "XMP-exif:DateTimeOriginal")}}
		if got, err := tmpl.Name(v); err != nil || string(got.Key) != want {
			t.Errorf("sidecar at %s: got %q, %v; want %s", wall, got.Key, err, want)
		}
	}
}

func TestProfiles(t *testing.T) {
	for _, tc := range []struct{ in, portable, posix, s3 string }{
		{`a:b?.`, "a_b_", "a:b?.", "a:b?."},
		{"con.jpg", "con_.jpg", "con.jpg", "con.jpg"},
		{`x[1]~{2}%#`, `x[1]~{2}%#`, `x[1]~{2}%#`, "x_1___2___"},
		{"..", "_", "__", "__"},
		{"...", "_", "...", "..."},
		{"e\u0301\x07", "é_", "é_", "é_"},
		{"a/b\u202e", "a_b_", "a_b_", "a_b_"},
		{".reshelf", "_reshelf", "_reshelf", "_reshelf"},
	} {
		for p, want := range map[naming.Profile]string{naming.Portable: tc.portable, naming.Windows: tc.portable, naming.POSIX: tc.posix, naming.S3: tc.s3} {
			if got, _ := naming.SafeSegmentOf(p, tc.in, true, true); got != want {
				t.Errorf("%s of %q: got %q, want %q", p, tc.in, got, want)
			}
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		p := rapid.SampledFrom(naming.Profiles()).Draw(t, "profile")
		s, _ := naming.SafeSegmentOf(p, "x"+hostile().Draw(t, "segment"), rapid.Bool().Draw(t, "hide"), true)
		if again, changed := naming.SafeSegmentOf(p, s, true, true); again != s || len(s) > 255 || strings.ContainsAny(s, "/\x00\n") || s == "." || s == ".." || s == "" {
			t.Fatalf("%s: %q becomes %q: %v", p, s, again, changed)
		}
	})
}
