package command_test

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/reshelf/reshelf/producer/internal/command"
	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/digest"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/metadata"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/storeurl"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const id = batch.ID("01jd8q4n0000000000000000aa")

// home is a ledger without a machine.
type home struct {
	t   *testing.T
	dir string
	env command.Environment
	led *ledger.Ledger
}

func newHome(t *testing.T) *home {
	t.Helper()
	h := &home{t: t, dir: t.TempDir()}
	st := h.open(true)
	t.Cleanup(func() { _ = st.Close() })
	h.led = ledger.New(st)
	h.env = command.Environment{
		Stdin:         strings.NewReader(""),
		Getenv:        func(string) string { return "" },
		Version:       "v1.2.3",
		DefaultLedger: func() (string, error) { return h.dir, nil },
		OpenStore: func(ctx context.Context, _ string, root archive.Root) (store.Store, error) {
			return storeurl.New("").Open(ctx, root, storeurl.Options{})
		},
		InUse:  func(string) (string, error) { return "", nil },
		Doctor: func(context.Context, string, string, archive.Root) []command.Finding { return nil },
	}
	return h
}

func (h *home) open(asLedger bool) store.Store {
	h.t.Helper()
	root, err := archive.FileRoot(h.dir)
	if err != nil {
		h.t.Fatal(err)
	}
	st, err := storeurl.New("").Open(h.t.Context(), root, storeurl.Options{Ledger: asLedger})
	if err != nil {
		h.t.Fatal(err)
	}
	return st
}

func (h *home) run(args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	h.env.Args, h.env.Stdout, h.env.Stderr = args, &out, &errs
	code = command.Run(h.t.Context(), h.env)
	return code, out.String(), errs.String()
}

func (h *home) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// planned is a rename batch whose plan awaits approval.
func (h *home) planned() {
	h.t.Helper()
	ctx := h.t.Context()
	root, err := archive.FileRoot("/pictures")
	h.must(err)
	at := time.Date(2024, 5, 1, 12, 0, 0, 0, time.UTC)
	h.must(h.led.CreateBatch(ctx, batch.Batch{
		V: batch.Version, ID: id, Kind: batch.Rename, Archive: root, Level: batch.LevelNormal, Pool: "default", Priority: batch.Normal,
		Renaming: &batch.RenameOptions{Template: "{date:%Y}/{model}{ext}", OnConflict: batch.ConflictStop}, Submitted: at,
	}))
	rows := []batch.Row{
		{N: 0, From: "a.jpg", To: "2024/X100.jpg", DateSource: "ExifIFD:DateTimeOriginal"},
		{N: 1, From: "b\x1b[2J.jpg", To: "2024/X100.jpg", Outcome: batch.Skipped, Reason: batch.ReasonSameTarget, Message: "c.jpg wants it\x1b[2J too"},
		{N: 2, From: "c.jpg", Outcome: batch.Failed, Reason: batch.ReasonNoValue, Message: "no value for {model}"},
		{N: 3, From: "=d.jpg", Outcome: batch.Skipped, Reason: batch.ReasonUnchanged},
	}
	seg, err := h.led.WritePlanRows(ctx, id, 1, 0, rows)
	h.must(err)
	h.must(h.led.SealPlan(ctx, batch.Plan{Batch: id, Epoch: 1, Segments: []batch.PlanSegment{seg}, Summary: batch.PlanSummary{
		Rows: 4, Moves: 1, Bytes: 2048, OldFolders: 1, NewFolders: 1, Notes: []string{"the bucket grows\x1b[2J"},
		Skipped:     map[batch.Reason]int64{batch.ReasonSameTarget: 1, batch.ReasonUnchanged: 1},
		Failed:      map[batch.Reason]int64{batch.ReasonNoValue: 1},
		Examples:    map[batch.Reason][]batch.Row{batch.ReasonSameTarget: rows[1:2], batch.ReasonNoValue: rows[2:3], batch.ReasonUnchanged: rows[3:]},
		DateSources: map[string]int64{"ExifIFD:DateTimeOriginal": 1}, Sample: []batch.Row{rows[0], {From: "e\x1b[2J.jpg", To: "2024/e\x1b[2J.jpg"}},
	}}))
	for i, to := range []batch.State{batch.Planning, batch.AwaitingApproval} {
		h.must(h.led.CreateEvent(ctx, id, batch.Event{N: i + 1, Kind: batch.EventAdvance, To: to, By: "flow", At: at}))
	}
}

func TestPlanScreen(t *testing.T) {
	h := newHome(t)
	h.planned()
	_, sum, err := h.led.Plan(t.Context(), id)
	h.must(err)
	code, stdout, stderr := h.run("plan", "01jd")
	want := `Plan of batch 01jd8q4n0000000000000000aa
archive /pictures
template {date:%Y}/{model}{ext}, on conflict stop
  rename   1 object, 2.0 KiB
  leave    2 objects: 1 same-target, 1 unchanged
  fail     1 object: 1 no-value
  folders  1 before, 1 after
Note: the bucket grows\u{1b}[2J
Failures
  no-value: 1 object
    c.jpg: no value for {model}
Not renamed
  same-target: 1 object
    b\u{1b}[2J.jpg -> 2024/X100.jpg: c.jpg wants it\u{1b}[2J too
Dates are from: 1 ExifIFD:DateTimeOriginal
Some of the renames
  a.jpg
    -> 2024/X100.jpg
  e\u{1b}[2J.jpg
    -> 2024/e\u{1b}[2J.jpg
Plan ` + sum + "\n"
	if diff := cmp.Diff(want, stdout); diff != "" || code != 0 {
		t.Errorf("exit code %d, screen (-want +got):\n%s", code, diff)
	}
	if !strings.HasPrefix(stderr, "this machine, ledger "+h.dir+" (") || strings.Count(stderr, "\n") != 1 {
		t.Errorf("standard error: got %q, want one line that says where", stderr)
	}
}

func TestPlanRows(t *testing.T) {
	h := newHome(t)
	h.planned()
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"--csv"}, "from,to,outcome,reason,message,date_source,sidecar,changed\n" +
			"a.jpg,2024/X100.jpg,,,,ExifIFD:DateTimeOriginal,,\n" +
			`b\u{1b}[2J.jpg,2024/X100.jpg,skipped,same-target,c.jpg wants it\u{1b}[2J too,,,` + "\n" +
			"c.jpg,,failed,no-value,no value for {model},,,\n" +
			`\u{3d}d.jpg,,skipped,unchanged,,,,` + "\n"},
		{[]string{"--csv", "--outcome", "rename"}, "from,to,outcome,reason,message,date_source,sidecar,changed\na.jpg,2024/X100.jpg,,,,ExifIFD:DateTimeOriginal,,\n"},
		{[]string{"--csv", "--outcome", "skipped", "--reason", "no-value"}, "from,to,outcome,reason,message,date_source,sidecar,changed\n"},
		{[]string{"--json", "--reason", "no-value", "--reason", "unchanged", "--outcome", "failed"},
			`{"n":2,"from":"c.jpg","want":{"size":0},"outcome":"failed","reason":"no-value","message":"no value for {model}"}` + "\n"},
	} {
		code, stdout, stderr := h.run(append([]string{"plan", "last"}, tt.args...)...)
		if diff := cmp.Diff(tt.want, stdout); diff != "" || code != 0 || stderr != "" {
			t.Errorf("plan %v: exit code %d, standard error %q, rows (-want +got):\n%s", tt.args, code, stderr, diff)
		}
	}
}

func TestShowSaysWhatIsNext(t *testing.T) {
	h := newHome(t)
	h.planned()
	code, stdout, _ := h.run("show", "last", "--ledger", h.dir)
	for _, want := range []string{"state        awaiting-approval", "1 of 4 objects to be renamed", "apply it:   reshelf apply " + string(id) + " --ledger " + h.dir} {
		if !strings.Contains(stdout, want) {
			t.Errorf("exit code %d, want %q in\n%s", code, want, stdout)
		}
	}
}

func TestMissingLedger(t *testing.T) {
	h := newHome(t)
	for _, args := range [][]string{{"list"}, {"show", "last"}, {"plan", "last"}, {"report", "last"}, {"undo", "last"}, {"resume", "last"}, {"cancel", "last"}} {
		code, stdout, stderr := h.run(append(args, "--ledger", filepath.Join(h.dir, "none"))...)
		if code != command.ExitNotRun || stdout != "" || !strings.Contains(stderr, "no ledger at") {
			t.Errorf("%v: got exit code %d, %q, %q", args, code, stdout, stderr)
		}
	}
	if _, err := os.Stat(filepath.Join(h.dir, "none")); !os.IsNotExist(err) {
		t.Errorf("a command that looks has made the ledger: %v", err)
	}
}

func TestUnfinishedSubmissionIsPassedOver(t *testing.T) {
	h := newHome(t)
	h.planned()
	h.must(h.led.Store().Create(t.Context(), ledger.Key("01zzzzzzzzzzzzzzzzzzzzzzzz", "manifest", "sort", "0"), strings.NewReader("")))
	if code, stdout, stderr := h.run("show", "last", "--json"); code != 0 || !strings.Contains(stdout, `"batch": "`+string(id)) {
		t.Errorf("got exit code %d, %s, %s", code, stdout, stderr)
	}
}

func TestTry(t *testing.T) {
	h := newHome(t)
	dir := t.TempDir()
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	t.Chdir(dir)
	captured := map[archive.Key]string{"b.jpg": "2024-05-01T10:00:00", "a.jpg": "2024-05-01T11:00:00"}
	var asked []string
	h.env.Preview = func(_ context.Context, _, program string, root archive.Root, keys []archive.Key, level batch.Level, set digest.Set) iter.Seq2[batch.Record, error] {
		asked = append(asked, program+" "+root.Path()+" "+string(level)+" "+set.String())
		return func(yield func(batch.Record, error) bool) {
			for _, k := range keys {
				r := batch.Record{Object: archive.Object{Key: k}, Outcome: batch.Done}
				r.MTime = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano()
				if wall := captured[k]; wall != "" {
					r.Facts = &metadata.Facts{Model: "X/100", Capture: metadata.Time{Wall: wall, Source: "EXIF"}}
				}
				if k == "gone.jpg" {
					r.Outcome, r.Message = batch.Failed, "does not exist"
				}
				if !yield(r, nil) {
					return
				}
			}
		}
	}
	code, stdout, stderr := h.run("try", "--exiftool", "/opt/exiftool", "{date:%Y}/{seq:2}_{model}{ext}", "a.jpg", "b.jpg", "gone.jpg", "c.jpg", "a.jpg")
	want := `a.jpg -> 2024/02_X_100.jpg  (date from EXIF; `
	if code != command.ExitSomeFailed || !strings.HasPrefix(stdout, want) || strings.Count(stdout, "\n") != 5 ||
		!strings.Contains(stdout, "\nb.jpg -> 2024/01_X_100.jpg") || !strings.Contains(stdout, "gone.jpg: does not exist") ||
		!strings.Contains(stdout, "c.jpg: no value for {date:%Y}") {
		t.Errorf("got exit code %d\n%s%s", code, stdout, stderr)
	}
	if diff := cmp.Diff([]string{"/opt/exiftool " + dir + " normal "}, asked); diff != "" {
		t.Errorf("asked for (-want +got):\n%s", diff)
	}
	asked = nil
	if _, stdout, _ := h.run("try", "{sha256:8}{ext}", "--json", "/somewhere/x.jpg"); !strings.Contains(stdout, `"from":"x.jpg"`) {
		t.Errorf("got %s", stdout)
	}
	if diff := cmp.Diff([]string{" /somewhere none sha256"}, asked); diff != "" {
		t.Errorf("asked for (-want +got):\n%s", diff)
	}
}

func TestTryWithOptions(t *testing.T) {
	h := newHome(t)
	dir := t.TempDir()
	t.Chdir(dir)
	h.must(os.WriteFile("owners.csv", []byte("\ufeffX100, Ann/Bob\n\"R5\",\"Zoë\"\n"), 0o600))
	h.must(os.WriteFile("twice.csv", []byte("a,b\na,c\n"), 0o600))
	h.must(os.WriteFile("spellings.csv", []byte("caf\u00e9,b\ncafe\u0301,c\n"), 0o600))
	h.must(os.WriteFile("wide.csv", []byte("a,b,c\n"), 0o600))
	h.env.Preview = func(_ context.Context, _, _ string, _ archive.Root, keys []archive.Key, _ batch.Level, _ digest.Set) iter.Seq2[batch.Record, error] {
		return func(yield func(batch.Record, error) bool) {
			for _, k := range keys {
				facts := &metadata.Facts{Model: "X100", Capture: metadata.Time{Wall: "2024-05-01T23:30:00", Source: "EXIF"}}
				if !yield(batch.Record{Object: archive.Object{Key: k}, Outcome: batch.Done, Facts: facts}, nil) {
					return
				}
			}
		}
	}
	code, stdout, stderr := h.run("try", `{date:%F %H:%M%z}[{model|map("owners")}]_{seq:3,by=prefix}{ext}`, "d/a.jpg", "e/b.jpg", "--profile", "posix", "--timezone", "+03:00",
		"--clock-shift", "*=+1h", "--clock-shift", "X100=-1h", "--map", "owners=owners.csv")
	for _, want := range []string{"d/a.jpg -> 2024-05-02 00:30+0300 Ann_Bob_001.jpg", "e/b.jpg -> 2024-05-02 00:30+0300 Ann_Bob_002.jpg", "date from EXIF +1h0m0s"} {
		if code != 0 || !strings.Contains(stdout, want) {
			t.Errorf("exit code %d, want %q in\n%s%s", code, want, stdout, stderr)
		}
	}
	for want, args := range map[string][]string{
		"unknown time zone": {"--timezone", "Mars/Base"}, "want CAMERA=SHIFT": {"--clock-shift", "1h"}, "is no shift": {"--clock-shift", "a=x"},
		"want one of [portable": {"--profile", "amiga"}, "want NAME=FILE": {"--map", "owners"}, "stands there twice": {"--map", "a=twice.csv"},
		"line 2: \"café\" stands there twice": {"--map", "a=spellings.csv"},
		"wrong number of fields":              {"--map", "a=wide.csv"}, "no such file": {"--map", "a=none.csv"}, "its name may hold": {"--map", "a b=owners.csv"},
	} {
		code, stdout, stderr := h.run(append([]string{"try", "{name}", "a.jpg"}, args...)...)
		if code != command.ExitUsage || stdout != "" || !strings.Contains(stderr, want) {
			t.Errorf("%v: got exit code %d, %q, %q; want %q", args, code, stdout, stderr, want)
		}
	}
}

func TestStartErrors(t *testing.T) {
	h := newHome(t)
	h.env.StartMachine = func(context.Context, command.MachineOptions) (command.Installation, error) {
		return command.Installation{}, errors.New("disk on fire\x1b[2J")
	}
	code, stdout, stderr := h.run("inspect", t.TempDir())
	if code != command.ExitNotRun || stdout != "" || stderr != `reshelf: disk on fire\u{1b}[2J`+"\n" {
		t.Errorf("got exit code %d, %q, %q", code, stdout, stderr)
	}
}

func TestInterruptedBeforeTheBatch(t *testing.T) {
	h := newHome(t)
	ctx, cancel := context.WithCancel(t.Context())
	h.env.StartMachine = func(ctx context.Context, _ command.MachineOptions) (command.Installation, error) {
		cancel()
		return command.Installation{}, ctx.Err()
	}
	var out, errs bytes.Buffer
	h.env.Args, h.env.Stdout, h.env.Stderr = []string{"inspect", t.TempDir()}, &out, &errs
	if code := command.Run(ctx, h.env); code != command.ExitInterrupted || errs.String() != "reshelf: interrupted\n" {
		t.Errorf("got exit code %d, %q", code, errs.String())
	}
}
