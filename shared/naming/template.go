package naming

import (
	"time"

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
}

// Parse reads and checks a template. Every error is a [*SyntaxError].
func Parse(text string) (*Template, error) {
	nodes, err := parse(text)
	if err != nil {
		return nil, err
	}
	c := &checker{source: text, fields: fieldSpecs(), filters: filterSpecs()}
	parts, err := c.template(nodes)
	if err != nil {
		return nil, err
	}
	return &Template{source: text, parts: parts, needs: c.needs, profile: portable()}, nil
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
}

// Needs is what Name must be given for the template.
func (t *Template) Needs() Needs { return t.needs }

// UsesSeq reports whether objects must be put in order and numbered before they are named. It is Needs().Seq.
func (t *Template) UsesSeq() bool { return t.needs.Seq }

// Values are what is known about one object. Only Key is required; what is zero is not known.
type Values struct {
	// Key is the object's present key.
	Key archive.Key
	// Size is in bytes.
	Size int64
	// MTime is the modification time.
	MTime time.Time
	// Facts hold the capture time, the camera and the dimensions.
	Facts metadata.Facts
	// Tags are the object's tags.
	Tags metadata.Tags
	// Digests are the object's digests, in any order.
	Digests []digest.Digest
	// Seq is the object's number in the plan's order (capture time, then key), from 1.
	Seq int64
	// Location is the time zone of capture times without a UTC offset, and the zone in which MTime is shown. If it is
	// nil such capture times are used as they stand, %z has no value for them, and MTime is shown in UTC.
	Location *time.Location
}

// Result is an object's new name.
type Result struct {
	// Key passes archive.ParseKey and keeps the rules of the profile. It may equal the old key.
	Key archive.Key
	// DateSource is where the first date in the name came from: the tag, or "mtime"; "" if the name holds no date.
	DateSource string
	// Changed says what was made safe, in words for a person, each once; nil if nothing was.
	Changed []string
}
