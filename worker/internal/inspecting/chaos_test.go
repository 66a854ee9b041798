package inspecting_test

import (
	"context"
	"fmt"
	"hash/crc32"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/digest"
	"github.com/reshelf/reshelf/shared/store/filestore"
	"github.com/reshelf/reshelf/worker/internal/exiftool"
	"github.com/reshelf/reshelf/worker/internal/inspecting"
)

// While keepers and ExifTools are killed and stopped, every object gets its own record, as if nothing had been. The chaos tests
// of package exiftool do worse.
func TestRecordsInChaos(t *testing.T) {
	pool, err := exiftool.NewPool(exiftool.Options{Processes: 2, Scratch: t.TempDir(), MaxFiles: 40})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pool.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	f := &fixture{dir: t.TempDir(), inspector: inspecting.New(pool, inspecting.Options{})}
	st, err := filestore.Open(f.dir, filestore.Options{})
	must(t, err)
	t.Cleanup(func() { _ = st.Close() })
	f.store, f.batch = st, batch.Batch{Digests: digest.DefaultSet(), Level: batch.LevelNormal}
	var objects []batch.Listed
	for n := range 200 {
		objects = append(objects, f.write(t, fmt.Sprint(n, ".xmp"), packet(n)))
	}

	var next atomic.Int64
	const allRead = math.MaxInt64
	var read [2]atomic.Int64 // objects that each reader has finished
	var wg sync.WaitGroup
	for reader := range read {
		wg.Go(func() {
			defer read[reader].Store(allRead)
			for n := next.Add(1) - 1; n < int64(len(objects)); n = next.Add(1) - 1 {
				r, err := f.inspector.Inspect(t.Context(), f.store, f.batch, objects[n], func(int64) {})
				if err != nil {
					t.Errorf("Inspect: %v", err)
				}
				wantOwnRecord(t, r, int(n), objects[n])
				read[reader].Add(1)
			}
		})
	}
	sent := 0
	for next.Load() < int64(len(objects)) {
		before := [...]int64{read[0].Load(), read[1].Load()}
		if !disturb(t, pool) {
			time.Sleep(time.Millisecond)
			continue
		}
		sent++
		for reader := range read { // two signals over one object could be taken for its fault
			for before[reader] != allRead && read[reader].Load() < before[reader]+2 {
				time.Sleep(time.Millisecond)
			}
		}
	}
	wg.Wait()
	t.Logf("%d records, %d signals", len(objects), sent)
}

func packet(n int) string {
	return fmt.Sprintf(`<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'>`+
		`<rdf:Description rdf:about='' xmlns:tiff='http://ns.adobe.com/tiff/1.0/' tiff:Model='model %d'/></rdf:RDF></x:xmpmeta>`, n)
}

func wantOwnRecord(t *testing.T, r batch.Record, n int, o batch.Listed) {
	t.Helper()
	model, _ := r.Tags.Text("XMP-tiff:Model")
	if r.Outcome != batch.Done || r.Object != o.Object || model != fmt.Sprint("model ", n) || r.ExifTool == "" || len(r.Digests) != 2 {
		t.Errorf("record of %s: got %+v", o.Key, r)
		return
	}
	if got, want := r.Digests[0].Hex(), fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(packet(n)))); got != want {
		t.Errorf("crc32 of %s: got %s, want %s", o.Key, got, want)
	}
}

// disturb kills or stops one of the pool's processes, if it finds one.
func disturb(t *testing.T, pool *exiftool.Pool) bool {
	t.Helper()
	running := pool.Status().Processes
	if len(running) == 0 {
		return false
	}
	one := running[rand.IntN(len(running))]
	pid, signal := one.Keeper, syscall.SIGKILL
	if rand.IntN(2) == 0 {
		pid = one.ExifTool
	}
	if rand.IntN(4) == 0 {
		signal = syscall.SIGSTOP
	}
	if session, err := unix.Getsid(pid); err != nil || session != one.Keeper {
		return false // it has ended
	}
	return syscall.Kill(pid, signal) == nil
}
