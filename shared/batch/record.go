package batch

import (
	"cmp"
	"unicode/utf8"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/digest"
	"github.com/reshelf/reshelf/shared/metadata"
)

// Outcome is what became of an object.
type Outcome string

// Outcomes.
const (
	Done    Outcome = "done"
	Skipped Outcome = "skipped"
	Failed  Outcome = "failed"
)

// Reason is a stable code that says why an object was skipped or failed. Reasons are stored: only append.
type Reason string

// Reasons.
const (
	// listing
	ReasonSymlink    Reason = "symlink"
	ReasonSpecial    Reason = "special-file"
	ReasonUnreadable Reason = "unreadable"
	ReasonMissing    Reason = "missing"
	ReasonCold       Reason = "cold-storage" // it has to be restored before it can be read
	// ReasonUnaddressable: the store has an object whose key no object may have ("a//b").
	ReasonUnaddressable Reason = "unaddressable"
	// inspecting
	ReasonChanged  Reason = "changed"           // while being read, or since it was listed
	ReasonTimeout  Reason = "timeout"           // ExifTool or the disk did not answer in time
	ReasonCrashed  Reason = "crashed"           // ExifTool died of it
	ReasonTooLarge Reason = "too-large"         // ExifTool's answer is above the bound
	ReasonFormat   Reason = "format"            // ExifTool says that the file is broken
	ReasonKilled   Reason = "killed"            // workers died of it, alone, as often as allowed
	ReasonMismatch Reason = "checksum-mismatch" // the store keeps another digest of it than its content has
	// planning
	ReasonUnchanged  Reason = "unchanged"       // it has that name already
	ReasonNoValue    Reason = "no-value"        // the template asks for what the object does not have
	ReasonBadName    Reason = "bad-name"        // the template gives no usable name
	ReasonSameTarget Reason = "same-target"     // another object of the batch wants the same name
	ReasonExists     Reason = "target-exists"   // the name is taken
	ReasonDuplicate  Reason = "duplicate"       // another object with the same content has the name or gets it
	ReasonPrefix     Reason = "target-prefix"   // a parent folder of the name is an object, or the name is a folder
	ReasonNotDone    Reason = "not-inspected"   // it could not be inspected, so it is not renamed
	ReasonGroup      Reason = "group"           // a companion cannot move, so none of them does
	ReasonLibrary    Reason = "managed-library" // inside a Lightroom or Apple Photos library
	// renaming
	ReasonConflict    Reason = "conflict"    // the name was taken between plan and rename; nothing was touched
	ReasonUnsupported Reason = "unsupported" // the store cannot do it safely
	ReasonCancelled   Reason = "cancelled"   // the batch was cancelled first
	ReasonNoSpace     Reason = "no-space"
	ReasonIO          Reason = "io"
	// undoing
	ReasonNotInBatch Reason = "not-in-batch" // the undone batch was to give no object the key that was chosen
	// editing
	ReasonLeftOut Reason = "left-out" // whoever edited the plan left the row out
)

// Record is what became of one object in one step. A finished batch has exactly one final record for each listed object:
// inspecting's joined with renaming's.
type Record struct {
	archive.Object
	Outcome Outcome `json:"outcome"`
	Reason  Reason  `json:"reason,omitempty"`
	// Message is for a person: what happened and what to do next; escaped text.
	Message string          `json:"message,omitempty"`
	Digests []digest.Digest `json:"digests,omitempty"`
	// FromStore are the algorithms of those Digests that the store vouches for and nobody computed.
	FromStore []digest.Algorithm `json:"fromStore,omitempty"`
	Tags      metadata.Tags      `json:"tags,omitempty"`
	Facts     *metadata.Facts    `json:"facts,omitempty"`
	// ExifTool is the version that read the tags, "13.59".
	ExifTool string `json:"exiftool,omitempty"`
	// Warnings are ExifTool's words about this object; escaped text.
	Warnings []string `json:"warnings,omitempty"`
	// Sidecars are the XMP sidecars among the listed objects that describe this one, the whole name ("a.jpg.xmp") before the
	// stem; only in final records. What they say is in their own records.
	Sidecars []archive.Key `json:"sidecars,omitempty"`
	// To is the key that the object has now, where the batch renamed it.
	To archive.Key `json:"to,omitempty"`
	// Copy is the key of the copy or hard link that the batch made of the object, which stays at its own.
	Copy archive.Key `json:"copy,omitempty"`
	// Epoch of the execution that wrote the record.
	Epoch int64 `json:"epoch,omitempty"`
}

// mimeXMP is ExifTool's MIME type of a file that is XMP and nothing else.
const mimeXMP = "application/rdf+xml"

// Mute says why r, the record of what should be an XMP sidecar, says nothing about another object; "" if it may say
// something. Escaped text.
func (r Record) Mute() string {
	switch {
	case r.Outcome != Done:
		return cmp.Or(r.Message, string(r.Reason))
	case r.Facts == nil || r.Facts.MIME == "":
		return "nothing could be read in it"
	case r.Facts.MIME != mimeXMP:
		return "it is not XMP but " + archive.EscapeText(r.Facts.MIME)
	case len(r.Warnings) > 0 && !r.Tags.HasXMP():
		return "ExifTool says " + cut(r.Warnings[0])
	}
	return ""
}

// maxQuoted bounds what a message quotes of a warning, which can hold as much of a hostile object as it likes; in bytes.
const maxQuoted = 200

// cut is at most the first maxQuoted bytes of s, without cutting a rune.
func cut(s string) string {
	if len(s) <= maxQuoted {
		return s
	}
	n := maxQuoted
	for !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}

// Counts add up records. They are settled once for each segment.
type Counts struct {
	Done    int64 `json:"done"`
	Skipped int64 `json:"skipped"`
	Failed  int64 `json:"failed"`
	Bytes   int64 `json:"bytes"` // of the objects done
}

// Add counts one record.
func (c *Counts) Add(r Record) {
	switch r.Outcome {
	case Done:
		c.Done++
		c.Bytes += r.Size
	case Skipped:
		c.Skipped++
	default:
		c.Failed++
	}
}

// Plus is the sum of both.
func (c Counts) Plus(o Counts) Counts {
	return Counts{c.Done + o.Done, c.Skipped + o.Skipped, c.Failed + o.Failed, c.Bytes + o.Bytes}
}

// Objects is the number of records counted.
func (c Counts) Objects() int64 { return c.Done + c.Skipped + c.Failed }
