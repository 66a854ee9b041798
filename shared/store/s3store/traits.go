package s3store

import "time"

// Trait is one line of what a server was seen to do.
type Trait struct {
	Name   string
	OK     bool
	Detail string
	Remedy string // what to switch on, where OK is false
}

// Traits are the capabilities for a person, the important ones first.
func (c Capabilities) Traits() []Trait {
	remedy := c.remedy()
	return []Trait{
		{"renames", c.guarded(), c.renamesText(), remedy},
		{"conditional upload", c.ConditionalPut, yes(c.ConditionalPut, "If-None-Match is kept: a ledger is safe here",
			"If-None-Match is ignored: two writers can overwrite each other"), "keep the ledger elsewhere"},
		{"conditional copy", c.ConditionalCopy || c.ConditionalComplete, c.copyText(), remedy},
		{"guarded source", c.GuardsSource, yes(c.GuardsSource, "a copy is refused if its source has changed",
			"a source that changes while it is copied is noticed only afterwards"), "nothing to do: every copy is verified"},
		{"conditional delete", c.ConditionalDelete || c.Versioned, yes(c.ConditionalDelete, "If-Match is kept: a source that has changed is not deleted",
			"If-Match is ignored"), "switch on versioning for the bucket"},
		{"versions", true, yes(c.Versioned, "kept: what is renamed leaves its old version, and the bucket grows by it; an undo brings that version back",
			"not kept: an undo copies back, with a new date"), ""},
		{"deleted names", !c.MarkersBlock, yes(!c.MarkersBlock, "are free again", "count as taken until their delete marker is removed"),
			"rename onto names that were never used, or remove the markers; no object can get the name that another one leaves"},
		{"object lock", true, yes(c.Locked, "on: what is renamed stays as a version until its retention ends", "off"), ""},
		{"names", !c.FoldsCase, yes(!c.FoldsCase, "upper and lower case, and the forms of Unicode, are told apart",
			"upper and lower case, or the forms of Unicode, are one name"), "nothing to do: Reshelf lets no two names differ only by that"},
		{"folders", c.Nested != "hidden", c.nestedText(), "keep no object whose name is the folder of another"},
		{"tags", c.Tags, yes(c.Tags, "are copied", "are not known to this server"), "nothing to do"},
		{"checksums", true, yes(c.Checksums, "can be asked for (--trust-store-checksums)", "are not kept"), ""},
		{"found out", true, "on " + c.Probed.Format(time.DateTime) + " UTC, by trying it on objects that were removed again", ""},
	}
}

func yes(is bool, good, bad string) string {
	if is {
		return good
	}
	return bad
}

func (c Capabilities) renamesText() string {
	if c.guarded() {
		return "safe whoever else writes, by " + c.method()
	}
	return "refused: " + c.why()
}

func (c Capabilities) copyText() string {
	switch {
	case c.ConditionalCopy:
		return "If-None-Match is kept by CopyObject"
	case c.ConditionalComplete:
		return "If-None-Match is kept when an upload is completed, and ignored by CopyObject, which is not used"
	}
	return "If-None-Match is ignored: a copy can overwrite"
}

func (c Capabilities) nestedText() string {
	switch c.Nested {
	case "both":
		return "an object may have the name of a folder"
	case "hidden":
		return "an object below the name of another is stored, but not listed"
	}
	return "an object cannot have the name of a folder"
}
