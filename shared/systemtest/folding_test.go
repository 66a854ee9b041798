package systemtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// alone is the command of one machine, on an archive and a ledger of its own.
type alone struct {
	*testing.T
	archive, data string
}

func (a alone) command(args ...string) *exec.Cmd {
	c := exec.CommandContext(a.Context(), programs.reshelf, args...)
	c.Env = append(os.Environ(), "XDG_DATA_HOME="+a.data)
	return c
}

func (a alone) names() []string {
	a.Helper()
	entries, err := os.ReadDir(a.archive)
	if err != nil {
		a.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// files maps the names to the contents.
func (a alone) files() map[string]string {
	a.Helper()
	files := map[string]string{}
	for _, name := range a.names() {
		raw, err := os.ReadFile(filepath.Join(a.archive, name))
		if err != nil {
			a.Fatal(err)
		}
		files[name] = string(raw)
	}
	return files
}

// batch is the id of the last batch.
func (a alone) batch() string {
	a.Helper()
	found, err := filepath.Glob(filepath.Join(a.data, "reshelf", "ledger", "batches", "*"))
	if err != nil || len(found) == 0 {
		a.Fatalf("batches: %v, %v", found, err)
	}
	return filepath.Base(slices.Max(found))
}

// killed runs a command, kills it as soon as names have changed, and has its batch resumed and killed again, until one run ends by itself.
// It returns how many were killed.
func (a alone) killed(args ...string) (kills int) {
	a.Helper()
	for {
		before := a.names()
		c := a.command(args...)
		var out strings.Builder
		c.Stdout, c.Stderr = &out, &out
		if err := c.Start(); err != nil {
			a.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- c.Wait() }()
		var err error
		for running := true; running; {
			select {
			case err = <-ended:
				running = false
			case <-time.After(5 * time.Millisecond):
				if kills < 6 && !slices.Equal(before, a.names()) {
					time.Sleep(time.Duration(7*kills) * time.Millisecond)
					_ = c.Process.Kill() // it may have ended
				}
			}
		}
		if err == nil {
			return kills
		}
		if c.ProcessState.ExitCode() >= 0 {
			a.Fatalf("%v: %v\n%s", args, err, &out)
		}
		kills++
		args = []string{"resume", a.batch()}
	}
}

// TestFoldingKilled changes the case of names where the file system folds it, in processes that are killed, and undoes it likewise. It needs a
// mounted file system that folds case: make folding.
func TestFoldingKilled(t *testing.T) {
	top := os.Getenv("RESHELF_FOLDING")
	if top == "" {
		return
	}
	dir, err := os.MkdirTemp(top, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	a := alone{t, dir, t.TempDir()}
	want := map[string]string{}
	for i := range 150 {
		for _, ext := range []string{"JPG", "AAE"} {
			name := fmt.Sprintf("IMG_%03d.%s", i, ext)
			want[strings.ToLower(name[:7])+strings.Replace(name[7:], "JPG", "jpg", 1)] = name
			if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	before := a.files()
	if n := a.killed("rename", dir, "{dir}/{name|lower}{ext|lower}", "--yes", "--assume-single-writer"); n == 0 {
		t.Error("no rename was killed")
	}
	if diff := cmp.Diff(want, a.files()); diff != "" {
		t.Errorf("after the rename (-want +got):\n%s", diff)
	}
	if n := a.killed("undo", a.batch(), "--yes"); n == 0 {
		t.Error("no undo was killed")
	}
	if diff := cmp.Diff(before, a.files()); diff != "" {
		t.Errorf("after the undo (-want +got):\n%s", diff)
	}
}
