package batch

import (
	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/digest"
	"github.com/reshelf/reshelf/shared/naming"
)

// Row is one line of a plan: from, to, or why not.
type Row struct {
	// N is the row's number in the plan, from 0: in ascending order of From, but for groups, which are in the place of their
	// principal, and chains. An undo's are in the reverse order.
	N    int64       `json:"n"`
	From archive.Key `json:"from"`
	To   archive.Key `json:"to,omitempty"`
	// Want is the identity that the object must have when it is moved.
	Want archive.Identity `json:"want"`
	// Digest is that of the object's content where it was computed and the batch copies; zero otherwise.
	Digest digest.Digest `json:"digest,omitzero"`
	// Outcome is "" where the row is to be renamed, else Skipped or Failed with a Reason and a Message. A row that is to be
	// renamed has a Message where there is something to know about its name.
	Outcome Outcome `json:"outcome,omitempty"`
	Reason  Reason  `json:"reason,omitempty"`
	Message string  `json:"message,omitempty"`
	// Group is the From of the group's principal where objects move together; rows of a group are in one segment.
	Group archive.Key `json:"group,omitempty"`
	// Chain is the number, from 1, of objects that wait for one another to leave the names that they get, and 0 for all others.
	// Rows of a chain are in one segment, one after the other, each after those that it waits for, except within a circle (see Bonds).
	Chain int64 `json:"chain,omitempty"`
	// Park is the name that an object has in between. Objects of a chain have one where renames take two steps: all of the chain leave their
	// names before any gets its new one. Objects in no chain have one where the store folds names, and SameFolded is true of one of the group.
	// It is "" where that is not needed.
	Park archive.Key `json:"park,omitempty"`
	// DateSource is the tag that a date in the name came from.
	DateSource string `json:"dateSource,omitempty"`
	// Sidecar is the XMP sidecar, of this object or of the group's principal, without which the name, or DateSource, would be
	// another one.
	Sidecar archive.Key `json:"sidecar,omitempty"`
	// Changed says what was made safe in the name, in words for a person (naming.Result).
	Changed []string `json:"changed,omitempty"`
	// Numbered: the name was numbered to resolve a conflict.
	Numbered bool `json:"numbered,omitempty"`
	// Second: the name is by the batch's template for names that are taken.
	Second bool `json:"second,omitempty"`
	// OpID is unique to this row of this plan: hash(batch, plan, row).
	OpID string `json:"opId,omitempty"`
	// Undoes says which rename a row of an undo takes back.
	Undoes *Undone `json:"undoes,omitempty"`
	// Back: an undo leaves the object alone since it is at its old name.
	Back bool `json:"back,omitempty"`
	// Added: an undo of chosen keys moves the object although it was not chosen, since it moves only together with one that was.
	Added bool `json:"added,omitempty"`
}

// Undone is a row that is taken back: the op id under which it was carried out, and the identity that the object had before.
type Undone struct {
	OpID string           `json:"opId"`
	Was  archive.Identity `json:"was"`
}

// ParkID is the op id under which the object goes to the name Park.
func (r Row) ParkID() string { return parkID(r.OpID) }

func parkID(opID string) string { return opID + "-park" }

// ParkID is ParkID of the row that is taken back.
func (u Undone) ParkID() string { return parkID(u.OpID) }

// RetreatID is RetreatID of the row that is taken back.
func (u Undone) RetreatID() string { return retreatID(u.OpID) }

// HomeID is the op id under which it comes back from there.
func (r Row) HomeID() string { return r.OpID + "-home" }

// RetreatID is the op id under which it goes there from its new name, since others of its group do not get theirs.
func (r Row) RetreatID() string { return retreatID(r.OpID) }

func retreatID(opID string) string { return opID + "-retreat" }

// Moves reports whether the row is to be renamed.
func (r Row) Moves() bool { return r.Outcome == "" }

// SameFolded reports whether the old and the new name differ only in case or in the form of letters, so that a store that folds names may
// take them for one.
func (r Row) SameFolded() bool {
	return r.From != r.To && naming.Fold(r.From) == naming.Fold(r.To)
}

// Follows reports whether a row that comes after other in a plan must be carried out after it, by the same worker: both are of one
// group or chain.
func (r Row) Follows(other Row) bool {
	if r.Chain != 0 || other.Chain != 0 {
		return r.Chain == other.Chain
	}
	return r.Together(other)
}

// Together reports whether two rows move together or not at all.
func (r Row) Together(other Row) bool { return r.Group != "" && r.Group == other.Group }

// PlanSummary is what a plan's screen shows; computed while the plan is written.
type PlanSummary struct {
	Rows     int64 `json:"rows"`
	Moves    int64 `json:"moves"`
	Numbered int64 `json:"numbered"`
	// Second counts the rows to be renamed by the template for names that are taken.
	Second int64 `json:"second,omitempty"`
	// Chained counts the rows to be renamed that wait for others, or that others wait for.
	Chained int64 `json:"chained,omitempty"`
	// Skipped and Failed count rows by reason.
	Skipped map[Reason]int64 `json:"skipped,omitempty"`
	Failed  map[Reason]int64 `json:"failed,omitempty"`
	// Examples holds up to three rows for each reason.
	Examples map[Reason][]Row `json:"examples,omitempty"`
	// DateSources counts rows to be renamed by the tag that their date came from; "other tags" stands for those after the first
	// thousand.
	DateSources map[string]int64 `json:"dateSources,omitempty"`
	// Changed counts rows to be renamed by what was made safe in their names.
	Changed map[string]int64 `json:"changed,omitempty"`
	// Sidecars counts the objects to be renamed whose names depend on a sidecar, their companions not included, and
	// SidecarsMuted those that were named without theirs since it says nothing that can be read.
	Sidecars      int64 `json:"sidecars,omitempty"`
	SidecarsMuted int64 `json:"sidecarsMuted,omitempty"`
	// OldFolders and NewFolders count folders before and after, of the rows to be renamed.
	OldFolders int64 `json:"oldFolders"`
	NewFolders int64 `json:"newFolders"`
	// Sample holds up to five rows to be renamed, drawn at random (the same ones for the same plan).
	Sample []Row `json:"sample,omitempty"`
	Bytes  int64 `json:"bytes"` // of the objects to be renamed
	// Notes say what the renames mean in this archive; escaped text for whoever approves them.
	Notes []string `json:"notes,omitempty"`
}

// Blocked reports the reasons for which policies stop and same-content refuse to approve the plan.
func (s PlanSummary) Blocked(policy Conflict) []Reason {
	if policy != ConflictStop && policy != ConflictSameContent {
		return nil
	}
	var out []Reason
	for _, r := range []Reason{ReasonSameTarget, ReasonExists, ReasonPrefix} {
		if s.Skipped[r]+s.Failed[r] > 0 {
			out = append(out, r)
		}
	}
	return out
}

// Plan is the manifest that seals a plan: created once, never changed. Its digest is what is approved.
type Plan struct {
	V     int   `json:"v"`
	Batch ID    `json:"batch"`
	Epoch int64 `json:"epoch"`
	// Segments of the rename step, each with the SHA-256 (hex) of its rows as stored.
	Segments []PlanSegment `json:"segments"`
	Summary  PlanSummary   `json:"summary"`
}

// PlanSegment is one stored run of rows.
type PlanSegment struct {
	SHA256 string `json:"sha256"`
	Rows   int64  `json:"rows"`
	Moves  int64  `json:"moves"`
}
