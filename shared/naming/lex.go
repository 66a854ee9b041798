package naming

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// kind is the kind of a token.
type kind uint8

const (
	tokenEnd     kind = iota
	tokenText         // literal text of the name
	tokenOpen         // {
	tokenClose        // }
	tokenSection      // [
	tokenSectEnd      // ]
	tokenName         // a field's or filter's name
	tokenTag          // an ExifTool tag, with or without its group
	tokenSidecar      // such a tag of the object's sidecar
	tokenFormat       // what follows the colon after a field's name
	tokenString       // a quoted string, without quotes and escapes
	tokenNumber       // a whole number, with its sign
	tokenPipe         // |
	tokenElse         // ??
	tokenArgs         // (
	tokenArgsEnd      // )
	tokenComma        // ,
)

// token is a piece of a template.
type token struct {
	kind kind
	text string
	// start and end are byte offsets into the template.
	start, end int
	// quoted formats are text only; escapes make their offsets differ from the template's.
	quoted bool
}

// lexer cuts a template into tokens. Inside braces it reads the tokens of a field, outside of them text.
type lexer struct {
	src    string
	pos    int
	tokens []token
}

func lex(src string) ([]token, error) {
	if err := checkRunes(src); err != nil {
		return nil, err
	}
	l := &lexer{src: src}
	for l.pos < len(src) {
		if err := l.outside(); err != nil {
			return nil, err
		}
	}
	l.emit(tokenEnd, "", len(src))
	return l.tokens, nil
}

// checkRunes refuses what no template may hold.
func checkRunes(src string) error {
	if len(src) > MaxTemplateBytes {
		return syntaxError("", 0, fmt.Sprintf("the template has %d bytes", len(src)), fmt.Sprintf("at most %d", MaxTemplateBytes))
	}
	for i, r := range src {
		if r == utf8.RuneError && !strings.HasPrefix(src[i:], string(utf8.RuneError)) {
			return syntaxError(src, i, "the template is not UTF-8", "UTF-8 text")
		}
		if unicode.IsControl(r) {
			return syntaxError(src, i, fmt.Sprintf("control character %U", r), "printable text")
		}
	}
	return nil
}

func (l *lexer) emit(k kind, text string, start int) {
	l.tokens = append(l.tokens, token{kind: k, text: text, start: start, end: l.pos})
}

// take emits the next n bytes as a token.
func (l *lexer) take(k kind, n int) {
	start := l.pos
	l.pos += n
	l.emit(k, l.src[start:l.pos], start)
}

func (l *lexer) has(prefix string) bool { return strings.HasPrefix(l.src[l.pos:], prefix) }

func (l *lexer) fail(problem, want string) error {
	return syntaxError(l.src, l.pos, problem, want)
}

// outside reads one token, or one whole field, outside of braces.
func (l *lexer) outside() error {
	start := l.pos
	switch {
	case l.has("{{"), l.has("}}"):
		l.pos += 2
		l.emit(tokenText, l.src[start:start+1], start)
	case l.has("{"):
		return l.field()
	case l.has("}"):
		return l.fail(`"}" without a field`, `"}}" for a brace in the name`)
	case l.has("["):
		l.take(tokenSection, 1)
	case l.has("]"):
		l.take(tokenSectEnd, 1)
	default:
		n := strings.IndexAny(l.src[start:], "{}[]")
		if n < 0 {
			n = len(l.src) - start
		}
		l.take(tokenText, n)
	}
	return nil
}

// field reads from an opening brace to the closing one.
func (l *lexer) field() error {
	open := l.pos
	l.take(tokenOpen, 1)
	for {
		l.spaces()
		if l.pos == len(l.src) {
			return syntaxError(l.src, open, `"{" without its "}"`, `"}" at the end of the field, or "{{" for a brace in the name`)
		}
		if l.has("}") {
			l.take(tokenClose, 1)
			return nil
		}
		if err := l.inside(); err != nil {
			return err
		}
	}
}

func (l *lexer) spaces() {
	for l.has(" ") {
		l.pos++
	}
}

// inside reads one token inside braces; a field's name together with its format.
func (l *lexer) inside() error {
	switch c := l.src[l.pos]; {
	case l.has("??"):
		l.take(tokenElse, 2)
	case c == '|':
		l.take(tokenPipe, 1)
	case c == '(':
		l.take(tokenArgs, 1)
	case c == ')':
		l.take(tokenArgsEnd, 1)
		return l.format() // of a field with a tag
	case c == ',':
		l.take(tokenComma, 1)
	case c == '"':
		return l.quoted(tokenString)
	case numberLength(l.src[l.pos:]) > 0:
		l.take(tokenNumber, numberLength(l.src[l.pos:]))
	case isUpper(c):
		l.take(tokenTag, l.tagLength(isUpper))
	case l.has("tag:"):
		return l.prefixed("tag:", tokenTag, "IFD0:Artist")
	case l.has("sidecar:"):
		return l.prefixed("sidecar:", tokenSidecar, "XMP-dc:Title")
	case isLower(c):
		l.take(tokenName, wordLength(l.src[l.pos:]))
		return l.format()
	case c == ':':
		return l.fail(`unexpected ":"`, `a format only after a field of Reshelf's, or the tag's name after its group, such as IFD0:Artist`)
	default:
		r, _ := utf8.DecodeRuneInString(l.src[l.pos:])
		return l.fail(fmt.Sprintf("unexpected %q in a field", r), `a field, a tag, a "string", "|", "??" or "}"`)
	}
	return nil
}

// prefixed reads the tag name after a prefix.
func (l *lexer) prefixed(prefix string, k kind, example string) error {
	l.pos += len(prefix)
	n := l.tagLength(func(byte) bool { return true })
	if n == 0 {
		return l.fail(fmt.Sprintf("nothing after %q", prefix), fmt.Sprintf("an ExifTool tag name, such as %q", prefix+example))
	}
	l.take(k, n)
	return nil
}

// tagLength is the length of the tag name at the reading position, with its group if a colon and a name follow whose
// first letter may stand there.
func (l *lexer) tagLength(first func(byte) bool) int {
	n := wordLength(l.src[l.pos:])
	name, ok := strings.CutPrefix(l.src[l.pos+n:], ":")
	m := wordLength(name)
	if n == 0 || !ok || m == 0 || !first(name[0]) {
		return n
	}
	return n + 1 + m
}

// format reads a colon and the format after it, if there are any.
func (l *lexer) format() error {
	if !l.has(":") {
		return nil
	}
	l.pos++
	l.spaces()
	if l.has(`"`) {
		return l.quoted(tokenFormat)
	}
	rest := l.src[l.pos:]
	n := strings.IndexAny(rest, "|}")
	if n < 0 {
		n = len(rest)
	}
	if i := strings.Index(rest[:n], "??"); i >= 0 {
		n = i
	}
	text := strings.TrimRight(rest[:n], " ")
	if text == "" {
		return l.fail(`nothing after ":"`, `a format, such as "date:%Y-%m-%d"`)
	}
	l.take(tokenFormat, len(text))
	return nil
}

// quoted reads a string at its opening quote.
func (l *lexer) quoted(k kind) error {
	start := l.pos
	var b strings.Builder
	for i := start + 1; i < len(l.src); i++ {
		switch c := l.src[i]; c {
		case '"':
			l.pos = i + 1
			l.tokens = append(l.tokens, token{kind: k, text: b.String(), start: start, end: l.pos, quoted: true})
			return nil
		case '\\':
			i++
			if i == len(l.src) || l.src[i] != '"' && l.src[i] != '\\' {
				return syntaxError(l.src, i, `unknown escape in a string`, `\" or \\`)
			}
			b.WriteByte(l.src[i])
		default:
			b.WriteByte(c)
		}
	}
	return l.fail(`string without its closing quote`, `'"' at its end`)
}

// wordLength is the length of the name at the start of s.
func wordLength(s string) int {
	n := 0
	for n < len(s) && (isUpper(s[n]) || isLower(s[n]) || isDigit(s[n]) || n > 0 && (s[n] == '_' || s[n] == '-')) {
		n++
	}
	return n
}

// numberLength is the length of the whole number at the start of s, 0 if there is none.
func numberLength(s string) int {
	digits := strings.TrimLeft(strings.TrimPrefix(strings.TrimPrefix(s, "-"), "+"), "0123456789")
	if n := len(s) - len(digits); n > 0 && isDigit(s[n-1]) {
		return n
	}
	return 0
}

func isUpper(c byte) bool { return 'A' <= c && c <= 'Z' }
func isLower(c byte) bool { return 'a' <= c && c <= 'z' }
func isDigit(c byte) bool { return '0' <= c && c <= '9' }
