package paging_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/reshelf/reshelf/worker/internal/paging"
)

// remote is a content that counts what is asked for.
type remote struct {
	content  []byte
	requests []string
	bytes    int64
	err      error
}

func (r *remote) fetch(_ context.Context, offset, length int64) (io.ReadCloser, error) {
	r.requests = append(r.requests, fmt.Sprintf("%d+%d", offset, length))
	r.bytes += length
	if r.err != nil {
		return nil, r.err
	}
	return io.NopCloser(bytes.NewReader(r.content[offset : offset+length])), nil
}

func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

func open(t interface {
	Helper()
	Fatal(...any)
	TempDir() string
	Cleanup(func())
}, r *remote, budget int64) *paging.File {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	f, err := paging.New(file, int64(len(r.content)), budget, r.fetch)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// Whatever is read in whatever order, what Load says is there is the content, and the disk stays within its bound.
func TestLoadAnything(t *testing.T) {
	all := noise(24 << 20)
	rapid.Check(t, func(rt *rapid.T) {
		r := &remote{content: all[:rapid.IntRange(0, len(all)).Draw(rt, "size")]}
		f := open(tempDirs{rt, t}, r, paging.MinBudget)
		size := int64(len(r.content))
		for range rapid.IntRange(1, 60).Draw(rt, "reads") {
			offset := rapid.Int64Range(0, size+10).Draw(rt, "offset")
			length := rapid.Int64Range(0, paging.MinBudget/2).Draw(rt, "length")
			if rapid.Bool().Draw(rt, "put") {
				end := min(offset+length, size)
				if err := f.Put(r.content[min(offset, size):max(end, min(offset, size))], min(offset, size)); err != nil {
					rt.Fatal(err)
				}
			}
			from, to, err := f.Load(context.Background(), offset, length)
			if err != nil {
				rt.Fatal(err)
			}
			if want := min(offset+length, size); length > 0 && offset < size && (from > offset || to < want) {
				rt.Fatalf("Load(%d, %d) of %d: %d to %d are there", offset, length, size, from, to)
			}
			got := make([]byte, to-from)
			if _, err := f.File().ReadAt(got, from); err != nil && !errors.Is(err, io.EOF) {
				rt.Fatal(err)
			}
			if !bytes.Equal(got, r.content[from:to]) {
				rt.Fatalf("Load(%d, %d): %d to %d are not the content", offset, length, from, to)
			}
			var st unix.Stat_t
			if err := unix.Fstat(int(f.File().Fd()), &st); err != nil || st.Size != size {
				rt.Fatalf("size: got %d, %v, want %d", st.Size, err, size)
			}
			if disk := st.Blocks * 512; disk > paging.MinBudget+1<<20 {
				rt.Fatalf("disk: got %d bytes, want at most about %d", disk, paging.MinBudget)
			}
		}
	})
}

// tempDirs gives rapid's T the folders of a testing.T.
type tempDirs struct {
	*rapid.T
	t *testing.T
}

func (d tempDirs) TempDir() string  { return d.t.TempDir() }
func (d tempDirs) Cleanup(f func()) { d.T.Cleanup(f) }

func TestRequests(t *testing.T) {
	const mb = 1 << 20
	tests := []struct {
		name   string
		size   int
		budget int64
		reads  func(yield func(offset, length int64) bool)
		most   int   // requests
		bytes  int64 // at most
	}{
		{"head only", 64 * mb, 8 * mb, func(yield func(int64, int64) bool) { _ = yield(0, 100) && yield(100, 5000) }, 1, paging.Block},
		{"head and tail", 64 * mb, 8 * mb, func(yield func(int64, int64) bool) { _ = yield(0, 100) && yield(64*mb-100, 100) }, 2, 2 * paging.Block},
		{"all of it, held", 6 * mb, 8 * mb, forward(6*mb, 1000), 8, 6 * mb},
		{"all of it, not held", 64 * mb, 8 * mb, forward(64*mb, 100_000), 40, 65 * mb},
		{"a header every 300 kB", 64 * mb, 80 * mb, forward(64*mb, 300_000), 9, 75 * mb},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := &remote{content: noise(tt.size)}
			f := open(t, r, tt.budget)
			tt.reads(func(offset, length int64) bool {
				if _, _, err := f.Load(t.Context(), offset, length); err != nil {
					t.Fatal(err)
				}
				return true
			})
			if len(r.requests) > tt.most || r.bytes > tt.bytes {
				t.Errorf("got %d requests of %d bytes, want at most %d of %d: %v", len(r.requests), r.bytes, tt.most, tt.bytes, r.requests)
			}
			if n, bytes := f.Requests(); n != len(r.requests) || bytes != r.bytes {
				t.Errorf("Requests: got %d, %d, want %d, %d", n, bytes, len(r.requests), r.bytes)
			}
		})
	}
}

// forward reads 100 bytes at every step.
func forward(size, step int64) func(yield func(int64, int64) bool) {
	return func(yield func(int64, int64) bool) {
		for at := int64(0); at < size; at += step {
			if !yield(at, min(step, 100)) {
				return
			}
		}
	}
}

// What could not be fetched is not there.
func TestFailedFetch(t *testing.T) {
	r := &remote{content: noise(1 << 20), err: errors.New("gone")}
	f := open(t, r, 0)
	if _, _, err := f.Load(t.Context(), 0, 10); !errors.Is(err, r.err) {
		t.Errorf("got %v, want %v", err, r.err)
	}
	r.err = nil
	short := &remote{content: r.content}
	f = open(t, short, 0)
	short.content = short.content[:100]
	f2, err := paging.New(f.File(), 1<<20, 0, func(context.Context, int64, int64) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(short.content)), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, _, err := f2.Load(t.Context(), 0, 10); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("a short answer: got %v, want unexpected EOF", err)
		}
	}
}

func TestTooMany(t *testing.T) {
	r := &remote{content: make([]byte, 40<<20)}
	f := open(t, r, paging.MinBudget)
	random := rand.New(rand.NewPCG(1, 1))
	for range 30_000 {
		if _, _, err := f.Load(t.Context(), random.Int64N(40<<20), 10); errors.Is(err, paging.ErrTooMany) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
	t.Error("30,000 parts of a content were read")
}

func TestNoSuchPart(t *testing.T) {
	f := open(t, &remote{content: noise(1000)}, 0)
	for _, part := range [][2]int64{{-1, 5}, {0, -1}, {0, paging.MinBudget}} {
		if _, _, err := f.Load(t.Context(), part[0], part[1]); err == nil {
			t.Errorf("Load(%d, %d): got nil, want an error", part[0], part[1])
		}
	}
}

// Behind the end there is nothing to fetch, however far behind.
func TestBehindEnd(t *testing.T) {
	r := &remote{content: noise(1000)}
	f := open(t, r, paging.MinBudget)
	for _, offset := range []int64{1000, 1001, math.MaxInt64 - 1, math.MaxInt64} {
		if from, to, err := f.Load(t.Context(), offset, 1<<20); err != nil || from != 1000 || to != 1000 {
			t.Errorf("Load(%d): got %d, %d, %v, want 1000, 1000", offset, from, to, err)
		}
	}
	if len(r.requests) > 0 {
		t.Errorf("got requests %v, want none", r.requests)
	}
}
