package naming

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/reshelf/reshelf/shared/archive"
)

// maxTextBytes bounds each segment of a text while it is filtered; no segment of a name is longer.
const maxTextBytes = 4096

// text is a piece of a name on its way there.
type text struct {
	// segments were divided by slashes of the template or of the object's key; other slashes in them divide nothing.
	segments []string
	// own: the text is from the template or from the object's key, so it may start a hidden name.
	own bool
	// dateSource is where a date came from.
	dateSource string
	// shifted writes a date anew, so much later; nil if the text is no date.
	shifted func(by time.Duration) []string
}

// ownText is text of the template or of the object's key.
func ownText(s string) text { return text{segments: strings.Split(s, "/"), own: true} }

// valueText is text that came from anywhere else.
func valueText(s string) text { return text{segments: []string{s}} }

func (t text) isEmpty() bool {
	return len(t.segments) == 0 || len(t.segments) == 1 && t.segments[0] == ""
}

// filtered applies a filter to each segment, so it cannot make a folder.
func (t text) filtered(apply func(string) string) text {
	t.segments = slices.Clone(t.segments)
	for i, s := range t.segments {
		s = norm.NFC.String(prefix(validUTF8(s), maxTextBytes))
		t.segments[i] = prefix(apply(prefix(s, maxTextBytes)), maxTextBytes)
	}
	return t
}

// validUTF8 puts a replacement for each byte that is not UTF-8.
func validUTF8(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 {
			b.WriteString(replacement)
		} else {
			b.WriteRune(r)
		}
		i += n
	}
	return b.String()
}

// prefix is at most the first n bytes of s, without cutting a rune.
func prefix(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// part is a compiled piece of a template: literal, field or section.
type part interface {
	// eval appends the part's texts. Its only errors are NoValueErrors.
	eval(v *Values, out []text) ([]text, error)
}

type literal text

func (l literal) eval(_ *Values, out []text) ([]text, error) { return append(out, text(l)), nil }

type section []part

// eval leaves out the whole section if a field in it has no text.
func (s section) eval(v *Values, out []text) ([]text, error) {
	kept := out
	for _, p := range s {
		from := len(out)
		next, err := p.eval(v, out)
		if errors.Is(err, ErrNoValue) {
			return kept, nil
		}
		if err != nil {
			return nil, err
		}
		if _, ok := p.(field); ok && next[from].isEmpty() {
			return kept, nil
		}
		out = next
	}
	return out, nil
}

type field struct {
	// source is the field as the template has it.
	source  string
	choices []choice
}

type choice struct {
	look       lookup
	isDate     bool
	shift      time.Duration // of a date
	filters    []filter
	mayBeEmpty bool
}

// text is the choice's text in an object, or why there is none.
func (c choice) text(v *Values) (t text, missing string) {
	t, missing = c.look(v)
	if missing == "" && c.shift != 0 {
		t.segments = t.shifted(c.shift)
	}
	for _, f := range c.filters {
		switch {
		case f.fallback != nil:
			if missing != "" || t.isEmpty() {
				t, missing = text{segments: []string{*f.fallback}, own: true}, ""
			}
		case missing == "":
			t = t.filtered(f.apply)
		}
	}
	return t, missing
}

func constant(t text) lookup {
	return func(*Values) (text, string) { return t, "" }
}

// eval appends exactly one text: that of the first choice that is not empty.
func (f field) eval(v *Values, out []text) ([]text, error) {
	var missing string
	empty := false
	for _, c := range f.choices {
		t, why := c.text(v)
		if why == "" {
			if !t.isEmpty() {
				return append(out, t), nil
			}
			why = "nothing is left of its text"
		}
		empty = empty || c.mayBeEmpty
		if missing == "" {
			missing = why
		}
	}
	if empty {
		return append(out, text{}), nil
	}
	return nil, &NoValueError{Field: f.source, Why: missing}
}

// Name evaluates the template for one object. Errors wrap ErrNoValue (the object lacks a value; a [*NoValueError]) or
// ErrBadName. It is pure: equal values give equal results.
//
// Fields are made of Facts.WithSidecar, tags of Tags.TextWithSidecar.
func (t *Template) Name(v Values) (Result, error) {
	res, err := t.name(v)
	if v.Sidecar == nil {
		return res, err
	}
	if err != nil {
		return Result{}, err
	}
	v.Sidecar = nil
	own, err := t.name(v)
	res.Sidecar = err != nil || own.Key != res.Key || own.DateSource != res.DateSource
	return res, nil
}

func (t *Template) name(v Values) (Result, error) {
	a, err := t.assemble(t.parts, t.settled(v))
	if err != nil {
		return Result{}, err
	}
	return a.finish()
}

// settled is v with the facts and the time zone that names are made of.
func (t *Template) settled(v Values) Values {
	if v.Location == nil {
		v.Location = t.clock.location
	}
	if v.Sidecar != nil {
		v.Facts = v.Facts.WithSidecar(v.Sidecar.Facts)
	}
	v.Facts = clock{location: v.Location, shifts: t.clock.shifts}.set(v.Facts)
	return v
}

// assemble evaluates parts of the template.
func (t *Template) assemble(parts []part, v Values) (*assembler, error) {
	var texts []text
	var err error
	for _, p := range parts {
		if texts, err = p.eval(&v, texts); err != nil {
			return nil, err
		}
	}
	a := &assembler{profile: t.profile}
	for _, x := range texts {
		a.add(x)
	}
	return a, nil
}

// Captured is what the plan orders objects by: the wall clock of the capture time as names show it, or else the modification
// time in the same form.
func (t *Template) Captured(v Values) string {
	v = t.settled(v)
	if wall := v.Facts.Capture.Wall; wall != "" {
		return strings.ReplaceAll(wall, "\x00", "")
	}
	at := v.MTime
	if v.Location != nil {
		at = at.In(v.Location)
	}
	return at.Format("2006-01-02T15:04:05.999999999")
}

// assembler puts texts together into the segments of a key.
type assembler struct {
	profile  profile
	segments []string
	changes  changes
	source   string // of the first date

	// of the segment in hand
	current strings.Builder
	own     bool // it starts with text that may start a hidden name
}

func (a *assembler) add(t text) {
	if a.source == "" {
		a.source = t.dateSource
	}
	for i, s := range t.segments {
		if i > 0 {
			a.folder()
		}
		if s != "" && a.current.Len() == 0 {
			a.own = t.own
		}
		if len(s) > maxTextBytes {
			s = prefix(s, maxTextBytes)
			a.changes.add(changeLength)
		}
		a.current.WriteString(s)
	}
}

// folder ends a segment that is a folder. One without any text is left out.
func (a *assembler) folder() {
	if s := a.current.String(); s != "" {
		a.segments = append(a.segments, a.profile.segment(s, a.own, false, &a.changes))
	}
	a.current.Reset()
	a.own = false
}

func (a *assembler) finish() (Result, error) {
	base := a.current.String()
	if base == "" {
		return Result{}, fmt.Errorf("%w: the template gives it no text after the last folder; add a field such as {name}", ErrBadName)
	}
	a.segments = append(a.segments, a.profile.segment(base, a.own, true, &a.changes))
	raw := strings.Join(a.segments, "/")
	if len(raw) > a.profile.maxKey {
		return Result{}, fmt.Errorf("%w: the key has %d bytes, more than %d; shorten its folders", ErrBadName, len(raw), a.profile.maxKey)
	}
	key, err := archive.ParseKey(raw)
	if err != nil {
		return Result{}, fmt.Errorf("%w: %w", ErrBadName, err)
	}
	return Result{Key: key, DateSource: a.source, Changed: a.changes}, nil
}
