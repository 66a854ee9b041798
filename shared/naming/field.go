package naming

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/digest"
)

// lookup finds a field's text in an object. A reason that is not empty means that there is none, and says why.
type lookup func(v *Values) (t text, missing string)

// problem is what is wrong with a format or an argument, at a byte offset into it.
type problem struct {
	offset        int
	problem, want string
}

// fieldSpec is one of Reshelf's fields.
type fieldSpec struct {
	name string
	// mayBeEmpty: an empty text is a value.
	mayBeEmpty bool
	needs      Needs
	// build checks the format (given says that there is one) and returns how to find the text.
	build func(format string, given bool) (lookup, *problem)
}

func fieldSpecs() []fieldSpec {
	tags := Needs{Tags: true}
	return []fieldSpec{
		{name: "date", needs: Needs{Tags: true, Date: true}, build: dateField(captured)},
		{name: "mtime", build: dateField(modified)},
		{name: "make", needs: tags, build: plain(func(v *Values) string { return v.Facts.Make }, "camera make")},
		{name: "model", needs: tags, build: plain(func(v *Values) string { return v.Facts.Model }, "camera model")},
		{name: "lens", needs: tags, build: plain(func(v *Values) string { return v.Facts.Lens }, "lens")},
		{name: "serial", needs: tags, build: plain(func(v *Values) string { return v.Facts.Serial }, "camera serial number")},
		{name: "width", needs: tags, build: plain(func(v *Values) string { return positive(v.Facts.Width) }, "width in pixels")},
		{name: "height", needs: tags, build: plain(func(v *Values) string { return positive(v.Facts.Height) }, "height in pixels")},
		{name: "mime", needs: tags, build: plain(func(v *Values) string { return v.Facts.MIME }, "MIME type")},
		{name: "size", build: plain(func(v *Values) string { return strconv.FormatInt(v.Size, 10) }, "size")},
		{name: "name", build: withoutFormat(lookupName)},
		{name: "ext", mayBeEmpty: true, build: withoutFormat(lookupExt)},
		{name: "dir", mayBeEmpty: true, build: withoutFormat(lookupDir)},
		{name: "parent", build: parentField},
		{name: "seq", needs: Needs{Seq: true}, build: seqField},
	}
}

func withoutFormat(look lookup) func(string, bool) (lookup, *problem) {
	return func(_ string, given bool) (lookup, *problem) {
		if given {
			return nil, &problem{problem: "this field has no format", want: `"|", "??" or "}"`}
		}
		return look, nil
	}
}

// plain is a field without a format whose text is a single value.
func plain(get func(*Values) string, what string) func(string, bool) (lookup, *problem) {
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

func seqField(format string, given bool) (lookup, *problem) {
	width := 1
	if given {
		var bad *problem
		if width, bad = number(format, 1, 18); bad != nil {
			return nil, bad
		}
	}
	return func(v *Values) (text, string) {
		if v.Seq < 1 {
			return text{}, "the object has no number in the plan"
		}
		return valueText(fmt.Sprintf("%0*d", width, v.Seq)), ""
	}, nil
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
		s, ok := v.Tags.Text(name)
		if s = strings.TrimSpace(s); !ok || s == "" {
			return text{}, "the object has no tag " + name
		}
		return valueText(s), ""
	}
}

// number reads a format that is a decimal number.
func number(format string, low, high int) (int, *problem) {
	n, err := strconv.Atoi(format)
	if err != nil || n < low || n > high || strings.Trim(format, "0123456789") != "" {
		return 0, &problem{problem: fmt.Sprintf("format %q", format), want: fmt.Sprintf("a number from %d to %d", low, high)}
	}
	return n, nil
}

// clock finds a time in an object.
type clock func(v *Values) (c clockReading, missing string)

type clockReading struct {
	time   time.Time
	source string
	// zoned: the UTC offset of time is known.
	zoned bool
}

func captured(v *Values) (clockReading, string) {
	capture := v.Facts.Capture
	t, ok := capture.Time(v.Location)
	if !ok {
		return clockReading{}, "the object has no capture time"
	}
	return clockReading{time: t, source: capture.Source, zoned: capture.Offset != "" || v.Location != nil}, ""
}

func modified(v *Values) (clockReading, string) {
	if v.MTime.IsZero() {
		return clockReading{}, "the modification time is not known"
	}
	loc := v.Location
	if loc == nil {
		loc = time.UTC
	}
	return clockReading{time: v.MTime.In(loc), source: "mtime", zoned: true}, ""
}

func dateField(read clock) func(string, bool) (lookup, *problem) {
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
			return text{segments: f.format(c.time), own: true, dateSource: c.source}, ""
		}, nil
	}
}
