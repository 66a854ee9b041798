// Reshelf-worker takes tasks from Redis and does them: it lists, hashes, reads the metadata of, plans and renames the objects
// of the archives that it may touch.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/queue"
	"github.com/reshelf/reshelf/shared/service"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/storeurl"
	"github.com/reshelf/reshelf/shared/telemetry"
	"github.com/reshelf/reshelf/worker/runtime"
)

// version is set by the linker.
var version = "dev"

func main() {
	runtime.KeeperMain()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Getenv, os.Stderr))
}

// settings are what the flags say.
type settings struct {
	id, redis, prefix, exiftool, scratch, listen string
	stores                                       string
	ledger                                       archive.Root
	roots                                        []archive.Root
	pools                                        []string
	slots                                        int
	scratchBytes                                 int64
	strict                                       bool
	level                                        slog.Level
}

func run(ctx context.Context, args []string, getenv func(string) string, out io.Writer) int {
	s, err := parse(args, getenv, out)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintf(out, "reshelf-worker: %v\n", err)
		return 2
	}
	if err := serve(ctx, s, getenv, out); err != nil {
		fmt.Fprintf(out, "reshelf-worker: %v\n", err)
		return 4
	}
	return 0
}

func parse(args []string, getenv func(string) string, out io.Writer) (settings, error) {
	var s settings
	f := flag.NewFlagSet("reshelf-worker", flag.ContinueOnError)
	f.SetOutput(out)
	f.StringVar(&s.redis, "redis", "", "address of Redis, redis://host:6379; the password comes from RESHELF_REDIS_PASSWORD")
	f.StringVar(&s.prefix, "prefix", "reshelf", "prefix of queues and keys in Redis")
	f.StringVar(&s.id, "id", "", "name of this worker (default: host, process and a random part)")
	f.StringVar(&s.exiftool, "exiftool", "", "the ExifTool program (default: exiftool from PATH)")
	f.StringVar(&s.scratch, "scratch", "", "folder for temporary files (default: below the system's)")
	f.StringVar(&s.listen, "listen", "127.0.0.1:8081", "address of /livez, /readyz and /metrics")
	f.StringVar(&s.stores, "stores", "", "file of settings of S3 buckets: endpoint, region, path style, CA, profile")
	ledgerText := f.String("ledger", "", "root of the ledger, file:///srv/reshelf or s3://bucket/prefix")
	roots := f.String("root", "", "archives that this worker may touch, comma separated; required")
	pools := f.String("pool", "default", "pools that it serves, comma separated")
	slots := f.String("slots", "0", "segments worked on at once (default: the number of CPUs)")
	scratchMiB := f.String("scratch-mib", "1024", "room for the contents of remote objects in the folder for temporary files, in MiB")
	strict := f.String("strict", "false", "serve a lower priority only when all higher ones are empty")
	level := f.String("log-level", "info", "debug, info, warn or error")
	if err := service.ParseFlags(f, args, getenv); err != nil {
		return s, err
	}
	return s, errors.Join(s.required(), s.setRoots(*ledgerText, *roots), s.setPools(*pools), s.setNumbers(*slots, *scratchMiB, *strict, *level))
}

func (s *settings) required() error {
	if s.redis == "" {
		return errors.New("--redis is required: the address of Redis, such as redis://localhost:6379")
	}
	return nil
}

func (s *settings) setRoots(ledgerText, roots string) (err error) {
	if s.ledger, err = archive.ParseRoot(ledgerText); err != nil {
		return fmt.Errorf("--ledger: %w", err)
	}
	for text := range strings.SplitSeq(roots, ",") {
		r, err := archive.ParseRoot(strings.TrimSpace(text))
		if err != nil {
			return fmt.Errorf("--root: %w", err)
		}
		s.roots = append(s.roots, r)
	}
	return nil
}

func (s *settings) setPools(pools string) error {
	for p := range strings.SplitSeq(pools, ",") {
		s.pools = append(s.pools, strings.TrimSpace(p))
	}
	return nil
}

func (s *settings) setNumbers(slots, scratchMiB, strict, level string) (err error) {
	mib, err := strconv.ParseUint(scratchMiB, 10, 32)
	if err != nil {
		return fmt.Errorf("--scratch-mib: %w", err)
	}
	s.scratchBytes = int64(mib) << 20
	if s.slots, err = strconv.Atoi(slots); err != nil {
		return fmt.Errorf("--slots: %w", err)
	}
	if s.strict, err = strconv.ParseBool(strict); err != nil {
		return fmt.Errorf("--strict: %w", err)
	}
	if err := s.level.UnmarshalText([]byte(level)); err != nil {
		return fmt.Errorf("--log-level: %w", err)
	}
	return nil
}

// serve runs the worker until ctx is done.
func serve(ctx context.Context, s settings, getenv func(string) string, out io.Writer) (err error) {
	tel, flush, err := telemetry.Setup(ctx, telemetry.Options{Service: "reshelf-worker", Version: version, Level: s.level, Output: out})
	if err != nil {
		return err
	}
	telemetry.LogSDK(tel.Log)
	stores := storeurl.New(s.stores)
	defer stores.Close()
	client, led, closeAll, err := connect(ctx, s, getenv, stores, tel.Log)
	if err != nil {
		return err
	}
	health := telemetry.NewHealth()
	w, err := runtime.New(runtime.Options{
		ID: s.id, Redis: client, Prefix: s.prefix, Ledger: led, Pools: s.pools, Roots: s.roots, Stores: stores, Slots: s.slots, Strict: s.strict,
		ExifTool: s.exiftool, Scratch: s.scratch, ScratchBytes: s.scratchBytes, Grace: 5 * time.Second, Version: version, Log: tel.Log,
		Tracer: tel.Tracer, Meter: tel.Meter,
		Health: func() map[string]string { return unwell(health.Snapshot()) },
	})
	if err != nil {
		return errors.Join(err, closeAll())
	}
	for _, c := range w.Checks() {
		if err := health.Register(c); err != nil {
			return errors.Join(err, closeAll())
		}
	}
	parts := []service.Part{
		{Name: "telemetry", Stop: flush, StopWithin: 5 * time.Second},
		{Name: "clients", Stop: func(context.Context) error { return closeAll() }, StopWithin: 5 * time.Second},
		{Name: "health", Start: health.Start, Stop: health.Stop, StopWithin: 5 * time.Second},
		listen(s.listen, health.Handler(tel.Metrics), tel.Log),
	}
	parts = append(parts, w.Parts()...)
	parts = append(parts, service.Part{
		Name:       "readiness",
		Start:      func(context.Context) error { health.SetReady(true, ""); return nil },
		Stop:       func(context.Context) error { health.SetReady(false, "shutting down"); return nil },
		StopWithin: time.Second,
	})
	tel.Log.Info("worker", "id", w.ID(), "pools", s.pools, "roots", fmt.Sprint(s.roots), "version", version)
	return service.Run(ctx, tel.Log, parts...)
}

func unwell(checks []telemetry.CheckStatus) map[string]string {
	out := map[string]string{}
	for _, c := range checks {
		out[c.Name] = c.LastError
		if c.OK {
			out[c.Name] = ""
		}
	}
	return out
}

// connect opens Redis and the ledger, and refuses a ledger inside of an archive.
func connect(ctx context.Context, s settings, getenv func(string) string, stores *storeurl.Opener, log *slog.Logger) (queue.Client, *ledger.Ledger, func() error, error) {
	for _, r := range s.roots {
		if r.Overlaps(s.ledger) && r.Path() != "/" {
			return nil, nil, nil, fmt.Errorf("the ledger %s lies inside the archive %s; put it elsewhere", s.ledger, r)
		}
	}
	address, err := queue.AddressFrom(s.redis, getenv)
	if err != nil {
		return nil, nil, nil, err
	}
	client, warnings, err := queue.Connect(ctx, address)
	if err != nil {
		return nil, nil, nil, err
	}
	for _, w := range warnings {
		log.Warn("redis", "warning", w)
	}
	var st store.Store
	if st, err = stores.Open(ctx, s.ledger, storeurl.Options{Ledger: true}); err != nil {
		return nil, nil, nil, errors.Join(err, client.Close())
	}
	return client, ledger.New(st), func() error { return errors.Join(client.Close(), st.Close()) }, nil
}

// listen serves h on address.
func listen(address string, h http.Handler, log *slog.Logger) service.Part {
	server := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second}
	failed := make(chan error, 1)
	return service.Part{
		Name: "http", Failed: failed, Stop: server.Shutdown, StopWithin: 3 * time.Second,
		Start: func(ctx context.Context) error {
			l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
			if err != nil {
				return fmt.Errorf("listen on %s: %w", address, err)
			}
			log.Info("listening", "address", l.Addr().String())
			go func() {
				if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
					failed <- err
				}
			}()
			return nil
		},
	}
}
