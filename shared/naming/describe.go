package naming

import "strings"

// describedFields are what people write about objects. The sidecar goes first, then XMP, whose texts have no limits of length
// or of characters, then IPTC, then whatever the format has.
func describedFields() []fieldSpec {
	return []fieldSpec{
		described("artist", "artist", ", ", "XMP-dc:Creator", "IPTC:By-line", "IFD0:Artist", "Artist", "Author"),
		described("title", "title", ", ", "XMP-dc:Title", "IPTC:ObjectName", "Title"),
		described("keywords", "keywords", ",", "XMP-dc:Subject", "IPTC:Keywords", "Keywords"),
		described("rating", "rating", ", ", "XMP-xmp:Rating", "IFD0:Rating", "Rating"),
	}
}

// described is a field of tags that can be lists. Its format is what stands between the elements.
func described(name, what, between string, names ...string) fieldSpec {
	missing := "the object has no " + what
	build := func(format string, given bool) (lookup, *problem) {
		between := between
		if given {
			between = format
		}
		return func(v *Values) (text, string) {
			if v.Sidecar != nil {
				return tagText(strings.Join(v.Tags.ListWithSidecar(v.Sidecar.Tags, names), between), missing)
			}
			return tagText(strings.Join(v.Tags.ListWithSidecar(nil, names), between), missing)
		}, nil
	}
	return fieldSpec{name: name, needs: Needs{Tags: true}, lists: names, build: build}
}
