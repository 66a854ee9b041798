package runtime_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/digest"
	"github.com/reshelf/reshelf/shared/flow"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/queue/redistest"
	"github.com/reshelf/reshelf/shared/service"
	"github.com/reshelf/reshelf/shared/store/filestore"
	"github.com/reshelf/reshelf/worker/runtime"
)

func TestMain(m *testing.M) {
	runtime.KeeperMain()
	goleak.VerifyTestMain(m)
}

const id batch.ID = "01jd0000000000000000000000"

// fleet is a real Redis, a ledger, an archive of three small pictures, and a batch over it whose inspect step has one segment.
type fleet struct {
	t      *testing.T
	redis  *redistest.Server
	ledger *ledger.Ledger
	dir    string
	flow   *flow.Flow
	batch  batch.Batch
	log    *slog.Logger
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	st, err := filestore.Open(t.TempDir(), filestore.Options{Ledger: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	f := &fleet{t: t, redis: redistest.Start(t), ledger: ledger.New(st), dir: t.TempDir()}
	f.log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	for _, name := range []string{"a.xmp", "b.xmp", "c.xmp"} {
		f.must(os.WriteFile(filepath.Join(f.dir, name), []byte(packet), 0o644))
	}
	f.flow, err = runtime.NewFlow(f.redis.Client(), "reshelf", f.ledger, f.log)
	f.must(err)
	f.batch = batch.Batch{
		V: batch.Version, ID: id, Kind: batch.Inspect, Archive: root(t, f.dir), Level: batch.LevelNormal, Digests: digest.DefaultSet(),
		Pool: "default", Priority: batch.Normal, Submitted: time.Now().UTC(),
	}
	f.must(f.flow.Submit(t.Context(), f.batch))
	f.list()
	return f
}

// packet is an XMP packet (ISO 16684-1).
const packet = `<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'>` +
	`<rdf:Description rdf:about='' xmlns:tiff='http://ns.adobe.com/tiff/1.0/' tiff:Model='Kodak'/></rdf:RDF></x:xmpmeta>`

func root(t *testing.T, dir string) archive.Root {
	t.Helper()
	r, err := archive.FileRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (f *fleet) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fleet) ctx() context.Context { return f.t.Context() }

// list does the list step as a worker does that dies right after.
func (f *fleet) list() {
	f.t.Helper()
	st, err := filestore.Open(f.dir, filestore.Options{})
	f.must(err)
	defer st.Close()
	seg := batch.Segment{End: true}
	for _, key := range []archive.Key{"a.xmp", "b.xmp", "c.xmp"} {
		o, err := st.Stat(f.ctx(), key)
		f.must(err)
		seg.Objects = append(seg.Objects, batch.Listed{Object: o})
	}
	h, err := f.ledger.CreateSegment(f.ctx(), batch.Ref{Batch: id, Step: batch.StepInspect, Generation: 1}, seg)
	f.must(err)
	f.must(f.flow.Made(f.ctx(), f.batch, h))
	f.must(f.ledger.Seal(f.ctx(), id, batch.StepInspect, 1, 1))
	f.must(f.flow.Sealed(f.ctx(), f.batch, 1))
	_, err = f.flow.Live().Settle(f.ctx(), batch.Ref{Batch: id, Step: batch.StepList, Generation: 1}, batch.Counts{})
	f.must(err)
}

// died makes a worker die with some of the objects in hand.
func (f *fleet) died(alone bool, hand ...int) {
	f.t.Helper()
	live := f.flow.Live()
	c, err := live.Claim(f.ctx(), batch.Task{V: batch.Version, Batch: id, Step: batch.StepInspect, Generation: 1, Attempt: 1}, "dead")
	f.must(err)
	_, err = live.Beat(f.ctx(), id, []ledger.Sign{{Claim: c, InHand: hand, Alone: alone}})
	f.must(err)
	f.wait("the judgement", func() bool {
		seen, err := live.Now(f.ctx())
		f.must(err)
		found, err := live.Reconcile(f.ctx(), id, ledger.Limits{Seen: seen, Silence: time.Minute})
		f.must(err)
		return len(found) > 0
	})
	f.must(f.flow.Sync(f.ctx(), id))
}

func (f *fleet) wait(what string, done func() bool) {
	f.t.Helper()
	for start := time.Now(); !done(); {
		if time.Since(start) > 90*time.Second {
			f.t.Fatalf("not within 90 s: %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// work runs a worker until done.
func (f *fleet) work(exifTool string, done func(batch.Status) bool) {
	f.t.Helper()
	scratch := f.t.TempDir()
	w, err := runtime.New(runtime.Options{
		Redis: f.redis.Client(), Ledger: f.ledger, Roots: []archive.Root{f.batch.Archive}, Slots: 1, Poll: 10 * time.Millisecond,
		ExifTool: exifTool, Scratch: scratch, Log: f.log,
	})
	f.must(err)
	ctx, stop := context.WithCancel(f.ctx())
	ended := make(chan error, 1)
	go func() { ended <- service.Run(ctx, f.log, w.Parts()...) }()
	f.wait("the batch", func() bool {
		s, err := f.ledger.Status(f.ctx(), f.batch)
		f.must(err)
		return done(s)
	})
	stop()
	f.must(<-ended)
	left, err := os.ReadDir(scratch)
	f.must(err)
	if len(left) > 0 {
		f.t.Errorf("scratch folder still holds %v", left)
	}
}

func over(s batch.Status) bool { return s.State.Over() }

func (f *fleet) records() map[archive.Key]batch.Record {
	f.t.Helper()
	out := map[archive.Key]batch.Record{}
	for r, err := range f.ledger.Records(f.ctx(), id, batch.StepInspect, 1) {
		f.must(err)
		out[r.Key] = r
	}
	return out
}

func (f *fleet) wantDone(keys ...archive.Key) {
	f.t.Helper()
	records := f.records()
	for _, key := range keys {
		r := records[key]
		if model, _ := r.Tags.Text("XMP-tiff:Model"); r.Outcome != batch.Done || model != "Kodak" {
			f.t.Errorf("record of %s = %+v, want it done with its tags", key, r)
		}
	}
}

// standIn is ExifTool, after a few lines of shell.
func standIn(t *testing.T, script string) string {
	t.Helper()
	real, err := exec.LookPath("exiftool")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "exiftool")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\nexec "+real+" \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// inIsolation is shell that runs what follows only where the keeper's parent inspects an object alone. It counts itself,
// by folders, since ExifTool may write no files.
const inIsolation = `
parent=$(cut -d ' ' -f 4 /proc/$PPID/stat)
if grep -q reshelf-isolate /proc/$parent/cmdline; then
  mkdir "$0.times.$$"
`

func times(t *testing.T, program string) int {
	t.Helper()
	found, err := filepath.Glob(program + ".times.*")
	if err != nil {
		t.Fatal(err)
	}
	return len(found)
}

func TestASuspectIsInspectedAlone(t *testing.T) {
	f := newFleet(t)
	f.died(false, 1)
	program := standIn(t, inIsolation+"fi")
	f.work(program, over)
	f.wantDone("a.xmp", "b.xmp", "c.xmp")
	if n := times(t, program); n != 1 {
		t.Errorf("%d ExifTools in isolation, want 1", n)
	}
}

func TestAnObjectThatKillsFailsAndTheRestIsDone(t *testing.T) {
	for _, tc := range []struct {
		name  string
		alone bool // it has killed one worker alone before
		kills int
	}{{"in hand", false, 2}, {"in hand alone", true, 1}} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFleet(t)
			f.died(tc.alone, 1)
			program := standIn(t, inIsolation+"kill -9 $parent\nsleep 1000\nfi")
			f.work(program, over)
			f.wantDone("a.xmp", "c.xmp")
			if r := f.records()["b.xmp"]; r.Outcome != batch.Failed || r.Reason != batch.ReasonKilled {
				t.Errorf("record of b.xmp = %+v, want it failed, %s", r, batch.ReasonKilled)
			}
			if n := times(t, program); n != tc.kills {
				t.Errorf("killed %d times, want %d", n, tc.kills)
			}
		})
	}
}

// An archive that goes away while an object is inspected alone is not the object's fault.
func TestAnArchiveThatGoesAwayBlamesNobody(t *testing.T) {
	f := newFleet(t)
	f.died(false, 0, 1, 2) // the first moves the archive away while it is inspected, so the second cannot open it
	program := standIn(t, inIsolation+"mv '"+f.dir+"' '"+f.dir+".away'\nfi")
	f.work(program, func(s batch.Status) bool { return s.Paused || s.State.Over() })
	s, err := f.ledger.Status(f.ctx(), f.batch)
	f.must(err)
	if !s.Paused {
		t.Fatalf("batch is %s with %+v, want it paused", s, f.records())
	}
	if n := times(t, program); n != 1 {
		t.Errorf("%d ExifTools in isolation, want 1", n)
	}
	f.must(os.Rename(f.dir+".away", f.dir))
	_, err = f.flow.Decide(f.ctx(), id, batch.Event{Kind: batch.EventResume})
	f.must(err)
	f.work("", over)
	f.wantDone("a.xmp", "b.xmp", "c.xmp")
}

func TestNewRefuses(t *testing.T) {
	f := newFleet(t)
	roots := []archive.Root{f.batch.Archive}
	for name, o := range map[string]runtime.Options{
		"no Redis":  {Ledger: f.ledger, Roots: roots},
		"no ledger": {Redis: f.redis.Client(), Roots: roots},
		"no roots":  {Redis: f.redis.Client(), Ledger: f.ledger},
		"bad pool":  {Redis: f.redis.Client(), Ledger: f.ledger, Roots: roots, Pools: []string{"a pool"}},
	} {
		if w, err := runtime.New(o); err == nil || w != nil {
			t.Errorf("%s: New = %v, %v; want an error and no worker", name, w, err)
		}
	}
}

func preview(t *testing.T, program, dir string, keys ...archive.Key) ([]batch.Record, error) {
	t.Helper()
	var out []batch.Record
	for r, err := range runtime.Preview(t.Context(), program, root(t, dir), keys, batch.LevelNormal, digest.DefaultSet()) {
		if err != nil {
			return out, err
		}
		out = append(out, r)
	}
	return out, nil
}

func TestPreview(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.xmp"), []byte(packet), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Run("reads", func(t *testing.T) {
		got, err := preview(t, "", dir, "a.xmp", "gone.xmp")
		if err != nil || len(got) != 2 {
			t.Fatalf("preview = %+v, %v; want two records", got, err)
		}
		if model, _ := got[0].Tags.Text("XMP-tiff:Model"); got[0].Outcome != batch.Done || model != "Kodak" {
			t.Errorf("record = %+v, want done with its tags", got[0])
		}
		if got[1].Outcome != batch.Failed || got[1].Reason != batch.ReasonMissing || got[1].Key != "gone.xmp" {
			t.Errorf("record = %+v, want failed, missing", got[1])
		}
	})
	t.Run("stops when told", func(t *testing.T) {
		for range runtime.Preview(t.Context(), "", root(t, dir), []archive.Key{"a.xmp", "a.xmp"}, batch.LevelNormal, 0) {
			break
		}
	})
	t.Run("no ExifTool", func(t *testing.T) {
		got, err := preview(t, filepath.Join(dir, "none"), dir, "a.xmp")
		if err == nil {
			t.Errorf("preview = %+v, want an error that says that ExifTool is missing", got)
		}
	})
	t.Run("no archive", func(t *testing.T) {
		if got, err := preview(t, "", filepath.Join(dir, "none"), "a.xmp"); err == nil {
			t.Errorf("preview = %+v, want an error", got)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for r, err := range runtime.Preview(ctx, "", root(t, dir), []archive.Key{"a.xmp"}, batch.LevelNormal, 0) {
			if !errors.Is(err, context.Canceled) && r.Outcome != batch.Failed {
				t.Errorf("preview = %+v, %v; want context.Canceled", r, err)
			}
		}
	})
}

func TestDoctor(t *testing.T) {
	states := func(found []runtime.Finding) map[string]string {
		out := map[string]string{}
		for _, f := range found {
			out[f.Name] = f.State
			if f.State != "ok" && f.Remedy == "" {
				t.Errorf("finding %+v says not what to do", f)
			}
		}
		return out
	}
	dir := t.TempDir()
	wrong := standIn(t, "true")
	if raw, err := os.ReadFile(wrong); err != nil || os.WriteFile(wrong, []byte(strings.Replace(string(raw), `"$@"`, `"$@" | sed -u 's/1\.10/1.1/'`, 1)), 0o755) != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, program, dir string
		check, want        string
	}{
		{"all is well", "", dir, "ExifTool", "ok"},
		{"archive is there", "", dir, "archive", "ok"},
		{"renames are safe", "", dir, "renames", "ok"},
		{"ExifTool is missing", filepath.Join(dir, "none"), "", "ExifTool", "fail"},
		{"ExifTool reads wrongly", strings.TrimSpace(wrong), "", "ExifTool", "fail"},
		{"archive is missing", "", filepath.Join(dir, "none"), "archive", "fail"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var r archive.Root
			if tc.dir != "" {
				r = root(t, tc.dir)
			}
			found := runtime.Doctor(t.Context(), tc.program, r)
			if got := states(found)[tc.check]; got != tc.want {
				t.Errorf("%s = %q, want %q: %+v", tc.check, got, tc.want, found)
			}
		})
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("the doctor left %v in the archive, %v", left, err)
	}
}
