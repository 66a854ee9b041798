package exiftool_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/worker/internal/exiftool"
)

func kill(t *testing.T, pid int, sig syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, sig); err != nil {
		t.Fatal(err)
	}
}

func TestSignalsBetweenFiles(t *testing.T) {
	tests := []struct {
		name   string
		victim func(exiftool.Process) int
		signal syscall.Signal
	}{
		{"exiftool killed", func(p exiftool.Process) int { return p.ExifTool }, syscall.SIGKILL},
		{"exiftool stopped", func(p exiftool.Process) int { return p.ExifTool }, syscall.SIGSTOP},
		{"keeper killed", func(p exiftool.Process) int { return p.Keeper }, syscall.SIGKILL},
		{"keeper stopped", func(p exiftool.Process) int { return p.Keeper }, syscall.SIGSTOP},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newPool(t, exiftool.Options{})
			path := photo(t, filepath.Join(t.TempDir(), "a.jpg"), "dc:title", "mine")
			for range 3 {
				if r := read(t, p, batch.LevelNormal, path); text(r.Tags, "XMP-dc:Title") != "mine" {
					t.Fatalf("title: got %q, fault %q (%s)", text(r.Tags, "XMP-dc:Title"), r.Fault, r.FaultMessage)
				}
				one := p.Status().Processes[0]
				kill(t, tt.victim(one), tt.signal)
				if tt.signal == syscall.SIGKILL {
					until(t, "the end of exiftool", func() bool { return !alive(one.ExifTool) })
				}
			}
		})
	}
}

// A keeper killed, or stopped for good, in the middle of a call: the call ends long before its deadline, the file is read on
// another keeper, and neither goroutines nor descriptors are left behind.
func TestKeeperLostDuringCall(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGSTOP} {
		t.Run(signal.String(), func(t *testing.T) {
			const times = 3
			dir := t.TempDir()
			good := write(t, filepath.Join(dir, "a.good"), "good")
			standIn := newStandIn(t)
			p := newPool(t, exiftool.Options{Binary: standIn, Deadline: never})
			read(t, p, batch.LevelNormal, good)
			goroutines, descriptors := runtime.NumGoroutine(), countDescriptors(t)+times // one for each token
			for range times {
				taken := arm(t, standIn)
				done := make(chan exiftool.Result, 1)
				go func() {
					r, err := tryRead(t.Context(), p, batch.LevelNormal, write(t, filepath.Join(dir, "a.hangonce"), "mine"))
					if err != nil {
						t.Errorf("Read: %v", err)
					}
					done <- r
				}()
				until(t, "exiftool at the file", taken)
				kill(t, p.Status().Processes[0].Keeper, signal)
				if r := <-done; text(r.Tags, "XMP-dc:Title") != "mine" {
					t.Errorf("title: got %q, fault %q (%s)", text(r.Tags, "XMP-dc:Title"), r.Fault, r.FaultMessage)
				}
			}
			until(t, "as many goroutines as before", func() bool { return runtime.NumGoroutine() <= goroutines })
			runtime.GC() // go-exiftool leaves closing its files to the collector in some paths
			until(t, "as many descriptors as before", func() bool { return countDescriptors(t) <= descriptors })
		})
	}
}

// A keeper that is lost before it has reported is given up soon, is nobody's fault, and leaves nothing behind.
func TestKeeperLostAtStart(t *testing.T) {
	for _, how := range []string{"killed", "stopped"} {
		t.Run(how, func(t *testing.T) {
			p := newPool(t, exiftool.Options{})
			path := photo(t, filepath.Join(t.TempDir(), "a.jpg"), "dc:title", "mine")
			t.Setenv(roleVariable, how)
			start := time.Now()
			if r, err := tryRead(t.Context(), p, batch.LevelNormal, path); !errors.Is(err, exiftool.ErrUnavailable) {
				t.Errorf("Read: got fault %q, %v, want ErrUnavailable", r.Fault, err)
			}
			if took := time.Since(start); took > 10*time.Second {
				t.Errorf("Read took %v, want a second for each of three keepers", took)
			}
			t.Setenv(roleVariable, "")
			if r := read(t, p, batch.LevelNormal, path); text(r.Tags, "XMP-dc:Title") != "mine" {
				t.Errorf("the next time: got %q, fault %q (%s)", text(r.Tags, "XMP-dc:Title"), r.Fault, r.FaultMessage)
			}
		})
	}
}

func countDescriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestCancelDuringCall(t *testing.T) {
	p := newPool(t, exiftool.Options{Binary: newStandIn(t)})
	dir := t.TempDir()
	good := write(t, filepath.Join(dir, "a.good"), "good")
	read(t, p, batch.LevelNormal, good)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err := tryRead(ctx, p, batch.LevelNormal, write(t, filepath.Join(dir, "a.hang"), "bad"))
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Read: got %v, want the context's error", err)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("Read took %v after its context had ended", took)
	}
	if r := read(t, p, batch.LevelNormal, good); text(r.Tags, "XMP-dc:Title") != "good" {
		t.Errorf("the next file: got %q, fault %q (%s)", text(r.Tags, "XMP-dc:Title"), r.Fault, r.FaultMessage)
	}
}

// Close ends calls that are under way when its context ends.
func TestCloseDuringCall(t *testing.T) {
	scratch := t.TempDir()
	standIn := newStandIn(t)
	p, err := exiftool.NewPool(exiftool.Options{Binary: standIn, Scratch: scratch, Processes: 1})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	read(t, p, batch.LevelNormal, write(t, filepath.Join(dir, "a.good"), "good"))
	taken := arm(t, standIn)
	done := make(chan error, 1)
	go func() {
		_, err := tryRead(context.WithoutCancel(t.Context()), p, batch.LevelNormal, write(t, filepath.Join(dir, "a.hangonce"), "bad"))
		done <- err
	}()
	until(t, "exiftool at the file", taken)
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	pids := processes(p)
	if err := p.Close(ctx); err != nil {
		t.Errorf("Close: %v", err)
	}
	if err := <-done; !errors.Is(err, exiftool.ErrClosed) {
		t.Errorf("Read: got %v, want ErrClosed", err)
	}
	for _, pid := range pids {
		if alive(pid) {
			t.Errorf("process %d is alive after Close", pid)
		}
	}
	if left := children(t); len(left) > 0 {
		t.Errorf("children after Close: %v", left)
	}
}

// A worker that gets SIGKILL leaves neither keepers nor ExifTools, whether they are idle or at work.
func TestWorkerKilled(t *testing.T) {
	for _, file := range []string{"a.good", "a.hang"} {
		t.Run(file, func(t *testing.T) {
			path := write(t, filepath.Join(t.TempDir(), file), "x")
			w := startRole(t, "worker", newStandIn(t), path)
			pids := w.numbers(t)
			if len(pids) != 2 || !alive(pids[0]) || !alive(pids[1]) {
				t.Fatalf("keeper and exiftool: got %v, want two processes that are alive", pids)
			}
			kill(t, w.cmd.Process.Pid, syscall.SIGKILL)
			_ = w.cmd.Wait()
			for _, pid := range pids {
				until(t, "the end of keeper and exiftool", func() bool { return !alive(pid) })
				reapAdopted(pid)
			}
			checkScratch(t, filepath.Dir(path))
		})
	}
}

// checkScratch checks that the folder of a killed worker in dir goes when another one starts, and none that is in use.
func checkScratch(t *testing.T, dir string) {
	t.Helper()
	folders := func() []string {
		found, err := filepath.Glob(filepath.Join(dir, "reshelf-exiftool-*"))
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	left := folders()
	if len(left) != 1 {
		t.Fatalf("after the kill: got %v, want one folder", left)
	}
	for n := 1; n <= 2; n++ {
		p, err := exiftool.NewPool(exiftool.Options{Scratch: dir})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = p.Close(context.Background()) }()
		if now := folders(); len(now) != n || slices.Contains(now, left[0]) {
			t.Errorf("with %d pools: got %v, want a folder for each, and not %v", n, now, left)
		}
	}
}
