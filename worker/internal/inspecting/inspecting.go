// Package inspecting makes the record of one object: its digests and its tags, from one open file.
//
// What becomes of an object:
//
//   - done: the digests asked for, and the tags that ExifTool gave. A file that is empty, or of a type that ExifTool does
//     not know, is done with a warning: there is nothing wrong with it, only nothing to read in it.
//   - failed, format: ExifTool says that the file is broken ("File format error", "Entire file is binary zeros"). The
//     record keeps the digests, which are those of the broken content, and what tags there are.
//   - failed, timeout, crashed, too-large, unreadable: ExifTool gave no tags. The record keeps the digests.
//   - failed, changed: the object was not, or did not stay, what was listed. The record keeps nothing that was read.
//   - failed, missing, special-file, unreadable, io, timeout: the object could not be read.
//
// Facts.Capture stays empty where no tag tells it; names may fall back on the modification time, records do not.
package inspecting

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/digest"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/worker/internal/exiftool"
)

// Tagger reads the tags of an open file. exiftool.Pool is one; it keeps its own deadlines.
type Tagger interface {
	Read(ctx context.Context, level batch.Level, file *os.File, name archive.Key) (exiftool.Result, error)
}

// Options of an Inspector; the zero value works.
type Options struct {
	// Stall is how long the store may bring nothing before the object fails. Defaults to 2 minutes.
	Stall time.Duration
	// Scratch is where contents without a local file are kept while ExifTool reads them. Defaults to the system's
	// temporary folder.
	Scratch string
}

// Inspector makes records. It is safe for concurrent use.
type Inspector struct {
	tagger  Tagger
	options Options
	buffers sync.Pool // of *[]byte, bufferSize each
	stuck   atomic.Int64
}

const (
	// bufferSize of one read, in bytes.
	bufferSize = 256 << 10
	// cancelWait is how long an inspection may take to end after its context.
	cancelWait = 10 * time.Second
)

// New returns an inspector that has tags read by t.
func New(t Tagger, o Options) *Inspector {
	if o.Stall == 0 {
		o.Stall = 2 * time.Minute
	}
	return &Inspector{
		tagger: t, options: o,
		buffers: sync.Pool{New: func() any { b := make([]byte, bufferSize); return &b }},
	}
}

// Stuck is the number of objects that were given up and whose reads have not come back from the kernel yet. Each holds a
// goroutine, a thread and a descriptor.
func (i *Inspector) Stuck() int64 { return i.stuck.Load() }

// Func is the form of Inspect.
type Func func(ctx context.Context, st store.Store, b batch.Batch, o batch.Listed, progress func(bytes int64)) (batch.Record, error)

// Inspect reads o once, as b asks, and says what became of it. What is wrong with the object is in the record. An error is
// for what is not its fault, and means that nothing is known of it: ctx ended, the archive or ExifTool cannot be reached,
// this machine has no space left. progress is told the bytes read, in small steps, and never after Inspect returned.
//
// A read that is stuck in the kernel cannot be interrupted. It is left behind, after Options.Stall or soon after ctx, and
// counted by Stuck until it comes back.
func (i *Inspector) Inspect(ctx context.Context, st store.Store, b batch.Batch, o batch.Listed, progress func(bytes int64)) (batch.Record, error) {
	if o.Problem != "" {
		return batch.Record{Object: o.Object, Outcome: o.Outcome, Reason: o.Problem, Message: o.Detail}, nil
	}
	in, cancel := context.WithCancel(ctx)
	defer cancel()
	v := &inspection{Inspector: i, store: st, batch: b, object: o, progress: progress, alive: make(chan struct{}, 1)}
	done := make(chan ended, 1)
	go func() {
		r, err := v.run(in)
		done <- ended{r, err}
	}()
	if e, ok := i.watch(ctx, v, done); ok {
		return e.record, e.err
	}
	v.abandon()
	i.stuck.Add(1)
	go func() { <-done; i.stuck.Add(-1) }()
	if ctx.Err() != nil {
		return batch.Record{}, fmt.Errorf("inspect %s: %w", o.Key.Text(), context.Cause(ctx))
	}
	return batch.Record{
		Object: o.Object, Outcome: batch.Failed, Reason: batch.ReasonTimeout,
		Message: fmt.Sprintf("the archive brought nothing of it for %v; check the disk or the network, then retry", i.options.Stall),
	}, nil
}

type ended struct {
	record batch.Record
	err    error
}

// watch waits for done. It reports false if the inspection stalled, or did not end with ctx.
func (i *Inspector) watch(ctx context.Context, v *inspection, done <-chan ended) (ended, bool) {
	timer := time.NewTimer(i.options.Stall)
	defer timer.Stop()
	cancelled := ctx.Done()
	for {
		select {
		case e := <-done:
			return e, true
		case <-v.alive:
			if cancelled != nil {
				timer.Reset(i.options.Stall)
			}
		case <-cancelled:
			cancelled = nil
			timer.Reset(cancelWait)
		case <-timer.C:
			if cancelled != nil && v.tagging.Load() {
				timer.Reset(i.options.Stall) // the tagger keeps its own deadlines
				continue
			}
			return ended{}, false
		}
	}
}

// inspection is the work on one object. It runs on its own goroutine and may outlive its Inspect.
type inspection struct {
	*Inspector
	store    store.Store
	batch    batch.Batch
	object   batch.Listed
	alive    chan struct{} // told whenever something came
	tagging  atomic.Bool
	mu       sync.Mutex
	progress func(bytes int64) // nil once abandoned
}

func (v *inspection) abandon() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.progress = nil
}

func (v *inspection) advance(n int64) {
	v.mu.Lock()
	if v.progress != nil {
		v.progress(n)
	}
	v.mu.Unlock()
	v.moved()
}

func (v *inspection) moved() {
	select {
	case v.alive <- struct{}{}:
	default:
	}
}

func (v *inspection) run(ctx context.Context) (batch.Record, error) {
	r := batch.Record{Object: v.object.Object, Outcome: batch.Done}
	content, err := v.store.Open(ctx, v.object.Key, 0, -1, v.object.Identity)
	if err != nil {
		return failed(ctx, r, err)
	}
	defer func() { _ = content.Close() }() // it was only read
	r.Object = content.Object
	file, err := v.read(ctx, &r, content)
	if file != content.File {
		defer func() { _ = file.Close() }()
	}
	if err != nil {
		return failed(ctx, r, err)
	}
	if v.wantsTags() {
		v.tagging.Store(true)
		err = v.tag(ctx, &r, file)
		v.tagging.Store(false)
		v.moved()
		if err != nil {
			return r, fmt.Errorf("read tags of %s: %w", r.Key.Text(), err)
		}
	}
	if err := content.Recheck(ctx); err != nil {
		return failed(ctx, batch.Record{Object: v.object.Object}, err)
	}
	return r, nil
}

func (v *inspection) wantsTags() bool { return v.batch.Level != batch.LevelNone && v.batch.Level != "" }

// read hashes the content and returns a file that holds it: the content's own, or, if tags are wanted of a remote one, a
// temporary one that has no name and is the caller's to close.
func (v *inspection) read(ctx context.Context, r *batch.Record, content *store.Content) (*os.File, error) {
	if content.File != nil || !v.wantsTags() {
		if v.batch.Digests.Len() == 0 {
			return content.File, nil
		}
		return content.File, v.hash(ctx, r, content)
	}
	file, err := v.spool()
	if err != nil {
		return content.File, err
	}
	return file, v.hash(ctx, r, io.TeeReader(content, spoolWriter{file}))
}

func (v *inspection) hash(ctx context.Context, r *batch.Record, source io.Reader) error {
	buffer := v.buffers.Get().(*[]byte)
	defer v.buffers.Put(buffer)
	digests, n, err := digest.Sum(ctx, v.batch.Digests, source, *buffer, v.advance)
	if err != nil {
		return err
	}
	if n != r.Size {
		return fmt.Errorf("read %d of %d bytes: %w", n, r.Size, store.ErrChanged)
	}
	r.Digests = digests
	return nil
}
