package inspecting_test

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/digest"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/worker/internal/exiftool"
	"github.com/reshelf/reshelf/worker/internal/inspecting"
)

// bucket is a remote store that counts what is read of it.
type bucket struct {
	store.Store
	kept []digest.Digest
	open func(n int) error // called before the nth read

	mu    sync.Mutex
	reads []string
	bytes int64
}

func (b *bucket) Open(ctx context.Context, key archive.Key, offset, length int64, want archive.Identity) (*store.Content, error) {
	b.mu.Lock()
	n := len(b.reads)
	b.reads = append(b.reads, fmt.Sprintf("%d+%d", offset, length))
	b.mu.Unlock()
	if b.open != nil {
		if err := b.open(n); err != nil {
			return nil, err
		}
	}
	c, err := b.Store.Open(ctx, key, offset, length, want)
	if err == nil {
		rest := max(c.Object.Size-offset, 0)
		if length < 0 {
			length = rest
		}
		b.mu.Lock()
		b.bytes += min(length, rest)
		b.mu.Unlock()
	}
	return c, err
}

func (b *bucket) Checksums(ctx context.Context, key archive.Key, want archive.Identity) ([]digest.Digest, archive.Object, error) {
	_, object, err := b.Store.Checksums(ctx, key, want)
	return b.kept, object, err
}

func newBucket(t *testing.T, o inspecting.Options, key archive.Key, content string) (*fixture, *bucket) {
	t.Helper()
	f := newFixture(t, o)
	f.useMemory(t, key, content)
	b := &bucket{Store: f.store}
	f.store = b
	f.batch = batch.Batch{Level: batch.LevelNormal}
	return f, b
}

// largeJPEG is a photograph with megabytes behind it.
func largeJPEG(t *testing.T, megabytes int) string {
	t.Helper()
	return jpegText(t) + strings.Repeat("\x00", megabytes<<20)
}

func tagText(r batch.Record, name string) (s string) {
	_ = json.Unmarshal(r.Tags[name], &s)
	return s
}

func TestInspectInParts(t *testing.T) {
	f, b := newBucket(t, inspecting.Options{}, "a.jpg", largeJPEG(t, 20))
	r := f.inspect(t, f.listed(t, "a.jpg"))
	if r.Outcome != batch.Done || r.Facts == nil || r.Facts.Width != 16 || r.ExifTool == "" || r.Object.Size != int64(len(jpegText(t)))+20<<20 {
		t.Errorf("got %+v, want its tags", r)
	}
	if len(b.reads) > 4 || b.bytes > 1<<20 {
		t.Errorf("got %d bytes in %v, want a small part of 20 MiB", b.bytes, b.reads)
	}
}

// What the store vouches for is not downloaded for its tags.
func TestInspectInPartsTrusting(t *testing.T) {
	content := largeJPEG(t, 20)
	f, b := newBucket(t, inspecting.Options{}, "a.jpg", content)
	sum := sha256.Sum256([]byte(content))
	d, err := digest.New(digest.SHA256, sum[:])
	must(t, err)
	b.kept = []digest.Digest{d}
	f.batch.Digests, f.batch.TrustStoreChecksums = digest.Set(0).With(digest.SHA256), true
	r := f.inspect(t, f.listed(t, "a.jpg"))
	if r.Outcome != batch.Done || len(r.Digests) != 1 || r.Digests[0] != d || len(r.FromStore) != 1 || r.Facts == nil || r.Facts.Width != 16 {
		t.Errorf("got %+v, want its tags and the store's digest", r)
	}
	if b.bytes > 1<<20 {
		t.Errorf("got %d bytes in %v, want a small part of 20 MiB", b.bytes, b.reads)
	}
}

// A content too large to be kept is downloaded once for its digests; its start and end are kept for its tags.
func TestInspectTooLargeToKeep(t *testing.T) {
	content := largeJPEG(t, 30)
	f, b := newBucket(t, inspecting.Options{ScratchBytes: 16 << 20}, "a.jpg", content)
	f.batch.Digests = digest.Set(0).With(digest.SHA256)
	r := f.inspect(t, f.listed(t, "a.jpg"))
	if want := fmt.Sprintf("%x", sha256.Sum256([]byte(content))); r.Outcome != batch.Done || len(r.Digests) != 1 || r.Digests[0].Hex() != want || r.Facts == nil || r.Facts.Width != 16 {
		t.Errorf("got %+v, want its tags and SHA-256 %s", r, want)
	}
	if over := b.bytes - int64(len(content)); b.reads[0] != "0+-1" || over > 1<<20 {
		t.Errorf("got %d bytes more than there are, in %v, want one download", over, b.reads)
	}
	if f.moved != int64(len(content)) {
		t.Errorf("progress: got %d bytes, want %d", f.moved, len(content))
	}
}

// ZIP files are read whole: ExifTool's ZIP library does not ask for parts.
func TestInspectZIP(t *testing.T) {
	var text bytes.Buffer
	w := zip.NewWriter(&text)
	entry, err := w.CreateHeader(&zip.FileHeader{Name: "large.bin", Method: zip.Store})
	must(t, err)
	_, err = entry.Write(make([]byte, 3<<20))
	must(t, err)
	must(t, w.Close())
	f, b := newBucket(t, inspecting.Options{}, "a.zip", text.String())
	r := f.inspect(t, f.listed(t, "a.zip"))
	if r.Outcome != batch.Done || tagText(r, "ZIP:ZipFileName") != "large.bin" {
		t.Errorf("got %+v, want the name in the ZIP file", r)
	}
	if got := strings.Join(b.reads, " "); got != "0+131072 0+-1" {
		t.Errorf("reads: got %s, want the start, then all", got)
	}
}

// What cannot be read in the middle is never zeros: there are no tags.
func TestInspectInPartsFailing(t *testing.T) {
	for after := range 2 {
		t.Run(fmt.Sprint("unavailable after ", after), func(t *testing.T) {
			f, b := newBucket(t, inspecting.Options{}, "a.jpg", largeJPEG(t, 3))
			b.open = func(n int) error {
				if n >= after {
					return fmt.Errorf("open a.jpg: %w", store.ErrUnavailable)
				}
				return nil
			}
			r, err := f.inspector.Inspect(t.Context(), f.store, f.batch, f.listed(t, "a.jpg"), func(int64) {})
			if !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("got %+v, %v, want ErrUnavailable", r, err)
			}
		})
		t.Run(fmt.Sprint("changed after ", after), func(t *testing.T) {
			f, b := newBucket(t, inspecting.Options{}, "a.jpg", largeJPEG(t, 3))
			o := f.listed(t, "a.jpg")
			b.open = func(n int) error {
				if n == after {
					return b.Store.Replace(t.Context(), "a.jpg", strings.NewReader(largeJPEG(t, 4)))
				}
				return nil
			}
			if r := f.inspect(t, o); r.Outcome != batch.Failed || r.Reason != batch.ReasonChanged || r.Tags != nil || r.ExifTool != "" {
				t.Errorf("got %+v, want changed and nothing read", r)
			}
		})
	}
}

// Objects wait for one another where there is not enough scratch space for all of them.
func TestScratchSpace(t *testing.T) {
	const size, space = 3 << 20, 16 << 20
	f, b := newBucket(t, inspecting.Options{ScratchBytes: space}, "a.jpg", largeJPEG(t, 3))
	var mu sync.Mutex
	inHand, most := 0, 0
	f.inspector = inspecting.New(counting{&mu, &inHand}, inspecting.Options{ScratchBytes: space})
	b.open = func(int) error {
		mu.Lock()
		defer mu.Unlock()
		inHand++
		most = max(most, inHand)
		return nil
	}
	f.batch.Digests = digest.DefaultSet()
	o := f.listed(t, "a.jpg")
	var wg sync.WaitGroup
	for range 30 {
		wg.Go(func() {
			if r, err := f.inspector.Inspect(t.Context(), f.store, f.batch, o, func(int64) {}); err != nil || r.Outcome != batch.Done {
				t.Errorf("got %+v, %v", r, err)
			}
		})
	}
	wg.Wait()
	if most > space/size || most < 2 {
		t.Errorf("got %d objects in scratch space at once, want at most %d", most, space/size)
	}
}

// counting is a Tagger that counts an object out.
type counting struct {
	mu     *sync.Mutex
	inHand *int
}

func (c counting) ReadPaged(ctx context.Context, l batch.Level, f *os.File, _ exiftool.Pages, k archive.Key) (exiftool.Result, error) {
	return c.Read(ctx, l, f, k)
}

func (c counting) Read(ctx context.Context, _ batch.Level, _ *os.File, _ archive.Key) (exiftool.Result, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*c.inHand--
	return exiftool.Result{}, ctx.Err()
}
