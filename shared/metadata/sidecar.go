package metadata

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"
	"unicode/utf8"
)

// SidecarSource stands before the Source of a capture time that WithSidecar took from a sidecar.
const SidecarSource = "sidecar:"

// WithSidecar is what names are made of where f are an object's own facts and s those of its XMP sidecar:
//
//   - Capture: the sidecar's, if it says when the object was taken (the first links of chain) and says more than the object:
//     not the same clock with less of seconds or offset, and not the same day without a time of day. If the object has no
//     date of its own, the sidecar's whatever it says. A date is always one source's, with its sub-seconds and its offset.
//   - Make, Model, Lens, Serial: the object's; the sidecar's fill in what it lacks, if it names no camera or the same model.
//   - all others: the object's.
//
// docs/decisions/sidecars.md has the reasons.
func (f Facts) WithSidecar(s Facts) Facts {
	own, said := f.Capture, s.Capture
	if said.Wall != "" && (own.Wall == "" || isTaken(said.Source) && !own.covers(said)) {
		f.Capture = said
		f.Capture.Source = SidecarSource + said.Source
	}
	if f.Make == "" && f.Model == "" || f.Model == s.Model {
		f.Make, f.Model = cmp.Or(f.Make, s.Make), cmp.Or(f.Model, s.Model)
		f.Lens, f.Serial = cmp.Or(f.Lens, s.Lens), cmp.Or(f.Serial, s.Serial)
	}
	return f
}

// covers reports whether t tells everything that o tells. A time of day of 00:00:00 counts as none, since sidecars often
// hold the date alone.
func (t Time) covers(o Time) bool {
	if o.Offset != "" && o.Offset != t.Offset {
		return false
	}
	wall := o.Wall
	if strings.Contains(wall, ".") {
		wall = strings.TrimRight(strings.TrimRight(wall, "0"), ".")
	}
	return strings.HasPrefix(t.Wall, strings.TrimSuffix(wall, "T00:00:00"))
}

// isTaken reports whether a date from that tag says when an object was taken.
func isTaken(source string) bool {
	_, bare := splitKey(source)
	return slices.ContainsFunc(taken(), func(l link) bool { return l.tag == source || l.tag == bare })
}

// HasXMP reports whether any tag is XMP.
func (t Tags) HasXMP() bool {
	for key := range t {
		if rank(key) == rankXMP {
			return true
		}
	}
	return false
}

// TextWithSidecar is [Tags.Text] of an object with an XMP sidecar. A bare name is also looked for in the sidecar's XMP,
// which comes right before the object's own; a name with its group is that of the object's own tag.
func (t Tags) TextWithSidecar(sidecar Tags, name string) (string, bool) {
	key, said, ok := t.locate(sidecar, name)
	if said {
		t = sidecar
	}
	if !ok {
		return "", false
	}
	return TextOf(t[key])
}

// locate is the key of the tag whose text TextWithSidecar returns, and whether it is the sidecar's.
func (t Tags) locate(sidecar Tags, name string) (key string, said, ok bool) {
	own := t.find(name)
	before := len(own)
	var others []string
	if !strings.Contains(name, ":") {
		if i := slices.IndexFunc(own, func(key string) bool { return rank(key) >= rankXMP }); i >= 0 {
			before = i
		}
		others = slices.DeleteFunc(sidecar.find(name), func(key string) bool { return rank(key) != rankXMP })
	}
	for _, part := range []struct {
		tags Tags
		keys []string
		said bool
	}{{t, own[:before], false}, {sidecar, others, true}, {t, own[before:], false}} {
		k, text, isText := firstKey(part.tags, part.keys)
		if isText && strings.TrimSpace(text) != "" {
			return k, part.said, true
		}
		if isText && !ok {
			key, said, ok = k, part.said, true
		}
	}
	return key, said, ok
}

// ListWithSidecar is the elements of the first of the names under which the sidecar has a text or a list of texts that are
// not all blank, or else the object: what people write about an object they write into its sidecar. The elements are
// without blanks at their ends, and none is blank; nil if there are none.
func (t Tags) ListWithSidecar(sidecar Tags, names []string) []string {
	for _, tags := range []Tags{sidecar, t} {
		for _, name := range names {
			if _, list := tags.list(name); len(list) > 0 {
				return list
			}
		}
	}
	return nil
}

// list is List at the first key that has elements which are not blank, with that key; of these elements only.
func (t Tags) list(name string) (key string, list []string) {
	for _, key := range t.find(name) {
		var all []string
		if text, ok := TextOf(t[key]); ok {
			all = []string{text}
		} else if json.Unmarshal(t[key], &all) != nil {
			continue
		}
		for _, s := range all {
			if s = strings.TrimSpace(s); s != "" {
				list = append(list, s)
			}
		}
		if list != nil {
			return key, list
		}
	}
	return "", nil
}

// Pick is the part of t that Text, TextWithSidecar and DateWithSidecar return under any of texts, and ListWithSidecar under
// any of lists, t being the object's tags or the sidecar's: at most two texts for each name, and one list, each text without
// blanks at its ends and cut to limit bytes, and a list to limit bytes in all.
func (t Tags) Pick(texts, lists []string, limit int) Tags {
	picked := Tags{}
	for _, name := range lists {
		key, list := t.list(name)
		left := limit
		for i, s := range list {
			list[i] = firstBytes(s, left)
			if left -= len(s); left <= 0 {
				list = list[:i+1]
				break
			}
		}
		if raw, err := json.Marshal(list); err == nil && list != nil { // strings always have a JSON form
			picked[key] = raw
		}
	}
	for _, name := range texts {
		keys := t.find(name)
		t.pick(picked, keys, limit)
		t.pick(picked, slices.DeleteFunc(keys, func(key string) bool { return rank(key) != rankXMP }), limit)
	}
	return picked
}

// pick puts the first text of keys that is not blank into picked.
func (t Tags) pick(picked Tags, keys []string, limit int) {
	for _, key := range keys {
		text, _ := TextOf(t[key])
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		if raw, err := json.Marshal(firstBytes(text, limit)); err == nil { // a string always has a JSON form
			picked[key] = raw
		}
		return
	}
}

// firstBytes is at most the first n bytes of s, without cutting a rune.
func firstBytes(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
