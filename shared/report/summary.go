package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/digest"
)

// SummaryVersion is the version of the stored form of Summary.
const SummaryVersion = 1

// ErrSummary is wrapped by every error about the text of a summary.
var ErrSummary = errors.New("invalid summary")

// Bounds of a Summary.
const (
	MaxFailures         = 5  // kinds of failure that are shown with examples
	MaxExamples         = 3  // examples of each
	MaxExifToolVersions = 16 // versions that are named
)

// Summary is what a finished batch amounts to, computed from its final records. It is stored as summary.json, last of
// all files, so that its presence means that the report is whole.
type Summary struct {
	V       int          `json:"v"`
	Batch   batch.ID     `json:"batch"`
	Kind    batch.Kind   `json:"kind"`
	Archive archive.Root `json:"archive"`
	Name    string       `json:"name,omitempty"`
	Undoes  batch.ID     `json:"undoes,omitempty"`
	// State is Complete or Cancelled; Reason says why it was cancelled, if a reason was given.
	State  batch.State `json:"state"`
	Reason string      `json:"reason,omitempty"`

	Submitted time.Time `json:"submitted"`
	Finished  time.Time `json:"finished"`
	// WorkingSeconds leaves out pauses and the wait for approval. InspectingSeconds is the part of it in which the
	// archive was listed and read.
	WorkingSeconds    float64 `json:"workingSeconds"`
	InspectingSeconds float64 `json:"inspectingSeconds,omitempty"`

	// Listed objects and the sum of their sizes. For a batch of kind undo: the rows of its plan.
	Listed      int64 `json:"listed"`
	ListedBytes int64 `json:"listedBytes"`
	// Excluded counts what the filter left out.
	Excluded int64 `json:"excluded,omitempty"`
	// ListingIncomplete: the batch was cancelled before everything was listed. What was not listed is not counted.
	ListingIncomplete bool `json:"listingIncomplete,omitempty"`
	// Counts of the final records; Skipped and Failed count them by reason.
	Counts  batch.Counts           `json:"counts"`
	Skipped map[batch.Reason]int64 `json:"skipped,omitempty"`
	Failed  map[batch.Reason]int64 `json:"failed,omitempty"`
	// Inspected objects, and their bytes, which were all read if there are Digests. Objects whose content was read count even
	// if they failed.
	Inspected      int64 `json:"inspected"`
	InspectedBytes int64 `json:"inspectedBytes"`
	// FromStore counts objects whose digests are all the store's: they were not downloaded, and are not among those Inspected.
	FromStore int64 `json:"fromStore,omitempty"`
	// Failures are the commonest kinds of failure, the commonest first, at most MaxFailures.
	Failures []Failure `json:"failures,omitempty"`
	// Duplicates is nil where no cryptographic digest was computed.
	Duplicates *Duplicates `json:"duplicates,omitempty"`
	// Renamed counts the objects whose key the batch changed.
	Renamed int64 `json:"renamed"`
	// Method says how the batch gave names, absent where it renamed. Copied counts the objects that were copied, or hard-linked.
	Method batch.Method `json:"method,omitempty"`
	Copied int64        `json:"copied,omitempty"`

	AssumeSingleWriter bool        `json:"assumeSingleWriter,omitempty"`
	Digests            digest.Set  `json:"digests,omitempty"`
	Level              batch.Level `json:"level,omitempty"`
	// ExifTool are the versions that read tags, in ascending order of text, at most MaxExifToolVersions.
	ExifTool []string `json:"exiftool,omitempty"`
	// Files of the report besides the summary itself.
	Files []File `json:"files"`
}

// Failure is one kind of failure.
type Failure struct {
	Reason   batch.Reason `json:"reason"`
	Objects  int64        `json:"objects"`
	Examples []Example    `json:"examples"` // the first in order of key, at most MaxExamples
}

// Example is one object that failed.
type Example struct {
	Key     archive.Key `json:"key"`
	Message string      `json:"message,omitempty"` // escaped text
}

// Duplicates counts objects with equal contents. Empty objects are equal too, but only counted apart.
type Duplicates struct {
	Algorithm digest.Algorithm `json:"algorithm"`
	Groups    int64            `json:"groups"`
	Objects   int64            `json:"objects"` // in all groups
	// WastedBytes is what would be freed if one object of each group were kept and none were hard links of another.
	WastedBytes int64 `json:"wastedBytes"`
	Empty       int64 `json:"empty"`
}

// File is one file of the report.
type File struct {
	Name string `json:"name"`
	// Key is where it is on the ledger's store.
	Key  archive.Key `json:"key"`
	Size int64       `json:"size"` // bytes
	Rows int64       `json:"rows"`
}

// Encode is the stored form.
func (s Summary) Encode() ([]byte, error) {
	s.V = SummaryVersion
	raw, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("summary of %s: %w", s.Batch, err)
	}
	return append(raw, '\n'), nil
}

// maxSummary bounds a stored summary in bytes: a batch of 100 million objects has some hundred files.
const maxSummary = 16 << 20

// ReadSummary reads the stored form.
func ReadSummary(r io.Reader) (Summary, error) {
	raw, err := io.ReadAll(io.LimitReader(r, maxSummary+1))
	if err != nil {
		return Summary{}, fmt.Errorf("summary: %w", err)
	}
	if len(raw) > maxSummary {
		return Summary{}, fmt.Errorf("%w: more than %d bytes", ErrSummary, maxSummary)
	}
	var s Summary
	if err := json.Unmarshal(raw, &s); err != nil {
		return Summary{}, fmt.Errorf("%w: %w", ErrSummary, err)
	}
	if s.V != SummaryVersion {
		return Summary{}, fmt.Errorf("%w: version %d; this program knows %d", ErrSummary, s.V, SummaryVersion)
	}
	return s, nil
}

// Closing is the line that says what the batch did to the archive, and how to reverse it.
func (s Summary) Closing() string {
	switch {
	case s.Copied > 0 && s.Method == batch.MethodLink:
		return plural(s.Copied, "object") + " hard-linked; all are still under their old names too"
	case s.Copied > 0:
		return plural(s.Copied, "object") + " copied; all are still under their old names too"
	case s.Renamed == 0:
		return "archive unchanged"
	case s.Kind == batch.Undo:
		return plural(s.Renamed, "object") + " renamed back"
	}
	return plural(s.Renamed, "object") + " renamed; undo: reshelf undo " + string(s.Batch)
}
