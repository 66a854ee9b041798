package naming

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/reshelf/reshelf/shared/archive"
)

// replacement stands for each character that a name cannot hold.
const replacement = "_"

// maxExtBytes bounds what is kept whole as an extension when a name is cut.
const maxExtBytes = 32

// reserved is what Reshelf's own files start with. Listings leave them out, so no object may get such a name.
const reserved = ".reshelf"

// Profile names a set of rules for names.
type Profile string

// Profiles.
const (
	// Portable names work on Linux, macOS, Windows and S3.
	Portable Profile = "portable"
	// POSIX names work on Linux and macOS.
	POSIX Profile = "posix"
	// Windows names work on Windows.
	Windows Profile = "windows"
	// S3 keys need no care in any program that speaks S3.
	S3 Profile = "s3"
)

// Profiles that there are, the default first.
func Profiles() []Profile { return []Profile{Portable, POSIX, Windows, S3} }

// rules of a profile, and whether there is such a one.
func (p Profile) rules() (profile, bool) {
	switch p {
	case "", Portable, Windows:
		return portable(), true
	case POSIX:
		return posix(), true
	case S3:
		return s3(), true
	}
	return profile{}, false
}

// profile is a set of rules for names, as a value.
type profile struct {
	// forbidden characters, besides control characters, slashes and invisible ones that deceive the eye.
	forbidden string
	// trailing characters that a segment cannot end with.
	trailing string
	// devices: the names of Windows' devices are reserved.
	devices bool
	// maxSegment and maxKey are in bytes. The key does not count the archive's own path or prefix.
	maxSegment, maxKey int
}

// portable names work on Linux, macOS, Windows and S3. The characters, endings and devices are those of "Naming Files,
// Paths, and Namespaces" in the documentation of Windows; 255 bytes are NAME_MAX of Linux file systems (NTFS and APFS
// count 255 UTF-16 units or characters, which is never less); 1,024 bytes are the longest key of S3.
func portable() profile {
	return profile{forbidden: `<>:"\|?*`, trailing: ". ", devices: true, maxSegment: 255, maxKey: 1024}
}

// posix names may hold everything that Linux and macOS can store, within the same lengths, apart from control characters and
// what deceives the eye.
func posix() profile { return profile{maxSegment: 255, maxKey: 1024} }

// s3 keys hold none of the characters of "Characters to avoid" in "Naming Amazon S3 objects" of S3's user guide. Names are no longer
// than elsewhere, so that an archive can be copied to a disk.
func s3() profile {
	return profile{forbidden: `\{}^%` + "`" + `[]"<>~#|`, maxSegment: 255, maxKey: 1024}
}

// What was made safe, as Result.Changed says it.
const (
	changeCharacters = "characters that not every system allows in names were replaced by _"
	changeDots       = "a name of dots alone was replaced by _"
	changeNormal     = "Unicode was composed (NFC)"
	changeTrailing   = "dots or spaces at the end of a name were removed"
	changeHidden     = "a dot at the start of a name was replaced by _"
	changeDevice     = "a name that Windows reserves for a device got a _"
	changeLength     = "a name was cut to 255 bytes"
)

// changes lists each kind of change once, in the order in which they first happened.
type changes []string

func (c *changes) add(what string) {
	if !slices.Contains(*c, what) {
		*c = append(*c, what)
	}
}

// note returns after, and adds what if it differs from before.
func (c *changes) note(before, after, what string) string {
	if before != after {
		c.add(what)
	}
	return after
}

// segment makes one segment safe. It is not empty before nor after; mayHide lets it start with a dot; last is the
// object's name, whose extension survives being cut. Safe segments do not change.
func (p profile) segment(s string, mayHide, last bool, c *changes) string {
	s = c.note(s, validUTF8(s), changeCharacters)
	s = c.note(s, norm.NFC.String(s), changeNormal)
	s = c.note(s, strings.Map(p.character, s), changeCharacters)
	s = c.note(s, strings.TrimRight(s, p.trailing), changeTrailing)
	s = c.note(s, p.cut(s, last), changeLength)
	if s == "" {
		return replacement
	}
	if isDots(s) {
		return c.note(s, strings.Repeat(replacement, len(s)), changeDots)
	}
	if seen := visible(s); strings.HasPrefix(seen, ".") && (!mayHide || strings.HasPrefix(fold(seen), reserved)) {
		s = c.note(s, strings.Replace(s, ".", replacement, 1), changeHidden)
	}
	// Cutting comes first, since it can leave a device's name, and again, since the "_" can make the name too long.
	s = c.note(s, p.device(s), changeDevice)
	return c.note(s, p.cut(s, last), changeLength)
}

// character replaces what no name may hold: characters that the profile forbids, controls, slashes (which came from a
// value), and characters that cannot be seen but change how the name reads.
func (p profile) character(r rune) rune {
	if r == '/' || strings.ContainsRune(p.forbidden, r) ||
		unicode.In(r, unicode.Cc, unicode.Zl, unicode.Zp, unicode.Bidi_Control, unicode.Noncharacter_Code_Point) ||
		r == '\ufeff' {
		return rune(replacement[0])
	}
	return r
}

// visible is s without the characters that take no room, which HFS+ ignores: to it "\u200d.a" is the hidden name ".a".
func visible(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.In(r, unicode.Cf, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point) {
			return -1
		}
		return r
	}, s)
}

// device puts a "_" behind the name of a Windows device, which stays one with any extension: "con.jpg".
func (p profile) device(s string) string {
	if !p.devices {
		return s
	}
	base, _, _ := strings.Cut(s, ".")
	base = strings.TrimRight(base, " ")
	if !isDevice(strings.ToUpper(base)) {
		return s
	}
	return base + replacement + s[len(base):]
}

func isDevice(upper string) bool {
	switch upper {
	case "CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$":
		return true
	}
	number, ok := strings.CutPrefix(upper, "COM")
	if !ok {
		number, ok = strings.CutPrefix(upper, "LPT")
	}
	return ok && utf8.RuneCountInString(number) == 1 && strings.Contains("0123456789¹²³", number)
}

// extension is what is kept when a name is cut, "" if it is too long to be an extension.
func extension(base string) string {
	ext := archive.Key(base).Ext()
	if len(ext) > maxExtBytes {
		return ""
	}
	return ext
}

// cut shortens s to the profile's length without cutting a rune, or the extension if s is the last segment. It can leave
// nothing of a folder's name, where that is dots and spaces up to the limit.
func (p profile) cut(s string, last bool) string {
	if len(s) <= p.maxSegment {
		return s
	}
	ext := ""
	if last {
		ext = extension(s)
	}
	stem := prefix(strings.TrimSuffix(s, ext), p.maxSegment-len(ext))
	return strings.TrimRight(stem+ext, p.trailing)
}

// Check reports an error that wraps ErrBadName if the key, or one of its segments, is longer than names may be. Name and
// Numbered keep to these lengths; use it for keys of companions, which are never cut.
func Check(key archive.Key) error {
	p := portable()
	if len(key) > p.maxKey {
		return fmt.Errorf("%w: the key has %d bytes, more than %d", ErrBadName, len(key), p.maxKey)
	}
	for s := range strings.SplitSeq(string(key), "/") {
		if len(s) > p.maxSegment {
			return fmt.Errorf("%w: %q has %d bytes, more than %d", ErrBadName, archive.EscapeText(s), len(s), p.maxSegment)
		}
	}
	return nil
}

// Check reports an error that wraps ErrBadName unless the key, which archive.ParseKey accepts, is one that the profile leaves as
// it is: the keys that Name gives are. It is for names that a person writes, so a segment may start with a dot, and nothing is
// made safe: the error says which name would be.
func (p Profile) Check(key archive.Key) error {
	rules, ok := p.rules()
	if !ok {
		return fmt.Errorf("%w: unknown profile %q", ErrOptions, string(p))
	}
	segments := strings.Split(string(key), "/")
	var safe []string
	var made changes
	for i, s := range segments {
		safe = append(safe, rules.segment(s, true, i == len(segments)-1, &made))
	}
	if !slices.Equal(safe, segments) {
		return fmt.Errorf("%w: %s; write %s, or plan the rename with another --profile", ErrBadName, made[0], archive.EscapeText(strings.Join(safe, "/")))
	}
	return Check(key)
}

// Numbered is key with "_n" before its extension: "a.jpg" and 2 give "a_2.jpg". For n below 2 it is key itself. The name
// is cut, never the number or the extension, where it would be too long. Different n give different keys.
func Numbered(key archive.Key, n int) archive.Key {
	if n < 2 {
		return key
	}
	p := portable()
	base := key.Base()
	folder := string(key[:len(key)-len(base)])
	ext := extension(base)
	tail := fmt.Sprintf("_%d%s", n, ext)
	room := min(p.maxSegment, max(p.maxKey, len(key))-len(folder)) - len(tail)
	return archive.Key(folder + prefix(strings.TrimSuffix(base, ext), max(room, 0)) + tail)
}
