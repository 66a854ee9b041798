package naming

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/width"

	"github.com/reshelf/reshelf/shared/archive"
)

// What callers branch on.
var (
	// ErrSyntax is wrapped by every error of [Parse].
	ErrSyntax = errors.New("invalid template")
	// ErrNoValue is wrapped by every [NoValueError].
	ErrNoValue = errors.New("no value")
	// ErrBadName is wrapped by errors about names that no rule can make usable: empty, or too long as a whole.
	ErrBadName = errors.New("unusable name")
)

// SyntaxError says where a template is wrong and what was expected there.
type SyntaxError struct {
	Template string
	// Column is where, in runes from 1; one more than the template has where something is missing at its end.
	Column int
	// Problem is what is wrong: `unknown field "modle"`.
	Problem string
	// Want is what was expected: "one of date, dir, ext …".
	Want string
}

// Error is one line of escaped text.
func (e *SyntaxError) Error() string {
	return fmt.Sprintf("%v, column %d: %s; want %s", ErrSyntax, e.Column, e.Problem, e.Want)
}

// Unwrap returns ErrSyntax.
func (e *SyntaxError) Unwrap() error { return ErrSyntax }

// Caret shows the place on a terminal in two lines without a newline at the end: the template in escaped text, and a
// caret below the column.
func (e *SyntaxError) Caret() string {
	runes := []rune(e.Template)
	before := archive.EscapeText(string(runes[:max(0, min(e.Column-1, len(runes)))]))
	return archive.EscapeText(e.Template) + "\n" + strings.Repeat(" ", cells(before)) + "^"
}

// cells is the number of terminal cells that s takes (Unicode Standard Annex 11).
func cells(s string) int {
	n := 0
	for _, r := range s {
		switch k := width.LookupRune(r).Kind(); {
		case unicode.In(r, unicode.Mn, unicode.Me):
		case k == width.EastAsianWide, k == width.EastAsianFullwidth:
			n += 2
		default:
			n++
		}
	}
	return n
}

// syntaxError makes a SyntaxError at a byte offset.
func syntaxError(template string, offset int, problem, want string) *SyntaxError {
	column := utf8.RuneCountInString(template[:offset]) + 1
	return &SyntaxError{Template: template, Column: column, Problem: problem, Want: want}
}

// NoValueError says which field of a template an object has no value for.
type NoValueError struct {
	// Field is the field as the template has it, without braces: "model|slug".
	Field string
	// Why says what the object lacks: "the object has no camera model".
	Why string
}

// Error names the field and what would help, in escaped text.
func (e *NoValueError) Error() string {
	field := archive.EscapeText(e.Field)
	return fmt.Sprintf(`%v for {%s}: %s; give a fallback, {%s??"unknown"}, or make it optional, [{%s}]`,
		ErrNoValue, field, e.Why, field, field)
}

// Unwrap returns ErrNoValue.
func (e *NoValueError) Unwrap() error { return ErrNoValue }
