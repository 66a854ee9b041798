package exiftool

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// thread runs functions on one operating system thread that lives until stop. Keepers are started on it: their
// parent-death signal would fire at the end of any shorter-lived thread.
//
// It makes this process the one that orphans below it are handed to, because an ExifTool whose keeper is killed outlives
// it by a moment, and would stay a zombie where the first process of a container waits for nobody. instance.close waits for it.
type thread struct {
	work chan func()
	done chan struct{}
}

func newThread() *thread {
	t := &thread{work: make(chan func()), done: make(chan struct{})}
	go func() {
		defer close(t.done)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) // where it fails, orphans go to the first process
		for f := range t.work {
			f()
		}
	}()
	return t
}

// do runs f and waits for it. It must not be called after stop.
func (t *thread) do(f func()) {
	ran := make(chan struct{})
	t.work <- func() { defer close(ran); f() }
	<-ran
}

func (t *thread) stop() {
	close(t.work)
	<-t.done
}
