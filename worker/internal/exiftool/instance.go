package exiftool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	goexiftool "github.com/barasher/go-exiftool"
	"golang.org/x/sys/unix"

	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/worker/internal/exiftool/keeper"
)

// errLost: the keeper died, was killed, or gave no answer. It says nothing about the file.
var errLost = errors.New("the keeper is lost")

// errNoReport: a keeper was started and never came to its pool.
var errNoReport = errors.New("it did not report")

const (
	// acceptWait is how long our own binary may take to become a keeper, normally some 20 ms. It does not end with
	// the caller's context: a keeper that has reported can be ended cleanly, one that has not cannot.
	acceptWait = 10 * time.Second
	// stopWait is how long a keeper may take to end by itself, killWait how long the kernel may take to end it.
	stopWait = 3 * time.Second
	killWait = 5 * time.Second
	// overrunGrace is added to all that a keeper may take for one request before it is given up.
	overrunGrace = 5 * time.Second
)

// instance is one go-exiftool on its keeper. One goroutine uses it at a time, but status and kill may be called by any.
type instance struct {
	dir     string
	client  *goexiftool.Exiftool
	conn    *keeper.Conn
	lost    chan struct{} // closed when the keeper is gone; the monitor has ended then
	start   time.Duration // settings.StartLimit
	n       int           // the last alias
	broken  bool          // a call was cut short: the pipes hold what belongs to nobody
	mu      sync.Mutex
	current keeper.Status
	reaped  bool // PID may be another process's
}

// newInstance starts a keeper and waits until its ExifTool works: at most about settings.StartLimit twice.
func newInstance(ctx context.Context, dir string, settings keeper.Settings, t *thread) (*instance, error) {
	link, err := keeper.Install(dir, settings)
	if err != nil {
		return nil, err
	}
	listener, err := keeper.Listen(dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = listener.Close() }()
	var client *goexiftool.Exiftool
	t.do(func() {
		// Quoting can make an answer twice as long.
		buffer := goexiftool.Buffer(nil, int(2*settings.MaxAnswer)+(64<<10))
		client, err = goexiftool.NewExiftool(goexiftool.SetExiftoolBinaryPath(link), buffer)
	})
	if err != nil {
		return nil, fmt.Errorf("start keeper: %w", err)
	}
	conn, err := listener.Accept(time.Now().Add(acceptWait))
	if err != nil {
		// Without its id it cannot be killed; it ends by itself at the closed pipe or socket.
		_ = client.Close()
		return nil, fmt.Errorf("start keeper: %w: %w (does main call keeper.Main first?)", errNoReport, err)
	}
	i := &instance{dir: dir, client: client, conn: conn, lost: make(chan struct{}), start: settings.StartLimit}
	first := make(chan keeper.Status, 1)
	go i.monitor(first)
	return i, i.awaitStart(ctx, first)
}

// awaitStart waits for the keeper's first status. After an error the instance must be closed.
func (i *instance) awaitStart(ctx context.Context, first <-chan keeper.Status) error {
	timer := time.NewTimer(i.start + overrunGrace)
	defer timer.Stop()
	select {
	case s := <-first:
		if s.Error != "" {
			return fmt.Errorf("start exiftool: %s", s.Error)
		}
		return nil
	case <-i.lost:
		return fmt.Errorf("start exiftool: %w", errLost)
	case <-timer.C:
		return fmt.Errorf("start exiftool: %w: no word from it", errLost)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// monitor takes the keeper's words until it is gone.
func (i *instance) monitor(first chan<- keeper.Status) {
	defer close(i.lost)
	for told := false; ; {
		s, err := i.conn.Next()
		if err != nil {
			return
		}
		i.mu.Lock()
		s.Version = cmp.Or(s.Version, i.current.Version)
		i.current = s
		i.mu.Unlock()
		if !told && (s.Version != "" || s.Error != "") {
			first <- s
			told = true
		}
	}
}

// status is what the keeper said last.
func (i *instance) status() keeper.Status {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.current
}

// read reads one file. It ends soon after ctx, and after all that the keeper may take for deadline. An error that is
// errLost or ctx's leaves an instance that can only be closed.
func (i *instance) read(ctx context.Context, file *os.File, ext string, deadline time.Duration) (Result, error) {
	i.n++
	a, err := newAlias(i.dir, i.n, file, ext)
	if err != nil {
		return Result{}, err
	}
	defer a.remove()
	if err := i.conn.Expect(keeper.Request{Alias: filepath.Base(a.path), Deadline: deadline}); err != nil {
		return Result{}, fmt.Errorf("%w: %w", errLost, err)
	}
	answered := make(chan goexiftool.FileMetadata, 1)
	go func() { answered <- i.client.ExtractMetadata(a.path)[0] }()
	timer := time.NewTimer((1+keeper.RetryFactor)*deadline + 2*i.start + overrunGrace)
	defer timer.Stop()
	select {
	case answer := <-answered:
		return i.result(a.path, answer)
	case <-ctx.Done():
		err = ctx.Err()
	case <-i.lost:
		err = fmt.Errorf("%w: it died", errLost)
	case <-timer.C:
		err = fmt.Errorf("%w: no answer in time", errLost)
	}
	i.rescue()
	<-answered
	return Result{}, err
}

func (i *instance) result(path string, answer goexiftool.FileMetadata) (Result, error) {
	if answer.Err == nil {
		return newResult(path, answer.Fields)
	}
	if pathErr := (*fs.PathError)(nil); errors.As(answer.Err, &pathErr) && pathErr.Op == "stat" ||
		errors.Is(answer.Err, goexiftool.ErrNotExist) {
		return Result{Fault: batch.ReasonUnreadable, FaultMessage: "the open file cannot be reached: " + answer.Err.Error()}, nil
	}
	return Result{}, fmt.Errorf("%w: %w", errLost, answer.Err)
}

// rescue kills the keeper and ends the call that waits for it: the call's goroutine reads the pipe that Stdout leads
// to, so what is written here is the end of whatever the keeper wrote before.
func (i *instance) rescue() {
	i.kill()
	i.broken = true
	_, _ = i.conn.Stdout.WriteString("\n{ready}\n")
}

// kill ends the keeper, and with it, by its parent-death signal, ExifTool.
func (i *instance) kill() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.reaped {
		_ = syscall.Kill(-i.conn.PID, syscall.SIGKILL)
	}
}

// close ends keeper and ExifTool and waits until both are gone: at most stopWait + killWait. An error says that they are
// not; what is left of them is then abandoned.
func (i *instance) close() error {
	if !i.broken {
		_ = i.conn.Stop()
	}
	gone := !i.broken && i.gone(stopWait)
	if !gone {
		i.kill()
		gone = i.gone(killWait)
	}
	_ = i.conn.Stdout.Close() // the copying goroutine of os/exec ends with the last writer
	if gone {
		i.mu.Lock()
		i.reaped = true
		i.mu.Unlock()
		awaitExit(i.conn.PID)
		_ = i.client.Close() // reaps the keeper; its error is how the keeper ended
		<-i.lost             // the keeper's last word is read
		// Where the keeper was killed, ExifTool ended after it, as a child of this process (see thread).
		keeper.ReapGroup(i.status().PID)
	}
	_ = errors.Join(i.conn.Stdin.Close(), i.conn.Alive.Close(), i.conn.Close())
	<-i.lost
	_ = os.RemoveAll(i.dir)
	if !gone {
		return fmt.Errorf("keeper %d or its exiftool could not be killed within %v", i.conn.PID, killWait)
	}
	return nil
}

// gone waits until keeper and ExifTool have ended.
func (i *instance) gone(limit time.Duration) bool {
	if err := i.conn.Alive.SetReadDeadline(time.Now().Add(limit)); err != nil {
		return false
	}
	var b [1]byte
	for {
		if _, err := i.conn.Alive.Read(b[:]); err != nil {
			return !errors.Is(err, os.ErrDeadlineExceeded)
		}
	}
}

// awaitExit waits until a child that has closed its files can be reaped, without reaping it: go-exiftool's Close leaves
// a goroutine behind if it has to wait for a second.
func awaitExit(pid int) {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}
