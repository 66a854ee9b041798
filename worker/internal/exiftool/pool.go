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
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	"golang.org/x/sys/unix"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/worker/internal/exiftool/keeper"
)

// What callers branch on.
var (
	// ErrUnavailable: there is no ExifTool that works. It is no fault of a file; the message says what to do.
	ErrUnavailable = errors.New("exiftool is unavailable")
	// ErrClosed: the pool is closed or closing.
	ErrClosed = errors.New("exiftool pool is closed")
)

// ContentError: the content of a file could not be brought by its Pages.
type ContentError struct{ Err error }

func (e ContentError) Error() string { return e.Err.Error() }
func (e ContentError) Unwrap() error { return e.Err }

// maxTries bounds how often a file is tried on another keeper, because there was no ExifTool or the keeper was lost.
const maxTries = 3

// Options of a Pool; the zero value works.
type Options struct {
	// Processes is how many files are read at once. Defaults to the number of usable CPUs.
	Processes int
	// Binary is ExifTool's program. Defaults to "exiftool", looked up in PATH.
	Binary string
	// Read are the folders whose files ExifTool may read, with all below them, where the kernel can bound that. Defaults to
	// the whole machine.
	Read []string
	// Scratch is where the pool makes its private folder (links, sockets, settings: a few kilobytes), and removes those that
	// pools of killed processes have left there. It must be on a file system with symbolic links and sockets, and is made if
	// it is missing. Defaults to the system's temporary folder.
	Scratch string
	// Deadline is the time for the first try at a file of size bytes; the second gets keeper.RetryFactor times as
	// much. Defaults to the function Deadline.
	Deadline func(size int64, level batch.Level) time.Duration
	// StartLimit bounds the start of one ExifTool. Defaults to 30 s.
	StartLimit time.Duration
	// MaxAnswer bounds ExifTool's answer for one file, in bytes. Defaults to 16 MiB.
	MaxAnswer int64
	// MaxFiles and MaxResident (bytes) are where an ExifTool is replaced by a new one, which is started first. Default to
	// 5,000 and 400 MiB.
	MaxFiles    int
	MaxResident int64
	// AddressSpace bounds that of each ExifTool, in bytes. Defaults to 700 MiB.
	AddressSpace    uint64
	withoutLandlock bool // for tests

	// IdleAfter is how long a keeper may have nothing to read before it is ended. Defaults to a minute.
	IdleAfter time.Duration
	// Meter, if set, gets how long reads wait for a keeper: reshelf.exiftool.wait.
	Meter metric.Meter
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
	o.IdleAfter = cmp.Or(o.IdleAfter, time.Minute)
	if o.Meter == nil {
		o.Meter = noop.Meter{}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// Pool reads files through ExifTool processes, which it starts when they are first needed and keeps. It is safe for
// concurrent use.
type Pool struct {
	options Options
	scratch scratch
	health  health
	closing chan struct{}
	places  chan struct{} // one for each read that a slot has room for
	waits   metric.Float64Histogram

	thread    func() *thread // started when first needed
	closeOnce sync.Once
	closeErr  error

	mu        sync.Mutex
	slots     []*slot // those used last at the end
	sweeper   sweeper
	running   map[*instance]batch.Level
	version   string
	gaps      []string // what the last keeper said
	warned    bool     // the gaps are in the log
	abandoned int
}

// NewPool makes a pool. It starts no process; close it all the same.
func NewPool(options Options) (*Pool, error) {
	options = options.withDefaults()
	scratch, err := newScratch(options.Scratch)
	if err != nil {
		return nil, fmt.Errorf("exiftool pool: %w", err)
	}
	p := &Pool{
		options: options, scratch: scratch, closing: make(chan struct{}),
		places: make(chan struct{}, readsPerSlot*options.Processes), thread: sync.OnceValue(newThread),
		running: make(map[*instance]batch.Level),
	}
	if p.waits, err = newWaits(options.Meter); err != nil {
		return nil, errors.Join(fmt.Errorf("exiftool pool: %w", err), scratch.remove())
	}
	if err := os.Mkdir(p.Spool(), 0o700); err != nil {
		return nil, errors.Join(fmt.Errorf("exiftool pool: %w", err), scratch.remove())
	}
	for range options.Processes {
		p.slots = append(p.slots, &slot{instances: make(map[batch.Level]*instance)})
		for range readsPerSlot {
			p.places <- struct{}{}
		}
	}
	return p, nil
}

// Read reads the tags of an open regular file. Of name only the extension is used, as a hint to ExifTool. The file's
// offset is not used and not moved, and the file must stay open until Read returns.
//
// What the file is to blame for is in the Result. An error is about something else: ctx's, ErrClosed, ErrUnavailable,
// store.ErrUnavailable where the file's folder went away, or that this machine has no descriptors or space left.
func (p *Pool) Read(ctx context.Context, level batch.Level, file *os.File, name archive.Key) (Result, error) {
	return p.read(ctx, level, file, nil, name)
}

// ReadPaged is Read for a sparse file, of the size that the content has, whose parts are brought by pages when ExifTool is
// about to read them. The time that this takes counts towards no deadline. An error of pages is returned, in a
// ContentError; what ExifTool said is not used then.
func (p *Pool) ReadPaged(ctx context.Context, level batch.Level, file *os.File, pages Pages, name archive.Key) (Result, error) {
	return p.read(ctx, level, file, pages, name)
}

func (p *Pool) read(ctx context.Context, level batch.Level, file *os.File, pages Pages, name archive.Key) (Result, error) {
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
	start := time.Now()
	s, err := p.acquire(ctx, level)
	if err != nil {
		p.waited(ctx, level, start)
		return Result{}, err
	}
	defer p.release(s)
	deadline := p.options.Deadline(info.Size(), level)
	announce := func(i *instance) (*request, error) { return i.announce(file, pages, extension(name), deadline) }
	var ahead func(*instance) (*request, error)
	if pages == nil {
		ahead = announce
	}
	announced, err := s.takeTurn(ctx, level, ahead)
	p.waited(ctx, level, start)
	if err != nil {
		return Result{}, err
	}
	defer s.endTurn()
	for try := 1; ; try++ {
		result, err := p.try(ctx, s, level, announced, announce, try == 1)
		switch {
		case err == nil:
			p.judge(result)
			return result, nil
		case ctx.Err() != nil:
			return Result{}, ctx.Err()
		case try < maxTries && (errors.Is(err, errLost) || errors.Is(err, ErrUnavailable)):
			continue
		case try == 1 && errors.Is(err, errOutOfReach):
			continue
		case errors.Is(err, errOutOfReach):
			return Result{Fault: batch.ReasonUnreadable, FaultMessage: err.Error()}, p.missing()
		case errors.Is(err, errLost):
			message := fmt.Sprintf("exiftool's keeper was lost %d times over it: %v", maxTries, err)
			return Result{Version: p.knownVersion(), Fault: batch.ReasonCrashed, FaultMessage: message}, nil
		default:
			return Result{}, err
		}
	}
}

func (p *Pool) waited(ctx context.Context, level batch.Level, since time.Time) {
	p.waits.Record(ctx, time.Since(since).Seconds(), metric.WithAttributes(attribute.String("level", string(level))))
}

// Spool is a folder for files that are made to be read by this pool. Close removes it.
func (p *Pool) Spool() string { return filepath.Join(p.scratch.dir, "spool") }

// readable is nil for the whole machine.
func (p *Pool) readable() []string {
	if p.options.Read == nil {
		return nil
	}
	return append(slices.Clone(p.options.Read), p.Spool())
}

// missing is store.ErrUnavailable where a folder that may be read is not there: what lies in it is out of reach then.
func (p *Pool) missing() error {
	for _, dir := range p.options.Read {
		if _, err := os.Stat(dir); err != nil {
			return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
		}
	}
	return nil
}

// try reads the file once, which was announced already or is now. Unless it is shared, the keeper is not told of another file
// meanwhile, so that this one alone is to blame. After any error but a ContentError the instance is gone.
func (p *Pool) try(
	ctx context.Context, s *slot, level batch.Level, announced *request, announce func(*instance) (*request, error), shared bool,
) (Result, error) {
	i, err := p.instance(ctx, s, level)
	if err != nil {
		return Result{}, err
	}
	if announced == nil || announced.to != i {
		announced, err = announce(i)
	}
	var result Result
	if err == nil {
		if shared {
			s.known(i, level)
		}
		result, err = i.read(ctx, announced)
	}
	if err == nil || errors.As(err, new(ContentError)) {
		i.used = time.Now()
		return result, err
	}
	s.known(nil, level)
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
	switch {
	case r.Fault == batch.ReasonCrashed, r.Fault == batch.ReasonTimeout:
		p.health.crashed(r.FaultMessage)
	case r.before != "":
		p.health.crashed(r.before)
	default:
		p.health.good()
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
	dir, err := os.MkdirTemp(p.scratch.dir, "keeper-")
	if err != nil {
		return nil, err
	}
	i, err := newInstance(ctx, dir, keeper.Settings{
		ExifTool: binary, Args: args, Parent: os.Getpid(), MaxAnswer: p.options.MaxAnswer,
		StartLimit: p.options.StartLimit, MaxFiles: p.options.MaxFiles, AddressSpace: p.options.AddressSpace,
		Read: p.readable(), WithoutLandlock: p.options.withoutLandlock,
	}, p.options.MaxResident, p.thread())
	p.mu.Lock()
	if i == nil {
		if errors.Is(err, errNoEnd) {
			p.abandoned++
		}
		p.mu.Unlock()
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	p.running[i] = level
	p.disclose(i.conn.Gaps)
	p.version = cmp.Or(i.status().Version, p.version)
	p.mu.Unlock()
	if err != nil {
		p.end(i)
		return nil, err
	}
	return i, nil
}

// disclose remembers in which ways ExifTool is not confined, and says so once. The caller holds p.mu.
func (p *Pool) disclose(gaps []string) {
	p.gaps = gaps
	if len(gaps) == 0 || p.warned {
		return
	}
	p.warned = true
	p.options.Log.Warn("exiftool is not fully confined", "gaps", gaps)
	// Nothing else may keep ExifTool from reading the secrets in this process's environment and memory.
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
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
		for range readsPerSlot * p.options.Processes {
			<-p.places // reads end: they have deadlines, and killAll ends them sooner
		}
		p.stopSweeping()
		for _, s := range p.slots {
			for _, i := range s.instances {
				p.end(i)
			}
		}
		p.thread().stop()
		p.closeErr = p.scratch.remove()
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
