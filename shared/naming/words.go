package naming

import (
	"strings"
	"unicode"

	"github.com/anyascii/go"
)

// words are the runs of letters and digits of s with the marks that belong to them, cut also where a capital follows a small
// letter ("myPhoto") and before the last capital of a run that a small letter follows ("HDRPhoto").
func words(s string) []string {
	var out []string
	runes := []rune(s)
	var word []rune
	end := func() {
		if len(word) > 0 {
			out = append(out, string(word))
			word = nil
		}
	}
	for i, r := range runes {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.IsMark(r) {
			end()
			continue
		}
		if i > 0 && unicode.IsUpper(r) {
			before := runes[i-1]
			followed := i+1 < len(runes) && unicode.IsLower(runes[i+1])
			if unicode.IsLower(before) || unicode.IsUpper(before) && followed {
				end()
			}
		}
		word = append(word, r)
	}
	end()
	return out
}

func snake(s string) string { return lower(strings.Join(words(s), "_")) }
func kebab(s string) string { return lower(strings.Join(words(s), "-")) }

func camel(s string) string {
	all := words(s)
	for i, w := range all {
		if i == 0 {
			all[i] = lower(w)
		} else {
			all[i] = title(w)
		}
	}
	return strings.Join(all, "")
}

// ascii writes every script in Latin letters without accents, rune by rune. What has no such form is left out.
func ascii(s string) string {
	if isASCII(s) {
		return s
	}
	return strings.Join(strings.Fields(anyascii.Transliterate(s)), " ")
}
