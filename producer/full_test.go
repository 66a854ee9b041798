package main

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// smallDisk puts the ledger on a file system of its own, of 1 MiB.
func (b *bench) smallDisk() {
	b.t.Helper()
	if err := os.Mkdir(b.ledger, 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", b.ledger, "tmpfs", 0, "size=1m"); err != nil {
		b.t.Skipf("only root can mount a small file system: %v", err)
	}
	b.t.Cleanup(func() {
		if err := unix.Unmount(b.ledger, 0); err != nil {
			b.t.Errorf("unmount %s: %v", b.ledger, err)
		}
	})
}

// fill takes all space that is left on the ledger's disk, until free is called.
func (b *bench) fill() (free func()) {
	b.t.Helper()
	name := filepath.Join(b.ledger, "ballast")
	f, err := os.Create(name)
	if err != nil {
		b.t.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 1024))
	}
	if !errors.Is(err, unix.ENOSPC) {
		b.t.Fatal(err)
	}
	return func() {
		b.t.Helper()
		if err := os.Remove(name); err != nil {
			b.t.Fatal(err)
		}
	}
}

// TestFullLedger fills the ledger's disk while a batch is worked on, so that there is no room even to pause it.
func TestFullLedger(t *testing.T) {
	b := newBench(t, pictures())
	b.smallDisk()
	b.write("large.bin", "")
	if err := os.Truncate(filepath.Join(b.archive, "large.bin"), 2<<30); err != nil { // it takes no room, but time
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "--ledger", b.ledger, "--slots", "1", "inspect", b.archive, "--metadata", "none", "--digests", "sha256")
	cmd.Env = append(os.Environ(), asProgram+"=1")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool {
		sealed, err := filepath.Glob(filepath.Join(b.ledger, "batches", "*", "segments", "inspect", "*", "sealed.json"))
		return err == nil && len(sealed) > 0
	})
	free := b.fill()
	watchdog := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	defer watchdog.Stop()
	err := cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 4 {
		t.Fatalf("exit code %d (%v), want 4\n%s", code, err, stderr.String())
	}
	id := regexp.MustCompile(`batch (\w{26})`).FindStringSubmatch(stderr.String())
	if id == nil {
		t.Fatalf("no batch in\n%s", stderr.String())
	}
	line := regexp.MustCompile(`(?m)^reshelf: the ledger \S+ is full \(.*\); nothing is lost: free space there, then go on with: reshelf resume ` + id[1] + ` --ledger \S+$`)
	if !line.MatchString(stderr.String()) {
		t.Errorf("want one line that says what is full, and what to do, in\n%s", stderr.String())
	}
	t.Logf("said:\n%s", stderr.String())
	before := parts(t, b)
	b.want(4, []string{b.ledger, "no space left"}, "resume", "last") // nothing has changed
	free()
	b.want(0, []string{"4 objects,"}, "resume", "last")
	after := parts(t, b)
	maps.DeleteFunc(after, func(name, content string) bool { return before[name] != content })
	if !maps.Equal(after, before) {
		t.Error("parts were made again")
	}
}

// TestFullLedgerBeforeRenaming: there is no room to approve the plan.
func TestFullLedgerBeforeRenaming(t *testing.T) {
	b := newBench(t, pictures())
	b.smallDisk()
	b.want(3, nil, "rename", b.archive, byHash)
	before := b.files()
	free := b.fill()
	o := b.want(4, []string{b.ledger, "no space left"}, "apply", "last")
	t.Logf("said:\n%s", o.stderr)
	if strings.Contains(o.stderr, "moved") || !maps.Equal(b.files(), before) {
		t.Error("the archive was changed")
	}
	free()
	b.want(0, nil, "resume", "last", "--yes")
	if !maps.Equal(b.files(), renamed()) {
		t.Errorf("files = %v, want %v", b.files(), renamed())
	}
}
