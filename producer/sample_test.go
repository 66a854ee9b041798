package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reshelf/reshelf/producer/internal/command"
)

// moved counts the files whose names begin with prefix.
func (b *bench) moved(prefix string) (n int) {
	b.t.Helper()
	for name := range b.files() {
		if strings.HasPrefix(name, prefix) {
			n++
		}
	}
	return n
}

func TestSample(t *testing.T) {
	files := map[string]string{"n/there.txt": "there"}
	for i := range 30 {
		files[fmt.Sprintf("d/%02d.txt", i)] = fmt.Sprint(i)
		files[fmt.Sprintf("d/g%02d.cr2", i)], files[fmt.Sprintf("d/g%02d.jpg", i)] = fmt.Sprint("raw", i), fmt.Sprint("jpg", i)
	}
	b := newBench(t, files)
	base, _ := b.planned(away)
	digest := b.digest(base)
	b.want(4, []string{"the plan is not"}, "apply", base, "--plan", strings.Repeat("0", 64), "--sample", "5")
	b.want(2, nil, "apply", base, "--sample", "0")
	o := b.want(3, []string{"a sample of the plan of batch " + base, "The rest of the plan", "awaits approval"}, "apply", base, "--plan", digest, "--sample", "10")
	first := b.moved("n/") - 1
	if first != 10 && first != 11 || len(b.files()) != len(files) {
		t.Fatalf("%d objects were renamed, want 10 or 11\n%s", first, o.stderr)
	}
	for i := range 30 { // never half a group
		got := b.files()
		if (got[fmt.Sprintf("n/g%02d.cr2", i)] == "") != (got[fmt.Sprintf("n/g%02d.jpg", i)] == "") {
			t.Errorf("half of group %d was renamed", i)
		}
	}
	found := regexp.MustCompile(`batch (\w+) is a sample of .*, batch (\w+) the rest`).FindStringSubmatch(o.stderr)
	if found == nil || b.batches()[0] != found[2] {
		t.Fatalf("which batches are these? %v of %v\n%s", found, b.batches(), o.stderr)
	}
	sample, rest := found[1], found[2]
	b.want(4, nil, "apply", base)
	b.want(0, []string{fmt.Sprintf("rename   %d objects", 90-first), fmt.Sprintf("%d left-out", first), "the rest of the plan of batch " + base}, "plan", rest)
	if rows := b.want(0, nil, "plan", sample, "--json").stdout; strings.Count(rows, "\n") != first {
		t.Errorf("the sample's plan has other rows:\n%s", rows)
	}

	// The sample can be taken back, and the rest carried out, in any order.
	b.want(0, []string{fmt.Sprintf("%d objects renamed back", first)}, "undo", "last", "--yes")
	b.want(0, []string{fmt.Sprintf("%d objects renamed", 90-first)}, "apply", rest, "--plan", b.digest(rest))
	if got := b.moved("n/") - 1; got != 90-first {
		t.Errorf("%d objects were renamed, want %d", got, 90-first)
	}
	b.want(0, []string{fmt.Sprintf("%d objects renamed back", 90-first)}, "undo", rest, "--yes")
	if diff := cmp.Diff(files, b.files()); diff != "" {
		t.Errorf("after all undos: %s", diff)
	}
}

func TestRenameSample(t *testing.T) {
	b := newBench(t, map[string]string{"d/1.txt": "1", "d/2.txt": "2", "d/3.txt": "3", "d/4.txt": "4"})
	b.want(3, []string{"1 object renamed;", "The rest of the plan, 3 objects"}, "rename", b.archive, away, "--yes", "--sample", "1")
	if b.moved("n/") != 1 {
		t.Errorf("files: %v", b.files())
	}
	// A sample of the rest, and then all of what is left: there is nothing to divide.
	b.want(3, []string{"1 object renamed;", "The rest of the plan, 2 objects"}, "apply", "last", "--sample", "1")
	b.want(0, []string{"2 objects renamed;"}, "apply", "last", "--sample", "2")
	b.holds("n/1.txt", "n/2.txt", "n/3.txt", "n/4.txt")
	b.want(2, nil, "rename", b.archive, away, "--sample", "-1")
	b.want(3, []string{"reshelf apply"}, "undo", "last")
	b.want(4, []string{"cannot be edited"}, "apply", "last", "--sample", "1")

	// What belongs together is a sample that leaves nothing: the plan itself is carried out.
	b.write("g/a.cr2", "raw")
	b.write("g/a.jpg", "jpg")
	b.want(0, []string{"2 objects renamed;"}, "rename", b.archive, "h/{name}{ext}", "--include", "g/*", "--yes", "--sample", "1")
	b.want(0, nil, "undo", "last", "--yes")
	b.holds("g/a.cr2", "g/a.jpg", "n/1.txt", "n/2.txt", "n/3.txt", "n/4.txt")

	// Neither is renamed without somebody who says so, nor with conflicts.
	b.write("x/1.txt", "else")
	b.want(3, []string{"Nothing was renamed"}, "rename", b.archive, "m/{name}{ext}", "--include", "n/*", "--sample", "1")
	b.want(1, []string{"same-target", "Nothing was renamed"}, "rename", b.archive, "m/{name}{ext}", "--yes", "--sample", "1")
	b.holds("g/a.cr2", "g/a.jpg", "n/1.txt", "n/2.txt", "n/3.txt", "n/4.txt", "x/1.txt")
}

// answer is what stands on a terminal: a line that is typed after something has happened.
type answer struct {
	first func()
	io.Reader
}

func (a *answer) Read(p []byte) (int, error) {
	if a.first != nil {
		a.first()
		a.first = nil
	}
	return a.Reader.Read(p)
}

// TestSampleOfWhatIsCancelledMeanwhile: whoever drops a plan while somebody else is asked for a sample of it has dropped it.
func TestSampleOfWhatIsCancelledMeanwhile(t *testing.T) {
	b := newBench(t, map[string]string{"d/1.txt": "1", "d/2.txt": "2", "d/3.txt": "3"})
	before := b.files()
	stdin := &answer{Reader: strings.NewReader("y\n"), first: func() { b.want(0, []string{"is cancelled"}, "cancel", "last") }}
	var stdout, stderr bytes.Buffer
	env := environment([]string{"--ledger", b.ledger, "--slots", "2", "rename", b.archive, away, "--sample", "1"}, stdin, &stdout, &stderr)
	env.Interactive = true
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if code := command.Run(ctx, env); code != 4 || !strings.Contains(stderr.String(), "cancelled") {
		t.Errorf("exit code %d\n%s", code, stderr.String())
	}
	if diff := cmp.Diff(before, b.files()); diff != "" {
		t.Errorf("objects were renamed: %s", diff)
	}
	if got := b.batches(); len(got) != 1 {
		t.Errorf("batches: %v", got)
	}
}

// TestRestThatIsInTheWay: nobody is told that a plan awaits approval which cannot be approved.
func TestRestThatIsInTheWay(t *testing.T) {
	b := newBench(t, map[string]string{"d/1.txt": "1", "d/2.txt": "2", "d/3.txt": "3"})
	base, _ := b.planned(away)
	for _, name := range []string{"n/1.txt", "n/2.txt", "n/3.txt"} {
		b.write(name, "came meanwhile")
	}
	before := b.files()
	o := b.want(1, []string{"The rest of the plan, 0 objects, cannot be carried out: it has conflicts, [target-exists]", "To edit it:"}, "apply", base, "--sample", "1")
	if strings.Contains(o.stderr, "awaits approval") || strings.Contains(o.stderr, "take back") {
		t.Errorf("stderr: %s", o.stderr)
	}
	if diff := cmp.Diff(before, b.files()); diff != "" {
		t.Errorf("objects were renamed: %s", diff)
	}
}
