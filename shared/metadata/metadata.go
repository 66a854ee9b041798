// Package metadata holds the tags of an object and derives from them what names and catalogues need: capture time,
// camera, place, size.
package metadata

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
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

// DecodeObject reads one object of the array that `exiftool -j -G1 -struct` prints, and returns its SourceFile apart
// from its tags. Bare numbers and booleans are quoted first, as QuoteScalars does; bytes that are not UTF-8 become
// U+FFFD. Errors wrap ErrJSON.
func DecodeObject(raw []byte) (source string, tags Tags, err error) {
	if !utf8.Valid(raw) {
		raw = bytes.ToValidUTF8(raw, []byte("\uFFFD"))
	}
	quoted, err := QuoteScalars(raw)
	if err != nil {
		return "", nil, err
	}
	if err := json.Unmarshal(quoted, &tags); err != nil {
		return "", nil, fmt.Errorf("%w: %w", ErrJSON, err)
	}
	if tags == nil {
		return "", nil, fmt.Errorf("%w: null where an object should be", ErrJSON)
	}
	source, _ = asText(tags["SourceFile"])
	delete(tags, "SourceFile")
	return source, tags, nil
}

// Text is the text of a tag, exactly as ExifTool wrote it, and whether there is one. Names are compared without regard
// to case, as ExifTool does. A name is either with its family-1 group, "ExifIFD:DateTimeOriginal", or bare.
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
		if text, ok := asText(t[key]); ok {
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
	if _, ok := t[name]; ok {
		return []string{name}
	}
	grouped := strings.Contains(name, ":")
	var keys []string
	for key := range t {
		candidate := key
		if !grouped {
			_, candidate = splitKey(key)
		}
		if strings.EqualFold(candidate, name) {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, comparePreference)
	return keys
}

// firstText is the first text of keys that is not blank, else the first.
func firstText(t Tags, keys []string) (string, bool) {
	blank, found := "", false
	for _, key := range keys {
		text, ok := asText(t[key])
		if ok && strings.TrimSpace(text) != "" {
			return text, true
		}
		if ok && !found {
			blank, found = text, true
		}
	}
	return blank, found
}

// asText decodes a value that is a JSON string.
func asText(value json.RawMessage) (string, bool) {
	if len(value) == 0 || value[0] != '"' {
		return "", false
	}
	var text string
	if json.Unmarshal(value, &text) != nil {
		return "", false
	}
	return text, true
}

// splitKey splits "IFD0:Make" into group and name; the group is "" if there is none.
func splitKey(key string) (group, name string) {
	group, name, ok := strings.Cut(key, ":")
	if !ok {
		return "", key
	}
	return group, name
}
