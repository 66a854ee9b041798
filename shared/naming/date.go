package naming

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/lestrrat-go/strftime"
)

// DefaultDate is the format of dates that have none.
const DefaultDate = "%Y%m%d-%H%M%S"

// The conversions of strftime(3) that can stand in a name, always in English. Left out are those with slashes, white
// space or the letters of a locale in them (%c %D %n %t %v %x %X) and those that need more than an offset (%s %Z).
// From elsewhere: %f (microseconds, Python), %L (milliseconds) and %N (nanoseconds, both Ruby).
const (
	numericConversions = "CdeGgHIjMmSUuVWwYy"
	dateConversions    = numericConversions + "AaBbFhpRTzfLN%"
)

// dateFormat is a format cut at its slashes, each segment a run of text and conversions.
type dateFormat struct {
	segments [][]strftime.Appender
	// zone: the format shows the UTC offset.
	zone bool
}

func parseDate(format string) (dateFormat, *problem) {
	f := dateFormat{segments: make([][]strftime.Appender, 1)}
	add := func(a strftime.Appender) {
		last := len(f.segments) - 1
		f.segments[last] = append(f.segments[last], a)
	}
	for i := 0; i < len(format); {
		switch rest := format[i:]; rest[0] {
		case '/':
			if strings.HasPrefix(rest, "//") {
				return f, &problem{offset: i + 1, problem: "a folder without a name", want: "one slash"}
			}
			f.segments = append(f.segments, nil)
			i++
		case '%':
			c, bad := conversion(rest)
			if bad != nil {
				bad.offset = i
				return f, bad
			}
			add(strftime.AppendFunc(c.FormatBuffer))
			f.zone = f.zone || c.Pattern() == "%z"
			i += len(c.Pattern())
		default:
			n := strings.IndexAny(rest, "%/")
			if n < 0 {
				n = len(rest)
			}
			add(strftime.Verbatim(rest[:n]))
			i += n
		}
	}
	return f, nil
}

// conversion compiles the conversion at the start of s, by itself: compiled together with what follows it, "%ax" gives
// "Monx" on every day (github.com/lestrrat-go/strftime v1.2.0 makes one layout of package time of both).
func conversion(s string) (*strftime.Strftime, *problem) {
	allowed, at := dateConversions, 1
	if strings.HasPrefix(s, "%-") {
		allowed, at = numericConversions, 2
	}
	r, n := utf8.DecodeRuneInString(s[at:])
	unknown := &problem{problem: fmt.Sprintf("unknown conversion %q", s[:at+n]), want: wantConversion(allowed)}
	if n == 0 || !strings.ContainsRune(allowed, r) {
		return nil, unknown
	}
	c, err := strftime.New(s[:at+n],
		strftime.WithSpecification('f', strftime.Microseconds()),
		strftime.WithSpecification('L', strftime.Milliseconds()),
		strftime.WithSpecification('N', strftime.AppendFunc(appendNanoseconds)),
	)
	if err != nil {
		return nil, unknown
	}
	return c, nil
}

func wantConversion(allowed string) string {
	if allowed == numericConversions {
		return `one of %-` + strings.Join(strings.Split(allowed, ""), " %-")
	}
	return `one of %` + strings.Join(strings.Split(allowed, ""), " %")
}

func (f dateFormat) format(t time.Time) []string {
	out := make([]string, len(f.segments))
	for i, segment := range f.segments {
		var b []byte
		for _, a := range segment {
			b = a.Append(b, t)
		}
		out[i] = string(b)
	}
	return out
}

func appendNanoseconds(b []byte, t time.Time) []byte { return fmt.Appendf(b, "%09d", t.Nanosecond()) }
