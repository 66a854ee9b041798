package naming_test

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/reshelf/reshelf/shared/naming"
)

// Each conversion by itself, at a moment where each differs from the others, against date(1) of GNU coreutils
// (%f, %L: Python's and Ruby's strftime).
func TestConversions(t *testing.T) {
	want := map[string]string{
		"A": "Sunday", "a": "Sun", "B": "January", "b": "Jan", "C": "20", "d": "07", "e": "x 7", "F": "2024-01-07", "f": "012345", "G": "2024",
		"g": "24", "H": "15", "h": "Jan", "I": "03", "j": "007", "L": "012", "M": "04", "m": "01", "N": "012345678", "p": "PM", "R": "15_04",
		"S": "09", "T": "15_04_09", "U": "01", "u": "7", "V": "01", "W": "01", "w": "0", "Y": "2024", "y": "24", "z": "-0330", "%": "%",
	}
	v := naming.Values{Key: "a", MTime: time.Date(2024, 1, 7, 15, 4, 9, 12345678, time.FixedZone("NST", -12600)), Location: time.FixedZone("NST", -12600)}
	for _, c := range strings.Split(naming.DateConversions, "") {
		format := "%" + c
		if c == "e" {
			format = "x%e"
		}
		got, err := parse(t, "{mtime:"+format+"}").Name(v)
		if err != nil {
			t.Fatal(err)
		}
		if string(got.Key) != want[c] {
			t.Errorf("%%%s: got %q, want %q", c, got.Key, want[c])
		}
	}
}

// Text that looks like a layout of package time, or makes one with the conversion before it, stays text.
func TestTextInFormats(t *testing.T) {
	v := naming.Values{Key: "a", MTime: time.Date(2024, 5, 3, 4, 5, 9, 12345678, time.UTC)}
	for _, tc := range []struct{ format, want string }{
		{"%ax", "Frix"}, {"%byear", "Mayyear"}, {"2006-Jan", "2006-Jan"}, {"%S.000", "09.000"}, {"%-d2006", "32006"}, {"%Y%%Y", "2024%Y"},
	} {
		got, err := parse(t, "{mtime:"+tc.format+"}").Name(v)
		if err != nil {
			t.Fatal(err)
		}
		if string(got.Key) != tc.want {
			t.Errorf("%s: got %q, want %q", tc.format, got.Key, tc.want)
		}
	}
}

// Weeks at the turn of a year, against date(1).
func TestWeeks(t *testing.T) {
	for _, tc := range []struct{ day, want string }{
		{"2021-01-03", "2020-53-7 01-00-0"},
		{"2024-12-30", "2025-01-1 52-53-1"},
		{"2022-01-01", "2021-52-6 00-00-6"},
		{"2023-01-01", "2022-52-7 01-00-0"},
		{"2018-12-31", "2019-01-1 52-53-1"},
	} {
		day, err := time.Parse(time.DateOnly, tc.day)
		if err != nil {
			t.Fatal(err)
		}
		got, err := parse(t, "{mtime:%G-%V-%u %U-%W-%w}").Name(naming.Values{Key: "a", MTime: day})
		if err != nil {
			t.Fatal(err)
		}
		if string(got.Key) != tc.want {
			t.Errorf("%s: got %q, want %q", tc.day, got.Key, tc.want)
		}
	}
}

// A format gives what its pieces give one by one: text that looks like a layout of package time stays text.
func TestFormatRules(t *testing.T) {
	pieces := []string{"2006", "06", "Jan", "January", "Mon", "MST", "15", "_2", "02", "PM", ".000", ",999", ".9", "Z07", "-07", "x", "1", "-"}
	for _, c := range strings.Split(naming.DateConversions, "") {
		pieces = append(pieces, "%"+c)
	}
	for _, c := range strings.Split("deHIjmMSyY", "") {
		pieces = append(pieces, "%-"+c)
	}
	v := naming.Values{Key: "a", MTime: time.Date(2024, 5, 3, 4, 5, 9, 12345678, time.UTC)}
	name := func(t *rapid.T, format string) string {
		tmpl, err := naming.Parse(`{"<"}{mtime:"` + format + `"}{">"}`)
		if err != nil {
			t.Fatal(err)
		}
		got, err := tmpl.Name(v)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSuffix(strings.TrimPrefix(string(got.Key), "_"), "_")
	}
	rapid.Check(t, func(t *rapid.T) {
		drawn := rapid.SliceOfN(rapid.SampledFrom(pieces), 1, 6).Draw(t, "pieces")
		var want strings.Builder
		for _, p := range drawn {
			if strings.HasPrefix(p, "%") {
				p = name(t, p)
			}
			want.WriteString(p)
		}
		if got := name(t, strings.Join(drawn, "")); got != want.String() {
			t.Fatalf("%q: got %q, want %q", drawn, got, want.String())
		}
	})
}
