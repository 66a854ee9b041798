package listing

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
)

// ErrPattern is wrapped by the errors of Compile.
var ErrPattern = errors.New("invalid pattern")

// Bounds of a filter, so that a hostile one cannot keep a lister busy for ever.
const (
	maxPatterns     = 1000
	maxPatternBytes = 1024
	maxAlternatives = 256 // that the braces of one pattern multiply out to
)

// Filter says what of an archive belongs to a batch. It is immutable and safe for concurrent use.
type Filter struct {
	include, exclude []glob
	all              bool
}

// glob is one checked pattern.
type glob struct {
	pattern string
	base    bool   // it is matched against the base name
	below   string // the folder without wildcards that the pattern starts with, "" if none
}

// Compile checks a batch's filter. Patterns are doublestar's (https://pkg.go.dev/github.com/bmatcuk/doublestar/v4#Match):
// * and ? stay inside a folder, ** between slashes spans folders, [a-z], {a,b} and \ as in a shell; a byte that is not
// UTF-8 counts as one character. A pattern without a slash is matched against the base name, any other against the whole
// key. An exclude pattern that matches a folder excludes all that is in it; an include pattern has to match objects.
func Compile(f batch.Filter) (*Filter, error) {
	out := &Filter{all: f.All}
	var err error
	if out.include, err = globs("include", f.Include); err != nil {
		return nil, err
	}
	if out.exclude, err = globs("exclude", f.Exclude); err != nil {
		return nil, err
	}
	return out, nil
}

func globs(list string, patterns []string) ([]glob, error) {
	if len(patterns) > maxPatterns {
		return nil, fmt.Errorf("%w: %d patterns to %s, more than %d", ErrPattern, len(patterns), list, maxPatterns)
	}
	out := make([]glob, 0, len(patterns))
	for _, p := range patterns {
		if wrong := faultOf(p); wrong != "" {
			return nil, fmt.Errorf("%w to %s %q: %s", ErrPattern, list, p, wrong)
		}
		g := glob{pattern: p, base: !strings.Contains(p, "/")}
		if below, _ := doublestar.SplitPattern(p); below != "." {
			g.below = below
		}
		out = append(out, g)
	}
	return out, nil
}

// faultOf says what is wrong with a pattern, "" if nothing.
func faultOf(p string) string {
	switch {
	case p == "":
		return "it is empty"
	case len(p) > maxPatternBytes:
		return fmt.Sprintf("it has %d bytes, more than %d", len(p), maxPatternBytes)
	case !utf8.ValidString(p):
		return "it is not UTF-8; write ? for a byte that is not"
	case strings.HasPrefix(p, "/"):
		return "it starts with a slash, but keys are relative to the archive; leave the slash out"
	case strings.HasSuffix(p, "/"):
		return fmt.Sprintf("it ends with a slash and would match nothing; write %s for the folder, %s** for what is in it",
			strings.TrimRight(p, "/"), strings.TrimRight(p, "/")+"/")
	case slices.ContainsFunc(strings.Split(p, "/"), func(s string) bool { return s == "" || s == "." || s == ".." }):
		return "no key has an empty, . or .. segment, so it would match nothing"
	case !doublestar.ValidatePattern(p):
		return "a [ or { is not closed, or a \\ is followed by nothing"
	case alternatives(p) > maxAlternatives:
		return fmt.Sprintf("its braces stand for more than %d patterns", maxAlternatives)
	}
	return ""
}

// alternatives is an upper bound of the patterns that braces multiply out to, at most maxAlternatives+1.
func alternatives(p string) int {
	total := 1
	var open []int
	for i := 0; i < len(p); i++ {
		switch p[i] {
		case '{':
			open = append(open, 1)
		case ',':
			if n := len(open); n > 0 {
				open[n-1]++
			}
		case '}':
			if n := len(open); n > 0 {
				total = min(total*open[n-1], maxAlternatives+1)
				open = open[:n-1]
			}
		}
	}
	return total
}

// Skip says whether the filter leaves out an object, or a folder with all below it; it is a store.ListOptions.Skip and
// does not look at the folders above key.
func (f *Filter) Skip(key archive.Key, dir bool) bool {
	base := key.Base()
	if strings.HasPrefix(base, ownPrefix) || !f.all && isLitter(base) || matches(f.exclude, key, base) {
		return true
	}
	if len(f.include) == 0 {
		return false
	}
	if dir {
		return !slices.ContainsFunc(f.include, func(g glob) bool { return g.reaches(string(key)) })
	}
	return !matches(f.include, key, base)
}

// Takes reports whether the filter leaves out neither the object at key nor a folder above it.
func (f *Filter) Takes(key archive.Key) bool { return !f.excludes(key) }

// excludes is Skip of the object at key and of every folder above it.
func (f *Filter) excludes(key archive.Key) bool {
	for dir := key.Dir(); dir != ""; dir = dir.Dir() {
		if f.Skip(dir, true) {
			return true
		}
	}
	return f.Skip(key, false)
}

func matches(globs []glob, key archive.Key, base string) bool {
	return slices.ContainsFunc(globs, func(g glob) bool {
		name := string(key)
		if g.base {
			name = base
		}
		return doublestar.MatchUnvalidated(g.pattern, name)
	})
}

// reaches reports whether g can match anything in folder dir.
func (g glob) reaches(dir string) bool {
	return g.base || g.below == "" || dir == g.below ||
		strings.HasPrefix(dir, g.below+"/") || strings.HasPrefix(g.below, dir+"/")
}

// ownPrefix starts the base names of Reshelf's own files.
const ownPrefix = ".reshelf"

// litter is what operating systems and NAS devices leave in archives, besides hidden files.
func litter() []string {
	return []string{
		"@eaDir", "#recycle", "#snapshot", // Synology
		"Thumbs.db", "desktop.ini", "System Volume Information", "$RECYCLE.BIN", // Windows
		"lost+found", // ext4
	}
}

func isLitter(base string) bool {
	if strings.HasPrefix(base, ".") && base != "." && base != ".." { // those two are no names, but parts of keys that cannot be addressed
		return true
	}
	for _, name := range litter() {
		if strings.EqualFold(base, name) {
			return true
		}
	}
	return false
}

// DefaultExclusions are the names that are left out unless batch.Filter.All is set, as patterns without regard to case.
// Of them, .reshelf* is always left out.
func DefaultExclusions() []string {
	return append([]string{ownPrefix + "*", ".*", ".DS_Store"}, litter()...)
}
