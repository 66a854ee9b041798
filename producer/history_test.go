package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// story is what history --json says of each object, a line for each move: from, to, outcome.
func (b *bench) story(args ...string) [][]string {
	b.t.Helper()
	var got struct {
		Objects []struct {
			First, Last string
			Moves       []struct{ From, To, Outcome string }
		}
	}
	o := b.want(0, nil, append([]string{"history", "--json"}, args...)...)
	if err := json.Unmarshal([]byte(o.stdout), &got); err != nil {
		b.t.Fatal(err)
	}
	var out [][]string
	for _, o := range got.Objects {
		lines := []string{fmt.Sprintf("%s, first %s", o.Last, o.First)}
		for _, m := range o.Moves {
			lines = append(lines, fmt.Sprintf("%s -> %s %s", m.From, m.To, m.Outcome))
		}
		out = append(out, lines)
	}
	return out
}

func TestHistory(t *testing.T) {
	b := newBench(t, map[string]string{"d/1.txt": "1", "d/2.txt": "2", "d/3.txt": "3"})
	b.want(0, nil, "rename", b.archive, away, "--yes")
	b.want(0, nil, "undo", "last", "n/1.txt", "--yes")
	b.want(0, nil, "rename", b.archive, "m/{name}-x{ext}", "--yes")
	of1 := []string{"m/1-x.txt, first d/1.txt", "d/1.txt -> m/1-x.txt done", "n/1.txt -> d/1.txt done", "d/1.txt -> n/1.txt done"}
	of2 := []string{"m/2-x.txt, first d/2.txt", "n/2.txt -> m/2-x.txt done", "d/2.txt -> n/2.txt done"}
	for key, want := range map[string][]string{
		"m/1-x.txt": of1, "d/1.txt": of1, "n/1.txt": of1, filepath.Join(b.archive, "d/1.txt"): of1, "d/2.txt": of2, "n/2.txt": of2, "m/2-x.txt": of2,
	} {
		if diff := cmp.Diff([][]string{want}, b.story(key)); diff != "" {
			t.Errorf("history of %s (-want +got):\n%s", key, diff)
		}
	}

	// Another object gets an old name and is renamed too: two objects had that name.
	b.write("d/1.txt", "another")
	b.want(0, nil, "rename", b.archive, "k/{name}{ext}", "--include", "d/1.txt", "--yes")
	other := []string{"k/1.txt, first d/1.txt", "d/1.txt -> k/1.txt done"}
	if diff := cmp.Diff([][]string{other, of1}, b.story("d/1.txt")); diff != "" {
		t.Errorf("history of a name of two objects (-want +got):\n%s", diff)
	}

	// Seen from a folder of the archive, by another batch.
	b.want(0, nil, "rename", filepath.Join(b.archive, "k"), "{name}-y{ext}", "--yes")
	if got := b.story("k/1.txt"); len(got) != 1 || len(got[0]) != 3 {
		t.Errorf("through a batch over a folder of the archive: %v, want one object with two moves", got)
	}
	b.want(0, []string{"undoes", "m/{name}-x{ext}", "first d/1.txt"}, "history", "m/1-x.txt")
	b.want(0, []string{"and more"}, "history", "m/1-x.txt", "--limit", "1")
	b.want(1, []string{"no batch in this ledger"}, "history", "d/none.txt")
	b.want(1, []string{"no batch in this ledger"}, "history", "d/2.txt", "--archive", t.TempDir())
	b.want(2, nil, "history", "../x")
}

func TestHistoryOfWhatCouldNotMove(t *testing.T) {
	b := newBench(t, map[string]string{"d/1.txt": "1", "d/\x1b2.txt": "2"})
	b.want(3, nil, "rename", b.archive, away)
	b.write("n/1.txt", "in the way")
	b.want(1, nil, "apply", "last")
	want := [][]string{{"d/1.txt, first d/1.txt", "d/1.txt -> n/1.txt failed"}}
	if diff := cmp.Diff(want, b.story("d/1.txt")); diff != "" {
		t.Errorf("history of what stayed (-want +got):\n%s", diff)
	}
	if o := b.want(0, []string{`d/\u{1b}2.txt`}, "history", "d/\x1b2.txt"); strings.Contains(o.stdout, "\x1b") {
		t.Errorf("control characters reach the terminal: %q", o.stdout)
	}
}

// TestHistoryWithoutIndex reads the whole plan of a batch whose report has no index, as that of an older program.
func TestHistoryWithoutIndex(t *testing.T) {
	b := newBench(t, map[string]string{"d/1.txt": "1", "d/2.txt": "2"})
	b.want(0, nil, "rename", b.archive, away, "--yes")
	files, err := filepath.Glob(filepath.Join(b.ledger, "batches", "*", "report", "summary.json"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	raw, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(files[0], []byte(strings.ReplaceAll(string(raw), "names.idx", "other.idx")), 0o644); err != nil {
		t.Fatal(err)
	}
	b.want(0, []string{"has no index of names", "first d/1.txt"}, "history", "n/1.txt")
}
