package listing

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"unicode/utf8"

	"github.com/reshelf/reshelf/shared/archive"
)

// Named is an object that a manifest names.
type Named struct {
	Key archive.Key
	// Columns are what the manifest says of it in the columns that were asked for, by their names; those without a text are left
	// out. It is valid UTF-8, and as hostile as the manifest.
	Columns map[string]string
}

// maxColumns bounds what is kept of a row besides its key, in bytes: what names are made of, of which a name holds 255.
const maxColumns = 16 << 10

// columnTexts gathers the columns of a row.
type columnTexts struct {
	texts map[string]string
	bytes int
}

func (c *columnTexts) add(name, text string) error {
	if text == "" {
		return nil
	}
	if !utf8.ValidString(text) {
		return fmt.Errorf("its column %q is not UTF-8; save the manifest as UTF-8", name)
	}
	if c.bytes += len(name) + len(text); c.bytes > maxColumns {
		return fmt.Errorf("its columns up to %q hold %d bytes; at most %d", name, c.bytes, maxColumns)
	}
	if c.texts == nil {
		c.texts = map[string]string{}
	}
	c.texts[name] = text
	return nil
}

// jsonRow reads a row in JSON: its key, and in columns the members that are texts, numbers, true or false. Names are told apart by
// case, as those of columns in CSV are, and none that counts may stand there twice: package json alone would take the last of "key"
// and "Key" for the key.
func jsonRow(line []byte, columns []string) (Named, error) {
	members, err := membersOf(line, columns)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF // of the row, not of the manifest
	}
	if err != nil {
		return Named{}, err
	}
	var text *string
	if raw := members["key"]; raw != nil {
		err = json.Unmarshal(raw, &text)
	}
	if err == nil && text == nil {
		err = errors.New(`it has no "key"`)
	}
	if err != nil {
		return Named{}, err
	}
	key, err := archive.ParseKeyText(*text)
	if err != nil {
		return Named{}, err
	}
	var c columnTexts
	for _, name := range columns {
		text, err := memberText(members[name])
		if err != nil {
			return Named{}, fmt.Errorf("member %q: %w", name, err)
		}
		if err := c.add(name, text); err != nil {
			return Named{}, err
		}
	}
	return Named{Key: key, Columns: c.texts}, nil
}

// membersOf are the members of a JSON object that have the name "key" or one of those given.
func membersOf(line []byte, names []string) (map[string]json.RawMessage, error) {
	d := json.NewDecoder(bytes.NewReader(line))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, cmp.Or(err, errors.New("it is no JSON object"))
	}
	out := map[string]json.RawMessage{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, err
		}
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return nil, err
		}
		name, _ := t.(string) // of a member it is one
		if name != "key" && !slices.Contains(names, name) {
			continue
		}
		if out[name] != nil {
			return nil, fmt.Errorf("more than one member is named %q", name)
		}
		out[name] = raw
	}
	if _, err := d.Token(); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, cmp.Or(err, errors.New("it is more than a JSON object"))
	}
	return out, nil
}

// memberText is "" for a member that is null or absent.
func memberText(raw json.RawMessage) (text string, err error) {
	switch {
	case len(raw) == 0 || string(raw) == "null":
		return "", nil
	case raw[0] == '"':
		err = json.Unmarshal(raw, &text)
		return text, err
	case raw[0] == '{' || raw[0] == '[':
		return "", errors.New("it holds others; want a text, a number, true or false")
	}
	return string(raw), nil
}
