package metadata

import (
	"bytes"
	"fmt"
	"unicode/utf8"
)

// ReadAnswer reads what `exiftool -j` prints for one file: an array of one object. It returns the object's SourceFile, and
// the object as DecodeObject takes it, without blanks and with every bare scalar quoted. Bytes that are not UTF-8 stay. Errors
// wrap ErrJSON.
//
// ExifTool prints a value bare when it looks like a number or is true or false in any case of letters, which it then writes
// in lower case (the function EscapeJSON of its script); so "True" in a file is "true" here, and nothing but that is lost:
// 1.10, 1e999 and true become "1.10", "1e999" and "true". Bare words that are not JSON, such as 007, +1, .5, inf and nan, are
// quoted as well; null stays null.
func ReadAnswer(raw []byte) (source string, object []byte, err error) {
	s := scan{in: raw, out: make([]byte, 0, len(raw)+len(raw)/8)}
	file := []byte(nil)
	ok := s.punctuation('[') && s.object(1, func(name, value []byte) {
		if string(name) == `"SourceFile"` {
			file = value
		}
	})
	object = s.out[min(1, len(s.out)):]
	if !ok || !s.punctuation(']') || !s.end() {
		return "", nil, fmt.Errorf("%w: %d bytes that begin %.60q, where one file should be", ErrJSON, len(raw), raw)
	}
	source, _ = TextOf(file)
	return source, object, nil
}

// DecodeObject reads one object of the array that `exiftool -j -G1 -struct` prints, and returns its SourceFile apart from its
// tags. Bare scalars become strings of the same spelling and blanks between tokens are dropped; of members of one name the
// last counts; bytes that are not UTF-8 become U+FFFD. The values share memory with each other but not with raw. Errors wrap
// ErrJSON.
func DecodeObject(raw []byte) (source string, tags Tags, err error) {
	if tags, err = decodeTags(raw); err != nil {
		return "", nil, err
	}
	source, _ = TextOf(tags["SourceFile"])
	delete(tags, "SourceFile")
	return source, tags, nil
}

// usualTags are as many as few objects have more of: for no more is room made before they are seen.
const usualTags = 512

func decodeTags(raw []byte) (Tags, error) {
	if !utf8.Valid(raw) {
		raw = bytes.ToValidUTF8(raw, []byte("\uFFFD"))
	}
	s := scan{in: raw, out: make([]byte, 0, len(raw)+len(raw)/8)}
	tags := make(Tags, min(bytes.Count(raw, []byte(`":`)), usualTags))
	ok := s.object(0, func(name, value []byte) {
		tags[memberName(name)] = value
	})
	if !ok || !s.end() {
		return nil, fmt.Errorf("%w: %d bytes that begin %.60q, where an object should be", ErrJSON, len(raw), raw)
	}
	return tags, nil
}

// memberName decodes a valid JSON string.
func memberName(text []byte) string {
	if bytes.IndexByte(text, '\\') < 0 {
		return string(text[1 : len(text)-1])
	}
	name, _ := TextOf(text)
	return name
}

// maxDepth is how deep arrays and objects may be in each other: as deep as encoding/json takes them.
const maxDepth = 10000

// scan checks that a text is JSON, but for bare words, and writes it out without blanks and with bare words quoted. Its
// methods report false where the text is wrong; it is of no use then.
type scan struct {
	in  []byte
	i   int
	out []byte
}

func (s *scan) blanks() {
	for s.i < len(s.in) {
		switch s.in[s.i] {
		case ' ', '\n', '\r', '\t':
			s.i++
		default:
			return
		}
	}
}

// end reports whether nothing is left.
func (s *scan) end() bool {
	s.blanks()
	return s.i == len(s.in)
}

// next is the byte that the next token begins with, 0 at the end.
func (s *scan) next() byte {
	if s.end() {
		return 0
	}
	return s.in[s.i]
}

// punctuation takes c if it comes next.
func (s *scan) punctuation(c byte) bool {
	if s.next() != c {
		return false
	}
	s.i++
	s.out = append(s.out, c)
	return true
}

func (s *scan) value(depth int) bool {
	switch s.next() {
	case '"':
		return s.text()
	case '{':
		return s.object(depth, func(_, _ []byte) {})
	case '[':
		return s.array(depth)
	}
	return s.bare()
}

// object tells member the name and the value of each member, as they are written out.
func (s *scan) object(depth int, member func(name, value []byte)) bool {
	if depth >= maxDepth || !s.punctuation('{') {
		return false
	}
	if s.punctuation('}') {
		return true
	}
	for {
		start := len(s.out)
		if s.next() != '"' || !s.text() {
			return false
		}
		colon := len(s.out)
		if !s.punctuation(':') || !s.value(depth+1) {
			return false
		}
		end := len(s.out)
		member(s.out[start:colon:colon], s.out[colon+1:end:end])
		if !s.punctuation(',') {
			return s.punctuation('}')
		}
	}
}

func (s *scan) array(depth int) bool {
	if depth >= maxDepth || !s.punctuation('[') {
		return false
	}
	if s.punctuation(']') {
		return true
	}
	for {
		if !s.value(depth + 1) {
			return false
		}
		if !s.punctuation(',') {
			return s.punctuation(']')
		}
	}
}

// bare takes a bare word: see isBare.
func (s *scan) bare() bool {
	start := s.i
	for s.i < len(s.in) && isBare(s.in[s.i]) {
		s.i++
	}
	word := s.in[start:s.i]
	if len(word) == 0 {
		return false
	}
	if string(word) == "null" {
		s.out = append(s.out, word...)
		return true
	}
	s.out = append(append(append(s.out, '"'), word...), '"')
	return true
}

// text takes a string as it is.
func (s *scan) text() bool {
	in, i := s.in, s.i+1
	for i < len(in) {
		switch c := in[i]; {
		case c == '"':
			s.out = append(s.out, in[s.i:i+1]...)
			s.i = i + 1
			return true
		case c == '\\':
			n := escapeLen(in[i:])
			if n == 0 {
				return false
			}
			i += n
		case c < ' ':
			return false
		default:
			i++
		}
	}
	return false
}

// escapeLen is the length of the escape at the start of s, 0 if it is none.
func escapeLen(s []byte) int {
	if len(s) < 2 {
		return 0
	}
	switch s[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if len(s) >= 6 && isHex(s[2]) && isHex(s[3]) && isHex(s[4]) && isHex(s[5]) {
			return 6
		}
	}
	return 0
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
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
