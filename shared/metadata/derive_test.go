package metadata_test

import (
	"encoding/json"
	"fmt"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/reshelf/reshelf/shared/metadata"
)

// camera is what ExifTool says of a picture from a camera, in part.
func camera() metadata.Tags {
	tags := make(metadata.Tags)
	for name, text := range map[string]string{
		"ExifTool:ExifToolVersion": "12.57", "File:FileType": "JPEG", "File:MIMEType": "image/jpeg",
		"File:ImageWidth": "6720", "File:ImageHeight": "4480", "IFD0:Make": "Canon", "IFD0:Model": "Canon EOS 5D Mark IV ",
		"IFD0:ModifyDate": "2024:06:01 09:00:00", "IFD1:ImageWidth": "160", "IFD1:ImageHeight": "120",
		"ExifIFD:DateTimeOriginal": "2024:05:01 12:34:56", "ExifIFD:CreateDate": "2024:05:01 12:34:57",
		"ExifIFD:OffsetTimeOriginal": "+02:00", "ExifIFD:SubSecTimeOriginal": "07 ", "ExifIFD:SerialNumber": "025021000537",
		"ExifIFD:LensModel": "EF24-70mm f/2.8L II USM", "Canon:LensType": "Canon EF 24-70mm f/2.8L II USM",
		"XMP-photoshop:DateCreated": "2024:05:01 10:00:00", "GPS:GPSLatitude": `51 deg 30' 3.00"`, "GPS:GPSLatitudeRef": "North",
		"Composite:GPSLatitude": `51 deg 30' 3.00" N`, "Composite:GPSLongitude": `0 deg 7' 30.00" W`, "Composite:ImageSize": "6720x4480",
	} {
		value, err := json.Marshal(text)
		if err != nil {
			panic(err)
		}
		tags[name] = value
	}
	return tags
}

func TestDeriveCamera(t *testing.T) {
	lat, lon := 51.5008333, -0.125
	want := metadata.Facts{
		Capture: metadata.Time{Wall: "2024-05-01T12:34:56.07", Offset: "+02:00", Source: "ExifIFD:DateTimeOriginal"},
		Make:    "Canon", Model: "Canon EOS 5D Mark IV", Lens: "EF24-70mm f/2.8L II USM", Serial: "025021000537",
		Width: 6720, Height: 4480, MIME: "image/jpeg", Latitude: &lat, Longitude: &lon,
	}
	if diff := cmp.Diff(want, metadata.Derive(camera())); diff != "" {
		t.Errorf("facts (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(metadata.Facts{}, metadata.Derive(nil)); diff != "" {
		t.Errorf("facts of nothing (-want +got):\n%s", diff)
	}
}

func TestDeriveCapture(t *testing.T) {
	tests := []struct{ name, tags, wall, offset, source string }{
		{"sub-seconds cut at nine digits", `"ExifIFD:DateTimeOriginal":"2024:05:01 12:34:56","ExifIFD:SubSecTimeOriginal":"1234567891"`,
			"2024-05-01T12:34:56.123456789", "", "ExifIFD:DateTimeOriginal"},
		{"sub-seconds and offset that say nothing", `"ExifIFD:DateTimeOriginal":"2024:05:01 12:34:56","ExifIFD:SubSecTimeOriginal":"  ","ExifIFD:OffsetTimeOriginal":"   :  "`,
			"2024-05-01T12:34:56", "", "ExifIFD:DateTimeOriginal"},
		{"its own sub-seconds and offset win", `"XMP-exif:DateTimeOriginal":"2024:05:01 12:34:56.5-07:00","XMP-exif:SubSecTimeOriginal":9,"XMP-exif:OffsetTimeOriginal":"Z"`,
			"2024-05-01T12:34:56.5", "-07:00", "XMP-exif:DateTimeOriginal"},
		{"never set, then digitized", `"ExifIFD:DateTimeOriginal":"0000:00:00 00:00:00","ExifIFD:CreateDate":"2003:01:02 03:04:05","ExifIFD:SubSecTimeDigitized":12,"ExifIFD:OffsetTimeDigitized":"+01:00"`,
			"2003-01-02T03:04:05.12", "+01:00", "ExifIFD:CreateDate"},
		{"impossible, then the next", `"ExifIFD:DateTimeOriginal":"2024:02:30 12:00:00","XMP-xmp:CreateDate":"2024:03:01 12:00:00"`,
			"2024-03-01T12:00:00", "", "XMP-xmp:CreateDate"},
		{"blanks, then the only one of an old camera", `"ExifIFD:DateTimeOriginal":"    :  :     :  :  ","IFD0:ModifyDate":"1999:12:31 23:59:59","ExifIFD:SubSecTime":5`,
			"1999-12-31T23:59:59.5", "", "IFD0:ModifyDate"},
		{"a scan: taken before digitized", `"ExifIFD:CreateDate":"2010:01:01 10:00:00","XMP-photoshop:DateCreated":"1975:07:04"`,
			"1975-07-04T00:00:00", "", "XMP-photoshop:DateCreated"},
		{"a day gives way to the same day with a clock", `"XMP-photoshop:DateCreated":"2024:05:01","ExifIFD:CreateDate":"2024:05:01 12:34:56"`,
			"2024-05-01T12:34:56", "", "ExifIFD:CreateDate"},
		{"a year alone is passed over", `"XMP-photoshop:DateCreated":2024,"XMP-xmp:CreateDate":"2024:05:01 12:34:56"`,
			"2024-05-01T12:34:56", "", "XMP-xmp:CreateDate"},
		{"IPTC", `"IPTC:DateCreated":"2024:05:01","IPTC:TimeCreated":"12:34:56+02:00"`, "2024-05-01T12:34:56", "+02:00", "IPTC:DateCreated"},
		{"IPTC without time", `"IPTC:DateCreated":"2024:05:01"`, "2024-05-01T00:00:00", "", "IPTC:DateCreated"},
		{"iPhone video", `"QuickTime:CreateDate":"2024:05:01 10:34:56","Keys:CreationDate":"2024:05:01 12:34:56+02:00"`,
			"2024-05-01T12:34:56", "+02:00", "Keys:CreationDate"},
		{"Sony video", `"QuickTime:CreateDate":"2024:05:01 10:34:56","XML:CreationDateValue":"2024:05:01 12:34:56+02:00"`,
			"2024-05-01T12:34:56", "+02:00", "XML:CreationDateValue"},
		{"movie header", `"QuickTime:CreateDate":"2024:05:01 10:34:56","Track1:TrackCreateDate":"2024:05:01 10:34:57"`,
			"2024-05-01T10:34:56", "Z", "QuickTime:CreateDate"},
		{"movie header with an offset", `"QuickTime:CreateDate":"2024:05:01 12:34:56+02:00"`, "2024-05-01T12:34:56", "+02:00", "QuickTime:CreateDate"},
		{"movie header unset, track set", `"QuickTime:CreateDate":"1904:01:01 00:00:00","Track1:MediaCreateDate":"0000:00:00 00:00:00","Track2:MediaCreateDate":"2024:05:01 10:34:56"`,
			"2024-05-01T10:34:56", "Z", "Track2:MediaCreateDate"},
		{"Unix zero in a time zone", `"Track1:TrackCreateDate":"1970:01:01 01:00:00+01:00"`, "", "", ""},
		{"new year 1970, as a date", `"XMP-photoshop:DateCreated":"1970:01:01"`, "1970-01-01T00:00:00", "", "XMP-photoshop:DateCreated"},
		{"AVI", `"RIFF:DateTimeOriginal":"2009:10:27 12:14:00"`, "2009-10-27T12:14:00", "", "RIFF:DateTimeOriginal"},
		{"AVCHD", `"H264:DateTimeOriginal":"2008:12:31 23:16:24+01:00"`, "2008-12-31T23:16:24", "+01:00", "H264:DateTimeOriginal"},
		{"PDF", `"PDF:CreateDate":"2005:07:18 14:30:45-04:00","PDF:ModifyDate":"2006:01:01 00:00:01"`, "2005-07-18T14:30:45", "-04:00", "PDF:CreateDate"},
		{"PNG", `"PNG:CreationTime":"2003:12:14 12:01:44"`, "2003-12-14T12:01:44", "", "PNG:CreationTime"},
		{"text for a date", `"PNG:CreationTime":"last summer","Font:CreateDate":"Sat Sep  4 16:12:41 2004"`, "", "", ""},
		{"a list for a date", `"ExifIFD:DateTimeOriginal":["2024:05:01 12:34:56"]`, "", "", ""},
		{"only the satellites", `"GPS:GPSDateStamp":"2024:05:01","GPS:GPSTimeStamp":"10:34:56.5"`, "2024-05-01T10:34:56.5", "Z", "GPS:GPSDateStamp"},
		{"file dates do not count", `"System:FileModifyDate":"2024:05:01 10:34:56Z","ICC-header:ProfileDateTime":"2024:05:01 10:34:56"`, "", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := metadata.Time{Wall: tt.wall, Offset: tt.offset, Source: tt.source}
			if got := metadata.Derive(tagsOf(t, tt.tags)).Capture; got != want {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

// TestDeriveOthers compares the facts as JSON, which leaves out what is zero.
func TestDeriveOthers(t *testing.T) {
	tests := []struct{ name, tags, want string }{
		{"make and model, in order of groups", `"XMP-tiff:Make":"x","IFD0:Make":" NIKON ","IFD1:Model":"thumb","XMP-tiff:Model":"D70"`,
			`{"make":"NIKON","model":"D70"}`},
		{"Android video", `"Keys:AndroidMake":"Google","Keys:AndroidModel":"Pixel 8"`, `{"make":"Google","model":"Pixel 8"}`},
		{"lens passes over the unknown", `"ExifIFD:LensModel":"----","Canon:LensModel":"n/a","Composite:LensID":"Unknown 7-21mm","XMP-aux:Lens":"7.1-21.3 mm"`,
			`{"lens":"7.1-21.3 mm"}`},
		{"a number is no lens", `"XMP-aux:LensID":94`, `{}`},
		{"serial passes over zeros", `"ExifIFD:SerialNumber":"0000000000","XMP-aux:SerialNumber":0,"Sony:InternalSerialNumber":"0a12"`, `{"serial":"0a12"}`},
		{"serial keeps leading zeros", `"ExifIFD:SerialNumber":"0012"`, `{"serial":"0012"}`},
		{"a text too long", `"IFD0:Make":"` + fmt.Sprintf("%0257d", 1) + `","IFD0:Model":"` + fmt.Sprintf("%0256d", 1) + `"`,
			`{"model":"` + fmt.Sprintf("%0256d", 1) + `"}`},
		{"size without Composite", `"File:ImageWidth":40,"File:ImageHeight":30,"IFD0:ImageWidth":4,"IFD0:ImageHeight":3`, `{"width":40,"height":30}`},
		{"size of Exif", `"ExifIFD:ExifImageWidth":40,"ExifIFD:ExifImageHeight":30,"IFD0:ImageWidth":4,"IFD0:ImageHeight":3`, `{"width":40,"height":30}`},
		{"size of one group", `"QuickTime:ImageWidth":40,"Track1:ImageWidth":4,"Track1:ImageHeight":3`, `{"width":4,"height":3}`},
		{"no size from a thumbnail", `"IFD1:ImageWidth":160,"IFD1:ImageHeight":120`, `{}`},
		{"no size from nonsense", `"Composite:ImageSize":"0x10","SVG:ImageWidth":"4in","SVG:ImageHeight":"3in","PNG:ImageWidth":-1,"PNG:ImageHeight":99999999999`, `{}`},
		{"duration in seconds", `"QuickTime:Duration":"12.34 s"`, `{"duration":12.34}`},
		{"duration approximate", `"Composite:Duration":"1.34 s (approx)"`, `{"duration":1.34}`},
		{"duration on the clock", `"Matroska:Duration":"1:02:29"`, `{"duration":3749}`},
		{"duration approximate on the clock", `"Composite:Duration":"0:01:02 (approx)"`, `{"duration":62}`},
		{"duration in days", `"Composite:Duration":"3 days 4:38:28"`, `{"duration":275908}`},
		{"duration as a number", `"QuickTime:Duration":7.5`, `{"duration":7.5}`},
		{"no duration", `"QuickTime:Duration":"0 s","A:Duration":"-3.00 s","B:Duration":"nan","C:Duration":"Inf","D:Duration":"1e999","E:Duration":"soon"`, `{}`},
		{"a raw image has no duration", `"File:MIMEType":"image/x-canon-cr3","QuickTime:Duration":"1.00 s"`, `{"mime":"image/x-canon-cr3"}`},
		{"an animation has", `"File:MIMEType":"image/gif","GIF:Duration":"1.00 s"`, `{"duration":1,"mime":"image/gif"}`},
		{"place, decimal", `"Composite:GPSLatitude":"-33.8568","Composite:GPSLongitude":151.2153`, `{"latitude":-33.8568,"longitude":151.2153}`},
		{"place, without Composite", `"GPS:GPSLatitude":"1 deg 30' 0.00\"","GPS:GPSLatitudeRef":"South","GPS:GPSLongitude":"2 deg 0' 0.00\"","GPS:GPSLongitudeRef":"E"`,
			`{"latitude":-1.5,"longitude":2}`},
		{"no hemisphere", `"GPS:GPSLatitude":"1 deg 30' 0.00\"","GPS:GPSLongitude":"2 deg 0' 0.00\"","GPS:GPSLongitudeRef":"East"`, `{}`},
		{"place of a sidecar", `"XMP-exif:GPSLatitude":"23 deg 55' 12.00\" N","XMP-exif:GPSLongitude":"71 deg 0' 0.00\" W"`, `{"latitude":23.92,"longitude":-71}`},
		{"place of a video", `"Keys:GPSCoordinates":"51 deg 30' 0.00\" N, 0 deg 0' 36.00\" W, 12 m Above Sea Level"`, `{"latitude":51.5,"longitude":-0.01}`},
		{"on the equator", `"Composite:GPSLatitude":"0 deg 0' 0.00\" S","Composite:GPSLongitude":"9 deg 0' 0.00\" E"`, `{"latitude":0,"longitude":9}`},
		{"no fix", `"Composite:GPSLatitude":"0 deg 0' 0.00\" N","Composite:GPSLongitude":"0 deg 0' 0.00\" E"`, `{}`},
		{"both or none", `"Composite:GPSLatitude":"51 deg 30' 3.00\" N"`, `{}`},
		{"out of range", `"Composite:GPSLatitude":"90 deg 0' 0.01\" N","Composite:GPSLongitude":"9 deg 0' 0.00\" E"`, `{}`},
		{"61 minutes", `"Composite:GPSLatitude":"9 deg 61' 0.00\" N","Composite:GPSLongitude":"9 deg 0' 0.00\" E"`, `{}`},
		{"mixed up", `"Composite:GPSLatitude":"9 deg 0' 0.00\" E","Composite:GPSLongitude":"9 deg 0' 0.00\" N"`, `{}`},
		{"sign and letter", `"Composite:GPSLatitude":"-9.5 N","Composite:GPSLongitude":"9.5 E"`, `{}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := json.Marshal(metadata.Derive(tagsOf(t, tt.tags)))
			if err != nil || string(got) != tt.want {
				t.Errorf("got  %s, %v\nwant %s", got, err, tt.want)
			}
		})
	}
}

// checkFacts checks what must hold of the facts of any tags.
func checkFacts(t *testing.T, tags metadata.Tags) {
	t.Helper()
	f := metadata.Derive(tags)
	if c := f.Capture; c != (metadata.Time{}) {
		if _, ok := c.Time(nil); !ok || c.Source == "" {
			t.Errorf("capture %v is no time", c)
		}
	}
	if f.Width < 0 || f.Height < 0 || (f.Width == 0) != (f.Height == 0) {
		t.Errorf("size %d x %d", f.Width, f.Height)
	}
	if f.Duration < 0 || math.IsNaN(f.Duration) || math.IsInf(f.Duration, 0) {
		t.Errorf("duration %v", f.Duration)
	}
	if (f.Latitude == nil) != (f.Longitude == nil) {
		t.Errorf("half a place: %v, %v", f.Latitude, f.Longitude)
	}
	if f.Latitude != nil && (math.Abs(*f.Latitude) > 90 || math.Abs(*f.Longitude) > 180) {
		t.Errorf("place %v, %v", *f.Latitude, *f.Longitude)
	}
	if _, err := json.Marshal(f); err != nil {
		t.Error(err)
	}
}

func BenchmarkDerive(b *testing.B) {
	tags := camera()
	for b.Loop() {
		metadata.Derive(tags)
	}
}
