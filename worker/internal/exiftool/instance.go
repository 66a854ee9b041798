package exiftool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	goexiftool "github.com/barasher/go-exiftool"

	"github.com/reshelf/reshelf/worker/internal/exiftool/keeper"
)

// errLost: the keeper died, was killed, or gave no answer. It says nothing about the file.
var errLost = errors.New("the keeper is lost")

// errOutOfReach: the keeper may not open the file. Another one may, if what it lies in was mounted after the keeper's start.
var errOutOfReach = errors.New("out of reach")

// errNoEnd: the kernel does not end a process that was killed.
var errNoEnd = errors.New("it does not end")

const (
	// acceptWait is how long our own binary may take to become a keeper, normally some 20 ms.
	acceptWait = 10 * time.Second
	// stopWait is how long a keeper may take to end by itself, killWait how long the kernel may take to end it.
	stopWait = 3 * time.Second
	killWait = 5 * time.Second
	// overrunGrace is added to all that a keeper may take for one request before it is given up.
	overrunGrace = 5 * time.Second
)

// instance is one go-exiftool on its keeper. One goroutine reads at a time, but announce, status and kill may be called by any.
type instance struct {
	dir      string
	client   *goexiftool.Exiftool
	conn     *keeper.Conn
	lost     chan struct{} // closed when the keeper is gone; the monitor has ended then
	ended    chan struct{} // closed when the keeper can be reaped
	asked    chan keeper.Question
	start    time.Duration // settings.StartLimit
	maximum  int64         // resident memory, in bytes, from which on a new ExifTool is asked for
	used     time.Time     // when it last read a file, or was made; guarded by Pool.mu while its slot is free
	broken   bool          // a call was cut short: the pipes hold what belongs to nobody
	naming   sync.Mutex
	n        int      // the number of the last alias
	released []string // aliases whose files were read
	mu       sync.Mutex
	current  keeper.Status
	reaped   bool // PID may be another process's
}

// newInstance starts a keeper and waits until its ExifTool works: at most about settings.StartLimit twice.
func newInstance(ctx context.Context, dir string, settings keeper.Settings, maximum int64, t *thread) (*instance, error) {
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
		err = keeper.Start(func() error {
			client, err = goexiftool.NewExiftool(goexiftool.SetExiftoolBinaryPath(link), buffer)
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("start keeper: %w", err)
	}
	pid, ended := childOf(client), make(chan struct{})
	go func() {
		defer close(ended)
		keeper.AwaitEnd(pid)
		_ = listener.Close() // nobody will report
	}()
	conn, err := listener.Accept(time.Now().Add(acceptWait))
	if err != nil {
		err = fmt.Errorf("start keeper: %w (does main call keeper.Main first?)", err)
		return nil, errors.Join(err, discard(client, pid, ended))
	}
	i := &instance{dir: dir, client: client, conn: conn, lost: make(chan struct{}), ended: ended, asked: make(chan keeper.Question, 1), start: settings.StartLimit, maximum: maximum, used: time.Now()}
	first := make(chan keeper.Status, 1)
	go i.monitor(first)
	return i, i.awaitStart(ctx, first)
}

// childOf is the keeper's process. go-exiftool keeps it to itself, but a keeper must be known before it reports, since it may
// be killed or stopped until then.
func childOf(client *goexiftool.Exiftool) int {
	cmd := reflect.ValueOf(client).Elem().FieldByName("cmd").Elem()
	return int(cmd.FieldByName("Process").Elem().FieldByName("Pid").Int())
}

// discard ends a keeper that has not reported.
func discard(client *goexiftool.Exiftool, pid int, ended <-chan struct{}) error {
	keeper.Kill(pid)
	select {
	case <-ended:
	case <-time.After(killWait):
		return fmt.Errorf("keeper %d: %w", pid, errNoEnd)
	}
	_ = client.Close() // it fails at the broken pipe, and reaps nobody then
	keeper.Reap(pid)
	return nil
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
		m, err := i.conn.Next()
		switch {
		case err != nil:
			return
		case m.Question != nil:
			select {
			case i.asked <- *m.Question:
			default: // nobody waits for it
			}
			continue
		case m.Status == nil:
			continue
		}
		s := *m.Status
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

// request is a file that was announced to the keeper of an instance.
type request struct {
	to       *instance
	path     string // its alias
	pages    Pages
	deadline time.Duration
}

// announce hands a file over to the keeper, which may begin to read it when it is done with the one before. Files are read in the
// order in which they were announced. An error leaves an instance that can only be closed.
func (i *instance) announce(file *os.File, pages Pages, ext string, deadline time.Duration) (*request, error) {
	folder := keeper.AliasDir(i.dir)
	if pages != nil {
		folder = keeper.PagedDir(i.dir)
	}
	path, err := i.alias(folder, ext)
	if err != nil {
		return nil, err
	}
	r := keeper.Request{Alias: filepath.Base(path), Deadline: deadline, Whole: pages == nil, Renew: resident(i.status().PID) > i.maximum}
	if err := i.conn.Expect(r, file); err != nil {
		return nil, fmt.Errorf("%w: %w", errLost, err)
	}
	return &request{i, path, pages, deadline}, nil
}

// read reads the file of r. It ends soon after ctx, and after all that the keeper may take for its deadline, not counting the time
// that pages takes. An error that is errLost or ctx's leaves an instance that can only be closed.
func (i *instance) read(ctx context.Context, r *request) (Result, error) {
	p := &pager{instance: i, pages: r.pages}
	p.forget()
	answered := make(chan goexiftool.FileMetadata, 1)
	go func() { answered <- i.client.ExtractMetadata(r.path)[0] }()
	end := time.Now().Add((1+keeper.RetryFactor)*r.deadline + 2*i.start + overrunGrace)
	timer := time.NewTimer(time.Until(end))
	defer timer.Stop()
	var err error
	for err == nil {
		select {
		case answer := <-answered:
			if answer.Err != nil {
				return Result{}, fmt.Errorf("%w: %w", errLost, answer.Err)
			}
			i.release(r.path)
			return p.judge(newResult(r.path, answer.Fields))
		case q := <-i.asked:
			end = end.Add(p.serve(ctx, q))
			timer.Reset(time.Until(end))
		case <-ctx.Done():
			err = ctx.Err()
		case <-i.lost:
			err = fmt.Errorf("%w: it died", errLost)
		case <-timer.C:
			err = fmt.Errorf("%w: no answer in time", errLost)
		}
	}
	i.rescue()
	<-answered
	return Result{}, err
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
		<-i.ended            // go-exiftool's Close leaves a goroutine behind if it has to wait for a second
		_ = i.client.Close() // reaps the keeper; its error is how the keeper ended
		<-i.lost             // the keeper's last word is read
		// Where the keeper was killed, its ExifTools ended after it, as children of this process (see thread).
		keeper.ReapSession(i.conn.PID)
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

// resident is a process's resident memory in bytes, 0 if it cannot be told: the second field of proc_pid_statm(5).
func resident(pid int) int64 {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}
