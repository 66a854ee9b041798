package naming

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/digest"
	"github.com/reshelf/reshelf/shared/metadata"
)

// lookup finds a field's text in an object. A reason that is not empty means that there is none, and says why.
type lookup func(v *Values) (t text, missing string)

// problem is what is wrong with a format, at a byte offset into it, or with an argument, by its number from 1.
type problem struct {
	offset, arg   int
	problem, want string
}

// build checks a format (given says that there is one) and returns how to find the text.
type build func(format string, given bool) (lookup, *problem)

// fieldSpec is one of Reshelf's fields.
type fieldSpec struct {
	name string
	// mayBeEmpty: an empty text is a value.
	mayBeEmpty bool
	needs      Needs
	// tags and lists are the tags that it reads besides facts.
	tags, lists []string
	isDate      bool
	build       build
	// of builds the field of a tag, nil if there is none.
	of func(tag token) build
}

func fieldSpecs(c *checker) []fieldSpec {
	tags := Needs{Tags: true}
	return append([]fieldSpec{
		{name: "date", needs: Needs{Tags: true, Date: true}, isDate: true, build: dateField(captured), of: dateOfTag},
		{name: "mtime", isDate: true, build: dateField(modified)},
		{name: "make", needs: tags, build: plain(func(v *Values) string { return v.Facts.Make }, "camera make")},
		{name: "model", needs: tags, build: plain(func(v *Values) string { return v.Facts.Model }, "camera model")},
		{name: "lens", needs: tags, build: plain(func(v *Values) string { return v.Facts.Lens }, "lens")},
		{name: "serial", needs: tags, build: plain(func(v *Values) string { return v.Facts.Serial }, "camera serial number")},
		{name: "width", needs: tags, build: plain(func(v *Values) string { return positive(v.Facts.Width) }, "width in pixels")},
		{name: "height", needs: tags, build: plain(func(v *Values) string { return positive(v.Facts.Height) }, "height in pixels")},
		{name: "mime", needs: tags, build: plain(func(v *Values) string { return v.Facts.MIME }, "MIME type")},
		{name: "kind", needs: tags, build: plain(func(v *Values) string { return kindOf(v.Facts.MIME) }, "MIME type")},
		{name: "size", build: plain(func(v *Values) string { return strconv.FormatInt(v.Size, 10) }, "size")},
		{name: "name", build: withoutFormat(lookupName)},
		{name: "original", needs: Needs{Original: true}, build: withoutFormat(lookupOriginal)},
		{name: "ext", mayBeEmpty: true, build: withoutFormat(lookupExt)},
		{name: "dir", mayBeEmpty: true, build: withoutFormat(lookupDir)},
		{name: "parent", build: parentField},
		{name: counterField, build: c.seqField},
		{name: "batch", build: plain(func(v *Values) string { return v.Batch }, "batch")},
		{name: "csv", build: c.columnField},
	}, append(describedFields(), measuredFields()...)...)
}

func withoutFormat(look lookup) build {
	return func(_ string, given bool) (lookup, *problem) {
		if given {
			return nil, &problem{problem: "this field has no format", want: `"|", "??" or "}"`}
		}
		return look, nil
	}
}

// plain is a field without a format whose text is a single value.
func plain(get func(*Values) string, what string) build {
	return withoutFormat(func(v *Values) (text, string) {
		s := strings.TrimSpace(get(v))
		if s == "" {
			return text{}, "the object has no " + what
		}
		return valueText(s), ""
	})
}

func positive(n int) string {
	if n <= 0 {
		return ""
	}
	return strconv.Itoa(n)
}

func lookupName(v *Values) (text, string) { return ownText(v.Key.Stem()), "" }
func lookupDir(v *Values) (text, string)  { return ownText(string(v.Key.Dir())), "" }

func lookupOriginal(v *Values) (text, string) {
	if v.Original == "" {
		return lookupName(v)
	}
	return ownText(archive.Key(v.Original).Stem()), ""
}

// lookupExt is not the object's own text: an extension without a name before it would be a hidden name.
func lookupExt(v *Values) (text, string) { return valueText(v.Key.Ext()), "" }

// parentField is a folder of the object's key: 1 is the one that it is in.
func parentField(format string, given bool) (lookup, *problem) {
	up := 1
	if given {
		var bad *problem
		if up, bad = number(format, 1, archive.MaxKeyBytes); bad != nil {
			return nil, bad
		}
	}
	missing := "the object is at the top of the archive"
	if up > 1 {
		missing = fmt.Sprintf("the object is less than %d folders below the top of the archive", up)
	}
	return func(v *Values) (text, string) {
		dir := v.Key.Dir()
		for range up - 1 {
			dir = dir.Dir()
		}
		if dir == "" {
			return text{}, missing
		}
		return ownText(dir.Base()), ""
	}, nil
}

// columnField is a column of the manifest; its format is the column's name.
func (c *checker) columnField(format string, given bool) (lookup, *problem) {
	if !given {
		return nil, &problem{problem: "csv of no column", want: `":" and the name of a column of the manifest, such as "csv:Photographer"`}
	}
	if !slices.Contains(c.columns, format) {
		c.columns = append(c.columns, format)
	}
	missing := fmt.Sprintf("the manifest has no text in the column %s for it", archive.EscapeText(format))
	return func(v *Values) (text, string) { return tagText(v.Columns[format], missing) }, nil
}

// digestSpec is the field of a digest algorithm; its format is the number of hexadecimal digits.
func digestSpec(name string) (fieldSpec, bool) {
	a, err := digest.ParseAlgorithm(name)
	if err != nil {
		return fieldSpec{}, false
	}
	build := func(format string, given bool) (lookup, *problem) {
		length := 2 * a.Size()
		if given {
			var bad *problem
			if length, bad = number(format, 1, length); bad != nil {
				return nil, bad
			}
		}
		return digestLookup(a, length), nil
	}
	return fieldSpec{name: name, needs: Needs{Digests: digest.Set(0).With(a)}, build: build}, true
}

func digestLookup(a digest.Algorithm, length int) lookup {
	return func(v *Values) (text, string) {
		for _, d := range v.Digests {
			if d.Algorithm() == a {
				return valueText(d.Hex()[:length]), ""
			}
		}
		return text{}, "the object has no " + a.String() + " digest; ask for it when the batch is submitted"
	}
}

// tagLookup finds a tag by its ExifTool name, with or without group.
func tagLookup(name string) lookup {
	return func(v *Values) (text, string) {
		var sidecar metadata.Tags
		if v.Sidecar != nil {
			sidecar = v.Sidecar.Tags
		}
		s, _ := v.Tags.TextWithSidecar(sidecar, name)
		return tagText(s, "the object has no tag "+name)
	}
}

const noSidecar = "the object has no XMP sidecar that could be read"

// sidecarLookup finds a tag of the object's sidecar.
func sidecarLookup(name string) lookup {
	return func(v *Values) (text, string) {
		if v.Sidecar == nil {
			return text{}, noSidecar
		}
		s, _ := v.Sidecar.Tags.Text(name)
		return tagText(s, "the object's sidecar has no tag "+name)
	}
}

// tagText is the text of a tag, or missing if nothing is in it.
func tagText(s, missing string) (text, string) {
	if s = strings.TrimSpace(s); s == "" {
		return text{}, missing
	}
	return valueText(s), ""
}

// number reads a format that is a decimal number.
func number(format string, low, high int) (int, *problem) {
	n, err := strconv.Atoi(format)
	if err != nil || n < low || n > high || strings.Trim(format, "0123456789") != "" {
		return 0, &problem{problem: fmt.Sprintf("format %q", format), want: fmt.Sprintf("a number from %d to %d", low, high)}
	}
	return n, nil
}

// timepiece finds a time in an object.
type timepiece func(v *Values) (c clockReading, missing string)

type clockReading struct {
	time time.Time
	// location has the UTC offsets of other times.
	location *time.Location
	source   string
	// zoned: the UTC offset of time is known.
	zoned bool
}

// shifted is what the clock on the wall shows so much later, whether clocks are turned to or from summer time in between or not.
func (c clockReading) shifted(by time.Duration) time.Time {
	_, offset := c.time.Zone()
	return onWall(c.time.UTC().Add(time.Duration(offset)*time.Second+by), c.location)
}

// onWall is the time at which clocks in a location show what wall shows in UTC. Where they skip that, it is as if they had not been turned.
func onWall(wall time.Time, in *time.Location) time.Time {
	year, month, day := wall.Date()
	hour, minute, second := wall.Clock()
	at := time.Date(year, month, day, hour, minute, second, wall.Nanosecond(), in)
	return at.In(time.FixedZone("", int(wall.Sub(at).Seconds())))
}

func captured(v *Values) (clockReading, string) {
	return reading(v.Facts.Capture, v.Location, "the object has no capture time")
}

func reading(t metadata.Time, loc *time.Location, missing string) (clockReading, string) {
	at, ok := t.Time(nil)
	if !ok {
		return clockReading{}, missing
	}
	c := clockReading{time: at, location: at.Location(), source: t.Source, zoned: t.Offset != "" || loc != nil}
	if t.Offset == "" && loc != nil {
		c.time, c.location = onWall(at, loc), loc
	}
	return c, ""
}

// dateOfTag is the date that a tag holds, as it stands there: no clock is shifted.
func dateOfTag(tag token) build {
	return dateField(func(v *Values) (clockReading, string) {
		own, sidecar := v.Tags, metadata.Tags(nil)
		switch {
		case tag.kind == tokenSidecar && v.Sidecar == nil:
			return clockReading{}, noSidecar
		case tag.kind == tokenSidecar:
			own = v.Sidecar.Tags
		case v.Sidecar != nil:
			sidecar = v.Sidecar.Tags
		}
		t, ok := own.DateWithSidecar(sidecar, tag.text)
		if !ok {
			return clockReading{}, "the object has no date in a tag " + tag.text
		}
		if tag.kind == tokenSidecar {
			t.Source = metadata.SidecarSource + t.Source
		}
		t = clock{location: v.Location}.set(metadata.Facts{Capture: t}).Capture
		return reading(t, v.Location, "the tag "+tag.text+" holds no date")
	})
}

func modified(v *Values) (clockReading, string) {
	if v.MTime.IsZero() {
		return clockReading{}, "the modification time is not known"
	}
	// An identity counts nanoseconds in 64 bits, which end in 2262 and go on in 1677. No file system keeps times before 1901.
	if v.MTime.Unix() < math.MinInt32 {
		return clockReading{}, "the modification time is after the year 2262"
	}
	loc := v.Location
	if loc == nil {
		loc = time.UTC
	}
	return clockReading{time: v.MTime.In(loc), location: loc, source: "mtime", zoned: true}, ""
}

func dateField(read timepiece) build {
	return func(format string, given bool) (lookup, *problem) {
		if !given {
			format = DefaultDate
		}
		f, bad := parseDate(format)
		if bad != nil {
			return nil, bad
		}
		return func(v *Values) (text, string) {
			c, missing := read(v)
			if missing != "" {
				return text{}, missing
			}
			if f.zone && !c.zoned {
				return text{}, "the capture time has no UTC offset; say in which time zone the camera was"
			}
			shifted := func(by time.Duration) []string { return f.format(c.shifted(by)) }
			return text{segments: f.format(c.time), own: true, dateSource: c.source, shifted: shifted}, ""
		}, nil
	}
}
