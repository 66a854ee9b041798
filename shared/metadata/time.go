package metadata

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// ErrTime is wrapped by every error of [ParseTime].
var ErrTime = errors.New("invalid date and time")

const (
	wallLayout = "2006-01-02T15:04:05"
	// maxFraction is how many digits of sub-seconds a Wall holds: nanoseconds.
	maxFraction = 9
	// maxOffsetHours: the time zones of the Earth lie between -12:00 and +14:00.
	maxOffsetHours = 14
)

// Time is a capture time as the camera wrote it.
type Time struct {
	// Wall is the wall-clock reading, "2006-01-02T15:04:05" with up to nine digits of sub-seconds after a dot.
	Wall string `json:"wall"`
	// Offset is the UTC offset as "+02:00" or "Z", "" if the camera did not say.
	Offset string `json:"offset,omitempty"`
	// Source is the tag that it came from, "ExifIFD:DateTimeOriginal", or "mtime".
	Source string `json:"source"`
}

// Time is the moment that t names. Without an Offset the wall clock is read in loc, nil being UTC; with one the result
// is in a fixed zone of that offset, or in UTC for "Z". It is false if t is not well formed.
func (t Time) Time(loc *time.Location) (time.Time, bool) {
	switch {
	case t.Offset != "":
		var ok bool
		if loc, ok = zone(t.Offset); !ok {
			return time.Time{}, false
		}
	case loc == nil:
		loc = time.UTC
	}
	moment, err := time.ParseInLocation(wallLayout, t.Wall, loc)
	return moment, err == nil
}

// ParseTime reads a date and time as ExifTool prints them, "2024:05:01 12:34:56.78+02:00": the sub-seconds, the offset
// ("Z", "+02:00", "+0200", "+02"), the seconds, and the time of day may be missing, which then is 00:00:00. Dates with
// dashes, slashes or dots and a T before the time, as XMP and PNG have them in the file, are read too. Sub-seconds beyond
// nine digits are cut off.
//
// A year alone or a month without a day is an error, since no time follows from it; so are dates that do not exist, and
// years before 1000, since 0000:00:00 in Exif and 0001:01:01 elsewhere mean "not set". The result has no Source.
func ParseTime(exif string) (Time, error) {
	t, _, err := parseTime(exif)
	return t, err
}

// dateTime is compiled once; a Regexp is immutable.
var dateTime = regexp.MustCompile(`^([1-9]\d{3})([:/.-])(\d\d)([:/.-])(\d\d)` +
	`(?:[ T](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d+))?)? *(Z|[+-]\d\d(?::?\d\d)?)?)?$`)

// parseTime is ParseTime that also tells whether there was a time of day.
func parseTime(exif string) (t Time, clock bool, err error) {
	m := dateTime.FindStringSubmatch(strings.TrimSpace(exif))
	if m == nil || m[2] != m[4] {
		return Time{}, false, fmt.Errorf("%w %.60q: want YYYY:MM:DD hh:mm:ss", ErrTime, exif)
	}
	year, month, day, hour, minute, second, fraction, offset := m[1], m[3], m[5], m[6], m[7], m[8], m[9], m[10]
	if clock = hour != ""; !clock {
		hour, minute = "00", "00"
	}
	if second == "" {
		second = "00"
	}
	t.Wall = year + "-" + month + "-" + day + "T" + hour + ":" + minute + ":" + second
	if _, err := time.Parse(wallLayout, t.Wall); err != nil {
		return Time{}, false, fmt.Errorf("%w %.60q: there is no such date", ErrTime, exif)
	}
	if fraction != "" {
		t.Wall += "." + fraction[:min(len(fraction), maxFraction)]
	}
	if offset == "" {
		return t, clock, nil
	}
	if t.Offset = canonicalOffset(offset); t.Offset == "" {
		return Time{}, false, fmt.Errorf("%w %.60q: no UTC offset is %q", ErrTime, exif, offset)
	}
	return t, clock, nil
}

// canonicalOffset writes "Z", "+02:00", "+0200" or "+02" as a Time's Offset, "" if s is none.
func canonicalOffset(s string) string {
	s = strings.TrimSpace(s)
	digits := strings.ReplaceAll(s, ":", "")
	switch len(digits) {
	case 1:
	case 3:
		s += ":00"
	case 5:
		s = digits[:3] + ":" + digits[3:]
	}
	if _, ok := zone(s); !ok {
		return ""
	}
	return s
}

// zone reads an Offset.
func zone(offset string) (*time.Location, bool) {
	if offset == "Z" {
		return time.UTC, true
	}
	if len(offset) != len("+02:00") || offset[3] != ':' || strings.IndexByte("+-", offset[0]) < 0 {
		return nil, false
	}
	hours, errHours := strconv.ParseUint(offset[1:3], 10, 8)
	minutes, errMinutes := strconv.ParseUint(offset[4:], 10, 8)
	if errHours != nil || errMinutes != nil || hours > maxOffsetHours || minutes > 59 {
		return nil, false
	}
	seconds := int(hours)*3600 + int(minutes)*60
	if offset[0] == '-' {
		seconds = -seconds
	}
	return time.FixedZone("", seconds), true
}
