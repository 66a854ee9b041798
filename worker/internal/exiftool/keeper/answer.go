package keeper

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/metadata"
)

// The members of an answer, besides SourceFile. Both are strings that hold the JSON of an object. So go-exiftool, which makes
// float64 and bool of what it decodes, and a map of any of every object, has nothing to decode but three strings.
const (
	// NoteKey is the keeper's Note.
	NoteKey = "Reshelf"
	// TagsKey is what ExifTool said of the file, as metadata.DecodeObject takes it. It is missing where there is a fault.
	TagsKey = "Tags"
)

// Note is what a keeper adds to an answer.
type Note struct {
	// ExifTool is the version that answered.
	ExifTool string `json:"exiftool,omitempty"`
	// Fault is "" where ExifTool answered, else timeout, crashed, too-large or unreadable; or FaultUnavailable or
	// FaultOutOfReach.
	Fault   batch.Reason `json:"fault,omitempty"`
	Message string       `json:"message,omitempty"`
	// Before is what became of a first try, where it took a second.
	Before string `json:"before,omitempty"`
	// Warnings are the lines that ExifTool wrote to its standard error for this file, raw, the alias taken out.
	Warnings []string `json:"warnings,omitempty"`
}

// FaultUnavailable: ExifTool cannot be started, or is not able to read the sample. It is no fault of the file.
const FaultUnavailable batch.Reason = "unavailable"

// FaultOutOfReach: the open file cannot be opened again by this keeper. A new one may be able to, where a folder has been
// mounted meanwhile.
const FaultOutOfReach batch.Reason = "out-of-reach"

// errAnswer: what came back is not the answer for this file.
var errAnswer = errors.New("not the answer for this file")

// goodAnswer checks ExifTool's answer for alias and adds the note.
func goodAnswer(raw []byte, alias string, note Note) ([]byte, error) {
	source, tags, err := metadata.ReadAnswer(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errAnswer, err)
	}
	if source != alias {
		return nil, fmt.Errorf("%w: it names %q", errAnswer, source)
	}
	return answerText(alias, note, tags)
}

// faultAnswer is the answer for a file that ExifTool could not answer for.
func faultAnswer(alias string, note Note) ([]byte, error) { return answerText(alias, note, nil) }

// answerText spells an answer, on one line. tags may be nil.
func answerText(alias string, note Note, tags []byte) ([]byte, error) {
	source, err := json.Marshal(alias)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(note)
	if err != nil {
		return nil, err
	}
	b := make([]byte, 0, len(source)+len(text)+len(tags)+len(tags)/4+len(endMark)+100)
	b = append(append(b, `[{"SourceFile":`...), source...)
	b = appendText(append(b, `,"`+NoteKey+`":`...), text)
	if tags != nil {
		b = appendText(append(b, `,"`+TagsKey+`":`...), tags)
	}
	return append(b, "}]"...), nil
}

// appendText appends a JSON text without blanks between its tokens as a JSON string. There are no control characters in it, so
// only quotes and backslashes need an escape.
func appendText(b, text []byte) []byte {
	b = append(b, '"')
	for _, c := range text {
		if c == '"' || c == '\\' {
			b = append(b, '\\')
		}
		b = append(b, c)
	}
	return append(b, '"')
}
