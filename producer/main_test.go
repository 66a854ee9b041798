package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/reshelf/reshelf/producer/internal/command"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/queue"
	"github.com/reshelf/reshelf/shared/report"
	"github.com/reshelf/reshelf/worker/runtime"
)

// asProgram makes the test binary be the program.
const asProgram = "RESHELF_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	runtime.KeeperMain()
	if os.Getenv(asProgram) != "" {
		os.Exit(run())
	}
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "RESHELF_") && name != "RESHELF_CORPUS" {
			os.Unsetenv(name)
		}
	}
	queue.LogDriver(slog.New(slog.DiscardHandler))
	goleak.VerifyTestMain(m)
}

// bench is an archive and a ledger, and a program that works with them.
type bench struct {
	t               *testing.T
	archive, ledger string
	stdin           string
	interactive     bool
}

// outcome is what a command did.
type outcome struct {
	code           int
	stdout, stderr string
}

func newBench(t *testing.T, files map[string]string) *bench {
	t.Helper()
	dir := t.TempDir()
	b := &bench{t: t, archive: filepath.Join(dir, "pictures"), ledger: filepath.Join(dir, "ledger")}
	if err := os.Mkdir(b.archive, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		b.write(name, content)
	}
	return b
}

func (b *bench) write(name, content string) {
	b.t.Helper()
	path := filepath.Join(b.archive, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// files are the archive's files with their contents.
func (b *bench) files() map[string]string {
	b.t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(b.archive, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		out[strings.TrimPrefix(path, b.archive+"/")] = string(raw)
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

// run runs a command in this process, at most for a minute.
func (b *bench) run(args ...string) outcome {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), time.Minute)
	defer cancel()
	var stdout, stderr bytes.Buffer
	env := environment(append([]string{"--ledger", b.ledger, "--slots", "2"}, args...), strings.NewReader(b.stdin), &stdout, &stderr)
	env.Interactive = b.interactive
	o := outcome{command.Run(ctx, env), stdout.String(), stderr.String()}
	if ctx.Err() != nil {
		b.t.Fatalf("reshelf %v took longer than a minute\n%s%s", args, o.stdout, o.stderr)
	}
	return o
}

// want runs a command and checks its exit code and what it prints.
func (b *bench) want(code int, texts []string, args ...string) outcome {
	b.t.Helper()
	o := b.run(args...)
	if o.code != code {
		b.t.Fatalf("reshelf %v: exit code %d, want %d\nstdout: %s\nstderr: %s", args, o.code, code, o.stdout, o.stderr)
	}
	for _, text := range texts {
		if !strings.Contains(o.stdout+o.stderr, text) {
			b.t.Errorf("reshelf %v: want %q in\nstdout: %s\nstderr: %s", args, text, o.stdout, o.stderr)
		}
	}
	return o
}

func pictures() map[string]string {
	return map[string]string{"b.txt": "two", "a.txt": "one", "sub/c.txt": "three", ".hidden": "not listed"}
}

// byHash is a template that needs no ExifTool.
const byHash = "{sha256:8}{ext}"

func sum(content string) string {
	s := sha256.Sum256([]byte(content))
	return hex.EncodeToString(s[:])
}

// renamed is what byHash makes of pictures.
func renamed() map[string]string {
	return map[string]string{
		sum("one")[:8] + ".txt": "one", sum("two")[:8] + ".txt": "two", sum("three")[:8] + ".txt": "three", ".hidden": "not listed",
	}
}

// A disk keeps no digests, so everything is read; that the batch would trust a store that does is kept with it.
func TestTrustStoreChecksums(t *testing.T) {
	b := newBench(t, pictures())
	b.want(3, nil, "rename", b.archive, byHash, "--trust-store-checksums")
	b.want(0, []string{`"trustStoreChecksums": true`}, "show", "last", "--json")
	b.want(0, nil, "inspect", b.archive, "--metadata", "none")
	if o := b.want(0, nil, "show", "last", "--json"); strings.Contains(o.stdout, "trustStoreChecksums") {
		t.Errorf("a batch that was not told to trust the store: %s", o.stdout)
	}
	t.Setenv("RESHELF_TRUST_STORE_CHECKSUMS", "true")
	o := b.want(0, []string{"read"}, "inspect", b.archive, "--metadata", "none")
	if strings.Contains(o.stdout, "hashed by the store") {
		t.Errorf("the report says that the disk hashed objects: %s", o.stdout)
	}
	b.want(0, []string{`"trustStoreChecksums": true`}, "show", "last", "--json")
}

func TestInspect(t *testing.T) {
	b := newBench(t, pictures())
	o := b.want(0, []string{"this machine, ledger " + b.ledger, "3 objects", "Archive unchanged", "Report: " + b.ledger},
		"inspect", b.archive, "--metadata", "none")
	if !strings.HasPrefix(o.stderr, "this machine, ledger ") {
		t.Errorf("the first line does not say where: %q", o.stderr)
	}
	if diff := cmp.Diff(pictures(), b.files()); diff != "" {
		t.Errorf("the archive has changed:\n%s", diff)
	}
	want := sum("one") + "  a.txt\n" + sum("two") + "  b.txt\n" + sum("three") + "  sub/c.txt\n"
	if o := b.want(0, nil, "report", "last", "--format", "sha256sum"); o.stdout != want {
		t.Errorf("sha256sum: got %q, want %q", o.stdout, want)
	}
	if o := b.want(0, []string{"3 objects"}, "inspect", b.archive, "--metadata", "none", "--format", "sha256sum"); o.stdout != want {
		t.Errorf("inspect --format sha256sum: got %q, want %q", o.stdout, want)
	}
}

func TestInspectReadsTags(t *testing.T) {
	b := newBench(t, map[string]string{"a.xmp": `<x:xmpmeta xmlns:x='adobe:ns:meta/'>` +
		`<rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'>` +
		`<rdf:Description rdf:about='' xmlns:tiff='http://ns.adobe.com/tiff/1.0/' tiff:Model='X100'/></rdf:RDF></x:xmpmeta>`})
	b.want(0, nil, "inspect", b.archive)
	b.want(0, []string{`"X100"`}, "report", "last", "--format", "jsonl")
	t.Chdir(b.archive)
	b.want(0, []string{"a.xmp -> X100.xmp"}, "try", "{model}{ext}", "a.xmp")
	b.want(1, []string{"no lens", "{lens??"}, "try", "{lens}{ext}", "a.xmp")
	b.want(0, []string{`"to":"001-X100.xmp"`}, "try", "--json", "{seq:3}-{model}{ext}", filepath.Join(b.archive, "a.xmp"))
}

func TestRenameAndUndo(t *testing.T) {
	b := newBench(t, pictures())
	o := b.want(3, []string{"rename   3 objects", "reshelf apply"}, "rename", b.archive, byHash)
	if diff := cmp.Diff(pictures(), b.files()); diff != "" {
		t.Fatalf("renamed before approval:\n%s", diff)
	}
	csv := regexp.MustCompile(`All rows: (\S+)`).FindStringSubmatch(o.stdout)
	if csv == nil {
		t.Fatalf("no path of the plan as CSV in %s", o.stdout)
	}
	if raw, err := os.ReadFile(csv[1]); err != nil || bytes.Count(raw, []byte("\n")) != 4 {
		t.Errorf("%s: got %q, %v; want a header and three rows", csv[1], raw, err)
	}
	b.want(4, []string{"is not"}, "apply", "last", "--plan", "0123456789")
	b.want(0, []string{"3 objects renamed; undo: reshelf undo"}, "apply", "last")
	if diff := cmp.Diff(renamed(), b.files()); diff != "" {
		t.Errorf("after apply:\n%s", diff)
	}
	b.want(4, []string{"is complete"}, "apply", "last")
	b.want(0, []string{"rename   0 objects", "3 unchanged", "Archive unchanged"}, "rename", b.archive, byHash, "--yes")
	b.want(3, []string{"rename back  3 objects"}, "undo", "last")
	b.want(0, []string{"3 objects renamed back"}, "undo", "last", "--yes")
	if diff := cmp.Diff(pictures(), b.files()); diff != "" {
		t.Errorf("after undo:\n%s", diff)
	}
	b.want(4, []string{"not undone"}, "undo", "last")
}

func TestRenameAsks(t *testing.T) {
	b := newBench(t, pictures())
	b.interactive = true
	for _, tt := range []struct {
		answer string
		code   int
		want   map[string]string
	}{
		{"n\n", 3, pictures()}, {"\n", 3, pictures()}, {"", 3, pictures()}, {"yes\n", 0, renamed()},
	} {
		b.stdin = tt.answer
		b.want(tt.code, []string{"Rename 3 objects? [y/N]"}, "rename", b.archive, byHash)
		if diff := cmp.Diff(tt.want, b.files()); diff != "" {
			t.Errorf("answer %q:\n%s", tt.answer, diff)
		}
	}
}

func TestConflicts(t *testing.T) {
	files := map[string]string{"a.txt": "same", "b.txt": "same", "c.txt": "other"}
	b := newBench(t, files)
	b.want(1, []string{"--on-conflict number", "same-target: 2 objects", "reshelf cancel"}, "rename", b.archive, byHash, "--yes")
	if diff := cmp.Diff(files, b.files()); diff != "" {
		t.Fatalf("renamed in spite of conflicts:\n%s", diff)
	}
	b.want(1, []string{"cannot be carried out"}, "apply", "last")
	o := b.want(0, nil, "plan", "last", "--csv", "--reason", "same-target")
	if n := strings.Count(o.stdout, "\n"); n != 3 {
		t.Errorf("plan --csv --reason: got %d lines, want a header and two rows:\n%s", n, o.stdout)
	}
	b.want(0, []string{"cancelled"}, "cancel", "last")
	b.want(0, []string{"3 objects renamed"}, "rename", b.archive, byHash, "--on-conflict", "number", "--yes")
	want := []string{sum("other")[:8] + ".txt", sum("same")[:8] + ".txt", sum("same")[:8] + "_2.txt"}
	slices.Sort(want)
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(b.files()))); diff != "" {
		t.Errorf("numbered:\n%s", diff)
	}
}

// inOrder gives all files one modification time, so that a plan orders them by their names.
func (b *bench) inOrder() {
	b.t.Helper()
	at := time.Date(2024, 5, 1, 9, 0, 0, 0, time.UTC)
	for name := range b.files() {
		if err := os.Chtimes(filepath.Join(b.archive, name), at, at); err != nil {
			b.t.Fatal(err)
		}
	}
}

// What the second template is made of is asked for like what the first one is: digests, columns, first names.
func TestConflictTemplate(t *testing.T) {
	b := newBench(t, map[string]string{"a.txt": "1", "b.txt": "2", "c.txt": "3", "d.txt": "4"})
	b.inOrder()
	b.want(0, []string{"4 objects renamed"}, "rename", b.archive, "d/{seq}{ext}", "--yes")
	b.stdin = "key,Box\nd/1.txt,7\nd/2.txt,8\nd/3.txt,9\n"
	args := []string{"rename", b.archive, "x{ext}", "--conflict-template", "{csv:Box}/{original}_{sha256:4}{ext}", "--manifest", "-"}
	b.want(0, []string{"3 objects renamed", "2 by the template for names that are taken"}, append(args, "--yes")...)
	b.holds("x.txt", "8/b_"+sum("2")[:4]+".txt", "9/c_"+sum("3")[:4]+".txt", "d/4.txt")
	b.want(1, []string{"its first name is taken, and so is the second"}, "rename", b.archive, "x{ext}", "--conflict-template", "x{ext}", "--yes")
	b.want(0, nil, "undo", "last", "--yes")
	b.holds("d/1.txt", "d/2.txt", "d/3.txt", "d/4.txt")
}

// An edited plan, and a sample, have the names that the second template made.
func TestEditedConflictTemplate(t *testing.T) {
	b := newBench(t, map[string]string{"a.txt": "1", "b.txt": "2", "c.txt": "3"})
	b.inOrder()
	args := []string{"rename", b.archive, "x{ext}", "--conflict-template", "{name}_{sha256:4}{ext}"}
	b.want(3, nil, args...)
	b.stdin = strings.ReplaceAll(b.want(0, nil, "plan", "last", "--csv").stdout, "c_"+sum("3")[:4], "y")
	b.want(3, []string{"1 row renamed otherwise", "1 by the template for names that are taken"}, "plan", "last", "--edited", "-")
	b.want(3, []string{"rest of the plan, 2 objects"}, "apply", "last", "--sample", "1")
	b.want(0, []string{"2 objects renamed"}, "apply", "last")
	b.holds("x.txt", "b_"+sum("2")[:4]+".txt", "y.txt")
}

func TestSomeFailed(t *testing.T) {
	b := newBench(t, map[string]string{"a.txt": "one"})
	b.want(1, []string{"no-value: 1 object", "Archive unchanged"}, "rename", b.archive, "{model}{ext}", "--yes")
}

func TestBeforeABatchIsMade(t *testing.T) {
	b := newBench(t, pictures())
	file := filepath.Join(b.archive, "a.txt")
	for _, tt := range []struct {
		name string
		code int
		text string
		args []string
	}{
		{"missing archive", 4, "does not exist", []string{"inspect", filepath.Join(b.archive, "none")}},
		{"file", 4, "--include a.txt", []string{"inspect", file}},
		{"ledger in the archive", 2, "must not lie in each other", []string{"inspect", filepath.Dir(b.archive)}},
		{"archive in the ledger", 2, "must not lie in each other", []string{"inspect", filepath.Join(b.ledger, "batches")}},
		{"template", 2, "{modle}\n ^", []string{"rename", b.archive, "{modle}"}},
		{"digest", 2, "sha257", []string{"inspect", b.archive, "--digests", "sha257"}},
		{"format without digest", 2, "--digests", []string{"inspect", b.archive, "--format", "md5sum"}},
		{"metadata", 2, "--metadata", []string{"inspect", b.archive, "--metadata", "deep"}},
		{"pattern", 2, "pattern", []string{"inspect", b.archive, "--include", "[a"}},
		{"pool", 2, "pool", []string{"inspect", b.archive, "--pool", "A B"}},
		{"priority", 2, "--priority", []string{"inspect", b.archive, "--priority", "urgent"}},
		{"conflict", 2, "--on-conflict", []string{"rename", b.archive, "{name}", "--on-conflict", "replace"}},
		{"conflict template without the policy", 2, "not skip", []string{"rename", b.archive, "{name}", "--on-conflict", "skip", "--conflict-template", "x"}},
		{"conflict without its template", 2, "--conflict-template", []string{"rename", b.archive, "{name}", "--on-conflict", "template"}},
		{"wrong conflict template", 2, "{date}{modle}\n       ^", []string{"rename", b.archive, "{name}", "--conflict-template", "{date}{modle}"}},
		{"conflict template that counts", 2, "x{seq}\n  ^", []string{"rename", b.archive, "{name}", "--conflict-template", "x{seq}"}},
		{"column of the conflict template", 2, `the column "Box"`, []string{"rename", b.archive, "{name}", "--conflict-template", "{csv:Box}"}},
		{"detach", 2, "--redis", []string{"inspect", b.archive, "--detach"}},
		{"credentials in the archive", 2, "without user", []string{"inspect", "s3://me:secret@bucket/a"}},
		{"credentials in the archive, no command", 2, "unknown command", []string{"s3://me:secret@bucket/a"}},
		{"credentials in the archive, wrong command", 2, "unknown command", []string{"list", "s3://me:secret@bucket/a"}},
		{"credentials in the archive, one slash", 2, "two slashes", []string{"inspect", "s3:/me:secret@bucket/a"}},
		{"credentials in the query, twice", 2, "never credentials", []string{"inspect", "s3://bucket/a?secret&secret"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := &bench{t: t, archive: b.archive, ledger: b.ledger}
			o := b.want(tt.code, []string{tt.text}, tt.args...)
			if strings.Contains(o.stderr, "secret") {
				t.Errorf("a password is printed: %s", o.stderr)
			}
			if o.stdout != "" {
				t.Errorf("standard output: %q", o.stdout)
			}
		})
	}
	if _, err := os.Stat(filepath.Join(b.ledger, "batches")); !os.IsNotExist(err) {
		t.Errorf("a batch was made: %v", err)
	}
}

func TestManifest(t *testing.T) {
	b := newBench(t, pictures())
	b.stdin = "sub/c.txt\nb.txt\nb.txt\nnone.txt\n"
	o := b.want(1, []string{"missing"}, "inspect", b.archive, "--metadata", "none", "--manifest", "-", "--json")
	var got struct{ Summary report.Summary }
	if err := json.Unmarshal([]byte(o.stdout), &got); err != nil {
		t.Fatal(err)
	}
	if got.Summary.Listed != 3 || got.Summary.Counts.Done != 2 {
		t.Errorf("got %d listed and %d done, want 3 and 2", got.Summary.Listed, got.Summary.Counts.Done)
	}
	b.stdin = "../../etc/passwd\n"
	b.want(4, []string{"line 1"}, "inspect", b.archive, "--manifest", "-")
	if o := b.want(0, nil, "list", "--json"); strings.Count(o.stdout, "\n") != 1 {
		t.Errorf("a batch was made of a bad manifest:\n%s", o.stdout)
	}
	files, err := filepath.Glob(filepath.Join(b.ledger, "batches", "*", "manifest", "*"))
	if err != nil || len(files) != 2 {
		t.Errorf("manifests in the ledger: got %v, %v; want the shards and the seal of the first batch", files, err)
	}
}

func TestColumnsOfTheManifest(t *testing.T) {
	b := newBench(t, map[string]string{"d/1.txt": "1", "d/2.txt": "2", "d/3.txt": "3"})
	const template = "{csv:Box|pad(3)}/{name}[ {csv:Of}]{ext}"
	b.want(2, []string{`the column "Box"`, "--manifest"}, "rename", b.archive, template)
	b.stdin = "key,Box\nd/1.txt,7\n"
	b.want(4, []string{`no column is named "Of"`}, "rename", b.archive, template, "--manifest", "-", "--yes")
	b.stdin = "Of,key,Box\n\"Ann/Bob\",d/1.txt,7\n,d/2.txt,12\nZoë,d/3.txt,\n"
	b.want(1, []string{"2 objects renamed", "the manifest has no text in the column Box for it"}, "rename", b.archive, template, "--manifest", "-", "--yes")
	b.holds("007/1 Ann_Bob.txt", "012/2.txt", "d/3.txt")
}

func TestOriginalNames(t *testing.T) {
	b := newBench(t, map[string]string{"d/sea.txt": "1", "d/hill.txt": "2"})
	b.want(0, []string{"2 objects renamed"}, "rename", b.archive, "{seq}{ext}", "--yes")
	b.want(0, []string{"2 objects renamed"}, "rename", b.archive, "e/{sha256:4}{ext}", "--yes")
	if err := os.WriteFile(filepath.Join(b.archive, "new.txt"), []byte("3"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.want(0, []string{"3 objects renamed"}, "rename", filepath.Join(b.archive), "f/{original}{ext}", "--yes")
	b.holds("f/sea.txt", "f/hill.txt", "f/new.txt")
}

func TestLooking(t *testing.T) {
	b := newBench(t, pictures())
	b.want(4, []string{"no ledger at"}, "list")
	b.want(0, nil, "inspect", b.archive, "--metadata", "none", "--name", "my \x1b[31mname")
	b.want(3, nil, "rename", b.archive, byHash)
	o := b.want(0, nil, "list", "--json")
	var ids []string
	for line := range strings.Lines(o.stdout) {
		var row struct {
			ID     string
			Kind   string
			Status batch.Status
		}
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, row.ID)
	}
	if len(ids) != 2 || ids[0] < ids[1] {
		t.Fatalf("list: got %v, want two batches, the newest first", ids)
	}
	b.want(0, []string{"awaiting-approval", "complete", `my \u{1b}[31mname`}, "list")
	b.want(0, []string{"awaiting-approval"}, "list", "--open")
	b.want(0, []string{ids[1], "is complete", "Report:"}, "show", ids[1][:20])
	b.want(2, []string{"several batches"}, "show", ids[1][:2])
	b.want(4, []string{"no batch"}, "show", "zzzz")
	b.want(2, []string{"is not a batch"}, "show", "no/batch")
	b.want(0, []string{"apply it:", "awaiting-approval"}, "show", "last")
	b.want(3, []string{"reshelf apply " + ids[0], "rename   3 objects"}, "watch", "last")
	b.want(4, []string{"has no report yet"}, "report", "last")
	b.want(4, []string{"has no plan"}, "plan", ids[1])
	b.want(0, []string{"nobody works"}, "workers")
	b.want(0, []string{ids[0], ids[1], "last"}, "__complete", "show", "")
	b.want(0, []string{"complete already"}, "resume", ids[1])
	file := filepath.Join(t.TempDir(), "sums")
	b.want(0, []string{"written to"}, "report", ids[1], "--format", "sha256sum", "-o", file)
	b.want(4, []string{"exists"}, "report", ids[1], "--format", "sha256sum", "-o", file)
}

func TestHostileNames(t *testing.T) {
	b := newBench(t, map[string]string{"a\x1b[2J.txt": "one", "b\xff.txt": "one", "c\n.txt": "one"})
	for _, args := range [][]string{
		{"rename", b.archive, byHash}, {"plan", "last"}, {"plan", "last", "--csv"}, {"plan", "last", "--json"}, {"show", "last"},
		{"try", byHash, filepath.Join(b.archive, "a\x1b[2J.txt")}, {"cancel", "last"}, {"report", "last"},
		{"report", "last", "--format", "jsonl"}, {"inspect", filepath.Join(b.archive, "\x1b[2J")}, {"show", "\x1b[2J"},
	} {
		o := b.run(args...)
		if out := o.stdout + o.stderr; strings.Contains(out, "\x1b") || !utf8.ValidString(out) {
			t.Errorf("reshelf %q: control characters reach the terminal: %q", args, o.stdout+o.stderr)
		}
	}
}

func TestPausedArchive(t *testing.T) {
	b := newBench(t, map[string]string{"a.txt": "one"})
	b.want(0, nil, "inspect", b.archive, "--metadata", "none")
	if err := os.Remove(filepath.Join(b.archive, "a.txt")); err != nil {
		t.Fatal(err)
	}
	b.want(4, []string{"paused", "unavailable", "reshelf resume"}, "inspect", b.archive, "--metadata", "none")
	b.write("a.txt", "one")
	b.want(0, []string{"1 object,"}, "resume", "last")
}

func TestLedgerInUse(t *testing.T) {
	b := newBench(t, pictures())
	b.want(3, nil, "rename", b.archive, byHash)
	in, err := startMachine(t.Context(), command.MachineOptions{Dir: b.ledger, Doing: "something else", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if o := b.want(4, []string{"in use", "reshelf something else"}, "inspect", b.archive); strings.Count(o.stderr, "in use") != 1 {
		t.Errorf("said twice: %s", o.stderr)
	}
	b.want(0, []string{"reshelf something else"}, "workers")
	b.want(0, []string{"awaiting-approval"}, "list")
	b.want(0, []string{"is cancelled"}, "cancel", "last", "--reason", "wrong template")
	b.want(0, []string{"wrong template", "cancelled"}, "show", "last")
	if err := in.Close(); err != nil {
		t.Error(err)
	}
	b.want(4, []string{"was cancelled"}, "resume", "last")
}

func TestVariables(t *testing.T) {
	b := newBench(t, pictures())
	t.Setenv("RESHELF_METADATA", "none")
	t.Setenv("RESHELF_EXCLUDE", "a*\nsub")
	b.want(0, []string{"1 object,"}, "inspect", b.archive)
	b.want(0, []string{"2 objects,"}, "inspect", b.archive, "--exclude", "a*")
	t.Setenv("RESHELF_METADATA", "deep")
	b.want(2, []string{"--metadata"}, "inspect", b.archive)
	t.Setenv("RESHELF_SLOTS", "many")
	t.Setenv("RESHELF_JSON", "perhaps")
	b.want(2, []string{"RESHELF_JSON"}, "list")
	t.Setenv("RESHELF_JSON", "")
	t.Setenv("RESHELF_REDIS", "redis://ada:secret@127.0.0.1:1")
	if o := b.want(4, nil, "list", "--redis", "redis://127.0.0.1:1", "--ledger", b.ledger+"2"); strings.Contains(o.stderr, "secret") {
		t.Errorf("a password is printed: %s", o.stderr)
	}
	if o := b.want(4, []string{"127.0.0.1:1"}, "workers"); strings.Contains(o.stderr, "secret") {
		t.Errorf("a password is printed: %s", o.stderr)
	}
}

func TestHelpAndUsage(t *testing.T) {
	b := newBench(t, nil)
	b.want(0, []string{"reshelf inspect ~/Pictures", "reshelf rename", "reshelf undo last"})
	b.want(0, []string{"reshelf "}, "version")
	b.want(0, []string{`"version"`}, "version", "--json")
	b.want(2, []string{"unknown command", "--help"}, "inspct")
	b.want(2, []string{"accepts 1 arg"}, "inspect")
	b.want(2, []string{"--nope", "see: reshelf inspect --help"}, "inspect", "x", "--nope")
	b.want(2, []string{"--csv or --json"}, "plan", "last", "--outcome", "failed")
	b.want(2, []string{"needs --ledger"}, "list", "--redis", "localhost", "--ledger", "")
	b.want(2, []string{"on this machine the ledger is a directory"}, "list", "--ledger", "s3://bucket/ledger")
}

func TestDoctor(t *testing.T) {
	b := newBench(t, pictures())
	b.want(0, []string{"ExifTool", "reads a known sample right", "renameat2", b.ledger + " is writable"}, "doctor", b.archive)
	b.want(4, []string{"fail"}, "doctor", filepath.Join(b.archive, "none"))
}
