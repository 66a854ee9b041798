package report

import (
	"strings"
	"testing"
	"unicode"

	"github.com/reshelf/reshelf/shared/archive"
)

// FuzzCell checks that every key can be read back from its cell, and that no cell starts a formula.
func FuzzCell(f *testing.F) {
	for _, s := range []string{"a.jpg", "=1", "+1", "-1", "@a", "\t=1", "＝1", `\`, `\u{3d}`, "a;=1", " =1", `"=1`, "caf\xe9", "a, -b", ";;@"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		key, err := archive.ParseKey(raw)
		if err != nil {
			t.Skip()
		}
		got := cell(key.Text())
		back, err := archive.ParseKeyText(got)
		if err != nil || back != key {
			t.Fatalf("cell %q reads back as %q, %v; want %q", got, back, err, key)
		}
		if bad := strings.TrimLeft(got, " \"'"); bad != "" && strings.ContainsAny(bad[:1], "=+-@") {
			t.Errorf("cell %q starts a formula", got)
		}
		for _, part := range strings.FieldsFunc(got, func(r rune) bool { return strings.ContainsRune(",;|", r) }) {
			if part = strings.TrimLeft(part, " \"'"); part != "" && strings.ContainsAny(part[:1], "=+-@") {
				t.Errorf("cell %q starts a formula where it may be cut", got)
			}
		}
		if strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("cell %q is not printable", got)
		}
		if again := cell(got); again != got {
			t.Errorf("cell of cell %q is %q", got, again)
		}
	})
}
