package naming

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// measuredFields are numbers that are computed, and what follows from them.
func measuredFields() []fieldSpec {
	tags := Needs{Tags: true}
	turned := []string{"Orientation", "Rotation"}
	return []fieldSpec{
		{name: "megapixels", needs: tags, build: decimalField("1", "dimensions", megapixels)},
		{name: "orientation", needs: tags, tags: turned, build: plain(orientation, "dimensions")},
		{name: "duration", needs: tags, build: durationField},
		{name: "lat", needs: tags, build: decimalField("", "position", func(v *Values) *float64 { return v.Facts.Latitude })},
		{name: "lon", needs: tags, build: decimalField("", "position", func(v *Values) *float64 { return v.Facts.Longitude })},
		{name: "alt", needs: tags, tags: []string{"GPSAltitude"}, build: decimalField("", "altitude", altitude)},
		{name: "realext", needs: tags, tags: []string{"File:FileTypeExtension"}, build: plain(realExt, "format that ExifTool knows")},
	}
}

// decimalField is a number; its format is how many decimals it has, after a plus if positive ones are to have one. Without a
// format it has as many as it needs.
func decimalField(format, what string, get func(*Values) *float64) build {
	missing := "the object has no " + what
	return func(given string, isGiven bool) (lookup, *problem) {
		format := format
		if isGiven {
			format = given
		}
		digits, signed := strings.CutPrefix(format, "+")
		decimals := -1
		if digits != "" {
			var bad *problem
			if decimals, bad = number(digits, 0, maxDecimals); bad != nil {
				bad.want += `, with a "+" before it for the sign of positive numbers`
				return nil, bad
			}
		}
		return func(v *Values) (text, string) {
			n := get(v)
			if n == nil {
				return text{}, missing
			}
			s := withoutNegativeZero(strconv.FormatFloat(*n, 'f', decimals, 64))
			if signed && s[0] != '-' {
				s = "+" + s
			}
			return valueText(s), ""
		}, nil
	}
}

func megapixels(v *Values) *float64 {
	if v.Facts.Width <= 0 || v.Facts.Height <= 0 {
		return nil
	}
	n := float64(v.Facts.Width) * float64(v.Facts.Height) / 1e6
	return &n
}

// orientation is how a picture is seen: with the rotation that its tags ask for.
func orientation(v *Values) string {
	width, height := v.Facts.Width, v.Facts.Height
	if width <= 0 || height <= 0 {
		return ""
	}
	turn, ok := v.Tags.Text("Orientation")
	if !ok {
		turn, _ = v.Tags.Text("Rotation")
	}
	if strings.Contains(turn, "90") || strings.Contains(turn, "270") {
		width, height = height, width
	}
	switch {
	case width > height:
		return "landscape"
	case width < height:
		return "portrait"
	}
	return "square"
}

// kindOf is what a MIME type is to people, "" if there is none.
func kindOf(mime string) string {
	family, rest, _ := strings.Cut(strings.ToLower(strings.TrimSpace(mime)), "/")
	switch family {
	case "":
		return ""
	case "image":
		return "photo"
	case "video", "audio":
		return family
	case "text":
		return "document"
	}
	if rest == "vnd.adobe.photoshop" {
		return "photo"
	}
	for _, part := range []string{
		"pdf", "postscript", "msword", "ms-excel", "ms-powerpoint", "officedocument", "opendocument", "rtf", "epub", "illustrator", "indesign", "iwork",
	} {
		if strings.Contains(rest, part) {
			return "document"
		}
	}
	return "other"
}

// durationField is a length of time: a number of seconds with as many decimals as its format says, 0 if there is none; or
// hours, minutes and seconds in conversions.
func durationField(format string, given bool) (lookup, *problem) {
	seconds := func(v *Values) *float64 {
		if d := v.Facts.Duration; d > 0 && !math.IsInf(d, 0) {
			return &d
		}
		return nil
	}
	if i := strings.Index(format, "%"); i >= 0 {
		return conversions(format)
	}
	return decimalField("0", "duration", seconds)(format, given)
}

// conversions writes durations by %H, %M, %S, %L and %%. What a format leaves out goes into the next smaller: "%M" of an hour
// and a half is 90.
func conversions(format string) (lookup, *problem) {
	for i := 0; i < len(format); i++ {
		if format[i] == '%' {
			if i+1 == len(format) || !strings.ContainsRune("HMSL%", rune(format[i+1])) {
				return nil, &problem{offset: i, problem: fmt.Sprintf("unknown conversion %q", format[i:min(len(format), i+2)]), want: "one of %H %M %S %L %%"}
			}
			i++
		}
	}
	return func(v *Values) (text, string) {
		if d := v.Facts.Duration; d <= 0 || d > 1e12 {
			return text{}, "the object has no duration"
		}
		left := int64(math.Round(v.Facts.Duration * 1000))
		parts := []string{"%%", "%"}
		for _, u := range []struct {
			conversion, form string
			milliseconds     int64
		}{{"%H", "%02d", 3_600_000}, {"%M", "%02d", 60_000}, {"%S", "%02d", 1000}, {"%L", "%03d", 1}} {
			if strings.Contains(strings.ReplaceAll(format, "%%", ""), u.conversion) {
				parts = append(parts, u.conversion, fmt.Sprintf(u.form, left/u.milliseconds))
				left %= u.milliseconds
			}
		}
		return ownText(strings.NewReplacer(parts...).Replace(format)), ""
	}, nil
}

// metres is compiled once; a Regexp is immutable.
var metres = regexp.MustCompile(`^(-?\d{1,9}(?:\.\d{1,9})?) ?m?( (?:Above|Below) Sea Level)?$`)

// altitude is in metres, negative below the sea.
func altitude(v *Values) *float64 {
	s, _ := v.Tags.Text("GPSAltitude")
	m := metres.FindStringSubmatch(strings.TrimSpace(s))
	if m == nil {
		return nil
	}
	n, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		return nil
	}
	if strings.HasPrefix(m[2], " Below") {
		n = -n
	}
	return &n
}

// realExt is the extension of the format that an object's content has, with its dot.
func realExt(v *Values) string {
	s, _ := v.Tags.Text("File:FileTypeExtension")
	if s = strings.ToLower(strings.TrimSpace(s)); s == "" || len(s) > maxExtBytes || strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
		return ""
	}
	return "." + s
}
