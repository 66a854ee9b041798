package metadata

import (
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// maxFact bounds the texts of Facts, in bytes. Longer ones are no camera's name and are passed over.
const maxFact = 256

// Facts are what Derive reads out of tags.
type Facts struct {
	Capture  Time    `json:"capture,omitzero"`
	Make     string  `json:"make,omitempty"`
	Model    string  `json:"model,omitempty"`
	Lens     string  `json:"lens,omitempty"`
	Serial   string  `json:"serial,omitempty"`
	Width    int     `json:"width,omitempty"`    // pixels
	Height   int     `json:"height,omitempty"`   // pixels
	Duration float64 `json:"duration,omitempty"` // seconds
	MIME     string  `json:"mime,omitempty"`
	// Latitude and Longitude are degrees, WGS 84, north and east positive; both nil or both set.
	Latitude  *float64 `json:"latitude,omitempty"`
	Longitude *float64 `json:"longitude,omitempty"`
}

// Derive reads the facts out of tags. What is missing or makes no sense stays zero; it never fails. Each fact comes from
// the first tag in its list that has a usable value:
//
//   - Capture: see chain, in capture.go
//   - Make, Model: those tags, IFD0 first (the order of groups is that of [Tags.Text]); Android's in a video
//   - Lens: LensModel, Composite:LensID, Lens, LensType; neither unknown ones nor "n/a"
//   - Serial: SerialNumber, BodySerialNumber, CameraSerialNumber, InternalSerialNumber; not zeros alone
//   - Width, Height: Composite:ImageSize, then ImageWidth and ImageHeight of one group, File's first, ExifIFD's
//     ExifImageWidth and ExifImageHeight before the others; as stored, before any rotation; never a thumbnail's
//   - Duration: Duration; of an image, not the one of its QuickTime container
//   - MIME: File:MIMEType
//   - Latitude, Longitude: Composite, GPS with its references, XMP-exif, GPSCoordinates; 0, 0 means that there was no fix
//
// Texts are without blanks at their ends and at most 256 bytes long. They are as hostile as the tags.
func Derive(tags Tags) Facts {
	x := newIndex(tags)
	f := Facts{
		Capture: x.capture(),
		Make:    x.first(known, "Make", "AndroidMake"),
		Model:   x.first(known, "Model", "AndroidModel"),
		Lens:    x.first(known, "ExifIFD:LensModel", "LensModel", "Composite:LensID", "Lens", "LensType"),
		Serial:  x.first(serial, "SerialNumber", "BodySerialNumber", "CameraSerialNumber", "InternalSerialNumber"),
		MIME:    x.first(known, "File:MIMEType"),
	}
	f.Width, f.Height = x.size()
	f.Duration = x.duration(f.MIME)
	if lat, lon, ok := x.place(); ok {
		f.Latitude, f.Longitude = &lat, &lon
	}
	return f
}

// index finds the keys of bare names without a pass over all tags for each.
type index struct {
	tags   Tags
	byName map[string][]string
}

func newIndex(tags Tags) index {
	x := index{tags, make(map[string][]string, len(tags))}
	for key := range tags {
		if _, name := splitKey(key); name != key {
			x.byName[name] = append(x.byName[name], key)
		}
	}
	for _, keys := range x.byName {
		if len(keys) > 1 {
			slices.SortFunc(keys, comparePreference)
		}
	}
	return x
}

// find is Tags.find for names in ExifTool's own spelling.
func (x index) find(name string) []string {
	if strings.Contains(name, ":") {
		return []string{name}
	}
	return x.byName[name]
}

// text is the text of the tag, without blanks at its ends, "" if there is none.
func (x index) text(name string) string {
	text, _ := firstText(x.tags, x.find(name))
	return strings.TrimSpace(text)
}

// first is the first text under one of the names that is usable.
func (x index) first(usable func(string) bool, names ...string) string {
	for _, name := range names {
		for _, key := range x.find(name) {
			text, _ := TextOf(x.tags[key])
			if text = strings.TrimSpace(text); text != "" && len(text) <= maxFact && usable(text) {
				return text
			}
		}
	}
	return ""
}

// known reports whether a text says anything. ExifTool prints "Unknown (…)" for codes that it does not know.
func known(s string) bool {
	lower := strings.ToLower(s)
	return !slices.Contains([]string{"n/a", "none", "unknown"}, lower) && !strings.HasPrefix(lower, "unknown ") &&
		strings.Trim(s, "-") != ""
}

func serial(s string) bool { return known(s) && strings.Trim(s, "0") != "" }

func (x index) size() (width, height int) {
	if w, h, ok := strings.Cut(x.text("Composite:ImageSize"), "x"); ok {
		if width, height = pixels(w), pixels(h); width > 0 && height > 0 {
			return width, height
		}
	}
	pairs := [][2]string{{"File:ImageWidth", "File:ImageHeight"}, {"ExifIFD:ExifImageWidth", "ExifIFD:ExifImageHeight"}}
	for _, key := range x.find("ImageWidth") {
		if rank(key) != rankOtherImage {
			pairs = append(pairs, [2]string{key, strings.TrimSuffix(key, "Width") + "Height"})
		}
	}
	for _, pair := range pairs {
		if width, height = pixels(x.text(pair[0])), pixels(x.text(pair[1])); width > 0 && height > 0 {
			return width, height
		}
	}
	return 0, 0
}

// pixels reads a positive number, 0 if s is none.
func pixels(s string) int {
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		return 0
	}
	return int(n)
}

func (x index) duration(mime string) float64 {
	for _, key := range x.find("Duration") {
		if rank(key) == rankQuickTime && strings.HasPrefix(mime, "image/") {
			continue
		}
		text, _ := TextOf(x.tags[key])
		if seconds := parseDuration(text); seconds > 0 {
			return seconds
		}
	}
	return 0
}

// clockDuration is compiled once; a Regexp is immutable.
var clockDuration = regexp.MustCompile(`^(?:(\d{1,6}) days )?(\d{1,8}):(\d\d):(\d\d(?:\.\d{1,9})?)$`)

// parseDuration reads what ExifTool's function ConvertDuration prints, in seconds: "12.34 s" below half a minute, else
// "0:01:02" or "3 days 4:38:28"; also with "(approx)" after it, and a number alone. It is 0 if s is none of these.
func parseDuration(s string) float64 {
	s = strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(s), "(approx)"))
	if m := clockDuration.FindStringSubmatch(s); m != nil {
		var parts [4]float64
		for i := range parts {
			parts[i], _ = strconv.ParseFloat("0"+m[i+1], 64) // digits, as matched
		}
		return ((parts[0]*24+parts[1])*60+parts[2])*60 + parts[3]
	}
	seconds, err := strconv.ParseFloat(strings.TrimSuffix(s, " s"), 64)
	if err != nil || math.IsNaN(seconds) || math.IsInf(seconds, 0) || seconds < 0 {
		return 0
	}
	return seconds
}
