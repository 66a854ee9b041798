package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// with is pictures and what byHash makes of those that are listed.
func with(more map[string]string) map[string]string {
	out := pictures()
	maps.Copy(out, more)
	return out
}

func TestCopies(t *testing.T) {
	b := newBench(t, pictures())
	b.want(3, []string{"copy     3 objects", "Some of the copies", "Nothing was copied", "grows by", "never deletes"}, "rename", b.archive, byHash, "--copy")
	if diff := cmp.Diff(pictures(), b.files()); diff != "" {
		t.Fatalf("copied before approval:\n%s", diff)
	}
	b.want(0, []string{"3 objects copied", "still under their old names"}, "apply", "last")
	if diff := cmp.Diff(with(renamed()), b.files()); diff != "" {
		t.Errorf("after apply:\n%s", diff)
	}
	b.want(0, []string{"method", "copy"}, "show", "last")
	of := sum("one")[:8] + ".txt"
	story := []string{of + ", first a.txt", "a.txt -> " + of + " done"}
	if diff := cmp.Diff([][]string{story}, b.story(of)); diff != "" {
		t.Errorf("history of a copy (-want +got):\n%s", diff)
	}
	story[0] = "a.txt, first a.txt"
	if diff := cmp.Diff([][]string{story}, b.story("a.txt")); diff != "" {
		t.Errorf("history of what was copied (-want +got):\n%s", diff)
	}
	b.want(0, []string{" copied "}, "history", of)
	// The same again finds the copies, and what was copied can be renamed, and that be undone, without them.
	b.want(1, []string{"target-exists"}, "rename", b.archive, byHash, "--copy", "--include", "[abc].txt")
	b.want(0, []string{"3 duplicate, 3 unchanged", "Archive unchanged"}, "rename", b.archive, byHash, "--copy", "--on-conflict", "same-content", "--yes")
	b.want(0, nil, "rename", b.archive, "n/{name}{ext}", "--yes", "--include", "a.txt")
	b.want(0, []string{"1 object renamed back"}, "undo", "last", "--yes")
	if diff := cmp.Diff(with(renamed()), b.files()); diff != "" {
		t.Errorf("at last:\n%s", diff)
	}
}

// Nothing is ever deleted, so copies are not undone; and nothing else is in their place.
func TestCopiesAreNotUndone(t *testing.T) {
	b := newBench(t, pictures())
	b.want(0, nil, "rename", b.archive, "n/{name}{ext}", "--yes", "--include", "b.txt")
	before := b.files()
	b.want(0, nil, "rename", b.archive, byHash, "--copy", "--yes", "--include", "a.txt")
	copies := b.batches()[0]
	for _, args := range [][]string{{"undo", "last"}, {"undo", copies, "--yes"}, {"undo", copies, "--check"}, {"undo", copies, sum("one")[:8] + ".txt"}} {
		o := b.want(4, []string{"copied objects", "never deletes objects"}, args...)
		_, list, _ := strings.Cut(strings.TrimSpace(o.stderr), "delete some:  ")
		if raw, err := os.ReadFile(list); err != nil || !strings.Contains(string(raw), sum("one")[:8]+".txt,done") {
			t.Errorf("the list %q: %q, %v", list, raw, err)
		}
	}
	before[sum("one")[:8]+".txt"] = "one"
	if diff := cmp.Diff(before, b.files()); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	// A batch that copied nothing is in nobody's way.
	b.want(0, nil, "rename", b.archive, "{name}{ext}", "--copy", "--yes", "--include", "a.txt")
	b.want(4, []string{copies}, "undo", "last")
}

func TestHardLinks(t *testing.T) {
	b := newBench(t, pictures())
	b.want(3, []string{"hard-link  3 objects", "Some of the hard links", "same file"}, "rename", b.archive, byHash, "--hardlink")
	o := b.want(0, []string{`"copied": 3`}, "apply", "last", "--json")
	var result struct{ Method string }
	if err := json.Unmarshal([]byte(o.stdout), &result); err != nil || result.Method != "hardlink" {
		t.Errorf("method %q, %v", result.Method, err)
	}
	if diff := cmp.Diff(with(renamed()), b.files()); diff != "" {
		t.Errorf("after apply:\n%s", diff)
	}
	first, err := os.Stat(filepath.Join(b.archive, "a.txt"))
	if err != nil {
		t.Fatal(err)
	}
	if second, err := os.Stat(filepath.Join(b.archive, sum("one")[:8]+".txt")); err != nil || !os.SameFile(first, second) {
		t.Errorf("they are not one file: %v", err)
	}
}

func TestCopiesUsage(t *testing.T) {
	b := newBench(t, pictures())
	b.want(2, []string{"either --copy or --hardlink"}, "rename", b.archive, byHash, "--copy", "--hardlink")
	for _, flag := range []string{"--copy", "--hardlink"} {
		b.want(2, []string{"--remove-empty-folders"}, "rename", b.archive, byHash, flag, "--remove-empty-folders")
	}
	b.want(2, []string{"a bucket has no hard links", "--copy"}, "rename", "s3://photos/2024", byHash, "--hardlink")
	if _, err := os.Stat(b.ledger); !os.IsNotExist(err) {
		t.Errorf("a batch was made: %v", err)
	}
}

// Samples and edited plans copy too.
func TestPartsOfCopies(t *testing.T) {
	b := newBench(t, map[string]string{"d/1.txt": "1", "d/2.txt": "2", "d/3.txt": "3"})
	files := b.files()
	base, csv := b.planned("n/{name}{ext}", "--copy")
	edited := strings.Replace(csv, "n/2.txt", "n/two.txt", 1)
	b.stdin = edited
	b.want(3, []string{"copy     3 objects"}, "plan", base, "--edited", "-")
	b.want(3, []string{"1 object copied", "The rest of the plan, 2 objects"}, "apply", "last", "--sample", "1")
	b.want(0, []string{"2 objects copied"}, "apply", "last")
	maps.Copy(files, map[string]string{"n/1.txt": "1", "n/two.txt": "2", "n/3.txt": "3"})
	if diff := cmp.Diff(files, b.files()); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

// TestKilledCopies kills a batch that copies, interrupts its successor, and resumes it. Every object is as it was all the time, and at
// last there is one copy of each.
func TestKilledCopies(t *testing.T) {
	for _, flag := range []string{"--copy", "--hardlink"} {
		t.Run(flag, func(t *testing.T) {
			files := map[string]string{}
			for i := range 2000 {
				files[fmt.Sprintf("d/%04d.txt", i)] = strings.Repeat(fmt.Sprint(i), 1000)
			}
			b := newBench(t, files)
			start := func(args ...string) *exec.Cmd {
				cmd := exec.Command(os.Args[0], append([]string{"--ledger", b.ledger, "--slots", "1"}, args...)...)
				cmd.Env = append(os.Environ(), asProgram+"=1")
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				return cmd
			}
			made := func() int {
				entries, _ := os.ReadDir(b.archive + "/n") // it comes to be
				return len(entries)
			}
			cmd := start("rename", b.archive, "n/{name}{ext}", flag, "--yes")
			waitFor(t, func() bool { return made() > 10 })
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait() // it was killed
			checkOriginals(t, b, files)
			more := min(made()+5, len(files)-1)
			cmd = start("resume", "last")
			waitFor(t, func() bool { return made() > more })
			if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			checkOriginals(t, b, files)
			if o := b.run("resume", "last"); o.code != 0 && !strings.Contains(o.stderr, "is complete") {
				t.Fatalf("exit code %d\n%s%s", o.code, o.stdout, o.stderr)
			}
			for name, content := range maps.Clone(files) {
				files["n/"+filepath.Base(name)] = content
			}
			got := b.files()
			maps.DeleteFunc(got, func(name, _ string) bool { return strings.HasPrefix(filepath.Base(name), ".reshelf-tmp-") })
			if diff := cmp.Diff(files, got); diff != "" {
				t.Errorf("files (-want +got):\n%.2000s", diff)
			}
		})
	}
}

func checkOriginals(t *testing.T, b *bench, files map[string]string) {
	t.Helper()
	got := b.files()
	for name, content := range files {
		if got[name] != content {
			t.Fatalf("%s is not what it was", name)
		}
	}
}
