package naming

import (
	"strings"
	"unicode"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"

	"github.com/reshelf/reshelf/shared/archive"
)

// Fold is the form in which two keys are equal if a file system that ignores case, or the way in which Unicode is
// composed, may take them for one: full case folding and NFC (canonical caseless matching, The Unicode Standard, section
// 3.13, D145). It is for comparing only; it is never a name. Bytes that are not UTF-8 fold to themselves.
func Fold(key archive.Key) string { return fold(string(key)) }

func fold(s string) string {
	if isASCII(s) {
		return strings.ToLower(s)
	}
	var b strings.Builder
	for s != "" {
		valid := validPrefix(s)
		one := strings.Map(representative, norm.NFD.String(s[:valid]))
		b.WriteString(norm.NFC.String(cases.Fold().String(one)))
		s = s[valid:]
		if s != "" {
			b.WriteByte(s[0])
			s = s[1:]
		}
	}
	return b.String()
}

// representative is the same for all runes that differ only by simple case folding. Without it cases.Fold exchanges the
// two cases of Cherokee letters (golang.org/x/text v0.42.0), whose folding goes to capitals.
func representative(r rune) rune {
	least := r
	for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
		least = min(least, f)
	}
	return least
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// validPrefix is the length of what is UTF-8 at the start of s.
func validPrefix(s string) int {
	for i, r := range s {
		if r == '\ufffd' && !strings.HasPrefix(s[i:], "\ufffd") {
			return i
		}
	}
	return len(s)
}
