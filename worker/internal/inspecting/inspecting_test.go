package inspecting_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"image"
	"image/jpeg"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/digest"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/filestore"
	"github.com/reshelf/reshelf/shared/store/memstore"
	"github.com/reshelf/reshelf/worker/internal/exiftool"
	"github.com/reshelf/reshelf/worker/internal/exiftool/keeper"
	"github.com/reshelf/reshelf/worker/internal/inspecting"
)

func TestMain(m *testing.M) {
	keeper.Main()
	goleak.VerifyTestMain(m)
}

// fixture is an archive on a disk and an inspector with a real pool.
type fixture struct {
	dir       string
	store     store.Store
	inspector *inspecting.Inspector
	batch     batch.Batch
	moved     int64
}

func newFixture(t *testing.T, o inspecting.Options) *fixture {
	t.Helper()
	pool, err := exiftool.NewPool(exiftool.Options{Processes: 1, Scratch: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pool.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	f := &fixture{dir: t.TempDir(), inspector: inspecting.New(pool, o)}
	st, err := filestore.Open(f.dir, filestore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	f.store = st
	f.batch = batch.Batch{Digests: digest.DefaultSet(), Level: batch.LevelNormal}
	return f
}

func (f *fixture) write(t *testing.T, key, content string) batch.Listed {
	t.Helper()
	if err := os.WriteFile(filepath.Join(f.dir, key), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	object, err := f.store.Stat(t.Context(), archive.Key(key))
	if err != nil {
		t.Fatal(err)
	}
	return batch.Listed{Object: object}
}

func (f *fixture) inspect(t *testing.T, o batch.Listed) batch.Record {
	t.Helper()
	r, err := f.inspector.Inspect(t.Context(), f.store, f.batch, o, func(n int64) { f.moved += n })
	if err != nil {
		t.Fatalf("Inspect: %v", err)
	}
	return r
}

func jpegText(t *testing.T) string {
	t.Helper()
	var b bytes.Buffer
	if err := jpeg.Encode(&b, image.NewGray(image.Rect(0, 0, 16, 8)), nil); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestInspect(t *testing.T) {
	f := newFixture(t, inspecting.Options{})
	picture := jpegText(t)
	noise := string([]byte{0, 1, 2, 3, 0xfe, 0xff, 0xfd, 9, 8, 7, 0, 0, 0, 5, 200, 201, 202})
	tests := []struct {
		key, content string
		outcome      batch.Outcome
		reason       batch.Reason
		warning      string
		mime         string
	}{
		{"good.jpg", picture, batch.Done, "", "", "image/jpeg"},
		{"bad\xff\n-execute\x1b[2J.jpg", picture, batch.Done, "", "", "image/jpeg"},
		{"empty.jpg", "", batch.Done, "", "File is empty", ""},
		{"unknown.zzz", noise, batch.Done, "", "Unknown file type", ""},
		{"broken.jpg", noise, batch.Failed, batch.ReasonFormat, "File format error", ""},
		{"zeros.jpg", strings.Repeat("\x00", 5000), batch.Failed, batch.ReasonFormat, "Entire file is binary zeros", ""},
		{"large.bin", strings.Repeat("some text\n", 100_000), batch.Done, "", "", "text/plain"},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%q", tt.key), func(t *testing.T) {
			o := f.write(t, tt.key, tt.content)
			f.moved = 0
			r := f.inspect(t, o)
			if r.Outcome != tt.outcome || r.Reason != tt.reason {
				t.Errorf("outcome: got %s %s (%s), want %s %s", r.Outcome, r.Reason, r.Message, tt.outcome, tt.reason)
			}
			if got := strings.Join(r.Warnings, "\n"); got != tt.warning {
				t.Errorf("warnings: got %q, want %q", got, tt.warning)
			}
			if len(r.Digests) != 2 {
				t.Fatalf("digests: got %v, want 2", r.Digests)
			}
			if got, want := r.Digests[0].Hex(), fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(tt.content))); got != want {
				t.Errorf("crc32: got %s, want %s", got, want)
			}
			if r.Facts == nil || r.Facts.MIME != tt.mime {
				t.Errorf("facts: got %+v, want MIME %q", r.Facts, tt.mime)
			}
			if r.ExifTool == "" || r.Object != o.Object {
				t.Errorf("ExifTool: got %q; object: got %+v, want %+v", r.ExifTool, r.Object, o.Object)
			}
			if f.moved != int64(len(tt.content)) {
				t.Errorf("progress: got %d bytes, want %d", f.moved, len(tt.content))
			}
		})
	}
}

func TestInspectLess(t *testing.T) {
	f := newFixture(t, inspecting.Options{})
	o := f.write(t, "a.jpg", jpegText(t))
	f.batch = batch.Batch{Level: batch.LevelNone, Digests: digest.DefaultSet()}
	if r := f.inspect(t, o); r.Tags != nil || r.Facts != nil || r.ExifTool != "" || len(r.Digests) != 2 {
		t.Errorf("level none: got %+v", r)
	}
	f.batch = batch.Batch{Level: batch.LevelFast}
	if r := f.inspect(t, o); r.Facts == nil || r.Facts.Width != 16 || len(r.Digests) != 0 {
		t.Errorf("no digests: got %+v", r)
	}
}

func TestInspectProblem(t *testing.T) {
	f := newFixture(t, inspecting.Options{})
	o := batch.Listed{Object: archive.Object{Key: "gone"}, Outcome: batch.Skipped, Problem: batch.ReasonSymlink, Detail: "is a link"}
	want := batch.Record{Object: o.Object, Outcome: batch.Skipped, Reason: batch.ReasonSymlink, Message: "is a link"}
	if diff := cmp.Diff(want, f.inspect(t, o)); diff != "" {
		t.Errorf("record -want +got:\n%s", diff)
	}
}

func TestInspectNotWhatWasListed(t *testing.T) {
	f := newFixture(t, inspecting.Options{})
	path := func(key string) string { return filepath.Join(f.dir, key) }
	tests := []struct {
		name   string
		change func(t *testing.T, key string)
		want   batch.Reason
	}{
		{"rewritten", func(t *testing.T, key string) { f.write(t, key, "other") }, batch.ReasonChanged},
		{"gone", func(t *testing.T, key string) { must(t, os.Remove(path(key))) }, batch.ReasonMissing},
		{"a link", func(t *testing.T, key string) {
			must(t, os.Remove(path(key)))
			must(t, os.Symlink("/etc/passwd", path(key)))
		}, batch.ReasonSpecial},
		{"a link out of the archive", func(t *testing.T, key string) {
			must(t, os.Remove(path(key)))
			must(t, os.Symlink(writeOutside(t), path(key)))
		}, batch.ReasonSpecial},
		{"a pipe", func(t *testing.T, key string) {
			must(t, os.Remove(path(key)))
			must(t, syscall.Mkfifo(path(key), 0o600))
		}, batch.ReasonSpecial},
		{"a socket", func(t *testing.T, key string) {
			must(t, os.Remove(path(key)))
			l, err := net.Listen("unix", path(key))
			must(t, err)
			t.Cleanup(func() { _ = l.Close() })
		}, batch.ReasonSpecial},
		{"a device", func(t *testing.T, key string) {
			must(t, os.Remove(path(key)))
			const zero = 1<<8 | 5 // as /dev/zero, which never ends
			if err := syscall.Mknod(path(key), syscall.S_IFCHR|0o600, zero); errors.Is(err, syscall.EPERM) {
				t.Skip("this user may not make devices")
			} else {
				must(t, err)
			}
		}, batch.ReasonSpecial},
		{"a folder", func(t *testing.T, key string) {
			must(t, os.Remove(path(key)))
			must(t, os.Mkdir(path(key), 0o700))
		}, batch.ReasonSpecial},
	}
	for n, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			key := fmt.Sprint(n, ".jpg")
			o := f.write(t, key, jpegText(t))
			tt.change(t, key)
			r := f.inspect(t, o)
			if r.Outcome != batch.Failed || r.Reason != tt.want || r.Digests != nil || r.Tags != nil || r.Message == "" {
				t.Errorf("got %+v, want failed %s and nothing read", r, tt.want)
			}
		})
	}
}

// writeOutside makes a good photograph that no archive holds.
func writeOutside(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "outside.jpg")
	must(t, os.WriteFile(path, []byte(jpegText(t)), 0o600))
	return path
}

// hooked is a store whose contents are read through hook.
type hooked struct {
	store.Store
	hook func(*store.Content) io.Reader
	err  error
}

func (h hooked) Open(ctx context.Context, key archive.Key, offset, length int64, want archive.Identity) (*store.Content, error) {
	if h.err != nil {
		return nil, h.err
	}
	c, err := h.Store.Open(ctx, key, offset, length, want)
	if err == nil && h.hook != nil {
		c.ReadCloser = struct {
			io.Reader
			io.Closer
		}{h.hook(c), c.ReadCloser}
	}
	return c, err
}

type readFunc func(p []byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

// A file that is written to while it is read is never given a digest.
func TestInspectChangedWhileRead(t *testing.T) {
	f := newFixture(t, inspecting.Options{})
	o := f.write(t, "a.jpg", jpegText(t))
	inner := f.store
	f.store = hooked{Store: inner, hook: func(c *store.Content) io.Reader {
		return readFunc(func(p []byte) (int, error) {
			n, err := c.File.Read(p[:min(len(p), 100)])
			must(t, os.WriteFile(filepath.Join(f.dir, "a.jpg"), []byte(strings.Repeat("x", 5000)), 0o600))
			return n, err
		})
	}}
	if r := f.inspect(t, o); r.Reason != batch.ReasonChanged || r.Digests != nil || r.Tags != nil {
		t.Errorf("got %+v, want changed and nothing read", r)
	}
}

func TestInspectErrors(t *testing.T) {
	f := newFixture(t, inspecting.Options{})
	o := f.write(t, "a.jpg", jpegText(t))
	inner := f.store
	broken := func(err error) func(*store.Content) io.Reader {
		return func(*store.Content) io.Reader { return readFunc(func([]byte) (int, error) { return 0, err }) }
	}
	t.Run("a disk error is the object's", func(t *testing.T) {
		f.store = hooked{Store: inner, hook: broken(errors.New("input/output error"))}
		if r := f.inspect(t, o); r.Outcome != batch.Failed || r.Reason != batch.ReasonIO || !strings.Contains(r.Message, "input/output") {
			t.Errorf("got %+v, want failed io", r)
		}
	})
	t.Run("no permission is the object's", func(t *testing.T) {
		f.store = hooked{Store: inner, err: store.ErrPermission}
		if r := f.inspect(t, o); r.Reason != batch.ReasonUnreadable {
			t.Errorf("got %+v, want failed unreadable", r)
		}
	})
	others := map[string]hooked{
		"archive gone":       {Store: inner, err: fmt.Errorf("open a.jpg: %w", store.ErrUnavailable)},
		"archive gone later": {Store: inner, hook: broken(store.ErrUnavailable)},
	}
	for name, st := range others {
		t.Run(name, func(t *testing.T) {
			if r, err := f.inspector.Inspect(t.Context(), st, f.batch, o, func(int64) {}); !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("got %+v, %v, want ErrUnavailable", r, err)
			}
		})
	}
	t.Run("no scratch space", func(t *testing.T) {
		remote := newFixture(t, inspecting.Options{Scratch: filepath.Join(f.dir, "missing")})
		remote.useMemory(t, "a.jpg", "content")
		if r, err := remote.inspector.Inspect(t.Context(), remote.store, f.batch, remote.listed(t, "a.jpg"), func(int64) {}); err == nil {
			t.Errorf("got %+v, want an error", r)
		}
	})
	t.Run("no exiftool", func(t *testing.T) {
		pool, err := exiftool.NewPool(exiftool.Options{Scratch: t.TempDir(), Binary: "/missing/exiftool"})
		must(t, err)
		defer func() { must(t, pool.Close(context.Background())) }()
		r, err := inspecting.New(pool, inspecting.Options{}).Inspect(t.Context(), inner, f.batch, o, func(int64) {})
		if !errors.Is(err, exiftool.ErrUnavailable) {
			t.Errorf("got %+v, %v, want ErrUnavailable", r, err)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if r, err := f.inspector.Inspect(ctx, inner, f.batch, o, func(int64) {}); !errors.Is(err, context.Canceled) {
			t.Errorf("got %+v, %v, want Canceled", r, err)
		}
	})
}

func TestInspectStalled(t *testing.T) {
	f := newFixture(t, inspecting.Options{Stall: 50 * time.Millisecond})
	o := f.write(t, "a.jpg", jpegText(t))
	release := make(chan struct{})
	f.store = hooked{Store: f.store, hook: func(c *store.Content) io.Reader {
		return readFunc(func(p []byte) (int, error) { <-release; return c.File.Read(p) })
	}}
	if r := f.inspect(t, o); r.Outcome != batch.Failed || r.Reason != batch.ReasonTimeout {
		t.Errorf("got %+v, want failed timeout", r)
	}
	if got := f.inspector.Stuck(); got != 1 {
		t.Errorf("Stuck: got %d, want 1", got)
	}
	moved := f.moved
	close(release)
	for end := time.Now().Add(10 * time.Second); f.inspector.Stuck() != 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("Stuck: still not 0 after the read came back")
		}
	}
	if f.moved != moved {
		t.Error("progress was told after Inspect had returned")
	}
}

// busy is a Tagger whose keepers are all in use for a while.
type busy time.Duration

func (b busy) Read(context.Context, batch.Level, *os.File, archive.Key) (exiftool.Result, error) {
	time.Sleep(time.Duration(b))
	return exiftool.Result{}, nil
}

func (b busy) ReadPaged(ctx context.Context, level batch.Level, file *os.File, _ exiftool.Pages, name archive.Key) (exiftool.Result, error) {
	return b.Read(ctx, level, file, name)
}

// More objects are in hand than there are keepers, so they wait for one another.
func TestWaitingForTheTaggerIsNoStall(t *testing.T) {
	f := newFixture(t, inspecting.Options{})
	o := f.write(t, "a.jpg", "content")
	f.inspector = inspecting.New(busy(500*time.Millisecond), inspecting.Options{Stall: 100 * time.Millisecond})
	if r := f.inspect(t, o); r.Outcome != batch.Done {
		t.Errorf("got %+v, want it done", r)
	}
}

// A content without a local file is read once, for both.
func TestInspectRemote(t *testing.T) {
	f := newFixture(t, inspecting.Options{Scratch: t.TempDir()})
	f.useMemory(t, "a.jpg", jpegText(t))
	r := f.inspect(t, f.listed(t, "a.jpg"))
	if r.Outcome != batch.Done || len(r.Digests) != 2 || r.Facts == nil || r.Facts.Width != 16 {
		t.Errorf("got %+v, want digests and tags", r)
	}
}

func (f *fixture) useMemory(t *testing.T, key archive.Key, content string) {
	t.Helper()
	root, err := archive.ParseRoot("s3://bucket")
	must(t, err)
	f.store = memstore.New(root)
	must(t, f.store.Create(t.Context(), key, strings.NewReader(content)))
}

func (f *fixture) listed(t *testing.T, key archive.Key) batch.Listed {
	t.Helper()
	object, err := f.store.Stat(t.Context(), key)
	must(t, err)
	return batch.Listed{Object: object}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func BenchmarkInspectSmallWithoutTags(b *testing.B) {
	dir := b.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a"), make([]byte, 1000), 0o600); err != nil {
		b.Fatal(err)
	}
	st, err := filestore.Open(dir, filestore.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = st.Close() }()
	object, err := st.Stat(b.Context(), "a")
	if err != nil {
		b.Fatal(err)
	}
	inspector := inspecting.New(nil, inspecting.Options{})
	job := batch.Batch{Digests: digest.DefaultSet(), Level: batch.LevelNone}
	b.ReportAllocs()
	for b.Loop() {
		if r, err := inspector.Inspect(b.Context(), st, job, batch.Listed{Object: object}, func(int64) {}); err != nil || r.Outcome != batch.Done {
			b.Fatal(r, err)
		}
	}
}
