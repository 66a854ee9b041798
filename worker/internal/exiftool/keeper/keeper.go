package keeper

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
)

// Main runs the keeper and ends the process if it was started as one; otherwise it returns at once. Every main and
// every TestMain of a program that reads metadata calls it before anything else.
func Main() {
	if filepath.Base(os.Args[0]) != LinkName {
		return
	}
	if err := run(filepath.Dir(os.Args[0])); err != nil {
		fmt.Fprintf(os.Stderr, "reshelf keeper: %v\n", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// announceWait bounds the wait for the control socket's word about a request that go-exiftool has sent already. The
// pool sends it first.
const announceWait = 5 * time.Second

// keeper is the state of a keeper process. Everything but stop runs on one goroutine, on one locked thread: parent-death
// signals are tied to the thread that starts a process.
type keeper struct {
	dir      string
	settings Settings
	client   *client
	control  *net.UnixConn
	requests chan Request // the last announcement; written by listen alone
	stdin    *os.File
	alive    *os.File
	started  int
	version  string

	mu      sync.Mutex
	tool    *tool // nil while none runs
	stopped bool
}

func run(dir string) error {
	runtime.LockOSThread()
	settings, err := loadSettings(dir)
	if err != nil {
		return fmt.Errorf("read settings: %w", err)
	}
	if err := confineSelf(settings.Parent); err != nil {
		return err
	}
	if err := os.Chdir(dir); err != nil {
		return err
	}
	aliveR, aliveW, err := os.Pipe()
	if err != nil {
		return err
	}
	// Non-blocking, so that stop can end a wait for the next request.
	if err := syscall.SetNonblock(syscall.Stdin, true); err != nil {
		return err
	}
	stdin := os.NewFile(uintptr(syscall.Stdin), "stdin")
	control, err := dial(aliveR)
	if err := errors.Join(err, aliveR.Close()); err != nil {
		return fmt.Errorf("report to the pool: %w", err)
	}
	k := &keeper{
		dir: dir, settings: settings, client: newClient(stdin, os.Stdout), control: control,
		requests: make(chan Request, 1), stdin: stdin, alive: aliveW,
	}
	return k.serve()
}

// serve answers until go-exiftool or the pool ends the conversation.
func (k *keeper) serve() error {
	go k.listen()
	defer k.drop()
	if _, err := k.ready(); err != nil {
		return err
	}
	for {
		name, err := k.client.next()
		var text []byte
		switch {
		case errors.Is(err, errRefused):
			text, err = faultAnswer("", Note{Fault: batch.ReasonUnreadable, Message: err.Error()})
		case k.isStopped() || errors.Is(err, io.EOF):
			return nil
		case err == nil:
			text, err = k.read(name)
		}
		if err != nil {
			return err
		}
		if err := k.client.answer(text); err != nil {
			return err
		}
		k.renew()
	}
}

// listen takes the pool's announcements, and ends the keeper when the pool says so or is gone.
func (k *keeper) listen() {
	for in := json.NewDecoder(k.control); ; {
		var r Request
		if err := in.Decode(&r); err != nil {
			k.stop()
			return
		}
		select {
		case <-k.requests: // never sent by go-exiftool after all
		default:
		}
		k.requests <- r
	}
}

// stop makes serve return soon, whatever it waits for.
func (k *keeper) stop() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.stopped = true
	if k.tool != nil {
		k.tool.kill()
	}
	_ = k.stdin.Close()
}

func (k *keeper) isStopped() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.stopped
}

// read answers for one file. An error ends the keeper.
func (k *keeper) read(name string) ([]byte, error) {
	if !isAlias(k.dir, name) {
		message := "refused: not an alias of this keeper: " + archive.EscapeText(name)
		return faultAnswer(name, Note{Fault: batch.ReasonUnreadable, Message: message})
	}
	limit, ok := k.announced(filepath.Base(name))
	if !ok {
		return faultAnswer(name, Note{Fault: FaultUnavailable, Message: "the pool announced no such request"})
	}
	text, note := k.try(name, limit)
	if text == nil && note.Fault != FaultUnavailable && !k.isStopped() {
		text, note = k.try(name, RetryFactor*limit) // the first try has ended its process: this one is fresh
	}
	if text != nil {
		return text, nil
	}
	return faultAnswer(name, note)
}

// announced waits for the announcement of alias and returns its deadline.
func (k *keeper) announced(alias string) (time.Duration, bool) {
	timer := time.NewTimer(announceWait)
	defer timer.Stop()
	for {
		select {
		case r := <-k.requests:
			if r.Alias == alias {
				return r.Deadline, true
			}
		case <-timer.C:
			return 0, false
		}
	}
}

// try asks ExifTool about one file. Either it returns the answer, or the note for a fault worth another try.
func (k *keeper) try(name string, limit time.Duration) ([]byte, Note) {
	t, err := k.ready()
	if err != nil {
		return nil, Note{Fault: FaultUnavailable, Message: err.Error()}
	}
	start := time.Now()
	raw, lines, err := t.ask(k.settings.Args, name, start.Add(limit), k.settings.MaxAnswer)
	t.files++
	note := Note{ExifTool: k.version, Warnings: lines}
	if err == nil && len(raw) == 0 {
		// ExifTool leaves a file that it cannot find out of its answer.
		note.Fault, note.Message = batch.ReasonUnreadable, "exiftool could not open the file"+quoteWords(lines)
		return k.giveUp(name, note), note
	}
	var text []byte
	if err == nil {
		text, err = goodAnswer(raw, name, note)
	}
	if err == nil {
		return text, note
	}
	k.drop()
	note.Fault, note.Message = faultOf(err, limit)
	note.Message += quoteWords(lines)
	if note.Fault == batch.ReasonTooLarge {
		return k.giveUp(name, note), note
	}
	return nil, note
}

// giveUp is the answer where another try would give the same.
func (k *keeper) giveUp(name string, note Note) []byte {
	text, err := faultAnswer(name, note)
	if err != nil {
		return nil
	}
	return text
}

func faultOf(err error, limit time.Duration) (batch.Reason, string) {
	switch {
	case errors.Is(err, errDeadline):
		return batch.ReasonTimeout, fmt.Sprintf("exiftool gave no answer within %v", limit)
	case errors.Is(err, errTooLarge):
		return batch.ReasonTooLarge, "exiftool's answer is larger than allowed"
	default:
		return batch.ReasonCrashed, err.Error()
	}
}

// ready returns an ExifTool that works, starting one if none runs, and tells the pool about a new one.
func (k *keeper) ready() (*tool, error) {
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
	if k.stopped {
		return errors.New("the pool has stopped this keeper")
	}
	t, err := startTool(k.settings, k.alive)
	if err != nil {
		return err
	}
	k.tool, k.version = t, ""
	k.started++
	return k.report(Status{PID: t.cmd.Process.Pid}, nil)
}

func (k *keeper) greet(t *tool) error {
	version, err := t.greet(filepath.Join(k.dir, sampleName), time.Now().Add(k.settings.StartLimit))
	if err != nil {
		k.drop()
		return k.report(Status{Error: err.Error()}, err)
	}
	k.version = version
	return k.report(Status{PID: t.cmd.Process.Pid, Version: version}, nil)
}

// report tells the pool and returns err.
func (k *keeper) report(s Status, err error) error {
	s.Restarts = max(k.started-1, 0)
	if sendErr := k.control.SetWriteDeadline(time.Now().Add(announceWait)); sendErr == nil {
		sendErr = json.NewEncoder(k.control).Encode(s)
		return errors.Join(err, sendErr)
	}
	return err
}

// renew replaces an ExifTool that has read many files or grown, and starts one where none runs, so that it comes up
// while go-exiftool's side prepares the next file.
func (k *keeper) renew() {
	t := k.running()
	if t != nil && t.files < k.settings.MaxFiles && t.resident() < k.settings.MaxResident {
		return
	}
	k.drop()
	_ = k.start() // ready tries again and reports
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
