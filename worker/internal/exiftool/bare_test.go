package exiftool_test

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
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

// Behind a keeper the same files cost their own records (TestStandIn), and devices are refused (TestReadFaultsOfFiles).
func TestBareHangs(t *testing.T) {
	for _, tt := range []struct{ name, path string }{
		{"exiftool dies", "a.die"}, {"exiftool dies in its answer", "a.half"}, {"exiftool hangs", "a.hang"}, {"a device", "/dev/zero"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path, binary := tt.path, ""
			if !filepath.IsAbs(path) {
				path, binary = write(t, filepath.Join(t.TempDir(), path), "x"), newStandIn(t)
			}
			bare := startRole(t, "bare", binary, path)
			line := make(chan string, 1)
			go func() { line <- bare.line() }()
			select {
			case got := <-line:
				t.Errorf("bare: ExtractMetadata came back: %s", got)
			case <-time.After(time.Second):
			}
			_ = syscall.Kill(-bare.cmd.Process.Pid, syscall.SIGKILL)
			<-line
		})
	}
}

// An ExifTool that ended between two files is not started again: all later files are lost. Behind a keeper: TestStandIn,
// dieafter, and TestSignalsBetweenFiles.
func TestBareDiesBetweenFiles(t *testing.T) {
	dir := t.TempDir()
	paths := []string{write(t, filepath.Join(dir, "a.dieafter"), "first"), write(t, filepath.Join(dir, "a.good"), "second")}
	bare := startRole(t, append([]string{"bare", newStandIn(t)}, paths...)...)
	if got := bare.line(); !strings.Contains(got, `"Err":""`) {
		t.Errorf("bare: the first file: got %s, want no error", got)
	}
	line := make(chan string, 1)
	go func() { line <- bare.line() }()
	select {
	case got := <-line:
		if !strings.Contains(got, "broken pipe") {
			t.Errorf("bare: the second file: got %s, want a broken pipe, or nothing for ever", got)
		}
		line <- ""
	case <-time.After(time.Second):
	}
	_ = syscall.Kill(-bare.cmd.Process.Pid, syscall.SIGKILL)
	<-line
}

// Another file's answer is taken for this one's, and an answer for no file panics. Behind a keeper: TestStandIn,
// other and empty.
func TestBareBelievesAnything(t *testing.T) {
	dir := t.TempDir()
	other, empty := write(t, filepath.Join(dir, "a.other"), "x"), write(t, filepath.Join(dir, "a.empty"), "x")
	bare := startRole(t, "bare", newStandIn(t), other, empty)
	if got := bare.line(); !strings.Contains(got, `"Err":""`) {
		t.Errorf("bare: the answer for another file: got %s, want it taken", got)
	}
	if got := bare.line(); !strings.HasPrefix(got, "panic: ") {
		t.Errorf("bare: an empty answer: got %s, want a panic", got)
	}
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
		StartLimit: 10 * time.Second, MaxFiles: 10, AddressSpace: 1 << 30,
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
	content, err := os.Open(write(t, filepath.Join(files, "content"), "good"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = content.Close() }()
	good := filepath.Join(keeper.AliasDir(dir), "7.good")
	if err := os.Symlink(conn.Slot, good); err != nil {
		t.Fatal(err)
	}
	for _, name := range append(hostileNames("owned"), "1.jpg", "a\n"+good, strings.Repeat("x/", 1990)+"x") {
		path := filepath.Join(files, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		fm := et.ExtractMetadata(write(t, path, "bad"))[0]
		note, _ := fm.Fields[keeper.NoteKey].(string)
		if fm.Err != nil || !strings.Contains(note, `"fault":"unreadable"`) || fm.Fields[keeper.TagsKey] != nil {
			t.Errorf("%.60q: got fields %v, error %v, want a refusal", name, fm.Fields, fm.Err)
		}
		if err := conn.Expect(keeper.Request{Alias: "7.good", Deadline: 10 * time.Second}, content); err != nil {
			t.Fatal(err)
		}
		fm = et.ExtractMetadata(good)[0]
		if tags, _ := fm.Fields[keeper.TagsKey].(string); !strings.Contains(tags, `"XMP-dc:Title":"good"`) {
			t.Errorf("an alias after %.60q: got %v, error %v", name, fm.Fields, fm.Err)
		}
	}
}
