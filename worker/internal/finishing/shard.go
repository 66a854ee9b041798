package finishing

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/report"
	"github.com/reshelf/reshelf/worker/internal/panics"
)

// Records are handed to encoders in chunks of chunkRecords, of which at most chunksWaiting wait for an encoder.
const (
	chunkRecords  = 32
	chunksWaiting = 2
)

// encoder is an output of final records that a goroutine of its own encodes and, after the last, closes. The goroutine ends
// with finish, or with the abort of the stream; both wait for it.
type encoder[W recordSink] struct {
	*output[W]
	chunks chan []batch.Record
	last   func() // no more chunks come; may be repeated
	done   chan struct{}
	err    error // nil if the file is whole; read it after done
}

// recordSink is a sink of final records.
type recordSink interface {
	sink
	Add(batch.Record) error
}

func newEncoder[W recordSink](ctx context.Context, f *finish, name string, writer func(io.Writer) (W, error)) (*encoder[W], error) {
	out, err := create(ctx, f, name, writer)
	if err != nil {
		return nil, err
	}
	e := &encoder[W]{output: out, chunks: make(chan []batch.Record, chunksWaiting), done: make(chan struct{})}
	e.last = sync.OnceFunc(func() { close(e.chunks) })
	out.stream.release = func() {
		e.last()
		<-e.done
	}
	go func() {
		defer close(e.done)
		e.err = e.encode()
	}()
	return e, nil
}

func (e *encoder[W]) encode() (err error) {
	defer panics.Catch(&err)
	for chunk := range e.chunks {
		for _, r := range chunk {
			if err := e.to.Add(r); err != nil {
				return err
			}
		}
	}
	return e.close()
}

// put hands over records, which nobody may change any more. An error is that of records that were put before.
func (e *encoder[W]) put(chunk []batch.Record) error {
	select {
	case e.chunks <- chunk:
		return nil
	case <-e.done:
		return e.err
	}
}

// finish ends the file and notes it for the summary.
func (e *encoder[W]) finish(f *finish) error {
	e.last()
	<-e.done
	if e.err != nil {
		return e.err
	}
	e.note(f)
	return nil
}

// shard is a slice of the final records in both of their forms, which are encoded at once.
type shard struct {
	catalogue *encoder[*report.CatalogueWriter]
	records   *encoder[*report.RecordWriter]
	chunk     []batch.Record // those that no encoder has yet
	rows      int64
}

func (f *finish) newShard(ctx context.Context, n int) (*shard, error) {
	catalogue, err := newEncoder(ctx, f, fmt.Sprintf(report.CatalogueName, n), func(w io.Writer) (*report.CatalogueWriter, error) {
		return report.NewCatalogueWriter(w, report.CatalogueOptions{}), nil
	})
	if err != nil {
		return nil, err
	}
	records, err := newEncoder(ctx, f, fmt.Sprintf(report.RecordsName, n), report.NewRecordWriter)
	return &shard{catalogue: catalogue, records: records}, err
}

// add takes a record, which nobody may change any more.
func (s *shard) add(r batch.Record) error {
	s.chunk = append(s.chunk, r)
	s.rows++
	if len(s.chunk) < chunkRecords {
		return nil
	}
	return s.flush()
}

func (s *shard) flush() error {
	chunk := s.chunk
	s.chunk = make([]batch.Record, 0, chunkRecords)
	return errors.Join(s.catalogue.put(chunk), s.records.put(chunk))
}

// finish ends both files. Nothing is being encoded or stored any more when it returns nil.
func (s *shard) finish(f *finish) error {
	if err := s.flush(); err != nil {
		return err
	}
	s.catalogue.last()
	s.records.last()
	return errors.Join(s.catalogue.finish(f), s.records.finish(f))
}
