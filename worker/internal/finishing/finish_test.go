package finishing_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/digest"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/report"
	"github.com/reshelf/reshelf/worker/internal/finishing"
)

func TestInspectBatch(t *testing.T) {
	f := newFixture(t, batch.Inspect)
	objects := append(listed("a", "b", "c"), batch.Listed{Object: object("d", 0), Outcome: batch.Skipped, Problem: batch.ReasonSymlink})
	f.segment(0, objects...)
	f.segment(1, listed("e", "f", "g", "h")...)
	// Within a part the records are in any order.
	f.part(batch.StepInspect, 0, notDone("d", batch.Skipped, batch.ReasonSymlink), done(t, "b", 100, 1), done(t, "a", 100, 1), done(t, "c", 100, 2))
	broken := done(t, "h", 100, 1) // hashed, but ExifTool could not read it
	broken.Outcome, broken.Reason, broken.Message = batch.Failed, batch.ReasonFormat, "because format"
	f.part(batch.StepInspect, 1, broken, done(t, "g", 0, 9), done(t, "e", 0, 9), done(t, "f", 100, 1))
	f.seal(batch.StepInspect, 2)
	check(t, f.finish())
	r := f.result()

	want := map[archive.Key]string{
		"a": "done", "b": "done", "c": "done", "d": "skipped symlink", "e": "done", "f": "done", "g": "done", "h": "failed format",
	}
	if diff := cmp.Diff(want, r.ends()); diff != "" {
		t.Errorf("final records (-want +got):\n%s", diff)
	}
	if !slices.IsSortedFunc(r.finals, func(a, b batch.Record) int { return strings.Compare(string(a.Key), string(b.Key)) }) {
		t.Error("final records are not in order of key")
	}
	s := r.summary
	s.Files = nil
	wantSummary := report.Summary{
		V: report.SummaryVersion, Batch: id, Kind: batch.Inspect, Archive: f.batch.Archive, State: batch.Complete,
		Submitted: submitted, Finished: finished, WorkingSeconds: 600, InspectingSeconds: 600,
		Listed: 8, ListedBytes: 600, Excluded: 4, Counts: batch.Counts{Done: 6, Skipped: 1, Failed: 1, Bytes: 400},
		Skipped: map[batch.Reason]int64{"symlink": 1}, Failed: map[batch.Reason]int64{"format": 1}, Inspected: 7, InspectedBytes: 500,
		Failures:   []report.Failure{{Reason: "format", Objects: 1, Examples: []report.Example{{Key: "h", Message: "because format"}}}},
		Duplicates: &report.Duplicates{Algorithm: digest.SHA256, Groups: 1, Objects: 4, WastedBytes: 300, Empty: 2},
		Digests:    digest.DefaultSet(), Level: batch.LevelNormal, ExifTool: []string{"13.59"},
	}
	if diff := cmp.Diff(wantSummary, s, cmp.Comparer(func(a, b archive.Root) bool { return a == b })); diff != "" {
		t.Errorf("summary (-want +got):\n%s", diff)
	}
	hex := strings.Repeat("01", 32)
	wantText := map[string]string{
		report.FailuresName: "key,to,size,reason,message\nh,,100,format,because format\n",
		report.DuplicatesName: "group,number,of,size,digest,key\n" +
			"1,1,4,100,sha256:" + hex + ",a\n1,2,4,100,sha256:" + hex + ",b\n" +
			"1,3,4,100,sha256:" + hex + ",f\n1,4,4,100,sha256:" + hex + ",h\n",
	}
	if diff := cmp.Diff(wantText, r.text); diff != "" {
		t.Errorf("tables (-want +got):\n%s", diff)
	}
}

// What the store hashed was not read, and is equal to what was read and has the same digest.
func TestDigestsFromTheStore(t *testing.T) {
	f := newFixture(t, batch.Inspect)
	f.segment(0, listed("a", "b", "c")...)
	trusted := func(key archive.Key, seed byte) batch.Record {
		r := done(t, key, 100, seed)
		r.FromStore = []digest.Algorithm{digest.CRC32, digest.SHA256}
		return r
	}
	f.part(batch.StepInspect, 0, done(t, "a", 100, 1), trusted("b", 1), trusted("c", 2))
	f.seal(batch.StepInspect, 1)
	check(t, f.finish())
	r := f.result()
	if s := r.summary; s.Counts.Done != 3 || s.FromStore != 2 || s.Inspected != 1 || s.InspectedBytes != 100 || s.Duplicates.Objects != 2 {
		t.Errorf("got done %d, from the store %d, inspected %d with %d bytes, duplicates %+v; want 3, 2, 1 with 100, 2 objects",
			s.Counts.Done, s.FromStore, s.Inspected, s.InspectedBytes, s.Duplicates)
	}
	if got := r.finals[1].FromStore; len(got) != 2 || r.rows[1].FromStore != "crc32,sha256" || r.rows[0].FromStore != "" {
		t.Errorf("from the store: record %v, rows %q and %q", got, r.rows[1].FromStore, r.rows[0].FromStore)
	}
}

// renameFixture has one object for each way in which a rename can end. Its groups keep rows out of order of key.
func renameFixture(t *testing.T) *fixture {
	f := newFixture(t, batch.Rename)
	f.segment(0, listed("a", "b", "broken", "c")...)
	f.segment(1, listed("conflict", "d", "same", "z")...)
	f.part(batch.StepInspect, 0, done(t, "a", 100, 1), done(t, "b", 100, 2), notDone("broken", batch.Failed, batch.ReasonFormat), done(t, "c", 100, 1))
	f.part(batch.StepInspect, 1, done(t, "conflict", 100, 3), done(t, "d", 100, 1), done(t, "same", 100, 4), done(t, "z", 100, 1))
	f.seal(batch.StepInspect, 2)
	f.plan(
		[]batch.Row{
			{N: 0, From: "a", To: "new/a", DateSource: "ExifIFD:DateTimeOriginal"},
			{N: 7, From: "z", To: "new/z"},
			{N: 1, From: "b", Outcome: batch.Failed, Reason: batch.ReasonNoValue, Message: "no model"},
			{N: 2, From: "broken", Outcome: batch.Failed, Reason: batch.ReasonNotDone},
		},
		[]batch.Row{
			{N: 3, From: "c", To: "new/c", Changed: []string{"cut"}},
			{N: 4, From: "conflict", To: "new/conflict"},
			{N: 5, From: "d", To: "new/d"},
			{N: 6, From: "same", To: "same", Outcome: batch.Skipped, Reason: batch.ReasonUnchanged},
		},
	)
	return f
}

func TestRenameBatch(t *testing.T) {
	f := renameFixture(t)
	f.part(batch.StepRename, 0, moved("z", "new/z"), moved("a", "new/a"))
	f.part(batch.StepRename, 1,
		moved("c", ""), notDone("conflict", batch.Failed, batch.ReasonConflict), notDone("d", batch.Skipped, batch.ReasonChanged),
		notDone("same", batch.Skipped, batch.ReasonUnchanged)) // records of rows that do not move are allowed
	check(t, f.finish())
	r := f.result()
	want := map[archive.Key]string{
		"a": "done  new/a", "b": "failed no-value", "broken": "failed format", "c": "done  new/c", "conflict": "failed conflict",
		"d": "skipped changed", "same": "skipped unchanged", "z": "done  new/z",
	}
	if diff := cmp.Diff(want, r.ends()); diff != "" {
		t.Errorf("final records (-want +got):\n%s", diff)
	}
	if got := r.finals[0]; len(got.Digests) != 2 || got.Epoch != 7 || got.ExifTool == "" {
		t.Errorf("record of a: %+v; want what was inspected, with the epoch of the rename", got)
	}
	if s := r.summary; s.Renamed != 3 || s.Counts != (batch.Counts{Done: 3, Skipped: 2, Failed: 3, Bytes: 300}) || s.Inspected != 7 {
		t.Errorf("renamed %d, counts %+v, inspected %d", s.Renamed, s.Counts, s.Inspected)
	}
	wantPlan := `from,to,outcome,reason,message,date_source,sidecar,changed
a,new/a,done,,,ExifIFD:DateTimeOriginal,,
b,,failed,no-value,no model,,,
broken,,failed,not-inspected,,,,
c,new/c,done,,,,,cut
conflict,new/conflict,failed,conflict,because conflict,,,
d,new/d,skipped,changed,because changed,,,
same,same,skipped,unchanged,,,,
z,new/z,done,,,,,
`
	if diff := cmp.Diff(wantPlan, r.text[report.PlanName]); diff != "" {
		t.Errorf("plan (-want +got):\n%s", diff)
	}
	// "d" has changed since it was read: its digest no longer stands for its content. Keys are those of now.
	hex := strings.Repeat("01", 32)
	wantDuplicates := "group,number,of,size,digest,key\n" +
		"1,1,3,100,sha256:" + hex + ",new/a\n1,2,3,100,sha256:" + hex + ",new/c\n1,3,3,100,sha256:" + hex + ",new/z\n"
	if diff := cmp.Diff(wantDuplicates, r.text[report.DuplicatesName]); diff != "" {
		t.Errorf("duplicates (-want +got):\n%s", diff)
	}
}

func TestCancelled(t *testing.T) {
	t.Run("while listing", func(t *testing.T) {
		f := newFixture(t, batch.Inspect)
		f.cancel()
		f.segment(0, listed("a", "b")...)
		f.segment(1, append(listed("c"), batch.Listed{Object: object("d", 1), Outcome: batch.Failed, Problem: batch.ReasonUnreadable, Detail: "no access"})...)
		f.part(batch.StepInspect, 0, done(t, "a", 100, 1), notDone("b", batch.Skipped, batch.ReasonCancelled))
		check(t, f.finish())
		r := f.result()
		want := map[archive.Key]string{"a": "done", "b": "skipped cancelled", "c": "skipped cancelled", "d": "failed unreadable"}
		if diff := cmp.Diff(want, r.ends()); diff != "" {
			t.Errorf("final records (-want +got):\n%s", diff)
		}
		if s := r.summary; !s.ListingIncomplete || s.State != batch.Cancelled || s.Reason != "wrong folder" {
			t.Errorf("listing incomplete %v, state %s, reason %q", s.ListingIncomplete, s.State, s.Reason)
		}
	})
	t.Run("before the plan", func(t *testing.T) {
		f := newFixture(t, batch.Rename)
		f.cancel()
		f.segment(0, listed("a", "b")...)
		f.part(batch.StepInspect, 0, done(t, "a", 100, 1), notDone("b", batch.Failed, batch.ReasonFormat))
		f.seal(batch.StepInspect, 1)
		check(t, f.finish())
		r := f.result()
		want := map[archive.Key]string{"a": "skipped cancelled", "b": "failed format"}
		if diff := cmp.Diff(want, r.ends()); diff != "" {
			t.Errorf("final records (-want +got):\n%s", diff)
		}
		if s := r.summary; s.Inspected != 1 || s.Renamed != 0 || s.ListingIncomplete {
			t.Errorf("inspected %d, renamed %d, listing incomplete %v", s.Inspected, s.Renamed, s.ListingIncomplete)
		}
	})
	t.Run("while renaming", func(t *testing.T) {
		f := renameFixture(t)
		f.cancel()
		f.part(batch.StepRename, 0, moved("a", "new/a"), notDone("z", batch.Skipped, batch.ReasonCancelled))
		check(t, f.finish())
		want := map[archive.Key]string{
			"a": "done  new/a", "b": "failed no-value", "broken": "failed format", "c": "skipped cancelled", "conflict": "skipped cancelled",
			"d": "skipped cancelled", "same": "skipped unchanged", "z": "skipped cancelled",
		}
		if diff := cmp.Diff(want, f.result().ends()); diff != "" {
			t.Errorf("final records (-want +got):\n%s", diff)
		}
	})
	t.Run("with renames that are not settled", func(t *testing.T) {
		f := renameFixture(t)
		f.cancel()
		e := ledger.Execution{Ref: ref(batch.StepRename, 1), Epoch: 9}
		check(t, f.led.BeginExecution(t.Context(), e))
		if err := f.finish(); !errors.Is(err, finishing.ErrUnsettled) || !strings.Contains(err.Error(), "rename/1/1") {
			t.Errorf("got %v, want ErrUnsettled that names the segment", err)
		}
	})
}

func TestUndoBatch(t *testing.T) {
	f := newFixture(t, batch.Undo)
	want := archive.Identity{Size: 100, MTime: 5}
	f.plan([]batch.Row{
		{N: 1, From: "new/b", To: "b", Want: want}, {N: 0, From: "new/a", To: "a", Want: want},
		{N: 2, From: "new/c", Outcome: batch.Failed, Reason: batch.ReasonExists, Want: want},
	})
	f.part(batch.StepRename, 0, moved("new/a", "a"), notDone("new/b", batch.Failed, batch.ReasonConflict))
	check(t, f.finish())
	r := f.result()
	ends := map[archive.Key]string{"new/a": "done  a", "new/b": "failed conflict", "new/c": "failed target-exists"}
	if diff := cmp.Diff(ends, r.ends()); diff != "" {
		t.Errorf("final records (-want +got):\n%s", diff)
	}
	if r.finals[0].Identity != want {
		t.Errorf("identity %+v, want %+v", r.finals[0].Identity, want)
	}
	if s := r.summary; s.Listed != 3 || s.Renamed != 1 || s.Inspected != 0 || s.Duplicates != nil {
		t.Errorf("summary %+v", s)
	}
	if _, ok := r.text[report.DuplicatesName]; ok {
		t.Error("an undo batch has duplicates.csv")
	}
}

func TestEmptyArchive(t *testing.T) {
	f := newFixture(t, batch.Inspect)
	f.seal(batch.StepInspect, 0)
	check(t, f.finish())
	if r := f.result(); len(r.finals) != 0 || r.summary.Listed != 0 {
		t.Errorf("%d final records, want none", len(r.finals))
	}
}

func TestWorkingTime(t *testing.T) {
	f := newFixture(t, batch.Inspect)
	at := func(m int) time.Time { return submitted.Add(time.Duration(m) * time.Minute) }
	for i, e := range []batch.Event{
		{Kind: batch.EventPause, At: at(1)},
		{Kind: batch.EventResume, At: at(4)},
		{Kind: batch.EventAdvance, To: batch.Finishing, At: at(6)},
	} {
		e.N = i + 1
		check(t, f.led.CreateEvent(t.Context(), id, e))
	}
	f.seal(batch.StepInspect, 0)
	check(t, f.finish())
	if s := f.result().summary; s.WorkingSeconds != 7*60 || s.InspectingSeconds != 3*60 {
		t.Errorf("working %v s, inspecting %v s; want 420 and 180", s.WorkingSeconds, s.InspectingSeconds)
	}
}

// manyRecords is a finished rename batch. Rows, and the records within a part, are in random order.
func manyRecords(t testing.TB, segments, per int) (f *fixture, want map[archive.Key]string) {
	f = newFixture(t, batch.Rename)
	rng := rand.New(rand.NewPCG(1, 2))
	var rows []batch.Row
	want = map[archive.Key]string{}
	for n := range segments {
		var keys []archive.Key
		var records []batch.Record
		for i := range per {
			k := archive.Key(fmt.Sprintf("dir/%06d-\xff", n*per+i))
			keys = append(keys, k)
			records = append(records, done(t, k, 100, byte(i%2)))
			rows = append(rows, batch.Row{N: int64(len(rows)), From: k, To: "new/" + k})
			want[k] = fmt.Sprintf("done  new/%s", k)
		}
		rng.Shuffle(per, func(i, j int) { records[i], records[j] = records[j], records[i] })
		f.segment(n, listed(keys...)...)
		f.part(batch.StepInspect, n, records...)
	}
	f.seal(batch.StepInspect, segments)
	rng.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
	planned := slices.Collect(slices.Chunk(rows, per))
	f.plan(planned...)
	for n, rows := range planned {
		var records []batch.Record
		for _, r := range rows {
			records = append(records, moved(r.From, r.To))
		}
		f.part(batch.StepRename, n, records...)
	}
	return f, want
}

// TestManyRecords has several shards, and groups of duplicates that do not fit in memory.
func TestManyRecords(t *testing.T) {
	const segments, per = 25, 140
	f, want := manyRecords(t, segments, per)
	h := &hold{}
	check(t, f.finishOn(f.led, h))
	r := f.result()
	if diff := cmp.Diff(want, r.ends()); diff != "" {
		t.Errorf("final records (-want +got):\n%s", diff)
	}
	if got := len(r.finals); got != segments*per {
		t.Errorf("%d final records, want %d", got, segments*per)
	}
	d := r.summary.Duplicates
	if d.Groups != 2 || d.Objects != segments*per || d.WastedBytes != (segments*per-2)*100 || d.Objects/2 <= finishing.GroupMemory {
		t.Errorf("duplicates %+v", d)
	}
	lines := strings.Split(r.text[report.DuplicatesName], "\n")
	want1 := fmt.Sprintf(`1,%d,%[1]d,100,sha256:%s,new/dir/003498-\xff`, segments*per/2, strings.Repeat("00", 32))
	if got := lines[segments*per/2]; got != want1 {
		t.Errorf("last line of group 1:\n got %s\nwant %s", got, want1)
	}
	shards := slices.DeleteFunc(r.summary.Files, func(f report.File) bool { return !strings.HasSuffix(f.Name, ".parquet") })
	if len(shards) != 7 || shards[0].Rows != 500 {
		t.Errorf("shards %+v, want seven of 500 rows", shards)
	}
	if got := h.advanced; got < segments*per {
		t.Errorf("%d objects of progress, want at least %d", got, segments*per)
	}
}
