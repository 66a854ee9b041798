package naming

import (
	"slices"
	"time"
	"unicode/utf8"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/digest"
	"github.com/reshelf/reshelf/shared/metadata"
)

// MaxTemplateBytes bounds a template.
const MaxTemplateBytes = 4096

// Template is a checked template. It is made by Parse, never changes, and is safe for concurrent use.
type Template struct {
	source  string
	parts   []part
	needs   Needs
	profile profile
	clock   clock
	// tags, lists and columns are the names of those that it reads.
	tags, lists, columns []string
	counters             []counter
}

// Parse is ParseWith of no options.
func Parse(text string) (*Template, error) { return ParseWith(text, Options{}) }

// ParseWith reads and checks a template and what it is used with. An error is a [*SyntaxError], or wraps ErrOptions.
func ParseWith(text string, with Options) (*Template, error) {
	return parseWith(text, with, &checker{source: text})
}

// ParseUncounted is ParseWith of a template that may not count, since not all objects get their names by it: a counter is a
// [*SyntaxError].
func ParseUncounted(text string, with Options) (*Template, error) {
	return parseWith(text, with, &checker{source: text, uncounted: true})
}

func parseWith(text string, with Options, c *checker) (*Template, error) {
	if err := with.Validate(); err != nil {
		return nil, err
	}
	nodes, err := parse(text)
	if err != nil {
		return nil, err
	}
	c.filters, c.fields = filterSpecs(with.Maps), fieldSpecs(c)
	parts, err := c.template(nodes)
	if err != nil {
		return nil, err
	}
	t := &Template{source: text, parts: parts, needs: c.needs, tags: c.tags, lists: c.lists, columns: c.columns, counters: c.counters}
	t.profile, _ = with.Profile.rules() // valid, as are the others
	t.clock.location, _ = parseZone(with.TimeZone)
	t.clock.shifts = with.Shifts
	return t, nil
}

// String is the text that the template was parsed from.
func (t *Template) String() string { return t.source }

// Needs says what must be known about objects before they can be named. A field that only a fallback uses counts.
type Needs struct {
	// Tags: ExifTool must read the objects, for tags or the facts derived from them.
	Tags bool
	// Digests must be computed.
	Digests digest.Set
	// Seq: the objects must be numbered.
	Seq bool
	// Date: names depend on the capture time. Implies Tags.
	Date bool
	// Original: the first names of the objects must be known.
	Original bool
}

// Needs is what Name must be given for the template.
func (t *Template) Needs() Needs { return t.needs }

// Pick is the part of an object's tags, or of its sidecar's, that Name reads: Name gives the same with these alone. It is
// small even where the tags are not: two texts for each tag that the template names, each about as long as a name can be.
func (t *Template) Pick(tags metadata.Tags) metadata.Tags {
	return tags.Pick(t.tags, t.lists, maxTextBytes+utf8.UTFMax) // so much that what is cut off is still noticed
}

// Columns are the columns of the manifest that names are made of, each once.
func (t *Template) Columns() []string { return slices.Clone(t.columns) }

// UsesSeq reports whether objects must be put in order and numbered before they are named. It is Needs().Seq.
func (t *Template) UsesSeq() bool { return t.needs.Seq }

// Values are what is known about one object. Only Key is required; what is zero is not known.
type Values struct {
	// Key is the object's present key.
	Key archive.Key
	// Original is the first name, without folders, that the object is known to have had; "" if that is the present one.
	Original string
	// Size is in bytes.
	Size int64
	// MTime is the modification time.
	MTime time.Time
	// Facts hold the capture time, the camera and the dimensions.
	Facts metadata.Facts
	// Tags are the object's tags.
	Tags metadata.Tags
	// Sidecar is what the object's XMP sidecar says, nil if it has none.
	Sidecar *Sidecar
	// Digests are the object's digests, in any order.
	Digests []digest.Digest
	// Seq is the object's number in the plan's order (capture time, then key), from 1.
	Seq int64
	// Counters are the object's numbers in the scopes of Template.Counters, from 1, in their order.
	Counters []int64
	// Batch is the id of the batch.
	Batch string
	// Columns are what the manifest says of the object.
	Columns map[string]string
	// Location goes before the time zone of Options, if it is not nil.
	Location *time.Location
}

// Sidecar is what an XMP sidecar says of the object that it lies beside.
type Sidecar struct {
	Facts metadata.Facts
	Tags  metadata.Tags
}

// Result is an object's new name.
type Result struct {
	// Key passes archive.ParseKey and keeps the rules of the profile. It may equal the old key.
	Key archive.Key
	// DateSource is where the first date in the name came from: the tag, after metadata.SidecarSource if it is the sidecar's,
	// and before the shift of the camera's clock ("ExifIFD:DateTimeOriginal +1h0m0s"); or "mtime"; "" if the name holds no date.
	DateSource string
	// Sidecar: without the sidecar the object would have another name or none, or DateSource would be another.
	Sidecar bool
	// Changed says what was made safe, in words for a person, each once; nil if nothing was.
	Changed []string
}
