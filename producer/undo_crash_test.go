package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestKilledUndo kills an undo of chosen objects in the middle of its renames. What it left is resumed, then the rest is
// undone, and all names are as they were.
func TestKilledUndo(t *testing.T) {
	files := map[string]string{}
	for i := range 3000 {
		files[fmt.Sprintf("d/%04d.txt", i)] = fmt.Sprint(i)
	}
	b := newBench(t, files)
	b.want(0, nil, "rename", b.archive, away, "--yes")
	renamed := b.batches()[0]
	cmd := exec.Command(os.Args[0], "--ledger", b.ledger, "--slots", "1", "undo", renamed, "--include", "n/[01]*.txt", "--yes")
	cmd.Env = append(os.Environ(), asProgram+"=1")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	back := func() (n int) {
		for name := range b.files() {
			if strings.HasPrefix(name, "d/") {
				n++
			}
		}
		return n
	}
	waitFor(t, func() bool {
		entries, err := os.ReadDir(b.archive + "/d")
		return err == nil && len(entries) > 10
	})
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	if n := back(); n == 0 || n == 2000 {
		t.Logf("%d of 2,000 objects were back when it was killed: that shows little", n)
	}
	b.want(0, []string{"2,000 objects renamed back"}, "resume", "last")
	if n := back(); n != 2000 {
		t.Errorf("%d objects are back, want the 2,000 that were chosen", n)
	}
	b.want(0, []string{"1,000 objects renamed back"}, "undo", renamed, "--yes")
	if diff := cmp.Diff(files, b.files()); diff != "" {
		t.Errorf("archive after all was undone (-want +got):\n%s", diff)
	}
}
