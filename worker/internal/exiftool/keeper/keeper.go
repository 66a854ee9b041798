package keeper

import (
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

	"golang.org/x/sys/unix"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
)

// Main runs the keeper and ends the process if it was started as one; otherwise it returns at once. Every main and
// every TestMain of a program that reads metadata calls it before anything else.
func Main() {
	var err error
	switch dir := filepath.Dir(os.Args[0]); filepath.Base(os.Args[0]) {
	case LinkName:
		err = enter(dir)
	case confinedName:
		err = run(dir, os.Args[1])
	default:
		return
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "reshelf keeper: %v\n", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// announceWait bounds the wait for the control socket's word about a request that go-exiftool has sent already. The
// pool sends it first.
const announceWait = 5 * time.Second

// maxAnnounced bounds the announcements that wait: of the request that is on its way, and of the one after.
const maxAnnounced = 2

// keeper is the state of a keeper process. Everything but stop runs on one goroutine. Only ExifTools are started on the main
// thread, which does nothing else: parent-death signals are tied to the thread that starts a process, and a goroutine that is
// locked to a thread is slow to wake.
type keeper struct {
	dir      string
	settings Settings
	main     chan func() // what the main thread is to do
	client   *client
	control  *net.UnixConn
	requests chan announcement // the last ones; written by listen alone
	upcoming *upcoming         // taken from requests before go-exiftool has sent it
	stdin    *os.File
	slot     int // the descriptor that the aliases lead to
	pixel    int // the descriptor of the sample
	alive    *os.File
	started  int
	version  string
	asked    bool      // the pool wants a new ExifTool
	failures int       // successors in a row that did not come up
	resting  time.Time // until then no successor is started

	mu      sync.Mutex
	tool    *tool      // nil while none runs
	next    *successor // nil unless one is coming up
	stopped bool
	asking  asking
}

// run is the confined keeper: see enter.
func run(dir, argument string) error {
	runtime.LockOSThread()
	runtime.GOMAXPROCS(1) // there is nothing to do at the same time; ExifTool needs the processors
	h, err := inherit(argument)
	if err != nil {
		return err
	}
	settings, err := loadSettings(dir)
	if err != nil {
		return fmt.Errorf("read settings: %w", err)
	}
	if err := follow(settings.Parent); err != nil {
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
	control, err := sayHello(h, aliveR)
	if err := errors.Join(err, aliveR.Close()); err != nil {
		return fmt.Errorf("report to the pool: %w", err)
	}
	k := &keeper{
		dir: dir, settings: settings, main: make(chan func()), client: newClient(stdin, os.Stdout), control: control,
		requests: make(chan announcement, maxAnnounced), stdin: stdin, slot: h.Slot, pixel: h.Sample, alive: aliveW,
	}
	served := make(chan error, 1)
	go func() { served <- k.serve() }()
	for {
		select {
		case f := <-k.main:
			f()
		case err := <-served:
			return err
		}
	}
}

// onMain has f done by the main thread and waits for it.
func (k *keeper) onMain(f func()) {
	done := make(chan struct{})
	k.main <- func() { defer close(done); f() }
	<-done
}

// serve answers until go-exiftool or the pool ends the conversation.
func (k *keeper) serve() error {
	go k.listen()
	defer k.dropAll()
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
		if err := errors.Join(k.empty(), k.client.answer(text)); err != nil {
			return err
		}
		if err := k.renew(); err != nil {
			return err
		}
	}
}

// listen takes what the pool says, and ends the keeper when the pool says so or is gone.
func (k *keeper) listen() {
	for {
		c, file, err := receive(k.control)
		switch {
		case err != nil:
			k.stop()
			return
		case c.Answer != nil:
			k.answered(*c.Answer)
			continue
		}
		k.expect(announcement{*c.Request, file})
	}
}

// expect lines an announcement up. Where there is no room, go-exiftool has never sent the oldest one after all.
func (k *keeper) expect(a announcement) {
	for {
		select {
		case k.requests <- a:
			return
		default:
		}
		select {
		case old := <-k.requests:
			_ = old.file.Close()
		default:
		}
	}
}

// fill puts file into the slot, where ExifTool finds it.
func (k *keeper) fill(file *os.File) error {
	conn, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var dupErr error
	err = conn.Control(func(fd uintptr) { dupErr = unix.Dup3(int(fd), k.slot, unix.O_CLOEXEC) })
	return errors.Join(err, dupErr)
}

// empty puts the sample into the slot, unless ExifTool reads the next file already: no file stays open longer than its request.
func (k *keeper) empty() error {
	if k.upcoming.begunBy(k.running()) {
		return nil
	}
	return unix.Dup3(k.pixel, k.slot, unix.O_CLOEXEC)
}

// reachable tells whether what is in the slot can be opened from within this confinement, as ExifTool will do.
func (k *keeper) reachable() error {
	fd, err := unix.Open(slotPath(os.Getpid(), k.slot), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// stop makes serve return soon, whatever it waits for.
func (k *keeper) stop() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.stopped = true
	if k.tool != nil {
		k.tool.kill()
	}
	if k.next != nil {
		k.next.tool.kill()
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
	request, ok := k.announced(filepath.Base(name))
	if !ok {
		return faultAnswer(name, Note{Fault: FaultUnavailable, Message: "the pool announced no such request"})
	}
	defer func() { _ = request.file.Close() }()
	k.asked = k.asked || request.Renew
	text, note, err := k.first(name, request)
	if err != nil {
		return nil, err
	}
	if text == nil && note.Fault != FaultUnavailable && note.Fault != FaultOutOfReach && !k.isStopped() {
		// The first try has ended its process: this one is fresh.
		if err := k.fill(request.file); err != nil {
			return nil, err
		}
		text, note = k.try(name, RetryFactor*request.Deadline, note.Message)
	}
	if text != nil {
		return text, nil
	}
	return faultAnswer(name, note)
}

// first is the first try, which may have begun already.
func (k *keeper) first(name string, u *upcoming) ([]byte, Note, error) {
	if t := k.running(); u.begunBy(t) {
		text, note := k.finish(t, name, u.Deadline, "")
		return text, note, nil
	}
	if err := k.fill(u.file); err != nil {
		return nil, Note{}, err
	}
	if err := k.reachable(); err != nil {
		message := fmt.Sprintf("exiftool may not open the file (%v): it lies outside of what this process may read", err)
		return nil, Note{Fault: FaultOutOfReach, Message: message}, nil
	}
	text, note := k.try(name, u.Deadline, "")
	return text, note, nil
}

// announced waits for the announcement of alias, and forgets those before it.
func (k *keeper) announced(alias string) (*upcoming, bool) {
	if u := k.upcoming; u != nil {
		k.upcoming = nil
		if u.Alias == alias {
			return u, true
		}
		k.forget(u)
	}
	timer := time.NewTimer(announceWait)
	defer timer.Stop()
	for {
		select {
		case r := <-k.requests:
			u := &upcoming{announcement: r}
			if r.Alias == alias {
				return u, true
			}
			k.forget(u)
		case <-timer.C:
			return nil, false
		}
	}
}

// try asks ExifTool about one file. Either it returns the answer, or the note for a fault worth another try. before is
// what came of an earlier try.
func (k *keeper) try(name string, limit time.Duration, before string) ([]byte, Note) {
	t, err := k.ready()
	if err != nil {
		return nil, Note{Fault: FaultUnavailable, Message: err.Error()}
	}
	if err := t.begin(k.settings.Args, name, time.Now().Add(limit)); err != nil {
		_, lines, err := t.failed(name, err)
		return k.fail(name, err, limit, Note{ExifTool: k.version, Warnings: lines, Before: before})
	}
	return k.finish(t, name, limit, before)
}

// finish waits for what was begun, and has ExifTool go on with the next file if there is one.
func (k *keeper) finish(t *tool, name string, limit time.Duration, before string) ([]byte, Note) {
	raw, lines, err := t.collect(name, k.settings.MaxAnswer)
	t.files++
	note := Note{ExifTool: k.version, Warnings: lines, Before: before}
	if err == nil && len(raw) == 0 {
		// ExifTool leaves a file that it cannot find out of its answer.
		note.Fault, note.Message = batch.ReasonUnreadable, "exiftool could not open the file"+quoteWords(lines)
		return k.giveUp(name, note), note
	}
	if err == nil {
		err = t.clock.check()
	}
	var text []byte
	if err == nil {
		k.goAhead(t)
		text, err = goodAnswer(raw, name, note)
	}
	if err == nil {
		return text, note
	}
	return k.fail(name, err, limit, note)
}

// fail ends ExifTool after an error of a request.
func (k *keeper) fail(name string, err error, limit time.Duration, note Note) ([]byte, Note) {
	k.drop()
	note.Fault, note.Message = faultOf(err, limit)
	note.Message += quoteWords(note.Warnings)
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
	case errors.Is(err, errNoPager):
		return FaultUnavailable, err.Error()
	default:
		return batch.ReasonCrashed, err.Error()
	}
}
