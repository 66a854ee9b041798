package exiftool

import (
	"encoding/json"
	"fmt"

	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/metadata"
	"github.com/reshelf/reshelf/worker/internal/exiftool/keeper"
)

// Result is what ExifTool says about one file.
type Result struct {
	// Tags are all tags but those that describe the alias instead of the file: see metadata.WithoutAlias. Where Fault
	// is format they are what ExifTool could read nevertheless; with other faults there are none.
	Tags metadata.Tags
	// Version of the ExifTool that read the file, or tried to, "12.57"; "" if none did.
	Version string
	// Warnings are ExifTool's lines on standard error for this file: raw, at most 20 of at most 500 bytes.
	Warnings []string
	// Fault is "" if the file was read, or the class of what went wrong with it: timeout, crashed, too-large,
	// unreadable, special-file or format. All but the last say that ExifTool gave no tags, never that there are none.
	Fault batch.Reason
	// FaultMessage is what happened, for a person; raw text.
	FaultMessage string

	before string // what ended ExifTool at the first try, where it took a second
}

// TagError is where ExifTool says that it could not make sense of a file, TagWarning where it has doubts.
const (
	TagError   = "ExifTool:Error"
	TagWarning = "ExifTool:Warning"
)

// Values of TagError that are no fault of the file: there is nothing to read in it, and ExifTool is not meant for all
// formats. Every other value ("File format error", "Entire file is binary zeros", …) says that the file is broken.
const (
	errorEmpty   = "File is empty"
	errorUnknown = "Unknown file type"
)

// newResult reads the fields of go-exiftool's answer.
func newResult(alias string, fields map[string]any) (Result, error) {
	if got, _ := fields["SourceFile"].(string); got != alias {
		return Result{}, fmt.Errorf("%w: the answer is for %q", errLost, got)
	}
	var note keeper.Note
	text, _ := fields[keeper.NoteKey].(string)
	if err := json.Unmarshal([]byte(text), &note); err != nil {
		return Result{}, fmt.Errorf("%w: the answer has no note: %w", errLost, err)
	}
	switch note.Fault {
	case keeper.FaultUnavailable:
		return Result{}, fmt.Errorf("%w: %s", ErrUnavailable, note.Message)
	case keeper.FaultOutOfReach:
		return Result{}, fmt.Errorf("%w: %s", errOutOfReach, note.Message)
	}
	r := Result{Version: note.ExifTool, Warnings: note.Warnings, Fault: note.Fault, FaultMessage: note.Message, before: note.Before}
	if r.Fault != "" {
		return r, nil
	}
	object, _ := fields[keeper.TagsKey].(string)
	source, tags, err := metadata.DecodeObject([]byte(object))
	if err != nil {
		return Result{}, fmt.Errorf("%w: the answer has no tags: %w", errLost, err)
	}
	if source != alias {
		return Result{}, fmt.Errorf("%w: the answer's tags are for %q", errLost, source)
	}
	r.Tags = metadata.WithoutAlias(tags)
	var message string
	if json.Unmarshal(tags[TagError], &message) == nil && message != "" && message != errorEmpty && message != errorUnknown {
		r.Fault, r.FaultMessage = batch.ReasonFormat, "exiftool says: "+message
	}
	return r, nil
}
