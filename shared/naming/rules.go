package naming

import (
	_ "embed"
	"errors"
	"fmt"
	"strings"

	"github.com/reshelf/reshelf/shared/archive"
)

// ErrRules is wrapped by every error about rules of groups.
var ErrRules = errors.New("invalid rules of groups")

// MaxRulesBytes bounds a file of rules.
const MaxRulesBytes = 64 << 10

// Bounds of Rules.
const (
	maxExtensions    = 500
	maxCompanions    = 64
	maxPatternBytes  = 64
	minCut, maxCut   = 16, 255
	maxOf            = 32
	maxRuleNameBytes = 16 // of an extension
)

// Rules say which objects move together, as data. They travel in a batch. The text form is that of groups.yaml beside this
// file, which docs/groups.md describes.
type Rules struct {
	// Roles has the extensions of each role, without their dots, by the role's name.
	Roles map[string][]string `json:"roles,omitempty"`
	// Companions are tried in their order, those with {name} before those with {stem}.
	Companions []CompanionRule `json:"companions,omitempty"`
}

// CompanionRule says how companions are spelled.
type CompanionRule struct {
	// Name is the pattern, and what companions are called after a rename: "{name}TEXT.EXT", where {name} is the whole name of
	// the object that the companion belongs to, "{stem}TEXT.EXT", where it is that without its extension, or
	// "{stem}TEXT{ROLE}" for all extensions of a role.
	Name string `json:"name"`
	// Of are the roles, or extensions with their dots, of what the companion can belong to. None: anything but a sidecar, and
	// for {stem} anything that has a role.
	Of []string `json:"of,omitempty"`
	// From is another spelling that is read and not written, such as "IMG_O{digits}.aae", beside an object whose stem is Stem,
	// "IMG_{digits}".
	From string `json:"from,omitempty"`
	Stem string `json:"stem,omitempty"`
	// Cut: what stands before the extension may be cut to so many UTF-16 units, and TEXT anywhere. 0 is never.
	Cut int `json:"cut,omitempty"`
	// Number: "IMG.jpg(1).json" is spelled like "IMG(1).jpg.json".
	Number bool `json:"number,omitempty"`
}

// RulesError says where rules are wrong and what was expected there.
type RulesError struct {
	// Line is that of the file, from 1; 0 if the rules come from no file.
	Line int
	// Field is the path of what is wrong, such as "companions[2].of[0]"; "" is the whole.
	Field string
	// Problem and Want are as in a SyntaxError.
	Problem, Want string
}

// Error is one line of escaped text.
func (e *RulesError) Error() string {
	var where strings.Builder
	if e.Line > 0 {
		fmt.Fprintf(&where, "line %d, ", e.Line)
	}
	if e.Field != "" {
		where.WriteString(archive.EscapeText(e.Field) + ", ")
	}
	return fmt.Sprintf("%v: %s%s; want %s", ErrRules, where.String(), archive.EscapeText(e.Problem), e.Want)
}

// Unwrap returns ErrRules.
func (e *RulesError) Unwrap() error { return ErrRules }

// wrong makes a RulesError of a field.
func wrong(field, want, problem string, args ...any) *RulesError {
	return &RulesError{Field: field, Problem: fmt.Sprintf(problem, args...), Want: want}
}

//go:embed groups.yaml
var defaultRules string

// DefaultRulesText is the file of the default rules, with its comments.
func DefaultRulesText() string { return defaultRules }

// DefaultRules returns a new copy of the default rules.
func DefaultRules() Rules {
	r, err := ParseRules([]byte(defaultRules))
	if err != nil {
		panic(err) // the file is part of the program
	}
	return r
}
