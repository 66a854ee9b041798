package naming

// DateConversions are all conversions of date formats.
const DateConversions = dateConversions

// FieldNames are the names of all fields that are not digests or tags.
func FieldNames() (names []string) {
	for _, s := range fieldSpecs(&checker{}) {
		names = append(names, s.name)
	}
	return names
}

// FilterNames are the names of all filters.
func FilterNames() (names []string) {
	for _, s := range filterSpecs(nil) {
		names = append(names, s.name)
	}
	return names
}

// SafeSegment applies the portable rules to one segment.
func SafeSegment(s string, mayHide, last bool) (string, []string) {
	return SafeSegmentOf(Portable, s, mayHide, last)
}

// SafeSegmentOf applies the rules of a profile to one segment.
func SafeSegmentOf(p Profile, s string, mayHide, last bool) (string, []string) {
	var c changes
	rules, _ := p.rules()
	return rules.segment(s, mayHide, last, &c), c
}
