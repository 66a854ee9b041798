// Package systemtest runs the three programs as their users do: real processes, a real Redis, real files, and SIGKILL.
package systemtest

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/digest"
	"github.com/reshelf/reshelf/shared/metadata"
	"github.com/reshelf/reshelf/worker/runtime"
)

// programs are set once by TestMain.
var programs binaries

func TestMain(m *testing.M) {
	runtime.KeeperMain()
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "reshelf-system-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		if err := setCredentials(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		if programs, err = build(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

const (
	template = "{date:%Y/%m}/{date:%Y%m%d-%H%M%S}_{model}_{sha256:4}{ext}"
)

// TestKilledInEveryStep renames an archive while a worker is killed in each step and the command is killed while it
// lists, then stops a worker past its claim, undoes everything, and lets the stopped worker wake.
func TestKilledInEveryStep(t *testing.T) {
	everywhere(t, killedInEveryStep)
}

func killedInEveryStep(t *testing.T, at place) {
	f := newFleetAt(t, programs, at)
	before := f.draw(at.files)
	n, identities := len(before), f.identities()
	for _, id := range []string{"w1", "w2", "w3"} {
		f.start(id)
	}

	command := f.spawn(f.bin.reshelf, "--redis", f.redis.URL(), "--ledger", f.ledger.String(), "rename", f.archive.String(), template,
		"--on-conflict", "number", "--yes")
	f.wait(20*time.Second, "the batch", func() bool { command.alive(t); return f.newest() != "" })
	id := f.newest()
	f.must(command.cmd.Process.Kill()) // the batch goes on without the command
	<-command.done

	for i, step := range []batch.Step{batch.StepInspect, batch.StepPlan, batch.StepRename, batch.StepFinish} {
		victim := f.claimed(id, step)
		f.kill(victim)
		t.Logf("killed %s in step %s", victim, step)
		f.start(fmt.Sprintf("w%d", i+4))
	}
	if s := f.over(id, 5*time.Minute); s.State != batch.Complete {
		t.Fatalf("batch is %v: %s", s, s.Reason)
	}
	f.checkRecords(id, n, before)
	renamed := f.sums()
	if diff := cmp.Diff(contents(before), contents(renamed)); diff != "" {
		f.checkNames(id, before, renamed)
		t.Fatalf("the contents before (-) and after the rename (+) differ:\n%s", tail(diff, 4000))
	}
	if len(renamed) != len(before) || maps.Equal(renamed, before) {
		t.Fatalf("%d files after the rename, want %d under new names", len(renamed), len(before))
	}
	f.checkNames(id, before, renamed)
	f.undo(id, before)
	f.checkVersions(identities)
	f.noExifToolLeft()
}

// undo undoes a batch and checks that every file is back.
func (f *fleet) undo(id batch.ID, before map[string]string) {
	f.t.Helper()
	out, code := f.reshelf("undo", string(id), "--yes")
	if code != 0 {
		f.t.Fatalf("undo: exit %d\n%s", code, out)
	}
	after := f.sums()
	if diff := cmp.Diff(before, after); diff != "" {
		f.t.Errorf("after the undo (-before +after):\n%s", tail(diff, 4000))
	}
}

func contents(files map[string]string) []string { return slices.Sorted(maps.Values(files)) }

// finals reads the final records of a batch from its report.
func (f *fleet) finals(id batch.ID) []batch.Record {
	f.t.Helper()
	out, code := f.reshelf("report", string(id), "--format", "jsonl")
	if code != 0 {
		f.t.Fatalf("report: exit %d\n%s", code, out)
	}
	var records []batch.Record
	for line := range strings.Lines(out) {
		if !strings.HasPrefix(line, "{") {
			continue // the line that says where
		}
		var r batch.Record
		f.must(json.Unmarshal([]byte(line), &r))
		records = append(records, r)
	}
	return records
}

// checkRecords checks that every object has exactly one final record with the right hash and tags.
func (f *fleet) checkRecords(id batch.ID, n int, before map[string]string) {
	f.t.Helper()
	records := f.finals(id)
	if len(records) != n {
		f.t.Errorf("%d final records, want %d", len(records), n)
	}
	seen := map[archive.Key]bool{}
	for _, r := range records {
		if seen[r.Key] {
			f.t.Errorf("%s has two final records", r.Key.Text())
		}
		seen[r.Key] = true
		if got := sha256Of(r); got != before[string(r.Key)] {
			f.t.Errorf("%s: sha256 %s, want %s", r.Key.Text(), got, before[string(r.Key)])
		}
	}
}

func sha256Of(r batch.Record) string {
	for _, d := range r.Digests {
		if d.Algorithm() == digest.SHA256 {
			return d.Hex()
		}
	}
	return ""
}

// checkNames checks that what the records say is what the disk says.
func (f *fleet) checkNames(id batch.ID, before, after map[string]string) {
	f.t.Helper()
	want := map[string]string{}
	for _, r := range f.finals(id) {
		name := string(r.Key)
		if r.To != "" {
			name = string(r.To)
		}
		want[name] = before[string(r.Key)]
	}
	if diff := cmp.Diff(want, after); diff != "" {
		f.t.Errorf("the records (-) and the disk (+) differ:\n%s", tail(diff, 4000))
	}
}

// noExifToolLeft checks that no process of ExifTool or of a keeper outlives the workers.
func (f *fleet) noExifToolLeft() {
	f.t.Helper()
	for id := range f.workers {
		f.signal(id, syscall.SIGTERM)
	}
	for id, p := range f.workers {
		select {
		case <-p.done:
		case <-time.After(30 * time.Second):
			f.t.Errorf("worker %s did not end within 30 s of SIGTERM\n%s", id, tail(p.out.String(), 2000))
		}
	}
	f.wait(10*time.Second, "all ExifTool processes to be gone", func() bool { return len(f.children()) == 0 })
}

// children are the processes that use this fleet's scratch folder.
func (f *fleet) children() []string {
	var out []string
	procs, err := filepath.Glob("/proc/[0-9]*/environ")
	f.must(err)
	for _, p := range procs {
		cmdline, err := os.ReadFile(filepath.Join(filepath.Dir(p), "cmdline"))
		if err != nil || len(cmdline) == 0 {
			continue
		}
		text := strings.ReplaceAll(string(cmdline), "\x00", " ")
		if strings.Contains(text, "exiftool") && strings.Contains(text, f.scratch) || strings.Contains(text, f.scratch+"/") && strings.Contains(text, "keeper") {
			out = append(out, text)
		}
	}
	return out
}

// TestStoppedWorkerWakesAfterTheUndo stops a worker while it renames. Others do its segment; the undo waits until the stopped
// process can move nothing any more; then it wakes.
func TestStoppedWorkerWakesAfterTheUndo(t *testing.T) {
	everywhere(t, stoppedWorker)
}

func stoppedWorker(t *testing.T, at place) {
	f := newFleetAt(t, programs, at)
	before := f.draw(300)
	identities := f.identities()
	f.start("w1")
	f.start("w2")
	out, code := f.reshelf("rename", f.archive.String(), template, "--on-conflict", "number")
	if code != 3 {
		t.Fatalf("rename: exit %d, want 3 (awaiting approval)\n%s", code, out)
	}
	id := f.newest()
	_, digest, err := f.flow.Ledger().Plan(f.ctx(), id)
	f.must(err)
	_, err = f.flow.Decide(f.ctx(), id, batch.Event{Kind: batch.EventApprove, Plan: digest})
	f.must(err)
	victim := f.claimed(id, batch.StepRename)
	f.signal(victim, syscall.SIGSTOP)
	if s := f.over(id, 2*time.Minute); s.State != batch.Complete {
		t.Fatalf("batch is %v: %s", s, s.Reason)
	}
	undo := f.spawn(f.bin.reshelf, "--redis", f.redis.URL(), "--ledger", f.ledger.String(), "undo", string(id), "--yes")
	f.wait(time.Minute, "the undo", func() bool { return f.newest() != id })
	f.claimed(f.newest(), batch.StepPlan)
	f.signal(victim, syscall.SIGCONT)
	<-undo.done
	if undo.err != nil {
		t.Fatalf("undo: %v\n%s", undo.err, undo.out)
	}
	after := f.sums()
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("after the undo (-before +after):\n%s", tail(diff, 4000))
	}
	f.checkVersions(identities)
}

// TestRedisLostAfterACancel empties Redis while a cancelled batch ends, and recovers from the ledger alone.
func TestRedisLostAfterACancel(t *testing.T) {
	everywhere(t, redisLost)
}

func redisLost(t *testing.T, at place) {
	f := newFleetAt(t, programs, at)
	before := f.draw(600)
	n := len(before)
	f.start("w1")
	command := f.spawn(f.bin.reshelf, "--redis", f.redis.URL(), "--ledger", f.ledger.String(), "inspect", f.archive.String(), "--digests", "sha256")
	f.wait(20*time.Second, "the batch", func() bool { return f.newest() != "" })
	id := f.newest()
	f.listed(id) // before its lister dies: a cancelled batch accounts for what was listed, and for no more
	f.claimed(id, batch.StepInspect)
	f.must(command.cmd.Process.Kill())
	<-command.done
	if out, code := f.reshelf("cancel", string(id)); code != 0 {
		t.Fatalf("cancel: exit %d\n%s", code, out)
	}
	f.redis.FlushAll()
	if out, code := f.reshelf("recover"); code != 0 {
		t.Fatalf("recover: exit %d\n%s", code, out)
	}
	if s := f.over(id, time.Minute); s.State != batch.Cancelled {
		t.Fatalf("batch is %v, want cancelled", s)
	}
	records := f.finals(id)
	if len(records) != n {
		t.Errorf("%d final records, want %d", len(records), n)
	}
	for _, r := range records {
		if r.Outcome == batch.Skipped && r.Reason == batch.ReasonCancelled {
			continue
		}
		if got := sha256Of(r); got != before[string(r.Key)] {
			t.Errorf("%s: sha256 %s, want %s", r.Key.Text(), got, before[string(r.Key)])
		}
	}
}

// TestRedisOutage stops Redis for 45 s in the middle of an inspection: only that time is lost.
func TestRedisOutage(t *testing.T) {
	localAndS3(t, redisOutage)
}

func redisOutage(t *testing.T, at place) {
	t.Parallel() // with itself: it waits most of the time
	f := newFleetAt(t, programs, at)
	before := f.draw(600)
	n := len(before)
	f.start("w1")
	f.start("w2")
	command := f.spawn(f.bin.reshelf, "--redis", f.redis.URL(), "--ledger", f.ledger.String(), "inspect", f.archive.String(), "--digests", "sha256")
	f.wait(20*time.Second, "the batch", func() bool { return f.newest() != "" })
	id := f.newest()
	f.claimed(id, batch.StepInspect)
	f.redis.Pause()
	outage, cancel := context.WithTimeout(f.ctx(), 45*time.Second)
	defer cancel()
	<-outage.Done()
	f.redis.Resume()
	if s := f.over(id, 2*time.Minute); s.State != batch.Complete {
		t.Fatalf("batch is %v: %s", s, s.Reason)
	}
	f.checkRecords(id, n, before)
	_ = command.cmd.Process.Kill()
	<-command.done
}

// TestTagsAreExifTools compares the tags of every record with ExifTool's own answer, character for character.
func TestTagsAreExifTools(t *testing.T) {
	localAndS3(t, tagsAreExifTools)
}

func tagsAreExifTools(t *testing.T, at place) {
	f := newFleetAt(t, programs, at)
	if corpus := os.Getenv("RESHELF_CORPUS"); corpus != "" && f.server == nil {
		f.must(os.CopyFS(f.drawn, os.DirFS(corpus)))
	} else {
		f.draw(60)
	}
	want := f.sums()
	f.start("w1")
	if out, code := f.reshelf("inspect", f.archive.String(), "--digests", "sha256", "--all"); code > 1 {
		t.Fatalf("inspect: exit %d\n%s", code, out)
	}
	records := f.finals(f.newest())
	if len(records) != len(want) {
		t.Errorf("%d final records for %d files", len(records), len(want))
	}
	failed := 0
	for _, r := range records {
		if r.Outcome == batch.Failed {
			failed++
			if r.Reason == "" || r.Message == "" {
				t.Errorf("%s failed without a reason", r.Key.Text())
			}
			continue
		}
		f.compareTags(r)
	}
	t.Logf("%d files, %d failed with a reason", len(records), failed)
}

func (f *fleet) compareTags(r batch.Record) {
	f.t.Helper()
	cmd := exec.CommandContext(f.ctx(), "exiftool", "-config", "", "-j", "-G1", "-struct", "-api", "LargeFileSupport=1", filepath.Join(f.drawn, string(r.Key)))
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC", "HOME=/nonexistent", "PERL_HASH_SEED=0", "PERL_PERTURB_KEYS=0"}
	raw, err := cmd.Output()
	if len(raw) == 0 {
		f.t.Logf("exiftool says nothing of %s: %v", r.Key.Text(), err)
		return
	}
	var array []json.RawMessage
	f.must(json.Unmarshal(raw, &array))
	_, want, err := metadata.DecodeObject(array[0])
	f.must(err)
	want = metadata.WithoutAlias(want)
	for name, value := range want {
		if got := r.Tags[name]; !sameJSON(got, value) {
			f.t.Errorf("%s: %s = %s, ExifTool says %s", r.Key.Text(), name, got, value)
		}
	}
	for name := range r.Tags {
		if _, ok := want[name]; !ok {
			f.t.Errorf("%s: tag %s, of which ExifTool says nothing", r.Key.Text(), name)
		}
	}
}

func sameJSON(a, b json.RawMessage) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && cmp.Equal(x, y)
}
