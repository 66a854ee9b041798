package naming_test

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
	"pgregory.net/rapid"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/naming"
)

func TestSegment(t *testing.T) {
	long := strings.Repeat("x", 300)
	for _, tc := range []struct {
		name    string
		in      string
		mayHide bool
		last    bool
		want    string
	}{
		{"safe", "IMG 1 (2)~#&'.jpg", false, true, "IMG 1 (2)~#&'.jpg"},
		{"forbidden", `<>:"/\|?*`, false, true, "_________"},
		{"controls", "a\x00b\nc\x7fd\u0085e", false, true, "a_b_c_d_e"},
		{"direction marks", "a\u202egpj.exe", false, true, "a_gpj.exe"},
		{"line separators", "a\u2028b\u2029c\ufeffd\ufffee", false, true, "a_b_c_d_e"},
		{"joiners stay", "👩\u200d🚀", false, true, "👩\u200d🚀"},
		{"not UTF-8", "a\xff\xfeb", false, true, "a__b"},
		{"composed", "e\u0301", false, true, "\u00e9"},
		{"composing makes a forbidden character", "a\u037eb\u1fefc\u212ad", false, true, "a;b`cKd"},
		{"forbidden with a mark", "<\u0338", false, true, "\u226e"},
		{"trailing", "a. . .", false, false, "a"},
		{"only dots", "..", true, false, "_"},
		{"only spaces", "   ", true, true, "_"},
		{"hidden from a value", ".a", false, true, "_a"},
		{"hidden from the template", ".a", true, true, ".a"},
		{"two dots", "..a", true, true, "..a"},
		{"ours", ".reshelf-tmp", true, true, "_reshelf-tmp"},
		{"ours in capitals", ".RESHELF", true, false, "_RESHELF"},
		{"ours with a long s", ".re\u017fhelf", true, false, "_re\u017fhelf"},
		{"ours with a joiner", ".re\u200dshelf", true, false, "_re\u200dshelf"},
		{"ours behind a joiner", "\u200d.reshelf", true, false, "\u200d_reshelf"},
		{"hidden behind a joiner", "\u200d.a", false, true, "\u200d_a"},
		{"ours with a variation", ".\ufe0freshelf", true, false, "_\ufe0freshelf"},
		{"not ours", ".resh", true, false, ".resh"},
		{"device", "con", false, true, "con_"},
		{"device with extensions", "Nul.tar.gz", false, true, "Nul_.tar.gz"},
		{"device with a space", "aux .txt", false, true, "aux_ .txt"},
		{"numbered devices", "com1.x", false, true, "com1_.x"},
		{"superscript", "LPT³", false, true, "LPT³_"},
		{"console", "conin$", false, true, "conin$_"},
		{"no device", "com10", false, true, "com10"},
		{"no device either", "conx", false, true, "conx"},
		{"com alone", "com", false, true, "com"},
		{"long", long, false, false, long[:255]},
		{"long with an extension", long + ".jpeg", false, true, long[:250] + ".jpeg"},
		{"a folder has no extension", long + ".jpeg", false, false, long[:255]},
		{"a long extension is none", "a." + long, false, true, "a." + long[:253]},
		{"long runes", strings.Repeat("é", 200) + ".jpg", false, true, strings.Repeat("é", 125) + ".jpg"},
		{"cut before spaces", strings.Repeat("x", 250) + "          y", false, false, strings.Repeat("x", 250)},
		{"cut to a device", "con" + strings.Repeat(" ", 300) + "x", false, false, "con_"},
		{"cut to a device with an extension", "con" + strings.Repeat(" ", 300) + "x.jpg", false, true, "con_" + strings.Repeat(" ", 247) + ".jpg"},
		{"cut to nothing", "." + strings.Repeat(" ", 300) + "x", true, false, "_"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, changed := naming.SafeSegment(tc.in, tc.mayHide, tc.last)
			if got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
			if (got == tc.in) != (changed == nil) {
				t.Errorf("%q became %q, changed: %q", tc.in, got, changed)
			}
		})
	}
}

// hostile draws strings made of what the rules are about.
func hostile() *rapid.Generator[string] {
	pieces := rapid.SampledFrom([]string{
		"a", "B", "_", "-", " ", ".", "..", "/", `\`, ":", "<", "?", "\x00", "\n", "\x1b", "\xff", "\xc3", "é", "e\u0301", "\u0338",
		"\u0301", "\u037e", "写", "\u200d", "\u202e", "\ufe0f", "👩", "con", "NUL", "com", "1", "³", ".reshelf", ".RE\u017fHELF",
		"reshelf", ".jpg", ".xmp", "IMG_O", "_O", "{", "}", "[", "]", `"`, "%Y", "|", "??", strings.Repeat("x", 120), strings.Repeat("é", 60),
		strings.Repeat(" ", 200), strings.Repeat("\u0301", 40), "\ufffd", "ß", "İ", "ς", "\u1e9e",
	})
	return rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(rapid.OneOf(pieces, rapid.String()), 0, 8).Draw(t, "pieces"), "")
	})
}

// checkSegment checks the rules of one segment by other means than the package does.
func checkSegment(t rapid.TB, s string) {
	t.Helper()
	for _, bad := range []struct {
		is   bool
		what string
	}{
		{s == "", "is empty"},
		{len(s) > 255, "is too long"},
		{!utf8.ValidString(s), "is not UTF-8"},
		{!norm.NFC.IsNormalString(s), "is not NFC"},
		{strings.ContainsAny(s, "<>:\"\\|?*/\x00\n\x1b\u202e"), "holds a forbidden character"},
		{strings.HasSuffix(s, ".") || strings.HasSuffix(s, " "), "ends with a dot or a space"},
		{strings.HasPrefix(naming.Fold(archive.Key(strings.ReplaceAll(s, "\u200d", ""))), ".reshelf"), "is Reshelf's own"},
	} {
		if bad.is {
			t.Fatalf("%q %s", s, bad.what)
		}
	}
	word, _, _ := strings.Cut(strings.ToUpper(s), ".")
	for _, device := range []string{"CON", "NUL", "COM1", "COM³"} {
		if strings.TrimRight(word, " ") == device {
			t.Fatalf("%q is a device", s)
		}
	}
}

func TestSegmentRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := hostile().Draw(t, "in")
		mayHide, last := rapid.Bool().Draw(t, "mayHide"), rapid.Bool().Draw(t, "last")
		got, _ := naming.SafeSegment(in, mayHide, last)
		checkSegment(t, got)
		if !mayHide && got[0] == '.' {
			t.Fatalf("%q is hidden", got)
		}
		if again, changed := naming.SafeSegment(got, mayHide, last); again != got || changed != nil {
			t.Fatalf("%q is safe but became %q: %q", got, again, changed)
		}
	})
}

func FuzzSegment(f *testing.F) {
	for _, s := range []string{"a.jpg", "con .x", ".reshelf", "e\u0301<", strings.Repeat("é", 300) + ".jpg", "\xff. "} {
		f.Add(s, true, true)
		f.Add(s, false, false)
	}
	f.Fuzz(func(t *testing.T, s string, mayHide, last bool) {
		got, _ := naming.SafeSegment(s, mayHide, last)
		if _, err := archive.ParseKey(got); err != nil {
			t.Fatal(err)
		}
		checkSegment(t, got)
		if again, _ := naming.SafeSegment(got, mayHide, last); again != got {
			t.Errorf("%q, again %q", got, again)
		}
		for _, profile := range naming.Profiles() {
			got, _ := naming.SafeSegmentOf(profile, s, mayHide, last)
			if _, err := archive.ParseKey(got); err != nil || len(got) > 255 || !norm.NFC.IsNormalString(got) {
				t.Fatalf("%s: %q: %v", profile, got, err)
			}
			if again, changed := naming.SafeSegmentOf(profile, got, mayHide, last); again != got || changed != nil {
				t.Errorf("%s: %q, again %q: %q", profile, got, again, changed)
			}
		}
	})
}

func TestNumbered(t *testing.T) {
	long := strings.Repeat("é", 125) + ".jpg"
	for _, tc := range []struct {
		key  archive.Key
		n    int
		want archive.Key
	}{
		{"a.jpg", 2, "a_2.jpg"},
		{"d.e/a.jpg", 10, "d.e/a_10.jpg"},
		{"d.e/a", 2, "d.e/a_2"},
		{"a.tar.gz", 2, "a.tar_2.gz"},
		{".hidden", 2, ".hidden_2"},
		{"a.jpg", 1, "a.jpg"},
		{"a.jpg", 0, "a.jpg"},
		{archive.Key(long), 2, archive.Key(strings.Repeat("é", 124) + "_2.jpg")},
		{archive.Key(long), 100, archive.Key(strings.Repeat("é", 123) + "_100.jpg")},
		{"a." + archive.Key(strings.Repeat("x", 253)), 2, "a." + archive.Key(strings.Repeat("x", 251)+"_2")},
		{archive.Key(strings.Repeat("d/", 450) + strings.Repeat("x", 120) + ".jpg"), 2, archive.Key(strings.Repeat("d/", 450) + strings.Repeat("x", 118) + "_2.jpg")},
	} {
		if got := naming.Numbered(tc.key, tc.n); got != tc.want {
			t.Errorf("Numbered(%q, %d): got %q, want %q", tc.key, tc.n, got, tc.want)
		}
	}
}

func TestNumberedRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base, _ := naming.SafeSegment(hostile().Draw(t, "base"), true, true)
		key := archive.Key(strings.Repeat("d/", rapid.SampledFrom([]int{0, 1, 300, 384, 510}).Draw(t, "depth")) + base)
		n, m := rapid.IntRange(2, 1<<40).Draw(t, "n"), rapid.IntRange(2, 1<<40).Draw(t, "m")
		got := naming.Numbered(key, n)
		if _, err := archive.ParseKey(string(got)); err != nil {
			t.Fatal(err)
		}
		if got.Dir() != key.Dir() || got == key {
			t.Fatalf("%q became %q", key, got)
		}
		checkSegment(t, got.Base())
		if naming.Check(key) == nil && len(key.Dir()) < 900 {
			if err := naming.Check(got); err != nil {
				t.Fatal(err)
			}
		}
		if n != m && naming.Fold(got) == naming.Fold(naming.Numbered(key, m)) {
			t.Fatalf("%d and %d give %q", n, m, got)
		}
	})
}

func TestCheck(t *testing.T) {
	for _, tc := range []struct {
		key archive.Key
		ok  bool
	}{
		{"a/b.jpg", true},
		{archive.Key(strings.Repeat("x", 255)), true},
		{archive.Key(strings.Repeat("x", 256)), false},
		{archive.Key(strings.Repeat("x", 256) + "/a"), false},
		{archive.Key(strings.Repeat("d/", 511) + "ab"), true},
		{archive.Key(strings.Repeat("d/", 512) + "a"), false},
	} {
		err := naming.Check(tc.key)
		if (err == nil) != tc.ok || err != nil && !errors.Is(err, naming.ErrBadName) {
			t.Errorf("%d bytes: got %v, want ok %v", len(tc.key), err, tc.ok)
		}
	}
}

func TestFold(t *testing.T) {
	for _, same := range [][]archive.Key{
		{"A/B.jpg", "a/b.JPG"},
		{"\u00e9", "e\u0301", "\u00c9", "E\u0301"},
		{"straße", "STRASSE", "stra\u1e9ee"},
		{"ΣΟΦΟΣ", "σοφος", "σοφος", "σοφοσ"},
		{"\u212a", "k", "K"},
		{"\u03b1\u0345\u0301", "\u03b1\u0301\u0345", "\u03b1\u0301\u03b9"},
		{"\u13a0", "\uab70"},
		{"a\xffB", "A\xffb"},
	} {
		for _, k := range same[1:] {
			if naming.Fold(k) != naming.Fold(same[0]) {
				t.Errorf("%q folds to %q, %q to %q", same[0], naming.Fold(same[0]), k, naming.Fold(k))
			}
		}
	}
	for _, pair := range [][2]archive.Key{{"a", "b"}, {"e", "é"}, {"a\xff", "a\xfe"}, {"a\xff", "a\ufffd"}, {"a/b", "a_b"}, {"ı", "i"}} {
		if naming.Fold(pair[0]) == naming.Fold(pair[1]) {
			t.Errorf("%q and %q both fold to %q", pair[0], pair[1], naming.Fold(pair[0]))
		}
	}
}

func TestFoldRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := hostile().Draw(t, "s")
		folded := naming.Fold(archive.Key(s))
		if again := naming.Fold(archive.Key(folded)); again != folded {
			t.Fatalf("%q folds to %q, which folds to %q", s, folded, again)
		}
		if utf8.ValidString(s) && !norm.NFC.IsNormalString(folded) {
			t.Fatalf("%q folds to %q, which is not NFC", s, folded)
		}
		for _, form := range []norm.Form{norm.NFC, norm.NFD} {
			if utf8.ValidString(s) && naming.Fold(archive.Key(form.String(s))) != folded {
				t.Fatalf("%q and its other composition differ", s)
			}
		}
		if n := strings.Count(s, "/"); strings.Count(folded, "/") != n {
			t.Fatalf("%q folds to %q, with other folders", s, folded)
		}
	})
}

// TestProfileCheck: a key that a person writes is refused where a template would have given another one.
func TestProfileCheck(t *testing.T) {
	tests := []struct {
		profile naming.Profile
		key     archive.Key
		write   string // what the error says would do; "" if the key does
	}{
		{"", "2024/a.jpg", ""},
		{naming.Portable, ".hidden/a", ""},
		{naming.Portable, "a:b/c?.jpg", "a_b/c_.jpg"},
		{naming.POSIX, "a:b/c?.jpg", ""},
		{naming.S3, "a:b/{c}.jpg", "a:b/_c_.jpg"},
		{naming.Portable, "con.txt", "con_.txt"},
		{naming.Portable, "a./b", "a/b"},
		{naming.Portable, "a\u0308.jpg", "ä.jpg"},
		{naming.POSIX, "a\nb", "a_b"},
		{naming.POSIX, "\u202egpj.exe", "_gpj.exe"},
		{naming.POSIX, "\xff", "_"},
		{naming.POSIX, ".Reshelf-x", "_Reshelf-x"},
		{naming.POSIX, archive.Key(strings.Repeat("a", 256)), strings.Repeat("a", 255)},
	}
	for _, tt := range tests {
		err := tt.profile.Check(tt.key)
		switch {
		case tt.write == "" && err != nil:
			t.Errorf("%s: %q: %v", tt.profile, tt.key, err)
		case tt.write != "" && (!errors.Is(err, naming.ErrBadName) || !strings.Contains(err.Error(), "write "+tt.write+",")):
			t.Errorf("%s: %q: %v, want one that says %s", tt.profile, tt.key, err, tt.write)
		}
	}
	if err := naming.POSIX.Check(archive.Key(strings.Repeat("a/", 512) + "a")); !errors.Is(err, naming.ErrBadName) {
		t.Errorf("a long key: %v", err)
	}
	if err := naming.Profile("amiga").Check("a"); err == nil {
		t.Error("an unknown profile allows a key")
	}
}
