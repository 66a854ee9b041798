// Package batch defines what a batch is: its steps, segments and tasks, its states and the transitions between them,
// and the record that becomes of each object. Everything that is stored or sent is versioned and frozen by golden files
// in testdata. The package does no I/O.
package batch

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/digest"
	"github.com/reshelf/reshelf/shared/naming"
)

// ErrInvalid is wrapped by every error about a batch, task or event that is not well formed.
var ErrInvalid = errors.New("invalid batch")

// Version is the version of every stored form in this package, but for batches that need a later one.
const Version = 1

// VersionCopies is the version of batches that copy. Programs that know only Version would rename, so they must not read these.
const VersionCopies = 2

// ID names a batch: 26 characters of Crockford base 32 in lower case (a ULID), so ids sort by time of submission.
type ID string

// ParseID checks an id.
func ParseID(s string) (ID, error) {
	if len(s) != 26 || strings.Trim(s, "0123456789abcdefghjkmnpqrstvwxyz") != "" {
		return "", fmt.Errorf("%w id %q: want 26 characters of 0-9 and a-z", ErrInvalid, archive.EscapeText(s))
	}
	return ID(s), nil
}

// Kind is what a batch does.
type Kind string

// Kinds of batch.
const (
	Inspect Kind = "inspect" // list, inspect, finish; never changes the archive
	Rename  Kind = "rename"  // list, inspect, plan, rename, finish
	Undo    Kind = "undo"    // plan (another batch reversed), rename, finish
	Edit    Kind = "edit"    // plan (that of another batch with names that a person gave), rename, finish
)

// Step is one stage of a batch.
type Step string

// Steps, in the order in which a batch takes them.
const (
	StepList    Step = "list"
	StepInspect Step = "inspect"
	StepPlan    Step = "plan"
	StepRename  Step = "rename"
	StepFinish  Step = "finish"
)

// Steps of each kind, in order.
func (k Kind) Steps() []Step {
	switch k {
	case Inspect:
		return []Step{StepList, StepInspect, StepFinish}
	case Rename:
		return []Step{StepList, StepInspect, StepPlan, StepRename, StepFinish}
	case Undo, Edit:
		return []Step{StepPlan, StepRename, StepFinish}
	}
	return nil
}

// Derived reports whether batches of kind k plan for the rows of another batch's plan, and inspect nothing themselves.
func (k Kind) Derived() bool { return k.Has(StepPlan) && !k.Has(StepInspect) }

// Has reports whether batches of kind k take step s.
func (k Kind) Has(s Step) bool { return slices.Contains(k.Steps(), s) }

// Priority orders batches; the queue of each is weighted.
type Priority string

// Priorities, highest first.
const (
	Critical   Priority = "critical"
	High       Priority = "high"
	Normal     Priority = "normal"
	Low        Priority = "low"
	Background Priority = "background"
)

// Priorities, highest first, with their default weights in Weight.
func Priorities() []Priority { return []Priority{Critical, High, Normal, Low, Background} }

// Weight is the default share of a priority: 16, 8, 4, 2, 1; 0 for an unknown one.
func (p Priority) Weight() int {
	i := slices.Index(Priorities(), p)
	if i < 0 {
		return 0
	}
	return 16 >> i
}

// Level is how deeply ExifTool reads.
type Level string

// Levels of metadata. LevelNone reads none.
const (
	LevelNone     Level = "none"
	LevelFast     Level = "fast"
	LevelNormal   Level = "normal"
	LevelExtended Level = "extended"
)

// Levels that a batch may ask for.
func Levels() []Level { return []Level{LevelNone, LevelFast, LevelNormal, LevelExtended} }

// Conflict is what a plan does where two objects want one name, or the name is taken.
type Conflict string

// Conflict policies.
const (
	ConflictStop   Conflict = "stop"   // the plan cannot be approved
	ConflictSkip   Conflict = "skip"   // rows in conflict are skipped
	ConflictNumber Conflict = "number" // rows in conflict get _2, _3, … in order of capture time, then key
	// ConflictSameContent: rows are skipped as duplicates where what has or gets the name has the same content; otherwise the plan
	// cannot be approved. The batch must have a digest that proves it (digest.Set.Proof).
	ConflictSameContent Conflict = "same-content"
	// ConflictTemplate: rows in conflict get the names of RenameOptions.ConflictTemplate, and fail where these are taken too.
	ConflictTemplate Conflict = "template"
)

// Conflicts are the policies.
func Conflicts() []Conflict {
	return []Conflict{ConflictStop, ConflictSkip, ConflictNumber, ConflictSameContent, ConflictTemplate}
}

// KeepsNames reports whether the policy gives objects no other names than the ones that were asked for, and needs nothing that was
// read of them.
func (c Conflict) KeepsNames() bool { return c == ConflictStop || c == ConflictSkip }

// Method is how an object is given the name that is planned for it.
type Method string

// Methods.
const (
	MethodRename Method = ""         // the object itself gets it
	MethodCopy   Method = "copy"     // the object stays, and a copy of it gets it
	MethodLink   Method = "hardlink" // the object stays, and a hard link of it gets it
)

// Filter says which objects of an archive a batch takes. Globs are doublestar patterns against the whole raw key; a
// pattern without a slash is matched against the base name.
type Filter struct {
	Include []string `json:"include,omitempty"` // if any: only what matches one of them
	Exclude []string `json:"exclude,omitempty"`
	// All turns the default exclusions off (hidden files, NAS litter). Reshelf's own files are always excluded.
	All bool `json:"all,omitempty"`
}

// RenameOptions is what a rename batch asks for.
type RenameOptions struct {
	Template   string   `json:"template"`
	OnConflict Conflict `json:"onConflict"`
	// ConflictTemplate is the template of policy template, and "" for all others. It is used with the same Options, and does not
	// count.
	ConflictTemplate string `json:"conflictTemplate,omitempty"`
	// Method is how the names are given. A batch whose objects stay has VersionCopies.
	Method Method `json:"method,omitempty"`
	// IgnoreSidecars: names are made as if no object had a sidecar.
	IgnoreSidecars bool `json:"ignoreSidecars,omitempty"`
	// Groups are the rules by which objects move together; nil are those of the program.
	Groups *naming.Rules `json:"groups,omitempty"`
	// Options are what the template is used with; their members lie beside the others.
	naming.Options
	// Approved: the plan is applied as soon as it is sealed, if nothing stops it (--yes).
	Approved bool `json:"approved,omitempty"`
}

// Parse reads the template with its options.
func (o RenameOptions) Parse() (*naming.Template, error) {
	return naming.ParseWith(o.Template, o.Options)
}

// ParseConflict reads the template for names that are taken with its options, nil if the policy has none.
func (o RenameOptions) ParseConflict() (*naming.Template, error) {
	if o.OnConflict != ConflictTemplate {
		return nil, nil
	}
	return naming.ParseUncounted(o.ConflictTemplate, o.Options)
}

// ParseGroups makes the rules of groups ready for use. o may be nil, for a batch that renames nothing.
func (o *RenameOptions) ParseGroups() (*naming.Groups, error) {
	if o == nil || o.Groups == nil {
		return naming.DefaultGroups(), nil
	}
	return o.Groups.Groups()
}

// Batch is one submission. It is written once and never changes; what happens to it later are Events.
type Batch struct {
	V    int  `json:"v"`
	ID   ID   `json:"id"`
	Kind Kind `json:"kind"`
	// Archive is the root that all keys are below.
	Archive archive.Root `json:"archive"`
	// Manifest: the objects come from a spooled manifest in the ledger, not from a listing. Of an undo, it and Filter choose
	// among the keys that the undone batch gave; without them all are taken back. Of an edit, it has the edited rows: those that
	// it names have the new name in the column ColumnTo, and what it does not name is left out.
	Manifest bool   `json:"manifest,omitempty"`
	Filter   Filter `json:"filter,omitzero"`
	// Digests to compute and Level of metadata to read while inspecting.
	Digests digest.Set `json:"digests,omitempty"`
	Level   Level      `json:"level,omitempty"`
	// TrustStoreChecksums: digests that the store keeps are taken from it, where that saves reading the object, and compared
	// where the object is read.
	TrustStoreChecksums bool `json:"trustStoreChecksums,omitempty"`
	// Renaming is set for kind rename, and for kind edit: then it is that of the batch whose plan is edited, whose template is not
	// used again.
	Renaming *RenameOptions `json:"renaming,omitempty"`
	// Edits is the plan that a batch of kind edit starts from.
	Edits *PlanRef `json:"edits,omitempty"`
	// Undoes is the batch that a batch of kind undo reverses.
	Undoes ID `json:"undoes,omitempty"`
	// RemoveEmptyFolders: folders that objects were moved out of, and those above them, are removed where nothing is left in them.
	RemoveEmptyFolders bool `json:"removeEmptyFolders,omitempty"`
	// AssumeSingleWriter allows renames that are safe only while nobody else writes to the archive.
	AssumeSingleWriter bool      `json:"assumeSingleWriter,omitempty"`
	Pool               string    `json:"pool"`
	Priority           Priority  `json:"priority"`
	Name               string    `json:"name,omitempty"`
	Note               string    `json:"note,omitempty"`
	Labels             []string  `json:"labels,omitempty"`
	Submitted          time.Time `json:"submitted"`
	// By says who submitted: user@host of the command, or the token's name.
	By string `json:"by,omitempty"`
	// Traceparent is the span of the command that submitted, in the form of W3C trace context, if that was traced: spans of
	// the batch's tasks link to it, whoever enqueues them.
	Traceparent string `json:"traceparent,omitempty"`
}

// ColumnTo is the column of an edit's manifest that holds the new name, in the form of archive.Key.Text; absent where the row is
// left out.
const ColumnTo = "to"

// PlanRef is the sealed plan of a batch.
type PlanRef struct {
	Batch ID `json:"batch"`
	// Digest of the plan, SHA-256 in hex.
	Digest string `json:"digest"`
	// Part is set where the rows were not edited: the batch takes a part of them.
	Part Part `json:"part,omitempty"`
}

// Part is some of the rows of a plan.
type Part string

// Parts that a plan is divided into.
const (
	// Sample is rows that were drawn to be carried out first. Its plan has no other rows.
	Sample Part = "sample"
	// Rest is all rows but those of a sample, which are in its plan as left out.
	Rest Part = "rest"
)

func (r PlanRef) validate() error {
	if _, err := ParseID(string(r.Batch)); err != nil {
		return err
	}
	if r.Part != "" && r.Part != Sample && r.Part != Rest {
		return fmt.Errorf("%w: unknown part %q of a plan", ErrInvalid, archive.EscapeText(string(r.Part)))
	}
	if len(r.Digest) != 64 || strings.Trim(r.Digest, "0123456789abcdef") != "" {
		return fmt.Errorf("%w: %q is no digest of a plan", ErrInvalid, archive.EscapeText(r.Digest))
	}
	return nil
}

// Validate checks everything that can be checked without looking at the archive.
func (b Batch) Validate() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
	}
	if _, err := ParseID(string(b.ID)); err != nil {
		return err
	}
	switch {
	case b.V != b.Needs():
		return bad("version %d; this program knows %d of such a batch", b.V, b.Needs())
	case b.Kind.Steps() == nil:
		return bad("unknown kind %q", b.Kind)
	case b.Archive.IsZero():
		return bad("no archive")
	case b.Priority.Weight() == 0:
		return bad("unknown priority %q; want one of %v", b.Priority, Priorities())
	case !validPool(b.Pool):
		return bad("pool %q: want 1 to 40 of a-z, 0-9 and -", b.Pool)
	case b.Kind == Undo && b.Undoes == "":
		return bad("an undo batch names no batch to undo")
	case b.Kind == Undo && b.Chooses() && !b.Filter.All:
		return bad("an undo whose filter leaves out hidden objects by default")
	case b.Kind == Edit && (b.Edits == nil || b.Renaming == nil || !b.Manifest):
		return bad("an edit without the plan that it starts from, its options, or its rows")
	case b.Kind == Edit && (!b.Renaming.OnConflict.KeepsNames() || b.Renaming.Approved):
		return bad("an edit that gives other names than those that were asked for, or that nobody approves")
	case b.Kind != Edit && b.Edits != nil:
		return bad("a batch of kind %q edits no plan", b.Kind)
	case !b.Kind.Derived() && !slices.Contains(Levels(), b.Level):
		return bad("unknown metadata level %q; want one of %v", b.Level, Levels())
	case b.Kind == Rename && b.Renaming == nil:
		return bad("a rename batch has no template")
	case !slices.Contains([]Method{MethodRename, MethodCopy, MethodLink}, b.Method()):
		return bad("unknown method %q", b.Method())
	case b.Copies() && b.RemoveEmptyFolders:
		return bad("objects that are copied leave no folders")
	case b.Method() == MethodLink && b.Archive.Scheme() != archive.SchemeFile:
		return bad("hard links in an archive that is not on a disk")
	case b.Renaming != nil && !slices.Contains(Conflicts(), b.Renaming.OnConflict):
		return bad("unknown conflict policy %q; want one of %v", b.Renaming.OnConflict, Conflicts())
	case b.Renaming != nil && (b.Renaming.OnConflict == ConflictTemplate) != (b.Renaming.ConflictTemplate != ""):
		return bad("conflict policy %s has a template of its own, and no other policy has", ConflictTemplate)
	case b.Renaming != nil && b.Renaming.OnConflict == ConflictSameContent && !b.provesContents():
		return bad("conflict policy %s needs a cryptographic digest, such as %v", ConflictSameContent, digest.SHA256)
	}
	if b.Edits != nil {
		if err := b.Edits.validate(); err != nil {
			return err
		}
	}
	if b.Renaming != nil {
		if err := b.Renaming.Validate(); err != nil {
			return fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		if _, err := b.Renaming.ParseGroups(); err != nil {
			return fmt.Errorf("%w: %w", ErrInvalid, err)
		}
	}
	return nil
}

// Method is how the batch gives names.
func (b Batch) Method() Method {
	if b.Renaming == nil {
		return MethodRename
	}
	return b.Renaming.Method
}

// Copies reports whether the batch leaves objects where they are, and gives the names that are planned to copies or hard links.
func (b Batch) Copies() bool { return b.Method() != MethodRename }

// Needs is the version that the batch must have.
func (b Batch) Needs() int {
	if b.Copies() {
		return VersionCopies
	}
	return Version
}

func (b Batch) provesContents() bool {
	_, ok := b.Digests.Proof()
	return ok
}

// Chooses reports whether an undo takes back only some of the undone batch.
func (b Batch) Chooses() bool {
	return b.Manifest || len(b.Filter.Include)+len(b.Filter.Exclude) > 0
}

func validPool(s string) bool {
	return s != "" && len(s) <= 40 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}
