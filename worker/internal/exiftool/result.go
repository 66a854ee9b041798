package exiftool

import (
	"bytes"
	"encoding/json"
	"errors"
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
	// Version of the ExifTool that answered, "12.57"; "" if none did.
	Version string
	// Warnings are ExifTool's lines on standard error for this file: raw, at most 20 of at most 500 bytes.
	Warnings []string
	// Fault is "" if the file was read, or the class of what went wrong with it: timeout, crashed, too-large,
	// unreadable, special-file or format. All but the last say that ExifTool gave no tags, never that there are none.
	Fault batch.Reason
	// FaultMessage is what happened, for a person; raw text.
	FaultMessage string
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
	text, err := encodeValue(fields[keeper.NoteKey])
	if err == nil {
		err = json.Unmarshal(text, &note)
	}
	if err != nil {
		return Result{}, fmt.Errorf("%w: the answer has no note: %w", errLost, err)
	}
	if note.Fault == keeper.FaultUnavailable {
		return Result{}, fmt.Errorf("%w: %s", ErrUnavailable, note.Message)
	}
	r := Result{Version: note.ExifTool, Warnings: note.Warnings, Fault: note.Fault, FaultMessage: note.Message}
	if r.Fault != "" {
		return r, nil
	}
	if r.Tags, err = tagsOf(fields); err != nil {
		return Result{}, err
	}
	if message, _ := fields[TagError].(string); message != "" && message != errorEmpty && message != errorUnknown {
		r.Fault, r.FaultMessage = batch.ReasonFormat, "exiftool says: "+message
	}
	return r, nil
}

// tagsOf turns go-exiftool's fields back into exact values. All scalars are strings, since the keeper quotes them.
func tagsOf(fields map[string]any) (metadata.Tags, error) {
	tags := make(metadata.Tags, len(fields))
	for name, value := range fields {
		if name == "SourceFile" || name == keeper.NoteKey {
			continue
		}
		text, err := encodeValue(value)
		if err != nil {
			return nil, fmt.Errorf("tag %q: %w", name, err)
		}
		tags[name] = text
	}
	return metadata.WithoutAlias(tags), nil
}

// encodeValue is json.Marshal without the escapes for HTML.
func encodeValue(v any) (json.RawMessage, error) {
	if v == nil {
		return nil, errors.New("no value")
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
