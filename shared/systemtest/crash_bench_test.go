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

// BenchmarkCrashToRunningAgain kills a worker that holds segments, and measures for each of them the time until it is
// dispatched again (its next attempt exists), until another worker holds it, and how many others of its batch were started
// between the two: none or few when it gets the next free slot. Run it with -benchtime 20x; times are in seconds.
func BenchmarkCrashToRunningAgain(b *testing.B) {
	f := newFleet(b, programs)
	sparse(b, f.archive.Path(), 1500) // a segment each, of about a second
	f.start("steady")
	command := f.spawn(f.bin.reshelf, "--redis", f.redis.URL(), "--ledger", f.ledger.String(), "inspect", f.archive.String(),
		"--metadata", "none", "--digests", "sha256")
	f.wait(20*time.Second, "the batch", func() bool { command.alive(b); return f.newest() != "" })
	id := f.newest()
	time.Sleep(16 * time.Second) // nobody is judged before Redis was seen to be steady for 15 s
	var all []crash
	for i := 0; b.Loop(); i++ {
		crashes := f.crash(id, fmt.Sprintf("victim%d", i))
		b.Logf("killed %d: %v", i, crashes)
		all = append(all, crashes...)
	}
	report(b, all, "again", func(c crash) time.Duration { return c.again })
	report(b, all, "running", func(c crash) time.Duration { return c.running })
	overtaken := slices.MaxFunc(all, func(x, y crash) int { return x.overtaken - y.overtaken })
	b.ReportMetric(float64(overtaken.overtaken), "overtaken-max")
	b.ReportMetric(float64(len(all)), "segments")
	_ = command.cmd.Process.Kill()
	<-command.done
}

// crash is what became of one segment whose worker was killed.
type crash struct {
	again, running time.Duration // since the kill
	overtaken      int           // by so many that were claimed after it had been dispatched again
}

// crash starts a worker, kills it when it holds segments, and follows them until others hold them.
func (f *fleet) crash(id batch.ID, victim string) []crash {
	f.t.Helper()
	var lost []ledger.WindowEntry
	for len(lost) == 0 { // it may have settled what it held right before it was killed
		f.start(victim)
		f.wait(time.Minute, "the victim to hold a segment", func() bool { return len(f.held(id, victim)) > 0 })
		f.kill(victim)
		lost = f.held(id, victim)
	}
	killed := time.Now()
	out := make([]crash, len(lost))
	begun := map[int64]time.Duration{} // epoch of each claim of another segment, and when it was seen
	f.wait(2*time.Minute, "others to hold its segments", func() bool {
		p, err := f.flow.Live().Progress(f.ctx(), id)
		f.must(err)
		at, open := time.Since(killed), 0
		same := func(a, b ledger.WindowEntry) bool { return a.Step == b.Step && a.Segment == b.Segment }
		for _, e := range p.Window {
			isLost := slices.ContainsFunc(lost, func(l ledger.WindowEntry) bool { return same(e, l) })
			if _, seen := begun[e.Epoch]; !seen && e.State == "c" && !isLost {
				begun[e.Epoch] = at
			}
		}
		for i, l := range lost {
			j := slices.IndexFunc(p.Window, func(e ledger.WindowEntry) bool { return same(e, l) })
			if c := &out[i]; j >= 0 && c.running == 0 {
				c.see(p.Window[j], l, at, begun)
			}
			if out[i].running == 0 {
				open++
			}
		}
		return open == 0
	})
	return out
}

// see takes note of what the segment that was lost is like now.
func (c *crash) see(now, lost ledger.WindowEntry, at time.Duration, begun map[int64]time.Duration) {
	if c.again == 0 && now.Attempt > lost.Attempt {
		c.again = at
	}
	if c.again == 0 || now.State != "c" {
		return
	}
	c.running = at
	for epoch, seen := range begun {
		if seen > c.again && epoch < now.Epoch {
			c.overtaken++
		}
	}
}

func report(b *testing.B, all []crash, name string, of func(crash) time.Duration) {
	b.Helper()
	var took []time.Duration
	for _, c := range all {
		took = append(took, of(c))
	}
	slices.Sort(took)
	b.ReportMetric(took[len(took)/2].Seconds(), name+"-median-s")
	b.ReportMetric(took[len(took)-1].Seconds(), name+"-max-s")
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

// held are the segments of the inspect step that a worker has claimed.
func (f *fleet) held(id batch.ID, worker string) (out []ledger.WindowEntry) {
	f.t.Helper()
	p, err := f.flow.Live().Progress(f.ctx(), id)
	f.must(err)
	for _, e := range p.Window {
		if e.Step == batch.StepInspect && e.State == "c" && e.Worker == worker {
			out = append(out, e)
		}
	}
	return out
}
