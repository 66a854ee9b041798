package exiftool_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/worker/internal/exiftool"
)

// chaosFiles is how many files a chaos test reads: RESHELF_CHAOS, such as 20000, or a few hundred. By hand the machine is
// taken to have nothing else to do.
func chaosFiles(t *testing.T) (n int, byHand bool) {
	t.Helper()
	said := os.Getenv("RESHELF_CHAOS")
	if said == "" {
		return 600, false
	}
	n, err := strconv.Atoi(said)
	if err != nil {
		t.Fatal(err)
	}
	return n, true
}

// expected is a file and what must become of it.
type expected struct {
	path, title string
	faults      []batch.Reason // those that it may end with; none is none
}

// Keepers and ExifTools that are killed and stopped cost no file its tags.
func TestChaosSignals(t *testing.T) {
	dir := t.TempDir()
	count, _ := chaosFiles(t)
	var files []expected
	for n := range count {
		title := fmt.Sprint("file ", n)
		files = append(files, expected{path: photo(t, filepath.Join(dir, fmt.Sprint(n, ".jpg")), "dc:title", title), title: title})
	}
	chaos(t, exiftool.Options{MaxFiles: 40, Deadline: patient}, files)
}

// An ExifTool that misbehaves in every way, with signals on top, costs only the files over which it does.
func TestChaosStandIn(t *testing.T) {
	const hopeless = "x" // the content of files that are never answered for; its length tells them from all others
	crashed := []batch.Reason{batch.ReasonCrashed}
	late := []batch.Reason{batch.ReasonTimeout, batch.ReasonCrashed} // crashed where a signal hits the second try
	tooLarge, unreadable := []batch.Reason{batch.ReasonTooLarge}, []batch.Reason{batch.ReasonUnreadable}
	ways := []struct {
		ext, content string
		faults       []batch.Reason
	}{
		{"garbage", "bad", crashed}, {"half", "bad", crashed}, {"halfready", "bad", crashed}, {"die", "bad", crashed},
		{"outofmemory", "bad", crashed}, {"other", "bad", crashed}, {"empty", "bad", crashed}, {"two", "bad", crashed},
		{"nothing", "bad", unreadable}, {"huge", "bad", tooLarge}, {"large", "bad", tooLarge},
		{"hang", hopeless, late}, {"shifted", hopeless, late}, {"shout", hopeless, late},
	}
	dir := t.TempDir()
	count, _ := chaosFiles(t)
	var files []expected
	for n := range count {
		if n%15 == 0 {
			way := ways[n/15%len(ways)]
			files = append(files, expected{path: write(t, filepath.Join(dir, fmt.Sprint(n, ".", way.ext)), way.content), faults: way.faults})
			continue
		}
		title := fmt.Sprint("file ", n)
		files = append(files, expected{path: write(t, filepath.Join(dir, fmt.Sprint(n, ".good")), title), title: title})
	}
	deadline := func(size int64, level batch.Level) time.Duration {
		if size == int64(len(hopeless)) {
			return 100 * time.Millisecond
		}
		return patient(size, level)
	}
	chaos(t, exiftool.Options{Binary: newStandIn(t), MaxFiles: 40, MaxAnswer: 1 << 20, Deadline: deadline}, files)
}

// allRead is a reader's count once it has nothing more to read.
const allRead = math.MaxInt64

// chaos reads files in random order while processes get signals, and checks every result and that nothing is left.
func chaos(t *testing.T, o exiftool.Options, files []expected) {
	t.Helper()
	goroutines, descriptors := runtime.NumGoroutine(), countDescriptors(t)
	o.Processes, o.StartLimit, o.Scratch = 3, 20*time.Second, t.TempDir()
	p, err := exiftool.NewPool(o)
	if err != nil {
		t.Fatal(err)
	}
	open.Add(1)
	start := time.Now()
	rand.Shuffle(len(files), func(i, j int) { files[i], files[j] = files[j], files[i] })
	var next atomic.Int64
	readers := make([]atomic.Int64, 2*o.Processes) // files that each has read; two share an ExifTool
	done := make(chan struct{})
	var wg sync.WaitGroup
	for n := range readers {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(files)) && !t.Failed(); i = next.Add(1) - 1 {
				readExpected(t, p, files[i])
				readers[n].Add(1)
			}
			readers[n].Store(allRead)
		})
	}
	go func() { wg.Wait(); close(done) }()
	signals, slowest := hit(t, readers, done)
	<-done
	t.Logf("%d files in %v; signals: %v; slowest recovery: %v", len(files), time.Since(start).Round(time.Millisecond), signals, slowest)
	limit := 10 * time.Second // other tests keep this machine busy
	if _, byHand := chaosFiles(t); byHand {
		limit = 2 * time.Second
	}
	if slowest > limit {
		t.Errorf("reading was back %v after a signal, want at most %v", slowest, limit)
	}
	closePool(t, p, o.Scratch)
	until(t, "as many goroutines as before", func() bool { return runtime.NumGoroutine() <= goroutines })
	runtime.GC() // go-exiftool leaves closing its files to the collector in some paths
	until(t, "as many descriptors as before", func() bool { return countDescriptors(t) <= descriptors })
}

func readExpected(t *testing.T, p *exiftool.Pool, want expected) {
	r, err := tryRead(t.Context(), p, batch.LevelNormal, want.path)
	switch {
	case err != nil:
		t.Errorf("%s: %v", want.path, err)
	case want.faults == nil && (r.Fault != "" || text(r.Tags, "XMP-dc:Title") != want.title):
		t.Errorf("%s: got title %q, fault %q (%s), want title %q", want.path, text(r.Tags, "XMP-dc:Title"), r.Fault, r.FaultMessage, want.title)
	case want.faults != nil && (!slices.Contains(want.faults, r.Fault) || len(r.Tags) > 0):
		t.Errorf("%s: got fault %q (%s), want one of %q", want.path, r.Fault, r.FaultMessage, want.faults)
	}
}

// hit sends signals until done. Several in a row would be enough to blame a file, so after each every reader first finishes
// the file that it is at and another one. It returns what was sent, and the longest time that took.
func hit(t *testing.T, readers []atomic.Int64, done <-chan struct{}) (sent map[string]int, slowest time.Duration) {
	sent = make(map[string]int)
	for {
		select {
		case <-done:
			return sent, slowest
		case <-time.After(time.Duration(rand.IntN(20)) * time.Millisecond):
		}
		keepers, tools := family(t)
		victims, what := keepers, "keeper"
		if rand.IntN(2) == 0 {
			victims, what = tools, "exiftool"
		}
		if len(victims) == 0 {
			continue
		}
		signal := syscall.SIGKILL
		if rand.IntN(3) == 0 {
			signal = syscall.SIGSTOP
		}
		before := make([]int64, len(readers))
		for n := range readers {
			before[n] = readers[n].Load()
		}
		start := time.Now()
		if err := syscall.Kill(victims[rand.IntN(len(victims))], signal); errors.Is(err, syscall.ESRCH) {
			continue
		} else if err != nil {
			t.Errorf("signal: %v", err)
			return sent, slowest
		}
		sent[what+" "+signal.String()]++
		for n := range readers {
			for before[n] != allRead && readers[n].Load() < before[n]+2 {
				time.Sleep(time.Millisecond)
			}
		}
		slowest = max(slowest, time.Since(start).Round(time.Millisecond))
	}
}

// family are the keepers of this process, and their ExifTools: those that come up included.
func family(t *testing.T) (keepers, tools []int) {
	t.Helper()
	names, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	sessions := make(map[int]int)
	for _, name := range names {
		pid, err := strconv.Atoi(filepath.Base(name))
		if err != nil {
			t.Fatal(err)
		}
		parent, _, ok := procStat(strconv.Itoa(pid))
		session, err := unix.Getsid(pid)
		switch {
		case !ok || err != nil:
		case parent == os.Getpid() && session == pid:
			keepers = append(keepers, pid)
		default:
			sessions[pid] = session
		}
	}
	for pid, session := range sessions {
		if slices.Contains(keepers, session) {
			tools = append(tools, pid)
		}
	}
	return keepers, tools
}
