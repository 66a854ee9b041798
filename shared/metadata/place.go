package metadata

import (
	"math"
	"regexp"
	"strconv"
	"strings"
)

// roundDegrees rounds to 1e-7 degrees, a centimetre, so that no digit is made up by the conversion.
const roundDegrees = 1e7

// place is the position in degrees, and whether there is one.
func (x index) place() (lat, lon float64, ok bool) {
	pairs := [][2]string{
		{x.text("Composite:GPSLatitude"), x.text("Composite:GPSLongitude")},
		{
			x.text("GPS:GPSLatitude") + " " + hemisphere(x.text("GPS:GPSLatitudeRef")),
			x.text("GPS:GPSLongitude") + " " + hemisphere(x.text("GPS:GPSLongitudeRef")),
		},
		{x.text("XMP-exif:GPSLatitude"), x.text("XMP-exif:GPSLongitude")},
	}
	// A video has both in one tag, with the altitude after them.
	if parts := strings.SplitN(x.text("GPSCoordinates"), ", ", 3); len(parts) >= 2 {
		pairs = append(pairs, [2]string{parts[0], parts[1]})
	}
	for _, pair := range pairs {
		lat, okLat := parseDegrees(pair[0], "NS", 90)
		lon, okLon := parseDegrees(pair[1], "EW", 180)
		if okLat && okLon && (lat != 0 || lon != 0) {
			return lat, lon, true
		}
	}
	return 0, 0, false
}

// hemisphere is the letter of "North", "S" and the like; "?", which parseDegrees refuses, if ref is empty, since an Exif
// coordinate means nothing without its reference.
func hemisphere(ref string) string {
	if ref == "" {
		return "?"
	}
	return ref[:1]
}

// coordinate is compiled once; a Regexp is immutable.
var coordinate = regexp.MustCompile(`^([+-]?)(\d{1,3}(?:\.\d+)?)(?: deg)?` +
	`(?: (\d{1,2}(?:\.\d+)?)')?(?: (\d{1,2}(?:\.\d+)?)")?(?: ([NSEW]))?$`)

// parseDegrees reads a coordinate as ExifTool prints it, `51 deg 30' 3.00" N`, or as decimal degrees, signed or with a
// letter. letters are the positive and the negative hemisphere; limit is the greatest value, in degrees.
func parseDegrees(s, letters string, limit float64) (float64, bool) {
	m := coordinate.FindStringSubmatch(strings.TrimSpace(s))
	if m == nil {
		return 0, false
	}
	sign, letter := m[1], m[5]
	if letter != "" && (sign != "" || !strings.Contains(letters, letter)) {
		return 0, false
	}
	var parts [3]float64
	for i := range parts {
		parts[i], _ = strconv.ParseFloat("0"+m[i+2], 64) // digits, as matched
	}
	degrees := parts[0] + parts[1]/60 + parts[2]/3600
	if parts[1] >= 60 || parts[2] >= 60 || degrees > limit {
		return 0, false
	}
	if sign == "-" || letter == letters[1:] {
		degrees = 0 - degrees // never the negative zero
	}
	return math.Round(degrees*roundDegrees) / roundDegrees, true
}
