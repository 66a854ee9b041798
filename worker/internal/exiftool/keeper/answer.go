package keeper

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/metadata"
)

// NoteKey is the member of each answer that holds the keeper's Note. ExifTool's own members have a group before a colon
// in their names, except SourceFile.
const NoteKey = "Reshelf"

// Note is what a keeper adds to an answer.
type Note struct {
	// ExifTool is the version that answered.
	ExifTool string `json:"exiftool,omitempty"`
	// Fault is "" where ExifTool answered, else timeout, crashed, too-large or unreadable; or FaultUnavailable.
	Fault   batch.Reason `json:"fault,omitempty"`
	Message string       `json:"message,omitempty"`
	// Warnings are the lines that ExifTool wrote to its standard error for this file, raw, the alias taken out.
	Warnings []string `json:"warnings,omitempty"`
}

// FaultUnavailable: ExifTool cannot be started, or is not able to read the sample. It is no fault of the file.
const FaultUnavailable batch.Reason = "unavailable"

// errAnswer: what came back is not the answer for this file.
var errAnswer = errors.New("not the answer for this file")

// goodAnswer checks ExifTool's answer for alias and adds the note. Numbers and booleans become strings of the same
// spelling, because go-exiftool would read them as float64 and bool.
func goodAnswer(raw []byte, alias string, note Note) ([]byte, error) {
	quoted, err := metadata.QuoteScalars(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errAnswer, err)
	}
	var files []map[string]json.RawMessage
	if err := json.Unmarshal(quoted, &files); err != nil {
		return nil, fmt.Errorf("%w: %w", errAnswer, err)
	}
	if len(files) != 1 {
		return nil, fmt.Errorf("%w: %d files", errAnswer, len(files))
	}
	var source string
	if err := json.Unmarshal(files[0]["SourceFile"], &source); err != nil || source != alias {
		return nil, fmt.Errorf("%w: it names %q", errAnswer, source)
	}
	if files[0][NoteKey], err = json.Marshal(note); err != nil {
		return nil, err
	}
	return encode(files)
}

// faultAnswer is the answer for a file that ExifTool could not answer for.
func faultAnswer(alias string, note Note) ([]byte, error) {
	return encode([]map[string]any{{"SourceFile": alias, "Error": note.Message, NoteKey: note}})
}

func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
