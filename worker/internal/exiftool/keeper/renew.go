package keeper

import (
	"errors"
	"path/filepath"
	"time"
)

// successor is an ExifTool that comes up while the one before it still reads files.
type successor struct {
	tool    *tool
	done    chan struct{} // closed when it has been greeted; the fields below are set then
	version string
	err     error
}

// restLimits bound the pause after a successor that did not come up; it doubles with each.
const minRest, maxRest = time.Second, time.Minute

// ready returns an ExifTool that works, starting one if none runs, and tells the pool about a new one.
func (k *keeper) ready() (*tool, error) {
	if k.running() == nil && k.next != nil {
		if err := k.succeed(); err != nil && !errors.Is(err, errSuccessor) {
			return nil, err
		}
	}
	if t := k.running(); t != nil {
		if k.version != "" {
			return t, nil
		}
		return t, k.greet(t)
	}
	if err := k.start(); err != nil {
		return nil, k.report(Status{Error: err.Error()}, err)
	}
	t := k.running()
	return t, k.greet(t)
}

func (k *keeper) running() *tool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.tool
}

// start starts an ExifTool that has yet to be greeted.
func (k *keeper) start() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	t, err := k.spawn()
	if err != nil {
		return err
	}
	k.tool, k.version = t, ""
	return k.report(Status{PID: t.cmd.Process.Pid}, nil)
}

// spawn starts a process. The caller holds k.mu, so that stop misses none.
func (k *keeper) spawn() (*tool, error) {
	if k.stopped {
		return nil, errors.New("the pool has stopped this keeper")
	}
	var t *tool
	var err error
	k.onMain(func() { t, err = startTool(k.dir, k.settings, k.alive, k.ask) })
	if err == nil {
		k.started++
	}
	return t, err
}

func (k *keeper) greet(t *tool) error {
	version, err := t.greet(k.sample(), time.Now().Add(k.settings.StartLimit))
	if err != nil {
		k.drop()
		return k.report(Status{Error: err.Error()}, err)
	}
	k.version = version
	return k.report(Status{PID: t.cmd.Process.Pid, Version: version}, nil)
}

func (k *keeper) sample() string { return filepath.Join(k.dir, sampleName) }

// report tells the pool and returns err.
func (k *keeper) report(s Status, err error) error {
	s.Restarts, s.Error = max(k.started-1, 0), clip(s.Error)
	return errors.Join(err, send(k.control, Message{Status: &s}))
}

// renew is called between two files. It starts an ExifTool where none runs, and a successor of one that has read many
// files or grown; the old one reads on until the new one works. Either comes up while go-exiftool's side prepares the
// next file.
func (k *keeper) renew() error {
	t := k.running()
	switch {
	case t == nil && k.next == nil:
		_ = k.start() // ready tries again and reports
	case k.next != nil && k.next.up():
		if err := k.succeed(); !errors.Is(err, errSuccessor) {
			return err
		}
	case t != nil && k.next == nil && (k.asked || t.files >= k.settings.MaxFiles) && time.Now().After(k.resting):
		k.hatch()
	}
	return nil
}

// hatch starts a successor.
func (k *keeper) hatch() {
	k.mu.Lock()
	defer k.mu.Unlock()
	t, err := k.spawn()
	if err != nil {
		k.rest()
		return
	}
	s := &successor{tool: t, done: make(chan struct{})}
	k.next = s
	deadline := time.Now().Add(k.settings.StartLimit)
	go func() {
		defer close(s.done)
		s.version, s.err = t.greet(k.sample(), deadline)
	}()
}

func (s *successor) up() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// errSuccessor: the successor does not work, and is gone.
var errSuccessor = errors.New("the new exiftool does not work")

// succeed waits for the successor, puts it in the place of the old ExifTool, and ends that one.
func (k *keeper) succeed() error {
	s := k.next
	<-s.done
	k.mu.Lock()
	k.next = nil
	old := k.tool
	if s.err == nil {
		k.tool, k.version = s.tool, s.version
	}
	k.mu.Unlock()
	if s.err != nil {
		s.tool.end()
		k.rest()
		return errSuccessor
	}
	k.asked, k.failures = false, 0
	if old != nil {
		old.end()
	}
	return k.report(Status{PID: s.tool.cmd.Process.Pid, Version: s.version}, nil)
}

// rest puts off the next successor.
func (k *keeper) rest() {
	k.resting = time.Now().Add(min(minRest<<min(k.failures, 16), maxRest))
	k.failures++
}

// drop ends ExifTool, if one runs.
func (k *keeper) drop() {
	k.mu.Lock()
	t := k.tool
	k.tool = nil
	k.mu.Unlock()
	if t != nil {
		t.end()
	}
}

// dropAll ends the successor too.
func (k *keeper) dropAll() {
	k.drop()
	k.mu.Lock()
	s := k.next
	k.next = nil
	k.mu.Unlock()
	if s != nil {
		s.tool.kill()
		<-s.done
		s.tool.end()
	}
}
