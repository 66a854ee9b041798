package runtime_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/digest"
	"github.com/reshelf/reshelf/shared/flow"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/queue/redistest"
	"github.com/reshelf/reshelf/shared/service"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/filestore"
	"github.com/reshelf/reshelf/shared/store/storeurl"
	"github.com/reshelf/reshelf/shared/telemetry"
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
		seen, _, err := live.Steady(f.ctx(), time.Minute)
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
		if model, _ := r.Tags.Text("XMP-tiff:Model"); r.Outcome != batch.Done || model != "Kodak" || r.ExifTool == "" {
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
	dir := t.TempDir()
	if home := filepath.Dir(real); !strings.HasPrefix(home, "/usr/") {
		// What is confined may only run what belongs to the stand-in.
		if err := os.CopyFS(filepath.Join(dir, "real"), os.DirFS(home)); err != nil {
			t.Fatal(err)
		}
		real = filepath.Join(dir, "real", "exiftool")
	}
	path := filepath.Join(dir, "exiftool")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\nexec "+real+" \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// slowStart is a line of shell that leaves time to find an ExifTool that is starting: it is confined, so that it could tell
// nobody itself.
const slowStart = "sleep 1"

// onIsolation calls do, until the end of the test, once for each process that inspects an object alone and has its keeper, and
// returns how many there were.
func onIsolation(t *testing.T, do func(pid int)) (times func() int) {
	t.Helper()
	var count atomic.Int64
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		seen := map[int]bool{}
		for {
			for _, pid := range isolated() {
				if !seen[pid] {
					seen[pid] = true
					count.Add(1)
					do(pid)
				}
			}
			select {
			case <-done:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
	t.Cleanup(func() { close(done); <-ended })
	return func() int { return int(count.Load()) }
}

// isolated are the processes that inspect an object alone for this one and have their keeper.
func isolated() (pids []int) {
	keepers, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, name := range keepers {
		command, _ := os.ReadFile(name)
		if !strings.Contains(string(command), "reshelf-keeper") {
			continue
		}
		parent := parentOf(filepath.Base(filepath.Dir(name)))
		command, _ = os.ReadFile("/proc/" + parent + "/cmdline")
		if strings.HasPrefix(string(command), "reshelf-isolate") && parentOf(parent) == strconv.Itoa(os.Getpid()) {
			pid, _ := strconv.Atoi(parent)
			pids = append(pids, pid)
		}
	}
	return pids
}

// parentOf is from proc_pid_stat(5); "" for a process that is gone.
func parentOf(pid string) string {
	text, _ := os.ReadFile("/proc/" + pid + "/stat")
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 2 {
		return ""
	}
	return fields[1]
}

// The registry names the version of ExifTool, and goes on to where no ExifTool runs any more.
func TestTheRegistryNamesExifTool(t *testing.T) {
	f := newFleet(t)
	f.work("", func(s batch.Status) bool {
		workers, err := f.flow.Live().Workers(f.ctx())
		f.must(err)
		return s.State.Over() && len(workers) == 1 && workers[0].ExifToolVersion != ""
	})
	version := ""
	for _, r := range f.records() {
		version = r.ExifTool
	}
	if version == "" {
		t.Error("no record names the version of ExifTool")
	}
}

func TestASuspectIsInspectedAlone(t *testing.T) {
	f := newFleet(t)
	f.died(false, 1)
	times := onIsolation(t, func(int) {})
	f.work(standIn(t, slowStart), over)
	f.wantDone("a.xmp", "b.xmp", "c.xmp")
	if n := times(); n != 1 {
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
			times := onIsolation(t, func(pid int) { _ = syscall.Kill(pid, syscall.SIGKILL) })
			f.work(standIn(t, slowStart), over)
			f.wantDone("a.xmp", "c.xmp")
			if r := f.records()["b.xmp"]; r.Outcome != batch.Failed || r.Reason != batch.ReasonKilled {
				t.Errorf("record of b.xmp = %+v, want it failed, %s", r, batch.ReasonKilled)
			}
			if n := times(); n != tc.kills {
				t.Errorf("killed %d times, want %d", n, tc.kills)
			}
		})
	}
}

// An archive that goes away while an object is inspected alone is not the object's fault.
func TestAnArchiveThatGoesAwayBlamesNobody(t *testing.T) {
	f := newFleet(t)
	f.died(false, 0, 1, 2) // the first moves the archive away while it is inspected, so the second cannot open it
	move := sync.OnceFunc(func() { _ = os.Rename(f.dir, f.dir+".away") })
	times := onIsolation(t, func(int) { move() })
	f.work(standIn(t, slowStart), func(s batch.Status) bool { return s.Paused || s.State.Over() })
	s, err := f.ledger.Status(f.ctx(), f.batch)
	f.must(err)
	if !s.Paused {
		t.Fatalf("batch is %s with %+v, want it paused", s, f.records())
	}
	if n := times(); n != 1 {
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

// crowded is a ledger's store that may be full.
type crowded struct {
	store.Store
	full bool
}

func (c *crowded) Create(ctx context.Context, key archive.Key, body io.Reader) error {
	if c.full {
		return fmt.Errorf("create %s: %w", key.Text(), store.ErrNoSpace)
	}
	return c.Store.Create(ctx, key, body)
}

func TestAFullLedgerIsUnwell(t *testing.T) {
	f := newFleet(t)
	disk := &crowded{Store: f.ledger.Store()}
	w, err := runtime.New(runtime.Options{
		Redis: f.redis.Client(), Ledger: ledger.New(disk), Roots: []archive.Root{f.batch.Archive}, Slots: 1, Scratch: t.TempDir(), Log: f.log,
	})
	f.must(err)
	checks := w.Checks()
	i := slices.IndexFunc(checks, func(c telemetry.Check) bool { return c.Name == "ledger" })
	for _, full := range []bool{false, true, false} {
		disk.full = full
		if err := checks[i].Probe(f.ctx()); errors.Is(err, store.ErrNoSpace) != full || !full && err != nil {
			t.Errorf("full %v: the check says %v", full, err)
		}
	}
	for e, err := range disk.List(f.ctx(), store.ListOptions{Prefix: "probe"}) {
		t.Errorf("the check left %s, %v", e.Key.Text(), err)
	}
}

func preview(t *testing.T, program, dir string, keys ...archive.Key) ([]batch.Record, error) {
	t.Helper()
	var out []batch.Record
	for r, err := range runtime.Preview(t.Context(), storeurl.New(""), program, root(t, dir), keys, batch.LevelNormal, digest.DefaultSet()) {
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
		for range runtime.Preview(t.Context(), storeurl.New(""), "", root(t, dir), []archive.Key{"a.xmp", "a.xmp"}, batch.LevelNormal, 0) {
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
		for r, err := range runtime.Preview(ctx, storeurl.New(""), "", root(t, dir), []archive.Key{"a.xmp"}, batch.LevelNormal, 0) {
			if !errors.Is(err, context.Canceled) && r.Outcome != batch.Failed {
				t.Errorf("preview = %+v, %v; want context.Canceled", r, err)
			}
		}
	})
}

// confined is the state that the doctor should find on this kernel: see landlock_create_ruleset(2).
func confined() string {
	const askVersion = 1
	if version, _, err := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, askVersion); err != 0 || version < 6 {
		return "warn"
	}
	return "ok"
}

// exchanges is what the doctor says of a file system on which names can be exchanged, or cannot.
func exchanges(t *testing.T, dir string) string {
	t.Helper()
	st, err := filestore.Open(dir, filestore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	if st.Properties().Exchange {
		return "ok"
	}
	return "warn"
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
		{"names in use", "", dir, "names in use", exchanges(t, dir)},
		{"ExifTool is confined", "", "", "confinement", confined()},
		{"ExifTool is missing", filepath.Join(dir, "none"), "", "ExifTool", "fail"},
		{"ExifTool reads wrongly", strings.TrimSpace(wrong), "", "ExifTool", "fail"},
		{"archive is missing", "", filepath.Join(dir, "none"), "archive", "fail"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var r archive.Root
			if tc.dir != "" {
				r = root(t, tc.dir)
			}
			found := runtime.Doctor(t.Context(), storeurl.New(""), tc.program, r)
			if got := states(found)[tc.check]; got != tc.want {
				t.Errorf("%s = %q, want %q: %+v", tc.check, got, tc.want, found)
			}
		})
	}
	t.Run("no folder for temporary files", func(t *testing.T) {
		t.Setenv("TMPDIR", filepath.Join(dir, "none"))
		found := runtime.Doctor(t.Context(), storeurl.New(""), "", archive.Root{})
		if got := states(found); got["temporary files"] != "fail" || got["ExifTool"] != "" {
			t.Errorf("got %+v, want no word against ExifTool", found)
		}
	})
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("the doctor left %v in the archive, %v", left, err)
	}
}
