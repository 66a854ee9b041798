// Package standalone runs everything in one process: the producer's flow, a worker, and an embedded Redis over a ledger
// directory. Nothing is written anew for it; it composes the parts that a fleet runs.
package standalone

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sys/unix"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/flow"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/queue/embedded"
	"github.com/reshelf/reshelf/shared/service"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/filestore"
	"github.com/reshelf/reshelf/shared/store/storeurl"
	"github.com/reshelf/reshelf/worker/runtime"
)

// ErrInUse: another process works on the ledger.
var ErrInUse = errors.New("the ledger is in use")

// Options configure a Machine.
type Options struct {
	// Dir is the ledger's directory; it is made if missing.
	Dir string
	// Stores is the path of the stores file, "" for none.
	Stores string
	// Slots and ExifTool as in runtime.Options.
	Slots    int
	ExifTool string
	Version  string
	// Doing is shown to others who want the ledger: "inspect /home/ada/Pictures".
	Doing string
	// Tracer and Meter default to none.
	Tracer trace.Tracer
	Meter  metric.Meter
	Log    *slog.Logger
}

// Machine is one process that does it all. It owns the ledger directory until Close.
type Machine struct {
	options Options
	lock    *os.File
	store   *filestore.Store
	stores  *storeurl.Opener
	redis   *embedded.Server
	worker  *runtime.Worker
	stop    context.CancelFunc
	done    chan error
	full    chan error
}

// DefaultDir is the ledger below the XDG data directory: $XDG_DATA_HOME/reshelf/ledger, or ~/.local/share/reshelf/ledger.
func DefaultDir() (string, error) {
	if base := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(base) {
		return filepath.Join(base, "reshelf", "ledger"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find the ledger's directory: %w; set --ledger", err)
	}
	return filepath.Join(home, ".local", "share", "reshelf", "ledger"), nil
}

// Start takes the ledger and starts all parts. ErrInUse names who has it.
func Start(ctx context.Context, o Options) (*Machine, error) {
	m := &Machine{options: o, done: make(chan error, 1), full: make(chan error, 1)}
	if err := m.open(ctx); err != nil {
		return nil, errors.Join(err, m.release())
	}
	ready := make(chan struct{})
	parts := append(m.worker.Parts(), service.Part{Name: "ready", Start: func(context.Context) error { close(ready); return nil }})
	parts = append([]service.Part{m.progressPart()}, parts...)
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	m.stop = stop
	go func() { m.done <- service.Run(run, o.Log, parts...) }()
	select {
	case <-ready:
		return m, nil
	case err := <-m.done:
		stop()
		m.done <- err
		return nil, errors.Join(err, m.Close())
	}
}

func (m *Machine) open(ctx context.Context) (err error) {
	if m.store, err = filestore.Open(m.options.Dir, filestore.Options{Ledger: true}); err != nil {
		return fmt.Errorf("open ledger %s: %w", m.options.Dir, err)
	}
	if m.lock, err = takeLock(m.options.Dir, m.options.Doing); err != nil {
		return err
	}
	if m.redis, err = embedded.Start(ctx); err != nil {
		return err
	}
	whole, err := archive.FileRoot("/")
	if err != nil {
		return err
	}
	m.stores = storeurl.New(m.options.Stores)
	m.worker, err = runtime.New(runtime.Options{
		Redis: m.redis.Client(), Ledger: ledger.New(m.store), Roots: []archive.Root{whole}, Buckets: true, Stores: m.stores, Slots: m.options.Slots,
		Poll: 50 * time.Millisecond, ExifTool: m.options.ExifTool, Version: m.options.Version, Log: m.options.Log,
		LedgerFull: func(err error) {
			select {
			case m.full <- err:
			default: // it was said already
			}
		},
		Tracer: m.options.Tracer, Meter: m.options.Meter,
	})
	return err
}

// LedgerFull gets an error once a batch can neither go on nor be paused, since the ledger is full. Nothing is lost by a Close
// then, and nothing is gained by waiting unless somebody frees space.
func (m *Machine) LedgerFull() <-chan error { return m.full }

// Flow is the machine's flow.
func (m *Machine) Flow() *flow.Flow { return m.worker.Flow() }

// Close stops all parts in order and gives the ledger back. It waits for them.
func (m *Machine) Close() error {
	m.stop()
	return errors.Join(<-m.done, m.release())
}

func (m *Machine) release() error {
	var errs []error
	if m.redis != nil {
		errs = append(errs, m.redis.Close())
	}
	if m.stores != nil {
		m.stores.Close()
	}
	if m.store != nil {
		errs = append(errs, m.store.Close())
	}
	if m.lock != nil {
		errs = append(errs, m.lock.Truncate(0), m.lock.Close())
	}
	return errors.Join(errs...)
}

// progressEvery is how often the progress of batches in hand is written down for other processes.
const progressEvery = 2 * time.Second

// progressPart writes the progress of batches in hand into the ledger, so that other commands can show it.
func (m *Machine) progressPart() service.Part {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	return service.Part{
		Name: "progress",
		Start: func(context.Context) error {
			go func() {
				defer close(ended)
				m.saveProgress(ctx)
			}()
			return nil
		},
		Stop: func(stop context.Context) error {
			cancel()
			select {
			case <-ended:
				return nil
			case <-stop.Done():
				return stop.Err()
			}
		},
		StopWithin: 2 * time.Second,
	}
}

func (m *Machine) saveProgress(ctx context.Context) {
	t := time.NewTicker(progressEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if err := m.saveOnce(ctx); err != nil && ctx.Err() == nil {
			m.options.Log.WarnContext(ctx, "save progress", "error", err)
		}
	}
}

func (m *Machine) saveOnce(ctx context.Context) error {
	ids, err := m.Flow().Live().Active(ctx)
	if err != nil {
		return err
	}
	for _, id := range ids {
		p, err := m.Flow().Live().Progress(ctx, id)
		if errors.Is(err, ledger.ErrNotLive) {
			continue // it is about to be submitted, or its submitter died
		}
		if err != nil {
			return err
		}
		if err := m.Flow().Ledger().SaveProgress(ctx, p); err != nil && !errors.Is(err, store.ErrNotExist) {
			return err
		}
	}
	return nil
}

// takeLock takes the advisory lock beside the ledger's batches. The kernel frees it when the process ends, however it ends.
func takeLock(dir, doing string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock ledger %s: %w", dir, err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		who, readErr := io.ReadAll(io.LimitReader(f, 4096))
		return nil, errors.Join(fmt.Errorf("%w: %s; wait for it, or use another --ledger", ErrInUse, who), readErr, f.Close())
	}
	if err == nil {
		err = describe(f, doing)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock ledger %s: %w", dir, err), f.Close())
	}
	return f, nil
}

func describe(f *os.File, doing string) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := fmt.Fprintf(f, "process %d, since %s: reshelf %s", os.Getpid(), time.Now().Format(time.DateTime), archive.EscapeText(doing))
	return err
}

// InUse reports who works on the ledger in dir, "" for nobody.
func InUse(dir string) (string, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("lock of ledger %s: %w", dir, err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
		return "", nil
	}
	who, err := io.ReadAll(io.LimitReader(f, 4096))
	return string(who), err
}
