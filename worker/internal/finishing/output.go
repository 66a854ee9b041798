package finishing

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/extsort"
	"github.com/reshelf/reshelf/shared/report"
)

// streamBuffer is what a stream collects before it hands it to the store's goroutine, in bytes.
const streamBuffer = 128 << 10

// stream writes one object of the ledger's store. Its goroutine ends with close or abort, which wait for it.
type stream struct {
	name string
	key  archive.Key
	buf  *bufio.Writer
	pipe *io.PipeWriter
	size int64
	done chan struct{}
	err  error // of the store; read it after done
	// release ends whoever writes from another goroutine, and waits for it. The pipe is closed first, or it could wait forever.
	release func()
}

func (f *finish) newStream(ctx context.Context, name string) *stream {
	pr, pw := io.Pipe()
	s := &stream{name: name, key: f.key(f.folder, name), pipe: pw, done: make(chan struct{}), release: func() {}}
	s.buf = bufio.NewWriterSize(pw, streamBuffer)
	go func() {
		defer close(s.done)
		s.err = f.led.Store().Create(ctx, s.key, pr)
		// Whoever still writes learns why nobody reads.
		pr.CloseWithError(errors.Join(s.err, io.ErrClosedPipe))
	}()
	f.open = append(f.open, s)
	return s
}

func (s *stream) Write(p []byte) (int, error) {
	n, err := s.buf.Write(p)
	s.size += int64(n)
	return n, err
}

// close ends the object; it is durable when close returns nil.
func (s *stream) close() error {
	err := s.buf.Flush()
	s.pipe.CloseWithError(err)
	<-s.done
	return cmp.Or(s.err, err)
}

// abort ends the goroutines of all streams that are open, and those that write to them. What they wrote is not stored.
func (f *finish) abort(cause error) {
	for _, s := range f.open {
		s.pipe.CloseWithError(cause)
		s.release()
		<-s.done
	}
}

// sink is a writer of the report package.
type sink interface {
	Close() error
	Rows() int64
}

// output is one file of the report with its writer.
type output[W sink] struct {
	to     W
	stream *stream
}

func create[W sink](ctx context.Context, f *finish, name string, writer func(io.Writer) (W, error)) (*output[W], error) {
	s := f.newStream(ctx, name)
	w, err := writer(s)
	return &output[W]{to: w, stream: s}, err
}

// finish ends the file and notes it for the summary.
func (o *output[W]) finish(f *finish) error {
	if err := o.close(); err != nil {
		return err
	}
	o.note(f)
	return nil
}

// close ends the file; it is whole and durable when close returns nil.
func (o *output[W]) close() error {
	if err := errors.Join(o.to.Close(), o.stream.close()); err != nil {
		return fmt.Errorf("%s: %w", o.stream.key, err)
	}
	return nil
}

// note notes the file, which is closed, for the summary.
func (o *output[W]) note(f *finish) {
	f.open = slices.DeleteFunc(f.open, func(s *stream) bool { return s == o.stream })
	f.files = append(f.files, report.File{Name: o.stream.name, Key: o.stream.key, Size: o.stream.size, Rows: o.to.Rows()})
}

// outputs are the files that final records go to.
type outputs struct {
	f        *finish
	shard    *shard
	shards   int
	failures *output[*report.FailureWriter]
	plan     *output[*report.PlanWriter] // nil where the batch has no plan
}

func (f *finish) newOutputs(ctx context.Context, planned bool) (*outputs, error) {
	o := &outputs{f: f}
	var err error
	if o.failures, err = create(ctx, f, report.FailuresName, report.NewFailureWriter); err != nil {
		return nil, err
	}
	if planned {
		if o.plan, err = create(ctx, f, report.PlanName, report.NewPlanWriter); err != nil {
			return nil, err
		}
	}
	return o, o.nextShard(ctx)
}

// nextShard ends the current shard, if there is one, and starts the next.
func (o *outputs) nextShard(ctx context.Context) error {
	if o.shard != nil {
		if err := o.shard.finish(o.f); err != nil {
			return err
		}
	}
	s, err := o.f.newShard(ctx, o.shards)
	o.shard = s
	o.shards++
	return err
}

func (o *outputs) add(ctx context.Context, fin final) error {
	if o.shard.rows >= o.f.shardRows {
		if err := o.nextShard(ctx); err != nil {
			return err
		}
	}
	err := errors.Join(o.shard.add(fin.Record), o.failures.to.Add(fin.Record))
	if o.plan != nil && fin.row != nil {
		err = errors.Join(err, o.plan.to.Add(*fin.row))
	}
	return err
}

func (o *outputs) finish() error {
	if err := errors.Join(o.shard.finish(o.f), o.failures.finish(o.f)); err != nil || o.plan == nil {
		return err
	}
	return o.plan.finish(o.f)
}

// aliveEvery is the number of records between two looks at the claim.
const aliveEvery = 256

// writeFinals writes every final record to the files, counts it, and adds its content to contents.
func (f *finish) writeFinals(ctx context.Context, rows *sortedRows, sidecars, contents *extsort.Sorter) error {
	out, err := f.newOutputs(ctx, rows != nil)
	if err != nil {
		return err
	}
	n := 0
	for fin, err := range f.finals(ctx, rows, sidecars) {
		if err != nil {
			return err
		}
		if n++; n%aliveEvery == 0 {
			if err := f.alive(ctx); err != nil {
				return err
			}
			f.hold.Advance(aliveEvery, 0)
		}
		f.tally.add(fin)
		if err := f.addContent(ctx, contents, fin); err != nil {
			return err
		}
		if err := out.add(ctx, fin); err != nil {
			return err
		}
	}
	f.hold.Advance(int64(n%aliveEvery), 0)
	return out.finish()
}
