package inspecting

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/metadata"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/worker/internal/exiftool"
	"github.com/reshelf/reshelf/worker/internal/paging"
)

// source is what the tags of an object are read from: a file, which is whole unless pages is set.
type source struct {
	file  *os.File
	pages *paging.File
}

// tag puts what ExifTool says into the record.
func (v *inspection) tag(ctx context.Context, r *batch.Record, from source) error {
	result, err := v.read(ctx, from, r.Key)
	if errors.Is(err, paging.ErrTooMany) {
		r.Outcome, r.Reason, r.Message = batch.Failed, batch.ReasonTimeout, "exiftool asks for part after part of it and comes to no end"
		return nil
	}
	if err != nil {
		return err
	}
	r.Tags, r.ExifTool = result.Tags, result.Version
	for _, line := range append(result.Warnings, said(result.Tags)...) {
		if line = archive.EscapeText(line); !slices.Contains(r.Warnings, line) {
			r.Warnings = append(r.Warnings, line)
		}
	}
	if len(result.Tags) > 0 {
		facts := metadata.Derive(result.Tags)
		r.Facts = &facts
	}
	if result.Fault != "" {
		r.Outcome, r.Reason, r.Message = batch.Failed, result.Fault, archive.EscapeText(result.FaultMessage)
	}
	return nil
}

func (v *inspection) read(ctx context.Context, from source, key archive.Key) (exiftool.Result, error) {
	if from.pages != nil {
		return v.tagger.ReadPaged(ctx, v.batch.Level, from.file, from.pages, key)
	}
	return v.tagger.Read(ctx, v.batch.Level, from.file, key)
}

// said is what ExifTool says of the file in tags of its own.
func said(tags metadata.Tags) (lines []string) {
	for _, name := range []string{exiftool.TagError, exiftool.TagWarning} {
		var text string
		if json.Unmarshal(tags[name], &text) == nil && text != "" {
			lines = append(lines, text)
		}
	}
	return lines
}

// failed puts what is wrong with the object into its record, and returns what is not its fault.
func failed(ctx context.Context, r batch.Record, err error) (batch.Record, error) {
	if ctx.Err() != nil || notItsFault(err) {
		return batch.Record{}, fmt.Errorf("inspect %s: %w", r.Key.Text(), err)
	}
	r.Outcome, r.Digests = batch.Failed, nil
	var mismatch mismatchError
	switch {
	case errors.As(err, &mismatch):
		r.Reason, r.Message = batch.ReasonMismatch, mismatch.Error()
	case errors.Is(err, store.ErrCold):
		r.Outcome, r.Reason, r.Message = batch.Skipped, batch.ReasonCold, "it is in cold storage; restore the object, then inspect it again"
	case errors.Is(err, store.ErrChanged):
		r.Reason, r.Message = batch.ReasonChanged, "it changed after it was listed, or while it was read; inspect it again when nobody writes to it"
	case errors.Is(err, store.ErrNotExist):
		r.Reason, r.Message = batch.ReasonMissing, "it was there when it was listed, and is gone"
	case errors.Is(err, store.ErrNotRegular):
		r.Reason, r.Message = batch.ReasonSpecial, "it was a file when it was listed, and is none now"
	case errors.Is(err, store.ErrPermission):
		r.Reason, r.Message = batch.ReasonUnreadable, "this user may not read it; change its permissions, or run the worker as a user who may"
	default:
		r.Reason, r.Message = batch.ReasonIO, err.Error()
	}
	return r, nil
}

// notItsFault reports errors of the archive as a whole and of this machine, which end the segment and not the object.
func notItsFault(err error) bool {
	others := []error{
		store.ErrUnavailable, store.ErrNoSpace, paging.ErrScratch, context.Canceled, context.DeadlineExceeded,
		unix.EMFILE, unix.ENFILE, unix.ENOMEM,
	}
	return slices.ContainsFunc(others, func(other error) bool { return errors.Is(err, other) })
}
