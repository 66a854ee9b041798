// Reshelf-dashboard serves web pages over the batches, workers and queues of a fleet. It only looks, and has no login.
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
	"strings"
	"syscall"
	"time"

	"github.com/reshelf/reshelf/dashboard/web"
	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/shared/queue"
	"github.com/reshelf/reshelf/shared/service"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/storeurl"
	"github.com/reshelf/reshelf/shared/telemetry"
)

// version is set by the linker.
var version = "dev"

// Exit codes.
const (
	exitUsage  = 2
	exitNotRun = 4
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Getenv, os.Stderr))
}

// settings are what the flags say.
type settings struct {
	redis       queue.Address
	ledger      archive.Root
	prefix      string
	listen      string
	stores      string
	allowRemote bool
	level       slog.Level
}

func run(ctx context.Context, args []string, getenv func(string) string, out io.Writer) int {
	s, err := parse(args, getenv, out)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintf(out, "reshelf-dashboard: %v\n", err)
		return exitUsage
	}
	if err := serve(ctx, s, out); err != nil {
		fmt.Fprintf(out, "reshelf-dashboard: %v\n", err)
		return exitNotRun
	}
	return 0
}

func parse(args []string, getenv func(string) string, out io.Writer) (settings, error) {
	var s settings
	f := flag.NewFlagSet("reshelf-dashboard", flag.ContinueOnError)
	f.SetOutput(out)
	text := func(name, missing, usage string) *string {
		return f.String(name, missing, usage+"; also RESHELF_"+strings.ToUpper(strings.ReplaceAll(name, "-", "_")))
	}
	redisText := text("redis", "", "address of Redis, redis://host:6379; the password comes from RESHELF_REDIS_PASSWORD")
	ledgerText := text("ledger", "", "root of the ledger, file:///srv/reshelf or s3://bucket/prefix")
	stores := text("stores", "", "file of settings of S3 buckets: endpoint, region, path style, CA, profile")
	prefix := text("prefix", queue.DefaultPrefix, "prefix of queues and keys in Redis")
	listen := text("listen", "127.0.0.1:8080", "address of the pages, and of /livez, /readyz and /metrics")
	f.BoolVar(&s.allowRemote, "allow-remote", false, "allow to listen where other machines reach it, though there is no login; also RESHELF_ALLOW_REMOTE")
	level := text("log-level", "info", "debug, info, warn or error")
	if err := service.ParseFlags(f, args, getenv); err != nil {
		return s, err
	}
	s.prefix, s.listen, s.stores = *prefix, *listen, *stores
	return s, errors.Join(
		s.setRedis(*redisText, getenv), s.setLedger(*ledgerText), s.checkReach(), s.setLevel(*level))
}

func (s *settings) setRedis(address string, getenv func(string) string) (err error) {
	if address == "" {
		return errors.New("--redis is required: the address of Redis, such as redis://localhost:6379")
	}
	if s.redis, err = queue.AddressFrom(address, getenv); err != nil {
		return fmt.Errorf("--redis: %w", err)
	}
	if _, err := queue.QueueName(s.prefix, "default", "normal"); err != nil {
		return fmt.Errorf("--prefix: %w", err)
	}
	return nil
}

func (s *settings) setLedger(root string) (err error) {
	if s.ledger, err = archive.ParseRoot(root); err != nil {
		return fmt.Errorf("--ledger: %w", err)
	}
	return nil
}

func (s *settings) checkReach() error {
	host, _, err := net.SplitHostPort(s.listen)
	if err != nil {
		return fmt.Errorf("--listen: %w", err)
	}
	if !web.IsLocal(host) && !s.allowRemote {
		return fmt.Errorf("--listen %s can be reached from other machines, and there is no login: put it behind one and add --allow-remote, "+
			"or listen on 127.0.0.1", s.listen)
	}
	return nil
}

func (s *settings) setLevel(level string) error {
	if err := s.level.UnmarshalText([]byte(level)); err != nil {
		return fmt.Errorf("--log-level: %w", err)
	}
	return nil
}

// serve runs the dashboard until ctx is done.
func serve(ctx context.Context, s settings, out io.Writer) error {
	tel, flush, err := telemetry.Setup(ctx, telemetry.Options{Service: "reshelf-dashboard", Version: version, Level: s.level, Output: out})
	if err != nil {
		return err
	}
	telemetry.LogSDK(tel.Log)
	stores := storeurl.New(s.stores)
	defer stores.Close()
	client, st, err := connect(ctx, s, stores, tel.Log)
	if err != nil {
		return errors.Join(err, flush(context.WithoutCancel(ctx)))
	}
	parts, err := partsOf(s, client, st, tel)
	if err != nil {
		return errors.Join(err, client.Close(), st.Close(), flush(context.WithoutCancel(ctx)))
	}
	parts = append([]service.Part{
		{Name: "telemetry", Stop: flush, StopWithin: 5 * time.Second},
		{Name: "clients", Stop: func(context.Context) error { return errors.Join(client.Close(), st.Close()) }, StopWithin: 5 * time.Second},
	}, parts...)
	tel.Log.Info("dashboard", "version", version, "redis", s.redis.String(), "ledger", s.ledger.String(), "prefix", s.prefix)
	return service.Run(ctx, tel.Log, parts...)
}

// connect opens Redis and the ledger. The ledger is opened as an archive is, so nothing in it can be replaced or deleted.
func connect(ctx context.Context, s settings, stores *storeurl.Opener, log *slog.Logger) (queue.Client, store.Store, error) {
	st, err := stores.Open(ctx, s.ledger, storeurl.Options{})
	if err != nil {
		return nil, nil, fmt.Errorf("ledger: %w", err)
	}
	client, warnings, err := queue.Connect(ctx, s.redis)
	if err != nil {
		return nil, nil, errors.Join(err, st.Close())
	}
	for _, w := range warnings {
		log.Warn("redis", "warning", w)
	}
	return client, st, nil
}

// partsOf are the parts above telemetry and clients, in the order in which they start.
func partsOf(s settings, client queue.Client, st store.Store, tel *telemetry.Telemetry) ([]service.Part, error) {
	health := telemetry.NewHealth()
	for _, c := range checks(client, st) {
		if err := health.Register(c); err != nil {
			return nil, err
		}
	}
	pages, err := web.New(web.Options{
		Redis: client, Ledger: ledger.New(st), Prefix: s.prefix, Title: s.redis.String() + " · " + s.ledger.String(),
		Remote: s.allowRemote, Health: health.Handler(tel.Metrics), Log: tel.Log,
	})
	if err != nil {
		return nil, err
	}
	return []service.Part{
		{Name: "health", Start: health.Start, Stop: health.Stop, StopWithin: 5 * time.Second},
		{Name: "pages", Stop: pages.Close, StopWithin: 5 * time.Second},
		listen(s.listen, pages, tel.Log),
		{
			Name:       "readiness",
			Stop:       func(context.Context) error { health.SetReady(false, "shutting down"); return nil },
			StopWithin: time.Second,
		},
	}, nil
}

func checks(client queue.Client, st store.Store) []telemetry.Check {
	return []telemetry.Check{
		{Name: "redis", Probe: func(ctx context.Context) error { return client.Ping(ctx).Err() }},
		{Name: "ledger", Probe: func(ctx context.Context) error {
			if _, err := st.Stat(ctx, "batches/none"); !errors.Is(err, store.ErrNotExist) {
				return err
			}
			return nil
		}},
	}
}

// listen serves h on address.
func listen(address string, h http.Handler, log *slog.Logger) service.Part {
	server := &http.Server{
		Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	failed, done := make(chan error, 1), make(chan struct{})
	return service.Part{
		Name: "http", Failed: failed, StopWithin: 5 * time.Second,
		Stop: func(ctx context.Context) error {
			err := server.Shutdown(ctx)
			<-done // Serve returns as soon as Shutdown is called
			return err
		},
		Start: func(ctx context.Context) error {
			l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
			if err != nil {
				return fmt.Errorf("listen on %s: %w", address, err)
			}
			log.Info("listening", "address", "http://"+l.Addr().String())
			go func() {
				defer close(done)
				if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
					failed <- err
				}
			}()
			return nil
		},
	}
}
