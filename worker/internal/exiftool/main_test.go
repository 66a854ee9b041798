package exiftool_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"encoding/xml"
	"image"
	"image/jpeg"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/metadata"
	"github.com/reshelf/reshelf/worker/internal/exiftool"
	"github.com/reshelf/reshelf/worker/internal/exiftool/keeper"
)

func TestMain(m *testing.M) {
	role := os.Getenv(roleVariable)
	playStart(role)
	keeper.Main()
	if role != "" {
		playRole(role)
	}
	goleak.VerifyTestMain(m)
}

// newPool returns a pool of one process that is closed, and checked to have left nothing, at the end of the test.
func newPool(t *testing.T, o exiftool.Options) *exiftool.Pool {
	t.Helper()
	o.Scratch = t.TempDir()
	if o.Processes == 0 {
		o.Processes = 1
	}
	p, err := exiftool.NewPool(o)
	if err != nil {
		t.Fatal(err)
	}
	open.Add(1)
	t.Cleanup(func() { closePool(t, p, o.Scratch) })
	return p
}

// open counts the pools that newPool has made and that are not closed yet.
var open atomic.Int32

func closePool(t *testing.T, p *exiftool.Pool, scratch string) {
	t.Helper()
	pids := processes(p)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := p.Close(ctx); err != nil {
		t.Errorf("Close: %v", err)
	}
	for _, pid := range pids {
		if alive(pid) {
			t.Errorf("process %d is alive after Close", pid)
		}
	}
	if left := children(t); open.Add(-1) == 0 && len(left) > 0 {
		t.Errorf("child processes after Close: %v", left)
	}
	if left, err := os.ReadDir(scratch); err != nil || len(left) > 0 {
		t.Errorf("scratch after Close: got %v, %v, want it empty", left, err)
	}
	if n := p.Status().Abandoned; n != 0 {
		t.Errorf("Abandoned: got %d, want 0", n)
	}
}

func processes(p *exiftool.Pool) (pids []int) {
	for _, one := range p.Status().Processes {
		pids = append(pids, one.Keeper, one.ExifTool)
	}
	return pids
}

// alive reports whether the process runs; a zombie does not.
func alive(pid int) bool {
	_, state, ok := procStat(strconv.Itoa(pid))
	return ok && state != "Z" && state != "X"
}

// children lists all children of this process, zombies included.
func children(t *testing.T) (found []string) {
	t.Helper()
	names, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		pid := filepath.Base(name)
		if parent, state, ok := procStat(pid); ok && parent == os.Getpid() {
			found = append(found, pid+" "+state)
		}
	}
	return found
}

func procStat(pid string) (parent int, state string, ok bool) {
	text, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return 0, "", false
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	parent, err = strconv.Atoi(fields[1])
	return parent, fields[0], err == nil
}

// until waits for a condition.
func until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited 20 s for: %s", what)
		}
	}
}

// read reads the file at path as the worker does: opened, under its own name.
func read(t *testing.T, p *exiftool.Pool, level batch.Level, path string) exiftool.Result {
	t.Helper()
	r, err := tryRead(t.Context(), p, level, path)
	if err != nil {
		t.Fatalf("Read(%q): %v", path, err)
	}
	return r
}

func tryRead(ctx context.Context, p *exiftool.Pool, level batch.Level, path string) (exiftool.Result, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return exiftool.Result{}, err
	}
	defer func() { _ = f.Close() }()
	return p.Read(ctx, level, f, archive.Key(filepath.Base(path)))
}

func text(tags metadata.Tags, name string) string {
	var s string
	_ = json.Unmarshal(tags[name], &s)
	return s
}

// photo makes a JPEG with XMP properties given as name, value pairs ("dc:title", "A").
func photo(t *testing.T, path string, properties ...string) string {
	t.Helper()
	var xmp strings.Builder
	xmp.WriteString(`http://ns.adobe.com/xap/1.0/` + "\x00" + `<x:xmpmeta xmlns:x="adobe:ns:meta/">` +
		`<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""` +
		` xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:tiff="http://ns.adobe.com/tiff/1.0/"` +
		` xmlns:exif="http://ns.adobe.com/exif/1.0/">`)
	for n := 0; n+1 < len(properties); n += 2 {
		xmp.WriteString("<" + properties[n] + ">")
		if err := xml.EscapeText(&xmp, []byte(properties[n+1])); err != nil {
			t.Fatal(err)
		}
		xmp.WriteString("</" + properties[n] + ">")
	}
	xmp.WriteString(`</rdf:Description></rdf:RDF></x:xmpmeta>`)
	var b bytes.Buffer
	if err := jpeg.Encode(&b, image.NewGray(image.Rect(0, 0, 8, 8)), nil); err != nil {
		t.Fatal(err)
	}
	app1 := binary.BigEndian.AppendUint16([]byte{0xff, 0xe1}, uint16(2+xmp.Len()))
	return write(t, path, string(b.Bytes()[:2])+string(app1)+xmp.String()+string(b.Bytes()[2:]))
}

func write(t *testing.T, path, content string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func procFile(t *testing.T, pid int, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// procLine is what follows start on its line, blanks reduced to one.
func procLine(t *testing.T, pid int, name, start string) string {
	t.Helper()
	for line := range strings.Lines(procFile(t, pid, name)) {
		if rest, ok := strings.CutPrefix(line, start); ok {
			return strings.Join(strings.Fields(rest), " ")
		}
	}
	return ""
}
