package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// planned makes a plan that awaits approval, and returns its batch and its rows as CSV.
func (b *bench) planned(args ...string) (id, rows string) {
	b.t.Helper()
	b.want(3, []string{"To edit it:"}, append([]string{"rename", b.archive}, args...)...)
	id = b.batches()[0]
	return id, b.want(0, nil, "plan", id, "--csv").stdout
}

// edit replaces texts in rows, each of which must be there once.
func (b *bench) edit(rows string, oldNew ...string) string {
	b.t.Helper()
	for pair := range slices.Chunk(oldNew, 2) {
		if strings.Count(rows, pair[0]) != 1 {
			b.t.Fatalf("%q is not there once:\n%s", pair[0], rows)
		}
		rows = strings.Replace(rows, pair[0], pair[1], 1)
	}
	return rows
}

// digest is that of a batch's plan.
func (b *bench) digest(id string) string {
	b.t.Helper()
	lines := strings.Fields(b.want(0, nil, "plan", id).stdout)
	return lines[len(lines)-1]
}

func TestEditedPlan(t *testing.T) {
	b := newBench(t, map[string]string{"d/1.txt": "1", "d/2.txt": "2", "d/3.txt": "3", "d/4.cr2": "4", "d/4.jpg": "four", "d/5.txt": "5"})
	base, rows := b.planned(away)
	old := b.digest(base)
	file := filepath.Join(t.TempDir(), "plan.csv")
	edited := "\ufeff" + strings.ReplaceAll(b.edit(rows, "d/1.txt,n/1.txt", "d/1.txt,m/one.txt", "d/2.txt,n/2.txt", "d/2.txt,", "d/3.txt,n/3.txt,,,,,,\n", "",
		"d/4.cr2,n/4.cr2", "d/4.cr2,n/four.cr2"), "\n", "\r\n")
	if err := os.WriteFile(file, []byte(edited), 0o644); err != nil {
		t.Fatal(err)
	}
	before := b.files()
	o := b.want(3, []string{
		"2 rows renamed otherwise, 2 rows left out", "edited from the plan of batch " + base, "rename   4 objects", "2 left-out", "Nothing was renamed",
	}, "plan", base, "--edited", file)
	if diff := cmp.Diff(before, b.files()); diff != "" {
		t.Fatalf("planning changed the archive: %s", diff)
	}
	id := b.batches()[0]
	if id == base || strings.Contains(o.stdout, old) {
		t.Fatalf("the edited plan has the batch or the digest of the old one:\n%s", o.stdout)
	}

	// Neither the old plan nor its digest can be applied any more.
	b.want(4, []string{"is cancelled"}, "apply", base)
	b.want(4, []string{"awaits no approval"}, "apply", base, "--plan", old)
	b.want(4, []string{"the plan is not"}, "apply", id, "--plan", old)
	b.want(4, []string{"the plan is not"}, "apply", id, "--plan", old[:8])
	b.want(2, nil, "apply", id, "--plan", b.digest(id)[:7])
	b.holds("d/1.txt", "d/2.txt", "d/3.txt", "d/4.cr2", "d/4.jpg", "d/5.txt")
	b.want(0, []string{"edited from the plan of batch " + base, "rows of that plan"}, "show", id)
	b.want(0, []string{"its plan was edited: batch " + id}, "show", base)

	b.want(0, []string{"4 objects renamed", "2 left-out"}, "apply", id, "--plan", b.digest(id)[:8])
	b.holds("m/one.txt", "d/2.txt", "d/3.txt", "n/four.cr2", "n/four.jpg", "n/5.txt")
	b.want(0, []string{"an edited plan", "d/1.txt -> m/one.txt"}, "history", "m/one.txt")
	b.want(4, []string{"can be edited only while it awaits approval"}, "plan", id, "--edited", file)
	b.want(0, []string{"4 objects renamed back"}, "undo", "last", "--yes")
	if diff := cmp.Diff(before, b.files()); diff != "" {
		t.Errorf("after undo: %s", diff)
	}
}

// TestEditedPlanIsChecked: no edit gets around what holds for any plan.
func TestEditedPlanIsChecked(t *testing.T) {
	b := newBench(t, map[string]string{"d/1.txt": "1", "d/2.txt": "2", "d/3.txt": "3", "d/4.cr2": "4", "d/4.jpg": "four", "there.txt": "there", "l.photoslibrary/a": "x"})
	base, rows := b.planned(away, "--exclude", "there.txt")
	for _, tt := range []struct {
		text string
		edit []string
	}{
		{"same-target", []string{",n/1.txt", ",N/2.txt"}},
		{"target-exists", []string{",n/1.txt", ",THERE.txt"}},
		{"target-exists", []string{",n/1.txt", ",d/2.txt", "d/2.txt,n/2.txt", "d/2.txt,"}},
		{"target-prefix", []string{",n/1.txt", ",there.txt/1.txt"}},
		{"target-prefix", []string{",n/1.txt", ",n"}},
	} {
		b.stdin = b.edit(rows, tt.edit...)
		b.want(1, []string{tt.text, "Nothing was renamed"}, "plan", base, "--edited", "-")
		b.want(1, []string{"conflicts"}, "apply", "last")
	}
	for _, tt := range []struct {
		text string
		edit []string
	}{
		{"bad-name", []string{",n/1.txt", ",n/a:b.txt"}},
		{"bad-name", []string{",n/1.txt", ",n/" + strings.Repeat("a", 256)}},
		{"bad-name", []string{",n/1.txt", ",.reshelf/1"}},
		{"managed-library", []string{",n/1.txt", ",x.photoslibrary/1"}},
		{"group", []string{"d/4.jpg,n/4.jpg", "d/4.jpg,n/else.jpg"}},
		{"group", []string{"d/4.jpg,n/4.jpg", "d/4.jpg,"}},
		{"group", []string{"d/4.cr2,n/4.cr2", "d/4.cr2,"}},
		{"managed-library", []string{"l.photoslibrary/a,,", "l.photoslibrary/a,b,"}},
	} {
		b.stdin = b.edit(rows, tt.edit...)
		b.want(3, []string{tt.text, "Nothing was renamed"}, "plan", base, "--edited", "-")
	}
	before := b.files()
	b.want(0, nil, "apply", "last")
	after := b.files()
	if len(after) != len(before) || after["l.photoslibrary/a"] != "x" {
		t.Errorf("after: %v", after)
	}

	// What has changed since it was inspected does not get a name.
	id, rows := b.planned("x/{name}{ext}", "--include", "n/1.txt")
	b.write("n/1.txt", "changed meanwhile")
	b.stdin = b.edit(rows, ",x/1.txt", ",y/1.txt")
	b.want(3, nil, "plan", id, "--edited", "-")
	b.want(0, []string{"1 changed"}, "apply", "last")
	if got := b.files()["n/1.txt"]; got != "changed meanwhile" {
		t.Errorf("the changed object holds %q", got)
	}
}

func TestEditedPlanThatDoesNotFit(t *testing.T) {
	b := newBench(t, map[string]string{"d/1.txt": "1", "d/2.txt": "2", "d/=3.txt": "3"})
	base, rows := b.planned(away)
	digest, batches := b.digest(base), len(b.batches())
	ledger := b.tree(b.ledger)
	for _, tt := range []struct{ rows, text string }{
		{b.edit(rows, "d/1.txt,", "d/9.txt,"), `line 2, column "from": d/9.txt: the plan has no such row`},
		{b.edit(rows, "d/1.txt,", "d/9.txt,", "d/=3.txt,", "d/8.txt,"), `d/9.txt: the plan has no such row (and 1 more`},
		{rows + "d/1.txt,e,,,,,,\n", `line 5, column "from": d/1.txt: the row is there twice, also in line`},
		{b.edit(rows, ",n/1.txt", ",../1.txt"), `column "to": invalid key`},
		{b.edit(rows, ",n/1.txt", ",caf\xe9"), `column "to": it is not UTF-8`},
		{strings.Replace(rows, "from,", "key,", 1), `line 1, column "from": there is no such column`},
		{"\xff\xfe", "line 1: it is not UTF-8"},
		{"", "line 1: the file is empty"},
		{b.edit(rows, ",n/1.txt", `,"n/1.txt`), "line"},
	} {
		b.stdin = tt.rows
		b.want(4, []string{tt.text}, "plan", base, "--edited", "-")
	}
	b.want(4, nil, "plan", base, "--edited", filepath.Join(b.archive, "none.csv"))
	b.want(2, nil, "plan", base, "--edited", "-", "--csv")
	b.want(2, nil, "plan", base, "--edited", "")
	if got := b.batches(); len(got) != batches || b.digest(base) != digest {
		t.Errorf("batches %v, digest %s; want one, with %s", got, b.digest(base), digest)
	}
	if diff := cmp.Diff(ledger, b.tree(b.ledger)); diff != "" {
		t.Errorf("the ledger has changed (-before +after):\n%s", diff)
	}
	b.want(0, []string{"3 objects renamed"}, "apply", base, "--plan", digest)

	b.want(4, []string{"cannot be edited"}, "plan", func() string { b.want(3, nil, "undo", "last"); return b.batches()[0] }(), "--edited", "-")
	b.want(4, []string{"has no plan"}, "plan", func() string { b.want(0, nil, "inspect", b.archive, "--metadata", "none"); return b.batches()[0] }(), "--csv")
}

// TestEditedPlanOfHostileNames: keys that CSV can only hold escaped are found again, and new ones are given as written.
func TestEditedPlanOfHostileNames(t *testing.T) {
	names := []string{"=1+1", "-a;@b", "caf\xe9", "\x01\n", `q"q`, `b\s`, "\u202egpj.exe", " x ", "'=1"}
	files := map[string]string{}
	for _, n := range names {
		files["d/"+n] = n
	}
	b := newBench(t, files)
	base, rows := b.planned("{dir}/x_{name}{ext}", "--profile", "posix")
	b.stdin = rows // as it was
	b.want(3, []string{"0 rows renamed otherwise, 0 rows left out", "rename   9 objects"}, "plan", base, "--edited", "-")
	if got, want := outcomesOf(b.want(0, nil, "plan", "last", "--csv").stdout), outcomesOf(rows); !slices.Equal(got, want) {
		t.Errorf("rows %q, want %q", got, want)
	}
	// An edit of an edit, with names that have to be escaped, one of them taken out of the table before.
	b.stdin = b.edit(rows, `,d/x_b\\s`, `,\u{3d}2\\`, `,d/x_'=1`, `,`)
	b.want(3, nil, "plan", base, "--edited", "-")
	second := b.batches()[0]
	b.stdin = b.edit(b.want(0, nil, "plan", second, "--csv").stdout, `,d/x_caf_`, `,caf\xe9`, `d/'=1,`, `d/'=1,=1`)
	b.want(3, []string{"fail     1 object: 1 bad-name", "rename   8 objects"}, "plan", second, "--edited", "-")
	b.want(1, []string{"8 objects renamed"}, "apply", "last")
	got := b.files()
	if got["=1"] != "'=1" || got[`=2\`] != `b\s` || got["d/caf\xe9"] != "caf\xe9" || got["d/x_-a;@b"] != "-a;@b" || len(got) != len(names) {
		t.Errorf("after the rename: %q", got)
	}
}

func outcomesOf(rows string) []string { return strings.Split(rows, "\n") }

// TestPlanThatIsEditedTwice: of all that was made from one plan only the last one can be carried out.
func TestPlanThatIsEditedTwice(t *testing.T) {
	b := newBench(t, map[string]string{"d/1.txt": "1", "d/2.txt": "2", "d/3.txt": "3"})
	base, rows := b.planned(away)
	b.stdin = rows
	b.want(3, nil, "plan", base, "--edited", "-")
	first := b.batches()[0]
	b.want(3, nil, "plan", first, "--edited", "-")
	ofFirst := b.batches()[0]
	b.want(3, nil, "plan", base, "--edited", "-")
	second := b.batches()[0]
	for _, old := range []string{base, first, ofFirst} {
		b.want(4, []string{"cancelled"}, "apply", old)
	}
	b.want(0, []string{"was edited once more: batch " + second}, "show", ofFirst)
	b.want(3, []string{"1 object renamed"}, "apply", second, "--sample", "1")
	rest := b.batches()[0]
	b.want(1, []string{"target-exists"}, "plan", base, "--edited", "-") // of what the sample has renamed
	b.want(4, []string{"cancelled"}, "apply", rest)
	if b.moved("n/") != 1 {
		t.Errorf("files: %v", b.files())
	}
}
