package report

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/digest"
)

// FailureWriter writes failures.csv: key, to, size, reason, message.
type FailureWriter struct{ *table }

// NewFailureWriter starts the table on w. Close it.
func NewFailureWriter(w io.Writer) (*FailureWriter, error) {
	t, err := newTable(w, "key", "to", "size", "reason", "message")
	return &FailureWriter{t}, wrapTable(FailuresName, err)
}

// Add writes a line if r failed.
func (w *FailureWriter) Add(r batch.Record) error {
	if r.Outcome != batch.Failed {
		return nil
	}
	err := w.add(r.Key.Text(), r.To.Text(), strconv.FormatInt(r.Size, 10), string(r.Reason), r.Message)
	return wrapTable(FailuresName, err)
}

// Duplicate is one object of a group of objects with equal contents.
type Duplicate struct {
	// Group numbers the groups from 1, Number the objects of the group from 1 to Of.
	Group, Number, Of int64
	Size              int64 // bytes
	Digest            digest.Digest
	// Key is the key that the object has now.
	Key archive.Key
}

// DuplicateWriter writes duplicates.csv: group, number, of, size, digest, key.
type DuplicateWriter struct{ *table }

// NewDuplicateWriter starts the table on w. Close it.
func NewDuplicateWriter(w io.Writer) (*DuplicateWriter, error) {
	t, err := newTable(w, "group", "number", "of", "size", "digest", "key")
	return &DuplicateWriter{t}, wrapTable(DuplicatesName, err)
}

// Add writes one line.
func (w *DuplicateWriter) Add(d Duplicate) error {
	n := func(i int64) string { return strconv.FormatInt(i, 10) }
	err := w.add(n(d.Group), n(d.Number), n(d.Of), n(d.Size), d.Digest.String(), d.Key.Text())
	return wrapTable(DuplicatesName, err)
}

// PlanWriter writes a plan, or what became of it: from, to, outcome, reason, message, date_source, sidecar, changed.
// The outcome of a row that is yet to be renamed is empty.
type PlanWriter struct{ *table }

// NewPlanWriter starts the table on w. Close it.
func NewPlanWriter(w io.Writer) (*PlanWriter, error) {
	t, err := newTable(w, "from", "to", "outcome", "reason", "message", "date_source", "sidecar", "changed")
	return &PlanWriter{t}, wrapTable(PlanName, err)
}

// Add writes one row.
func (w *PlanWriter) Add(r batch.Row) error {
	err := w.add(r.From.Text(), r.To.Text(), string(r.Outcome), string(r.Reason), r.Message, r.DateSource, r.Sidecar.Text(), strings.Join(r.Changed, "; "))
	return wrapTable(PlanName, err)
}

func wrapTable(name string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
