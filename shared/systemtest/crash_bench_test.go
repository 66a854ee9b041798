package systemtest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/ledger"
)

// BenchmarkCrashToRunningAgain kills a worker that holds a segment, and measures the time until another worker holds that
// segment. Run it with -benchtime 20x; it reports the median and the maximum, in seconds.
func BenchmarkCrashToRunningAgain(b *testing.B) {
	f := newFleet(b, programs)
	sparse(b, f.archive, 1500) // a segment each, of about a second
	f.start("steady")
	command := f.spawn(f.bin.reshelf, "--redis", f.redis.URL(), "--ledger", "file://"+f.ledger, "inspect", f.archive,
		"--metadata", "none", "--digests", "sha256")
	f.wait(20*time.Second, "the batch", func() bool { command.alive(b); return f.newest() != "" })
	id := f.newest()
	var took []time.Duration
	for b.Loop() {
		victim := fmt.Sprintf("victim%d", len(took))
		f.start(victim)
		var lost ledger.WindowEntry
		f.wait(time.Minute, "the victim to hold a segment", func() bool {
			lost = f.held(id, func(e ledger.WindowEntry) bool { return e.Worker == victim })
			return lost.Worker != ""
		})
		f.kill(victim)
		killed := time.Now()
		f.wait(time.Minute, "another worker to hold it", func() bool {
			return f.held(id, func(e ledger.WindowEntry) bool { return e.Segment == lost.Segment && e.Worker != victim }).Worker != ""
		})
		took = append(took, time.Since(killed))
	}
	slices.Sort(took)
	b.ReportMetric(took[len(took)/2].Seconds(), "median-s")
	b.ReportMetric(took[len(took)-1].Seconds(), "max-s")
	_ = command.cmd.Process.Kill()
	<-command.done
}

// sparse makes n files of 1 GiB that take no room.
func sparse(tb testing.TB, dir string, n int) {
	tb.Helper()
	for i := range n {
		name := filepath.Join(dir, fmt.Sprintf("%05d.bin", i))
		if err := errors.Join(os.WriteFile(name, nil, 0o600), os.Truncate(name, 1<<30)); err != nil {
			tb.Fatal(err)
		}
	}
}

// held is the first claimed segment of the inspect step that fits; without worker if none does.
func (f *fleet) held(id batch.ID, fits func(ledger.WindowEntry) bool) ledger.WindowEntry {
	f.t.Helper()
	p, err := f.flow.Live().Progress(f.ctx(), id)
	f.must(err)
	for _, e := range p.Window {
		if e.Step == batch.StepInspect && e.State == "c" && fits(e) {
			return e
		}
	}
	return ledger.WindowEntry{}
}
