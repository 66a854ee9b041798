package metadata

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// MarshalJSON writes what encoding/json writes of a map, with much less work for each tag.
func (t Tags) MarshalJSON() ([]byte, error) {
	if t == nil {
		return []byte("null"), nil
	}
	size := 2
	for name, value := range t {
		size += len(name) + len(value) + 4
	}
	out := append(make([]byte, 0, size), '{')
	names := slices.AppendSeq(make([]string, 0, len(t)), maps.Keys(t))
	slices.Sort(names)
	for i, name := range names {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(appendName(out, name), ':')
		if value := t[name]; value != nil {
			out = append(out, value...)
		} else {
			out = append(out, "null"...)
		}
	}
	return append(out, '}'), nil
}

// appendName appends a name as a JSON string. The caller of MarshalJSON escapes what is special in HTML, if it has to be.
func appendName(out []byte, name string) []byte {
	if isLiteral([]byte(name)) {
		return append(append(append(out, '"'), name...), '"')
	}
	var text strings.Builder
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(name) // of a string into memory
	return append(out, strings.TrimSuffix(text.String(), "\n")...)
}

// UnmarshalJSON reads an object as DecodeObject does, of whose kind every stored one is.
func (t *Tags) UnmarshalJSON(raw []byte) error {
	if string(raw) == "null" {
		return nil
	}
	tags, err := decodeTags(raw)
	if err == nil {
		*t = tags
	}
	return err
}
