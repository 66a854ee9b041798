package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestInterrupt sends Ctrl-C to a program at work, and resumes what it left.
func TestInterrupt(t *testing.T) {
	files := map[string]string{}
	for i := range 3000 {
		files[fmt.Sprintf("f%04d.xmp", i)] = fmt.Sprintf("<x:xmpmeta xmlns:x='adobe:ns:meta/'/><!-- %d -->", i)
	}
	b := newBench(t, files)
	cmd := exec.Command(os.Args[0], "--ledger", b.ledger, "inspect", b.archive)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return len(parts(t, b)) > 0 })
	began := time.Now()
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	err := cmd.Wait()
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v to stop, want 5 s at most", took)
	}
	if code := cmd.ProcessState.ExitCode(); code != 130 {
		t.Fatalf("exit code %d (%v), want 130\n%s%s", code, err, stdout.String(), stderr.String())
	}
	id := regexp.MustCompile(`batch (\w{26})`).FindStringSubmatch(stderr.String())
	if id == nil || !strings.Contains(stderr.String(), "reshelf resume "+id[1]+" --ledger ") {
		t.Fatalf("want the command that resumes in\n%s", stderr.String())
	}
	before := parts(t, b)
	b.want(4, []string{"no process works on it", "reshelf resume"}, "watch", "last")
	b.want(0, []string{"3,000 objects,"}, "resume", "last")
	after := parts(t, b)
	for name, content := range before {
		if after[name] != content {
			t.Errorf("part %s was made again", name)
		}
	}
	if len(after) <= len(before) {
		t.Errorf("%d parts before and %d after: the interruption came too late to show anything", len(before), len(after))
	}
}

// parts are the parts of the inspect step of all batches.
func parts(t *testing.T, b *bench) map[string]string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(b.ledger, "batches", "*", "records", "inspect", "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, name := range names {
		if strings.Contains(filepath.Base(name), "reshelf-tmp") {
			continue
		}
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		out[name] = string(raw)
	}
	return out
}

func waitFor(t *testing.T, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("waited a minute in vain")
		}
	}
}
