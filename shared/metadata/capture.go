package metadata

import (
	"strings"
	"time"
)

// link is one place to look for a capture time.
type link struct {
	// tag holds the date and time. A bare name stands for every group that has it, in the order of Tags.Text.
	tag string
	// clock holds the time of day where tag holds the date alone.
	clock string
	// subSec and offset complete a tag whose format has no room for them.
	subSec, offset string
	// utc: the format says that the time is in UTC.
	utc bool
}

// chain is where Derive looks for the capture time, first to last. One chain serves every kind of file, as the tags of
// one kind are absent from the others. It runs from what a camera writes when the shutter opens to what any program may
// have written later:
//
//	when it was taken    Exif (Exif 2.32, 0x9003, 0x9291, 0x9011), also where TIFF/EP has it, in IFD0; then XMP and IPTC,
//	                     in the order of the Metadata Working Group's guidelines 2.0, section 5.5; then video:
//	                     com.apple.quicktime.creationdate and Sony's XML, both local time with its offset, before
//	                     the UTC of the movie header; then any other format's DateTimeOriginal (RIFF, Matroska, H264,
//	                     CanonRaw, FLIR, …)
//	when it was digitized  the same families; of a camera's own file it is the same moment, of a scan a later one
//	movie headers        ISO/IEC 14496-12, 8.2.2: seconds in UTC, though some cameras write their local time there
//	when it was created  documents and everything else that has a CreateDate
//	the satellites' clock  UTC of the last position fix, which can be older than the picture
//	when it was changed  Exif's DateTime, the only date of some old cameras and scanners; editors overwrite it
func chain() []link {
	return append(taken(), []link{
		{tag: "ExifIFD:CreateDate", subSec: "ExifIFD:SubSecTimeDigitized", offset: "ExifIFD:OffsetTimeDigitized"},
		{tag: "XMP-exif:DateTimeDigitized", subSec: "XMP-exif:SubSecTimeDigitized", offset: "XMP-exif:OffsetTimeDigitized"},
		{tag: "IPTC:DigitalCreationDate", clock: "IPTC:DigitalCreationTime"},
		{tag: "XMP-xmp:CreateDate"},

		{tag: "QuickTime:CreateDate", utc: true},
		{tag: "MediaCreateDate", utc: true},
		{tag: "TrackCreateDate", utc: true},

		{tag: "PDF:CreateDate"},
		{tag: "PNG:CreationTime"},
		{tag: "CreateDate"},
		{tag: "CreationDate"},

		{tag: "GPS:GPSDateStamp", clock: "GPS:GPSTimeStamp", utc: true},

		{tag: "IFD0:ModifyDate", subSec: "ExifIFD:SubSecTime", offset: "ExifIFD:OffsetTime"},
	}...)
}

// taken are the links that say when an object was taken.
func taken() []link {
	return []link{
		{tag: "ExifIFD:DateTimeOriginal", subSec: "ExifIFD:SubSecTimeOriginal", offset: "ExifIFD:OffsetTimeOriginal"},
		{tag: "IFD0:DateTimeOriginal", subSec: "ExifIFD:SubSecTimeOriginal", offset: "ExifIFD:OffsetTimeOriginal"},
		{tag: "XMP-exif:DateTimeOriginal", subSec: "XMP-exif:SubSecTimeOriginal", offset: "XMP-exif:OffsetTimeOriginal"},
		{tag: "XMP-photoshop:DateCreated"},
		{tag: "IPTC:DateCreated", clock: "IPTC:TimeCreated"},
		{tag: "Keys:CreationDate"},
		{tag: "XML:CreationDateValue"},
		{tag: "DateTimeOriginal"},
		{tag: "ContentCreateDate"},
	}
}

// capture is the first date of the chain that is valid. A date without a time of day gives way to the first later one of
// the same day that has it.
func (x index) capture() Time {
	var day Time
	for _, l := range chain() {
		for _, key := range x.find(l.tag) {
			t, clock, ok := x.read(key, l)
			switch {
			case !ok:
			case day.Source == "" && clock:
				return t
			case day.Source == "":
				day = t
			case clock && date(t) == date(day):
				return t
			}
		}
	}
	return day
}

func date(t Time) string { return t.Wall[:len("2006-01-02")] }

// read reads one link at one key. clock tells whether it has a time of day; ok is false if there is no usable date.
func (x index) read(key string, l link) (t Time, clock, ok bool) {
	text, _ := TextOf(x.tags[key])
	if l.clock != "" {
		text += " " + x.text(l.clock)
	}
	t, clock, err := parseTime(text)
	if err != nil || clock && neverSet(t) {
		return Time{}, false, false
	}
	t.Source = key
	if t.Offset == "" && l.utc {
		t.Offset = "Z"
	}
	if !clock {
		return t, false, true
	}
	if t.Offset == "" {
		t.Offset = canonicalOffset(x.text(l.offset))
	}
	if !strings.Contains(t.Wall, ".") {
		t.Wall += fraction(x.text(l.subSec))
	}
	return t, true, true
}

// neverSet reports whether t is the zero of a clock that counts from 1904 (QuickTime, HFS) or 1970 (Unix).
func neverSet(t Time) bool {
	moment, _ := t.Time(time.UTC)
	return moment.Equal(time.Unix(0, 0)) || moment.Equal(time.Date(1904, 1, 1, 0, 0, 0, 0, time.UTC))
}

// fraction is the sub-seconds of a Wall, with their dot, "" if subSec is not made of digits. SubSecTime's digits are those
// after the point (Exif 2.32, 0x9290), padded with blanks.
func fraction(subSec string) string {
	digits := strings.TrimSpace(subSec)
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return ""
	}
	return "." + digits[:min(len(digits), maxFraction)]
}

// DateWithSidecar is the date that a tag holds, found under its name as [Tags.TextWithSidecar] finds it, with the sub-seconds
// and the UTC offset that other tags hold for it. Its Source is the tag, after SidecarSource if it is the sidecar's. It is
// false where the first text of that name is no date.
func (t Tags) DateWithSidecar(sidecar Tags, name string) (Time, bool) {
	key, said, ok := t.locate(sidecar, name)
	if !ok {
		return Time{}, false
	}
	if said {
		t = sidecar
	}
	l := link{tag: key}
	for _, known := range chain() {
		if strings.EqualFold(known.tag, key) {
			l = known
		}
	}
	for _, known := range chain() {
		if _, bare := splitKey(key); known.tag == bare && known.utc {
			l.utc = true
		}
	}
	d, _, ok := newIndex(t).read(key, l)
	if ok && said {
		d.Source = SidecarSource + d.Source
	}
	return d, ok
}

// DateTags are the tags that DateWithSidecar may read beside the one that it is asked for.
func DateTags() (names []string) {
	for _, l := range chain() {
		for _, name := range []string{l.clock, l.subSec, l.offset} {
			if name != "" {
				names = append(names, name)
			}
		}
	}
	return names
}

// IsUTC reports whether t is in UTC because its format says so, and not because a camera's clock stood at UTC: the dates of
// a movie header and of a satellite's clock.
func (t Time) IsUTC() bool {
	source := strings.TrimPrefix(t.Source, SidecarSource)
	_, bare := splitKey(source)
	for _, l := range chain() {
		if l.utc && (l.tag == source || l.tag == bare) {
			return t.Offset == "Z"
		}
	}
	return false
}

// IsFix reports whether t was told by satellites and not by the camera's clock.
func (t Time) IsFix() bool { return strings.HasPrefix(t.Source, "GPS:") }
