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
)

// errSpool: this machine could not keep the content. It is no fault of the object.
var errSpool = errors.New("keep the content in scratch space")

// spool makes a temporary file without a name, which the kernel frees even if this process is killed.
func (v *inspection) spool() (*os.File, error) {
	file, err := os.CreateTemp(v.options.Scratch, "reshelf-content-")
	if err == nil {
		err = os.Remove(file.Name())
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errSpool, err)
	}
	return file, nil
}

// spoolWriter tells failures to write from failures to read the object.
type spoolWriter struct{ file *os.File }

func (w spoolWriter) Write(p []byte) (int, error) {
	n, err := w.file.Write(p)
	if err != nil {
		err = fmt.Errorf("%w: %w", errSpool, err)
	}
	return n, err
}

// tag puts what ExifTool says into the record.
func (v *inspection) tag(ctx context.Context, r *batch.Record, file *os.File) error {
	result, err := v.tagger.Read(ctx, v.batch.Level, file, r.Key)
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
	switch {
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
		store.ErrUnavailable, store.ErrNoSpace, errSpool, context.Canceled, context.DeadlineExceeded,
		unix.EMFILE, unix.ENFILE, unix.ENOMEM,
	}
	return slices.ContainsFunc(others, func(other error) bool { return errors.Is(err, other) })
}
