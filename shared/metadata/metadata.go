// Package metadata holds the tags of an object and derives from them what names and catalogues need: capture time,
// camera, place, size.
package metadata

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"unicode/utf8"
)

// ErrJSON is wrapped by every error about what should be ExifTool's JSON.
var ErrJSON = errors.New("invalid ExifTool JSON")

// Tags are an object's tags as ExifTool wrote them: the name with its family-1 group ("IFD0:Make") to the value. A value
// is a JSON string holding ExifTool's exact text, or a JSON array or object of such (structures). Numbers and booleans
// are never bare, so "1.10" stays "1.10".
//
// Tags are read by any number of goroutines at a time, as maps are. What they hold is hostile: it comes out of files.
type Tags map[string]json.RawMessage

// Text is the text of a tag, exactly as ExifTool wrote it, and whether there is one. Names are compared without regard
// to case, as ExifTool does. A name is either with its family-1 group, "ExifIFD:DateTimeOriginal", or bare. The group may
// also be EXIF, XMP or MakerNotes of ExifTool's family 0, which stands for all groups of it in the order below.
//
// A bare name is looked for in the groups in this order, and the first text that is not blank is taken (a blank one if
// there is no other):
//
//  1. the main image's Exif: IFD0, ExifIFD, GPS, then SubIFD and InteropIFD
//  2. QuickTime, then every other group of a file format (Keys, PNG, RIFF, Track1, …) in alphabetical order
//  3. XMP, in alphabetical order of its namespaces
//  4. IPTC
//  5. the maker notes (Canon, Nikon, …), in alphabetical order
//  6. Composite, which ExifTool computes from the others
//  7. other images within the file: IFD1 and up, PreviewIFD, MPImage
//  8. File, ExifTool and System
//
// Names that begin with GPS are looked for in Composite first: only there do coordinates carry their hemisphere.
//
// Lists and structures have no text; see List.
func (t Tags) Text(name string) (string, bool) {
	return firstText(t, t.find(name))
}

// List is the elements of a list of texts, such as keywords, and whether there is one. A single text is a list of one,
// since ExifTool writes a list of one as its element. Names are found as Text finds them. The slice is new.
func (t Tags) List(name string) ([]string, bool) {
	for _, key := range t.find(name) {
		if text, ok := TextOf(t[key]); ok {
			return []string{text}, true
		}
		var list []string
		if json.Unmarshal(t[key], &list) == nil && list != nil {
			return list, true
		}
	}
	return nil, false
}

// WithoutAlias is a copy without what ExifTool says of the path that it was given, which is an alias and not the
// object's: SourceFile, and all of the group System but FileSize. These are FileName, Directory, FilePermissions,
// FileModifyDate, FileAccessDate and FileInodeChangeDate; on some platforms FileCreateDate and FileAttributes; and
// where SystemTags are asked for, FileDeviceNumber, FileInodeNumber, FileHardLinks, FileUserID, FileGroupID,
// FileBlockSize and FileBlockCount.
func WithoutAlias(tags Tags) Tags {
	out := make(Tags, len(tags))
	for key, value := range tags {
		group, name := splitKey(key)
		aliased := key == "SourceFile" || strings.EqualFold(group, "System") && !strings.EqualFold(name, "FileSize")
		if !aliased {
			out[key] = value
		}
	}
	return out
}

// find returns the keys that name stands for, in the order in which Text prefers them.
func (t Tags) find(name string) []string {
	group, bare, grouped := strings.Cut(name, ":")
	family := familyOf(group)
	if _, ok := t[name]; ok && family == nil {
		return []string{name}
	}
	if !grouped {
		group, bare = "", name
	}
	var keys []string
	for key := range t {
		g, n := splitKey(key)
		switch {
		case !strings.EqualFold(n, bare):
		case !grouped, strings.EqualFold(g, group), family != nil && family(rank(key)):
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, comparePreference)
	return keys
}

// firstText is the first text of keys that is not blank, else the first.
func firstText(t Tags, keys []string) (string, bool) {
	_, text, ok := firstKey(t, keys)
	return text, ok
}

// firstKey is firstText with its key.
func firstKey(t Tags, keys []string) (first, blank string, found bool) {
	for _, key := range keys {
		text, ok := TextOf(t[key])
		if ok && strings.TrimSpace(text) != "" {
			return key, text, true
		}
		if ok && !found {
			first, blank, found = key, text, true
		}
	}
	return first, blank, found
}

// TextOf decodes a value that is a JSON string, and reports false for any other.
func TextOf(value json.RawMessage) (string, bool) {
	if len(value) == 0 || value[0] != '"' {
		return "", false
	}
	if end := len(value) - 1; end > 0 && value[end] == '"' && isLiteral(value[1:end]) {
		return string(value[1:end]), true
	}
	var text string
	if json.Unmarshal(value, &text) != nil {
		return "", false
	}
	return text, true
}

// isLiteral reports whether s, between quotes, is a JSON string that stands for s. It may miss some.
func isLiteral(s []byte) bool {
	for _, c := range s {
		if c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// splitKey splits "IFD0:Make" into group and name; the group is "" if there is none.
func splitKey(key string) (group, name string) {
	group, name, ok := strings.Cut(key, ":")
	if !ok {
		return "", key
	}
	return group, name
}
