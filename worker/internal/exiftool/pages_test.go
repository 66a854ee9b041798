package exiftool_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/worker/internal/exiftool"
	"github.com/reshelf/reshelf/worker/internal/paging"
)

// newPaged is a sparse file of content, of which nothing is there.
func newPaged(t *testing.T, size int64, fetch paging.Fetch) *paging.File {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	f, err := paging.New(file, size, paging.MinBudget, fetch)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// fetchOf serves content.
func fetchOf(content []byte) paging.Fetch {
	return func(_ context.Context, offset, length int64) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(content[offset : offset+length])), nil
	}
}

func readPaged(t *testing.T, p *exiftool.Pool, level batch.Level, f *paging.File, name string) (exiftool.Result, error) {
	t.Helper()
	return p.ReadPaged(t.Context(), level, f.File(), f, archive.Key(filepath.Base(name)))
}

// readInParts reads the file at path as one of which nothing is there before it is read.
func readInParts(t *testing.T, p *exiftool.Pool, level batch.Level, path string) exiftool.Result {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f := newPaged(t, int64(len(content)), fetchOf(content))
	defer func() { _ = f.File().Close() }()
	r, err := readPaged(t, p, level, f, path)
	if err != nil {
		t.Errorf("%s: %v", path, err)
	}
	return r
}

// bigJPEG is a photograph with much behind it, of which ExifTool need not read all.
func bigJPEG(t *testing.T, title string) []byte {
	t.Helper()
	content, err := os.ReadFile(photo(t, filepath.Join(t.TempDir(), "a.jpg"), "dc:title", title))
	if err != nil {
		t.Fatal(err)
	}
	return append(content, make([]byte, 3<<20)...)
}

// A content that cannot be read gives no tags, not those of the part that was read; the next file has its own.
func TestPagedFailure(t *testing.T) {
	p := newPool(t, exiftool.Options{})
	content := bigJPEG(t, "paged")
	gone := errors.New("the store is gone")
	for failing := range 2 {
		requests := 0
		f := newPaged(t, int64(len(content)), func(ctx context.Context, offset, length int64) (io.ReadCloser, error) {
			if requests++; requests > failing {
				return nil, gone
			}
			return fetchOf(content)(ctx, offset, length)
		})
		r, err := readPaged(t, p, batch.LevelNormal, f, "a.jpg")
		if !errors.As(err, new(exiftool.ContentError)) || !errors.Is(err, gone) || r.Tags != nil {
			t.Errorf("request %d failed: got %v, tags %v, want the store's error", failing+1, err, r.Tags)
		}
	}
	restarts := p.Status().Processes[0].Restarts
	r, err := readPaged(t, p, batch.LevelNormal, newPaged(t, int64(len(content)), fetchOf(content)), "a.jpg")
	if err != nil || text(r.Tags, "XMP-dc:Title") != "paged" || restarts != 0 {
		t.Errorf("the next: got %v, %v, after %d restarts", r.Tags, err, restarts)
	}
}

// What ExifTool has buffered of a part is not taken for what comes behind it.
func TestPagedAcrossParts(t *testing.T) {
	p := newPool(t, exiftool.Options{})
	const title = 600
	for before := 20; before < 9000; before += 300 { // bytes of the title's chunk before the end of the first part
		filler := paging.Block - before - (8 + 25 + 12 + 1001 + 12) // signature, header, and what chunks have besides
		// ExifTool skips the image's data, so that it reads on from an odd place.
		content := png("IDAT", strings.Repeat("i", 1001), "tEXt", "Comment\x00"+strings.Repeat("x", filler-8), "tEXt", "Title\x00"+strings.Repeat("t", title), "tEXt", "Author\x00"+strings.Repeat("a", paging.Block))
		r, err := readPaged(t, p, batch.LevelNormal, newPaged(t, int64(len(content)), fetchOf(content)), "a.png")
		if got := text(r.Tags, "PNG:Title"); err != nil || got != strings.Repeat("t", title) {
			t.Errorf("%d bytes before: got title %q, fault %q (%s), %v", before, got, r.Fault, r.FaultMessage, err)
		}
	}
}

// The time that the store takes is not ExifTool's.
func TestPagedSlowly(t *testing.T) {
	const limit = 500 * time.Millisecond
	p := newPool(t, exiftool.Options{Deadline: func(int64, batch.Level) time.Duration { return limit }})
	content := bigJPEG(t, "slow")
	if _, err := p.Version(t.Context()); err != nil {
		t.Fatal(err)
	}
	f := newPaged(t, int64(len(content)), func(ctx context.Context, offset, length int64) (io.ReadCloser, error) {
		time.Sleep(2 * limit)
		return fetchOf(content)(ctx, offset, length)
	})
	r, err := readPaged(t, p, batch.LevelNormal, f, "a.jpg")
	if err != nil || r.Fault != "" || text(r.Tags, "XMP-dc:Title") != "slow" || p.Status().Processes[0].Restarts != 0 {
		t.Errorf("got %v, fault %q (%s), %v", r.Tags, r.Fault, r.FaultMessage, err)
	}
}

// A keeper, or an ExifTool, that is killed while it waits for a part is replaced, and the file is read all the same.
func TestPagedKilled(t *testing.T) {
	for _, what := range []string{"keeper", "exiftool"} {
		t.Run(what, func(t *testing.T) {
			p := newPool(t, exiftool.Options{})
			content := bigJPEG(t, "killed")
			var killed atomic.Bool
			f := newPaged(t, int64(len(content)), func(ctx context.Context, offset, length int64) (io.ReadCloser, error) {
				if killed.CompareAndSwap(false, true) {
					one := p.Status().Processes[0]
					pid := one.Keeper
					if what == "exiftool" {
						pid = one.ExifTool
					}
					if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
						t.Error(err)
					}
				}
				return fetchOf(content)(ctx, offset, length)
			})
			r, err := readPaged(t, p, batch.LevelNormal, f, "a.jpg")
			if err != nil || text(r.Tags, "XMP-dc:Title") != "killed" {
				t.Errorf("got %v, fault %q (%s), %v", r.Tags, r.Fault, r.FaultMessage, err)
			}
		})
	}
}

// An ExifTool that is stopped and goes on, as a debugger or an operator may have it, still waits for its part: it has a
// handler for SIGCONT, so that its read is interrupted.
func TestPagedInterrupted(t *testing.T) {
	p := newPool(t, exiftool.Options{})
	content := bigJPEG(t, "interrupted")
	f := newPaged(t, int64(len(content)), func(ctx context.Context, offset, length int64) (io.ReadCloser, error) {
		pid := p.Status().Processes[0].ExifTool
		in := func(state string) {
			until(t, "exiftool in state "+state, func() bool { _, got, _ := procStat(strconv.Itoa(pid)); return got == state })
		}
		in("S")
		kill(t, pid, syscall.SIGSTOP)
		in("T")
		kill(t, pid, syscall.SIGCONT)
		in("S")
		return fetchOf(content)(ctx, offset, length)
	})
	r, err := readPaged(t, p, batch.LevelNormal, f, "a.jpg")
	if err != nil || text(r.Tags, "XMP-dc:Title") != "interrupted" || p.Status().Processes[0].Restarts != 0 {
		t.Errorf("got %v, fault %q (%s), %v", r.Tags, r.Fault, r.FaultMessage, err)
	}
}

func TestPagedCancelled(t *testing.T) {
	p := newPool(t, exiftool.Options{})
	content := bigJPEG(t, "cancelled")
	ctx, cancel := context.WithCancel(t.Context())
	f := newPaged(t, int64(len(content)), func(ctx context.Context, _, _ int64) (io.ReadCloser, error) {
		cancel()
		<-ctx.Done()
		return nil, ctx.Err()
	})
	if r, err := p.ReadPaged(ctx, batch.LevelNormal, f.File(), f, "a.jpg"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, %v, want Canceled", r, err)
	}
}

// An ExifTool that does not ask would read zeros: it is not believed.
func TestPagedUnasked(t *testing.T) {
	p := newPool(t, exiftool.Options{Binary: newStandIn(t), Deadline: short})
	f := newPaged(t, 1000, fetchOf(make([]byte, 1000)))
	if r, err := readPaged(t, p, batch.LevelNormal, f, "a.unasked"); !errors.Is(err, exiftool.ErrUnavailable) {
		t.Errorf("got %+v, %v, want ErrUnavailable", r, err)
	}
}

// One that asked, and died, does not make its successor believed.
func TestPagedUnaskedAgain(t *testing.T) {
	standIn := newStandIn(t)
	arm(t, standIn)
	p := newPool(t, exiftool.Options{Binary: standIn, Deadline: patient})
	f := newPaged(t, 1000, fetchOf(make([]byte, 1000)))
	if r, err := readPaged(t, p, batch.LevelNormal, f, "a.askdieonce"); !errors.Is(err, exiftool.ErrUnavailable) {
		t.Errorf("got %+v, %v, want ErrUnavailable", r, err)
	}
}

// Questions do not stop the clock, only what has to be fetched for them does.
func TestPagedForever(t *testing.T) {
	p := newPool(t, exiftool.Options{Binary: newStandIn(t), Deadline: short})
	f := newPaged(t, 1000, fetchOf(make([]byte, 1000)))
	began := time.Now()
	r, err := readPaged(t, p, batch.LevelNormal, f, "a.askforever")
	if took := time.Since(began); err != nil || r.Fault != batch.ReasonTimeout || took > 15*time.Second {
		t.Errorf("got %+v, %v after %v, want a timeout after 2 s", r, err, took)
	}
}

// There is nothing to ask for of a file that is all there.
func TestAskingWithoutPages(t *testing.T) {
	p := newPool(t, exiftool.Options{Binary: newStandIn(t), Deadline: patient})
	dir := t.TempDir()
	r := read(t, p, batch.LevelNormal, write(t, filepath.Join(dir, "a.askforever"), "bad"))
	if r.Fault != batch.ReasonCrashed {
		t.Errorf("got %+v, want crashed", r)
	}
	if r := read(t, p, batch.LevelNormal, write(t, filepath.Join(dir, "a.good"), "good")); text(r.Tags, "XMP-dc:Title") != "good" {
		t.Errorf("the next file: got %+v", r)
	}
}

// An ExifTool that asks for nonsense costs its file's record only.
func TestPagedNonsense(t *testing.T) {
	p := newPool(t, exiftool.Options{Binary: newStandIn(t), Deadline: short})
	for _, ext := range []string{"askgarbage", "askendless"} {
		f := newPaged(t, 1000, fetchOf(make([]byte, 1000)))
		if r, err := readPaged(t, p, batch.LevelNormal, f, "a."+ext); err != nil || r.Fault != batch.ReasonCrashed {
			t.Errorf("%s: got %+v, %v, want crashed", ext, r, err)
		}
	}
	f := newPaged(t, 1000, fetchOf(make([]byte, 1000)))
	if r, err := readPaged(t, p, batch.LevelNormal, f, "a.askoutside"); !errors.As(err, new(exiftool.ContentError)) {
		t.Errorf("a part that no content has: got %+v, %v, want a ContentError", r, err)
	}
	good := write(t, filepath.Join(t.TempDir(), "a.good"), "good")
	if r := read(t, p, batch.LevelNormal, good); text(r.Tags, "XMP-dc:Title") != "good" {
		t.Errorf("the next file: got %+v", r)
	}
}
