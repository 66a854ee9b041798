package finishing_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/report"
	"github.com/reshelf/reshelf/shared/store"
)

var errCrash = errors.New("crash")

// dying is a store whose process dies at its nth change: that change and everything after it fail, so nothing is cleaned
// up either. With after set the last change is made, and only its answer is lost.
type dying struct {
	store.Store
	left  atomic.Int64
	after bool
}

func (d *dying) dead() bool { return d.left.Load() <= 0 }

func (d *dying) change(do func() error) error {
	n := d.left.Add(-1)
	if n > 0 || n == 0 && d.after {
		if err := do(); err != nil || n > 0 {
			return err
		}
	}
	return errCrash
}

func (d *dying) Create(ctx context.Context, key archive.Key, body io.Reader) error {
	return d.change(func() error { return d.Store.Create(ctx, key, body) })
}

func (d *dying) Replace(ctx context.Context, key archive.Key, body io.Reader) error {
	return d.change(func() error { return d.Store.Replace(ctx, key, body) })
}

func (d *dying) Delete(ctx context.Context, key archive.Key, want archive.Identity) error {
	return d.change(func() error { return d.Store.Delete(ctx, key, want) })
}

func (d *dying) Open(ctx context.Context, key archive.Key, offset, length int64, want archive.Identity) (*store.Content, error) {
	if d.dead() {
		return nil, errCrash
	}
	return d.Store.Open(ctx, key, offset, length, want)
}

func (d *dying) List(ctx context.Context, opts store.ListOptions) iter.Seq2[store.Entry, error] {
	if d.dead() {
		return func(yield func(store.Entry, error) bool) { yield(store.Entry{}, errCrash) }
	}
	return d.Store.List(ctx, opts)
}

// TestCrashAnywhere kills an execution at each change of the store, several times over the same ledger, and then lets one
// live: its report must be the one of a batch that was never interrupted, with nothing left over.
func TestCrashAnywhere(t *testing.T) {
	whole, _ := manyRecords(t, 3, 200)
	check(t, whole.finish())
	want := whole.result()
	for _, after := range []bool{false, true} {
		f, _ := manyRecords(t, 3, 200)
		crashes := 0
		for n := int64(1); ; n++ {
			d := &dying{Store: f.led.Store(), after: after}
			d.left.Store(n)
			err := f.finishOn(ledger.New(d), &hold{})
			if err == nil && !d.dead() {
				break
			}
			crashes++
		}
		if crashes < 6 {
			t.Errorf("%d crashes; this test tests little", crashes)
		}
		check(t, f.finish()) // by now it only deletes what the others left
		sameResult(t, want, f.result())
	}
}

func sameResult(t *testing.T, want, got result) {
	t.Helper()
	for i := range got.summary.Files {
		got.summary.Files[i].Key = want.summary.Files[i].Key // the folder differs
	}
	opts := cmp.Options{cmp.AllowUnexported(result{}), cmp.Comparer(func(a, b archive.Root) bool { return a == b })}
	if diff := cmp.Diff(want.summary, got.summary, opts); diff != "" {
		t.Errorf("summary (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want.ends(), got.ends()); diff != "" {
		t.Errorf("final records (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want.rows, got.rows); diff != "" {
		t.Errorf("catalogue (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want.text, got.text); diff != "" {
		t.Errorf("tables (-want +got):\n%s", diff)
	}
}

// meeting holds each creation of a summary until so many executions have come that far.
type meeting struct {
	store.Store
	all sync.WaitGroup
}

func (m *meeting) Create(ctx context.Context, key archive.Key, body io.Reader) error {
	if key == ledger.Key(id, "report", report.SummaryName) {
		m.all.Done()
		m.all.Wait()
	}
	return m.Store.Create(ctx, key, body)
}

func TestTwins(t *testing.T) {
	whole, _ := manyRecords(t, 3, 200)
	check(t, whole.finish())
	f, _ := manyRecords(t, 3, 200)
	m := &meeting{Store: f.led.Store()}
	const twins = 3
	m.all.Add(twins)
	errs := make([]error, twins)
	var running sync.WaitGroup
	for i := range twins {
		running.Go(func() { errs[i] = f.finishOn(ledger.New(m), &hold{}) })
	}
	running.Wait()
	for i, err := range errs {
		if err != nil {
			t.Errorf("twin %d: %v", i, err)
		}
	}
	sameResult(t, whole.result(), f.result())
}

// overtaken runs a twin before the first creation that it is told of.
type overtaken struct {
	store.Store
	once   sync.Once
	before func(archive.Key) bool
	twin   func()
}

func (o *overtaken) Create(ctx context.Context, key archive.Key, body io.Reader) error {
	if o.before(key) {
		o.once.Do(o.twin)
	}
	return o.Store.Create(ctx, key, body)
}

// TestTwinOvertakes lets a second execution make the report while the first is on its way; it deletes the first one's
// files, and its report stands.
func TestTwinOvertakes(t *testing.T) {
	summary := ledger.Key(id, "report", report.SummaryName)
	for name, before := range map[string]func(archive.Key) bool{
		"at the duplicates": func(k archive.Key) bool { return k.Base() == report.DuplicatesName },
		"at the summary":    func(k archive.Key) bool { return k == summary },
	} {
		t.Run(name, func(t *testing.T) {
			f, _ := manyRecords(t, 3, 200)
			var twins []byte
			slow := &overtaken{Store: f.led.Store(), before: before, twin: func() {
				check(t, f.finish())
				twins = f.read(summary)
			}}
			check(t, f.finishOn(ledger.New(slow), &hold{}))
			f.result()
			if got := f.read(summary); twins == nil || !bytes.Equal(got, twins) {
				t.Errorf("summary is not the twin's:\n%s\nwant\n%s", got, twins)
			}
		})
	}
}

// TestLitterIsSwept has files of an execution that died; who makes the report deletes them.
func TestLitterIsSwept(t *testing.T) {
	f, _ := manyRecords(t, 3, 200)
	for n := range int64(5) {
		d := &dying{Store: f.led.Store()}
		d.left.Store(n + 2)
		if err := f.finishOn(ledger.New(d), &hold{}); !errors.Is(err, errCrash) {
			t.Fatalf("got %v, want a crash", err)
		}
	}
	check(t, f.finish())
	f.result()
}

// frozen is a store that nobody may change any more once the claim is lost.
type frozen struct {
	store.Store
	t       *testing.T
	hold    *hold
	running *atomic.Int64 // creations
}

func (s frozen) note(err error) error {
	if err == nil && s.hold.lost.Load() {
		s.t.Error("the store was changed after the claim was lost")
	}
	return err
}

func (s frozen) Create(ctx context.Context, key archive.Key, body io.Reader) error {
	s.running.Add(1)
	defer s.running.Add(-1)
	err := s.Store.Create(ctx, key, body)
	for range 1000 {
		runtime.Gosched() // who does not wait for the end of a creation is overtaken here
	}
	return s.note(err)
}

func (s frozen) Replace(ctx context.Context, key archive.Key, body io.Reader) error {
	return s.note(s.Store.Replace(ctx, key, body))
}

func (s frozen) Delete(ctx context.Context, key archive.Key, want archive.Identity) error {
	return s.note(s.Store.Delete(ctx, key, want))
}

func TestLostClaim(t *testing.T) {
	f, _ := manyRecords(t, 3, 200)
	for n := int64(1); ; n++ {
		h, running := &hold{lostAfter: n}, new(atomic.Int64)
		err := f.finishOn(ledger.New(frozen{f.led.Store(), t, h, running}), h)
		if left := running.Load(); left > 0 {
			t.Fatalf("claim lost after %d questions: %d creations still run after the end", n, left)
		}
		if err == nil && !h.lost.Load() {
			break
		}
		if err != nil && !errors.Is(err, errLost) {
			t.Fatalf("claim lost after %d questions: got %v", n, err)
		}
	}
	check(t, f.finish())
	f.result()
}

func TestEndedContext(t *testing.T) {
	f, _ := manyRecords(t, 2, 10)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	f2 := *f
	f2.t = cancelledTB{t, ctx}
	if err := f2.finish(); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	f.nothingLeft()
}

// cancelledTB is a test whose context has ended.
type cancelledTB struct {
	testing.TB
	ctx context.Context
}

func (c cancelledTB) Context() context.Context { return c.ctx }

func TestRepeated(t *testing.T) {
	f := newFixture(t, batch.Inspect)
	f.segment(0, listed("a")...)
	f.part(batch.StepInspect, 0, done(t, "a", 100, 1))
	f.seal(batch.StepInspect, 1)
	check(t, f.finish())
	first := f.result()
	f.status.Cancelled = true // whatever is said later, the report stands
	check(t, f.finish())
	sameResult(t, first, f.result())
}
