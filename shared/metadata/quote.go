package metadata

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// QuoteScalars puts quotes around every bare number and boolean of a JSON text, so that no decoder can change it:
// 1.10, 1e999 and true become "1.10", "1e999" and "true". Strings stay byte for byte, null stays null. A text that has
// been through it comes out the same.
//
// ExifTool prints a value bare when it looks like a number or is true or false in any case of letters, which it then
// writes in lower case (the function EscapeJSON of its script); so "True" in a file is "true" here, and nothing but that
// is lost. Bare words that are not JSON, such as 007, +1, .5, inf and nan, are quoted as well.
//
// The result is new and is valid JSON; otherwise the error wraps ErrJSON.
func QuoteScalars(raw []byte) ([]byte, error) {
	out := make([]byte, 0, len(raw)+len(raw)/8)
	for i := 0; i < len(raw); {
		n, bare := token(raw[i:])
		if bare && string(raw[i:i+n]) != "null" {
			out = append(out, '"')
			out = append(out, raw[i:i+n]...)
			out = append(out, '"')
		} else {
			out = append(out, raw[i:i+n]...)
		}
		i += n
	}
	if !json.Valid(out) {
		return nil, fmt.Errorf("%w: %d bytes that begin %.60q", ErrJSON, len(raw), raw)
	}
	return out, nil
}

// token returns the length of the token at the start of s, which is not empty, and whether it is a bare word. A string
// without an end is a token.
func token(s []byte) (n int, bare bool) {
	if s[0] == '"' {
		return stringLen(s), false
	}
	for n < len(s) && isBare(s[n]) {
		n++
	}
	if n > 0 {
		return n, true
	}
	return 1, false
}

// stringLen is the length of the JSON string at the start of s, quotes included.
func stringLen(s []byte) int {
	for i := 1; i < len(s); {
		j := bytes.IndexAny(s[i:], `"\`)
		switch {
		case j < 0:
			return len(s)
		case s[i+j] == '"':
			return i + j + 1
		}
		i += j + 2
	}
	return len(s)
}

// isBare reports whether c can be in a bare word: a number, true, false, null, inf, or digits of another script, which
// Perl's \d matches too.
func isBare(c byte) bool {
	switch {
	case '0' <= c && c <= '9', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', c >= 0x80:
		return true
	}
	return c == '+' || c == '-' || c == '.'
}
