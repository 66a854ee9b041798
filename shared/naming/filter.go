package naming

import (
	"cmp"
	"fmt"
	"maps"
	"math/big"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/language"
	"golang.org/x/text/unicode/norm"
)

const (
	// maxRegexProgram bounds a regular expression, in instructions; matching takes at most their number for each byte.
	maxRegexProgram = 2000
	// maxPad bounds how wide pad makes a text: the longest name.
	maxPad = 255
	// maxDecimals is as many as a float64 has.
	maxDecimals = 15
)

// filter changes a text. Exactly one member is set.
type filter struct {
	// apply is given valid UTF-8, composed (NFC) as names are in the end.
	apply func(string) string
	// fallback is the text where there is none so far.
	fallback *string
	// shift shifts a date before it is written, by nothing too.
	shift *time.Duration
}

type filterSpec struct {
	name string
	// least and most are numbers of arguments.
	least, most int
	usage       string
	build       func(args []string) (filter, *problem)
}

// filterSpecs are the filters, in alphabetical order.
func filterSpecs(with map[string]Map) []filterSpec {
	return []filterSpec{
		{name: "ascii", usage: "ascii", build: simple(ascii)},
		{name: "camel", usage: "camel", build: simple(camel)},
		{name: "default", least: 1, most: 1, usage: `default("text")`, build: fallback},
		{name: "kebab", usage: "kebab", build: simple(kebab)},
		{name: "lower", usage: "lower", build: simple(lower)},
		{name: "map", least: 1, most: 1, usage: `map("name")`, build: mapping(with)},
		{name: "number", least: 1, most: 1, usage: "number(DECIMALS)", build: decimal},
		{name: "pad", least: 1, most: 2, usage: `pad(WIDTH) or pad(WIDTH,"x")`, build: pad},
		{name: "regex", least: 2, most: 2, usage: `regex("pattern","replacement")`, build: regex},
		{name: "replace", least: 2, most: 2, usage: `replace("old","new")`, build: replace},
		{name: "shift", least: 1, most: 1, usage: `shift("+1h2m")`, build: shift},
		{name: "slug", usage: "slug", build: simple(slug)},
		{name: "snake", usage: "snake", build: simple(snake)},
		{name: "substr", least: 1, most: 2, usage: "substr(FIRST) or substr(FIRST,COUNT)", build: substr},
		{name: "title", usage: "title", build: simple(title)},
		{name: "trim", usage: "trim", build: simple(strings.TrimSpace)},
		{name: "upper", usage: "upper", build: simple(upper)},
	}
}

func simple(f func(string) string) func([]string) (filter, *problem) {
	return func([]string) (filter, *problem) { return filter{apply: f}, nil }
}

// The casers keep state between calls, so each call makes its own.

func lower(s string) string { return cases.Lower(language.Und).String(s) }
func upper(s string) string { return cases.Upper(language.Und).String(s) }
func title(s string) string { return cases.Title(language.Und).String(s) }

func replace(args []string) (filter, *problem) {
	if args[0] == "" {
		return filter{}, &problem{arg: 1, problem: "replace would replace nothing", want: "the text to replace as its first argument"}
	}
	old := norm.NFC.String(args[0])
	return filter{apply: func(s string) string { return strings.ReplaceAll(s, old, args[1]) }}, nil
}

// regex replaces by RE2 syntax, in which matching takes a time that is linear in the text.
func regex(args []string) (filter, *problem) {
	const want = "a regular expression in RE2 syntax"
	parsed, err := syntax.Parse(args[0], syntax.Perl)
	if err != nil {
		return filter{}, &problem{arg: 1, problem: err.Error(), want: want}
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return filter{}, &problem{arg: 1, problem: err.Error(), want: want}
	}
	if n := len(program.Inst); n > maxRegexProgram {
		return filter{}, &problem{arg: 1, problem: fmt.Sprintf("the regular expression has %d instructions", n), want: fmt.Sprintf("at most %d", maxRegexProgram)}
	}
	re, err := regexp.Compile(args[0])
	if err != nil {
		return filter{}, &problem{arg: 1, problem: err.Error(), want: want}
	}
	if bad := checkGroups(re, args[1]); bad != nil {
		return filter{}, bad
	}
	return filter{apply: func(s string) string { return re.ReplaceAllString(s, args[1]) }}, nil
}

// reference is what Regexp.Expand takes for a group, or for a dollar sign, in a new text; it is compiled once.
var reference = regexp.MustCompile(`\$(?:\$|\{([\pL\p{Nd}_]+)\}|([\pL\p{Nd}_]+))`)

// checkGroups refuses groups that are not there: Expand puts nothing in their place, so that "$1_x" would lose the text.
func checkGroups(re *regexp.Regexp, with string) *problem {
	for _, m := range reference.FindAllStringSubmatch(with, -1) {
		name := m[1] + m[2]
		n, err := strconv.Atoi(name)
		isNumber := err == nil && strconv.Itoa(n) == name
		if name == "" || isNumber && n <= re.NumSubexp() || slices.Contains(re.SubexpNames(), name) {
			continue
		}
		bad := &problem{arg: 2, problem: fmt.Sprintf("no group is named %q", name), want: groupsOf(re) + `, and "$$" for a dollar sign`}
		if isNumber {
			bad.problem = "no group has the number " + name
		}
		return bad
	}
	return nil
}

// groupsOf lists the groups of a regular expression.
func groupsOf(re *regexp.Regexp) string {
	groups := make([]string, 0, 1+re.NumSubexp())
	for i, name := range re.SubexpNames() {
		groups = append(groups, "${"+cmp.Or(name, strconv.Itoa(i))+"}")
	}
	return "one of " + strings.Join(groups, ", ")
}

func fallback(args []string) (filter, *problem) { return filter{fallback: &args[0]}, nil }

func shift(args []string) (filter, *problem) {
	by, err := parseShift(args[0])
	if err != nil {
		return filter{}, &problem{arg: 1, problem: err.Error(), want: wantShift}
	}
	return filter{shift: &by}, nil
}

// mapping gives a text's entry in a map, and nothing for a text that has none.
func mapping(with map[string]Map) func([]string) (filter, *problem) {
	return func(args []string) (filter, *problem) {
		m, ok := with[args[0]]
		if !ok {
			want := "a map that --map gives"
			if len(with) > 0 {
				want = fmt.Sprintf("one of %s", strings.Join(slices.Sorted(maps.Keys(with)), ", "))
			}
			return filter{}, &problem{arg: 1, problem: fmt.Sprintf("no map is named %q", args[0]), want: want}
		}
		return filter{apply: func(s string) string { return m[strings.TrimSpace(s)] }}, nil
	}
}

// pad puts characters before a text.
func pad(args []string) (filter, *problem) {
	n, bad := number(args[0], 1, maxPad)
	if bad != nil {
		bad.arg = 1
		return filter{}, bad
	}
	with := "0"
	if len(args) > 1 {
		with = args[1]
	}
	if utf8.RuneCountInString(with) != 1 {
		return filter{}, &problem{arg: 2, problem: fmt.Sprintf("cannot pad with %q", with), want: "one character"}
	}
	return filter{apply: func(s string) string {
		return strings.Repeat(with, max(0, n-utf8.RuneCountInString(s))) + s
	}}, nil
}

// substr takes characters out of a text by their position, from 1; negative ones count from its end.
func substr(args []string) (filter, *problem) {
	first, err := strconv.Atoi(args[0])
	if err != nil || first == 0 || first < -maxTextBytes || first > maxTextBytes {
		return filter{}, &problem{arg: 1, problem: fmt.Sprintf("no character is number %q", args[0]), want: "a number from 1, or one below 0 to count from the end"}
	}
	count := maxTextBytes
	if len(args) > 1 {
		var bad *problem
		if count, bad = number(args[1], 1, maxTextBytes); bad != nil {
			bad.arg = 2
			return filter{}, bad
		}
	}
	return filter{apply: func(s string) string {
		runes := []rune(s)
		from := first - 1
		if first < 0 {
			from = max(0, len(runes)+first)
		}
		from = min(from, len(runes))
		return string(runes[from:min(len(runes), from+count)])
	}}, nil
}

// quantity is compiled once; a Regexp is immutable.
var quantity = regexp.MustCompile(`^\s*([+-]?\d{1,18}(?:\.\d{1,18})?)(?:/(\d{1,18}))?`)

// decimal writes the number or fraction at the start of a text with so many decimals; nothing if there is none.
func decimal(args []string) (filter, *problem) {
	n, bad := number(args[0], 0, maxDecimals)
	if bad != nil {
		bad.arg = 1
		return filter{}, bad
	}
	return filter{apply: func(s string) string {
		m := quantity.FindStringSubmatch(s)
		if m == nil {
			return ""
		}
		value, ok := new(big.Rat).SetString(m[1])
		if m[2] != "" && ok {
			divisor, okDivisor := new(big.Rat).SetString(m[2])
			if !okDivisor || divisor.Sign() == 0 {
				return ""
			}
			value.Quo(value, divisor)
		}
		if !ok {
			return ""
		}
		return withoutNegativeZero(value.FloatString(n))
	}}, nil
}

func withoutNegativeZero(s string) string {
	if strings.Trim(s, "-0.") == "" {
		return strings.TrimPrefix(s, "-")
	}
	return s
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
