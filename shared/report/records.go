package report

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/klauspost/compress/zstd"

	"github.com/reshelf/reshelf/shared/batch"
)

// RecordWriter writes final records as JSON lines, the frozen form of batch.Record, compressed with zstd (RFC 8878).
type RecordWriter struct {
	zw   *zstd.Encoder
	enc  *json.Encoder
	rows int64
}

// NewRecordWriter starts a file of records on w. Close it.
func NewRecordWriter(w io.Writer) (*RecordWriter, error) {
	zw, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20))
	if err != nil {
		return nil, fmt.Errorf("records: %w", err)
	}
	enc := json.NewEncoder(zw)
	enc.SetEscapeHTML(false)
	return &RecordWriter{zw: zw, enc: enc}, nil
}

// Add writes one record.
func (w *RecordWriter) Add(r batch.Record) error {
	if err := w.enc.Encode(&r); err != nil {
		return fmt.Errorf("record of %s: %w", r.Key.Text(), err)
	}
	w.rows++
	return nil
}

// Rows is the number of records added.
func (w *RecordWriter) Rows() int64 { return w.rows }

// Close ends the file. It does not close the underlying writer.
func (w *RecordWriter) Close() error {
	if err := w.zw.Close(); err != nil {
		return fmt.Errorf("records: %w", err)
	}
	return nil
}

// maxWindow bounds the memory for reading a file of records, in bytes. It is above the window that RecordWriter uses.
const maxWindow = 64 << 20

// Records yields the records of one file of RecordWriter, in order. An error ends it.
func Records(r io.Reader) iter.Seq2[batch.Record, error] {
	return func(yield func(batch.Record, error) bool) {
		zr, err := zstd.NewReader(bufio.NewReader(r), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxWindow))
		if err != nil {
			yield(batch.Record{}, fmt.Errorf("records: %w", err))
			return
		}
		defer zr.Close()
		dec := json.NewDecoder(zr)
		for n := 1; ; n++ {
			var rec batch.Record
			err := dec.Decode(&rec)
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				yield(batch.Record{}, fmt.Errorf("records: line %d: %w", n, err))
				return
			}
			if !yield(rec, nil) {
				return
			}
		}
	}
}
