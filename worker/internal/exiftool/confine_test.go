package exiftool_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/worker/internal/exiftool"
)

// attack has the stand-in do all that ExifTool should not be able to, and returns what it could.
func attack(t *testing.T, o exiftool.Options) (did string, gaps []string) {
	t.Helper()
	t.Setenv("AWS_SECRET_ACCESS_KEY", "SECRET")
	outside, root := t.TempDir(), t.TempDir()
	write(t, filepath.Join(outside, "victim"), "untouched")
	write(t, filepath.Join(outside, "secret"), "secret")
	o.Binary, o.Read = newStandIn(t), []string{root}
	p := newPool(t, o)
	if _, err := p.Version(t.Context()); err != nil {
		t.Fatal(err)
	}
	orders := fmt.Sprint(os.Getpid(), " ", p.Status().Processes[0].Keeper, " ", outside)
	r := read(t, p, batch.LevelNormal, write(t, filepath.Join(root, "a.attack"), orders))
	if r.Fault != "" {
		t.Fatalf("Fault: %q (%s)", r.Fault, r.FaultMessage)
	}
	if got, err := os.ReadFile(filepath.Join(outside, "victim")); err != nil || string(got) != "untouched" {
		t.Errorf("the victim: got %q, %v", got, err)
	}
	return text(r.Tags, "File:FileType"), p.Status().Gaps
}

func TestConfinement(t *testing.T) {
	did, gaps := attack(t, exiftool.Options{})
	if len(gaps) > 0 {
		t.Skipf("this kernel does not confine fully: %s", gaps)
	}
	if did != "" {
		t.Errorf("exiftool could: got %q, want nothing", did)
	}
}

// Where there is no Landlock, files can be read, and the pool says so.
func TestConfinementWithoutLandlock(t *testing.T) {
	did, gaps := attack(t, exiftool.WithoutLandlock(exiftool.Options{}))
	if !strings.Contains(strings.Join(gaps, "\n"), "Landlock") {
		t.Errorf("gaps: got %q, want one about Landlock", gaps)
	}
	if want := "list passwd secret"; did != want {
		t.Errorf("exiftool could: got %q, want %q", did, want)
	}
}

// ExifTool has a filter of system calls more than its keeper.
func TestToolFilter(t *testing.T) {
	p := newPool(t, exiftool.Options{})
	if _, err := p.Version(t.Context()); err != nil {
		t.Fatal(err)
	}
	one := p.Status().Processes[0]
	const line = "Seccomp_filters:"
	keeper, _ := strconv.Atoi(procLine(t, one.Keeper, "status", line))
	tool, _ := strconv.Atoi(procLine(t, one.ExifTool, "status", line))
	if keeper == 0 {
		t.Skip("this kernel does not filter system calls, or does not say so")
	}
	if tool != keeper+1 {
		t.Errorf("filters: got %d in ExifTool and %d in its keeper, want one more", tool, keeper)
	}
}

// A file that lies outside of the folders that ExifTool may read is none of its own fault, but cannot be read.
func TestOutOfReach(t *testing.T) {
	p := newPool(t, exiftool.Options{Read: []string{t.TempDir()}})
	r := read(t, p, batch.LevelNormal, photo(t, filepath.Join(t.TempDir(), "a.jpg")))
	if len(p.Status().Gaps) > 0 {
		t.Skip("this kernel does not bound what is read")
	}
	gone := newPool(t, exiftool.Options{Read: []string{filepath.Join(t.TempDir(), "gone")}})
	if _, err := tryRead(t.Context(), gone, batch.LevelNormal, photo(t, filepath.Join(t.TempDir(), "a.jpg"))); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Read where the folder is gone: got %v, want store.ErrUnavailable", err)
	}
	if r.Fault != batch.ReasonUnreadable || !strings.Contains(r.FaultMessage, "lies outside") {
		t.Errorf("Fault: got %q (%s), want unreadable", r.Fault, r.FaultMessage)
	}
}

// What reaches ExifTool of a file is the level's arguments and an alias, whatever the file is called.
func TestArgumentsAreNeverData(t *testing.T) {
	p := newPool(t, exiftool.Options{Binary: newStandIn(t)})
	dir := t.TempDir()
	for n, name := range []string{"a.args", "-if\n1\n.args", "$x -api @f.args"} {
		r := read(t, p, batch.LevelNormal, write(t, filepath.Join(dir, name), "x"))
		args := strings.Fields(text(r.Tags, "File:FileType"))
		if len(args) != 6 {
			t.Fatalf("arguments: got %q, want 5 and a file", args)
		}
		if got, want := strings.Join(args[:5], " "), "-j -G1 -struct -api LargeFileSupport=1"; got != want {
			t.Errorf("arguments: got %q, want %q", got, want)
		}
		if got, want := filepath.Base(args[5]), fmt.Sprint(n+1, ".args"); got != want {
			t.Errorf("file: got %q, want %q", got, want)
		}
	}
}
