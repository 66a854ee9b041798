package exiftool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/worker/internal/exiftool/keeper"
)

// What callers branch on.
var (
	// ErrUnavailable: there is no ExifTool that works. It is no fault of a file; the message says what to do.
	ErrUnavailable = errors.New("exiftool is unavailable")
	// ErrClosed: the pool is closed or closing.
	ErrClosed = errors.New("exiftool pool is closed")
)

// maxTries bounds how often a file is tried on another keeper, because there was no ExifTool or the keeper was lost.
const maxTries = 3

// Options of a Pool; the zero value works.
type Options struct {
	// Processes is how many files are read at once. Defaults to the number of usable CPUs.
	Processes int
	// Binary is ExifTool's program. Defaults to "exiftool", looked up in PATH.
	Binary string
	// Scratch is where the pool makes its private folder (links, sockets, settings: a few kilobytes). It must be on a
	// file system with symbolic links and sockets, and is made if it is missing. Defaults to the system's temporary folder.
	Scratch string
	// Deadline is the time for the first try at a file of size bytes; the second gets keeper.RetryFactor times as
	// much. Defaults to the function Deadline.
	Deadline func(size int64, level batch.Level) time.Duration
	// StartLimit bounds the start of one ExifTool. Defaults to 30 s.
	StartLimit time.Duration
	// MaxAnswer bounds ExifTool's answer for one file, in bytes. Defaults to 16 MiB.
	MaxAnswer int64
	// MaxFiles and MaxResident (bytes) are where an ExifTool is replaced. Default to 5,000 and 400 MiB.
	MaxFiles    int
	MaxResident int64
	// AddressSpace bounds that of each ExifTool, in bytes. Defaults to 700 MiB.
	AddressSpace uint64
	// Log gets what an operator should know. Defaults to none.
	Log *slog.Logger
}

func (o Options) withDefaults() Options {
	o.Processes = cmp.Or(max(o.Processes, 0), runtime.GOMAXPROCS(0))
	o.Binary = cmp.Or(o.Binary, "exiftool")
	if o.Deadline == nil {
		o.Deadline = Deadline
	}
	o.StartLimit = cmp.Or(o.StartLimit, 30*time.Second)
	o.MaxAnswer = cmp.Or(o.MaxAnswer, 16<<20)
	o.MaxFiles = cmp.Or(o.MaxFiles, 5000)
	o.MaxResident = cmp.Or(o.MaxResident, 400<<20)
	o.AddressSpace = cmp.Or(o.AddressSpace, 700<<20)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// Pool reads files through ExifTool processes, which it starts when they are first needed and keeps. It is safe for
// concurrent use.
type Pool struct {
	options Options
	scratch string
	health  health
	closing chan struct{}
	slots   chan *slot

	thread    func() *thread // started when first needed
	closeOnce sync.Once
	closeErr  error

	mu        sync.Mutex
	running   map[*instance]batch.Level
	version   string
	abandoned int
}

// slot is the right to read one file, with the keepers that were used in it before: one for each level.
type slot struct{ instances map[batch.Level]*instance }

// NewPool makes a pool. It starts no process; close it all the same.
func NewPool(options Options) (*Pool, error) {
	options = options.withDefaults()
	if options.Scratch != "" {
		if err := os.MkdirAll(options.Scratch, 0o700); err != nil {
			return nil, fmt.Errorf("exiftool pool: %w", err)
		}
	}
	scratch, err := os.MkdirTemp(options.Scratch, "reshelf-exiftool-")
	if err != nil {
		return nil, fmt.Errorf("exiftool pool: %w", err)
	}
	if scratch, err = filepath.Abs(scratch); err != nil {
		return nil, fmt.Errorf("exiftool pool: %w", err)
	}
	p := &Pool{
		options: options, scratch: scratch, closing: make(chan struct{}),
		slots: make(chan *slot, options.Processes), thread: sync.OnceValue(newThread),
		running: make(map[*instance]batch.Level),
	}
	for range options.Processes {
		p.slots <- &slot{make(map[batch.Level]*instance)}
	}
	return p, nil
}

// Read reads the tags of an open regular file. Of name only the extension is used, as a hint to ExifTool. The file's
// offset is not used and not moved, and the file must stay open until Read returns.
//
// What the file is to blame for is in the Result. An error is about something else: ctx's, ErrClosed, ErrUnavailable, or
// that this machine has no descriptors or space left.
func (p *Pool) Read(ctx context.Context, level batch.Level, file *os.File, name archive.Key) (Result, error) {
	if _, err := levelArgs(level); err != nil {
		return Result{}, err
	}
	info, err := file.Stat()
	if err != nil {
		return Result{Fault: batch.ReasonUnreadable, FaultMessage: err.Error()}, nil
	}
	if !info.Mode().IsRegular() {
		return Result{Fault: batch.ReasonSpecial, FaultMessage: "is not a regular file"}, nil
	}
	s, err := p.acquire(ctx)
	if err != nil {
		return Result{}, err
	}
	defer func() { p.slots <- s }()
	deadline := p.options.Deadline(info.Size(), level)
	for try := 1; ; try++ {
		result, err := p.try(ctx, s, level, file, extension(name), deadline)
		switch {
		case err == nil:
			p.judge(result)
			return result, nil
		case try < maxTries && (errors.Is(err, errLost) || errors.Is(err, ErrUnavailable)):
			continue
		case errors.Is(err, errLost):
			message := fmt.Sprintf("exiftool's keeper was lost %d times over it: %v", maxTries, err)
			return Result{Fault: batch.ReasonCrashed, FaultMessage: message}, nil
		default:
			return Result{}, err
		}
	}
}

// try reads the file once. After any error the instance is gone.
func (p *Pool) try(
	ctx context.Context, s *slot, level batch.Level, file *os.File, ext string, deadline time.Duration,
) (Result, error) {
	i, err := p.instance(ctx, s, level)
	if err != nil {
		return Result{}, err
	}
	result, err := i.read(ctx, file, ext, deadline)
	if err == nil {
		return result, nil
	}
	delete(s.instances, level)
	p.end(i)
	if errors.Is(err, ErrUnavailable) {
		p.health.unavailable(err)
	}
	if ctx.Err() == nil {
		p.options.Log.Warn("exiftool process replaced", "level", level, "error", err)
	}
	return Result{}, err
}

// judge remembers what a result says about the pool.
func (p *Pool) judge(r Result) {
	switch r.Fault {
	case batch.ReasonCrashed, batch.ReasonTimeout:
		p.health.crashed(r.FaultMessage)
	default:
		p.health.good()
	}
}

// acquire waits for a slot.
func (p *Pool) acquire(ctx context.Context) (*slot, error) {
	select {
	case <-p.closing:
		return nil, ErrClosed
	default:
	}
	select {
	case s := <-p.slots:
		return s, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-p.closing:
		return nil, ErrClosed
	}
}

// instance returns the slot's instance for level, starting it if there is none.
func (p *Pool) instance(ctx context.Context, s *slot, level batch.Level) (*instance, error) {
	if err := p.health.wait(ctx, p.closing); err != nil {
		return nil, err
	}
	if i := s.instances[level]; i != nil {
		return i, nil
	}
	i, err := p.startInstance(ctx, level)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		err = fmt.Errorf("%w: %w", ErrUnavailable, err)
		p.health.unavailable(err)
		p.options.Log.Error("exiftool cannot be started", "level", level, "error", err)
		return nil, err
	}
	s.instances[level] = i
	return i, nil
}

func (p *Pool) startInstance(ctx context.Context, level batch.Level) (*instance, error) {
	args, err := levelArgs(level)
	if err != nil {
		return nil, err
	}
	binary, err := exec.LookPath(p.options.Binary)
	if err == nil {
		binary, err = filepath.Abs(binary)
	}
	if err != nil {
		return nil, fmt.Errorf("%w; install it (Debian: apt-get install libimage-exiftool-perl)", err)
	}
	dir, err := os.MkdirTemp(p.scratch, "keeper-")
	if err != nil {
		return nil, err
	}
	i, err := newInstance(ctx, dir, keeper.Settings{
		ExifTool: binary, Args: args, Parent: os.Getpid(), MaxAnswer: p.options.MaxAnswer,
		StartLimit: p.options.StartLimit, MaxFiles: p.options.MaxFiles, MaxResident: p.options.MaxResident,
		AddressSpace: p.options.AddressSpace,
	}, p.thread())
	p.mu.Lock()
	if i == nil {
		if errors.Is(err, errNoReport) {
			p.abandoned++
		}
		p.mu.Unlock()
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	p.running[i] = level
	p.version = cmp.Or(i.status().Version, p.version)
	p.mu.Unlock()
	if err != nil {
		p.end(i)
		return nil, err
	}
	return i, nil
}

// end closes an instance that nobody uses any more.
func (p *Pool) end(i *instance) {
	err := i.close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.running, i)
	if err != nil {
		p.abandoned++
		p.options.Log.Error("exiftool process abandoned", "error", err)
	}
}

// Close refuses new reads, waits for those under way until ctx is done and ends them then, and returns when all processes
// are gone. An error says that some could not be ended. Close may be called again.
func (p *Pool) Close(ctx context.Context) error {
	p.closeOnce.Do(func() {
		close(p.closing)
		stopKilling := context.AfterFunc(ctx, p.killAll)
		defer stopKilling()
		for range p.options.Processes {
			s := <-p.slots // reads end: they have deadlines, and killAll ends them sooner
			for _, i := range s.instances {
				p.end(i)
			}
		}
		p.thread().stop()
		p.closeErr = os.RemoveAll(p.scratch)
		if p.abandoned > 0 {
			p.closeErr = errors.Join(p.closeErr, fmt.Errorf("%d exiftool processes could not be ended", p.abandoned))
		}
	})
	return p.closeErr
}

// killAll ends every call under way.
func (p *Pool) killAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.running {
		i.kill()
	}
}
