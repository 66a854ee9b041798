package inspecting

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/digest"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/worker/internal/paging"
)

// How the tags of a remote object are read:
//
//   - Where its digests have to be computed, it is downloaded once, for both. ExifTool reads a copy in scratch space; of an
//     object too large for that, only the start and the end are kept, and the few parts that ExifTool reads besides are
//     asked for again.
//   - Where they need not, a small object is downloaded, and of a large one only what ExifTool reads.
//
// All parts are of one version of the object: they are asked for under its identity.
const (
	// smallContent is the size in bytes up to which a whole object is read rather than parts of it.
	smallContent = 1 << 20
	// firstPart is read of a large object at once: few formats need more than this and their end.
	firstPart = 128 << 10
	// partsBudget bounds the scratch space of an object that is read in parts.
	partsBudget = 32 << 20
	// keptStart and keptEnd are kept of an object that is downloaded but too large to be kept.
	keptStart, keptEnd = 4 << 20, 4 << 20
	// minScratch is the least that Options.ScratchBytes may be.
	minScratch = 16 << 20
	// heldShare is the part of the scratch space that one object may take.
	heldShare = 4
)

// reserve waits for scratch space. The caller gives it back by calling release, once or more.
func (v *inspection) reserve(ctx context.Context, bytes int64) (release func(), err error) {
	if !v.room.TryAcquire(bytes) {
		v.waiting.Store(true)
		defer v.waiting.Store(false)
		if err := v.room.Acquire(ctx, bytes); err != nil {
			return nil, err
		}
		v.moved()
	}
	return sync.OnceFunc(func() { v.room.Release(bytes) }), nil
}

// mostHeld is how many bytes one object may take of the scratch space.
func (v *inspection) mostHeld() int64 { return v.options.ScratchBytes / heldShare }

// download reads all of an object, and its tags from what is kept of it.
func (v *inspection) download(ctx context.Context) (batch.Record, error) {
	held := v.object.Size
	if held > v.mostHeld() {
		held = min(partsBudget, v.mostHeld())
	}
	release, err := v.reserve(ctx, held)
	if err != nil {
		return failed(ctx, batch.Record{Object: v.object.Object}, err)
	}
	defer release()
	file, err := v.spool()
	if err != nil {
		return failed(ctx, batch.Record{Object: v.object.Object}, err)
	}
	defer func() { _ = file.Close() }()
	return v.whole(ctx, func(r *batch.Record, content *store.Content) (source, error) {
		if held == v.object.Size {
			return source{file: file}, v.hash(ctx, r, io.TeeReader(content, spoolWriter{file}))
		}
		pages, err := paging.New(file, r.Size, held, v.fetch(content))
		if err != nil {
			return source{}, err
		}
		return source{file, pages}, v.hash(ctx, r, io.TeeReader(content, &ends{pages: pages, size: r.Size}))
	})
}

// ends keeps the start and the end of what is written to it.
type ends struct {
	pages    *paging.File
	at, size int64
}

func (e *ends) Write(p []byte) (int, error) {
	at := e.at
	e.at += int64(len(p))
	if at >= keptStart && e.at <= e.size-keptEnd {
		return len(p), nil
	}
	return len(p), e.pages.Put(p, at)
}

// zipStart is how the formats begin that ExifTool's ZIP library reads, which cannot read in parts.
const zipStart = "PK\x03\x04"

// errZIP: the object has to be read whole.
var errZIP = errors.New("is a ZIP file")

// inParts reads of an object only what its tags need. Its digests are those that the store keeps, if any are asked for.
func (v *inspection) inParts(ctx context.Context, digests []digest.Digest) (batch.Record, error) {
	nothing := batch.Record{Object: v.object.Object}
	budget := min(v.object.Size, partsBudget, v.mostHeld())
	release, err := v.reserve(ctx, budget)
	if err != nil {
		return failed(ctx, nothing, err)
	}
	defer release()
	content, start, err := v.begin(ctx)
	if errors.Is(err, errZIP) {
		release()
		return v.download(ctx)
	}
	if err != nil {
		return failed(ctx, nothing, err)
	}
	file, err := v.spool()
	if err != nil {
		return failed(ctx, nothing, err)
	}
	defer func() { _ = file.Close() }()
	pages, err := paging.New(file, content.Object.Size, budget, v.fetch(content))
	if err == nil {
		err = pages.Put(start, 0)
	}
	if err != nil {
		return failed(ctx, nothing, err)
	}
	return v.tagged(ctx, unread(content.Object, digests), source{file, pages}, content)
}

// begin reads the start of an object. The content that it returns is closed.
func (v *inspection) begin(ctx context.Context) (*store.Content, []byte, error) {
	content, err := v.store.Open(ctx, v.object.Key, 0, firstPart, v.object.Identity)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = content.Close() }() // it was only read
	v.moved()
	start, err := io.ReadAll(content)
	v.moved()
	if err == nil && bytes.HasPrefix(start, []byte(zipStart)) && v.object.Size <= v.mostHeld() {
		err = errZIP
	}
	return content, start, err
}

// fetch reads parts of the very object that content is of.
func (v *inspection) fetch(content *store.Content) paging.Fetch {
	return func(ctx context.Context, offset, length int64) (io.ReadCloser, error) {
		part, err := v.store.Open(ctx, v.object.Key, offset, length, content.Object.Identity)
		if err != nil {
			return nil, err
		}
		return part, nil
	}
}

// spool makes a temporary file without a name, which the kernel frees even if this process is killed.
func (v *inspection) spool() (*os.File, error) {
	file, err := os.CreateTemp(v.options.Scratch, "reshelf-content-")
	if err == nil {
		err = os.Remove(file.Name())
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", paging.ErrScratch, err)
	}
	return file, nil
}

// spoolWriter tells failures to write from failures to read the object.
type spoolWriter struct{ file *os.File }

func (w spoolWriter) Write(p []byte) (int, error) {
	n, err := w.file.Write(p)
	if err != nil {
		err = fmt.Errorf("%w: %w", paging.ErrScratch, err)
	}
	return n, err
}
