package archive

import (
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ErrKey is wrapped by every error of [ParseKey] and [ParseKeyText].
var ErrKey = errors.New("invalid key")

// MaxKeyBytes bounds a key: Linux's PATH_MAX, above S3's 1,024.
const MaxKeyBytes = 4096

// Key is an object's slash-separated path below its root, as the raw bytes that the store uses: names need not be UTF-8.
// Keys made by ParseKey never escape their root. They compare and sort by bytes.
//
// Everything that leaves the process (JSON, CSV, Parquet, terminals, pages) uses the escaped form of Text, which
// MarshalText writes and UnmarshalText reads.
type Key string

// ParseKey checks raw bytes as a key: not empty, at most MaxKeyBytes, no NUL, and no empty, "." or ".." segment
// (so no slash at either end).
func ParseKey(raw string) (Key, error) {
	switch {
	case raw == "":
		return "", fmt.Errorf("%w: it is empty", ErrKey)
	case len(raw) > MaxKeyBytes:
		return "", fmt.Errorf("%w: %d bytes, more than %d", ErrKey, len(raw), MaxKeyBytes)
	case strings.IndexByte(raw, 0) >= 0:
		return "", fmt.Errorf("%w %q: it holds a NUL byte", ErrKey, raw)
	}
	for seg := range strings.SplitSeq(raw, "/") {
		if seg == "" || seg == "." || seg == ".." {
			return "", fmt.Errorf("%w %q: the segment %q would leave or repeat a folder", ErrKey, raw, seg)
		}
	}
	return Key(raw), nil
}

// Base is the last segment.
func (k Key) Base() string { return string(k[strings.LastIndexByte(string(k), '/')+1:]) }

// Dir is everything before the last slash, "" at the top.
func (k Key) Dir() Key {
	i := strings.LastIndexByte(string(k), '/')
	if i < 0 {
		return ""
	}
	return k[:i]
}

// Ext is the extension of the last segment with its dot, "" if it has none. Leading dots start a hidden name, not an
// extension, and a dot at the end starts nothing.
func (k Key) Ext() string {
	ext := path.Ext(strings.TrimLeft(k.Base(), "."))
	if ext == "." {
		return ""
	}
	return ext
}

// Stem is the last segment without Ext.
func (k Key) Stem() string { return strings.TrimSuffix(k.Base(), k.Ext()) }

// Text is the one escaped form of a key: valid, printable UTF-8. A backslash is written \\, a byte that is not UTF-8
// \xHH, and a rune that is not printable (controls, bidirectional marks, unassigned) \u{HEX}.
func (k Key) Text() string { return EscapeText(string(k)) }

// EscapeText writes any string in the form of [Key.Text]. Use it wherever hostile text reaches a person.
func EscapeText(s string) string {
	if isPlain(s) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n <= 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case r == '\\':
			b.WriteString(`\\`)
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			fmt.Fprintf(&b, `\u{%x}`, r)
		}
		i += n
	}
	return b.String()
}

func isPlain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c >= 0x7f || c == '\\' {
			return false
		}
	}
	return true
}

// ParseKeyText reads the form of [Key.Text] and checks the result as ParseKey does.
func ParseKeyText(text string) (Key, error) {
	raw, err := unescape(text)
	if err != nil {
		return "", err
	}
	return ParseKey(raw)
}

func unescape(text string) (string, error) {
	if strings.IndexByte(text, '\\') < 0 {
		return text, nil
	}
	var b strings.Builder
	for rest := text; rest != ""; {
		i := strings.IndexByte(rest, '\\')
		if i < 0 {
			b.WriteString(rest)
			break
		}
		b.WriteString(rest[:i])
		n, err := unescapeOne(&b, rest[i:])
		if err != nil {
			return "", fmt.Errorf("%w %q: %w", ErrKey, text, err)
		}
		rest = rest[i+n:]
	}
	return b.String(), nil
}

// unescapeOne writes what the escape at the start of s stands for and returns the escape's length.
func unescapeOne(b *strings.Builder, s string) (int, error) {
	switch {
	case strings.HasPrefix(s, `\\`):
		b.WriteByte('\\')
		return 2, nil
	case strings.HasPrefix(s, `\x`) && len(s) >= 4:
		v, err := strconv.ParseUint(s[2:4], 16, 8)
		if err != nil {
			return 0, err
		}
		b.WriteByte(byte(v))
		return 4, nil
	case strings.HasPrefix(s, `\u{`):
		end := strings.IndexByte(s, '}')
		if end < 0 {
			break
		}
		v, err := strconv.ParseUint(s[3:end], 16, 32)
		if err != nil || !utf8.ValidRune(rune(v)) {
			return 0, fmt.Errorf("no rune %q", s[:end+1])
		}
		b.WriteRune(rune(v))
		return end + 1, nil
	}
	return 0, fmt.Errorf(`unknown escape; want \\, \xHH or \u{HEX}`)
}

// MarshalText implements encoding.TextMarshaler with Text.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.Text()), nil }

// UnmarshalText implements encoding.TextUnmarshaler. It reads the form of Text, also of a key that ParseKey refuses: the
// records of an archive name such objects (a bucket may hold "a//b"). Whoever acts on a key checks it; every store does.
func (k *Key) UnmarshalText(text []byte) error {
	raw, err := unescape(string(text))
	if err == nil && len(raw) > MaxKeyBytes {
		raw, err = "", fmt.Errorf("%w: %d bytes, more than %d", ErrKey, len(raw), MaxKeyBytes)
	}
	*k = Key(raw)
	return err
}
