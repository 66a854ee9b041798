package exiftool_test

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/worker/internal/exiftool"
)

// bomb makes a PNG of a megabyte whose text unfolds to a gigabyte.
func bomb(t *testing.T, path string) string {
	t.Helper()
	var block bytes.Buffer // a megabyte of zeros in DEFLATE (RFC 1951), which may follow itself
	w, err := flate.NewWriter(&block, flate.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	const times, prime = 1 << 10, 65521 // Adler-32 of zeros, as zlib wants it at the end (RFC 1950)
	text := "Comment\x00\x00\x78\xda" + strings.Repeat(block.String(), times) + "\x03\x00" +
		string(binary.BigEndian.AppendUint32(nil, times<<20%prime<<16|1))
	return write(t, path, string(png("zTXt", text)))
}

// png makes a PNG of one pixel with chunks given as kind, data pairs.
func png(chunks ...string) []byte {
	var b bytes.Buffer
	b.WriteString("\x89PNG\r\n\x1a\n")
	chunk := func(kind, data string) {
		b.Write(binary.BigEndian.AppendUint32(nil, uint32(len(data))))
		b.WriteString(kind + data)
		b.Write(binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE([]byte(kind+data))))
	}
	chunk("IHDR", "\x00\x00\x00\x01\x00\x00\x00\x01\x08\x00\x00\x00\x00")
	for n := 0; n < len(chunks); n += 2 {
		chunk(chunks[n], chunks[n+1])
	}
	chunk("IEND", "")
	return b.Bytes()
}

// A file that unfolds to more than ExifTool may hold costs its own record, and no more memory than allowed.
func TestBomb(t *testing.T) {
	p := newPool(t, exiftool.Options{})
	dir := t.TempDir()
	path := bomb(t, filepath.Join(dir, "bomb.png"))
	if info, err := os.Stat(path); err != nil || info.Size() > 2<<20 {
		t.Fatalf("the bomb: got %v, %v, want about a megabyte", info, err)
	}
	r := read(t, p, batch.LevelNormal, path)
	if r.Fault != batch.ReasonCrashed || !strings.Contains(r.FaultMessage, "Out of memory") {
		t.Errorf("Fault: got %q (%s), want crashed, out of memory", r.Fault, r.FaultMessage)
	}
	good := photo(t, filepath.Join(dir, "good.jpg"), "dc:title", "good")
	if r := read(t, p, batch.LevelNormal, good); text(r.Tags, "XMP-dc:Title") != "good" {
		t.Errorf("the next file: got %q, fault %q (%s)", text(r.Tags, "XMP-dc:Title"), r.Fault, r.FaultMessage)
	}
}

// mutationTime is how long TestMutations runs: RESHELF_MUTATIONS, such as 1h, or a minute in CI, or some seconds.
func mutationTime(t *testing.T) time.Duration {
	t.Helper()
	if said := os.Getenv("RESHELF_MUTATIONS"); said != "" {
		d, err := time.ParseDuration(said)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	if os.Getenv("CI") != "" {
		return time.Minute
	}
	return 5 * time.Second
}

// Damaged files, whatever the damage, end in a result each, and leave the next file its own tags. A failure names the seed;
// RESHELF_MUTATIONS_SEED begins with it.
func TestMutations(t *testing.T) {
	limit := mutationTime(t)
	seeds := samples(t)
	first := uint64(time.Now().UnixNano())
	if said := os.Getenv("RESHELF_MUTATIONS_SEED"); said != "" {
		var err error
		if first, err = strconv.ParseUint(said, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	p := newPool(t, exiftool.Options{
		Processes: 2, Deadline: func(int64, batch.Level) time.Duration { return 10 * time.Second },
	})
	dir := t.TempDir()
	good := photo(t, filepath.Join(dir, "good.jpg"), "dc:title", "good")
	end := time.Now().Add(limit)
	var mu sync.Mutex
	faults, next := make(map[batch.Reason]int), first
	var wg sync.WaitGroup
	for worker := range 2 {
		wg.Go(func() {
			for time.Now().Before(end) && !t.Failed() {
				mu.Lock()
				seed := next
				next++
				mu.Unlock()
				fault, ok := readMutation(t, p, seeds, seed, filepath.Join(dir, strconv.Itoa(worker)), good)
				if !ok {
					t.Errorf("RESHELF_MUTATIONS_SEED=%d", seed)
				}
				mu.Lock()
				faults[fault]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	t.Logf("%d damaged files of %d, from seed %d: %v", next-first, len(seeds), first, faults)
}

// readMutation reads one damaged file, then a good one, and reports whether both had the result that they should have.
func readMutation(t *testing.T, p *exiftool.Pool, seeds []string, seed uint64, prefix, good string) (batch.Reason, bool) {
	random := rand.New(rand.NewPCG(seed, seed))
	source := seeds[random.IntN(len(seeds))]
	content, err := os.ReadFile(source)
	if err != nil {
		t.Error(err)
		return "", false
	}
	path := prefix + filepath.Ext(source)
	if err := os.WriteFile(path, mutate(random, content), 0o600); err != nil {
		t.Error(err)
		return "", false
	}
	defer func() { _ = os.Remove(path) }()
	levels := []batch.Level{batch.LevelNormal, batch.LevelExtended, batch.LevelFast}
	r, err := tryRead(t.Context(), p, levels[random.IntN(len(levels))], path)
	if err != nil {
		t.Errorf("%s, damaged: %v", source, err)
		return "", false
	}
	switch r.Fault {
	case "", batch.ReasonFormat:
		if len(r.Tags) == 0 {
			t.Errorf("%s, damaged: fault %q and no tags", source, r.Fault)
			return r.Fault, false
		}
	case batch.ReasonTimeout, batch.ReasonCrashed, batch.ReasonTooLarge:
		t.Logf("%s, damaged, seed %d: %s: %s", source, seed, r.Fault, r.FaultMessage)
	default:
		t.Errorf("%s, damaged: %q (%s)", source, r.Fault, r.FaultMessage)
		return r.Fault, false
	}
	next, err := tryRead(t.Context(), p, batch.LevelNormal, good)
	if err != nil || next.Fault != "" || text(next.Tags, "XMP-dc:Title") != "good" {
		t.Errorf("the file after %s: got %q, fault %q (%s), %v", source, text(next.Tags, "XMP-dc:Title"), next.Fault, next.FaultMessage, err)
		return r.Fault, false
	}
	return r.Fault, true
}

// mutate damages content in one to four places.
func mutate(random *rand.Rand, content []byte) []byte {
	for range 1 + random.IntN(4) {
		if len(content) < 8 {
			return content
		}
		at := random.IntN(len(content) - 4)
		if random.IntN(2) == 0 {
			at = random.IntN(min(len(content)-4, 4096)) // headers are where the structure is
		}
		length := min(1+random.IntN(1024), len(content)-at)
		switch random.IntN(6) {
		case 0:
			content[at] ^= 1 << random.IntN(8)
		case 1:
			binary.BigEndian.PutUint32(content[at:], random.Uint32())
		case 2:
			copy(content[at:], "\xff\xff\xff\xff")
		case 3:
			content = content[:at]
		case 4:
			clear(content[at : at+length])
		case 5:
			content = append(content[:at+length:at+length], content[at:]...)
		}
	}
	return content
}

// samples are what damaged files are made of: the corpus, where there is one, and a photograph.
func samples(t *testing.T) []string {
	t.Helper()
	paths := []string{photo(t, filepath.Join(t.TempDir(), "sample.jpg"), "dc:title", "A", "tiff:Make", "Canon")}
	root := os.Getenv("RESHELF_CORPUS")
	if root == "" {
		return paths
	}
	for _, path := range corpusFiles(t, root) {
		if info, err := os.Stat(path); err == nil && info.Size() < 1<<20 {
			paths = append(paths, path)
		}
	}
	return paths
}

// ExifTool leaves its byte order behind, here that of the sample, and some formats take what they find.
func TestByteOrderOfAnother(t *testing.T) {
	p := newPool(t, exiftool.Options{})
	r := read(t, p, batch.LevelNormal, write(t, filepath.Join(t.TempDir(), "a.aac"), "\xff\xf1\x50\x80\x02\x1f\xfc"+strings.Repeat("\x21", 9)))
	if text(r.Tags, "File:FileType") != "AAC" {
		t.Log("this ExifTool does not read AAC; make engine has one that does")
		return
	}
	if got := text(r.Tags, "AAC:ProfileType"); got != "Low Complexity" {
		t.Errorf("got profile %q, want Low Complexity", got)
	}
}

// A file that cannot be read is not an empty one.
func TestReadError(t *testing.T) {
	const path = "/sys/class/net/lo/speed" // EINVAL
	if _, err := os.ReadFile(path); !errors.Is(err, syscall.EINVAL) {
		t.Skipf("%s: got %v, want EINVAL", path, err)
	}
	r := read(t, newPool(t, exiftool.Options{}), batch.LevelNormal, path)
	if r.Fault != batch.ReasonCrashed || !strings.Contains(r.FaultMessage, "reading failed: Invalid argument") {
		t.Errorf("got %+v, want a fault", r)
	}
}
