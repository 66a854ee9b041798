package metadata_test

import (
	"errors"
	"testing"
	"time"

	"github.com/reshelf/reshelf/shared/metadata"
)

func TestParseTime(t *testing.T) {
	tests := []struct{ in, wall, offset string }{
		{"2024:05:01 12:34:56", "2024-05-01T12:34:56", ""},
		{"2024:05:01 12:34:56.78+02:00", "2024-05-01T12:34:56.78", "+02:00"},
		{"2024:05:01 12:34:56Z", "2024-05-01T12:34:56", "Z"},
		{"2017:05:29 17:19:21-0400", "2017-05-29T17:19:21", "-04:00"},
		{"2017:05:29 17:19:21 +05", "2017-05-29T17:19:21", "+05:00"},
		{"2018:07:25 16:34:22.173129472", "2018-07-25T16:34:22.173129472", ""},
		{"2018:07:25 16:34:22.1731294729999", "2018-07-25T16:34:22.173129472", ""},
		{"2010:04:19 11:18:04.30", "2010-04-19T11:18:04.30", ""},
		{"2023-08-13T11:43:58+00:00", "2023-08-13T11:43:58", "+00:00"},
		{"2023/08/13 11:43", "2023-08-13T11:43:00", ""},
		{"  2024:05:01  ", "2024-05-01T00:00:00", ""},
		{"2024:02:29", "2024-02-29T00:00:00", ""},
		{"1685.03.31 23:59:59,5+14:00", "1685-03-31T23:59:59.5", "+14:00"},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			got, err := metadata.ParseTime(tt.in)
			if want := (metadata.Time{Wall: tt.wall, Offset: tt.offset}); err != nil || got != want {
				t.Errorf("got %v, %v; want %v", got, err, want)
			}
		})
	}
}

func TestParseTimeErrors(t *testing.T) {
	for _, in := range []string{
		"", "    :  :     :  :  ", "0000:00:00 00:00:00", "0001:01:01 00:00:00", "0999:12:31", "2024", "2024:05", "2024:5:1",
		"2024:13:01", "2024:00:01", "2024:02:30 10:00:00", "2023:02:29", "2024:05:01 24:00:00", "2024:05:01 12:60:00",
		"2024:05:01 12:00:60", "2024:05-01", "2024:05:01 12", "2024:05:01Z", "2024:05:01 12:00:00+15:00",
		"2024:05:01 12:00:00+02:60", "2024:05:01 12:00:00+2", "2024:05:01 12:00:00 DST", "Sat Sep  4 16:12:41 2004", "28/01/97",
		"2024:05:01 12:00:00.", "12024:05:01", "٢٠٢٤:05:01", "2024:05:01\x0012:00:00",
	} {
		if got, err := metadata.ParseTime(in); !errors.Is(err, metadata.ErrTime) || got != (metadata.Time{}) {
			t.Errorf("ParseTime(%q): got %v, %v", in, got, err)
		}
	}
}

func TestTimeIn(t *testing.T) {
	berlin := time.FixedZone("CET", 3600)
	tests := []struct {
		name string
		time metadata.Time
		loc  *time.Location
		want string
	}{
		{"naive", metadata.Time{Wall: "2024-05-01T12:00:00.25"}, berlin, "2024-05-01T12:00:00.25+01:00"},
		{"naive, nil", metadata.Time{Wall: "2024-05-01T12:00:00"}, nil, "2024-05-01T12:00:00Z"},
		{"UTC", metadata.Time{Wall: "2024-05-01T12:00:00", Offset: "Z"}, berlin, "2024-05-01T12:00:00Z"},
		{"east", metadata.Time{Wall: "2024-05-01T12:00:00", Offset: "+05:45"}, berlin, "2024-05-01T12:00:00+05:45"},
		{"west", metadata.Time{Wall: "2024-05-01T12:00:00", Offset: "-03:30"}, nil, "2024-05-01T12:00:00-03:30"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := tt.time.Time(tt.loc)
			if text := got.Format(time.RFC3339Nano); !ok || text != tt.want {
				t.Errorf("got %s, %t; want %s", text, ok, tt.want)
			}
		})
	}
	for _, bad := range []metadata.Time{
		{}, {Wall: "2024-05-01"}, {Wall: "2024-05-01T12:00:00", Offset: "+2"}, {Wall: "2024-05-01T12:00:00", Offset: "+02-00"},
		{Wall: "2024-05-01T12:00:00", Offset: "=02:00"}, {Wall: "2024-05-01T12:00:00", Offset: "+99:00"}, {Wall: "x", Offset: "Z"},
	} {
		if got, ok := bad.Time(time.UTC); ok || !got.IsZero() {
			t.Errorf("%v: got %v, %t", bad, got, ok)
		}
	}
}

func FuzzParseTime(f *testing.F) {
	for _, s := range []string{"2024:05:01 12:34:56.78+02:00", "2024:05", "0000:00:00 00:00:00", "2024-05-01T12:34:56Z", "2024:05:01"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		parsed, err := metadata.ParseTime(s)
		if err != nil {
			if !errors.Is(err, metadata.ErrTime) {
				t.Fatalf("%q: %v", s, err)
			}
			return
		}
		if _, ok := parsed.Time(nil); !ok {
			t.Errorf("%q: %v has no time", s, parsed)
		}
		if again, err := metadata.ParseTime(parsed.Wall + parsed.Offset); err != nil || again != parsed {
			t.Errorf("%q: parsed again: got %v, %v; want %v", s, again, err, parsed)
		}
	})
}
