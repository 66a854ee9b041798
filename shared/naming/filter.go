package naming

import (
	"strings"
	"unicode"

	"golang.org/x/text/cases"
	"golang.org/x/text/language"
	"golang.org/x/text/unicode/norm"
)

// filter changes a text. It is given valid UTF-8.
type filter func(string) string

type filterSpec struct {
	name string
	// args is the number of arguments.
	args  int
	usage string
	build func(args []string) (filter, *problem)
}

func filterSpecs() []filterSpec {
	return []filterSpec{
		{name: "lower", usage: "lower", build: simple(lower)},
		{name: "replace", args: 2, usage: `replace("old","new")`, build: replace},
		{name: "slug", usage: "slug", build: simple(slug)},
		{name: "title", usage: "title", build: simple(title)},
		{name: "trim", usage: "trim", build: simple(strings.TrimSpace)},
		{name: "upper", usage: "upper", build: simple(upper)},
	}
}

func simple(f filter) func([]string) (filter, *problem) {
	return func([]string) (filter, *problem) { return f, nil }
}

// The casers keep state between calls, so each call makes its own.

func lower(s string) string { return cases.Lower(language.Und).String(s) }
func upper(s string) string { return cases.Upper(language.Und).String(s) }
func title(s string) string { return cases.Title(language.Und).String(s) }

func replace(args []string) (filter, *problem) {
	if args[0] == "" {
		return nil, &problem{problem: "replace would replace nothing", want: "the text to replace as its first argument"}
	}
	return func(s string) string { return strings.ReplaceAll(s, args[0], args[1]) }, nil
}

// slug keeps letters, digits and the marks that belong to them in lower case, without the accents of Latin, Greek and
// Cyrillic (U+0300 to U+036F), and puts one "-" for each run of anything else between them.
func slug(s string) string {
	var b strings.Builder
	gap := false
	for _, r := range norm.NFD.String(lower(s)) {
		switch {
		case 0x300 <= r && r <= 0x36f:
		case unicode.IsLetter(r), unicode.IsDigit(r), unicode.IsMark(r):
			if gap && b.Len() > 0 {
				b.WriteByte('-')
			}
			gap = false
			b.WriteRune(r)
		default:
			gap = true
		}
	}
	return norm.NFC.String(b.String())
}
