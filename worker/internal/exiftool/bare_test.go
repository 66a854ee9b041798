package exiftool_test

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	goexiftool "github.com/barasher/go-exiftool"

	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/worker/internal/exiftool"
	"github.com/reshelf/reshelf/worker/internal/exiftool/keeper"
)

// These tests hold what go-exiftool v1.10.0 does by itself, so that we notice when it changes, each beside what becomes
// of it behind a keeper.

func TestBareCommandInName(t *testing.T) {
	dir := t.TempDir()
	marker := filepath.Join(t.TempDir(), "owned")
	photo(t, filepath.Join(dir, "x"), "dc:title", "not asked for")
	path := photo(t, filepath.Join(dir, "x\n-if\nsystem('echo x > owned') or 1\n.jpg"), "dc:title", "mine")
	bare := startRole(t, "bare", "", path)
	bare.line()
	if _, err := os.Stat(filepath.Join(bare.cmd.Dir, "owned")); err != nil {
		t.Errorf("bare: the command in the name was not executed any more: %v", err)
	}
	bare.end()
	p := newPool(t, exiftool.Options{})
	if r := read(t, p, batch.LevelNormal, path); text(r.Tags, "XMP-dc:Title") != "mine" {
		t.Errorf("keeper: got %q, fault %q (%s)", text(r.Tags, "XMP-dc:Title"), r.Fault, r.FaultMessage)
	}
	for _, path := range []string{marker, "owned", "/owned"} {
		if _, err := os.Stat(path); err == nil {
			t.Errorf("keeper: %s exists", path)
		}
	}
}

func TestBareShiftedAnswers(t *testing.T) {
	dir := t.TempDir()
	names := []string{"a\n-execute", "b.jpg", "c.jpg"}
	photo(t, filepath.Join(dir, "a"), "dc:title", "not asked for")
	var paths []string
	for _, name := range names {
		paths = append(paths, photo(t, filepath.Join(dir, name), "dc:title", name))
	}
	bare := startRole(t, append([]string{"bare", ""}, paths...)...)
	bare.line()
	if got := bare.line() + bare.line(); strings.Contains(got, "c.jpg") {
		t.Errorf("bare: the answers were not shifted any more: %s", got)
	}
	bare.end()
	p := newPool(t, exiftool.Options{})
	for n, path := range paths {
		if r := read(t, p, batch.LevelNormal, path); text(r.Tags, "XMP-dc:Title") != names[n] {
			t.Errorf("keeper: %q: got %q, fault %q", names[n], text(r.Tags, "XMP-dc:Title"), r.Fault)
		}
	}
}

// Behind a keeper the same file costs its own record (TestStandIn: die, hang).
func TestBareHangsWhenExifToolDies(t *testing.T) {
	path := write(t, filepath.Join(t.TempDir(), "a.die"), "x")
	bare := startRole(t, "bare", newStandIn(t), path)
	line := make(chan string, 1)
	go func() { line <- bare.line() }()
	select {
	case got := <-line:
		t.Errorf("bare: ExtractMetadata came back: %s", got)
	case <-time.After(time.Second):
	}
	_ = bare.cmd.Process.Kill()
	<-line
}

func TestBareValues(t *testing.T) {
	dir := t.TempDir()
	number := photo(t, filepath.Join(dir, "a.jpg"), "dc:title", "1.10")
	overflow := photo(t, filepath.Join(dir, "b.jpg"), "dc:title", "1e999")
	bare := startRole(t, "bare", "", number, overflow)
	if got, want := bare.line(), `{"Title":1.1,"Err":""}`; got != want {
		t.Errorf(`bare: "1.10": got %s, want %s`, got, want)
	}
	if got := bare.line(); !strings.Contains(got, "error during unmarshaling") {
		t.Errorf(`bare: "1e999": got %s, want no tags`, got)
	}
	// Behind a keeper: TestReadExactValues.
}

func TestBareNoiseAndSize(t *testing.T) {
	dir := t.TempDir()
	words := write(t, filepath.Join(dir, "a.words"), "x")
	large := write(t, filepath.Join(dir, "a.large"), "x")
	good := write(t, filepath.Join(dir, "a.good"), "x")
	bare := startRole(t, "bare", newStandIn(t), words, good)
	if got := bare.line(); !strings.Contains(got, "error during unmarshaling") {
		t.Errorf("bare: words on standard error: got %s, want no tags", got)
	}
	bare = startRole(t, "bare", newStandIn(t), large, good)
	for _, name := range []string{"large", "good"} {
		if got := bare.line(); !strings.Contains(got, "buffer too small") {
			t.Errorf("bare: %s: got %s, want buffer too small", name, got)
		}
	}
	// Behind a keeper: TestStandIn: words, large.
}

// TestKeeperRefusesNames gives hostile names to a keeper itself, without the pool's alias.
func TestKeeperRefusesNames(t *testing.T) {
	dir := t.TempDir()
	link, err := keeper.Install(dir, keeper.Settings{
		ExifTool: newStandIn(t), Args: []string{"-j"}, Parent: os.Getpid(), MaxAnswer: 1 << 20,
		StartLimit: 10 * time.Second, MaxFiles: 10, MaxResident: 1 << 30, AddressSpace: 1 << 30,
	})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := keeper.Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	et, err := goexiftool.NewExiftool(goexiftool.SetExiftoolBinaryPath(link))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := listener.Accept(time.Now().Add(10 * time.Second))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		_, _ = conn.Stop(), conn.Stdout.Close()
		_, _ = io.Copy(io.Discard, conn.Alive) // until keeper and ExifTool are gone
		_, _, _ = et.Close(), conn.Stdin.Close(), conn.Alive.Close()
		_ = conn.Close()
	}()
	files := t.TempDir()
	good := write(t, filepath.Join(keeper.AliasDir(dir), "7.good"), "good")
	for _, name := range append(hostileNames("owned"), "1.jpg", "a\n"+good, strings.Repeat("x/", 1990)+"x") {
		path := filepath.Join(files, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		fm := et.ExtractMetadata(write(t, path, "bad"))[0]
		if fm.Err != nil || fm.Fields["Error"] == nil || fm.Fields["XMP-dc:Title"] != nil {
			t.Errorf("%.60q: got fields %v, error %v, want a refusal", name, fm.Fields, fm.Err)
		}
		if err := conn.Expect(keeper.Request{Alias: "7.good", Deadline: 10 * time.Second}); err != nil {
			t.Fatal(err)
		}
		if fm := et.ExtractMetadata(good)[0]; fm.Fields["XMP-dc:Title"] != "good" {
			t.Errorf("an alias after %.60q: got %v, error %v", name, fm.Fields, fm.Err)
		}
	}
}
