// Package inspecting makes the record of one object: its digests and its tags, from one read of it.
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
//   - skipped, cold-storage: the object has to be restored before it can be read.
//
// Where the batch trusts the store's checksums, an object of which the store keeps all digests asked for is not read for
// them. Where all of a content is read, it is failed, checksum-mismatch if the store keeps a digest that the content does not
// have. The record keeps nothing that was read of it then.
//
// How much is read of an object in a remote store: see remote.go.
//
// Facts.Capture stays empty where no tag tells it; names may fall back on the modification time, records do not.
package inspecting

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/digest"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/worker/internal/exiftool"
)

// Tagger reads the tags of an open file, which may be one that is brought in parts. exiftool.Pool is one; it keeps its own
// deadlines.
type Tagger interface {
	Read(ctx context.Context, level batch.Level, file *os.File, name archive.Key) (exiftool.Result, error)
	ReadPaged(ctx context.Context, level batch.Level, file *os.File, pages exiftool.Pages, name archive.Key) (exiftool.Result, error)
}

// Options of an Inspector; the zero value works.
type Options struct {
	// Stall is how long the store may bring nothing before the object fails. Defaults to 2 minutes.
	Stall time.Duration
	// Scratch is where contents without a local file are kept while ExifTool reads them. Defaults to the system's
	// temporary folder.
	Scratch string
	// ScratchBytes bounds what is kept there at any time. Objects wait for one another where it is not enough. Defaults to
	// 1 GiB; at least 16 MiB.
	ScratchBytes int64
}

// Inspector makes records. It is safe for concurrent use.
type Inspector struct {
	tagger  Tagger
	options Options
	buffers sync.Pool // of *[]byte, bufferSize each
	room    *semaphore.Weighted
	small   int64 // smallContent, but in tests
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
	o.ScratchBytes = max(cmp.Or(o.ScratchBytes, 1<<30), minScratch)
	return &Inspector{
		tagger: t, options: o, room: semaphore.NewWeighted(o.ScratchBytes), small: smallContent,
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
			// The tagger keeps its own deadlines, and the store where it reads in parts. The wait may just have ended.
			if cancelled != nil && (v.waiting.Load() || len(v.alive) > 0) {
				timer.Reset(i.options.Stall)
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
	kept     kept
	alive    chan struct{} // told whenever something came
	waiting  atomic.Bool   // for the tagger or for scratch space, not for the store
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
	sums, object, err := v.askStore(ctx)
	if err != nil {
		return failed(ctx, r, err)
	}
	v.kept = sums
	digests, ok := sums.all(v.batch.Digests)
	if ok && !v.wantsTags() {
		return unread(object, digests), nil
	}
	if v.wantsTags() && !v.store.Properties().Local {
		if v.object.Size > v.small && (ok || v.batch.Digests.Len() == 0) {
			return v.inParts(ctx, digests)
		}
		return v.download(ctx)
	}
	return v.whole(ctx, func(r *batch.Record, content *store.Content) (source, error) {
		return source{file: content.File}, v.hash(ctx, r, content)
	})
}

// whole reads an object from its start to its end by read, which returns what its tags are read from.
func (v *inspection) whole(ctx context.Context, read func(*batch.Record, *store.Content) (source, error)) (batch.Record, error) {
	r := batch.Record{Object: v.object.Object, Outcome: batch.Done}
	content, err := v.store.Open(ctx, v.object.Key, 0, -1, v.object.Identity)
	if err != nil {
		return failed(ctx, r, err)
	}
	defer func() { _ = content.Close() }() // it was only read
	r.Object = content.Object
	from, err := read(&r, content)
	if err != nil {
		return failed(ctx, r, confirm(ctx, content, err))
	}
	return v.tagged(ctx, r, from, content)
}

// tagged adds the tags to a record, where they are wanted, if content is still what it was.
func (v *inspection) tagged(ctx context.Context, r batch.Record, from source, content *store.Content) (batch.Record, error) {
	if v.wantsTags() {
		v.waiting.Store(true)
		err := v.tag(ctx, &r, from)
		v.moved()
		v.waiting.Store(false)
		if errors.As(err, new(exiftool.ContentError)) {
			return failed(ctx, batch.Record{Object: v.object.Object}, err)
		}
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

// hash computes the digests that the batch asks for, if any, of a content. One with other digests than the store keeps is a
// mismatchError.
func (v *inspection) hash(ctx context.Context, r *batch.Record, content io.Reader) error {
	if v.batch.Digests.Len() == 0 && (v.store.Properties().Local || !v.wantsTags()) {
		return nil
	}
	buffer := v.buffers.Get().(*[]byte)
	defer v.buffers.Put(buffer)
	digests, n, err := digest.Sum(ctx, v.kept.with(v.batch.Digests), content, *buffer, v.advance)
	if err != nil {
		return err
	}
	if n != r.Size {
		return fmt.Errorf("read %d of %d bytes: %w", n, r.Size, store.ErrChanged)
	}
	digests, wrong := v.kept.compare(digests, v.batch.Digests)
	if wrong != "" {
		return mismatchError(wrong)
	}
	r.Digests = digests
	return nil
}
