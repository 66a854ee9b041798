package finishing_test

import (
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/metadata"
	"github.com/reshelf/reshelf/shared/store/filestore"
	"github.com/reshelf/reshelf/worker/internal/finishing"
)

// onDisk moves the fixture's ledger to a directory, so that what is stored takes no memory.
func (f *fixture) onDisk() {
	st, err := filestore.Open(filepath.Join(f.t.TempDir(), "ledger"), filestore.Options{Ledger: true})
	check(f.t, err)
	f.t.Cleanup(func() { check(f.t, st.Close()) })
	f.led = ledger.New(st)
}

// fatRecords is an inspect batch with records of about 16 KiB.
func fatRecords(t testing.TB, segments, per int) *fixture {
	f := newFixture(t, batch.Inspect)
	f.onDisk()
	tag := []byte(`"` + strings.Repeat("x", 16<<10) + `"`)
	for n := range segments {
		objects, records := make([]batch.Listed, per), make([]batch.Record, per)
		for i := range per {
			key := numbered(n*per + i)
			objects[i] = batch.Listed{Object: object(key, 100)}
			records[i] = done(t, key, 100, byte(i))
			records[i].Tags = metadata.Tags{"XMP-dc:Description": tag}
		}
		f.segment(n, objects...)
		f.part(batch.StepInspect, n, records...)
	}
	f.seal(batch.StepInspect, segments)
	return f
}

// heapWatch notes the highest live heap at signs of progress.
type heapWatch struct {
	hold
	peak atomic.Uint64
}

func (h *heapWatch) Advance(objects, bytes int64) {
	h.hold.Advance(objects, bytes)
	runtime.GC()
	runtime.GC() // pools give up what they hold at the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	h.peak.Store(max(h.peak.Load(), m.HeapAlloc))
}

// TestMemoryIsBounded finishes a batch whose records are half as much again as the bound. Most of the bound is what zstd
// takes for the catalogue.
func TestMemoryIsBounded(t *testing.T) {
	const segments, bound = 144, 48 << 20
	f, h := fatRecords(t, segments, 32), &heapWatch{}
	check(t, f.finishOn(f.led, h))
	peak := h.peak.Load()
	t.Logf("live heap: %d KiB", peak>>10)
	if peak == 0 || peak > bound {
		t.Errorf("live heap of %d bytes, want at most %d", peak, bound)
	}
}

func BenchmarkFinish(b *testing.B) {
	const segments, per = 20, 1000
	f := newFixture(b, batch.Inspect)
	f.onDisk()
	for n := range segments {
		objects, records := make([]batch.Listed, per), make([]batch.Record, per)
		for i := range per {
			key := numbered(n*per + i)
			objects[i], records[i] = batch.Listed{Object: object(key, 100)}, done(b, key, 100, byte(i))
		}
		f.segment(n, objects...)
		f.part(batch.StepInspect, n, records...)
	}
	f.seal(batch.StepInspect, segments)
	b.ReportAllocs()
	objects := 0
	for b.Loop() {
		check(b, finishing.Finish(b.Context(), &hold{}, f.led, f.batch, f.status, finished))
		objects += segments * per
		b.StopTimer()
		f.removeReport()
		b.StartTimer()
	}
	b.ReportMetric(float64(objects)/b.Elapsed().Seconds(), "objects/s")
}
