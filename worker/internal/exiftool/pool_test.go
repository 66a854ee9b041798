package exiftool_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/worker/internal/exiftool"
)

func TestReadLevels(t *testing.T) {
	p := newPool(t, exiftool.Options{})
	path := photo(t, filepath.Join(t.TempDir(), "a.jpg"), "tiff:Make", "Canon", "dc:source", "one", "exif:DateTimeOriginal", "2024-05-06T07:08:09")
	for _, level := range []batch.Level{batch.LevelFast, batch.LevelNormal, batch.LevelExtended} {
		t.Run(string(level), func(t *testing.T) {
			r := read(t, p, level, path)
			if r.Fault != "" {
				t.Fatalf("Fault: got %q (%s), want none", r.Fault, r.FaultMessage)
			}
			if got, want := text(r.Tags, "XMP-tiff:Make"), "Canon"; got != want {
				t.Errorf("XMP-tiff:Make: got %q, want %q", got, want)
			}
			if got, want := text(r.Tags, "XMP-exif:DateTimeOriginal"), "2024:05:06 07:08:09"; got != want {
				t.Errorf("XMP-exif:DateTimeOriginal: got %q, want %q", got, want)
			}
			_, source := r.Tags["XMP-dc:Source"]
			if want := level != batch.LevelFast; source != want {
				t.Errorf("XMP-dc:Source present: got %t, want %t", source, want)
			}
			if r.Version == "" || r.Version != text(r.Tags, "ExifTool:ExifToolVersion") {
				t.Errorf("Version: got %q, the tags say %q", r.Version, text(r.Tags, "ExifTool:ExifToolVersion"))
			}
		})
	}
	if got, want := len(p.Status().Processes), 3; got != want {
		t.Errorf("keepers: got %d, want %d, one for each level", got, want)
	}
	if _, err := tryRead(t.Context(), p, batch.LevelNone, path); err == nil {
		t.Error("Read at level none: got no error, want one")
	}
}

func TestReadExactValues(t *testing.T) {
	p := newPool(t, exiftool.Options{})
	for _, value := range []string{"1.10", "1182.000000", "1e999", "007", "-0", "true", "12345678901234567890", `a"b\<&>`, "é\u2028"} {
		path := photo(t, filepath.Join(t.TempDir(), "a.jpg"), "dc:title", value, "tiff:Make", "Canon")
		r := read(t, p, batch.LevelNormal, path)
		if got := text(r.Tags, "XMP-dc:Title"); got != value {
			t.Errorf("XMP-dc:Title: got %q, want %q", got, value)
		}
		if got := text(r.Tags, "XMP-tiff:Make"); got != "Canon" {
			t.Errorf("XMP-tiff:Make beside %q: got %q, want Canon", value, got)
		}
	}
}

func TestReadFaultsOfFiles(t *testing.T) {
	p := newPool(t, exiftool.Options{})
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo.jpg")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	binary := string([]byte{0, 1, 2, 3, 0xfe, 0xff, 0xfd, 9, 8, 7, 0, 0, 0, 5, 200, 201, 202})
	tests := []struct {
		name, path string
		want       batch.Reason
		says       string
	}{
		{"empty", write(t, filepath.Join(dir, "empty.jpg"), ""), "", "File is empty"},
		{"unknown", write(t, filepath.Join(dir, "unknown.zzz"), binary), "", "Unknown file type"},
		{"broken", write(t, filepath.Join(dir, "broken.jpg"), binary), batch.ReasonFormat, "File format error"},
		{"zeros", write(t, filepath.Join(dir, "zeros.jpg"), strings.Repeat("\x00", 5000)), batch.ReasonFormat, "Entire file is binary zeros"},
		{"fifo", fifo, batch.ReasonSpecial, ""},
		{"directory", dir, batch.ReasonSpecial, ""},
		{"device", "/dev/zero", batch.ReasonSpecial, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := read(t, p, batch.LevelNormal, tt.path)
			if r.Fault != tt.want {
				t.Errorf("Fault: got %q (%s), want %q", r.Fault, r.FaultMessage, tt.want)
			}
			if got := text(r.Tags, exiftool.TagError); got != tt.says {
				t.Errorf("%s: got %q, want %q", exiftool.TagError, got, tt.says)
			}
		})
	}
}

// hostileNames are names that do harm to a bare go-exiftool, or could. marker is a file that must not appear.
func hostileNames(marker string) []string {
	return []string{
		"x\n-if\nsystem(\"touch " + marker + "\");1\n.jpg", "a\n-execute", "a\n-execute\n.jpg", "-execute", "-stay_open", "-", "-x.jpg",
		"#comment.jpg", "#[CSTR]a.jpg", " leading.jpg", "trailing \r", "pipe |", "| touch " + marker, "$(touch " + marker + ").jpg",
		"`touch " + marker + "`.jpg", "@file.jpg", "%d%f.jpg", "bad\xff\xfe.jpg", "\"quote\".jpg", "{ready}\n.jpg", "tab\t.j\tpg",
		"dev|", "$PATH", "@", "#", "|", "-", "100%.jpg", "\r", strings.Repeat("ü", 125) + ".jpeg",
		strings.Repeat("n", 251) + ".jpg", "a.jpg\n-o\n" + marker, ".jpg", "x.-config", "x." + strings.Repeat("e", 200),
	}
}

func TestHostileNames(t *testing.T) {
	p := newPool(t, exiftool.Options{})
	dir := t.TempDir()
	marker := filepath.Join(t.TempDir(), "owned")
	for n, name := range hostileNames("owned") {
		t.Run(fmt.Sprintf("%q", name), func(t *testing.T) {
			serial := fmt.Sprint("serial-", n)
			path := photo(t, filepath.Join(dir, strings.ReplaceAll(name, "/", "_")), "dc:title", serial)
			r := read(t, p, batch.LevelNormal, path)
			if r.Fault != "" {
				t.Fatalf("Fault: got %q (%s), want none", r.Fault, r.FaultMessage)
			}
			if got := text(r.Tags, "XMP-dc:Title"); got != serial {
				t.Errorf("XMP-dc:Title: got %q, want %q: another file's tags", got, serial)
			}
		})
	}
	for _, path := range []string{marker, "owned", "/owned"} {
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s exists: a name was executed", path)
		}
	}
	if got := p.Status().Processes; len(got) != 1 || got[0].Restarts != 0 {
		t.Errorf("processes: got %+v, want one without restarts", got)
	}
}

func TestReadConcurrently(t *testing.T) {
	p := newPool(t, exiftool.Options{Processes: 3})
	dir := t.TempDir()
	const files = 24
	for n := range files {
		photo(t, filepath.Join(dir, fmt.Sprint(n, ".jpg")), "dc:title", fmt.Sprint("file ", n))
	}
	var wg sync.WaitGroup
	for n := range files {
		wg.Go(func() {
			r, err := tryRead(t.Context(), p, batch.LevelNormal, filepath.Join(dir, fmt.Sprint(n, ".jpg")))
			if err != nil || text(r.Tags, "XMP-dc:Title") != fmt.Sprint("file ", n) {
				t.Errorf("file %d: got title %q, fault %q, error %v", n, text(r.Tags, "XMP-dc:Title"), r.Fault, err)
			}
		})
	}
	wg.Wait()
	if got := len(p.Status().Processes); got > 3 {
		t.Errorf("keepers: got %d, want at most 3", got)
	}
}

func TestRecycle(t *testing.T) {
	tests := []struct {
		name    string
		options exiftool.Options
	}{
		{"by files", exiftool.Options{MaxFiles: 2}},
		{"by memory", exiftool.Options{MaxResident: 1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newPool(t, tt.options)
			path := photo(t, filepath.Join(t.TempDir(), "a.jpg"), "tiff:Make", "Canon")
			for range 5 {
				if r := read(t, p, batch.LevelFast, path); text(r.Tags, "XMP-tiff:Make") != "Canon" {
					t.Fatalf("XMP-tiff:Make: got %q (%s)", text(r.Tags, "XMP-tiff:Make"), r.FaultMessage)
				}
			}
			until(t, "the second successor", func() bool {
				read(t, p, batch.LevelFast, path)
				return p.Status().Processes[0].Restarts >= 2
			})
		})
	}
}

// A successor that takes long to come up delays no file: the old ExifTool reads on.
func TestSuccessorComesUpFirst(t *testing.T) {
	dir := t.TempDir()
	slow := writeProgram(t, filepath.Join(dir, "exiftool"), `sleep 1; exec perl `+newStandIn(t))
	p := newPool(t, exiftool.Options{Binary: slow, MaxFiles: 2})
	path := write(t, filepath.Join(dir, "a.good"), "good")
	read(t, p, batch.LevelFast, path)
	first := p.Status().Processes[0].ExifTool
	until(t, "the successor", func() bool {
		start := time.Now()
		r := read(t, p, batch.LevelFast, path)
		if took := time.Since(start); took > 700*time.Millisecond || text(r.Tags, "XMP-dc:Title") != "good" {
			t.Errorf("got title %q after %v", text(r.Tags, "XMP-dc:Title"), took)
		}
		return p.Status().Processes[0].ExifTool != first
	})
	if alive(first) {
		t.Errorf("the old exiftool %d is alive", first)
	}
}

// A successor that does not come up costs nothing: the old ExifTool reads on.
func TestSuccessorFails(t *testing.T) {
	dir := t.TempDir()
	binary := filepath.Join(dir, "exiftool")
	writeProgram(t, binary, `exec perl `+newStandIn(t))
	p := newPool(t, exiftool.Options{Binary: binary, MaxFiles: 2})
	path := write(t, filepath.Join(dir, "a.good"), "good")
	read(t, p, batch.LevelFast, path)
	first := p.Status().Processes[0]
	writeProgram(t, binary, `exit 1`)
	for range 20 {
		if r := read(t, p, batch.LevelFast, path); text(r.Tags, "XMP-dc:Title") != "good" {
			t.Errorf("got title %q, fault %q (%s)", text(r.Tags, "XMP-dc:Title"), r.Fault, r.FaultMessage)
		}
	}
	if now := p.Status().Processes[0]; now.Keeper != first.Keeper || now.ExifTool != first.ExifTool {
		t.Errorf("processes: got %+v, want still %+v", now, first)
	}
	if err := p.Check(t.Context()); err != nil {
		t.Errorf("Check: got %v, want nil", err)
	}
}

// Keepers that have nothing to do are ended, the others stay.
func TestShrinks(t *testing.T) {
	reader := sdkmetric.NewManualReader()
	meter := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)).Meter("test")
	p := newPool(t, exiftool.Options{Processes: 3, IdleAfter: time.Second, Binary: newStandIn(t), Meter: meter})
	path := write(t, filepath.Join(t.TempDir(), "a.good"), "good")
	var wg sync.WaitGroup
	start := make(chan struct{})
	for range 3 {
		wg.Go(func() {
			<-start
			for range 20 {
				if _, err := tryRead(t.Context(), p, batch.LevelNormal, path); err != nil {
					t.Errorf("Read: %v", err)
				}
			}
		})
	}
	close(start)
	wg.Wait()
	read(t, p, batch.LevelFast, path)
	if got := len(p.Status().Processes); got < 3 {
		t.Fatalf("keepers: got %d, want at least 3", got)
	}
	until(t, "one keeper, the one in use", func() bool {
		read(t, p, batch.LevelNormal, path)
		return len(p.Status().Processes) == 1
	})
	until(t, "no keeper", func() bool { return len(p.Status().Processes) == 0 })
	read(t, p, batch.LevelNormal, path)
	var got metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &got); err != nil {
		t.Fatal(err)
	}
	waits := got.ScopeMetrics[0].Metrics[0]
	points := waits.Data.(metricdata.Histogram[float64]).DataPoints
	if waits.Name != "reshelf.exiftool.wait" || len(points) != 2 || points[0].Count+points[1].Count < 62 {
		t.Errorf("metric: got %+v, want the waits of two levels", waits)
	}
}

func TestNoExifTool(t *testing.T) {
	dir := t.TempDir()
	path := photo(t, filepath.Join(dir, "a.jpg"))
	tests := []struct{ name, binary string }{
		{"missing", filepath.Join(dir, "missing")},
		{"ends at once", writeProgram(t, filepath.Join(dir, "ends"), "exit 1")},
		{"says nothing", writeProgram(t, filepath.Join(dir, "silent"), "sleep 3600")},
		{"is something else", writeProgram(t, filepath.Join(dir, "else"), `while read l; do case $l in -execute*) echo "hello"; echo "{ready${l#-execute}}";; esac; done`)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newPool(t, exiftool.Options{Binary: tt.binary, StartLimit: 300 * time.Millisecond})
			if _, err := tryRead(t.Context(), p, batch.LevelNormal, path); !errors.Is(err, exiftool.ErrUnavailable) {
				t.Errorf("Read: got %v, want ErrUnavailable", err)
			}
			if err := p.Check(t.Context()); err == nil {
				t.Error("Check: got nil, want an error")
			}
		})
	}
}

// A pool that had no ExifTool recovers by itself when there is one, also when nobody reads.
func TestCheckRecovers(t *testing.T) {
	dir := t.TempDir()
	binary := filepath.Join(dir, "exiftool")
	p := newPool(t, exiftool.Options{Binary: binary})
	if err := p.Check(t.Context()); err == nil {
		t.Fatal("Check: got nil, want an error")
	}
	real, err := exec.LookPath("exiftool")
	if err != nil {
		t.Fatal(err)
	}
	writeProgram(t, binary, `exec perl `+real+` "$@"`) // perl may be run, whatever else is confined
	until(t, "a healthy pool", func() bool { return p.Check(t.Context()) == nil })
	if v, err := p.Version(t.Context()); err != nil || v == "" {
		t.Errorf("Version: got %q, %v", v, err)
	}
}

func TestClose(t *testing.T) {
	p, err := exiftool.NewPool(exiftool.Options{Scratch: t.TempDir(), Processes: 1})
	if err != nil {
		t.Fatal(err)
	}
	path := photo(t, filepath.Join(t.TempDir(), "a.jpg"))
	for range 2 {
		if err := p.Close(context.Background()); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	if _, err := tryRead(t.Context(), p, batch.LevelNormal, path); !errors.Is(err, exiftool.ErrClosed) {
		t.Errorf("Read after Close: got %v, want ErrClosed", err)
	}
}

func writeProgram(t *testing.T, path, script string) string {
	t.Helper()
	// Written under another name and renamed, so that no concurrent fork can hold it open for writing.
	temp := path + ".tmp"
	if err := os.WriteFile(temp, []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(temp, path); err != nil {
		t.Fatal(err)
	}
	return path
}
