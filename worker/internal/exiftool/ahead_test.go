package exiftool_test

import (
	"context"
	"errors"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/worker/internal/exiftool"
)

// A read that is given up after its file was announced costs nobody anything but an ExifTool, which had begun with that file.
func TestCancelAhead(t *testing.T) {
	standIn := newStandIn(t)
	p := newPool(t, exiftool.Options{Binary: standIn, Deadline: never})
	dir := t.TempDir()
	read(t, p, batch.LevelNormal, write(t, filepath.Join(dir, "0.good"), "zeroth"))
	taken := arm(t, standIn)
	type outcome struct {
		exiftool.Result
		err error
	}
	begin := func(ctx context.Context, name, content string) <-chan outcome {
		done, path := make(chan outcome, 1), write(t, filepath.Join(dir, name), content)
		go func() {
			r, err := tryRead(ctx, p, batch.LevelNormal, path)
			done <- outcome{r, err}
		}()
		return done
	}
	first := begin(t.Context(), "1.hangonce", "first") // hangs once, until its ExifTool is killed
	until(t, "exiftool at the first file", taken)
	ctx, cancel := context.WithCancel(t.Context())
	second := begin(ctx, "2.good", "second")
	until(t, "the second file announced", func() bool { return p.Waiting() == 1 })
	cancel()
	if got := <-second; !errors.Is(got.err, context.Canceled) {
		t.Errorf("the second: got %v, want the context's error", got.err)
	}
	third := begin(t.Context(), "3.good", "third")
	until(t, "the third file announced", func() bool { return p.Waiting() == 1 })
	kill(t, p.Status().Processes[0].ExifTool, syscall.SIGKILL)
	for want, done := range map[string]<-chan outcome{"first": first, "third": third} {
		if got := <-done; got.err != nil || text(got.Tags, "XMP-dc:Title") != want {
			t.Errorf("got %q, fault %q (%s), %v, want %q", text(got.Tags, "XMP-dc:Title"), got.Fault, got.FaultMessage, got.err, want)
		}
	}
	// One after the kill, and one after the file that nobody wanted.
	until(t, "two restarts", func() bool { return p.Status().Processes[0].Restarts == 2 })
}
