package archive_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/reshelf/reshelf/shared/archive"
)

func TestParseKey(t *testing.T) {
	good := []string{
		"a", "a/b", ".hidden", "...", "a/.../b", "..a", "a..", " ", "a b/ c ", `back\slash`, "caf\u00e9", "cafe\u0301", "\xff\xfe/\x80",
		"new\nline", "-rf", "C:", "*?", strings.Repeat("a", archive.MaxKeyBytes),
	}
	for _, raw := range good {
		if got, err := archive.ParseKey(raw); err != nil || string(got) != raw {
			t.Errorf("ParseKey(%.40q): got %.40q, %v", raw, got, err)
		}
	}
	bad := []string{
		"", "/", "/a", "a/", "a//b", ".", "..", "./a", "a/.", "a/./b", "../a", "a/..", "a/../b", "a\x00b",
		strings.Repeat("a", archive.MaxKeyBytes+1),
	}
	for _, raw := range bad {
		if got, err := archive.ParseKey(raw); !errors.Is(err, archive.ErrKey) || got != "" {
			t.Errorf("ParseKey(%.40q): got %.40q, %v", raw, got, err)
		}
	}
}

func TestKeyParts(t *testing.T) {
	tests := []struct {
		key             archive.Key
		dir             archive.Key
		base, stem, ext string
	}{
		{"a.jpg", "", "a.jpg", "a", ".jpg"},
		{"x/y/a.tar.gz", "x/y", "a.tar.gz", "a.tar", ".gz"},
		{"x.d/a", "x.d", "a", "a", ""},
		{".bashrc", "", ".bashrc", ".bashrc", ""},
		{"x/.a.JPG", "x", ".a.JPG", ".a", ".JPG"},
		{"..jpg", "", "..jpg", "..jpg", ""},
		{"...", "", "...", "...", ""},
		{"a.", "", "a.", "a.", ""},
		{"a..", "", "a..", "a..", ""},
		{"a. jpg", "", "a. jpg", "a", ". jpg"},
		{"x/\xff.\xfe", "x", "\xff.\xfe", "\xff", ".\xfe"},
		{"", "", "", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.key.Text(), func(t *testing.T) {
			k := tt.key
			if k.Dir() != tt.dir || k.Base() != tt.base || k.Stem() != tt.stem || k.Ext() != tt.ext {
				t.Errorf("got dir %q, base %q, stem %q, ext %q", k.Dir(), k.Base(), k.Stem(), k.Ext())
			}
		})
	}
}

func TestText(t *testing.T) {
	tests := []struct{ name, raw, want string }{
		{"plain", "a b/c.jpg", "a b/c.jpg"},
		{"backslash", `a\b`, `a\\b`},
		{"looks escaped", `\x41\u{41}`, `\\x41\\u{41}`},
		{"letters of any script", "café/日本/смт", "café/日本/смт"},
		{"combining accent", "cafe\u0301", "cafe\u0301"},
		{"not UTF-8", "a\xff\xc3(", `a\xff\xc3(`},
		{"encoded surrogate", "\xed\xa0\x80", `\xed\xa0\x80`},
		{"replacement character", "\uFFFD", "\uFFFD"},
		{"newline, tab, delete", "a\nb\tc\x7f", `a\u{a}b\u{9}c\u{7f}`},
		{"terminal escape", "\x1b[31m", `\u{1b}[31m`},
		{"right to left", "a\u202egpj", `a\u{202e}gpj`},
		{"zero width, no-break space", "a\u200b\u00a0", `a\u{200b}\u{a0}`},
		{"line separator", "\u2028", `\u{2028}`},
		{"above the first plane", "\U0001F600\U000E0001", "\U0001F600" + `\u{e0001}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := archive.Key(tt.raw).Text(); got != tt.want {
				t.Errorf("Text: got %q, want %q", got, tt.want)
			}
			if got := archive.EscapeText(tt.raw); got != tt.want {
				t.Errorf("EscapeText: got %q, want %q", got, tt.want)
			}
			if back, err := archive.ParseKeyText(tt.want); err != nil || string(back) != tt.raw {
				t.Errorf("ParseKeyText: got %q, %v; want %q", back, err, tt.raw)
			}
		})
	}
}

func TestParseKeyTextErrors(t *testing.T) {
	for _, text := range []string{
		"", `\`, `a\`, `\n`, `\x`, `\x4`, `\xg0`, `\x+1`, `\u`, `\u41`, `\u{`, `\u{}`, `\u{41`, `\u{d800}`, `\u{110000}`,
		`\u{ffffffff}`, `\u{fffffffff}`, `\u{-1}`, `\x2e\x2e/a`, `\u{2e}`, `a\x2f`, `\x00`, `\u{0}`,
	} {
		if got, err := archive.ParseKeyText(text); !errors.Is(err, archive.ErrKey) || got != "" {
			t.Errorf("ParseKeyText(%q): got %q, %v", text, got, err)
		}
	}
}

func TestKeyJSON(t *testing.T) {
	in := archive.Object{Key: "a\xff\\\u202e.jpg", Identity: archive.Identity{Size: 3, MTime: -1, Inode: 1 << 63, ETag: "e", Version: "v"}}
	text, err := json.Marshal(in)
	want := `{"key":"a\\xff\\\\\\u{202e}.jpg","size":3,"mtime":-1,"inode":9223372036854775808,"etag":"e","version":"v"}`
	if err != nil || string(text) != want {
		t.Errorf("got  %s, %v\nwant %s", text, err, want)
	}
	var out archive.Object
	if err := json.Unmarshal(text, &out); err != nil || out != in {
		t.Errorf("got %+v, %v; want %+v", out, err, in)
	}
	for _, bad := range []string{`{"key":"\\q"}`, `{"key":"` + strings.Repeat("a", archive.MaxKeyBytes+1) + `"}`} {
		if err := json.Unmarshal([]byte(bad), &out); !errors.Is(err, archive.ErrKey) {
			t.Errorf("%.20s: got error %v", bad, err)
		}
	}
	for _, odd := range []archive.Key{"a//b", "/a", "a/", "../a", "a\x00"} { // a record may name them; no store acts on them
		text, err := json.Marshal(archive.Object{Key: odd})
		if err == nil {
			err = json.Unmarshal(text, &out)
		}
		if err != nil || out.Key != odd {
			t.Errorf("%q: got %q, %v", odd, out.Key, err)
		}
	}
	if err := json.Unmarshal([]byte(`{"key":""}`), &out); err != nil || out.Key != "" {
		t.Errorf("the empty key: got %q, %v", out.Key, err)
	}
}

func FuzzKey(f *testing.F) {
	for _, s := range []string{"a/b.jpg", "..", "a/../b", "a\xff", `\x41`, "\u202e", "a.", ".a", "a//b", "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		text := archive.EscapeText(raw)
		if !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Fatalf("EscapeText(%q) = %q, which is not printable", raw, text)
		}
		key, err := archive.ParseKey(raw)
		if back, errText := archive.ParseKeyText(text); back != key || (errText == nil) != (err == nil) {
			t.Fatalf("ParseKey(%q) = %q, %v, but ParseKeyText(%q) = %q, %v", raw, key, err, text, back, errText)
		}
		if err != nil {
			return
		}
		if got := key.Stem() + key.Ext(); got != key.Base() || got == "" {
			t.Errorf("%q: stem %q and ext %q are not base %q", raw, key.Stem(), key.Ext(), key.Base())
		}
		if key.Dir() != "" && string(key.Dir())+"/"+key.Base() != raw {
			t.Errorf("%q: dir %q and base %q are not the key", raw, key.Dir(), key.Base())
		}
		for seg := range strings.SplitSeq(raw, "/") {
			if seg == "" || seg == "." || seg == ".." {
				t.Errorf("%q: a key with the segment %q", raw, seg)
			}
		}
	})
}

func FuzzParseKeyText(f *testing.F) {
	for _, s := range []string{"a", `\x41`, `\u{1f600}`, `\\`, `\u{d800}`, `\x2e\x2e`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		key, err := archive.ParseKeyText(text)
		if err != nil {
			if !errors.Is(err, archive.ErrKey) {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		if again, err := archive.ParseKeyText(key.Text()); err != nil || again != key {
			t.Errorf("%q: read again: got %q, %v; want %q", text, again, err, key)
		}
		if again, err := archive.ParseKey(string(key)); err != nil || again != key {
			t.Errorf("%q: %q is no key: %v", text, key, err)
		}
	})
}

func BenchmarkEscapeText(b *testing.B) {
	for _, s := range []string{"2024/05/IMG_0001.jpg", "2024/日本/\xff.jpg"} {
		b.Run(archive.EscapeText(s), func(b *testing.B) {
			for b.Loop() {
				_ = archive.EscapeText(s)
			}
		})
	}
}
