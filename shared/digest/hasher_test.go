package digest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/reshelf/reshelf/shared/digest"
)

// pattern is n bytes that count from 0 to 250 over and over, as in BLAKE3's own test vectors.
func pattern(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i % 251)
	}
	return p
}

// vectors are from sha*sum, md5sum, b3sum 1.2.0, xxhsum 0.8.1, zlib, and a bitwise CRC32C and CRC-64/NVME, not from this package.
func vectors() map[string]struct {
	content []byte
	want    string
} {
	return map[string]struct {
		content []byte
		want    string
	}{
		"empty": {nil, `crc32:00000000
crc32c:00000000
md5:d41d8cd98f00b204e9800998ecf8427e
sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709
sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
sha512:cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e
blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262
xxh3-64:2d06800538d394c2
xxh3-128:99aa06d3014798d86001c324468d497f
crc64nvme:0000000000000000`},
		"abc": {[]byte("abc"), `crc32:352441c2
crc32c:364b3fb7
md5:900150983cd24fb0d6963f7d28e17f72
sha1:a9993e364706816aba3e25717850c26c9cd0d89d
sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad
sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f
blake3:6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85
xxh3-64:78af5f94892f3950
xxh3-128:06b05ab6733a618578af5f94892f3950
crc64nvme:05e5cabb3fc1faeb`},
		"1MiB": {pattern(1 << 20), `crc32:ef0e6054
crc32c:dc3e0071
md5:8f293a2f6c19b345152f7a49bb4c643c
sha1:c2fc4cb20f1301a6b0dd211c19e69a13925dbe40
sha256:631b84027d6b9e52b539c4e8373622d23032dfadc64d60af87339c9037e4f769
sha512:67dad569eefc986a3b2424f5516d5a0284bb53d7b52d75f5ed881a6830a95765ccc82bc48752fb693422579f11dc9a400561ec1885af9eeef703dbbd312d4fd0
blake3:74cb441fd087764ca9c3694da742ebe30cbeb3060a17009ca81825c7a8d10343
xxh3-64:6e0d7ac36b8c10ff
xxh3-128:53738d98098cabba6e0d7ac36b8c10ff
crc64nvme:8821d9f150fec9fc`},
	}
}

func all(t testing.TB) digest.Set {
	t.Helper()
	set, err := digest.ParseSet("all")
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func lines(digests []digest.Digest) string {
	var out []string
	for _, d := range digests {
		out = append(out, d.String())
	}
	return strings.Join(out, "\n")
}

func TestVectors(t *testing.T) {
	for name, v := range vectors() {
		t.Run(name, func(t *testing.T) {
			h := digest.NewHasher(all(t))
			if n, err := h.Write(v.content); n != len(v.content) || err != nil {
				t.Fatalf("Write: got %d, %v", n, err)
			}
			if diff := cmp.Diff(v.want, lines(h.Digests())); diff != "" {
				t.Errorf("digests (-want +got):\n%s", diff)
			}
		})
	}
}

// TestCheckValues compares with the check values of Greg Cook's catalogue of CRC algorithms.
// Source: https://reveng.sourceforge.io/crc-catalogue/all.htm
func TestCheckValues(t *testing.T) {
	for a, want := range map[digest.Algorithm]string{
		digest.CRC32: "cbf43926", digest.CRC32C: "e3069283", digest.CRC64NVME: "ae8b14860a799888",
	} {
		h := digest.NewHasher(digest.Set(0).With(a))
		_, _ = io.WriteString(h, "123456789")
		if got := h.Digests()[0].Hex(); got != want {
			t.Errorf("%s: got %s, want %s", a, got, want)
		}
	}
}

func TestEveryChunkingAgrees(t *testing.T) {
	v := vectors()["1MiB"]
	h := digest.NewHasher(all(t))
	// Around the block sizes of the hashes: SHA 64 and 128, XXH3 1024 and its buffer of 1088, BLAKE3 1024 and 8192.
	for _, size := range []int{1, 63, 64, 65, 127, 128, 1023, 1024, 1025, 1087, 1088, 1089, 8191, 8193, 65535, 65537, 1 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			h.Reset()
			for part := range slices.Chunk(v.content, size) {
				if n, err := h.Write(part); n != len(part) || err != nil {
					t.Fatalf("Write: got %d, %v", n, err)
				}
			}
			if diff := cmp.Diff(v.want, lines(h.Digests())); diff != "" {
				t.Errorf("digests (-want +got):\n%s", diff)
			}
		})
	}
}

func TestHasherGoesOnAfterDigests(t *testing.T) {
	h := digest.NewHasher(all(t))
	for _, part := range []string{"a", "b"} {
		if _, err := io.WriteString(h, part); err != nil {
			t.Fatal(err)
		}
		h.Digests()[0] = digest.Digest{}
	}
	if _, err := io.WriteString(h, "c"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(vectors()["abc"].want, lines(h.Digests())); diff != "" {
		t.Errorf("digests (-want +got):\n%s", diff)
	}
}

func TestEmptySet(t *testing.T) {
	got, n, err := digest.Sum(t.Context(), 0, strings.NewReader("abc"), make([]byte, 2), nil)
	if len(got) != 0 || n != 3 || err != nil {
		t.Errorf("got %v, %d, %v; want nothing, 3 bytes", got, n, err)
	}
}

func TestSum(t *testing.T) {
	v := vectors()["1MiB"]
	readers := map[string]func(io.Reader) io.Reader{
		"plain":          func(r io.Reader) io.Reader { return r },
		"half":           iotest.HalfReader,
		"data with EOF":  iotest.DataErrReader,
		"one byte":       iotest.OneByteReader,
		"sometimes none": func(r io.Reader) io.Reader { return &lazyReader{r: r} },
	}
	for name, wrap := range readers {
		t.Run(name, func(t *testing.T) {
			var progress int64
			count := func(n int64) { progress += n }
			got, n, err := digest.Sum(t.Context(), all(t), wrap(bytes.NewReader(v.content)), make([]byte, 10_000), count)
			if err != nil {
				t.Fatal(err)
			}
			if n != 1<<20 || progress != n {
				t.Errorf("got %d bytes and progress of %d, want %d", n, progress, 1<<20)
			}
			if diff := cmp.Diff(v.want, lines(got)); diff != "" {
				t.Errorf("digests (-want +got):\n%s", diff)
			}
		})
	}
}

// lazyReader answers every other Read with nothing, as io.Reader allows.
type lazyReader struct {
	r    io.Reader
	busy bool
}

func (l *lazyReader) Read(p []byte) (int, error) {
	l.busy = !l.busy
	if l.busy {
		return 0, nil
	}
	return l.r.Read(p)
}

type stuckReader struct{}

func (stuckReader) Read([]byte) (int, error) { return 0, nil }

func TestSumErrors(t *testing.T) {
	errDisk := errors.New("input/output error")
	tests := []struct {
		name string
		r    io.Reader
		buf  []byte
		n    int64
		want error
	}{
		{"the disk fails", io.MultiReader(strings.NewReader("abc"), iotest.ErrReader(errDisk)), make([]byte, 8), 3, errDisk},
		{"no progress", stuckReader{}, make([]byte, 8), 0, io.ErrNoProgress},
		{"no buffer", strings.NewReader("abc"), nil, 0, io.ErrShortBuffer},
		{"cut short", io.MultiReader(strings.NewReader("ab"), iotest.ErrReader(io.ErrUnexpectedEOF)), make([]byte, 1), 2, io.ErrUnexpectedEOF},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, n, err := digest.Sum(t.Context(), digest.DefaultSet(), tt.r, tt.buf, nil)
			if got != nil || n != tt.n || !errors.Is(err, tt.want) {
				t.Errorf("got %v, %d, %v; want nil, %d, %v", got, n, err, tt.n, tt.want)
			}
		})
	}
}

func TestSumStopsBetweenBlocks(t *testing.T) {
	errStop := errors.New("the batch was cancelled")
	ctx, cancel := context.WithCancelCause(t.Context())
	blocks := 0
	stop := func(int64) {
		if blocks++; blocks == 3 {
			cancel(errStop)
		}
	}
	got, n, err := digest.Sum(ctx, digest.DefaultSet(), bytes.NewReader(pattern(1000)), make([]byte, 100), stop)
	if got != nil || n != 300 || !errors.Is(err, errStop) {
		t.Errorf("got %v, %d, %v; want nil, 300, %v", got, n, err, errStop)
	}
}

func FuzzChunking(f *testing.F) {
	f.Add([]byte("abc"), uint16(1))
	f.Add(pattern(3000), uint16(1088))
	f.Fuzz(func(t *testing.T, content []byte, size uint16) {
		whole := digest.NewHasher(all(t))
		_, _ = whole.Write(content)
		parts, n, err := digest.Sum(t.Context(), all(t), bytes.NewReader(content), make([]byte, max(1, int(size))), nil)
		if err != nil || n != int64(len(content)) {
			t.Fatalf("got %d bytes, %v; want %d", n, err, len(content))
		}
		if !slices.Equal(parts, whole.Digests()) {
			t.Errorf("in blocks of %d:\n%s\nat once:\n%s", size, lines(parts), lines(whole.Digests()))
		}
	})
}

func BenchmarkHasher(b *testing.B) {
	sets := []string{"all", "sha256,crc32"}
	for _, a := range digest.Algorithms() {
		sets = append(sets, a.String())
	}
	block := pattern(1 << 20)
	for _, name := range sets {
		b.Run(name, func(b *testing.B) {
			set, err := digest.ParseSet(name)
			if err != nil {
				b.Fatal(err)
			}
			h := digest.NewHasher(set)
			b.SetBytes(int64(len(block)))
			for b.Loop() {
				_, _ = h.Write(block)
			}
		})
	}
}

func BenchmarkSumSmall(b *testing.B) {
	content, buf := pattern(4096), make([]byte, 256<<10)
	r := bytes.NewReader(nil)
	b.ReportAllocs()
	for b.Loop() {
		r.Reset(content)
		if _, _, err := digest.Sum(b.Context(), digest.DefaultSet(), r, buf, nil); err != nil {
			b.Fatal(err)
		}
	}
}
