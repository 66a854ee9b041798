package exiftool

import (
	"strconv"
	"strings"
)

// KnownHangs are the formats of which some files, good or crafted, keep this version of ExifTool busy for ever. Newer
// versions read those. See https://exiftool.org/history.html.
func KnownHangs(version string) (formats []string) {
	for _, h := range []struct{ before, format string }{
		{"12.63", "AVI"}, {"12.65", "BigTIFF"}, {"12.98", "XMP"}, {"13.37", "EXE"}, {"13.47", "JPEG with Google's HDRP maker notes"},
	} {
		if older(version, h.before) {
			formats = append(formats, h.format)
		}
	}
	return formats
}

// older compares versions, which are a number and two digits.
func older(a, b string) bool {
	aMajor, aMinor := parts(a)
	bMajor, bMinor := parts(b)
	return aMajor < bMajor || aMajor == bMajor && aMinor < bMinor
}

func parts(version string) (major, minor int) {
	a, b, _ := strings.Cut(version, ".")
	major, _ = strconv.Atoi(a) // the keeper accepts nothing but digits on both sides of a dot
	minor, _ = strconv.Atoi(b)
	return major, minor
}
